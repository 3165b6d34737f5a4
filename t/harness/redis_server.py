"""A real redis-server that can be stopped, killed, frozen and restarted."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile

import redis

from .ports import free_port, reaches, wait_for
from .processes import stop


class RedisServer:
    """client is a redis.Redis with full rights; url is for keygate_redis.

    unix: listen on a socket in the folder, not on a port.  password: for the
    default user.  acl: {"user": "rules"} as ACL SETUSER takes them.  options:
    further redis-server options, {"maxmemory": "10mb"}.
    """

    def __init__(self, unix=False, password=None, acl=None, options=None):
        self.folder = tempfile.mkdtemp(prefix="keygate-redis-")
        self.port = 0 if unix else free_port()
        self.path = os.path.join(self.folder, "redis.sock") if unix else None
        self.password = password
        self.acl = acl or {}
        self.options = options or {}
        self.process = None
        self.client = None
        self.start()

    @property
    def address(self):
        return self.path or ("127.0.0.1", self.port)

    @property
    def url(self):
        """The address as keygate_redis takes it."""
        if self.path:
            return f"unix:{self.path}"
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        """Starts it on the data it has and waits until it answers."""
        if self.process is not None:
            return

        conf = os.path.join(self.folder, "redis.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(self._conf())

        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                ["redis-server", conf], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)

        self.client = self.connect()
        wait_for(self._answers, 10, "redis-server")

    def connect(self, timeout=5, **how):
        """A redis.Redis of the caller's own; the default user's password."""
        how.setdefault("password", self.password)
        if self.path:
            how["unix_socket_path"] = self.path
        return redis.Redis(host="127.0.0.1", port=self.port,
                           socket_timeout=timeout, **how)

    def stop(self):
        """SIGTERM: data is written out, connections are closed."""
        self._end(signal.SIGTERM)

    def kill(self):
        """SIGKILL: what was not written out is lost."""
        self._end(signal.SIGKILL)

    def restart(self, empty=False):
        """Stops and starts it, with its data or without."""
        self.stop()
        if empty:
            for name in os.listdir(self.folder):
                if name.endswith((".rdb", ".aof")):
                    os.unlink(os.path.join(self.folder, name))
        self.start()

    def freeze(self):
        """SIGSTOP, and it has: connections stay, nothing answers."""
        stop(self.process.pid)

    def thaw(self):
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self):
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    @contextlib.contextmanager
    def stopped(self):
        """Stopped with its data kept, and started again after."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def calls(self, command):
        """How often a command ran since the start, in scripts too."""
        stats = self.client.info("commandstats")
        return stats.get(f"cmdstat_{command.lower()}", {}).get("calls", 0)

    def close(self):
        self._end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _conf(self):
        lines = [f"dir {self.folder}", "daemonize no", "protected-mode yes",
                 "bind 127.0.0.1", f"port {self.port}", "databases 16",
                 "dbfilename dump.rdb", "save 3600 1",
                 "maxmemory-policy noeviction"]
        if self.path:
            lines.append(f"unixsocket {self.path}")
        if self.password:
            lines.append(f"requirepass {self.password}")
        for user, rules in self.acl.items():
            lines.append(f"user {user} {rules}")
        for name, value in self.options.items():
            lines.append(f"{name} {value}")
        return "\n".join(lines) + "\n"

    def _answers(self):
        if self.process.poll() is not None:
            with open(os.path.join(self.folder, "log"), "rb") as log:
                raise RuntimeError(log.read().decode(errors="replace"))
        if not reaches(self.address):
            return False
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def _end(self, how):
        if self.process is None:
            return
        self.thaw()
        self.process.send_signal(how)
        self.process.wait(10)
        self.process = None
        self.client.close()
