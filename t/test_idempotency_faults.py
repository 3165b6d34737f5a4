"""Redis fails a claimed write: before the claim, while it is made, after it,
and when its answer is to be stored."""

import threading
import time

import pytest

from checks import check_error
from harness.ports import wait_for
from test_idempotency import LOADS, check_replay, send, write
from test_idempotency_claims import state

# Usage is flushed by a script, too.
GATE = dict(redis_parameters="connect=500ms command=500ms dead=1s",
            outage="keygate_outage keys=stale:5m limits=allow;",
            zone="keygate_zone zone=keygate:16m usage=off;")

WORKER = dict(GATE, workers="1")

# Who waits for dead= and not for command= is late for any client.
STEADY = dict(WORKER, redis_parameters="connect=500ms command=500ms dead=1m")


@pytest.fixture
def relayed(make_gate, make_relay, redis):
    """A gate of one worker, whose way to Redis is a relay, and a warm key."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **WORKER)
    gate.relay = relay
    gate.warm = gate.key(limits={"default": "600r/m"})
    assert write(gate, gate.warm, "warm").status == 200
    return gate


def check_unclaimable(answer):
    check_error(answer, 503, "service_unavailable", None, (1, 30))


def retried(gate, key, status=200):
    """The same write again until Redis is back; what it got."""
    def again():
        answer = write(gate, key)
        return answer if answer.status == status else None

    return wait_for(again, 10, f"answer of {status}", step=0.1)


def test_dead_before_the_claim(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, **WORKER)
    key = gate.key()
    gate.get(LOADS, key=key)

    with redis.stopped():
        for _ in range(4):
            check_unclaimable(write(gate, key))
        assert [seen.method for seen in upstream.requests] == ["GET"]

    first = retried(gate, key)
    assert first.get("Idempotent-Replayed") is None
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 2


def test_read_goes_on_where_a_write_cannot(make_gate, make_redis, upstream):
    """limits=allow is for limits; an unclaimable write is always refused."""
    redis = make_redis()
    gate = make_gate(redis=redis, **WORKER)
    key = gate.key()
    gate.watched()
    gate.get(LOADS, key=key)

    with redis.stopped():
        assert gate.get(LOADS, key=key).status == 200
        check_unclaimable(write(gate, key))


def test_frozen_while_claiming(make_gate, make_redis, upstream):
    """The claim that is granted too late is given back."""
    redis = make_redis()
    gate = make_gate(redis=redis, **STEADY)
    key = gate.key()
    gate.get(LOADS, key=key)

    with redis.frozen():
        check_unclaimable(write(gate, key))
    assert len(upstream.requests) == 1

    first = retried(gate, key)
    assert first.get("Idempotent-Replayed") is None
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 2


def test_late_claim_is_released_without_a_retry(relayed, upstream):
    """Its reply comes after command=: nobody waits, the key is free."""
    before = relayed.relay.count("evalsha")
    late = threading.Event()
    relayed.relay.replace("EVALSHA", None, times=1, delay=late)
    check_unclaimable(write(relayed, relayed.warm))
    late.set()

    wait_for(lambda: relayed.relay.count("evalsha") >= before + 2, 5,
             "release")
    wait_for(lambda: state(relayed, relayed.warm) is None, 5, "freed key")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("reply", [
    b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*0\r\n", b"*-1\r\n",
    b"*1\r\n:5\r\n", b"*1\r\n$4\r\nwhat\r\n", b"*1\r\n$11\r\nin_progress\r\n",
    b"*2\r\n$9\r\ncompleted\r\n$1\r\nx\r\n", b"*1\r\n*0\r\n",
    b"*2\r\n$7\r\nunknown\r\n:1\r\n"])
def test_reply_of_another_shape_claims_nothing(relayed, upstream, reply):
    """Not executed, and the key is not left taken."""
    gate, key = relayed, relayed.warm
    gate.relay.replace("EVALSHA", reply)
    gate.relay.replace("EVAL", reply)
    check_unclaimable(write(gate, key))
    assert len(upstream.requests) == 1
    gate.relay.reset()

    first = retried(gate, key)
    assert first.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("error", [
    "-OOM command not allowed when used memory > 'maxmemory'.",
    "-READONLY You can't write against a read only replica.",
    "-LOADING Redis is loading the dataset in memory",
    "-MISCONF Redis is configured to save RDB snapshots",
    "-NOPERM this user has no permissions", "-ERR what", "-WRONGTYPE x",
    "-BUSY Redis is busy running a script"])
def test_error_in_place_of_the_claim(relayed, upstream, error):
    gate, key = relayed, relayed.warm
    gate.relay.replace("EVALSHA", error.encode() + b"\r\n")
    check_unclaimable(write(gate, key))
    assert len(upstream.requests) == 1


def test_connection_lost_while_claiming(relayed, upstream):
    """The claim may stand: the same owner asks again."""
    gate, key = relayed, relayed.warm
    gate.relay.freeze()

    with gate.connect() as client:
        send(client, key)
        time.sleep(0.05)
        gate.relay.cut()
        gate.relay.thaw()
        answer = client.read()

    assert answer.status in (200, 503)
    retried(gate, key)
    assert len(upstream.requests) == 2


def test_reply_lost_while_claiming(relayed, upstream):
    """Redis granted it and the reply got lost: one execution, no dead key."""
    gate, key = relayed, relayed.warm
    lost = threading.Event()
    gate.relay.replace("EVALSHA", None, times=1, delay=lost)

    with gate.connect() as client:
        send(client, key)
        wait_for(lambda: state(gate, key) == b"P", 5, "claim")
        gate.relay.cut()
        gate.relay.reset()
        lost.set()
        answer = client.read()

    assert answer.status in (200, 503)
    assert retried(gate, key).json()["method"] == "POST"
    assert write(gate, key).get("Idempotent-Replayed") == "true"
    assert len(upstream.requests) == 2


def test_dies_after_the_claim(make_gate, make_redis, upstream):
    """The client gets its answer all the same, and Redis has it once it is
    there again."""
    redis = make_redis(options={"appendonly": "yes", "appendfsync": "always"})
    gate = make_gate(redis=redis, **WORKER)
    key = gate.key()
    upstream.answer(201, {}, {"id": 3}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        redis.kill()
        upstream.release()
        answer = client.read()
    assert (answer.status, answer.json()) == (201, {"id": 3})

    redis.start()
    wait_for(lambda: state(gate, key) == b"C", 10, "stored answer")
    check_replay(answer, retried(gate, key, 201))
    assert len(upstream.requests) == 1


def test_frozen_after_the_claim(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, **STEADY)
    key = gate.key()
    upstream.answer(201, {}, {"id": 3}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        with redis.frozen():
            upstream.release()
            answer = client.read()
    assert answer.status == 201

    wait_for(lambda: state(gate, key) == b"C", 5, "stored answer")
    check_replay(answer, retried(gate, key, 201))
    assert len(upstream.requests) == 1


def test_refused_after_the_claim(relayed, upstream):
    """For a cause that stays: nobody is told that it is sent again."""
    gate, key = relayed, relayed.warm
    upstream.answer(201, {}, {"id": 4}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait(2)
        gate.relay.replace("EVALSHA", b"-NOPERM no rights\r\n", times=1)
        upstream.release()
        assert client.read().status == 201

    gate.wait_log("the outcome of a claim is lost: refused by Redis")
    assert "is not in Redis yet" not in gate.log()


def test_emptied_after_the_claim(make_gate, make_redis, upstream):
    """The answer is stored also when the record has gone."""
    redis = make_redis()
    gate = make_gate(redis=redis, **WORKER)
    key = gate.key()
    upstream.answer(201, {}, {"id": 4}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        redis.client.delete(f"kg:idem:{{{key.org}}}:test:k")
        upstream.release()
        answer = client.read()

    check_replay(answer, write(gate, key))
    assert len(upstream.requests) == 1


def test_client_leaves_while_claiming(make_gate, make_relay, redis, upstream):
    """Nobody waits for the claim: it is released when Redis grants it."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **dict(
        STEADY, policies="keygate_policy default rate=600r/m by=key;",
        gate="keygate partner; keygate_limit off; keygate_errors envelope;"))
    key = gate.key()
    gate.watched()                      # no record is asked for, then
    assert write(gate, key, "warm").status == 200
    gate.idle()
    before, logged = relay.count("evalsha"), len(gate.access_log())

    relay.freeze()
    with gate.connect() as client:
        send(client, key)
        wait_for(lambda: relay.count("evalsha") > before, what="claim")
        client.reset()
    wait_for(lambda: len(gate.access_log()) > logged, what="its leaving")
    relay.thaw()

    wait_for(lambda: relay.count("evalsha") >= before + 2, what="release")
    wait_for(lambda: state(gate, key) is None, what="freed key")
    assert len(upstream.requests) == 1
    assert write(gate, key).get("Idempotent-Replayed") is None


def test_node_that_lost_its_claim_does_not_overwrite(gate, upstream, redis):
    """Fencing: only the owner of a record settles it."""
    key = gate.key()
    upstream.answer(201, {}, {"id": 1}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        name = f"kg:idem:{{{key.org}}}:test:k"
        value = redis.client.get(name)
        another = value[:2] + b"another owner..." + value[18:]
        redis.client.set(name, another, keepttl=True)
        upstream.release()
        assert client.read().status == 201

    assert redis.client.get(name) == another


def test_script_flush(gate, upstream, redis):
    key = gate.key()
    redis.client.script_flush()
    first = write(gate, key)
    redis.client.script_flush()

    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1
