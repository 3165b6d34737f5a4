"""Errors of an upstream that do not end: the client has its answer in seconds,
the upstream's connection is closed, and nothing of it is kept."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import check_error

LOADS = "/v1/loads"

# What the gate waits for the end of an error, and what a client would.
PATIENCE = 3
TIMEOUT = 9

PROXY = """keygate off; include %%ROOT%%/conf/keygate_proxy_params;
           proxy_pass http://app;"""

GATE = dict(
    http="""upstream app { server 127.0.0.1:%%UPSTREAM_PORT%%; keepalive 8; }
        proxy_cache_path %%FOLDER%%/cache keys_zone=c:1m;""",
    locations=f"""
        location /plain {{ {PROXY} }}
        location /unbuffered {{ {PROXY} proxy_buffering off; }}
        location /slowed {{ {PROXY} proxy_limit_rate 9; }}
        location /cached {{ {PROXY} proxy_cache c; proxy_cache_valid any 1h; }}
        location /page {{ {PROXY} proxy_intercept_errors on;
                          error_page 404 /paged; }}
        location /paged {{ {PROXY} }}
    """)


def begun(status, body, media="application/json", length=False):
    """An answer of which only the beginning comes."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {media}\r\n"
    if length:
        head += "Content-Length: 60000\r\n\r\n"
    else:
        head += "Transfer-Encoding: chunked\r\n\r\n"
        body = f"{len(body):x}\r\n{body}\r\n" if body else ""
    return dict(raw=(head + body).encode(), stall=True)


ENVELOPE = '{"error":{"code":"secret","message":"m"}'


def test_error_that_does_not_end(gate, upstream):
    """Through each door, at the same time."""
    key = gate.key()
    upstream.answer(path="/plain", **begun(422, "[1"))
    upstream.answer(path="/plain2", **begun(500, ENVELOPE, length=True))
    upstream.answer(path="/plain3", **begun(503, ""))
    upstream.answer(path="/unbuffered", **begun(404, "<p>", "text/html"))
    upstream.answer(path="/slowed", **begun(400, "a" * 90, length=True))
    upstream.answer(path="/cached", **begun(410, ENVELOPE))
    upstream.answer(path="/page$", **begun(404, ""))
    upstream.answer(path="/paged", **begun(402, ENVELOPE))
    upstream.answer(path=LOADS, method="POST", **begun(422, ENVELOPE))

    def get(target, **how):
        return gate.request(how.pop("method", "GET"), target, key=key,
                            timeout=TIMEOUT, **how)

    def h2():
        with gate.h2() as client:
            first = client.get("/plain")
            upstream.answer(path="/plain9")
            return first, client.get("/plain9")

    with ThreadPoolExecutor(12) as pool:
        asked = {
            target: pool.submit(get, target) for target in (
                "/plain", "/plain2", "/plain3", "/unbuffered", "/slowed",
                "/cached", "/page")}
        written = pool.submit(get, LOADS, method="POST", idem="k", body=b"{}")
        old = pool.submit(get, "/plain", version="HTTP/1.0")
        over_h2 = pool.submit(h2)

    for target, status, code, retry in [
            ("/plain", 422, "unprocessable_content", None),
            ("/plain2", 500, "internal_error", None),
            ("/plain3", 503, "service_unavailable", (1, 1)),
            ("/unbuffered", 404, "not_found", None),
            ("/slowed", 400, "bad_request", None),
            ("/cached", 410, "gone", None),
            ("/page", 404, "not_found", None)]:
        check_error(asked[target].result(), status, code, retry=retry)
    check_error(old.result(), 422, "unprocessable_content")
    assert [one.status_code for one in over_h2.result()] == [422, 200]
    assert over_h2.result()[0].json()["error"]["code"] == \
        "unprocessable_content"

    # The write's error is its answer, as one that is too long would be.
    check_error(written.result(), 422, "unprocessable_content")
    again = get(LOADS, method="POST", idem="k", body=b"{}")
    assert again.get("Idempotent-Replayed") == "true"
    assert again.body == written.result().body

    # What was begun is not what the cache would have.
    upstream.answer(410, {}, {"error": {"code": "sold", "message": "m"}},
                    path="/cached")
    check_error(get("/cached"), 410, "sold")


def test_stream_is_not_waited_for(gate, upstream):
    upstream.answer(**begun(500, "data: x\n\n", "text/event-stream"))
    start = time.monotonic()

    with gate.connect(timeout=TIMEOUT) as client:
        for target in ("/plain", "/unbuffered"):
            check_error(client.request("GET", target), 500, "internal_error")
        assert time.monotonic() - start < PATIENCE
        upstream.reset()
        for target in ("/plain", "/unbuffered"):
            assert client.request("GET", target).status == 200


def test_stream_without_a_first_byte(gate, upstream):
    upstream.answer(**begun(404, "", "text/event-stream; charset=utf-8"))
    start = time.monotonic()

    check_error(gate.get("/plain"), 404, "not_found")
    assert time.monotonic() - start < PATIENCE


@pytest.mark.parametrize("target", ["/plain", "/unbuffered"])
def test_connection_of_a_stream_is_not_used_again(gate, upstream, target):
    """Nothing tells where it would end; the upstream goes on holding it."""
    upstream.answer(**begun(500, "data: x\n\n", "text/event-stream"))
    for _ in range(2):      # one for each worker
        check_error(gate.get(target), 500, "internal_error")
    upstream.answer(200)

    for _ in range(4):
        assert gate.get(target).status == 200


@pytest.mark.parametrize("target", ["/plain", "/unbuffered"])
def test_client_that_leaves_meanwhile(gate, upstream, target):
    """The timer goes with the request."""
    upstream.answer(**begun(500, "x"))
    client = gate.connect()
    client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.wait(1)
    client.sock.close()
    upstream.reset()

    assert gate.get(target).status == 200
