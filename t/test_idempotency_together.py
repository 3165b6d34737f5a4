"""Limits and claim in one round trip: when they go together and when not, and
that a claim is never made without the limits having granted its request."""

import contextlib
import os
import struct
import threading
import time

import pytest

from checks import check_error, structured
from harness.ports import wait_for
from harness.scripts import compiled
from harness.template import ROOT
from test_idempotency import BODY, LOADS, check_replay, write
from test_idempotency_claims import claims, state, together

ROUTES = """keygate_routes partner {
    GET  /v1/loads  loads:read;
    POST /v1/loads  loads:write idempotency=required;
    POST /two       loads:write idempotency=required limit=+few;
    POST /leased    loads:write idempotency=required limit=leased;
    POST /plain     loads:write;
    POST /optional  loads:write idempotency=optional;
    POST /free      loads:write idempotency=required limit=off;
}"""

POLICIES = """keygate_policy default rate=600r/m by=key exact;
              keygate_policy few rate=3r/m by=key exact;
              keygate_policy leased rate=600r/m by=key;"""

# Seconds after which what was told is told again, unless it was acknowledged:
# KG_ZONE_LOCAL_TELLING, and a little.
TOLD = 5.2

# Usage is flushed by a script, too.
GATE = dict(
    workers="1", routes=ROUTES, policies=POLICIES,
    zone="keygate_zone zone=keygate:16m usage=off;",
    server="client_body_buffer_size 8k; client_body_timeout 5s;",
    outage="keygate_outage keys=stale:5m limits=deny;",
    redis_parameters="connect=1s command=1s dead=5s")


class Trips:
    """What scripts asked Redis about a key, by their keys: "limit", "claim",
    "both", and "settle" for what comes after the upstream.  A lease that is
    renewed ahead of its end makes nobody wait."""

    def __init__(self, relays, key):
        self.relays = relays
        self.org = f"{{{key.org}}}".encode()
        self.seen = [len(relay.commands) for relay in relays]

    def __call__(self):
        return [kind for relay, seen in zip(self.relays, self.seen)
                for kind in map(self.kind, relay.commands[seen:]) if kind]

    def kind(self, words):
        if words[0].upper() not in (b"EVALSHA", b"EVAL"):
            return None
        names = words[3:3 + int(words[2])]
        if not names or self.org not in names[0]:
            return None
        more = words[4 + len(names):5 + len(names)]
        if b":limit:" in names[0]:
            if b":idem:" in names[-1]:
                return "both"
            return None if more and more[0][:4] == bytes(4) else "limit"
        return "claim" if len(words[4]) == 16 else "settle"


@pytest.fixture
def relayed(make_gate, make_relay, redis):
    """A gate, the relay on its way to Redis, and a key whose records are in
    the zone and whose scripts Redis has."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **GATE)
    gate.relay = relay
    gate.warm = gate.key()
    for target in (LOADS, "/plain", "/free"):
        assert write(gate, gate.warm, target, target).status == 200
    return gate


def head(key, length, target=LOADS, extra="", idem="k"):
    return (f"POST {target} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {key.token}\r\n"
            f"Idempotency-Key: {idem}\r\n"
            f"Content-Type: application/json\r\n{extra}"
            + (f"Content-Length: {length}\r\n" if length is not None else "")
            + "\r\n").encode()


@contextlib.contextmanager
def running(gate, upstream, client, data):
    """While the upstream has the request: Redis's part before it is over."""
    n = len(upstream.requests)
    upstream.answer(hang=True, times=1)
    client.send(data)
    upstream.wait(n + 1)
    yield
    upstream.release()
    assert client.read().status == 200


# How many round trips there are before the upstream is called.

@pytest.mark.parametrize("target, extra, body, trips", [
    (LOADS, "", BODY, ["both"]),
    ("/two", "", BODY, ["both"]),
    (LOADS, "", b"x" * 8192, ["both"]),
    (LOADS, "", b"x" * 8193, ["limit", "claim"]),
    (LOADS, "", b"", ["both"]),
    ("/free", "", BODY, ["claim"]),
    ("/plain", "", BODY, ["limit"]),
    ("/optional", "", BODY, ["both"]),
], ids=["together", "several policies", "body that just fits",
        "body too large", "no body", "no limit", "not asked for",
        "optional"])
def test_round_trips(relayed, upstream, target, extra, body, trips):
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    with gate.connect() as client:
        with running(gate, upstream, client,
                     head(key, len(body), target, extra) + body):
            assert counted() == trips


def test_a_body_that_comes_later(relayed, upstream):
    """Nothing is asked before it is there, then once."""
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    with gate.connect() as client:
        client.send(head(key, len(BODY)) + BODY[:5])
        time.sleep(0.1)
        assert counted() == []
        with running(gate, upstream, client, BODY[5:]):
            assert counted() == ["both"]
    assert upstream.requests[-1].body == BODY


def test_chunked(relayed, upstream):
    """Nobody knows how long it gets."""
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    data = (head(key, None, extra="Transfer-Encoding: chunked\r\n")
            + b"5\r\nhello\r\n0\r\n\r\n")
    with gate.connect() as client:
        with running(gate, upstream, client, data):
            assert counted() == ["limit", "claim"]


def test_http2(relayed, upstream):
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    with gate.h2() as client:
        answer = client.post(LOADS, content=BODY, headers={
            "Authorization": f"Bearer {key.token}", "Idempotency-Key": "k",
            "Content-Type": "application/json"})
    assert answer.status_code == 200
    assert counted() == ["both", "settle"]


def test_two_redis_servers(make_gate, make_relay, make_redis, redis, upstream):
    """No script reaches both; each is asked for its own."""
    first, second = make_relay(redis.port), make_relay(make_redis().port)
    gate = make_gate(redis_url=first.url, **{
        **GATE, "redis_parameters":
        f"use=records,limits; keygate_redis {second.url} use=idempotency"})
    key = gate.key()
    assert write(gate, key, "warm").status == 200
    one, other = Trips([first], key), Trips([second], key)
    first_answer = write(gate, key)
    assert one() == ["limit"]
    assert other() == ["claim", "settle"]
    check_replay(first_answer, write(gate, key))


def test_lease(relayed, upstream):
    """What a lease covers asks for the claim alone."""
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    for i in range(40):
        assert write(gate, key, f"w{i}", "/leased").status == 200
    trips = counted()
    assert trips.count("both") + trips.count("claim") == 40
    assert "limit" not in trips and trips.count("claim") >= 20


def test_remembered_denial(relayed, upstream):
    """Redis is not asked, and the body is not waited for."""
    gate, key = relayed, relayed.warm
    for i in range(3):
        assert write(gate, key, f"w{i}", "/two").status == 200
    check_error(write(gate, key, "w3", "/two"), 429, "rate_limited",
                {"policy": "few"}, (1, 60))

    counted = Trips([gate.relay], key)
    with gate.connect() as client:
        client.send(head(key, len(BODY), "/two"))
        check_error(client.read(), 429, "rate_limited", {"policy": "few"},
                    (1, 60))
    assert counted() == []


@pytest.mark.parametrize("length, extra", [
    (8193, ""), (len(BODY), "Expect: 100-continue\r\n"),
    (None, "Transfer-Encoding: chunked\r\n")])
def test_a_body_is_not_asked_for_in_vain(make_gate, relayed, length, extra):
    """Another node has spent the limit: this one has to ask, and does so
    before the body where that may be long, or is kept back."""
    gate, key = relayed, relayed.warm
    node = make_gate(**GATE)
    for i in range(3):
        assert write(node, key, f"w{i}", "/two").status == 200

    with gate.connect() as client:
        client.send(head(key, length, "/two", extra))
        check_error(client.read(), 429, "rate_limited", {"policy": "few"},
                    (1, 60))


@pytest.mark.parametrize("idem, code", [
    ("", "missing_idempotency_key"), ("a b", "invalid_idempotency_key")])
def test_limits_come_before_the_header(relayed, idem, code):
    """Wrong keys spend, and over the limit nobody looks at them."""
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    for _ in range(3):
        check_error(write(gate, key, idem, "/two"), 400, code)
    assert counted() == ["limit"] * 3
    check_error(write(gate, key, idem, "/two"), 429, "rate_limited",
                {"policy": "few"}, (1, 60))


def test_optional_without_a_key(relayed):
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    assert write(gate, key, None, "/optional").status == 200
    assert counted() == ["limit"]


def test_a_replay_spends_a_request(relayed, upstream):
    """And so does a conflict; each is one round trip."""
    gate, key = relayed, relayed.warm
    n = len(upstream.requests)
    counted = Trips([gate.relay], key)
    first = write(gate, key, "k", "/two")
    check_replay(first, write(gate, key, "k", "/two"))
    check_error(write(gate, key, "k", "/two", b"other"), 409,
                "idempotency_conflict")
    assert write(gate, key, "k", "/two").status == 429
    assert counted() == ["both", "settle", "both", "both", "both"]
    assert len(upstream.requests) == n + 1


# Never a claim without its limits.

def test_refused_claims_nothing(relayed, upstream):
    """Its key is free, and it is another node's to use."""
    gate, key = relayed, relayed.warm
    for i in range(3):
        assert write(gate, key, f"w{i}", "/two").status == 200
    before, n = len(claims(gate, key)), len(upstream.requests)
    counted = Trips([gate.relay], key)
    assert write(gate, key, "k", "/two").status == 429
    assert counted() == ["both"]
    assert len(claims(gate, key)) == before
    assert len(upstream.requests) == n


def test_all_policies_or_none(relayed):
    """What "few" refuses spends nothing of "default"."""
    gate, key = relayed, relayed.warm

    def left(answer):
        return structured(answer, "RateLimit")["default"]["r"]

    for i in range(3):
        last = write(gate, key, f"w{i}", "/two")
    refused = [write(gate, key, f"k{i}", "/two") for i in range(3)]
    assert [answer.status for answer in refused] == [429] * 3
    assert left(write(gate, key, "k", LOADS)) == left(last) - 1


def test_many_at_once(relayed, upstream):
    """They share asks, with a claim each for as many as have a place: as
    many are claimed as are granted, and those alone are executed."""
    gate = relayed
    key = gate.key(limits={"default": "25r/m"})
    counted = Trips([gate.relay], key)
    gate.relay.delay = 0.05
    answers = together(40, lambda i: write(gate, key, f"k{i}"))
    gate.relay.delay = 0

    assert sorted(a.status for a in answers) == [200] * 25 + [429] * 15
    taken = {name.rsplit(b":", 1)[1] for name in claims(gate, key)}
    assert taken == {f"k{i}".encode() for i, answer in enumerate(answers)
                     if answer.status == 200}
    asks = counted()
    assert "both" in asks
    assert asks.count("both") + asks.count("limit") < 20
    assert max(int(words[2]) for words in gate.relay.commands
               if words[0] == b"EVALSHA") <= 1 + 16


def test_one_key_many_times_at_once(relayed, upstream):
    """In one ask, too, it is claimed once."""
    gate, key = relayed, relayed.warm
    n = len(upstream.requests)
    gate.relay.delay = 0.05
    upstream.answer(201, {}, {"id": 1}, delay=0.5)
    answers = together(12, lambda i: write(gate, key))
    gate.relay.delay = 0

    assert len(upstream.requests) == n + 1
    assert {a.code for a in answers} <= {None, "idempotency_in_progress"}


def test_claims_and_other_requests_in_one_ask(relayed, upstream):
    """Whose the claims are is not mixed up: who is refused has none."""
    gate = relayed
    key = gate.key(limits={"default": "11r/m"})
    gate.relay.delay = 0.05

    def one(i):
        if i % 3 == 0:
            return gate.get(LOADS, key=key)
        return write(gate, key, f"k{i}", "/plain" if i % 3 == 1 else LOADS)

    answers = together(24, one)
    gate.relay.delay = 0

    assert [a.status for a in answers].count(200) == 11
    taken = {name.rsplit(b":", 1)[1] for name in claims(gate, key)}
    assert taken == {f"k{i}".encode() for i in range(2, 24, 3)
                     if answers[i].status == 200}


def test_a_broken_record_is_its_own_matter(relayed, upstream):
    """The others of its ask are claimed, granted and executed once."""
    gate, key = relayed, relayed.warm
    name = f"kg:idem:{{{key.org}}}:test:broken"
    gate.redis.client.hset(name + "0", "no", "string")
    gate.redis.client.set(name + "1", "too short")
    n = len(upstream.requests)
    gate.relay.delay = 0.05
    names = ["broken0", "k1", "broken1", "k2", "k3"]
    answers = together(5, lambda i: write(gate, key, names[i]))
    gate.relay.delay = 0

    assert [a.status for a in answers] == [503, 200, 503, 200, 200]
    assert len(upstream.requests) == n + 3


def test_who_leaves_an_ask_takes_only_its_own(relayed, upstream):
    """Its claim is released, the others' stand."""
    gate, key = relayed, relayed.warm
    n = len(upstream.requests)
    early, late = threading.Event(), threading.Event()
    slow = gate.relay.replace("EVALSHA", None, times=1, delay=early)
    first = gate.connect()
    first.send(head(key, len(BODY), idem="first") + BODY)
    wait_for(lambda: state(gate, key, "first") == b"P", what="the first ask")

    clients = [gate.connect() for _ in range(4)]
    for i, client in enumerate(clients):
        client.send(head(key, len(BODY), idem=f"k{i}") + BODY)
    time.sleep(0.1)
    gate.idle()
    gate.relay.replace("EVALSHA", None, times=1, delay=late)
    early.set()
    wait_for(lambda: slow.hits and state(gate, key, "k3"),
             what="the second ask")
    logged = len(gate.access_log())
    clients[1].reset()
    wait_for(lambda: len(gate.access_log()) > logged, what="its leaving")
    late.set()

    assert [clients[i].read().status for i in (0, 2, 3)] == [200] * 3
    assert first.read().status == 200
    wait_for(lambda: state(gate, key, "k1") is None, what="freed key")
    assert len(upstream.requests) == n + 4


def test_who_leaves_before_redis_has_the_script(relayed, upstream, tmp_path):
    """It is sent the script behind what it was sent first: the claim is made
    after the client has gone, and is released after that."""
    gate, key = relayed, relayed.warm
    n = len(upstream.requests)
    gate.redis.client.script_flush()
    gate.redis.client.script_load(
        compiled(tmp_path, ROOT / "src/redis/scripts/settle.lua"))

    told = threading.Event()
    unknown = gate.relay.replace("EVALSHA", None, times=1, delay=told)
    evals, logged = gate.relay.count("EVAL"), len(gate.access_log())
    client = gate.connect()
    client.send(head(key, len(BODY)) + BODY)
    wait_for(lambda: unknown.hits, what="the answer NOSCRIPT")
    client.reset()
    wait_for(lambda: len(gate.access_log()) > logged, what="its leaving")
    told.set()

    wait_for(lambda: gate.relay.count("EVAL") > evals, what="the script")
    wait_for(lambda: state(gate, key) is None, what="freed key")
    assert write(gate, key).status == 200
    assert len(upstream.requests) == n + 1


def test_who_waits_behind_an_ask_that_fails(relayed, upstream):
    """They are more than go together: without their claims they fit into
    one command, and none waits for several to time out."""
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    silence = threading.Event()
    gate.relay.replace("EVALSHA", None, delay=silence)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gate.connect()) for _ in range(60)]
        clients[0].send(head(key, len(BODY), idem="k") + BODY)
        wait_for(counted, what="the first ask")
        for i, client in enumerate(clients[1:]):
            client.send(head(key, len(BODY), idem=f"k{i}") + BODY)
        assert {client.read().status for client in clients} == {503}
        asked = [kind for kind in counted() if kind != "settle"]
        silence.set()
    assert asked == ["both", "limit"]


def test_who_waits_behind_a_refusal(relayed, upstream):
    """What Redis refused it is not asked again by those who wait for more
    than go together."""
    gate, key = relayed, relayed.warm
    counted = Trips([gate.relay], key)
    answered = threading.Event()
    gate.relay.replace("EVALSHA", None, times=1, delay=answered)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gate.connect()) for _ in range(60)]
        for i, client in enumerate(clients):
            client.send(head(key, len(BODY), "/two", idem=f"k{i}") + BODY)
        wait_for(counted, what="the first ask")
        time.sleep(0.2)
        answered.set()
        answers = [client.read() for client in clients]
    assert sorted(a.status for a in answers) == [200] * 3 + [429] * 57
    assert [kind for kind in counted() if kind != "settle"][2:] == []


# Redis fails them both.

@pytest.mark.parametrize("outage", ["deny", "allow", "local"])
def test_late_answer(make_gate, make_relay, redis, upstream, outage):
    """The write is refused, its key is freed, and what it spent is spent."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **{
        **GATE, "redis_parameters": "connect=1s command=500ms dead=20s",
        "outage": f"keygate_outage keys=stale:5m limits={outage};"})
    key = gate.key()
    first = write(gate, key, "warm")
    n = len(upstream.requests)
    counted = Trips([relay], key)
    late = threading.Event()
    relay.replace("EVALSHA", None, times=1, delay=late)
    check_error(write(gate, key), 503, "service_unavailable", None, (1, 30))
    late.set()
    wait_for(lambda: state(gate, key) is None and counted()[1:] == ["settle"],
             what="freed key")
    assert len(upstream.requests) == n
    time.sleep(0.5)

    answer = write(gate, key)
    assert answer.status == 200
    assert len(upstream.requests) == n + 1
    assert structured(answer, "RateLimit")["default"]["r"] <= \
        structured(first, "RateLimit")["default"]["r"] - 2


@pytest.mark.parametrize("target, asked", [
    (LOADS, ["both", "claim"]), ("/free", ["claim"] * 2)],
    ids=["together", "alone"])
def test_lost_answer(make_gate, make_relay, redis, upstream, target, asked):
    """The same owner asks again by the next connection, and has the claim:
    what is known of that Redis's keeping was asked anew ahead of it."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **{
        **GATE, "outage": "keygate_outage keys=stale:5m limits=allow;"})
    key = gate.key()
    assert write(gate, key, "warm", target).status == 200
    n = len(upstream.requests)
    counted = Trips([relay], key)
    answered = threading.Event()
    relay.replace("EVALSHA", None, times=1, delay=answered)
    with gate.connect() as client:
        client.send(head(key, len(BODY), target) + BODY)
        wait_for(lambda: state(gate, key) == b"P", what="claim")
        relay.cut()
        answered.set()
        answer = client.read()
    assert answer.status == 200
    asks = [kind for kind in counted() if kind != "settle"]
    assert asks[:2] == asked and set(asks[1:]) == {"claim"}
    check_replay(answer, write(gate, key, target=target))
    assert len(upstream.requests) == n + 1


def test_late_answer_hands_its_lease_back(make_gate, make_relay, redis):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **{
        **GATE, "redis_parameters": "connect=1s command=500ms dead=20s"})
    key = gate.key()

    def left(answer):
        return structured(answer, "RateLimit")["leased"]["r"]

    for i in range(60):
        last = write(gate, key, f"w{i}", "/leased")
    time.sleep(1.2)

    told = threading.Event()
    late = relay.replace("EVALSHA", None, times=1, delay=told)
    assert write(gate, key, "k", "/leased").status == 503
    told.set()
    wait_for(lambda: late.hits, what="late answer")
    asked = next(words for words in reversed(relay.commands)
                 if words[0] == b"EVALSHA" and words[2] == b"2")
    assert struct.unpack("<II", asked[6][:8])[1] >= 20, "it wants a lease"
    time.sleep(1.5)
    assert left(write(gate, key, "k", "/leased")) >= left(last) - 10


def test_late_answer_was_told_what_is_owed(make_gate, make_relay, redis):
    """What the node admitted alone is told once, though nobody waited for
    the answer: it is not told again when that one must be taken for lost."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **{
        **GATE, "redis_parameters": "connect=500ms command=500ms dead=20s",
        "outage": "keygate_outage keys=stale:5m limits=local share=25%;"})
    key = gate.key(limits={"default": "80r/m"})
    gate.watched()

    def left():
        answer = write(gate, key, os.urandom(4).hex())
        assert answer.status == 200
        return structured(answer, "RateLimit")["default"]["r"]

    assert left() == 79
    relay.refuse()
    assert [gate.get(LOADS, key=key).status
            for _ in range(10)] == [200] * 10
    told = threading.Event()
    late = relay.replace("EVALSHA", None, times=1, delay=told)
    counted = Trips([relay], key)
    relay.accept()
    wait_for(lambda: write(gate, key) and late.hits, 10, "late answer")
    told.set()
    assert counted()[0] == "both"

    time.sleep(0.6)
    left()
    first = left()
    # Of its share, 20, no less than 10, and not twice.
    assert 79 - 20 - 3 <= first <= 79 - 10 - 3
    time.sleep(TOLD)
    assert left() == first - 1
