"""The module with a bug put into it, and whether the proof catches it.

t/mutants/idempotency-NAME.patch is applied to a copy of the tree under
build/, the module is built there, and the copy's own proof must fail.
"""

import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "t/mutants"
PREFIX = "idempotency-"

# What of the tree a module and its proof are made of.
COPIED = ("config", "conf", "scripts", "src", "t")

BROKEN = "BROKEN "


def names():
    return sorted(path.stem[len(PREFIX):]
                  for path in FOLDER.glob(PREFIX + "*.patch"))


def patch(name, folder, *options):
    """Applies a mutant's patch; all of it, and as it was written."""
    with open(FOLDER / f"{PREFIX}{name}.patch", "rb") as file:
        return subprocess.run(
            ["patch", "-p1", "--fuzz=0", "--batch", *options], cwd=folder,
            stdin=file, capture_output=True, text=True, check=False)


def make(name):
    """A copy of the tree with the mutant in it, built; its folder."""
    folder = ROOT / "build/mutants" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    for each in COPIED:
        copy = shutil.copytree if (ROOT / each).is_dir() else shutil.copy2
        copy(ROOT / each, folder / each)

    done = patch(name, folder)
    if done.returncode != 0:
        raise RuntimeError(f"the patch of {name} does not apply:\n"
                           + done.stdout)

    subprocess.run([folder / "scripts/build"], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return folder


def caught(name, options, say):
    """Whether the proof breaks a rule on it; says which.  RuntimeError when
    the run could not be made: that has shown nothing."""
    command = [make(name) / "scripts/prove-idempotency", *options]
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
