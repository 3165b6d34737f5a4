"""Guessing: too many unknown keys from one address."""

import hashlib
import json
import time

import pytest

from checks import check_error
from harness import make_token
from harness.ports import wait_for

RATE = 6
GATE = dict(http=f"""keygate_failures rate={RATE}r/h lookups=2r/s;
    set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;""")


def lookups(gate):
    """GETs Redis has run."""
    stats = gate.redis.client.info("commandstats")
    return stats.get("cmdstat_get", {}).get("calls", 0)


def unknown(gate, address, token=None):
    return gate.get("/v1/loads", headers=[
        ("Authorization", "Bearer " + (token or make_token())),
        ("X-Real-IP", address)])


def check_refused(answer):
    return check_error(answer, 429, "too_many_failures", retry=(1, 600))


def exhaust(gate, address):
    for _ in range(RATE):
        assert unknown(gate, address).status == 401


def test_rate_is_that_of_an_address(gate):
    exhaust(gate, "198.51.100.1")
    check_refused(unknown(gate, "198.51.100.1"))
    assert unknown(gate, "198.51.100.2").status == 401


def test_known_unknown_keys_count_too(gate):
    """A key that is cached as absent is no less a guess."""
    token = make_token()
    for _ in range(RATE):
        assert unknown(gate, "198.51.100.3", token).status == 401
    check_refused(unknown(gate, "198.51.100.3", token))


def test_malformed_keys_do_not_count(gate):
    for _ in range(3 * RATE):
        assert unknown(gate, "198.51.100.4", "tf_test_" + "x" * 38
                       ).status == 401
    assert unknown(gate, "198.51.100.4").status == 401


def test_revoked_and_expired_keys_do_not_count(gate):
    key = gate.key(revokedAt="2026-01-01T00:00:00Z")
    for _ in range(2 * RATE):
        assert unknown(gate, "198.51.100.5", key.token).status == 401


@pytest.mark.parametrize("address, same, other", [
    ("2001:db8:1:1::1", "2001:db8:1:1:ffff::2", "2001:db8:1:2::1"),
    ("2001:db8:2:1::", "2001:db8:2:1::1", "2001:db8:2::1"),
])
def test_a_client_has_a_64_of_ipv6(gate, address, same, other):
    exhaust(gate, address)
    check_refused(unknown(gate, same))
    assert unknown(gate, other).status == 401


def test_retry_after_is_when_it_may_fail_again(make_gate):
    gate = make_gate(http=GATE["http"].replace(f"{RATE}r/h", "2r/s"))
    assert [unknown(gate, "198.51.100.6").status for _ in range(2)] \
        == [401, 401]

    def refused():
        answer = unknown(gate, "198.51.100.6")
        return answer if answer.status == 429 else None

    # At once, unless this machine takes as long as it takes to fail again.
    assert wait_for(refused, 10, "refusal").get("Retry-After") == "1"
    time.sleep(1)
    assert unknown(gate, "198.51.100.6").status == 401


def test_a_key_in_the_zone_goes_on_working(gate):
    key = gate.key()
    assert unknown(gate, "198.51.100.7", key.token).status == 200
    exhaust(gate, "198.51.100.7")
    check_refused(unknown(gate, "198.51.100.7"))
    for _ in range(20):
        assert unknown(gate, "198.51.100.7", key.token).status == 200


def test_cold_keys_share_a_budget_of_lookups(gate):
    exhaust(gate, "198.51.100.8")
    time.sleep(1)                   # the node's budget is full again
    keys = [gate.key() for _ in range(8)]
    before = lookups(gate)
    statuses = [unknown(gate, "198.51.100.8", key.token).status
                for key in keys]
    assert statuses[0] == 200
    assert 429 in statuses
    assert set(statuses) == {200, 429}
    # Of a key that passes two records are looked up.
    assert lookups(gate) - before == 2 * statuses.count(200)

    cold = keys[statuses.index(429)]
    wait_for(lambda: unknown(gate, "198.51.100.8", cold.token).status == 200,
             3, "the budget", step=0.2)


def test_a_flood_costs_no_lookups(gate):
    exhaust(gate, "198.51.100.9")
    before, start = lookups(gate), time.monotonic()
    for _ in range(200):
        check_refused(unknown(gate, "198.51.100.9"))
    seconds = time.monotonic() - start
    assert lookups(gate) - before <= 2 * (seconds + 1)


def send(gate, address, tokens):
    """Keys, each on a connection of its own."""
    clients = [gate.connect() for _ in tokens]
    for client, token in zip(clients, tokens):
        client.send(b"GET /v1/loads HTTP/1.1\r\nHost: a\r\n"
                    b"X-Real-IP: " + address.encode() + b"\r\n"
                    b"Authorization: Bearer " + token.encode() + b"\r\n\r\n")
    return clients


def send_unknown(gate, address, count):
    return send(gate, address, [make_token() for _ in range(count)])


def test_many_valid_keys_at_once_are_not_refused(make_gate, make_relay, redis):
    """While Redis is slow nobody knows yet whether they are guesses: with
    more of them than the address may fail, none is refused for that."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, redis_parameters="command=9s dead=9s",
                     **GATE)
    keys = [gate.key() for _ in range(8 * RATE)]
    assert unknown(gate, "198.51.100.20", keys[0].token).status == 200
    relay.freeze()
    clients = send(gate, "198.51.100.20", [key.token for key in keys[1:]])
    time.sleep(0.3)
    relay.thaw()
    assert [client.read().status for client in clients] == [200] * len(clients)
    exhaust(gate, "198.51.100.20")
    check_refused(unknown(gate, "198.51.100.20"))


def test_those_that_wait_are_told_of_guesses(make_gate, make_relay, redis):
    """Valid keys behind unknown ones wait for what becomes of those."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, redis_parameters="command=9s dead=9s",
                     **GATE)
    first = gate.key()
    assert unknown(gate, "198.51.100.21", first.token).status == 200
    relay.freeze()
    guesses = send_unknown(gate, "198.51.100.21", RATE - 1)
    keys = send(gate, "198.51.100.21", [gate.key().token for _ in range(20)])
    time.sleep(0.1)
    relay.thaw()
    assert {client.read().status for client in guesses} == {401}
    assert {client.read().status for client in keys} == {200}
    assert unknown(gate, "198.51.100.21").status == 401
    check_refused(unknown(gate, "198.51.100.21"))


def test_valid_keys_whose_clients_leave_do_not_count(make_gate, make_relay,
                                                     redis):
    """Those that are looked up, and those that wait for their turn; and what
    they had of the address's places is free again."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, redis_parameters="command=9s dead=9s",
                     **GATE)
    assert unknown(gate, "198.51.100.22", gate.key().token).status == 200
    keys = [gate.key() for _ in range(3 * RATE)]
    relay.freeze()
    clients = send(gate, "198.51.100.22", [key.token for key in keys])
    time.sleep(0.1)
    for client in clients:
        client.close()
    time.sleep(0.1)
    relay.thaw()
    for _ in range(2):
        assert unknown(gate, "198.51.100.22", gate.key().token).status == 200
    exhaust(gate, "198.51.100.22")
    check_refused(unknown(gate, "198.51.100.22"))


def test_a_wait_has_an_end(make_gate, make_relay, redis):
    """A worker that was killed had the places of its lookups."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, redis_parameters="command=300ms",
                     workers="1", **GATE)
    assert unknown(gate, "198.51.100.23", gate.key().token).status == 200
    relay.freeze()
    send_unknown(gate, "198.51.100.23", RATE)
    time.sleep(0.1)
    gate.kill_worker()
    relay.thaw()
    key = gate.key()
    wait_for(lambda: unknown(gate, "198.51.100.23", key.token).status == 200,
             10, "the places")


def test_many_at_once_are_no_way_around(make_gate, make_relay, redis):
    """No more are looked up at a time than may fail."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, redis_parameters="command=9s dead=9s",
                     **GATE)
    rule = relay.replace("GET", None, times=2, delay=0.1)
    start = time.monotonic()
    clients = send_unknown(gate, "198.51.100.12", 40)
    statuses = [client.read().status for client in clients]
    seconds = time.monotonic() - start
    assert rule.hits
    assert statuses.count(401) == RATE
    assert statuses.count(429) == 40 - RATE
    # The rate's, and of the budget's a second's worth and what came since.
    assert relay.count("GET") <= RATE + 2 * (seconds + 1) + 2


def test_a_client_that_does_not_wait_counts(make_gate, make_relay, redis):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, redis_parameters="command=9s dead=9s",
                     **GATE)
    relay.replace("GET", None, times=RATE, delay=0.1)
    clients = send_unknown(gate, "198.51.100.13", RATE)
    wait_for(lambda: relay.count("GET") == RATE, 5, "the lookups")
    for client in clients:
        client.close()
    check_refused(unknown(gate, "198.51.100.13"))


def test_cold_keys_that_are_valid_do_not_count(gate):
    for _ in range(2 * RATE):
        assert unknown(gate, "198.51.100.14", gate.key().token).status == 200
    exhaust(gate, "198.51.100.14")


def test_keys_that_nobody_knows_of_do_not_count(make_gate, make_redis):
    """An outage is not the caller's fault."""
    redis = make_redis()
    gate = make_gate(redis=redis, workers="1", **GATE)
    with redis.stopped():
        for _ in range(2 * RATE):
            assert unknown(gate, "198.51.100.15").status == 503
    wait_for(lambda: gate.get("/v1/loads", key=gate.key()).status == 200, 10,
             "Redis again")
    exhaust(gate, "198.51.100.15")


@pytest.mark.parametrize("lookups", ["1r/s", "10r/s"])
def test_two_peppers_cost_two_lookups(make_gate, make_relay, redis, lookups):
    """Of the budget, which is one of commands; and a budget of less than two
    a second has some all the same."""
    relay = make_relay(redis.port)
    gate = make_gate(
        redis_url=relay.url,
        http=GATE["http"].replace("lookups=2r/s", f"lookups={lookups}"),
        keys="keygate_keys prefix=tf pepper=%%FOLDER%%/new "
             "pepper=%%FOLDER%%/pepper;", files={"new": "n" * 40})
    exhaust(gate, "198.51.100.16")
    key = gate.key()
    before, start = relay.count("GET"), time.monotonic()
    wait_for(lambda: unknown(gate, "198.51.100.16", key.token).status == 200,
             5, "the budget")
    for _ in range(40):
        check_refused(unknown(gate, "198.51.100.16"))
    seconds = time.monotonic() - start

    # Beside the key's organisation; the bucket holds two at least.
    rate = int(lookups.split("r")[0])
    assert relay.count("GET") - before - 1 <= max(rate, 2) + rate * seconds


def test_it_comes_before_401_and_after_nothing_else(gate):
    """Whatever the path and the method; a valid key is not touched by it."""
    exhaust(gate, "198.51.100.10")
    for method, path in [("GET", "/nowhere"), ("DELETE", "/v1/loads"),
                         ("POST", "/v1/loads")]:
        answer = gate.request(method, path, headers=[
            ("Authorization", "Bearer " + make_token()),
            ("X-Real-IP", "198.51.100.10")])
        check_error(answer, 429, "too_many_failures", retry=(1, 600))


def test_off(make_gate):
    gate = make_gate(http="keygate_failures off;")
    for _ in range(130):
        answer = gate.get("/v1/loads", headers=[
            ("Authorization", "Bearer " + make_token())])
        assert answer.status == 401


@pytest.mark.parametrize("line, right", [
    ("keygate_failures;", "number of arguments"),
    ("keygate_failures on;", "rate="),
    ("keygate_failures off rate=1r/s;", "off"),
    ("keygate_failures rate=0r/s;", "60r/m"),
    ("keygate_failures rate=1r/s rate=2r/s;", "duplicate"),
    ("keygate_failures lookups=many;", "60r/m"),
    ("keygate_failures rate=1r/s; keygate_failures off;", "duplicate"),
])
def test_wrong_lines(nginx_t, line, right):
    rc, stderr = nginx_t(http=line)
    assert rc != 0
    assert right in stderr


# Keys of before Keygate

def legacy_key(gate, token, **members):
    org = gate.org(access="live")
    name = hashlib.sha256(token.encode()).hexdigest()
    record = {"v": 1, "id": "key_legacy1", "org": org, "mode": "live",
              "scopes": ["loads:read"], **members}
    gate.redis.client.set(f"kg:key:{{{name}}}", json.dumps(record))


LEGACY = "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper legacy=sha256;"


def test_legacy_keys_are_known_by_their_sha256(make_gate, upstream):
    gate = make_gate(keys=LEGACY)
    legacy_key(gate, "old-partner-key-1")
    answer = gate.get("/v1/loads", headers=[
        ("Authorization", "Bearer old-partner-key-1")])
    assert answer.status == 200
    assert upstream.requests[-1].get("X-Keygate-Mode") == "live"
    assert gate.get("/v1/loads", key=gate.key()).status == 200
    assert gate.get("/v1/loads", headers=[
        ("Authorization", "Bearer old-partner-key-2")]).status == 401


@pytest.mark.parametrize("more", ["", " pepper=%%FOLDER%%/former"])
def test_legacy_keys_may_look_like_ours(make_gate, make_relay, redis, upstream,
                                        more):
    """But for the checksum: what the zone does not know under any pepper is
    then looked up as it is, also when it has to wait for its turn."""
    relay = make_relay(redis.port)
    gate = make_gate(keys=LEGACY.replace(" legacy", more + " legacy"),
                     files={"former": "f" * 40 + "\n"}, redis_url=relay.url,
                     redis_parameters="command=9s dead=9s", **GATE)
    tokens = [f"tf_{mode}_{digit * 38}" for mode in ("test", "live")
              for digit in "aZ0-=~"]
    for number, token in enumerate(tokens):
        legacy_key(gate, token, id=f"key_legacy{number}")

    assert unknown(gate, "198.51.100.31", gate.key().token).status == 200
    relay.freeze()
    clients = send(gate, "198.51.100.31", tokens)
    time.sleep(0.1)
    relay.thaw()
    assert [client.read().status for client in clients] == [200] * len(tokens)

    for number, token in enumerate(tokens):
        assert unknown(gate, "198.51.100.31", token).status == 200
        assert upstream.requests[-1].get("X-Keygate-Key-Id") \
            == f"key_legacy{number}"
        assert upstream.requests[-1].get("X-Keygate-Mode") == "live"

    # Others of that look are guesses, each of them one.
    for digit in "bcdefg"[:RATE]:
        assert unknown(gate, "198.51.100.31", "tf_test_" + digit * 38
                       ).status == 401
    check_refused(unknown(gate, "198.51.100.31", "tf_test_" + "h" * 38))


def test_legacy_keys_are_unknown_without_the_word(gate):
    legacy_key(gate, "old-partner-key-3")
    assert unknown(gate, "198.51.100.11", "old-partner-key-3").status == 401


def test_a_legacy_token_has_an_end(make_gate):
    gate = make_gate(keys=LEGACY)
    legacy_key(gate, "x" * 512)
    legacy_key(gate, "x" * 513)
    assert gate.get("/v1/loads", headers=[
        ("Authorization", "Bearer " + "x" * 512)]).status == 200
    assert gate.get("/v1/loads", headers=[
        ("Authorization", "Bearer " + "x" * 513)]).status == 401


# Many misses on one key make one lookup

def test_many_misses_make_one_lookup(make_gate, make_relay, redis, upstream):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1",
                     redis_parameters="connect=2s command=9s dead=9s",
                     policies="keygate_policy default rate=1000r/m by=key;")
    gate.get("/v1/loads", key=gate.key())           # connected
    key = gate.key()
    relay.delay = 0.04
    before = lookups(gate)

    clients = [gate.connect() for _ in range(20)]
    for client in clients:
        client.send(b"GET /v1/loads HTTP/1.1\r\nHost: a\r\n"
                    b"Authorization: Bearer " + key.token.encode()
                    + b"\r\n\r\n")
    assert [client.read().status for client in clients] == [200] * 20
    for client in clients:
        client.close()

    assert lookups(gate) - before <= 2


def test_waiters_that_leave_disturb_nobody(make_gate, make_relay, redis,
                                           upstream):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1",
                     redis_parameters="connect=2s command=9s dead=9s")
    gate.get("/v1/loads", key=gate.key())
    key = gate.key()
    relay.delay = 0.04

    clients = [gate.connect() for _ in range(6)]
    for client in clients:
        client.send(b"GET /v1/loads HTTP/1.1\r\nHost: a\r\n"
                    b"Authorization: Bearer " + key.token.encode()
                    + b"\r\n\r\n")
    for client in clients[::2]:
        client.close()
    assert [client.read().status for client in clients[1::2]] == [200] * 3
    for client in clients[1::2]:
        client.close()
