"""Leases, buckets, what comes back and what is owed: in the arithmetic.

The histories run through src/core, which test_limit_core.py holds to the
script; an adversary uses what is leased at the worst moments.
"""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import limits
from harness.limits import NEVER, SECOND, Policy


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    return limits.library(tmp_path_factory.mktemp("core"))


@pytest.fixture
def core(lib):
    return limits.Core(lib, 2)


WINDOWS = st.builds(Policy, st.integers(1, 200), st.sampled_from([1, 60]))
BUCKETS = st.builds(Policy, st.integers(1, 300), st.sampled_from([1, 60]),
                    st.integers(1, 120))

STEPS = st.lists(st.fixed_dictionaries({
    "after": st.one_of(st.just(0.0), st.floats(0, 0.02), st.floats(0, 0.3),
                       st.floats(0, 1.3)),
    "n": st.integers(0, 12),
    "want": st.integers(0, 60),
    # When in its life the lease is used, and how much of it.
    "at": st.sampled_from([0.0, 0.3, 0.999, 1.0]),
    "used": st.floats(0, 1),
    "back": st.booleans(),
}), min_size=1, max_size=60)


def span(policy):
    """us in which all of it is there again."""
    return ((policy.burst or policy.requests) * policy.window * SECOND
            / policy.requests)


def most(policy, uses):
    """(what was used, what may be) where there was most in excess."""
    uses = sorted(uses)
    worst = (0, 0)

    for i, first in enumerate(uses):
        for j in range(i, len(uses)):
            between = uses[j] - first

            if policy.burst:
                may = policy.burst + between * policy.requests \
                    / (policy.window * SECOND)
            elif between < policy.window * SECOND:
                may = policy.requests
            else:
                break

            if j - i + 1 - may > worst[0] - worst[1]:
                worst = (j - i + 1, may)
    return worst


@settings(max_examples=400, deadline=None)
@given(policy=st.one_of(WINDOWS, BUCKETS), steps=STEPS)
def test_never_over_wherever_a_lease_is_used(lib, policy, steps):
    core = limits.Core(lib, 1)
    life = core.life([policy])
    uses, since, back = [], 0.0, 0

    for step in steps:
        core.now += int(step["after"] * span(policy))
        again = back if step["back"] else 0
        answer = core([policy], n=step["n"], want=step["want"], back=again,
                      since=since, lived=life, life=life)
        if again:
            back = 0

        uses += [core.now] * answer.granted
        if answer.lease:
            used = int(step["used"] * answer.lease)
            uses += [core.now + int(step["at"] * life)] * used
            since, back = answer.moment, answer.lease - used

    used, may = most(policy, uses)
    assert used <= may


@settings(max_examples=150, deadline=None)
@given(policy=st.one_of(WINDOWS, BUCKETS), steps=STEPS)
def test_all_is_back_when_demand_stops(lib, policy, steps):
    core = limits.Core(lib, 1)
    life = core.life([policy])

    for step in steps:
        core.now += int(step["after"] * span(policy))
        core([policy], n=step["n"], want=step["want"], life=life)

    core.now += math.ceil(span(policy) * (1 + 2 / 60)) + 1
    answer = core([policy], n=0)

    assert answer.left == [policy.burst or policy.requests]
    assert answer.reset == [0]


@settings(max_examples=150, deadline=None)
@given(policy=BUCKETS, steps=STEPS, cost=st.integers(1, 5))
def test_relief_of_a_bucket_is_the_first_moment(lib, policy, steps, cost):
    core = limits.Core(lib, 1)

    for step in steps:
        core.now += int(step["after"] * span(policy))
        answer = core([policy], cost=cost, n=step["n"])

        if answer.granted == step["n"] or answer.relief == NEVER:
            continue

        refused, state = core.now, core.state()

        core.now = refused + (answer.relief - 1) * 1000
        assert core([policy], cost=cost, n=0).left[0] < cost
        core.now = refused + answer.relief * 1000
        assert core([policy], cost=cost, n=0).left[0] >= cost

        core.now = refused
        assert core.state() == state


def test_a_bucket(core):
    """Its burst at once, then its rate, to the microsecond."""
    policy = [Policy(10, 1, burst=3)]
    answer = core(policy, n=5)
    assert (answer.granted, answer.left, answer.refusing) == (3, [0], 1)
    assert answer.relief in (100, 101)
    assert answer.reset[0] in (300, 301)

    core.now += 100001
    assert core(policy).granted == 1
    assert core(policy).granted == 0
    core.now += SECOND
    assert core(policy, n=9).granted == 3


@pytest.mark.parametrize("rate", [
    Policy(10 ** 9, 1, 10 ** 9), Policy(10 ** 9, 86400, 10 ** 9),
    Policy(1, 86400, 30), Policy(7, 60, 7), Policy(999999999, 60, 3)])
def test_a_bucket_gives_its_rate(core, rate):
    """Rounding loses less than a millionth, and never gives more."""
    whole = core([rate], n=4294967295).granted
    assert whole == rate.burst

    after = min(span(rate) / 2, 3600 * SECOND * 24)
    core.now += int(after)
    due = int(after) * rate.requests / (rate.window * SECOND)
    granted = core([rate], n=4294967295).granted

    assert due * (1 - 2e-6) - 1 <= granted <= due


def test_burst_is_at_most_what_fills_in_30_days(core):
    assert core([Policy(1, 86400, 10 ** 9)], n=100).granted == 30


def test_a_lease_is_an_eighth_of_what_is_left(core):
    policy = [Policy(100, 60)]
    life = core.life(policy)

    answer = core(policy, n=4, want=1000, life=life)
    assert (answer.granted, answer.lease, answer.left) == (4, 12, [84])
    assert answer.moment == core.now

    answer = core(policy, n=77, want=1000, life=life)
    assert (answer.granted, answer.lease, answer.left) == (77, 0, [7])
    answer = core(policy, n=9, want=1000, life=life)
    assert (answer.granted, answer.lease, answer.refusing) == (7, 0, 1)


def test_a_lease_is_of_what_the_tightest_has(core):
    answer = core([Policy(1000, 60), Policy(17, 60)], want=1000, life=16000)

    assert (answer.granted, answer.lease, answer.left) == (1, 2, [997, 14])


def test_a_lease_counts_until_a_window_after_its_last_moment(core):
    policy = [Policy(100, 60)]
    life = core.life(policy)
    assert life == SECOND
    assert core(policy, want=5, life=life).lease == 5

    core.now += 60 * SECOND + life - 1
    assert core(policy, n=0).left == [94]
    core.now += 1
    assert core(policy, n=0).left == [100]


def test_batch_gets_as_many_as_fit(core):
    answer = core([Policy(10, 60), Policy(20, 60)], cost=3, n=5)

    assert (answer.granted, answer.refusing, answer.left) == (3, 1, [1, 11])
    assert answer.relief == 60000


def test_looking_spends_nothing(core):
    policies = [Policy(5, 60), Policy(5, 1, 5)]
    core(policies, n=2)
    before = [core.state(0), core.state(1)]
    answer = core(policies, n=0)

    assert (answer.granted, answer.left, answer.refusing) == (0, [3, 3], 0)
    assert [core.state(0), core.state(1)] == before


def test_dry_refuses_nothing_and_says_so(core):
    policies = [Policy(5, 60), Policy(2, 60, dry=True)]
    seen = []
    for _ in range(6):
        answer = core(policies)
        seen.append((answer.granted, answer.dry, answer.refusing))

    assert seen == [(1, 0, 0)] * 2 + [(1, 2, 0)] * 3 + [(0, 2, 1)]
    assert core(policies, n=0).left == [0, 0]


@pytest.mark.parametrize("policy", [Policy(64, 60), Policy(64, 60, 64)])
def test_debt_is_added_and_holds_back(core, policy):
    """What was admitted without asking is charged, beyond the limit too, and
    also when nothing is granted."""
    answer = core([policy], debt=70)
    assert (answer.granted, answer.left) == (0, [0])
    assert answer.relief > (6 if policy.burst else 59) * 1000

    core.now += answer.relief * 1000
    assert core([policy]).granted == 1


@pytest.mark.parametrize("policy", [Policy(64, 60), Policy(64, 60, 64)])
def test_debt_has_bounds(core, policy):
    """No debt shuts a partner out for good."""
    for _ in range(5):
        core([policy], debt=4294967295)
    core.now += 121 * SECOND

    assert core([policy], n=0).left == [64]


def leased(core, policy, want=8):
    """Spends 10, then leases; returns what the lease is."""
    core([policy], n=10)
    core.now += 1
    answer = core([policy], want=want, life=core.life([policy]))
    assert answer.lease == want
    return dict(since=answer.moment, lived=core.life([policy]))


def test_what_is_left_of_a_lease_comes_back(core):
    policy = Policy(100, 60)
    lease = leased(core, policy)
    assert core([policy], n=0).left == [81]

    assert core([policy], n=0, back=5, **lease).left == [86]
    assert core([policy], n=0).left == [86]


def test_what_comes_back_later_comes_back(core):
    """Others have spent since, in slices of their own."""
    policy = Policy(100, 60)
    lease = leased(core, policy)
    for _ in range(3):
        core.now += SECOND
        core([policy], n=3)
    before = core([policy], n=0).left[0]

    assert core([policy], n=0, back=5, **lease).left == [before + 5]


@pytest.mark.parametrize("policy", [Policy(100, 60), Policy(100, 60, 100)])
def test_nothing_comes_back_to_another_state(core, policy):
    """Redis was emptied: what is there now, others have spent."""
    lease = leased(core, policy)
    core.states[0].len = 0
    core.now += 1
    core([policy], n=20)
    state = core.state()

    assert core([policy], n=0, back=5, **lease).left == [80]
    assert core.state() == state


@pytest.mark.parametrize("policy", [Policy(100, 60), Policy(100, 60, 100)])
def test_nothing_comes_back_that_has_left_already(core, policy):
    lease = leased(core, policy)
    core.now += 90 * SECOND
    core([policy], n=20)

    assert core([policy], n=0, back=5, **lease).left == [80]


@pytest.mark.parametrize("rate", [Policy(1, 1, 60), Policy(60, 1, 54)])
def test_what_is_left_of_a_bucket_s_lease_comes_back(core, rate):
    """A caller who pauses for longer than a lease lives has all the same what
    the bucket holds, and what it got meanwhile."""
    life = core.life([rate])
    admitted, back, since = 0, 0, 0.0

    while True:
        answer = core([rate], n=4, want=8, back=back, since=since, lived=life,
                      life=life)
        admitted += answer.granted
        if answer.granted < 4:
            break
        back, since = answer.lease, answer.moment
        core.now += life + 1

    passed = core.now - 1700000000 * SECOND
    # A lease begins with a debt that its life pays off, of one request here.
    due = rate.burst + passed * rate.requests / (rate.window * SECOND)
    assert due - 2 < admitted <= due


def test_two_leases_of_a_bucket_come_back(core):
    policy = Policy(23, 1, 400)
    leases = [leased(core, policy)]
    core.now += 1
    leases.append(leased(core, policy))
    core.now += 1

    before = core([policy], n=0).left[0]
    assert core([policy], n=0, back=5, **leases[0]).left[0] == before + 5
    assert core([policy], n=0, back=8, **leases[1]).left[0] == before + 13


def test_a_bucket_s_lease_of_before_another_stays_spent(core):
    """Where not all of both can come back, the later one does."""
    policy = Policy(1, 1, 60)
    life = core.life([policy])
    leases = []
    for want in (2, 6):
        moment = core([policy], want=want, life=life).moment
        leases.append(dict(since=moment, lived=life))
        core.now += SECOND

    before = core([policy], n=0).left[0]
    assert core([policy], n=0, back=2, **leases[0]).left[0] == before
    assert core([policy], n=0, back=6, **leases[1]).left[0] == before + 6


def test_what_a_later_lease_needs_does_not_come_back(core):
    """Of 5 that are owed a lease makes 10, which its life pays off: so it may
    be used at its end, and a whole burst at the same moment.  The 20 of before
    are not in these 10."""
    policy = Policy(60, 1, 600)
    life = core.life([policy])
    first = core([policy], want=20, life=life)
    assert first.lease == 20

    core.now += 26 * SECOND // 60
    assert core([policy], want=4, life=life).lease == 4
    core.now += life

    assert 4 + core([policy], n=600, back=20, since=first.moment, lived=life,
                    life=life).granted <= 600


def test_what_time_has_paid_for_does_not_come_back(core):
    """Two leases, of which time has paid for one: taken back, both would be
    taken off what others spent."""
    policy = Policy(23, 1, 40)
    leases = []
    for _ in range(2):
        leases.append(leased(core, policy, want=1))
        core.now += 1
    core.now += SECOND

    used = core([policy], n=100).granted
    for lease in leases:
        core([policy], n=0, back=1, **lease)
        used += core([policy], n=100).granted

    assert used <= 40


def test_relief_counts_what_the_same_answer_grants(core):
    """Of two one is granted, in the slice of the one before: both count until
    its moment has left the window."""
    policy = Policy(2, 60)
    core([policy])
    core.now += SECOND // 2
    answer = core([policy], n=2)

    assert (answer.granted, answer.relief) == (1, 60000)
    core.now += 60 * SECOND
    assert core([policy], n=2).granted == 2


def test_more_than_an_entry_has_does_not_come_back(core):
    policy = Policy(100, 60)
    lease = leased(core, policy)
    core.now += SECOND * 5
    core([policy], n=20)

    # What was spent before the lease and after it is in other entries.
    assert core([policy], n=0, back=1000, **lease).left == [70]


def test_a_changed_rate_keeps_what_was_spent(core):
    """In a bucket too, whose debt is counted in requests."""
    assert core([Policy(60, 60, 40)], n=30).left == [10]
    assert core([Policy(600, 60, 40)], n=0).left == [10]
    assert core([Policy(60, 60, 35)], n=0).left == [5]
