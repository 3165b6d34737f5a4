"""admit.lua, limits and claims in one script, in a real Redis: what each of
the two says stays what it is alone."""

import struct

import pytest
import redis as redis_py

from harness import scripts

HOUR = 3600000


def policy(limit, window=60):
    return struct.pack("<BII", 0, limit, window)


class Admit:
    """The script on the states l0, l1 ... and the records of keys."""

    def __init__(self, redis, texts):
        self.client = redis.client
        self.client.flushall()
        self._admit = self.client.register_script(texts["admit"])
        self._limit = self.client.register_script(texts["limit"])
        self._claim = self.client.register_script(texts["claim"])

    def __call__(self, policies, claims, n=1, cost=1):
        """claims: (record, its owner, its request); (granted, answers)."""
        arguments = [struct.pack("<I", cost) + b"".join(policies),
                     struct.pack("<IIIIdII", n, 0, 0, 0, 0, 0, 0)
                     if n > 1 else b""]
        for _, owner, _ in claims:
            arguments += self.claiming(owner)
        arguments.append(struct.pack(f"<{len(claims)}H",
                                     *[request for _, _, request in claims]))
        told, *answers = self._admit(
            keys=[f"l{i}" for i in range(len(policies))]
            + [name for name, _, _ in claims], args=arguments)
        return struct.unpack("<I", told[:4])[0], answers

    @staticmethod
    def claiming(owner):
        return [owner * 16, b"f" * 32, 30000, HOUR, "req_1", "POST /v1/loads",
                "refuse", 16384]

    def claim(self, name, owner):
        return self._claim(keys=[name], args=self.claiming(owner))

    def left(self, i, limit):
        told = self._limit(keys=[f"l{i}"], args=[
            struct.pack("<I", 1) + policy(limit),
            struct.pack("<IIIIdII", 0, 0, 0, 0, 0, 0, 0)])
        return struct.unpack("<I", told[11:15])[0]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return scripts.shipped(tmp_path_factory.mktemp("scripts"))


@pytest.fixture
def admit(redis, texts):
    return Admit(redis, texts)


def test_claims_what_is_granted(admit):
    assert admit([policy(5)], [("k", b"o", 1)]) == (1, [[b"claimed"]])
    assert admit.left(0, 5) == 4
    assert 0 < admit.client.pttl("k") <= HOUR
    state, _ = admit.claim("k", b"p")
    assert state == b"in_progress"


def test_says_what_claim_says(admit):
    """And a request that is answered so is spent all the same."""
    admit.claim("k", b"o")
    granted, [answer] = admit([policy(5)], [("k", b"p", 1)])
    assert (granted, answer[0]) == (1, b"in_progress")
    assert admit([policy(5)], [("k", b"o", 1)]) == (1, [[b"claimed"]])
    assert admit.left(0, 5) == 3


def test_claims_nothing_that_is_refused(admit):
    assert admit([policy(1)], [("k", b"o", 1)])[0] == 1
    assert admit([policy(1)], [("other", b"p", 1)]) == (0, [None])
    assert not admit.client.exists("other")


def test_all_policies_or_nothing(admit):
    for _ in range(2):
        assert admit([policy(9), policy(2)], [("k", b"o", 1)])[0] == 1
    assert admit([policy(9), policy(2)], [("other", b"p", 1)]) == (0, [None])
    assert admit.left(0, 9) == 7
    assert not admit.client.exists("other")


def test_the_first_of_many_are_granted(admit):
    """Some of which have no claim."""
    claims = [("a", b"a", 1), ("c", b"c", 3), ("d", b"d", 4), ("f", b"f", 6)]
    assert admit([policy(3)], claims, n=6) == (
        3, [[b"claimed"], [b"claimed"], None, None])
    assert [admit.client.exists(name) for name, _, _ in claims] == [1, 1, 0, 0]


def test_two_of_one_ask_want_one_key(admit):
    granted, answers = admit([policy(9)], [("k", b"o", 1), ("k", b"p", 2)],
                             n=2)
    assert granted == 2
    assert answers[0] == [b"claimed"]
    assert answers[1][0] == b"in_progress"


def test_a_broken_record_is_its_own_matter(admit):
    """Of another type, or no record: the others are claimed."""
    admit.client.hset("hash", "a", "b")
    admit.client.set("short", "x")
    granted, (first, second, third) = admit(
        [policy(9)], [("hash", b"o", 1), ("short", b"o", 2), ("k", b"o", 3)],
        n=3)
    assert granted == 3
    assert not isinstance(first, list) and not isinstance(second, list)
    assert third == [b"claimed"]


def test_a_broken_state_claims_nothing(admit):
    admit.client.set("l0", "what")
    with pytest.raises(redis_py.ResponseError, match="KGSTATE"):
        admit([policy(9)], [("k", b"o", 1)])
    assert not admit.client.exists("k")


def test_out_of_memory_claims_nothing(admit):
    admit([policy(9)], [("k", b"o", 1)])
    admit.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis_py.ResponseError, match="OOM"):
            admit([policy(9)], [("other", b"o", 1)])
    finally:
        admit.client.config_set("maxmemory", 0)
    assert not admit.client.exists("other")
    assert admit.left(0, 9) == 8


@pytest.mark.parametrize("keys, arguments", [
    (["k"], [b"", b"", *Admit.claiming(b"o"), b"\1\0"]),
    (["l0", "k"], [b"", b"", b"\1\0"]),
    (["l0", "k"], [b"", b"", *Admit.claiming(b"o"), b""]),
])
def test_arguments_that_do_not_fit(admit, texts, keys, arguments):
    with pytest.raises(redis_py.ResponseError, match="KGARGS of admit"):
        admit.client.register_script(texts["admit"])(keys=keys, args=arguments)
    assert not admit.client.exists("k")
