"""resolve.lua in a real Redis: what it says, what it frees, and what may come
of a claim that was freed."""

import pytest

from test_scripts import HOUR, OTHER, OWNER, idem, texts  # noqa: F401


def claimed_as(idem, state, owner=OWNER):
    """A claim in a state that an operator may free."""
    if state == "over":
        idem.claim(owner, lease=1)
        while idem.resolve("show")[0] != b"unknown":
            pass
    else:
        idem.claim(owner)
        idem.settle(state, owner, b"sealed")


@pytest.mark.parametrize("state, told", [
    ("unknown", b"unknown"), ("over", b"unknown"), ("complete", b"completed"),
    ("tombstone", b"unavailable")])
def test_freed(idem, state, told):
    claimed_as(idem, state)
    assert idem.resolve("show")[0] == told
    assert not idem.client.exists("freed")

    assert idem.resolve()[::4] == [told, 1]
    assert idem.resolve() == idem.resolve("show") == []
    assert idem.claim(OTHER) == [b"claimed"]


def test_what_is_running_is_not_freed(idem):
    idem.claim()
    assert idem.resolve()[::4] == [b"in_progress", 0]
    assert idem.resolve("show")[0] == b"in_progress"
    assert not idem.client.exists("freed")


@pytest.mark.parametrize("state, again", [
    ("unknown", "unknown"), ("over", "unknown"), ("complete", "complete"),
    ("tombstone", "tombstone"), ("complete", "unknown"),
    ("tombstone", "unknown")])
def test_outcome_that_is_sent_again_brings_nothing_back(idem, state, again):
    """Its acknowledgement was lost; the operator has heard of it, though."""
    claimed_as(idem, state)
    idem.resolve()

    assert idem.settle(again, answer=b"sealed") == 1
    assert not idem.client.exists("idem")
    assert idem.claim(OTHER) == [b"claimed"]
    assert idem.settle(again, answer=b"sealed") == 0


@pytest.mark.parametrize("state", ["unknown", "over"])
@pytest.mark.parametrize("late, told", [("complete", b"completed"),
                                        ("tombstone", b"unavailable")])
def test_what_the_operator_did_not_know_counts(idem, state, late, told):
    """It was executed after all: it must not be executed again."""
    claimed_as(idem, state)
    idem.resolve()

    assert idem.settle(late, answer=b"sealed") == 1
    assert idem.claim(OTHER)[0] == told
    assert HOUR - 5000 < idem.client.pttl("idem") <= HOUR


def test_another_owner_is_not_held_off(idem):
    """A claim that Redis has lost: nobody has freed that one."""
    claimed_as(idem, "unknown")
    idem.resolve()

    assert idem.settle("unknown", OTHER) == 1
    assert idem.resolve("show")[0] == b"unknown"


def test_freed_more_than_once(idem):
    """The outcomes of all of them may still be on their way, also when there
    is no record in between."""
    owners = [bytes([i]) * 16 for i in range(8)]

    for owner in owners:
        claimed_as(idem, "unknown", owner)
        idem.resolve()

    idem.claim(OTHER)
    idem.settle("release", OTHER)
    for owner in owners:
        assert idem.settle("unknown", owner) == 1
        assert not idem.client.exists("idem")

    assert 0 < idem.client.pttl("freed") <= 24 * HOUR
    claimed_as(idem, "unknown")
    idem.resolve()
    assert idem.client.strlen("freed") == 8 * 17


def test_full_redis(make_redis, texts):  # noqa: F811
    """To free a key takes no memory to speak of."""
    from test_scripts import Idem

    server = make_redis()
    one = Idem(server, texts)
    claimed_as(one, "unknown")
    server.client.config_set("maxmemory", 1)

    assert one.resolve()[::4] == [b"unknown", 1]
    server.client.config_set("maxmemory", 0)
    assert one.settle("unknown") == 1
    assert not server.client.exists("idem")
