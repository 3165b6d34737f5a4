"""The audit trail: one entry for each change, none for anything else, and who
it was."""

import json
import threading
import time

import pytest

from admin_calls import (KEY, PIECES, ask, everything, make_key, make_org,
                         check_refused, trail)
from harness.scripts import shipped

GATE = {
    **PIECES,
    "keys": "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper legacy=sha256;",
    "locations": PIECES["locations"]
    + "location /named/ { keygate_admin role=operator actor=$arg_who; }",
}

MEMBERS = {"id", "at", "actor", "claimed", "action", "outcome", "org", "key",
           "mode", "changes", "requestId"}


def eventually(found, seconds=10):
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline
        time.sleep(0.05)


# What is in it.


def test_each_change_has_one_entry(gate):
    org = f"audited{time.time_ns()}"
    calls = []

    def change(action, method, path, body=None, **expected):
        answer = gate.admin(method, path, json=body)
        assert answer.status < 300, answer
        calls.append((action, answer.get("X-Request-Id"), expected))
        return answer.json()

    change("org.set", "PUT", f"/orgs/{org}",
           {"access": "test", "name": "A", "limits": {"org": "9r/m"}},
           changes={"access": {"from": None, "to": "test"},
                    "name": {"from": None, "to": "A"},
                    "limits": {"from": None, "to": {"org": "9r/m"}}})
    change("org.set", "PATCH", f"/orgs/{org}", {"access": "live"},
           changes={"access": {"from": "test", "to": "live"}})
    change("org.set", "PUT", f"/orgs/{org}", {"access": "live"},
           changes={"name": {"from": "A", "to": None},
                    "limits": {"from": {"org": "9r/m"}, "to": None}})
    key = change("key.create", "POST", f"/orgs/{org}/keys",
                 {**KEY, "mode": "live", "name": "K"}, mode="live",
                 changes={"scopes": {"from": None, "to": ["loads:read"]},
                          "name": {"from": None, "to": "K"}})
    calls[-1][2]["key"] = key["id"]
    old = change("key.import", "POST", f"/orgs/{org}/keys/import",
                 {**KEY, "sha256": f"{time.time_ns():064x}"}, mode="test",
                 changes={"scopes": {"from": None, "to": ["loads:read"]},
                          "legacy": {"from": None, "to": True}})
    calls[-1][2]["key"] = old["id"]
    change("key.set", "PATCH", f"/keys/{key['id']}", {"scopes": ["a:b"]},
           key=key["id"], mode="live",
           changes={"scopes": {"from": ["loads:read"], "to": ["a:b"]}})
    new = change("key.rotate", "POST", f"/keys/{key['id']}/rotate", {},
                 key=key["id"], mode="live")
    calls[-1][2]["changes"] = {
        "rotatedTo": {"from": None, "to": new["id"]},
        "expiresAt": {"from": None, "to": new["replaces"]["expiresAt"]}}
    for one in (key, new, old):
        gone = change("key.revoke", "DELETE", f"/keys/{one['id']}",
                      key=one["id"], mode=one["mode"])
        calls[-1][2]["changes"] = {
            "revokedAt": {"from": None, "to": gone["revokedAt"]}}
    change("org.delete", "DELETE", f"/orgs/{org}",
           changes={"access": {"from": "live", "to": None}})

    entries = trail(gate, org=org)[::-1]
    assert [(entry["action"], entry["requestId"]) for entry in entries] == [
        call[:2] for call in calls]
    for entry, (action, _, expected) in zip(entries, calls):
        assert set(entry) == MEMBERS
        assert (entry["actor"], entry["claimed"], entry["outcome"]) == (
            None, False, None)
        for name in ("changes", "key", "mode"):
            assert entry[name] == expected.get(name), (action, name)


def test_an_import_has_one_entry(gate):
    export = gate.admin("GET", "/export").body
    org = f"imported{time.time_ns()}"
    line = {"type": "org", "id": org, "record": {"v": 1, "access": "test"}}
    before = len(trail(gate))

    gate.admin("POST", "/import?dry_run=1", body=json.dumps(line).encode())
    gate.admin("POST", "/import", body=export)
    assert len(trail(gate)) == before

    answer = gate.admin("POST", "/import", body=json.dumps(line).encode())
    newest = trail(gate)[0]
    assert len(trail(gate)) == before + 1
    assert newest["action"] == "import"
    assert newest["requestId"] == answer.get("X-Request-Id")
    assert newest["changes"] == {"created": 1, "changed": 0}


def test_what_changes_nothing_has_none(gate):
    key = make_key(gate, name="K")
    org, path = key["org"], f"/keys/{key['id']}"
    gate.admin("DELETE", path)
    before = len(trail(gate))

    for method, target, body, status in (
            ("DELETE", path, None, 200),
            ("PATCH", path, {}, 200), ("PATCH", path, {"name": "K"}, 200),
            ("PATCH", f"/orgs/{org}", {"access": "live"}, 200),
            ("PUT", f"/orgs/{org}", {"access": "live"}, 200),
            ("PATCH", f"/orgs/{org}", {"limits": {"org": None}}, 200),
            ("GET", path, None, 200), ("GET", "/export", None, 200),
            ("POST", "/keys/find", {"token": key["token"]}, 200),
            ("PUT", f"/orgs/{org}", {"access": "all"}, 400),
            ("POST", path + "/rotate", {}, 409),
            ("PATCH", "/orgs/nosuch", {"access": "live"}, 404)):
        assert gate.admin(method, target, json=body).status == status

    check_refused(ask(gate, "read", "DELETE", path), 403, "forbidden")
    assert len(trail(gate)) == before


def test_what_it_keeps_of_secrets(gate):
    key = make_key(gate)
    gate.admin("POST", f"/keys/{key['id']}/rotate", json={})
    text = repr(gate.redis.client.xrange("kg:audit"))
    assert key["id"] in text
    for secret in (key["token"], key["token"][8:40], key["hint"], "pepper"):
        assert secret not in text


# Who it was.


@pytest.mark.parametrize("path, headers, actor, claimed", [
    ("", {}, None, False),
    ("", {"Keygate-Actor": "alice@example.com (UI)"},
     "alice@example.com (UI)", True),
    ("", {"Keygate-Actor": "x" * 128}, "x" * 128, True),
    ("", {"Keygate-Actor": ""}, None, False),
    ("/named?who=bob", {}, "bob", False),
    ("/named?who=bob", {"Keygate-Actor": "eve"}, "bob", False),
    ("/named", {"Keygate-Actor": "eve"}, "eve", True),
    ("/named?who=" + "b" * 300, {}, "b" * 128, False),
    ("/named?who=a\x01b\xe4", {}, "a?b?", False),
])
def test_actors(gate, path, headers, actor, claimed):
    org = make_org(gate)
    prefix, _, query = path.partition("?")
    target = f"{prefix}/orgs/{org}" + (f"?{query}" if query else "")
    send = gate.request if prefix else gate.admin
    answer = send("PATCH", target, headers=headers, json={"name": "new"})
    if "\x01" in path:
        assert answer.status == 400     # nginx takes no control characters
        return
    assert answer.status == 200, answer
    (entry,) = trail(gate, requestId=answer.get("X-Request-Id"))
    assert (entry["actor"], entry["claimed"]) == (actor, claimed)


@pytest.mark.parametrize("values", [
    ["x" * 129], ["a\tb"], ["\xe4"], ["a", "b"], ["a", "a"]])
def test_actors_refused(gate, values):
    org = make_org(gate, name="kept")
    headers = [("Keygate-Actor", value) for value in values]
    check_refused(gate.admin("PATCH", f"/orgs/{org}", headers=headers,
                       json={"name": "new"}), 400, "bad_request",
            "Keygate-Actor")
    assert gate.admin("GET", f"/orgs/{org}",
                      headers=headers).json()["name"] == "kept"


@pytest.mark.parametrize("piece, text", [
    ("role=read actor=x", "variable"), ("role=read actor=", "variable"),
    ("actor=$remote_user", 'no "role="'), ("role=read role=read", "two"),
    ("actor=$remote_user actor=$remote_user", "two"),
    ("role=read actor=$nosuch", "unknown"),
    ("role=read who=$remote_user", '"role=operator"')])
def test_directives_refused(nginx_t, piece, text):
    code, stderr = nginx_t(admin=f"keygate_admin {piece};")
    assert code == 1
    assert text in stderr


# Reading it.


def test_pages_newest_first(make_gate, make_redis):
    gate = make_gate(redis=make_redis())
    made = [gate.admin("PUT", f"/orgs/o{n}", json={"access": "test"})
            for n in range(9)]
    wanted = [answer.get("X-Request-Id") for answer in made][::-1]

    for limit in (1, 4, 8, 9, 10):
        entries = everything(gate, "/audit", limit)
        assert [entry["requestId"] for entry in entries] == wanted

    found, cursor, n = [], "", 100
    while cursor is not None:           # the newest are no part of the rest
        answer = gate.admin("GET", f"/audit?limit=2&cursor={cursor}").json()
        found += [entry["requestId"] for entry in answer["data"]]
        cursor = answer["nextCursor"]
        gate.admin("PUT", f"/orgs/o{n}", json={"access": "test"})
        n += 1
    assert found == wanted


@pytest.mark.parametrize("cursor", ["x", "-", "1-", "-1", "1-2-3", "%2B",
                                    "18446744073709551616-0", "1-" + "9" * 20,
                                    "(1-0", "1" * 42 + "-1", "1_0"])
def test_cursors_refused(gate, cursor):
    check_refused(gate.admin("GET", f"/audit?cursor={cursor}"), 400, "bad_request",
            "cursor")


def test_entries_others_have_written(gate):
    """Additions to the format, and what is no JSON."""
    gate.redis.client.xadd("kg:audit", {"action": "other", "changes": "{",
                                        "more": "x", "actor": b"\xff"})
    (entry,) = trail(gate, action="other")
    assert set(entry) == MEMBERS
    assert (entry["changes"], entry["actor"]) == (None, None)


def test_it_does_not_grow_for_ever(gate):
    """MAXLEN, about: Redis trims whole nodes of a hundred entries."""
    client = gate.redis.client
    pipe = client.pipeline(transaction=False)
    for n in range(100500):
        pipe.xadd("kg:audit", {"n": n})
    pipe.execute()
    make_org(gate)
    assert 100000 <= client.xlen("kg:audit") <= 100200
    client.delete("kg:audit")


# What goes wrong.


def test_a_repetition_is_one_entry(gate, tmp_path):
    script = shipped(tmp_path)["audit"]
    client = gate.redis.client

    def add(request_id):
        return client.eval(script, 1, "kg:other", 100, request_id,
                           "requestId", request_id, "action", "x")

    first = add("req_1")
    assert add("req_2") != first
    assert add("req_1") == first
    assert [fields[b"requestId"] for _, fields in client.xrange(
        "kg:other")] == [b"req_1", b"req_2"]
    assert client.xrange("kg:other")[0][1][b"action"] == b"x"


def test_an_entry_is_sent_until_redis_has_it(make_gate, make_redis,
                                             make_relay):
    """Redis has done it and says otherwise: it is there once."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    org = make_org(gate)                # Redis knows the script now
    sent = relay.count("EVALSHA")
    rule = relay.replace("EVALSHA", b"-LOADING Redis is loading\r\n", times=1)

    answer = gate.admin("POST", f"/orgs/{org}/keys", json=KEY)
    assert answer.status == 201
    assert answer.json()["token"]
    assert rule.hits == 1
    eventually(lambda: relay.count("EVALSHA") >= sent + 2)
    time.sleep(0.1)
    assert len(trail(gate, action="key.create")) == 1
    gate.wait_log("an entry of the audit trail is not in Redis")


def test_a_change_nobody_knows_of_is_told(make_gate, make_redis, make_relay):
    """Redis's answer to the write comes too late."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url,
                     redis_parameters="connect=200ms command=50ms dead=4s")
    org = make_org(gate, "test")
    late = threading.Event()
    relay.replace("EVALSHA", None, times=1, delay=late)

    answer = gate.admin("PATCH", f"/orgs/{org}", json={"access": "live"})
    check_refused(answer, 503, "service_unavailable")
    late.set()
    (entry,) = eventually(lambda: [
        entry for entry in map(
            lambda item: {k.decode(): v.decode() for k, v in item[1].items()},
            redis.client.xrange("kg:audit"))
        if entry["requestId"] == answer.get("X-Request-Id")])
    assert entry["outcome"] == "unknown"
    assert entry["action"] == "org.set"
    assert entry["org"] == org


def test_many_writers_one_entry_each(gate):
    org = make_org(gate)
    answers = []

    def patch(n):
        answers.append(gate.admin("PATCH", f"/orgs/{org}",
                                  json={"limits": {f"p{n}": f"{n + 1}r/m"}}))

    threads = [threading.Thread(target=patch, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {answer.status for answer in answers} == {200}
    entries = [entry for entry in trail(gate, org=org)
               if "limits" in entry["changes"]]
    assert sorted(entry["requestId"] for entry in entries) == sorted(
        answer.get("X-Request-Id") for answer in answers)

    # Each saw what the one before it had left.

    changes = sorted((entry["changes"]["limits"] for entry in entries),
                     key=lambda change: len(change["to"]))
    assert changes[0]["from"] is None
    for older, newer in zip(changes, changes[1:]):
        assert newer["from"] == older["to"]
