"""The module with a bug put into it, for a proof that must catch it.

t/mutants/PREFIX-NAME.patch is applied to a copy of the tree under build/, and
the module is built there; the copy's own proof is then run on it.
"""

import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "t/mutants"

# What of the tree a module and its proof are made of.
COPIED = ("config", "conf", "scripts", "src", "t")


def names(prefix):
    """The names of a proof's mutants, without the prefix."""
    return sorted(path.stem[len(prefix) + 1:]
                  for path in FOLDER.glob(f"{prefix}-*.patch"))


def patch(prefix, name, folder, *options):
    """Applies a mutant's patch; all of it, and as it was written."""
    with open(FOLDER / f"{prefix}-{name}.patch", "rb") as text:
        return subprocess.run(
            ["patch", "-p1", "--fuzz=0", "--batch", *options], cwd=folder,
            stdin=text, capture_output=True, text=True, check=False)


def make(prefix, name):
    """A copy of the tree with the mutant in it, built; its folder."""
    folder = ROOT / "build/mutants" / f"{prefix}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    for each in COPIED:
        if (ROOT / each).is_dir():
            shutil.copytree(ROOT / each, folder / each, symlinks=True,
                            ignore=shutil.ignore_patterns("node_modules"))
        else:
            shutil.copy2(ROOT / each, folder / each)

    done = patch(prefix, name, folder)
    if done.returncode != 0:
        raise RuntimeError(f"{prefix}-{name}.patch does not apply:\n"
                           + done.stdout)

    subprocess.run([folder / "scripts/build"], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return folder
