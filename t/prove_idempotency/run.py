"""A run of the proof: servers, load and faults, then the probes, then the
rules, then the report."""

import contextlib
import multiprocessing
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter

from harness import RedisServer, records
from harness.gate import PEPPER
from harness.ports import wait_for

from . import load, plan, relay, report, rules, upstream
from .faults import Faults
from .history import History, Record, name_of
from .node import UPSTREAM_TIMEOUT, Node

# A lease, ms: shorter than what the upstream may take.
LEASE = 1000

# After the last request's end its write may go on as long as nginx waits for
# the upstream, and its lease is over one lease later, s.
REST = UPSTREAM_TIMEOUT + 2 * LEASE / 1000 + 1

NAMESPACE = "kg:idem:"

SPAWN = multiprocessing.get_context("spawn")


class Helper:
    """A process of the proof, and the pipe it is told things by."""

    def __init__(self, target, *arguments):
        self.pipe, far = SPAWN.Pipe()
        self.process = SPAWN.Process(target=target, args=(far, *arguments),
                                     daemon=True)
        self.process.start()
        far.close()

    def ask(self, *words):
        self.pipe.send(words)
        return self.pipe.recv()

    def close(self):
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Told(Helper):
    """One that takes single words."""

    def ask(self, word):
        self.pipe.send(word)
        return self.pipe.recv()


class Run:
    """All servers of a run, and what they have seen: make it, run() it, and
    there is the history."""

    def __init__(self, seed, keys, requests, seconds, say):
        self.seed = seed
        self.keys = keys
        self.wanted = requests
        self.seconds = seconds
        self.say = say
        self.stack = contextlib.ExitStack()
        self.folder = tempfile.mkdtemp(prefix="keygate-proof-")
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

        try:
            self.start()
        except BaseException:
            self.stack.close()
            raise

    def start(self):
        self.redis = self.add(RedisServer(options={
            "appendonly": "yes", "appendfsync": "always",
            "repl-diskless-sync-delay": "0"}))
        self.replica = self.add(RedisServer(options={
            "replicaof": f"127.0.0.1 {self.redis.port}"}))
        self.followed()
        self.log = os.path.join(self.folder, "executions")
        self.upstream = self.add(Told(upstream.main, self.seed, self.log))
        self.upstream_port = self.upstream.pipe.recv()

        self.relays, self.nodes = [], []
        for number in range(2):
            way = self.add(Helper(relay.main, self.redis.port, number))
            self.relays.append(way)
            url = way.pipe.recv()
            self.nodes.append(self.add(Node(
                number, self.redis, self.upstream_port, url, LEASE)))

        rng = random.Random(f"tenants {self.seed}")
        self.orgs = [f"org_{rng.randrange(1 << 40):010x}"
                     for _ in range(plan.TENANTS)]
        self.tokens = {}
        for org in self.orgs:
            records.make_org(self.redis.client, org=org)
            for mode in plan.MODES:
                made = records.make_key(self.redis.client, PEPPER, org, mode)
                self.tokens[(org, mode)] = made.token

    def followed(self):
        """Until the replica has what Redis has."""
        wait_for(lambda: self.redis.client.set("kg:followed", 1)
                 and self.redis.client.wait(1, 1000), 30, "replication")

    def add(self, thing):
        self.stack.callback(thing.close)
        return thing

    def close(self):
        self.stack.close()

    def run(self):
        """The history of it."""
        self.began = time.monotonic()
        steps = plan.make(self.seed, self.keys, self.wanted, self.seconds,
                          self.orgs)
        self.load = self.add(Helper(
            load.main, self.seed,
            [(node.port, node.h2_port) for node in self.nodes],
            [node.path("admin.sock") for node in self.nodes], self.tokens,
            steps))

        requests, resolutions = self.under_faults()

        self.upstream.ask("calm")
        self.followed()
        time.sleep(REST)
        for way in self.relays:
            way.ask("repeat", self.seconds + REST)
        requests += self.probes(requests)

        for node in self.nodes:
            node.check()

        commands = [command for way in self.relays
                    for command in way.ask("commands")]
        self.lost = sum((way.ask("lost") for way in self.relays), Counter())
        return History(requests, upstream.read_log(self.log), resolutions,
                       self.faults.made, self.scan(), commands,
                       lease=LEASE, began=self.began)

    def under_faults(self):
        """The load, and faults until it is over."""
        self.faults = Faults(self.seed, self.nodes, self.relays, self.redis,
                             self.replica, self.upstream, LEASE)
        over = threading.Event()
        failed = []

        def make_faults():
            try:
                self.faults.run(lambda: not over.is_set())
            except BaseException as error:      # told in the main thread
                failed.append(error)

        thread = threading.Thread(target=make_faults, daemon=True)
        thread.start()
        told = time.monotonic()

        while True:
            kind, *what = self.load.pipe.recv()
            if kind == "load":
                break
            if time.monotonic() > told + 10:
                told = time.monotonic()
                self.say(f"{what[0]} of {self.wanted} requests, "
                         f"{len(self.faults.made)} faults")

        over.set()
        thread.join()
        if failed:
            raise failed[0]
        return what

    def probes(self, requests):
        """Every payload sent of every key, at one node; then the one that was
        taken, at the other."""
        variants = {}
        for request in requests:
            if request.whole:
                variants.setdefault(request.name, set()).add(request.variant)

        first = self.probe("probe", {
            name: [(variant, 0) for variant in sorted(sent)]
            for name, sent in variants.items()})

        taken = {request.name: [(request.variant, 1)] for request in first
                 if request.answer and request.answer.error.get("code")
                 != "idempotency_conflict"}
        return first + self.probe("again", taken)

    def probe(self, phase, wanted):
        self.load.pipe.send((phase, wanted))
        return self.load.pipe.recv()[1]

    def scan(self):
        """Every record of a key in Redis, with what is left to it."""
        client, found = self.redis.client, []

        for name in client.scan_iter(NAMESPACE + "*", count=1000):
            found.append(Record(name_of(name.decode()), client.pttl(name),
                                time.monotonic()))
        return found


def prove(seed, keys, requests, seconds, say):
    """Runs it and says what came of it; True when every rule held."""
    began = time.monotonic()
    run = Run(seed, keys, requests, seconds, say)

    try:
        history = run.run()
    finally:
        run.close()

    violations = rules.check(history)
    lines, missing = report.figures(history, run.faults.count(), run.lost,
                                    time.monotonic() - began)

    for line in lines:
        say(line)
    for what in missing:
        say(f"NOT PROVED: no {what}")

    report.tell(history, violations, say)
    return not violations and not missing
