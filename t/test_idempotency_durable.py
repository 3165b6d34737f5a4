"""durable=: a claim is on replicas before its write goes on."""

import time

import pytest

import harness
from checks import check_error
from harness.ports import wait_for
from test_idempotency import LOADS, check_replay, send, write
from test_idempotency_claims import state, together

GATE = dict(
    workers="1", idempotency="keygate_idempotency durable=1;",
    policies="keygate_policy default rate=100000r/m by=key;",
    redis_parameters="connect=500ms command=500ms dead=2s")

# Where no replica's time is to run out.
PATIENT = {**GATE, "redis_parameters": "connect=2s command=9s dead=20s"}


@pytest.fixture(scope="module")
def pair(redis):
    """redis, with a replica."""
    replica = harness.RedisServer()
    redis.client.config_set("repl-diskless-sync-delay", 0)
    follow(replica, redis)
    yield redis, replica
    replica.close()


def follow(replica, master):
    """Until it acknowledges what it is sent, which it does late at first."""
    def acknowledged():
        master.client.set("followed", 1)
        seen = master.client.info("replication").get("slave0", {})
        return seen.get("state") == "online" and seen["offset"] > 0

    replica.client.replicaof("127.0.0.1", master.port)
    wait_for(acknowledged, 20, "replication")


@pytest.fixture
def durable(make_gate, pair):
    gate = make_gate(redis=pair[0], **GATE)
    gate.replica = pair[1]
    return gate


@pytest.fixture
def patient(make_gate, pair):
    return make_gate(redis=pair[0], **PATIENT)


def waits(redis):
    return redis.calls("wait")


def name(key, idem="k"):
    return f"kg:idem:{{{key.org}}}:test:{idem}"


def check_refused(gate, key, upstream, idem="k"):
    before = len(upstream.requests)
    check_error(write(gate, key, idem), 503, "service_unavailable", None,
                (1, 30))
    assert len(upstream.requests) == before


def test_replica_has_the_claim_first(patient, upstream, pair):
    """Before the upstream has the write."""
    key = patient.key()
    upstream.answer(201, {}, {"id": 1}, hang=True, times=1)

    with patient.connect() as client:
        send(client, key)
        upstream.wait()
        assert pair[1].client.get(name(key))[1:2] == b"P"
        upstream.release()
        first = client.read()

    assert first.status == 201
    check_replay(first, write(patient, key))


def test_script_that_redis_does_not_know(patient, upstream, pair):
    """It is sent behind the WAIT, which then is too early."""
    key = patient.key()
    for i in range(3):
        pair[0].client.script_flush()
        assert write(patient, key, f"k{i}").status == 200


def test_no_replica(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE)
    key = gate.key()

    check_refused(gate, key, upstream)
    wait_for(lambda: state(gate, key) is None, what="freed key")
    gate.wait_log("only 0 of 1 replicas of redis://.* had a claim in time")


def test_too_few_replicas(make_gate, pair, upstream):
    gate = make_gate(redis=pair[0],
                     **{**GATE,
                        "idempotency": "keygate_idempotency durable=2;"})
    key = gate.key()

    check_refused(gate, key, upstream)
    gate.wait_log("only 1 of 2 replicas")


def test_route_of_its_own(make_gate, make_redis, upstream):
    """One that waits and one that does not, on a Redis without replicas."""
    gate = make_gate(redis=make_redis(), **{**GATE, "routes": """
        keygate_routes partner {
            POST /v1/loads      loads:write idempotency=required durable=0;
            POST /v1/webhooks   webhooks:manage idempotency=required; }"""})
    key = gate.key()

    assert write(gate, key).status == 200
    assert write(gate, key, "w", "/v1/webhooks").status == 503


def test_other_numbers_do_not_wait(make_gate, pair, upstream):
    """Who waits for one replica does not wait for the second, which is not
    there."""
    gate = make_gate(redis=pair[0], **{**GATE, "routes": """
        keygate_routes partner {
            POST /v1/loads      loads:write idempotency=required durable=2;
            POST /v1/webhooks   webhooks:manage idempotency=required; }""",
        "redis_parameters": "connect=2s command=2s dead=6s"})
    key = gate.key()
    assert write(gate, key, "warm", "/v1/webhooks").status == 200

    with gate.connect() as client:
        send(client, key)
        wait_for(lambda: pair[0].client.info("clients")["blocked_clients"],
                 what="WAIT")
        for i in range(3):
            assert write(gate, key, f"w{i}", "/v1/webhooks").status == 200
        assert pair[0].client.info("clients")["blocked_clients"] == 1
        check_error(client.read(), 503, "service_unavailable", None, (1, 30))
    assert len(upstream.requests) == 4


def test_frozen_replica(durable, upstream, pair):
    key = durable.key()
    with pair[1].frozen():
        check_refused(durable, key, upstream)
        wait_for(lambda: state(durable, key) is None, what="freed key")

    first = wait_for(lambda: served(durable, key), 10, "answer", step=0.1)
    check_replay(first, write(durable, key))
    assert len(upstream.requests) == 1


def served(gate, key):
    answer = write(gate, key)
    return answer if answer.status == 200 else None


def test_replica_that_goes_and_comes_back(make_gate, make_redis, upstream):
    master, replica = make_redis(), make_redis()
    master.client.config_set("repl-diskless-sync-delay", 0)
    follow(replica, master)
    gate = make_gate(redis=master, **GATE)
    key = gate.key()
    assert write(gate, key, "before").status == 200

    replica.client.replicaof("NO", "ONE")
    check_refused(gate, key, upstream)
    follow(replica, master)
    wait_for(lambda: served(gate, key), 10, "answer", step=0.1)
    assert len(upstream.requests) == 2


def test_one_wait_for_all_that_gathered(patient, upstream, pair):
    """The first waits alone, the others, meanwhile, for the next."""
    key = patient.key()
    write(patient, key, "warm")
    before = waits(pair[0])
    clients = []

    with pair[1].frozen():
        for i in range(12):
            clients.append(patient.connect())
            send(clients[-1], key, f"k{i}")
            if i == 0:
                wait_for(lambda: patient.redis.client.info("clients")
                         ["blocked_clients"] == 1, what="WAIT")
        wait_for(lambda: all(state(patient, key, f"k{i}") for i in range(12)),
                 what="claims")

    assert [client.read().status for client in clients] == [200] * 12
    assert waits(pair[0]) - before == 2
    assert len(upstream.requests) == 13


def test_many_at_once(patient, upstream):
    key = patient.key()
    answers = together(30, lambda i: write(patient, key, f"k{i % 10}"))

    assert {a.code for a in answers} <= {None, "idempotency_in_progress"}
    assert len(upstream.requests) == 10


def test_only_what_is_claimed_waits(patient, upstream, pair):
    """Replays and conflicts are answered while no replica is there."""
    key = patient.key()
    first = write(patient, key)
    before = waits(pair[0])

    with pair[1].frozen():
        check_replay(first, write(patient, key))
        check_error(write(patient, key, body=b"x"), 409,
                    "idempotency_conflict")
    assert waits(pair[0]) == before


def test_nothing_else_is_held_up(patient, upstream, pair):
    key = patient.key()
    write(patient, key, "warm")

    with pair[1].frozen(), patient.connect() as client:
        send(client, key)
        wait_for(lambda: pair[0].client.info("clients")["blocked_clients"],
                 what="WAIT")
        for _ in range(5):
            assert patient.get(LOADS, key=patient.key()).status == 200
        assert pair[0].client.info("clients")["blocked_clients"] == 1
    wait_for(lambda: state(patient, key) in (None, b"C"), what="its end")


def test_client_leaves_while_it_waits(durable, upstream, pair):
    """Nothing was executed: the key is free."""
    key = durable.key()
    write(durable, key, "warm")

    with pair[1].frozen():
        with durable.connect() as client:
            send(client, key)
            wait_for(lambda: pair[0].client.info("clients")
                     ["blocked_clients"], what="WAIT")
            client.reset()
        wait_for(lambda: state(durable, key) is None, what="freed key")

    time.sleep(0.1)
    assert len(upstream.requests) == 1
    wait_for(lambda: served(durable, key), 10, "answer", step=0.1)


def test_claim_that_the_new_master_has_not(make_gate, make_redis, make_relay,
                                           upstream):
    """A failover between claim and WAIT: replicas of another Redis have
    nothing of it."""
    old, new, replica = make_redis(), make_redis(), make_redis()
    new.client.config_set("repl-diskless-sync-delay", 0)
    follow(replica, new)
    relay = make_relay(old.port)
    gate = make_gate(redis=old, redis_url=relay.url, **GATE)
    key = gate.key()
    gate.watched()
    assert gate.get(LOADS, key=key).status == 200

    before = waits(new)
    relay.target = ("127.0.0.1", new.port)
    check_refused(gate, key, upstream)
    assert waits(new) > before
    assert new.client.keys("kg:idem:*") == []
    wait_for(lambda: state(gate, key) is None, what="freed key")


def test_redis_gone_while_it_waits(make_gate, make_redis, upstream):
    master, replica = make_redis(), make_redis()
    master.client.config_set("repl-diskless-sync-delay", 0)
    follow(replica, master)
    gate = make_gate(redis=master, **GATE)
    key = gate.key()
    write(gate, key, "warm")

    with replica.frozen(), gate.connect() as client:
        send(client, key)
        wait_for(lambda: master.client.info("clients")["blocked_clients"],
                 what="WAIT")
        master.kill()
        answer = client.read()
    check_error(answer, 503, "service_unavailable", None, (1, 30))
    assert len(upstream.requests) == 1

    master.start()
    wait_for(lambda: state(gate, key) is None, what="freed key")
