"""error_page and the like: what came of a request is decided before them, and
a page decides, charges and claims nothing."""

import email.utils
import time

import pytest

from checks import check_error
from harness.ports import wait_for

LOADS = "/v1/loads"
PARAMS = "include %%ROOT%%/conf/keygate_proxy_params;"

# nginx's own example of an error page, and Debian's.
PAGE = """error_page 500 502 503 504 /50x.html;
    location = /50x.html { root %%FOLDER%%; }"""


FILES = {"50x.html": "<html>sorry</html>", "503.json": "{}"}


def unknown(answer):
    """A retry of what was perhaps executed."""
    assert (answer.status, answer.code) == (409, "idempotency_outcome_unknown")
    assert answer.error["retryable"] is False


def not_in_progress(answer):
    return answer.code != "idempotency_in_progress" and answer


def write(gate, key, idem="k-1", body=b'{"a":1}', **more):
    return gate.post(LOADS, key=key, idem=idem, body=body,
                     headers=[("Content-Type", "application/json")], **more)


@pytest.fixture
def loads_seen(upstream):
    return lambda: [seen for seen in upstream.requests
                    if seen.target == LOADS and seen.method == "POST"]


def test_a_broken_write_is_not_retryable_under_an_error_page(make_gate,
                                                             upstream):
    gate = make_gate(server=PAGE, files=FILES)
    upstream.answer(cut="before")
    key = gate.key()
    check_error(write(gate, key), 502, "bad_gateway")
    upstream.answer(201)
    unknown(write(gate, key))


def test_an_untouched_write_is_retryable_under_an_error_page(make_gate,
                                                             upstream):
    gate = make_gate(server=PAGE, files=FILES)
    key = gate.key()
    upstream.refuse()
    check_error(write(gate, key), 502, "bad_gateway", retry=(1, 1))
    upstream.accept()
    assert write(gate, key).status == 200


@pytest.mark.parametrize("page", ["=200 /page", "/page", "@page"])
def test_a_proxied_page_is_not_the_answer_of_a_write(make_gate, make_upstream,
                                                     upstream, page,
                                                     loads_seen):
    errors = make_upstream()
    errors.answer(200, body="sorry")
    gate = make_gate(server=f"""error_page 502 503 504 {page};
        location /page {{ keygate off; proxy_pass http://127.0.0.1:{errors.port}; }}
        location @page {{ keygate off; proxy_pass http://127.0.0.1:{errors.port}; }}
        """)
    key = gate.key()
    upstream.refuse()
    write(gate, key)
    upstream.accept()

    if page != "@page":
        # A page was shown and nothing executed: the write goes on, once
        # Redis, which nobody waits for here, has been told.
        again = wait_for(lambda: not_in_progress(write(gate, key)), 5,
                         "the key")
        assert again.status == 200
        assert len(loads_seen()) == 1
    else:
        # A named location keeps the write: there it was executed, once.
        assert write(gate, key).get("Idempotent-Replayed") == "true"
        assert len(errors.requests) == 1
        assert loads_seen() == []


@pytest.mark.parametrize("recursive", ["off", "on"])
@pytest.mark.parametrize("ignored", ["", "proxy_ignore_headers "
                                         "X-Accel-Redirect;"])
def test_a_redirect_that_nginx_did_not_follow_is_a_page(
        make_gate, upstream, make_upstream, ignored, recursive):
    backup = make_upstream()
    gate = make_gate(location="proxy_intercept_errors on;" + ignored,
                     server=f"""recursive_error_pages {recursive};
        error_page 500 = @backup;
        location @backup {{ {PARAMS} proxy_pass http://127.0.0.1:{backup.port}; }}
        """)
    upstream.answer(500, headers=[("X-Accel-Redirect", "/elsewhere")])
    check_error(write(gate, gate.key()), 502, "bad_gateway")
    assert backup.requests == []


@pytest.mark.parametrize("recursive", ["off", "on"])
@pytest.mark.parametrize("way", ["=", "=200", ""])
def test_a_write_is_not_tried_again_by_a_named_location(
        make_gate, upstream, make_upstream, way, recursive):
    backup = make_upstream()
    gate = make_gate(server=f"""recursive_error_pages {recursive};
        error_page 502 504 {way} @backup;
        location @backup {{ {PARAMS} proxy_pass http://127.0.0.1:{backup.port}; }}
        """)
    upstream.answer(cut="before")
    key = gate.key()
    check_error(write(gate, key), 502, "bad_gateway")
    assert backup.requests == []
    unknown(write(gate, key))


def test_a_page_of_nginx_own_refusal_decides_nothing(make_gate, upstream):
    gate = make_gate(location="deny all; error_page 403 /403.json;",
                     server="""location = /403.json { return 403; }""")
    key = gate.key()
    answer = gate.get(LOADS, key=key)
    check_error(answer, 403, "forbidden")
    assert write(gate, key).status == 403
    assert gate.redis.client.keys("kg:idem:*" + key.org + "*") == []


def test_maintenance_stays_503(make_gate, upstream):
    gate = make_gate(server="""location /m { return 503; }
        error_page 503 /503.json;
        location = /503.json { root %%FOLDER%%; }""", files=FILES)
    check_error(gate.get("/m"), 503, "service_unavailable", retry=(1, 1))


@pytest.mark.parametrize("recursive", ["off", "on"])
@pytest.mark.parametrize("way", ["=", "=200", "=404", ""])
def test_a_refused_request_does_not_reach_an_upstream(make_gate, upstream, way,
                                                      recursive):
    """error_page 404 = @app is common, and must not be a way around."""
    gate = make_gate(server=f"""recursive_error_pages {recursive};
        error_page 400 401 403 404 429 {way} @app;
        location @app {{ {PARAMS} proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }}
        """)
    key = gate.key(scopes=["loads:read"], limits={"default": "1r/m"})
    assert gate.get(LOADS, key=key).status == 200
    upstream.requests.clear()

    check_error(gate.get("/internal/admin", key=gate.key(scopes=[])), 404,
                "not_found")
    check_error(gate.put(LOADS, body=b"{}"), 401, "unauthorized")
    check_error(gate.post(LOADS, key=gate.key(), body=b"{}"), 400,
                "missing_idempotency_key")
    check_error(gate.get("/v1/customers", key=key), 403, "forbidden",
                {"requiredScope": "customers:read"})
    check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                {"policy": "default"}, (1, 60))
    assert upstream.requests == []


@pytest.mark.parametrize("recursive", ["off", "on"])
@pytest.mark.parametrize("way", ["=", ""])
@pytest.mark.parametrize("own", ["", "error_page 418 = @app; return 418;"])
@pytest.mark.parametrize("inner", [
    "if ($request_method) { set $a 1; }", "limit_except MKCOL { allow all; }",
    "if ($request_method) { proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }"])
def test_a_block_within_a_named_location_is_it_still(make_gate, upstream, own,
                                                     way, recursive, inner):
    """nginx gives an "if" a location of its own, which has no "@"."""
    gate = make_gate(location=own, proxy="" if own else
                     "proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;",
                     server=f"""recursive_error_pages {recursive};
        error_page 401 403 404 {way} @app;
        location @app {{ {PARAMS} {inner}
            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }}
        """)

    check_error(gate.get(LOADS), 401, "unauthorized")
    check_error(gate.put("/v1/customers", body=b"{}"), 401, "unauthorized")
    check_error(write(gate, gate.key(scopes=[])), 403, "forbidden",
                {"requiredScope": "loads:write"})
    check_error(gate.get("/internal/admin", key=gate.key()), 404, "not_found")
    assert upstream.requests == []


OWN = {
    "return": "error_page 418 {way} @app; return 418;",
    "limit_req": "limit_req zone=one; error_page 503 {way} @app;",
    "deny": "deny all; error_page 403 {way} @app;",
}


@pytest.mark.parametrize("recursive", ["off", "on"])
@pytest.mark.parametrize("way", ["=", ""])
@pytest.mark.parametrize("own", OWN)
def test_what_nginx_refused_is_decided_in_a_named_location(
        make_gate, upstream, loads_seen, own, way, recursive):
    """"return 418" is how a location is chosen; who is over limit_req must not
    be let in by it.  The write is charged and claimed there, and once."""
    gate = make_gate(
        http="limit_req_zone $server_name zone=one:32k rate=1r/m;", proxy="",
        location=OWN[own].format(way=way),
        server=f"""recursive_error_pages {recursive};
            location @app {{ {PARAMS}
                proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }}""")
    key = gate.key(limits={"default": "2r/m"})
    gate.put(LOADS, body=b"{}")       # the one that limit_req lets pass

    check_error(gate.post(LOADS, idem="one", body=b"{}"), 401, "unauthorized")
    check_error(write(gate, gate.key(scopes=["loads:read"]), body=b"{}"), 403,
                "forbidden", {"requiredScope": "loads:write"})
    assert loads_seen() == []

    first, again = (write(gate, key, body=b"{}") for _ in range(2))
    assert again.get("Idempotent-Replayed") == "true"
    assert again.body == first.body
    assert len(loads_seen()) == 1
    check_error(write(gate, key, body=b"{}"), 429, "rate_limited",
                {"policy": "default"}, (1, 60))


@pytest.mark.parametrize("recursive", ["off", "on"])
@pytest.mark.parametrize("length, body", [
    ("Content-Length: 6", b"longer"), ("Content-Length: 90000", b"longer"),
    ("Transfer-Encoding: chunked", b"3\r\nlon\r\n3\r\nger\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", b"3\r\nlon\r\nno number\r\n")], ids=str)
def test_a_write_whose_body_nginx_refused_is_not_executed(
        make_gate, loads_seen, length, body, recursive):
    """nginx would hand on what it has of the body, or none."""
    gate = make_gate(
        location="client_max_body_size 5;", server=f"""
            recursive_error_pages {recursive}; error_page 400 413 = @app;
            location @app {{ {PARAMS} client_max_body_size 1m;
                proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }}""")
    key = gate.key()

    with gate.connect() as client:
        client.send(f"POST {LOADS} HTTP/1.1\r\nHost: a\r\n{length}\r\n"
                    f"Authorization: Bearer {key.token}\r\n"
                    "Idempotency-Key: k\r\n\r\n".encode() + body)
        check_error(client.read(), 413, "content_too_large")

    assert loads_seen() == []
    assert write(gate, key, "k", b"short").get("Idempotent-Replayed") is None
    assert len(loads_seen()) == 1


def test_a_page_under_recursive_error_pages_claims_nothing(make_gate,
                                                           upstream):
    gate = make_gate(server="""recursive_error_pages on;
        error_page 429 = /50x.html;
        location = /50x.html { root %%FOLDER%%; }""", files=FILES)
    key = gate.key(limits={"default": "1r/m"})
    assert gate.get(LOADS, key=key).status == 200

    assert write(gate, key).body == b"<html>sorry</html>"
    assert gate.redis.client.keys("kg:idem:*" + key.org + "*") == []


def test_a_read_is_tried_again_under_recursive_error_pages(make_gate, upstream,
                                                           make_upstream):
    backups = [make_upstream(), make_upstream()]
    gate = make_gate(server=f"""recursive_error_pages on;
        error_page 502 = @first;
        location @first {{ {PARAMS} error_page 502 = @second;
            proxy_pass http://127.0.0.1:{backups[0].port}; }}
        location @second {{ {PARAMS}
            proxy_pass http://127.0.0.1:{backups[1].port}; }}""")
    key = gate.key(limits={"default": "1r/m"})
    upstream.answer(cut="before")
    backups[0].answer(cut="before")

    assert gate.get(LOADS, key=key).status == 200
    assert [seen.get("X-Keygate-Key-Id") for seen in backups[1].requests] == [
        key.id]


def test_a_401_of_nginx_has_a_challenge(make_gate):
    """Behind keys; elsewhere nobody knows what would be asked for."""
    gate = make_gate(server="""location /behind { return 401; }
        location /elsewhere { keygate off; return 401; }""")
    answer = gate.get("/behind")
    check_error(answer, 401, "unauthorized")
    assert answer.all("WWW-Authenticate") == \
        ['Bearer realm="api.trailflow.ai"']
    assert gate.get("/elsewhere").all("WWW-Authenticate") == []


PROXIED = """
    location /page { keygate off; internal;
                     proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }
    location @page { keygate off;
                     proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }"""


@pytest.mark.parametrize("way, said, status", [
    ("/page", 200, 404), ("= /page", 404, 404), ("=410 /page", 200, 410),
    ("= /page", 410, 410), ("= @page", 410, 410)])
def test_a_proxied_page_speaks_for_itself(make_gate, upstream, way, said,
                                          status):
    """An envelope of the page's own is what the operator wants told."""
    gate = make_gate(server=f"error_page 404 {way};" + PROXIED)
    upstream.answer(said, {}, {"error": {
        "code": "page_says", "message": "Look here", "details": {"a": 1}}})

    error = check_error(gate.get("/nowhere", key=gate.key()), status,
                        "page_says", {"a": 1})
    assert error["message"] == "Look here"


@pytest.mark.parametrize("page", [
    dict(status=200, body=b"<p>sorry"), dict(status=200, body={"a": 1}),
    dict(status=404, body=b""), dict(status=200, body=b"{}", gzip=True)],
    ids=str)
def test_a_proxied_page_that_says_nothing(make_gate, upstream, page):
    """Then the refusal is what it was, with all that it knows."""
    gate = make_gate(server="error_page 401 403 429 /page;" + PROXIED)
    key = gate.key(limits={"default": "1r/m"})
    assert gate.get(LOADS, key=key).status == 200
    upstream.answer(**page)

    answer = gate.get(LOADS)
    check_error(answer, 401, "unauthorized")
    assert answer.get("WWW-Authenticate").startswith("Bearer ")
    check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                {"policy": "default"}, (1, 60))
    check_error(gate.get(LOADS, key=gate.key(
        org=gate.org(access="not_enabled"))), 403,
        "partner_access_not_enabled")
    check_error(gate.head(LOADS), 401, "unauthorized", head=True)


def test_a_proxied_page_does_not_make_a_write_executed(make_gate, make_redis,
                                                       make_upstream,
                                                       upstream):
    """Nobody has had it but the gate, or not even a connection was made."""
    pages = make_upstream()
    pages.answer(200, {}, "sorry")
    gate = make_gate(redis=make_redis(), server=f"""error_page 502 503 /page;
        location /page {{ keygate off; internal;
                          proxy_pass http://127.0.0.1:{pages.port}; }}""")
    key = gate.key()
    assert gate.get(LOADS, key=key).status == 200

    def delete():
        return gate.delete("/v1/webhooks/1", key=key)

    upstream.refuse()
    check_error(delete(), 502, "bad_gateway", retry=(1, 1))
    upstream.accept()
    upstream.answer(cut="before", method="DELETE")
    check_error(delete(), 502, "bad_gateway")
    gate.redis.stop()
    check_error(write(gate, key), 503, "service_unavailable", retry=(1, 1))
    assert {seen.method for seen in pages.requests} == {"GET"}


@pytest.mark.parametrize("page", [
    dict(body="short", length=9), dict(raw=b"no head"), dict(status=999),
    dict(cut="before")], ids=str)
def test_a_page_that_breaks_off_does_not_make_a_write_executed(
        make_gate, make_upstream, upstream, loads_seen, page):
    """Its key is as free as with a page that came whole."""
    pages = make_upstream()
    pages.answer(**page)
    gate = make_gate(server=f"""error_page 502 /page;
        location /page {{ keygate off; internal;
                          proxy_pass http://127.0.0.1:{pages.port}; }}""")
    key = gate.key()
    upstream.refuse()
    check_error(write(gate, key), 502, "bad_gateway", retry=(1, 1))
    upstream.accept()

    again = wait_for(lambda: not_in_progress(write(gate, key)), 5, "the key")
    assert again.status == 200
    assert len(loads_seen()) == 1


@pytest.mark.parametrize("way", ["/page", "=403 /page"])
def test_a_page_that_cannot_be_had(make_gate, upstream, way):
    gate = make_gate(server=f"error_page 401 {way};" + PROXIED)

    for how in (dict(cut="before"), dict(cut="headers"),
                dict(body=b"short", length=9)):
        upstream.answer(**how)
        check_error(gate.get(LOADS), 502, "bad_gateway", retry=(1, 1))


def test_the_log_has_the_code_of_a_page(make_gate, upstream):
    gate = make_gate(
        server="error_page 404 /page; access_log %%FOLDER%%/code.log code;"
               + PROXIED, http="log_format code $keygate_error;")
    upstream.answer(404, {}, {"error": {"code": "page_says",
                                        "message": "m"}})
    gate.get("/nowhere", key=gate.key())

    assert wait_for(lambda: gate.access_log("code.log"), 5,
                    "a log line") == ["page_says"]


def test_intercepted_503_with_retry_after_frees_the_key(make_gate, upstream):
    gate = make_gate(location="proxy_intercept_errors on;", server=PAGE,
                     files=FILES)
    key = gate.key()
    upstream.answer(503, headers=[("Retry-After", "7")])
    check_error(write(gate, key), 503, "service_unavailable", retry=(7, 7))
    upstream.answer(201)
    assert write(gate, key).status == 201


@pytest.mark.parametrize("name, value", [
    ("If-None-Match", "*"), ("If-Match", '"x"'), ("Range", "bytes=0-1"),
    ("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")])
def test_a_replay_ignores_conditions(gate, upstream, name, value):
    upstream.answer(200, headers=[("ETag", '"e"')], body=b'{"id":1}')
    key = gate.key()
    answers = [gate.post(LOADS, key=key, idem="k", body=b"{}",
                         headers=[(name, value)]) for _ in range(2)]
    assert [a.status for a in answers] == [200, 200]
    assert answers[0].body == answers[1].body == b'{"id":1}'
    assert answers[1].get("Idempotent-Replayed") == "true"


def test_1xx_is_no_answer_of_a_write(gate, upstream):
    upstream.answer(raw=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
    key = gate.key()
    check_error(write(gate, key), 502, "bad_gateway")
    unknown(write(gate, key))


@pytest.mark.parametrize("value, seconds", [
    ("soon", 1), ("-5", 1), ("0", 1), ("", 1), ("9", 9), ("9 ", 9),
    ("00", 1), ("1.5", 1), ("86400", 86400), ("86401", 86400),
    ("9" * 19, 86400), ("9" * 30, 86400),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 1), ("Thu, 01 Jan 2026", 1),
    ("Sun, 06 Nov 1994 08:49:37 GMT", 1),
    ("Wed, 21 Oct 2099 07:28:00 GMT", 86400)])
def test_retry_after_is_made_right(gate, upstream, value, seconds):
    upstream.answer(503, headers=[("Retry-After", value)])
    answer = gate.get(LOADS, key=gate.key())
    check_error(answer, 503, "service_unavailable", retry=(seconds, seconds))
    assert len(answer.all("Retry-After")) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("page", [
    "root %%FOLDER%%;", "return 503;",
    "proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;"])
def test_retry_after_of_an_intercepted_answer(make_gate, upstream, page,
                                              method):
    """More is known than that it may be a second."""
    gate = make_gate(location="proxy_intercept_errors on;", server=f"""
        error_page 429 503 /page;
        location /page {{ keygate off; {page} }}""", files={"page": "sorry"})
    key = gate.key()
    upstream.answer(200, {}, "sorry", path="/page")

    for status in (503, 429):
        upstream.answer(status, {"Retry-After": "60"}, path="/v1")
        target = "/v1/webhooks/1" if method == "DELETE" else LOADS
        answer = gate.request(method, target, key=key, idem=f"k{status}")
        if page == "return 503;":
            status = 503
        code = {503: "service_unavailable", 429: "rate_limited"}[status]
        check_error(answer, status, code, retry=(60, 60),
                    head=method == "HEAD")


def test_retry_after_as_a_date(gate, upstream):
    """Of today it stays a date: one of yesterday says no time at all."""
    def date(seconds):
        return email.utils.formatdate(time.time() + seconds, usegmt=True)

    soon = date(3600)
    upstream.answer(503, headers=[("Retry-After", soon)])
    assert gate.get(LOADS, key=gate.key()).all("Retry-After") == [soon]
    upstream.answer(503, headers=[("Retry-After", date(-3600))])
    check_error(gate.get(LOADS, key=gate.key()), 503, "service_unavailable",
                retry=(1, 1))


def test_only_the_gate_says_what_it_says(gate, upstream):
    forged = [("Idempotent-Replayed", "true"), ("Original-Request-Id", "x"),
              ("RateLimit", '"a";r=1;t=1'), ("RateLimit-Policy", '"a";q=1;w=1'),
              ("X-Request-Id", "forged")]
    upstream.answer(200, headers=forged)
    answer = gate.get("/health/api")
    for name, _ in forged[:4]:
        assert answer.get(name) is None
    assert len(answer.all("X-Request-Id")) == 1
    assert answer.get("X-Request-Id").startswith("req_")


@pytest.mark.parametrize("name", [
    "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override",
    "X-Original-URL", "X-Rewrite-URL"])
def test_overrides_do_not_reach_the_upstream(gate, upstream, name):
    gate.get(LOADS, key=gate.key(), headers=[(name, "DELETE")])
    assert upstream.requests[-1].get(name) is None


def test_key_of_another_header_does_not_reach_the_upstream(make_gate,
                                                           upstream):
    gate = make_gate(gate="""keygate partner; keygate_errors envelope;
        keygate_token $http_x_api_key bearer;""")
    key = gate.key()
    answer = gate.get(LOADS, headers=[("X-Api-Key", key.token)])
    assert answer.status == 200
    seen = upstream.requests[-1]
    assert all(key.token not in value for _, value in seen.headers)


def test_lease_is_renewed_while_the_write_runs(make_gate, upstream):
    gate = make_gate(idempotency="keygate_idempotency lease=2s;")
    key = gate.key()
    upstream.answer(201, hang=True, times=1)
    start = time.monotonic()

    client = gate.connect()
    client.send(b"POST /v1/loads HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                b"Idempotency-Key: slow\r\nAuthorization: Bearer "
                + key.token.encode() + b"\r\n\r\n{}")
    upstream.wait(1)
    time.sleep(2.3)
    again = gate.post(LOADS, key=key, idem="slow", body=b"{}")
    check_error(again, 409, "idempotency_in_progress",
                retry=(1, int(time.monotonic() - start) + 1))
    upstream.release()
    assert client.read().status == 201
    client.close()
    assert gate.post(LOADS, key=key, idem="slow", body=b"{}").status == 201
    assert len(upstream.requests) == 1


IDEMPOTENT = """keygate_routes partner { POST /v1/loads loads:write
    idempotency=required; %s }"""


def test_a_cache_of_writes_is_refused(nginx_t):
    """It would give one organisation's answer to another."""
    rc, stderr = nginx_t(
        routes=IDEMPOTENT % "",
        http="proxy_cache_path %%FOLDER%%/cache keys_zone=cache:1m;",
        server="""location /x {
            proxy_ignore_client_abort on;
            proxy_cache cache; proxy_cache_methods POST;
            proxy_pass http://127.0.0.1:1; }""")
    assert rc != 0
    assert "proxy_cache_methods" in stderr


@pytest.mark.parametrize("routes, proxy, right", [
    ("", "proxy_next_upstream error non_idempotent;", "non_idempotent"),
    ("", "proxy_ignore_client_abort off;", "proxy_ignore_client_abort on"),
    ("PUT /v1/a loads:write idempotency=required;",
     "proxy_ignore_client_abort on;", "proxy_next_upstream off"),
    ("DELETE /v1/a loads:write idempotency=required;",
     "proxy_ignore_client_abort on;", "proxy_next_upstream off"),
])
def test_what_would_run_a_write_twice_is_refused(nginx_t, routes, proxy,
                                                 right):
    rc, stderr = nginx_t(
        routes=IDEMPOTENT % routes,
        server=f"""location /x {{ {proxy} proxy_pass http://127.0.0.1:1; }}""")
    assert rc != 0
    assert right in stderr
    assert "/x" in stderr


@pytest.mark.parametrize("routes, proxy, right", [
    ("", "proxy_next_upstream error non_idempotent;", "non_idempotent"),
    ("", "proxy_ignore_client_abort off;", "proxy_ignore_client_abort on"),
    ("PUT /v1/a loads:write idempotency=required;",
     "proxy_ignore_client_abort on;", "proxy_next_upstream off"),
])
def test_an_address_with_variables_is_checked(nginx_t, routes, proxy, right):
    """proxy_pass shows no upstream then, and runs the write twice as well."""
    location = """location /x { %s set $app 127.0.0.1:1;
        proxy_pass http://$app; }"""
    rc, stderr = nginx_t(routes=IDEMPOTENT % routes, proxy="return 204;",
                         server=location % proxy)
    assert rc != 0
    assert right in stderr
    assert "/x" in stderr

    once = "proxy_ignore_client_abort on; proxy_next_upstream off;"
    rc, stderr = nginx_t(routes=IDEMPOTENT % routes, proxy="return 204;",
                         server=location % once)
    assert rc == 0, stderr


@pytest.mark.parametrize("routes, proxy", [
    ("PATCH /v1/a loads:write idempotency=required;",
     "proxy_ignore_client_abort on;"),
    ("PUT /v1/a loads:write idempotency=required;",
     "proxy_ignore_client_abort on; proxy_next_upstream off;"),
    ("PUT /v1/a loads:write;", "proxy_ignore_client_abort on;"),
])
def test_what_runs_a_write_once_is_accepted(nginx_t, routes, proxy):
    rc, stderr = nginx_t(
        routes=IDEMPOTENT % routes, proxy="return 204;",
        server=f"""location /x {{ {proxy} proxy_pass http://127.0.0.1:1; }}""")
    assert rc == 0, stderr


IMAGES = "load_module /usr/lib/nginx/modules/ngx_http_image_filter_module.so;"


@pytest.mark.dynamic
@pytest.mark.parametrize("location, accepted", [
    ("image_filter size;", False), ("image_filter off;", True),
    ("image_filter size; keygate off;", True), ("", True)])
def test_image_filter_is_refused(nginx_t, location, accepted):
    """It has our bit in r->buffered."""
    rc, stderr = nginx_t(
        main=IMAGES, routes=IDEMPOTENT % "", proxy="return 204;",
        server="location /x { proxy_ignore_client_abort on; "
               f"proxy_pass http://127.0.0.1:1; {location} }}")

    assert (rc == 0) is accepted, stderr
    assert accepted or ("/x" in stderr and "image_filter" in stderr)


def test_an_error_of_the_cache_is_still_the_upstreams(make_gate, upstream):
    gate = make_gate(
        workers="1",        # another might look before it is in the cache
        http="proxy_cache_path %%FOLDER%%/cache keys_zone=c:1m;",
        location="proxy_cache c; proxy_cache_valid any 1m;")
    key = gate.key()
    upstream.answer(404, body={"error": {
        "code": "load_not_found", "message": "No such load",
        "details": {"id": "1"}}, "requestId": "x"})

    for _ in range(2):
        answer = gate.get("/v1/loads/1", key=key)
        check_error(answer, 404, "load_not_found", {"id": "1"})
    assert len(upstream.requests) == 1


def test_dry_run_gives_a_refused_key_no_identity(make_gate, upstream):
    gate = make_gate(gate="keygate partner dry_run; keygate_errors envelope;")
    key = gate.key(revokedAt="2026-01-01T00:00:00Z")
    assert gate.get(LOADS, key=key).status == 200
    assert upstream.requests[-1].get("X-Keygate-Org") is None
    assert upstream.requests[-1].get("X-Keygate-Key-Id") is None
