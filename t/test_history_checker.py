"""The rules of the idempotency proof can fail: of each a history that breaks
it and no other, and the same history told right, which breaks none."""

import json

import pytest

from prove_idempotency import rules
from prove_idempotency.history import (Answer, Command, Execution, Fault,
                                       History, Name, Record, Request,
                                       Resolution, sha)

NAME = Name("org_a", "test", "k1")
OTHER = Name("org_b", "test", "k1")
DAY = 86400000

CODES = {"conflict": "idempotency_conflict",
         "in_progress": "idempotency_in_progress",
         "unknown": "idempotency_outcome_unknown",
         "unavailable": "idempotency_replay_unavailable"}


class Story:
    """A key's history, told event by event.  broken: the rules it breaks."""

    def __init__(self, name=NAME):
        self.name = name
        self.requests = []
        self.executions = []
        self.resolutions = []
        self.faults = []
        self.records = []
        self.commands = []

    def executed(self, at, n=1, id="req_1", variant=0, asked=True, **how):
        how.setdefault("done", at + 0.1)
        how.setdefault("sha", sha(text(n, id)))
        how.setdefault("location", f"/v1/loads/{n}")
        name = how.pop("name", self.name)
        self.executions.append(Execution(n, name, variant, id, at, **how))
        if asked:
            self.requests.append(Request(name, variant, 0, at - 0.05,
                                         at + 0.2, lost="left"))
        if name != self.name:
            self.records.append(Record(name, DAY - 60000, 60.0))
        return self

    def lost(self, at, variant=0, node=0, lost="left", end=None, **how):
        self.requests.append(Request(self.name, variant, node, at,
                                     end or at + 0.2, lost=lost, **how))
        return self

    def answer(self, at, said, variant=0, phase="load"):
        self.requests.append(Request(self.name, variant, 0, at, at + 0.2,
                                     answer=said, phase=phase))
        return self

    def settles(self, said, again=None, variant=0):
        """The probes' answers."""
        self.answer(60, said, variant, "probe")
        return self.answer(61, again or said, variant, "again")

    def resolved(self, at, status=200):
        self.resolutions.append(Resolution(self.name, at, at + 0.1, status))
        return self

    def fault(self, kind, start, end=None, node=0, harmless=False, away=None):
        self.faults.append(Fault(kind, start, end or start, node, harmless,
                                 away))
        return self

    def killed(self, at):
        """A worker, and a request with it."""
        return self.lost(at, lost="closed").fault("worker_killed", at)

    def command(self, at, action, said, heard=True, **how):
        name = how.pop("name", self.name)
        self.commands.append(Command(name, at, 0, action, "", said,
                                     at + 0.01 if heard else None, **how))
        return self

    def record(self, ttl=DAY - 60000):
        self.records.append(Record(self.name, ttl, 60.0))
        return self

    @property
    def history(self):
        return History(self.requests, self.executions, self.resolutions,
                       self.faults, self.records, self.commands)

    @property
    def broken(self):
        return {violation.rule for violation in rules.check(self.history)}


def text(n=1, id="req_1"):
    return json.dumps({"execution": n, "requestId": id}).encode()


def first(n=1, id="req_1", **how):
    how.setdefault("body", text(n, id))
    how.setdefault("location", f"/v1/loads/{n}")
    return Answer(how.pop("status", 201), id, type="application/json", **how)


count = iter(range(1000, 10 ** 6))


def replay(n=1, of="req_1", **how):
    how.setdefault("replayed", "true")
    how.setdefault("original", of)
    how.setdefault("body", text(n, of))
    return Answer(how.pop("status", 201), how.pop("id", f"req_{next(count)}"),
                  type=how.pop("type", "application/json"),
                  location=how.pop("location", f"/v1/loads/{n}"), **how)


def error(status, code, retryable=False, id=None, details=None, **how):
    id = id or f"req_{next(count)}"
    body = {"error": {"code": code, "message": "no", "retryable": retryable,
                      "details": details},
            "requestId": how.pop("said", id)}
    if retryable:
        how.setdefault("retry_after", "1")
    return Answer(status, id, json.dumps(body).encode(), **how)


def refused(what, **how):
    return error(409, CODES[what], what == "in_progress", **how)


def unclaimable(**how):
    return error(503, "service_unavailable", True, **how)


def plain():
    """A write with a duplicate, while there are faults about."""
    return (Story().fault("redis_frozen", 1, 20).executed(10).record()
            .answer(9.9, first()).answer(10.02, refused("in_progress"))
            .answer(12, replay()).settles(replay()))


# What is right, and looks like something else.

RIGHT = {
    "a write and its replays": plain(),
    "nothing executed, and the probe is the first":
        Story().answer(5, unclaimable()).record()
        .executed(60.1).settles(first(), replay()),
    "an ambiguous answer":
        Story().executed(5, verdict="ambiguous", status=502).record()
        .answer(4.9, error(502, "bad_gateway", id="req_1"))
        .answer(7, refused("unknown")).settles(refused("unknown")),
    "refused, then executed":
        Story().executed(5, verdict="refused", status=429)
        .answer(4.9, error(429, "rate_limited", True, id="req_1",
                           details={"execution": 1}))
        .executed(7, 2, "req_2", variant=1)
        .answer(6.9, first(2, "req_2"), variant=1).record()
        .settles(replay(2, "req_2"), variant=1),
    "resolved, executed again":
        Story().executed(5, verdict="ambiguous").record()
        .answer(7, refused("unknown")).resolved(8)
        .executed(9, 2, "req_2", variant=1)
        .answer(10, refused("conflict"))
        .settles(replay(2, "req_2"), variant=1),
    "an error that is final":
        Story().executed(5, status=500).record()
        .answer(4.9, error(500, "internal_error", id="req_1",
                           details={"execution": 1}))
        .settles(error(500, "internal_error", said="req_1",
                       details={"execution": 1}, replayed="true",
                       original="req_1")),
    "too large to keep":
        Story().executed(5, kept=False).record()
        .answer(4.9, first()).settles(refused("unavailable")),
    "too large to keep, and cut off":
        Story().executed(5, manner="cut_large", verdict="ambiguous",
                         kept=False)
        .lost(4.9, lost="cut").record().settles(refused("unavailable")),
    "a durable write before its replica goes, and one of before that goes on":
        Story().fault("replica_frozen", 5, 8, None, away=(5.1, 7.9))
        .executed(4, durable=True).record().answer(3.9, first())
        .resolved(4.5).executed(5.2, 2, "req_2", durable=True)
        .answer(5.05, first(2, "req_2")).settles(replay(2, "req_2")),
    "another that is not durable":
        Story().fault("replica_frozen", 5, 8, None, away=(5.1, 7.9))
        .executed(6).record().settles(replay()),
    "freed once its lease was over":
        Story().executed(5, done=None).record().command(5, "claim", "claimed")
        .resolved(6.05).killed(6.2).settles(refused("unknown"))
        .command(6.1, "claim", "claimed"),
    "freed when it had ended":
        Story().executed(5).record().command(5, "claim", "claimed")
        .command(5.2, "complete", "1").resolved(5.5)
        .executed(6, 2, "req_2").settles(replay(2, "req_2")),
    "not freed while it ran":
        plain().command(10, "renew", "1").resolved(10.1, 409),
    "nobody heard that its claim was taken again":
        Story().executed(5, done=None).record().resolved(6)
        .command(7, "claim", None, heard=False).killed(7.2)
        .settles(refused("unknown")),
    "a stream on a connection that takes no more":
        plain().fault("reload", 15, 15.1, harmless=True)
        .lost(15, lost="unprocessed", manner="h2"),
    "one that comes late on it":
        plain().fault("reload", 15, 15.1, harmless=True)
        .lost(16, lost="unprocessed", manner="h2", opened=15.05),
    "a changed payload":
        plain().answer(13, refused("conflict"), variant=1)
        .answer(60, refused("conflict"), 1, "probe"),
    "a changed payload before the first":
        plain().answer(9, unclaimable(), variant=1)
        .answer(60, refused("conflict"), 1, "probe"),
    "killed": plain().fault("worker_killed", 15.1).lost(15, lost="closed"),
    "an answer lost with its worker":
        Story().fault("worker_killed", 5).executed(5).record()
        .settles(refused("unknown")),
    "an answer late for its worker":
        Story().fault("worker_paused", 4, 6).executed(5).record()
        .settles(refused("unknown")),
    "an answer lost by a worker that was killed while Redis was away":
        Story().fault("worker_killed", 6.2).fault("redis_frozen", 4, 9)
        .executed(5).record().settles(refused("unknown")),
    "a paused worker finds that it has waited too long":
        Story().fault("worker_paused", 5.05, 9).executed(5).record()
        .answer(4.9, error(504, "gateway_timeout", id="req_1"))
        .settles(refused("unknown")),
    "freed, executed once more, and again nobody knows":
        Story().executed(5, done=None).resolved(6)
        .command(6.1, "claim", "claimed")
        .executed(6.2, 2, "req_2", done=None).record()
        .settles(refused("unknown")),
    "told while an operator frees it":
        Story().executed(5, done=None).resolved(7).answer(7, refused("unknown"))
        .settles(first(2, "req_2"), replay(2, "req_2"))
        .executed(60.1, 2, "req_2").record(),
    "a probe asked again after 503":
        plain().answer(59, unclaimable(), 0, "probe"),
    "the upstream left, nobody knows":
        Story().fault("upstream_refuses", 5.1, node=None).record()
        .answer(5, error(502, "bad_gateway")).settles(refused("unknown")),
    "killed with a claim":
        Story().lost(5, lost="closed").fault("worker_killed", 5.1).record()
        .settles(refused("unknown")),
    "what frees a claim is on its way":
        Story().answer(5, unclaimable()).fault("redis_frozen", 4, 7).record()
        .answer(6.5, refused("unknown"))
        .executed(60.1).settles(first(), replay()),
    "gave up on a slow upstream":
        Story().executed(5, done=9).record()
        .answer(4.9, error(504, "gateway_timeout", id="req_1"))
        .settles(refused("unknown")),
}


@pytest.mark.parametrize("story", RIGHT)
def test_right_history_breaks_no_rule(story):
    assert RIGHT[story].broken == set()


# Of each rule, what breaks it, and what else cannot but break of it.

def twice():
    return (Story().executed(5, verdict="ambiguous", status=502)
            .executed(6, 2, "req_2").record())


WRONG = [
    ("executed_once", twice()),
    ("executed_once", twice().resolved(5.5).executed(7, 3, "req_3")),
    ("executed_once", twice().resolved(5.5, 409)),
    ("executed_once", twice().resolved(5.5, 404)),
    # One resolution, but of before the first.
    ("executed_once", twice().resolved(1)),
    ("one_payload executed_once",
     Story().executed(5, done=None).executed(6, 2, "req_2", variant=1)
     .record()),
    ("one_payload",
     Story().executed(5, done=None)
     .executed(6, 2, "req_2", variant=1, verdict="refused").record()),
    ("durable_on_a_replica",
     Story().fault("replica_frozen", 5, 8, None, away=(5.1, 7.9))
     .executed(6, durable=True).record()),
    ("durable_on_a_replica",
     Story().fault("replica_frozen", 5, 8, None, away=(5.1, 7.9))
     .lost(4).executed(6, durable=True, verdict="refused", status=429)
     .answer(5.5, error(429, "rate_limited", True, id="req_1",
                        details={"execution": 1}))),
    ("execution_was_asked", Story().executed(5, asked=False).record()),
    ("execution_was_asked",
     Story().lost(4.9, variant=1).executed(5, asked=False).record()),
    ("execution_was_asked",
     Story().lost(4.9, whole=False).executed(5, asked=False).record()),
    ("execution_was_asked",
     Story().lost(5.1).executed(5, asked=False).record()),
    ("execution_was_asked",
     Story().executed(5, verdict="refused").executed(6, verdict="refused")),

    ("own_answer replay_stays", plain().answer(13, replay(7, "req_7"))
     .executed(5, 7, "req_7", name=OTHER)),
    ("own_answer replay_stays", plain().answer(13, replay(9, "req_9"))),
    ("own_answer conflict_always",
     plain().answer(13, replay(), variant=1)),
    ("true_answer same_answer", plain().answer(13, replay(body=b"{}"))),
    ("true_answer same_answer",
     plain().answer(13, replay(location="/v1/loads/2"))),
    ("true_answer same_answer", plain().answer(13, replay(status=200))),
    ("true_answer", Story().executed(5).record().fault("x", 5)
     .answer(4.9, first(body=b'{"execution":1'))),
    ("true_answer", Story().executed(5, verdict="ambiguous").record()
     .answer(4.9, first())),
    ("true_answer", Story().executed(5, status=422).record().fault("x", 5)
     .answer(4.9, error(422, "unprocessable_content", id="req_1",
                        details={"execution": 2}))),
    ("true_answer", Story().executed(5).record().fault("x", 5)
     .answer(4.9, error(502, "bad_gateway", id="req_1"))),
    ("same_answer", plain().answer(13, replay(type="text/plain"))),
    ("replay_is_marked", plain().answer(13, replay(replayed="yes"))),
    ("replay_is_marked replay_stays own_answer",
     plain().answer(13, replay(original=None))),
    ("replay_is_marked", plain().answer(13, replay(id="req_1"))),
    ("replay_of_a_final_answer true_answer",
     Story().executed(5, verdict="ambiguous").record().answer(7, replay())),
    ("replay_of_a_final_answer",
     Story().executed(5, verdict="refused", status=429)
     .answer(7, error(429, "rate_limited", True, said="req_1",
                      details={"execution": 1}, replayed="true",
                      original="req_1"))),
    ("too_large_is_not_replayed",
     Story().executed(5, kept=False).record().answer(7, replay())),
    ("replay_stays", plain().answer(13, refused("in_progress"))),
    ("replay_stays", plain().answer(13, refused("unknown"))),
    ("replay_stays refusal_has_a_cause",
     plain().answer(13, refused("conflict"))),

    ("known_answer", plain().answer(9, Answer(200, "req_8", b"hello"))),
    ("known_answer", plain().answer(9, error(500, "internal_error"))),
    ("known_answer", plain().answer(9, error(409, "idempotency_gone"))),
    ("known_answer", plain().answer(9, error(422, CODES["in_progress"]))),
    ("known_answer", plain().answer(9, unclaimable(retry_after=None))),
    ("known_answer", plain().answer(
        10.05, refused("in_progress", retry_after=None))),
    ("known_answer", plain().answer(9, unclaimable(said="req_5"))),
    ("known_answer", plain().answer(9, Answer(503, "req_8", b"<html>"))),
    ("known_answer", plain().answer(9, error(502, "bad_gateway"))),
    ("known_answer", plain().fault("upstream_refuses", 15, node=None)
     .answer(9, error(504, "gateway_timeout"))),
    ("refusal_executes_nothing",
     Story().executed(5, done=None).record()
     .answer(4.9, refused("in_progress", id="req_1"))),
    ("refusal_executes_nothing true_answer",
     Story().executed(5, done=None).record()
     .answer(4.9, unclaimable(id="req_1"))),
    ("conflict_always", plain().lost(1, variant=1)
     .answer(10.05, refused("in_progress"), variant=1)),
    ("conflict_always", Story().executed(5, verdict="ambiguous").record()
     .lost(1, variant=1).answer(7, refused("unknown"), variant=1)),
    ("refusal_has_a_cause", Story().answer(5, refused("conflict"))),
    ("refusal_has_a_cause", Story().answer(5, refused("in_progress"))),
    ("refusal_has_a_cause", Story().answer(5, refused("unknown"))),
    ("refusal_has_a_cause", Story().lost(5).answer(7, refused("unknown"))),
    ("refusal_has_a_cause",
     Story().answer(5, unclaimable()).fault("redis_frozen", 4, 7).record()
     .settles(refused("unknown"))),
    ("refusal_has_a_cause",
     Story().lost(5).fault("worker_killed", 5.1, node=1)
     .settles(refused("unknown"))),
    ("refusal_has_a_cause", Story().executed(5, done=None).record()
     .answer(7, refused("unavailable"))),
    ("refusal_has_a_cause resolved_is_free",
     Story().executed(5, done=None).resolved(6)
     .answer(7, refused("unknown")).record()),
    ("refusal_has_a_cause resolved_is_free",
     Story().lost(5, lost="closed").fault("worker_killed", 5.1).record()
     .resolved(12).answer(13, refused("unknown"))),
    ("answered", plain().lost(15, lost="closed")),
    ("answered", plain().lost(15, lost="cut")),
    ("answered", Story().executed(5, manner="cut_large", verdict="ambiguous",
                                  kept=False)
     .lost(4.9, lost="closed").record()),
    ("answered", Story().executed(5, manner="cut", verdict="ambiguous")
     .lost(4.9, lost="cut").record()),
    ("answered", plain().lost(15, lost="unprocessed", manner="h2")),
    ("answered", plain().fault("reload", 15, 15.1, harmless=True)
     .lost(15, lost="closed")),
    ("answered", plain().fault("reload", 15, 15.1, harmless=True)
     .lost(16, lost="unprocessed", manner="h2", opened=15.2)),
    ("answered", plain().fault("reload", 15, 15.1, harmless=True)
     .lost(15, lost="cut", manner="h2")),
    ("answered", plain().fault("worker_killed", 15.1, node=1)
     .lost(15, lost="closed")),
    ("answered", plain().fault("redis_killed", 15.1).lost(15, lost="cut")),
    ("answered", plain().fault("worker_killed", 18).lost(15, lost="closed")),
    ("answered", plain().fault("worker_killed", 20).lost(15, lost="timeout",
                                                         end=45)),

    ("running_is_not_resolved", Story().executed(5, done=None).record()
     .command(5.8, "renew", "1").resolved(6).killed(6.2)
     .settles(refused("unknown"))
     .command(6.1, "claim", "claimed")),
    ("running_is_not_resolved", Story().executed(5, done=None).record()
     .command(5.2, "claim", "claimed").command(5.9, "renew", "0")
     .command(5.3, "release", "0", name=OTHER)
     .resolved(6).killed(6.2).settles(refused("unknown"))
     .command(6.15, "claim", "claimed")),
    ("resolved_is_free", Story().executed(5, done=None).record()
     .command(5, "claim", "claimed").command(7, "unknown", "1").resolved(6.5)
     .killed(7).settles(refused("unknown"))),
    ("resolved_is_free", Story().executed(5, done=None).record()
     .resolved(6).killed(7).command(60, "claim", "unknown")
     .settles(refused("unknown"))),
    ("settled", Story().lost(5).settles(refused("in_progress"))),
    ("settled", Story().lost(5).settles(unclaimable())),
    ("settled", plain().lost(60, lost="closed", phase="probe")
     .fault("worker_killed", 60)),
    ("settled refusal_has_a_cause",
     Story().lost(5).settles(refused("conflict"))),
    ("settled", Story().fault("workers_killed", 5, 7).lost(5)
     .lost(6, variant=1)
     .settles(refused("unknown")).settles(refused("unknown"), variant=1)),
    ("settled executed_once", Story().executed(5, done=None).record()
     .executed(60.1, 2, "req_2", done=None)
     .settles(refused("unknown"), first(2, "req_2"))),
    ("outcome_is_kept",
     Story().executed(5).record().answer(4.9, first())
     .settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().fault("reload", 5, harmless=True).executed(5).record()
     .settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().fault("reload", 6, harmless=True).fault("redis_frozen", 4, 9)
     .executed(5).record().settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().fault("reload", 4.9, 5.1, harmless=True)
     .fault("redis_restarted", 6, 7, None).executed(5, done=6.1).record()
     .settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().fault("redis_killed", 4, 6, None).executed(5).record()
     .settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().fault("worker_killed", 5, node=1).executed(5).record()
     .settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().fault("workers_killed", 8).executed(5).record()
     .settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().fault("worker_killed", 15).executed(5).record()
     .settles(refused("unknown"))),
    ("outcome_is_kept",
     Story().executed(5, kept=False).record()
     .settles(refused("unknown"))),
    ("ttl", plain().record(-1)),
    ("ttl", plain().record(1000)),
    ("ttl", plain().record(2 * DAY)),
    ("record_is_kept", Story().executed(5, done=None)),
    ("record_is_kept", Story().executed(5, done=None).resolved(1)),
]

WRONG = [pytest.param(broken, story, id=f"{broken.split()[0]}-{i}")
         for i, (broken, story) in enumerate(WRONG)]


@pytest.mark.parametrize("broken, story", WRONG)
def test_wrong_history_breaks_its_rule(broken, story):
    assert story.broken == set(broken.split())


def test_every_rule_is_broken_by_a_history():
    shown = {param.values[0].split()[0] for param in WRONG}

    assert shown == set(rules.RULES)
