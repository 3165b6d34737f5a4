"""Limits while Redis is away: each node counts alone, and Redis is told when it
is back."""

import concurrent.futures
import re
import time

import pytest

from checks import check_error, structured
from harness.client import encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"
LOCAL = "keygate_outage keys=stale:5m limits=local share=25%;"
FAST = "connect=500ms command=500ms dead=1s"

# A Redis that is stopped refuses at once; one that is back may take its time.
PATIENT = "connect=500ms command=5s dead=5s"


def policy(text="rate=40r/m by=key"):
    return f"keygate_policy default {text};"


def local_gate(make_gate, redis, **how):
    """And a key, whose records stay in the zone: nobody waits for those.  They
    are written before the watch begins; of what is written later the first
    lookup may still be used once, and not kept."""
    gate = make_gate(**{**dict(redis=redis, outage=LOCAL, workers="2",
                               policies=policy(), redis_parameters=FAST),
                        **how})
    key = gate.key()
    gate.watched()
    return gate, key


def admitted(gate, key, n, target=LOADS):
    return [gate.get(target, key=key).status for _ in range(n)].count(200)


@pytest.mark.parametrize("text", [
    "rate=40r/m by=key", "rate=40r/m by=key exact",
    "rate=40r/h burst=40 by=key", "rate=40r/d by=org,mode",
])
@pytest.mark.parametrize("away", ["stopped", "frozen"])
def test_a_share_of_each_limit(make_gate, make_redis, upstream, text, away):
    """On all workers together, and no more however long it lasts."""
    redis = make_redis()
    gate, key = local_gate(make_gate, redis, policies=policy(text))
    assert admitted(gate, key, 1) == 1

    with getattr(redis, away)():
        answers = [gate.get(LOADS, key=key) for _ in range(25)]

    assert [a.status for a in answers] == [200] * 10 + [429] * 15
    check_error(answers[-1], 429, "rate_limited", {"policy": "default"},
                (1, 86400))
    assert structured(answers[9], "RateLimit-Policy")["default"]["q"] == 40
    assert structured(answers[9], "RateLimit")["default"]["r"] == 0
    assert len(upstream.requests) == 11


def test_the_default_is_a_quarter(make_gate, make_redis):
    redis = make_redis()
    gate, key = local_gate(make_gate, redis, outage="")
    gate.get(LOADS, key=key)

    with redis.stopped():
        assert admitted(gate, key, 15) == 10


def test_at_least_one(make_gate, make_redis):
    redis = make_redis()
    gate, key = local_gate(make_gate, redis,
                           policies=policy("rate=2r/m by=key"))
    gate.get(LOADS, key=key)

    with redis.stopped():
        assert admitted(gate, key, 3) == 1


@pytest.mark.parametrize("rate, relief", [
    ("1r/m", (200, 240)), ("7r/h", (2000, 2058)), ("100r/h", (120, 144)),
])
def test_a_share_of_a_slow_bucket_s_pace(make_gate, make_redis, rate, relief):
    """Less than one a minute: four nodes would admit four."""
    redis = make_redis()
    gate, key = local_gate(make_gate, redis,
                           policies=policy(f"rate={rate} burst=4 by=key"))
    gate.get(LOADS, key=key)

    with redis.stopped():
        answers = [gate.get(LOADS, key=key) for _ in range(2)]

    assert answers[0].status == 200
    check_error(answers[1], 429, "rate_limited", {"policy": "default"}, relief)


@pytest.mark.parametrize("limits, status", [
    ("tried", 200), ("tried default", 503),
])
def test_a_policy_that_only_counts_refuses_nothing(make_gate, make_redis,
                                                   limits, status):
    """Neither while it cannot count."""
    redis = make_redis()
    gate, key = local_gate(
        make_gate, redis, outage="keygate_outage keys=stale:5m limits=deny;",
        policies=policy() + "keygate_policy tried rate=2r/m by=key dry_run;",
        gate=f"keygate partner; keygate_limit {limits}; "
             "keygate_errors envelope;")
    assert admitted(gate, key, 3) == 3

    with redis.stopped():
        assert gate.get(LOADS, key=key).status == status


@pytest.mark.parametrize("text, share, cost", [
    ("rate=1r/d burst=30 by=key", 2, 1), ("rate=1r/d burst=30 by=key", 25, 20),
    ("rate=1r/d burst=30 by=key", 1, 30),
])
def test_at_least_one_of_a_bucket_that_takes_long(make_gate, make_redis, text,
                                                  share, cost):
    """A share of its pace fills what one costs in more than 30 days."""
    redis = make_redis()
    gate, key = local_gate(
        make_gate, redis, policies=policy(text),
        outage=f"keygate_outage keys=stale:5m limits=local share={share}%;",
        routes=f"keygate_routes partner {{ GET {LOADS} loads:read "
               f"cost={cost}; }}")
    gate.get(LOADS, key=key)

    with redis.stopped():
        assert admitted(gate, key, 3) == 1


@pytest.mark.parametrize("text, relief", [
    ("rate=10r/m by=key", (50, 60)),
    ("rate=12r/h burst=10 by=key", (5900, 6000)),
])
def test_at_least_one_of_a_dear_route(make_gate, make_redis, text, relief):
    """5 are more than a quarter of 10, but are not refused for as long as
    Redis is away.  All 5 are told when it is back, by a cheap one too."""
    redis = make_redis()
    gate, key = local_gate(
        make_gate, redis, policies=policy(text), redis_parameters=PATIENT,
        routes="""keygate_routes partner {
            GET /v1/loads loads:read;
            GET /dear loads:read cost=5;
        }""")
    assert admitted(gate, key, 1) == 1

    with redis.stopped():
        answers = [gate.get("/dear", key=key) for _ in range(2)]
        assert admitted(gate, key, 1) == 0

    assert [a.status for a in answers] == [200, 429]
    check_error(answers[1], 429, "rate_limited", {"policy": "default"}, relief)

    def back():
        answer = gate.get(LOADS, key=key)
        return answer.status == 200 and structured(answer, "RateLimit")

    assert wait_for(back, 10, "Redis")["default"]["r"] == 10 - 1 - 5 - 1


@pytest.mark.parametrize("spoil, said", [
    (lambda client, name: client.lpush(name, "x"), "WRONGTYPE"),
    (lambda client, name: client.set(name, "x"), "KGSTATE kg:limit:"),
])
def test_a_count_that_cannot_be_read(make_gate, make_redis, spoil, said):
    """It is as if Redis were away, for the limits it belongs to; the log says
    why, and not with every request."""
    redis = make_redis()
    gate, key = local_gate(make_gate, redis, workers="1")
    other = gate.key()
    assert admitted(gate, key, 1) == 1
    name, = redis.client.keys("kg:limit:*")
    redis.client.delete(name)
    spoil(redis.client, name)

    began = int(time.time())
    assert admitted(gate, key, 12) == 10
    assert admitted(gate, other, 12) == 12
    gate.wait_log(re.escape(said))
    errors = [line for line in gate.log().splitlines() if "[error]" in line]
    assert len(errors) <= int(time.time()) - began + 1

    redis.client.delete(name)
    assert structured(gate.get(LOADS, key=key), "RateLimit")["default"]["r"] \
        == 40 - 10 - 1


def test_redis_is_told(make_gate, make_redis):
    """What was admitted alone counts when Redis is back: the gate does not
    open twice over."""
    redis = make_redis()
    gate, key = local_gate(make_gate, redis,
                           redis_parameters=PATIENT)
    assert admitted(gate, key, 3) == 3

    with redis.stopped():
        assert admitted(gate, key, 20) == 10

    def back():
        answer = gate.get(LOADS, key=key)
        if answer.status != 200:
            return None
        return structured(answer, "RateLimit")["default"]["r"]

    # What it had counted, what it is told now, and this one.
    assert wait_for(back, 10, "Redis") == 40 - 3 - 10 - 1

    # A worker that has not reached Redis yet has nothing more to give.
    rest = iter(range(26))
    wait_for(lambda: admitted(gate, key, 1) and next(rest) == 25, 10, "rest")
    assert admitted(gate, key, 40) == 0


def test_redis_is_told_of_what_others_had(make_gate, make_redis):
    """By a key that is held to less than they, of a limit that they share."""
    redis = make_redis()
    gate, key = local_gate(make_gate, redis, workers="1",
                           policies=policy("rate=40r/m by=org"),
                           redis_parameters=PATIENT)
    held = gate.key(key.org, limits={"default": "4r/m"})
    gate.watched()
    assert admitted(gate, key, 1) == admitted(gate, held, 1) == 1

    with redis.stopped():
        assert admitted(gate, key, 12) == 10

    def back():
        gate.get(LOADS, key=held)
        return redis.calls("evalsha") + redis.calls("eval") >= 2

    wait_for(back, 10, "Redis")
    assert admitted(gate, key, 40) == 40 - 2 - 10


def test_redis_is_told_again_when_that_was_lost(make_gate, redis, make_relay):
    """The connection breaks while it is told: not seconds later, when it has
    admitted as many once more, but by the next that asks."""
    relay = make_relay(redis.port)
    gate, key = local_gate(
        make_gate, redis, workers="1", redis_url=relay.url,
        policies=policy("rate=20r/m by=key"),
        outage="keygate_outage limits=local share=100%;",
        routes="""keygate_routes partner {
            GET /v1/loads loads:read;
            GET /free loads:read limit=off;
        }""", redis_parameters="connect=1s command=5s dead=9s",
        zone="keygate_zone zone=keygate:16m usage=off;")
    gate.get("/free", key=key)

    relay.refuse()
    wait_for(lambda: admitted(gate, key, 30) == 0, 10, "the share's end")
    relay.accept()
    wait_for(lambda: gate.get("/free", key=gate.key()).status == 200, 10,
             "a connection")
    gate.watched()
    gate.get("/free", key=key)

    told = relay.count("EVALSHA")
    relay.freeze()
    with gate.connect() as client:
        client.send(encode_request("GET", LOADS,
                                   {"Authorization": f"Bearer {key.token}"}))
        wait_for(lambda: relay.count("EVALSHA") > told, 5, "what is told")
        relay.cut()
        assert client.read().status == 429
    relay.thaw()

    def back():
        """Redis is asked, which has counted nothing but what it is told."""
        assert gate.get(LOADS, key=key).status == 429
        return relay.count("EVALSHA") > told + 1

    wait_for(back, 10, "Redis")
    assert admitted(gate, key, 20) == 0


def test_redis_is_told_once(make_gate, make_redis):
    redis = make_redis()
    gate, key = local_gate(make_gate, redis, workers="1",
                           redis_parameters=PATIENT)
    assert admitted(gate, key, 3) == 3

    with redis.stopped():
        assert admitted(gate, key, 4) == 4

    def back():
        """How often something was asked of the new Redis."""
        gate.get(LOADS, key=key)
        return redis.calls("evalsha") + redis.calls("eval") >= 2

    wait_for(back, 10, "Redis")
    first, second = [structured(gate.get(LOADS, key=key),
                                "RateLimit")["default"]["r"]
                     for _ in range(2)]
    assert first - second == 1
    assert second >= 40 - 3 - 10 - 4


def test_changing_over_delays_only_what_is_under_way(make_gate, make_redis):
    """Frozen: some wait for a command's time, then nobody does."""
    redis = make_redis()
    gate, key = local_gate(make_gate, redis,
                           policies=policy("rate=600r/m by=key exact"))
    gate.get(LOADS, key=key)

    with redis.frozen():
        wait_for(lambda: quick(gate, key), 10, "the breaker")
        assert sum(quick(gate, key) for _ in range(20)) >= 14


def quick(gate, key):
    before = time.monotonic()
    assert gate.get(LOADS, key=key).status == 200
    return time.monotonic() - before < 0.45     # command= of FAST, nearly


def test_slow_redis(make_gate, redis, make_relay):
    """100 ms for an answer, and twice that to wait: all is counted there."""
    relay = make_relay(redis.port)
    gate, key = local_gate(make_gate, redis, redis_url=relay.url,
                      redis_parameters="connect=2s command=2s dead=5s",
                      policies=policy("rate=12r/m by=key exact"))
    gate.get(LOADS, key=key)
    relay.delay = 0.1

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: gate.get(LOADS, key=key),
                                range(16)))
    assert [a.status for a in answers].count(200) == 11


def test_flapping_redis(make_gate, make_redis, upstream):
    """It comes and goes and keeps what it acknowledged: never more than the
    limit and the node's share of it."""
    redis = make_redis()
    gate, key = local_gate(make_gate, redis)
    count = 0

    for _ in range(4):
        count += admitted(gate, key, 6)
        with redis.frozen():
            count += admitted(gate, key, 6)

    assert 24 <= count <= 50
    assert count == len(upstream.requests)


@pytest.mark.parametrize("line, right", [
    ("keygate_outage limits=local share=0%;", "share=25%"),
    ("keygate_outage limits=local share=101%;", "share=25%"),
    ("keygate_outage limits=local share=25;", "share=25%"),
    ("keygate_outage limits=local share=%;", "share=25%"),
    ("keygate_outage limits=local share=2% share=3%;", "duplicate"),
    ("keygate_outage limits=deny share=25%;", "limits=local"),
    ("keygate_outage limits=often;", "limits=local"),
])
def test_wrong_outages(nginx_t, line, right):
    rc, stderr = nginx_t(outage=line)
    assert rc != 0
    assert right in stderr
