"""The Redis scripts as they ship: C strings made by scripts/embed-lua."""

import subprocess

from .template import ROOT

NAMES = ["limit", "claim", "admit", "settle", "cas", "audit",
         "usage", "hashes", "resolve"]

PRINT = """
#include <stdio.h>
#include "kg_scripts.h"

int
main(void)
{
    fputs(SCRIPT, stdout);
    return 0;
}
"""


def embed(*files):
    """Runs scripts/embed-lua on these files."""
    return subprocess.run(["sh", str(ROOT / "scripts/embed-lua"),
                           *map(str, files)],
                          check=False, capture_output=True, text=True)


def compiled(folder, file):
    """The text of one file as it is in the module; folder is scratch."""
    made = embed(file)
    assert made.returncode == 0, made.stderr

    (folder / "kg_scripts.h").write_text(made.stdout)
    (folder / "print.c").write_text(PRINT)

    subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror",
                    f"-DSCRIPT=kg_script_{file.stem}", "print.c", "-o",
                    "print"], cwd=folder, check=True)
    return subprocess.run([folder / "print"], check=True, capture_output=True,
                          text=True).stdout


def shipped(folder):
    """{name: text} of all scripts; folder is scratch."""
    return {name: compiled(folder, ROOT / f"src/redis/scripts/{name}.lua")
            for name in NAMES}
