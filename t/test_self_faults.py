"""keygate_self when something happens meanwhile: records that change, retries,
a Redis that is away."""

import concurrent.futures
import json
import threading
import time

import pytest

from admin_calls import trail
from checks import check_error
from harness.ports import wait_for
from self_calls import (KEYS, PIECES, PLAIN, READ, SELF, check_more, made,
                        manager)

GATE = PIECES


def count(gate, org):
    return gate.admin("GET", f"/orgs/{org}").json()["keys"]


# Retries.

def test_a_retry_gets_the_same_key(gate, redis):
    key = manager(gate)
    answers = [key.call("POST", KEYS, json=READ, idem="one")
               for _ in range(3)]

    new = made(gate, answers[0])
    assert [answer.body for answer in answers] == [answers[0].body] * 3
    assert [answer.get("Idempotent-Replayed") for answer in answers] == [
        None, "true", "true"]
    assert answers[0].get("Cache-Control") == "no-store"
    assert answers[1].get("Cache-Control") == "no-store"
    assert new.works()
    assert count(gate, key.org) == 2

    claim = redis.client.get(f"kg:idem:{{{key.org}}}:test:one")
    assert claim and new.token.encode() not in claim


def test_a_retry_at_the_same_time(gate):
    key = manager(gate)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(
            lambda _: key.call("POST", KEYS, json=READ, idem="two"),
            range(8)))

    assert {answer.status for answer in answers} <= {201, 409}
    assert {answer.code for answer in answers if answer.status == 409} <= {
        "idempotency_in_progress"}
    assert len({answer.body for answer in answers
                if answer.status == 201}) == 1
    assert count(gate, key.org) == 2


def test_another_key_does_not_get_the_token(gate):
    """The claim is the organisation's, but the answer is its caller's: the
    other may do less than what was made."""
    key = manager(gate)
    weaker = manager(gate, key.org, scopes=["keys:manage"])
    assert key.call("POST", KEYS, json=READ, idem="mine").status == 201

    check_error(weaker.call("POST", KEYS, json=READ, idem="mine"), 409,
                "idempotency_conflict")


def test_a_refused_call_leaves_its_idempotency_key_free(gate):
    key = manager(gate)

    for _ in range(2):
        check_more(key.call("POST", KEYS, idem="free", json={
            "scopes": ["*"]}), "scopes")
    assert key.call("POST", KEYS, idem="free", json=READ).status == 201


def test_the_header_is_asked_for(gate):
    check_error(manager(gate).call("POST", KEYS, json=READ), 400,
                "missing_idempotency_key")


def test_no_token_in_logs(gate):
    key = manager(gate)
    new = made(gate, key.call("POST", KEYS, json=READ, idem="logs"))
    key.call("POST", KEYS, json=READ, idem="logs")
    rotated = made(gate, key.call("POST", f"{KEYS}/{new.id}/rotate", json={}))

    text = gate.log() + "\n".join(gate.access_log())
    assert new.id in text
    for one in (key, new, rotated):
        assert one.token not in text


# What a node has cached is not what is handed on.

@pytest.fixture
def untold(make_gate, make_redis):
    """A gate whose Redis does not tell of changes."""
    redis = make_redis(acl={"keygate": "on >PASSWORD ~* &* +@all "
                                       "-client|tracking"})
    gate = make_gate(
        redis=redis, files={"password": "PASSWORD\n"},
        redis_url=f"{redis.url} user=keygate "
                  "password_file=%%FOLDER%%/password",
        **{**PIECES, "zone":
           "keygate_zone zone=keygate:2m valid=600s negative=600s;"})
    gate.watched()
    return gate


def rewrite(gate, name, **changes):
    record = json.loads(gate.redis.client.get(name))
    record.update(changes)
    gate.redis.client.set(name, json.dumps(record))


def test_rights_are_those_of_now(untold):
    key = manager(untold)
    assert key.works()
    rewrite(untold, key.name, scopes=["keys:manage", "loads:write"],
            limits={"default": "5r/m"})

    assert key.works()                          # by what is cached
    check_more(key.make(), "scopes")
    new = made(untold, key.make(scopes=["loads:write"]))
    assert new.shown()["limits"] == {"default": "5r/m"}
    assert [limit["rate"] for limit in key.call("GET", SELF).json()["limits"]
            if limit["policy"] == "default"] == ["5r/m"]


@pytest.mark.parametrize("changes, status, code, details", [
    ({"revokedAt": "2020-01-01T00:00:00Z"}, 401, "unauthorized", None),
    ({"expiresAt": "2020-01-01T00:00:00Z"}, 401, "unauthorized", None),
    ({"notBefore": "2099-01-01T00:00:00Z"}, 401, "unauthorized", None),
    ({"org": "other"}, 401, "unauthorized", None),
    ({"id": "key_other"}, 401, "unauthorized", None),
    ({"mode": "live"}, 401, "unauthorized", None),
    ({"allow": ["192.0.2.1"]}, 403, "forbidden",
     {"reason": "address_not_allowed"}),
    ({"scopes": ["loads:read"]}, 403, "forbidden",
     {"requiredScope": "keys:manage"}),
])
def test_a_key_that_is_one_no_more(untold, changes, status, code, details):
    key = manager(untold)
    assert key.works()
    rewrite(untold, key.name, **changes)

    for method, path, body in (("POST", PLAIN, READ), ("GET", KEYS, None),
                               ("DELETE", f"{KEYS}/{key.id}", None)):
        check_error(key.call(method, path, json=body), status, code, details)
    assert count(untold, key.org) == 1


def test_a_key_that_is_gone(untold):
    key = manager(untold)
    assert key.works()
    untold.redis.client.delete(key.name)

    check_error(key.make(), 401, "unauthorized")
    check_error(key.call("GET", SELF), 401, "unauthorized")


def test_an_organisation_that_is_disabled(untold):
    key = manager(untold)
    assert key.works()
    rewrite(untold, f"kg:org:{{{key.org}}}", access="disabled")

    check_error(key.make(), 403, "partner_access_disabled")
    check_error(key.call("GET", SELF), 403, "partner_access_disabled")


def test_a_broken_record(untold):
    key = manager(untold)
    assert key.works()
    untold.redis.client.set(key.name, "{}")

    check_error(key.make(), 500, "internal_error")
    untold.wait_log(f'record of key "{key.id}" in Redis is not valid')


# What changes during a call.

@pytest.fixture
def slow(make_gate, make_redis, make_relay):
    """A gate whose Redis is slow once its relay says so."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url, workers="1",
                     redis_parameters="connect=20s command=20s dead=30s",
                     **PIECES)
    gate.relay = relay
    return gate


def during(gate, call, asked, then):
    """A call, and what happens when Redis was asked something in it."""
    seen = len(gate.relay.commands)

    def meanwhile():
        wait_for(lambda: any(asked(words) for words in
                             list(gate.relay.commands)[seen:]), 20, "command")
        then()

    gate.relay.delay = 0.2
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        change = pool.submit(meanwhile)
        try:
            answer = call()
        finally:
            gate.relay.delay = 0
        change.result()
    return answer


def sets(kind):
    return lambda words: (words[0] == b"SET"
                          and words[1].startswith(b"kg:%s:" % kind))


@pytest.mark.parametrize("call", ["make", "rotate"])
def test_the_calling_key_is_revoked_while_it_makes_one(slow, call):
    """Who revokes it and then looks what it made must not miss any."""
    key = manager(slow)
    old = made(slow, key.make())
    assert key.call("GET", SELF).status == 200
    before = slow.redis.client.keys("kg:key:*")

    answer = during(
        slow,
        lambda: (key.make() if call == "make" else
                 key.call("POST", f"{KEYS}/{old.id}/rotate", json={})),
        sets(b"id"),
        lambda: rewrite(slow, key.name, revokedAt="2020-01-01T00:00:00Z"))

    check_error(answer, 409, "conflict")
    assert b"token" not in answer.body
    assert set(slow.redis.client.keys("kg:key:*")) == set(before)
    assert old.works() and old.shown()["expiresAt"] is None
    assert [entry["action"] for entry in trail(slow)
            if entry["actor"] == key.id] == ["key.create"]
    check_error(key.make(), 401, "unauthorized")


def test_a_key_that_rotates_itself_twice_at_once(slow):
    """It has one successor; the other's maker is told to look again."""
    key = manager(slow)
    assert key.call("GET", SELF).status == 200
    before = set(slow.redis.client.keys("kg:key:*"))

    slow.relay.delay = 0.2
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(
            lambda _: key.call("POST", f"{KEYS}/{key.id}/rotate",
                               json={"overlap": "1h"}), range(3)))
    slow.relay.delay = 0

    assert sorted(answer.status for answer in answers) == [201, 409, 409]
    assert len(set(slow.redis.client.keys("kg:key:*")) - before) == 1
    new = made(slow, max(answers, key=lambda answer: -answer.status))
    assert new.make().status == 201
    assert json.loads(slow.redis.client.get(key.name))["rotatedTo"] == new.id


def test_a_key_that_gets_stronger_while_it_is_changed(slow):
    """The change begins again from what it has become."""
    key = manager(slow)
    new = made(slow, key.make())
    assert key.call("GET", SELF).status == 200

    answer = during(
        slow,
        lambda: key.call("PATCH", f"{KEYS}/{new.id}", json={"name": "mine"}),
        lambda words: (words[0] == b"GET"
                       and words[1] == new.name.encode()),
        lambda: (time.sleep(0.25),
                 rewrite(slow, new.name, scopes=["a:b"])))

    check_more(answer, "scopes")
    assert (new.shown()["scopes"], new.shown()["name"]) == (["a:b"], None)


@pytest.mark.parametrize("changes", [{"scopes": ["keys:manage"]},
                                     {"revokedAt": "2020-01-01T00:00:00Z"}])
def test_the_calling_key_is_narrowed_while_it_changes_one(slow, changes):
    """What it may not do any more is not done after that, and what others
    have changed meanwhile stays."""
    key = manager(slow)
    new = made(slow, key.make(name="UAT"))
    assert key.call("GET", SELF).status == 200

    def narrow():
        rewrite(slow, key.name, **changes)
        rewrite(slow, new.name, allow=["127.0.0.1"])

    answer = during(
        slow,
        lambda: key.call("PATCH", f"{KEYS}/{new.id}", json={
            "name": "mine", "scopes": ["loads:write"],
            "limits": {"default": "5r/m"}}),
        lambda words: (words[0] == b"GET" and words[1] == new.name.encode()),
        narrow)

    check_error(answer, 409, "conflict")
    shown = new.shown()
    assert (shown["name"], shown["scopes"], shown["limits"],
            shown["allow"]) == ("UAT", ["loads:read"], {}, ["127.0.0.1"])
    assert [entry["action"] for entry in trail(slow)
            if entry["actor"] == key.id] == ["key.create"]


def test_the_calling_key_is_narrowed_while_it_changes_itself(slow):
    key = manager(slow)
    assert key.call("GET", SELF).status == 200

    answer = during(
        slow, lambda: key.call("PATCH", f"{KEYS}/{key.id}",
                               json={"name": "mine"}),
        lambda words: words[:1] == [b"GET"] and words[1].startswith(b"kg:id:"),
        lambda: rewrite(slow, key.name, scopes=["keys:manage"]))

    check_error(answer, 409, "conflict")
    assert key.shown()["name"] is None
    assert key.shown()["scopes"] == ["keys:manage"]


# Redis away.

def test_a_key_that_may_have_been_made_is_not_made_again(
        make_gate, make_redis, make_relay):
    """Nobody has the token of the first, which would stay beside it."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url, workers="1", **PIECES)
    key = manager(gate)
    assert key.call("GET", SELF).status == 200

    late = threading.Event()
    relay.replace("SET", None, delay=late).fits = sets(b"key")
    answer = key.call("POST", KEYS, json=READ, idem="once")
    check_error(answer, 503, "service_unavailable")
    relay.reset()
    late.set()
    wait_for(lambda: len(redis.client.keys("kg:key:*")) == 2, 10, "the key")

    for _ in range(2):
        wait_for(lambda: key.call("GET", SELF).status == 200, 10, "Redis")
        check_error(key.call("POST", KEYS, json=READ, idem="once"), 409,
                    "idempotency_outcome_unknown",
                    {"originalRequestId": answer.get("X-Request-Id")})
    assert len(redis.client.keys("kg:key:*")) == 2


def calls(key, new):
    return [("GET", SELF, None), ("GET", KEYS, None), ("POST", PLAIN, READ),
            ("GET", f"{KEYS}/{new.id}", None),
            ("PATCH", f"{KEYS}/{new.id}", {"name": "x"}),
            ("POST", f"{KEYS}/{new.id}/rotate", {}),
            ("GET", f"{KEYS}/{new.id}/usage", None),
            ("DELETE", f"{KEYS}/{new.id}", None)]


@pytest.mark.parametrize("limits", ["deny", "allow"])
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_redis_away(make_gate, make_redis, limits, how):
    redis = make_redis()
    gate = make_gate(redis=redis, workers="1", **{
        **PIECES, "outage": f"keygate_outage keys=stale:5m limits={limits};"})
    key = manager(gate)
    new = made(gate, key.make())
    assert key.call("GET", SELF).status == 200

    with getattr(redis, how)():
        for method, path, body in calls(key, new)[::3 if how == "frozen"
                                                  else 1]:
            check_error(key.call(method, path, json=body), 503,
                        "service_unavailable", retry=(1, 1))

    assert wait_for(lambda: key.call("GET", f"{KEYS}/{new.id}").status == 200,
                    10, "Redis")
    assert new.shown()["revokedAt"] is None
    assert count(gate, key.org) == 2


def test_redis_refuses_writes(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, workers="1", **{
        **PIECES, "outage": "keygate_outage limits=allow;"})
    key = manager(gate)
    new = made(gate, key.make())
    redis.client.config_set("maxmemory", "1")

    for method, path, body in calls(key, new)[2:]:
        if method != "GET":
            check_error(key.call(method, path, json=body), 503,
                        "service_unavailable", retry=(1, 1))
    redis.client.config_set("maxmemory", "0")

    assert new.works()
    assert new.shown()["name"] is None
    assert key.make().status == 201


def test_a_client_that_leaves(slow):
    """A call that has begun runs to its end, and the trail tells of it."""
    key = manager(slow)
    assert key.call("GET", SELF).status == 200
    body = json.dumps(READ).encode()
    client = slow.connect()
    client.send(b"POST /plain/keys HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: Bearer " + key.token.encode()
                + b"\r\nContent-Length: %d\r\n\r\n" % len(body))

    left = threading.Event()

    during(slow, lambda: (client.send(body), left.wait(20)), sets(b"id"),
           lambda: (client.close(), left.set()))

    wait_for(lambda: [entry["action"] for entry in trail(slow)
                      if entry["actor"] == key.id] == ["key.create"], 10,
             "entry")
    made_id = trail(slow, actor=key.id)[0]["key"]
    assert slow.admin("GET", f"/keys/{made_id}").status == 200


@pytest.mark.parametrize("who", ["itself", "another", "platform"])
def test_a_rotation_whose_end_is_not_confirmed(make_gate, make_redis,
                                               make_relay, who):
    """The new token is shown: one that has ended itself could not ask for
    another.  And it is told that the old one may go on."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url, workers="1", **PIECES)
    key = manager(gate)
    old = key if who == "itself" else made(gate, key.make())
    assert key.call("GET", SELF).status == 200
    before = set(redis.client.keys("kg:key:*"))
    gate.admin("PATCH", f"/keys/{old.id}", json={"name": "UAT"})   # the script

    name = old.name.encode()
    late = threading.Event()
    relay.replace("EVALSHA", None, times=1, delay=late).fits = (
        lambda words: words[0] == b"EVALSHA" and name in words)
    if who == "platform":
        answer = gate.admin("POST", f"/keys/{old.id}/rotate",
                            json={"overlap": "0"})
    else:
        answer = key.call("POST", f"{KEYS}/{old.id}/rotate",
                          json={"overlap": "0"})
    relay.reset()
    late.set()

    new = made(gate, answer)
    assert answer.json()["replaces"]["unconfirmed"] is True
    assert answer.json()["replaces"]["id"] == old.id
    assert len(set(redis.client.keys("kg:key:*")) - before) == 1
    wait_for(new.works, 10, "Redis")
    assert not old.works()
    wait_for(lambda: trail(gate, action="key.rotate"), 10, "trail")
    entry = trail(gate)[0]
    assert entry["outcome"] == "unknown"
    assert entry["changes"]["rotatedTo"]["to"] == new.id
