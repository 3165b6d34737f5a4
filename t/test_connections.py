"""Each request of a connection is its own key's, whatever came before it.

Partners keep connections and repeat their key, and a balancer sends the
requests of many over one: the gate remembers of a connection what it learned
of its last key, which nobody may notice.
"""

import hashlib

import pytest

from harness import records
from harness.ports import wait_for

LOADS = "/v1/loads"

# The first pepper is the one that new keys have, and that is remembered.
TWO = {"keys": "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper "
               "pepper=%%FOLDER%%/former legacy=sha256;"}

FORMER = b"abcdefghijklmnopqrstuvwxyz012345"


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


def check_order(gate, upstream, order, expected):
    """Sends the tokens of an order over one connection, and asks who called.

    expected: a token to the organisation that is told, None: 401."""
    client = gate.connect()
    for number, token in enumerate(order):
        before = len(upstream.requests)
        answer = client.request("GET", LOADS, bearer(token))
        org = expected.get(token)

        assert answer.status == (200 if org else 401), (number, token)
        assert [seen.get("X-Keygate-Org") for seen
                in upstream.requests[before:]] == ([org] if org else [])


def altered(token, place):
    """The token with one character another, its checksum right again."""
    other = "0" if token[place] != "0" else "1"
    body = (token[:place] + other + token[place + 1:])[:-6]
    return body + records.checksum(body)


def test_keys_take_turns(gate, upstream):
    a, b = gate.key(), gate.key()
    check_order(gate, upstream,
                [a.token] * 3 + [b.token] * 3 + [a.token, b.token] * 3
                + [None, b.token, None, a.token, a.token],
                {a.token: a.org, b.token: b.org})


@pytest.mark.parametrize("place", [8, 20, 39])
def test_who_is_nearly_the_last_is_nobody(gate, upstream, place):
    """A comparison that stops early, or leaves something out, would let it
    in."""
    key = gate.key()
    other = altered(key.token, place)
    mistyped = key.token[:-1] + ("a" if key.token[-1] != "a" else "b")

    check_order(gate, upstream,
                [key.token, key.token, key.token, other, key.token, mistyped,
                 key.token, key.token[:-1], key.token + "0", key.token, other,
                 other, key.token],
                {key.token: key.org})


def test_the_mode_is_the_token_s(gate, upstream):
    """The same entropy under the other mode is another token."""
    key = gate.key(mode="test")
    body = key.token.replace("_test_", "_live_")[:-6]
    check_order(gate, upstream,
                [key.token] * 3 + [body + records.checksum(body), key.token],
                {key.token: key.org})


def test_peppers_and_tokens_of_before_take_turns(make_gate, upstream):
    gate = make_gate(files={"former": FORMER.decode() + "\n"}, **TWO)
    client = gate.redis.client
    new, old = gate.key(), records.make_key(client, FORMER, gate.org("live"))
    legacy = gate.key()
    legacy.delete()
    legacy.token = "of-before-keygate"
    legacy.name = "kg:key:{%s}" % hashlib.sha256(
        legacy.token.encode()).hexdigest()
    legacy.save()

    order = [new.token, new.token, old.token, old.token, new.token,
             legacy.token, legacy.token, new.token, old.token, legacy.token,
             new.token, new.token]
    check_order(gate, upstream, order, {key.token: key.org
                                        for key in (new, old, legacy)})


def test_a_key_that_is_revoked_is_so_on_its_connection(gate, upstream):
    key = gate.key()
    client = gate.connect()
    for _ in range(3):
        assert client.request("GET", LOADS, bearer(key.token)).status == 200

    key.save(revokedAt="2026-01-01T00:00:00Z")
    wait_for(lambda: client.request("GET", LOADS, bearer(key.token)).status
             == 401, 5, "the revocation")


def test_streams_of_one_connection(gate, upstream):
    a, b = gate.key(), gate.key()
    with gate.h2() as client:
        for key in [a, a, a, b, b, a, b, a, a]:
            assert client.get(LOADS, headers=bearer(key.token)
                              ).status_code == 200
            assert upstream.requests[-1].get("X-Keygate-Org") == key.org
        assert client.get(LOADS, headers=bearer(altered(a.token, 20))
                          ).status_code == 401
