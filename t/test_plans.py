"""Plans: what an organisation's plan gives, and what comes before it."""

import pytest

POLICIES = """keygate_policy default rate=60r/m min=1r/m max=600r/m by=key;
    keygate_policy org rate=3000r/m by=org;
    keygate_plan gold default=300r/m org=9000r/m;
    keygate_plan silver default=120r/m;"""

GATE = dict(policies=POLICIES)


def org(gate, **members):
    """An organisation whose record has further members."""
    name = gate.org(access="live")
    record = {"v": 1, "access": "live", **members}
    gate.redis.client.set(f"kg:org:{{{name}}}", __import__("json").dumps(record))
    return name


def quota(gate, key):
    answer = gate.get("/v1/loads", key=key)
    assert answer.status == 200
    return answer.get("RateLimit-Policy")


@pytest.mark.parametrize("members, limits, expected", [
    ({}, None, 60),
    ({"plan": "gold"}, None, 300),
    ({"plan": "silver"}, None, 120),
    ({"plan": "gone"}, None, 60),
    ({"plan": "gold", "limits": {"default": "90r/m"}}, None, 90),
    ({"plan": "gold", "limits": {"default": "90r/m"}}, {"default": "30r/m"},
     30),
    ({"plan": "gold"}, {"default": "30r/m"}, 30),
    ({"plan": "gold", "limits": {"org": "10r/m"}}, None, 300),
])
def test_which_limit_holds(gate, members, limits, expected):
    """The key's own, then the organisation's, then its plan's."""
    more = {"limits": limits} if limits else {}
    key = gate.key(org=org(gate, **members), **more)
    assert quota(gate, key) == f'"default";q={expected};w=60'


def test_plan_changes_for_all_at_reload(make_gate, upstream):
    gate = make_gate(policies=POLICIES)
    key = gate.key(org=org(gate, plan="gold"))
    assert quota(gate, key) == '"default";q=300;w=60'

    gate.edit(policies=POLICIES.replace("gold default=300r/m",
                                        "gold default=500r/m"))
    gate.reload()
    assert quota(gate, key) == '"default";q=500;w=60'


@pytest.mark.parametrize("line, right", [
    ("keygate_plan GOLD default=300r/m;", "[a-z0-9_-]{1,32}"),
    ("keygate_plan gold;", "number of arguments"),
    ("keygate_plan gold default;", "default=300r/m"),
    ("keygate_plan gold default=;", "default=300r/m"),
    ("keygate_plan gold default=300;", "default=300r/m"),
    ("keygate_plan gold none=300r/m;", "keygate_policy"),
    ("keygate_plan gold default=300r/m default=2r/m;", "twice"),
    ("keygate_plan gold default=601r/m;", "max="),
    ("keygate_plan gold default=601r/h;", "max="),
    ("keygate_plan gold default=1r/d;", "min="),
    ("keygate_plan gold default=2r/m; keygate_plan gold default=3r/m;",
     "duplicate"),
])
def test_wrong_plans(nginx_t, line, right):
    rc, stderr = nginx_t(
        policies="keygate_policy default rate=60r/m min=1r/m max=600r/m "
                 "by=key;\n" + line)
    assert rc != 0
    assert right in stderr
    assert "nginx.conf:" in stderr
