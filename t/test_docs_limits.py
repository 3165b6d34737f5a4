"""What docs/limits.md says and no other test holds: its first configuration,
what a reload does to what was spent, and its pictures."""

import ast
import re
import time
import xml.etree.ElementTree

import pytest

from checks import check_error, structured
from harness import template

DOCS = template.ROOT / "docs"
PAGE = (DOCS / "limits.md").read_text("utf-8")
LOADS = "/v1/loads"


def told(answer, policy="default", header="RateLimit"):
    return structured(answer, header)[policy]


def spend(gate, key, n):
    answers = [gate.get(LOADS, key=key) for _ in range(n)]
    assert [a.status for a in answers] == [200] * n
    return answers[-1]


# Exact, so that what is told leaves out nothing that another worker leases at
# that moment.

def gate_with(make_gate, policy):
    gate = make_gate(policies=f"keygate_policy default {policy} exact;")
    return gate, gate.key()


def changed(gate, policy):
    gate.edit(policies=f"keygate_policy default {policy} exact;")
    gate.reload()


def test_first_configuration(make_gate):
    """A key's own 60, of which at most 12 of the list; both are told."""
    text = re.search(r"```nginx http\n(.*?)^server", PAGE, re.M | re.S)[1]
    gate = make_gate(policies=re.sub(r"(by=[\w,]+);", r"\1 exact;", text),
                     routes="",
                     gate="keygate partner; keygate_limit default org;"
                          "keygate_errors envelope;")
    key = gate.key()
    start = time.monotonic()
    answer = spend(gate, key, 12)
    assert list(structured(answer, "RateLimit")) == ["poll", "default", "org"]
    assert [told(answer, p, "RateLimit-Policy")["q"]
            for p in ("poll", "default", "org")] == [12, 60, 3000]

    answer = gate.get(LOADS, key=key)
    took = int(time.monotonic() - start)
    check_error(answer, 429, "rate_limited", {"policy": "poll"},
                (59 - took, 60))
    answer = gate.get(LOADS + "/7", key=key)
    assert {name: part["r"] for name, part in
            structured(answer, "RateLimit").items()} == \
        {"default": 47, "org": 2987}


def test_reload_to_another_rate_keeps_what_was_spent(make_gate):
    """50 of 60 are 10 left after a reload, 40 of 90, and none of 40.  Within
    an hour, which no machine takes for the reloads."""
    gate, key = gate_with(make_gate, "rate=60r/h by=key")
    assert told(spend(gate, key, 50))["r"] == 10
    changed(gate, "rate=60r/h by=key")
    assert told(spend(gate, key, 1))["r"] == 9
    changed(gate, "rate=90r/h by=key")
    assert told(spend(gate, key, 1))["r"] == 38

    changed(gate, "rate=40r/h by=key")
    check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                {"policy": "default"}, (1, 3600))
    changed(gate, "rate=60r/h by=key")
    assert told(spend(gate, key, 1))["r"] == 7


def test_reload_keeps_the_debt_of_a_bucket(make_gate):
    gate, key = gate_with(make_gate, "rate=20r/h burst=20 by=key")
    answer = spend(gate, key, 15)
    assert told(answer)["r"] == 5
    changed(gate, "rate=20r/h burst=30 by=key")
    assert told(spend(gate, key, 1))["r"] == 14


def test_bucket_as_partners_are_told(make_gate):
    gate, key = gate_with(make_gate, "rate=60r/m burst=20 by=key")
    assert told(spend(gate, key, 1), header="RateLimit-Policy") == \
        {"q": 20, "w": 20}


@pytest.mark.parametrize("policy, left", [
    ("rate=3600r/h by=key", 3599),
    ("rate=60r/m by=key,route", 59),
    ("rate=60r/h burst=60 by=key", 59),
])
def test_what_is_another_count_begins_anew(make_gate, policy, left):
    gate, key = gate_with(make_gate, "rate=60r/m by=key")
    spend(gate, key, 5)
    changed(gate, policy)
    assert told(spend(gate, key, 1))["r"] == left


def test_what_a_trial_has_counted_counts(make_gate):
    gate, key = gate_with(make_gate, "rate=8r/h by=key dry_run")
    spend(gate, key, 6)
    changed(gate, "rate=8r/h by=key")
    assert told(spend(gate, key, 1))["r"] == 1


# The pictures

def pictures():
    return sorted(re.findall(r"\]\((images/[\w.-]+)\)", PAGE))


def test_every_picture_is_drawn_and_shown():
    """Those that scripts/plot-limits makes, and no others."""
    source = (template.ROOT / "t/bench/plot_limits.py").read_text("utf-8")
    made, = [node.value for node in ast.parse(source).body
             if isinstance(node, ast.Assign)
             and node.targets[0].id == "PICTURES"]
    names = sorted(f"images/limits-{key.value}.svg" for key in made.keys)

    assert names
    assert pictures() == names
    assert names == sorted(str(path.relative_to(DOCS))
                           for path in (DOCS / "images").iterdir())


@pytest.mark.parametrize("name", pictures())
def test_picture(name):
    """For all eyes: small, in light and in dark, and said in words."""
    text = (DOCS / name).read_text("utf-8")
    root = xml.etree.ElementTree.fromstring(text)
    words = {child.tag.rpartition("}")[2]: child.text for child in root}

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(text) < 40000
    assert "prefers-color-scheme:dark" in words["style"]
    assert words["title"] and len(words["desc"]) > 60
    assert "script" not in words and "href" not in text
