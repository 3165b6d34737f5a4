"""Nothing of the released OpenAPI document is taken back, and each way of
taking something back is seen."""

import copy
import subprocess

import pytest
import yaml

from harness.template import ROOT
from openapi.additive import compare, load

TOOL = ROOT / "t/openapi/additive.py"
RELEASED = ROOT / "t/openapi/released.yaml"
NOW = ROOT / "docs/openapi.yaml"

BASE = yaml.safe_load("""
servers: [{url: 'https://a'}]
components:
  securitySchemes: {key: {type: http, scheme: bearer}}
  parameters:
    Page: {name: page, in: query, schema: {type: integer, maximum: 9}}
  schemas:
    Load:
      type: object
      required: [id]
      properties:
        id: {type: string, maxLength: 9}
        kind: {enum: [a, b]}
        size: {anyOf: [{type: integer}, {type: 'null'}]}
        parts: {type: array, items: {$ref: '#/components/schemas/Load'}}
        none: false
        limits: {type: object, additionalProperties: {type: string}}
    New:
      type: object
      required: [id]
      additionalProperties: true
      properties:
        id: {type: string, maxLength: 9}
        kind: {enum: [a, b]}
        size: {anyOf: [{type: integer}, {type: 'null'}]}
        note: {type: [string, 'null'], pattern: '^a'}
        any: true
paths:
  /loads:
    parameters: [{$ref: '#/components/parameters/Page'}]
    get:
      operationId: list
      security: [{key: ['loads:read']}]
      responses:
        '200':
          headers:
            X-Id: {required: true, schema: {type: string}}
          content:
            application/json: {schema: {$ref: '#/components/schemas/Load'}}
        '404': {description: none}
    post:
      operationId: create
      x-keygate: limit=+burst max_body=1
      security: [{key: ['loads:write']}]
      parameters:
        - {name: Idempotency-Key, in: header, required: true,
           schema: {type: string}}
        - {name: dry, in: query, schema: {enum: [0, 1]}}
      requestBody:
        content:
          application/json: {schema: {$ref: '#/components/schemas/New'}}
      responses: {'201': {description: done}}
      callbacks: {done: {'{$request.query.dry}': {post: {responses: {}}}}}
webhooks: {moved: {post: {responses: {'200': {description: ok}}}}}
""")

LIST = "paths./loads.get"
POST = "paths./loads.post"
OK = LIST + ".responses.200"
GOT = "components.schemas.Load"
SENT = "components.schemas.New"
REMOVE = object()


def changed(*changes):
    """BASE with other values at dotted places, which may be new."""
    found = copy.deepcopy(BASE)
    for place, value in changes:
        names = [int(name) if len(name) == 1 and name.isdigit() else name
                 for name in place.split(".")]
        at = found
        for name in names[:-1]:
            at = at[name]
        if value is REMOVE:
            del at[names[-1]]
        elif isinstance(at, list) and names[-1] == len(at):
            at.append(value)
        else:
            at[names[-1]] = value
    return found


def test_nothing_is_taken_back():
    """A release replaces t/openapi/released.yaml; nothing else does."""
    assert compare(load(RELEASED), load(NOW)) == []


def test_as_a_command(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(yaml.dump(BASE), "utf-8")
    new.write_text(yaml.dump(changed((LIST, REMOVE))), "utf-8")

    def run(*files):
        done = subprocess.run([TOOL, *files], capture_output=True, text=True,
                              timeout=60, check=False)
        return done.returncode, done.stdout

    assert run(old, old) == (0, "")
    assert run(old, new) == (1, "GET /loads: the method is gone\n")
    assert run(old)[0] == 1


@pytest.mark.parametrize("changes, line", [
    # Paths, methods, who may.
    ([("paths", {})], "/loads: the path is gone"),
    ([("paths", {"/load": BASE["paths"]["/loads"]})],
     "/loads: the path is gone"),
    ([(POST, REMOVE)], "POST /loads: the method is gone"),
    ([("servers.0.url", "https://b")], "servers: https://a is gone"),
    ([("paths./loads.servers", [{"url": "/x"}])],
     "GET /loads: it is on another server"),
    ([(LIST + ".operationId", "all")], "GET /loads: operationId"),
    ([(LIST + ".security", [{"key": ["loads:all"]}])],
     "GET /loads: security asks"),
    ([(LIST + ".security", [])], "GET /loads: security asks"),
    ([(LIST + ".security.0.key", ["loads:read", "x"])],
     "GET /loads: security asks"),
    ([("components.securitySchemes.key.scheme", "basic")],
     "POST /loads: security asks"),
    # Parameters.
    ([("paths./loads.parameters", [])],
     "GET /loads query page: the parameter is gone"),
    ([(POST + ".parameters.1", REMOVE)],
     "POST /loads query dry: the parameter is gone"),
    ([(POST + ".parameters.1.name", "dryRun")],
     "POST /loads query dry: the parameter is gone"),
    ([(POST + ".parameters.1.in", "header")],
     "POST /loads query dry: the parameter is gone"),
    ([(POST + ".parameters.1.required", True)],
     "POST /loads query dry: the parameter has become required"),
    ([(POST + ".parameters.2", {"name": "v", "in": "query",
                                "required": True})],
     "POST /loads query v: a required parameter is new"),
    ([(POST + ".parameters.1.schema.enum", [0])],
     "POST /loads query dry: the value 1 is gone"),
    ([(POST + ".parameters.1.explode", True)],
     "POST /loads query dry: explode is another"),
    ([("components.parameters.Page.schema.maximum", 8)],
     "GET /loads query page: maximum was 9 and is 8"),
    ([("components.parameters.Page.schema.minimum", 1)],
     "GET /loads query page: minimum was None and is 1"),
    ([("components.parameters.Page.schema.type", "string")],
     "GET /loads query page: type integer is not taken any more"),
    # What is sent.
    ([(POST + ".requestBody.required", True)], "the body has become required"),
    ([(POST + ".requestBody", REMOVE)], "the body is gone"),
    ([(LIST + ".requestBody", {"required": True})],
     "GET /loads body: a required body is new"),
    ([(POST + ".requestBody.content", {"text/csv": {}})],
     "application/json is gone"),
    ([(SENT + ".required", ["id", "kind"])],
     "body.kind: the member has become required"),
    ([(SENT + ".properties.note", REMOVE)], "body.note: the member is gone"),
    ([(SENT + ".properties.note.type", "string")],
     "body.note: type null is not taken any more"),
    ([(SENT + ".properties.note.pattern", "^b")],
     "body.note: pattern is another"),
    ([(SENT + ".properties.id.pattern", "^a")],
     "body.id: pattern is another"),
    ([(SENT + ".properties.id.maxLength", 8)],
     "body.id: maxLength was 9 and is 8"),
    ([(SENT + ".properties.id.minLength", 1)],
     "body.id: minLength was None and is 1"),
    ([(SENT + ".properties.id.enum", ["a"])],
     "body.id: only some values are taken"),
    ([(SENT + ".properties.kind.enum", ["a"])],
     "body.kind: the value 'b' is gone"),
    ([(SENT + ".properties.id.default", "x")], "body.id: default is another"),
    ([(SENT + ".additionalProperties", False)],
     "body.*: members that are not named are not taken"),
    ([(SENT + ".properties.size.anyOf.1", REMOVE)],
     "body.size.anyOf: 2 branches have become 1"),
    ([(SENT + ".allOf", [{"required": ["kind"]}])],
     "body.allOf: 0 branches have become 1"),
    ([(SENT + ".properties.size.anyOf.0.type", "string")],
     "body.size.anyOf[0]: type integer is not taken"),
    # What is answered.
    ([(LIST + ".responses.404", REMOVE)], "GET /loads: status 404 is gone"),
    ([(OK + ".headers", {})], "GET /loads 200 header X-Id: the header is gone"),
    ([(OK + ".headers.X-Id.required", False)],
     "header X-Id: the header is not always there"),
    ([(OK + ".headers.X-Id.schema.type", "integer")],
     "header X-Id: type integer may come now"),
    ([(OK + ".content", {"text/csv": {}})],
     "GET /loads 200: application/json is gone"),
    ([(POST + ".responses.201.content", {"text/csv": {}})],
     "POST /loads 201: it had no body"),
    ([(GOT + ".properties.id", REMOVE)], "200.id: the member is gone"),
    ([(GOT + ".required", [])],
     "200.id: the member is not always there any more"),
    ([(GOT + ".properties.id.type", ["string", "null"])],
     "200.id: type null may come now"),
    ([(GOT + ".properties.id.type", "integer")],
     "200.id: type integer may come now"),
    ([(GOT + ".properties.id.maxLength", 10)],
     "200.id: maxLength was 9 and is 10"),
    ([(GOT + ".properties.id.maxLength", REMOVE)],
     "200.id: maxLength was 9 and is None"),
    ([(GOT + ".properties.kind.enum", ["a"])],
     "200.kind: the value 'b' is gone"),
    ([(GOT + ".properties.kind.enum", ["a", "c"])],
     "200.kind: the value 'b' is gone"),
    ([(GOT + ".properties.kind", {})], "200.kind: any value may come now"),
    ([(GOT + ".properties.size.anyOf.2", {"type": "string"})],
     "200.size.anyOf: 2 branches have become 3"),
    ([(GOT + ".properties.size.anyOf.1", REMOVE)],
     "200.size.anyOf: 2 branches have become 1"),
    ([(GOT + ".properties.limits.additionalProperties", False)],
     "200.limits.*: members that are not named are gone"),
    ([(GOT + ".properties.limits.additionalProperties", True)],
     "200.limits.*: anything may come now"),
    ([(GOT + ".properties.limits.additionalProperties.type", "integer")],
     "200.limits.*: type integer may come now"),
    ([(GOT + ".properties.parts.items", {"type": "string"})],
     "200.parts.items: type string may come now"),
    # Schemas that are true or false.
    ([(SENT + ".properties.note", False)],
     "body.note: nothing is taken any more"),
    ([(SENT + ".properties.any", {"type": "string"})],
     "body.any: type array, boolean"),
    ([(SENT + ".properties.any", False)],
     "body.any: nothing is taken any more"),
    ([(GOT + ".properties.id", False)], "200.id: nothing comes any more"),
    ([(GOT + ".properties.id", True)], "200.id: type array, boolean"),
    ([(GOT + ".properties.none", {"type": "string"})],
     "200.none: something may come now"),
    ([(GOT + ".properties.parts.items", False)],
     "200.parts.items: nothing comes any more"),
    ([(GOT + ".properties.size.anyOf.0", True)],
     "200.size.anyOf[0]: type array"),
    # What the gate makes routes of.
    ([(LIST + ".x-keygate", "limit=+poll")], "GET /loads: x-keygate"),
    ([(POST + ".x-keygate", REMOVE)], "POST /loads: x-keygate"),
    ([(POST + ".x-keygate", "limit=+slow")], "POST /loads: x-keygate"),
    # What is not looked into is not free either.
    ([(SENT + ".patternProperties", {"^x": {"type": "string"}})],
     "body: patternProperties is another"),
    ([(SENT + ".unevaluatedProperties", False)],
     "body: unevaluatedProperties is another"),
    ([(SENT + ".dependentRequired", {"id": ["kind"]})],
     "body: dependentRequired is another"),
    ([(SENT + ".properties.id.readOnly", True)],
     "body.id: readOnly is another"),
    ([(GOT + ".properties.id.contentEncoding", "base64")],
     "200.id: contentEncoding is another"),
    ([(POST + ".servers", [{"url": "/x"}])],
     "POST /loads: it is on another server"),
    ([(POST + ".parameters.1.content", {"application/json": {}})],
     "POST /loads query dry: content is another"),
    ([(POST + ".callbacks.done", REMOVE)],
     "POST /loads: the callback done is another"),
    ([("webhooks.moved", REMOVE)], "webhook moved: it is another"),
])
def test_taken_back(changes, line):
    found = compare(BASE, changed(*changes))
    assert any(line in one for one in found), found


@pytest.mark.parametrize("changes", [
    [("paths./more", BASE["paths"]["/loads"])],
    [("paths./loads.put", BASE["paths"]["/loads"]["post"])],
    [("servers.1", {"url": "https://b"})],
    [("components.securitySchemes.key.description", "d")],
    [(LIST + ".summary", "s")],
    [(POST + ".parameters.2", {"name": "v", "in": "query"})],
    [(POST + ".parameters.0.name", "idempotency-key")],
    [(POST + ".parameters.0.required", False)],
    [(POST + ".parameters.1.schema.enum", [0, 1, 2])],
    [(POST + ".parameters.1.schema", {})],
    [("components.parameters.Page.schema.maximum", 10)],
    [("components.parameters.Page.schema.type", "number")],
    [(LIST + ".requestBody", {"content": {}})],
    [(POST + ".requestBody.content.text/csv", {})],
    [(SENT + ".properties.more", {"type": "string"})],
    [(SENT + ".required", [])],
    [(SENT + ".properties.id.type", ["string", "null"])],
    [(SENT + ".properties.id.maxLength", REMOVE)],
    [(SENT + ".properties.note.pattern", REMOVE)],
    [(SENT + ".properties.kind.enum", ["b", "a", "c"])],
    [(SENT + ".properties.size.anyOf.2", {"type": "string"})],
    [(SENT + ".properties.size", {})],
    [(SENT + ".properties.id", True)],
    [(SENT + ".properties.any", {})],
    [(SENT + ".properties.size.anyOf.2", False)],
    [(GOT + ".properties.none", False)],
    [(POST + ".x-keygate", ["max_body=1", "limit=+burst"])],
    [(OK + ".headers.X-More", {"schema": {}})],
    [(OK + ".content.text/csv", {})],
    [(POST + ".responses.409", {"description": "no"})],
    [(GOT + ".properties.more", {"type": "string"})],
    [(GOT + ".required", ["id", "kind"])],
    [(GOT + ".deprecated", True), (GOT + ".x-order", 1)],
    [("webhooks.more", {"post": {"responses": {}}})],
    [(GOT + ".properties.kind.enum", ["a", "b", "c"])],
    [(GOT + ".properties.id.maxLength", 8)],
    [(GOT + ".properties.id.pattern", "^a")],
    [(GOT + ".allOf", [{"required": ["kind"]}])],
    [(GOT + ".properties.parts.items", {
        "$ref": "#/components/schemas/Load", "description": "d"})],
])
def test_added(changes):
    assert compare(BASE, changed(*changes)) == []
