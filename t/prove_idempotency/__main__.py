"""The command line of scripts/prove-idempotency, which has its --help."""

import argparse
import random
import signal
import sys
import traceback

from . import mutants
from .run import prove

# Every kind of fault is made once in this time, s.
SHORTEST = 34

# Keys and requests: of a proof, and of one that has a bug to catch.
FULL = 10000, 50000
MUTANT = 1700, 8500


def main():
    parser = argparse.ArgumentParser(
        prog="prove-idempotency", description="Proves that a write happens "
        "once, whatever fails: ends 0 when every rule held, 1 when one was "
        "broken, 2 when the run could not be made.")
    parser.add_argument("--keys", type=int,
                        help="10000, or 1700 for a mutant")
    parser.add_argument("--requests", type=int,
                        help="50000, or 8500 for a mutant")
    parser.add_argument("--rate", type=float, default=250,
                        help="requests a second")
    parser.add_argument("--seed", type=int,
                        help="what is asked and what fails; drawn without")
    parser.add_argument("--mutant", metavar="NAME",
                        help="prove the module with t/mutants/idempotency-"
                        "NAME.patch: ends 0 when that was caught, 1 when it "
                        "survived; all: every one of them")
    given = parser.parse_args()

    keys, requests = MUTANT if given.mutant else FULL
    given.keys = keys if given.keys is None else given.keys
    given.requests = requests if given.requests is None else given.requests

    if given.requests < 2 * given.keys or given.keys < 1:
        parser.error("a key takes two requests")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))

    try:
        held = mutated(given) if given.mutant else once(given)
    except Exception:
        traceback.print_exc()
        say("the run could not be made")
        return 2
    return 0 if held else 1


def mutated(given):
    """Whether each mutant asked for was caught."""
    names = mutants.names()
    if given.mutant != "all":
        if given.mutant not in names:
            raise SystemExit(f"no mutant {given.mutant}: {' '.join(names)}")
        names = [given.mutant]

    options = ["--keys", str(given.keys), "--requests", str(given.requests),
               "--rate", str(given.rate)]
    if given.seed is not None:
        options += ["--seed", str(given.seed)]

    return all([mutants.caught(name, options, say) for name in names])


def once(given):
    """Whether every rule held in a run."""
    seed = given.seed
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    say(f"seed {seed}: {given.keys} keys, {given.requests} requests")

    return prove(seed, given.keys, given.requests,
                 max(SHORTEST, given.requests / given.rate), say)


def say(line):
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
