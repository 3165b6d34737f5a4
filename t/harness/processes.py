"""What the kernel says of a process, and one that is held up."""

import contextlib
import os
import signal

from .ports import wait_for


def state(pid):
    """One letter of proc(5); "X" of a process that has gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(") ", 1)[1][0]
    except OSError:
        return "X"


def asleep(pid):
    """Whether a process waits for something, or is stopped, or gone."""
    return state(pid) in "STZX"


def stop(pid):
    """SIGSTOP, and it has.  Until then the kernel takes a worker for one that
    waits, and may give it a connection that no other is told of."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: state(pid) in "TZX", 10, "a stopped process")


@contextlib.contextmanager
def stopped(pid):
    stop(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
