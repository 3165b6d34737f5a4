"""A claim from its making to its end: duplicates at once, leases, clients
that leave, and bodies of every kind before it."""

import asyncio
import threading
import time

import httpx
import pytest

import harness
from checks import check_error, check_request_id
from harness.ports import wait_for
from test_idempotency import BODY, LOADS, check_replay, send, write

GATE = dict(server="client_max_body_size 64k; client_body_buffer_size 8k;"
                   "client_body_timeout 1s;",
            location="proxy_read_timeout 5s;")


def claims(gate, key):
    return gate.redis.client.keys(f"kg:idem:{{{key.org}}}*")


def state(gate, key, idem="k"):
    """The letter of a record's state: src/redis/scripts/claim.lua."""
    value = gate.redis.client.get(f"kg:idem:{{{key.org}}}:test:{idem}")
    return value and value[1:2]


def together(n, work):
    """Runs work(i) in n threads at once and returns what each returned."""
    answers = [None] * n
    barrier = threading.Barrier(n)

    def run(i):
        barrier.wait()
        answers[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# Duplicates at once.

def test_twenty_at_once_execute_once(gate, upstream):
    key = gate.key()
    upstream.answer(201, {}, {"id": 1}, delay=0.3)
    answers = together(20, lambda i: write(gate, key))

    created = [a for a in answers if a.status == 201]
    refused = [a for a in answers if a.status != 201]
    assert len(created) >= 1
    for answer in refused:
        check_error(answer, 409, "idempotency_in_progress", None, (1, 1))
    assert len(upstream.requests) == 1
    assert write(gate, key).body == created[0].body
    assert sum(a.get("Idempotent-Replayed") is None for a in created) == 1


def test_duplicates_on_two_nodes_execute_once(make_gate, upstream):
    gates = [make_gate(), make_gate()]
    key = gates[0].key()
    upstream.answer(delay=0.2)

    for round_number in range(3):
        idem = f"round-{round_number}"
        answers = together(6, lambda i: write(gates[i % 2], key, idem))
        assert {a.code for a in answers} <= {None, "idempotency_in_progress"}
        assert len(upstream.requests) == round_number + 1


def test_retry_after_grows_with_the_age(gate, upstream):
    key = gate.key()
    upstream.answer(hang=True, times=1)
    start = time.monotonic()

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        first = write(gate, key)
        time.sleep(2.05)
        later = write(gate, key)
        age = time.monotonic() - start
        upstream.release()
        client.read()

    check_error(first, 409, "idempotency_in_progress", None, (1, int(age)))
    check_error(later, 409, "idempotency_in_progress", None,
                (2, int(age) + 1))
    assert int(first.get("Retry-After")) < int(later.get("Retry-After"))


def test_retry_after_has_a_bound(gate, upstream, redis):
    """A minute old: the partner is told to wait half of one."""
    key = gate.key()
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        age(redis, key, 60)
        answer = write(gate, key)
        upstream.release()
        client.read()

    check_error(answer, 409, "idempotency_in_progress", None, (30, 30))


def age(redis, key, seconds, leased=60):
    """Makes the claim so much older, and lets its lease stand."""
    name = f"kg:idem:{{{key.org}}}:test:k"
    value = redis.client.get(name)
    claimed = int.from_bytes(value[50:58], "big") - seconds * 1000000
    now = int(redis.client.time()[0] + leased) * 1000000
    redis.client.set(name, value[:50] + claimed.to_bytes(8, "big")
                     + now.to_bytes(8, "big") + value[66:], keepttl=True)


def test_slow_upstream_past_the_retention(make_gate, upstream):
    gate = make_gate(idempotency="keygate_idempotency retention=2s lease=2s;")
    key = gate.key()
    upstream.answer(201, {}, {"id": 6}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        time.sleep(2.2)
        assert write(gate, key).code == "idempotency_in_progress"
        upstream.release()
        assert client.read().status == 201

    assert len(upstream.requests) == 1


def test_slow_upstream_past_the_lease(make_gate, upstream):
    """The lease is no permission to run twice, and the late answer counts."""
    gate = make_gate(idempotency="keygate_idempotency retention=1h lease=1s;")
    key = gate.key()
    upstream.answer(201, {}, {"id": 5}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        time.sleep(1.1)
        answer = write(gate, key)
        assert answer.status == 409
        assert answer.code in ("idempotency_outcome_unknown",
                               "idempotency_in_progress")
        assert len(upstream.requests) == 1
        upstream.release()
        first = client.read()

    assert (first.status, first.json()) == (201, {"id": 5})
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


def test_killed_worker_leaves_the_outcome_unknown(make_gate, upstream):
    gate = make_gate(workers="1", idempotency="keygate_idempotency "
                                              "retention=1h lease=1s;")
    key = gate.key()
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        gate.kill_worker()
    wait_for(lambda: write(gate, key).code != "idempotency_in_progress",
             what="end of the lease", step=0.05)

    check_error(write(gate, key), 409, "idempotency_outcome_unknown",
                {"originalRequestId":
                 upstream.requests[0].get("X-Request-Id")})
    assert len(upstream.requests) == 1


# Clients that leave.

@pytest.mark.parametrize("leave", ["close", "reset"])
def test_client_that_leaves_does_not_stop_its_write(gate, upstream, leave):
    key = gate.key()
    upstream.answer(201, {}, {"id": 8}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        seen = upstream.wait()
        getattr(client, leave)()
        time.sleep(0.1)
        assert write(gate, key).code == "idempotency_in_progress"
        upstream.release()

    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    answer = write(gate, key)
    assert (answer.status, answer.json()) == (201, {"id": 8})
    assert answer.get("Original-Request-Id") == seen.get("X-Request-Id")
    assert len(upstream.requests) == 1


def test_client_that_leaves_over_http2(gate, upstream):
    key = gate.key()
    upstream.answer(hang=True, times=1)
    headers = {"Authorization": f"Bearer {key.token}", "Idempotency-Key": "k",
               "Content-Type": "application/json"}

    async def leave():
        async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{gate.h2_port}", http1=False,
                http2=True, timeout=10, trust_env=False) as client:
            asking = asyncio.create_task(
                client.post(LOADS, content=BODY, headers=headers))
            await asyncio.to_thread(upstream.wait)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()

    asyncio.run(leave())
    upstream.release()

    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    assert write(gate, key).get("Idempotent-Replayed") == "true"
    assert len(upstream.requests) == 1


def test_client_that_leaves_before_a_large_answer(gate, upstream):
    """Storing does not depend on the client's socket."""
    key = gate.key()
    upstream.answer(body="x" * 250000, delay=0.1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        client.reset()

    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    assert write(gate, key).body == b"x" * 250000


def test_client_that_does_not_read(gate, upstream):
    key = gate.key()
    upstream.answer(body="x" * 250000)

    with gate.connect() as client:
        send(client, key)
        wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    assert write(gate, key).get("Idempotent-Replayed") == "true"


# Bodies.

def post_chunks(gate, key, chunks, end=b"0\r\n\r\n", idem="k"):
    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    f"Idempotency-Key: {idem}\r\n"
                    "Content-Type: application/json\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n")
        for chunk in chunks:
            client.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        client.send(end)
        return client.read()


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 40000, 65536])
def test_body_of_any_size(gate, upstream, size):
    """In memory or in a file, the upstream gets it and it is compared."""
    key = gate.key()
    body = bytes(i % 253 for i in range(size))
    first = write(gate, key, body=body)

    assert upstream.requests[0].body == body
    check_replay(first, write(gate, key, body=body))
    other = body[:-1] + b"\xff" if size else b"\xff"
    assert write(gate, key, body=other).code == "idempotency_conflict"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("size", [10, 40000])
def test_chunked_body_is_the_same_request(gate, upstream, size):
    key = gate.key()
    body = b"c" * size
    first = write(gate, key, body=body)

    for chunks in ([body], [body[:3], body[3:]]):
        check_replay(first, post_chunks(gate, key, chunks))
    answer = post_chunks(gate, key, [body, b"x"])
    check_error(answer, 409, "idempotency_conflict")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("size", [65537, 300000])
def test_body_that_is_too_large(gate, upstream, size):
    key = gate.key()
    check_error(write(gate, key, body=b"x" * size), 413, "content_too_large")
    check_error(post_chunks(gate, key, [b"x" * size]), 413,
                "content_too_large")

    assert upstream.requests == [] and claims(gate, key) == []
    assert write(gate, key, body=b"smaller").status == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [100, 30000])
def test_body_cut_off(gate, upstream, chunked, size):
    key = gate.key()
    coding = (f"Transfer-Encoding: chunked\r\n\r\n{size + 1:x}\r\n"
              if chunked else f"Content-Length: {size + 1}\r\n\r\n")

    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    f"Idempotency-Key: k\r\n{coding}" + "x" * size)
        time.sleep(0.02)
        client.shutdown()
        client.read_all()

    assert upstream.requests == [] and claims(gate, key) == []
    assert write(gate, key).get("Idempotent-Replayed") is None


def test_body_that_does_not_come(gate, upstream):
    """client_body_timeout ends it: nothing was claimed."""
    key = gate.key()
    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    "Idempotency-Key: k\r\nContent-Length: 10\r\n\r\nabc")
        client.read_all()

    assert upstream.requests == [] and claims(gate, key) == []


@pytest.mark.parametrize("end", [b"zz\r\n", b"-1\r\n", b"f" * 17 + b"\r\n"])
def test_malformed_chunk(gate, upstream, end):
    key = gate.key()
    answer = post_chunks(gate, key, [b"abc"], end)

    check_error(answer, 400, "bad_request")
    assert upstream.requests == [] and claims(gate, key) == []


def test_body_in_pieces(gate, upstream):
    key = gate.key()
    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    "Idempotency-Key: k\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(BODY)}\r\n\r\n")
        for i in range(len(BODY)):
            client.send(BODY[i:i + 1])
            time.sleep(0.001)
        first = client.read()

    assert upstream.requests[0].body == BODY
    check_replay(first, write(gate, key))


def test_expect_continue(gate, upstream):
    key = gate.key()
    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    "Idempotency-Key: k\r\nContent-Type: application/json\r\n"
                    "Expect: 100-continue\r\n"
                    f"Content-Length: {len(BODY)}\r\n\r\n")
        time.sleep(0.05)
        client.send(BODY)
        first = client.read()

    assert [a.status for a in first.interim] == [100]
    check_replay(first, write(gate, key))


def test_pipelined_duplicates(gate, upstream):
    key = gate.key()
    with gate.connect() as client:
        send(client, key)
        send(client, key)
        send(client, key, body=b"{}")
        first, again, other = (client.read("POST") for _ in range(3))

    check_replay(first, again)
    check_error(other, 409, "idempotency_conflict")
    assert len(upstream.requests) == 1


def test_body_read_by_another_first(make_gate, upstream, make_upstream):
    """A mirror reads the body before Keygate does."""
    mirror = make_upstream()
    gate = make_gate(location="mirror /mirror;", locations=f"""
        location = /mirror {{
            internal; keygate off;
            proxy_pass http://127.0.0.1:{mirror.port};
        }}""")
    key = gate.key()
    first = write(gate, key)

    check_replay(first, write(gate, key))
    assert write(gate, key, body=b"x").code == "idempotency_conflict"
    assert [seen.body for seen in upstream.requests] == [BODY]
    assert check_request_id(first)


def test_unbuffered_request(make_gate, upstream):
    gate = make_gate(location="proxy_request_buffering off;"
                              "proxy_buffering off;")
    key = gate.key()
    body = b"y" * 50000
    first = write(gate, key, body=body)

    assert upstream.requests[0].body == body
    check_replay(first, write(gate, key, body=body))


def test_unbuffered_answer_cut_off(make_gate, upstream):
    # nginx ends the request at once, so its 502 cannot wait for Redis: a retry
    # by another worker may come before the outcome, one by this worker not.
    gate = make_gate(location="proxy_buffering off;", workers="1")
    key = gate.key()
    write(gate, key, "warm")        # Redis knows the script of outcomes
    upstream.answer(body="0123456789", cut=4)

    check_error(write(gate, key), 502, "bad_gateway")
    assert write(gate, key).code == "idempotency_outcome_unknown"
    assert len(upstream.requests) == 2


def test_worker_is_not_held_up_by_a_running_write(make_gate, upstream):
    gate = make_gate(workers="1")
    key = gate.key()
    upstream.answer(hang=True, method="POST")

    with harness.Client(("127.0.0.1", gate.port)) as client:
        send(client, key)
        upstream.wait()
        assert gate.get(LOADS, key=key).status == 200
        upstream.release()
        assert client.read().status == 200
