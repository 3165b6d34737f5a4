"""What a run has seen, as one list of events a key.

Times are of the monotonic clock, which all processes of a machine share: what
one wrote down before another began did happen before.
"""

import hashlib
import json
from collections import defaultdict, namedtuple
from dataclasses import dataclass, field

# A body up to this size is kept, of a larger one its digest, bytes.
KEPT = 4096

# An idempotency key in its scope.
Name = namedtuple("Name", "org mode key")

FOREVER = float("inf")


def sha(body):
    return hashlib.sha256(body).hexdigest()[:16]


@dataclass
class Answer:
    """A whole answer; replayed, original, location ... are its headers."""
    status: int
    id: str
    body: bytes = b""
    sha: str = ""
    size: int = 0
    type: str = None
    location: str = None
    replayed: str = None
    original: str = None
    retry_after: str = None

    def __post_init__(self):
        if not self.sha:
            self.sha, self.size = sha(self.body), len(self.body)
            self.body = self.body[:KEPT]

    @property
    def error(self):
        """The envelope's error, {} for a body without one."""
        try:
            return dict(json.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError):
            return {}

    @property
    def request_id(self):
        """The body's requestId; None when there is none, or no JSON."""
        try:
            return json.loads(self.body)["requestId"]
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def same(self):
        """What must come back byte for byte."""
        return self.status, self.sha, self.size, self.location, self.type

    def __str__(self):
        shown = [str(self.status), self.error.get("code") or "", self.id or "",
                 f"{self.size} bytes {self.sha}"]
        if self.replayed or self.original:
            shown.append(f"replayed={self.replayed} of {self.original}")
        if self.retry_after:
            shown.append(f"Retry-After {self.retry_after}")
        if self.location:
            shown.append(self.location)
        return " ".join(word for word in shown if word)


@dataclass
class Request:
    """A client's request.  whole: every byte of it was sent.  Without an
    answer, lost says why: "left" is the client's own doing.  opened: since when
    there is its connection, if that may have had others before."""
    name: Name
    variant: int
    node: int
    start: float
    end: float = None
    answer: Answer = None
    lost: str = None
    whole: bool = True
    manner: str = "read"
    phase: str = "load"
    opened: float = None

    def __str__(self):
        what = str(self.answer) if self.answer else f"lost: {self.lost}"
        return (f"{self.phase} node {self.node} payload {self.variant} "
                f"{self.manner} until {self.end:.3f}: {what}")


@dataclass
class Execution:
    """What the upstream did.  verdict: final, its answer is the write's;
    ambiguous, none can tell from its answer; refused, nothing was done.
    done: when its whole answer was out, None when it never was.  kept: its
    answer is none too large for its route; durable: a replica has to have its
    claim first."""
    n: int
    name: Name
    variant: int
    id: str
    start: float
    manner: str = "created"
    verdict: str = "final"
    status: int = 201
    sha: str = ""
    location: str = None
    done: float = None
    kept: bool = True
    durable: bool = False

    @property
    def counts(self):
        return self.verdict != "refused"

    def __str__(self):
        ended = f"{self.done:.3f}" if self.done else "never"
        return (f"EXECUTED {self.n} for {self.id} payload {self.variant} "
                f"{self.manner} {self.status} {self.verdict}"
                f"{'' if self.kept else ' too large'}"
                f"{' durable' if self.durable else ''}, done {ended}")


@dataclass
class Resolution:
    """An operator freed the key, or tried to; status None: the answer was
    lost."""
    name: Name
    start: float
    end: float
    status: int = None

    @property
    def may_have(self):
        """Whether the key may have become free by it."""
        return self.status not in (404, 409)

    @property
    def over(self):
        """From when on it cannot happen any more."""
        return self.end if self.has else FOREVER

    @property
    def has(self):
        """Whether the key has become free by it."""
        return self.status in (200, 204)

    def __str__(self):
        return f"RESOLVED until {self.end:.3f}: {self.status}"


@dataclass
class Fault:
    """node: None when it is about all.  harmless: nothing may come of it.
    away: from when to when no replica could answer for certain."""
    kind: str
    start: float
    end: float
    node: int = None
    harmless: bool = False
    away: tuple = None

    @property
    def kills(self):
        """Whether requests on their way ended with a worker."""
        return self.kind.startswith(("worker_killed", "workers_killed"))

    @property
    def pauses(self):
        """Whether a worker was late for everything."""
        return self.kind.startswith("worker_paused")

    @property
    def ends_workers(self):
        """Whether workers ended by it, in whatever way."""
        return self.kills or self.kind.startswith(("reload", "upgrade"))

    @property
    def hides_redis(self):
        """Whether Redis may not have been told, or not have said so."""
        return ("redis" in self.kind or "acks" in self.kind
                or self.kind.startswith(("connections", "network",
                                         "outcomes")))

    def touches(self, start, end):
        """Whether it went on within that time."""
        return self.start <= end and self.end >= start

    def __str__(self):
        where = "" if self.node is None else f" node {self.node}"
        return f"fault {self.kind}{where} until {self.end:.3f}"


@dataclass
class Command:
    """What a node had to say to Redis of a key: claim, renew, complete ...  It
    was passed on after start; said: what Redis answered, before heard; both
    None when it has not.  lost: the command, or its answer, did not arrive.
    with_limits: in one script with the limits of its request."""
    name: Name
    start: float
    node: int
    action: str
    text: str
    said: str = None
    heard: float = None
    lost: str = None
    with_limits: bool = False

    def __str__(self):
        heard = f"{self.heard:.3f} {self.said}" if self.heard else "nothing"
        return (f"  redis node {self.node} {self.action} {self.text}: {heard}"
                f"{' LOST ' + self.lost if self.lost else ''}")


def name_of(record):
    """The key of a record's name, "kg:idem:{org}:mode:key"."""
    org, mode, key = record.split(":", 4)[2:]
    return Name(org.strip("{}"), mode, key)


@dataclass
class Record:
    """What Redis had of a key at the end; ttl in ms, -1 for none."""
    name: Name
    ttl: int
    read: float


@dataclass
class KeyHistory:
    """The events of one key, each list in the order in which they began."""
    name: Name
    requests: list = field(default_factory=list)
    executions: list = field(default_factory=list)
    resolutions: list = field(default_factory=list)
    commands: list = field(default_factory=list)
    record: Record = None

    def answers(self):
        """(request, answer) of those that were answered."""
        return [(request, request.answer) for request in self.requests
                if request.answer]

    def resolved_within(self, start, end):
        """Whether an operator may have freed it in that time."""
        return any(r.may_have and r.over >= start and r.start <= end
                   for r in self.resolutions)

    def freed_within(self, start, end):
        """Whether an operator did free it in that time, all of it."""
        return any(r.status == 200 and start < r.start and r.end < end
                   for r in self.resolutions)


class History:
    """All events of a run; retention and lease in ms; began: its first
    moment."""

    def __init__(self, requests=(), executions=(), resolutions=(), faults=(),
                 records=(), commands=(), retention=86400000, lease=1000,
                 began=0.0):
        self.requests = list(requests)
        self.executions = list(executions)
        self.resolutions = list(resolutions)
        self.faults = list(faults)
        self.records = list(records)
        self.commands = list(commands)
        self.retention = retention
        self.lease = lease
        self.began = began

        self.by_id = defaultdict(list)
        self.keys = {}

        for execution in self.executions:
            self.by_id[execution.id].append(execution)

        for events, place in ((self.requests, "requests"),
                              (self.executions, "executions"),
                              (self.resolutions, "resolutions"),
                              (self.commands, "commands")):
            for event in sorted(events, key=lambda event: event.start):
                getattr(self.key(event.name), place).append(event)

        for record in self.records:
            self.key(record.name).record = record

    def key(self, name):
        return self.keys.setdefault(name, KeyHistory(name))

    def tell(self, name):
        """The whole history of a key as a text, in the order of time."""
        key = self.key(name)
        events = [*key.requests, *key.executions, *key.resolutions,
                  *key.commands]
        events += [fault for fault in self.faults
                   if any(fault.touches(event.start - 1, event.start + 2)
                          for event in key.requests)]

        lines = [f"history of {name.org} {name.mode} {name.key}"]
        lines += [f"  {event.start:.3f} {event}"
                  for event in sorted(events, key=lambda event: event.start)]
        lines.append("  in Redis: " + (f"ttl {key.record.ttl} ms"
                                       if key.record else "nothing"))
        return "\n".join(lines)
