"""The script that decides on limits, in a real Redis.

Redis's clock cannot be set, so most tests run the script with its one call of
TIME replaced by a clock of their own; the others wait.
"""

import struct
import time

import pytest
import redis as redis_py
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import limits, scripts
from harness.limits import NEVER, SECOND, Answer, Policy


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return scripts.shipped(tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    return limits.library(tmp_path_factory.mktemp("core"))


class Limit(limits.Script):
    """The script; policies are Policy or (limit, window in seconds)."""

    def __call__(self, policies, cost=1, keys=None, **asked):
        return super().__call__([
            policy if isinstance(policy, Policy) else Policy(*policy)
            for policy in policies], keys, cost=cost, **asked)


@pytest.fixture
def limit(redis, lib, texts):
    return Limit(redis, lib, texts["limit"], clock=True)


@pytest.fixture
def limit_now(redis, lib, texts):
    return Limit(redis, lib, texts["limit"])


def ms(us):
    return -(-us // 1000)


class Oracle:
    """The same decision from a list of all admissions, nothing packed.

    Admissions in one 60th of the window leave together, when the last of them
    has left.
    """

    def __init__(self, window):
        self.window = window * SECOND
        self.admitted = []

    def entries(self, now):
        """(when it leaves, count) of what counts, oldest first."""
        slices = {}
        for at, count in self.admitted:
            number = at // (self.window // 60)
            last, total = slices.get(number, (0, 0))
            slices[number] = (max(last, at), total + count)
        return [(last + self.window, total)
                for last, total in slices.values() if last + self.window > now]

    def total(self, now):
        return sum(count for _, count in self.entries(now))

    def reset(self, now):
        return min(ms(max((leaves for leaves, _ in self.entries(now)),
                          default=now) - now), self.window // 1000)

    def relief(self, now, limit, cost):
        """0: now; None: never; else ms."""
        if cost > limit:
            return None
        if self.total(now) + cost <= limit:
            return 0
        for leaves, _ in self.entries(now):
            if self.total(leaves) + cost <= limit:
                return ms(leaves - now)
        raise AssertionError("all has left and it is still too much")

    def strict(self, limit):
        """No window of its length, (t - window, t], has more than limit."""
        return all(sum(count for at, count in self.admitted
                       if end - self.window < at <= end) <= limit
                   for end, _ in self.admitted)


# Within one 60th of a window, across a few of them, across windows.
PAUSES = st.one_of(st.integers(0, 20000), st.integers(0, 200000),
                   st.integers(0, 2500000))
STEPS = st.lists(st.tuples(PAUSES, st.integers(1, 4)),
                 min_size=1, max_size=40)
POLICIES = st.lists(st.tuples(st.integers(1, 25), st.integers(1, 3)),
                    min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(policies=POLICIES, steps=STEPS)
def test_limit_is_the_strict_window(redis, lib, texts, policies, steps):
    limit = Limit(redis, lib, texts["limit"], clock=True)
    oracles = [Oracle(window) for _, window in policies]

    for after, cost in steps:
        limit.now += after
        now = limit.now
        reliefs = [oracle.relief(now, most, cost)
                   for oracle, (most, _) in zip(oracles, policies)]
        left = [most - oracle.total(now)
                for oracle, (most, _) in zip(oracles, policies)]
        reset = [oracle.reset(now) for oracle in oracles]

        decision = limit(policies, cost)

        if all(relief == 0 for relief in reliefs):
            for oracle in oracles:
                oracle.admitted.append((now, cost))
            assert decision == Answer(
                1, 0, 0, 0, [most - cost for most in left],
                [window * 1000 for _, window in policies])
            continue

        worst = NEVER if None in reliefs else max(reliefs)
        first = reliefs.index(None if worst == NEVER else worst) + 1
        assert decision == Answer(0, 0, first, worst, left, reset)

    for oracle, (most, _) in zip(oracles, policies):
        assert oracle.strict(most)


@settings(max_examples=60, deadline=None)
@given(most=st.integers(1, 6), window=st.integers(1, 3), steps=STEPS)
def test_relief_is_the_first_moment(redis, lib, texts, most, window, steps):
    limit = Limit(redis, lib, texts["limit"], clock=True)

    for after, cost in steps:
        limit.now += after
        decision = limit([(most, window)], cost)
        if decision.granted or decision.relief == NEVER:
            continue

        refused, state = limit.now, limit.client.get("limit:0")

        limit.now = refused + (decision.relief - 1) * 1000
        assert not limit([(most, window)], cost).granted

        limit.now = refused + decision.relief * 1000
        assert limit([(most, window)], cost).granted

        limit.now = refused
        limit.client.set("limit:0", state)


def test_window_is_half_open(limit):
    assert limit([(1, 10)]).granted

    limit.now += 10 * SECOND - 1
    assert not limit([(1, 10)]).granted

    limit.now += 1
    assert limit([(1, 10)]).granted


def test_an_entry_leaves_with_its_last_admission(limit):
    """60 s in 60 slices: both of these are in one second."""
    limit.now = 1700000000 * SECOND
    assert limit([(2, 60)]).granted

    limit.now += 900000
    assert limit([(2, 60)]).granted

    limit.now += 60 * SECOND - 900000
    assert not limit([(2, 60)]).granted

    limit.now += 900000
    assert limit([(2, 60)], cost=2).granted


def test_state_is_at_most_a_kibibyte(limit):
    """What a state costs in memory does not grow with its limit."""
    for _ in range(1500):
        limit.now += 60 * SECOND // 200
        assert limit([(1000, 60)]).granted

    assert limit.client.strlen("limit:0") <= limits.STATE_MAX


def test_refused_by_one_spends_nothing_on_others(limit):
    assert limit([(1, 60), (5, 60)]).left == [0, 4]
    before = limit.client.mget("limit:0", "limit:1")

    decision = limit([(1, 60), (5, 60)])
    assert (decision.granted, decision.refusing) == (0, 1)
    assert decision.left == [0, 4]
    assert limit.client.mget("limit:0", "limit:1") == before

    limit([(1, 60), (5, 60)], keys=["limit:0", "limit:new"])
    assert not limit.client.exists("limit:new")


def test_the_latest_relief_is_told(limit):
    policies = [(1, 10), (1, 50), (1, 30)]
    assert limit(policies).granted
    limit.now += SECOND

    decision = limit(policies)
    assert (decision.refusing, decision.relief) == (2, 49000)
    assert decision.reset == [9000, 49000, 29000]


def test_more_than_the_limit_is_never(limit):
    decision = limit([(9, 60), (3, 10)], cost=4)
    assert (decision.granted, decision.refusing, decision.relief) \
        == (0, 2, NEVER)
    assert decision.left == [9, 3]
    assert decision.reset == [0, 0]
    assert not limit.client.exists("limit:0", "limit:1")


def test_a_lowered_limit_refuses(limit):
    for _ in range(5):
        assert limit([(5, 60)]).granted
        limit.now += 2 * SECOND

    decision = limit([(2, 60)])
    assert not decision.granted
    assert decision.left == [0]

    # Four of the five have to leave before one more is within two.
    assert decision.relief == (60 - 10 + 3 * 2) * 1000


def test_clock_set_back_by_less_than_the_window(limit):
    """Time stands still; nothing more is let in, nothing is held longer."""
    assert limit([(2, 60)]).granted
    limit.now -= 30 * SECOND

    assert limit([(2, 60)]).granted
    decision = limit([(2, 60)])
    assert (decision.granted, decision.relief) == (0, 90000)
    assert decision.reset == [60000]

    limit.now += 90 * SECOND
    assert limit([(2, 60)], cost=2).granted


def test_clock_set_back_by_more_than_the_window(limit):
    """A clock that was far ahead does not lock a partner out for that long."""
    assert limit([(2, 60)]).granted
    limit.now += 59 * SECOND
    assert limit([(2, 60)]).granted

    limit.now -= 3600 * SECOND
    decision = limit([(2, 60)])
    assert (decision.granted, decision.relief) == (0, 60000)

    limit.now += 30 * SECOND
    assert limit([(2, 60)]).relief == 30000

    limit.now += 30 * SECOND
    assert limit([(2, 60)], cost=2).granted


@pytest.mark.parametrize("policy, spoil", [
    ((5, 10), lambda state: b"\x01" + state[1:]),
    ((5, 10), lambda state: b"\x03" + state[1:]),
    ((5, 10), lambda state: state[:239]),
    ((5, 10), lambda state: state[:13]),
    ((5, 10), lambda state: state[:1] + b"\7\0\0\0" + state[5:]),
    ((5, 10), lambda state: state[:41] + b"\2\1" + state[43:]),
    (Policy(5, 1, 5), lambda state: b"\x02" + state[1:]),
    (Policy(5, 1, 5), lambda state: state[:32]),
    (Policy(5, 1, 5), lambda state: state + b"\0"),
    (Policy(5, 1, 5), lambda state: b"\x03"),
], ids=["an older version", "a bucket", "short", "no entry", "total", "blocks",
        "bucket: a window", "bucket: short", "bucket: long",
        "bucket: no more"])
def test_a_strange_state_is_an_error(limit, policy, spoil):
    """As empty it would let a whole limit through again."""
    assert limit([policy]).granted
    strange = spoil(limit.state())
    limit.client.set("limit:0", strange)

    # Where only the sum is wrong that shows when the last entry has left.
    limit.now += 10 * SECOND

    with pytest.raises(redis_py.ResponseError, match="^KGSTATE "):
        limit([policy])
    assert limit.state() == strange


@pytest.mark.parametrize("args", [
    [struct.pack("<IBII", 0, 0, 5, 60)],
    [struct.pack("<IBII", 1, 0, 5, 0)],
], ids=["no cost", "no window"])
def test_arguments_of_limit(limit, args):
    with pytest.raises(redis_py.ResponseError, match="^KGARGS "):
        limit.raw(args, ["limit:0"])
    assert not limit.client.exists("limit:0")


@pytest.mark.parametrize("args", [
    [b""], [b"x" * 12], [struct.pack("<IBII", 1, 1, 5, 60)],
    [struct.pack("<IBII", 1, 0, 5, 60), b"short"],
])
def test_arguments_cut_off(limit, args):
    with pytest.raises(redis_py.ResponseError):
        limit.raw(args, ["limit:0"])
    assert not limit.client.exists("limit:0")


def test_another_type_is_an_error(limit):
    limit.client.hset("limit:0", "a", "b")
    with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
        limit([(5, 60)])


def test_no_window_of_real_time_has_more(limit_now):
    """N + 1 admissions are at least a window apart, as the client sees it."""
    admitted = []
    end = time.monotonic() + 2.6

    while time.monotonic() < end:
        before = time.monotonic()
        if limit_now([(5, 1)]).granted:
            admitted.append((before, time.monotonic()))
        time.sleep(0.01)

    assert len(admitted) >= 10
    for (before, _), (_, after) in zip(admitted, admitted[5:]):
        assert after - before >= 1


def test_expiry_of_a_state_covers_its_window(limit_now):
    """An expiry that moves with each admission costs half as much again."""
    client = limit_now.client

    def left(since):
        """Of two windows, in ms, and what it was then."""
        pttl = client.pttl("limit:0")
        return pttl + 1000 * (time.monotonic() - since), pttl

    start = time.monotonic()
    limit_now([(9, 4)])
    at_start, pttl = left(start)
    assert pttl <= 8000 <= at_start + 1

    time.sleep(0.5)
    limit_now([(9, 4)])
    at_start, pttl = left(start)
    assert pttl <= 7500 and 8000 <= at_start + 1

    time.sleep(max(0, 4.2 - (time.monotonic() - start)))
    again = time.monotonic()
    limit_now([(9, 4)])
    at_start, pttl = left(again)
    assert pttl <= 8000 <= at_start + 1

    client.pexpire("limit:0", 1)
    time.sleep(0.01)
    assert not client.exists("limit:0")


@pytest.mark.parametrize("then, left, debt", [
    (Policy(60, 3600, 20), 0, 0), (Policy(60, 3600, 20), 19, 0),
    (Policy(60, 3600, 2), 0, 0), (Policy(20, 1, 2), 0, 1),
])
def test_expiry_of_a_bucket_covers_what_it_owes(limit_now, then, left, debt):
    """Also at a lower rate or burst than it was spent at, and when nothing
    more is granted: a change does not forget what was spent."""
    start = time.monotonic()
    limit_now([Policy(20, 1, 20)], n=20 - left)
    answer = limit_now([then], n=2 if left == 0 else 1, debt=debt)
    assert answer.granted == (left > 0)

    pttl = limit_now.client.pttl("limit:0")
    took = 1000 * (time.monotonic() - start)
    owed = (20 - left) * then.window / then.requests * 1000
    assert pttl > owed * 0.9 - took
    assert answer.reset[0] > owed * 0.9 - took


def test_a_lowered_burst_does_not_forget_for_a_debt(limit):
    """What is told after an outage adds to what there is."""
    limit([Policy(20, 1, 200)], n=200)
    before = limit([Policy(20, 1, 10)], n=0).reset[0]

    assert limit([Policy(20, 1, 10)], n=0, debt=1).reset[0] >= before
