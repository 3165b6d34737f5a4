"""The admin interface's lists: pages that stay right while records are added,
and what is in them."""

import itertools
import json
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harness
from admin_calls import (PIECES, ask, everything, in_days, make_key, make_org,
                         check_refused, stored_key)
from harness import records

GATE = PIECES


@pytest.fixture
def fresh(make_gate, make_redis):
    """A gate with an empty Redis."""
    return make_gate(redis=make_redis(), **GATE)


def add_org(gate, org):
    """As an organisation is stored."""
    records.make_org(gate.redis.client, "test", org)
    gate.redis.client.zadd("kg:orgs", {org: 0})


def add_key(gate, org, made, **members):
    """As a key is stored; made in ms."""
    key = gate.key(org=org, **members)
    gate.redis.client.set(f"kg:id:{{{key.id}}}", key.digest)
    gate.redis.client.zadd(f"kg:keys:{{{org}}}", {key.id: made})
    return key


def ids(entries):
    return [entry["id"] for entry in entries]


# Organisations.


def test_organisations_by_id(fresh):
    names = ["b", "a", "Z", "a-1", "_x", "zz", "0"]
    for name in names:
        assert fresh.admin("PUT", f"/orgs/{name}", json={
            "access": "test", "name": name.upper()}).status == 201

    for limit in (1, 2, 3, 6, 7, 8, 100):
        assert ids(everything(fresh, "/orgs", limit)) == sorted(names)

    assert set(fresh.admin("GET", "/orgs?limit=2").json()) == {
        "data", "nextCursor"}
    assert fresh.admin("GET", "/orgs?limit=7").json()["nextCursor"] is None


def test_an_organisation_in_a_list_is_the_one_alone(fresh):
    fresh.admin("PUT", "/orgs/acme", json={
        "access": "live", "name": "Äcme", "limits": {"org": "3000r/m"}})
    alone = fresh.admin("GET", "/orgs/acme").json()
    assert alone.pop("keys") == 0
    assert everything(fresh, "/orgs") == [alone]


def test_nothing_to_list(fresh):
    for path in ("/orgs", "/audit"):
        assert fresh.admin("GET", path).json() == {"data": [],
                                                   "nextCursor": None}
    fresh.admin("PUT", "/orgs/acme", json={"access": "test"})
    assert fresh.admin("GET", "/orgs/acme/keys").json() == {
        "data": [], "nextCursor": None}


def test_pages_of_50_unless_told(fresh):
    for n in range(120):
        add_org(fresh, f"org{n:03}")
    add_org(fresh, "acme")
    for n in range(120):
        add_key(fresh, "acme", n)

    for path in ("/orgs", "/orgs/acme/keys"):
        assert len(fresh.admin("GET", path).json()["data"]) == 50
        answer = fresh.admin("GET", path + "?limit=100").json()
        assert len(answer["data"]) == 100


def test_organisations_added_between_pages(fresh):
    """Before and after the cursor: what was there is seen once, and what is
    added after it is seen too."""
    there = [f"m{n:02}" for n in range(20)]
    for name in there:
        add_org(fresh, name)

    found, cursor, added = [], "", itertools.count()
    while cursor is not None:
        answer = fresh.admin("GET", f"/orgs?limit=3&cursor={cursor}").json()
        found += ids(answer["data"])
        cursor = answer["nextCursor"]
        n = next(added)
        add_org(fresh, f"a{n:02}")
        if n < 5:
            add_org(fresh, f"z{n:02}")

    assert found == there + [f"z{n:02}" for n in range(5)]


# Keys.


def test_keys_newest_first(gate):
    org = make_org(gate)
    made = []
    for n in range(5):
        made.insert(0, make_key(gate, org, name=f"key {n}"))
        time.sleep(0.003)
    for limit in (1, 2, 4, 5, 6):
        listed = everything(gate, f"/orgs/{org}/keys", limit)
        assert ids(listed) == ids(made)
    for shown, key in zip(listed, made):
        token = key.pop("token")
        assert shown == key
        assert token not in repr(listed)
        assert harness.digest(gate.pepper, token) not in repr(listed)


@settings(max_examples=25, deadline=None, suppress_health_check=list(
    HealthCheck))
@given(times=st.lists(st.integers(0, 3), min_size=1, max_size=14),
       limit=st.integers(1, 5), late=st.lists(st.integers(0, 5), max_size=6))
def test_keys_added_between_pages(gate, times, limit, late):
    """Many of one millisecond; late ones come at its front, or, restored
    from an export, anywhere."""
    org = gate.org("test")
    there = {add_key(gate, org, when).id for when in times}
    late, found, cursor = list(late), [], ""

    while cursor is not None:
        answer = gate.admin(
            "GET", f"/orgs/{org}/keys?limit={limit}&cursor={cursor}").json()
        found += ids(answer["data"])
        cursor = answer["nextCursor"]
        if late:
            add_key(gate, org, late.pop())

    assert len(found) == len(set(found))
    assert there <= set(found)


def test_keys_added_all_the_time(gate):
    org = gate.org("test")
    there = [add_key(gate, org, n).id for n in range(60)]
    stop = threading.Event()

    def keep_adding():
        client = gate.redis.connect()
        for n in range(10 ** 9):
            if stop.is_set():
                return
            client.zadd(f"kg:keys:{{{org}}}",
                        {"key_" + records.base62(20): 1000 + n})

    writer = threading.Thread(target=keep_adding)
    writer.start()
    try:
        found = ids(everything(gate, f"/orgs/{org}/keys", 7))
    finally:
        stop.set()
        writer.join()

    assert found == there[::-1]


def test_what_the_index_has_too_much_is_left_out(gate):
    """A making that was cut off, a record that is broken, another's key."""
    org = make_org(gate)
    key = make_key(gate, org)
    other = make_key(gate)
    index = f"kg:keys:{{{org}}}"
    broken = add_key(gate, org, 5)
    broken.write("{")
    gate.redis.client.zadd(index, {"key_nothing": 1, other["id"]: 2})
    gate.redis.client.set("kg:id:{key_norecord}", "ab" * 32)
    gate.redis.client.zadd(index, {"key_norecord": 3})
    gate.redis.client.zadd("kg:orgs", {"0-no-record": 0})

    assert ids(everything(gate, f"/orgs/{org}/keys")) == [key["id"]]
    assert "0-no-record" not in ids(everything(gate, "/orgs"))
    gate.wait_log(f'record of key "{broken.id}" in Redis is not valid')


@pytest.mark.parametrize("query, field", [
    ("limit=0", "limit"), ("limit=101", "limit"), ("limit=-1", "limit"),
    ("limit=x", "limit"), ("limit=1e1", "limit"), ("cursor=a.b", "cursor"),
    ("cursor=%C3%A9", "cursor"), ("cursor=" + "x" * 99, "cursor"),
    ("nosuch=1", "nosuch"), ("limit=1&limit=2", "limit"), ("Limit=1", "Limit"),
])
def test_queries_refused(gate, query, field):
    org = make_org(gate)
    for path in ("/orgs", f"/orgs/{org}/keys", "/audit"):
        check_refused(gate.admin("GET", f"{path}?{query}"), 400, "bad_request",
                field)


def test_cursors_of_other_lists(gate):
    org = make_org(gate)
    other = make_key(gate)
    for cursor in (other["id"], "key_nosuch", org):
        check_refused(gate.admin("GET", f"/orgs/{org}/keys?cursor={cursor}"), 400,
                "bad_request", "cursor")


def test_keys_of_no_organisation(gate):
    check_refused(gate.admin("GET", "/orgs/nosuch/keys"), 404, "not_found")


@pytest.mark.parametrize("role", ["read", "portal", "operator"])
def test_every_role_may_list(gate, role):
    key = make_key(gate)
    for path in ("/orgs", f"/orgs/{key['org']}/keys", "/audit", "/peppers"):
        assert ask(gate, role, "GET", path).status == 200
    for path in ("/orgs", f"/orgs/{key['org']}/keys"):
        assert ask(gate, role, "HEAD", path).status == 200


# Peppers.


def test_which_pepper_can_go(make_gate, make_redis):
    keys = "keygate_keys prefix=tf {} legacy=sha256;"
    one = "pepper=%%FOLDER%%/pepper"
    two = "pepper=%%FOLDER%%/new " + one
    gate = make_gate(redis=make_redis(), keys=keys.format(one),
                     files={"new": "n" * 48})

    old = [make_key(gate, org) for org in (make_org(gate), make_org(gate))
           for _ in range(60)]
    (first,) = gate.admin("GET", "/peppers").json()["data"]
    assert (first["current"], first["keys"]) == (True, 120)

    gate.edit(keys=keys.format(two))
    gate.reload()
    org = old[0]["org"]
    new = make_key(gate, org)
    gate.admin("POST", f"/orgs/{org}/keys/import",
               json={"mode": "test", "scopes": ["a"], "sha256": "ab" * 32})
    add_key(gate, org, 1).save(pepper="00000000")

    def counts():
        answer = gate.admin("GET", "/peppers").json()
        assert (answer["legacy"], answer["others"]) == (1, 1)
        assert [pepper["current"] for pepper in answer["data"]] == [True,
                                                                    False]
        assert answer["data"][1]["id"] == first["id"]
        return [pepper["keys"] for pepper in answer["data"]]

    assert counts() == [1, 120]

    listed = everything(gate, f"/orgs/{org}/keys", 7, pepper=first["id"])
    assert set(ids(listed)) == {key["id"] for key in old
                                if key["org"] == org}
    (current,) = [pepper["id"] for pepper in gate.admin(
        "GET", "/peppers").json()["data"] if pepper["current"]]
    listed = everything(gate, f"/orgs/{org}/keys", pepper=current)
    assert ids(listed) == [new["id"]]

    # Revoked, expired and rotated away, they are needed no more.

    for key in old[:58]:
        gate.admin("DELETE", f"/keys/{key['id']}")
    gate.admin("POST", f"/keys/{old[58]['id']}/rotate", json={"overlap": "0"})
    last = old[59]
    gate.admin("PATCH", f"/keys/{last['id']}",
               json={"expiresAt": in_days(0, 600)})
    assert counts() == [2, 61]
    name = f"kg:key:{{{harness.digest(gate.pepper, last['token'])}}}"
    gate.redis.client.set(name, json.dumps({
        **stored_key(gate, last["token"]), "expiresAt": in_days(0, -1)}))
    assert counts() == [2, 60]
