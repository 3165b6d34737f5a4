"""Errors of nginx itself: one envelope on every one that has a response, and
the connection goes on where nginx lets it."""

import re
import socket

import pytest

import harness
from checks import check_error, check_request_id
from harness.client import encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"

GATE = dict(
    server="""client_max_body_size 1k; large_client_header_buffers 2 4k;
        client_header_buffer_size 1k; client_header_timeout 2s;
        root %%FOLDER%%/html;""",
    http="limit_req_zone $server_name zone=never:1m rate=1r/m;",
    locations="""
        location = /missing { keygate off; }
        location = /return { keygate off; return 503; }
        location = /text { keygate off; return 418 "I am"; }
        location = /teapot { keygate off; return 422 "text"; }
        location = /moved { keygate off; return 301 /elsewhere; }
        location = /deny { keygate off; deny all; }
        location = /limited { keygate off; limit_req zone=never;
                              limit_req_status 429; %%PROXY%% }
        location = /inside { keygate off; internal; }
        location = /auth { keygate off; auth_request /no; }
        location = /no { keygate off; internal; return 403; }
        location = /loop { keygate off; rewrite ^ /loop last; }
        location = /static { keygate off;
                             alias %%ROOT%%/conf/errors.json; }
        location = /nobody { keygate off; proxy_pass http://127.0.0.1:1; }
        location = /always { keygate off; add_header X-Always yes always;
                             add_header X-Never yes; return 404; }
        location = /page { keygate off; error_page 404 /page.html;
                           return 404; }
        location = /page.html { keygate off; internal; return 200 "<p>"; }
        location = /other-status { keygate off; error_page 404 =503 /named;
                                   return 404; }
        location = /named { keygate off; internal; return 200 "named"; }
        location = /off { keygate off; keygate_errors off; return 404; }
    """,
)


def ask(gate, target, method="GET", **how):
    return gate.request(method, target, **how)


STATUSES = [
    ("/missing", 404, "not_found", None),
    ("/return", 503, "service_unavailable", (1, 1)),
    ("/teapot", 422, "unprocessable_content", None),
    ("/deny", 403, "forbidden", None),
    ("/inside", 404, "not_found", None),
    ("/auth", 403, "forbidden", None),
    ("/loop", 500, "internal_error", None),
    ("/nobody", 502, "bad_gateway", (1, 1)),
]


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("target, status, code, retry", STATUSES)
def test_errors_of_locations(gate, target, status, code, retry, version):
    answer = ask(gate, target, version=version)

    check_error(answer, status, code, retry=retry)
    check_request_id(answer)
    assert b"nginx" not in answer.body and b"<" not in answer.body


@pytest.mark.parametrize("target, status, code, retry", STATUSES)
def test_errors_over_http2(gate, target, status, code, retry):
    with gate.h2() as client:
        answer = client.get(target)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["retryable"] is (retry is not None)
    assert ("retry-after" in answer.headers) is (retry is not None)
    assert answer.json()["requestId"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("target, status, code, retry", STATUSES)
def test_errors_of_head(gate, target, status, code, retry):
    get, head = ask(gate, target), ask(gate, target, "HEAD")

    check_error(head, status, code, retry=retry, head=True)
    assert head.get("Content-Length") in (None, get.get("Content-Length"))


@pytest.mark.parametrize("value", ["600", '999 "text"'])
def test_return_of_a_status_that_there_is_not(make_gate, value):
    """No client of ours would take it for an answer."""
    gate = make_gate(locations=f"location /x {{ keygate off; return {value}; }}")

    for version in ("HTTP/1.0", "HTTP/1.1"):
        check_error(gate.get("/x", version=version), 500, "internal_error")
    check_error(gate.head("/x"), 500, None, head=True)
    wait_for(lambda: sum('" 500 ' in line for line in gate.access_log()) == 3,
             5, "its status in the log")


def test_redirect_is_no_error(gate):
    answer = ask(gate, "/moved")

    assert answer.status == 301
    assert answer.get("Location").endswith("/elsewhere")
    assert answer.get("Content-Type") == "text/html"
    check_request_id(answer)


def test_status_that_is_not_registered(gate):
    check_error(ask(gate, "/text"), 418, "bad_request")


def test_limit_req_of_nginx(gate):
    assert ask(gate, "/limited").status == 200
    check_error(ask(gate, "/limited"), 429, "rate_limited", retry=(1, 1))


def test_off_leaves_errors_as_they_are(gate):
    answer = ask(gate, "/off")

    assert answer.status == 404
    assert answer.get("Content-Type") == "text/html"
    assert b"<h1>404 Not Found</h1>" in answer.body
    assert answer.get("Cache-Control") is None


def test_added_headers_stay(gate):
    answer = ask(gate, "/always")

    check_error(answer, 404, "not_found")
    assert answer.all("X-Always") == ["yes"]
    assert answer.get("X-Never") is None


def test_error_page(gate):
    """What the page says is replaced, the status stays."""
    check_error(ask(gate, "/page"), 404, "not_found")


def test_error_page_with_another_status(gate):
    check_error(ask(gate, "/other-status"), 503, "service_unavailable",
                retry=(1, 1))


def test_wrong_method_of_a_static_file(gate):
    assert ask(gate, "/static").status == 200
    check_error(gate.post("/static", body=b"x"), 405, "method_not_allowed")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_range_of_a_file_that_cannot_be(gate, method):
    """The range filter stands behind ours and finds the error late."""
    answer = ask(gate, "/static", method, headers={"Range": "bytes=999999-"})

    check_error(answer, 416, "range_not_satisfiable", head=method == "HEAD")
    assert re.fullmatch(r"bytes \*/\d+", answer.get("Content-Range"))


@pytest.mark.parametrize("fields", [
    {"If-Match": '"other"'},
    {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}])
def test_condition_that_a_file_does_not_hold(gate, fields):
    check_error(ask(gate, "/static", headers=fields), 412,
                "precondition_failed")


# Requests that are none.

def raw(gate, data):
    """Sends bytes and returns the answers that come until the close."""
    with gate.connect(timeout=5) as client:
        try:
            client.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = client.read()
        answer.rest = client.read_all()
        return answer


HOST = "Host: localhost\r\n"

MALFORMED = {
    "nonsense": ("nonsense\r\n\r\n", 400, "bad_request"),
    "control bytes": ("\x01\x02\x03\r\n\r\n", 400, "bad_request"),
    "TLS hello": ("\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400,
                  "bad_request"),
    "lower case method": (f"get / HTTP/1.1\r\n{HOST}\r\n", 400,
                          "bad_request"),
    "space in the target": (f"GET /a b HTTP/1.1\r\n{HOST}\r\n", 400,
                            "bad_request"),
    "not a version": (f"GET / HTTP/x\r\n{HOST}\r\n", 400, "bad_request"),
    "version to come": (f"GET / HTTP/3.0\r\n{HOST}\r\n", 505,
                        "http_version_not_supported"),
    "NUL in a header": (f"GET / HTTP/1.1\r\n{HOST}A: b\0c\r\n\r\n", 400,
                        "bad_request"),
    "no host": ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "two hosts": (f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n", 400, "bad_request"),
    "bad host": ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "bad_request"),
    "bad length": (f"POST / HTTP/1.1\r\n{HOST}Content-Length: x\r\n\r\n", 400,
                   "bad_request"),
    "two lengths": (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\n"
                    "Content-Length: 2\r\n\r\nab", 400, "bad_request"),
    "length and chunks": (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\n"
                          "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
                          "bad_request"),
    "unknown coding": (f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: x\r\n"
                       "\r\n", 501, "not_implemented"),
    "TRACE": (f"TRACE / HTTP/1.1\r\n{HOST}\r\n", 405, "method_not_allowed"),
    "CONNECT": (f"CONNECT a:1 HTTP/1.1\r\n{HOST}\r\n", (400, 405), None),
    "path above the root": (f"GET /../.. HTTP/1.1\r\n{HOST}\r\n", 400,
                            "bad_request"),
    "large URI": (f"GET /{'a' * 5000} HTTP/1.1\r\n{HOST}\r\n", 414,
                  "uri_too_long"),
    "very large URI": (f"GET /{'a' * 50000} HTTP/1.1\r\n{HOST}\r\n", 414,
                       "uri_too_long"),
    "large header": (f"GET / HTTP/1.1\r\n{HOST}A: {'a' * 5000}\r\n\r\n", 431,
                     "request_header_fields_too_large"),
    "very large header": (f"GET / HTTP/1.1\r\n{HOST}A: {'a' * 50000}\r\n\r\n",
                          431, "request_header_fields_too_large"),
    "many headers": (f"GET / HTTP/1.1\r\n{HOST}"
                     + "".join(f"A{i}: {'b' * 1000}\r\n" for i in range(20))
                     + "\r\n", 431, "request_header_fields_too_large"),
}


@pytest.mark.parametrize("data, status, code", MALFORMED.values(),
                         ids=MALFORMED)
def test_malformed_request(gate, data, status, code):
    answer = raw(gate, data.encode("latin-1"))

    wanted = status if isinstance(status, int) else answer.status
    assert answer.status in (status if isinstance(status, tuple)
                             else (status,))
    check_error(answer, wanted, code or answer.code)
    check_request_id(answer)
    assert answer.rest == b""


def test_http_0_9_gets_a_bare_body(gate):
    """It knows no status and no header: what it gets is the body."""
    with gate.connect() as client:
        client.send("GET /missing\r\n")
        body = client.read_all()

    assert b'"not_found"' in body
    assert body.startswith(b"{")


@pytest.mark.parametrize("headers, body", [
    ({}, b"x" * 1025),
    ({"Content-Length": "99999999"}, b"x"),
    ({"Transfer-Encoding": "chunked"}, b"800\r\n" + b"x" * 2048
     + b"\r\n0\r\n\r\n"),
], ids=["length", "promised", "chunked"])
def test_body_too_large(gate, upstream, headers, body):
    answer = gate.post(LOADS, key=gate.key(), idem="k", headers=headers,
                       body=body)

    check_error(answer, 413, "content_too_large")
    assert upstream.requests == []


def test_body_too_large_while_streaming(make_gate, upstream):
    gate = make_gate(**dict(GATE, location="proxy_request_buffering off;"),
                     routes="keygate_routes partner { POST /a loads:write; }")
    answer = gate.post("/a", key=gate.key(),
                       headers={"Transfer-Encoding": "chunked"},
                       body=b"800\r\n" + b"x" * 2048 + b"\r\n0\r\n\r\n")

    check_error(answer, 413, "content_too_large")


def test_before_the_server_is_known(make_gate):
    """What nginx refuses before it has read Host has the default server's
    configuration; keygate_errors of http {} is also there."""
    gate = make_gate(http="keygate_errors envelope;", servers="""
        server { listen 127.0.0.1:%%PORT%%; server_name other; }""",
        gate="keygate partner;")

    check_error(raw(gate, b"nonsense\r\n\r\n"), 400, "bad_request")
    check_error(ask(gate, "/", headers={"Host": "other"}), 404, "not_found")


# Connections after an error.

def test_keep_alive_after_errors(gate, upstream):
    key = gate.key()
    bearer = {"Authorization": f"Bearer {key.token}"}

    with gate.connect() as client:
        for target, status in [("/missing", 404), ("/deny", 403),
                               ("/teapot", 422), (LOADS, 200),
                               ("/nowhere", 404), ("/auth", 403),
                               ("/nobody", 502), (LOADS, 200)]:
            answer = client.request("GET", target, bearer)
            assert answer.status == status, target
            assert answer.get("Connection") == "keep-alive"
        for target, status in [("/missing", 404), (LOADS, 200)]:
            assert client.request("HEAD", target, bearer).status == status
        assert client.request("GET", LOADS, bearer).status == 200


def test_pipelined_errors(gate):
    key = gate.key()
    bearer = {"Authorization": f"Bearer {key.token}"}
    targets = ["/missing", LOADS, "/deny", "/nobody", LOADS, "/nowhere",
               "/return"]

    with gate.connect() as client:
        client.send(b"".join(encode_request("GET", target, bearer)
                             for target in targets))
        answers = [client.read() for _ in targets]

    assert [a.status for a in answers] == [404, 200, 403, 502, 200, 404, 503]
    assert len({check_request_id(a) for a in answers}) == len(targets)
    check_error(answers[6], 503, "service_unavailable", retry=(1, 1))


def test_refusal_with_a_body_that_nobody_read(gate):
    """Keygate refuses before the body: the next request is still found."""
    with gate.connect() as client:
        answer = client.request("POST", LOADS, body=b"x" * 900)
        check_error(answer, 401, "unauthorized")
        check_error(client.request("GET", "/missing"), 404, "not_found")


# The id.

def test_request_ids_are_unique_and_in_order(gate):
    with gate.connect() as client:
        ids = [check_request_id(client.request("GET", "/missing"))
               for _ in range(200)]

    assert len(set(ids)) == 200
    assert [i[:14] for i in ids] == sorted(i[:14] for i in ids)


def test_request_id_is_in_the_access_log_and_at_the_upstream(gate, upstream):
    answers = [gate.get(LOADS, key=gate.key()), ask(gate, "/missing"),
               gate.get(LOADS)]

    for answer in answers:
        own = f"id={check_request_id(answer)} "
        found = wait_for(lambda own=own: [line for line in gate.access_log()
                                          if own in line])
        assert len(found) == 1 and f'" {answer.status} ' in found[0]
    assert upstream.requests[0].all("X-Request-Id") == \
        [check_request_id(answers[0])]


def test_callers_request_id_is_not_taken(gate, upstream):
    answer = gate.get(LOADS, key=gate.key(),
                      headers={"X-Request-Id": "req_mine"})

    assert check_request_id(answer) != "req_mine"
    assert upstream.requests[0].all("X-Request-Id") == \
        [check_request_id(answer)]


def test_timeout_of_the_header_has_no_response(gate):
    """408 is ended by nginx without a body."""
    with harness.Client(("127.0.0.1", gate.port), timeout=4) as client:
        client.send("GET / HTTP/1.1\r\nHo")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_all() == b""
