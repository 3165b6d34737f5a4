"""The nodes, their Redis and their clocks, and the faults at work."""

import concurrent.futures
import contextlib
import os
import time

import harness

LIBFAKETIME = "faketime/libfaketime.so.1"

# nginx clears the environment of its workers but for what is named.
CLOCK_VARIABLES = ("LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE", "FAKETIME_NO_CACHE",
                   "FAKETIME_DONT_FAKE_MONOTONIC")

# Nothing times out while the machine is busy: a fault is one that was meant.
REDIS_PARAMETERS = "connect=1s command=2s dead=5s"

HTTP = """
    keepalive_requests 100000;
    upstream app { server 127.0.0.1:%%UPSTREAM_PORT%%; keepalive 64; }"""


def libfaketime():
    """Where Debian has the library for this machine."""
    for folder in sorted(os.listdir("/usr/lib")):
        path = os.path.join("/usr/lib", folder, LIBFAKETIME)
        if os.path.exists(path):
            return path
    raise RuntimeError("Debian's package faketime is not installed")


class Node:
    """A gate with a wall clock of its own, and maybe a relay to Redis."""

    def __init__(self, redis, load, skew, relayed, pieces):
        self.relay = harness.Relay(redis.port) if relayed else None
        self.clock = os.path.join(redis.folder, f"clock-{id(self)}")
        self.set_clock(skew)

        self.gate = harness.Gate(
            redis, load, redis_url=self.relay.url if self.relay else None,
            env={"LD_PRELOAD": libfaketime(),
                 "FAKETIME_TIMESTAMP_FILE": self.clock,
                 "FAKETIME_NO_CACHE": "1",
                 "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
            **pieces)

    def set_clock(self, skew):
        """Sets the wall clock skew seconds off; the monotonic one goes on."""
        with open(self.clock + ".new", "w", encoding="ascii") as file:
            file.write(f"{skew:+d}\n")
        os.replace(self.clock + ".new", self.clock)

    def close(self):
        try:
            self.gate.close()
        finally:
            if self.relay:
                self.relay.close()


class Stage:
    """Everything a scenario runs on; callers[tenant][i] is the Key of one."""

    def __init__(self, scenario, load):
        self.scenario = scenario
        self.nodes = []
        self.factor = 1
        self.factors = [(0.0, 1)]
        self.redis = harness.RedisServer(
            options={"appendonly": "yes", "appendfsync": "always"})
        try:
            self._start(scenario, load)
        except BaseException:
            self.close()
            raise

    def _start(self, scenario, load):
        relayed = {f.node for f in scenario.faults
                   if f.kind in ("delay", "late")}
        skews = scenario.skews or (0,) * scenario.nodes

        for i in range(scenario.nodes):
            self.nodes.append(Node(self.redis, load, skews[i], i in relayed,
                                   self._pieces()))
        self.callers = [self._keys(tenant) for tenant in scenario.tenants]
        self.offset = self._clock_offset()

    def _pieces(self):
        policies, routes = [], []
        share = self.scenario.share

        for t, tenant in enumerate(self.scenario.tenants):
            names = [f"t{t}p{p}" for p in range(len(tenant.policies))]
            for name, policy in zip(names, self.policies(t)):
                policies.append(policy.directive(name))
            for r, cost in enumerate(tenant.costs):
                routes.append(f"GET {path(t, r)} loads:read "
                              f"limit={','.join(names)}"
                              + (f" cost={cost}" if cost > 1 else "") + ";")

        return dict(
            redis_parameters=REDIS_PARAMETERS,
            workers=str(self.scenario.workers),
            main="".join(f"env {name};\n" for name in CLOCK_VARIABLES),
            policies="\n".join(policies),
            routes="keygate_routes partner {\n" + "\n".join(routes) + "\n}",
            outage="keygate_outage keys=stale:5m limits="
                   + ("deny;" if share is None
                      else f"local share={share:.0%};"),
            gate="keygate partner; keygate_limit off; "
                 "keygate_errors envelope;",
            http=HTTP, proxy="proxy_pass http://app;")

    def policies(self, tenant):
        """The policies of a tenant as they are in force now."""
        return [policy.scaled(self.factor)
                for policy in self.scenario.tenants[tenant].policies]

    def _keys(self, tenant):
        gate, orgs, keys = self.nodes[0].gate, {}, {}
        for caller in tenant.callers:
            if caller.org not in orgs:
                orgs[caller.org] = gate.org()
            if caller.identity not in keys:
                keys[caller.identity] = gate.key(orgs[caller.org], caller.mode)
        return [keys[caller.identity] for caller in tenant.callers]

    # Redis's clock, beside the one that stamps requests.

    def _clock_offset(self):
        """Redis TIME less time.monotonic(): (at least, at most), from the
        quickest of some answers."""
        found = []
        for _ in range(10):
            before = time.monotonic()
            seconds, micros = self.redis.client.time()
            after = time.monotonic()
            at = seconds + micros / 1e6
            found.append((after - before, at - after, at - before))
        return min(found)[1:]

    def clock_error(self):
        """How far, in seconds, Redis's clock may have gone from the one that
        stamps since the start; both ends of a stretch are in it."""
        low, high = self._clock_offset()
        return max(high - self.offset[0], self.offset[1] - low)

    # Faults.

    def do(self, fault):
        node = self.nodes[fault.node]

        if fault.kind == "reload":
            node.gate.reload()
        elif fault.kind == "kill":
            node.gate.kill_worker()
        elif fault.kind == "clock":
            node.set_clock(fault.value)
        elif fault.kind == "delay":
            node.relay.delay = fault.value
        elif fault.kind == "late":
            node.relay.late = fault.value
        elif fault.kind == "redis":
            getattr(self.redis, fault.value)()
            self.redis.start()
        elif fault.kind == "away":
            self.redis.kill()
        elif fault.kind == "back":
            self.redis.start()
        elif fault.kind == "rerate":
            self._rerate(fault.value)
        else:
            raise ValueError(f"no fault {fault.kind!r}")

    def _rerate(self, factor):
        before = self.factor
        self.factor = factor
        self.factors.append((time.monotonic(), max(before, factor)))

        pieces = self._pieces()
        for node in self.nodes:
            node.gate.edit(policies=pieces["policies"])
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.gate.reload(), self.nodes))

        self.factors.append((time.monotonic(), factor))

    def highest_factor(self, start=0.0, end=float("inf")):
        """The highest factor of the rates in force from start to end; while
        nodes reload, the higher one."""
        held = [factor for i, (since, factor) in enumerate(self.factors)
                if since <= end and (i + 1 == len(self.factors)
                                     or self.factors[i + 1][0] >= start)]
        return max(held)

    def calm(self):
        """Ends what goes on: no delay any more."""
        for node in self.nodes:
            if node.relay:
                node.relay.delay = node.relay.late = 0

    def close(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self.redis.close)
            for node in self.nodes:
                stack.callback(node.close)


def path(tenant, route):
    return f"/t{tenant}/r{route}"
