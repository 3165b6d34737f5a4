"""What a run says in the end: its figures, what it has not seen and so not
proved, and the whole history of keys of which a rule was broken.
"""

from collections import Counter

from . import plan, rules
from .routes import BUFFERED, METHODS, route_of

# A longer answer has a connection of its own, bytes.
BULK = 16 << 10

# The least a run must have seen to prove anything.
MUST_HAVE = ("first", "replay", "idempotency_conflict",
             "idempotency_in_progress", "idempotency_outcome_unknown",
             "idempotency_replay_unavailable", "unclaimable")


def figures(history, faults, acks, seconds):
    """(lines of figures, what never happened and must for a proof)."""
    answers, lost = Counter(), Counter()
    for request in history.requests:
        if request.answer:
            answers[rules.kind(request.answer, history)] += 1
        else:
            lost[request.lost] += 1

    probes = sum(r.phase != "load" for r in history.requests)
    verdicts = Counter(e.verdict for e in history.executions)
    resolved = Counter(r.status for r in history.resolutions)
    kept = sum(rules.must_be_kept(execution, key, history)
               for key in history.keys.values()
               for execution in key.executions)
    seen = special(history)

    lines = [
        f"keys        {len(history.keys)}",
        f"requests    {len(history.requests) - probes}, and {probes} probes",
        f"executions  {len(history.executions)}: {several(verdicts)}; "
        f"{kept} of them must be kept",
        f"answers     {several(answers)}",
        f"none        {several(lost)}",
        f"among them  {several(seen)}",
        f"resolved    {len(history.resolutions)}: {several(resolved)}",
        f"faults      {len(history.faults)}: {several(faults)}",
        f"acks lost   {several(acks)}",
        f"records     {len(history.records)} in Redis",
        f"seconds     {seconds:.0f}",
    ]
    missing = [f"answer of the kind {name}" for name in MUST_HAVE
               if not answers[name]]
    missing += [what for what, count in seen.items() if not count]
    if not resolved[200]:
        missing.append("key that an operator has freed")
    if not resolved[409]:
        missing.append("key that an operator was refused")
    return lines, missing


def special(history):
    """How often there was what only some requests meet."""
    payloads = [(request, plan.payload(request.name.key, request.variant))
                for request in history.requests]
    claims = Counter(command.with_limits for command in history.commands
                     if command.action == "claim")
    away = [fault.away for fault in history.faults if fault.away]

    found = Counter({
        "HTTP/2": sum(r.manner.startswith("h2") for r, _ in payloads),
        "streams reset": sum(r.manner.startswith("h2") and r.lost == "left"
                             for r, _ in payloads),
        "bodies in a file": sum(len(payload.body) > BUFFERED
                                for _, payload in payloads),
        "replays of their own connection": sum(
            r.answer.replayed is not None and r.answer.size > BULK
            for r, _ in payloads if r.answer),
        "claims with limits": claims[True],
        "claims alone": claims[False],
        "durable executions": sum(e.durable for e in history.executions),
        "durable ones refused without a replica": sum(
            rules.kind(r.answer, history) == "unclaimable"
            and any(start <= r.start <= end for start, end in away)
            for r, payload in payloads
            if r.answer and route_of(payload.target).durable),
    })
    for method in METHODS:
        found[method] = sum(payload.method == method for _, payload in payloads)
    return found


def several(counts):
    return ", ".join(f"{name} {n}" for name, n
                     in sorted(counts.items(), key=lambda c: str(c[0])))


def tell(history, violations, say, shown=3):
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
