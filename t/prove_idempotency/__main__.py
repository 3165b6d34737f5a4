"""The command line of scripts/prove-idempotency, which has its --help."""

import argparse
import random
import signal
import sys

from .run import prove

# Every kind of fault is made once in this time, s.
SHORTEST = 25


def main():
    parser = argparse.ArgumentParser(
        prog="prove-idempotency", description="Proves that a write happens "
        "once, whatever fails: ends 0 when every rule held, 1 when one was "
        "broken, 2 when the run could not be made.")
    parser.add_argument("--keys", type=int, default=10000)
    parser.add_argument("--requests", type=int, default=50000)
    parser.add_argument("--rate", type=float, default=250,
                        help="requests a second")
    parser.add_argument("--seed", type=int,
                        help="what is asked and what fails; drawn without")
    parser.add_argument("--mutant", metavar="NAME",
                        help="prove the module with t/mutants/idempotency-"
                        "NAME.patch: ends 0 when that was caught, 1 when it "
                        "survived; all: every one of them")
    given = parser.parse_args()

    if given.requests < 2 * given.keys or given.keys < 1:
        parser.error("a key takes two requests")

    seed = given.seed
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    say(f"seed {seed}: {given.keys} keys, {given.requests} requests")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))

    try:
        held = prove(seed, given.keys, given.requests,
                     max(SHORTEST, given.requests / given.rate),
                     resolve=False, say=say)
    except Exception as error:
        import traceback
        traceback.print_exc()
        say(f"the run could not be made: {error!r}")
        return 2
    return 0 if held else 1


def say(line):
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
