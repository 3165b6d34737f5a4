"""Whether the proof refutes a module with a bug in it; see harness.mutants."""

import subprocess

from harness import mutants

PREFIX = "limits"

REFUTED = "REFUTED: "


def names():
    return mutants.names(PREFIX)


def try_all(chosen, args):
    """Returns 0 when every mutant was refuted, 1 when one survived."""
    survived = 0

    for name in chosen:
        if name not in names():
            raise SystemExit(f"no mutant {name}: {' '.join(names())}")

        command = [mutants.make(PREFIX, name) / "scripts/prove-limits",
                   "--seconds", str(args.seconds)]
        for option in ("seed", "nodes", "only"):
            if getattr(args, option) is not None:
                command += [f"--{option}", str(getattr(args, option))]

        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False,
                              capture_output=True, text=True)
        refuted = done.returncode == 1 and REFUTED in done.stdout
        if refuted:
            print(f"== {name}: refuted by\n"
                  + done.stdout[done.stdout.index(REFUTED):], flush=True)
        else:
            survived += 1
            print(f"== {name}: SURVIVED\n{done.stdout}{done.stderr}",
                  flush=True)

    print(f"{len(chosen) - survived} of {len(chosen)} mutants refuted")
    return 1 if survived else 0
