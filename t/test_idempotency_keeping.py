"""The Redis of claims must keep what it acknowledged: it is asked whether it
does, and what it has lost is said."""

import time

import pytest

from checks import check_error
from harness.ports import wait_for
from test_idempotency import LOADS, check_replay, send, write
from test_idempotency_claims import claims, state

GATE = dict(workers="1",
            policies="keygate_policy default rate=100000r/m by=key;",
            redis_parameters="connect=200ms command=200ms dead=1s")

EVICTING = {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}
ACCEPT = "keygate_idempotency eviction=accept;"


def check_refused(gate, key, upstream):
    before = len(upstream.requests)
    check_error(write(gate, key), 503, "service_unavailable", None, (1, 30))
    assert len(upstream.requests) == before


def written(gate, key, idem="k"):
    """The write once it is let through."""
    def try_it():
        answer = write(gate, key, idem)
        return answer if answer.status == 200 else None

    return wait_for(try_it, 5, "admitted write", step=0.1)


# maxmemory-policy

@pytest.mark.parametrize("policy", [
    "allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl"])
def test_evicting_redis_is_refused(make_gate, make_redis, upstream, policy):
    """The first write too, and no claim of it stays."""
    redis = make_redis(options={**EVICTING, "maxmemory-policy": policy})
    gate = make_gate(redis=redis, **GATE)
    key = gate.key()

    for _ in range(3):
        check_refused(gate, key, upstream)
    wait_for(lambda: claims(gate, key) == [], what="released claim")
    assert gate.get(LOADS, key=key).status == 200
    assert gate.delete("/v1/webhooks/1", key=key).status == 200
    gate.wait_log(rf'forgets claims when it is full.*"{policy}".*are refused')
    assert gate.log().count("forgets claims") == 1


def test_redis_that_is_set_right_is_used(make_gate, make_redis, upstream):
    redis = make_redis(options=EVICTING)
    gate = make_gate(redis=redis, **GATE)
    key = gate.key()
    check_refused(gate, key, upstream)

    redis.client.config_set("maxmemory-policy", "noeviction")
    first = written(gate, key)
    check_replay(first, write(gate, key))
    gate.wait_log("keeps claims from now on")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("options", [
    {"maxmemory": "0", "maxmemory-policy": "allkeys-lru"},
    {"maxmemory": "64mb", "maxmemory-policy": "noeviction"}])
def test_redis_that_keeps_claims(make_gate, make_redis, upstream, options):
    gate = make_gate(redis=make_redis(options=options), **GATE)
    key = gate.key()

    check_replay(write(gate, key), write(gate, key))
    assert "forgets claims" not in gate.log()


def test_eviction_is_accepted(make_gate, make_redis, upstream):
    gate = make_gate(redis=make_redis(options=EVICTING), idempotency=ACCEPT,
                     **GATE)
    key = gate.key()

    check_replay(write(gate, key), write(gate, key))
    gate.wait_log("forgets claims when it is full.*may be executed twice")


def test_each_connection_is_asked(make_gate, make_redis, make_relay,
                                  upstream):
    """Behind the next one may be another Redis."""
    good, evicting = make_redis(), make_redis(options=EVICTING)
    relay = make_relay(good.port)
    gate = make_gate(redis=good, redis_url=relay.url, **GATE)
    key = gate.key()
    written(gate, key)
    evicting.client.mset({name: good.client.get(name) for name in
                          (f"kg:org:{{{key.org}}}", f"kg:key:{{{key.digest}}}")
                          if good.client.get(name)})

    relay.target = ("127.0.0.1", evicting.port)
    relay.cut()
    wait_for(lambda: write(gate, key).status == 503, 5, "refusal", step=0.1)
    executed = len(upstream.requests)
    for _ in range(3):
        check_refused(gate, key, upstream)
    assert len(upstream.requests) == executed == 1


@pytest.mark.parametrize("accept", [False, True])
def test_redis_that_does_not_say(make_gate, make_redis, upstream, accept):
    """Unknown is not safe."""
    redis = make_redis(acl={"gate": "on >PASSWORD ~* &* +@all -info"})
    gate = make_gate(redis=redis, files={"password": "PASSWORD\n"},
                     redis_url=f"{redis.url} user=gate "
                               "password_file=%%FOLDER%%/password",
                     **GATE, **({"idempotency": ACCEPT} if accept else {}))
    key = gate.key()

    if accept:
        check_replay(write(gate, key), write(gate, key))
        gate.wait_log("does not tell its maxmemory-policy.*executed twice")
    else:
        check_refused(gate, key, upstream)
        gate.wait_log(r"does not tell its maxmemory-policy.*\+info")


@pytest.mark.parametrize("reply", [
    b"+OK\r\n", b"$-1\r\n", b"*0\r\n", b"$0\r\n\r\n",
    b"$24\r\n# Memory\r\nmaxmemory:0\r\n\r\n",
    b"$42\r\n# Memory\r\nmaxmemory_policy:noeviction\r\nx:1\r\n"],
    ids=["status", "nil", "array", "empty", "no policy", "no maxmemory"])
def test_info_of_another_shape(make_gate, make_relay, redis, upstream, reply):
    relay = make_relay(redis.port)
    relay.replace("INFO", reply)
    gate = make_gate(redis_url=relay.url, **GATE)

    check_refused(gate, gate.key(), upstream)


def test_asking_costs_no_round_trip(make_gate, make_relay, redis, upstream):
    """INFO goes out ahead of the first claim, in the same write, and not
    again for the next."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **GATE)
    key = gate.key()
    for i in range(5):
        assert write(gate, key, f"k{i}").status == 200

    names = [words[0].upper() for words in relay.commands]
    assert names.count(b"INFO") == 1
    assert names.index(b"INFO") < next(
        i for i, words in enumerate(relay.commands)
        if words[0].upper() in (b"EVALSHA", b"EVAL") and any(
            word.startswith(b"kg:idem:") for word in words))


# Loss

def marks(redis):
    return redis.client.get("kg:mark:{idempotency}")


def test_restarted_empty(make_gate, make_redis, upstream):
    """What was documented happens, and is said once by a worker."""
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE)
    key = gate.key()
    write(gate, key)
    wait_for(lambda: marks(redis), what="mark")
    before = marks(redis)

    redis.restart(empty=True)
    key = gate.key()
    assert written(gate, key).get("Idempotent-Replayed") is None
    gate.wait_log("has lost its data")
    wait_for(lambda: marks(redis), what="another mark")
    assert marks(redis) != before

    time.sleep(0.1)
    written(gate, key, "again")
    assert gate.log().count("has lost its data") == 1


def test_restarted_empty_while_a_write_runs(make_gate, make_redis, upstream):
    """What it comes to is known once it is over; who came in between was
    executed, and is not overwritten."""
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE,
                     outage="keygate_outage keys=stale:5m limits=allow;")
    key = gate.key()
    written(gate, key, "warm")
    upstream.answer(201, {}, {"n": 1}, hang=True, times=2)

    with gate.connect() as alone, gate.connect() as other:
        send(alone, key, "alone")
        send(other, key, "other")
        upstream.wait(3)
        kept = {name: redis.client.dump(name)
                for name in redis.client.keys("kg:*:{*}")
                if name.startswith((b"kg:key:", b"kg:org:"))}
        redis.restart(empty=True)
        for name, value in kept.items():
            redis.client.restore(name, 0, value)
        upstream.answer(201, {}, {"n": 2}, times=1)
        second = wait_for(lambda: [answer for answer in [
            write(gate, key, "other")] if answer.status == 201], 5,
            "the documented loss", step=0.1)[0]
        upstream.release()
        first = alone.read()
        assert other.read().json() == first.json() == {"n": 1}

    assert second.json() == {"n": 2}
    wait_for(lambda: state(gate, key, "alone") == b"C", 5, "stored answer")
    check_replay(first, write(gate, key, "alone"))
    check_replay(second, write(gate, key, "other"))


def test_memory_of_a_stored_answer(gate, upstream):
    """1 KiB takes 2 KiB of Redis at most, with its name and all."""
    key = gate.key()
    upstream.answer(201, {"Location": "/v1/loads/" + "x" * 36}, b"a" * 1024)
    idem = "0f8fad5b-d9cb-469f-a165-70867728950e"
    write(gate, key, idem)
    wait_for(lambda: state(gate, key, idem) == b"C", what="stored answer")

    assert gate.redis.client.memory_usage(
        f"kg:idem:{{{key.org}}}:test:{idem}") <= 2048


def test_restarted_with_its_data(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE)
    key = gate.key()
    first = write(gate, key)
    wait_for(lambda: marks(redis), what="mark")

    redis.restart()
    check_replay(first, written(gate, key))
    assert len(upstream.requests) == 1
    time.sleep(0.1)
    assert "has lost its data" not in gate.log()


def replicate(replica, master):
    replica.client.replicaof("127.0.0.1", master.port)
    wait_for(lambda: replica.client.info("replication")
             ["master_link_status"] == "up", 10, "replication")


def test_failover(make_gate, make_redis, make_relay, upstream):
    """To a replica that has it all: nothing is executed again."""
    master, replica = make_redis(), make_redis()
    relay = make_relay(master.port)
    gate = make_gate(redis=master, redis_url=relay.url, **GATE)
    key = gate.key()
    replicate(replica, master)
    first = write(gate, key)
    upstream.answer(201, {}, {"id": 9}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key, "running")
        upstream.wait(2)
        wait_for(lambda: len(replica.client.keys("kg:idem:*")) == 2,
                 what="claims on the replica")
        master.kill()
        replica.client.replicaof("NO", "ONE")
        relay.target = ("127.0.0.1", replica.port)
        relay.cut()
        upstream.release()
        running = client.read()
    assert running.status == 201

    check_replay(first, written(gate, key))
    wait_for(lambda: replica.client.get(
        f"kg:idem:{{{key.org}}}:test:running")[1:2] == b"C", 5,
        "the answer at the new master")
    check_replay(running, write(gate, key, "running"))
    assert len(upstream.requests) == 2
    assert "has lost its data" not in gate.log()


def test_failover_to_another_that_is_empty(make_gate, make_redis, make_relay,
                                           upstream):
    master, other = make_redis(), make_redis()
    relay = make_relay(master.port)
    gate = make_gate(redis=master, redis_url=relay.url, **GATE)
    key = gate.key()
    write(gate, key)
    wait_for(lambda: marks(master), what="mark")

    for name in master.client.keys("kg:*"):
        if not name.startswith((b"kg:idem", b"kg:mark")):
            other.client.restore(name, 0, master.client.dump(name))
    relay.target = ("127.0.0.1", other.port)
    relay.cut()
    written(gate, key)
    gate.wait_log("has lost its data")

    # The documented loss: what was executed is executed again.
    assert len(upstream.requests) == 2


# A Redis that takes no writes

def fill(redis):
    redis.client.config_set("maxmemory", 1)


def empty(redis):
    redis.client.config_set("maxmemory", 0)


def test_full_redis_claims_nothing(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE,
                     outage="keygate_outage limits=allow;")
    key = gate.key()
    written(gate, key, "before")
    fill(redis)
    check_refused(gate, key, upstream)
    gate.wait_log("Redis refused a claim")

    empty(redis)
    check_replay(written(gate, key), write(gate, key))
    assert len(upstream.requests) == 2


def test_full_redis_gets_the_answer_later(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE,
                     outage="keygate_outage limits=allow;")
    key = gate.key()
    upstream.answer(201, {}, {"id": 5}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        fill(redis)
        upstream.release()
        first = client.read()
    assert (first.status, first.json()) == (201, {"id": 5})

    empty(redis)
    wait_for(lambda: state(gate, key) == b"C", 5, "stored answer")
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status, left", [(201, b"C"), (429, None)],
                         ids=["answer", "release"])
def test_master_without_its_replicas_gets_the_outcome_later(
        make_gate, make_redis, upstream, status, left):
    """min-replicas-to-write: it takes no writes while it is cut off."""
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE,
                     outage="keygate_outage limits=allow;")
    key = gate.key()
    upstream.answer(status, {}, {"id": 6}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        redis.client.config_set("min-replicas-to-write", 1)
        upstream.release()
        assert client.read().status == status
    gate.wait_log("refused settle: NOREPLICAS")
    assert state(gate, key) == b"P"
    check_error(write(gate, key, "other"), 503, "service_unavailable", None,
                (1, 30))

    redis.client.config_set("min-replicas-to-write", 0)
    wait_for(lambda: state(gate, key) == left, 5, "settled claim")
    assert len(upstream.requests) == 1


def test_replica_claims_nothing(make_gate, make_redis, upstream):
    """A master that was made a replica: READONLY."""
    redis = make_redis(options={"replica-serve-stale-data": "yes"})
    gate = make_gate(redis=redis, **GATE,
                     outage="keygate_outage limits=allow;")
    key = gate.key()
    written(gate, key, "before")
    redis.client.replicaof("127.0.0.1", 1)
    check_refused(gate, key, upstream)

    redis.client.replicaof("NO", "ONE")
    check_replay(written(gate, key), write(gate, key))
    assert len(upstream.requests) == 2
