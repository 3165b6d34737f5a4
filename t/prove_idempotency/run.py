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

from . import load, plan, relay, rules, upstream
from .faults import Faults
from .history import History, Name, Record
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
            "appendonly": "yes", "appendfsync": "always"}))
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
            load.main, self.seed, [node.port for node in self.nodes],
            [node.path("admin.sock") for node in self.nodes], self.tokens,
            steps))

        requests, resolutions = self.under_faults()

        self.upstream.ask("calm")
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
                       began=self.began)

    def under_faults(self):
        """The load, and faults until it is over."""
        self.faults = Faults(self.seed, self.nodes, self.relays, self.redis,
                             self.upstream, LEASE)
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
            org, mode, key = name.decode()[len(NAMESPACE):].split(":", 2)
            found.append(Record(Name(org.strip("{}"), mode, key),
                                client.pttl(name), time.monotonic()))
        return found


# The least a run must have seen to prove anything.
MUST_HAVE = ("first", "replay", "idempotency_conflict",
             "idempotency_in_progress", "idempotency_outcome_unknown",
             "unclaimable")


def figures(history, faults, acks, seconds):
    """(lines of figures, what never happened and must for a proof)."""
    answers, lost = Counter(), Counter()
    for request in history.requests:
        if request.answer:
            answers[rules.kind(request.answer, history)] += 1
        else:
            lost[request.lost] += 1

    load_requests = sum(r.phase == "load" for r in history.requests)
    verdicts = Counter(e.verdict for e in history.executions)
    kept = sum(rules.must_be_kept(execution, key, history)
               for key in history.keys.values()
               for execution in key.executions)

    def several(counts):
        return ", ".join(f"{name} {n}" for name, n
                         in sorted(counts.items(), key=lambda c: str(c[0])))

    lines = [
        f"keys        {len(history.keys)}",
        f"requests    {load_requests}, and "
        f"{len(history.requests) - load_requests} probes",
        f"executions  {len(history.executions)}: {several(verdicts)}; "
        f"{kept} of them must be kept",
        f"answers     {several(answers)}",
        f"none        {several(lost)}",
        f"resolved    {len(history.resolutions)}: "
        + several(Counter(r.status for r in history.resolutions)),
        f"faults      {len(history.faults)}: {several(faults)}",
        f"acks lost   {several(acks)}",
        f"records     {len(history.records)} in Redis",
        f"seconds     {seconds:.0f}",
    ]
    missing = [f"answer of the kind {name}" for name in MUST_HAVE
               if not answers[name]]
    if not any(r.status == 200 for r in history.resolutions):
        missing.append("key that an operator has freed")
    return lines, missing


def prove(seed, keys, requests, seconds, say):
    """Runs it and says what came of it; True when every rule held."""
    began = time.monotonic()
    run = Run(seed, keys, requests, seconds, say)

    try:
        history = run.run()
    finally:
        run.close()

    violations = rules.check(history)
    lines, missing = figures(history, run.faults.count(), run.lost,
                             time.monotonic() - began)

    for line in lines:
        say(line)
    for what in missing:
        say(f"NOT PROVED: no {what}")

    report(history, violations, say)
    return not violations and not missing


def report(history, violations, say, shown=3):
    """How often each rule was broken, and some keys' whole histories."""
    if not violations:
        say(f"{len(rules.RULES)} rules held for every key")
        return

    for name, count in Counter(v.rule for v in violations).most_common():
        say(f"BROKEN {name}: {count} times")

    for name in list(dict.fromkeys(v.name for v in violations))[:shown]:
        say("")
        for violation in violations:
            if violation.name == name:
                say(f"{violation.rule}: {violation.text}")
        say(history.tell(name))
