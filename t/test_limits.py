"""May they call now: the limit of a key, and what an answer says of it."""

import time

import pytest

from checks import check_error, structured
from harness.client import encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"


def remaining(answer, policy="default"):
    return structured(answer, "RateLimit")[policy]["r"]


def spend(gate, key, n, target=LOADS):
    """n requests of a key, one after the other."""
    return [gate.get(target, key=key) for _ in range(n)]


def test_sixty_a_minute(gate, upstream):
    key = gate.key()
    start = time.monotonic()

    for answer in spend(gate, key, 60):
        assert answer.status == 200
        assert answer.get("RateLimit-Policy") == '"default";q=60;w=60'
        state = structured(answer, "RateLimit")
        assert set(state["default"]) == {"r", "t"}
        assert 0 < state["default"]["t"] <= 60

    answer = gate.get(LOADS, key=key)
    took = int(time.monotonic() - start)
    check_error(answer, 429, "rate_limited", {"policy": "default"},
                (59 - took, 60))
    assert answer.get("RateLimit-Policy") == '"default";q=60;w=60'
    assert remaining(answer) == 0
    assert len(upstream.requests) == 60


def test_what_remains_is_told_exactly(make_gate):
    """By one worker: what two of them are leasing at the same moment is told
    when it has arrived."""
    gate = make_gate(workers="1")

    assert [remaining(answer) for answer in spend(gate, gate.key(), 60)] == \
        list(range(59, -1, -1))


def test_what_is_refused_spends_nothing(gate, upstream):
    """The relief does not move however often a partner knocks."""
    key = gate.key(limits={"default": "2r/m"})
    spend(gate, key, 2)
    start = time.monotonic()
    first = int(gate.get(LOADS, key=key).get("Retry-After"))

    for answer in spend(gate, key, 10):
        took = int(time.monotonic() - start)
        check_error(answer, 429, "rate_limited", {"policy": "default"},
                    (first - took - 2, first))
    assert len(upstream.requests) == 2


def test_another_key_has_a_limit_of_its_own(gate):
    org = gate.org()
    keys = [gate.key(org, "test"), gate.key(org, "test"),
            gate.key(org, "live")]
    spend(gate, keys[0], 5)

    assert [remaining(gate.get(LOADS, key=key)) for key in keys] == \
        [54, 59, 59]


def test_errors_spend_and_say_so(gate, upstream):
    key = gate.key()
    seen = []

    for status in (500, 404, 200, 503):
        upstream.answer(status)
        answer = gate.get(LOADS, key=key)
        assert answer.status == status
        assert structured(answer, "RateLimit-Policy") == \
            {"default": {"q": 60, "w": 60}}
        seen.append(remaining(answer))

    answer = gate.post(LOADS, key=key, json={})
    check_error(answer, 400, "missing_idempotency_key")
    seen.append(remaining(answer))

    assert seen == [59, 58, 57, 56, 55]


def test_what_comes_before_the_limit_spends_nothing(gate, upstream):
    """401, 403, 404 and 405 come before 429."""
    key = gate.key(scopes=["loads:read"])
    before = remaining(gate.get(LOADS, key=key))

    for answer in (gate.get(LOADS), gate.get("/v1/customers", key=key),
                   gate.get("/nowhere", key=key),
                   gate.delete(LOADS, key=key)):
        assert answer.status in (401, 403, 404, 405)
        assert answer.get("RateLimit") is None
        assert answer.get("RateLimit-Policy") is None

    assert remaining(gate.get(LOADS, key=key)) == before - 1


def test_scope_before_limit_before_idempotency(gate):
    key = gate.key(scopes=["loads:read", "loads:write"],
                   limits={"default": "1r/m"})
    spend(gate, key, 1)

    assert gate.get("/v1/customers", key=key).code == "forbidden"
    assert gate.post(LOADS, key=key, json={}).code == "rate_limited"
    assert gate.post(LOADS, key=key, json={}, idem="").code == "rate_limited"


def test_public_route_is_not_limited(gate):
    key = gate.key(limits={"default": "1r/m"})

    for _ in range(3):
        answer = gate.get("/health/api", key=key)
        assert answer.status == 200
        assert answer.get("RateLimit") is None
        assert answer.get("RateLimit-Policy") is None


@pytest.mark.parametrize("own, quota", [
    ("1r/m", 1), ("2r/m", 2), ("599r/m", 599), ("600r/m", 600),
    ("601r/m", 600), ("100000r/m", 600), ("11r/s", 600),
])
def test_key_has_a_limit_of_its_own(gate, own, quota):
    """1 to 600 a minute, whatever the record says."""
    answer = gate.get(LOADS, key=gate.key(limits={"default": own}))

    assert answer.get("RateLimit-Policy") == f'"default";q={quota};w=60'
    assert remaining(answer) == quota - 1


@pytest.mark.parametrize("own, quota, window", [
    ("600r/h", 600, 3600), ("601r/h", 600, 3600), ("35999r/h", 600, 3600),
    ("36000r/h", 600, 60), ("864000r/d", 600, 60), ("10r/s", 10, 1),
])
def test_most_holds_in_its_own_time(gate, own, quota, window):
    """35999 an hour may all come in one minute, of which 600 is the most; that
    many each minute are more than 35999 an hour, and no more than 36000."""
    answer = gate.get(LOADS, key=gate.key(limits={"default": own}))

    assert answer.get("RateLimit-Policy") == \
        f'"default";q={quota};w={window}'


def test_most_of_a_bucket_is_its_pace(make_gate):
    gate = make_gate(policies="keygate_policy default rate=60r/m burst=20 "
                              "max=600r/m by=key;")

    assert [gate.get(LOADS, key=gate.key(limits={"default": own}))
            .get("RateLimit-Policy") for own in ("36000r/h", "72000r/h")] == \
        ['"default";q=20;w=2'] * 2


def test_least_limit_of_a_key(make_gate):
    gate = make_gate(policies="keygate_policy default rate=60r/m min=5r/m "
                              "max=600r/m by=key;")
    key = gate.key(limits={"default": "2r/m"})

    assert [a.status for a in spend(gate, key, 6)] == [200] * 5 + [429]


@pytest.mark.parametrize("own", ["300r/m", "59r/m", "1r/h", "35999r/h"])
def test_least_limit_holds_beside_the_most(make_gate, own):
    """Brought within the most, by its own time, a rate is not below the
    least: 300 a minute became 10."""
    gate = make_gate(policies="keygate_policy default rate=5r/s min=1r/s "
                              "max=10r/s by=key;")

    assert gate.get(LOADS, key=gate.key(limits={"default": own})) \
        .get("RateLimit-Policy") == '"default";q=1;w=1'


def test_limit_of_a_key_holds(gate, upstream):
    key = gate.key(limits={"default": "3r/m"})
    answers = spend(gate, key, 4)

    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert answers[3].get("RateLimit-Policy") == '"default";q=3;w=60'


def test_key_overrides_organisation_overrides_policy(gate):
    org = gate.org(limits={"default": "90r/m"})
    plain, own = gate.key(org), gate.key(org, limits={"default": "7r/m"})
    other = gate.key(org, limits={"elsewhere": "7r/m"})

    assert [structured(gate.get(LOADS, key=key), "RateLimit-Policy")
            ["default"]["q"] for key in (plain, own, other)] == [90, 7, 90]


def test_changed_limit_holds_for_what_was_spent(gate):
    org = gate.org()
    key = gate.key(org)
    spend(gate, key, 3)

    assert gate.admin("PATCH", f"/orgs/{org}",
                      json={"limits": {"default": "4r/m"}}).status == 200
    assert [a.status for a in spend(gate, key, 2)] == [200, 429]


def test_replayed_duplicate_spends(gate, upstream):
    key = gate.key(limits={"default": "3r/m"})
    answers = [gate.post(LOADS, key=key, json={"a": 1}, idem="same")
               for _ in range(5)]

    assert [a.status for a in answers] == [200, 200, 200, 429, 429]
    assert [remaining(a) for a in answers] == [2, 1, 0, 0, 0]
    assert answers[2].get("Idempotent-Replayed") == "true"
    assert answers[3].get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE", "POST"])
def test_every_method_spends(gate, method):
    key = gate.key(limits={"default": "1r/m"})
    target = "/v1/webhooks/1" if method == "DELETE" else LOADS
    how = dict(key=key, idem="a")

    assert gate.request(method, target, **how).status == 200
    answer = gate.request(method, target, **how)
    check_error(answer, 429, "rate_limited", {"policy": "default"}, (1, 60),
                head=method == "HEAD")


def test_http2_and_pipelining(gate):
    key = gate.key(limits={"default": "3r/m"})
    bearer = {"Authorization": f"Bearer {key.token}"}

    with gate.connect() as client:
        client.send(encode_request("GET", LOADS, bearer) * 2)
        assert [client.read().status for _ in range(2)] == [200, 200]

    with gate.h2() as client:
        answers = [client.get(LOADS, headers=bearer) for _ in range(2)]

    assert [a.status_code for a in answers] == [200, 429]
    assert answers[0].headers["ratelimit"].startswith('"default";r=0;t=')
    assert 1 <= int(answers[1].headers["retry-after"]) <= 60
    assert answers[1].json()["error"]["details"] == {"policy": "default"}


def test_success_after_retry_after(make_gate, upstream):
    """A partner that waits as it was told is served."""
    gate = make_gate(policies="keygate_policy default rate=2r/s by=key;")
    key = gate.key()

    for _ in range(2):
        for _ in range(20):
            answer = gate.get(LOADS, key=key)
            if answer.status == 429:
                break
        check_error(answer, 429, "rate_limited", {"policy": "default"}, (1, 1))
        time.sleep(int(answer.get("Retry-After")))
        assert gate.get(LOADS, key=key).status == 200


def test_one_command_a_request_on_a_warm_key(make_gate, make_relay, redis):
    """Where nothing is leased; the record is cached."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1", policies="""
        keygate_policy default rate=60r/m by=key exact;
        keygate_policy org rate=90r/m by=org;""",
        zone="keygate_zone zone=keygate:16m usage=off;",
        gate="keygate partner; keygate_limit default org;")
    key = gate.key()
    gate.watched()
    spend(gate, key, 2)
    before, scripts = len(relay.commands), redis.calls("evalsha")

    spend(gate, key, 20)
    spend(gate, key, 1, "/v1/loads/17")

    # Beside the heartbeat of who is told of changes.
    assert [c[0] for c in relay.commands[before:] if c[0] != b"PING"] == \
        [b"EVALSHA"] * 21
    assert redis.calls("evalsha") == scripts + 21


def test_dry_run_refuses_nothing(make_gate, upstream):
    gate = make_gate(policies="keygate_policy default rate=2r/m by=key;",
                     gate="keygate partner dry_run; keygate_limit default;"
                          "keygate_errors envelope;")
    answers = spend(gate, gate.key(), 5)

    assert [a.status for a in answers] == [200] * 5
    assert all(a.get("Retry-After") is None for a in answers)
    lines = wait_for(lambda: len(gate.access_log()) == 5
                     and gate.access_log(), what="lines of the log")
    assert sorted(line.split("verdict=")[1] for line in lines) == \
        ["admitted"] * 2 + ["rate_limited"] * 3
    assert len(upstream.requests) == 5


def test_limits_deny_while_redis_is_away(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, outage="keygate_outage keys=stale:5m "
                                         "limits=deny;")
    gate.watched()
    key = gate.key()
    spend(gate, key, 1)

    with redis.stopped():
        for answer in spend(gate, key, 3):
            check_error(answer, 503, "service_unavailable", None, (1, 30))
    assert len(upstream.requests) == 1


def test_limits_allow_while_redis_is_away(make_gate, make_redis, upstream):
    redis = make_redis()
    gate = make_gate(redis=redis, workers="1",
                     outage="keygate_outage keys=stale:5m limits=allow;")
    gate.watched()
    key = gate.key(limits={"default": "2r/m"})
    spend(gate, key, 1)

    with redis.stopped():
        answers = spend(gate, key, 5)

    assert [a.status for a in answers] == [200] * 5
    for answer in answers:
        assert answer.get("RateLimit-Policy") == '"default";q=2;w=60'
        assert answer.get("RateLimit") is None
