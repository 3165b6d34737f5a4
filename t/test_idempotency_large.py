"""Large answers are kept whole, go by a connection of their own, and hold up
nothing."""

import gzip
import os
import threading
import time

import pytest

from checks import check_request_id
from harness.ports import wait_for
from test_idempotency import LOADS, check_replay, send, write
from test_idempotency_claims import state, together

GATE = dict(
    workers="1", idempotency="keygate_idempotency max_response=8m;",
    policies="keygate_policy default rate=100000r/m by=key;",
    redis_parameters="connect=1s command=1s dead=5s")

MEGA = 1024 * 1024
# What an answer that is held back may take: nobody gives it up meanwhile.
PATIENT = {**GATE, "redis_parameters": "connect=1s command=9s dead=20s"}

SIZES = [16300, 16384, 16385, 65536, 256 * 1024, MEGA, 8 * MEGA]


@pytest.mark.parametrize("size", SIZES)
def test_byte_for_byte(gate, upstream, size):
    """To HTTP/1.1, HTTP/1.0 and HTTP/2."""
    key = gate.key()
    body = os.urandom(size)
    upstream.answer(201, {"Content-Type": "application/octet-stream",
                          "Location": "/v1/loads/1"}, body)
    first = write(gate, key)
    assert first.body == body

    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    check_replay(first, write(gate, key))
    check_replay(first, write(gate, key, version="HTTP/1.0"))
    with gate.h2() as client:
        again = client.post(LOADS, content=b'{"externalId":"L-1"}', headers={
            "Authorization": f"Bearer {key.token}", "Idempotency-Key": "k",
            "Content-Type": "application/json"})
    assert again.content == body
    assert again.headers["location"] == "/v1/loads/1"
    assert again.headers["original-request-id"] == check_request_id(first)
    assert len(upstream.requests) == 1


def named(words, key):
    return any(key.org.encode() in word for word in words)


def test_connection_of_their_own(make_gate, make_relay, redis, upstream):
    """What is slow to come holds up neither limits nor claims."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **PATIENT)
    key, other = gate.key(), gate.key()
    upstream.answer(body=os.urandom(4 * MEGA), times=1)
    first = write(gate, key)
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    assert write(gate, other, "warm").status == 200

    slow = relay.replace("EVALSHA", None, times=0)
    slow.fits = lambda words: named(words, key) and words[-1] == b"0"
    slow.delay = threading.Event()
    done = []
    thread = threading.Thread(target=lambda: done.append(write(gate, key)))
    thread.start()
    wait_for(lambda: slow.hits, what="the answer on its way")

    for i in range(5):
        assert write(gate, other, f"k{i}").status == 200
    assert not done
    slow.delay.set()
    thread.join()
    check_replay(first, done[0])


def test_storing_holds_up_nothing(make_gate, make_relay, redis, upstream):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **PATIENT)
    key, other = gate.key(), gate.key()
    for idem in ("one", "two"):
        assert write(gate, other, idem).status == 200
    upstream.answer(body=os.urandom(MEGA), times=1)
    slow = relay.replace("EVALSHA", None, times=0)
    slow.fits = lambda words: named(words, key) and b"complete" in words
    slow.delay = threading.Event()

    with gate.connect() as client:
        send(client, key)
        wait_for(lambda: slow.hits, what="the answer on its way")
        for i in range(5):
            assert write(gate, other, f"k{i}").status == 200
        slow.delay.set()
        assert len(client.read().body) == MEGA


def test_large_answer_that_is_resolved_on_its_way(make_gate, make_relay,
                                                  redis, upstream):
    """Between the two questions the key is freed: it is claimed, and the
    write is executed, once."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **GATE)
    key = gate.key()
    upstream.answer(body=os.urandom(MEGA))
    write(gate, key)
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")

    told = threading.Event()
    late = relay.replace("EVALSHA", None, times=0, delay=told)
    late.fits = lambda words: named(words, key) and b"16384" in words
    done = []
    thread = threading.Thread(target=lambda: done.append(write(gate, key)))
    thread.start()
    wait_for(lambda: late.hits, what="the first question")
    redis.client.delete(f"kg:idem:{{{key.org}}}:test:k")
    told.set()
    thread.join()

    assert done[0].status == 200
    assert done[0].get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    relay.reset()
    check_replay(done[0], write(gate, key))


def test_release_does_not_overtake_its_claim(make_gate, make_relay, redis,
                                             upstream):
    """A claim asked for by the other connection, and granted too late."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **{
        **GATE, "redis_parameters": "connect=1s command=1s dead=20s"})
    key = gate.key()
    upstream.answer(body=os.urandom(MEGA))
    first = write(gate, key)
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    check_replay(first, write(gate, key))

    def claims_all(words):
        return named(words, key) and words[-1] == b"0"

    held = relay.hold(claims_all)
    granted = relay.replace("EVALSHA", None, times=0)
    granted.fits = claims_all
    assert write(gate, key).status == 503
    redis.client.delete(f"kg:idem:{{{key.org}}}:test:k")
    time.sleep(0.2)         # for a release that would go by the other one
    held.set()
    wait_for(lambda: granted.hits, what="claim")
    wait_for(lambda: state(gate, key) is None, what="freed key")
    assert write(gate, key).get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2


def test_what_waits_by_one_does_not_fill_the_other(make_gate, make_relay,
                                                   redis, upstream):
    """The bound on what waits for Redis is each connection's own: large
    answers that Redis does not take leave the small ones their room."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **{
        **GATE, "redis_parameters": "connect=1s command=500ms dead=60s"})
    key = gate.key()
    write(gate, key, "warm")
    held = relay.hold(lambda words: b"complete" in words
                      and len(words[-1]) > 16384)

    for size in (8 * MEGA, MEGA, 100000, 16400):
        upstream.answer(body=os.urandom(size))
        together(11, lambda i: write(gate, key, f"{size}-{i}"))
        wait_for(lambda: b"T" in [state(gate, key, f"{size}-{i}")
                                  for i in range(11)], what="no more room")

    upstream.answer(body=os.urandom(16000))
    first = write(gate, key, "small")
    wait_for(lambda: state(gate, key, "small") != b"P", what="its outcome")
    check_replay(first, write(gate, key, "small"))
    held.set()
    wait_for(lambda: all(state(gate, key, f"{8 * MEGA}-{i}") in (b"C", b"T")
                         for i in range(11)), 20, "stored answers")


def test_bulk_connection_lost(make_gate, make_relay, redis, upstream):
    """The replay fails and may be repeated; nothing runs."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **GATE)
    key = gate.key()
    upstream.answer(body=os.urandom(MEGA))
    first = write(gate, key)
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")

    rule = relay.replace("EVALSHA", b"-ERR no\r\n", times=0)
    rule.fits = lambda words: named(words, key) and words[-1] == b"0"
    assert write(gate, key).status == 503
    relay.reset()
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("accepts", [None, "gzip"])
@pytest.mark.parametrize("how", [dict(), dict(chunked=True)],
                         ids=["length", "chunked"])
def test_compressed_on_its_way_out(make_gate, upstream, accepts, how):
    """What is stored is what the upstream sent; gzip is each client's own."""
    gate = make_gate(**GATE, http="gzip on; gzip_types *; gzip_min_length 1;")
    key = gate.key()
    body = b"text " * 100000
    upstream.answer(body=body, **how)
    headers = {"Accept-Encoding": accepts} if accepts else {}
    first = write(gate, key, headers=headers)
    packed = write(gate, key, headers={"Accept-Encoding": "gzip"})
    plain = write(gate, key)

    assert first.get("Content-Encoding") == accepts
    assert packed.get("Content-Encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body == body
    assert plain.get("Content-Encoding") is None
    assert len(upstream.requests) == 1


def test_what_is_stored_is_not_readable(gate, upstream, redis):
    """Every value of Redis, also of an answer in many pieces."""
    key = gate.key()
    secret = b"whsec_9Zq7Lm3"
    upstream.answer(body=secret + b"-" * 100000 + secret)
    write(gate, key)
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")

    client = redis.client
    for name in client.scan_iter("*"):
        kind = client.type(name)
        value = (client.get(name) if kind == b"string" else
                 repr(client.hgetall(name)).encode() if kind == b"hash" else
                 repr(client.zrange(name, 0, -1)).encode()
                 if kind == b"zset" else
                 repr(client.xrange(name)).encode())
        assert secret not in value and b"-----" not in value, name


def test_more_than_may_wait_for_redis(make_gate, make_redis, upstream):
    """What has no room to wait in is known to be executed all the same."""
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE)
    key = gate.key()
    upstream.answer(201, body="x" * 7 * MEGA, hang=True)
    idems = [f"k{i}" for i in range(12)]
    writers = [threading.Thread(target=write, args=(gate, key, idem))
               for idem in idems]

    for writer in writers:
        writer.start()
    upstream.wait(len(idems))
    with redis.frozen():
        upstream.release()
        for writer in writers:
            writer.join()

    def settled():
        codes = {(answer.status, answer.status == 409 and answer.code)
                 for answer in (write(gate, key, idem) for idem in idems)}
        return (409, "idempotency_in_progress") not in codes and codes

    assert wait_for(settled, 20, "outcomes", step=0.5) == {
        (201, False), (409, "idempotency_replay_unavailable")}
    assert len(upstream.requests) == len(idems)
