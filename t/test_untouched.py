"""What is no error passes as it came: byte for byte, as with a bare proxy."""

import gzip
import hashlib

import pytest

from checks import check_request_id

LOADS = "/v1/loads"
BARE = "/bare"

GATE = dict(policies="keygate_policy default rate=600r/m by=key;",
            locations="""location = /bare { keygate off; keygate_errors off;
                proxy_http_version 1.1; proxy_set_header Connection "";
                %%PROXY%% }""")

# What the gate adds to every answer, and what differs by the moment.
OURS = {"x-request-id", "ratelimit", "ratelimit-policy", "date"}


def headers(answer):
    return sorted((n.lower(), v) for n, v in answer.headers
                  if n.lower() not in OURS)


def check_same(gate, method="GET", sent=(), **how):
    """The gate's answer, after it was held against a bare proxy's."""
    ours = gate.request(method, LOADS, key=gate.key(), headers=sent, **how)
    bare = gate.request(method, BARE, headers=sent, **how)

    assert ours.status == bare.status
    assert ours.body == bare.body
    assert ours.complete == bare.complete
    assert headers(ours) == headers(bare)
    check_request_id(ours)
    return ours


BODY = hashlib.sha512(b"x").digest() * 40000      # 2.5 MB, does not compress


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4096, 70000, len(BODY)])
def test_bodies(gate, upstream, size, chunked):
    upstream.answer(200, {"Content-Type": "application/octet-stream"},
                    BODY[:size], chunked=chunked)

    assert check_same(gate).body == BODY[:size]


@pytest.mark.parametrize("status, sent", [
    (200, [("ETag", '"abc"'), ("Last-Modified",
                               "Thu, 01 Jan 1970 00:00:00 GMT")]),
    (201, [("Location", "/v1/loads/1")]),
    (202, []),
    (204, []),
    (207, [("Content-Type", "application/xml")]),
    (301, [("Location", "https://example.com/")]),
    (302, [("Location", "/x")]),
    (304, [("ETag", '"abc"')]),
    (399, [("X-Odd", "yes")]),
    (200, [("Retry-After", "5"), ("Cache-Control", "max-age=60"),
           ("Content-Language", "de"), ("Set-Cookie", "a=1"),
           ("Set-Cookie", "b=2"), ("WWW-Authenticate", "Basic"),
           ("Accept-Ranges", "bytes"), ("Vary", "Accept")]),
], ids=str)
def test_statuses_and_headers(gate, upstream, status, sent):
    upstream.answer(status, sent, None if status in (204, 304) else b"body")

    answer = check_same(gate)
    for name, value in sent:
        assert value in answer.all(name)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_methods_and_versions(gate, upstream, method, version):
    upstream.answer(200, {"ETag": '"a"'}, BODY[:10000], chunked=True)
    check_same(gate, method, version=version)


@pytest.mark.parametrize("wanted", ["bytes=0-9", "bytes=5-", "bytes=-3",
                                    "bytes=0-1,5-6", "items=0-1"])
def test_ranges_that_nginx_makes(make_gate, upstream, wanted):
    """proxy_force_ranges: nginx itself cuts the body."""
    gate = make_gate(location="proxy_force_ranges on;", **dict(
        GATE, locations=GATE["locations"].replace(
            "%%PROXY%%", "proxy_force_ranges on; %%PROXY%%")))
    upstream.answer(200, {"ETag": '"a"'}, b"0123456789")

    answer = check_same(gate, sent={"Range": wanted})
    single = wanted.startswith("bytes") and "," not in wanted
    assert answer.status == (206 if single else 200)


def test_range_of_the_upstream(gate, upstream):
    upstream.answer(206, {"Content-Range": "bytes 0-3/10"}, b"0123")

    assert check_same(gate, sent={"Range": "bytes=0-3"}).status == 206


def test_conditional_request(gate, upstream):
    upstream.answer(200, {"ETag": '"abc"'}, b"body")

    assert check_same(gate, sent={"If-None-Match": '"abc"'}).status in (200, 304)


def test_gzip_of_the_upstream(gate, upstream):
    upstream.answer(body=BODY[:9000], gzip=True)

    assert gzip.decompress(check_same(gate).body) == BODY[:9000]


def test_gzip_of_nginx(make_gate, upstream):
    gate = make_gate(http="gzip on; gzip_types application/json;"
                          "gzip_min_length 1;", **GATE)
    upstream.answer(body=b"a" * 9000)

    answer = check_same(gate, sent={"Accept-Encoding": "gzip"})
    assert answer.get("Content-Encoding") == "gzip"


@pytest.mark.parametrize("how", [
    dict(body=b"0123456789", cut=4), dict(body=BODY, cut=1000000),
    dict(body=b"short", length=50),
    dict(raw=b"HTTP/1.1 200 OK\r\n\r\nuntil the end")], ids=[
        "cut off", "large cut off", "less than it says", "no length"])
def test_success_cut_off(gate, upstream, how):
    upstream.answer(**how)
    check_same(gate)


def test_unbuffered(make_gate, upstream):
    gate = make_gate(location="proxy_buffering off;", **GATE)
    upstream.answer(200, {}, BODY[:500000], chunked=True)

    assert gate.get(LOADS, key=gate.key()).body == BODY[:500000]


def test_ssi_sees_the_body(make_gate, upstream):
    """nginx's own filters do their work on what passes."""
    gate = make_gate(location="ssi on; ssi_types application/json;", **GATE)
    upstream.answer(200, {}, b'<!--# echo var="request_method" --> and')

    assert gate.get(LOADS, key=gate.key()).body == b"GET and"


def test_http2(gate, upstream):
    upstream.answer(200, {"Content-Type": "application/octet-stream"}, BODY)
    with gate.h2() as client:
        answer = client.get(LOADS, headers={
            "Authorization": f"Bearer {gate.key().token}"})

    assert answer.content == BODY


def test_static_file(make_gate):
    """sendfile and all."""
    gate = make_gate(server="sendfile on;", **dict(
        GATE, locations="""location = /file { keygate off;
            alias %%FOLDER%%/data; }"""), files={"data": "d" * 300000})
    answer = gate.get("/file")

    assert answer.body == b"d" * 300000
    etag = answer.get("ETag")
    assert gate.get("/file", headers={"If-None-Match": etag}).status == 304
    part = gate.get("/file", headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, b"d" * 10)
