"""keygate_self: what a key may hand on. Never more than it has: scopes and
their wildcards, limits of every policy, addresses, the end."""

import pytest

from admin_calls import in_days
from checks import check_error
from self_calls import (KEYS, PIECES, SELF, check_more, made, manager,
                        other)

GATE = {**PIECES, "policies": PIECES["policies"]
        + "keygate_policy daily rate=5000r/d by=org,mode;\n"
          "keygate_policy poll rate=12r/m by=key,route;\n"
          "keygate_policy burst rate=60r/m by=key;\n"}


# Scopes.

@pytest.mark.parametrize("own, asked", [
    (["loads:read"], ["loads:write"]),
    (["loads:read"], ["loads:read", "loads:write"]),
    (["loads:read"], ["loads:*"]),
    (["loads:read", "loads:write"], ["loads:*"]),
    (["loads:read"], ["*"]),
    (["loads:*"], ["*"]),
    (["loads:*"], ["loads"]),
    (["loads:*"], ["loads2:read"]),
    (["loads:a:*"], ["loads:*"]),
    (["loads:a:*"], ["loads:b:c"]),
    (["loads:rea"], ["loads:read"]),
    (["loads:reader"], ["loads:read"]),
    (["l*"], ["loads:read"]),
    ([], ["keys:manage"]),
    (["keys:*"], ["keys:*"]),
    (["keys:*"], ["keys:manage"]),
    (["*"], ["*"]),
    (["*"], ["keys:*"]),
    (["*"], ["loads:read", "keys:manage"]),
])
def test_more_scopes(gate, own, asked):
    key = manager(gate, scopes=["keys:manage", *own])

    check_more(key.make(scopes=asked), "scopes")
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == 1


@pytest.mark.parametrize("own, asked", [
    (["loads:read"], ["loads:read"]),
    (["loads:*"], ["loads:*"]),
    (["loads:*"], ["loads:read", "loads:write"]),
    (["loads:*"], ["loads:a:*"]),
    (["*"], ["loads:*", "tracking:read"]),
    (["keys:*"], ["keys:read"]),
])
def test_as_many_scopes(gate, own, asked):
    key = manager(gate, scopes=["keys:manage", *own])
    assert made(gate, key.make(scopes=asked)).shown()["scopes"] == asked


# Limits.

def in_force(key):
    """The rate of each policy as the holder of the key is told."""
    return {limit["policy"]: limit["rate"] for limit in
            key.call("GET", f"{KEYS[:-5]}").json()["limits"]}


def test_without_limits_of_ones_own_both_follow_the_organisation(gate):
    key = manager(gate, gate.org(plan="gold", limits={"org": "900r/m"}))
    new = made(gate, key.make())

    assert new.shown()["limits"] == {}
    assert in_force(new) == in_force(key)
    assert in_force(new)["default"] == "300r/m"

    gate.admin("PATCH", f"/orgs/{key.org}", json={"limits":
                                                  {"default": "10r/m"}})
    assert in_force(new)["default"] == in_force(key)["default"] == "10r/m"


@pytest.mark.parametrize("how", ["absent", "empty", "null", "other"])
def test_a_lowered_limit_is_handed_on(gate, how):
    """Without one the new key would have the plan's 300 a minute."""
    key = manager(gate, gate.org(plan="gold"), limits={"default": "10r/m"})
    members = {"absent": {}, "empty": {"limits": {}},
               "null": {"limits": {"default": None}},
               "other": {"limits": {"burst": "5r/m"}}}[how]
    new = made(gate, key.make(**members))

    assert new.shown()["limits"]["default"] == "10r/m"
    assert in_force(new)["default"] == "10r/m"


def test_a_raised_limit_is_handed_on_as_a_ceiling(gate):
    """What the platform gave this key alone raises no other; and a plan that
    is raised later does not raise the new key past the old one."""
    key = manager(gate, limits={"default": "100r/m"})
    new = made(gate, key.make())

    assert new.shown()["limits"] == {"default": "100r/m"}
    assert in_force(new)["default"] == "60r/m"
    gate.admin("PATCH", f"/orgs/{key.org}", json={"limits":
                                                  {"default": "600r/m"}})
    assert in_force(new)["default"] == in_force(key)["default"] == "100r/m"


def lower(gate, org, rate="1r/m"):
    assert gate.admin("PATCH", f"/orgs/{org}",
                      json={"limits": {"default": rate}}).status == 200


def test_a_limit_does_not_outlive_what_it_was_below(gate):
    """Who lowers the organisation lowers the keys that it has made."""
    key = manager(gate, gate.org("live"))
    new = made(gate, key.make(limits={"default": "60r/m"}))
    old = other(gate, key.org, limits={"default": "20r/m"})
    assert key.call("PATCH", f"{KEYS}/{old.id}",
                    json={"limits": {"default": "30r/m"}}).status == 200
    again = made(gate, key.call("POST", f"{KEYS}/{new.id}/rotate", json={}))

    for rate in ("1r/m", "500r/h"):        # less, and not to be compared
        lower(gate, key.org, rate)
        for one in (key, new, old, again):
            assert in_force(one)["default"] == rate

    lower(gate, key.org, "600r/m")
    assert [in_force(one)["default"] for one in (key, new, old, again)] == [
        "600r/m", "60r/m", "30r/m", "60r/m"]

    lower(gate, key.org)
    for limits in ({"default": "2r/m"}, {"default": "60r/m"}):
        check_more(key.make(limits=limits), "limits.default")
    assert key.call("PATCH", f"{KEYS}/{new.id}",
                    json={"limits": {"default": "1r/m"}}).status == 200


def test_what_else_is_changed_leaves_the_platforms_limits(gate):
    key = manager(gate, gate.org("live"))
    old = other(gate, key.org, limits={"default": "20r/m"})
    assert key.call("PATCH", f"{KEYS}/{old.id}",
                    json={"name": "UAT"}).status == 200

    lower(gate, key.org)
    assert in_force(old)["default"] == "20r/m"


def test_the_platform_may_take_a_ceiling_for_its_own(gate):
    key = manager(gate, gate.org("live"))
    new = made(gate, key.make(limits={"default": "30r/m"}))
    lower(gate, key.org)

    gate.admin("PATCH", f"/keys/{new.id}", json={"name": "UAT"})
    assert in_force(new)["default"] == "1r/m"
    gate.admin("PATCH", f"/keys/{new.id}",
               json={"limits": {"default": "40r/m"}})
    assert in_force(new)["default"] == "40r/m"


@pytest.mark.parametrize("asked", [{"org": "1r/m"}, {"daily": "1r/d"},
                                   {"org": "3000r/m"}])
def test_limits_that_keys_share_are_the_platforms(gate, asked):
    """Lower ones too: another word of one key about what all of them spend."""
    key = manager(gate)
    new = made(gate, key.make())

    field = f"limits.{list(asked)[0]}"
    check_more(key.make(limits=asked), field)
    check_more(key.call("PATCH", f"{KEYS}/{new.id}", json={"limits": asked}),
               field)


@pytest.mark.parametrize("org, own, asked", [
    ({}, {}, {"default": "61r/m"}),
    ({}, {}, {"default": "600r/m"}),
    ({}, {}, {"burst": "3600r/h"}),         # as many in an hour, but at once
    ({}, {}, {"burst": "61r/h"}),
    ({}, {}, {"burst": "2r/s"}),
    ({"plan": "gold"}, {}, {"default": "301r/m"}),
    ({"plan": "gold"}, {"default": "10r/m"}, {"default": "11r/m"}),
    ({"plan": "gold"}, {"default": "10r/m"}, {"default": "300r/m"}),
    ({"limits": {"default": "20r/m"}}, {}, {"default": "60r/m"}),
    ({"limits": {"default": "20r/m"}}, {}, {"default": "21r/m"}),
    ({}, {}, {"poll": "13r/m"}),
    ({}, {"poll": "3r/m"}, {"poll": "12r/m"}),
    ({}, {}, {"org": "3001r/m"}),
    ({}, {}, {"org": "10r/s"}),             # another count besides
    ({}, {}, {"org": "100r/h"}),
    ({"limits": {"org": "100r/m"}}, {}, {"org": "3000r/m"}),
    ({}, {}, {"daily": "5001r/d"}),
    ({}, {}, {"daily": "1r/m"}),
    ({}, {}, {"self": "601r/m"}),
    ({}, {"self": "2r/m"}, {"self": "3r/m"}),
])
def test_higher_limits(gate, org, own, asked):
    key = manager(gate, gate.org(**org), limits=own)

    check_more(key.make(limits=asked), f"limits.{list(asked)[0]}")
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == 1


@pytest.mark.parametrize("own, asked", [
    ({}, {"default": "60r/m"}),
    ({}, {"default": "1r/s"}),
    ({}, {"burst": "60r/d"}),
    ({"default": "10r/m"}, {"default": "10r/m"}),
    ({"default": "100r/m"}, {"default": "100r/m"}),
    ({}, {"poll": "1r/m", "self": "1r/m"}),
])
def test_limits_as_high_or_lower(gate, own, asked):
    key = manager(gate, limits=own)
    new = made(gate, key.make(limits=asked))

    assert new.shown()["limits"] == {**own, **asked}


# Addresses.

@pytest.mark.parametrize("own, asked, fine", [
    (["127.0.0.0/8"], ["127.0.0.1"], True),
    (["127.0.0.0/8"], ["127.0.0.0/8"], True),
    (["127.0.0.0/8", "2001:db8::/32"], ["2001:db8:1::/48"], True),
    (["127.0.0.0/8"], ["::ffff:127.0.0.1"], True),
    (["127.0.0.0/8"], [], False),
    (["127.0.0.0/8"], ["0.0.0.0/0"], False),
    (["127.0.0.0/8"], ["126.0.0.0/7"], False),
    (["127.0.0.0/8"], ["127.0.0.1", "203.0.113.1"], False),
    (["127.0.0.0/8"], ["::/0"], False),
    (["127.0.0.0/8"], ["2001:db8::/32"], False),
    (["127.0.0.0/9", "127.128.0.0/9"], ["127.0.0.0/8"], False),
])
def test_addresses(gate, own, asked, fine):
    key = manager(gate, allow=own)
    answer = key.make(allow=asked)

    if fine:
        assert made(gate, answer).shown()["allow"] == asked
    else:
        check_more(answer, "allow")


@pytest.mark.parametrize("members", [{}, {"allow": None}])
def test_addresses_are_handed_on(gate, members):
    key = manager(gate, allow=["127.0.0.0/8"])
    assert made(gate, key.make(**members)).shown()["allow"] == ["127.0.0.0/8"]


def test_whoever_has_all_addresses_gives_any(gate):
    key = manager(gate)
    assert made(gate, key.make(allow=["0.0.0.0/0"])).shown()["allow"] \
        == ["0.0.0.0/0"]
    assert made(gate, key.make(allow=[])).works()


# The end.

def test_the_end(gate):
    end, sooner, later = in_days(5), in_days(4), in_days(5, seconds=1)
    key = manager(gate, expiresAt=end)

    check_more(key.make(expiresAt=later), "expiresAt")
    assert made(gate, key.make(expiresAt=sooner)).shown()["expiresAt"] \
        == sooner
    for members in ({}, {"expiresAt": None}, {"expiresAt": end}):
        assert made(gate, key.make(**members)).shown()["expiresAt"] == end


def test_a_beginning_after_the_end_that_is_handed_on(gate):
    key = manager(gate, expiresAt=in_days(5))
    check_error(key.make(notBefore=in_days(6)), 400, "bad_request",
                {"field": "expiresAt"})


# Keys that exist.

def stronger(gate, key):
    """(what is more, a key of the same organisation that has it)"""
    return [
        ("scopes", other(gate, key.org, scopes=["loads:read", "a:b"],
                         allow=["127.0.0.1"], expiresAt=in_days(1),
                         limits={"default": "1r/m"})),
        ("scopes", other(gate, key.org, scopes=["keys:manage"],
                         allow=["127.0.0.1"], expiresAt=in_days(1),
                         limits={"default": "1r/m"})),
        ("allow", other(gate, key.org, expiresAt=in_days(1),
                        limits={"default": "1r/m"})),
        ("expiresAt", other(gate, key.org, allow=["127.0.0.1"],
                            limits={"default": "1r/m"})),
        ("limits.default", other(gate, key.org, allow=["127.0.0.1"],
                                 expiresAt=in_days(1))),
    ]


def test_a_stronger_key_is_not_rotated_and_not_changed(gate):
    key = manager(gate, allow=["127.0.0.0/8"], expiresAt=in_days(2),
                  limits={"default": "10r/m"})

    for field, strong in stronger(gate, key):
        before = strong.shown()
        count = gate.admin("GET", f"/orgs/{key.org}").json()["keys"]

        check_more(key.call("POST", f"{KEYS}/{strong.id}/rotate", json={}),
                   field)
        for change in ({"name": "mine"}, {"scopes": ["loads:read"]},
                       {"allow": ["127.0.0.1"], "expiresAt": in_days(1),
                        "limits": {"default": "1r/m"}}):
            check_more(key.call("PATCH", f"{KEYS}/{strong.id}", json=change),
                       field)

        assert strong.shown() == before
        assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == count


CHANGES = [
    ({"scopes": ["loads:*"]}, "scopes"),
    ({"scopes": ["keys:manage"]}, "scopes"),
    ({"limits": {"default": "11r/m"}}, "limits.default"),
    ({"limits": {"default": None}}, "limits.default"),
    ({"limits": None}, "limits.default"),
    ({"limits": {"org": "1r/s"}}, "limits.org"),
    ({"allow": []}, "allow"),
    ({"allow": None}, "allow"),
    ({"allow": ["0.0.0.0/0"]}, "allow"),
    ({"expiresAt": None}, "expiresAt"),
    ({"expiresAt": in_days(3)}, "expiresAt"),
]


@pytest.mark.parametrize("change, field", CHANGES)
def test_no_key_is_made_stronger(gate, change, field):
    key = manager(gate, allow=["127.0.0.0/8"], expiresAt=in_days(2),
                  limits={"default": "10r/m"})
    new = made(gate, key.make())
    before = new.shown()

    check_more(key.call("PATCH", f"{KEYS}/{new.id}", json=change), field)
    assert new.shown() == before


@pytest.mark.parametrize("change, field", [
    change for change in CHANGES if change[0] != {"scopes": ["keys:manage"]}])
def test_nor_itself(gate, change, field):
    key = manager(gate, allow=["127.0.0.0/8"], expiresAt=in_days(2),
                  limits={"default": "10r/m"})
    before = key.shown()

    check_more(key.call("PATCH", f"{KEYS}/{key.id}", json=change), field)
    assert {**key.shown(), "lastUsedAt": None} \
        == {**before, "lastUsedAt": None}


def test_it_may_make_itself_weaker_and_then_hands_on_less(gate):
    key = manager(gate, scopes=["keys:manage", "loads:*"])

    assert key.make(scopes=["loads:write"]).status == 201
    assert key.call("PATCH", f"{KEYS}/{key.id}", json={
        "scopes": ["keys:manage", "loads:read"]}).status == 200
    check_more(key.make(scopes=["loads:write"]), "scopes")
    check_more(key.call("PATCH", f"{KEYS}/{key.id}", json={
        "scopes": ["keys:manage", "loads:*"]}), "scopes")


def test_too_many_limits_with_those_that_are_handed_on(gate, redis):
    """The record's own bound holds for what is put together."""
    own = {f"old{n}": "1r/m" for n in range(16)}
    key = gate.key(scopes=["keys:manage", "loads:read"], limits=own)

    check_error(gate.post("/plain/keys", key=key, json={
        "scopes": ["loads:read"], "limits": {"default": "1r/m"}}), 400,
        "bad_request")
    answer = gate.post("/plain/keys", key=key, json={
        "scopes": ["loads:read"]})
    assert made(gate, answer).shown()["limits"] == own


def test_a_limit_is_not_given_back(gate):
    """As much as the caller's today may be more when the plan is raised."""
    org = gate.org("live")
    key = manager(gate, org, limits={"default": "60r/m"})
    new = made(gate, key.make())
    assert new.shown()["limits"] == {"default": "60r/m"}

    for one in (new, key):
        for limits in ({"default": None}, None):
            check_more(key.call("PATCH", f"{KEYS}/{one.id}",
                                json={"limits": limits}), "limits.default")

    assert key.call("PATCH", f"{KEYS}/{new.id}", json={
        "limits": {"default": "30r/m", "poll": "9r/m"}}).status == 200
    assert key.call("PATCH", f"{KEYS}/{new.id}", json={
        "limits": {"org": None}}).status == 200
    assert gate.admin("PATCH", f"/orgs/{org}", json={
        "plan": "gold"}).status == 200
    assert new.call("GET", SELF).json()["limits"][0]["rate"] == "30r/m"


def test_a_key_that_rotates_itself_has_one_successor(gate):
    """Else one that leaked had as many that hold keys:manage as it likes,
    and to revoke it would end none of them."""
    key = manager(gate)
    path = f"{KEYS}/{key.id}/rotate"
    new = made(gate, key.call("POST", path, json={"overlap": "30d"}))
    before = gate.admin("GET", f"/orgs/{key.org}").json()["keys"]

    for overlap in ("30d", "0"):
        check_error(key.call("POST", path, json={"overlap": overlap}), 409,
                    "conflict")
    assert gate.admin("GET", f"/orgs/{key.org}").json()["keys"] == before
    assert key.make().status == new.make().status == 201

    # The platform may, and the successor's own successor is another matter.
    assert gate.admin("POST", f"/keys/{key.id}/rotate",
                      json={}).status == 201
    assert new.call("POST", f"{KEYS}/{new.id}/rotate",
                    json={"overlap": "30d"}).status == 201
