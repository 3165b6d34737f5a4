"""POST /keys/{id}/rotate: the new key, the end of the old one, and the order
of both."""

import datetime
import json
import threading
import time

import pytest

import harness
from admin_calls import (PIECES, ask, in_days, make_key, make_org, check_refused,
                         stored_key, trail)
from harness.ports import wait_for

GATE = PIECES


def rotate(gate, key, role="operator", **body):
    return ask(gate, role, "POST", f"/keys/{key['id']}/rotate", body)


def seconds_left(date):
    when = datetime.datetime.fromisoformat(date.replace("Z", "+00:00"))
    return when.timestamp() - time.time()


def test_a_new_key_with_the_same_rights(gate):
    old = make_key(gate, mode="live", name="Prod", scopes=["loads:*"],
                   limits={"default": "120r/m"}, allow=["127.0.0.0/8"],
                   notBefore="2020-01-01T00:00:00Z", expiresAt=in_days(90))
    start = time.time()
    answer = rotate(gate, old, overlap="1h")
    assert answer.status == 201
    new = answer.json()
    token = new.pop("token")

    assert token != old["token"]
    assert new["id"] != old["id"]
    assert new["hint"] == "tf_live_..." + token[-4:]
    assert new["createdAt"] >= old["createdAt"]
    same = ("org", "mode", "scopes", "name", "limits", "allow", "notBefore",
            "expiresAt", "revokedAt")
    assert [new[name] for name in same] == [old[name] for name in same]

    ends = gate.admin("GET", f"/keys/{old['id']}").json()["expiresAt"]
    assert 3599 - (time.time() - start) <= seconds_left(ends) <= 3600
    assert new["replaces"] == {"id": old["id"], "expiresAt": ends,
                               "revokedAt": None}

    for one in (old["token"], token):
        answer = gate.get("/v1/loads", key=one)
        assert answer.status == 200
        assert answer.get("RateLimit-Policy") == '"default";q=120;w=60'
    assert gate.admin("GET", f"/keys/{new['id']}").json()["name"] == "Prod"
    assert gate.admin("GET", f"/orgs/{old['org']}").json()["keys"] == 2


@pytest.mark.parametrize("body, seconds", [
    ({}, 86400), ({"overlap": None}, 86400), ({"overlap": "24h"}, 86400),
    ({"overlap": "30d"}, 30 * 86400), ({"overlap": "90s"}, 90),
    ({"overlap": "1h30m"}, 5400), ({"overlap": "7200"}, 7200)])
def test_the_old_one_ends_after_the_overlap(gate, body, seconds):
    old = make_key(gate)
    start = time.time()
    ends = rotate(gate, old, **body).json()["replaces"]["expiresAt"]
    took = time.time() - start
    assert seconds - took - 1 <= seconds_left(ends) <= seconds
    assert gate.get("/v1/loads", key=old["token"]).status == 200


def test_it_stops_when_the_overlap_is_over(gate):
    old = make_key(gate)
    new = rotate(gate, old, overlap="2s").json()
    ends = new["replaces"]["expiresAt"]
    deadline = time.monotonic() + 10
    while gate.get("/v1/loads", key=old["token"]).status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert seconds_left(ends) <= 0.1    # nginx's clock is a tick behind
    assert gate.get("/v1/loads", key=old["token"]).status == 401
    assert gate.get("/v1/loads", key=new["token"]).status == 200


def test_without_an_overlap_it_ends_at_once(gate):
    old = make_key(gate)
    for _ in range(4):
        assert gate.get("/v1/loads", key=old["token"]).status == 200
    new = rotate(gate, old, overlap="0").json()
    assert new["replaces"]["revokedAt"]
    for _ in range(4):
        assert gate.get("/v1/loads", key=old["token"]).status == 401
    assert gate.get("/v1/loads", key=new["token"]).status == 200


def test_an_earlier_end_stays(gate):
    soon = in_days(0, 600)
    old = make_key(gate, expiresAt=soon)
    new = rotate(gate, old, overlap="24h").json()
    assert new["replaces"]["expiresAt"] == soon
    assert new["expiresAt"] == soon


@pytest.mark.parametrize("overlap", [
    "31d", "30d1s", "-1", "x", "", "1y", 5, ["1h"], "24 h"])
def test_overlaps_refused(gate, overlap):
    key = make_key(gate)
    check_refused(rotate(gate, key, overlap=overlap), 400, "bad_request", "overlap")
    assert gate.admin("GET", f"/orgs/{key['org']}").json()["keys"] == 1


def test_other_fields_refused(gate):
    key = make_key(gate)
    check_refused(rotate(gate, key, scopes=["a"]), 400, "bad_request", "scopes")


def test_what_has_ended_is_not_rotated(gate):
    revoked, expired = make_key(gate), make_key(gate)
    gate.admin("DELETE", f"/keys/{revoked['id']}")
    name = f"kg:key:{{{harness.digest(gate.pepper, expired['token'])}}}"
    gate.redis.client.set(name, json.dumps({
        **stored_key(gate, expired["token"]), "expiresAt": in_days(0, -1)}))
    for key in (revoked, expired, {"id": "key_nosuch"}):
        answer = rotate(gate, key)
        assert answer.status == (404 if key["id"] == "key_nosuch" else 409)
    assert gate.admin("GET", f"/orgs/{revoked['org']}").json()["keys"] == 1


@pytest.mark.parametrize("role, access, mode, status", [
    ("operator", "live", "live", 201), ("operator", "test", "live", 409),
    ("operator", "disabled", "live", 409),
    ("operator", "disabled", "test", 201),
    ("portal", "live", "live", 403), ("portal", "test", "test", 201),
    ("portal", "disabled", "test", 409), ("read", "test", "test", 403)])
def test_who_may_rotate_which_key(gate, role, access, mode, status):
    key = make_key(gate, mode=mode)
    gate.admin("PATCH", f"/orgs/{key['org']}", json={"access": access})
    before = stored_key(gate, key["token"])
    answer = rotate(gate, key, role)
    assert answer.status == status, answer
    if status != 201:
        check_refused(answer, status, {403: "forbidden", 409: "conflict"}[status])
        assert stored_key(gate, key["token"]) == before
        assert gate.admin("GET", f"/orgs/{key['org']}").json()["keys"] == 1


def test_a_key_taken_over_gets_a_token_of_ours(make_gate):
    gate = make_gate(keys="keygate_keys prefix=tf pepper=%%FOLDER%%/pepper "
                          "legacy=sha256;")
    old = gate.admin("POST", f"/orgs/{make_org(gate)}/keys/import", json={
        "mode": "test", "scopes": ["loads:read"], "sha256": "cd" * 32}).json()
    new = rotate(gate, old).json()
    record = stored_key(gate, new["token"])
    assert "legacy" not in record
    assert record["pepper"]
    assert gate.get("/v1/loads", key=new["token"]).status == 200


@pytest.mark.parametrize("overlap", ["0", "24h"])
def test_a_key_that_is_revoked_while_it_is_rotated(make_gate, make_redis,
                                                   make_relay, overlap):
    """It was read, and revoked before its successor was there: who revoked it
    has seen no other key, so there is none."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    old = make_key(gate)
    name = f"kg:key:{{{harness.digest(gate.pepper, old['token'])}}}"
    revoked = {**stored_key(gate, old["token"]),
               "revokedAt": "2026-01-01T00:00:00Z"}
    late = threading.Event()
    written = relay.replace("SET", None, times=1, delay=late, name="kg:key:")

    def revoke():
        wait_for(lambda: written.hits, 10, "the new record")
        redis.client.set(name, json.dumps(revoked))
        late.set()

    other = threading.Thread(target=revoke)
    other.start()
    answer = rotate(gate, old, overlap=overlap)
    other.join()

    check_refused(answer, 409, "conflict")
    assert b"token" not in answer.body
    assert redis.client.keys("kg:key:*") == [name.encode()]
    assert stored_key(gate, old["token"]) == revoked
    assert not trail(gate, action="key.rotate")


def test_the_old_key_stays_when_it_is_cut_off(make_gate, make_redis,
                                              make_relay):
    """Between the new key's record and the old one's end."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    old = make_key(gate)
    before = stored_key(gate, old["token"])
    lost = threading.Event()
    written = relay.replace("SET", None, times=1, delay=lost, name="kg:key:")

    def cut():
        wait_for(lambda: written.hits, 10, "the record")
        relay.refuse()
        lost.set()

    cutter = threading.Thread(target=cut)
    cutter.start()
    check_refused(rotate(gate, old, overlap="0"), 503, "service_unavailable")
    cutter.join()
    assert len(redis.client.keys("kg:key:*")) == 2      # the new one's, too
    assert stored_key(gate, old["token"]) == before

    relay.reset()
    deadline = time.monotonic() + 10
    while gate.get("/v1/loads", key=old["token"]).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while not trail(gate, action="key.rotate"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (entry,) = trail(gate, action="key.rotate")
    assert entry["outcome"] in ("partial", "unknown")
