"""Scenarios kept for what they catch; each says what that is."""

from .model import Policy, Scenario, Stream, Tenant

SCENARIOS = [
    # One caller that never stops, and starts again whenever a window lets it:
    # what leaves the window a slice too early shows at once.
    Scenario(
        name="hammer",
        tenants=(Tenant(policies=(Policy(40),)),),
        streams=(Stream(0, 0, 0, conns=4, gap=0.004, start=0, length=2.5),)),

    # One node and demand equal to the limit: 95 % of it is had.
    Scenario(
        name="steady",
        tenants=tuple(Tenant(policies=(Policy(rate),))
                      for rate in (60, 200, 500)),
        streams=tuple(Stream(t, 0, 0, conns=20, gap=0, start=0, length=4.0,
                             rate=rate)
                      for t, rate in enumerate((60, 200, 500))),
        floor=0.95),
]
