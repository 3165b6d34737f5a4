"""Whether the proof catches a bug put into the module; see harness.mutants."""

import subprocess

from harness import mutants

PREFIX = "idempotency"

BROKEN = "BROKEN "


def names():
    return mutants.names(PREFIX)


def caught(name, options, say):
    """Whether the proof breaks a rule on it; says which.  RuntimeError when
    the run could not be made: that has shown nothing."""
    folder = mutants.make(PREFIX, name)
    command = [folder / "scripts/prove-idempotency", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False,
                          capture_output=True, text=True)
    broken = [line for line in done.stdout.splitlines()
              if line.startswith(BROKEN)]

    if done.returncode == 1 and broken:
        say(f"mutant {name} caught: {'; '.join(broken)}")
        return True
    if done.returncode == 0:
        say(f"mutant {name} SURVIVED\n{done.stdout}")
        return False
    raise RuntimeError(f"no proof of {name}:\n{done.stdout}{done.stderr}")
