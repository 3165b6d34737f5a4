"""usage.lua and hashes.lua in a real Redis: a flight adds its counts once, and
the last use of a key only moves forward."""

import pytest
import redis as redis_py

from harness import scripts

NOON = "2026-11-22T12:00:00Z"
LATER = "2026-11-22T12:00:01Z"
BEFORE = "2026-11-22T11:59:59Z"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return scripts.shipped(tmp_path_factory.mktemp("scripts"))


class Usage:
    """The two hashes of a key and a day."""

    def __init__(self, redis, texts):
        self.client = redis.client
        self.client.flushall()
        self._usage = self.client.register_script(texts["usage"])
        self._hashes = self.client.register_script(texts["hashes"])

    def fly(self, number, *counts, node="a", at=NOON, seen=()):
        return self._usage(keys=["days", "seen"], args=[
            node, number, 7776000, 34560000, at, len(seen),
            *(word for pair in seen for word in pair),
            *(word for count in counts for word in count)])

    def hashes(self, *names):
        return self._hashes(keys=names)

    @property
    def counts(self):
        return {name: int(value) for name, value in
                self.client.hgetall("days").items() if b"|" in name}

    @property
    def seen(self):
        return {name.decode(): value.decode() for name, value in
                self.client.hgetall("seen").items()}


@pytest.fixture
def usage(redis, texts):
    return Usage(redis, texts)


def test_flights_add_up(usage):
    assert usage.fly(1, ("GET /a", "ok", 3), ("GET /a", "conflict", 1)) == 1
    assert usage.fly(2, ("GET /a", "ok", 4)) == 1
    assert usage.counts == {b"GET /a|ok": 7, b"GET /a|conflict": 1}


def test_flight_that_comes_again_adds_nothing(usage):
    usage.fly(7, ("GET /a", "ok", 3))
    assert usage.fly(7, ("GET /a", "ok", 3)) == 0
    assert usage.counts == {b"GET /a|ok": 3}


def test_flight_that_is_overtaken_adds_nothing(usage):
    """It was sent again, and that has landed, before its successor."""
    usage.fly(7, ("GET /a", "ok", 3))
    usage.fly(10, ("GET /a", "ok", 4))
    assert usage.fly(7, ("GET /a", "ok", 3)) == 0
    assert usage.counts == {b"GET /a|ok": 7}


def test_nodes_number_their_own(usage):
    usage.fly(9, ("GET /a", "ok", 3), node="a")
    assert usage.fly(1, ("GET /a", "ok", 4), node="b") == 1
    assert usage.counts == {b"GET /a|ok": 7}


def test_counts_are_64_bits(usage):
    usage.fly(1, ("GET /a", "ok", 2**53 + 1))
    usage.fly(2, ("GET /a", "ok", 2))
    assert usage.counts == {b"GET /a|ok": 2**53 + 3}


def test_what_redis_refuses_whole_can_come_again(usage):
    usage.client.hset("days", "GET /a|ok", "x")
    with pytest.raises(redis_py.ResponseError):
        usage.fly(1, ("GET /a", "ok", 3))
    usage.client.hdel("days", "GET /a|ok")
    assert usage.fly(1, ("GET /a", "ok", 3)) == 1
    assert usage.counts == {b"GET /a|ok": 3}


def test_what_redis_refuses_in_part_is_added_in_part_once(usage):
    usage.client.hset("days", "GET /a|ok", "x")
    for added in (1, 0, 0):
        assert usage.fly(1, ("GET /a", "ok", 3), ("GET /b", "ok", 4)) == added
    assert usage.client.hget("days", "GET /b|ok") == b"4"
    assert usage.client.hget("days", "GET /a|ok") == b"x"


def test_counts_of_another_type_are_left_alone(usage):
    usage.client.set("days", "x")
    with pytest.raises(redis_py.ResponseError):
        usage.fly(1, ("GET /a", "ok", 3))
    assert usage.client.get("days") == b"x"


def test_broken_last_use_adds_nothing_twice(usage):
    usage.client.set("seen", "x")
    for _ in range(2):
        with pytest.raises(redis_py.ResponseError):
            usage.fly(1, ("GET /a", "ok", 3))
    assert usage.counts == {b"GET /a|ok": 3}


def test_flight_without_counts_says_the_last_use(usage):
    usage.fly(1, at=NOON)
    assert usage.seen == {"at": NOON}


def test_last_use_moves_forward_only(usage):
    usage.fly(1, at=NOON, seen=[("203.0.113.1", NOON)])
    usage.fly(2, at=BEFORE, seen=[("203.0.113.1", BEFORE)], node="b")
    assert usage.seen == {"at": NOON, "address:203.0.113.1": NOON}
    usage.fly(2, at=LATER, seen=[("203.0.113.1", LATER)])
    assert usage.seen == {"at": LATER, "address:203.0.113.1": LATER}


def test_four_addresses_are_kept(usage):
    usage.fly(1, at=NOON, seen=[(f"203.0.113.{n}", f"2026-11-22T12:00:0{n}Z")
                                for n in range(4)])
    usage.fly(2, at=NOON, node="b",
              seen=[("2001:db8::1", "2026-11-22T12:00:05Z"),
                    ("2001:db8::2", "2026-11-22T11:00:00Z")])
    assert set(usage.seen) == {"at", "address:2001:db8::1",
                               *(f"address:203.0.113.{n}" for n in (1, 2, 3))}


def test_both_expire(usage):
    usage.fly(1, ("GET /a", "ok", 1))
    assert usage.client.ttl("days") == 7776000
    assert usage.client.ttl("seen") == 34560000


@pytest.mark.parametrize("args", [
    ["a", 1, 1, 1, NOON],
    ["a", 1, 1, 1, NOON, "x"],
    ["a", 1, 1, 1, NOON, 0, "GET /a", "ok"],
    ["a", 1, 1, 1, NOON, 1, "203.0.113.1"],
])
def test_wrong_arguments_write_nothing(usage, texts, args):
    script = usage.client.register_script(texts["usage"])
    with pytest.raises(redis_py.ResponseError, match="KGARGS"):
        script(keys=["days", "seen"], args=args)
    assert usage.client.keys() == []


def test_hashes(usage):
    usage.client.hset("one", mapping={"a": "1"})
    assert usage.hashes("one", "none", "one") == [
        [b"a", b"1"], [], [b"a", b"1"]]
