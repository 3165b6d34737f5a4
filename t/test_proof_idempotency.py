"""A minute of scripts/prove-idempotency, at the size of a test."""

import os
import pathlib
import subprocess
import sys

import pytest

from prove_idempotency import mutants, plan

HERE = pathlib.Path(__file__).resolve().parent

KEYS, REQUESTS = 300, 1500
PATIENCE = 110


@pytest.mark.proof
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
            "late-claim", "no-conflict", "no-org"} <= set(mutants.names())


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
    payloads = [plan.payload("k", variant) for variant in range(plan.VARIANTS)]

    assert len(set(payloads)) == plan.VARIANTS
    assert [plan.variant_of("k", *payload) for payload in payloads] == \
        list(range(plan.VARIANTS))
    assert plan.variant_of("k", "/v1/loads", "text/plain", b"") is None
