#!/usr/bin/python3
"""What of a released OpenAPI document a newer one takes back.

    additive.py RELEASED NEW        a line for each, and exit status 1

The contract is only ever added to.  What a client sends must go on being
accepted: requests may be widened and never narrowed.  What a client was told it
gets must go on coming: answers may gain members, headers, statuses and codes,
and lose none, nor promise less of them.  Descriptions and examples are free.

t/openapi/released.yaml is the document of the last release; a release is what
replaces it.
"""

import pathlib
import sys

import yaml

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

# Bounds, and whether a larger value lets more through.
BOUNDS = {"minimum": False, "exclusiveMinimum": False, "minLength": False,
          "minItems": False, "minProperties": False, "maximum": True,
          "exclusiveMaximum": True, "maxLength": True, "maxItems": True,
          "maxProperties": True}

# What cannot be compared by size: another one is another promise.
FIXED = ("pattern", "format", "const", "default", "multipleOf", "uniqueItems",
         "if", "then", "else", "not", "discriminator")

# What schema() looks into, and what says nothing of what is let through.  Any
# other keyword is compared as a whole: one that is not known is not free.
COMPARED = {"type", "enum", "properties", "required", "items", "propertyNames",
            "contains", "additionalProperties", "allOf", "anyOf", "oneOf",
            "prefixItems", *BOUNDS, *FIXED}
FREE = {"title", "description", "summary", "example", "examples", "deprecated",
        "externalDocs", "$comment", "$ref"}

TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")


class Documents:
    """Both of them, and what was found."""

    def __init__(self, old, new):
        self.old = old
        self.new = new
        self.found = []
        self._compared = {}

    def note(self, where, what):
        line = f"{where}: {what}"
        if line not in self.found:
            self.found.append(line)

    def once(self, old, new, sent):
        """Whether this pair has not been compared yet; a schema may name
        itself.  The pair is kept, so that no other gets its ids."""
        pair = id(old), id(new), sent
        known = pair in self._compared
        self._compared[pair] = old, new
        return not known


def resolved(document, value):
    """What stands there, or what its $ref names; in 3.1 a schema may have more
    beside it."""
    while isinstance(value, dict) and "$ref" in value:
        found = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        beside = {name: member for name, member in value.items()
                  if name not in ("$ref", "summary", "description")}
        value = {"allOf": [found], **beside} if beside else found
    return value


def compare(old, new):
    """What new takes back of old: a list of texts, empty for none."""
    both = Documents(old, new)
    bases = [[one["url"] for one in document.get("servers", [])]
             for document in (old, new)]
    for url in bases[0]:
        if url not in bases[1]:
            both.note("servers", f"{url} is gone")

    for name, webhook in old.get("webhooks", {}).items():
        if webhook != new.get("webhooks", {}).get(name):
            both.note(f"webhook {name}", "it is another")

    for path, item in old.get("paths", {}).items():
        if path not in new.get("paths", {}):
            both.note(path, "the path is gone")
            continue
        other = resolved(new, new["paths"][path])
        item = resolved(old, item)
        for method in METHODS:
            if method in item:
                where = f"{method.upper()} {path}"
                if method not in other:
                    both.note(where, "the method is gone")
                else:
                    operation(both, where, item, other, method)
    return both.found


def operation(both, where, old_item, new_item, method):
    old, new = old_item[method], new_item[method]
    if old.get("operationId") != new.get("operationId"):
        both.note(where, "operationId, after which clients name it, is another")
    if security(both.old, old) != security(both.new, new):
        both.note(where, "security asks for something else")
    if extension(old) != extension(new):
        both.note(where, "x-keygate, which its route is made of, is another")
    if old_item.get("servers") != new_item.get("servers") \
            or old.get("servers") != new.get("servers"):
        both.note(where, "it is on another server")
    for name, callback in old.get("callbacks", {}).items():
        if callback != new.get("callbacks", {}).get(name):
            both.note(where, f"the callback {name} is another")

    parameters(both, where, *(
        named(document, item, one) for document, item, one in (
            (both.old, old_item, old), (both.new, new_item, new))))
    body(both, where, old, new)

    for status, response in old.get("responses", {}).items():
        if status not in new.get("responses", {}):
            both.note(where, f"status {status} is gone")
            continue
        answer(both, f"{where} {status}", resolved(both.old, response),
               resolved(both.new, new["responses"][status]))


def security(document, one):
    """What is asked for, in an order that says nothing."""
    asked = one.get("security", document.get("security", []))
    schemes = document.get("components", {}).get("securitySchemes", {})
    return sorted(
        sorted((str({k: v for k, v in schemes.get(name, {}).items()
                     if k != "description"}), sorted(scopes))
               for name, scopes in names.items()) for names in asked)


def extension(one):
    """The words of x-keygate, a text or a list, in an order that says
    nothing."""
    words = one.get("x-keygate", [])
    return sorted(words.split() if isinstance(words, str) else words)


def named(document, item, one):
    """Parameters by where they are and their name; headers' in lower case."""
    found = {}
    for parameter in item.get("parameters", []) + one.get("parameters", []):
        parameter = resolved(document, parameter)
        name = parameter["name"]
        if parameter["in"] == "header":
            name = name.lower()
        found[parameter["in"], name] = parameter
    return found


def parameters(both, where, old, new):
    for place, parameter in old.items():
        at = f"{where} {place[0]} {place[1]}"
        if place not in new:
            both.note(at, "the parameter is gone")
            continue
        if not parameter.get("required") and new[place].get("required"):
            both.note(at, "the parameter has become required")
        for member in ("style", "explode", "allowReserved", "allowEmptyValue",
                       "content"):
            if parameter.get(member) != new[place].get(member):
                both.note(at, f"{member} is another")
        schema(both, at, parameter.get("schema", {}),
               new[place].get("schema", {}), sent=True)

    for place, parameter in new.items():
        if place not in old and parameter.get("required"):
            both.note(f"{where} {place[0]} {place[1]}",
                      "a required parameter is new")


def body(both, where, old, new):
    where = f"{where} body"
    had, has = (resolved(document, one.get("requestBody"))
                for document, one in ((both.old, old), (both.new, new)))
    if had is None:
        if has is not None and has.get("required"):
            both.note(where, "a required body is new")
        return
    if has is None:
        both.note(where, "the body is gone")
        return
    if has.get("required") and not had.get("required"):
        both.note(where, "the body has become required")
    content(both, where, had, has, sent=True)


def answer(both, where, old, new):
    headers = {name.lower(): header
               for name, header in new.get("headers", {}).items()}
    for name, header in old.get("headers", {}).items():
        at = f"{where} header {name}"
        if name.lower() not in headers:
            both.note(at, "the header is gone")
            continue
        header = resolved(both.old, header)
        other = resolved(both.new, headers[name.lower()])
        if header.get("required") and not other.get("required"):
            both.note(at, "the header is not always there any more")
        schema(both, at, header.get("schema", {}), other.get("schema", {}),
               sent=False)
    content(both, where, old, new, sent=False)


def content(both, where, old, new, sent):
    for media, one in old.get("content", {}).items():
        if media not in new.get("content", {}):
            both.note(where, f"{media} is gone")
        else:
            schema(both, where, one.get("schema", {}),
                   new["content"][media].get("schema", {}), sent)
    if not sent and not old.get("content") and new.get("content"):
        both.note(where, "it had no body")


# Schemas.  sent: a client sends it, so that it may be widened; else it gets it,
# so that it may be narrowed, and lose nothing.


def types(one):
    """The types a schema lets through."""
    kinds = one.get("type", list(TYPES))
    kinds = set([kinds] if isinstance(kinds, str) else kinds)
    return kinds | ({"integer"} if "number" in kinds else set())


def schema(both, where, old, new, sent):
    old, new = resolved(both.old, old), resolved(both.new, new)
    if old is False or new is False:
        never(both, where, old, new, sent)
        return
    if not both.once(old, new, sent):
        return
    old, new = ({} if one is True else one for one in (old, new))

    less = types(old) - types(new) if sent else types(new) - types(old)
    if less:
        both.note(where, f"type {', '.join(sorted(less))} "
                  + ("is not taken any more" if sent else "may come now"))
    values(both, where, old, new, sent)
    bounds(both, where, old, new, sent)
    members(both, where, old, new, sent)

    for name in ("items", "propertyNames", "contains"):
        if name in old or name in new:
            schema(both, f"{where}.{name}", old.get(name, {}),
                   new.get(name, {}), sent)
    others(both, f"{where}.*", old.get("additionalProperties", True),
           new.get("additionalProperties", True), sent)
    for name in ("allOf", "anyOf", "oneOf", "prefixItems"):
        branches(both, f"{where}.{name}", name, old.get(name), new.get(name),
                 sent)


def never(both, where, old, new, sent):
    """The schema false lets nothing through."""
    if old is not False and new is False:
        both.note(where, "nothing is taken any more" if sent
                  else "nothing comes any more")
    elif old is False and new is not False and not sent:
        both.note(where, "something may come now")


def values(both, where, old, new, sent):
    had, has = old.get("enum"), new.get("enum")
    for value in had or []:
        if has is not None and value not in has:
            both.note(where, f"the value {value!r} is gone")
    if sent and had is None and has is not None:
        both.note(where, "only some values are taken now")
    if not sent and had is not None and has is None:
        both.note(where, "any value may come now")
    for name in FIXED:
        had, has = old.get(name), new.get(name)
        freer = name != "default" and (has is None if sent else had is None)
        if had != has and not freer:
            both.note(where, f"{name} is another")
    for name in sorted((set(old) | set(new)) - COMPARED - FREE):
        if not name.startswith("x-") and old.get(name) != new.get(name):
            both.note(where, f"{name} is another")


def bounds(both, where, old, new, sent):
    for name, upper in BOUNDS.items():
        had, has = old.get(name), new.get(name)
        if had == has:
            continue
        wider = has is None or (had is not None and (has > had) is upper)
        if wider is not sent:
            both.note(where, f"{name} was {had} and is {has}")


def members(both, where, old, new, sent):
    had, has = old.get("properties", {}), new.get("properties", {})
    for name, member in had.items():
        if name not in has:
            both.note(f"{where}.{name}", "the member is gone")
        else:
            schema(both, f"{where}.{name}", member, has[name], sent)

    before, after = set(old.get("required", [])), set(new.get("required", []))
    for name in sorted(after - before if sent else before - after):
        both.note(f"{where}.{name}", "the member has become required" if sent
                  else "the member is not always there any more")


def others(both, where, old, new, sent):
    """Members that are not named: false, true or a schema."""
    if old is False or old == new or (old is True and not sent):
        return
    if new is False:
        both.note(where, "members that are not named are not taken any more"
                  if sent else "members that are not named are gone")
    elif new is True:
        if not sent:
            both.note(where, "anything may come now")
    else:
        schema(both, where, {} if old is True else old, new, sent)


def branches(both, where, name, old, new, sent):
    """Branches are compared in their order: one that is added goes last."""
    if old is None and new is None:
        return
    old, new = old or [], new or []
    if name == "allOf" or not old or not new:
        narrower = len(new) > len(old)      # no choice lets everything through
    else:
        narrower = len(new) < len(old)
    if len(old) != len(new) and (narrower is sent
                                 or (not sent and len(new) < len(old))):
        both.note(where, f"{len(old)} branches have become {len(new)}")
    for n, (one, other) in enumerate(zip(old, new)):
        schema(both, f"{where}[{n}]", one, other, sent)


def load(path):
    return yaml.load(pathlib.Path(path).read_text("utf-8"), yaml.CSafeLoader)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: additive.py RELEASED NEW")
    found = compare(load(sys.argv[1]), load(sys.argv[2]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
