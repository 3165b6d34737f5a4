"""What becomes of the upstream's answer to a claimed write: stored, freed, or
not known; how it is kept, and what is too large to keep."""

import gzip
import json
import socket
import time

import pytest

from harness.ports import wait_for
from checks import check_error, check_request_id
from test_idempotency import BODY, LOADS, check_replay, send, write

# Of an answer that breaks off nginx ends the request at once: a retry by
# another worker may come before the outcome, one by this worker not.

GATE = dict(workers="1")


# Final answers.

@pytest.mark.parametrize("status, headers, body", [
    (200, {}, {"a": 1}),
    (201, {"Location": "/v1/loads/1"}, {"id": 1}),
    (202, {}, {"accepted": True}),
    (204, {}, None),
    (200, {}, b""),
    (201, {"Location": "/v1/loads/1"}, b""),
    (303, {"Location": "https://example.com/x"}, b""),
    (302, {"Location": "/elsewhere"}, b"moved"),
    (200, {"Content-Type": "text/plain; charset=utf-8"}, "caf\u00e9"),
    (200, {"Content-Type": "application/xml"}, b"<a/>"),
    (299, {}, {"odd": 1}),
])
def test_success_is_replayed(gate, upstream, status, headers, body):
    key = gate.key()
    upstream.answer(status, headers, body)

    first, again = write(gate, key), write(gate, key)

    assert first.status == status
    check_replay(first, again)
    for name in headers:
        assert again.all(name) == first.all(name) == [headers[name]]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status, headers, body", [
    (201, {"Location": "/v1/loads/1"}, {"id": 1}), (202, {}, {"a": True}),
    (204, {}, None), (200, {}, b""), (201, {"Location": "/x"}, b""),
    (303, {"Location": "https://example.com/x"}, b""),
    (422, {}, {"field": "weight"})])
def test_the_same_over_every_protocol(make_gate, upstream, status, headers,
                                      body):
    """First over HTTP/2 or HTTP/1.1, replayed over both, to clients that
    take gzip and clients that do not."""
    gate = make_gate(**GATE, http="gzip on; gzip_types *; gzip_min_length 1;")
    key = gate.key()
    upstream.answer(status, headers, body)

    for idem, over_http2 in (("one", True), ("two", False)):
        sent = {"Authorization": f"Bearer {key.token}",
                "Idempotency-Key": idem, "Content-Type": "application/json"}
        with gate.h2() as client:
            def http2(accepts):
                return client.post(LOADS, content=BODY, headers={
                    **sent, "Accept-Encoding": accepts})

            first = http2("identity") if over_http2 else write(gate, key, idem)
            content = first.content if over_http2 else first.body
            for accepts in ("gzip", "identity"):
                again = http2(accepts)
                assert (again.status_code, again.content) == (status, content)
                assert again.headers["idempotent-replayed"] == "true"
                for name, value in headers.items():
                    assert again.headers.get_list(name) == [value]

        packed = write(gate, key, idem, headers={"Accept-Encoding": "gzip"})
        plain = write(gate, key, idem)
        assert packed.status == plain.status == status
        assert plain.body == content
        assert (gzip.decompress(packed.body) if packed.get("Content-Encoding")
                else packed.body) == content

    assert len(upstream.requests) == 2


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 412, 415, 422,
                                    451, 500, 501, 505, 507])
def test_final_error_is_replayed(gate, upstream, status):
    """An error of the upstream is replayed as it was shaped, its requestId
    that of the first."""
    key = gate.key()
    upstream.answer(status, {"Content-Type": "text/html"}, "<h1>no</h1>")

    first, again = write(gate, key), write(gate, key)

    check_error(first, status, first.code)
    check_replay(first, again)
    check_error(again, status, first.code,
                request_id=check_request_id(first))
    assert len(upstream.requests) == 1


def test_validation_error_keeps_its_details_in_the_replay(gate, upstream):
    key = gate.key()
    upstream.answer(422, {}, {"field": "weight"})
    first, again = write(gate, key), write(gate, key)

    check_error(first, 422, "unprocessable_content",
                {"upstream": {"field": "weight"}})
    check_replay(first, again)


def test_allow_of_the_upstream_is_in_the_replay(gate, upstream):
    """RFC 9110, 15.5.6: a 405 has it, whoever says it, each time."""
    key = gate.key()
    upstream.answer(405, {"Allow": "GET, PUT"})
    first, again = write(gate, key), write(gate, key)

    check_replay(first, again)
    assert first.all("Allow") == again.all("Allow") == ["GET, PUT"]


def test_answer_in_chunks(gate, upstream):
    key = gate.key()
    upstream.answer(body="x" * 100000, chunked=True)
    first, again = write(gate, key), write(gate, key)

    assert first.body == b"x" * 100000
    check_replay(first, again)


def test_answer_without_a_length(gate, upstream):
    """It ends with the connection, as in HTTP/1.0."""
    key = gate.key()
    upstream.answer(raw=b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
                        b"until the end")
    first, again = write(gate, key), write(gate, key)

    assert first.body == b"until the end"
    check_replay(first, again)
    assert len(upstream.requests) == 1


def test_gzip_answer_stays_gzip(make_gate, upstream):
    """Once, though nginx would compress as well."""
    gate = make_gate(http="gzip on; gzip_types application/json;"
                          "gzip_min_length 1;")
    key = gate.key()
    upstream.answer(body="y" * 5000, gzip=True)
    first = write(gate, key, headers={"Accept-Encoding": "gzip"})
    again = write(gate, key, headers={"Accept-Encoding": "gzip"})

    check_replay(first, again)
    assert again.all("Content-Encoding") == ["gzip"]
    assert gzip.decompress(again.body) == b"y" * 5000


def test_compressed_after_it_was_stored(make_gate, upstream):
    """The same answer for a client that takes gzip and one that does not."""
    gate = make_gate(http="gzip on; gzip_types application/json;"
                          "gzip_min_length 1;")
    key = gate.key()
    upstream.answer(body={"a": "b" * 1000})

    plain = write(gate, key)
    packed = write(gate, key, headers={"Accept-Encoding": "gzip"})

    assert packed.get("Idempotent-Replayed") == "true"
    assert packed.get("Content-Encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body


# What frees the key.

@pytest.mark.parametrize("status, headers", [
    (401, {}), (403, {}), (425, {}), (429, {}), (429, {"Retry-After": "7"}),
    (503, {"Retry-After": "3"}),
], ids=str)
def test_refusal_of_the_upstream_frees_the_key(gate, upstream, status,
                                               headers):
    key = gate.key()
    upstream.answer(status, headers, b"no", times=1)
    upstream.answer(201, {}, {"id": 1}, method="NONE")

    first, again = write(gate, key), write(gate, key)

    after = int(headers.get("Retry-After", 1))
    check_error(first, status, first.code,
                retry=None if status in (401, 403) else (after, after))
    assert again.status == 200
    assert again.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2
    check_replay(again, write(gate, key))


def test_freed_key_may_go_with_another_request(gate, upstream):
    key = gate.key()
    upstream.answer(429, times=1)

    write(gate, key)
    assert write(gate, key, body=b"other").status == 200
    assert len(upstream.requests) == 2


def test_connection_refused_frees_the_key(gate, upstream):
    key = gate.key()
    upstream.refuse()
    answer = write(gate, key)
    check_error(answer, 502, "bad_gateway", None, (1, 30))

    upstream.accept()
    again = write(gate, key)
    assert again.status == 200
    assert again.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 1


def test_no_live_upstreams_frees_the_key(make_gate, upstream):
    gate = make_gate(proxy="proxy_pass http://app;", http="""
        upstream app { server 127.0.0.1:%%UPSTREAM_PORT%% down; }""")
    key = gate.key()

    check_error(write(gate, key), 502, "bad_gateway", None, (1, 30))
    assert gate.redis.client.keys(f"kg:idem:{{{key.org}}}*") == []


# What nobody knows.

UNKNOWN = {
    "408": dict(status=408),
    "502": dict(status=502),
    "503": dict(status=503),
    "504": dict(status=504),
    "502 in the envelope": dict(status=502, body={
        "error": {"code": "bad_gateway", "message": "m"}, "requestId": "r"}),
    "closed before the answer": dict(cut="before"),
    "closed within the body": dict(cut=3, body="0123456789"),
    "closed before the body": dict(cut="headers", body="0123456789"),
    "closed within a chunk": dict(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding:"
                                      b" chunked\r\n\r\nff\r\nabc"),
    "closed within the head": dict(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
    "head that is none": dict(raw=b"HTTP/1.1 200 OK\r\n\0a: b\r\n\r\n"),
    "not HTTP": dict(raw=b"\0\1\2\3 nonsense\r\n\r\n"),
    "error cut off": dict(status=500, cut=3, body="0123456789"),
    "longer than it says": dict(status=200, length=100, body="short"),
}


@pytest.mark.parametrize("how", UNKNOWN.values(), ids=UNKNOWN)
def test_outcome_unknown(gate, upstream, how):
    key = gate.key()

    # A Redis that has not seen the script of outcomes has it sent again, which
    # a retry overtakes.

    assert write(gate, gate.key()).status == 200
    upstream.reset()
    upstream.answer(**how)

    first = write(gate, key)
    check_error(first, first.status, first.code)
    assert first.status in (408, 502, 503, 504)

    for _ in range(2):
        answer = write(gate, key)
        check_error(answer, 409, "idempotency_outcome_unknown",
                    {"originalRequestId": check_request_id(first)})
    check_error(write(gate, key, body=b"other"), 409, "idempotency_conflict")
    assert len(upstream.requests) == 1


def test_no_answer_in_time(make_gate, upstream):
    gate = make_gate(**GATE, location="proxy_read_timeout 300ms;")
    key = gate.key()
    write(gate, key, "warm")
    upstream.answer(hang=True)

    first = write(gate, key)
    check_error(first, 504, "gateway_timeout")
    check_error(write(gate, key), 409, "idempotency_outcome_unknown",
                {"originalRequestId": check_request_id(first)})
    assert len(upstream.requests) == 2


def test_second_server_is_not_asked_after_the_first_was(make_gate, upstream,
                                                        make_upstream):
    """nginx does not send a write again, and the retry is not executed."""
    second = make_upstream()
    upstream.answer(cut="before")
    gate = make_gate(proxy="proxy_pass http://app;", http=f"""
        upstream app {{ server 127.0.0.1:%%UPSTREAM_PORT%%;
                        server 127.0.0.1:{second.port} backup; }}""")
    key = gate.key()

    first = write(gate, key)
    check_error(first, 502, "bad_gateway")
    assert write(gate, key).code == "idempotency_outcome_unknown"
    assert (len(upstream.requests), second.requests) == (1, [])


def test_second_server_is_asked_when_the_first_was_not(make_gate, upstream,
                                                       make_upstream):
    second = make_upstream()
    upstream.refuse()
    gate = make_gate(proxy="proxy_pass http://app;", http=f"""
        upstream app {{ server 127.0.0.1:%%UPSTREAM_PORT%%;
                        server 127.0.0.1:{second.port} backup; }}""")
    key = gate.key()

    check_replay(write(gate, key), write(gate, key))
    assert len(second.requests) == 1


# How it is kept.

def stored(gate, key):
    """Every Redis value of the key's organisation, and what it is called."""
    client = gate.redis.client
    return {name: client.get(name) for name in
            client.keys(f"kg:*{{{key.org}}}*")}


def test_stored_answer_is_encrypted(gate, upstream):
    secret = "whsec_" + "Zq7" * 12
    key = gate.key()
    upstream.answer(201, {"X-Secret": secret, "Content-Type": "text/plain"},
                    secret + " of the webhook")
    check_replay(write(gate, key, target="/v1/webhooks"),
                 write(gate, key, target="/v1/webhooks"))

    values = stored(gate, key)
    assert any(b"idem" in name for name in values)
    for name, value in values.items():
        for text in (secret, "of the webhook", "Zq7Zq7", "text/plain",
                     "X-Secret", "externalId"):
            assert text.encode() not in value
            assert text.encode() not in name


def test_moved_answer_is_not_replayed(gate, upstream, redis):
    """A record copied under another's name does not open there."""
    key = gate.key()
    write(gate, key, "one")
    redis.client.set(f"kg:idem:{{{key.org}}}:test:two",
                     redis.client.get(f"kg:idem:{{{key.org}}}:test:one"))

    check_error(write(gate, key, "two"), 409,
                "idempotency_replay_unavailable",
                {"originalRequestId": upstream.requests[0]
                 .get("X-Request-Id")})
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("damage", [
    lambda value: value[:-1],
    lambda value: value[:-1] + bytes([value[-1] ^ 1]),
    lambda value: value + b"x",
    lambda value: b"",
    lambda value: b"{}",
    lambda value: b"\xff" * len(value),
], ids=["cut", "flipped", "longer", "empty", "JSON", "noise"])
def test_damaged_record_is_not_executed(gate, upstream, redis, damage):
    """Whatever stands under the name, a write may have run."""
    key = gate.key()
    write(gate, key)
    name = f"kg:idem:{{{key.org}}}:test:k"
    redis.client.set(name, damage(redis.client.get(name)))

    answer = write(gate, key)
    assert answer.status in (409, 503)
    check_error(answer, answer.status, answer.code, answer.error.get(
        "details"), (1, 30) if answer.status == 503 else None)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("how", [dict(), dict(cut="before"),
                                 dict(body="x" * 300000)],
                         ids=["completed", "unknown", "not kept"])
def test_kept_for_the_retention(make_gate, upstream, how):
    gate = make_gate(idempotency="keygate_idempotency retention=48h "
                                 "lease=30s;")
    key = gate.key()
    upstream.answer(**how)
    write(gate, key)

    ttl = gate.redis.client.ttl(f"kg:idem:{{{key.org}}}:test:k")
    assert 48 * 3600 - 60 < ttl <= 48 * 3600


def test_key_is_free_after_the_retention(make_gate, upstream):
    gate = make_gate(idempotency="keygate_idempotency retention=2s "
                                 "lease=1s;")
    key = gate.key()
    write(gate, key)
    assert write(gate, key).get("Idempotent-Replayed") == "true"
    wait_for(lambda: gate.redis.client.keys(f"kg:idem:{{{key.org}}}*") == [],
             what="end of the retention")

    assert write(gate, key).get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2


# What is too large to keep.

@pytest.mark.parametrize("how", [dict(), dict(chunked=True)],
                         ids=["length", "chunked"])
@pytest.mark.parametrize("size", [256 * 1024, 100])
def test_answer_up_to_the_limit_is_kept(gate, upstream, how, size):
    key = gate.key()
    body = bytes(i % 251 for i in range(size))
    upstream.answer(body=body, **how)
    first = write(gate, key)

    assert first.body == body
    check_replay(first, write(gate, key))


@pytest.mark.parametrize("how", [dict(), dict(chunked=True)],
                         ids=["length", "chunked"])
@pytest.mark.parametrize("size", [256 * 1024 + 1, 1500000])
def test_larger_answer_comes_whole_and_once(gate, upstream, how, size):
    key = gate.key()
    body = bytes(i % 251 for i in range(size))
    upstream.answer(201, {"Location": "/v1/loads/9"}, body, **how)
    first = write(gate, key)

    assert (first.status, first.complete) == (201, True)
    assert first.body == body
    assert first.get("Location") == "/v1/loads/9"
    check_error(write(gate, key), 409, "idempotency_replay_unavailable",
                {"originalRequestId": check_request_id(first)})
    check_error(write(gate, key, body=b"x"), 409, "idempotency_conflict")
    assert len(upstream.requests) == 1


def test_larger_answer_cut_off(gate, upstream):
    """The client sees that it was; whether it was executed is no question:
    either way there is no second execution."""
    key = gate.key()
    upstream.answer(body="z" * 800000, cut=600000)

    assert write(gate, key).complete is False
    assert write(gate, key).code in ("idempotency_replay_unavailable",
                                     "idempotency_outcome_unknown")
    assert len(upstream.requests) == 1


def test_event_stream_is_not_held(make_gate):
    """Its first event is there while the second is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        gate = make_gate(location="proxy_buffering off;",
                         proxy="proxy_pass http://127.0.0.1:"
                               f"{server.getsockname()[1]};")
        key = gate.key()
        client = gate.connect()
        send(client, key)
        stream, _ = server.accept()

        with stream:
            stream.recv(65536)
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-"
                           b"stream; charset=utf-8\r\n\r\ndata: 1\n\n")
            received = b""
            while b"data: 1" not in received:
                received += client.sock.recv(65536)

            # The stream does not wait for Redis to know that it is one.
            wait_for(lambda: write(gate, key).code
                     != "idempotency_in_progress", 5, "the tombstone")
            answer = write(gate, key)
        client.close()

    check_error(answer, 409, "idempotency_replay_unavailable",
                answer.error["details"])
    assert answer.error["details"]["originalRequestId"].encode() in received


def test_change_of_protocol_is_not_held(make_gate):
    """101: what follows is no answer; the key says that it was executed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        gate = make_gate(
            location="proxy_set_header Upgrade $http_upgrade;"
                     "proxy_set_header Connection upgrade;",
            proxy=f"proxy_pass http://127.0.0.1:{server.getsockname()[1]};")
        key = gate.key()
        client = gate.connect()
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    "Idempotency-Key: k\r\nUpgrade: echo\r\n"
                    "Content-Type: application/json\r\nConnection: upgrade\r\n"
                    f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        stream, _ = server.accept()

        with stream:
            stream.recv(65536)
            stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\n"
                           b"Upgrade: echo\r\nConnection: upgrade\r\n\r\nhi")
            received = b""
            while b"hi" not in received:
                received += client.sock.recv(65536)
            client.send(b"there")
            assert stream.recv(100) == b"there"
            wait_for(lambda: write(gate, key).code
                     != "idempotency_in_progress", 5, "the tombstone")
            answer = write(gate, key)
        client.close()

    assert received.startswith(b"HTTP/1.1 101 ")
    check_error(answer, 409, "idempotency_replay_unavailable",
                answer.error["details"])


def test_large_answer_replayed_to_a_slow_client(gate, upstream):
    key = gate.key()
    body = json.dumps({"a": "b" * 200000})
    upstream.answer(body=body)
    write(gate, key)

    with gate.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: a\r\nConnection: close"
                    f"\r\nAuthorization: Bearer {key.token}\r\n"
                    "Idempotency-Key: k\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        time.sleep(0.2)
        answer = client.read()

    assert answer.get("Idempotent-Replayed") == "true"
    assert answer.body == body.encode()
