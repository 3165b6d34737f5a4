"""Workers that are to exit while Redis is away: they stay until it has what
came of their writes, and not for ever."""

import contextlib
import time

import pytest

from harness.ports import wait_for
from test_idempotency import check_replay, send, write
from test_idempotency_claims import state

GATE_PIECES = dict(
    workers="1", policies="keygate_policy default rate=60000r/m by=key;",
    outage="keygate_outage keys=stale:5m limits=allow;",
    redis_parameters="connect=500ms command=500ms dead=1s")

# What stays for Redis stays for half a minute: a worker that is gone sooner
# than this has not waited, however busy the machine is.
SOON = 15

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def stands(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(") ", 1)[1][0] not in "ZX"
    return False


def ended(pid, seconds=15):
    wait_for(lambda: not stands(pid), seconds, "end of the old worker")


def written(gate, key, upstream, away, answer={"id": 1}):
    """A write whose answer comes when Redis is away by the function; what its
    client got."""
    upstream.answer(201, {}, answer, hang=True, times=1)
    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        away()
        upstream.release()
        answer = client.read()
    assert answer.status == 201
    return answer


AWAY = {
    "stopped": (lambda redis: redis.stop(), lambda redis: redis.start()),
    "frozen": (lambda redis: redis.freeze(), lambda redis: redis.thaw()),
    "full": (lambda redis: redis.client.config_set("maxmemory", 1),
             lambda redis: redis.client.config_set("maxmemory", 0)),
    "a replica": (lambda redis: redis.client.replicaof("127.0.0.1", 1),
                  lambda redis: redis.client.replicaof("NO", "ONE")),
}


@pytest.mark.parametrize("go, come", AWAY.values(), ids=AWAY)
@pytest.mark.parametrize("answer", [{"id": 1}, "x" * 100000],
                         ids=["small", "large"])
def test_reload(make_gate, make_redis, upstream, go, come, answer):
    """The old worker has the answer, and goes when it has told it."""
    redis = make_redis(options=DURABLE)
    gate = make_gate(redis=redis, **GATE_PIECES)
    key = gate.key()
    old, = gate.workers()
    first = written(gate, key, upstream, lambda: go(redis), answer)

    gate.reload()
    time.sleep(0.5)
    assert stands(old)
    come(redis)
    ended(old)
    assert state(gate, key) == b"C"
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


def test_release(make_gate, make_redis, upstream):
    """What frees a key is waited for, too."""
    redis = make_redis(options=DURABLE)
    gate = make_gate(redis=redis, **GATE_PIECES)
    key = gate.key()
    old, = gate.workers()
    upstream.answer(429, hang=True, times=1)
    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        redis.stop()
        upstream.release()
        assert client.read().status == 429

    gate.reload()
    redis.start()
    ended(old)
    assert state(gate, key) is None


def test_answer_that_comes_after_the_reload(make_gate, make_redis, upstream):
    redis = make_redis(options=DURABLE)
    gate = make_gate(redis=redis, **GATE_PIECES)
    key = gate.key()
    old, = gate.workers()
    upstream.answer(201, {}, {"id": 2}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        gate.reload()
        redis.stop()
        upstream.release()
        first = client.read()
    time.sleep(0.3)
    assert stands(old)
    redis.start()
    ended(old)
    check_replay(first, write(gate, key))


def test_quit_without_anything_to_wait_for(make_gate, make_redis, upstream):
    """An outcome that was acknowledged late keeps nobody."""
    redis = make_redis(options=DURABLE)
    gate = make_gate(redis=redis, **GATE_PIECES)
    key = gate.key()
    written(gate, key, upstream, redis.stop)
    redis.start()
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")

    start = time.monotonic()
    gate.quit()
    assert time.monotonic() - start < SOON


@pytest.mark.parametrize("go", [go for go, _ in AWAY.values()], ids=AWAY)
def test_no_longer_than_worker_shutdown_timeout(make_gate, make_redis,
                                                upstream, go):
    redis = make_redis()
    gate = make_gate(redis=redis, main="worker_shutdown_timeout 1s;",
                     **GATE_PIECES)
    key = gate.key()
    written(gate, key, upstream, lambda: go(redis))

    start = time.monotonic()
    gate.quit()
    assert 0.9 < time.monotonic() - start < SOON
    gate.wait_log("exiting before redis://.* acknowledged 1 commands")


def test_half_a_minute_at_most(make_gate, make_redis, upstream):
    """What nobody takes for so long is no reason to stay."""
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE_PIECES)
    key = gate.key()
    written(gate, key, upstream, redis.stop)

    start = time.monotonic()
    gate.quit(40)
    assert 29 < time.monotonic() - start < 36


def test_terminated_at_once(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE_PIECES)
    written(gate, gate.key(), upstream, redis.stop)

    start = time.monotonic()
    process, gate.process = gate.process, None
    process.terminate()
    assert process.wait(SOON) == 0
    assert time.monotonic() - start < SOON
