"""The bugs that the proofs are tried on can still be put into the module."""

import pytest

from harness import mutants

ALL = sorted(tuple(path.stem.split("-", 1))
             for path in mutants.FOLDER.glob("*.patch"))


@pytest.mark.parametrize("proof, name", ALL)
def test_mutant_applies(proof, name):
    done = mutants.patch(proof, name, mutants.ROOT, "--dry-run")

    assert done.returncode == 0, done.stdout


def test_every_mutant_is_tried_by_a_proof():
    assert {proof for proof, _ in ALL} == {"idempotency", "limits"}


@pytest.mark.parametrize("proof, name", ALL)
def test_mutant_is_documented(proof, name):
    page = (mutants.ROOT / "docs/proofs.md").read_text("utf-8")
    table = page.split(f"| `prove-{proof}` | the bug |", 1)[1]

    assert f"\n| `{name}` | " in table.split("\n\n", 1)[0]
