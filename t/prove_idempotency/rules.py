"""What must hold of a history: the contract's promises about idempotency, each
a rule that looks at one key and says what breaks it.

A rule is a function of (key, history) that yields texts; check() runs them
all.  Every one of them has a history that breaks it, and one that does not, in
t/test_history_checker.py.
"""

from collections import Counter, namedtuple

from .history import FOREVER

Violation = namedtuple("Violation", "rule name text")

RULES = {}

# The contract's refusals that Keygate itself answers, with their statuses.
REFUSALS = {"idempotency_conflict": 409, "idempotency_in_progress": 409,
            "idempotency_outcome_unknown": 409,
            "idempotency_replay_unavailable": 409}

# What becomes of a stream on a connection whose worker has other things to do.
LEFT_BEHIND = ("unprocessed", "closed", "BrokenPipeError",
               "ConnectionResetError")

# What ends a claim; see settle.lua.
SETTLES = ("complete", "tombstone", "unknown", "release")

# Keygate gave up on an upstream that took longer than this, s.
UPSTREAM_WAITS = 2.5

# How long after a fault what it did may still be felt, s: a lease is over, and
# Redis was found again and told what it has missed.
AFTERMATH = 5.0

# How long it takes to tell Redis of an outcome while nothing is wrong, s.
SOON = 1.0

# How much earlier than its retention a record may end, ms: clocks and slices.
SLACK = 5000


def rule(function):
    RULES[function.__name__] = function
    return function


def check(history):
    """The violations of all rules, those of a key together."""
    return [Violation(name, key.name, text)
            for key in history.keys.values()
            for name, function in RULES.items()
            for text in function(key, history)]


def kind(answer, history):
    """What an answer is: replay, first (of the request that was executed),
    unclaimable (503, nothing executed), broken (nothing was executed, but
    Keygate cannot know), the code of a refusal, or None."""
    error = answer.error
    code = error.get("code")

    if answer.replayed is not None or answer.original is not None:
        return "replay"
    if REFUSALS.get(code) == answer.status:
        return code
    if answer.id in history.by_id:
        return "first"
    if (answer.status in (502, 503) and error.get("retryable") is True
            and code in ("service_unavailable", "bad_gateway")):
        return "unclaimable"
    if (answer.status in (502, 504) and error.get("retryable") is False
            and code in ("bad_gateway", "gateway_timeout")):
        return "broken"
    return None


def permits(key):
    """How many executions of a key are one too few to be wrong."""
    return 1 + sum(r.may_have for r in key.resolutions)


def executed(key):
    return [execution for execution in key.executions if execution.counts]


# Executions.

@rule
def executed_once(key, history):
    """One execution, and one more for each resolution, after its start."""
    done = executed(key)
    if len(done) > permits(key):
        yield (f"executed {len(done)} times: "
               + ", ".join(str(e.n) for e in done))

    for earlier, later in zip(done, done[1:]):
        if not key.resolved_within(earlier.start, later.start):
            yield f"execution {later.n} after {earlier.n}, not resolved between"


@rule
def one_payload(key, history):
    """Once a payload was executed no other one is given to the upstream."""
    for earlier in executed(key):
        for later in key.executions:
            if (later.start > earlier.start
                    and later.variant != earlier.variant
                    and not key.resolved_within(earlier.start, later.start)):
                yield (f"payload {later.variant} given to the upstream, "
                       f"execution {later.n}, after {earlier.variant}")


@rule
def durable_on_a_replica(key, history):
    """A durable write goes on when a replica has its claim, and so not while
    the replica is away since before it was asked for."""
    for execution in key.executions:
        if not execution.durable:
            continue

        asked = ([r.start for r, answer in key.answers()
                  if answer.id == execution.id]
                 or [r.start for r in key.requests
                     if r.variant == execution.variant])

        for fault in history.faults:
            if (fault.away and asked and fault.away[0] <= min(asked)
                    and execution.start <= fault.away[1]):
                yield f"execution {execution.n} without a replica: {fault}"


@rule
def execution_was_asked(key, history):
    """For a client's whole request with this payload, and once for each."""
    for execution in key.executions:
        if not any(r.whole and r.variant == execution.variant
                   and r.start <= execution.start for r in key.requests):
            yield f"execution {execution.n} is nobody's request"

        if len(history.by_id[execution.id]) > 1:
            yield f"request {execution.id} went to the upstream again"


# Answers.

def origin(answer, history):
    """The execution an answer says it is of, None for none."""
    found = history.by_id.get(answer.original or answer.id)
    return found[0] if found else None


@rule
def own_answer(key, history):
    """An answer is of an execution of this key, scope and payload."""
    for request, answer in key.answers():
        if kind(answer, history) not in ("replay", "first"):
            continue
        execution = origin(answer, history)
        if execution is None:
            yield f"an answer of no execution: {answer}"
        elif execution.name != key.name:
            yield f"an answer of {tuple(execution.name)}: {answer}"
        elif execution.variant != request.variant:
            yield f"an answer of payload {execution.variant}: {answer}"


@rule
def true_answer(key, history):
    """An answer says what the upstream answered, and an error where nobody
    knows what that was."""
    for request, answer in key.answers():
        execution = origin(answer, history)
        if (kind(answer, history) not in ("replay", "first")
                or execution is None):
            continue
        if not is_true(answer, execution, request, history):
            yield f"{answer} is not what execution {execution.n} answered"


def is_true(answer, execution, request, history):
    error = answer.error

    if execution.verdict == "ambiguous":
        return answer.status >= 400 and error.get("retryable") is False

    if answer.status != execution.status:
        gave_up = (execution.done is None
                   or execution.done - execution.start > UPSTREAM_WAITS
                   or any(fault.pauses and fault.node == request.node
                          and fault.touches(request.start, request.end)
                          for fault in history.faults))
        return (gave_up and answer.replayed is None
                and answer.status in (502, 504)
                and error.get("retryable") is False)

    if execution.status < 400:
        return (answer.sha == execution.sha
                and answer.location == execution.location)

    return ((error.get("details") or {}).get("execution") == execution.n
            and answer.request_id == execution.id)


@rule
def same_answer(key, history):
    """Every answer of an execution is byte for byte the first one."""
    firsts = {}

    for request, answer in key.answers():
        if kind(answer, history) not in ("replay", "first"):
            continue
        first = firsts.setdefault(answer.original or answer.id, answer)
        if answer.same != first.same:
            yield f"{answer} is not {first}"


@rule
def replay_is_marked(key, history):
    """As one, and as whose; and it has a request id of its own."""
    for request, answer in key.answers():
        if kind(answer, history) != "replay":
            continue
        if answer.replayed != "true" or not answer.original:
            yield f"a replay that does not say so: {answer}"
        if not answer.id or answer.id == answer.original:
            yield f"a replay without a request id of its own: {answer}"


@rule
def replay_of_a_final_answer(key, history):
    """What was refused, or broke off, is not replayed."""
    for request, answer in key.answers():
        execution = origin(answer, history)
        if (kind(answer, history) == "replay" and execution
                and execution.verdict != "final"):
            yield f"execution {execution.n} is {execution.verdict}: {answer}"


@rule
def too_large_is_not_replayed(key, history):
    """What a route does not keep is not there, in part or otherwise."""
    for request, answer in key.answers():
        execution = origin(answer, history)
        if (kind(answer, history) == "replay" and execution
                and not execution.kept):
            yield f"execution {execution.n} answered too much: {answer}"


@rule
def replay_stays(key, history):
    """From the first replay on there is nothing but that replay."""
    answers = [(request, answer) for request, answer in key.answers()
               if kind(answer, history) != "unclaimable"]

    for i, (first, replay) in enumerate(answers):
        if kind(replay, history) != "replay":
            continue
        for request, answer in answers[i + 1:]:
            if (request.start > first.end
                    and request.variant == first.variant
                    and answer.original != replay.original
                    and not key.resolved_within(first.start, request.end)):
                yield f"after a replay of {replay.original}: {answer}"
        return


# Refusals.

@rule
def known_answer(key, history):
    """Whatever is no answer of the upstream's is one of the contract's
    refusals; every error has the envelope, its request id, and Retry-After
    exactly when it says that it may be tried again."""
    for request, answer in key.answers():
        said = kind(answer, history)
        if said is None or (said == "broken"
                            and not upstream_left(request, history)):
            yield f"neither an execution's nor a refusal: {answer}"

        if answer.status < 400:
            continue

        said = answer.error.get("retryable")
        if said not in (True, False):
            yield f"an error without the envelope: {answer}"
        elif said != (answer.retry_after is not None):
            yield f"retryable is {said}: {answer}"

        if answer.request_id != (answer.original or answer.id):
            yield f"another request id in the body: {answer}"


def upstream_left(request, history):
    """Whether the upstream may have closed a connection on which a request
    had been sent and not been read."""
    return any(fault.kind.startswith("upstream")
               and fault.touches(request.start, request.end)
               for fault in history.faults)


@rule
def refusal_executes_nothing(key, history):
    """Nor does whatever says that it may be sent again."""
    for request, answer in key.answers():
        ran = history.by_id.get(answer.id, [])
        if not ran:
            continue
        if kind(answer, history) in REFUSALS:
            yield f"execution {ran[0].n}, and its client got {answer}"
        elif (answer.error.get("retryable") is True
                and any(e.counts for e in ran)):
            yield f"execution {ran[0].n} may be sent again: {answer}"


@rule
def conflict_always(key, history):
    """Another payload than the one executed gets a conflict, before anything
    else is said of the key."""
    for request, answer in key.answers():
        if kind(answer, history) in ("idempotency_conflict", "unclaimable"):
            continue
        for execution in executed(key):
            if (execution.start < request.start
                    and execution.variant != request.variant
                    and not key.resolved_within(execution.start,
                                                request.end)):
                yield (f"payload {request.variant} after execution "
                       f"{execution.n} of {execution.variant}: {answer}")


@rule
def refusal_has_a_cause(key, history):
    """A conflict, another payload; in progress, another request with the same;
    unknown, one that was executed or left its claim behind since an operator
    has freed the key; a replay that is not kept, an execution."""
    for request, answer in key.answers():
        said = kind(answer, history)
        others = [other for other in key.requests if other is not request
                  and other.start < request.end]
        same = [other for other in others if other.variant == request.variant]

        if said == "idempotency_conflict":
            cause = len(others) > len(same)
        elif said == "idempotency_in_progress":
            cause = same
        elif said == "idempotency_outcome_unknown":
            cause = (any(e.start < request.end
                         and not key.freed_within(e.start, request.start)
                         for e in executed(key))
                     or any(left_claim(other, request, history)
                            and not key.freed_within(other.end + AFTERMATH,
                                                     request.start)
                            for other in same))
        elif said == "idempotency_replay_unavailable":
            cause = any(not e.kept for e in key.executions)
        else:
            continue

        if not cause:
            yield f"for no reason: {answer}"


def left_claim(other, request, history):
    """Whether a claim of another request's may stand, without an execution:
    its worker ended, or the upstream left; and while there are faults, what
    frees it may be on its way to Redis."""
    last = other.end + AFTERMATH

    return other.whole and (upstream_left(other, history) or any(
        fault.touches(other.start, last)
        and (fault.ends_workers and fault.node == other.node
             or request.phase == "load" and not fault.harmless)
        for fault in history.faults))


@rule
def answered(key, history):
    """Every request of a client that stays is, in its time, but where its
    worker is killed, or ends with HTTP/2 connections that take no more, or what
    came of it broke off and was too large to hold."""
    for request in key.requests:
        if request.lost in (None, "left"):
            continue
        ends = [fault for fault in history.faults
                if fault.ends_workers and fault.node == request.node
                and fault.touches(request.opened or request.start,
                                  request.end)]
        killed = (any(fault.kills for fault in ends)
                  or ends and request.lost in LEFT_BEHIND
                  and request.manner.startswith("h2"))
        broke_off = request.lost != "closed" and any(
            e.manner.startswith("cut") and not e.kept
            and request.start <= e.start <= request.end
            for e in key.executions)
        if request.lost == "timeout" or not (killed or broke_off):
            yield f"lost for no reason: {request}"


# The operator.

@rule
def running_is_not_resolved(key, history):
    """A key is not freed while its claim has a lease: the last word of Redis
    was that it runs, for so long at least, and no node has said otherwise."""
    for resolution in key.resolutions:
        if not resolution.has:
            continue

        for lease in key.commands:
            if ((lease.action, lease.said) not in (("claim", "claimed"),
                                                   ("renew", "1"))
                    or not lease.heard < resolution.start
                    or lease.start + history.lease / 1000 < resolution.end
                    or any(c.action in SETTLES and c.start <= resolution.end
                           and (c.heard is None or c.heard >= lease.start)
                           for c in key.commands)):
                continue
            yield f"freed at {resolution.start:.3f}, in spite of{lease}"


@rule
def resolved_is_free(key, history):
    """A key that was freed is taken by a claim only: nothing that comes late of
    the one before makes its outcome unknown again."""
    for request, answer in key.answers():
        freed = [r.start for r in key.resolutions
                 if r.has and r.end <= request.start]

        if (freed
                and kind(answer, history) == "idempotency_outcome_unknown"
                and not any(command.action == "claim"
                            and command.said in (None, "claimed")
                            and (command.heard is None
                                 or command.heard >= max(freed))
                            and command.start <= request.end
                            for command in key.commands)):
            yield f"nobody took it since {max(freed):.3f}: {answer}"


# What is left.

@rule
def settled(key, history):
    """After the faults a key answers one of the payloads sent, and no other:
    a replay, an answer that is replayed from then on, or unknown."""
    last = {(request.phase, request.variant): request
            for request in key.requests if request.phase != "load"}.values()

    for request in last:
        if not request.answer:
            yield f"not answered once the faults are over: {request}"

    said = [(request, kind(request.answer, history)) for request in last
            if request.answer]
    holders = Counter()

    for request, what in said:
        if what in ("unclaimable", "broken", "idempotency_in_progress"):
            yield f"not settled: {request}"
        if what == "first":
            execution = origin(request.answer, history)
            what = ("replay" if execution and execution.verdict == "final"
                    else "idempotency_outcome_unknown")
        if what != "idempotency_conflict":
            holders[(request.variant, what)] += 1

    if said and len(holders) != 1:
        yield f"settled as {dict(holders)}"


@rule
def outcome_is_kept(key, history):
    """A whole answer is there for ever once Redis is, also for a client that
    has not waited for it, unless a worker was killed with it."""
    last = [request for request in key.requests if request.phase != "load"
            and request.answer]

    for execution in executed(key):
        if (not must_be_kept(execution, key, history) or not last
                or key.resolved_within(execution.start, FOREVER)):
            continue
        wanted = ("idempotency_replay_unavailable"
                  if not execution.kept else "replay")
        if not any(kind(request.answer, history) == wanted
                   for request in last):
            yield f"execution {execution.n} is forgotten"


def nodes_of(execution, key):
    """Where it may have been executed: the nodes of its client, if that has
    waited, else of all who asked for it."""
    return ({request.node for request, answer in key.answers()
             if answer.id == execution.id}
            or {request.node for request in key.requests
                if request.variant == execution.variant})


def must_be_kept(execution, key, history):
    """Whether nothing excuses that its outcome is lost: it ended well and in
    time, and its worker was neither killed before it could tell Redis so, nor
    too late for everything.  One that is to exit tells it before."""
    if execution.verdict != "final" or execution.done is None:
        return False
    if execution.done - execution.start > UPSTREAM_WAITS:
        return False

    nodes = nodes_of(execution, key)
    told = execution.done + SOON

    for fault in history.faults:
        if (fault.node in nodes
                and fault.touches(execution.start, told + AFTERMATH)
                and (fault.kills or fault.pauses)):
            if fault.touches(execution.start, told):
                return False
            if any(other.hides_redis
                   and other.touches(execution.start, max(fault.end, told))
                   for other in history.faults):
                return False

    return True


@rule
def ttl(key, history):
    """A record ends, and never before its retention does."""
    record = key.record
    if record is None:
        return
    if record.ttl < 0:
        yield "a record that never ends"
        return

    left = history.retention - (record.read - history.began) * 1000
    if not left - SLACK <= record.ttl <= history.retention + SLACK:
        yield f"a record that ends in {record.ttl} ms"


@rule
def record_is_kept(key, history):
    """What was executed Redis knows of."""
    done = executed(key)
    if (done and key.record is None
            and not key.resolved_within(done[-1].start, FOREVER)):
        yield f"no record of execution {done[-1].n}"
