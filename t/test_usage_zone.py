"""The usage table of the zone by itself: workers killed wherever they are,
midnight, and no room left."""

import subprocess

import pytest

from harness import template

pytestmark = pytest.mark.dynamic

ROOT = template.ROOT
NGINX = ROOT / "build/nginx-dev-gcc"
CORE = ["kg_time.c", "kg_digest.c"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """t/zone/usage.c, with the headers of the nginx the module is for."""
    path = tmp_path_factory.mktemp("zone") / "usage"
    includes = [ROOT / "src/core", ROOT / "src/shm", NGINX / "objs",
                *(NGINX / "src" / room for room in
                  ("core", "event", "event/modules", "os/unix"))]

    subprocess.run(
        ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra",
         "-Werror", *(f"-I{folder}" for folder in includes),
         ROOT / "t/zone/usage.c",
         *sorted(ROOT.glob("src/shm/kg_zone_usage*.c")),
         *(ROOT / "src/core" / name for name in CORE),
         "-lcrypto", "-o", path], check=True)
    return path


def run(program, *words):
    done = subprocess.run([program, *words], check=False, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_workers_killed_anywhere_lose_nothing(program):
    """In a lock as well, and while a flight is on its way: each request that
    was counted is added, and once."""
    assert "inside a lock" in run(program, "kill", "6")


def test_midnight(program):
    run(program, "days")


def test_no_room(program):
    run(program, "full")
