"""What is leased of limits, in the zone by itself."""

import pytest

from zone_programs import build, check_run

pytestmark = pytest.mark.dynamic


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zone"), "limits.c", "filled.c",
                 "killed.c")


def test_two_leases_that_end_at_once_both_go_back(program):
    """What the smaller had left was lost until the window had passed."""
    check_run(program, "back")


def test_a_denial_waits_for_neither_of_two_that_go_back(program):
    check_run(program, "denied")


def test_of_two_leases_the_second_is_looked_at_too(program):
    """A dear request asked Redis for what the node held, and a third lease
    took the second one's place."""
    check_run(program, "second")


def test_the_next_lease_is_not_asked_for_in_vain(program):
    """Every request of a lease did, where Redis has nothing more to lease."""
    check_run(program, "renew")


def test_a_lease_is_for_the_rates_it_was_made_for(program):
    """A limit that was lowered let through what had been leased before, and
    told more to be left than there ever was."""
    check_run(program, "rates")


def test_who_waited_for_a_lock_is_behind(program):
    """He told that all was there again, and the demand was forgotten."""
    check_run(program, "behind")


def test_what_one_who_died_has_torn_is_forgotten(program):
    """A lease would be there twice over; the others' stay."""
    check_run(program, "torn")


def test_workers_killed_anywhere_use_no_more_than_was_leased(program):
    """In a lock as well, and nobody hangs there."""
    assert "inside a lock" in check_run(program, "kill", "4")
