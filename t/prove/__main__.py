"""scripts/prove-limits."""

import argparse
import random
import sys

from . import many, mutants


def main():
    parser = argparse.ArgumentParser(
        prog="prove-limits",
        description="Proves on real nodes that limits are never exceeded, "
                    "that what they promise can be had, and that Retry-After "
                    "is true.")
    parser.add_argument("--seconds", type=float, default=600,
                        help="for so long (600)")
    parser.add_argument("--seed", type=int, default=None,
                        help="what is drawn follows from it")
    parser.add_argument("--nodes", type=int, choices=range(1, 5),
                        help="so many in every drawn scenario (one to four)")
    parser.add_argument("--only", metavar="SCENARIO",
                        help="a scenario's number or name, or \"script\"")
    parser.add_argument("--mutant", metavar="NAME",
                        help="prove the module with t/mutants/NAME.patch, and "
                             "end with 0 when that is refuted")
    parser.add_argument("--mutants", action="store_true",
                        help="each of them")
    args = parser.parse_args()

    if args.mutant or args.mutants:
        names = [args.mutant] if args.mutant else mutants.names()
        return mutants.try_all(names, args)

    seed = random.randrange(10**9) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)

    try:
        script, nodes = many.prove(args.seconds, seed, args.nodes, args.only,
                             say=lambda text: print(text, flush=True))
    except many.Refuted as refuted:
        print(f"REFUTED: {refuted}")
        return 1

    print(f"proved: {script}; {nodes}")
    return 0


sys.exit(main())
