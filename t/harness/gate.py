"""An nginx with the module, as a process of a test.

Gate(redis, upstream, **pieces) starts it; the pieces are those of
template.PIECES, each a text of directives that replaces the template's.
"""

import json as json_module
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import httpx

from . import faults, records, template
from .client import Client, encode_request
from .ports import free_port, reaches, wait_for
from .processes import asleep

PEPPER = b"0123456789abcdef0123456789abcdef0123456789abcdef"

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "exitcode=23:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "LSAN_OPTIONS": "print_suppressions=0:suppressions="
                    + os.path.join(os.path.dirname(__file__), "lsan.supp"),
}


def binary():
    """The nginx under test."""
    linked_in = os.environ.get("KEYGATE_NGINX")
    return os.path.abspath(linked_in) if linked_in else "/usr/sbin/nginx"


def environment(leaks=True):
    """nginx's environment; `nginx -t` leaves what it read to the kernel, so
    nobody asks it for leaks."""
    env = {k: v for k, v in os.environ.items() if k != "NGINX"}
    env.update(SANITIZER_OPTIONS)
    env["ASAN_OPTIONS"] += f":detect_leaks={int(leaks)}"
    return env


def make_folder():
    """A folder with what every configuration names."""
    folder = tempfile.mkdtemp(prefix="keygate-")
    path = os.path.join(folder, "pepper")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.write(PEPPER + b"\n")
    return folder


def nginx_t(conf=None, files=None, **pieces):
    """`nginx -t` on the template with pieces, or on the text conf.

    files: {"name": "text"} are put beside nginx.conf; %%FOLDER%%, %%ROOT%%,
    %%MODULE%% and %%USER%% are filled in in conf too.  Returns (rc, stderr).
    Raises Fault when a sanitizer spoke or nginx died.
    """
    folder = make_folder()
    try:
        names = template.values(folder, free_port(), free_port(),
                                "redis://127.0.0.1:1/0", 1)
        text = (template.render(pieces, names) if conf is None
                else template.fill(conf, names))
        path = os.path.join(folder, "nginx.conf")

        for name, content in {**(files or {}), "nginx.conf": text}.items():
            with open(os.path.join(folder, name), "w",
                      encoding="utf-8") as file:
                file.write(content)

        done = subprocess.run(
            [binary(), "-t", "-p", folder, "-c", path, "-e", "stderr"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            env=environment(leaks=False), check=False)
        stderr = done.stderr.decode(errors="replace")

        if done.returncode not in (0, 1) or faults.SANITIZER.search(stderr):
            raise faults.Fault(f"nginx -t ended {done.returncode}:\n{stderr}")
        return done.returncode, stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Gate:
    """A running gate on 127.0.0.1:port; see the package for what it offers.

    redis and upstream may be None for a gate that needs none; redis_url is
    where the gate looks for Redis when that is not redis.url (a relay).
    files: {"name": "text"} are put into the gate's folder first.  env: what
    nginx's environment has besides.
    """

    def __init__(self, redis=None, upstream=None, redis_url=None, files=None,
                 env=None, **pieces):
        self.redis = redis
        self.upstream = upstream
        self.pepper = PEPPER
        self.folder = make_folder()
        self.port = free_port()
        self.h2_port = free_port()
        self.pieces = pieces
        self.env = env or {}
        self.process = None
        self.url = f"http://127.0.0.1:{self.port}"
        self._values = template.values(
            self.folder, self.port, self.h2_port,
            redis_url or (redis.url if redis else "redis://127.0.0.1:1/0"),
            upstream.port if upstream else 1)
        self._expected = []
        self._opened = []
        self._checked = {"error.log": 0, "stderr": 0}

        for name, text in (files or {}).items():
            self.write(name, text)
        try:
            self.start()
        except BaseException:
            self._end(signal.SIGKILL)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    # The process.

    def start(self):
        """Starts nginx and waits until it accepts connections."""
        self._write_conf()

        with open(self.path("stderr"), "ab") as stderr:
            self.process = subprocess.Popen(
                [binary(), "-p", self.folder, "-c", self.path("nginx.conf"),
                 "-e", self.path("error.log")],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                env={**environment(), **self.env})

        def ready():
            if self.process.poll() is not None:
                raise RuntimeError("nginx did not start:\n" + self.log())
            return (len(self.workers()) == self._wanted()
                    and reaches(("127.0.0.1", self.port)))

        wait_for(ready, 20, "nginx")

    def edit(self, **pieces):
        """Changes pieces of the configuration; reload() makes them hold."""
        self.pieces = {**self.pieces, **pieces}
        self._write_conf()

    def reload(self, timeout=20):
        """SIGHUP; returns when new workers serve and the old ones take no
        more.  The old ones may still be finishing what they have."""
        self._write_conf()
        old = set(self.workers())
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(self.workers()) == self._wanted()
                 and not old & set(self.workers()), timeout, "new worker")

    def quit(self, timeout=20):
        """SIGQUIT; returns when the last worker has finished its requests."""
        self._end(signal.SIGQUIT, timeout)

    def workers(self):
        """The pids of the workers that accept connections."""
        return [pid for pid, title in self._children()
                if title.startswith("nginx: worker process")
                and "shutting down" not in title]

    def kill_worker(self, pid=None, how=signal.SIGKILL):
        """Kills a worker, waits until the master has started another, and
        returns the pid that died."""
        pid = pid or wait_for(self.workers, 5, "worker")[0]
        self.expect(rf"worker process {pid} exited on signal {int(how)}\b")
        os.kill(pid, how)
        wait_for(lambda: pid not in self.workers()
                 and len(self.workers()) == self._wanted(), 10, "new worker")
        return pid

    def watched(self, timeout=5.0):
        """Waits until one of the workers of now is told of changed records:
        from then on what is cached is not asked for again.  For a test that
        counts lookups; what it writes, it writes before."""
        def told():
            lines = re.findall(r" (\d+)#\d+: keygate: \S+ "
                               r"(tells of|refuses tracking|does not tell)",
                               self.log())
            return (lines and int(lines[-1][0]) in self.workers()
                    and lines[-1][1] != "does not tell")

        wait_for(told, timeout, "watch")

        # What was written is told, and the tick of the clock in which it
        # began is over: what is cached in that is asked for once more.
        time.sleep(0.05)
        self.idle()

    def idle(self, timeout=5.0):
        """Waits until each worker has done what there was to do for it: what
        had come by now, and what follows an answer (its line in the log, what
        is counted and freed then).  A worker that has something to do is
        runnable, and sleeps in epoll_wait() only when nothing is left."""
        busy = set(self.workers())

        def done():
            busy.difference_update([pid for pid in busy if asleep(pid)])
            return not busy

        wait_for(done, timeout, "idle workers")

    # Requests.

    def connect(self, timeout=10.0):
        """A connection for bytes; it is closed with the gate at the latest."""
        client = Client(("127.0.0.1", self.port), timeout)
        self._opened.append(client)
        return client

    def request(self, method, target, key=None, headers=(), body=b"",
                json=None, idem=None, version="HTTP/1.1", timeout=10.0):
        """One request on a connection of its own.

        key: a Key or a token, sent as a bearer; headers: a dict or pairs;
        json: the body as JSON; idem: the Idempotency-Key.
        """
        return exchange(("127.0.0.1", self.port), method, target, key,
                        headers, body, json, idem, version, timeout)

    def get(self, target, **how):
        return self.request("GET", target, **how)

    def post(self, target, **how):
        return self.request("POST", target, **how)

    def put(self, target, **how):
        return self.request("PUT", target, **how)

    def patch(self, target, **how):
        return self.request("PATCH", target, **how)

    def delete(self, target, **how):
        return self.request("DELETE", target, **how)

    def head(self, target, **how):
        return self.request("HEAD", target, **how)

    def options(self, target, **how):
        return self.request("OPTIONS", target, **how)

    def h2(self, **how):
        """An httpx client that speaks HTTP/2 without TLS; use it in a with."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.h2_port}",
                            http1=False, http2=True, timeout=10,
                            trust_env=False, **how)

    def admin(self, method, target, json=None, headers=(), body=b""):
        """A call of the admin interface, through its socket."""
        return exchange(self.path("admin.sock"), method, target, None,
                        headers, body, json, None, "HTTP/1.1", 10.0)

    # Records.

    def org(self, access="live", **members):
        """Writes an organisation and returns its id."""
        return records.make_org(self.redis.client, access, **members)

    def key(self, org=None, mode="test", scopes=None, access="live",
            **members):
        """Writes a key with all scopes, by default of an organisation of its
        own that has the access named."""
        return records.make_key(self.redis.client, self.pepper,
                                org or self.org(access), mode, scopes,
                                **members)

    # Files of the gate's folder, and logs.  A line that is being written can
    # be seen in part, where the file's next page begins in its midst: what is
    # read of a log ends with the last line's end.

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        """Puts a file into the gate's folder (its %%FOLDER%%)."""
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def log(self):
        """The error log, and what nginx wrote to its standard error."""
        return self._whole("error.log") + self._whole("stderr")

    def access_log(self, name="access.log"):
        """The lines of an access log."""
        return self._whole(name).split("\n")[:-1]

    def wait_log(self, pattern, timeout=5.0):
        """Waits for a line in the error log, returns the match."""
        return wait_for(lambda: re.search(pattern, self.log()), timeout,
                        f"/{pattern}/ in error.log")

    def expect(self, *patterns):
        """Announces, for this test, log lines that would fail it."""
        self._expected.extend(patterns)

    def check(self):
        """Raises Fault for bad lines since the last check."""
        for name, start in self._checked.items():
            text = self._whole(name)
            self._checked[name] = len(text)
            faults.check(text[start:], self._expected,
                         f"{self.folder}/{name}")

    def end_test(self):
        """Checks, and forgets what the test announced."""
        try:
            self.check()
        finally:
            self._expected.clear()

    def close(self, timeout=20):
        """Quits gracefully, as an operator would, and checks the log."""
        for client in self._opened:
            client.close()

        try:
            self._end(signal.SIGQUIT, timeout)
            self.check()
        finally:
            if os.environ.get("KEYGATE_KEEP"):
                print(f"kept: {self.folder}")
            else:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _wanted(self):
        return int(self.pieces.get("workers", template.PIECES["workers"]))

    def _write_conf(self):
        self.write("nginx.conf", template.render(self.pieces, self._values))

    def _whole(self, name):
        """The whole lines of a file."""
        text = self._read(name)
        return text[:text.rfind("\n") + 1]

    def _read(self, name):
        try:
            with open(self.path(name), encoding="utf-8",
                      errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _children(self):
        """(pid, title) of every child of the master."""
        pid = self.process.pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children",
                      encoding="ascii") as file:
                children = file.read().split()
        except OSError:
            return []

        found = []
        for child in children:
            try:
                with open(f"/proc/{child}/cmdline", "rb") as file:
                    title = file.read().replace(b"\0", b" ").decode()
            except OSError:
                continue
            found.append((int(child), title))
        return found

    def _end(self, how, timeout=20):
        if self.process is None:
            return

        workers = [pid for pid, _ in self._children()]
        process, self.process = self.process, None
        process.send_signal(how)

        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *workers]:
                kill(pid)
            process.wait()
            raise faults.Fault(f"nginx did not quit within {timeout} s\n"
                               + self.log()[-4000:]) from None

        if how == signal.SIGKILL:
            for pid in workers:
                kill(pid)
        elif code != 0:
            raise faults.Fault(f"nginx ended with {code}\n"
                               + self.log()[-4000:])


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def exchange(address, method, target, key, headers, body, json, idem,
             version, timeout):
    """One request and its answer on a new connection."""
    fields = list(headers.items() if isinstance(headers, dict) else headers)

    if key is not None:
        fields.append(("Authorization",
                       "Bearer " + getattr(key, "token", key)))
    if idem is not None:
        fields.append(("Idempotency-Key", idem))
    if json is not None:
        body = json_module.dumps(json).encode()
        fields.append(("Content-Type", "application/json"))
    if not any(name.lower() == "connection" for name, _ in fields):
        fields.append(("Connection", "close"))

    with Client(address, timeout) as client:
        try:
            client.send(encode_request(method, target, fields, body,
                                       version=version))
        except (BrokenPipeError, ConnectionResetError):
            pass
        return client.read(method)
