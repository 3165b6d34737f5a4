"""Kinds of policies: buckets, by address and by variables, costs, those that
only count; and what answers say of them."""

import time

import pytest

from checks import check_error, structured
from harness.client import encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"
FORWARDED = "set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;"

GATE = dict(
    policies="""
        keygate_policy default rate=60r/m by=key;
        keygate_policy bucket  rate=60r/m burst=3 by=key;
        keygate_policy many    rate=1000r/m burst=100 min=600r/m by=key;
        keygate_policy address rate=2r/m by=address;
        keygate_policy team    rate=2r/m by=key,$http_x_team;
        keygate_policy both    rate=2r/m by=$http_x_a,$http_x_b;
        keygate_policy trial   rate=2r/m by=key dry_run;
        keygate_policy big     rate=100r/m by=key;
        keygate_policy small   rate=10r/m by=key;
        keygate_policy daily   rate=20r/d by=key;""",
    gate="keygate partner; keygate_limit default; keygate_errors envelope;",
    routes="""keygate_routes partner {
        GET /v1/loads loads:read;
        GET /bucket loads:read limit=bucket;
        GET /many loads:read limit=many;
        GET /address loads:read limit=address;
        GET /team loads:read limit=team;
        GET /both loads:read limit=both;
        GET /trial loads:read limit=+trial;
        GET /order loads:read limit=small,big,daily;
        GET /cost loads:read limit=small cost=4;
        GET /cheap loads:read limit=small;
        GET /dear loads:read limit=small cost=11;
        GET /legacy loads:read limit=big,small;
        GET /batch loads:read limit=+small,trial cost=5;
    }""",
    server=FORWARDED,
    locations="""
        location = /legacy {
            include %%ROOT%%/conf/keygate_proxy_params;
            keygate_limit default headers=legacy;
            %%PROXY%%
        }""",
)


def left(answer):
    return {name: state["r"]
            for name, state in structured(answer, "RateLimit").items()}


def statuses(gate, n, target, **how):
    return [gate.get(target, **how).status for _ in range(n)]


def test_bucket(gate):
    """Three at once, then one a second."""
    key = gate.key()
    start = time.monotonic()
    first = gate.get("/bucket", key=key)
    assert first.get("RateLimit-Policy") == '"bucket";q=3;w=3'
    assert left(first) == {"bucket": 2}

    assert statuses(gate, 2, "/bucket", key=key) == [200, 200]
    more = 0
    while (last := gate.get("/bucket", key=key)).status == 200:
        more += 1
        assert more <= time.monotonic() - start
    check_error(last, 429, "rate_limited", {"policy": "bucket"}, (1, 1))


def test_bucket_keeps_its_burst_when_its_rate_is_another(gate):
    answer = gate.get("/many", key=gate.key(limits={"many": "2000r/m"}))
    assert answer.get("RateLimit-Policy") == '"many";q=100;w=3'

    # Within min=, as any override.
    answer = gate.get("/many", key=gate.key(limits={"many": "6r/m"}))
    assert answer.get("RateLimit-Policy") == '"many";q=100;w=10'


@pytest.mark.parametrize("a, b, together", [
    ("192.0.2.1", "192.0.2.2", False),
    ("192.0.2.1", "192.0.2.1", True),
    ("2001:db8::1", "2001:db8::ffff", True),
    ("2001:db8::1", "2001:db8:0:1::1", False),
])
def test_by_address(gate, a, b, together):
    """A /64 of IPv6 is one address; all within the organisation."""
    org = gate.org()
    keys = [gate.key(org), gate.key(org)]
    for key, address in zip(keys, (a, b)):
        answer = gate.get("/address", key=key, headers={"X-Real-IP": address})
    assert left(answer) == {"address": 0 if together else 1}

    answer = gate.get("/address", key=gate.key(), headers={"X-Real-IP": a})
    assert left(answer) == {"address": 1}


def test_by_variable(gate):
    key = gate.key()
    seen = [left(gate.get("/team", key=key, headers={"X-Team": team}))["team"]
            for team in ("a", "b", "a", "a" * 4000, "a:{b}\xff")]

    assert seen == [1, 1, 0, 1, 1]
    check_error(gate.get("/team", key=key, headers={"X-Team": "a"}), 429,
                "rate_limited", {"policy": "team"}, (50, 60))
    assert left(gate.get("/team", key=key)) == {"team": 1}
    assert left(gate.get("/team", key=gate.key(),
                         headers={"X-Team": "a"})) == {"team": 1}


def test_values_of_variables_do_not_run_together(gate):
    key = gate.key()
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    seen = [left(gate.get("/both", key=key,
                          headers={"X-A": a, "X-B": b}))["both"]
            for a, b in pairs]

    assert seen == [1] * 4


def test_variables_are_within_the_organisation(gate):
    how = dict(headers={"X-A": "x", "X-B": "y"})
    org = gate.org()
    assert [left(gate.get("/both", key=gate.key(org), **how))["both"]
            for _ in range(2)] == [1, 0]
    assert left(gate.get("/both", key=gate.key(), **how)) == {"both": 1}


def test_cost(gate):
    key = gate.key()
    assert left(gate.get("/cost", key=key)) == {"small": 6}
    assert left(gate.get("/cheap", key=key)) == {"small": 5}
    assert left(gate.get("/cost", key=key)) == {"small": 1}

    answer = gate.get("/cost", key=key)
    check_error(answer, 429, "rate_limited", {"policy": "small"}, (50, 60))

    # What is left is enough for one that costs less.
    assert gate.get("/cheap", key=key).status == 200
    assert gate.get("/cheap", key=key).status == 429


def test_cost_above_the_limit_is_never_admitted(gate, upstream):
    answer = gate.get("/dear", key=gate.key())

    check_error(answer, 429, "rate_limited", {"policy": "small"}, (60, 60))
    assert upstream.requests == []


def test_policy_that_only_counts(gate):
    key = gate.key()
    answers = [gate.get("/trial", key=key) for _ in range(4)]

    assert [a.status for a in answers] == [200] * 4
    assert [left(a) for a in answers] == [
        {"default": n} for n in (59, 58, 57, 56)]
    wait_for(lambda: gate.log().count(
        f'would answer 429 rate_limited to key "{key.id}" of "{key.org}" by '
        'policy "trial" (dry_run)') == 2, what="lines of the log")


def test_the_tightest_is_named_first(gate):
    key = gate.key()
    order = []
    for _ in range(12):
        answer = gate.get("/order", key=key)
        order.append(list(structured(answer, "RateLimit")))
        assert list(structured(answer, "RateLimit-Policy")) == order[-1]

    # 9/10, 19/20, 99/100; then small is spent.
    assert order[0] == ["small", "daily", "big"]
    assert order[-1] == ["small", "daily", "big"]
    assert answer.status == 429


def test_who_refused_is_in_the_log(gate):
    key = gate.key(limits={"default": "1r/m"})
    assert statuses(gate, 2, LOADS, key=key) == [200, 429]

    gate.wait_log(rf'keygate answers 429 rate_limited to key "{key.id}" of '
                  rf'"{key.org}" by policy "default"')


def test_legacy_headers(make_gate):
    gate = make_gate(**{**GATE, "gate": "keygate partner; keygate_limit "
                        "default headers=legacy; keygate_errors envelope;"})
    key = gate.key()
    answer = gate.get("/legacy", key=key)

    assert [answer.get(f"X-RateLimit-{name}") for name in
            ("Limit", "Remaining", "Reset")] == ["10", "9", "60"]

    statuses(gate, 9, "/legacy", key=key)
    answer = gate.get("/legacy", key=key)
    assert answer.status == 429
    assert answer.get("X-RateLimit-Remaining") == "0"
    assert answer.get("X-RateLimit-Reset") == answer.get("Retry-After")


def test_no_legacy_headers_unless_asked_for(gate):
    answer = gate.get(LOADS, key=gate.key())
    assert answer.get("X-RateLimit-Limit") is None


def test_several_at_a_cost_are_all_or_nothing(gate):
    key = gate.key()
    assert left(gate.get("/batch", key=key)) == {"default": 55, "small": 5}
    assert left(gate.get("/batch", key=key)) == {"default": 50, "small": 0}
    assert gate.get("/batch", key=key).status == 429
    assert left(gate.get(LOADS, key=key)) == {"default": 49}


@pytest.mark.parametrize("line, right", [
    ("keygate_policy a rate=0r/m by=key;", "from 1 to 1000000000 and"),
    ("keygate_policy a rate=1000000001r/m by=key;",
     "from 1 to 1000000000 and"),
    ("keygate_policy a rate=9r/m burst=0 by=key;", "burst=20"),
    ("keygate_policy a rate=9r/m burst= by=key;", "burst=20"),
    ("keygate_policy a rate=9r/m burst=x by=key;", "burst=20"),
    ("keygate_policy a rate=9r/m burst=1000000001 by=key;", "burst=20"),
    ("keygate_policy a rate=9r/m burst=2 burst=2 by=key;", "duplicate"),
    ("keygate_policy a rate=1r/d burst=31 by=key;", "at most 30"),
    ("keygate_policy a rate=9r/m by=key,$;", "by="),
    ("keygate_policy a rate=9r/m by=$nobody_has_this;", "nobody_has_this"),
    ("keygate_policy a rate=9r/m by=key exactly;", '"exact"'),
])
def test_wrong_policies(nginx_t, line, right):
    rc, stderr = nginx_t(policies=GATE["policies"] + line, **{
        name: GATE[name] for name in ("gate", "routes")})
    assert rc != 0
    assert right in stderr


@pytest.mark.parametrize("cost, right", [
    ("cost=0", "cost=5"), ("cost=", "cost=5"), ("cost=x", "cost=5"),
    ("cost=-1", "cost=5"), ("cost=1000001", "cost=5"),
    ("cost=2 cost=2", "duplicate"), ("limit=off cost=2", "with a policy"),
])
def test_wrong_costs(nginx_t, cost, right):
    rc, stderr = nginx_t(
        routes=f"keygate_routes partner {{ GET /a a:b {cost}; }}")
    assert rc != 0
    assert right in stderr


@pytest.mark.parametrize("policy, cost, right", [
    ("rate=60r/m burst=5", 6, 'its "burst=" has room for 5'),
    ("rate=60r/m max=90r/m", 91, 'its "max=" has room for 90'),
    ("rate=60r/m burst=5", 5, None), ("rate=60r/m max=90r/m", 90, None),
    ("rate=60r/m", 61, None), ("rate=60r/m burst=5 dry_run", 6, None),
])
def test_a_cost_that_no_record_lets_through(nginx_t, policy, cost, right):
    rc, stderr = nginx_t(
        policies=f"keygate_policy own {policy} by=key;",
        routes=f"keygate_routes partner {{ GET /a a:b limit=+own "
               f"cost={cost}; }}",
        gate="keygate partner; keygate_limit off;")
    assert rc == 0, stderr
    warned = [line for line in stderr.splitlines() if "[warn]" in line]
    assert len(warned) == (right is not None)
    assert right is None or right in warned[0]


def test_a_public_route_has_no_cost(nginx_t):
    rc, stderr = nginx_t(
        routes="keygate_routes partner { GET /a public cost=2; }")
    assert rc != 0
    assert "public" in stderr


def test_legacy_headers_need_a_policy(nginx_t):
    rc, stderr = nginx_t(gate="keygate partner; "
                              "keygate_limit headers=legacy;")
    assert rc != 0
    assert "headers=legacy" in stderr


def test_legacy_headers_are_asked_for_once(nginx_t):
    rc, stderr = nginx_t(gate="keygate partner; keygate_limit default "
                              "headers=legacy headers=legacy;")
    assert rc != 0
    assert "duplicate" in stderr


@pytest.mark.parametrize("status, code", [
    (None, "service_unavailable"), (429, "rate_limited")])
def test_requests_at_a_time_are_nginx_s_own(make_gate, upstream, status,
                                            code):
    """limit_conn knows the key before a limit is spent, and what it refuses
    looks like any error."""
    gate = make_gate(
        http="limit_conn_zone $keygate_key_id zone=conn:1m;",
        location="limit_conn conn 1;"
        + (f"limit_conn_status {status};" if status else ""))
    key, other = gate.key(), gate.key()
    upstream.answer(hang=True, times=1)
    first = gate.connect()
    first.send(encode_request("GET", LOADS,
                              {"Authorization": f"Bearer {key.token}"}))
    upstream.wait(1)

    answer = gate.get(LOADS, key=key)
    check_error(answer, status or 503, code, None, (1, 60))
    assert gate.get(LOADS, key=other).status == 200

    upstream.release()
    assert left(first.read()) == {"default": 59}

    # nginx counts a request off a little after its answer.
    def next_one():
        answer = gate.get(LOADS, key=key)
        return answer if answer.status == 200 else None

    assert left(wait_for(next_one, 5, "next request")) == {"default": 58}
