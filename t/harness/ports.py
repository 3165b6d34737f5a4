"""Loopback ports that no other process of this test run will pick.

They come from below the kernel's ephemeral range, so that no outgoing
connection takes one between the check and its use.  Each process of a run
walks a stretch of its own: a port whose server a test has stopped looks free,
and another test's server on it would be taken for the one that is down.
"""

import os
import socket
import time

STRETCH = 2500

# pytest-xdist's name of this process, "gw0" and so on.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw7")[2:]) % 8

FIRST = 12000 + _worker * STRETCH
LAST = FIRST + STRETCH - 1

_next = FIRST + os.getpid() * 61 % STRETCH


def free_port():
    """A TCP port of 127.0.0.1 nobody listens on."""
    global _next

    for _ in range(STRETCH):
        _next = _next + 1 if _next < LAST else FIRST
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", _next))
            except OSError:
                continue
            return _next

    raise RuntimeError("no free loopback port")


def wait_for(condition, timeout=5.0, what="condition", step=0.005):
    """Waits until condition() is true and returns its value; TimeoutError."""
    end = time.monotonic() + timeout

    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} within {timeout} s")
        time.sleep(step)


def reaches(address):
    """True when something accepts connections at (host, port) or a path."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET

    with socket.socket(family) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
        except OSError:
            return False
        return True
