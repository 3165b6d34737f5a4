"""keygate_self: what the holder of a key is told, who may call what, and that
it costs nothing of other limits."""

import pytest

from checks import check_error
from harness import records
from harness.ports import wait_for
from self_calls import (KEYS, MANAGE, PIECES, SELF, Made, manager, other)

GATE = PIECES


def told(key):
    answer = key.call("GET", SELF)
    assert answer.status == 200, answer
    return answer.json()


def test_what_the_holder_is_told(gate):
    org = gate.org("live", name="Acme", plan="gold", limits={"org": "900r/m"})
    key = other(gate, org, name="UAT", limits={"default": "30r/m"},
                allow=["127.0.0.0/8"], expiresAt="2099-01-01T00:00:00Z",
                notBefore="2020-01-01T00:00:00Z")
    answer = key.call("GET", SELF)

    assert answer.status == 200
    assert answer.get("Content-Type") == "application/json"
    assert answer.get("Cache-Control") == "no-store"

    found = answer.json()
    assert found["requestId"] == answer.get("X-Request-Id")
    assert found["organisation"] == {"id": org, "name": "Acme",
                                     "access": "live"}
    assert found["key"] == {**key.shown(), "lastUsedAt": None}
    assert found["key"]["hint"] == f"tf_test_...{key.token[-4:]}"
    assert found["key"]["expiresAt"] == "2099-01-01T00:00:00Z"
    assert found["usage"] == {"lastUsedAt": None, "addresses": [], "days": []}
    assert found["limits"] == [
        {"policy": "default", "route": None, "rate": "30r/m",
         "remaining": 30, "reset": 0},
        {"policy": "org", "route": None, "rate": "900r/m",
         "remaining": 900, "reset": 0},
        {"policy": "self", "route": None, "rate": "600r/m",
         "remaining": 599, "reset": 60}]
    assert key.token not in answer.body.decode()


def test_no_digest_no_pepper(gate):
    key = other(gate, gate.org())
    text = key.call("GET", SELF).body.decode()

    assert "pepper" not in text
    assert key.name[len("kg:key:{"):-1] not in text


def test_a_record_that_is_in_no_index(gate):
    """Written to Redis by others: the id leads nowhere, the key is known."""
    org = gate.org("test")
    key = gate.key(org, scopes=[])

    answer = gate.get(SELF, key=key)
    assert answer.status == 200
    assert answer.json()["key"]["id"] == key.id
    assert answer.json()["organisation"]["access"] == "test"


@pytest.mark.parametrize("pepper", ["0", "1", "2"])
def test_a_key_of_any_pepper(make_gate, pepper):
    """Also when none of the names it may have is in the zone, so that all of
    them were asked for; and then when its own is."""
    texts = {name: name * 40 for name in "012"}
    keys = "".join(f" pepper=%%FOLDER%%/{name}" for name in texts)
    gate = make_gate(files=texts, **{
        **PIECES, "keys": f"keygate_keys prefix=tf{keys};"})
    key = records.make_key(gate.redis.client, texts[pepper].encode(),
                           gate.org("test"))

    for _ in range(2):
        answer = gate.get(SELF, key=key)
        assert answer.status == 200, answer
        assert answer.json()["key"]["id"] == key.id


def test_it_costs_nothing_of_other_limits(gate):
    key = other(gate, gate.org(limits={"org": "100r/m"}),
                limits={"default": "3r/m"})

    for _ in range(5):
        answer = key.call("GET", SELF)
        assert answer.status == 200
        assert answer.get("RateLimit-Policy") == '"self";q=600;w=60'

    assert [limit["remaining"] for limit in told(key)["limits"]] == [
        3, 100, 594]
    assert [key.works() for _ in range(4)] == [True] * 3 + [False]
    assert [(limit["remaining"], limit["policy"])
            for limit in told(key)["limits"]] == [
        (0, "default"), (97, "org"), (593, "self")]


def test_it_cannot_be_called_without_bound(gate):
    key = other(gate, gate.org(), limits={"self": "2r/m"})

    assert [key.call("GET", SELF).status for _ in range(2)] == [200, 200]
    check_error(key.call("GET", SELF), 429, "rate_limited",
                {"policy": "self"}, retry=(1, 60))
    assert key.works()


def test_the_bound_is_there_without_any_configuration(make_gate):
    gate = make_gate(**{**PIECES, "policies": "", "gate": "keygate partner;"})
    answer = gate.get(SELF, key=gate.key())

    assert answer.status == 200
    assert answer.get("RateLimit-Policy") == '"self";q=60;w=60'


@pytest.mark.parametrize("here, policies", [
    ("keygate_limit default;", '"default";q=60;w=60'),
    ("keygate_limit off;", None)])
def test_a_location_may_name_its_limits(make_gate, here, policies):
    gate = make_gate(**{**PIECES, "locations":
                        "location /v1/self { keygate_self; %s }" % here})
    answer = gate.get(SELF, key=gate.key())

    assert answer.status == 200
    assert answer.get("RateLimit-Policy") == policies


def test_a_location_inside_has_the_limits_of_its_server(make_gate, upstream):
    gate = make_gate(**{**PIECES, "locations": """location /v1 { keygate_self;
        location /v1/loads {
            include %%ROOT%%/conf/keygate_proxy_params;
            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;
        }
    }"""})
    answer = gate.get("/v1/loads", key=gate.key())

    assert (answer.status, len(upstream.requests)) == (200, 1)
    assert "default" in answer.get("RateLimit-Policy")
    assert "self" not in answer.get("RateLimit-Policy")


def test_usage_is_told(gate, one_day):
    key = other(gate, gate.org())

    assert key.works()
    assert key.call("GET", "/v1/nothing").status == 404

    def counted():
        days = told(key)["usage"]["days"]
        return days and {(count["route"], count["outcome"]): count["count"]
                         for count in days[0]["counts"]}

    found = wait_for(lambda: (counts := counted())
                     and counts.get(("GET /v1/loads", "ok")) == 1
                     and ("-", "client_error") in counts
                     and ("GET /v1/self", "ok") in counts and counts, 10,
                     "usage")
    assert found[("-", "client_error")] == 1

    usage = told(key)["usage"]
    assert usage["lastUsedAt"] == told(key)["key"]["lastUsedAt"] is not None
    assert [seen["address"] for seen in usage["addresses"]] == ["127.0.0.1"]


# Who may call.

def test_it_is_refused_like_anything_else(gate):
    check_error(gate.get(SELF), 401, "unauthorized")
    check_error(gate.get(SELF, key="tf_test_x"), 401, "unauthorized")
    check_error(gate.get(SELF, key=gate.key(access="disabled")), 403,
                "partner_access_disabled")
    check_error(gate.get(SELF, key=gate.key(access="not_enabled")), 403,
                "partner_access_not_enabled")
    check_error(gate.get(SELF, key=gate.key(mode="live", access="test")), 403,
                "live_access_not_enabled")
    check_error(gate.get(SELF, key=gate.key(allow=["192.0.2.1"])), 403,
                "forbidden", {"reason": "address_not_allowed"})
    check_error(gate.get(SELF, key=gate.key(
        revokedAt="2020-01-01T00:00:00Z")), 401, "unauthorized")


def test_a_public_route_tells_nobody_anything(gate):
    for key in (None, gate.key()):
        answer = gate.get("/open", key=key)
        check_error(answer, 401, "unauthorized")


def test_the_errors_are_the_contracts_whatever_the_server_has(make_gate):
    gate = make_gate(**{**PIECES, "gate": "keygate partner;"})

    check_error(gate.get(SELF), 401, "unauthorized")
    check_error(gate.get(KEYS, key=gate.key(scopes=["loads:read"])), 403,
                "forbidden", {"requiredScope": "keys:manage"})


@pytest.mark.parametrize("method, path", [
    ("GET", "/plain/keys"), ("DELETE", "/plain/keys/key_x")])
@pytest.mark.parametrize("scopes, let_in", [
    (["loads:read"], False), ([], False), (["keys:manager"], False),
    (["keys:manage"], True), (["keys:*"], True), (["*"], True)])
def test_keys_manage_is_asked_for_whatever_the_route_says(gate, method, path,
                                                          scopes, let_in):
    key = gate.key(scopes=scopes)
    answer = gate.request(method, path, key=key)

    assert gate.get("/plain", key=key).status == 200

    if let_in:
        assert answer.status == {"GET": 200, "DELETE": 404}[method]
    else:
        check_error(answer, 403, "forbidden",
                    {"requiredScope": "keys:manage"})
        assert 'error="insufficient_scope", scope="keys:manage"' \
            in answer.get("WWW-Authenticate")


# Methods and paths.

def test_head(gate):
    key = manager(gate)

    for path in (SELF, KEYS, f"{KEYS}/{key.id}"):
        head = key.call("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert int(head.get("Content-Length")) > 100


def test_options_and_other_methods_are_the_routes(gate):
    key = manager(gate)

    for path, allow in ((SELF, "GET, HEAD"), (KEYS, "GET, HEAD, POST"),
                        (f"{KEYS}/{key.id}", "GET, HEAD, PATCH, DELETE")):
        answer = key.call("OPTIONS", path)
        assert (answer.status, answer.get("Allow")) == (204, allow)
        assert gate.options(path).get("Allow") is None

        answer = key.call("PUT", path)
        check_error(answer, 405, "method_not_allowed")
        assert answer.get("Allow") == allow


def test_a_route_that_is_no_call(gate):
    """Of a path and of a method: what the routes name, there is no call for.
    What only begins like the location is not in it."""
    key = manager(gate)

    check_error(key.call("GET", "/plain/nothing"), 404, "not_found")
    check_error(key.call("GET", "/plainkeys"), 404, "not_found")

    answer = key.call("PUT", "/plain/keys")
    check_error(answer, 405, "method_not_allowed")
    assert answer.get("Allow") == "GET, HEAD, POST"


@pytest.mark.parametrize("path", [
    "/v1/self/", "/v1//self", "/v1/self/keys/", "/v1/./self",
    "/v1/loads/../self", "/v1/self%2fkeys", "/v1/selfish", "/v1/self/other"])
def test_paths_that_are_no_routes(gate, path):
    check_error(manager(gate).call("GET", path), 404, "not_found")


def test_keepalive_and_http_2(gate):
    key = manager(gate)
    head = {"Authorization": f"Bearer {key.token}"}

    with gate.connect() as client:
        for path in (SELF, KEYS, "/v1/self/none", SELF):
            client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: "
                        f"Bearer {key.token}\r\n\r\n".encode())
            answer = client.read("GET")
            assert answer.status == (404 if "none" in path else 200)

    with gate.h2(headers=head) as client:
        assert client.get(SELF).json()["key"]["id"] == key.id
        new = client.post("/plain/keys", json={"scopes": ["loads:read"]})
        assert Made(gate, new.json()).works()


def test_a_subrequest_manages_nothing(make_gate):
    """A mirror of a call, which has read its body, makes no second key."""
    gate = make_gate(**{**PIECES, "locations": """
        location /v1/self { keygate_self; }
        location /plain { keygate_self; mirror /v1/self/keys; }"""})
    key = manager(gate)

    assert Made(gate, key.make().json()).works()
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == 2


def test_an_error_page_tells_nothing(make_gate):
    gate = make_gate(**{**PIECES, "location":
                        "error_page 403 404 = /plain;"})
    answer = manager(gate).call("GET", "/v1/none")

    assert answer.status == 404
    assert b"organisation" not in answer.body


# Wrong configurations.

def location(text):
    return {**PIECES, "locations": "location /v1/self { %s }" % text}


@pytest.mark.parametrize("pieces, message", [
    (location("keygate_self on;"), '"max_keys="'),
    (location("keygate_self max_keys=0;"), "from 1 to 10000"),
    (location("keygate_self max_keys=10001;"), "from 1 to 10000"),
    (location("keygate_self max_keys=-1;"), "from 1 to 10000"),
    (location("keygate_self max_keys=;"), "from 1 to 10000"),
    (location("keygate_self max_keys=1 on;"), "invalid number of arguments"),
    (location("keygate_self; keygate_self;"), "is duplicate"),
    (location("keygate off; keygate_self;"), 'needs "keygate"'),
    (location("keygate partner dry_run; keygate_self;"), 'without "dry_run"'),
    (location("keygate_self; proxy_pass http://127.0.0.1:1;"),
     "take the other directive"),
    (location("proxy_pass http://127.0.0.1:1; keygate_self;"),
     "another directive answers already"),
    (location("keygate_admin role=read; keygate_self;"),
     "another directive answers already"),
    ({**PIECES, "locations": "location ~ ^/v1/self { keygate_self; }"},
     "regular expression"),
    ({**PIECES, "locations": "location = /v1/self { keygate_self; }"},
     "given by a prefix"),
    ({**PIECES, "locations": "location @self { keygate_self; }"},
     "given by a prefix"),
    ({**PIECES, "server": "keygate_self;"}, "not allowed here"),
    ({**PIECES, "gate": "keygate partner dry_run;"}, 'without "dry_run"'),
])
def test_refused_at_nginx_t(nginx_t, pieces, message):
    rc, stderr = nginx_t(**pieces)

    assert rc == 1
    assert message in stderr


def test_under_dry_run_with_a_keygate_of_its_own(make_gate):
    gate = make_gate(**{
        **PIECES, "gate": "keygate partner dry_run;",
        "locations": "location /v1/self { keygate partner; keygate_self; }"})

    check_error(gate.get(SELF), 401, "unauthorized")
    assert gate.get(SELF, key=gate.key(scopes=MANAGE)).status == 200
