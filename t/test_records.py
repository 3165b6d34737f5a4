"""Records in Redis: what is wrong with one is never the caller's fault, and
what is cached of one is never older than it may be."""

import json
import threading
import time

import pytest

import harness
from harness import records
from harness.ports import wait_for

LOADS = "/v1/loads"
PAST = "2020-01-01T00:00:00Z"
SLOW = "connect=1s command=9s dead=20s"

NOT_RECORDS = {
    "nothing": b"", "space": b" ", "no JSON": b"hello", "half": b'{"v":1',
    "an array": b"[]", "a string": b'"x"', "null": b"null", "a number": b"1",
    "not UTF-8": b'{"v":1,"id":"\xff"}', "NUL": b"\0",
    "deep": b"[" * 5000 + b"]" * 5000,
}

KEY_LACKS = ["v", "id", "org", "mode", "scopes"]

KEY_WRONG = [
    {"v": "1"}, {"v": 2}, {"v": None}, {"id": 5}, {"id": None}, {"id": ""},
    {"id": "key_a b"}, {"id": "key_" + "a" * 100}, {"org": None}, {"org": 7},
    {"org": ""}, {"org": "a/b"}, {"org": "a" * 65}, {"org": "}{"},
    {"mode": "prod"}, {"mode": 1}, {"mode": None}, {"mode": "TEST"},
    {"scopes": "loads:read"}, {"scopes": {}}, {"scopes": None},
    {"scopes": [1]}, {"scopes": ["loads:read", None]},
    {"scopes": ["LOADS READ"]}, {"scopes": [""]},
    {"scopes": ["a" * 129]}, {"scopes": ["a:b\r\nX: y"]},
    {"revokedAt": 0}, {"revokedAt": False}, {"revokedAt": ""},
    {"revokedAt": "yesterday"}, {"expiresAt": 4102444800},
    {"expiresAt": "2099-13-01T00:00:00Z"}, {"expiresAt": []},
    {"notBefore": "soon"}, {"notBefore": True},
    {"limits": []}, {"limits": "60r/m"}, {"limits": {"default": 60}},
    {"limits": {"default": "60"}}, {"limits": {"default": "0r/m"}},
    {"allow": "127.0.0.1"}, {"allow": [1]}, {"allow": ["localhost"]},
    {"allow": ["127.0.0.1/33"]}, {"allow": {"127.0.0.1": True}},
]

ORG_WRONG = [
    {"v": "1"}, {"v": None}, {"access": None}, {"access": True},
    {"access": ""}, {"access": "LIVE"}, {"access": "liver"},
    {"access": ["live"]}, {"limits": ["60r/m"]}, {"limits": {"default": []}},
    {"plan": 1}, {"plan": {}},
]


def check_broken(gate, key, upstream):
    """Asserts that a record cannot be used and that the log says so, without
    what no log may have; returns the line."""
    start = len(gate.log())
    answer = gate.get(LOADS, key=key)

    assert (answer.status, answer.code) == (500, "internal_error"), answer
    assert answer.get("WWW-Authenticate") is None
    assert answer.error["retryable"] is False
    assert "details" not in answer.error
    assert upstream.requests == []

    text = gate.log()[start:]
    lines = [line for line in text.splitlines()
             if "[error]" in line and "record" in line]
    assert len(lines) == 1, text
    for secret in (key.digest, key.digest.upper(), key.token,
                   key.token[8:40]):
        assert secret not in text
    return lines[0]


def write_org(gate, org, record):
    if not isinstance(record, bytes):
        record = json.dumps(record)
    gate.redis.client.set(f"kg:org:{{{org}}}", record)


@pytest.mark.parametrize("raw", NOT_RECORDS.values(), ids=NOT_RECORDS)
def test_key_that_is_no_record(gate, upstream, raw):
    key = gate.key()
    key.write(raw)
    check_broken(gate, key, upstream)


@pytest.mark.parametrize("member", KEY_LACKS)
def test_key_that_lacks_a_member(gate, upstream, member):
    key = gate.key()
    key.write(json.dumps({name: value for name, value in key.record.items()
                          if name != member}))

    assert f'"{member}"' in check_broken(gate, key, upstream)


@pytest.mark.parametrize("change", KEY_WRONG, ids=json.dumps)
def test_key_with_a_wrong_member(gate, upstream, change):
    key = gate.key()
    key.save(**change)

    assert f'"{list(change)[0]}"' in check_broken(gate, key, upstream)


@pytest.mark.parametrize("raw", NOT_RECORDS.values(), ids=NOT_RECORDS)
def test_organisation_that_is_no_record(gate, upstream, raw):
    key = gate.key()
    write_org(gate, key.org, raw)

    assert key.org in check_broken(gate, key, upstream)


@pytest.mark.parametrize("member", ["v", "access"])
def test_organisation_that_lacks_a_member(gate, upstream, member):
    key = gate.key()
    record = {"v": 1, "access": "live"}
    del record[member]
    write_org(gate, key.org, record)

    assert f'"{member}"' in check_broken(gate, key, upstream)


@pytest.mark.parametrize("change", ORG_WRONG, ids=json.dumps)
def test_organisation_with_a_wrong_member(gate, upstream, change):
    key = gate.key()
    write_org(gate, key.org, {"v": 1, "access": "live", **change})

    assert f'"{list(change)[0]}"' in check_broken(gate, key, upstream)


@pytest.mark.parametrize("kind", ["key", "org"])
@pytest.mark.parametrize("command", [
    ("RPUSH", "a"), ("HSET", "v", "1"), ("SADD", "a"), ("XADD", "*", "v", "1")
], ids=lambda command: command[0])
def test_record_of_another_redis_type(gate, upstream, kind, command):
    key = gate.key()
    name = key.name if kind == "key" else f"kg:org:{{{key.org}}}"
    gate.redis.client.delete(name)
    gate.redis.client.execute_command(command[0], name, *command[1:])

    check_broken(gate, key, upstream)


@pytest.mark.parametrize("size", [20_000, 1_000_000])
@pytest.mark.parametrize("kind", ["key", "org"])
def test_huge_record(gate, upstream, kind, size):
    key = gate.key()
    if kind == "key":
        key.save(note="a" * size)
    else:
        write_org(gate, key.org, {"v": 1, "access": "live",
                                  "note": "a" * size})

    check_broken(gate, key, upstream)


def test_unknown_and_null_members(gate):
    """The schema is additive, and what is null is not there."""
    key = gate.key(future={"a": [1, {"b": None}]}, note="x" * 8000,
                   name=None, limits=None, allow=None, createdAt=None,
                   expiresAt=None, notBefore=None, revokedAt=None)
    write_org(gate, key.org, {"v": 1, "access": "live", "region": ["eu"],
                              "plan": None, "limits": None, "name": None})

    assert gate.get(LOADS, key=key).status == 200


def test_repaired_record_serves_at_once(gate, upstream):
    """What is broken is not cached."""
    key = gate.key()
    org = json.dumps({"v": 1, "access": "live"}).encode()

    key.write(b"{")
    check_broken(gate, key, upstream)
    key.save()
    write_org(gate, key.org, b"{")
    check_broken(gate, key, upstream)
    write_org(gate, key.org, org)

    assert gate.get(LOADS, key=key).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_broken_record_whatever_the_method(gate, upstream, method):
    key = gate.key()
    key.write(b"{")

    assert gate.request(method, LOADS, key=key).status == 500
    assert upstream.requests == []


@pytest.mark.parametrize("mode", ["test", "live"])
def test_organisation_without_a_record(gate, upstream, mode):
    key = gate.key("org-" + records.base62(8), mode=mode)
    answer = gate.get(LOADS, key=key)

    assert (answer.status, answer.code) == (403, "partner_access_not_enabled")
    assert upstream.requests == []


def test_namespace(make_gate):
    """Records of another namespace are not ours."""
    gate = make_gate(redis_parameters="namespace=other.1")
    client = gate.redis.client
    org = records.make_org(client, namespace="other.1")
    key = records.make_key(client, gate.pepper, org, namespace="other.1")

    assert gate.get(LOADS, key=key).status == 200
    assert gate.get(LOADS, key=gate.key()).status == 401
    assert client.keys(f"other.1:limit:{{{org}}}:*")


def test_other_database(make_gate, redis):
    gate = make_gate(redis_url=redis.url[:-1] + "3")
    client = redis.connect()
    client.select(3)
    org = records.make_org(client)
    key = records.make_key(client, gate.pepper, org)

    assert gate.get(LOADS, key=key).status == 200
    assert gate.get(LOADS, key=gate.key()).status == 401


# Caching

def test_warm_key_is_not_read_again(make_gate, make_relay, redis):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url)
    key = gate.key()
    gate.watched()

    assert [gate.get(LOADS, key=key).status for _ in range(8)] == [200] * 8
    assert relay.count("GET") == 2      # the key and its organisation


def test_negative(make_gate, make_relay, redis):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, zone="keygate_zone "
                     "zone=keygate:1m valid=10s negative=300ms;")
    key = gate.key()
    key.delete()
    gate.redis.client.delete(f"kg:org:{{{key.org}}}")
    gate.watched()

    for _ in range(5):
        assert gate.get(LOADS, key=key).status == 401
    assert relay.count("GET") == 1

    key.save()
    wait_for(lambda: gate.get(LOADS, key=key).status == 403, 5, "the key")
    write_org(gate, key.org, {"v": 1, "access": "live"})
    wait_for(lambda: gate.get(LOADS, key=key).status == 200, 5,
             "the organisation")


def test_nothing_is_cached_for_no_time(make_gate):
    gate = make_gate(
        zone="keygate_zone zone=keygate:1m valid=0s negative=0s;")
    key = gate.key()
    codes = []

    for change in ({}, {"revokedAt": PAST}, {"revokedAt": None}):
        key.save(**change)
        codes.append(gate.get(LOADS, key=key).status)
    key.delete()
    codes.append(gate.get(LOADS, key=key).status)
    key.save()
    codes.append(gate.get(LOADS, key=key).status)

    assert codes == [200, 401, 200, 401, 200]


# The fill race: a reply of Redis that was under way when the record changed.

class Race:
    """A gate of two workers, and a connection to each."""

    def __init__(self, make_gate, relay):
        self.relay = relay
        self.gate = make_gate(
            redis_url=relay.url, redis_parameters=SLOW,
            server="add_header X-Pid $pid always;",
            locations="location /admin/ { keygate_admin role=operator; }")
        first = self.connect()
        other = self.connect()
        while other[0] == first[0]:
            other = self.connect()
        self.asking, self.changing = first[1], other[1]

    def connect(self):
        client = self.gate.connect()
        return client.request("GET", "/health/api").get("X-Pid"), client

    def admin(self, method, path, body=None):
        answer = self.changing.request(
            method, "/admin" + path, body=json.dumps(body) if body else b"")
        assert answer.status in (200, 201, 204), answer
        return answer

    def ask(self, token):
        return self.asking.request("GET", LOADS, {
            "Authorization": f"Bearer {token}"})

    def run(self, token, change, name="kg:"):
        """Asks on one worker, and while Redis's reply about that name is on
        its way makes the change on the other."""
        late = threading.Event()
        rule = self.relay.replace("GET", None, times=1, delay=late, name=name)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(
            self.ask(token)))
        asking.start()
        wait_for(lambda: rule.hits == 1, 5, "the reply of Redis")
        change()
        assert asking.is_alive()
        late.set()
        asking.join()
        return answers[0]


@pytest.fixture
def race(make_gate, make_relay, redis):
    return Race(make_gate, make_relay(redis.port))


def test_key_that_is_revoked_while_it_is_read(race):
    org = race.gate.org("live")
    made = race.admin("POST", f"/orgs/{org}/keys", {
        "mode": "test", "scopes": ["loads:read"]}).json()

    race.run(made["token"],
             lambda: race.admin("DELETE", f"/keys/{made['id']}"))

    assert [race.ask(made["token"]).status for _ in range(4)] == [401] * 4


def test_organisation_that_is_disabled_while_it_is_read(race):
    org = race.gate.org("live")
    key = race.gate.key(org)
    assert race.ask(key.token).status == 200        # the key is cached
    race.admin("PATCH", f"/orgs/{org}", {"name": "Acme"})

    race.run(key.token, lambda: race.admin("PATCH", f"/orgs/{org}",
                                           {"access": "disabled"}))

    assert [race.ask(key.token).status for _ in range(4)] == [403] * 4


def test_organisation_that_appears_while_it_is_read(race):
    """Its absence does not stay."""
    org = race.gate.org("live")
    key = race.gate.key(org)
    assert race.ask(key.token).status == 200
    race.admin("PATCH", f"/orgs/{org}", {"name": "Acme"})
    race.gate.redis.client.delete(f"kg:org:{{{org}}}")

    first = race.run(key.token, lambda: race.admin(
        "PUT", f"/orgs/{org}", {"access": "live"}), name="kg:org:")

    assert first.code == "partner_access_not_enabled"
    assert [race.ask(key.token).status for _ in range(4)] == [200] * 4


# While Redis is away

OUTAGE = {
    "zone": "keygate_zone zone=keygate:1m valid=100ms negative=100ms;",
    "outage": "keygate_outage keys=stale:4s limits=allow;",
    "redis_parameters": "connect=300ms command=300ms",
}


def unavailable(answer):
    assert (answer.status, answer.code) == (503, "service_unavailable"), answer
    assert answer.error["retryable"] is True
    assert int(answer.get("Retry-After")) >= 1
    assert answer.get("WWW-Authenticate") is None


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_stale_and_then_unavailable(make_gate, make_redis, how):
    """An outage never looks like bad credentials."""
    redis = make_redis()
    gate = make_gate(redis=redis, **OUTAGE)
    key, revoked, cold = gate.key(), gate.key(revokedAt=PAST), gate.key()
    unknown = harness.make_token()
    gate.watched()

    def statuses():
        return [gate.get(LOADS, key=token).status
                for token in (key, revoked, unknown)]

    assert statuses() == [200, 401, 401]

    with getattr(redis, how)():
        time.sleep(1)                       # over what is trusted
        assert gate.get(LOADS, key=key).status == 200
        assert gate.get(LOADS, key=revoked).status == 401
        unavailable(gate.get(LOADS, key=unknown))
        unavailable(gate.get(LOADS, key=cold))
        assert gate.get(LOADS, key="hello").status == 401
        assert gate.get(LOADS).status == 401
        assert gate.get("/health/api").status == 200

        wait_for(lambda: statuses() == [503, 503, 503], 10, "the end")
        for token in (key, revoked, unknown, cold):
            unavailable(gate.get(LOADS, key=token))
        unavailable(gate.options(LOADS, key=key))
        assert gate.options(LOADS).status == 204

    wait_for(lambda: statuses() == [200, 401, 401], 10, "Redis again")


def test_stale_under_the_older_of_two_peppers(make_gate, make_redis):
    """That there is none under the newer nobody can say then."""
    redis = make_redis()
    gate = make_gate(
        redis=redis, files={"new": "n" * 40},
        keys="keygate_keys prefix=tf pepper=new pepper=pepper;", **OUTAGE)
    old = gate.key()
    gate.pepper = b"n" * 40
    new = gate.key()
    revoked = gate.key(revokedAt=PAST)
    gate.watched()

    def statuses():
        return [gate.get(LOADS, key=key).status
                for key in (old, new, revoked)]

    assert statuses() == [200, 200, 401]

    with redis.stopped():
        time.sleep(1)
        assert statuses() == [200, 200, 401]
        unavailable(gate.get(LOADS, key=harness.make_token()))
        wait_for(lambda: statuses() == [503, 503, 503], 10, "the end")

    wait_for(lambda: statuses() == [200, 200, 401], 10, "Redis again")


def test_no_stale_at_all(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, **{
        **OUTAGE, "outage": "keygate_outage keys=stale:0s limits=allow;"})
    key = gate.key()
    gate.watched()
    assert gate.get(LOADS, key=key).status == 200

    with redis.stopped():
        time.sleep(0.15)
        unavailable(gate.get(LOADS, key=key))


def test_stale_organisation(make_gate, make_relay, redis):
    """The key's record is had, the organisation's is not: the old one
    serves."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **OUTAGE)
    key, cold = gate.key(), gate.key()
    gate.watched()
    assert gate.get(LOADS, key=key).status == 200
    relay.deafen()
    time.sleep(1)                       # over what is trusted

    for one, status in ((key, 200), (cold, 503)):
        relay.replace("GET", b"-LOADING Redis is loading\r\n")
        relay.replace("GET", None, times=1)
        assert gate.get(LOADS, key=one).status == status
