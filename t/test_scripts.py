"""The scripts Redis runs, in a real Redis: claims, their settlement, records
that are compared and set; and how scripts become a part of the module.  Those
of limits are in test_scripts_limit.py."""

import concurrent.futures
import os
import struct
import time

import pytest
import redis as redis_py

from harness import scripts

OWNER = b"o" * 16
OTHER = b"p" * 16
PRINT_A = b"\x00" * 32
PRINT_B = b"\xff" * 32
HOUR = 3600000


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return scripts.shipped(tmp_path_factory.mktemp("scripts"))


class Idem:
    """claim.lua, settle.lua and resolve.lua on one record."""

    def __init__(self, redis, texts):
        self.client = redis.client
        self.client.flushall()
        self._claim = self.client.register_script(texts["claim"])
        self._settle = self.client.register_script(texts["settle"])
        self._resolve = self.client.register_script(texts["resolve"])

    def claim(self, owner=OWNER, fingerprint=PRINT_A, lease=30000, id="req_1",
              retention=HOUR, on_unknown="refuse", inline=0):
        return self._claim(keys=["idem"], args=[
            owner, fingerprint, lease, retention, id, "POST /v1/loads",
            on_unknown, inline])

    def settle(self, action, owner=OWNER, answer=b"", id="req_1"):
        return self._settle(keys=["idem", "freed"], args=[
            action, owner, PRINT_A, HOUR, id, "POST /v1/loads", answer])

    def renew(self, owner=OWNER, lease=30000):
        return self._settle(keys=["idem"], args=["renew", owner, lease])

    def resolve(self, action="resolve"):
        return self._resolve(keys=["idem", "freed"], args=[action])

    def expired(self):
        """Claims with a lease that is over at once."""
        assert self.claim(lease=1) == [b"claimed"]
        time.sleep(0.01)


@pytest.fixture
def idem(redis, texts):
    return Idem(redis, texts)


def test_claim_is_exclusive(idem):
    assert idem.claim() == [b"claimed"]
    time.sleep(0.05)

    state, age = idem.claim(owner=OTHER, id="req_2")
    assert state == b"in_progress"
    assert 50 <= age < 5000


def test_one_of_many_claims(idem):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: idem.claim(owner=os.urandom(16)),
                                range(64)))

    assert replies.count([b"claimed"]) == 1
    assert all(reply[0] == b"in_progress" for reply in replies
               if reply != [b"claimed"])


def test_claim_again_by_its_owner(idem):
    """Its reply was lost; the lease runs from the second one."""
    idem.expired()
    assert idem.claim() == [b"claimed"]
    assert idem.claim(owner=OTHER)[0] == b"in_progress"


def test_another_request_is_a_conflict(idem):
    assert idem.claim() == [b"claimed"]
    assert idem.claim(owner=OTHER, fingerprint=PRINT_B) == [b"conflict"]

    assert idem.settle("complete", answer=b"sealed") == 1
    assert idem.claim(owner=OTHER, fingerprint=PRINT_B) == [b"conflict"]


def test_completed(idem):
    sealed = bytes(range(256)) * 300
    idem.claim()
    assert idem.settle("complete", answer=sealed) == 1
    assert idem.claim(owner=OTHER, id="req_2") \
        == [b"completed", sealed, b"req_1"]


def test_completed_with_a_large_answer(idem):
    """It does not come where it would hold up others."""
    idem.claim()
    idem.settle("complete", answer=b"x" * 1000)

    assert idem.claim(owner=OTHER, inline=999) == [b"large"]
    assert idem.claim(owner=OTHER, inline=1000)[0] == b"completed"
    assert idem.claim(owner=OTHER, fingerprint=PRINT_B, inline=1) \
        == [b"conflict"]


def test_completed_with_an_empty_answer(idem):
    idem.claim()
    assert idem.settle("complete") == 1
    assert idem.claim(owner=OTHER) == [b"completed", b"", b"req_1"]


def test_tombstone(idem):
    idem.claim()
    assert idem.settle("tombstone", answer=b"not kept") == 1
    assert idem.claim(owner=OTHER) == [b"unavailable", b"req_1"]
    assert b"not kept" not in idem.client.get("idem")


def test_lease_over_is_unknown_for_good(idem):
    """The upstream may have executed it: nobody may run it again."""
    idem.expired()
    assert idem.claim(owner=OTHER, id="req_2") == [b"unknown", b"req_1"]
    assert idem.claim(owner=OTHER, id="req_3") == [b"unknown", b"req_1"]
    assert idem.claim() == [b"unknown", b"req_1"]
    assert idem.renew() == 0


def test_late_completion_of_an_unknown(idem):
    idem.expired()
    assert idem.claim(owner=OTHER)[0] == b"unknown"
    assert idem.settle("complete", answer=b"late") == 1
    assert idem.claim(owner=OTHER) == [b"completed", b"late", b"req_1"]


def test_late_release_of_an_unknown(idem):
    idem.expired()
    assert idem.claim(owner=OTHER)[0] == b"unknown"
    assert idem.settle("release") == 1
    assert idem.claim(owner=OTHER) == [b"claimed"]


@pytest.mark.parametrize("lost", ["lease", "told"])
def test_unknown_is_taken_over(idem, lost):
    """on_unknown=forward: a claim of its own, fenced against the first."""
    if lost == "lease":
        idem.expired()
    else:
        idem.claim()
        idem.settle("unknown")
    idem.client.pexpire("idem", 5000)

    assert idem.claim(OTHER, PRINT_B, on_unknown="forward") == [b"conflict"]
    assert idem.claim(OTHER, id="req_2", on_unknown="forward") == [b"claimed"]
    assert idem.client.pttl("idem") > HOUR - 60000
    assert idem.settle("complete", answer=b"late") == 0
    assert idem.settle("release") == 0
    assert idem.claim(b"q" * 16, on_unknown="forward")[0] == b"in_progress"
    assert idem.settle("complete", OTHER, b"sealed") == 1
    assert idem.claim(b"q" * 16, on_unknown="forward") \
        == [b"completed", b"sealed", b"req_2"]


def test_unknown(idem):
    idem.claim()
    assert idem.settle("unknown") == 1
    assert idem.settle("unknown") == 1
    assert idem.claim(owner=OTHER) == [b"unknown", b"req_1"]


def test_release(idem):
    idem.claim()
    assert idem.settle("release") == 1
    assert not idem.client.exists("idem")
    assert idem.settle("release") == 1
    assert idem.claim(owner=OTHER) == [b"claimed"]


@pytest.mark.parametrize("action",
                         ["complete", "tombstone", "unknown", "release"])
def test_only_the_owner_settles(idem, action):
    idem.claim()
    before = idem.client.get("idem")
    assert idem.settle(action, owner=OTHER, answer=b"forged") == 0
    assert idem.client.get("idem") == before


@pytest.mark.parametrize("final", ["complete", "tombstone"])
def test_final_is_final(idem, final):
    idem.claim()
    assert idem.settle(final, answer=b"first") == 1
    before = idem.client.get("idem")

    assert idem.settle(final, answer=b"second") == 1
    for action in {"complete", "tombstone", "unknown", "release"} - {final}:
        assert idem.settle(action, answer=b"second") == 0
    assert idem.renew() == 0
    assert idem.client.get("idem") == before


@pytest.mark.parametrize("action, seen", [
    ("complete", [b"completed", b"sealed", b"req_1"]),
    ("tombstone", [b"unavailable", b"req_1"]),
    ("unknown", [b"unknown", b"req_1"]),
])
def test_a_record_that_has_gone_is_written_again(idem, action, seen):
    """Redis came back empty: the write must not run again all the same."""
    assert idem.settle(action, answer=b"sealed") == 1
    assert (b"sealed" in idem.client.get("idem")) == (action == "complete")
    assert 0 < idem.client.pttl("idem") <= HOUR
    assert idem.claim(owner=OTHER) == seen
    assert idem.claim(owner=OTHER, fingerprint=PRINT_B) == [b"conflict"]


def test_renew(idem):
    assert idem.renew() == 0
    assert not idem.client.exists("idem")

    idem.claim(lease=60)
    assert idem.renew(owner=OTHER) == 0
    assert idem.renew() == 1
    time.sleep(0.1)
    assert idem.claim(owner=OTHER)[0] == b"in_progress"


def test_renew_of_a_lease_that_is_over(idem):
    idem.expired()
    assert idem.renew() == 1
    assert idem.claim(owner=OTHER)[0] == b"in_progress"


def test_renew_holds_the_key_past_the_retention(idem):
    idem.claim(lease=1000, retention=1000)
    assert idem.renew(lease=1000) == 1
    assert 1000 < idem.client.pttl("idem") <= 2000


def test_expiry_is_the_retention_from_the_claim(idem):
    """An expiry as the lock would be permission to run twice."""
    def left():
        return idem.client.pttl("idem")

    idem.claim(lease=1, retention=HOUR)
    assert HOUR - 5000 < left() <= HOUR

    for step in (lambda: idem.claim(lease=1), idem.renew,
                 lambda: idem.settle("unknown"),
                 lambda: idem.settle("complete", answer=b"x")):
        idem.client.pexpire("idem", 100000)
        step()
        assert 90000 < left() <= 100000

    idem.client.delete("idem")
    idem.expired()
    idem.client.pexpire("idem", 100000)
    assert idem.claim(owner=OTHER)[0] == b"unknown"
    assert 90000 < left() <= 100000


@pytest.mark.parametrize("spoil", [
    lambda record: b"\x02" + record[1:],
    lambda record: record[:-1],
    lambda record: record + b"\0",
    lambda record: record[:60],
    lambda record: b"",
], ids=["version", "short", "long", "cut", "empty"])
def test_a_strange_record_is_an_error(idem, spoil):
    """As absent it would let the write run a second time."""
    idem.claim()
    strange = spoil(idem.client.get("idem"))
    idem.client.set("idem", strange)

    for ask in (idem.claim, lambda: idem.settle("complete"),
                lambda: idem.settle("release"), idem.renew):
        with pytest.raises(redis_py.ResponseError, match="^KGSTATE "):
            ask()
    assert idem.client.get("idem") == strange


def test_a_state_that_is_none(idem):
    idem.claim()
    record = idem.client.get("idem")
    idem.client.set("idem", record[:1] + b"?" + record[2:])
    with pytest.raises(redis_py.ResponseError, match="^KGSTATE "):
        idem.claim(owner=OTHER)
    assert idem.settle("complete") == 0


@pytest.mark.parametrize("wrong", [
    lambda idem: idem.claim(owner=b"short"),
    lambda idem: idem.claim(fingerprint=b"short"),
    lambda idem: idem.claim(lease=0),
    lambda idem: idem.claim(retention=0),
    lambda idem: idem.claim(inline="x"),
    lambda idem: idem.settle("complete", owner=b"short"),
    lambda idem: idem.settle("finish"),
])
def test_arguments_of_claims(idem, wrong):
    with pytest.raises(redis_py.ResponseError, match="^KGARGS "):
        wrong(idem)
    assert not idem.client.exists("idem")


@pytest.fixture
def cas(redis, texts):
    redis.client.flushall()
    script = redis.client.register_script(texts["cas"])
    return lambda old, new: script(keys=["record"], args=[old, new])


def test_compare_and_set(redis, cas):
    assert cas("x", "y") == 0
    assert not redis.client.exists("record")

    redis.client.set("record", "")
    assert cas("", "one") == 0
    redis.client.delete("record")

    assert cas("", "one") == 1
    assert cas("", "two") == 0
    assert cas("other", "two") == 0
    assert redis.client.get("record") == b"one"

    assert cas("one", "two") == 1
    assert redis.client.get("record") == b"two"

    assert cas("one", "") == 0
    assert cas("two", "") == 1
    assert not redis.client.exists("record")


def test_compare_and_set_keeps_the_expiry(redis, cas):
    redis.client.set("record", "one", px=100000)
    assert cas("one", "two") == 1
    assert 90000 < redis.client.pttl("record") <= 100000


def test_compare_and_set_loses_no_edit(redis, cas):
    """Each adds one, from what it read; none is overwritten unseen."""
    redis.client.set("record", "0")

    def add(_):
        while True:
            seen = redis.client.get("record")
            if cas(seen, str(int(seen) + 1)):
                return

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(100)))
    assert redis.client.get("record") == b"100"


def test_scripts_touch_their_keys_alone(make_redis, texts):
    """As a user who may touch those keys and no others."""
    server = make_redis(acl={"gate": "on >pw ~mine:* +eval +time +get +set "
                             "+del +getrange +setrange +pexpire"})
    client = server.connect(username="gate", password="pw")

    assert client.eval(texts["limit"], 2, "mine:a", "mine:b", struct.pack(
        "<IBIIBII", 1, 0, 5, 60, 0, 5, 60))[:4] == b"\1\0\0\0"
    assert client.eval(texts["claim"], 1, "mine:c", OWNER, PRINT_A, 1000,
                       HOUR, "req_1", "route", "refuse", 0) == [b"claimed"]
    assert client.eval(texts["resolve"], 2, "mine:c", "mine:f", "show")[0] \
        == b"in_progress"
    assert client.eval(texts["settle"], 2, "mine:c", "mine:f", "complete",
                       OWNER, PRINT_A, HOUR, "req_1", "route", b"x") == 1
    assert client.eval(texts["resolve"], 2, "mine:c", "mine:f", "resolve")[4] \
        == 1
    assert client.eval(texts["cas"], 1, "mine:d", "", "x") == 1
    client.close()


def test_embedded_text_is_the_script(tmp_path):
    file = tmp_path / "odd.lua"
    file.write_text("-- a comment\n\n    return '\"\\\\??= %d'\n\t-- more\n")
    assert scripts.compiled(tmp_path, file) == "return '\"\\\\??= %d'\n"


@pytest.mark.parametrize("text", [
    "return 1 -- after code\n",
    "return [[long]]\n",
    "--[[ a comment\nreturn 1 ]]\n",
])
def test_embedding_refuses_what_it_would_break(tmp_path, text):
    file = tmp_path / "wrong.lua"
    file.write_text(text)
    made = scripts.embed(file)
    assert made.returncode != 0
    assert "wrong.lua:1:" in made.stderr


def test_embedded_script_within_another(tmp_path):
    """A function of what the script takes, whose returns are its own."""
    (tmp_path / "one.lua").write_text("local n = ARGV[1]\nreturn n + 1\n")
    file = tmp_path / "two.lua"
    file.write_text("local more = script('one')\nreturn more(KEYS, ARGV)\n")
    assert scripts.compiled(tmp_path, file) == (
        "local function more(KEYS, ARGV)\nlocal n = ARGV[1]\nreturn n + 1\n"
        "end\nreturn more(KEYS, ARGV)\n")


@pytest.mark.parametrize("text, where", [
    ("local more = script('missing')\n", "missing.lua"),
    ("local more = script('../one')\n", "two.lua:1:"),
    ("more = script('one')\n", "two.lua:1:"),
    ("return script('one')(KEYS, ARGV)\n", "two.lua:1:"),
    ("local more = script('two')\n", "two.lua:1:"),
])
def test_embedding_refuses_another_script(tmp_path, text, where):
    """That is not there, not beside it, no function, or itself."""
    (tmp_path / "one.lua").write_text("return 1\n")
    file = tmp_path / "two.lua"
    file.write_text(text)
    made = scripts.embed(file)
    assert made.returncode != 0
    assert where in made.stderr
