"""What a scenario is made of.

A scenario runs several tenants at once on the same nodes, each with policies
and routes of its own, so that one minute proves more.  Nothing here runs.
"""

import dataclasses
import json
from dataclasses import dataclass

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

TEAM = "$http_x_team"

# by= of a policy, and what of a caller it separates.
DIMENSIONS = {"key": "identity", "org": "org", "mode": "mode",
              "route": "route", "address": "address", TEAM: "team"}


@dataclass(frozen=True)
class Policy:
    """rate=<rate>r/<unit>, a token bucket when it has a burst; exact: without
    leases."""
    rate: int
    unit: str = "s"
    by: tuple = ("key",)
    burst: int = None
    exact: bool = False

    @property
    def window(self):
        return SECONDS[self.unit]

    def scaled(self, factor):
        """The policy with factor times its rate, one a window at least."""
        return dataclasses.replace(self, rate=max(1, int(self.rate * factor)))

    def directive(self, name):
        burst = f" burst={self.burst}" if self.burst else ""
        exact = " exact" if self.exact else ""
        return (f"keygate_policy {name} rate={self.rate}r/{self.unit}{burst} "
                f"by={','.join(self.by)}{exact};")

    def group(self, caller):
        """What of a caller is counted together under this policy; always
        within the organisation."""
        return (caller.org, *(getattr(caller, DIMENSIONS[by])
                              for by in self.by))

    def allowance(self, cost):
        """How many requests of a cost fit at once."""
        return (self.burst or self.rate) // cost

    @property
    def recovery(self):
        """Seconds after the last request until all is there again.

        A strict window: the window and two of its slices.  One is what an
        entry may count longer because it holds what came later in its slice;
        the other is what a lease may live, which is charged as if used at its
        end.  A bucket: the time in which it fills and, of the same kind, two
        60ths of that.
        """
        full = self.window * (self.burst / self.rate if self.burst else 1)
        return full * (1 + 2 / 60)


@dataclass(frozen=True)
class Caller:
    """Who calls, and what: a key of an organisation, on a route.  A key has
    one mode: key 0 of "test" and key 0 of "live" are two."""
    org: int = 0
    key: int = 0
    mode: str = "test"
    route: int = 0
    address: str = "127.0.0.1"
    team: str = "a"

    @property
    def identity(self):
        return (self.org, self.key, self.mode)


@dataclass(frozen=True)
class Tenant:
    """Policies that apply together to each of the callers; costs has one of
    each route."""
    policies: tuple
    callers: tuple = (Caller(),)
    costs: tuple = (1,)


@dataclass(frozen=True)
class Stream:
    """A flow of load.py: whose, through which node, and when."""
    tenant: int
    caller: int
    node: int
    conns: int
    gap: float
    start: float
    length: float
    rate: float = None


@dataclass(frozen=True)
class Fault:
    """What happens at a moment; value is the kind's own:

    reload      the node's nginx is reloaded
    kill        a worker of the node dies by SIGKILL
    redis       Redis is restarted; value is how it ends, "stop" or "kill"
    away, back  Redis is killed; Redis is started again
    clock       the node's wall clock is set; value is how many seconds off
    delay       what goes between the node and Redis is so many seconds late,
                each way; a value of 0 ends it
    late        what comes from Redis to the node alone is; likewise
    rerate      every policy has value times its rate, by reload of all nodes
    """
    at: float
    kind: str
    node: int = 0
    value: object = None


@dataclass(frozen=True)
class Scenario:
    """nodes gates on one Redis; skews are how many seconds off their wall
    clocks start.

    patience    seconds that recovery and Retry-After are waited for: tenants
                that need longer do not take part in what comes after the
                streams
    workers     of each node
    share       None: without Redis all are refused; else each node admits so
                much of a limit by itself, and the limits hold all the same
    floor       what share of the requests of each group that a perfect window
                would admit must be
    """
    tenants: tuple
    streams: tuple
    nodes: int = 1
    skews: tuple = ()
    faults: tuple = ()
    patience: float = 2.5
    workers: int = 2
    share: float = None
    floor: float = 0.0
    name: str = "drawn"

    def json(self):
        return json.dumps(dataclasses.asdict(self))

    @property
    def length(self):
        """Seconds it takes at most."""
        return (max(s.start + s.length for s in self.streams)
                + 2 * self.patience)
