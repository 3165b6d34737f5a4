"""The gate among nginx's own modules: where the key is, dry_run, satisfy,
error_page, subrequests, internal redirects, variables, limit_conn."""

import re

import pytest

from harness import records
from harness.ports import wait_for

PROXY = """include %%ROOT%%/conf/keygate_proxy_params;
            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%"""

GATE = {
    "routes": """keygate_routes partner {
        GET     /t/:case        loads:read;
        POST    /t/:case        loads:write idempotency=required;
        GET     /t/:case/:id    customers:read;
        GET     /open           public;
    }""",
    "http": """proxy_cache_path %%FOLDER%%/cache keys_zone=cache:1m;
        limit_conn_zone $keygate_key_id zone=conn:1m;
        limit_req_zone $keygate_key_id zone=req:1m rate=1r/m;
        log_format vars '$request_uri|$status|$keygate_request_id|'
                        '$keygate_org|$keygate_key_id|$keygate_mode|'
                        '$keygate_scopes|$keygate_route|$keygate_verdict|'
                        '$keygate_policy|$keygate_idempotency';""",
    "server": "access_log %%FOLDER%%/vars.log vars;",
    "locations": f"""
        location = /t/token {{
            keygate_token $http_x_api_key bearer;
            {PROXY};
        }}
        location = /t/header {{ keygate_token $http_x_api_key; {PROXY}; }}
        location = /t/realm {{ keygate_realm "Partner API"; {PROXY}; }}
        location = /t/dry {{ keygate partner dry_run; {PROXY}; }}
        location /t/dry/ {{ keygate partner dry_run; {PROXY}; }}
        location = /t/off {{ keygate off; {PROXY}; }}

        location /t/any-allowed {{
            satisfy any; allow 127.0.0.1; deny all; {PROXY};
        }}
        location /t/any-denied {{ satisfy any; deny all; {PROXY}; }}
        location = /t/any-rewritten {{
            satisfy any; allow 127.0.0.1; deny all;
            rewrite ^ /elsewhere break; {PROXY};
        }}
        location = /t/all-denied {{ deny all; {PROXY}; }}
        location = /t/realip {{
            set_real_ip_from 127.0.0.1;
            real_ip_header X-Forwarded-For;
            {PROXY};
        }}

        location = /t/page {{ error_page 401 429 /page; {PROXY}; }}
        location = /t/page-200 {{ error_page 401 = /page; {PROXY}; }}
        location = /t/page-raw {{
            keygate_errors off; error_page 401 /page-raw; {PROXY};
        }}
        location = /page {{ internal; {PROXY}; }}
        location = /page-raw {{ internal; keygate_errors off; {PROXY}; }}
        location = /t/intercept {{
            proxy_intercept_errors on; error_page 404 = /fallback; {PROXY};
        }}
        location = /fallback {{ internal; {PROXY}; }}

        location = /t/auth {{ auth_request /auth; {PROXY}; }}
        location = /auth {{ internal; {PROXY}; }}
        location = /t/ssi {{ ssi on; {PROXY}; }}
        location = /t/mirror {{ mirror /mirror; {PROXY}; }}
        location = /mirror {{ internal; {PROXY}/mirror; }}

        location = /t/rewrite {{ rewrite ^ /inner last; }}
        location = /t/hidden {{ keygate off; rewrite ^ /inner last; }}
        location = /inner {{ {PROXY}; }}
        location = /t/try {{ try_files /no-such-file @named; }}
        location = /t/try-hidden {{
            keygate off; try_files /no-such-file @named;
        }}
        location /t/try-dry {{
            keygate partner dry_run; try_files /no-such-file @named;
        }}
        location @named {{ {PROXY}; }}
        location = /t/return {{ return 200 "said"; }}

        location = /t/cached {{
            proxy_cache cache;
            proxy_cache_key
                "$scheme$proxy_host$request_uri $keygate_org $keygate_mode";
            {PROXY};
        }}

        location = /t/conn {{ limit_conn conn 1; {PROXY}; }}
        location = /t/req {{ limit_req zone=req; {PROXY}; }}
    """,
}

BAD = {"Authorization": "Bearer hello"}


FIELDS = ["target", "status", "id", "org", "key", "mode", "scopes", "route",
          "verdict", "policy", "idempotency"]


def remaining(answer):
    return int(re.search(r'"default";r=(\d+)', answer.get("RateLimit"))[1])


def targets(upstream):
    return [seen.target for seen in upstream.requests]


def logged(gate, target, times=1):
    """What the access log's last line about a target says; nginx writes it
    after the answer, and two workers in either order, so each is waited for
    before the next request is sent."""
    def read():
        lines = [line.split("|") for line in gate.access_log("vars.log")]
        return [line for line in lines if line[0] == target]

    found = wait_for(lambda: len(read()) >= times and read(), 5, "a log line")
    return dict(zip(FIELDS, found[-1]))


# Where the key is.

def test_key_from_the_header_that_is_named(gate, upstream):
    key = gate.key()

    for target in ("/t/token", "/t/header"):
        answer = gate.get(target, headers={"X-Api-Key": key.token})
        assert answer.status == 200
        assert upstream.requests[-1].get("X-Keygate-Key-Id") == key.id


def test_first_source_that_is_not_empty(gate):
    one, other = gate.key(), gate.key()

    gate.get("/t/token?both", key=other, headers={"X-Api-Key": one.token})
    assert logged(gate, "/t/token?both")["key"] == one.id

    gate.get("/t/token?empty", key=other, headers={"X-Api-Key": ""})
    assert logged(gate, "/t/token?empty")["key"] == other.id

    answer = gate.get("/t/token", key=other, headers={"X-Api-Key": "hello"})
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.get("WWW-Authenticate")


def test_other_sources_are_not_looked_at(gate):
    key = gate.key()
    answer = gate.get("/t/header", key=key)

    assert answer.status == 401
    assert "error=" not in answer.get("WWW-Authenticate")
    assert gate.get("/t/header", headers={
        "X-Api-Key": f"Bearer {key.token}"}).status == 401


def test_realm(gate):
    for headers, rest in (({}, ""), (BAD, ', error="invalid_token"')):
        answer = gate.get("/t/realm", headers=headers)
        assert answer.all("WWW-Authenticate") == [
            'Bearer realm="Partner API"' + rest]


def test_address_of_realip_is_the_caller_s(gate):
    key = gate.key(allow=["203.0.113.7"])

    def ask(address):
        return gate.get("/t/realip", key=key,
                        headers={"X-Forwarded-For": address}).status

    assert [ask("203.0.113.7"), ask("203.0.113.8")] == [200, 403]
    assert gate.get("/t/x", key=key,
                    headers={"X-Forwarded-For": "203.0.113.7"}).status == 403


# dry_run decides and logs everything and refuses nothing.

DRY = {
    "no key": (dict(), "unauthorized"),
    "bad key": (dict(headers=BAD), "unauthorized"),
    "no access": (dict(access="disabled"), "partner_access_disabled"),
    "address": (dict(allow=["203.0.113.7"]), "forbidden"),
    "route": (dict(target="/t/dry/a/b"), "not_found"),
    "method": (dict(method="DELETE"), "method_not_allowed"),
    "scope": (dict(scopes=["loads:write"]), "forbidden"),
    "no Idempotency-Key": (dict(method="POST"), None),
    "nothing": (dict(scopes=["loads:read"]), None),
}


@pytest.mark.parametrize("how, verdict", DRY.values(), ids=DRY)
def test_dry_run_refuses_nothing(gate, upstream, how, verdict):
    how = dict(how)
    method = how.pop("method", "GET")
    target = how.pop("target", "/t/dry") + "?" + records.base62(8)
    headers = how.pop("headers", {})
    if verdict != "unauthorized":
        key = gate.key(**how)
        headers = {"Authorization": f"Bearer {key.token}"}

    answer = gate.request(method, target, headers=headers)

    assert answer.status == 200
    assert targets(upstream) == [target]
    assert upstream.requests[0].get("Authorization") == \
        headers.get("Authorization")
    if verdict:
        assert logged(gate, target)["verdict"] == verdict
        gate.wait_log(rf"would answer \d+ {verdict}\b")
    else:
        assert logged(gate, target)["verdict"] == "admitted"


@pytest.mark.parametrize("target, how, code", [
    ("/t/try-dry", None, "unauthorized"),
    ("/t/try-dry", dict(scopes=[]), "forbidden"),
    ("/t/try-dry/b/c", {}, "not_found")])
def test_dry_run_ends_where_the_request_is_redirected_to(gate, upstream,
                                                         target, how, code):
    """What one location let through is no admission to another."""
    answer = gate.get(target, key=None if how is None else gate.key(**how))

    assert answer.code == code
    assert upstream.requests == []


def test_dry_run_limits_nobody_and_says_so(gate):
    key = gate.key(limits={"default": "1r/m"})
    mark = "/t/dry?" + records.base62(8)

    for nth in range(3):
        assert gate.get(mark, key=key).status == 200
        seen = logged(gate, mark, nth + 1)

    assert (seen["verdict"], seen["policy"]) == ("rate_limited", "default")


def test_dry_run_claims_nothing(gate, upstream):
    key = gate.key()

    for _ in range(2):
        answer = gate.post("/t/dry", key=key, idem="one", json={"a": 1})
        assert answer.status == 200
        assert answer.get("Idempotent-Replayed") is None

    assert len(upstream.requests) == 2
    assert not gate.redis.client.keys(f"kg:idem:{{{key.org}}}*")


def test_dry_run_leaves_options_to_the_upstream(gate, upstream):
    upstream.answer(204, {"Allow": "GET, BREW"})

    for key in (None, gate.key()):
        answer = gate.options("/t/dry", key=key)
        assert (answer.status, answer.all("Allow")) == (204, ["GET, BREW"])

    assert len(upstream.requests) == 2


def test_dry_run_with_a_record_that_is_broken(gate, upstream):
    key = gate.key()
    key.write(b"{")

    assert gate.get("/t/dry", key=key).status == 200
    assert len(upstream.requests) == 1


def test_off(gate, upstream):
    answer = gate.get("/t/off", headers=BAD)

    assert answer.status == 200
    assert upstream.requests[0].get("Authorization") == BAD["Authorization"]


def test_cached_answer_is_its_partner_s(gate, upstream):
    """With the proxy_cache_key of docs/operations.md."""
    one, other = gate.key(), gate.key()
    upstream.answer(headers=[("Cache-Control", "max-age=60")])

    for key, asked in ((one, 1), (other, 2), (one, 2)):
        answer = gate.get("/t/cached", key=key)
        assert answer.status == 200
        assert len(upstream.requests) == asked

    live = gate.key(org=one.org, mode="live")
    assert gate.get("/t/cached", key=live).status == 200
    assert len(upstream.requests) == 3
    assert gate.get("/t/cached").status == 401


# satisfy

def test_satisfy_any_does_not_let_strangers_in(gate, upstream):
    """allow 127.0.0.1 satisfies nginx; what has no identity stops all the
    same, since nothing behind the gate would know who it is."""
    for target, code in (("/t/any-allowed", "unauthorized"),
                         ("/t/any-allowed/x", "unauthorized"),
                         ("/t/any-rewritten", "unauthorized")):
        for headers in ({}, BAD):
            answer = gate.get(target, headers=headers)
            assert (answer.status, answer.code) == (401, code)
            assert len(answer.all("WWW-Authenticate")) == 1

    assert upstream.requests == []


@pytest.mark.parametrize("how, target, status, code", [
    (dict(access="disabled"), "", 403, "partner_access_disabled"),
    (dict(allow=["203.0.113.7"]), "", 403, "forbidden"),
    (dict(), "/b/c", 404, "not_found"),
    (dict(scopes=["loads:read"]), "/b", 403, "forbidden"),
    (dict(), "", 200, None),
])
@pytest.mark.parametrize("location", ["/t/any-allowed", "/t/any-denied"])
def test_satisfy_any(gate, upstream, location, how, target, status, code):
    answer = gate.get(location + target, key=gate.key(**how))

    assert (answer.status, answer.code) == (status, code)
    assert len(upstream.requests) == (status == 200)


def test_satisfy_any_spends_once(gate):
    key = gate.key()

    assert [remaining(gate.get(f"/t/any-{which}", key=key))
            for which in ("allowed", "denied", "allowed")] == [59, 58, 57]


def test_address_that_nginx_denies(gate, upstream):
    key = gate.key()
    answer = gate.get("/t/all-denied", key=key)

    assert (answer.status, answer.code) == (403, "forbidden")
    assert upstream.requests == []
    assert remaining(gate.get("/t/x", key=key)) == 59


# error_page

@pytest.mark.parametrize("headers", [{}, BAD])
def test_error_page_of_401(gate, upstream, headers):
    """The page is asked for once, and the answer is the contract's."""
    answer = gate.get("/t/page", headers=headers)

    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.all("X-Request-Id") == [answer.json()["requestId"]]
    assert len(answer.all("WWW-Authenticate")) == 1
    assert targets(upstream) == ["/page"]
    assert upstream.requests[0].get("X-Request-Id") == \
        answer.get("X-Request-Id")


def test_error_page_that_is_not_shaped(gate, upstream):
    upstream.answer(200, {"Content-Type": "text/html"}, "<p>Who?")
    answer = gate.get("/t/page-raw")

    assert (answer.status, answer.body) == (401, b"<p>Who?")
    assert answer.get("WWW-Authenticate").startswith("Bearer realm=")
    assert len(upstream.requests) == 1


def test_error_page_with_its_own_status(gate, upstream):
    upstream.answer(200, body="help")
    answer = gate.get("/t/page-200")

    assert (answer.status, answer.body) == (200, b"help")
    assert answer.get("WWW-Authenticate") is None
    assert targets(upstream) == ["/page"]


def test_error_page_of_429_spends_nothing_more(gate, upstream):
    key = gate.key(limits={"default": "1r/m"})
    assert gate.get("/t/page", key=key).status == 200
    answer = gate.get("/t/page", key=key)

    assert (answer.status, answer.code) == (429, "rate_limited")
    assert answer.error["details"] == {"policy": "default"}
    assert 1 <= int(answer.get("Retry-After")) <= 60
    assert targets(upstream) == ["/t/page", "/page"]


def test_error_page_of_an_admitted_request_spends_once(gate, upstream):
    key = gate.key()
    upstream.answer(404, path="^/t/intercept")
    answer = gate.get("/t/intercept", key=key)

    assert answer.status == 200
    assert targets(upstream) == ["/t/intercept", "/fallback"]
    assert len({seen.get("X-Request-Id") for seen in upstream.requests}) == 1
    assert remaining(answer) == 59
    assert remaining(gate.get("/t/x", key=key)) == 58


# Subrequests

def test_auth_request(gate, upstream):
    key = gate.key()
    answer = gate.get("/t/auth", key=key)

    assert answer.status == 200
    assert targets(upstream) == ["/auth", "/t/auth"]
    assert {seen.get("X-Keygate-Org") for seen in upstream.requests} == {
        key.org}
    assert remaining(answer) == 59
    assert remaining(gate.get("/t/x", key=key)) == 58


def test_auth_request_is_not_asked_about_strangers(gate, upstream):
    assert gate.get("/t/auth").status == 401
    assert gate.get("/t/auth", key=gate.key(scopes=[])).status == 403
    assert upstream.requests == []


def test_auth_request_that_refuses(gate, upstream):
    key = gate.key()
    upstream.answer(403, path="^/auth")
    answer = gate.get("/t/auth", key=key)

    assert (answer.status, answer.code) == (403, "forbidden")
    assert targets(upstream) == ["/auth"]
    assert remaining(gate.get("/t/x", key=key)) == 59


def test_ssi(gate, upstream):
    key = gate.key()
    upstream.answer(200, {"Content-Type": "text/plain"}, "part",
                    path="^/t/part")
    upstream.answer(200, {"Content-Type": "text/html"},
                    '[<!--#include virtual="/t/part" -->]', path="^/t/ssi")

    answer = gate.get("/t/ssi", key=key)

    assert (answer.status, answer.body) == (200, b"[part]")
    assert targets(upstream) == ["/t/ssi", "/t/part"]
    assert len(answer.all("X-Request-Id")) == 1
    assert remaining(answer) == 59
    assert remaining(gate.get("/t/x", key=key)) == 58


def test_mirror(gate, upstream):
    key = gate.key()
    answer = gate.get("/t/mirror", key=key)
    upstream.wait(2)

    assert sorted(targets(upstream)) == ["/mirror", "/t/mirror"]
    assert remaining(answer) == 59
    assert remaining(gate.get("/t/x", key=key)) == 58


def test_mirror_of_an_idempotent_write(gate, upstream):
    key = gate.key()
    first = gate.post("/t/mirror", key=key, idem="m", json={"a": 1})
    upstream.wait(2)
    again = gate.post("/t/mirror", key=key, idem="m", json={"a": 1})

    assert (first.status, again.status) == (200, 200)
    assert again.get("Idempotent-Replayed") == "true"
    assert [seen.body for seen in upstream.requests] == [b'{"a": 1}'] * 2


def test_refused_request_is_not_mirrored(gate, upstream):
    spent = gate.key(limits={"default": "1r/m"})
    assert gate.get("/t/x", key=spent).status == 200

    assert gate.get("/t/mirror").status == 401
    assert gate.get("/t/mirror", key=spent).status == 429
    assert gate.post("/t/mirror", key=gate.key()).status == 400
    assert targets(upstream) == ["/t/x"]


# Internal redirects

@pytest.mark.parametrize("target, proxied", [
    ("/t/rewrite", "/inner"), ("/t/try", "/t/try"),
    ("/t/hidden", "/inner"), ("/t/try-hidden", "/t/try-hidden")])
def test_internal_redirect(gate, upstream, target, proxied):
    assert gate.get(target).status == 401
    assert gate.get(target, key=gate.key(scopes=[])).status == 403
    assert upstream.requests == []

    key = gate.key()
    answer = gate.get(target, key=key)

    assert answer.status == 200
    assert targets(upstream) == [proxied]
    assert answer.all("X-Request-Id") == [
        upstream.requests[0].get("X-Request-Id")]
    assert remaining(answer) == 59
    assert remaining(gate.get("/t/x", key=key)) == 58


def test_x_accel_redirect(gate, upstream):
    key = gate.key()
    upstream.answer(200, {"X-Accel-Redirect": "/inner"}, path="^/t/accel")
    answer = gate.get("/t/accel", key=key)

    assert answer.status == 200
    assert targets(upstream) == ["/t/accel", "/inner"]
    assert remaining(answer) == 59
    assert remaining(gate.get("/t/x", key=key)) == 58


# Variables

def test_variables_in_the_access_log(gate):
    key = gate.key(scopes=["loads:read", "tracking:*"])
    answer = gate.get("/t/vars", key=key)

    assert logged(gate, "/t/vars") == {
        "target": "/t/vars", "status": "200",
        "id": answer.get("X-Request-Id"), "org": key.org, "key": key.id,
        "mode": "test", "scopes": "loads:read tracking:*",
        "route": "GET /t/:case", "verdict": "admitted", "policy": "-",
        "idempotency": "-"}


def test_variables_of_a_stranger(gate):
    answer = gate.get("/t/nobody")
    seen = logged(gate, "/t/nobody")

    assert seen["id"] == answer.get("X-Request-Id")
    assert seen["verdict"] == "unauthorized"
    assert {seen[name] for name in ("org", "key", "mode", "scopes",
                                    "policy")} == {"-"}


def test_variables_of_a_refusal(gate):
    key = gate.key(limits={"default": "1r/m"})
    gate.get("/t/spent", key=key)
    logged(gate, "/t/spent")
    gate.get("/t/spent", key=key)
    seen = logged(gate, "/t/spent", 2)

    assert (seen["status"], seen["verdict"], seen["policy"], seen["key"]) == \
        ("429", "rate_limited", "default", key.id)


def test_variable_of_idempotency(gate):
    key = gate.key()
    seen = []

    for _ in range(2):
        gate.post("/t/write", key=key, idem="one", json={})
        seen.append(logged(gate, "/t/write", len(seen) + 1)["idempotency"])

    assert "-" not in seen
    assert seen[0] != seen[1]


# Modules of PREACCESS know the key.

def test_limit_conn_by_key(gate, upstream):
    key, other = gate.key(), gate.key()
    upstream.answer(hang=True, times=1)
    client = gate.connect()
    client.send("GET /t/conn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                f"Authorization: Bearer {key.token}\r\n\r\n")
    upstream.wait(1)

    answer = gate.get("/t/conn", key=key)
    assert (answer.status, answer.code) == (503, "service_unavailable")
    assert gate.get("/t/conn", key=other).status == 200

    upstream.release()
    assert client.read().status == 200
    assert client.read_all() == b""     # its request is over, and counted off
    assert gate.get("/t/conn", key=key).status == 200


def test_limit_req_by_key(gate):
    """A key that has to be fetched first waits in the same phase; it must
    not be counted for that."""
    key, other = gate.key(), gate.key()

    assert [gate.get("/t/req", key=who).status
            for who in (key, key, other, other)] == [200, 503, 200, 503]
    assert remaining(gate.get("/t/x", key=key)) == 58


def test_return_answers_before_the_gate(gate):
    """It runs in the rewrite phase, nginx's order, which stays as it is; the
    answer is the gate's all the same."""
    answer = gate.get("/t/return")

    assert (answer.status, answer.body) == (200, b"said")
    assert answer.get("X-Request-Id").startswith("req_")


# Protocols

def test_http_1_0(gate):
    assert gate.get("/t/x", version="HTTP/1.0").status == 401
    answer = gate.get("/t/x", key=gate.key(), version="HTTP/1.0",
                      headers={"Host": None})
    assert answer.status == 200


def test_pipelined(gate, upstream):
    one, other = gate.key(), gate.key()
    client = gate.connect()
    client.send("".join(
        f"GET /t/{i} HTTP/1.1\r\nHost: a\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
        for i, token in enumerate([one.token, "hello", other.token,
                                   one.token])))
    answers = [client.read() for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 401, 200, 200]
    assert [seen.get("X-Keygate-Key-Id") for seen in upstream.requests] == [
        one.id, other.id, one.id]
    assert len({answer.get("X-Request-Id") for answer in answers}) == 4


def test_http_2(gate):
    key = gate.key(scopes=["loads:read"])

    with gate.h2() as client:
        def ask(token, target="/t/x"):
            return client.get(target,
                              headers={"Authorization": f"Bearer {token}"})

        answer = client.get("/t/x")
        assert answer.http_version == "HTTP/2"
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"
        assert ask("hello").status_code == 401
        assert ask(key.token).status_code == 200
        assert ask(key.token, "/t/x/y").status_code == 403
        assert ask("a" * 4096).status_code == 401
