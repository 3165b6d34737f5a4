"""Revocation where Redis refuses to tell of changes (CLIENT TRACKING): what the
admin interface writes is told by itself, and the rest is bound by valid=."""

import json

import pytest

from harness.ports import wait_for

LOADS = "/v1/loads"
PAST = "2020-01-01T00:00:00Z"
AT_ONCE = 0.5

NO_TRACKING = "on >PASSWORD ~* &* +@all -client|tracking"
NO_ID = "on >PASSWORD ~* &* +@all -client"
NO_CHANNEL = "on >PASSWORD ~* resetchannels &kg:changed +@all"
NOTHING = "on >PASSWORD ~* resetchannels +@all -client -subscribe -publish"


@pytest.fixture
def untold(make_gate, make_redis):
    """untold(acl, valid): two nodes of a Redis that refuses."""
    def make(acl=NO_TRACKING, valid="60s", **pieces):
        redis = make_redis(acl={"keygate": acl})
        made = []
        for _ in range(2):
            made.append(make_gate(
                redis=redis, files={"password": "PASSWORD\n"},
                redis_url=f"{redis.url} user=keygate "
                          "password_file=%%FOLDER%%/password",
                zone="keygate_zone zone=keygate:2m "
                     f"valid={valid} negative={valid};",
                policies="keygate_policy default rate=100000r/m by=key;",
                **pieces))
            made[-1].watched()
        return made

    return make


def check_admitted(nodes, key):
    for node in nodes:
        assert node.get(LOADS, key=key).status == 200


def check_refused_soon(nodes, key, within=AT_ONCE, status=401):
    for node in nodes:
        wait_for(lambda node=node: node.get(LOADS, key=key).status == status,
                 within, "refusal")


def begun(node):
    return node.log().count("refuses tracking")


@pytest.mark.parametrize("acl", [NO_TRACKING, NO_ID, NO_CHANNEL])
def test_our_own_writers_tell(untold, acl):
    """On each other node, at once, as valid= is a minute."""
    nodes = untold(acl)
    org = nodes[0].org()
    made = nodes[0].admin("POST", f"/orgs/{org}/keys", json={
        "mode": "test", "scopes": ["loads:read"]}).json()
    check_admitted(nodes, made["token"])

    for access, status in (("disabled", 403), ("live", 200)):
        assert nodes[0].admin("PATCH", f"/orgs/{org}", json={
            "access": access}).status == 200
        check_refused_soon(nodes, made["token"], status=status)
    assert nodes[1].admin("DELETE", f"/keys/{made['id']}").status == 200
    check_refused_soon(nodes, made["token"])

    for node in nodes:
        node.wait_log(r"keygate: \S+ refuses tracking \(NOPERM .*\): changes "
                      r"by other writers .* within .*valid=, 60000 ms")


def test_others_may_tell(untold):
    nodes = untold()
    key = nodes[0].key()
    check_admitted(nodes, key)
    key.save(revokedAt=PAST)
    check_admitted(nodes, key)                    # nobody said anything
    for name in ("", "x", "kg:key:{}", "kg:key:{%s" % key.digest, "\0\xff",
                 "kg:org:{" + "a" * 5000 + "}"):
        nodes[0].redis.client.publish("kg:changed", name)
    check_admitted(nodes, key)
    nodes[0].redis.client.publish("kg:changed", key.name)
    check_refused_soon(nodes, key)


@pytest.mark.parametrize("acl", [NO_TRACKING, NOTHING])
def test_others_are_bound_by_valid(untold, acl):
    nodes = untold(acl, valid="700ms")
    key, disabled, unknown = (nodes[0].key() for _ in range(3))
    unknown.delete()
    check_admitted(nodes, key)
    check_admitted(nodes, disabled)
    check_refused_soon(nodes, unknown)
    key.save(revokedAt=PAST)
    unknown.save()
    nodes[0].redis.client.set(f"kg:org:{{{disabled.org}}}", json.dumps(
        {"v": 1, "access": "disabled"}))
    check_refused_soon(nodes, key, 0.7 + AT_ONCE)
    check_refused_soon(nodes, disabled, 0.7 + AT_ONCE, 403)
    check_refused_soon(nodes, unknown, 0.7 + AT_ONCE, 200)


def test_not_even_our_own_writers_can_tell(untold):
    """This node knows what it wrote, the other by valid=."""
    nodes = untold(NOTHING, valid="700ms")
    key = nodes[0].key()
    check_admitted(nodes, key)
    assert nodes[0].admin("PATCH", f"/orgs/{key.org}", json={
        "access": "disabled"}).status == 200
    assert nodes[0].get(LOADS, key=key).status == 403
    check_refused_soon(nodes, key, 0.7 + AT_ONCE, 403)
    for node in nodes:
        node.wait_log("refuses tracking .* by any writer on another node")


def test_lookups_are_saved_all_the_same(untold):
    nodes = untold()
    key = nodes[0].key()
    check_admitted(nodes, key)
    before = nodes[0].redis.calls("get")
    for _ in range(5):
        check_admitted(nodes, key)

    assert nodes[0].redis.calls("get") == before


def test_told_of_nothing_while_the_connection_is_away(untold):
    """What was said meanwhile is not missed for valid=."""
    nodes = untold()
    org = nodes[0].org()
    made = nodes[0].admin("POST", f"/orgs/{org}/keys", json={
        "mode": "test", "scopes": ["loads:read"]}).json()
    client = nodes[0].redis.client

    for i in range(6):
        access, status = (("disabled", 403), ("live", 200))[i % 2]
        check_refused_soon(nodes, made["token"], status=(200, 403)[i % 2])
        before = [begun(node) for node in nodes]
        client.client_kill_filter(_type="pubsub")
        assert nodes[0].admin("PATCH", f"/orgs/{org}", json={
            "access": access}).status == 200
        wait_for(lambda: all(begun(node) > n for node, n
                             in zip(nodes, before)), 5, "watch")
        check_refused_soon(nodes, made["token"], status=status)


def test_tracking_is_used_once_it_is_allowed(untold):
    nodes = untold()
    nodes[0].redis.client.acl_setuser("keygate", enabled=True,
                                      commands=["+client|tracking"])
    for node in nodes:
        node.reload()
        node.wait_log("tells of every change")
        node.watched()
    key = nodes[0].key()
    check_admitted(nodes, key)
    key.save(revokedAt=PAST)
    check_refused_soon(nodes, key)
