"""How long it takes until who was put out is out: scripts/bench revocation.

Two nginx of two workers each, with the load of wrk on both.  One after another
keys are revoked and organisations disabled, half of them through the admin
interface of one of the nodes, half by a client of Redis (SET, as redis-cli
would), while the connections on which Redis tells of changes are killed at
random.  From the moment the writer has its answer each node is asked with the
key, on connections that stand, until it refuses; what is reported is the time
from that answer to the end of the first refusal.  At the end all are asked for
once more: one that is served is lost.

The load is bounded, as a machine that is busy measures itself; the latency of
an ordinary request is reported beside.
"""

import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import harness                                              # noqa: E402
from harness.client import Client                           # noqa: E402

LOADS = "/v1/loads"
PAST = "2020-01-01T00:00:00Z"
LOST = 5.0          # s after which nobody waits for a refusal any more

NODE = {
    "level": "notice",
    "zone": "keygate_zone zone=keygate:32m valid=60s negative=60s;",
    "policies": "keygate_policy default rate=100000r/s by=key;",
    "http": "keepalive_requests 1000000;",
    "proxy": "proxy_pass http://unix:%%FOLDER%%/upstream.sock;",
    "servers": """server {
        listen unix:%%FOLDER%%/upstream.sock;
        access_log off;
        location / { return 200 '{"data":[]}'; }
    }""",
}

# Each connection sends a request, waits for the answer, and then some ms.
PACED = "function delay() return {ms} end\n"


def setting(name, default):
    value = os.environ.get(name, str(default))
    if not value.isdigit() or int(value) == 0:
        sys.exit(f"bench: {name}={value} is not a number over 0")
    return int(value)


class Load:
    """wrk on a node, so many requests a second, until it is stopped."""

    CONNECTIONS = 8

    def __init__(self, node, rate):
        path = node.write("paced.lua", PACED.format(
            ms=max(1, 1000 * self.CONNECTIONS // rate)))
        self.process = subprocess.Popen(
            ["wrk", "-t1", f"-c{self.CONNECTIONS}", "-d600s", "--latency",
             "-s", path, "-H", f"Authorization: Bearer {node.key().token}",
             node.url + LOADS],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def stop(self):
        """Requests a second and how many were not answered 2xx."""
        self.process.send_signal(signal.SIGINT)
        output = self.process.communicate(timeout=20)[0]
        rate = re.search(r"Requests/sec: +([\d.]+)", output)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        if rate is None:
            sys.exit(f"bench: wrk printed no rate:\n{output}")
        return float(rate[1]), int(bad[1]) if bad else 0


class Killer:
    """Kills the connections on which Redis tells of changes, at random."""

    def __init__(self, redis):
        self.killed = 0
        self._redis = redis.connect()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._ending.wait(random.uniform(0.02, 0.4)):
            self.killed += self._redis.client_kill_filter(_type="pubsub")

    def stop(self):
        self._ending.set()
        self._thread.join()


class Node:
    """A gate, and connections to it that stand."""

    def __init__(self, gate):
        self.gate = gate
        self.clients = [gate.connect() for _ in range(4)]
        self.desk = Client(gate.path("admin.sock"))

    def ask(self, token):
        """The status, on any of the connections."""
        return random.choice(self.clients).request("GET", LOADS, {
            "Authorization": f"Bearer {token}"}).status

    def admin(self, method, path, body=None):
        answer = self.desk.request(
            method, path, body=json.dumps(body) if body else b"")
        if answer.status not in (200, 201):
            sys.exit(f"bench: {method} {path}: {answer}")
        return answer.json()


class Trial:
    """One to put out: a key or an organisation, by either way."""

    def __init__(self, number, nodes, redis):
        self.nodes = nodes
        self.redis = redis
        self.writer = nodes[number // 4 % 2]
        self.disables = number % 2 == 1
        self.by_admin = number // 2 % 2 == 1
        self.status = 403 if self.disables else 401
        self.kind = (f"{'organisation' if self.disables else 'key'}, "
                     f"{'admin interface' if self.by_admin else 'Redis'}")

        self.org = nodes[0].gate.org()
        if self.by_admin and not self.disables:
            made = self.writer.admin("POST", f"/orgs/{self.org}/keys", {
                "mode": "live", "scopes": ["loads:read"]})
            self.id, self.token = made["id"], made["token"]
        else:
            self.key = nodes[0].gate.key(self.org)
            self.token = self.key.token

    def write(self):
        if self.by_admin and self.disables:
            self.writer.admin("PATCH", f"/orgs/{self.org}",
                              {"access": "disabled"})
        elif self.by_admin:
            self.writer.admin("DELETE", f"/keys/{self.id}")
        elif self.disables:
            self.redis.client.set(f"kg:org:{{{self.org}}}", json.dumps(
                {"v": 1, "access": "disabled"}))
        else:
            self.key.save(revokedAt=PAST)

    def run(self):
        """Seconds to the first refusal on each node; None: it never came."""
        for node in self.nodes:
            if node.ask(self.token) != 200:
                sys.exit("bench: a key was refused that nobody put out")

        self.write()
        start = time.perf_counter()
        took = dict.fromkeys(self.nodes)
        waiting = random.sample(self.nodes, len(self.nodes))

        while waiting and time.perf_counter() - start < LOST:
            for node in list(waiting):
                if node.ask(self.token) == self.status:
                    took[node] = time.perf_counter() - start
                    waiting.remove(node)
        return list(took.values())

    def lost(self):
        return sum(node.ask(self.token) != self.status for node in self.nodes)


def request_latency(nodes, key):
    """Seconds of ordinary requests, as the refusals are timed."""
    took = []
    for _ in range(500):
        for node in nodes:
            start = time.perf_counter()
            node.ask(key.token)
            took.append(time.perf_counter() - start)
    return took


def row(name, took, never=""):
    took = sorted(took)
    points = (statistics.median(took), took[len(took) * 99 // 100], took[-1])
    print(f"{name:32}{len(took):7}"
          + "".join(f"{1000 * point:9.2f}" for point in points)
          + f"{never:>8}")


def main():
    count, rate = setting("COUNT", 2000), setting("RATE", 500)
    redis, gates = harness.RedisServer(), []

    try:
        for _ in range(2):
            gates.append(harness.Gate(redis, None, **NODE))
            gates[-1].watched()
        measure(redis, gates, count, rate)
    finally:
        for gate in gates:
            gate.close()
        redis.close()


def measure(redis, gates, count, rate):
    nodes = [Node(gate) for gate in gates]
    usual = gates[0].key()
    trials, results = [], {}
    loads = [Load(gate, rate) for gate in gates]
    time.sleep(0.5)
    ordinary = request_latency(nodes, usual)
    killer = Killer(redis)

    try:
        for number in range(count):
            trial = Trial(number, nodes, redis)
            results.setdefault(trial.kind, []).extend(trial.run())
            trials.append(trial)
    finally:
        killer.stop()
        rates = [load.stop() for load in loads]

    lost = sum(trial.lost() for trial in trials)
    everything = [seconds for took in results.values() for seconds in took]

    print(f"{count} put out, one after another; load "
          + " and ".join(f"{each[0]:.0f}/s" for each in rates)
          + f", {sum(each[1] for each in rates)} of it not answered 2xx; "
          f"{killer.killed} connections killed\n")
    print(f"{'ms to the first refusal':32}{'n':>7}{'p50':>9}{'p99':>9}"
          f"{'max':>9}{'never':>8}")
    for kind, took in sorted({**results, "all": everything}.items(),
                             key=lambda item: item[0] == "all"):
        row(kind, [each for each in took if each is not None],
            took.count(None))
    row("(an ordinary request)", ordinary)
    print(f"\nserved in the end: {lost} of {len(nodes) * len(trials)}")

    if lost or None in everything:
        sys.exit("bench: revocations were lost")


if __name__ == "__main__":
    main()
