"""The body of a write, however it comes and wherever nginx puts it: it is
compared whole, and the upstream gets it whole."""

import gzip
import time

import pytest

from checks import check_error
from test_idempotency import LOADS, check_replay, write
from test_idempotency_claims import claims, post_chunks

GATE = dict(server="client_max_body_size 2m; client_body_buffer_size 8k;")

PLACES = {
    "memory": "client_body_buffer_size 2m;",
    "one buffer": "client_body_in_single_buffer on;"
                  "client_body_buffer_size 1m;",
    "file": "client_body_in_file_only clean; client_body_buffer_size 8k;",
    "memory and file": "client_body_buffer_size 8k;",
    "not asked to buffer": "proxy_request_buffering off;",
}

BODY = bytes(i % 251 for i in range(300000))


def fields(key, idem="k"):
    return {"Authorization": f"Bearer {key.token}", "Idempotency-Key": idem,
            "Content-Type": "application/json"}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_body_in_every_place(make_gate, upstream, place):
    """A length, chunks and HTTP/2 make one request, and one byte another."""
    gate = make_gate(server="client_max_body_size 2m;", location=place,
                     workers="1")
    key = gate.key()

    for size in (1, 5000, len(BODY)):
        idem, body = f"k{size}", BODY[:size]
        first = write(gate, key, idem, body=body)
        assert upstream.requests[-1].body == body
        check_replay(first, write(gate, key, idem, body=body))
        check_replay(first, post_chunks(gate, key, [body[:700], body[700:]]
                                        if size > 700 else [body],
                                        idem=idem))
        with gate.h2() as client:
            again = client.post(LOADS, headers=fields(key, idem),
                                content=body)
            other = client.post(LOADS, headers=fields(key, idem),
                                content=body[:-1] + b"?")
        assert again.content == first.body
        assert again.headers["idempotent-replayed"] == "true"
        assert other.json()["error"]["code"] == "idempotency_conflict"

    assert len(upstream.requests) == 3


def test_http2_body_first(gate, upstream):
    """Of no announced length, in many frames."""
    key = gate.key()

    with gate.h2() as client:
        first = client.post(LOADS, headers=fields(key), content=iter(
            [BODY[i:i + 9973] for i in range(0, len(BODY), 9973)]))

    assert first.status_code == 200
    assert upstream.requests[0].body == BODY
    again = write(gate, key, body=BODY)
    assert again.body == first.content
    assert again.get("Idempotent-Replayed") == "true"


def test_encoded_body_is_not_decoded(gate, upstream):
    """Byte for byte: two encodings of one text are two requests."""
    key = gate.key()
    packed = gzip.compress(b"text", mtime=1)
    headers = {"Content-Encoding": "gzip"}
    first = write(gate, key, body=packed, headers=headers)

    assert upstream.requests[0].body == packed
    check_replay(first, write(gate, key, body=packed, headers=headers))
    check_error(write(gate, key, body=gzip.compress(b"text", mtime=2),
                      headers=headers), 409, "idempotency_conflict")


@pytest.mark.parametrize("name", ["Content-Encoding", "Content-Type"])
def test_each_of_two_headers_counts(gate, upstream, name):
    """nginx passes both on: the second can make another request of it."""
    key = gate.key()

    def send(*values):
        return gate.post(LOADS, key=key, idem="k", body=b"x",
                         headers=[(name, value) for value in values])

    first = send("a/a", "b/b")
    assert upstream.requests[0].all(name) == ["a/a", "b/b"]
    check_replay(first, send("a/a", "b/b"))
    for values in (("a/a", "c/c"), ("a/a",), ("b/b", "a/a")):
        check_error(send(*values), 409, "idempotency_conflict")


@pytest.mark.parametrize("size", [100, 100000], ids=["memory", "file"])
def test_body_read_by_another_first(make_gate, upstream, make_upstream, size):
    mirror = make_upstream()
    gate = make_gate(location="mirror /mirror;", **GATE, locations=f"""
        location = /mirror {{
            internal; keygate off;
            proxy_pass http://127.0.0.1:{mirror.port};
        }}""")
    key = gate.key()
    body = BODY[:size]
    first = write(gate, key, body=body)

    check_replay(first, write(gate, key, body=body))
    check_error(write(gate, key, body=body[:-1] + b"?"), 409,
                "idempotency_conflict")
    assert [seen.body for seen in upstream.requests] == [body]


@pytest.mark.parametrize("buffering", ["on", "off"])
@pytest.mark.parametrize("chunked", [False, True])
def test_upstream_is_not_called_before_the_body_is_whole(
        make_gate, upstream, buffering, chunked):
    """proxy_request_buffering off cannot hold for a write that is claimed
    first: what is claimed is the whole request."""
    gate = make_gate(location=f"proxy_request_buffering {buffering};")
    key = gate.key()
    before = upstream.connections
    coding = ("Transfer-Encoding: chunked\r\n\r\n8\r\n" if chunked
              else "Content-Length: 8\r\n\r\n")

    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    f"Idempotency-Key: k\r\n{coding}half")
        time.sleep(0.15)
        assert upstream.connections == before
        assert claims(gate, key) == []
        client.send("half\r\n0\r\n\r\n" if chunked else "half")
        assert client.read().status == 200

    assert [seen.body for seen in upstream.requests] == [b"halfhalf"]


def expect(gate, key, idem):
    """A write that asks before it sends its body."""
    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    f"Idempotency-Key: {idem}\r\nExpect: 100-continue\r\n"
                    "Content-Length: 4\r\nConnection: close\r\n\r\n")
        answer = client._read_head()
        if answer.status != 100:
            client._read_body(answer, "POST")
            return [], answer
        client.send("body")
        return [answer.status], client.read("POST")


def test_body_is_asked_for_only_when_it_is_wanted(gate, upstream):
    """A refusal that needs no body comes before it; so does a limit."""
    key = gate.key(limits={"default": "2r/m"})

    interim, answer = expect(gate, key, '"half')
    assert interim == []
    check_error(answer, 400, "invalid_idempotency_key")

    interim, first = expect(gate, key, "k")
    assert (interim, first.status) == ([100], 200)

    interim, answer = expect(gate, key, "k")
    assert (interim, answer.code) == ([], "rate_limited")
    assert [seen.body for seen in upstream.requests] == [b"body"]


def test_replay_to_who_asks_first(gate, upstream):
    """The body is needed to know that the request is the same."""
    key = gate.key()
    _, first = expect(gate, key, "k")
    interim, again = expect(gate, key, "k")

    assert interim == [100]
    check_replay(first, again)
    assert len(upstream.requests) == 1


def test_pipelined_behind_a_body(gate, upstream):
    """What follows a body in the same packet is not a part of it."""
    key = gate.key()
    one = (f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
           f"Authorization: Bearer {key.token}\r\nIdempotency-Key: k\r\n"
           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n"
           "0\r\n\r\n")
    two = one.replace("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\n"
                      "de\r\n0\r\n\r\n", "Content-Length: 5\r\n\r\nabcde")

    with gate.connect() as client:
        client.send(one + two + one)
        first, *others = (client.read("POST") for _ in range(3))

    for again in others:
        check_replay(first, again)
    assert [seen.body for seen in upstream.requests] == [b"abcde"]


def raw_post(gate, key, end):
    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    f"Idempotency-Key: k\r\n{end}".encode())
        return client.read().status


def h2_post(gate, key, content):
    with gate.h2() as client:
        return client.post(LOADS, headers=fields(key),
                           content=content).status_code


LOST = {
    "length": lambda gate, key:
        raw_post(gate, key, "Content-Length: 9\r\n\r\n123456789"),
    "later": lambda gate, key:
        raw_post(gate, key, "Content-Length: 9\r\n\r\n1234"),
    "chunks": lambda gate, key:
        raw_post(gate, key, "Transfer-Encoding: chunked\r\n\r\n"
                            "5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n"),
    "no chunk": lambda gate, key:
        raw_post(gate, key, "Transfer-Encoding: chunked\r\n\r\n"
                            "2\r\n12\r\nzz\r\n"),
    "HTTP/2": lambda gate, key: h2_post(gate, key, b"123456789"),
    "HTTP/2 frames": lambda gate, key: h2_post(gate, key,
                                               iter([b"12345", b"6789"])),
}


@pytest.mark.parametrize("limit, recursive", [("default", "off"),
                                              ("off", "on")])
@pytest.mark.parametrize("way", ["", "="], ids=["keeps", "changes"])
@pytest.mark.parametrize("sent", LOST.values(), ids=LOST)
def test_no_write_without_its_body(make_gate, upstream, sent, way, limit,
                                   recursive):
    """"error_page 413 = @app" hands on a body that nginx has thrown away: the
    upstream would have an empty one, and every body would be the same."""
    gate = make_gate(
        workers="1", location=f"""client_max_body_size 4;
            error_page 400 413 {way} @app;""",
        gate=f"""keygate partner; keygate_limit {limit};
            keygate_errors envelope;""",
        server=f"""recursive_error_pages {recursive};
            location @app {{
                include %%ROOT%%/conf/keygate_proxy_params;
                client_max_body_size 9;
                proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }}""")
    key = gate.key()

    assert sent(gate, key) == 413
    assert upstream.requests == []
    assert gate.redis.client.keys(f"kg:idem:*{key.org}*") == []
    assert write(gate, key, body=b"1234").status == 200
