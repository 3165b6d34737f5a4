"""Errors through every door: TLS, HTTP/2, nginx's access modules, its filters,
the modules Debian packages, and what ends without an answer."""

import gzip
import json
import socket
import ssl
import subprocess

import pytest

from checks import check_error, check_request_id
from harness import Client
from harness.client import encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"
HOST = "Host: localhost\r\n"

# What every resource of a server may be asked with, as far as nginx knows.
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

PROXY = """include %%ROOT%%/conf/keygate_proxy_params;
           proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;"""

GATE = dict(
    files={"users": "ann:{PLAIN}secret\n", "page.html": "<p>page</p>",
           "part.html": '<!--#include virtual="/part" -->|'},
    http="""limit_conn_zone $server_name zone=conn:1m;
        limit_req_zone $uri zone=req:1m rate=1r/m;
        log_format ended '$request_uri|$status|$keygate_verdict|'
                         '$keygate_error';""",
    server="""access_log %%FOLDER%%/ended.log ended;
        client_max_body_size 1k; root %%FOLDER%%;
        client_header_timeout 1s; client_body_timeout 1s;
        large_client_header_buffers 2 4k;""",
    locations=f"""
        location = /conn {{ keygate off; limit_conn conn 1; {PROXY} }}
        location = /conn429 {{ keygate off; limit_conn conn 1;
                               limit_conn_status 429; {PROXY} }}
        location = /req {{ keygate off; limit_req zone=req; {PROXY} }}
        location = /auth {{ keygate off; auth_request /who; {PROXY} }}
        location = /who {{ keygate off; internal; {PROXY} }}
        location = /basic {{ keygate off; auth_basic "Staff";
                             auth_basic_user_file %%FOLDER%%/users; }}
        location = /page.html {{ keygate off; }}
        location = /closed {{ keygate off; return 444; }}
        location = /slow {{ keygate off; proxy_ignore_client_abort off;
                            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }}
        location = /body {{ keygate off; {PROXY} }}
        location = /part.html {{ keygate off; ssi on; }}
        location = /part {{ keygate off; internal; {PROXY} }}
        location = /zipped {{ keygate off; gzip on; gzip_min_length 1;
                              gzip_types application/json; return 404; }}
        location = /fastcgi {{ keygate off; fastcgi_pass 127.0.0.1:1; }}
        location = /memcached {{ keygate off; set $memcached_key x;
                                 memcached_pass 127.0.0.1:1; }}
        location = /tls {{ keygate off;
                           proxy_pass https://127.0.0.1:%%UPSTREAM_PORT%%; }}
        location = /resolved {{ keygate off; set $host_name nowhere.invalid;
                                proxy_pass http://$host_name/; }}
        location = /tried {{ keygate off; try_files /none /nil =503; }}
        location = /page-fails {{ keygate off; error_page 404 /dead;
                                  return 404; }}
        location = /page-fails-again {{ keygate off; return 404;
            recursive_error_pages on; error_page 404 = @dead; }}
        location = /dead {{ keygate off; internal;
                            proxy_pass http://127.0.0.1:1; }}
        location @dead {{ keygate off; proxy_pass http://127.0.0.1:1; }}
        location = /accel {{ keygate off; {PROXY} }}
        location = /nothing-here {{ keygate off; internal; }}
        location = /return405 {{ keygate off; add_header Allow "PUT" always;
                                 return 405; }}
        location = /status {{ keygate off; stub_status; }}
        location = /gif {{ keygate off; empty_gif; }}
        location = /put-aside {{ keygate off; proxy_intercept_errors on;
                                 error_page 405 /page.html; {PROXY} }}
        location /v1/carriers {{
            add_header Access-Control-Allow-Origin "*" always;
            add_header Access-Control-Allow-Headers "Authorization" always;
            {PROXY}
        }}
    """,
)


# TLS

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate and its key, in one text."""
    path = tmp_path_factory.mktemp("tls") / "pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
         "-days", "2", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True)
    return path.read_text() + (path.parent / "pem.crt").read_text()


@pytest.fixture
def tls_gate(make_gate, certificate):
    def make(more=""):
        return make_gate(files={"tls.pem": certificate}, servers=f"""
            server {{
                listen unix:%%FOLDER%%/tls.sock ssl;
                ssl_certificate %%FOLDER%%/tls.pem;
                ssl_certificate_key %%FOLDER%%/tls.pem;
                keygate_errors envelope; {more}
            }}""")
    return make


def over_tls(gate, data):
    """Sends bytes through TLS, returns the answer."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = Client(gate.path("tls.sock"))
    client.sock = context.wrap_socket(client.sock)
    client.send(data)
    answer = client.read()
    client.sock.close()
    return answer


def test_plain_http_to_a_tls_port(tls_gate):
    gate = tls_gate()
    client = Client(gate.path("tls.sock"))
    client.send(f"GET / HTTP/1.1\r\n{HOST}\r\n")
    answer = client.read()

    check_error(answer, 400, "bad_request")
    check_request_id(answer)
    assert client.read_all() == b""


def test_plain_http_to_a_tls_port_may_be_redirected(tls_gate):
    """error_page 497 is nginx's documented way, and no error."""
    gate = tls_gate("error_page 497 =301 https://api.trailflow.ai$request_uri;")
    client = Client(gate.path("tls.sock"))
    answer = client.request("GET", "/x")

    assert answer.status == 301
    assert answer.get("Location") == "https://api.trailflow.ai/x"


def test_errors_over_tls(tls_gate):
    gate = tls_gate("ssl_verify_client optional; ssl_client_certificate "
                    "%%FOLDER%%/tls.pem; location = /gone { return 410; }")

    check_error(over_tls(gate, encode_request("GET", "/gone")), 410, "gone")
    check_error(over_tls(gate, b"nonsense\r\n\r\n"), 400, "bad_request")


def test_no_client_certificate(tls_gate):
    """nginx's 496, which it answers as 400."""
    gate = tls_gate("ssl_verify_client on; ssl_client_certificate "
                    "%%FOLDER%%/tls.pem;")

    check_error(over_tls(gate, encode_request("GET", "/")), 400,
                "bad_request")


# nginx's access modules

@pytest.mark.parametrize("target, status, code", [
    ("/conn", 503, "service_unavailable"), ("/conn429", 429, "rate_limited")])
def test_limit_conn(gate, upstream, target, status, code):
    upstream.answer(hang=True, times=1)
    client = gate.connect()
    client.send(encode_request("GET", target, {"Connection": "close"}))
    upstream.wait(1)

    check_error(gate.get(target), status, code, retry=(1, 1))
    upstream.release()
    assert client.read().status == 200
    assert client.read_all() == b""     # its request is over, and counted off


def test_limit_req(gate):
    assert gate.get("/req").status == 200
    check_error(gate.get("/req"), 503, "service_unavailable", retry=(1, 1))
    check_error(gate.post("/req", body=b"x"), 503, "service_unavailable",
                retry=(1, 1))


def test_auth_request_keeps_the_challenge(gate, upstream):
    upstream.answer(401, {"WWW-Authenticate": 'Basic realm="who"',
                          "ETag": '"x"'}, "<p>who", path="/who")
    answer = gate.get("/auth")

    check_error(answer, 401, "unauthorized")
    assert answer.all("WWW-Authenticate") == ['Basic realm="who"']


@pytest.mark.parametrize("said, status, code", [
    (403, 403, "forbidden"), (500, 500, "internal_error"),
    (404, 500, "internal_error")])
def test_auth_request_that_refuses(gate, upstream, said, status, code):
    upstream.answer(said, {"WWW-Authenticate": "Basic"}, "<p>", path="/who")
    answer = gate.get("/auth")

    check_error(answer, status, code)
    assert answer.get("WWW-Authenticate") is None


def test_auth_basic(gate):
    answer = gate.get("/basic")

    check_error(answer, 401, "unauthorized")
    assert answer.all("WWW-Authenticate") == ['Basic realm="Staff"']


# Allow

@pytest.mark.parametrize("target", ["/page.html", "/status", "/gif",
                                    "/memcached"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
def test_allow_of_what_nginx_serves(gate, method, target):
    answer = gate.request(method, target, body=b"x")

    check_error(answer, 405, "method_not_allowed")
    assert answer.all("Allow") == ["GET, HEAD"]


@pytest.mark.parametrize("target", ["/page.html", LOADS, "/nowhere"])
def test_allow_of_a_method_that_nginx_never_takes(gate, target):
    """Before any route is known, so it is the same everywhere."""
    answer = gate.request("TRACE", target, key=gate.key())

    check_error(answer, 405, "method_not_allowed")
    assert answer.all("Allow") == [METHODS]


def test_allow_of_others_is_theirs(gate, upstream):
    assert gate.get("/return405").all("Allow") == ["PUT"]
    upstream.answer(405, {"Allow": "BREW"}, "<p>")
    answer = gate.get(LOADS, key=gate.key())
    check_error(answer, 405, "method_not_allowed")
    assert answer.all("Allow") == ["BREW"]


def test_allow_of_an_answer_that_is_put_aside(gate, upstream):
    """proxy_intercept_errors keeps no header of it but the challenge."""
    upstream.answer(405, {"Allow": "BREW"}, "<p>")
    answer = gate.get("/put-aside")
    check_error(answer, 405, "method_not_allowed")
    assert answer.all("Allow") == ["BREW"]


# Modules that proxy, and ways to another answer

@pytest.mark.parametrize("target, status, code", [
    ("/fastcgi", 502, "bad_gateway"), ("/memcached", 502, "bad_gateway"),
    ("/tls", 502, "bad_gateway"), ("/resolved", 502, "bad_gateway"),
    ("/tried", 503, "service_unavailable"),
    ("/page-fails", 502, "bad_gateway"),
    ("/page-fails-again", 502, "bad_gateway")])
def test_other_origins(gate, target, status, code):
    for method in ("GET", "HEAD"):
        check_error(gate.request(method, target), status, code,
                    retry=(1, 1), head=method == "HEAD")


def test_accelerated_redirect_to_nothing(gate, upstream):
    upstream.answer(200, {"X-Accel-Redirect": "/nothing-here",
                          "ETag": '"x"'}, "<p>")
    check_error(gate.get("/accel"), 404, "not_found")


def test_refusal_before_a_body_is_asked_for(gate):
    """No 100 Continue, and the answer at once."""
    with gate.connect(timeout=5) as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\n{HOST}Content-Length: 900\r\n"
                    "Expect: 100-continue\r\n\r\n")
        answer = client.read()

    check_error(answer, 401, "unauthorized")
    assert answer.interim == []


def test_pipelined_behind_refused_bodies(gate):
    chunked = b"5\r\nhello\r\n0\r\n\r\n"
    with gate.connect() as client:
        client.send(encode_request("POST", LOADS, body=b"x" * 900)
                    + encode_request("POST", LOADS, body=chunked, headers={
                        "Transfer-Encoding": "chunked"})
                    + encode_request("PUT", "/page.html", body=b"x")
                    + encode_request("GET", "/page.html"))
        for status, code in ((401, "unauthorized"), (401, "unauthorized"),
                             (405, "method_not_allowed")):
            check_error(client.read(), status, code)
        assert client.read().body == b"<p>page</p>"


def test_http_1_0_keeps_alive_when_asked_to(gate):
    how = dict(version="HTTP/1.0", headers={"Connection": "keep-alive"})
    with gate.connect() as client:
        for _ in range(2):
            answer = client.request("GET", "/zipped", **how)
            check_error(answer, 404, "not_found")
            assert answer.get("Connection") == "keep-alive"


# HTTP/2

def check_h2(answer, status, code, retry=False):
    assert answer.http_version == "HTTP/2"
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert ("retry-after" in answer.headers) is retry
    body = answer.json()
    assert body["error"]["code"] == code
    assert body["error"]["retryable"] is retry
    assert body["requestId"] == answer.headers["x-request-id"]


def test_nginx_own_errors_over_http2(gate, upstream):
    key = {"Authorization": f"Bearer {gate.key().token}"}
    upstream.refuse()

    with gate.h2() as client:
        check_h2(client.request("TRACE", "/"), 405, "method_not_allowed")
        check_h2(client.post("/body", content=b"x" * 1025), 413,
                 "content_too_large")
        check_h2(client.post("/body", content=iter([b"x" * 1025])), 413,
                 "content_too_large")
        check_h2(client.get("/a", headers={"Host": "a/b"}), 400,
                 "bad_request")
        check_h2(client.get("/page.html", headers={"Range": "bytes=99-"}),
                 416, "range_not_satisfiable")
        check_h2(client.post("/page.html"), 405, "method_not_allowed")
        check_h2(client.get(LOADS, headers=key), 502, "bad_gateway", True)
        check_h2(client.get(LOADS), 401, "unauthorized")
        assert client.get("/page.html").status_code == 200
        head = client.head("/zipped")
        assert (head.status_code, head.content) == (404, b"")


BROKEN = [dict(status=500, body="0123456789", cut=3),
          dict(status=500, body="0123", cut="headers"),
          dict(status=500, body="short", length=50), dict(cut="before"),
          dict(cut="reset"), dict(raw=b"no head"),
          dict(raw=b"HTTP/1.1 500 X\r\n\r\n" + b"<p>" * 400000),
          dict(status=500, body="<p>" * 400000, chunked=True),
          dict(status=422, body=b"\x1f\x8b", headers={
              "Content-Encoding": "gzip"})]


def test_upstreams_errors_over_http2(gate, upstream):
    """On one connection, which goes on."""
    key = {"Authorization": f"Bearer {gate.key().token}"}
    with gate.h2() as client:
        for how in BROKEN:
            upstream.reset()
            upstream.answer(**how)
            answer = client.get(LOADS, headers=key)
            code = {422: "unprocessable_content", 500: "internal_error",
                    502: "bad_gateway"}[answer.status_code]
            check_h2(answer, answer.status_code, code,
                     answer.status_code == 502)
            assert len(answer.content) < 300
        upstream.reset()
        assert client.get(LOADS, headers=key).status_code == 200


@pytest.mark.parametrize("fields", [{"A": "a" * 9000},
                                    {f"a{i}": "b" * 900 for i in range(20)}])
def test_oversized_header_over_http2_has_no_answer(gate, fields):
    """nginx ends the connection, as the RFC lets it."""
    import httpx

    with gate.h2() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/page.html", headers=fields)


# Filters

def test_gzip_of_an_error(gate):
    answer = gate.get("/zipped", headers={"Accept-Encoding": "gzip"})

    assert answer.status == 404
    assert answer.all("Content-Encoding") == ["gzip"]
    body = json.loads(gzip.decompress(answer.body))
    assert body["error"]["code"] == "not_found"
    assert body["requestId"] == check_request_id(answer)


def test_part_that_fails_leaves_its_page(gate, upstream):
    """A subrequest's error is not the answer's: nginx puts what it got into
    the page, whose status it is not."""
    upstream.answer(500, {"Content-Type": "text/html"}, "<p>trace", path="/p")
    answer = gate.get("/part.html")

    assert (answer.status, answer.complete) == (200, True)
    assert answer.body.endswith(b"|\n") or answer.body.endswith(b"|")
    assert len(answer.all("X-Request-Id")) == 1


def test_preflight_and_errors_have_the_operators_cors(gate):
    answer = gate.options("/v1/carriers", headers={
        "Origin": "https://a", "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization"})
    assert answer.status == 204

    for each in (answer, gate.get("/v1/carriers"),
                 gate.get("/v1/carriers/none", key=gate.key())):
        assert each.all("Access-Control-Allow-Origin") == ["*"]
        assert each.all("Access-Control-Allow-Headers") == ["Authorization"]
    assert gate.get("/v1/carriers").status == 401


# The modules Debian packages

MODULES = "/usr/lib/nginx/modules"
NAMES = ["ndk_http", "ngx_http_echo", "ngx_http_headers_more_filter",
         "ngx_http_image_filter", "ngx_http_lua", "ngx_http_subs_filter",
         "ngx_http_xslt_filter", "ngx_http_fancyindex",
         "ngx_http_uploadprogress"]

AMONG_OTHERS = dict(
    main="".join(f"load_module {MODULES}/{name}_module.so;\n"
                 for name in NAMES),
    http="lua_package_path '/usr/share/lua/5.1/?.lua;;';",
    server="""more_set_headers "X-More: yes";
        more_clear_headers "X-Clear";
        header_filter_by_lua_block { ngx.header["X-Lua"] = "yes" }
        sub_filter_types *; sub_filter not_there instead;""",
    locations=f"""
        location = /image {{ keygate off; image_filter test; {PROXY} }}
        location = /resized {{ keygate off; image_filter resize 9 9;
                               {PROXY} }}
        location = /xslt {{ keygate off; xslt_types *; {PROXY}
                            xslt_stylesheet %%FOLDER%%/x.xslt; }}
        location = /subs {{ keygate off; subs_filter_types *;
                            subs_filter trace nothing; {PROXY} }}
        location = /lua {{ keygate off; content_by_lua_block
                           {{ ngx.status = 409; ngx.say("taken") }} }}
        location = /exit {{ keygate off; access_by_lua_block
                            {{ ngx.exit(418) }} }}
        location = /broken {{ keygate off; access_by_lua_block
                              {{ ngx.exit(500) }} }}
        location = /echo {{ keygate off; echo_status 503; echo sorry; }}
        location = /missing {{ keygate off; root %%FOLDER%%; }}
    """,
    files={"x.xslt": '<?xml version="1.0"?><xsl:stylesheet version="1.0" '
                     'xmlns:xsl="http://www.w3.org/1999/XSL/Transform"/>'})


@pytest.mark.dynamic
def test_errors_among_other_modules(make_gate, upstream):
    gate = make_gate(**AMONG_OTHERS)
    key = gate.key()

    def check(target, status, code, method="GET", **how):
        answer = gate.request(method, target, key=key)
        check_error(answer, status, code, **how)
        assert answer.get("X-More") == answer.get("X-Lua") == "yes"

    check("/lua", 409, "conflict")
    check("/exit", 418, "bad_request")
    check("/broken", 500, "internal_error")
    check("/echo", 503, "service_unavailable", retry=(1, 1))
    check("/missing", 404, "not_found")
    check("/nowhere", 404, "not_found")
    check("/v1/loads", 405, "method_not_allowed", method="PUT")

    for target in ("/image", "/resized", "/xslt", "/subs", LOADS):
        for method in ("GET", "HEAD"):
            head = method == "HEAD"
            upstream.reset()
            upstream.answer(404, {"Content-Type": "text/html", "X-Clear": "1"},
                            "<p>trace")
            check(target, 404, "not_found", method, head=head)
            upstream.answer(502, {}, b"")
            check(target, 502, "bad_gateway", method, retry=(1, 1), head=head)
            upstream.refuse()
            check(target, 502, "bad_gateway", method, retry=(1, 1), head=head)


@pytest.mark.dynamic
def test_what_no_image_is(make_gate, upstream):
    """The image filter stands behind ours and finds the error in the body."""
    gate = make_gate(**AMONG_OTHERS)
    upstream.answer(200, {"Content-Type": "image/png"}, b"no image")

    check_error(gate.get("/image"), 415, "unsupported_media_type")


# What nginx ends without an answer

def ended(gate, target):
    """status, verdict and error of the access log's line about a target."""
    def read():
        return [line.split("|")[1:] for line in gate.access_log("ended.log")
                if line.startswith(target + "|")]

    return wait_for(read, 5, f"a log line of {target}")[-1]


def test_444_is_logged(gate):
    with gate.connect() as client:
        client.send(encode_request("GET", "/closed"))
        assert client.read_all() == b""

    assert ended(gate, "/closed") == ["444", "-", "no_response"]


def test_499_is_logged(gate, upstream):
    upstream.answer(hang=True)
    client = gate.connect()
    client.send(encode_request("GET", "/slow"))
    upstream.wait(1)
    client.sock.close()

    assert ended(gate, "/slow") == ["499", "-", "client_closed_request"]


def test_408_of_a_body_is_logged(gate):
    with gate.connect(timeout=5) as client:
        client.send(f"POST /body HTTP/1.1\r\n{HOST}Content-Length: 9\r\n\r\na")
        assert client.read_all() == b""

    assert ended(gate, "/body") == ["408", "-", "request_timeout"]


def test_408_of_a_header_is_logged(gate):
    with gate.connect(timeout=5) as client:
        client.send("GET /half HTTP/1.1\r\nHo")
        assert client.read_all() == b""

    assert ended(gate, "/half") == ["408", "-", "request_timeout"]


def test_code_of_every_error_is_logged(gate, upstream):
    """Whoever erred: the verdict is the gate's, the code is the answer's."""
    key = gate.key()
    upstream.answer(404, {}, {"error": {"code": "load_unknown",
                                        "message": "no"}}, path="/9")
    upstream.answer(500, {}, "<p>", path="/8")
    upstream.answer(499, {}, "<p>", path="/5")

    for target, who, wanted in [
            ("/v1/loads/9", key, ["404", "admitted", "load_unknown"]),
            ("/v1/loads/8", key, ["500", "admitted", "internal_error"]),
            ("/v1/loads/5", key, ["499", "admitted", "bad_request"]),
            ("/v1/loads/7", key, ["200", "admitted", "-"]),
            ("/v1/loads/6", None, ["401", "unauthorized", "unauthorized"]),
            ("/zipped", None, ["404", "-", "not_found"])]:
        gate.get(target, key=who)
        assert ended(gate, target) == wanted


def test_reset_in_the_midst_of_a_body(gate, upstream):
    """The client is gone; what is left is a line in the log."""
    client = gate.connect()
    client.send(f"POST /body HTTP/1.1\r\n{HOST}Content-Length: 9\r\n\r\na")
    client.sock.shutdown(socket.SHUT_WR)
    client.read_all()

    assert ended(gate, "/body")[0] in ("400", "499")
    assert upstream.requests == []
