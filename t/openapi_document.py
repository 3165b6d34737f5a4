"""docs/openapi.yaml as tests ask it: which operations there are, and what is
wrong with an answer by what the document says of it."""

import functools
import re

import yaml
from jsonschema import Draft202012Validator, RefResolver

from harness.template import ROOT

PATH = ROOT / "docs/openapi.yaml"
METHODS = ("get", "put", "post", "delete", "patch")

# What the gate itself says in headers: none of it goes undocumented.
OURS = ("X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy",
        "WWW-Authenticate", "Allow", "Idempotent-Replayed",
        "Original-Request-Id")


@functools.cache
def document():
    return yaml.load(PATH.read_text("utf-8"), yaml.CSafeLoader)


def resolved(value):
    """What stands there, or what its $ref names."""
    while "$ref" in value:
        found = document()
        for part in value["$ref"][2:].split("/"):
            found = found[part]
        value = found
    return value


class Operation:
    """One of the document.  kind: partner, self for what keygate_self answers,
    admin for the administration interface."""

    def __init__(self, path, method, item):
        self.path = path
        self.method = method.upper()
        self.kind = ("admin" if "servers" in item else
                     "self" if path.startswith("/v1/self") else "partner")
        self.name = f"{self.method} {path}"
        self._own = item[method]
        self.responses = {
            status: resolved(response)
            for status, response in self._own["responses"].items()}
        self.parameters = [resolved(one) for one in
                           item.get("parameters", [])
                           + self._own.get("parameters", [])]

    @property
    def needs(self):
        """The scope, any_key, or the role; None for a public one."""
        for names in self._own["security"]:
            (scopes,) = names.values()
            return scopes[0] if scopes else "any_key"
        return None

    @property
    def idempotent(self):
        return any(one["name"] == "Idempotency-Key"
                   for one in self.parameters)

    @property
    def body(self):
        """The schema of its request body, None when it has none."""
        if "requestBody" not in self._own:
            return None
        content = resolved(self._own["requestBody"])["content"]
        return content.get("application/json", {}).get("schema")

    def response(self, status):
        return self.responses.get(str(status)) or self.responses["default"]


def operations(kind):
    return [operation for path, item in document()["paths"].items()
            for method in METHODS if method in item
            if (operation := Operation(path, method, item)).kind == kind]


def validator(schema):
    return Draft202012Validator(schema, resolver=RefResolver("", document()))


def accepts(schema, value):
    return validator(schema).is_valid(value)


def faults(operation, answer):
    """What the document does not allow of an answer, as a list of texts."""
    response = operation.response(answer.status)
    return (list(wrong_headers(response, answer))
            + list(wrong_body(response, answer)))


def unnamed(operation, answer):
    """Members of an answer that the document does not name, as a list of
    places."""
    (content,) = operation.response(answer.status)["content"].values()
    return list(undocumented(content["schema"], answer.json()))


def wrong_headers(response, answer):
    documented = {name.lower(): resolved(header)
                  for name, header in response["headers"].items()}
    for name in OURS:
        if answer.all(name) and name.lower() not in documented:
            yield f"{name} is not documented"

    for name, header in documented.items():
        values = answer.all(name)
        if not values and header.get("required"):
            yield f"{name} is missing"
        if len(values) > 1:
            yield f"{name} is there {len(values)} times"
        for value in values:
            for error in validator(header["schema"]).iter_errors(value):
                yield f"{name}: {error.message}"


def wrong_body(response, answer):
    (media, content), = response["content"].items()
    if answer.all("Content-Type") != [media]:
        yield f"Content-Type is {answer.all('Content-Type')}"
        return
    body = answer.json() if media == "application/json" \
        else answer.body.decode()

    for error in validator(content["schema"]).iter_errors(body):
        yield f"{error.json_path}: {error.message}"

    if answer.status >= 400:
        known = document()["components"]["schemas"].get(
            f"Code{answer.status}", {"enum": []})["enum"]
        if body["error"]["code"] not in known:
            yield f"code {body['error']['code']} is not documented"
        if body["error"]["retryable"] is not bool(answer.all("Retry-After")):
            yield "retryable and Retry-After are not together"


def undocumented(schema, value, where="$"):
    """Members of an answer that the document does not name.  Where it names
    none, or allows others, it leaves them open."""
    schemas = list(parts(schema))
    if isinstance(value, dict):
        named = {}
        for part in schemas:
            for name, member in part.get("properties", {}).items():
                named.setdefault(name, []).append(member)
        if named and not any("additionalProperties" in part
                             for part in schemas):
            for name, member in value.items():
                if name not in named:
                    yield f"{where}.{name}"
                yield from undocumented({"allOf": named.get(name, [])}, member,
                                        f"{where}.{name}")
    if isinstance(value, list):
        items = [part["items"] for part in schemas if "items" in part]
        for one in value if items else ():
            yield from undocumented({"allOf": items}, one, f"{where}[]")


def parts(schema):
    """A schema and what it is put together of."""
    schema = resolved(schema)
    yield schema
    for one in schema.get("allOf", []) + schema.get("anyOf", []):
        yield from parts(one)


def target(operation, **values):
    """Its path with parameters filled in, x where none is named."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], "x"),
                  operation.path)
