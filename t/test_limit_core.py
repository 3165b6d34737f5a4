"""The script in Redis and src/core decide alike: the same answers and the same
bytes, over generated histories."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import limits, scripts
from harness.limits import SECOND, Policy


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    return limits.library(tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return scripts.shipped(tmp_path_factory.mktemp("scripts"))["limit"]


WINDOWS = st.sampled_from([1, 60, 3600, 86400])
POLICY = st.builds(
    Policy,
    requests=st.one_of(st.integers(1, 30), st.integers(1, 10 ** 9)),
    window=WINDOWS,
    burst=st.one_of(st.just(0), st.just(0), st.integers(1, 30),
                    st.integers(1, 10 ** 9)),
    dry=st.sampled_from([False, False, False, True]))

# Parts of the first policy's window; some go back, some by more than all of
# it.
STEP = st.fixed_dictionaries({
    "after": st.one_of(st.just(0.0), st.floats(0, 0.02), st.floats(0, 0.2),
                       st.floats(0, 2.5), st.sampled_from([-0.4, -3.0])),
    "cost": st.sampled_from([1, 1, 1, 2, 5, 40]),
    "n": st.sampled_from([1, 1, 1, 1, 0, 3, 50]),
    "want": st.sampled_from([0, 0, 1, 5, 1000]),
    "debt": st.sampled_from([0, 0, 0, 0, 1, 30, 10 ** 9]),
    "back": st.sampled_from([0, 0, 1, 3, 10 ** 6]),
})


def check_alike(redis, lib, text, policies, steps):
    script = limits.Script(redis, lib, text, clock=True)
    core = limits.Core(lib, len(policies))
    life = core.life(policies)
    since = 0.0

    for step in steps:
        step = dict(step)
        script.now += int(step.pop("after") * policies[0].window * SECOND)
        core.now = script.now
        asked = dict(step, since=since, lived=life, life=life)

        answer = script(policies, **asked)
        assert core(policies, **asked) == answer
        for i in range(len(policies)):
            assert core.state(i) == script.state(i)

        since = answer.moment or since


@settings(max_examples=150, deadline=None)
@given(policies=st.lists(POLICY, min_size=1, max_size=3),
       steps=st.lists(STEP, min_size=1, max_size=30))
def test_they_decide_alike(redis, lib, text, policies, steps):
    check_alike(redis, lib, text, policies, steps)


@settings(max_examples=25, deadline=None)
@given(policy=st.builds(Policy, st.sampled_from([90, 300, 6000]), WINDOWS),
       steps=st.lists(STEP, min_size=5, max_size=20),
       pace=st.floats(0.004, 0.03))
def test_they_decide_alike_over_many_slices(redis, lib, text, policy, steps,
                                            pace):
    """Slices fill blocks, blocks fill the ring, and all of it is emptied
    again."""
    often = [dict(after=pace, cost=1, n=1, want=0, debt=0, back=0)] * 90
    check_alike(redis, lib, text, [policy], often + steps + often)


@pytest.mark.parametrize("moments, n", [
    ([0.1, 0.6, 60.05, 60.3, 60.4], 1),     # its expiry has to move
    ([0.1, 30.1, 60.3, 90.05, 90.2], 1),    # the oldest leaves
    ([0.1, 1.1, 1.2, 2.1], 1),              # another slice begins
    ([0.1, 1.1, 1.2, 1.3], 299),            # there is room for one more
    ([0.1, 1.1, 0.9, 1.05], 1),             # the clock is set back
])
def test_they_decide_alike_where_most_is_as_it_was(redis, lib, text, moments,
                                                   n):
    """A request after another of its slice, s: the script has a shorter way,
    and each of these is just beyond it."""
    steps = [dict(after=(moment - before) / 60, cost=1, n=n if i == 0 else 1,
                  want=0, debt=0, back=0)
             for i, (before, moment) in enumerate(zip([0.0] + moments,
                                                      moments))]
    check_alike(redis, lib, text, [Policy(300, 60)], steps)


@settings(max_examples=60, deadline=None)
@given(first=POLICY, second=POLICY,
       steps=st.lists(STEP, min_size=2, max_size=10))
def test_they_take_a_changed_rate_alike(redis, lib, text, first, second,
                                        steps):
    """A bucket's state keeps what was spent, counted in the new rate."""
    if bool(first.burst) != bool(second.burst):
        second = Policy(second.requests, second.window, first.burst)
    second = Policy(second.requests, first.window, second.burst)

    script = limits.Script(redis, lib, text, clock=True)
    core = limits.Core(lib, 1)

    for i, step in enumerate(steps):
        step = dict(step)
        script.now += int(abs(step.pop("after")) * SECOND)
        core.now = script.now
        policy = [first, second][i % 2]
        assert core([policy], **step) == script([policy], **step)
        assert core.state() == script.state()


def test_they_take_a_large_debt_to_a_slow_rate_alike(redis, lib, text):
    """A thousand million requests of debt, each of which comes to count as a
    day: in microseconds more than 64 bits hold."""
    fast = Policy(10 ** 9, 86400, burst=10 ** 9)
    slow = Policy(1, 86400, burst=10 ** 9)
    script = limits.Script(redis, lib, text, clock=True)
    core = limits.Core(lib, 1)

    for policy, asked in [(fast, dict(debt=10 ** 9)), (slow, {}), (slow, {})]:
        answer = script([policy], **asked)
        assert core([policy], **asked) == answer
        assert core.state() == script.state()

    assert answer.granted == 0 and answer.left == [0]
