"""The lease: it tells a node that died from one that is slow, and is never
permission to run twice."""

import time

import pytest

from checks import check_error, check_request_id
from harness.ports import wait_for
from test_idempotency import check_replay, send, write
from test_idempotency_claims import state

# A worker of a busy machine may be late by more than a second for a renewal.
# Usage is flushed by a script, too.
GATE = dict(
    workers="1", idempotency="keygate_idempotency lease=2s;",
    policies="keygate_policy default rate=100000r/m by=key;",
    zone="keygate_zone zone=keygate:16m usage=off;",
    redis_parameters="connect=500ms command=500ms dead=5s")


def ends(gate, key):
    """When the lease is over, in seconds of Redis's clock."""
    value = gate.redis.client.get(f"kg:idem:{{{key.org}}}:test:k")
    return int.from_bytes(value[58:66], "big") / 1e6


def leased(gate, key):
    """Seconds the lease has left."""
    seconds, micros = gate.redis.client.time()
    return ends(gate, key) - seconds - micros / 1e6


def test_upstream_ten_times_slower_than_the_lease(make_gate, upstream):
    """One execution, whose retries are told to wait, and how long."""
    gate = make_gate(**{**GATE, "idempotency": "keygate_idempotency lease=1s;"})
    key = gate.key()
    upstream.answer(201, {}, {"id": 1}, hang=True, times=1)
    start = time.monotonic()

    with gate.connect() as client:
        client.sock.settimeout(20)
        send(client, key)
        upstream.wait()
        while time.monotonic() - start < 10:
            age = int(time.monotonic() - start)
            answer = write(gate, key)
            check_error(answer, 409, "idempotency_in_progress", None,
                        (max(age - 1, 1), int(time.monotonic() - start) + 1))
            time.sleep(0.3)
        upstream.release()
        first = client.read()

    assert first.status == 201
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


def test_late_answer_of_an_unknown_outcome(make_gate, make_relay, redis,
                                           upstream):
    """The node was cut off from Redis for longer than its lease: another
    gives the write up, does not run it, and gets its answer in the end."""
    relay = make_relay(redis.port)
    slow, other = make_gate(redis_url=relay.url, **GATE), make_gate(**GATE)
    key = slow.key()
    upstream.answer(201, {}, {"id": 2}, hang=True, times=1)

    with slow.connect() as client:
        send(client, key)
        ran = upstream.wait()
        relay.freeze()
        wait_for(lambda: write(other, key).code
                 == "idempotency_outcome_unknown", 5, "lease over", step=0.1)
        assert state(other, key) == b"U"
        check_error(write(other, key), 409, "idempotency_outcome_unknown",
                    {"originalRequestId": ran.get("X-Request-Id")})
        relay.thaw()
        time.sleep(1)
        assert state(other, key) == b"U"        # renewing is too late
        upstream.release()
        first = client.read()

    wait_for(lambda: state(other, key) == b"C", what="stored answer")
    check_replay(first, write(other, key))
    assert check_request_id(first) == ran.get("X-Request-Id")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status, how, after", [
    (429, {}, None), (200, dict(cut="before"), b"U"),
    (200, dict(body="x" * 300000), b"T")],
    ids=["released", "still unknown", "too large"])
def test_late_end_of_an_unknown_outcome(gate, upstream, status, how, after):
    """What else may become of it."""
    key = gate.key()
    upstream.answer(status, hang=True, times=1, **how)
    name = f"kg:idem:{{{key.org}}}:test:k"

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        value = gate.redis.client.get(name)
        gate.redis.client.set(name, value[:1] + b"U" + value[2:], keepttl=True)
        upstream.release()
        client.read()

    wait_for(lambda: state(gate, key) == after, what="its end")
    assert len(upstream.requests) == 1


def test_lease_is_renewed_by_a_script_that_redis_does_not_know(
        make_gate, make_redis, upstream):
    """Nobody waits for a renewal, and it is sent as EVAL all the same."""
    gate = make_gate(redis=make_redis(), **GATE)
    key = gate.key()
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        for _ in range(3):
            before = ends(gate, key)
            gate.redis.client.script_flush()
            wait_for(lambda: ends(gate, key) > before, what="renewal")
        assert leased(gate, key) > 0
        upstream.release()
        assert client.read().status == 200


def test_two_renewals_may_be_lost(make_gate, make_relay, redis, upstream):
    """A third of the lease is between them."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **{**GATE, "idempotency":
                                             "keygate_idempotency lease=3s;"})
    key = gate.key()
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        time.sleep(1.3)
        before = leased(gate, key)
        relay.freeze()
        time.sleep(1.2)
        assert 0 < leased(gate, key) < before
        relay.thaw()
        wait_for(lambda: leased(gate, key) > before, what="renewal")
        assert write(gate, key).code == "idempotency_in_progress"
        upstream.release()
        assert client.read().status == 200


def test_the_expiry_does_not_move(gate, upstream):
    """A renewal prolongs the lease, not the retention, and the record stays
    for all of it whatever the lease."""
    key = gate.key()
    name = f"kg:idem:{{{key.org}}}:test:k"
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        first = gate.redis.client.pttl(name)
        start = time.monotonic()
        time.sleep(2.2)
        assert leased(gate, key) > 0
        later = gate.redis.client.pttl(name)
        passed = 1000 * (time.monotonic() - start)
        upstream.release()
        client.read()

    assert first > 86300000
    assert 2100 < first - later < passed + 1000
    assert gate.redis.client.pttl(name) <= later


def test_finished_write_is_renewed_no_more(make_gate, make_relay, redis,
                                           upstream):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **GATE)
    key = gate.key()
    write(gate, key)
    gate.idle()
    before = relay.count("evalsha")
    time.sleep(1.5)

    assert relay.count("evalsha") == before
