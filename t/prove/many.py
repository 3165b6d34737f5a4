"""Many proofs: of the script, then the pinned scenarios, then as many drawn
ones as there is time for.

What is drawn depends on the seed alone, not on how earlier scenarios ended,
so that a seed and a number name one scenario.
"""

import time

import hypothesis

from . import generate, pinned, run, script

# A drawn scenario takes about this long, in seconds, or longer.
SHORTEST = 3.5


# The part of the time that goes to the script alone.
SCRIPT_SHARE = 0.15


class Refuted(Exception):
    """Something does not hold; says what, and how to see it again."""

    def __init__(self, what, again):
        super().__init__(f"{what}\nagain: {again}")


def prove(seconds, seed, nodes=None, only=None, say=lambda text: None):
    """Proves for so many seconds and returns the Figures, of the script and
    of scenarios; raises Refuted.

    nodes   how many the drawn scenarios have; None: one to four
    only    "script", the name of a pinned scenario or the number of a drawn
            one: nothing else is run
    """
    end = time.monotonic() + seconds
    option = f" --nodes {nodes}" if nodes else ""
    again = f"scripts/prove-limits --seed {seed}{option} --only "
    answers, total = script.Figures(), run.Figures()

    def try_one(name, scenario):
        what = f"scenario {scenario.name}: {scenario.json()}"
        try:
            figures = run.prove(scenario)
        except run.Violation as violation:
            raise Refuted(f"{violation}\n{what}", again + name) from violation
        except Exception as error:
            error.add_note(f"{what}\nagain: {again}{name}")
            raise
        say(f"{name}: {figures}")
        total.add(figures)

    if only in (None, "script"):
        try:
            answers = script.prove(
                seconds * (1 if only else SCRIPT_SHARE), seed)
        except script.Refuted as refuted:
            raise Refuted(refuted, again + "script") from refuted
        say(f"script: {answers}")

    for scenario in pinned.SCENARIOS:
        if (only in (None, scenario.name)
                and time.monotonic() + scenario.length < end):
            try_one(scenario.name, scenario)

    if only is not None and not only.isdigit():
        return answers, total

    for number, scenario in enumerate(drawn(seconds, seed, nodes), 1):
        if only not in (None, str(number)):
            continue
        if time.monotonic() > end:
            break
        try_one(str(number), scenario)

    return answers, total


def drawn(seconds, seed, nodes):
    """The scenarios of a seed, as many as so many seconds could need; more
    seconds give the same ones and more."""
    found = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(10, int(seconds / SHORTEST)), database=None,
        deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(generate.scenarios(nodes))
    def draw(scenario):
        found.append(scenario)

    draw()
    return found
