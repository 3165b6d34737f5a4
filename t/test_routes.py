"""Which route a request is: method and raw path against the table, and what
the upstream then sees."""

import pytest

ROUTES = """keygate_routes partner {
        GET     /health/api             public;
        GET     /v1/loads               loads:read;
        GET     /v1/loads/:id           loads:read;
        POST    /v1/loads               loads:write idempotency=required;
        POST    /v1/loads/upsert        loads:write idempotency=required;
        POST    /v1/loads/:id/status    loads:write idempotency=required;
        GET     /v1/customers           customers:read;
        GET     /v1/webhooks            webhooks:manage;
        DELETE  /v1/webhooks/:id        webhooks:manage;

        GET     /s/:a/x                 s:read;
        GET     /s/b/:y                 s:read;
        GET     /s/b/x                  s:read;
        GET     /s/:a/:y                s:read;
        GET     /s/b/:y/z               s:read;
        POST    /s/b/x                  s:read;
        GET     "/quoted/{id}"          s:read;
        PATCH   /p                      s:read;
        PUT     /p                      s:read;
        include more-*.conf;
        include one.conf;
    }"""

GATE = {
    "routes": ROUTES,
    "policies": "keygate_policy default rate=60000r/m by=key;",
    "files": {
        "more-a.conf": "GET /more/a more:a;\nGET /more/a/:b more:b;\n",
        "more-b.conf": "GET /more/c more:c; include deeper.conf;",
        "one.conf": "# Of a partner team.\nPOST /one one:write;\n",
        "deeper.conf": "GET /deeper deeper:read;",
    },
}


@pytest.fixture(scope="module")
def key(gate_of_module):
    """It may do everything, as often as it likes."""
    return gate_of_module.key(scopes=["*"])


# Raw paths that name a route.

RIGHT = {
    "/v1/loads": "GET /v1/loads",
    "/v1/loads?": "GET /v1/loads",
    "/v1/loads?externalId=1&x=/../": "GET /v1/loads",
    "/v1/loads?a=%2F%2e%5C\\//..//?": "GET /v1/loads",
    "/v1/loads?a=%zz%": "GET /v1/loads",
    "/v1/loads/7": "GET /v1/loads/:id",
    "/v1/loads/a.b..c": "GET /v1/loads/:id",
    "/v1/loads/...": "GET /v1/loads/:id",
    "/v1/loads/.hidden": "GET /v1/loads/:id",
    "/v1/loads/a%20b": "GET /v1/loads/:id",
    "/v1/loads/%41%7e~%C3%A9": "GET /v1/loads/:id",
    "/v1/loads/%252f": "GET /v1/loads/:id",
    "/v1/loads/a:b;c=1,d@e!$&'()*+": "GET /v1/loads/:id",
    "/v1/loads/\xc3\xa9": "GET /v1/loads/:id",
    "/v1/%6coads": "GET /v1/loads",
    "/%76%31/loads/7": "GET /v1/loads/:id",
    "/v1/loads/upsert": "GET /v1/loads/:id",
    "/s/q/x": "GET /s/:a/x",
    "/s/b/q": "GET /s/b/:y",
    "/s/b/x": "GET /s/b/x",
    "/s/q/r": "GET /s/:a/:y",
    "/s/b/q/z": "GET /s/b/:y/z",
    "/s/b/x/z": "GET /s/b/:y/z",
    "/more/a": "GET /more/a",
    "/more/a/1": "GET /more/a/:b",
    "/more/c": "GET /more/c",
    "/deeper": "GET /deeper",
}


@pytest.mark.parametrize("target, route", RIGHT.items(), ids=RIGHT)
def test_route_and_what_the_upstream_sees(gate, upstream, key, target, route):
    answer = gate.get(target, key=key)

    assert answer.status == 200, answer
    assert [seen.target for seen in upstream.requests] == [target]
    assert upstream.requests[0].get("X-Keygate-Route") == route


def test_quoted_pattern(gate, upstream, key):
    assert gate.get("/quoted/1", key=key).status == 200
    assert upstream.requests[0].get("X-Keygate-Route").startswith(
        "GET /quoted/")
    assert gate.get("/quoted/{id}/1", key=key).status == 404


# Raw paths that name none, though nginx's own, decoded and merged path or the
# upstream's reading of them may be that of a route.

WRONG = [
    "/", "/v1", "/v2/loads", "/V1/loads", "/v1/Loads", "/v1/load",
    "/v1/loadsx", "/v1/loads/", "/v1/loads/7/", "/v1/loads/7/8",
    "/v1/loads/7/status/9", "/health/api/", "/health",
    "//v1/loads", "/v1//loads", "/v1/loads//", "/v1/loads//7", "///",
    "/./v1/loads", "/v1/./loads", "/v1/loads/.", "/v1/loads/./7",
    "/v1/customers/../loads", "/v1/loads/..", "/v1/loads/../loads",
    "/v1/x/../../v1/loads",
    "/v1/customers%2f..%2floads", "/v1/customers%2F..%2Floads",
    "/v1%2floads", "/v1/loads%2f7", "/v1/loads/a%2Fb", "/v1/loads%2f",
    "/v1/customers/%2e%2e/loads", "/v1/customers/%2E%2E/loads",
    "/v1/customers/.%2e/loads", "/v1/loads/%2e", "/v1/loads/a%2eb",
    "/v1/loads/%2e%2e%2fcustomers",
    "/v1\\loads", "/v1/loads\\", "/v1/loads\\7", "/v1/loads/a\\..\\b",
    "/v1%5cloads", "/v1/loads/a%5Cb", "/v1/loads/%5c%2e%2e%5c",
    "/v1/customers/..;/loads", "/v1/loads/;/..;x=1/7", "/v1/loads/.;",
    "/v1/loads#", "/v1/loads#/x", "/v1/loads/7#?a=b",
    "/v1/loads/7%0a", "/v1/loads/7%0d%0aX-Keygate-Org:%20acme", "/v1/loads/%1F",
    "/v1/loads/7%7f",
]


@pytest.mark.parametrize("target", WRONG)
def test_path_that_names_no_route(gate, upstream, key, target):
    answer = gate.get(target, key=key)

    assert (answer.status, answer.code) == (404, "not_found")
    assert answer.get("Allow") is None
    assert answer.error["retryable"] is False
    assert upstream.requests == []


@pytest.mark.parametrize("target", WRONG)
def test_strangers_learn_of_no_path(gate, upstream, target):
    answer = gate.get(target)

    assert (answer.status, answer.code) == (401, "unauthorized")
    assert upstream.requests == []


@pytest.mark.parametrize("target", [
    "/v1/loads/%", "/v1/loads/%4", "/v1/loads/%zz", "/v1/loads/%00",
    "/..", "/../v1/loads", "/v1/../../v1/loads", "/v1/loads/\x01", "v1/loads",
    "/v1/loads/\x7f", "/v1/lo ads"])
def test_path_that_nginx_refuses(gate, upstream, key, target):
    answer = gate.get(target, key=key)

    assert (answer.status, answer.code) == (400, "bad_request")
    assert upstream.requests == []


def test_public_route_is_matched_raw_too(gate, upstream):
    assert gate.get("/health/api?x=1").status == 200
    for target in ("/health//api", "/health/./api", "/v1/../health/api",
                   "/health%2fapi", "/health/api/..", "/health/api%2e",
                   "/v1/loads/..%2f..%2fhealth/api"):
        assert gate.get(target).status == 401

    assert [seen.target for seen in upstream.requests] == ["/health/api?x=1"]


def test_scope_of_the_route_of_the_raw_path(gate, upstream):
    """customers:read does not reach the loads by any spelling."""
    one = gate.key(scopes=["customers:read"])
    assert gate.get("/v1/customers", key=one).status == 200
    assert gate.get("/v1/loads", key=one).status == 403

    for target in WRONG:
        assert gate.get(target, key=one).status in (400, 404)
    assert len(upstream.requests) == 1


# Methods

@pytest.mark.parametrize("method, target, allow", [
    ("DELETE", "/v1/loads", "GET, HEAD, POST"),
    ("PUT", "/v1/loads?a=b", "GET, HEAD, POST"),
    ("POST", "/v1/customers", "GET, HEAD"),
    ("GET", "/v1/webhooks/1", "DELETE"),
    ("HEAD", "/v1/webhooks/1", "DELETE"),
    ("PATCH", "/v1/loads/1/status", "POST"),
    ("DELETE", "/v1/loads/upsert", "GET, HEAD, POST"),
    ("POST", "/v1/loads/7", "GET, HEAD"),
    ("GET", "/p", "PATCH, PUT"),
    ("GET", "/one", "POST"),
    ("POST", "/health/api", "GET, HEAD"),
    ("BREW", "/v1/loads", "GET, HEAD, POST"),
    ("PROPFIND", "/s/b/x", "GET, HEAD, POST"),
])
def test_method_not_allowed(gate, upstream, key, method, target, allow):
    answer = gate.request(method, target, key=key)

    assert answer.status == 405
    assert sorted(answer.get("Allow").split(", ")) == sorted(allow.split(", "))
    assert answer.get("Retry-After") is None
    assert upstream.requests == []
    if method != "HEAD":
        assert answer.code == "method_not_allowed"


@pytest.mark.parametrize("method", ["DELETE", "BREW", "POST"])
def test_strangers_learn_of_no_method(gate, method):
    for target in ("/v1/customers", "/v1/nothing", "/health/api"):
        answer = gate.request(method, target)
        assert (answer.status, answer.get("Allow")) == (401, None)


def test_most_specific_route_of_the_method(gate, upstream, key):
    """GET /s/b/x is a literal of its own; POST has only that one, and what a
    more specific pattern lacks a less specific one may have."""
    assert gate.request("POST", "/s/b/x", key=key).status == 200
    assert gate.request("POST", "/s/b/y", key=key).status == 405
    assert gate.get("/v1/loads/upsert", key=key).status == 200
    assert [seen.get("X-Keygate-Route") for seen in upstream.requests] == [
        "POST /s/b/x", "GET /v1/loads/:id"]


def test_head_goes_with_get(gate, upstream, key):
    answer = gate.head("/v1/loads/7?a=b", key=key)

    assert (answer.status, answer.body) == (200, b"")
    seen = upstream.requests[0]
    assert (seen.method, seen.target) == ("HEAD", "/v1/loads/7?a=b")
    assert seen.get("X-Keygate-Route") == "GET /v1/loads/:id"
    assert answer.get("RateLimit")


@pytest.mark.parametrize("target, scopes, status", [
    ("/v1/loads", ["customers:read"], 403), ("/v1/nothing", ["*"], 404),
    ("/v1/webhooks/1", ["*"], 405)])
def test_refused_head_has_no_body(gate, target, scopes, status):
    client = gate.connect()
    one = gate.key(scopes=scopes)
    headers = {"Authorization": f"Bearer {one.token}"}
    answer = client.request("HEAD", target, headers)
    after = client.request("GET", "/health/api")

    assert (answer.status, after.status) == (status, 200)
    assert answer.get("Content-Type") == "application/json"
    assert answer.get("X-Request-Id") != after.get("X-Request-Id")


def test_trace_and_connect_are_nginx_s(gate, upstream, key):
    for method, target in (("TRACE", "/v1/loads"), ("CONNECT", "a:1")):
        answer = gate.request(method, target, key=key)
        assert answer.status in (400, 405)
        assert answer.code in ("bad_request", "method_not_allowed")
    assert upstream.requests == []


def test_method_is_case_sensitive(gate, upstream, key):
    assert gate.request("get", "/v1/loads", key=key).status == 400
    assert upstream.requests == []


# OPTIONS

@pytest.mark.parametrize("target", [
    "/v1/loads", "/v1/nothing", "/", "/health/api", "/v1//loads",
    "/v1/loads/%2e"])
def test_options_of_a_stranger(gate, upstream, target):
    """The same for every path, so that a preflight works and says nothing."""
    answer = gate.options(target, headers={
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "POST"})

    assert (answer.status, answer.body) == (204, b"")
    assert answer.get("Allow") is None
    assert answer.get("WWW-Authenticate") is None
    assert answer.get("X-Request-Id")
    assert upstream.requests == []


def test_options_of_the_server(gate, upstream):
    """nginx knows no asterisk form."""
    answer = gate.options("*")

    assert (answer.status, answer.code) == (400, "bad_request")
    assert upstream.requests == []


@pytest.mark.parametrize("target, allow", [
    ("/v1/loads", "GET, HEAD, POST"), ("/v1/webhooks/1", "DELETE"),
    ("/v1/loads/upsert", "GET, HEAD, POST"), ("/health/api", "GET, HEAD"),
    ("/p", "PATCH, PUT")])
def test_options_with_a_key(gate, upstream, key, target, allow):
    answer = gate.options(target, key=key)

    assert (answer.status, answer.body) == (204, b"")
    assert sorted(answer.get("Allow").split(", ")) == sorted(allow.split(", "))
    assert upstream.requests == []


def test_options_needs_no_scope(gate):
    answer = gate.options("/v1/loads", key=gate.key(scopes=[]))

    assert (answer.status, answer.get("Allow")) == (204, "GET, HEAD, POST")


@pytest.mark.parametrize("target", ["/v1/nothing", "/v1//loads",
                                    "/v1/loads%2f7"])
def test_options_with_a_key_of_no_route(gate, key, target):
    answer = gate.options(target, key=key)

    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("target", ["/v1/loads", "/v1/nothing"])
@pytest.mark.parametrize("members, status, code", [
    ({"revokedAt": "2020-01-01T00:00:00Z"}, 401, "unauthorized"),
    ({"access": "disabled"}, 403, "partner_access_disabled"),
    ({"access": "test", "mode": "live"}, 403, "live_access_not_enabled"),
    ({"allow": ["203.0.113.7"]}, 403, "forbidden"),
])
def test_options_with_a_key_that_may_not(gate, target, members, status, code):
    answer = gate.options(target, key=gate.key(**members))

    assert (answer.status, answer.code) == (status, code)
    assert answer.get("Allow") is None


@pytest.mark.parametrize("token", ["hello", "tf_test_" + "a" * 38])
def test_options_with_a_bad_key(gate, token):
    for target in ("/v1/loads", "/v1/nothing"):
        answer = gate.options(target, key=token)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert 'error="invalid_token"' in answer.get("WWW-Authenticate")
        assert answer.get("Allow") is None


def test_options_during_a_broken_organisation(gate):
    """A record that cannot be read is 500, not an organisation without
    access."""
    one = gate.key()
    gate.redis.client.set(f"kg:org:{{{one.org}}}", "{")

    assert gate.options("/v1/loads", key=one).status == 500


# The absolute form of a target (RFC 9112, 3.2.2)

@pytest.mark.parametrize("target, status, seen", [
    ("http://api.trailflow.ai/v1/loads", 200, "/v1/loads"),
    ("http://api.trailflow.ai:8080/v1/loads/7?a=%2f", 200,
     "/v1/loads/7?a=%2f"),
    ("HTTP://other.example/v1/loads", 200, "/v1/loads"),
    ("http://api.trailflow.ai/v1//loads", 404, None),
    ("http://api.trailflow.ai/v1/customers%2f..%2floads", 404, None),
    ("http://api.trailflow.ai/v1/customers/../loads", 404, None),
    ("http://api.trailflow.ai/", 404, None),
    ("http://api.trailflow.ai", 404, None),
    ("http://api.trailflow.ai?/v1/loads", 404, None),
])
def test_absolute_form(gate, upstream, key, target, status, seen):
    answer = gate.get(target, key=key)

    assert answer.status == status
    assert [got.target for got in upstream.requests] == ([seen] if seen
                                                         else [])
    assert gate.get(target).status == 401


def test_path_as_long_as_nginx_takes(gate, upstream, key):
    target = "/v1/loads/" + "a" * 7900
    assert gate.get(target, key=key).status == 200
    assert upstream.requests[0].target == target

    for size, status in ((7900, 404), (9000, 414)):
        target = "/v1/loads" + "/a" * (size // 2)
        assert gate.get(target, key=key).status == status
