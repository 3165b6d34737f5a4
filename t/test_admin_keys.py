"""The admin interface's calls about keys that exist: change, take over,
find."""

import concurrent.futures
import hashlib
import json
import re
import time

import pytest

import harness
from admin_calls import (KEY, PIECES, ask, everything, in_days, make_key,
                         make_org, check_refused, stored, stored_key)
from harness import records

KEYS = "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper legacy=sha256;"

GATE = {**PIECES, "keys": KEYS}


def sha256(token):
    return hashlib.sha256(token.encode()).hexdigest()


def old_token():
    """What another system may have made: no prefix, no checksum."""
    return "sk-" + records.base62(30) + "=="


def take_over(gate, org, token, **members):
    return gate.admin("POST", f"/orgs/{org}/keys/import",
                      json={**KEY, "sha256": sha256(token), **members})


# PATCH.


def test_patch_changes_what_is_named_only(gate):
    key = make_key(gate, name="UAT", allow=["127.0.0.1"],
                   limits={"default": "120r/m", "slow": "6r/m"})
    path = f"/keys/{key['id']}"
    until = in_days(9)

    first = gate.admin("PATCH", path, json={
        "scopes": ["carriers:read"], "expiresAt": until,
        "limits": {"default": "90r/m"}})
    assert first.status == 200
    assert first.json() == {
        **{name: key[name] for name in key if name != "token"},
        "scopes": ["carriers:read"], "expiresAt": until,
        "limits": {"default": "90r/m", "slow": "6r/m"}}

    second = gate.admin("PATCH", path, json={
        "name": None, "allow": None, "expiresAt": None,
        "limits": {"slow": None}}).json()
    assert (second["name"], second["allow"], second["expiresAt"]) == (
        None, [], None)
    assert second["limits"] == {"default": "90r/m"}
    assert second["scopes"] == ["carriers:read"]
    assert "allow" not in stored_key(gate, key["token"])


def test_patched_rights_hold_at_once(gate):
    key = make_key(gate)
    for _ in range(4):
        assert gate.get("/v1/loads", key=key["token"]).status == 200
    gate.admin("PATCH", f"/keys/{key['id']}",
               json={"scopes": ["carriers:read"]})
    for _ in range(4):
        assert gate.get("/v1/loads", key=key["token"]).code == "forbidden"
        assert gate.get("/v1/carriers", key=key["token"]).status == 200


def test_patch_keeps_members_it_does_not_know(gate):
    key = make_key(gate)
    name = f"kg:key:{{{harness.digest(gate.pepper, key['token'])}}}"
    record = json.loads(gate.redis.client.get(name))
    gate.redis.client.set(name, json.dumps({**record, "ticket": "OPS-1"}))

    gate.admin("PATCH", f"/keys/{key['id']}", json={"name": "A"})
    assert stored_key(gate, key["token"]) == {**record, "ticket": "OPS-1",
                                              "name": "A"}


@pytest.mark.parametrize("body, field", [
    ({"mode": "live"}, "mode"),
    ({"org": "other"}, "org"),
    ({"id": "key_x"}, "id"),
    ({"revokedAt": None}, "revokedAt"),
    ({"token": "x"}, "token"),
    ({"sha256": "ab" * 32}, "sha256"),
    ({"pepper": "00000000"}, "pepper"),
    ({"scopes": None}, "scopes"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["A"]}, "scopes"),
    ({"name": 1}, "name"),
    ({"limits": {"default": "601r/m"}}, "limits.default"),
    ({"limits": {"nosuch": "1r/m"}}, "limits.nosuch"),
    ({"allow": ["10.0.0.1/8"]}, "allow"),
    ({"notBefore": "x"}, "notBefore"),
    ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
    ({"notBefore": in_days(40)}, "expiresAt"),
    ({"expiresAt": in_days(1)}, "expiresAt"),
])
def test_patch_refuses(gate, body, field):
    """The last two: the other date is the stored one."""
    key = make_key(gate, notBefore=in_days(2), expiresAt=in_days(30))
    before = stored_key(gate, key["token"])
    check_refused(gate.admin("PATCH", f"/keys/{key['id']}", json=body), 400,
            "bad_request", field)
    assert stored_key(gate, key["token"]) == before


@pytest.mark.parametrize("role, mode, status", [
    ("operator", "live", 200), ("operator", "test", 200),
    ("portal", "live", 403), ("portal", "test", 200),
    ("read", "live", 403), ("read", "test", 403)])
def test_who_may_change_which_key(gate, role, mode, status):
    key = make_key(gate, mode=mode)
    answer = ask(gate, role, "PATCH", f"/keys/{key['id']}", {"name": "new"})
    assert answer.status == status
    if status == 403:
        check_refused(answer, 403, "forbidden")
    assert (stored_key(gate, key["token"]).get("name") == "new") is (
        status == 200)


def test_two_writers_lose_nothing(gate):
    key = make_key(gate)
    patches = [{"limits": {f"p{n}": f"{n + 1}r/s"}} for n in range(5)]
    patches += [{"name": "UAT"}, {"scopes": ["carriers:read"]}]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda body: gate.admin(
            "PATCH", f"/keys/{key['id']}", json=body), patches))
        done.append(pool.submit(gate.admin, "DELETE",
                                f"/keys/{key['id']}").result())

    assert {answer.status for answer in done} == {200}
    record = stored_key(gate, key["token"])
    assert record["limits"] == {f"p{n}": f"{n + 1}r/s" for n in range(5)}
    assert record["name"] == "UAT"
    assert record["scopes"] == ["carriers:read"]
    assert record["revokedAt"]


# When it was used last.


def test_last_used_is_what_redis_says(gate):
    key = make_key(gate)
    seen = f"kg:seen:{{{key['id']}}}"

    def shown():
        listed = everything(gate, f"/orgs/{key['org']}/keys")
        found = gate.admin("POST", "/keys/find", json={"token": key["token"]})
        got = gate.admin("GET", f"/keys/{key['id']}")
        values = {listed[0]["lastUsedAt"], found.json()["lastUsedAt"],
                  got.json()["lastUsedAt"]}
        assert len(values) == 1
        return values.pop()

    assert shown() is None
    gate.redis.client.hset(seen, "at", "2026-11-22T10:00:00Z")
    assert shown() == "2026-11-22T10:00:00Z"
    gate.redis.client.hset(seen, "at", "yesterday")
    assert shown() is None


# Keys that partners have already.


def test_a_key_taken_over_is_known_by_its_sha256(gate):
    org, token = make_org(gate), old_token()
    answer = take_over(gate, org, token, mode="live", name="Old",
                       limits={"default": "90r/m"}, expiresAt=in_days(9))
    assert answer.status == 201
    record = answer.json()
    assert "token" not in record
    assert (record["org"], record["mode"], record["name"], record["hint"],
            record["limits"]) == (org, "live", "Old", None,
                                  {"default": "90r/m"})
    assert re.fullmatch(r"key_[0-9A-Za-z]{20}", record["id"])
    assert gate.admin("GET", f"/keys/{record['id']}").json() == record

    kept = stored(gate, "key", sha256(token))
    assert kept["legacy"] is True
    assert "pepper" not in kept
    assert sha256(token) not in answer.body.decode()

    answer = gate.get("/v1/loads", key=token)
    assert answer.status == 200, answer
    assert answer.get("RateLimit-Policy") == '"default";q=90;w=60'

    gate.admin("DELETE", f"/keys/{record['id']}")
    assert gate.get("/v1/loads", key=token).code == "unauthorized"


def test_a_token_is_taken_over_once(gate):
    org, token = make_org(gate), old_token()
    take_over(gate, org, token)
    kept = stored(gate, "key", sha256(token))

    check_refused(take_over(gate, make_org(gate), token), 409, "conflict")
    assert stored(gate, "key", sha256(token)) == kept
    assert gate.admin("GET", f"/orgs/{org}").json()["keys"] == 1


def test_hex_digits_of_either_case(gate):
    org, token = make_org(gate), old_token()
    answer = gate.admin("POST", f"/orgs/{org}/keys/import",
                        json={**KEY, "sha256": sha256(token).upper()})
    assert answer.status == 201
    assert stored(gate, "key", sha256(token))["id"] == answer.json()["id"]


@pytest.mark.parametrize("change, field", [
    ({"sha256": None}, "sha256"),
    ({"sha256": "ab" * 31}, "sha256"),
    ({"sha256": "ab" * 33}, "sha256"),
    ({"sha256": "xy" * 32}, "sha256"),
    ({"sha256": 5}, "sha256"),
    ({"token": "x"}, "token"),
    ({"mode": "x"}, "mode"),
    ({"scopes": []}, "scopes"),
])
def test_taking_over_refuses(gate, change, field):
    org = make_org(gate)
    body = {**KEY, "sha256": "ab" * 32, **change}
    check_refused(gate.admin("POST", f"/orgs/{org}/keys/import", json=body), 400,
            "bad_request", field)
    assert gate.admin("GET", f"/orgs/{org}").json()["keys"] == 0


def test_taking_over_asks_for_access_and_role(gate):
    org = make_org(gate, "test")
    check_refused(take_over(gate, org, old_token(), mode="live"), 409, "conflict")
    check_refused(take_over(gate, "nosuch", old_token()), 404, "not_found")
    for role in ("read", "portal"):
        check_refused(ask(gate, role, "POST", f"/orgs/{org}/keys/import",
                    {**KEY, "sha256": "ab" * 32}), 403, "forbidden")


def test_not_taken_over_where_legacy_is_off(make_gate):
    gate = make_gate()
    org = make_org(gate)
    answer = take_over(gate, org, old_token())
    check_refused(answer, 400, "bad_request")
    assert "legacy=sha256" in answer.error["message"]


# A token that has leaked.


def test_find_names_the_key(gate):
    org, token = make_org(gate), old_token()
    for secret, key_id in (
            (token, take_over(gate, org, token).json()["id"]),
            *((key["token"], key["id"])
              for key in (make_key(gate, org) for _ in range(2)))):
        for role in ("read", "portal", "operator"):
            answer = ask(gate, role, "POST", "/keys/find", {"token": secret})
            assert answer.status == 200
            assert answer.json()["id"] == key_id
            assert secret not in answer.body.decode()


def test_find_knows_every_pepper(make_gate):
    keys = "keygate_keys prefix=tf pepper=%%FOLDER%%/{};"
    both = "keygate_keys prefix=tf pepper=%%FOLDER%%/new " \
           "pepper=%%FOLDER%%/pepper;"
    gate = make_gate(keys=keys.format("pepper"), files={"new": "n" * 48})
    old = make_key(gate)
    gate.edit(keys=both)
    gate.reload()
    new = make_key(gate)
    for key in (old, new):
        answer = gate.admin("POST", "/keys/find",
                            json={"token": key["token"]})
        assert answer.json()["id"] == key["id"]


def test_find_knows_the_last_of_many_peppers(make_gate):
    names = [f"new{n}" for n in range(9)]
    old = "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper legacy=sha256;"
    gate = make_gate(keys=old, files={name: name * 12 for name in names})
    key = make_key(gate)
    gate.edit(keys=old.replace("pepper=", "".join(
        f"pepper=%%FOLDER%%/{name} " for name in names) + "pepper=", 1))
    gate.reload()

    assert gate.get("/v1/loads", key=key["token"]).status == 200
    answer = gate.admin("POST", "/keys/find", json={"token": key["token"]})
    assert (answer.status, answer.json()["id"]) == (200, key["id"])


def test_find_reads_what_json_may_escape(gate):
    org, token = make_org(gate), "a/b\\c\"" + records.base62(20)
    key_id = take_over(gate, org, token).json()["id"]
    text = json.dumps(token)
    for body in (f'{{"token":{text}}}', f' {{ "token" :\n{text} }}\r\n',
                 '{"token":' + text.replace("/", "\\/") + "}"):
        answer = gate.admin("POST", "/keys/find", body=body.encode())
        assert answer.status == 200, answer
        assert answer.json()["id"] == key_id


@pytest.mark.parametrize("body, field", [
    (b"", None), (b"[]", None), (b"{}", "token"), (b'{"token":""}', "token"),
    (b'{"token":5}', "token"), (b'{"token":null}', "token"),
    (b'{"token":"a b"}', "token"), (b'{"token":"\\u0041"}', "token"),
    (b'{"token":"\xc3\xa4"}', "token"), (b'{"token":"x}', "token"),
    (b'{"token":"x\\', "token"), (b'{"token":"x"', None),
    (b'{"token":"x"}}', None), (b'{"token" "x"}', None),
    (b'{"tok":"x"}', None), (b'{"token":"x","y":1}', None),
    (b'{"token"', None), (b" " * 65537, None), (b'{"', None)], ids=range(19))
def test_find_refuses(gate, body, field):
    answer = gate.admin("POST", "/keys/find", body=body)
    check_refused(answer, 400, "bad_request", field)


def test_a_token_nobody_has(gate):
    for token in (harness.make_token(), old_token(), "x", "y" * 60000):
        check_refused(gate.admin("POST", "/keys/find", json={"token": token}), 404,
                "not_found")


def test_find_keeps_nothing_of_the_token(make_gate):
    """Not even in the worker's memory."""
    gate = make_gate(workers="1", level="debug")
    token = harness.make_token()
    entropy = token.split("_")[2].encode()
    check_refused(gate.admin("POST", "/keys/find", json={"token": token}), 404,
            "not_found")
    time.sleep(0.1)
    assert entropy.decode() not in gate.log() + "".join(gate.access_log())

    pid = gate.workers()[0]
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{pid}/mem", "rb", 0) as memory:
        areas = [line.split() for line in maps]
        areas = [[int(part, 16) for part in area[0].split("-")]
                 for area in areas if area[1].startswith("rw")]
        assert areas
        for start, end in areas:
            if end - start < 2 ** 30:   # a sanitizer's own are larger
                memory.seek(start)
                assert entropy not in memory.read(end - start), hex(start)


@pytest.mark.parametrize("condition", [
    ("If-Match", '"x"'), ("If-None-Match", "*"),
    ("If-Unmodified-Since", "Thu, 01 Jan 2026 00:00:00 GMT")])
def test_what_was_done_is_answered_so(gate, condition):
    """There are no ETags to compare: not 412 or 304 of what was changed."""
    key = make_key(gate)
    for method, json in (("GET", None), ("PATCH", {"name": "UAT"}),
                         ("DELETE", None)):
        answer = gate.admin(method, f"/keys/{key['id']}", json=json,
                            headers=[condition])
        assert (answer.status, answer.json()["id"]) == (200, key["id"])
