"""One scenario, from start to verdict.

Traffic. The streams run, the faults happen, and whatever each answer was,
what reached the upstream is held against every policy (check.py).  A scenario
with a floor also asks that a limit is not stingy.

Recovery. Then there is silence for as long as a policy may need, after which
one caller of a tenant asks for its whole allowance, through one node, and
must get it.

Retry. It asks on until it is refused, waits the Retry-After it was told,
and must be admitted.
"""

import statistics
import time
from dataclasses import dataclass, field

from . import check
from .load import Flow, Load
from .stage import Stage, path

# A bucket that has not refused one of so many is left alone.
ENOUGH = 100

# How requests are answered, and how they may be besides where a fault is.
QUIET = {200, 429}
NOISY = {"reload": {0}, "rerate": {0}, "kill": {0, 502}, "redis": {503}}


class Violation(AssertionError):
    """A limit was not what it promises."""


@dataclass
class Figures:
    """What was done and seen; several add up."""
    scenarios: int = 0
    sent: int = 0
    admitted: int = 0
    groups: int = 0
    windows: int = 0
    recoveries: int = 0
    retries: int = 0
    worst: float = 0.0
    full: int = 0
    least: float = 1.0
    delays: list = field(default_factory=list)
    clock_error: float = 0.0

    def add(self, other):
        for name in ("scenarios", "sent", "admitted", "groups", "windows",
                     "recoveries", "retries", "full", "delays"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.worst = max(self.worst, other.worst)
        self.least = min(self.least, other.least)
        self.clock_error = max(self.clock_error, other.clock_error)

    def __str__(self):
        delays = sorted(self.delays) or [0.0]
        return (f"{self.scenarios} scenarios, {self.sent} requests sent, "
                f"{self.admitted} admitted; {self.windows} windows of "
                f"{self.groups} groups checked, the fullest {self.worst:.3f} "
                f"of its limit ({self.full} groups reached theirs); "
                f"{self.recoveries} recoveries, {self.retries} retries; "
                f"steady demand got {self.least:.3f}; "
                f"forwarded in {statistics.median(delays) * 1e3:.1f} ms "
                f"(p99 {delays[len(delays) * 99 // 100] * 1e3:.1f} ms); "
                f"clocks within {self.clock_error * 1e3:.2f} ms")


def prove(scenario):
    """Runs a scenario and returns its Figures, or raises Violation."""
    figures = Figures(scenarios=1)
    load = Load()

    try:
        stage = Stage(scenario, load)
        try:
            traffic(scenario, stage, load)
            stage.calm()
            try:
                after(scenario, stage, load, figures)
            finally:
                # Where both are wrong, too many is told, not too few.
                figures.clock_error = stage.clock_error()
                judge(scenario, stage, load.requests, figures)
        finally:
            stage.close()
    finally:
        load.close()

    return figures


def flow_of(scenario, stage, tenant, caller, node, **how):
    who = scenario.tenants[tenant].callers[caller]
    return Flow(stage.nodes[node].gate.port, path(tenant, who.route),
                stage.callers[tenant][caller].token, source=who.address,
                headers={"X-Team": who.team}, tag=(tenant, who), **how)


def traffic(scenario, stage, load):
    """The streams and the faults; returns when the last answer is there."""
    base = time.monotonic() + 0.05
    flows = []

    for stream in scenario.streams:
        flow = flow_of(scenario, stage, stream.tenant, stream.caller,
                       stream.node, conns=stream.conns, gap=stream.gap,
                       rate=stream.rate)
        load.begin(flow, base + stream.start,
                   base + stream.start + stream.length)
        flows.append(flow)

    for fault in sorted(scenario.faults, key=lambda f: f.at):
        time.sleep(max(0.0, base + fault.at - time.monotonic()))
        if fault.kind == "away":
            # Keys that Redis was not asked for while it was there are 503.
            for stream, flow in zip(scenario.streams, flows):
                if stream.start + stream.length <= fault.at:
                    load.wait(flow)
        stage.do(fault)

    for flow in flows:
        load.wait(flow)


def after(scenario, stage, load, figures):
    """Recovery and retry, of all tenants that take part at the same time."""
    tenants = [t for t, tenant in enumerate(scenario.tenants)
               if max(p.recovery for p in tenant.policies) <= scenario.patience]
    if not tenants:
        return

    policies = [stage.policies(t) for t in tenants]
    time.sleep(max(p.recovery for each in policies for p in each))

    asked = []
    for t, each in zip(tenants, policies):
        cost = scenario.tenants[t].costs[scenario.tenants[t].callers[0].route]
        whole = min(policy.allowance(cost) for policy in each)
        if whole:
            asked.append((t, whole, ask(scenario, stage, load, t, whole)))

    refused = []
    asked = [(t, whole, answers_of(load, flow)) for t, whole, flow in asked]
    for t, whole, answers in asked:
        if [r.status for r in answers] != [200] * whole:
            raise Violation(
                f"tenant {t}: of the whole allowance of {whole} only "
                f"{sum(r.status == 200 for r in answers)} were admitted after "
                f"silence: {[r.status for r in answers]}")
        figures.recoveries += 1

    for t, _, _ in asked:
        refused.append((t, ask(scenario, stage, load, t, ENOUGH, until=429)))

    again = []
    refused = [(t, answers_of(load, flow)[-1]) for t, flow in refused]
    for t, answer in refused:
        if answer.status == 429 and answer.retry_after <= scenario.patience:
            time.sleep(max(0.0, answer.answered + answer.retry_after
                           - time.monotonic()))
            again.append((t, answer.retry_after,
                          ask(scenario, stage, load, t, 1)))

    again = [(t, seconds, answers_of(load, flow)[0])
             for t, seconds, flow in again]
    for t, seconds, answer in again:
        if answer.status != 200:
            raise Violation(f"tenant {t}: {answer.status} after waiting the "
                            f"Retry-After of {seconds} s")
        figures.retries += 1


def ask(scenario, stage, load, tenant, count, **how):
    """The first caller of a tenant asks count times, one after another."""
    return load.begin(flow_of(scenario, stage, tenant, 0, 0, count=count,
                              **how))


def answers_of(load, flow):
    load.wait(flow)
    return [r for r in load.requests if r.flow is flow]


def judge(scenario, stage, requests, figures):
    """Raises Violation for what the requests of a scenario show."""
    figures.sent = len(requests)
    figures.admitted = sum(r.arrived is not None for r in requests)
    figures.delays = [r.arrived - r.sent for r in requests if r.arrived]

    allowed = QUIET.union(*(NOISY.get(f.kind, ()) for f in scenario.faults))
    others = [r for r in requests if r.status not in allowed]
    if others:
        raise Violation(f"{len(others)} requests were answered otherwise than "
                        f"{sorted(allowed)}: "
                        f"{sorted({r.status for r in others})}")

    for r in requests:
        if r.status == 200 and r.arrived is None:
            raise Violation("a request was answered 200 by nobody knows whom")
        if r.status == 429 and r.arrived is not None:
            raise Violation("a request was refused and forwarded")

    for t, tenant in enumerate(scenario.tenants):
        for policy in tenant.policies:
            for caller, spans in grouped(requests, t, tenant, policy).items():
                judge_group(stage, policy, f"tenant {t}, {caller}", spans,
                            figures)
                if scenario.floor:
                    judge_floor(scenario, policy, requests, t, figures)


def grouped(requests, number, tenant, policy):
    """{group: spans} of a tenant's admitted requests under a policy."""
    groups = {}

    for r in requests:
        t, caller = r.flow.tag
        if t == number and r.arrived is not None:
            groups.setdefault(policy.group(caller), []).append(
                (r.sent, r.arrived, tenant.costs[caller.route]))

    return groups


def judge_group(stage, policy, who, spans, figures):
    """Holds what one group was admitted against one policy."""
    if policy.burst:
        pace = policy.scaled(stage.highest_factor()).rate / policy.window
        ratio, count, limit, start, length = check.worst_stretch(
            spans, policy.burst + pace * figures.clock_error, pace)
    else:
        length = policy.window - figures.clock_error
        ratio, count, limit, start = check.worst_window(
            spans, length, lambda start, end: policy.scaled(
                stage.highest_factor(start, end)).rate)

    figures.groups += 1
    figures.windows += len(spans)
    figures.worst = max(figures.worst, ratio)
    figures.full += count + 1 > limit

    if ratio > 1:
        raise Violation(f"{who}: {count} admitted in {length:.3f} s where "
                        f"{limit:.3f} are allowed by {policy}\n"
                        + listing(spans, start, length))


def judge_floor(scenario, policy, requests, number, figures):
    """What a tenant's streams, all of one group, got of what they could."""
    sent = [r for r in requests if r.flow.tag[0] == number and r.flow.rate]
    # At demand equal to the limit one more falls into a window, or does not,
    # by chance.
    could = check.greedy([r.sent for r in sent], policy.rate + 1,
                         policy.window)
    share = sum(r.status == 200 for r in sent) / could
    figures.least = min(figures.least, share)

    if share < scenario.floor:
        raise Violation(f"tenant {number}: {share:.3f} of what {policy} "
                        f"allows was admitted, of {could} requests")


def listing(spans, start, window):
    """The admissions of a window, as a person reads them."""
    inside = [(sent, arrived, cost) for sent, arrived, cost in sorted(spans)
              if sent >= start and arrived < start + window]
    lines = [f"    sent {(sent - start) * 1e3:9.3f} ms, arrived "
             f"{(arrived - start) * 1e3:9.3f} ms, cost {cost}"
             for sent, arrived, cost in inside]

    if len(lines) > 40:
        lines[20:-20] = [f"    ... {len(lines) - 40} more"]
    return "\n".join(lines)
