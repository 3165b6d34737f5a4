"""The module with a bug put into it, and whether the proof sees it.

t/mutants/NAME.patch is applied to a copy of the tree under build/, the module
is built there, and the copy's own scripts/prove-limits must refute it.
"""

import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "t/mutants"

# What of the tree a module and its proof are made of.
COPIED = ["config", "conf", "scripts", "src", "t"]

REFUTED = "REFUTED: "


def names():
    return sorted(path.stem for path in FOLDER.glob("limits-*.patch"))


def patch(name, folder, *options):
    """Applies a mutant's patch to a copy of the tree; all of it, exactly."""
    path = FOLDER / f"{name}.patch"
    with open(path, "rb") as text:
        return subprocess.run(
            ["patch", "-p1", "--fuzz=0", "--batch", *options], cwd=folder,
            stdin=text, check=False, capture_output=True, text=True)


def make(name):
    """A copy of the tree with the mutant, built; returns its folder."""
    folder = ROOT / "build/mutants" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    for each in COPIED:
        if (ROOT / each).is_dir():
            shutil.copytree(ROOT / each, folder / each, symlinks=True)
        else:
            shutil.copy2(ROOT / each, folder / each)

    done = patch(name, folder)
    if done.returncode != 0:
        raise SystemExit(f"{name}.patch does not apply:\n{done.stdout}")

    subprocess.run([folder / "scripts/build"], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return folder


def try_all(chosen, args):
    """Returns 0 when every mutant was refuted, 1 when one survived."""
    survived = 0

    for name in chosen:
        if name not in names():
            raise SystemExit(f"no mutant {name}: {' '.join(names())}")

        command = [make(name) / "scripts/prove-limits",
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
