"""DELETE /orgs/{org}: when it may, what goes, and in which order."""

import pytest

from admin_calls import (KEY, PIECES, ask, everything, in_days, make_key,
                         make_org, check_refused, stored, stored_key)
from harness import records

GATE = PIECES


def left_of(gate, org):
    """The organisation's names in Redis, but for what expires by itself."""
    return [name for name in gate.redis.client.scan_iter(f"kg:*:{{{org}}}*")
            if not name.startswith(b"kg:limit:")]


def test_an_organisation_and_its_keys_are_gone(make_gate, make_redis):
    gate = make_gate(redis=make_redis())
    org, other = make_org(gate), make_org(gate)
    keys = [make_key(gate, org) for _ in range(3)]
    kept = make_key(gate, other)["token"]
    for key in keys:
        assert gate.get("/v1/loads", key=key["token"]).status == 200

    answer = gate.admin("DELETE", f"/orgs/{org}")
    assert answer.status == 200
    assert answer.json() == {"id": org, "deleted": True, "keys": 3}

    for _ in range(4):
        for key in keys:
            assert gate.get("/v1/loads", key=key["token"]).status == 401
    assert gate.get("/v1/loads", key=kept).status == 200

    check_refused(gate.admin("GET", f"/orgs/{org}"), 404, "not_found")
    check_refused(gate.admin("DELETE", f"/orgs/{org}"), 404, "not_found")
    check_refused(gate.admin("GET", f"/keys/{keys[0]['id']}"), 404, "not_found")
    assert [one["id"] for one in everything(gate, "/orgs")] == [other]
    assert left_of(gate, org) == []
    for key in keys:
        assert gate.redis.client.exists(f"kg:id:{{{key['id']}}}") == 0
    assert len(list(gate.redis.client.scan_iter("kg:key:*"))) == 1

    # The same name is another organisation: no old key comes back.

    assert gate.admin("PUT", f"/orgs/{org}",
                      json={"access": "live"}).json()["createdAt"]
    assert gate.admin("GET", f"/orgs/{org}").json()["keys"] == 0
    assert gate.get("/v1/loads", key=keys[0]["token"]).status == 401


def test_what_leads_to_another_organisations_key_stays(gate):
    """A list may have a key that is not its organisation's, as after an
    import whose lines give one id twice: it must stay to be found by its id,
    or nobody could revoke it."""
    org, other = make_org(gate), make_org(gate)
    key = make_key(gate, other)
    assert gate.get("/v1/loads", key=key["token"]).status == 200
    gate.redis.client.zadd(f"kg:keys:{{{org}}}", {key["id"]: 1})

    answer = gate.admin("DELETE", f"/orgs/{org}")
    assert answer.json() == {"id": org, "deleted": True, "keys": 0}
    assert left_of(gate, org) == []
    assert gate.admin("DELETE", f"/keys/{key['id']}").status == 200
    assert gate.get("/v1/loads", key=key["token"]).status == 401


def test_not_with_a_live_key_that_is_not_revoked(gate):
    org = make_org(gate)
    test = make_key(gate, org)
    live = make_key(gate, org, mode="live", expiresAt=in_days(1))
    for _ in range(120):                # it is on the second page
        records.make_key(gate.redis.client, gate.pepper, org)
        gate.redis.client.zadd(f"kg:keys:{{{org}}}",
                               {"key_" + records.base62(20): 10 ** 13})

    answer = gate.admin("DELETE", f"/orgs/{org}")
    check_refused(answer, 409, "conflict")
    assert live["id"] in answer.error["message"]
    assert stored(gate, "org", org)["access"] == "live"
    assert stored_key(gate, test["token"])
    assert gate.get("/v1/loads", key=test["token"]).status == 200

    gate.admin("DELETE", f"/keys/{live['id']}")
    assert gate.admin("DELETE", f"/orgs/{org}").status == 200
    assert gate.redis.client.exists(f"kg:keys:{{{org}}}") == 0


def test_more_keys_than_a_page(gate):
    org = make_org(gate)
    keys = [make_key(gate, org) for _ in range(205)]
    assert gate.admin("DELETE", f"/orgs/{org}").json()["keys"] == 205
    assert left_of(gate, org) == []
    for key in keys[::40]:
        assert gate.get("/v1/loads", key=key["token"]).status == 401


def test_a_deletion_that_was_cut_off_is_repeated(gate):
    org = make_org(gate)
    key = make_key(gate, org)
    gate.redis.client.delete(f"kg:org:{{{org}}}")

    assert gate.admin("DELETE", f"/orgs/{org}").json()["keys"] == 1
    assert left_of(gate, org) == []
    assert gate.get("/v1/loads", key=key["token"]).status == 401
    check_refused(gate.admin("DELETE", f"/orgs/{org}"), 404, "not_found")


def test_another_organisations_key_in_its_list_stays(gate):
    org, key = make_org(gate), make_key(gate)
    gate.redis.client.zadd(f"kg:keys:{{{org}}}", {key["id"]: 1})
    assert gate.admin("DELETE", f"/orgs/{org}").json()["keys"] == 0
    assert stored_key(gate, key["token"])["org"] == key["org"]
    assert gate.get("/v1/loads", key=key["token"]).status == 200


def test_the_record_goes_before_the_keys_and_the_index_last(
        make_gate, make_redis, make_relay):
    relay = make_relay(make_redis().port)
    gate = make_gate(redis_url=relay.url)
    gate.admin("PUT", "/orgs/acme", json={"access": "live"})
    gate.admin("POST", "/orgs/acme/keys", json=KEY)
    start = len(relay.commands)
    assert gate.admin("DELETE", "/orgs/acme").status == 200

    names = [words[3] if words[0].startswith(b"EVAL") else words[1]
             for words in relay.commands[start:]
             if words[0] in (b"DEL", b"ZREM", b"EVALSHA", b"EVAL")]
    names = [name.decode().split("{")[0] for name in names]
    order = [names.index(name) for name in (
        "kg:org:", "kg:key:", "kg:id:", "kg:keys:", "kg:orgs", "kg:audit")]
    assert order == sorted(order)


def test_a_key_made_meanwhile_is_taken_back(make_gate, make_redis,
                                            make_relay):
    """Its maker finds no organisation after it has written the record."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    org = make_org(gate)
    relay.replace("EXISTS", b":0\r\n")

    check_refused(gate.admin("POST", f"/orgs/{org}/keys", json=KEY), 404,
            "not_found")
    assert list(redis.client.scan_iter("kg:key:*")) == []
    assert [e["action"] for e in everything(gate, "/audit")] == ["org.set"]


def test_an_organisation_that_changes_meanwhile(make_gate, make_redis,
                                                make_relay):
    """Redis says that the record is another by now: it is read again."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    org = make_org(gate)
    make_key(gate, org)
    rule = relay.replace("EVALSHA", b":0\r\n", times=1)
    start = relay.count("ZRANGE")

    answer = gate.admin("DELETE", f"/orgs/{org}")
    assert (answer.status, answer.json()["keys"]) == (200, 1)
    assert rule.hits == 1
    assert relay.count("ZRANGE") >= start + 3   # its keys were checked anew
    assert left_of(gate, org) == []


@pytest.mark.parametrize("role", ["read", "portal"])
def test_only_an_operator_deletes(gate, role):
    org = make_org(gate)
    check_refused(ask(gate, role, "DELETE", f"/orgs/{org}"), 403, "forbidden")
    assert stored(gate, "org", org)
