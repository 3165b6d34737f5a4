"""docs/openapi.yaml is true of keygate_self: real answers of every status it
documents, and every call there is with the scope it asks for."""

import itertools
import re

import pytest

import harness
import openapi_document
from harness import records
from harness.template import ROOT
from openapi_document import faults, operations, target, unnamed
from self_calls import MANAGE, PIECES, manager, other

SELF = operations("self")

GATE = {**PIECES,
        "http": "keygate_failures rate=3r/m;"
                "set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;",
        "routes": "keygate_routes partner { GET /v1/loads loads:read;"
                  "include %%ROOT%%/conf/keygate-self-routes.conf; }",
        "locations": "location /v1/self { keygate_self; }"}

SERIAL = itertools.count()

FULL = {"name": "UAT", "limits": {"default": "30r/m"}, "allow": ["127.0.0.1"],
        "notBefore": None, "expiresAt": "2098-01-01T00:00:00Z"}


class Call:
    """One operation, called as it should be unless told otherwise."""

    def __init__(self, gate, operation):
        self.gate = gate
        self.operation = operation
        self.caller = manager(gate)
        self.key = other(gate, self.caller.org)

    def body(self):
        return {"POST /v1/self/keys": {"mode": "test", **FULL,
                                       "scopes": ["loads:read"]},
                "PATCH /v1/self/keys/{id}": {**FULL, "scopes": ["loads:read"]},
                "POST /v1/self/keys/{id}/rotate": {"overlap": "1h"},
                }.get(self.operation.name)

    def send(self, key=0, id=None, query="", idem=None, json=0, headers=()):
        """key: None for none; json: None for no body."""
        if self.operation.idempotent:
            idem = idem or f"self-{next(SERIAL)}"
        return self.gate.request(
            self.operation.method,
            target(self.operation, id=id or self.key.id) + query,
            key=self.caller.token if key == 0 else key, idem=idem,
            json=self.body() if json == 0 else json, headers=headers)


def done(call):
    if call.operation.body:
        assert openapi_document.accepts(call.operation.body, call.body())
    call.gate.get("/v1/loads", key=call.key.token)
    idem = "again" if call.operation.idempotent else None
    yield call.send(idem=idem)
    if idem:
        again = call.send(idem=idem)
        assert again.get("Idempotent-Replayed") == "true"
        yield again


def bad_requests(call):
    yield call.send(key=None, headers=[("Authorization", "Bearer a"),
                                       ("Authorization", "Bearer b")])
    if call.operation.body:
        body = {**call.body(), "nosuch": 1}
        assert not openapi_document.accepts(call.operation.body, body)
        yield call.send(json=body)
    if any(one["in"] == "query" for one in call.operation.parameters):
        yield call.send(query="?limit=0")
    if call.operation.idempotent:
        yield call.send(idem="a b")


def unauthorized(call):
    yield call.send(key=None)
    yield call.send(key="nonsense")


def forbidden(call):
    gate, needs = call.gate, call.operation.needs
    for access in ("not_enabled", "disabled"):
        yield call.send(key=gate.key(access=access))
    yield call.send(key=gate.key(access="test", mode="live"))
    if needs != "any_key":
        answer = call.send(key=gate.key(scopes=["loads:read"]))
        assert answer.error["details"] == {"requiredScope": needs}
        yield answer
    if call.operation.name == "POST /v1/self/keys":
        for body in ({"scopes": ["carriers:read"]},
                     {"scopes": ["loads:read"], "mode": "live"}):
            yield call.send(json=body)


def not_found(call):
    yield call.send(id="key_" + records.base62(20))
    yield call.send(id=other(call.gate, call.caller.org, mode="live").id)


def conflicts(call):
    if call.operation.idempotent:
        call.send(idem="one")
        yield call.send(idem="one", json={"scopes": ["loads:write"]})
    else:
        call.gate.admin("DELETE", f"/keys/{call.key.id}")
        yield call.send()


def too_many(call):
    caller = manager(call.gate, limits={"self": "1r/m"})
    call.send(key=caller.token)
    yield call.send(key=caller.token)

    address = {"X-Real-IP": f"198.51.100.{next(SERIAL) % 250}"}
    yield [call.send(key=harness.make_token(), headers=address)
           for _ in range(4)][3]


REACHED = {
    "200": done, "201": done, "400": bad_requests, "401": unauthorized,
    "403": forbidden, "404": not_found, "409": conflicts, "429": too_many,
    "414": lambda call: [call.send(query="?q=" + "x" * 9000)],
    "431": lambda call: [call.send(headers={"X-Long": "x" * 9000})],
    "default": lambda call: [call.gate.request(
        "PUT", target(call.operation), key=call.caller.token)],
}


def statuses():
    return [pytest.param(operation, status, id=f"{operation.name} {status}")
            for operation in SELF for status in operation.responses
            if status != "503"]


def assert_documented(operation, answer):
    assert faults(operation, answer) == [], answer
    assert unnamed(operation, answer) == [], answer


@pytest.mark.parametrize("operation, status", statuses())
def test_answers_of_every_documented_status(gate, operation, status):
    """A status that nothing here reaches has no entry in REACHED, or yields
    no answer."""
    answers = list(REACHED[status](Call(gate, operation)))
    assert answers
    for answer in answers:
        if status == "default":
            assert str(answer.status) not in operation.responses
        else:
            assert str(answer.status) == status, answer
        assert_documented(operation, answer)


def test_without_redis(make_gate, make_redis):
    """503, of each operation."""
    redis = make_redis()
    gate = make_gate(redis=redis, **{
        **GATE, "zone": "keygate_zone zone=keygate:16m valid=60s;"})
    calls = [Call(gate, operation) for operation in SELF]
    for call in calls:
        assert gate.get("/v1/loads", key=call.caller.token).status == 200
    redis.stop()
    for call in calls:
        answer = call.send()
        assert answer.status == 503, (call.operation.name, answer)
        assert_documented(call.operation, answer)


def test_every_call_there_is():
    """The module's table of calls and the document's."""
    source = (ROOT / "src/http/ngx_http_keygate_self.c").read_text("utf-8")
    table = re.findall(r'\{ "([A-Z]+)", "([a-z:/]*)", '
                       r'NGX_HTTP_KEYGATE_SELF_([A-Z]+),', source)
    needs = {"ANY": "any_key", "MANAGE": "keys:manage"}
    assert len(table) > 5
    assert sorted((method, f"/v1/self/{path}".rstrip("/"), needs[who])
                  for method, path, who in table) == sorted(
        (one.method, re.sub(r"\{\w+\}", ":", one.path), one.needs)
        for one in SELF)


@pytest.mark.parametrize("operation", SELF, ids=lambda one: one.name)
def test_scope_is_enough(gate, operation):
    call = Call(gate, operation)
    scopes = [] if operation.needs == "any_key" else ["keys:manage"]
    call.caller = manager(gate, call.key.org, scopes=scopes + MANAGE[1:])
    assert call.send().status < 300
