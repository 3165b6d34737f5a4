"""The schema of records in docs/keys.md: each member at its bounds is accepted
and beyond them refused, and the page names them all."""

import json
import re

import pytest

from test_docs_keys import PAGE

# What is written is what the next request sees, not one some milliseconds on.
GATE = dict(zone="keygate_zone zone=keygate:1m valid=0s negative=0s;")


def members(kind):
    """{member: its row} of a table of the page."""
    text = PAGE.read_text("utf-8").split(f"**`kg:{kind}:", 1)[1]
    table = re.search(r"^\| member .*?\n\n", text, re.M | re.S)[0]
    found = {}
    for names, row in re.findall(r"^\| (`[^|]*`) \| (.*)$", table, re.M):
        for name in re.findall(r"`(\w+)`", names):
            found[name] = row
    return found


DATE = "2027-01-01T00:00:00Z"
PAST = "2020-01-01T00:00:00+05:30"

# What each member may be, at its bounds, and what it may not.  A key that is
# accepted is one that works.
KEY = {
    "v": ([1], ["1", 1.0, True, 2, 0, -1, None]),
    "id": (["key_a", "key_" + "Z9" * 30],
           ["key_", "key_" + "a" * 61, "key_a_b", "a", 1, None]),
    "org": ([], ["", "a" * 65, "a.b", "a b", 1, None]),
    "mode": (["test"], ["Test", "prod", "", 1, None]),
    "scopes": ([["loads:read"], ["*"], ["loads:*", "a" * 128],
                ["loads:read"] * 64],
               [["loads:read"] * 65, ["a" * 129], ["A"], [""], [1], "*", {},
                None]),
    "name": (["", "n" * 255, "Ä", None], ["n" * 256, 1, []]),
    "hint": (["", "h" * 255, None], ["h" * 256, 1]),
    "pepper": (["00000000", "0a1b2c3d", None],
               ["0A1B2C3D", "0a1b2c3", "0a1b2c3d4", 12345678]),
    "legacy": ([True, False, None], ["true", 1, {}]),
    "ceilings": ([True, False, None], ["true", 1, {}]),
    "rotatedTo": (["key_a", None], ["key_", "a", 1]),
    "limits": ([{}, {"default": "1r/s"}, {"default": "1000000000r/d"},
                {"no-such_1": "5r/h"}, {f"p{n}": "1r/m" for n in range(16)},
                None],
               [{f"p{n}": "1r/m" for n in range(17)}, {"A": "1r/m"},
                {"p" * 33: "1r/m"}, {"default": "0r/m"},
                {"default": "1000000001r/m"}, {"default": "1r/w"},
                {"default": "01r/m"}, {"default": 1}, [], "1r/m"]),
    "allow": ([[], ["127.0.0.1"], ["127.0.0.0/8", "2001:db8::/32"],
               ["::ffff:127.0.0.0/104"], ["127.0.0.1"] * 64, None],
              [["127.0.0.1"] * 65, ["127.0.0.1/8"], ["localhost"], [""],
               ["127.0.0.1/33"], ["127.0.0.1/08"], [1], "127.0.0.1"]),
    "createdAt": ([DATE, PAST, "1970-01-01T00:00:00Z", None],
                  ["1969-12-31T23:59:59Z", "2027-01-01", "now", 0]),
    "notBefore": ([PAST, "2020-01-01t00:00:00.25z", None],
                  ["2027-02-30T00:00:00Z", "2027-01-01T00:00:00", 1]),
    "expiresAt": (["2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z", None],
                  ["10000-01-01T00:00:00Z", "2027-01-01 00:00:00", True]),
    "revokedAt": ([None], ["", "2027", False]),
}

ORG = {
    "v": KEY["v"],
    "access": (["test", "live"], ["LIVE", "", "prod", 1, None]),
    "name": KEY["name"],
    "plan": (["gold", "no-such_1", "p" * 32, None],
             ["GOLD", "p" * 33, "", 1, {}]),
    "limits": KEY["limits"],
    "createdAt": KEY["createdAt"],
}


def test_the_page_names_every_member():
    assert set(members("key")) == set(KEY)
    assert set(members("org")) == set(ORG)
    for kind, table in (("key", KEY), ("org", ORG)):
        for name, row in members(kind).items():
            assert ("required" in row) is (None in table[name][1]), name


@pytest.mark.parametrize("member", KEY)
def test_member_of_a_key(gate, member):
    right, wrong = KEY[member]
    key = gate.key()
    base = dict(key.record)

    for value in right:
        key.write(json.dumps({**base, member: value}))
        assert gate.get("/v1/loads", key=key).status == 200, value
    for value in wrong:
        key.write(json.dumps({**base, member: value}))
        before = len(gate.log())
        answer = gate.get("/v1/loads", key=key)
        assert (answer.status, answer.code) == (500, "internal_error"), value
        assert f'"{member}"' in gate.log()[before:], value


@pytest.mark.parametrize("member", ORG)
def test_member_of_an_organisation(gate, redis, member):
    right, wrong = ORG[member]
    key = gate.key()
    name = f"kg:org:{{{key.org}}}"
    base = {"v": 1, "access": "live"}

    for value in right:
        redis.client.set(name, json.dumps({**base, member: value}))
        assert gate.get("/v1/loads", key=key).status == 200, value
    for value in wrong:
        redis.client.set(name, json.dumps({**base, member: value}))
        answer = gate.get("/v1/loads", key=key)
        assert (answer.status, answer.code) == (500, "internal_error"), value


@pytest.mark.parametrize("record, status", [
    ({"later": {"a": [1]}}, 200),
    ({"revokedAt": "2099-01-01T00:00:00Z"}, 401),
    ({"mode": "live"}, 401),
    ({"scopes": []}, 403),
    ({"org": "nobody"}, 403),
])
def test_what_a_record_means(gate, record, status):
    key = gate.key()
    key.save(**record)

    assert gate.get("/v1/loads", key=key).status == status


@pytest.mark.parametrize("size, status", [(16384, 200), (16385, 500)])
def test_length_of_a_record(gate, size, status):
    key = gate.key()
    text = json.dumps({**key.record, "note": ""})
    key.write(text[:-2] + "n" * (size - len(text)) + text[-2:])

    assert gate.get("/v1/loads", key=key).status == status


def test_a_member_named_twice(gate):
    key = gate.key()
    key.write(json.dumps(key.record)[:-1] + ',"mode":"test"}')

    assert gate.get("/v1/loads", key=key).status == 500
