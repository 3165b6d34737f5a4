"""Request ids: what one costs, and ten million of them compared.

The program is t/bench/request_id.c, built with src/core.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CORE = HERE.parent.parent / "src/core"


def main():
    count = os.environ.get("COUNT", "10000000")
    processes = os.environ.get("PROCESSES", "16")

    with tempfile.TemporaryDirectory(prefix="keygate-bench-") as folder:
        program = os.path.join(folder, "request_id")
        subprocess.run(
            ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra",
             "-Werror", f"-I{CORE}", "-o", program, HERE / "request_id.c",
             *sorted(CORE.glob("*.c")), "-ljansson", "-lcrypto", "-lz"],
            check=True)
        done = subprocess.run([program, count, processes], check=False)
    sys.exit(done.returncode)
