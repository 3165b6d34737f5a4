"""docs/openapi.yaml is true: real answers of every status that it documents of
every partner's operation, and nothing of the gate's that it does not name."""

import email.utils
import itertools
import json
import re
import subprocess
import threading
import time

import pytest

import harness
import openapi_document
from harness.template import ROOT
from openapi_document import document, faults, operations, target, unnamed

PARTNER = operations("partner")

GATE = dict(
    policies="keygate_policy default rate=600r/m min=1r/m by=key;",
    http="keygate_failures rate=3r/m;"
         "set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;",
    routes="keygate_routes partner { "
           "include %%ROOT%%/conf/keygate-routes.conf; }")

SERIAL = itertools.count()
STREAM = {"Content-Type": "text/event-stream"}


class Caller:
    """Calls one operation, each time as the contract wants it."""

    def __init__(self, gate, upstream, operation):
        self.gate = gate
        self.upstream = upstream
        self.operation = operation
        self.key = gate.key() if operation.needs else None

    def call(self, idem=None, **how):
        operation = self.operation
        how.setdefault("key", self.key)
        how.setdefault("json", {"id": "x"} if operation.method == "POST"
                       else None)
        if operation.idempotent:
            how["idem"] = idem or f"key-{next(SERIAL)}"
        return self.gate.request(operation.method,
                                 target(operation) + how.pop("query", ""),
                                 **how)

    def after(self, *answer, times=1, **how):
        """The call, answered so by the upstream."""
        self.upstream.answer(*answer, times=times, **how)
        return self.call()

    def twice(self, second, *answer, **how):
        """The answers to two calls with one Idempotency-Key; second are what
        is else about the second."""
        idem = f"key-{next(SERIAL)}"
        self.upstream.answer(*answer, times=1, **how)
        return self.call(idem), self.call(idem, **second)

    def while_running(self):
        idem = f"key-{next(SERIAL)}"
        self.upstream.answer(200, hang=True, times=1)
        seen = len(self.upstream.requests)
        first = threading.Thread(target=self.call, args=(idem,))
        first.start()
        self.upstream.wait(seen + 1)
        second = self.call(idem)
        self.upstream.release()
        first.join()
        return second


def bad_requests(caller):
    yield caller.after(400, body={"field": "externalId"})
    yield caller.call(headers=[("Authorization", "Bearer a"),
                               ("Authorization", "Bearer b")], key=None)
    if caller.operation.idempotent:
        gate, operation = caller.gate, caller.operation
        for header in ({}, {"Idempotency-Key": "a b"}):
            yield gate.request(operation.method, target(operation),
                               key=caller.key, headers=header, json={})


def unauthorized(caller):
    yield caller.call(key=None)
    yield caller.call(key="nonsense")
    yield caller.call(key=caller.gate.key(revokedAt="2026-01-01T00:00:00Z"))
    yield from upstreams(401)(caller)


def forbidden(caller):
    gate = caller.gate
    yield caller.call(key=gate.key(scopes=["other:read"]))
    yield caller.call(key=gate.key(allow=["203.0.113.7"]))
    for access in ("not_enabled", "disabled"):
        yield caller.call(key=gate.key(access=access))
    yield caller.call(key=gate.key(access="test", mode="live"))
    yield from upstreams(403)(caller)


def conflicts(caller):
    yield caller.after(409, body={"id": "taken"})
    yield caller.twice({"json": {"id": "y"}}, 200)[1]
    yield caller.twice({}, 200, cut="before")[1]
    yield caller.twice({}, 200, headers=STREAM, body=b"data: 1\n\n")[1]
    yield caller.while_running()
    yield from upstreams(409)(caller)


def too_many(caller):
    key = caller.gate.key(limits={"default": "1r/m"})
    caller.call(key=key)
    yield caller.call(key=key)

    address = {"X-Real-IP": f"198.51.100.{next(SERIAL) % 250}"}
    answers = [caller.call(key=harness.make_token(), headers=address)
               for _ in range(4)]
    assert answers[2].status == 401
    yield answers[3]
    yield from upstreams(429)(caller)


def done(status):
    def calls(caller):
        if not caller.operation.idempotent:
            yield caller.after(status)
            return
        first, again = caller.twice({}, status)
        assert again.get("Idempotent-Replayed") == "true"
        yield from (first, again)
    return calls


def upstreams(status, **how):
    """Errors of the upstream's: in nobody's form, in the envelope, and on a
    write as a replay, too."""
    def calls(caller):
        yield caller.after(status, body=b"<p>", **how)
        yield caller.after(status, body={"error": {
            "code": caller_code(status), "message": "m"}}, **how)
        if caller.operation.idempotent and status in (404, 422, 500):
            yield caller.twice({}, status)[1]
    return calls


def caller_code(status):
    return document()["components"]["schemas"][f"Code{status}"]["enum"][0]


def unavailable(caller):
    yield caller.after(503)
    yield caller.after(503, headers={"Retry-After": "7"})
    yield caller.after(503, headers={"Retry-After": email.utils.formatdate(
        time.time() + 7200, usegmt=True)})


# How each status comes about.
REACHED = {
    "200": done(200),
    "201": done(201),
    "400": bad_requests,
    "401": unauthorized,
    "403": forbidden,
    "404": upstreams(404),
    "409": conflicts,
    "413": lambda caller: [caller.call(
        json=None, headers={"Content-Length": "2000000"})],
    "414": lambda caller: [caller.call(query="?q=" + "x" * 9000)],
    "422": upstreams(422),
    "429": too_many,
    "431": lambda caller: [caller.call(headers={"X-Long": "x" * 9000})],
    "500": upstreams(500),
    "502": lambda caller: [caller.after(200, cut="before"),
                           caller.after(502)],
    "503": unavailable,
    "504": upstreams(504),
    "default": lambda caller: [caller.after(410), caller.after(451)],
}


def statuses():
    return [pytest.param(operation, status, id=f"{operation.name} {status}")
            for operation in PARTNER for status in operation.responses]


@pytest.mark.parametrize("operation, status", statuses())
def test_answers_of_every_documented_status(gate, upstream, operation, status):
    """A status that nothing here reaches has no entry in REACHED."""
    for answer in REACHED[status](Caller(gate, upstream, operation)):
        if status == "default":
            assert str(answer.status) not in operation.responses
        else:
            assert str(answer.status) == status, answer
        assert faults(operation, answer) == [], answer
        if answer.status >= 400:
            assert unnamed(operation, answer) == [], answer


def test_faults_are_found(gate, upstream):
    """What holds answers against the document would see what is not so."""
    operation = next(one for one in PARTNER if one.idempotent)
    answer = Caller(gate, upstream, operation).after(201)
    assert faults(operation, answer) == []

    answer.headers.append(("Retry-After", "1"))
    assert faults(operation, answer) == ["Retry-After is not documented"]
    answer.headers = [("X-Request-Id", "x"),
                      ("Content-Type", "application/json")]
    assert "ratelimit is missing" in faults(operation, answer)
    assert "x-request-id: 'x' does not match" in " ".join(
        faults(operation, answer))

    answer.status, answer.body = 429, json.dumps({"error": {
        "code": "slow_down", "message": "m", "retryable": True,
        "more": 1}, "requestId": "req_"}).encode()
    said = " ".join(faults(operation, answer))
    for part in ("code slow_down is not documented",
                 "retryable and Retry-After are not together",
                 "$.requestId"):
        assert part in said
    assert unnamed(operation, answer) == ["$.error.more"]


# The document and the gate have the same routes.


@pytest.mark.parametrize("operation", PARTNER, ids=lambda one: one.name)
def test_scope_is_what_is_asked_for(gate, operation):
    if operation.needs is None:
        assert Caller(gate, None, operation).call().status == 200
        return
    caller = Caller(gate, None, operation)
    without = gate.key(scopes=[scope for scope in harness.records.ALL_SCOPES
                               if scope != operation.needs])
    assert caller.call(key=without).error["details"] == {
        "requiredScope": operation.needs}
    assert caller.call(key=gate.key(scopes=[operation.needs])).status == 200


def test_methods_of_each_path(gate):
    key = gate.key()
    for path in document()["paths"]:
        here = [one for one in PARTNER if fits(path, one.path)]
        if not here:
            continue
        methods = {one.method for one in here}
        answer = gate.request("BREW", path.replace("{", "").replace("}", ""),
                              key=key)
        allowed = set(answer.get("Allow").split(", "))
        assert allowed == methods | ({"HEAD"} if "GET" in methods else set())
        assert answer.code == "method_not_allowed"
        assert faults(here[0], answer) == [], answer


def fits(path, other):
    """Whether a request for path is one for other, too."""
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", other), path)


def test_codes_are_those_of_the_catalogue():
    schemas = document()["components"]["schemas"]
    catalogue = json.loads((ROOT / "conf/errors.json").read_text("utf-8"))
    by_status = {}
    for entry in catalogue:
        by_status.setdefault(f"Code{entry['status']}", []).append(
            entry["code"])

    assert {name: schema["enum"] for name, schema in schemas.items()
            if name in by_status} == by_status
    assert [one["$ref"].rpartition("/")[2]
            for one in schemas["ErrorCode"]["anyOf"]] == sorted(by_status)


def test_document_is_linted():
    """By spectral, its warnings too."""
    lint = ROOT / "t/openapi/node_modules/.bin/spectral"
    assert lint.exists(), "run scripts/test gate, or npm ci in t/openapi"
    done = subprocess.run(
        [lint, "lint", "-r", ROOT / "t/openapi/spectral.yaml",
         "--fail-severity", "hint", openapi_document.PATH],
        capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
