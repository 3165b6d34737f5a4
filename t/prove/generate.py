"""Scenarios, drawn by hypothesis.

Streams are drawn so that limits are reached: most tenants get more than they
may have, some stay under it. All of a scenario's streams together ask for no
more than LOAD requests a second, so that spans stay short.
"""

from hypothesis import strategies as st

from .model import TEAM, Caller, Fault, Policy, Scenario, Stream, Tenant

LOAD = 2000
LENGTH = 2.6

# Every scenario has so many: hypothesis draws lists short, and those prove
# less.
TENANTS = 3
STREAMS = 9

BYS = [("key",), ("org",), ("org", "mode"), ("key", "route"), ("mode",),
       ("route",), ("address",), ("key", "address"), ("org", TEAM),
       ("key", "route", TEAM)]


def moments(least, most):
    """Seconds, to the millisecond; evenly spread, unlike st.floats()."""
    return st.integers(int(least * 1000), int(most * 1000)).map(
        lambda ms: ms / 1000)


@st.composite
def policies(draw):
    unit = draw(st.sampled_from("sssm"))
    top = 300 if unit == "s" else 120
    rate = draw(st.one_of(st.integers(1, 12), st.integers(5, 60),
                          st.integers(60, top)))
    return Policy(
        rate=rate, unit=unit, by=draw(st.sampled_from(BYS)),
        # One that fills in a second or two is waited for.
        burst=draw(st.one_of(st.none(), st.integers(1, 2 * rate))),
        exact=draw(st.sampled_from([False, False, False, True])))


@st.composite
def tenants(draw):
    costs = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3, 7]), min_size=1,
                                max_size=2)))
    callers = st.builds(
        Caller, org=st.integers(0, 1), key=st.integers(0, 1),
        mode=st.sampled_from(["test", "live"]),
        route=st.integers(0, len(costs) - 1),
        address=st.sampled_from(["127.0.0.1", "127.0.0.2"]),
        team=st.sampled_from(["a", "b"]))
    return Tenant(
        policies=tuple(draw(st.lists(policies(), min_size=1, max_size=3))),
        callers=tuple(draw(st.lists(callers, min_size=2, max_size=3,
                                    unique=True))),
        costs=costs)


@st.composite
def streams(draw, tenant, number, nodes):
    start = draw(moments(0, LENGTH / 2))
    conns = draw(st.integers(1, 6))
    asked = draw(st.sampled_from([1, 1, 0.5, 0.1])) * LOAD / STREAMS
    return Stream(
        tenant=number,
        caller=draw(st.integers(0, len(tenant.callers) - 1)),
        node=draw(st.integers(0, nodes - 1)), conns=conns,
        gap=round(conns / asked, 4), start=start,
        length=draw(moments(0.3, LENGTH - start)))


@st.composite
def faults(draw, nodes):
    """One thing that happens, and its end if it has one."""
    kind = draw(st.sampled_from(["reload", "kill", "redis", "clock", "delay",
                                 "rerate"]))
    at = draw(moments(0.1, LENGTH - 0.5))
    node = draw(st.integers(0, nodes - 1))
    value = draw({
        "redis": st.sampled_from(["stop", "kill"]),
        "clock": st.integers(-600, 600),
        "delay": st.sampled_from([0.02, 0.1, 0.3]),
        "rerate": st.sampled_from([0.5, 0.8, 1.5, 2]),
    }.get(kind, st.none()))

    if kind != "delay":
        return (Fault(at, kind, node, value),)
    return (Fault(at, kind, node, value),
            Fault(round(at + draw(moments(0.1, 0.5)), 3), kind, node, 0))


@st.composite
def scenarios(draw, nodes=None):
    """nodes: so many, or None for one to four."""
    nodes = nodes or draw(st.integers(1, 4))
    some = [draw(tenants()) for _ in range(TENANTS)]

    return Scenario(
        nodes=nodes, tenants=tuple(some),
        streams=tuple(draw(streams(some[i % TENANTS], i % TENANTS, nodes))
                      for i in range(STREAMS)),
        skews=tuple(draw(st.lists(st.integers(-600, 600), min_size=nodes,
                                  max_size=nodes))),
        faults=sum(draw(st.lists(faults(nodes), max_size=3)), ()))
