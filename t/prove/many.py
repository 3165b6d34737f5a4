"""Many scenarios: the pinned ones first, then as many drawn ones as there is
time for.

What is drawn depends on the seed alone, not on how earlier scenarios ended,
so that a seed and a number name one scenario.
"""

import time

import hypothesis

from . import generate, pinned, run

# A drawn scenario takes about this long, in seconds, or longer.
SHORTEST = 2.0


class Refuted(Exception):
    """A scenario showed that something does not hold; says how to see it
    again."""

    def __init__(self, scenario, error, again):
        super().__init__(f"{error}\nscenario {scenario.name}: "
                         f"{scenario.json()}\nagain: {again}")


def prove(seconds, seed, nodes=None, only=None, say=lambda text: None):
    """Proves for so many seconds and returns the Figures; raises Refuted.

    nodes   how many the drawn scenarios have; None: one to four
    only    the number of the one drawn scenario to run, or the name of a
            pinned one
    """
    end = time.monotonic() + seconds
    total = run.Figures()

    def try_one(name, scenario):
        option = f" --nodes {nodes}" if nodes else ""
        again = f"scripts/prove-limits --seed {seed}{option} --only {name}"
        try:
            figures = run.prove(scenario)
        except Exception as error:
            raise Refuted(scenario, f"{type(error).__name__}: {error}",
                          again) from error
        say(f"{name}: {figures}")
        total.add(figures)

    for scenario in pinned.SCENARIOS:
        if (only in (None, scenario.name)
                and time.monotonic() + scenario.length < end):
            try_one(scenario.name, scenario)

    for number, scenario in enumerate(drawn(seconds, seed, nodes), 1):
        if only is not None and str(number) != only:
            continue
        if time.monotonic() > end:
            break
        try_one(str(number), scenario)

    return total


def drawn(seconds, seed, nodes):
    """The scenarios of a seed, as many as so many seconds could need."""
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
