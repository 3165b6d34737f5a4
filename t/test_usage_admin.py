"""What an operator is told of a key's usage: over HTTP, and from a shell."""

import datetime
import json
import os
import subprocess
import time

import pytest

from harness import template
from harness.ports import wait_for

LOADS = "/v1/loads"
TOOL = template.ROOT / "scripts/keygate"

GATE = dict(
    zone="keygate_zone zone=keygate:16m usage=200ms;",
    policies="keygate_policy default rate=60r/m max=600r/m by=key;"
             "keygate_policy org rate=3000r/h by=org,mode;"
             "keygate_policy poll rate=12r/m by=key,route;"
             "keygate_policy idle rate=1r/s by=key;"
             "keygate_plan gold default=300r/m;",
    gate="keygate partner; keygate_limit default org;"
         "keygate_errors envelope;",
    server="set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;",
    routes="""keygate_routes partner {
        GET   /v1/loads      loads:read  limit=+poll;
        GET   /v1/loads/:id  loads:read;
        POST  /v1/loads      loads:write idempotency=required;
    }""",
    locations="location /read { keygate_admin role=read; }")


def today():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")


def days_ago(n):
    moment = datetime.datetime.now(datetime.timezone.utc)
    return moment - datetime.timedelta(days=n)


@pytest.fixture
def key(gate):
    """As the admin interface makes it: known by its id."""
    org = gate.org(plan="gold")
    answer = gate.admin("POST", f"/orgs/{org}/keys", json={
        "mode": "test", "scopes": ["loads:read"],
        "limits": {"org": "900r/h"}})
    assert answer.status == 201, answer
    return answer.json()


def usage(gate, key):
    answer = gate.admin("GET", f"/keys/{key['id']}/usage")
    assert answer.status == 200, answer
    assert answer.get("Content-Type") == "application/json"
    return answer.json()


def counted(gate, key, n):
    return wait_for(lambda: sum(day["requests"] for day in
                                usage(gate, key)["days"]) == n
                    and usage(gate, key), 5, f"{n} requests")


def test_key_that_was_never_used(gate, key):
    found = usage(gate, key)

    assert found["id"] == key["id"]
    assert found["lastUsedAt"] is None
    assert found["addresses"] == found["days"] == []
    assert found["limits"] == [
        {"policy": "default", "route": None, "rate": "300r/m",
         "remaining": 300, "reset": 0},
        {"policy": "org", "route": None, "rate": "900r/h",
         "remaining": 900, "reset": 0}]


def test_requests_by_day_route_and_outcome(gate, key, upstream, one_day):
    upstream.answer(404, path="/v1/loads/none")
    for path in (LOADS, LOADS, "/v1/loads/1", "/v1/loads/none"):
        gate.get(path, key=key["token"])
    gate.post(LOADS, key=key["token"], idem="k")
    found = counted(gate, key, 5)

    day, = found["days"]
    assert day["day"] == today()
    assert day["requests"] == 5
    assert day["counts"] == [
        {"route": "GET /v1/loads", "outcome": "ok", "count": 2},
        {"route": "GET /v1/loads/:id", "outcome": "client_error",
         "count": 1},
        {"route": "GET /v1/loads/:id", "outcome": "ok", "count": 1},
        {"route": "POST /v1/loads", "outcome": "forbidden", "count": 1}]


def test_days_are_the_last_31_newest_first(gate, key, one_day):
    for n in (0, 1, 30, 31):
        gate.redis.client.hset(
            f"kg:usage:{{{key['id']}}}:{days_ago(n):%Y%m%d}", mapping={
                "GET /v1/loads|ok": 10 + n, "flight:00": 7,
                "GET /v1/a|b|ok": 1, "GET /v1/loads|odd": "x"})
    found = usage(gate, key)

    assert [day["day"] for day in found["days"]] == [
        f"{days_ago(n):%Y-%m-%d}" for n in (0, 1, 30)]
    assert [day["requests"] for day in found["days"]] == [11, 12, 41]
    assert found["days"][0]["counts"] == [
        {"route": "GET /v1/a|b", "outcome": "ok", "count": 1},
        {"route": "GET /v1/loads", "outcome": "ok", "count": 10}]


def test_where_limits_stand_and_looking_costs_nothing(gate, key):
    gate.get(LOADS, key=key["token"])
    gate.get(LOADS, key=key["token"])
    gate.get("/v1/loads/1", key=key["token"])
    counted(gate, key, 3)
    for _ in range(5):
        found = usage(gate, key)

    limits = {(limit["policy"], limit["route"]): limit
              for limit in found["limits"]}
    assert set(limits) == {("default", None), ("org", None),
                           ("poll", "GET /v1/loads"),
                           ("poll", "GET /v1/loads/:id")}
    assert limits["default", None]["remaining"] == 297
    assert limits["org", None]["remaining"] == 897
    assert limits["poll", "GET /v1/loads"]["remaining"] == 10
    assert limits["poll", "GET /v1/loads/:id"]["remaining"] == 12
    assert 1 <= limits["default", None]["reset"] <= 60
    assert limits["poll", "GET /v1/loads/:id"]["reset"] == 0


def test_limit_that_is_used_up(gate, key):
    for _ in range(13):
        last = gate.get(LOADS, key=key["token"])
    assert last.status == 429
    found = counted(gate, key, 13)

    poll = next(limit for limit in found["limits"]
                if limit["policy"] == "poll")
    assert poll["remaining"] == 0
    assert 1 <= poll["reset"] <= 60


def test_last_use(gate, key, one_day):
    for address in ("203.0.113.9", "2001:db8::5"):
        gate.get(LOADS, key=key["token"], headers={"X-Real-IP": address})
        time.sleep(1.1)
    found = counted(gate, key, 2)

    assert [entry["address"] for entry in found["addresses"]] == [
        "2001:db8::5", "203.0.113.9"]
    assert found["lastUsedAt"] == found["addresses"][0]["at"]
    assert found["lastUsedAt"][:10] == today()
    shown = gate.admin("GET", f"/keys/{key['id']}").json()
    assert shown["lastUsedAt"] == found["lastUsedAt"]


def test_key_whose_organisation_has_no_record(gate, key):
    gate.redis.client.delete(f"kg:org:{{{key['org']}}}")
    assert usage(gate, key)["limits"][0]["rate"] == "60r/m"


def test_reader_may_look(gate, key):
    answer = gate.get(f"/read/keys/{key['id']}/usage")
    assert (answer.status, answer.json()["id"]) == (200, key["id"])


@pytest.mark.parametrize("key_id", ["key_nobody", "nonsense", "key_a%2Fb"])
def test_unknown_key(gate, key_id):
    answer = gate.admin("GET", f"/keys/{key_id}/usage")
    assert (answer.status, answer.code) == (404, "not_found")


def test_only_get(gate, key):
    answer = gate.admin("POST", f"/keys/{key['id']}/usage", json={})
    assert answer.status == 405
    assert answer.get("Allow") == "GET, HEAD"


def test_what_somebody_else_wrote_is_an_error(gate, key):
    gate.redis.client.set(f"kg:seen:{{{key['id']}}}", "x")
    answer = gate.admin("GET", f"/keys/{key['id']}/usage")
    assert answer.status in (500, 503)


def test_redis_that_is_away(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE)
    redis.stop()
    answer = gate.admin("GET", "/keys/key_a/usage")
    assert (answer.status, answer.code) == (503, "service_unavailable")


# From a shell.


def tool(gate, *words):
    env = {**os.environ,
           "KEYGATE_ADMIN_URL": "unix:" + gate.path("admin.sock")}
    done = subprocess.run([str(TOOL), *words], env=env, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_tool(gate, key, one_day):
    gate.get(LOADS, key=key["token"], headers={"X-Real-IP": "203.0.113.9"})
    counted(gate, key, 1)
    code, out, err = tool(gate, "usage", key["id"])
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]

    assert rows[0] == ["id", key["id"]]
    assert rows[1][0] == "lastUsedAt"
    assert ["203.0.113.9", rows[1][1]] in rows
    assert ["default", "-", "300r/m", "299"] in [row[:4] for row in rows]
    assert [rows[1][1][:10], "GET", "/v1/loads", "ok", "1"] in rows


def test_tool_for_programs(gate, key):
    code, out, _ = tool(gate, "--json", "usage", key["id"])
    assert code == 0
    assert json.loads(out) == usage(gate, key)


def test_tool_says_that_there_is_no_such_key(gate):
    code, out, err = tool(gate, "usage", "key_nobody")
    assert (code, out) == (1, "")
    assert "not_found" in err
