"""keygate_errors problem: the same errors as problems of RFC 9457."""

import json

import pytest

from checks import check_problem

LOADS = "/v1/loads"

GATE = dict(
    files={"errors.json": json.dumps(
        [{"code": "gone", "message": "It is gone",
          "docUrl": "https://docs.example.com/gone"}])},
    gate="""keygate partner; keygate_limit default;
        keygate_errors problem catalogue=errors.json;""",
    locations="""
        location = /gone { keygate off; return 410; }
        location = /eager { keygate off; return 418; }
        location = /busy { keygate off; return 503; }
    """)


def test_refusals_of_keygate(gate):
    problem = check_problem(gate.get(LOADS), 401, "unauthorized",
                            "Unauthorized")
    assert problem["detail"] == "The API key is missing or not valid"

    check_problem(gate.get("/v1/customers", key=gate.key(scopes=[])), 403,
                  "forbidden", "Forbidden",
                  {"requiredScope": "customers:read"})

    key = gate.key(limits={"default": "1r/m"})
    gate.get(LOADS, key=key)
    answer = gate.get(LOADS, key=key)
    check_problem(answer, 429, "rate_limited", "Too Many Requests",
                  {"policy": "default"}, (1, 60))
    assert answer.get("RateLimit") is not None


def test_errors_of_nginx(gate):
    check_problem(gate.get("/eager"), 418, "bad_request", "Bad Request")
    check_problem(gate.get("/busy"), 503, "service_unavailable",
                  "Service Unavailable", retry=(1, 1))
    check_problem(gate.request("TRACE", "/"), 405, "method_not_allowed",
                  "Method Not Allowed")
    problem = check_problem(gate.get("/gone"), 410, "gone", "It is gone",
                            link="https://docs.example.com/gone")
    assert problem["detail"] == "It is gone"


def test_malformed_request(gate):
    with gate.connect() as client:
        client.send("nonsense\r\n\r\n")
        check_problem(client.read(), 400, "bad_request", "Bad Request")


@pytest.mark.parametrize("said", [
    {"error": {"code": "load_locked", "message": "By Ann",
               "details": {"a": 1}, "docUrl": "https://u/1", "hint": "x",
               "status": "no", "instance": 1}, "requestId": "x"},
    {"code": "load_locked", "title": "Locked", "detail": "By Ann",
     "details": {"a": 1}, "type": "https://u/1", "hint": "x", "status": 200,
     "retryable": True, "requestId": "x"}])
def test_upstreams_own_error_is_kept(gate, upstream, said):
    upstream.answer(409, {"Content-Type": "application/problem+json"}, said)
    problem = check_problem(gate.get(LOADS, key=gate.key()), 409,
                            "load_locked", said.get("title", "Conflict"),
                            {"a": 1}, link="https://u/1", more={"hint"})
    assert (problem["detail"], problem["hint"]) == ("By Ann", "x")


@pytest.mark.parametrize("said, more", [
    ({"type": "about:blank", "instance": "/loads/7"}, {"instance"}),
    ({"type": "x y", "instance": "urn:uuid:1"}, {"instance"}),
    ({"type": 7, "instance": "https://a/<b>"}, set()),
    ({"type": "/relative", "instance": 7}, set()),
    ({"type": "javascript:a", "instance": "//elsewhere"}, set()),
    ({"details": [7]}, set())])
def test_what_an_upstreams_problem_links_to(gate, upstream, said, more):
    upstream.answer(409, {"Content-Type": "application/problem+json"},
                    {"code": "c", "title": "T", "detail": "D", **said})
    check_problem(gate.get(LOADS, key=gate.key()), 409, "c", "T",
                  {"upstream": [7]} if "details" in said else None,
                  more=more)


def test_what_a_server_says_of_its_failure(gate, upstream):
    upstream.answer(500, {"Content-Type": "application/problem+json"},
                    {"code": "c", "title": "T", "detail": "D", "stack": ["a"],
                     "instance": "/internal/7", "type": "https://u/1"})
    check_problem(gate.get(LOADS, key=gate.key()), 500, "c", "T",
                  link="https://u/1")


def test_problem_without_a_code_is_as_any_json(gate, upstream):
    said = {"type": "https://u/x", "title": "Stack", "detail": "a.py:1"}
    upstream.answer(422, {"Content-Type": "application/problem+json"}, said)
    check_problem(gate.get(LOADS, key=gate.key()), 422,
                  "unprocessable_content", "Unprocessable Content",
                  {"upstream": said})
    upstream.answer(500, {"Content-Type": "application/problem+json"}, said)
    answer = gate.get(LOADS, key=gate.key())
    check_problem(answer, 500, "internal_error", "Internal Server Error")
    assert b"a.py" not in answer.body


def test_head(gate):
    answer = gate.head("/gone")
    assert (answer.status, answer.body) == (410, b"")
    assert answer.get("Content-Type") == "application/problem+json"


def test_replay_of_a_stored_problem(gate, upstream):
    key = gate.key()
    upstream.answer(422, {}, {"field": "weight"})
    answers = [gate.post(LOADS, key=key, idem="k", json={}) for _ in range(2)]

    assert answers[1].get("Idempotent-Replayed") == "true"
    assert answers[0].body == answers[1].body
    for answer in answers:
        assert answer.all("Content-Type") == ["application/problem+json"]
        assert answer.json()["details"] == {"upstream": {"field": "weight"}}
