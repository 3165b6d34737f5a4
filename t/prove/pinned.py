"""Scenarios kept for what they catch; each says what that is."""

from .model import Caller, Fault, Policy, Scenario, Stream, Tenant


def alone(policy, callers=(Caller(),), cost=1):
    """A tenant with one policy and one route."""
    return Tenant(policies=(policy,), callers=callers, costs=(cost,))


# 6000 at once, and a second's lease.  A request that costs more than there
# ever is spends nothing but counts as demand, so that the next leases all that
# it may: 735 of 5 each, or 7 of 105.
LEASED = Tenant(policies=(Policy(100, burst=6000),),
                callers=tuple(Caller(route=i) for i in range(4)),
                costs=(5, 7000, 105, 100))


def lease_used(when):
    """One node leases 0.2 s after the start and uses it from when on; then
    another takes all there is."""
    return dict(
        nodes=2,
        tenants=(LEASED,),
        streams=(Stream(0, 1, 0, conns=1, gap=0.2, start=0, length=0.05),
                 Stream(0, 0, 0, conns=1, gap=0.2, start=0.2, length=0.05),
                 Stream(0, 2, 0, conns=4, gap=0.001, start=when, length=0.4),
                 Stream(0, 3, 1, conns=8, gap=0.001, start=when + 0.03,
                        length=0.4),
                 Stream(0, 0, 1, conns=4, gap=0.002, start=when + 0.08,
                        length=0.4)))


SCENARIOS = [
    # Callers that never stop, and start again whenever they are let: what a
    # window or a bucket lets go too early, or one too many of, shows at once.
    # The second arrives in heaps, so that requests of one key ask together.
    Scenario(
        name="hammer",
        tenants=(alone(Policy(40)), alone(Policy(25)),
                 alone(Policy(30, burst=7)), alone(Policy(50), cost=3)),
        streams=(Stream(0, 0, 0, conns=4, gap=0.004, start=0, length=2.5),
                 Stream(1, 0, 0, conns=24, gap=0.05, start=0, length=2.5),
                 Stream(2, 0, 0, conns=4, gap=0.01, start=0, length=2.5),
                 Stream(3, 0, 0, conns=4, gap=0.01, start=0, length=2.5))),

    # One node and demand equal to the limit: 95 % of it is had.
    Scenario(
        name="steady",
        tenants=tuple(alone(Policy(rate)) for rate in (60, 200, 500)),
        streams=tuple(Stream(t, 0, 0, conns=20, gap=0, start=0, length=4.0,
                             rate=rate)
                      for t, rate in enumerate((60, 200, 500))),
        floor=0.95),

    # Demand makes a node lease, and again and again its Redis is late for a
    # moment, so that what it leased comes when it is of no use any more; then
    # another node takes all there is.
    Scenario(
        name="late-lease",
        nodes=2,
        tenants=(alone(Policy(1000)),),
        streams=(Stream(0, 0, 0, conns=120, gap=0, start=0, length=2.0,
                        rate=400),
                 Stream(0, 0, 1, conns=8, gap=0.004, start=1.3, length=1.8)),
        faults=tuple(Fault(round(0.4 + i * 0.15 + off * 0.04, 3), "delay", 0,
                           0.04 * (1 - off))
                     for i in range(8) for off in range(2))),

    # The reply that brings a lease is late by more than the lease may live: by
    # then what it was charged has been paid, and it must not be used.  One
    # worker, whose connection stands by then.
    Scenario(
        name="late-reply",
        workers=1,
        **lease_used(2.3),
        faults=(Fault(0.15, "late", 0, 1.6), Fault(0.6, "late", 0, 0))),

    # A bucket's lease is used at its end, when so much more has been paid.
    Scenario(name="used-at-its-end", **lease_used(0.9)),

    # Leases end unused again and again, and what is left of them goes back,
    # while another node takes all there is.
    Scenario(
        name="hand-back",
        nodes=2,
        tenants=(alone(Policy(600, "m")), alone(Policy(300))),
        streams=tuple(Stream(t, 0, 0, conns=8, gap=0, start=i * 0.5,
                             length=0.25, rate=300)
                      for t in range(2) for i in range(6))
        + (Stream(0, 0, 1, conns=4, gap=0.004, start=3.2, length=1.2),
           Stream(1, 0, 1, conns=4, gap=0.004, start=1.2, length=2.0))),

    # Redis goes away before the limit is reached and comes back: what the
    # node admitted by itself counts.
    Scenario(
        name="away",
        share=0.5,
        tenants=(alone(Policy(60, "m")), alone(Policy(40, "m", burst=30))),
        streams=tuple(Stream(t, 0, 0, conns=2, gap=0.01, start=start,
                             length=length)
                      for t in range(2)
                      for start, length in ((0, 0.02), (0.6, 2.4))),
        faults=(Fault(0.3, "away"), Fault(1.6, "back"))),

    # Windows of a minute, and what follows them: a lease lives a whole second
    # of these.
    Scenario(
        name="minute",
        nodes=2,
        tenants=tuple(alone(Policy(rate, "m"))
                      for rate in (5, 60, 300, 600)),
        streams=tuple(Stream(t, 0, node, conns=2, gap=0.05, start=start,
                             length=length)
                      for t in range(4)
                      for node, start, length in ((0, 0, 12), (1, 8, 62))),
        patience=63.0),
]
