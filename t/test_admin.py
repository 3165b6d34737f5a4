"""The admin interface: organisations and keys, who may do what, what is
refused and how, and what must hold whatever goes wrong on the way."""

import concurrent.futures
import datetime
import json
import re
import threading
import time

import pytest

import harness
from harness import records

POLICIES = "keygate_policy default rate=60r/m min=1r/m max=600r/m by=key;\n" \
           "keygate_policy org rate=3000r/m max=6000r/m by=org;\n" \
           "keygate_policy slow rate=6r/m min=2r/m by=key;\n" \
    + "".join(f"keygate_policy p{n} rate=60r/m by=key;\n" for n in range(8))

GATE = {
    "policies": POLICIES,
    "locations": "location /read/ { keygate_admin role=read; }\n"
                 "location /portal { keygate_admin role=portal; }\n",
}

KEY = {"mode": "test", "scopes": ["loads:read"]}


def new_id():
    return "org-" + records.base62(12)


def ask(gate, role, method, path, json=None):
    """A call as that role."""
    if role == "operator":
        return gate.admin(method, path, json=json)
    return gate.request(method, f"/{role}{path}", json=json)


def make_org(gate, access="live", **members):
    org = new_id()
    answer = gate.admin("PUT", f"/orgs/{org}",
                        json={"access": access, **members})
    assert answer.status == 201, answer
    return org


def make_key(gate, org=None, **members):
    """The answer to a new key's making, parsed."""
    org = org or make_org(gate)
    answer = gate.admin("POST", f"/orgs/{org}/keys", json={**KEY, **members})
    assert answer.status == 201, answer
    return answer.json()


def stored(gate, kind, name):
    return json.loads(gate.redis.client.get(f"kg:{kind}:{{{name}}}"))


def stored_key(gate, token):
    return stored(gate, "key", harness.digest(gate.pepper, token))


def refused(answer, status, code, field=None):
    """Asserts a refusal in the contract's envelope, with its field."""
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.get("Content-Type") == "application/json"
    assert answer.get("Cache-Control") == "no-store"
    assert answer.get("X-Request-Id") == answer.json()["requestId"]
    assert answer.error["retryable"] is (status == 503)
    assert (answer.get("Retry-After") is not None) is (status == 503)
    assert answer.error.get("details", {}).get("field") == field, answer
    if field:
        assert field in answer.error["message"]


def in_days(days, seconds=0):
    when = (datetime.datetime.now(datetime.timezone.utc)
            + datetime.timedelta(days=days, seconds=seconds))
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


# Organisations.


def test_put_creates_then_replaces(gate):
    org = new_id()
    first = gate.admin("PUT", f"/orgs/{org}", json={
        "access": "live", "name": "Äcme", "limits": {"org": "3000r/m"}})

    assert first.status == 201
    assert first.get("Content-Type") == "application/json"
    assert first.get("Cache-Control") == "no-store"
    created = first.json().pop("createdAt")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert first.json() == {
        "id": org, "access": "live", "name": "Äcme", "plan": None,
        "limits": {"org": "3000r/m"}, "createdAt": created}

    second = gate.admin("PUT", f"/orgs/{org}", json={"access": "disabled"})

    assert second.status == 200
    assert second.json() == {
        "id": org, "access": "disabled", "name": None, "plan": None,
        "limits": {}, "createdAt": created}
    assert stored(gate, "org", org) == {"v": 1, "access": "disabled",
                                        "createdAt": created}


def test_get_counts_keys(gate):
    org = make_org(gate)
    assert gate.admin("GET", f"/orgs/{org}").json()["keys"] == 0
    make_key(gate, org)
    make_key(gate, org)
    answer = gate.admin("GET", f"/orgs/{org}")
    assert answer.status == 200
    assert answer.json()["keys"] == 2
    assert answer.json()["id"] == org
    assert answer.json()["access"] == "live"


def test_patch_changes_what_is_named_only(gate):
    org = make_org(gate, "test", name="Acme",
                   limits={"default": "90r/m", "org": "3000r/m"})

    answer = gate.admin("PATCH", f"/orgs/{org}", json={
        "access": "live", "limits": {"default": "120r/m", "slow": "3r/m"}})
    assert answer.status == 200
    assert answer.json()["access"] == "live"
    assert answer.json()["name"] == "Acme"
    assert answer.json()["limits"] == {
        "default": "120r/m", "org": "3000r/m", "slow": "3r/m"}

    answer = gate.admin("PATCH", f"/orgs/{org}", json={
        "name": None, "limits": {"org": None}})
    assert answer.json()["name"] is None
    assert answer.json()["access"] == "live"
    assert answer.json()["limits"] == {"default": "120r/m", "slow": "3r/m"}

    answer = gate.admin("PATCH", f"/orgs/{org}", json={"limits": None})
    assert answer.json()["limits"] == {}
    assert "limits" not in stored(gate, "org", org)


def test_edits_keep_members_they_do_not_know(gate):
    org = new_id()
    records.make_org(gate.redis.client, "test", org, region="eu", plan="gold")

    assert gate.admin("PATCH", f"/orgs/{org}",
                      json={"name": "A"}).status == 200
    assert stored(gate, "org", org)["region"] == "eu"
    assert stored(gate, "org", org)["plan"] == "gold"

    assert gate.admin("PUT", f"/orgs/{org}",
                      json={"access": "live"}).status == 200
    assert stored(gate, "org", org) == {"v": 1, "access": "live",
                                        "region": "eu"}


def test_access_changes_what_a_key_may_at_once(gate):
    org = make_org(gate, "live")
    key = make_key(gate, org, mode="live")["token"]
    assert gate.get("/v1/loads", key=key).status == 200

    for access, code in (("disabled", "partner_access_disabled"),
                         ("test", "live_access_not_enabled"),
                         ("not_enabled", "partner_access_not_enabled")):
        gate.admin("PATCH", f"/orgs/{org}", json={"access": access})
        for _ in range(4):
            assert gate.get("/v1/loads", key=key).code == code

    gate.admin("PATCH", f"/orgs/{org}", json={"access": "live"})
    assert gate.get("/v1/loads", key=key).status == 200


# Keys.


def test_a_new_key_works_and_is_what_was_asked_for(gate):
    org = make_org(gate, "live")
    expires = in_days(30)
    asked = {"mode": "live", "scopes": ["loads:read", "carriers:*"],
             "name": "Prod", "limits": {"default": "120r/m"},
             "allow": ["127.0.0.0/8", "2001:db8::/32"],
             "notBefore": "2020-01-01T02:00:00+02:00", "expiresAt": expires}

    answer = gate.admin("POST", f"/orgs/{org}/keys", json=asked)
    assert answer.status == 201
    assert answer.get("Cache-Control") == "no-store"
    record = answer.json()
    token = record.pop("token")

    assert re.fullmatch(r"tf_live_[0-9A-Za-z]{38}", token)
    assert token[-6:] == records.checksum(token[:-6])
    assert re.fullmatch(r"key_[0-9A-Za-z]{20}", record["id"])
    assert record == {
        **asked, "org": org, "id": record["id"], "revokedAt": None,
        "notBefore": "2020-01-01T00:00:00Z", "createdAt": record["createdAt"],
        "hint": "tf_live_..." + token[-4:]}
    assert abs(time.time() - datetime.datetime.fromisoformat(
        record["createdAt"].replace("Z", "+00:00")).timestamp()) < 60

    assert gate.admin("GET", f"/keys/{record['id']}").json() == record

    answer = gate.get("/v1/loads", key=token)
    assert answer.status == 200
    assert answer.get("RateLimit-Policy") == '"default";q=120;w=60'
    assert gate.get("/v1/customers", key=token).code == "forbidden"


def test_members_not_given_are_shown_empty(gate):
    record = make_key(gate)
    assert (record["name"], record["limits"], record["allow"],
            record["notBefore"], record["expiresAt"],
            record["revokedAt"]) == (None, {}, [], None, None, None)


def test_each_key_is_new(gate):
    org = make_org(gate)
    made = [make_key(gate, org) for _ in range(5)]
    assert len({key["token"] for key in made}) == 5
    assert len({key["id"] for key in made}) == 5


def test_what_redis_holds_of_a_key(gate):
    key = make_key(gate, name="UAT")
    client = gate.redis.client
    hex_digest = harness.digest(gate.pepper, key["token"])

    assert client.get(f"kg:id:{{{key['id']}}}").decode() == hex_digest
    score = client.zscore(f"kg:keys:{{{key['org']}}}", key["id"])
    assert abs(score / 1000 - time.time()) < 60

    record = stored_key(gate, key["token"])
    assert record["v"] == 1
    assert re.fullmatch("[0-9a-f]{8}", record["pepper"])
    assert record["hint"] == key["hint"]
    assert record["name"] == "UAT"
    assert "token" not in record


def test_revoked_everywhere_at_once_and_for_good(gate):
    key = make_key(gate)
    for _ in range(8):                  # both workers know it
        assert gate.get("/v1/loads", key=key["token"]).status == 200

    first = gate.admin("DELETE", f"/keys/{key['id']}")
    assert first.status == 200
    assert first.json()["revokedAt"] is not None
    assert "token" not in first.json()

    for _ in range(8):
        answer = gate.get("/v1/loads", key=key["token"])
        assert answer.code == "unauthorized"
        assert "revoked" in answer.error["message"]

    time.sleep(1.1)
    again = gate.admin("DELETE", f"/keys/{key['id']}")
    assert again.status == 200
    assert again.json() == first.json()
    assert gate.admin("GET", f"/keys/{key['id']}").json() == first.json()


def test_an_id_whose_record_was_not_written_is_unknown(gate):
    """What a crash in the midst of making a key leaves."""
    key_id = "key_" + records.base62(20)
    gate.redis.client.set(f"kg:id:{{{key_id}}}", "ab" * 32)

    for method in ("GET", "DELETE"):
        refused(gate.admin(method, f"/keys/{key_id}"), 404, "not_found")
    assert gate.redis.client.get(f"kg:key:{{{'ab' * 32}}}") is None


def test_record_is_written_last(make_gate, make_redis, make_relay):
    """A making that is cut off anywhere permits nothing."""
    relay = make_relay(make_redis().port)
    gate = make_gate(redis_url=relay.url)
    assert gate.admin("PUT", "/orgs/acme",
                      json={"access": "live"}).status == 201
    start = len(relay.commands)
    assert gate.admin("POST", "/orgs/acme/keys", json=KEY).status == 201

    writes = [[part.decode() for part in command[:2]]
              for command in relay.commands[start:]
              if command[0] in (b"SET", b"ZADD")]
    assert [(name, key.split("{")[0]) for name, key in writes] == [
        ("SET", "kg:id:"), ("ZADD", "kg:keys:"), ("SET", "kg:key:")]


# Roles.


@pytest.mark.parametrize("role, org_access, mode, status", [
    ("operator", "live", "live", 201),
    ("operator", "test", "live", 409),
    ("operator", "disabled", "live", 409),
    ("operator", "live", "test", 201),
    ("operator", "test", "test", 201),
    ("operator", "not_enabled", "test", 201),
    ("portal", "live", "live", 403),
    ("portal", "live", "test", 201),
    ("portal", "test", "test", 201),
    ("portal", "not_enabled", "test", 409),
    ("portal", "disabled", "test", 409),
    ("read", "live", "test", 403),
    ("read", "live", "live", 403),
])
def test_who_may_create_which_key(gate, role, org_access, mode, status):
    org = make_org(gate, org_access)
    answer = ask(gate, role, "POST", f"/orgs/{org}/keys", {**KEY,
                                                           "mode": mode})
    keys = gate.admin("GET", f"/orgs/{org}").json()["keys"]

    if status == 201:
        assert answer.status == 201
        assert answer.json()["mode"] == mode
        assert keys == 1
    else:
        refused(answer, status, {403: "forbidden", 409: "conflict"}[status])
        assert keys == 0


@pytest.mark.parametrize("role, mode, status", [
    ("operator", "live", 200), ("operator", "test", 200),
    ("portal", "live", 403), ("portal", "test", 200),
    ("read", "live", 403), ("read", "test", 403),
])
def test_who_may_revoke_which_key(gate, role, mode, status):
    key = make_key(gate, mode=mode)
    answer = ask(gate, role, "DELETE", f"/keys/{key['id']}")
    assert answer.status == status
    if status == 403:
        refused(answer, 403, "forbidden")
    revoked = stored_key(gate, key["token"]).get("revokedAt")
    assert (revoked is not None) is (status == 200)


@pytest.mark.parametrize("role", ["read", "portal"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_only_an_operator_changes_organisations(gate, role, method):
    org = make_org(gate, "test")
    refused(ask(gate, role, method, f"/orgs/{org}", {"access": "live"}),
            403, "forbidden")
    assert stored(gate, "org", org)["access"] == "test"


@pytest.mark.parametrize("role", ["read", "portal", "operator"])
def test_every_role_may_look(gate, role):
    key = make_key(gate)
    answer = ask(gate, role, "GET", f"/keys/{key['id']}")
    assert answer.status == 200
    assert answer.json()["id"] == key["id"]
    answer = ask(gate, role, "GET", f"/orgs/{key['org']}")
    assert answer.status == 200
    assert answer.json()["id"] == key["org"]


# Refusals.


@pytest.mark.parametrize("body, field", [
    ({}, "access"),
    ({"name": "Acme"}, "access"),
    ({"access": None}, "access"),
    ({"access": "full"}, "access"),
    ({"access": 1}, "access"),
    ({"access": "test", "acces": "live"}, "acces"),
    ({"access": "test", "id": "x"}, "id"),
    ({"access": "test", "v": 1}, "v"),
    ({"access": "test", "na\"me\n": 1}, "na\"me\n"),
    ({"access": "test", "name": 5}, "name"),
    ({"access": "test", "name": "a\nb"}, "name"),
    ({"access": "test", "name": "a\x7fb"}, "name"),
    ({"access": "test", "name": "a\x85b"}, "name"),
    ({"access": "test", "name": "é" * 128}, "name"),
    ({"access": "test", "plan": "gold"}, "plan"),
    ({"access": "test", "limits": []}, "limits"),
    ({"access": "test", "limits": {"nosuch": "1r/m"}}, "limits.nosuch"),
    ({"access": "test", "limits": {"default": 60}}, "limits.default"),
    ({"access": "test", "limits": {"default": "60/m"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "0r/m"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "601r/m"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "59r/h"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "11r/s"}}, "limits.default"),
    ({"access": "test", "limits": {"org": "6001r/m"}}, "limits.org"),
    ({"access": "test", "limits": {"slow": "1r/m"}}, "limits.slow"),
])
def test_organisation_fields_refused(gate, body, field):
    org = new_id()
    refused(gate.admin("PUT", f"/orgs/{org}", json=body), 400, "bad_request",
            field)
    assert gate.redis.client.get(f"kg:org:{{{org}}}") is None


def test_ranges_are_named_and_their_ends_are_in(gate):
    org = make_org(gate)

    def patch(policy, rate):
        return gate.admin("PATCH", f"/orgs/{org}",
                          json={"limits": {policy: rate}})

    message = patch("default", "601r/m").error["message"]
    assert "1r/m" in message and "600r/m" in message
    assert "at most 6000r/m" in patch("org", "6001r/m").error["message"]
    assert "at least 2r/m" in patch("slow", "1r/m").error["message"]

    for policy, rate in (("default", "600r/m"), ("default", "10r/s"),
                         ("default", "1r/m"), ("default", "60r/h"),
                         ("org", "6000r/m"), ("slow", "2r/m")):
        assert patch(policy, rate).json()["limits"][policy] == rate


@pytest.mark.parametrize("change, field", [
    ({"mode": None}, "mode"),
    ({"mode": "prod"}, "mode"),
    ({"scopes": None}, "scopes"),
    ({"scopes": []}, "scopes"),
    ({"scopes": "loads:read"}, "scopes"),
    ({"scopes": ["loads:read", "Loads:Read"]}, "scopes"),
    ({"scopes": ["a b"]}, "scopes"),
    ({"scopes": [""]}, "scopes"),
    ({"scopes": [7]}, "scopes"),
    ({"scopes": ["s" * 129]}, "scopes"),
    ({"scopes": ["s"] * 65}, "scopes"),
    ({"name": "\x00"}, None),
    ({"name": ["x"]}, "name"),
    ({"limits": {"default": "9999r/m"}}, "limits.default"),
    ({"allow": "203.0.113.7"}, "allow"),
    ({"allow": ["203.0.113.7/24"]}, "allow"),
    ({"allow": ["203.0.113.256"]}, "allow"),
    ({"allow": [""]}, "allow"),
    ({"allow": [None]}, "allow"),
    ({"allow": ["10.0.0.1"] * 65}, "allow"),
    ({"notBefore": "tomorrow"}, "notBefore"),
    ({"notBefore": 1800000000}, "notBefore"),
    ({"notBefore": ""}, "notBefore"),
    ({"expiresAt": "2027-02-30T00:00:00Z"}, "expiresAt"),
    ({"expiresAt": "2027-01-01T00:00:00"}, "expiresAt"),
    ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
    ({"expiresAt": in_days(2), "notBefore": in_days(2)}, "expiresAt"),
    ({"expiresAt": in_days(2), "notBefore": in_days(3)}, "expiresAt"),
    ({"token": "tf_test_x"}, "token"),
    ({"sha256": "ab" * 32}, "sha256"),
    ({"org": "other"}, "org"),
])
def test_key_fields_refused(gate, change, field):
    org = make_org(gate)
    refused(gate.admin("POST", f"/orgs/{org}/keys", json={**KEY, **change}),
            400, "bad_request", field)
    assert gate.admin("GET", f"/orgs/{org}").json()["keys"] == 0


@pytest.mark.parametrize("missing", ["mode", "scopes"])
def test_key_fields_required(gate, missing):
    org = make_org(gate)
    body = {name: value for name, value in KEY.items() if name != missing}
    refused(gate.admin("POST", f"/orgs/{org}/keys", json=body), 400,
            "bad_request", missing)


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"x"', b"{}{}", b'{"access":"test"',
    b'{"access":"test","access":"live"}', b'{"name":"\xff"}', b"[" * 3000,
], ids=range(10))
def test_bodies_that_are_no_json_object(gate, body):
    org = make_org(gate, "test", name="kept")
    for method, path in (("PUT", ""), ("PATCH", ""), ("POST", "/keys")):
        refused(gate.admin(method, f"/orgs/{org}{path}", body=body), 400,
                "bad_request")
    assert stored(gate, "org", org)["name"] == "kept"


def padded(size):
    """A body of that many bytes that is right otherwise."""
    body = b'{"name":"big"}'
    return b" " * (size - len(body)) + body


def chunked(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("size, status", [
    (100, 200), (20000, 200), (65536, 200), (65537, 400), (300000, 400)])
def test_bodies_up_to_64_kib(gate, how, size, status):
    """In memory and, above nginx's buffer, in a file."""
    org = make_org(gate)
    if how == "length":
        answer = gate.admin("PATCH", f"/orgs/{org}", body=padded(size))
    else:
        answer = gate.admin("PATCH", f"/orgs/{org}",
                            headers={"Transfer-Encoding": "chunked"},
                            body=chunked(padded(size)))
    if status == 400:
        refused(answer, 400, "bad_request")
        assert "64 KiB" in answer.error["message"]
    else:
        assert answer.status == 200
        assert answer.json()["name"] == "big"


@pytest.mark.parametrize("org, status", [
    ("A-z_0", 404), ("o" * 64, 404), ("o" * 65, 400), ("a.b", 400),
    ("a%20b", 400), ("%C3%A9", 400), ("a%00b", 400), ("%7Bx%7D", 400)])
def test_organisation_ids(gate, org, status):
    for method, path, body in (("GET", "", None),
                               ("PATCH", "", {"name": "x"}),
                               ("POST", "/keys", KEY)):
        answer = gate.admin(method, f"/orgs/{org}{path}", json=body)
        if "%00" in org:
            assert answer.status == 400     # nginx's own
        elif status == 400:
            assert (answer.status, answer.code) == (400, "bad_request")
            assert answer.error["details"] == {"field": "org"}
        else:
            refused(answer, 404, "not_found")


@pytest.mark.parametrize("key_id", [
    "key_", "nokey", "key_" + "x" * 20, "key_" + "x" * 61, "key_a.b", "*",
    "find"])
def test_unknown_keys(gate, key_id):
    for method in ("GET", "DELETE"):
        refused(gate.admin(method, f"/keys/{key_id}"), 404, "not_found")


@pytest.mark.parametrize("path", [
    "/", "/nothing", "/orgsx", "/orgs/a/b", "/keys/a/b", "/orgs/acme/",
    "/orgs/acme/keys/"])
def test_paths_that_are_no_calls(gate, path):
    refused(gate.admin("GET", path), 404, "not_found")


@pytest.mark.parametrize("path, allow, methods", [
    ("/orgs/acme", "GET, HEAD, PUT, PATCH", ["POST", "OPTIONS", "BREW"]),
    ("/orgs/acme/keys", "POST", ["PUT", "PATCH"]),
    ("/keys/key_x", "GET, HEAD, DELETE", ["POST", "PUT"])])
def test_other_methods(gate, path, allow, methods):
    for method in methods:
        answer = gate.admin(method, path)
        refused(answer, 405, "method_not_allowed")
        assert set(allow.split(", ")) <= set(answer.get("Allow").split(", "))
        assert method not in answer.get("Allow").split(", ")


def test_paths_are_relative_to_the_location(gate):
    """/portal, without a slash at its end, is no prefix of /portalorgs."""
    org = make_org(gate)
    assert gate.get(f"/portal/orgs/{org}").json()["id"] == org
    assert gate.get(f"/read/orgs/{org}").json()["id"] == org
    refused(gate.get(f"/portalorgs/{org}"), 404, "not_found")
    refused(gate.get(f"/portalx/orgs/{org}"), 404, "not_found")


def test_head_and_keepalive(gate):
    key = make_key(gate)
    client = harness.Client(gate.path("admin.sock"))

    with client:
        head = client.request("HEAD", f"/keys/{key['id']}")
        assert (head.status, head.body) == (200, b"")
        for _ in range(3):
            got = client.request("GET", f"/keys/{key['id']}")
            assert got.json()["id"] == key["id"]
            assert client.request("GET", "/keys/key_none").status == 404
            patched = client.request("PATCH", f"/orgs/{key['org']}",
                                     body=b'{"name":"x"}')
            assert patched.status == 200
        assert int(head.get("Content-Length")) == len(got.body)


@pytest.mark.parametrize("text", [
    "no json", "[]", '{"v":1}', '{"v":1,"access":"everything"}',
    '{"v":2,"access":"live"}'])
def test_a_broken_record_is_left_alone(gate, text):
    org = new_id()
    gate.redis.client.set(f"kg:org:{{{org}}}", text)

    for method, path, body in (("GET", "", None),
                               ("PATCH", "", {"access": "live"}),
                               ("POST", "/keys", KEY)):
        refused(gate.admin(method, f"/orgs/{org}{path}", json=body), 500,
                "internal_error")
    assert gate.redis.client.get(f"kg:org:{{{org}}}").decode() == text
    gate.wait_log(f'record of organisation "{org}" in Redis is not valid')


# Whatever goes wrong.


def test_concurrent_patches_lose_nothing(gate):
    org = make_org(gate, "test")
    patches = [{"limits": {f"p{n}": f"{n + 1}r/s"}} for n in range(6)]
    patches += [{"name": "Acme"}, {"access": "live"}]

    for _ in range(5):
        gate.admin("PUT", f"/orgs/{org}", json={"access": "test"})
        with concurrent.futures.ThreadPoolExecutor(len(patches)) as pool:
            answers = list(pool.map(
                lambda body: gate.admin("PATCH", f"/orgs/{org}", json=body),
                patches))
        assert [answer.status for answer in answers] == [200] * len(patches)

        record = stored(gate, "org", org)
        assert record["limits"] == {f"p{n}": f"{n + 1}r/s" for n in range(6)}
        assert (record["name"], record["access"]) == ("Acme", "live")


def test_who_loses_every_race_is_told(make_gate, make_redis, make_relay):
    """Someone writes the record between each read and write of the edit."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    org = records.make_org(redis.client, "test")
    stop = threading.Event()

    def keep_writing():
        for n in range(10 ** 9):
            if stop.is_set():
                return
            records.make_org(redis.client, "test", org, n=n)

    relay.delay = 0.02
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        answer = gate.admin("PATCH", f"/orgs/{org}", json={"access": "live"})
    finally:
        stop.set()
        writer.join()

    refused(answer, 409, "conflict")
    assert stored(gate, "org", org)["access"] == "test"
    assert stored(gate, "org", org)["n"] > 8


def calls(org, key_id):
    return [("GET", f"/orgs/{org}", None),
            ("PUT", f"/orgs/{org}", {"access": "live"}),
            ("PATCH", f"/orgs/{org}", {"access": "live"}),
            ("POST", f"/orgs/{org}/keys", KEY),
            ("GET", f"/keys/{key_id}", None),
            ("DELETE", f"/keys/{key_id}", None)]


def test_redis_down(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis)
    key = make_key(gate)

    with redis.stopped():
        for method, path, body in calls(key["org"], key["id"]):
            refused(gate.admin(method, path, json=body), 503,
                    "service_unavailable")


def test_redis_frozen(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis)
    key = make_key(gate)

    with redis.frozen():
        for method, path, body in calls(key["org"], key["id"])[::3]:
            start = time.monotonic()
            refused(gate.admin(method, path, json=body), 503,
                    "service_unavailable")
            assert time.monotonic() - start < 3


def test_redis_refuses_writes(make_gate, make_redis):
    """A full Redis: what is there can be read, what is not written is not
    said to be."""
    redis = make_redis()
    gate = make_gate(redis=redis)
    key = make_key(gate)
    redis.client.config_set("maxmemory", "1")

    for method, path, body in calls(key["org"], key["id"]):
        answer = gate.admin(method, path, json=body)
        if method == "GET":
            assert answer.status == 200
        else:
            refused(answer, 503, "service_unavailable")

    assert stored_key(gate, key["token"]).get("revokedAt") is None


def test_a_call_runs_to_its_end_without_its_client(make_gate, make_redis,
                                                   make_relay):
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    key = make_key(gate)
    relay.delay = 0.06

    client = harness.Client(gate.path("admin.sock"))
    client.send(f"DELETE /keys/{key['id']} HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.05)
    client.close()

    deadline = time.monotonic() + 5
    while not stored_key(gate, key["token"]).get("revokedAt"):
        assert time.monotonic() < deadline, "the key was not revoked"
        time.sleep(0.02)


def test_a_reload_ends_no_call(make_gate, make_redis, make_relay):
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    org = make_org(gate)
    relay.delay = 0.06

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        made = pool.submit(make_key, gate, org)
        time.sleep(0.1)
        gate.reload()
        key = made.result()

    relay.delay = 0
    assert stored_key(gate, key["token"])["id"] == key["id"]


def values_of(client):
    """Every value in Redis, by its name."""
    for name in client.scan_iter():
        kind = client.type(name)
        if kind == b"string":
            yield name.decode(), client.get(name).decode("latin-1")
        elif kind == b"zset":
            yield name.decode(), repr(client.zrange(name, 0, -1))
        else:
            raise AssertionError(f"{name} is a {kind}")


def test_secrets_are_shown_and_kept_nowhere(make_gate, make_redis):
    """At level debug, where everybody says most."""
    redis = make_redis()
    gate = make_gate(redis=redis, level="debug")
    key = make_key(gate)
    token = key["token"]
    secrets = [token, harness.digest(gate.pepper, token),
               gate.pepper.decode()]
    entropy = token.split("_")[2][:32]

    shown = [gate.admin("GET", f"/keys/{key['id']}"),
             gate.admin("GET", f"/orgs/{key['org']}"),
             gate.admin("DELETE", f"/keys/{key['id']}"),
             gate.admin("POST", f"/keys/{key['id']}")]
    for answer in shown:
        for secret in secrets + [entropy, "pepper"]:
            assert secret not in repr(answer.headers) + answer.body.decode()

    logs = gate.log() + "".join(gate.access_log())
    assert key["id"] in logs
    for secret in secrets + [entropy]:
        assert secret not in logs

    found = dict(values_of(redis.client))
    assert found.pop(f"kg:id:{{{key['id']}}}") == secrets[1]
    assert len(found) == 3
    for name, value in found.items():
        for secret in secrets + [entropy]:
            assert secret not in value, name
