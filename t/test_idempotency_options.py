"""What keygate_idempotency says, and what a route says in its place."""

import time

import pytest

from checks import check_error, check_request_id
from harness.ports import wait_for
from test_idempotency import BODY, check_replay
from test_idempotency_claims import state

GATE = dict(
    idempotency="keygate_idempotency retention=48h lease=1s store=418 "
                "release=409;",
    routes="""keygate_routes partner {
        POST    /usual      loads:write idempotency=required;
        POST    /kept       loads:write idempotency=required retention=72h;
        POST    /long       loads:write idempotency=required lease=60s;
        POST    /again      loads:write idempotency=required
                                        on_unknown=forward;
        POST    /other      loads:write idempotency=required conflict=422;
        POST    /large      loads:write idempotency=required max_response=8m;
        POST    /small      loads:write idempotency=required max_response=1k;
        POST    /optional   loads:write idempotency=optional;
        POST    /status     loads:write idempotency=required
                                        store=401,503,504 release=404,409
                                        unknown=418,500;
        PUT     /thing      loads:write idempotency=required;
        PATCH   /thing      loads:write idempotency=required;
        DELETE  /thing      loads:write idempotency=required;
    }""",
    server="client_max_body_size 1m;",
    location="proxy_next_upstream off; proxy_read_timeout 2s;")


def write(gate, key, target, idem="k", method="POST", body=BODY):
    return gate.request(method, target, key=key, idem=idem, body=body)


def ttl(gate, key):
    return gate.redis.client.ttl(f"kg:idem:{{{key.org}}}:test:k")


@pytest.mark.parametrize("target, hours", [("/usual", 48), ("/kept", 72)])
@pytest.mark.parametrize("how", [dict(), dict(cut="before")],
                         ids=["completed", "unknown"])
def test_retention_of_a_route(gate, upstream, target, hours, how):
    key = gate.key()
    upstream.answer(**how)
    write(gate, key, target)

    assert hours * 3600 - 60 < ttl(gate, key) <= hours * 3600


@pytest.mark.parametrize("target, seconds", [("/usual", 1), ("/long", 60)])
def test_lease_of_a_route(gate, upstream, target, seconds):
    """How long the claim is leased for: src/redis/scripts/claim.lua."""
    key = gate.key()
    upstream.answer(cut="before")
    write(gate, key, target)
    value = gate.redis.client.get(f"kg:idem:{{{key.org}}}:test:k")
    claimed, leased = (int.from_bytes(value[at:at + 8], "big")
                       for at in (50, 58))

    assert seconds <= (leased - claimed) / 1e6 < seconds + 2


# on_unknown=

def test_unknown_outcome_is_let_through(gate, upstream):
    """The answer says so before: it may be retried."""
    key = gate.key()
    upstream.answer(cut="before", times=1)

    check_error(write(gate, key, "/again"), 502, "bad_gateway", None, (1, 1))
    again = write(gate, key, "/again")
    assert again.status == 200
    assert again.get("Idempotent-Replayed") is None
    check_replay(again, write(gate, key, "/again"))
    assert len(upstream.requests) == 2


def test_unknown_outcome_of_another_request_is_a_conflict(gate, upstream):
    key = gate.key()
    upstream.answer(cut="before", times=1)
    write(gate, key, "/again")

    check_error(write(gate, key, "/again", body=b"other"), 409,
                "idempotency_conflict")
    assert len(upstream.requests) == 1


def test_dead_node_is_taken_over(make_gate, upstream):
    """The lease is over: the retry runs, and is kept for a whole retention
    of its own."""
    gate = make_gate(**{**GATE, "workers": "1"})
    key = gate.key()
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        client.send(head(key, "/again") + BODY)
        upstream.wait()
        check_error(write(gate, key, "/again"), 409,
                    "idempotency_in_progress", None, (1, 1))
        gate.kill_worker()
    gate.redis.client.expire(f"kg:idem:{{{key.org}}}:test:k", 3600)

    answer = wait_for(lambda: retried(gate, key, "/again"), 5, "taken over",
                      step=0.2)
    assert answer.get("Idempotent-Replayed") is None
    assert ttl(gate, key) > 47 * 3600
    assert len(upstream.requests) == 2


def head(key, target):
    return (f"POST {target} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {key.token}\r\nIdempotency-Key: k\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n").encode()


def retried(gate, key, target):
    answer = write(gate, key, target)
    return answer if answer.status == 200 else None


def test_first_owner_does_not_overwrite_who_took_over(gate, upstream, redis):
    key = gate.key()
    upstream.answer(201, {}, {"n": 1}, hang=True, times=1)

    with gate.connect() as client:
        client.send(head(key, "/again") + BODY)
        upstream.wait()
        name = f"kg:idem:{{{key.org}}}:test:k"
        value = redis.client.get(name)
        redis.client.set(name, value[:1] + b"U" + value[2:], keepttl=True)

        upstream.answer(201, {}, {"n": 2})
        second = write(gate, key, "/again")
        assert second.json() == {"n": 2}
        upstream.release()
        assert client.read().json() == {"n": 1}

    check_replay(second, write(gate, key, "/again"))
    assert len(upstream.requests) == 2


# conflict=

def test_conflict_with_another_status(gate, upstream):
    key = gate.key()
    write(gate, key, "/other")

    check_error(write(gate, key, "/other", body=b"x"), 422,
                "idempotency_conflict")
    check_error(write(gate, key, "/usual", body=b"x"), 409,
                "idempotency_conflict")
    assert "verdict=idempotency_conflict" in wait_for(
        lambda: [line for line in gate.access_log() if " 422 " in line],
        2, "access log")[0]
    assert len(upstream.requests) == 1


# max_response=

@pytest.mark.parametrize("target, size", [
    ("/large", 8 * 1024 * 1024), ("/large", 1500000), ("/small", 1024),
    ("/usual", 262144)])
def test_answer_up_to_the_limit_of_its_route(gate, upstream, target, size):
    key = gate.key()
    body = bytes(i % 251 for i in range(251)) * (size // 251 + 1)
    upstream.answer(body=body[:size])
    first = write(gate, key, target)

    assert first.body == body[:size]
    check_replay(first, write(gate, key, target))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("target, size", [
    ("/large", 8 * 1024 * 1024 + 1), ("/small", 1025), ("/usual", 262145)])
def test_answer_over_the_limit_of_its_route(gate, upstream, target, size):
    key = gate.key()
    upstream.answer(body=b"y" * size)
    first = write(gate, key, target)

    assert first.body == b"y" * size
    wait_for(lambda: state(gate, key) == b"T", what="tombstone")
    check_error(write(gate, key, target), 409,
                "idempotency_replay_unavailable",
                {"originalRequestId": check_request_id(first)})
    assert len(upstream.requests) == 1


# idempotency=optional

def test_optional_key_is_absent(gate, upstream, redis):
    key = gate.key()

    for _ in range(2):
        answer = gate.post("/optional", key=key, body=BODY)
        assert answer.status == 200
        assert answer.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2
    assert redis.client.keys(f"kg:idem:{{{key.org}}}*") == []


def test_optional_key_is_there(gate, upstream):
    key = gate.key()

    check_replay(write(gate, key, "/optional"), write(gate, key, "/optional"))
    check_error(write(gate, key, "/optional", body=b"x"), 409,
                "idempotency_conflict")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("value, code", [
    ("", "missing_idempotency_key"), ('""', "missing_idempotency_key"),
    ("a b", "invalid_idempotency_key"),
    ("a" * 256, "invalid_idempotency_key")])
def test_optional_key_is_wrong(gate, upstream, value, code):
    """Who sends one counts on it."""
    check_error(write(gate, gate.key(), "/optional", value), 400, code)
    assert upstream.requests == []


# store=, release=, unknown=

@pytest.mark.parametrize("target, status, headers", [
    ("/status", 401, {}), ("/status", 503, {}),
    ("/status", 503, {"Retry-After": "3"}), ("/status", 504, {}),
    ("/usual", 418, {}), ("/usual", 500, {}), ("/usual", 404, {})], ids=str)
def test_stored_by_status(gate, upstream, target, status, headers):
    key = gate.key()
    upstream.answer(status, headers, {"a": 1})
    first = write(gate, key, target)
    again = write(gate, key, target)

    assert first.status == status
    check_replay(first, again)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("target, status", [
    ("/status", 404), ("/status", 409), ("/usual", 409), ("/usual", 429),
    ("/usual", 401)])
def test_released_by_status(gate, upstream, target, status):
    key = gate.key()
    upstream.answer(status, times=1)

    assert write(gate, key, target).status == status
    assert state(gate, key) is None
    assert write(gate, key, target).status == 200
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("target, status", [
    ("/status", 418), ("/status", 500), ("/usual", 504), ("/usual", 408)])
def test_unknown_by_status(gate, upstream, target, status):
    key = gate.key()
    upstream.answer(status)

    check_error(write(gate, key, target), status, write(
        gate, gate.key(), target).code)
    assert write(gate, key, target).code == "idempotency_outcome_unknown"


def test_a_timeout_is_no_status_of_the_upstream(gate, upstream):
    """store=504 is about a 504 that the upstream sends."""
    key = gate.key()
    upstream.answer(hang=True, times=1)

    check_error(write(gate, key, "/status"), 504, "gateway_timeout")
    assert write(gate, key, "/status").code == "idempotency_outcome_unknown"
    assert len(upstream.requests) == 1


def test_an_answer_cut_off_is_no_status_of_the_upstream(gate, upstream):
    key = gate.key()
    upstream.answer(503, body="0123456789", cut=4, times=1)

    check_error(write(gate, key, "/status"), 502, "bad_gateway")
    wait_for(lambda: write(gate, key, "/status").code
             == "idempotency_outcome_unknown", what="its outcome")


# Methods

@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods(gate, upstream, method):
    key = gate.key()
    upstream.answer(200, {}, {"done": 1})

    check_error(gate.request(method, "/thing", key=key), 400,
                "missing_idempotency_key")
    check_replay(write(gate, key, "/thing", method=method),
                 write(gate, key, "/thing", method=method))
    check_replay(write(gate, key, "/thing", "empty", method, b""),
                 write(gate, key, "/thing", "empty", method, b""))
    assert [seen.method for seen in upstream.requests] == [method] * 2


def test_methods_are_other_requests(gate, upstream):
    key = gate.key()
    write(gate, key, "/thing", method="PUT")

    for method in ("PATCH", "DELETE"):
        check_error(write(gate, key, "/thing", method=method), 409,
                    "idempotency_conflict")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_stale_connection_does_not_run_a_write_twice(make_gate, upstream,
                                                     method):
    """nginx sends these again when a kept connection breaks."""
    gate = make_gate(**{**GATE, "proxy": "proxy_pass http://app;",
                        "workers": "1", "http": """
        upstream app { server 127.0.0.1:%%UPSTREAM_PORT%%; keepalive 4; }"""})
    key = gate.key()
    assert write(gate, key, "/thing", "warm", method).status == 200
    upstream.answer(cut="before", times=1)

    check_error(write(gate, key, "/thing", method=method), 502, "bad_gateway")
    time.sleep(0.1)
    assert len(upstream.requests) == 2
    assert write(gate, key, "/thing",
                 method=method).code == "idempotency_outcome_unknown"
    assert [seen.connection for seen in upstream.requests] == [
        upstream.requests[0].connection] * 2
