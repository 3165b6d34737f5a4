"""What a scenario is made of.

A scenario runs several tenants at once on the same nodes, each with policies
and routes of its own, so that one minute proves more.  Nothing here runs.
"""

import dataclasses
import json
from dataclasses import dataclass

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# by= of a policy, and what of a caller it separates.
DIMENSIONS = {"key": "identity", "org": "org", "mode": "mode", "route": "route"}


@dataclass(frozen=True)
class Policy:
    """rate=<rate>r/<unit>, a token bucket when it has a burst."""
    rate: int
    unit: str = "s"
    by: tuple = ("key",)

    @property
    def window(self):
        return SECONDS[self.unit]

    def scaled(self, factor):
        """The policy with factor times its rate, one a window at least."""
        return dataclasses.replace(self, rate=max(1, int(self.rate * factor)))

    def directive(self, name):
        return (f"keygate_policy {name} rate={self.rate}r/{self.unit} "
                f"by={','.join(self.by)};")

    def group(self, caller):
        """What of a caller is counted together under this policy; always
        within the organisation."""
        return (caller.org, *(getattr(caller, DIMENSIONS[by])
                              for by in self.by))

    def allowance(self, cost):
        """How many requests of a cost fit at once."""
        return self.rate // cost

    @property
    def recovery(self):
        """Seconds after the last request until all is there again: a window
        and two of its slices."""
        return self.window * (1 + 2 / 60)


@dataclass(frozen=True)
class Caller:
    """Who calls, and what: a key of an organisation, on a route.  A key has
    one mode: key 0 of "test" and key 0 of "live" are two."""
    org: int = 0
    key: int = 0
    mode: str = "test"
    route: int = 0

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
    clock       the node's wall clock is set; value is how many seconds off
    delay       what goes between the node and Redis is so many seconds late,
                each way; a value of 0 ends it
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
    floor       what share of the requests of each group that a perfect window
                would admit must be
    """
    tenants: tuple
    streams: tuple
    nodes: int = 1
    skews: tuple = ()
    faults: tuple = ()
    patience: float = 2.5
    floor: float = 0.0
    name: str = "drawn"

    def json(self):
        return json.dumps(dataclasses.asdict(self))

    @property
    def length(self):
        return max(s.start + s.length for s in self.streams)
