"""What is done to nodes, Redis and the upstream while the load runs.

Each kind of fault is made at least once, in an order drawn from the seed, and
then on and on until the load is over; now and then nothing for a while, so
that what happens without faults is proved too.
"""

import contextlib
import random
import time
from collections import Counter

from .history import Fault

CALM_FIRST = 3.0
CALM_EVERY = 20
CALM = 10.0

# Between two faults, s.
GAP = (0.1, 0.6)

# Those that are not about one node.
ABOUT_ALL = ("redis_frozen", "redis_restarted", "redis_killed", "replica",
             "upstream", "claim_acks", "complete_acks", "unknown_acks",
             "outcomes")

# What may be lost by none of these, when nothing else happens.
HARMLESS = ("reload", "upgrade", "outcomes_repeated")

# So many acknowledgements, or commands, of a kind each time at each node.
LOST = {"lose": 3, "drop": 10}

# These want requests, which come for certain as long as the load begins only.
FIRST = ("replica_frozen", "replica_stopped")

# A replica is away until a node finds that it has not got a claim, or for so
# long; and then for others to be refused, s.
MISSED_WITHIN = 4.0
AND_ON = 0.7


class Faults:
    """nodes, relays (one a node), redis, its replica and upstream are what it
    breaks; lease in ms.  made: what was done."""

    def __init__(self, seed, nodes, relays, redis, replica, upstream, lease):
        self.rng = random.Random(f"faults {seed}")
        self.nodes = nodes
        self.relays = relays
        self.redis = redis
        self.replica = replica
        self.upstream = upstream
        self.lease = lease / 1000
        self.made = []
        self.kinds = [name[len("make_"):] for name in dir(self)
                      if name.startswith("make_")]

    def count(self):
        return Counter(fault.kind for fault in self.made)

    def run(self, going):
        """Makes faults while going() is true, and each kind once anyway."""
        time.sleep(CALM_FIRST)
        todo = sorted(self.shuffled(), key=FIRST.__contains__)
        all_made = False

        while going() or not all_made:
            self.make(todo.pop())
            if not todo:
                todo, all_made = self.shuffled(), True
            time.sleep(self.rng.uniform(*GAP))
            if len(self.made) % CALM_EVERY == 0:
                calm = time.monotonic() + CALM
                while going() and time.monotonic() < calm:
                    time.sleep(0.1)

    def shuffled(self):
        return self.rng.sample(self.kinds, len(self.kinds))

    def make(self, kind):
        number = self.rng.randrange(len(self.nodes))
        start = time.monotonic()
        away = getattr(self, "make_" + kind)(number)
        self.made.append(Fault(
            kind, start, time.monotonic(),
            None if kind.startswith(ABOUT_ALL) else number,
            kind in HARMLESS, away))

    # Nodes.

    def make_worker_killed(self, number):
        self.nodes[number].kill_workers(1)

    def make_workers_killed(self, number):
        self.nodes[number].kill_workers(2)

    def make_worker_paused(self, number):
        self.nodes[number].pause_worker(1.5 * self.lease)

    def make_reload(self, number):
        self.nodes[number].reload()

    def make_upgrade(self, number):
        self.nodes[number].upgrade()

    # Redis.

    def make_redis_frozen(self, _):
        with self.redis.frozen():
            time.sleep(self.rng.choice((0.1, 0.5, 1.5)))

    def make_redis_restarted(self, _):
        self.redis.restart()

    def make_redis_killed(self, _):
        self.redis.kill()
        time.sleep(self.rng.uniform(0, 0.5))
        self.redis.start()

    # Its replica.

    def make_replica_frozen(self, _):
        with self.replica.frozen():
            return self.until_missed()

    def make_replica_stopped(self, _):
        with self.replica.stopped():
            return self.until_missed()

    def make_replica_cut(self, _):
        """It comes back by itself, and asks for what it has missed."""
        for _ in range(3):
            self.redis.client.client_kill_filter(_type="slave")
            time.sleep(self.rng.uniform(0.01, 0.3))

    def until_missed(self):
        """From when to when it was away."""
        def told():
            return [node.log().count("had a claim in time")
                    for node in self.nodes]

        start, before = time.monotonic(), told()
        while told() == before and time.monotonic() < start + MISSED_WITHIN:
            time.sleep(0.1)
        time.sleep(AND_ON)
        return start, time.monotonic()

    # The way to it.

    def make_connections_cut(self, number):
        for _ in range(3):
            self.relays[number].ask("cut")
            time.sleep(self.rng.uniform(0.01, 0.1))

    def make_redis_unreachable(self, number):
        self.relays[number].ask("refuse")
        time.sleep(self.rng.uniform(0.1, 0.8))
        self.relays[number].ask("accept")

    def make_network_slow(self, number):
        self.relays[number].ask("delay", self.rng.uniform(0.05, 0.25))
        time.sleep(1)
        self.relays[number].ask("delay", 0)

    def make_release_acks_lost(self, number):
        """Releases come of claims that took too long: those are made too."""
        with self.losing("release"):
            self.relays[number].ask("delay", 0.2)
            time.sleep(0.7)
            self.relays[number].ask("delay", 0)
            time.sleep(0.3)

    def make_claim_acks_lost(self, _):
        with self.losing("claim"):
            time.sleep(0.5)

    def make_complete_acks_lost(self, _):
        with self.losing("complete"):
            time.sleep(0.5)

    def make_unknown_acks_lost(self, _):
        with self.losing("unknown"):
            time.sleep(0.5)

    def make_outcomes_repeated(self, _):
        """As by a node that has not heard that Redis took them, and that finds
        it again only when an operator has freed the key."""
        for _ in range(20):
            time.sleep(0.3)
            for relay in self.relays:
                relay.ask("repeat", 5)

    def make_outcomes_lost(self, _):
        """Before Redis has got them."""
        with self.losing("complete", "drop"), self.losing("unknown", "drop"), \
                self.losing("release", "drop"):
            time.sleep(1)

    @contextlib.contextmanager
    def losing(self, action, how="lose"):
        for relay in self.relays:
            relay.ask(how, action, LOST[how])
        yield
        for relay in self.relays:
            relay.ask(how, action, 0)

    # Several at once, and the upstream.

    def make_worker_killed_while_redis_frozen(self, number):
        with self.redis.frozen():
            time.sleep(0.2)
            self.nodes[number].kill_workers(1)
            time.sleep(0.3)

    def make_reload_while_redis_frozen(self, number):
        with self.redis.frozen():
            time.sleep(0.2)
            self.nodes[number].reload()

    def make_upstream_refuses(self, _):
        self.upstream.ask("refuse")
        time.sleep(self.rng.uniform(0.1, 0.4))
        self.upstream.ask("accept")
