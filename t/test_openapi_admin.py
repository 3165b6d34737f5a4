"""docs/openapi.yaml is true of the administration interface: real answers of
every status it documents, every call there is, and the role each takes."""

import re

import pytest

import openapi_document
from admin_calls import PIECES, make_key, make_org, new_id
from harness import records
from harness.template import ROOT
from openapi_document import faults, operations, target, unnamed

ADMIN = operations("admin")

GATE = {**PIECES,
        "keys": "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper "
                "legacy=sha256;",
        "http": "keygate_errors envelope;",
        "gate": "keygate partner; keygate_limit default;"}

KEY = {"mode": "test", "scopes": ["loads:read"]}
FULL = {"name": "UAT", "limits": {"default": "120r/m"},
        "allow": ["127.0.0.0/8"], "notBefore": None,
        "expiresAt": "2099-01-01T00:00:00Z"}


def org_line(org, **members):
    return ('{"type":"org","id":"%s","record":{"v":1,"access":"%s"}}\n'
            % (org, members.get("access", "test")))


class Call:
    """One operation, called as it should be unless told otherwise."""

    def __init__(self, gate, operation):
        self.gate = gate
        self.operation = operation
        self.org = self.key = None

    def made(self):
        """What the operation is about exists."""
        if self.org is None:
            self.org = make_org(self.gate)
            self.key = make_key(self.gate, self.org,
                                scopes=["loads:read", "loads:write"])
        return self

    def wrote(self, idem="k"):
        """The key has made a write."""
        self.made()
        answer = self.gate.post("/v1/loads", key=self.key["token"], idem=idem)
        assert answer.status == 200
        return self

    def path(self):
        return self.at(org=self.org or "acme",
                       key=self.key["id"] if self.key else "key_x")

    def at(self, mode="test", claim="k", **values):
        """Its path with these in it; ?key= where it asks for that."""
        path = target(self.operation, mode=mode, idempotencyKey=claim, **values)
        return path + f"?key={claim}" if path.endswith(mode) else path

    def body(self):
        """A right body, with all that may be in it."""
        return {
            "PUT /orgs/{org}": {"access": "live", "name": "Ä",
                                "plan": "silver", "limits": {"org": "3000r/m"}},
            "PATCH /orgs/{org}": {"access": "test", "limits": {"org": None}},
            "POST /orgs/{org}/keys": {**KEY, **FULL},
            "POST /orgs/{org}/keys/import": {
                **KEY, **FULL, "sha256": records.base62(64).lower().translate(
                    str.maketrans("ghijklmnopqrstuvwxyz", "0" * 20))},
            "POST /keys/find": {"token": self.key and self.key["token"]},
            "PATCH /keys/{key}": {**FULL, "scopes": ["loads:*"]},
            "POST /keys/{key}/rotate": {"overlap": "1h"},
        }.get(self.operation.name)

    def send(self, path=None, role=None, headers=(), **how):
        path = path or self.path()
        if not how and self.operation.name == "POST /import":
            how["body"] = org_line(new_id()).encode()
        elif not how:
            how["json"] = self.body()
        if role:
            return self.gate.request(self.operation.method, f"/{role}{path}",
                                     headers=headers, **how)
        return self.gate.admin(self.operation.method, path, headers=headers,
                               **how)


def done(call):
    """As it should be, and the ways in which the answer differs."""
    body = call.made().body()
    if call.operation.body:
        assert openapi_document.accepts(call.operation.body, body)
    if call.operation.name == "GET /keys/{key}/usage":
        call.gate.get("/v1/loads", key=call.key["token"])
    if "idempotency" in call.operation.path:
        call.wrote()
    yield call.send()
    if call.operation.name == "POST /import":
        lines = org_line(call.org, access="disabled") + "{}\n"
        yield call.send("/import?dry_run=1", body=lines.encode())


def new_org(call):
    yield call.send()


def bad_requests(call):
    """Each is what the document does not accept either, where it is about the
    body."""
    call.made()
    name = call.operation.name
    if call.operation.body:
        for body in ({"nosuch": 1}, {**call.body(), "nosuch": 1}):
            assert not openapi_document.accepts(call.operation.body, body)
            yield call.send(json=body)
    elif name == "POST /import":
        yield call.send(body=b"{}\n")
        yield call.send("/import?nosuch=1")
    elif any(one["name"] == "limit" for one in call.operation.parameters):
        yield call.send(call.path() + "?limit=0")
        yield call.send(call.path() + "?nosuch=1")
    if "{org}" in call.operation.path:
        yield call.send(call.at(org="a.b"))
    if "idempotency" in call.operation.path:
        yield call.send(call.at(org=call.org, mode="none"))


def forbidden(call):
    call.made()
    below = {"portal": ["read"], "operator": ["read", "portal"]}
    for role in below[call.operation.needs]:
        yield call.send(role=role)


def not_found(call):
    call.made()
    if call.operation.name == "POST /keys/find":
        yield call.send(json={"token": "tf_test_unknown"})
    else:
        yield call.send(call.at(org=new_id(),
                                key="key_" + records.base62(20)))


def while_running(call, upstream):
    """A write of the call's key is at the upstream."""
    upstream.answer(hang=True, times=1)
    with call.gate.connect() as client:
        client.send("POST /v1/loads HTTP/1.1\r\nHost: a\r\n"
                    f"Authorization: Bearer {call.key['token']}\r\n"
                    "Idempotency-Key: k\r\nContent-Length: 0\r\n\r\n")
        upstream.wait()
        yield call.send()
        upstream.release()
        client.read()


def conflicts(call):
    gate, name = call.gate, call.operation.name
    call.made()
    if "idempotency" in call.operation.path:
        yield from while_running(call, gate.upstream)
    if name == "DELETE /orgs/{org}":
        make_key(gate, call.org, mode="live")
        yield call.send()
    if name == "POST /orgs/{org}/keys":
        gate.admin("PATCH", f"/orgs/{call.org}", json={"access": "test"})
        yield call.send(json={**KEY, "mode": "live"})
    if name == "POST /orgs/{org}/keys/import":
        body = call.body()
        assert call.send(json=body).status == 201
        yield call.send(json=body)
    if name == "POST /keys/{key}/rotate":
        gate.admin("DELETE", f"/keys/{call.key['id']}")
        yield call.send()


REACHED = {
    "200": done, "201": done, "400": bad_requests, "403": forbidden,
    "404": not_found, "409": conflicts,
    "default": lambda call: [call.made().send(
        headers={"X-Long": "x" * 9000})]}


def statuses():
    return [pytest.param(operation, status, id=f"{operation.name} {status}")
            for operation in ADMIN for status in operation.responses
            if status != "503"]


@pytest.mark.parametrize("operation, status", statuses())
def test_answers_of_every_documented_status(gate, upstream, operation,
                                            status):
    """A status that nothing here reaches has no entry in REACHED, or yields
    no answer."""
    reach = new_org if (operation.name, status) == (
        "PUT /orgs/{org}", "201") else REACHED[status]
    answers = list(reach(Call(gate, operation)))
    assert answers
    for answer in answers:
        if status == "default":
            assert str(answer.status) not in operation.responses
        else:
            assert str(answer.status) == status, answer
        assert_documented(operation, answer)


def assert_documented(operation, answer):
    assert faults(operation, answer) == [], answer
    if answer.get("Content-Type") == "application/json":
        assert unnamed(operation, answer) == [], answer


def test_without_redis(make_gate):
    """503, of each operation."""
    gate = make_gate(redis_url="redis://127.0.0.1:1/0", **GATE)
    gate.org = None
    for operation in ADMIN:
        call = Call(gate, operation)
        call.key = {"id": "key_" + records.base62(20),
                    "token": "tf_test_" + records.base62(38)}
        answer = call.send()
        assert "503" in operation.responses
        assert answer.status == 503, (operation.name, answer)
        assert_documented(operation, answer)


def test_every_call_there_is():
    """The module's table of calls and the document's, with their roles."""
    source = (ROOT / "src/http/ngx_http_keygate_admin.c").read_text("utf-8")
    table = re.findall(r'\{ "([A-Z]+)", "([a-z:/]+)", '
                       r'NGX_HTTP_KEYGATE_ROLE_([A-Z]+),', source)
    assert len(table) > 10
    assert sorted((method, "/" + path, role.lower())
                  for method, path, role in table) == sorted(
        (one.method, re.sub(r"\{\w+\}", ":", one.path), one.needs)
        for one in ADMIN)


@pytest.mark.parametrize("operation", ADMIN, ids=lambda one: one.name)
def test_role_is_enough(gate, upstream, operation):
    if operation.needs != "operator":
        call = Call(gate, operation).wrote()
        assert call.send(role=operation.needs).status < 400
