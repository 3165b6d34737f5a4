"""The admin interface refuses what is wrong, and names the field."""

import pytest

import harness
from admin_calls import (KEY, PIECES, in_days, make_key, make_org, new_id,
                         check_refused, stored)

GATE = PIECES


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
    ({"access": "test", "plan": ""}, "plan"),
    ({"access": "test", "plan": 1}, "plan"),
    ({"access": "test", "limits": []}, "limits"),
    ({"access": "test", "limits": {"nosuch": "1r/m"}}, "limits.nosuch"),
    ({"access": "test", "limits": {"default": 60}}, "limits.default"),
    ({"access": "test", "limits": {"default": "60/m"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "0r/m"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "601r/m"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "59r/h"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "11r/s"}}, "limits.default"),
    ({"access": "test", "limits": {"default": "601r/h"}}, "limits.default"),
    ({"access": "test", "limits": {"org": "6001r/m"}}, "limits.org"),
    ({"access": "test", "limits": {"slow": "1r/m"}}, "limits.slow"),
])
def test_organisation_fields_refused(gate, body, field):
    org = new_id()
    check_refused(gate.admin("PUT", f"/orgs/{org}", json=body), 400, "bad_request",
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
    check_refused(gate.admin("POST", f"/orgs/{org}/keys", json={**KEY, **change}),
            400, "bad_request", field)
    assert gate.admin("GET", f"/orgs/{org}").json()["keys"] == 0


@pytest.mark.parametrize("missing", ["mode", "scopes"])
def test_key_fields_required(gate, missing):
    org = make_org(gate)
    body = {name: value for name, value in KEY.items() if name != missing}
    check_refused(gate.admin("POST", f"/orgs/{org}/keys", json=body), 400,
            "bad_request", missing)


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"x"', b"{}{}", b'{"access":"test"',
    b'{"access":"test","access":"live"}', b'{"name":"\xff"}', b"[" * 3000,
], ids=range(10))
def test_bodies_that_are_no_json_object(gate, body):
    org = make_org(gate, "test", name="kept")
    for method, path in (("PUT", ""), ("PATCH", ""), ("POST", "/keys")):
        check_refused(gate.admin(method, f"/orgs/{org}{path}", body=body), 400,
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
        check_refused(answer, 400, "bad_request")
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
            check_refused(answer, 404, "not_found")


@pytest.mark.parametrize("key_id", [
    "key_", "nokey", "key_" + "x" * 20, "key_" + "x" * 61, "key_a.b", "*",
    "find"])
def test_unknown_keys(gate, key_id):
    for method in ("GET", "DELETE"):
        check_refused(gate.admin(method, f"/keys/{key_id}"), 404, "not_found")


@pytest.mark.parametrize("path", [
    "/", "/nothing", "/orgsx", "/orgs/a/b", "/keys/a/b", "/orgs/acme/",
    "/orgs/acme/keys/"])
def test_paths_that_are_no_calls(gate, path):
    check_refused(gate.admin("GET", path), 404, "not_found")


@pytest.mark.parametrize("path, allow, methods", [
    ("/orgs/acme", "GET, HEAD, PUT, PATCH", ["POST", "OPTIONS", "BREW"]),
    ("/orgs/acme/keys", "POST", ["PUT", "PATCH"]),
    ("/keys/key_x", "GET, HEAD, DELETE", ["POST", "PUT"])])
def test_other_methods(gate, path, allow, methods):
    for method in methods:
        answer = gate.admin(method, path)
        check_refused(answer, 405, "method_not_allowed")
        assert set(allow.split(", ")) <= set(answer.get("Allow").split(", "))
        assert method not in answer.get("Allow").split(", ")


def test_paths_are_relative_to_the_location(gate):
    """/portal, without a slash at its end, is no prefix of /portalorgs."""
    org = make_org(gate)
    assert gate.get(f"/portal/orgs/{org}").json()["id"] == org
    assert gate.get(f"/read/orgs/{org}").json()["id"] == org
    check_refused(gate.get(f"/portalorgs/{org}"), 404, "not_found")
    check_refused(gate.get(f"/portalx/orgs/{org}"), 404, "not_found")


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
        check_refused(gate.admin(method, f"/orgs/{org}{path}", json=body), 500,
                "internal_error")
    assert gate.redis.client.get(f"kg:org:{{{org}}}").decode() == text
    gate.wait_log(f'record of organisation "{org}" in Redis is not valid')
