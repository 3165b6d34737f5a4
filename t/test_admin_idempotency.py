"""GET and DELETE /orgs/{org}/idempotency/{mode}/{key}: what became of a write,
and the operator's way out."""

import json
import threading
import time
import urllib.parse

import pytest

from admin_calls import PIECES, ask, check_refused, make_org, trail
from harness.ports import wait_for
from test_cli import run_at
from test_idempotency import check_replay, send, write
from test_idempotency_claims import state

GATE = PIECES

# nginx refuses a path above its root, whatever is meant by it.

ABOVE = "../../../../.."

ODD = ["a/b", "a//b", "%2F", "a%b", "..", "../..", ABOVE, ".", "/",
       "a?b=c&d", "a#b", "k+k", '"quoted"', "a\\b", "key=1", "~" * 255,
       "!$&'()*+,;=:@[]{}|^`<>", "../keys", "idempotency/test/k"]


def path(key, idem="k", mode=None):
    return (f"/orgs/{key.org}/idempotency/{mode or key.mode}/"
            + urllib.parse.quote(idem, safe=""))


def query(key, idem="k"):
    return (f"/orgs/{key.org}/idempotency/{key.mode}?"
            + urllib.parse.urlencode({"key": idem}))


def unknown(gate, key, upstream, idem="k"):
    """A write of which nobody knows; the request that ran."""
    upstream.answer(cut="before", times=1)
    assert write(gate, key, idem).status == 502
    return upstream.requests[-1]


def too_large(gate, key, upstream):
    """A write whose answer is not kept, which does not wait for Redis."""
    upstream.answer(body="x" * 300000, times=1)
    write(gate, key)
    wait_for(lambda: state(gate, key) == b"T", what="tombstone")


def shown(gate, where):
    answer = gate.admin("GET", where)
    assert answer.status == 200, answer
    assert answer.get("Cache-Control") == "no-store"
    return answer.json()


# GET

def test_completed(gate, upstream):
    key = gate.key()
    upstream.answer(201, {}, {"secret": "of the webhook"})
    first = write(gate, key)
    record = shown(gate, path(key))

    assert 0 <= record.pop("age") < 60
    assert record == {"org": key.org, "mode": "test", "key": "k",
                      "state": "completed", "route": "POST /v1/loads",
                      "originalRequestId": first.get("X-Request-Id")}


def test_unknown(gate, upstream):
    key = gate.key(mode="live")
    ran = unknown(gate, key, upstream)
    record = shown(gate, path(key))

    assert (record["state"], record["mode"]) == ("unknown", "live")
    assert record["originalRequestId"] == ran.get("X-Request-Id")


def test_unavailable(gate, upstream):
    key = gate.key()
    too_large(gate, key, upstream)

    assert shown(gate, path(key))["state"] == "unavailable"


def test_in_progress_and_its_age(gate, upstream):
    key = gate.key()
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        time.sleep(1.1)
        record = shown(gate, path(key))
        upstream.release()
        client.read()

    assert record["state"] == "in_progress"
    assert 1 <= record["age"] < 30


def test_lease_that_is_over_is_unknown(gate, upstream):
    """What a retry would be told; to look changes nothing."""
    key = gate.key()
    upstream.answer(hang=True, times=1)
    name = f"kg:idem:{{{key.org}}}:test:k"

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        value = gate.redis.client.get(name)
        over = value[:58] + bytes(8) + value[66:]
        gate.redis.client.set(name, over, keepttl=True)
        assert shown(gate, path(key))["state"] == "unknown"
        assert gate.redis.client.get(name) == over
        upstream.release()
        client.read()


@pytest.mark.parametrize("idem", ODD, ids=lambda idem: idem[:20])
def test_any_key(gate, upstream, idem):
    """In the path, where nothing of it is decoded too early, and in the
    query, which goes through whatever stands before the gate."""
    key = gate.key()
    quoted = json.dumps(idem) if idem.startswith('"') else idem
    assert write(gate, key, quoted).status == 200
    assert shown(gate, query(key, idem))["key"] == idem

    answer = gate.admin("GET", path(key, idem))
    if idem == ABOVE:
        assert (answer.status, answer.code) == (400, None)
    else:
        assert answer.json()["key"] == idem

    assert gate.admin("DELETE", query(key, idem)).json()["resolved"] is True
    assert write(gate, key, quoted).get("Idempotent-Replayed") is None


@pytest.mark.parametrize("idem", ["..", "../..", "../../keys", "../../..",
                                  "..%2f.."])
@pytest.mark.parametrize("safe", ["", ".", "./"])
def test_a_key_is_never_another_call(gate, idem, safe):
    """A partner chooses the key; resolving "../.." deletes no
    organisation."""
    org = make_org(gate, access="test")
    gate.admin("DELETE", f"/orgs/{org}/idempotency/test/"
               + urllib.parse.quote(idem, safe=safe))

    assert gate.admin("GET", f"/orgs/{org}").status == 200
    assert trail(gate, org=org, action="org.delete") == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("org, rest, field", [
    ("a", "sandbox/k", "mode"), ("a", "TEST/k", "mode"),
    ("a", "test/%20", "key"), ("a", "test/a%01b", "key"),
    ("a", "test/%e9", "key"),
    ("a", "test/" + "a" * 256, "key"), ("a", "test?key=", "key"),
    ("a", "test", "key"), ("a", "test?key=%20", "key"),
    ("a", "test?key=a&key=b", "key"), ("a", "test?name=a", "name"),
    ("a", "test/k?key=a", "key"), ("a%2Fb", "test/k", "org"),
    ("a.b", "test/k", "org"), ("a" * 65, "test/k", "org")])
def test_wrong_call(gate, method, org, rest, field):
    check_refused(gate.admin(method, f"/orgs/{org}/idempotency/{rest}"),
                  400, "bad_request", field)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_such_claim(gate, upstream, method):
    key = gate.key()
    write(gate, key)

    for where in (path(key, "other"), path(key, mode="live"),
                  path(gate.key())):
        check_refused(gate.admin(method, where), 404, "not_found")
    assert state(gate, key) == b"C"


@pytest.mark.parametrize("where", ["/orgs/a/idempotency/test/k",
                                   "/orgs/a/idempotency/test"])
def test_other_methods(gate, where):
    answer = gate.admin("PUT", where)
    check_refused(answer, 405, "method_not_allowed")
    assert answer.get("Allow") == "GET, HEAD, DELETE"


# DELETE

@pytest.mark.parametrize("made", ["unknown", "completed", "unavailable"])
def test_resolved_key_is_free(gate, upstream, made):
    """One execution more, and that one is kept."""
    key = gate.key()
    if made == "unknown":
        unknown(gate, key, upstream)
    elif made == "unavailable":
        too_large(gate, key, upstream)
    else:
        write(gate, key)

    record = gate.admin("DELETE", path(key)).json()
    assert (record["state"], record["resolved"]) == (made, True)
    assert state(gate, key) is None

    second = write(gate, key)
    assert second.get("Idempotent-Replayed") is None
    check_replay(second, write(gate, key))
    assert len(upstream.requests) == 2


def test_in_progress_is_not_resolved(gate, upstream):
    key = gate.key()
    upstream.answer(201, {}, {"id": 1}, hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        check_refused(gate.admin("DELETE", path(key)), 409, "conflict")
        assert state(gate, key) == b"P"
        assert trail(gate, org=key.org) == []
        upstream.release()
        first = client.read()

    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


def test_answer_that_comes_after_the_resolution(gate, upstream):
    """It was executed after all, and nobody has retried yet: that counts."""
    key = gate.key()
    upstream.answer(201, {}, {"id": 1}, hang=True, times=1)
    name = f"kg:idem:{{{key.org}}}:test:k"

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        value = gate.redis.client.get(name)
        gate.redis.client.set(name, value[:1] + b"U" + value[2:], keepttl=True)
        assert gate.admin("DELETE", path(key)).status == 200
        upstream.release()
        first = client.read()

    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


def test_outcome_that_is_sent_again_after_the_resolution(make_gate, redis,
                                                         make_relay, upstream):
    """Redis took it and could not say so: the key stays free."""
    relay = make_relay(redis.port)
    slow = make_gate(redis_url=relay.url, workers="1",
                     redis_parameters="connect=1s command=1s dead=20s")
    key = slow.key()
    write(slow, key, "warm")
    told = threading.Event()
    rule = relay.replace("EVALSHA", None, times=0, delay=told)
    rule.fits = lambda words: b"unknown" in words

    unknown(slow, key, upstream)
    assert state(slow, key) == b"U"
    direct = make_gate(redis=redis)
    assert direct.admin("DELETE", path(key)).json()["resolved"] is True

    relay.cut()
    told.set()
    wait_for(lambda: sum(b"unknown" in words for words in relay.commands) > 1
             and relay.count("evalsha") and rule.hits > 1, what="it again")
    assert slow.admin("GET", path(key)).status == 404
    assert write(slow, key).get("Idempotent-Replayed") is None


def test_answer_that_comes_after_the_retry(gate, upstream):
    """The retry has the key by then."""
    key = gate.key()
    upstream.answer(201, {}, {"n": 1}, hang=True, times=1)
    name = f"kg:idem:{{{key.org}}}:test:k"

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        value = gate.redis.client.get(name)
        gate.redis.client.set(name, value[:1] + b"U" + value[2:], keepttl=True)
        gate.admin("DELETE", path(key))
        upstream.answer(201, {}, {"n": 2})
        second = write(gate, key)
        upstream.release()
        assert client.read().json() == {"n": 1}

    check_replay(second, write(gate, key))
    assert len(upstream.requests) == 2


def test_roles(gate, upstream):
    key = gate.key()
    write(gate, key)

    for role in ("read", "portal"):
        assert ask(gate, role, "GET", path(key)).json()["state"] == "completed"
        check_refused(ask(gate, role, "DELETE", path(key)), 403, "forbidden")
    assert state(gate, key) == b"C"
    assert ask(gate, "operator", "DELETE", path(key)).status == 200


def test_audit(gate, upstream):
    key = gate.key()
    ran = unknown(gate, key, upstream, "k/1")
    answer = gate.admin("DELETE", path(key, "k/1"),
                        headers={"Keygate-Actor": "kim"})
    entry, = trail(gate, org=key.org)

    assert entry["action"] == "idempotency.resolve"
    assert (entry["actor"], entry["claimed"]) == ("kim", True)
    assert entry["requestId"] == answer.get("X-Request-Id")
    change = entry["changes"]["idempotency"]
    assert change["to"] is None
    assert change["from"]["key"] == "k/1"
    assert change["from"]["state"] == "unknown"
    assert change["from"]["originalRequestId"] == ran.get("X-Request-Id")
    assert "resolved" not in change["from"]

    assert gate.admin("GET", path(key, "k/1")).status == 404
    assert len(trail(gate, org=key.org)) == 1


def test_resolution_that_redis_does_not_answer(make_gate, make_relay, redis,
                                               upstream):
    """It may have been done: the trail says that nobody knows."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1",
                     redis_parameters="connect=1s command=1s dead=20s")
    key = gate.key()
    write(gate, key)
    late = threading.Event()
    relay.replace("EVALSHA", None, times=1, delay=late)

    check_refused(gate.admin("DELETE", path(key)), 503, "service_unavailable")
    relay.reset()
    late.set()
    entry, = wait_for(lambda: trail(gate, org=key.org), 5, "entry", step=0.2)
    assert entry["outcome"] == "unknown"


@pytest.mark.parametrize("reply", [b"+OK\r\n", b":1\r\n", b"*1\r\n:1\r\n",
                                   b"*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n"])
def test_reply_of_another_shape(make_gate, make_relay, redis, reply):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1")
    relay.replace("EVALSHA", reply)
    relay.replace("EVAL", reply)

    assert gate.admin("GET", "/orgs/a/idempotency/test/k").status == 500


def test_damaged_record(gate, upstream):
    key = gate.key()
    gate.redis.client.set(f"kg:idem:{{{key.org}}}:test:k", "x")

    check_refused(gate.admin("GET", path(key)), 503, "service_unavailable")


# The command line

@pytest.mark.parametrize("idem", ["order-1", "../..", "-dash"])
def test_command_line(gate, upstream, idem):
    key = gate.key()
    url = "unix:" + gate.path("admin.sock")
    unknown(gate, key, upstream, idem)

    code, out, err = run_at(url, "--json", "idempotency", "show", key.org,
                            "test", "--", idem)
    assert (code, json.loads(out)["state"], err) == (0, "unknown", "")

    code, out, err = run_at(url, "idempotency", "resolve", key.org, "test",
                            "--", idem)
    assert (code, err) == (0, "")
    assert "resolved" in out
    assert write(gate, key, idem).status == 200

    code, out, err = run_at(url, "idempotency", "show", key.org, "live",
                            "--", idem)
    assert (code, out) == (1, "")
    assert "not_found" in err
