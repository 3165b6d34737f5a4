"""Routes that any key may call: no scope is asked for, everything else is."""

import pytest

from checks import check_error

GATE = {"routes": """keygate_routes partner {
        GET   /v1/status  any_key;
        GET   /v1/loads   loads:read;
        POST  /v1/hello   any_key idempotency=required;
    }"""}


@pytest.mark.parametrize("scopes", [[], ["other:read"], ["*"]])
def test_whatever_its_scopes(gate, upstream, scopes):
    key = gate.key(scopes=scopes)

    assert gate.get("/v1/status", key=key).status == 200
    assert gate.post("/v1/hello", key=key, idem="one").status == 200
    assert [seen.target for seen in upstream.requests] == [
        "/v1/status", "/v1/hello"]


def test_it_is_not_public(gate, upstream):
    check_error(gate.get("/v1/status"), 401, "unauthorized")
    check_error(gate.get("/v1/status", key="tf_test_x"), 401, "unauthorized")
    check_error(gate.get("/v1/status", key=gate.key(access="disabled")), 403,
                "partner_access_disabled")
    assert upstream.requests == []


def test_other_routes_ask_for_theirs(gate):
    check_error(gate.get("/v1/loads", key=gate.key(scopes=["any_key"])), 403,
                "forbidden", {"requiredScope": "loads:read"})


def test_limits_hold_there(gate):
    answer = gate.get("/v1/status", key=gate.key(scopes=[]))
    assert answer.get("RateLimit") == '"default";r=59;t=60'
