"""Errors of the upstream: its own dialect does not reach a partner."""

import gzip
import json
import time

import pytest

from checks import check_error, check_request_id

LOADS = "/v1/loads"

GATE = dict(policies="keygate_policy default rate=600r/m by=key;")

# What is not the end of an error is waited for no longer than 3 s.
PATIENCE = 3

CODES = {
    400: "bad_request", 401: "unauthorized", 402: "payment_required",
    403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    406: "not_acceptable", 407: "proxy_authentication_required",
    408: "request_timeout", 409: "conflict", 410: "gone",
    411: "length_required", 412: "precondition_failed",
    413: "content_too_large", 414: "uri_too_long",
    415: "unsupported_media_type", 416: "range_not_satisfiable",
    417: "expectation_failed", 421: "misdirected_request",
    422: "unprocessable_content", 423: "locked", 424: "failed_dependency",
    425: "too_early", 426: "upgrade_required", 428: "precondition_required",
    429: "rate_limited", 431: "request_header_fields_too_large",
    451: "unavailable_for_legal_reasons", 500: "internal_error",
    501: "not_implemented", 502: "bad_gateway", 503: "service_unavailable",
    504: "gateway_timeout", 505: "http_version_not_supported",
    506: "variant_also_negotiates", 507: "insufficient_storage",
    508: "loop_detected", 510: "not_extended",
    511: "network_authentication_required",
    # Registered with IANA or not, these say nothing of their own.
    418: "bad_request", 419: "bad_request", 499: "bad_request",
    509: "internal_error", 599: "internal_error",
}

RETRYABLE = {425, 429, 502, 503, 504}

HTML = "<html><h1>Traceback</h1> at app.internal.example /srv/app.py</html>"


def get(gate, **how):
    return gate.get(LOADS, key=gate.key(), **how)


def envelope(code, request_id="req_upstream", **members):
    return {"error": {"code": code, "message": "of the upstream", **members},
            "requestId": request_id}


@pytest.mark.parametrize("status", CODES)
def test_html_becomes_the_code_of_its_status(gate, upstream, status):
    upstream.answer(status, {"Content-Type": "text/html", "ETag": '"x"',
                             "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT",
                             "Cache-Control": "max-age=3600",
                             "Content-Language": "en",
                             "CDN-Cache-Control": "max-age=3600",
                             "Surrogate-Control": "max-age=3600",
                             "Pragma": "cache", "Expires": "0",
                             "Repr-Digest": "sha-256=:a:",
                             "Content-Digest": "sha-256=:a:",
                             "Content-Disposition": "attachment",
                             "Content-Location": "/x", "Trailer": "X"}, HTML)
    answer = get(gate)

    check_error(answer, status, CODES[status],
                retry=(1, 1) if status in RETRYABLE else None)
    assert b"Traceback" not in answer.body
    assert b"internal.example" not in answer.body
    assert upstream.requests[0].get("X-Request-Id") == \
        check_request_id(answer)


@pytest.mark.parametrize("status, stays", [(404, None),
                                           (416, "bytes */9")])
def test_content_range_is_of_416_alone(gate, upstream, status, stays):
    """Elsewhere it says which part of the body this is, that is replaced."""
    upstream.answer(status, {"Content-Range": "bytes */9"}, HTML)
    answer = get(gate)

    check_error(answer, status, CODES[status])
    assert answer.get("Content-Range") == stays


def test_headers_that_belong_to_an_error_stay(gate, upstream):
    belong = {"WWW-Authenticate": 'Bearer realm="app"', "Set-Cookie": "a=b",
              "Allow": "GET", "Vary": "Accept", "X-Trace": "1",
              "Link": "</x>"}
    upstream.answer(401, belong, HTML)
    answer = get(gate)

    check_error(answer, 401, "unauthorized")
    assert {name: answer.get(name) for name in belong} == belong


@pytest.mark.parametrize("how", [{}, {"method": "HEAD"}])
def test_every_401_has_a_challenge(gate, upstream, how):
    """RFC 9110, 15.5.2, and the contract: also of an upstream that has not
    said what it wants.  It is not the key that is invalid."""
    upstream.answer(401, {}, HTML)
    answer = gate.request(how.get("method", "GET"), LOADS, key=gate.key())

    check_error(answer, 401, "unauthorized", head=bool(how))
    assert answer.all("WWW-Authenticate") == \
        ['Bearer realm="api.trailflow.ai"']


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 404, 425])
def test_retry_of_a_write(gate, upstream, status):
    """On a write 502, 503 and 504 are no invitation to try again."""
    upstream.answer(status, {}, HTML)
    answer = gate.post(LOADS, key=gate.key(), idem="k", body=b"{}")

    check_error(answer, status, CODES[status],
                retry=(1, 1) if status in (425, 429) else None)


@pytest.mark.parametrize("status, method, after, retry", [
    (429, "GET", "17", (17, 17)),
    (503, "GET", "17", (17, 17)),
    (503, "POST", "17", (17, 17)),
    (502, "POST", "17", None),
    (504, "POST", "17", None),
    (500, "GET", "17", None),
    (404, "GET", "17", None),
    (409, "POST", "17", None),
    (413, "GET", "17", None),
])
def test_retry_after_of_the_upstream(gate, upstream, status, method, after,
                                     retry):
    upstream.answer(status, {"Retry-After": after}, HTML)
    answer = gate.request(method, LOADS, key=gate.key(), idem="k")

    check_error(answer, status, CODES[status], retry=retry)


# Its JSON.

@pytest.mark.parametrize("status", [400, 409, 422])
@pytest.mark.parametrize("body", [
    {"message": "weight is missing", "field": "weight"}, ["a", "b"], "text",
    12, None, {"error": "flat"}, {"error": {"message": "no code"}},
    {"errors": [{"field": "\u00fc"}]}])
def test_json_of_another_shape_is_kept(gate, upstream, status, body):
    upstream.answer(status, {}, json.dumps(body))

    check_error(get(gate), status, CODES[status], {"upstream": body})


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410, 429, 500, 501,
                                    503])
def test_json_of_another_status_is_not(gate, upstream, status):
    upstream.answer(status, {}, {"message": "stack", "trace": ["a.py:1"]})
    answer = get(gate)

    check_error(answer, status, CODES[status],
                retry=(1, 1) if status in RETRYABLE else None)


@pytest.mark.parametrize("size, kept", [(8192, True), (8193, False)])
def test_json_up_to_8_kib_is_kept(gate, upstream, size, kept):
    body = json.dumps({"a": "b" * (size - 9)})
    assert len(body) == size
    upstream.answer(422, {}, body)

    check_error(get(gate), 422, "unprocessable_content",
                {"upstream": json.loads(body)} if kept else None)


@pytest.mark.parametrize("body", [
    b"", b"{", b'{"a":1', b"not json", b"\xff\xfe{}", b"\0", b"{}{}",
    b"[" * 5000, b'{"a":' * 1000, b'"\xed\xa0\x80"'])
def test_body_that_is_no_json(gate, upstream, body):
    upstream.answer(422, {}, body)

    check_error(get(gate), 422, "unprocessable_content")


# Its envelope.

def test_envelope_is_kept_and_made_right(gate, upstream):
    upstream.answer(409, {"Content-Type": "text/plain", "Retry-After": "9",
                          "Cache-Control": "public"},
                    envelope("load_locked", details={"by": "Ann"}))
    answer = get(gate)

    error = check_error(answer, 409, "load_locked", {"by": "Ann"})
    assert error["message"] == "of the upstream"


@pytest.mark.parametrize("status, code, said, retry", [
    (500, "internal_error", True, None),
    (404, "not_found", True, None),
    (429, "rate_limited", False, (1, 1)),
    (503, "service_unavailable", False, (1, 1)),
    (503, "maintenance", True, (1, 1)),
    (409, "idempotency_in_progress", False, (1, 30)),
])
def test_retryable_of_the_envelope_is_made_right(gate, upstream, status, code,
                                                 said, retry):
    upstream.answer(status, {}, envelope(code, retryable=said))

    check_error(get(gate), status, code, retry=retry)


def test_empty_message_of_the_envelope(gate, upstream):
    """A message is never empty, and the code is kept all the same."""
    upstream.answer(422, {}, {"error": {"code": "x", "message": ""}})

    check_error(get(gate), 422, "x")


def test_further_members_of_the_error_stay(gate, upstream):
    """The contract is additive: what Keygate does not know it passes on."""
    upstream.answer(422, {}, envelope("x", docUrl="https://a/b", hint=[1]))
    error = check_error(get(gate), 422, "x")

    assert (error["docUrl"], error["hint"]) == ("https://a/b", [1])


@pytest.mark.parametrize("said, wanted", [
    (None, None), ("text", {"upstream": "text"}), ([1], {"upstream": [1]}),
    (False, {"upstream": False}), ({}, {}), ({"a": None}, {"a": None})])
@pytest.mark.parametrize("status", [404, 500])
def test_details_are_an_object(gate, upstream, status, said, wanted):
    upstream.answer(status, {}, envelope("x", details=said, more=1))

    check_error(get(gate), status, "x", wanted)


@pytest.mark.parametrize("link", [
    "javascript:alert(1)", "about:blank", "/docs", "", 7, None,
    "https://a\nb", "https://a/<script>", "https://" + "a" * 1024])
def test_link_that_is_none(gate, upstream, link):
    upstream.answer(422, {}, envelope("x", docUrl=link))

    assert "docUrl" not in check_error(get(gate), 422, "x")


@pytest.mark.parametrize("status", [500, 502, 503, 599])
def test_what_a_server_says_of_its_failure(gate, upstream, status):
    upstream.answer(status, {}, envelope(
        "broken", details={"id": 7}, docUrl="https://a/b",
        stack=["app.py:1"], host="db-1.internal", cause={"sql": "select"}))
    error = check_error(get(gate), status, "broken", {"id": 7},
                        retry=(1, 1) if status in RETRYABLE else None)

    assert set(error) == {"code", "message", "retryable", "details",
                          "docUrl"}


def test_byte_order_mark(gate, upstream):
    upstream.answer(409, {}, b"\xef\xbb\xbf" + json.dumps(
        envelope("load_locked")).encode())

    check_error(get(gate), 409, "load_locked")


def test_number_that_no_client_could_read(gate, upstream):
    upstream.answer(422, {}, '{"error":{"code":"x","message":"m",'
                             '"details":{"weight":1e999}}}')

    check_error(get(gate), 422, "unprocessable_content")


@pytest.mark.parametrize("status", [400, 500, 503])
def test_gzip_envelope(gate, upstream, status):
    upstream.answer(status, {}, envelope("special", details={"a": "b" * 9000}),
                    gzip=True)

    check_error(get(gate), status, "special", {"a": "b" * 9000},
                retry=(1, 1) if status == 503 else None)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "X-Gzip"])
def test_names_of_gzip(gate, upstream, coding):
    upstream.answer(404, {"Content-Encoding": coding},
                    gzip.compress(json.dumps(envelope("special")).encode()))

    check_error(get(gate), 404, "special")


@pytest.mark.parametrize("raw", [
    gzip.compress(b"x" * 5000000), b"not gzip", b"", b"\x1f\x8b\x08",
    gzip.compress(b'{"error":')[:-6]],
    ids=["bomb", "none", "empty", "head", "cut"])
def test_gzip_that_is_no_envelope(gate, upstream, raw):
    upstream.answer(422, {"Content-Encoding": "gzip"}, raw)

    check_error(get(gate), 422, "unprocessable_content")


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "x-",
                                    "x-x-gzip", "x-br"])
def test_other_encodings_are_not_looked_into(gate, upstream, coding):
    upstream.answer(422, {"Content-Encoding": coding}, b"\x01\x02")

    check_error(get(gate), 422, "unprocessable_content")


def test_charset_of_the_upstream_is_not_the_errors(make_gate, upstream):
    """JSON has no charset: what described the other body goes with it."""
    gate = make_gate(http="charset utf-8;", **GATE)
    upstream.answer(404, {"Content-Type": "text/html; charset=koi8-r",
                          "X-Accel-Charset": "utf-8"}, HTML)

    check_error(get(gate), 404, "not_found")


def test_gzip_is_on_for_errors_too(make_gate, upstream):
    gate = make_gate(http="gzip on; gzip_types application/json;"
                          "gzip_min_length 1; gzip_proxied any;", **GATE)
    upstream.answer(400, {}, {"a": "b" * 2000})
    answer = get(gate, headers={"Accept-Encoding": "gzip"})

    body = answer.body
    if answer.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    assert json.loads(body)["error"]["details"]["upstream"]["a"] == "b" * 2000


# The way it comes.

def test_chunked_error(gate, upstream):
    upstream.answer(500, {}, envelope("boom"), chunked=True)
    check_error(get(gate), 500, "boom")


def test_empty_error(gate, upstream):
    upstream.answer(404, {}, b"")
    check_error(get(gate), 404, "not_found")


@pytest.mark.parametrize("size", [65536, 65537, 3000000])
@pytest.mark.parametrize("chunked", [False, True])
def test_long_error(gate, upstream, size, chunked):
    upstream.answer(500, {}, "x" * size, chunked=chunked)

    start = time.monotonic()
    check_error(get(gate), 500, "internal_error")
    assert time.monotonic() - start < PATIENCE


def test_endless_error(gate, upstream):
    """It is not read to its end, which never comes."""
    upstream.answer(raw=b"HTTP/1.1 500 X\r\nContent-Type: text/html\r\n\r\n"
                        + b"<p>" * 4000000)

    start = time.monotonic()
    check_error(get(gate), 500, "internal_error")
    assert time.monotonic() - start < PATIENCE


BROKEN = {
    "cut off": dict(status=500, body="0123456789", cut=3),
    "cut off before the body": dict(status=500, body="0123", cut="headers"),
    "less than it says": dict(status=500, body="short", length=50),
    "chunk cut off": dict(raw=b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked"
                              b"\r\n\r\nff\r\nabc"),
}


@pytest.mark.parametrize("how", BROKEN.values(), ids=BROKEN)
def test_error_cut_off(gate, upstream, how):
    """A broken answer is a bad gateway, and its connection is not reused."""
    upstream.answer(**how)
    answer = get(gate)

    assert answer.status in (502, 504)
    check_error(answer, answer.status, CODES[answer.status], retry=(1, 1))


def test_error_longer_than_it_says(gate, upstream):
    upstream.answer(raw=b"HTTP/1.1 400 X\r\nContent-Length: 2\r\n\r\n{}more")
    check_error(get(gate), 400, "bad_request", {"upstream": {}})


NO_ANSWER = {
    "closed": (dict(cut="before"), 502),
    "reset": (dict(cut="reset"), 502),
    "bad header": (dict(raw=b"HTTP/1.1 200 OK\r\n\0a: b\r\n\r\n"), 502),
    "header cut off": (dict(raw=b"HTTP/1.1 200 OK\r\nA: b\r\n"), 502),
    "header too large": (dict(headers={"A": "b" * 20000}), 502),
    "not HTTP": (dict(raw=b"\0\1 nonsense\r\n\r\n"), 502),
}


@pytest.mark.parametrize("how, status", NO_ANSWER.values(), ids=NO_ANSWER)
def test_no_answer(gate, upstream, how, status):
    upstream.answer(**how)

    check_error(get(gate), status, CODES[status], retry=(1, 1))
    answer = gate.post(LOADS, key=gate.key(), idem="k")
    check_error(answer, status, CODES[status])


def test_no_answer_in_time(make_gate, upstream):
    gate = make_gate(**GATE, location="proxy_read_timeout 300ms;")
    upstream.answer(hang=True)

    check_error(get(gate), 504, "gateway_timeout", retry=(1, 1))
    check_error(gate.post(LOADS, key=gate.key(), idem="k"), 504,
                "gateway_timeout")


def test_switch_of_protocols_that_nobody_asked_for(gate, upstream):
    """101 is no final answer: HTTP/2 has none, and a client waits on."""
    upstream.answer(101, {}, "x", close=True)

    check_error(get(gate), 502, "bad_gateway", retry=(1, 1))
    with gate.h2() as client:
        answer = client.get(LOADS, headers={
            "Authorization": f"Bearer {gate.key().token}"})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "bad_gateway"


@pytest.mark.parametrize("status", [600, 700, 999])
def test_status_that_there_is_not(gate, upstream, status):
    """fetch() of browsers and Node throws at it."""
    upstream.answer(status, {}, envelope("x"))

    check_error(get(gate), 502, "bad_gateway", retry=(1, 1))
    check_error(gate.head(LOADS, key=gate.key()), 502, None, retry=(1, 1),
                head=True)
    key = gate.key()
    check_error(gate.post(LOADS, key=key, idem="k"), 502, "bad_gateway")
    check_error(gate.post(LOADS, key=key, idem="k"), 409,
                "idempotency_outcome_unknown", {"originalRequestId":
                upstream.requests[-1].get("X-Request-Id")})


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("size", [1, 100, 300000])
def test_answer_without_a_head(gate, upstream, size, version):
    """nginx takes it for HTTP/0.9, which a partner would not."""
    upstream.answer(raw=b"<" * size)

    check_error(get(gate, version=version), 502, "bad_gateway", retry=(1, 1))
    with gate.h2() as client:
        answer = client.get(LOADS, headers={
            "Authorization": f"Bearer {gate.key().token}"})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "bad_gateway"


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 102 X\r\n\r\nhi", b"hi"], ids=str)
def test_no_answer_is_cached(make_gate, upstream, raw):
    """From the cache it went out as it came: "hi", for all of an answer."""
    gate = make_gate(
        workers="1",        # another might look before it is in the cache
        http="proxy_cache_path %%FOLDER%%/cache keys_zone=c:1m;",
        location="proxy_cache c; proxy_cache_valid any 1h;")
    upstream.answer(raw=raw)
    check_error(get(gate), 502, "bad_gateway", retry=(1, 1))

    for status in (410, 200):
        upstream.answer(status)
        assert get(gate).status == 410


def test_range_that_cannot_be(make_gate, upstream):
    """nginx makes the error while the upstream's success is on its way."""
    gate = make_gate(**dict(GATE, location="proxy_force_ranges on;"))
    upstream.answer(200, {"ETag": '"a"'}, b"0123456789")
    bearer = {"Authorization": f"Bearer {gate.key().token}"}

    with gate.connect() as client:
        answer = client.request("GET", LOADS,
                                {**bearer, "Range": "bytes=99-"})
        check_error(answer, 416, "range_not_satisfiable")
        assert client.request("GET", LOADS, bearer).status == 200


def test_connection_refused(gate, upstream):
    upstream.refuse()

    check_error(get(gate), 502, "bad_gateway", retry=(1, 1))
    answer = gate.post(LOADS, key=gate.key(), idem="k")
    check_error(answer, 502, "bad_gateway", retry=(1, 1))


def test_no_live_upstreams(make_gate, upstream):
    gate = make_gate(proxy="proxy_pass http://app;", http="""
        upstream app { server 127.0.0.1:%%UPSTREAM_PORT%% down; }""")
    check_error(get(gate), 502, "bad_gateway", retry=(1, 1))


@pytest.mark.parametrize("how", [
    dict(status=500, body=HTML), dict(status=404, body=b""),
    dict(status=422, body="{}", gzip=True), dict(cut="before"),
    dict(status=503, body="x" * 100000),
    dict(status=500, body="0123456789", cut=3)], ids=str)
def test_head_of_an_error(gate, upstream, how):
    upstream.answer(**how)
    answer = gate.head(LOADS, key=gate.key())

    retry = (1, 1) if answer.status in RETRYABLE else None
    check_error(answer, how.get("status", 502), None, retry=retry, head=True)


@pytest.mark.parametrize("body", [
    envelope("sold", message="A longer one than that of the status"), {"a": 1},
    HTML], ids=str)
def test_head_has_no_length_that_get_has_not(gate, upstream, body):
    """RFC 9110, 8.6: of an error that was not seen the length is not known."""
    key = gate.key()
    upstream.answer(422, {}, body)

    for version in ("HTTP/1.0", "HTTP/1.1"):
        with gate.connect() as client:
            asked = dict(headers={"Authorization": f"Bearer {key.token}",
                                  "Connection": "keep-alive"})
            head = client.request("HEAD", LOADS, version=version, **asked)
            said = client.request("GET", LOADS, version=version, **asked)
        assert head.get("Content-Length") in (None,
                                              said.get("Content-Length"))
        assert head.get("Transfer-Encoding") is None
        assert said.status == head.status == 422


def test_http1_0_client(gate, upstream):
    upstream.answer(500, {}, HTML, chunked=True)
    answer = gate.get(LOADS, key=gate.key(), version="HTTP/1.0")

    check_error(answer, 500, "internal_error")
    assert answer.get("Transfer-Encoding") is None


def test_keep_alive_after_errors(gate, upstream):
    bearer = {"Authorization": f"Bearer {gate.key().token}"}

    with gate.connect() as client:
        for how, status in [
                (dict(status=500, body=HTML), 500),
                (dict(status=404, body="x" * 100000), 404),
                (dict(status=422, body="{}", chunked=True), 422),
                (dict(cut="before"), 502), (dict(), 200),
                (dict(raw=b"no head"), 502), (dict(), 200),
                (dict(status=503, body=b""), 503), (dict(), 200)]:
            upstream.answer(**how)
            assert client.request("GET", LOADS, bearer).status == status


def test_upstream_keepalive_survives_errors(make_gate, upstream):
    """An error that came whole does not cost the connection."""
    gate = make_gate(workers="1", proxy="proxy_pass http://app;", http="""
        upstream app { server 127.0.0.1:%%UPSTREAM_PORT%%; keepalive 4; }""")
    for status in (500, 404, 200, 422):
        upstream.answer(status, {}, "x" * 500)
        assert get(gate).status == status

    assert len({seen.connection for seen in upstream.requests}) == 1


def test_intercepted_errors(make_gate, upstream):
    gate = make_gate(location="proxy_intercept_errors on;"
                              "error_page 500 502 404 = /sorry;",
                     locations="location = /sorry { internal; "
                               "return 503 'sorry'; }")
    for status in (500, 404):
        upstream.answer(status, {}, HTML)
        check_error(get(gate), 503, "service_unavailable", retry=(1, 1))


def test_intercepted_error_without_a_page(make_gate, upstream):
    gate = make_gate(location="proxy_intercept_errors on;")
    upstream.answer(404, {}, HTML)

    check_error(get(gate), 404, "not_found")


def test_error_page_for_a_refusal_of_keygate(make_gate, upstream):
    """The page keeps the status; the request was not charged twice."""
    gate = make_gate(server="error_page 401 403 404 429 /e.html;",
                     locations="location = /e.html { internal; keygate off;"
                               "return 200 'x'; }")
    check_error(gate.get(LOADS), 401, "unauthorized")
    key = gate.key(limits={"default": "1r/m"})
    assert gate.get(LOADS, key=key).status == 200
    check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                {"policy": "default"}, (1, 60))
    check_error(gate.get("/nowhere", key=key), 404, "not_found")


def test_unbuffered_errors(make_gate, upstream):
    gate = make_gate(location="proxy_buffering off;")
    for how, status in [(dict(status=500, body="x" * 200000), 500),
                        (dict(status=400, body=b"", chunked=True), 400),
                        (dict(status=500, body="0123456789", cut=3), 502)]:
        upstream.answer(**how)
        check_error(get(gate), status, CODES[status],
                    retry=(1, 1) if status == 502 else None)


def test_off_leaves_errors_as_they_are(make_gate, upstream):
    gate = make_gate(gate="keygate partner; keygate_limit default;"
                          "keygate_errors off;")
    upstream.answer(500, {"Content-Type": "text/html", "Retry-After": "5",
                          "ETag": '"a"', "Cache-Control": "max-age=1"}, HTML)
    answer = get(gate)

    assert (answer.status, answer.body) == (500, HTML.encode())
    for name, value in [("Content-Type", "text/html"), ("Retry-After", "5"),
                        ("ETag", '"a"'), ("Cache-Control", "max-age=1")]:
        assert answer.all(name) == [value]

    upstream.refuse()
    answer = get(gate)
    assert answer.status == 502
    assert answer.get("Content-Type") == "text/html"
