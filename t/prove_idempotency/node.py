"""A node: a gate of the tests, as a daemon, so that its binary can be
upgraded.  nginx takes no USR2 while the process that started it stands.
"""

import os
import signal
import subprocess
import time

from harness import Gate
from harness.gate import binary, environment
from harness.ports import reaches, wait_for
from harness.processes import stopped

from . import routes

# How long nginx waits for the upstream, s.
UPSTREAM_TIMEOUT = 4

PIECES = {
    "daemon": "on",
    "level": "notice",
    "redis_parameters": "connect=200ms command=300ms dead=1s",
    "policies": routes.POLICIES,
    "routes": routes.CONF,
    "outage": "keygate_outage keys=stale:5m limits=allow;",
    "server": f"client_body_buffer_size {routes.BUFFERED};",
    "location": f"proxy_next_upstream off; "
                f"proxy_read_timeout {UPSTREAM_TIMEOUT}s;",
}

# What a proof does to nodes on purpose.
EXPECTED = (r"exited on signal 9\b",)


class Master:
    """A master process that is no child of ours, with the part of Popen that
    a gate uses."""

    def __init__(self, pid):
        self.pid = pid

    def send_signal(self, number):
        os.kill(self.pid, number)

    def poll(self):
        """0 when it has ended: nobody can ask a daemon for its status."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
                return 0 if file.read().rsplit(") ", 1)[1][0] in "ZX" else None
        except OSError:
            return 0

    def wait(self, timeout=20):
        try:
            wait_for(lambda: self.poll() == 0, timeout, "end of nginx")
            return 0
        except TimeoutError:
            raise subprocess.TimeoutExpired("nginx", timeout) from None


class Node(Gate):
    """number is what the history calls it; port is the upstream's, lease in
    ms."""

    def __init__(self, number, redis, port, redis_url, lease, **pieces):
        self.number = number
        self.retiring = None
        idempotency = (f"keygate_idempotency retention=24h lease={lease}ms "
                       "on_unknown=refuse;")
        super().__init__(redis, _At(port), redis_url=redis_url,
                         **{**PIECES, "idempotency": idempotency, **pieces})
        self.expect(*EXPECTED)

    def start(self):
        self._write_conf()

        with open(self.path("stderr"), "ab") as stderr:
            subprocess.run(self._command(), stdin=subprocess.DEVNULL,
                           stdout=stderr, stderr=stderr, check=True,
                           env=environment())

        self.process = Master(wait_for(self._pid, 10, "nginx.pid"))
        wait_for(lambda: len(self.workers()) == self._wanted()
                 and reaches(("127.0.0.1", self.port)), 20, "nginx")

    def upgrade(self, timeout=20):
        """USR2, WINCH, QUIT: a new master with new workers takes over, and
        the old ones finish what they have."""
        old = self.retiring = self.process
        old.send_signal(signal.SIGUSR2)
        new = Master(wait_for(lambda: self._pid(but=old.pid), timeout,
                              "new master"))

        try:
            self.process = new
            wait_for(lambda: len(self.workers()) == self._wanted(), timeout,
                     "new workers")
        finally:
            self.process = old

        old.send_signal(signal.SIGWINCH)
        wait_for(lambda: not self.workers(), timeout, "end of old workers")
        old.send_signal(signal.SIGQUIT)
        self.process = new
        old.wait(timeout)
        self.retiring = None

    def kill_workers(self, count):
        """Some at once; returns when others have taken their place."""
        victims = self.workers()[:count]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not set(victims) & set(self.workers())
                 and len(self.workers()) == self._wanted(), 20, "new worker")

    def pause_worker(self, seconds):
        """Stops one for longer than its claims are leased."""
        pid = self.workers()[0]
        with stopped(pid):
            time.sleep(seconds)

    def _end(self, how, timeout=20):
        """The master, and the one before it when an upgrade has failed."""
        if self.retiring is not None and self.retiring.poll() is None:
            self.retiring.send_signal(signal.SIGTERM)
        super()._end(how, timeout)

    def _command(self):
        return [binary(), "-p", self.folder, "-c", self.path("nginx.conf"),
                "-e", self.path("error.log")]

    def _pid(self, but=None):
        text = self._read("nginx.pid").strip()
        return int(text) if text and int(text) != but else None


class _At:
    """Where the upstream is, as far as a gate has to know."""

    def __init__(self, port):
        self.port = port
