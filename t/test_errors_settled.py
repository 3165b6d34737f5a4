"""An error that a write's retry gets again is no invitation to send one."""

import pytest

from checks import check_error
from test_idempotency import LOADS, check_replay, write

GATE = dict(routes="""keygate_routes partner {
    POST /v1/loads         loads:write idempotency=required;
    POST /v1/loads/upsert  loads:write idempotency=required
                           store=429,425;
    POST /v1/plain         loads:write;
}""")


def envelope(code):
    return {"error": {"code": code, "message": "of the upstream"}}


@pytest.mark.parametrize("status", [409, 500])
def test_in_progress_of_an_upstream_that_is_kept(gate, upstream, status):
    """The upstream's own "in progress" is final, and so never retryable."""
    key = gate.key()
    upstream.answer(status, {"Retry-After": "3"},
                    envelope("idempotency_in_progress"))

    first = write(gate, key)
    check_error(first, status, "idempotency_in_progress")
    check_replay(first, write(gate, key))
    assert len(upstream.requests) == 1


def test_in_progress_of_an_upstream_whose_outcome_is_unknown(gate, upstream):
    key = gate.key()
    upstream.answer(502, {}, envelope("idempotency_in_progress"))

    check_error(write(gate, key), 502, "idempotency_in_progress")
    assert write(gate, key).code == "idempotency_outcome_unknown"


@pytest.mark.parametrize("status, code", [(429, "rate_limited"),
                                          (425, "too_early")])
def test_status_that_the_route_keeps(gate, upstream, status, code):
    key = gate.key()
    upstream.answer(status, {"Retry-After": "3"}, "<p>")

    def send():
        return gate.post("/v1/loads/upsert", key=key, idem="k", json={})

    first = send()
    check_error(first, status, code)
    check_replay(first, send())
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("target, status, code", [
    (LOADS, 429, "rate_limited"),
    ("/v1/plain", 429, "rate_limited"),
    ("/v1/plain", 409, "idempotency_in_progress")])
def test_what_is_not_kept_stays_retryable(gate, upstream, target, status,
                                          code):
    key = gate.key()
    upstream.answer(status, {"Retry-After": "3"}, envelope(code))

    for n in (1, 2):
        check_error(gate.post(target, key=key, idem="k", json={}), status,
                    code, retry=(3, 3))
        assert len(upstream.requests) == n
