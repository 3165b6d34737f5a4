"""The admin interface: organisations and keys, and who may do what."""

import datetime
import re
import time

import pytest

import harness
from admin_calls import (KEY, PIECES, ask, in_days, make_key, make_org, new_id,
                         check_refused, stored, stored_key)
from harness import records

GATE = PIECES


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


def test_a_plan_that_is_configured(gate):
    org = make_org(gate, plan="silver")
    key = make_key(gate, org)["token"]
    answer = gate.get("/v1/loads", key=key)
    assert answer.get("RateLimit-Policy") == '"default";q=90;w=60'
    assert gate.admin("PATCH", f"/orgs/{org}",
                      json={"plan": None}).json()["plan"] is None
    answer = gate.get("/v1/loads", key=key)
    assert answer.get("RateLimit-Policy") == '"default";q=60;w=60'


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
        "lastUsedAt": None, "hint": "tf_live_..." + token[-4:]}
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
    for answer in (again, gate.admin("GET", f"/keys/{key['id']}")):
        assert answer.json()["revokedAt"] == first.json()["revokedAt"]


def test_an_id_whose_record_was_not_written_is_unknown(gate):
    """What a crash in the midst of making a key leaves."""
    key_id = "key_" + records.base62(20)
    gate.redis.client.set(f"kg:id:{{{key_id}}}", "ab" * 32)

    for method in ("GET", "DELETE"):
        check_refused(gate.admin(method, f"/keys/{key_id}"), 404, "not_found")
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
        check_refused(answer, status, {403: "forbidden", 409: "conflict"}[status])
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
        check_refused(answer, 403, "forbidden")
    revoked = stored_key(gate, key["token"]).get("revokedAt")
    assert (revoked is not None) is (status == 200)


@pytest.mark.parametrize("role", ["read", "portal"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_only_an_operator_changes_organisations(gate, role, method):
    org = make_org(gate, "test")
    check_refused(ask(gate, role, method, f"/orgs/{org}", {"access": "live"}),
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
