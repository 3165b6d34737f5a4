"""The records of the zone by themselves: what goes when there is no room, what
a lookup costs, who asks Redis, and workers killed wherever they are."""

import pytest

from zone_programs import build, check_run

pytestmark = pytest.mark.dynamic


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zone"), "records.c", "filled.c")


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zone"), "workers.c", "filled.c",
                 "killed.c")


def test_the_least_recently_used_go_first(records):
    check_run(records, "lru")


def test_absences_have_their_share_and_no_more(records):
    """A flood of unknown keys pushes out no record."""
    check_run(records, "absences")


def test_a_full_zone_goes_on(records):
    check_run(records, "full")


def test_a_warm_lookup_takes_one_lock_of_one_shard(records):
    check_run(records, "locks")


def test_a_change_keeps_out_what_redis_said_before_it(records):
    """But not what a node counted itself, which is lost then and admitted
    again."""
    check_run(records, "changed")


def test_names_of_one_hash_are_names_of_their_own(records):
    """A digest's first bytes are its hash: only the rest tells whose it is."""
    check_run(records, "names")


def test_a_record_is_read_as_it_was_written(records):
    """Of every length, from all of its blocks."""
    check_run(records, "bytes")


def test_a_zone_of_another_layout_is_not_used(records):
    """As when nginx reloads with the module replaced: the reload fails."""
    check_run(records, "layout")


@pytest.mark.parametrize("megabytes", [16, 64, 320])
def test_a_typical_key_costs_at_most_256_bytes(records, megabytes):
    """Of the whole zone, with all else that is in it."""
    assert 0 < int(check_run(records, "room", str(megabytes))) <= 256


def test_of_several_workers_one_asks(workers):
    check_run(workers, "asked")


def test_workers_killed_anywhere_hang_nobody(workers):
    """In a lock as well: its shard is emptied, the others stay."""
    assert "inside a lock" in check_run(workers, "kill", "6")
