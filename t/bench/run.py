"""Keygate beside a bare nginx proxy and other gateways, in one run.

The gateway has CPU 0 to itself; the load (wrk), the upstream and Redis share
CPU 1.  Machines are noisy, so each short slice of a gateway runs between two
slices of bare, in an order drawn anew every round, and only ratios to those
two neighbours are reported, as medians over the rounds; bare against itself
shows what noise is left.  CPU is what the kernel accounts to the gateway's
processes (schedstat), per request; Redis's own beside it.

All gateways get the same request, GET /v1/loads with one bearer key, which
each checks and counts, and none denies.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass

import errors
import idempotency
import keys
import limit_script
import limits
import redis
import request_id
import revocation

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from harness import records                                 # noqa: E402
from harness.ports import free_port, reaches, wait_for      # noqa: E402

PEPPER = b"0123456789abcdef0123456789abcdef"
WARM_SECONDS = 0.3

SCENARIOS = {
    "bare": "nginx and proxy_pass: what everything is measured against",
    "limit_req": "nginx: the key in a map, limit_req in one node's memory",
    "haproxy": "HAProxy: the key in a map, a rate in a stick table",
    "lua_redis": "nginx with Lua: key and exact limit in Redis, two calls",
    "lua_redis_cached": "the same, with the key's record cached in memory",
    "keygate": "Keygate: a warm key, a limit that is leased",
    "keygate_exact": "Keygate: a warm key, an exact limit in Redis",
}


@dataclass
class Slice:
    """One short run: requests/s, CPU and latencies in us, failed answers."""
    rate: float
    cpu: float
    redis_cpu: float
    p50: float
    p99: float
    bad: int


def setting(name, default):
    value = os.environ.get(name, str(default))
    try:
        number = type(default)(value)
    except ValueError:
        number = 0
    if number <= 0:
        sys.exit(f"bench: {name}={value} is not a number over 0")
    return number


def cpu_time(pid):
    """CPU time of a process and its children so far, in ns."""
    total = 0
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        pids = [pid, *map(int, file.read().split())]

    for each in pids:
        for task in os.listdir(f"/proc/{each}/task"):
            with open(f"/proc/{each}/task/{task}/schedstat",
                      encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total


def microseconds(text):
    """wrk's "1.23ms" in us."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


class Bench:
    def __init__(self, seconds, connections):
        self.seconds = seconds
        self.connections = connections
        self.folder = tempfile.mkdtemp(prefix="keygate-bench-")
        self.port = free_port()
        self.processes = []
        self.values = {
            "ROOT": ROOT, "FOLDER": self.folder, "PORT": self.port,
            "UPSTREAM_PORT": free_port(), "REDIS_PORT": free_port(),
            "USER": "user root;" if os.geteuid() == 0 else "",
        }
        for name in ("upstream", "logs"):
            os.mkdir(os.path.join(self.folder, name))

    def __enter__(self):
        self._start_redis()
        self._fill_redis()
        for source in HERE.glob("*.*"):
            if source.suffix in (".conf", ".cfg", ".map", ".lua"):
                self._write(source.name, source.read_text(encoding="utf-8"))
        self._start(1, self._nginx("upstream.conf"))
        wait_for(lambda: reaches(("127.0.0.1", self.values["UPSTREAM_PORT"])),
                 10, "upstream")
        return self

    def __exit__(self, *exc):
        for process in reversed(self.processes):
            self._end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def slice(self, name):
        """Runs one gateway for some seconds under load."""
        command = (["haproxy", "-db", "-f", self._path("haproxy.cfg")]
                   if name == "haproxy" else self._nginx(f"{name}.conf"))
        gateway = self._start(0, command)
        try:
            wait_for(lambda: reaches(("127.0.0.1", self.port)), 10, name)
            return self.measure(gateway)
        finally:
            self._end(gateway)

    def measure(self, gateway):
        """A slice of a gateway that runs."""
        self._warm()
        before = cpu_time(gateway.pid), cpu_time(self.redis.pid)
        output = self._load(self.seconds)
        after = cpu_time(gateway.pid), cpu_time(self.redis.pid)

        return self._result(output, after[0] - before[0],
                            after[1] - before[1])

    @staticmethod
    def _result(output, cpu, redis_cpu):
        def find(pattern, default=None):
            found = re.search(pattern, output)
            if found is None and default is None:
                sys.exit(f"bench: wrk printed no {pattern}:\n{output}")
            return found.group(1) if found else default

        requests = int(find(r"(\d+) requests in"))
        if requests == 0:
            sys.exit(f"bench: no request was answered:\n{output}")

        errors = re.search(r"Socket errors: connect (\d+), read (\d+), "
                           r"write (\d+), timeout (\d+)", output)
        bad = int(find(r"Non-2xx or 3xx responses: (\d+)", "0"))
        bad += sum(map(int, errors.groups())) if errors else 0

        return Slice(rate=float(find(r"Requests/sec: +([\d.]+)")),
                     cpu=cpu / 1e3 / requests,
                     redis_cpu=redis_cpu / 1e3 / requests,
                     p50=microseconds(find(r"50% +(\S+)")),
                     p99=microseconds(find(r"99% +(\S+)")), bad=bad)

    def _warm(self):
        """A moment of load that nobody looks at."""
        load = self._start(1, self._wrk(1))
        time.sleep(WARM_SECONDS)
        self._end(load)

    def _load(self, seconds):
        done = subprocess.run(["taskset", "-c", "1", *self._wrk(seconds)],
                              capture_output=True, text=True,
                              timeout=seconds + 30, check=True)
        return done.stdout

    def _wrk(self, seconds):
        return ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s",
                "--latency", "-H", f"Authorization: Bearer {self.token}",
                f"http://127.0.0.1:{self.port}/v1/loads"]

    def _start(self, cpu, command):
        with open(self._path("out"), "ab") as out:
            process = subprocess.Popen(
                ["taskset", "-c", str(cpu), *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.processes.append(process)
        return process

    def _end(self, process):
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        self.processes.remove(process)

    def _nginx(self, conf):
        prefix = self._path("upstream") if conf == "upstream.conf" \
            else self.folder
        return ["nginx", "-p", prefix, "-c", self._path(conf),
                "-e", self._path("logs/error.log"), "-g", "daemon off;"]

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _write(self, name, text):
        text = re.sub(r"@(\w+)@", lambda m: str(self.values[m.group(1)]), text)
        with open(self._path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def _start_redis(self):
        self._write("redis.conf", "bind 127.0.0.1\nport @REDIS_PORT@\n"
                                  "dir @FOLDER@\nsave \"\"\n"
                                  "maxmemory-policy noeviction\n")
        self.redis = self._start(1, ["redis-server", self._path("redis.conf")])
        wait_for(lambda: reaches(("127.0.0.1", self.values["REDIS_PORT"])),
                 10, "redis-server")

    def _fill_redis(self):
        """The key, for Keygate and for the Lua peers."""
        client = redis.Redis(port=self.values["REDIS_PORT"])
        org = records.make_org(client)
        key = records.make_key(client, PEPPER, org)

        self.token = self.values["TOKEN"] = key.token
        client.set(f"peer:key:{key.token}",
                   '{"id":"k1","emission_us":1,"burst_us":60000000}')
        self._write("pepper", PEPPER.decode() + "\n")


class KeyBench(keys.Keys, Bench):
    """Its load has many keys."""

    pepper = PEPPER


class ErrorBench(errors.Counting, Bench):
    """It counts instructions, too."""


class WriteBench(idempotency.Writing, Bench):
    """Its load are writes."""


def median_ratio(runs, member):
    """Of a gateway's slice to the mean of its two neighbours."""
    return statistics.median(
        2 * getattr(mine, member)
        / (getattr(before, member) + getattr(after, member))
        for before, mine, after in runs)


def report(results):
    print(f"\n{'median / bare':18}{'req/s':>7}{'CPU':>7}{'p50':>7}{'p99':>7}"
          f"{'req/s':>10}{'CPU us':>8}{'Redis us':>10}{'not 2xx':>9}")

    for name, runs in results.items():
        mine = [run[1] for run in runs]

        def middle(member):
            return statistics.median(getattr(s, member) for s in mine)

        ratios = "".join(f"{median_ratio(runs, member):7.2f}"
                         for member in ("rate", "cpu", "p50", "p99"))
        print(f"{name:18}{ratios}{middle('rate'):10.0f}{middle('cpu'):8.1f}"
              f"{middle('redis_cpu'):10.1f}{sum(s.bad for s in mine):9}")


def of_its_own(module):
    return lambda name, rounds, seconds, connections: module.main()


def beside_nginx(module, bench):
    return lambda name, rounds, seconds, connections: module.main(
        bench(seconds, connections), rounds)


def with_keys(module):
    return lambda name, rounds, seconds, connections: module.main(
        KeyBench(seconds, connections), name, rounds)


# What is not a gateway beside bare, and runs by itself: what it measures, how.
ALONE = {
    "revocation": ("two gates: from a writer's answer to the first refusal; "
                   "COUNT=2000, and RATE=500 requests/s on each",
                   of_its_own(revocation)),
    "limit_script": ("Redis's CPU of an exact decision, to EVALSHA of "
                     "`return 1`; COUNT=4000 calls a round",
                     of_its_own(limit_script)),
    "request_id": ("ns an id, and how many of COUNT=10000000 are the same, "
                   "made by PROCESSES=16", of_its_own(request_id)),
    "errors": ("instructions of a 200 with keygate_errors on and off, and CPU "
               "of a shaped 502 to that of nginx's own",
               beside_nginx(errors, ErrorBench)),
    "idempotency": ("CPU of a write that happens once, and of its replay, to "
                    "that of a bare POST; Redis memory of a stored answer",
                    beside_nginx(idempotency, WriteBench)),
    "flood": ("unknown keys of one address, to return 401", with_keys(keys)),
    "room": ("bytes of zone a key takes", with_keys(keys)),
    "million": ("CPU per request with KEYS=1000000 in use, to a thousand",
                with_keys(keys)),
    "many": ("an exact limit on 10,000 keys at random", with_keys(limits)),
    "denial": ("a key past its limit, to return 429 and to limit_req",
               with_keys(limits)),
    "asks": ("commands of Redis for an admitted request", with_keys(limits)),
    "states": ("bytes of Redis that a limit takes", with_keys(limits)),
}


def listed(scenarios):
    return "\n".join(
        textwrap.fill(text, 76, initial_indent=f"  {name:18}",
                      subsequent_indent=" " * 20)
        for name, text in scenarios.items())


def command_line():
    alone = {name: text for name, (text, _) in ALONE.items()}
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=textwrap.dedent(__doc__),
        epilog=f"scenarios:\n{listed(SCENARIOS)}\n"
               f"\nalone:\n{listed(alone)}\n"
               "\nenvironment:\n"
               "  ROUNDS=9           slices of each scenario\n"
               "  SECS=1             whole seconds a slice takes\n"
               "  CONNS=64           connections of the load")
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO",
                        help="default: all that are not alone")
    args = parser.parse_args()

    if len(args.scenario) == 1 and args.scenario[0] in ALONE:
        return args.scenario

    for name in args.scenario:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}, or not beside others: "
                         f"{' '.join(SCENARIOS)}; alone: {' '.join(ALONE)}")
    return args.scenario or list(SCENARIOS)


def main():
    names = command_line()
    rounds, seconds = setting("ROUNDS", 9), setting("SECS", 1)
    connections = setting("CONNS", 64)

    if os.cpu_count() < 2:
        sys.exit("bench: two CPUs are needed, one for the gateway alone")

    if names[0] in ALONE:
        ALONE[names[0]][1](names[0], rounds, seconds, connections)
        return

    slices = 1 + 2 * rounds * len(names)
    print(f"{slices} slices of {seconds} s, about "
          f"{slices * (seconds + 0.8) / 60:.0f} min", flush=True)

    results = {name: [] for name in names}
    with Bench(seconds, connections) as bench:
        before = bench.slice("bare")
        start = time.monotonic()
        for number in range(1, rounds + 1):
            for name in random.sample(names, len(names)):
                mine, after = bench.slice(name), bench.slice("bare")
                results[name].append((before, mine, after))
                before = after
            print(f"round {number} of {rounds}, "
                  f"{time.monotonic() - start:.0f} s", flush=True)

    report(results)


if __name__ == "__main__":
    main()
