"""The programs of t/zone: the zone by itself, without nginx around it."""

import subprocess

from harness import template

ROOT = template.ROOT
NGINX = ROOT / "build/nginx-dev-gcc"
CORE = ["kg_time.c", "kg_digest.c", "kg_sip.c"]

# Decides on limits, from pools of nginx's: t/test_limits_outage.py has it.
WITH_NGINX = "kg_zone_local.c"


def build(folder, *sources):
    """Builds t/zone's sources and src/shm, but for what needs nginx itself,
    with the headers of the nginx the module is for; the program is named as
    the first source."""
    path = folder / sources[0].removesuffix(".c")
    includes = [ROOT / "src/core", ROOT / "src/shm", NGINX / "objs",
                *(NGINX / "src" / room for room in
                  ("core", "event", "event/modules", "os/unix"))]

    subprocess.run(
        ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra",
         "-Werror", *(f"-I{include}" for include in includes),
         *(ROOT / "t/zone" / name for name in (*sources, "alone.c")),
         *sorted(path for path in ROOT.glob("src/shm/*.c")
                 if path.name != WITH_NGINX),
         *(ROOT / "src/core" / name for name in CORE),
         "-lcrypto", "-o", path], check=True)
    return path


def check_run(program, *words):
    done = subprocess.run([program, *words], check=False, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
