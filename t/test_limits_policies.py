"""Which policies apply to a request, what each counts by, and that several
are all or nothing."""

import pytest

from checks import check_error, structured
from harness import template

LOADS = "/v1/loads"

GATE = dict(
    policies="""
        keygate_policy default rate=5r/m by=key;
        keygate_policy org rate=8r/m by=org;
        keygate_policy poll rate=2r/m by=key,route;
        keygate_policy modes rate=3r/m by=org,mode;
        keygate_policy each rate=3r/m by=key,route;""",
    gate="""keygate partner; keygate_limit default org;
        keygate_errors envelope;""",
    routes="""keygate_routes partner {
        GET /v1/loads loads:read limit=+poll;
        GET /v1/loads/:id loads:read;
        GET /v1/customers customers:read limit=poll;
        GET /v1/carriers carriers:read limit=modes;
        GET /v1/tracking/:loadId tracking:read limit=each;
        GET /v1/webhooks webhooks:manage limit=each;
        GET /free loads:read limit=off;
    }""",
    locations="""
        location = /v1/loads/none {
            include %%ROOT%%/conf/keygate_proxy_params;
            keygate_limit off;
            %%PROXY%%
        }""",
)


def left(answer):
    """What is left of every policy that applied."""
    return {name: state["r"]
            for name, state in structured(answer, "RateLimit").items()}


def test_every_policy_of_the_location_applies(gate):
    answer = gate.get("/v1/loads/1", key=gate.key())

    assert structured(answer, "RateLimit-Policy") == {
        "default": {"q": 5, "w": 60}, "org": {"q": 8, "w": 60}}
    assert left(answer) == {"default": 4, "org": 7}


def test_route_adds_a_policy(gate, upstream):
    key = gate.key()

    assert left(gate.get(LOADS, key=key)) == \
        {"default": 4, "org": 7, "poll": 1}
    gate.get(LOADS, key=key)
    answer = gate.get(LOADS, key=key)
    check_error(answer, 429, "rate_limited", {"policy": "poll"}, (50, 60))
    assert left(answer) == {"default": 3, "org": 6, "poll": 0}
    assert gate.get("/v1/loads/1", key=key).status == 200


def test_route_replaces_policies(gate):
    answer = gate.get("/v1/customers", key=gate.key())

    assert left(answer) == {"poll": 1}


def test_route_without_limits(gate):
    key = gate.key()
    answers = [gate.get("/free", key=key) for _ in range(10)]

    assert [a.status for a in answers] == [200] * 10
    assert answers[0].get("RateLimit-Policy") is None
    assert answers[0].get("RateLimit") is None


def test_location_without_limits(gate):
    key = gate.key()
    answers = [gate.get("/v1/loads/none", key=key) for _ in range(10)]

    assert [a.status for a in answers] == [200] * 10
    assert answers[0].get("RateLimit-Policy") is None
    assert left(gate.get("/v1/loads/1", key=key)) == {"default": 4, "org": 7}


def test_refused_by_the_second_spends_nothing_on_the_first(gate):
    org = gate.org()
    first, second = gate.key(org), gate.key(org)
    for _ in range(4):
        gate.get("/v1/loads/1", key=first)
        gate.get("/v1/loads/1", key=second)

    for _ in range(3):
        answer = gate.get("/v1/loads/1", key=first)
        check_error(answer, 429, "rate_limited", {"policy": "org"}, (50, 60))
        assert left(answer) == {"default": 1, "org": 0}

    third = gate.key(org)
    gate.get("/v1/loads/1", key=third)
    assert left(gate.get("/v1/loads/1", key=third))["default"] == 5


def test_refused_by_the_first_spends_nothing_on_the_second(gate):
    org = gate.org()
    first, second = gate.key(org), gate.key(org)
    for _ in range(5):
        gate.get("/v1/loads/1", key=first)

    for _ in range(3):
        answer = gate.get("/v1/loads/1", key=first)
        check_error(answer, 429, "rate_limited", {"policy": "default"},
                    (50, 60))
        assert left(answer) == {"default": 0, "org": 3}

    assert left(gate.get("/v1/loads/1", key=second)) == \
        {"default": 4, "org": 2}


def test_by_organisation(gate):
    org = gate.org()
    seen = [left(gate.get("/v1/loads/1", key=gate.key(org, mode)))["org"]
            for mode in ("test", "live", "test")]

    assert seen == [7, 6, 5]
    assert left(gate.get("/v1/loads/1", key=gate.key()))["org"] == 7


def test_by_organisation_and_mode(gate):
    org = gate.org()
    seen = [left(gate.get("/v1/carriers", key=gate.key(org, mode)))["modes"]
            for mode in ("test", "live", "test", "live")]

    assert seen == [2, 2, 1, 1]


def test_by_key_and_route(gate):
    """A route is what the table names, not the path."""
    org = gate.org()
    key, other = gate.key(org), gate.key(org)
    seen = [left(gate.get(target, key=caller))["each"]
            for target, caller in [
                ("/v1/tracking/1", key), ("/v1/tracking/2", key),
                ("/v1/tracking/1?a=b", key), ("/v1/webhooks", key),
                ("/v1/tracking/1", other)]]

    assert seen == [2, 1, 0, 2, 2]


def test_latest_relief_is_told(make_gate):
    """Of two that refuse the later one decides when a request can succeed."""
    gate = make_gate(policies="""
        keygate_policy fast rate=1r/s by=key;
        keygate_policy slow rate=1r/m by=key;""",
        gate="keygate partner; keygate_limit fast slow; "
             "keygate_errors envelope;")
    key = gate.key()
    gate.get(LOADS, key=key)

    check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                {"policy": "slow"}, (50, 60))


def test_another_s_denial_is_not_the_latest_relief(make_gate):
    """That the organisation's is spent was learnt of another key: this one's
    own hour is longer, and is told."""
    gate = make_gate(
        policies="""keygate_policy default rate=5r/h by=key;
            keygate_policy org rate=8r/m by=org;""",
        gate=GATE["gate"],
        routes="keygate_routes partner { GET /v1/loads loads:read; }")
    org = gate.org()
    first, second = gate.key(org), gate.key(org)
    assert [gate.get(LOADS, key=first).status for _ in range(5)] == [200] * 5
    assert [gate.get(LOADS, key=second).status for _ in range(3)] == [200] * 3

    check_error(gate.get(LOADS, key=second), 429, "rate_limited",
                {"policy": "org"}, (50, 60))
    answer = gate.get(LOADS, key=first)
    check_error(answer, 429, "rate_limited", {"policy": "default"},
                (3500, 3600))
    assert left(answer) == {"default": 0, "org": 0}


def test_override_of_one_policy_only(gate):
    org = gate.org(limits={"org": "2r/m"})
    key = gate.key(org, limits={"default": "3r/m"})

    assert structured(gate.get("/v1/loads/1", key=key), "RateLimit-Policy") \
        == {"default": {"q": 3, "w": 60}, "org": {"q": 2, "w": 60}}


@pytest.mark.parametrize("gate_lines, policies", [
    ("keygate partner;", {"default": {"q": 60, "w": 60}}),
    ("keygate partner; keygate_limit off;", None),
])
def test_what_applies_when_nothing_is_named(make_gate, gate_lines, policies):
    gate = make_gate(gate=gate_lines,
                     policies=template.PIECES["policies"])
    answer = gate.get(LOADS, key=gate.key())

    if policies is None:
        assert answer.get("RateLimit-Policy") is None
    else:
        assert structured(answer, "RateLimit-Policy") == policies


def test_units(make_gate):
    gate = make_gate(policies="""
        keygate_policy s rate=3r/s by=key;
        keygate_policy h rate=4r/h by=key;
        keygate_policy d rate=5r/d by=key;""",
        gate="keygate partner; keygate_limit s h d; keygate_errors envelope;")
    key = gate.key()
    answer = gate.get(LOADS, key=key)

    assert structured(answer, "RateLimit-Policy") == {
        "s": {"q": 3, "w": 1}, "h": {"q": 4, "w": 3600},
        "d": {"q": 5, "w": 86400}}
    assert left(answer) == {"s": 2, "h": 3, "d": 4}
