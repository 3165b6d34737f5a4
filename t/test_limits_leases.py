"""Leases and denials that the node remembers, and asks that are shared: what
Redis is asked, and that nothing more is admitted for it."""

import concurrent.futures
import struct
import threading
import time

import pytest

from checks import check_error, structured
from harness.client import encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"
POLICIES = """
    keygate_policy default rate=600r/m by=key;
    keygate_policy exact   rate=600r/m by=key exact;
    keygate_policy two     rate=60000r/m by=org;
    keygate_policy few     rate=20r/m by=key;
    keygate_policy second  rate=60r/s by=key;
    keygate_policy hundred rate=100r/m by=key;
    keygate_policy bucket  rate=60r/m burst=60 by=key;"""
ROUTES = """keygate_routes partner {
    GET /v1/loads loads:read;
    GET /exact loads:read limit=exact;
    GET /two loads:read limit=+two;
    GET /few loads:read limit=few;
    GET /dear loads:read limit=few cost=5;
    GET /second loads:read limit=second;
    GET /hundred loads:read limit=hundred;
    GET /bucket loads:read limit=bucket;
    GET /ten loads:read limit=hundred cost=10;
}"""

# Usage is flushed by a script too, which would be counted here.
GATE = dict(policies=POLICIES, routes=ROUTES,
            zone="keygate_zone zone=keygate:16m usage=off;")


def r(answer, policy="default"):
    return structured(answer, "RateLimit")[policy]["r"]


def asked(redis):
    return redis.calls("evalsha") + redis.calls("eval")


def counted(redis, key, policy="default"):
    """What Redis counts of a key now: what was admitted, and what is leased
    besides."""
    state = redis.client.get(
        f"kg:limit:{{{key.org}}}:{policy}:60:k={key.id}")
    return struct.unpack_from("<I", state, 1)[0]


def spend(gate, key, n, target=LOADS):
    """n answers on one connection, as fast as they come."""
    headers = {"Authorization": f"Bearer {key.token}"}
    with gate.connect() as client:
        return [client.request("GET", target, headers) for _ in range(n)]


def test_a_busy_key_asks_seldom(make_gate, redis):
    """And what its answers say of what is left is exact all the same."""
    gate = make_gate(**GATE, workers="1")
    key = gate.key()
    before = asked(redis)
    answers = spend(gate, key, 300)

    assert [a.status for a in answers] == [200] * 300
    assert [r(a) for a in answers] == list(range(599, 299, -1))
    assert asked(redis) - before <= 90


def test_all_of_the_limit_and_no_more(gate, redis, upstream):
    key = gate.key()
    statuses = [a.status for a in spend(gate, key, 700)]

    assert statuses == [200] * 600 + [429] * 100
    assert len(upstream.requests) == 600


def test_all_of_a_bucket_though_a_lease_was_not_used(gate, redis):
    """What is left of it, one who pauses gets back: its life is a second."""
    key = gate.key()
    began = time.monotonic()
    answers = spend(gate, key, 10, "/bucket")

    def leased():
        answers.extend(spend(gate, key, 1, "/bucket"))
        return owed(redis, key) > len(answers) + 1

    wait_for(leased, 5, "a lease")
    time.sleep(1.1)

    answers += spend(gate, key, 60, "/bucket")
    admitted = [a.status for a in answers].count(200)
    assert 60 <= admitted <= 60 + time.monotonic() - began


def owed(redis, key):
    """What it owes, in requests: what was admitted, and what is leased."""
    state = redis.client.get(
        f"kg:limit:{{{key.org}}}:bucket:b:k={key.id}")
    debt, _, unit = struct.unpack_from("<ddd", state, 1)
    return debt / unit


def test_several_policies(make_gate, redis):
    gate = make_gate(**GATE, workers="1")
    key = gate.key()
    before = asked(redis)
    answers = spend(gate, key, 200, "/two")

    assert [(r(a), r(a, "two")) for a in answers] == [
        (599 - i, 59999 - i) for i in range(200)]
    assert asked(redis) - before <= 70


def test_exact_asks_always(gate, redis):
    gate.get(LOADS, key=gate.key())     # Redis has the script by then
    key = gate.key()
    before = asked(redis)
    spend(gate, key, 100, "/exact")

    assert asked(redis) - before == 100


def test_a_slow_key_is_exact(gate, redis):
    """Less than a few in a lease's life are not worth one."""
    gate.get(LOADS, key=gate.key())     # Redis has the script by then
    key = gate.key()
    before = asked(redis)
    for _ in range(3):
        gate.get(LOADS, key=key)

    assert asked(redis) - before == 3


def test_a_denial_is_remembered(gate, redis):
    key = gate.key()
    spend(gate, key, 20, "/few")
    first = spend(gate, key, 1, "/few")[0]
    before = asked(redis)
    answers = spend(gate, key, 100, "/few")

    for answer in answers:
        check_error(answer, 429, "rate_limited", {"policy": "few"}, (50, 60))
        assert r(answer, "few") == 0
        assert int(answer.get("Retry-After")) <= int(first.get("Retry-After"))
    # Each worker of a node knows what one of them was told.
    assert asked(redis) == before


def test_a_denial_is_over_at_its_relief(gate):
    key = gate.key(limits={"second": "5r/s"})
    refused = wait_for(lambda: [a for a in spend(gate, key, 9, "/second")
                                if a.status == 429], 5, "a refusal")

    check_error(refused[-1], 429, "rate_limited", {"policy": "second"}, (1, 1))
    time.sleep(1)
    assert gate.get("/second", key=key).status == 200


def test_a_denial_of_a_dear_one_is_not_of_a_cheap_one(gate, redis):
    key = gate.key()
    assert [a.status for a in spend(gate, key, 3, "/dear")] == [200] * 3
    spend(gate, key, 2, "/few")

    assert spend(gate, key, 1, "/dear")[0].status == 429
    before = asked(redis)
    assert spend(gate, key, 1, "/dear")[0].status == 429
    assert asked(redis) == before
    assert [a.status for a in spend(gate, key, 4, "/few")] == \
        [200, 200, 200, 429]


@pytest.mark.parametrize("spent, first, relief", [
    (10, "/paced", (6, 10)), (7, "/dear", (16, 20)),
])
def test_a_dear_one_is_told_its_own_relief(make_gate, spent, first, relief):
    """Not that of a cheap one, nor what it was before others spent more."""
    gate = make_gate(**{**GATE, "policies": """
        keygate_policy default rate=6r/m burst=10 by=key;""",
        "routes": """keygate_routes partner {
            GET /paced loads:read;
            GET /dear loads:read cost=5;
        }"""})
    key = gate.key()
    assert {a.status for a in spend(gate, key, spent, "/paced")} == {200}
    check_error(spend(gate, key, 1, first)[0], 429, "rate_limited",
                {"policy": "default"}, relief)
    spend(gate, key, 10 - spent, "/paced")

    check_error(spend(gate, key, 1, "/dear")[0], 429, "rate_limited",
                {"policy": "default"}, (46, 50))


def test_a_denial_is_renewed_when_others_may_prolong_it(make_gate):
    """Soon it is the organisation's limit for which the key has to wait."""
    gate = make_gate(**{**GATE, "policies": """
        keygate_policy default rate=10r/m burst=2 by=key;
        keygate_policy org rate=8r/h by=org;""",
        "routes": "keygate_routes partner { GET /v1/loads loads:read; }"},
        gate="keygate partner; keygate_limit default org; "
             "keygate_errors envelope;")
    org = gate.org()
    key, other, third = (gate.key(org) for _ in range(3))
    spend(gate, key, 2)
    check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                {"policy": "default"}, (1, 6))
    for each in (other, third):
        assert [a.status for a in spend(gate, each, 3)] == [200, 200, 429]
    assert gate.get(LOADS, key=gate.key(org)).status == 200
    assert gate.get(LOADS, key=gate.key(org)).status == 200

    def told():
        answer = gate.get(LOADS, key=key)
        return answer if int(answer.get("Retry-After")) > 6 else None

    check_error(wait_for(told, 5, "the later relief"), 429, "rate_limited",
                {"policy": "org"}, (3000, 3660))


def test_a_raised_limit_ends_a_denial(gate):
    org = gate.org()
    key = gate.key(org)
    spend(gate, key, 20, "/few")
    assert gate.get("/few", key=key).status == 429

    assert gate.admin("PATCH", f"/orgs/{org}",
                      json={"limits": {"few": "30r/m"}}).status == 200
    assert [gate.get("/few", key=key).status for _ in range(11)] == \
        [200] * 10 + [429]


def test_a_lowered_limit_holds_at_once(gate, redis):
    """What was leased at the rate before is not used."""
    org = gate.org()
    key = gate.key(org)
    spend(gate, key, 100)
    assert counted(redis, key) > 100

    assert gate.admin("PATCH", f"/orgs/{org}",
                      json={"limits": {"default": "50r/m"}}).status == 200
    check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                {"policy": "default"}, (50, 61))


def test_what_is_left_is_of_the_limit_that_holds(gate):
    """Also right after it was another, of which there is a lease."""
    org = gate.org()
    key = gate.key(org)
    assert r(spend(gate, key, 100)[-1]) == 500

    for rate, left in [("300r/m", 199), ("450r/m", 348)]:
        assert gate.admin("PATCH", f"/orgs/{org}",
                          json={"limits": {"default": rate}}).status == 200
        assert abs(r(gate.get(LOADS, key=key)) - left) <= 70


def test_a_lease_is_not_for_a_key_with_a_lower_limit(make_gate):
    """Of a limit that keys share: what one key has leased, another that is
    held to less of it may not use."""
    gate = make_gate(**GATE, workers="1",
                     gate="keygate partner; keygate_limit two;")
    org = gate.org()
    key, held = gate.key(org), gate.key(org, limits={"two": "20r/m"})
    spend(gate, key, 100)

    for _ in range(5):
        assert {a.status for a in spend(gate, key, 40)} == {200}
        assert {a.status for a in spend(gate, held, 10)} == {429}


def test_denials_of_keys_with_rates_of_their_own(make_gate, redis):
    """Of a bucket that they share; 60 an hour are not 60 a day, and neither's
    denial ends the other's."""
    gate = make_gate(**{**GATE, "policies": """
        keygate_policy default rate=60r/h burst=20 by=org;""",
        "routes": "keygate_routes partner { GET /v1/loads loads:read; }"},
        workers="1")
    org = gate.org()
    keys = [gate.key(org, limits={"default": rate})
            for rate in ("60r/h", "60r/d")]
    spend(gate, keys[0], 20)
    assert [spend(gate, key, 1)[0].status for key in keys] == [429] * 2
    before = asked(redis)

    for _ in range(20):
        for key, relief in zip(keys, [(40, 60), (1400, 1440)]):
            check_error(spend(gate, key, 1)[0], 429, "rate_limited",
                        {"policy": "default"}, relief)
    # Both may have to be asked for again once a second.
    assert asked(redis) - before < 20


def test_a_key_that_is_held_to_more_prolongs_a_denial(make_gate):
    """Of a limit that they share: who waits for as long as he is told then
    succeeds, if nothing else was sent meanwhile."""
    gate = make_gate(**{**GATE, "policies": """
        keygate_policy default rate=6r/m by=org;""",
        "routes": "keygate_routes partner { GET /v1/loads loads:read; }"})
    org = gate.org()
    key, more = gate.key(org), gate.key(org, limits={"default": "60r/m"})
    spend(gate, key, 6)

    def told():
        return int(spend(gate, key, 1)[0].get("Retry-After"))

    wait_for(lambda: told() < 59, 10, "another slice")
    assert {a.status for a in spend(gate, more, 20)} == {200}
    wait_for(lambda: told() > 58, 10, "the later relief")


def test_what_is_left_of_a_lease_comes_back(gate, redis):
    """Of two, when the next was there already, with one question each."""
    key = gate.key()
    spend(gate, key, 100)
    time.sleep(1.2)

    assert 474 <= r(gate.get(LOADS, key=key)) <= 499
    assert r(gate.get(LOADS, key=key)) == 498


def test_reload_neither_forgets_nor_doubles(make_gate):
    gate = make_gate(**GATE)
    key = gate.key()
    assert r(spend(gate, key, 100)[-1]) == 500
    gate.reload()

    assert r(gate.get(LOADS, key=key)) == 499


def test_two_nodes_have_one_limit(make_gate, redis, upstream):
    gates = [make_gate(**GATE), make_gate(**GATE)]
    key = gates[0].key()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda gate: spend(gate, key, 450), gates))

    # What one node has leased when the other is refused stays its own.
    count = sum(a.status == 200 for part in answers for a in part)
    assert 570 <= count <= 600
    assert len(upstream.requests) == count


def test_a_worker_that_dies_takes_its_lease(make_gate, upstream):
    gate = make_gate(**GATE)
    key = gate.key()
    count = 0
    for _ in range(3):
        count += sum(a.status == 200 for a in spend(gate, key, 100))
        gate.kill_worker()
    count += sum(a.status == 200 for a in spend(gate, key, 400))

    assert count <= 600
    assert count >= 560


def test_requests_of_one_turn_ask_once(make_gate, redis, make_relay):
    """Those that come while Redis is asked go together in the next ask."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1", **GATE,
                     redis_parameters="connect=2s command=2s dead=9s")
    key = gate.key(limits={"exact": "30r/m"})
    gate.get("/exact", key=key)
    before = asked(redis)
    relay.delay = 0.1

    clients = [gate.connect() for _ in range(40)]
    request = encode_request("GET", "/exact",
                             {"Authorization": f"Bearer {key.token}"})
    for client in clients:
        client.send(request)
    answers = [client.read() for client in clients]

    statuses = [a.status for a in answers]
    assert statuses.count(200) == 29
    assert sorted((r(a, "exact") for a in answers if a.status == 200),
                  reverse=True) == list(range(28, -1, -1))
    assert asked(redis) - before < 20
    # In the order of their arrival, which is that of sending.
    assert statuses == [200] * 29 + [429] * 11


def test_clients_leave_while_they_share_an_ask(make_gate, redis, make_relay,
                                               upstream):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1", **GATE,
                     redis_parameters="connect=2s command=2s dead=9s")
    key = gate.key(limits={"exact": "30r/m"})
    gate.get("/exact", key=key)
    relay.delay = 0.15

    clients = [gate.connect() for _ in range(20)]
    request = encode_request("GET", "/exact",
                             {"Authorization": f"Bearer {key.token}"})
    for client in clients:
        client.send(request)
    time.sleep(0.05)
    for client in clients[::2]:
        client.reset()

    assert [client.read().status for client in clients[1::2]] == [200] * 10
    relay.delay = 0
    wait_for(lambda: gate.get("/exact", key=key).status == 200, 5, "answer")
    assert gate.workers()


def test_a_lease_that_comes_too_late_is_not_used(make_gate, redis,
                                                 make_relay):
    """Its life began when it was asked for; what it had goes back."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1", **GATE,
                     redis_parameters="connect=2s command=2s dead=9s")
    key = gate.key()
    spend(gate, key, 100)
    time.sleep(1.1)
    relay.delay = 1.2
    started = time.monotonic()
    threads = [threading.Thread(target=gate.get, args=(LOADS,),
                                kwargs={"key": key}) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started > 1.1

    relay.delay = 0
    wait_for(lambda: r(gate.get(LOADS, key=key)) <= 490, 5, "an answer")


def test_who_waits_for_a_lease_looks_at_it_first(make_gate, redis,
                                                 make_relay):
    """Redis, where another node took the rest, would refuse them."""
    relay = make_relay(redis.port)
    parameters = "connect=2s command=2s dead=9s"
    gate = make_gate(redis_url=relay.url, workers="1", **GATE,
                     redis_parameters=parameters)
    other = make_gate(**GATE, redis_parameters=parameters)
    key = gate.key()
    assert other.get("/hundred", key=key).status == 200
    spend(gate, key, 20, "/hundred")
    time.sleep(1.1)

    late = threading.Event()
    relay.replace("EVALSHA", None, times=1, delay=late)
    request = encode_request("GET", "/hundred",
                             {"Authorization": f"Bearer {key.token}"})
    clients = [gate.connect() for _ in range(6)]
    before = asked(redis)
    clients[0].send(request)
    wait_for(lambda: asked(redis) > before, 5, "the ask")
    for client in clients[1:]:
        client.send(request)
    assert spend(other, key, 9, "/ten")[-1].status == 429
    while spend(other, key, 1, "/hundred")[0].status == 200:
        pass
    late.set()

    assert [client.read().status for client in clients] == [200] * 6


def test_a_dear_request_has_what_is_leased(make_gate):
    """A lease that is too small for it goes back with its ask."""
    gate = make_gate(workers="1", **GATE)
    key = gate.key()
    cheap = spend(gate, key, 33, "/hundred")
    dear = spend(gate, key, 7, "/ten")

    assert [a.status for a in cheap] == [200] * 33
    assert [a.status for a in dear] == [200] * 6 + [429]
    assert [a.status for a in spend(gate, key, 8, "/hundred")] == \
        [200] * 7 + [429]


def test_a_timed_out_ask_hands_back(make_gate, redis, make_relay):
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1", **GATE,
                     outage="keygate_outage limits=deny;",
                     redis_parameters="connect=2s command=200ms dead=9s")
    key = gate.key()
    spend(gate, key, 100)

    late = threading.Event()
    relay.replace("EVALSHA", None, times=1, delay=late)
    spent, down = 100, 0
    # With the later ones goes back what was left of earlier leases.
    while down < 4:
        answer = gate.get(LOADS, key=key)
        spent += 1
        if answer.status != 200:
            check_error(answer, 503, "service_unavailable", retry=(1, 1))
            down += 1

    assert counted(redis, key) > spent
    late.set()
    wait_for(lambda: counted(redis, key) <= spent, 10, "the lease back")


@pytest.mark.parametrize("size", ["1m"])
def test_a_full_zone_asks(make_gate, redis, size):
    """More keys than there is room for: never an error, never too many."""
    # Within an hour, as a slow machine takes more than a minute for them.
    gate = make_gate(**{
        **GATE, "zone": f"keygate_zone zone=keygate:{size};",
        "policies": POLICIES.replace("few     rate=20r/m",
                                     "few     rate=20r/h")})
    org = gate.org()
    keys = [gate.key(org) for _ in range(600)]

    for _ in range(3):
        for key in keys:
            answers = spend(gate, key, 1, "/few")
            assert answers[0].status == 200
    assert {r(spend(gate, key, 1, "/few")[0], "few")
            for key in keys[:50]} == {16}
