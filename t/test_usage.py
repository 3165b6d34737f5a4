"""Usage: what each key did is in Redis, each request once, whatever happens to
workers and to Redis meanwhile."""

import concurrent.futures
import datetime
import re
import signal
import time

import pytest

from harness import template
from harness.ports import wait_for

LOADS = "/v1/loads"
UNLIMITED = "keygate_policy default rate=60000r/m by=key;"


def zone(flush, size="16m"):
    return f"keygate_zone zone=keygate:{size} valid=1h usage={flush};"


GATE = dict(
    zone=zone("200ms"),
    http="keygate_routes reading { GET /v1/tracking/:loadId tracking:read; }",
    server="set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;",
    locations="location = /v1/carriers { error_page 404 = /other;"
              " include %%ROOT%%/conf/keygate_proxy_params;"
              " proxy_intercept_errors on;"
              " proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }"
              "location /v1/tracking/ { keygate reading;"
              " proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }")


def day_of(moment):
    return moment.strftime("%Y%m%d")


def utc():
    return datetime.datetime.now(datetime.timezone.utc)


def counts(redis, key):
    """{"route|outcome": requests} of all days of a key."""
    found = {}
    for name in redis.client.keys(f"kg:usage:{{{key.id}}}:*"):
        for field, value in redis.client.hgetall(name).items():
            if b"|" in field:
                field = field.decode()
                found[field] = found.get(field, 0) + int(value)
    return found


def total(redis, key):
    return sum(counts(redis, key).values())


def seen(redis, key):
    """When a key was last used, and {address: when}."""
    fields = {name.decode(): value.decode() for name, value in
              redis.client.hgetall(f"kg:seen:{{{key.id}}}").items()}
    at = fields.pop("at", None)
    return at, {name.removeprefix("address:"): value
                for name, value in fields.items()}


def check_counted(redis, key, expected, timeout=6):
    """Waits for as many requests to be counted, and that none follows."""
    wait_for(lambda: total(redis, key) >= expected, timeout,
             f"{expected} requests counted, but {counts(redis, key)}")
    time.sleep(0.5)
    assert total(redis, key) == expected


def kill_workers(gate):
    """Once they have counted what they answered."""
    gate.idle()
    for pid in gate.workers():
        gate.kill_worker(pid)


def ask(gates, key, n, status=200):
    """n requests at once, by turns to the gates."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(
            lambda i: gates[i % len(gates)].get(LOADS, key=key), range(n)))
    assert {answer.status for answer in answers} == {status}


# What is counted.


def test_each_outcome_of_each_route(gate, upstream, redis):
    key = gate.key(limits={"default": "20r/m"},
                   scopes=["loads:read", "loads:write", "carriers:read"])
    upstream.answer(404, path="/v1/loads/none")
    upstream.answer(500, path="/v1/loads/broken")
    upstream.answer(304, path="/v1/loads/same")

    for path, n in [(LOADS, 3), ("/v1/loads/1", 2), ("/v1/loads/none", 2),
                    ("/v1/loads/broken", 1), ("/v1/loads/same", 1)]:
        for _ in range(n):
            gate.get(path, key=key)
    gate.head(LOADS, key=key)
    for body in (b"1", b"1", b"1", b"2"):
        gate.post(LOADS, key=key, idem="k", body=body)
    gate.post(LOADS, key=key, body=b"1")
    gate.get("/v1/customers", key=key)
    gate.get("/v1/nothing", key=key)
    gate.put(LOADS, key=key)
    while gate.get("/v1/loads/2", key=key).status != 429:
        pass

    wait_for(lambda: total(redis, key) >= 24, 5, "all counts")
    time.sleep(0.5)
    assert counts(redis, key) == {
        "GET /v1/loads|ok": 4,
        "GET /v1/loads/:id|ok": 8,
        "GET /v1/loads/:id|client_error": 2,
        "GET /v1/loads/:id|server_error": 1,
        "GET /v1/loads/:id|rate_limited": 1,
        "POST /v1/loads|ok": 1,
        "POST /v1/loads|replayed": 2,
        "POST /v1/loads|conflict": 1,
        "POST /v1/loads|client_error": 1,
        "GET /v1/customers|forbidden": 1,
        "-|client_error": 2,
    }


def test_who_is_not_known_is_not_counted(gate, redis):
    before = set(redis.client.keys("kg:usage:*"))
    revoked = gate.key(revokedAt="2026-01-01T00:00:00Z")
    marker = gate.key()
    gate.get(LOADS)
    gate.get(LOADS, key="tf_test_" + "0" * 38)
    gate.get(LOADS, key=revoked)
    gate.get("/health/api", key=marker)
    gate.get(LOADS, key=marker)

    check_counted(redis, marker, 1)
    new = set(redis.client.keys("kg:usage:*")) - before
    assert all(marker.id in name.decode() for name in new)
    assert redis.client.exists(f"kg:seen:{{{revoked.id}}}") == 0


def test_organisation_without_access_is_forbidden(gate, redis):
    key = gate.key(access="disabled")
    gate.get(LOADS, key=key)

    check_counted(redis, key, 1)
    assert counts(redis, key) == {"GET /v1/loads|forbidden": 1}


def test_redirected_request_counts_once(gate, upstream, redis):
    """error_page runs the phases again."""
    key = gate.key()
    upstream.answer(404, path="/v1/carriers")
    assert gate.get("/v1/carriers", key=key).status == 200

    check_counted(redis, key, 1)
    assert counts(redis, key) == {"GET /v1/carriers|ok": 1}


def test_client_that_leaves_is_counted(gate, upstream, redis):
    key = gate.key()
    upstream.answer(hang=True)
    with gate.connect() as client:
        client.send(f"GET /v1/tracking/1 HTTP/1.1\r\nHost: a\r\n"
                    f"Authorization: Bearer {key.token}\r\n\r\n".encode())
        upstream.wait()

    check_counted(redis, key, 1)
    assert counts(redis, key) == {"GET /v1/tracking/:loadId|client_error": 1}


def test_counts_expire(gate, redis):
    key = gate.key()
    days = {day_of(utc())}
    gate.get(LOADS, key=key)
    check_counted(redis, key, 1)
    days.add(day_of(utc()))

    name, = redis.client.keys(f"kg:usage:{{{key.id}}}:*")
    assert name.decode().rpartition(":")[2] in days
    assert 89 * 86400 < redis.client.ttl(name) <= 90 * 86400
    assert 399 * 86400 < redis.client.ttl(f"kg:seen:{{{key.id}}}") \
        <= 400 * 86400


# Last used.


def test_last_used(gate, redis):
    key = gate.key()
    start = utc().replace(microsecond=0)
    gate.get(LOADS, key=key)
    check_counted(redis, key, 1)
    first, _ = seen(redis, key)
    time.sleep(1.1)
    gate.get(LOADS, key=key)
    check_counted(redis, key, 2)
    second, _ = seen(redis, key)

    form = "%Y-%m-%dT%H:%M:%S%z"
    assert start <= datetime.datetime.strptime(first, form) <= utc()
    assert first < second


def test_last_addresses(gate, redis):
    """The four used last, IPv4 as such however it came."""
    key = gate.key()
    groups = [["203.0.113.1", "203.0.113.2", "203.0.113.3"],
              ["2001:db8::1", "::ffff:198.51.100.7"], ["203.0.113.2"]]
    n = 0
    for group in groups:
        for address in group * 2:
            gate.get(LOADS, key=key, headers={"X-Real-IP": address})
            n += 1
        time.sleep(1.1)

    check_counted(redis, key, n)
    at, addresses = seen(redis, key)
    assert set(addresses) in [
        {"203.0.113.2", "2001:db8::1", "198.51.100.7", other}
        for other in ("203.0.113.1", "203.0.113.3")]
    assert addresses["203.0.113.2"] == at == max(addresses.values())
    assert addresses["2001:db8::1"] < at


def test_addresses_of_two_nodes(gate, make_gate, redis):
    other = make_gate(**GATE)
    key = gate.key()
    for i in range(3):
        gate.get(LOADS, key=key, headers={"X-Real-IP": f"203.0.113.{i}"})
    check_counted(redis, key, 3)
    time.sleep(1.1)
    for i in range(3):
        other.get(LOADS, key=key, headers={"X-Real-IP": f"198.51.100.{i}"})
    check_counted(redis, key, 6)

    _, addresses = seen(redis, key)
    assert len(addresses) == 4
    assert {f"198.51.100.{i}" for i in range(3)} < set(addresses)


# Each request once.


def test_two_nodes_of_two_workers(make_gate, redis):
    gates = [make_gate(zone=zone("200ms"), policies=UNLIMITED)
             for _ in range(2)]
    key = gates[0].key()
    for _ in range(4):
        ask(gates, key, 100)

    check_counted(redis, key, 400)
    assert counts(redis, key) == {"GET /v1/loads|ok": 400}


def test_killed_workers_lose_nothing(make_gate, redis):
    gate = make_gate(zone=zone("2s"), policies=UNLIMITED)
    key = gate.key()
    ask([gate], key, 50)
    kill_workers(gate)
    ask([gate], key, 50)
    kill_workers(gate)

    check_counted(redis, key, 100, timeout=12)


def test_workers_killed_while_they_send(make_gate, make_relay, redis):
    """What was on its way is sent again by another, and added once."""
    relay = make_relay(redis.port)
    gate = make_gate(zone=zone("200ms"), policies=UNLIMITED,
                     redis_url=relay.url)
    keys = [gate.key() for _ in range(20)]
    for _ in range(4):
        for key in keys:
            gate.get(LOADS, key=key)
        kill_workers(gate)

    for key in keys:
        check_counted(redis, key, 4, timeout=12)


def test_reload_loses_nothing(make_gate, redis):
    gate = make_gate(zone=zone("1h"), policies=UNLIMITED)
    key = gate.key()
    ask([gate], key, 30)
    gate.edit(zone=zone("200ms"))
    gate.reload()
    ask([gate], key, 30)

    check_counted(redis, key, 60)


def test_quit_sends_what_there_is(make_gate, redis):
    gate = make_gate(zone=zone("1h"), policies=UNLIMITED)
    keys = [gate.key() for _ in range(40)]
    for key in keys:
        gate.get(LOADS, key=key)
    assert [total(redis, key) for key in keys] == [0] * 40
    start = time.monotonic()
    gate.quit()

    # What it could not tell Redis it would stay for, half a minute.
    assert time.monotonic() - start < 10
    assert [total(redis, key) for key in keys] == [1] * 40


def test_request_that_ends_while_it_quits_is_counted(make_gate, upstream,
                                                     redis):
    gate = make_gate(zone=zone("1h"))
    key = gate.key()
    upstream.answer(delay=0.4)
    with gate.connect() as client:
        client.send(f"GET {LOADS} HTTP/1.1\r\nHost: a\r\nAuthorization: "
                    f"Bearer {key.token}\r\n\r\n".encode())
        upstream.wait()
        gate.quit()
        assert client.read().status == 200

    assert total(redis, key) == 1


@pytest.mark.parametrize("fault", ["stop", "kill", "freeze"])
def test_redis_that_is_away_loses_nothing(make_gate, make_redis, fault):
    """Frozen, it adds what it was sent before: then what is sent again must
    not be added again."""
    redis = make_redis(options={"appendonly": "yes",
                                "appendfsync": "always"})
    gate = make_gate(redis=redis, zone=zone("200ms"), policies=UNLIMITED,
                     outage="keygate_outage keys=stale:1h limits=allow;")
    keys = [gate.key() for _ in range(3)]
    for key in keys:
        ask([gate], key, 10)
    getattr(redis, fault)()
    for _ in range(4):
        for key in keys:
            ask([gate], key, 5)
        time.sleep(0.6)
    if fault == "freeze":
        redis.thaw()
    else:
        redis.start()

    for key in keys:
        check_counted(redis, key, 30, timeout=12)


def test_replies_that_are_lost_add_nothing_twice(make_gate, make_relay,
                                                 redis):
    relay = make_relay(redis.port)
    gate = make_gate(zone=zone("200ms"), policies=UNLIMITED,
                     redis_url=relay.url,
                     outage="keygate_outage keys=stale:1h limits=allow;")
    key = gate.key()
    for _ in range(10):
        ask([gate], key, 10)
        relay.delay = 5
        time.sleep(0.25)
        relay.delay = 0
        relay.cut()

    check_counted(redis, key, 100, timeout=12)


def test_key_redis_refuses_keeps_no_other(gate, redis):
    """Somebody has put something else in the place of one key's counts."""
    bad, good = gate.key(), gate.key()
    names = [f"kg:usage:{{{bad.id}}}:" + day_of(utc() +
                                               datetime.timedelta(days=d))
             for d in (0, 1)]
    for name in names:
        redis.client.set(name, "x")
    gate.get(LOADS, key=bad)
    gate.get(LOADS, key=good)
    check_counted(redis, good, 1)
    gate.wait_log("refused usage")

    redis.client.delete(*names)
    check_counted(redis, bad, 1)


# The table's bound.


def lost(gate):
    return sum(int(n) for n in re.findall(
        r"usage of (\d+) requests was not counted", gate.log()))


def test_full_table_loses_what_is_new_and_says_how_much(make_gate,
                                                        make_redis):
    redis = make_redis(options={"rename-command": 'HINCRBY ""'})
    gate = make_gate(redis=redis, policies=UNLIMITED,
                     zone=zone("200ms", size="1m"))
    org = gate.org()
    keys = [gate.key(org) for _ in range(1200)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: gate.get(LOADS, key=key), keys))
    gate.wait_log(r"usage of \d+ requests was not counted")
    gate.get(LOADS, key=keys[0])
    assert len(re.findall("was not counted", gate.log())) == 1

    redis.options = {}
    redis.restart()
    wait_for(lambda: total(redis, keys[0]) >= 2, 10, "the first key's counts")
    n = wait_for(lambda: redis.client.dbsize() > 2700
                 and sum(total(redis, key) for key in keys), 15, "counts")
    assert total(redis, keys[0]) == 2
    assert 800 < n < 1201 - lost(gate) + 1
    assert all(total(redis, key) <= 1 for key in keys[1:])

    late = gate.key(org)
    gate.get(LOADS, key=late)
    check_counted(redis, late, 1)


def test_table_that_is_half_full_is_sent_sooner(make_gate, redis):
    gate = make_gate(policies=UNLIMITED, zone=zone("1h", size="1m"))
    org = gate.org()
    few = [gate.key(org) for _ in range(100)]
    many = [gate.key(org) for _ in range(500)]
    for key in few:
        gate.get(LOADS, key=key)
    time.sleep(2.2)
    assert [total(redis, key) for key in few] == [0] * 100
    for key in many:
        gate.get(LOADS, key=key)

    check_counted(redis, few[0], 1)


def test_routes_keep_their_counts_over_a_reload(make_gate, redis):
    """Numbers of routes are the zone's, not the configuration's."""
    gate = make_gate(zone=zone("1s"), policies=UNLIMITED)
    key = gate.key()
    for _ in range(3):
        gate.get("/v1/customers", key=key)
    gate.edit(routes="keygate_routes partner { GET /v1/new loads:read;"
                     " GET /v1/loads loads:read;"
                     " GET /v1/customers customers:read; }")
    gate.reload()
    gate.get("/v1/new", key=key)
    gate.get(LOADS, key=key)
    gate.get("/v1/customers", key=key)

    check_counted(redis, key, 6)
    assert counts(redis, key) == {"GET /v1/customers|ok": 4,
                                  "GET /v1/new|ok": 1,
                                  "GET /v1/loads|ok": 1}


def test_off_keeps_nothing(make_gate, redis):
    gate = make_gate(zone=zone("off"))
    key = gate.key()
    assert gate.get(LOADS, key=key).status == 200
    gate.quit()

    assert redis.client.keys(f"kg:*{{{key.id}}}*") == []


def test_documented_user_may_do_all_that_is_needed(make_gate, make_redis):
    page = (template.ROOT / "docs/operations.md").read_text("utf-8")
    line = re.search(r"^user keygate (.*)$", page, re.M)[1]
    redis = make_redis(acl={"keygate": line})
    gate = make_gate(redis=redis, zone=zone("200ms"),
                     files={"password": "PASSWORD\n"},
                     redis_url=f"{redis.url} user=keygate "
                               "password_file=%%FOLDER%%/password")
    key = gate.key()
    for i in range(6):
        gate.get(LOADS, key=key)
    check_counted(redis, key, 6)
    redis.client.hset(f"kg:seen:{{{key.id}}}", mapping={
        f"address:203.0.113.{i}": "2026-01-01T00:00:00Z" for i in range(6)})
    gate.get(LOADS, key=key)
    check_counted(redis, key, 7)

    assert len(seen(redis, key)[1]) == 4
    assert "NOPERM" not in gate.log()


@pytest.mark.parametrize("value", ["99ms", "2h", "never", "", "off usage=1s",
                                   "1s usage=off"])
def test_wrong_interval(nginx_t, value):
    rc, stderr = nginx_t(zone=f"keygate_zone zone=keygate:1m usage={value};")
    assert rc == 1
    assert "usage=" in stderr


def test_terminated_worker_leaves_it_to_others(make_gate, redis):
    """SIGTERM to a worker alone: it exits without ado."""
    gate = make_gate(zone=zone("1s"), policies=UNLIMITED)
    key = gate.key()
    ask([gate], key, 20)
    gate.kill_worker(how=signal.SIGTERM)

    check_counted(redis, key, 20, timeout=12)
