"""keygate_self: the test keys of its organisation that a key may look after,
and those it may not."""

import json

import pytest

from admin_calls import everything, in_days, trail
from checks import check_error
from harness.ports import wait_for
from self_calls import KEYS, MANAGE, PIECES, PLAIN, READ, made, manager, other

GATE = PIECES


def test_a_key_is_made_and_works(gate, redis):
    key = manager(gate, gate.org("test"))
    answer = key.make(name="UAT", limits={"default": "30r/m"},
                      allow=["127.0.0.1"], expiresAt="2099-01-01T00:00:00Z")
    new = made(gate, answer)
    body = answer.json()

    assert body["requestId"] == answer.get("X-Request-Id")
    assert answer.get("Cache-Control") == "no-store"
    assert new.token.startswith("tf_test_")
    assert (new.org, body["mode"], body["scopes"], body["name"]) == (
        key.org, "test", ["loads:read"], "UAT")
    assert {name: value for name, value in body.items()
            if name not in ("token", "requestId")} == new.shown()
    assert new.works()
    assert new.token.encode() not in b"".join(
        redis.client.get(name) for name in redis.client.keys("kg:[ki]*")
        if redis.client.type(name) == b"string")


def test_a_live_key_may_make_test_keys(gate):
    key = manager(gate, mode="live")
    new = made(gate, key.make())

    assert new.shown()["mode"] == "test"
    assert new.works()


def test_a_made_key_makes_none(gate):
    new = made(gate, manager(gate).make())

    check_error(new.make(), 403, "forbidden",
                {"requiredScope": "keys:manage"})


def test_never_a_live_key(gate):
    key = manager(gate, mode="live")

    check_error(key.make(mode="live"), 403, "forbidden",
                {"reason": "test_keys_only"})
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == 1


@pytest.mark.parametrize("change, field", [
    ({"org": "other"}, "org"),
    ({"sha256": "ab" * 32}, "sha256"),
    ({"token": "tf_test_x"}, "token"),
    ({"id": "key_x"}, "id"),
    ({"mode": "prod"}, "mode"),
    ({"mode": None}, "mode"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["Loads"]}, "scopes"),
    ({"scopes": "loads:read"}, "scopes"),
    ({"name": "a\nb"}, "name"),
    ({"limits": {"none": "1r/m"}}, "limits.none"),
    ({"limits": {"default": "601r/m"}}, "limits.default"),
    ({"limits": {"default": "many"}}, "limits.default"),
    ({"allow": ["203.0.113.7/24"]}, "allow"),
    ({"expiresAt": "tomorrow"}, "expiresAt"),
    ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
    ({"notBefore": "x"}, "notBefore"),
    ({"notBefore": in_days(3), "expiresAt": in_days(2)}, "expiresAt"),
])
def test_bad_fields(gate, change, field):
    key = manager(gate)

    check_error(key.make(**change), 400, "bad_request", {"field": field})
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":1,"a":2}',
                                  b" " * 65537])
def test_bad_bodies(gate, body):
    key = manager(gate)

    check_error(key.call("POST", PLAIN, body=body), 400, "bad_request")
    check_error(key.call("PATCH", f"{KEYS}/{key.id}", body=body), 400,
                "bad_request")


def listed(key, limit=100):
    """The ids of a list, page by page, and how many pages it took."""
    found, cursor, pages = [], "", 0

    while cursor is not None:
        answer = key.call("GET", f"{KEYS}?limit={limit}&cursor={cursor}")
        assert answer.status == 200, answer
        found += answer.json()["data"]
        cursor = answer.json()["nextCursor"]
        pages += 1

    return [entry["id"] for entry in found], pages


def test_lists_have_test_keys_of_the_own_organisation_only(gate):
    key = manager(gate)
    strange = manager(gate)
    made(gate, strange.make())
    ids = [key.id]

    for _ in range(7):
        other(gate, key.org, "live")
        ids.append(other(gate, key.org).id)

    found, pages = listed(key)
    assert (sorted(found), pages) == (sorted(ids), 1)
    assert listed(key, 3) == (found, 3)

    entries = key.call("GET", KEYS).json()["data"]
    assert {entry["mode"] for entry in entries} == {"test"}
    assert not {"token", "pepper"} & set().union(*entries)


@pytest.mark.parametrize("query, field", [
    ("pepper=0a1b2c3d", "pepper"), ("org=x", "org"), ("limit=101", "limit"),
    ("limit=0", "limit"), ("cursor=x", "cursor"),
    ("cursor=key_none", "cursor")])
def test_bad_arguments(gate, query, field):
    check_error(manager(gate).call("GET", f"{KEYS}?{query}"), 400,
                "bad_request", {"field": field})


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_ids_of_live_keys_are_not_told(gate, limit):
    """Nor whether there are any: neither by where a page ends, nor by what
    becomes of a cursor."""
    org = gate.org("live")
    lives = [other(gate, org, "live") for _ in range(2)]
    key = manager(gate, org)
    mine = [key.id]
    for _ in range(3):
        lives += [other(gate, org, "live") for _ in range(3)]
        mine.insert(0, other(gate, org).id)

    found, cursor = [], ""
    while cursor is not None:
        answer = key.call("GET", f"{KEYS}?limit={limit}&cursor={cursor}")
        for live in lives:
            assert live.id.encode() not in answer.body
        page = [one["id"] for one in answer.json()["data"]]
        cursor = answer.json()["nextCursor"]
        assert len(page) == limit or cursor is None
        assert page and cursor in (None, page[-1])
        found += page
    assert found == mine

    for strange in (lives[0].id, lives[-1].id, "key_none"):
        check_error(key.call("GET", f"{KEYS}?cursor={strange}"), 400,
                    "bad_request", {"field": "cursor"})


def test_a_cursor_of_another_organisation(gate):
    strange = manager(gate)
    check_error(manager(gate).call("GET", f"{KEYS}?cursor={strange.id}"), 400,
                "bad_request", {"field": "cursor"})


CALLS = [("GET", "", None), ("PATCH", "", {"name": "mine"}),
         ("DELETE", "", None), ("POST", "/rotate", {}),
         ("GET", "/usage", None)]


def shown_unused(key):
    """The record, without when its usage was last written."""
    return {**key.shown(), "lastUsedAt": None}


@pytest.mark.parametrize("method, what, body", CALLS)
@pytest.mark.parametrize("caller", ["test", "live"])
def test_keys_that_are_none_of_its_business(gate, method, what, body, caller):
    """A live key of its own organisation, itself if it is one, any key of
    another, and none at all are told apart by nothing."""
    key = manager(gate, mode=caller)
    live = other(gate, key.org, "live")
    strange = other(gate, gate.org())
    keys = key, live, strange
    before = [shown_unused(entry) for entry in keys]
    ids = [live.id, strange.id, "key_none", "key_" + "x" * 61, "%2A"]

    for key_id in ids + ([key.id] if caller == "live" else []):
        answer = key.call(method, f"{KEYS}/{key_id}{what}", json=body)
        shown = key_id.replace("%2A", "*")
        check_error(answer, 404, "not_found")
        assert answer.error["message"] == f'There is no key "{shown}"'

    assert [shown_unused(entry) for entry in keys] == before
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == 2
    assert [entry["action"] for entry in trail(gate)
            if entry["actor"] == key.id] == []


def test_an_index_that_lies(gate, redis):
    """The id of a test key leads to the record of a live one."""
    key = manager(gate)
    test, live = other(gate, key.org), other(gate, key.org, "live")
    redis.client.set(f"kg:id:{{{test.id}}}", live.name[len("kg:key:{"):-1])

    for method, what, body in CALLS:
        check_error(key.call(method, f"{KEYS}/{test.id}{what}", json=body),
                    404, "not_found")
    assert live.works()


def test_get_and_usage(gate, one_day):
    key = manager(gate)
    new = made(gate, key.make(name="UAT"))
    assert new.works()

    answer = key.call("GET", f"{KEYS}/{new.id}")
    assert answer.status == 200
    assert answer.json()["requestId"] == answer.get("X-Request-Id")
    assert answer.json()["name"] == "UAT"
    assert "token" not in answer.json()

    def counted():
        answer = key.call("GET", f"{KEYS}/{new.id}/usage")
        assert answer.status == 200
        return answer.json()["days"] and answer.json()

    usage = wait_for(counted, 10, "usage")
    assert usage["days"][0]["counts"] == [
        {"route": "GET /v1/loads", "outcome": "ok", "count": 1}]
    assert [limit["remaining"] for limit in usage["limits"]
            if limit["policy"] == "default"] == [59]


def test_patch(gate):
    key = manager(gate)
    new = made(gate, key.make())
    answer = key.call("PATCH", f"{KEYS}/{new.id}", json={
        "name": "other", "scopes": ["loads:write"],
        "limits": {"default": "5r/m"}, "allow": ["192.0.2.1"]})

    assert answer.status == 200
    assert answer.json()["requestId"] == answer.get("X-Request-Id")
    shown = new.shown()
    assert (shown["name"], shown["scopes"], shown["limits"],
            shown["allow"]) == ("other", ["loads:write"],
                                {"default": "5r/m"}, ["192.0.2.1"])

    for change, field in (({"mode": "live"}, "mode"), ({"org": "x"}, "org"),
                          ({"scopes": None}, "scopes"),
                          ({"revokedAt": None}, "revokedAt")):
        check_error(key.call("PATCH", f"{KEYS}/{new.id}", json=change), 400,
                    "bad_request", {"field": field})


def test_revoke(gate):
    key = manager(gate)
    new = made(gate, key.make())
    assert new.works()

    answer = key.call("DELETE", f"{KEYS}/{new.id}")
    assert answer.status == 200
    assert answer.json()["revokedAt"] is not None
    check_error(new.call("GET", "/v1/loads"), 401, "unauthorized")

    assert key.call("DELETE", f"{KEYS}/{new.id}").json()["revokedAt"] \
        == answer.json()["revokedAt"]


def test_a_stronger_key_and_itself_may_be_revoked(gate):
    """To end a key grants nothing, and who sees a leak must be able to."""
    key = manager(gate, scopes=["keys:manage"])
    strong = other(gate, key.org, scopes=["*"])

    assert key.call("DELETE", f"{KEYS}/{strong.id}").status == 200
    check_error(strong.call("GET", "/v1/loads"), 401, "unauthorized")

    assert key.call("DELETE", f"{KEYS}/{key.id}").status == 200
    check_error(key.call("GET", KEYS), 401, "unauthorized")


def test_rotate(gate):
    key = manager(gate)
    old = made(gate, key.make(name="UAT", limits={"default": "7r/m"}))
    answer = key.call("POST", f"{KEYS}/{old.id}/rotate",
                      json={"overlap": "1h"})
    new = made(gate, answer)

    assert answer.json()["requestId"] == answer.get("X-Request-Id")
    assert answer.json()["replaces"]["id"] == old.id
    assert (new.shown()["name"], new.shown()["limits"]) == (
        "UAT", {"default": "7r/m"})
    assert new.works() and old.works()
    assert old.shown()["expiresAt"] is not None

    assert key.call("POST", f"{KEYS}/{new.id}/rotate",
                    json={"overlap": "0"}).status == 201
    check_error(new.call("GET", "/v1/loads"), 401, "unauthorized")

    for overlap in ("31d", "x", 1):
        check_error(key.call("POST", f"{KEYS}/{old.id}/rotate",
                             json={"overlap": overlap}), 400, "bad_request",
                    {"field": "overlap"})
    check_error(key.call("POST", f"{KEYS}/{new.id}/rotate", json={}), 409,
                "conflict")


def test_it_may_rotate_itself(gate):
    key = manager(gate)
    new = made(gate, key.call("POST", f"{KEYS}/{key.id}/rotate",
                              json={"overlap": "0"}))

    check_error(key.call("GET", KEYS), 401, "unauthorized")
    assert new.shown()["scopes"] == MANAGE
    assert new.make().status == 201


def test_the_trail_names_the_key_that_did_it(gate):
    key = manager(gate)
    answer = key.call("POST", PLAIN, json=READ,
                      headers={"Keygate-Actor": "alice"})
    new = made(gate, answer)
    key.call("PATCH", f"{KEYS}/{new.id}", json={"name": "x"})
    key.call("PATCH", f"{KEYS}/{new.id}", json={"name": "x"})
    rotated = key.call("POST", f"{KEYS}/{new.id}/rotate", json={})
    key.call("DELETE", f"{KEYS}/{new.id}")
    key.make(scopes=["*"])

    entries = [entry for entry in trail(gate, org=key.org)
               if entry["actor"] == key.id]
    assert [entry["action"] for entry in entries] == [
        "key.revoke", "key.rotate", "key.set", "key.create"]
    assert [entry["key"] for entry in entries] == [new.id] * 4
    assert {entry["claimed"] for entry in entries} == {False}
    assert {entry["mode"] for entry in entries} == {"test"}
    assert entries[-1]["requestId"] == answer.json()["requestId"]
    assert entries[1]["changes"]["rotatedTo"]["to"] == rotated.json()["id"]
    assert new.token not in json.dumps(everything(gate, "/audit"))


@pytest.mark.parametrize("access, status", [("test", 201), ("live", 201)])
def test_with_access(gate, access, status):
    key = manager(gate, gate.org("live"))
    gate.admin("PATCH", f"/orgs/{key.org}", json={"access": access})

    assert key.make().status == status


@pytest.mark.parametrize("access, code", [
    ("not_enabled", "partner_access_not_enabled"),
    ("disabled", "partner_access_disabled")])
def test_without_access(gate, access, code):
    key = manager(gate)
    new = made(gate, key.make())
    gate.admin("PATCH", f"/orgs/{key.org}", json={"access": access})

    check_error(key.make(), 403, code)
    for method, what, body in CALLS:
        check_error(key.call(method, f"{KEYS}/{new.id}{what}", json=body),
                    403, code)
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == 2
    assert new.shown()["revokedAt"] is None


def check_full(answer):
    check_error(answer, 403, "forbidden", {"reason": "too_many_keys"})


def test_an_organisation_has_a_bound(make_gate):
    """Of test keys that may be used: who rotates every day does not run out
    of them, and live keys and the platform's calls have nothing to do with
    it."""
    gate = make_gate(**{**PIECES, "locations":
                        "location /v1/self { keygate_self max_keys=3; }\n"
                        "location /plain { keygate_self max_keys=3; }"})
    key = manager(gate)
    for _ in range(4):
        other(gate, key.org, "live")
    first = made(gate, key.make())
    for _ in range(3):
        first = made(gate, key.call("POST", f"{KEYS}/{first.id}/rotate",
                                    json={"overlap": "0"}))
    made(gate, key.make())
    check_full(key.make())
    check_full(key.call("POST", f"{KEYS}/{first.id}/rotate",
                        json={"overlap": "1h"}))
    assert first.shown()["expiresAt"] is None

    first = made(gate, key.call("POST", f"{KEYS}/{first.id}/rotate",
                                json={"overlap": "0"}))
    check_full(key.make())
    assert key.call("DELETE", f"{KEYS}/{first.id}").status == 200
    last = made(gate, key.make())
    check_full(key.make())

    record = json.loads(gate.redis.client.get(last.name))
    record["expiresAt"] = "2020-01-01T00:00:00Z"
    gate.redis.client.set(last.name, json.dumps(record))
    made(gate, key.make())
    check_full(key.make())
    other(gate, key.org)


def test_what_has_ended_does_not_come_back(make_gate):
    """Such keys are not counted: else an organisation could have any number
    of keys, and as many times the limit, by having them expire first."""
    gate = make_gate(**{**PIECES, "locations":
                        "location /v1/self { keygate_self max_keys=2; }\n"
                        "location /plain { keygate_self max_keys=2; }"})
    key = manager(gate)
    old = made(gate, key.make())
    record = json.loads(gate.redis.client.get(old.name))
    record["expiresAt"] = "2020-01-01T00:00:00Z"
    gate.redis.client.set(old.name, json.dumps(record))
    made(gate, key.make())
    check_full(key.make())

    for change in ({"expiresAt": None}, {"expiresAt": "9999-01-01T00:00:00Z"}):
        check_error(key.call("PATCH", f"{KEYS}/{old.id}", json=change), 409,
                    "conflict")
    assert json.loads(gate.redis.client.get(old.name)) == record
    assert not old.works()
    answer = gate.admin("PATCH", f"/keys/{old.id}", json={"expiresAt": None})
    assert answer.status == 200     # the platform may


def test_the_bound_of_an_organisation_with_many_keys(make_gate):
    """More than a page of the index is read."""
    gate = make_gate(**{**PIECES, "locations":
                        "location /plain { keygate_self max_keys=2; }"})
    key = manager(gate)
    for _ in range(101):
        other(gate, key.org, "live")
    made(gate, key.make())
    check_full(key.make())
