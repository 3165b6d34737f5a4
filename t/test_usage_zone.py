"""The usage table of the zone by itself: workers killed wherever they are,
midnight, clocks that differ, and no room left."""

import pytest

from zone_programs import build, check_run

pytestmark = pytest.mark.dynamic


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zone"), "usage.c")


def test_workers_killed_anywhere_lose_nothing(program):
    """In a lock as well, and while a flight is on its way: each request that
    was counted is added, and once."""
    assert "inside a lock" in check_run(program, "kill", "6")


def test_midnight(program):
    check_run(program, "days")


def test_a_clock_that_is_behind_takes_over_nothing(program):
    """Two workers took turns, and each flushed at once."""
    check_run(program, "sender")


def test_no_room(program):
    check_run(program, "full")
