"""A minute of scripts/prove-idempotency, at the size of a test."""

import asyncio
import os
import pathlib
import subprocess
import sys

import pytest

from prove_idempotency import mutants, plan, relay, routes, rules
from prove_idempotency.history import Name, name_of
from prove_idempotency.http2 import Http2

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent

KEYS, REQUESTS = 300, 1500
PATIENCE = 180


@pytest.mark.proof
@pytest.mark.seconds(PATIENCE + 20)
def test_a_write_happens_once():
    """The seed is in the output, and with it the same load and faults."""
    process = subprocess.Popen(
        [sys.executable, "-m", "prove_idempotency", "--keys", str(KEYS),
         "--requests", str(REQUESTS)], cwd=HERE, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except BaseException:
        process.terminate()
        print(process.communicate()[0])
        raise

    assert process.returncode == 0, output
    assert "rules held for every key" in output


def test_mutants_are_those_the_proof_is_to_catch():
    assert {"no-owner", "lease-is-ttl", "partial-answer", "touched-release",
            "late-claim", "no-conflict", "no-org", "first-buffer",
            "no-method", "too-large-stored", "anothers-answer", "no-replica",
            "reset-frees", "resolve-running", "resolve-nothing"
            } <= set(mutants.names())


def test_rules_are_documented():
    page = (ROOT / "docs/proofs.md").read_text("utf-8")

    assert [rule for rule in rules.RULES if f"`{rule}`" not in page] == []


def test_plan_is_drawn_from_the_seed():
    """All of it, so that a run that failed can be made again."""
    def drawn(seed):
        return plan.make(seed, 50, 400, 10, ["org_a", "org_b", "org_c"])

    steps = drawn(1)
    assert steps == drawn(1) != drawn(2)
    assert len(steps) == 400 and len({step.name for step in steps}) == 50
    assert {step.manner for step in steps} == set(plan.MANNERS)
    assert {step.variant for step in steps} == set(range(plan.VARIANTS))


def test_payloads_of_a_key_differ():
    for i in range(200):
        key = f"k{i}"
        payloads = [plan.payload(key, variant)
                    for variant in range(plan.VARIANTS)]

        assert len(set(payloads)) == plan.VARIANTS
        assert [plan.variant_of(key, *payload) for payload in payloads] == \
            list(range(plan.VARIANTS))
        assert plan.variant_of(key, "POST", "/v1/loads", "text/plain",
                               b"") is None


def test_changed_body_differs_behind_the_first_buffer():
    key = next(f"k{i}" for i in range(200)
               if len(plan.payload(f"k{i}", 0).body) > routes.BUFFERED)
    body, changed = (plan.payload(key, variant).body for variant in (0, 1))

    assert body[:routes.BUFFERED] == changed[:routes.BUFFERED]


def test_keys_have_every_route_and_method_and_size():
    payloads = [plan.payload(f"k{i}", 0) for i in range(300)]

    assert ({(p.method, p.target) for p in payloads}
            == {(method, route.path) for method in routes.METHODS
                for route in routes.ROUTES})
    assert {len(p.body) > routes.BUFFERED for p in payloads} == {True, False}


RECORD = b"kg:idem:{org_a}:test:k:1"


def test_journal_tells_what_redis_said_of_a_claim():
    """Of one that was alone, and of those that went with limits; and not of
    one that did not get there."""
    journal = relay.Journal(0)
    alone = [b"EVALSHA", b"x", b"1", RECORD, b"o" * 16, b"f" * 32]
    together = [b"EVALSHA", b"y", b"3", b"kg:limit:{org_a}:p", RECORD,
                b"kg:idem:{org_a}:live:k:1", b"c", b"",
                *[b"o" * 16, *[b"1"] * 7] * 2, b"\1\0\2\0"]
    renewal = [b"EVALSHA", b"z", b"1", RECORD, b"renew", b"o" * 16, b"1000"]

    for words in (alone, together, renewal, [b"GET", RECORD]):
        journal.append(words)
    journal.answered(renewal, 1)
    journal.answered(together, [b"\1\0\0\0", [b"claimed"], "nil"])

    assert [(c.name.mode, c.action, c.said, c.with_limits, c.heard is None)
            for c in journal] == [
        ("test", "claim", None, False, True),
        ("test", "claim", "claimed", True, False),
        ("live", "claim", "nil", True, False),
        ("test", "renew", "1", False, False)]
    assert name_of(RECORD.decode()) == Name("org_a", "test", "k:1")


def test_http2_client_sends_large_bodies_and_resets_streams(gate, upstream):
    """On one connection; what it says of its requests is so."""
    key = gate.key()
    upstream.answer(201, {}, {"id": 1}, hang=True, path="/v1/loads/upsert")

    def asked(connection, idem, target, leaves=None, whole=True):
        payload = plan.Payload("POST", target, "application/json",
                               b"x" * 200000)
        return connection.ask(payload, {
            "Authorization": f"Bearer {key.token}", "Idempotency-Key": idem,
            "Content-Type": payload.kind}, whole, leaves)

    async def talk():
        connection = await Http2.open(gate.h2_port)
        try:
            hung = await asked(connection, "k1", "/v1/loads/upsert", 0.2)
            half = await asked(connection, "k2", "/v1/loads", 0.1, False)
            whole = await asked(connection, "k3", "/v1/loads")
            return hung, half, whole, connection.over
        finally:
            await connection.close()

    hung, half, (answer, lost), over = asyncio.run(talk())

    assert hung == half == (None, "left")
    assert (answer.status, lost, over) == (200, None, False)
    assert [(seen.get("Idempotency-Key"), len(seen.body))
            for seen in upstream.requests if seen.target == "/v1/loads"
            ] == [("k3", 200000)]
