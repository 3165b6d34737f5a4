"""A minute of scripts/prove-limits, and what the proof itself rests on."""

import random
import time

import pytest

from harness.limits import SECOND, Policy
from prove import check, history, load, many, mutants, pinned

SECONDS = 60


def spans(moments, cost=1, wait=0.001):
    return [(at, at + wait, cost) for at in moments]


def fullest(found, window=1.0, limit=10):
    return check.worst_window(found, window, lambda start, end: limit)


def test_check_counts_a_window_wherever_it_starts():
    """A burst around the border of a fixed window is twice the limit."""
    found = spans([0.9 + i / 100 for i in range(20)])

    assert fullest(found)[:3] == (2.0, 20, 10)


def test_check_sees_one_too_many():
    assert fullest(spans([0.0] * 10 + [0.998]))[1] == 11
    assert fullest(spans([0.0] * 10 + [1.0]))[1] == 10


def test_check_counts_costs():
    assert fullest(spans([0, 0.1, 0.2], cost=4))[1] == 12


def test_check_counts_what_is_certain_only():
    """One that may have been admitted after the window is not in it."""
    found = spans([0.0] * 10) + [(0.5, 1.5, 1)]

    assert fullest(found)[1] == 10


def test_check_asks_for_the_limit_of_the_time():
    found = spans([0.0] * 20 + [5.0] * 11)

    ratio, count, limit, start = check.worst_window(
        found, 1.0, lambda start, end: 20 if start < 3 else 10)

    assert (ratio, count, limit, start) == (1.1, 11, 10, 5.0)


def test_check_sees_one_too_many_of_a_bucket():
    """Its burst of 3, and one for each tenth of a second."""
    assert check.worst_stretch(spans([0, 0, 0, 0.1, 0.2]), 3, 10)[0] <= 1
    ratio, count, limit, start, length = check.worst_stretch(
        spans([0, 0, 0, 0.05], wait=0), 3, 10)
    assert (count, limit, start) == (4, 3.5, 0)
    assert ratio > 1


def test_history_sees_one_too_many_at_its_moment():
    book = history.Book(Policy(2, 1))
    for at in (0, 10, 1000000):
        book.admitted.append((at, 1))
        book.check(at, True)

    book.admitted.append((1000009, 1))
    with pytest.raises(history.Broken):
        book.check(1000009, True)


def test_history_sees_a_refusal_without_a_reason():
    """Two slices late is late enough."""
    book = history.Book(Policy(2, 60))
    book.charge(0, 2)

    assert book.full(62 * SECOND, 1)
    assert not book.full(62 * SECOND + 1, 1)


def test_history_is_not_off_by_the_floats_of_a_date():
    """Single requests of a bucket whose pace is no whole number of us."""
    now = history.EPOCH
    book = history.Book(Policy(262, 1, burst=263))
    for _ in range(263):
        book.charge(now, 1)
    book.charge(now + SECOND, 261)

    assert book.full(now + SECOND, 1)
    assert not book.full(now + SECOND + 20, 1)


def test_greedy_is_a_perfect_window():
    assert check.greedy([0, 0.1, 0.2, 1.0, 1.05, 1.1], 2, 1.0) == 4


def test_load_stamps_both_ends(make_gate):
    driver = load.Load()
    try:
        gate = make_gate(upstream=driver)
        flow = load.Flow(gate.port, "/v1/loads", gate.key().token, count=80)
        driver.wait(driver.begin(flow))
    finally:
        driver.close()

    admitted, refused = driver.requests[:60], driver.requests[60:]
    assert all(r.status == 200 and r.sent < r.arrived < r.answered
               for r in admitted)
    assert len(refused) == 20
    assert all(r.status == 429 and r.arrived is None and r.retry_after > 50
               for r in refused)


def test_load_sends_however_late_it_is():
    """Else a busy machine has scenarios without what they begin with."""
    driver = load.Load()
    try:
        flow = load.Flow(driver.port, "/v1/loads", "t", conns=2)
        now = time.monotonic()
        driver.wait(driver.begin(flow, now - 2, now - 1))
    finally:
        driver.close()

    assert len(driver.requests) == 2


def test_there_are_mutants():
    assert mutants.names()


@pytest.mark.proof
@pytest.mark.seconds(4 * SECONDS)
def test_limits_hold():
    answers, figures = many.prove(SECONDS, random.randrange(10**9))

    # What nothing was asked of proves nothing.
    assert answers.admissions > 0
    assert figures.scenarios >= len(pinned.SCENARIOS)
    assert figures.full > 0
    assert figures.recoveries > 0
    assert figures.retries > 0
