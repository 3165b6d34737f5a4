"""scripts/routes-from-openapi: the routes that a document means, and a reason
with its place for every document that means none."""

import copy
import json
import re
import runpy
import subprocess
import sys

import pytest
import yaml

from harness.template import ROOT

TOOL = ROOT / "scripts/routes-from-openapi"

MAIN = runpy.run_path(str(TOOL))["main"]

HEADER = {"name": "idempotency-KEY", "in": "header", "required": True}


def document(paths=None, **members):
    return {"openapi": "3.1.0", "info": {"title": "T", "version": "1"},
            "components": {"securitySchemes": {
                "key": {"type": "http", "scheme": "Bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Key"},
                "basic": {"type": "http", "scheme": "basic"}}},
            "paths": {"/a": {"get": may("a:read")}} if paths is None
            else paths, **members}


def may(scope, **members):
    return {"security": [{"key": [scope]}] if scope else [], **members}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """(exit status, standard output, standard error) of the tool, in this
    process: a new one for each document would take most of the time."""
    def on(text, *words):
        file = tmp_path / "api.yaml"
        if isinstance(text, bytes):
            file.write_bytes(text)
        else:
            file.write_text(text if isinstance(text, str)
                            else json.dumps(text), "utf-8")
        status = run_main([file, *words])
        return (status, *capsys.readouterr())

    def run_main(words):
        monkeypatch.setattr("sys.argv", [TOOL.name, *map(str, words)])
        try:
            return MAIN()
        except SystemExit as end:
            if isinstance(end.code, int):
                return end.code
            print(end.code, file=sys.stderr)
            return 1
    return on


@pytest.fixture
def routes(run):
    """The lines of a document that means routes, without their columns."""
    def on(text, *words):
        status, out, err = run(text, *words)
        assert (status, err) == (0, "")
        return [" ".join(line.rstrip(";").split())
                for line in out.splitlines()
                if line and not line.startswith("#")]
    return on


# What is written.


@pytest.mark.parametrize("part, conf", [
    ("--but", "keygate-routes.conf"), ("--only", "keygate-self-routes.conf")])
def test_conf_is_what_the_document_says(part, conf):
    done = subprocess.run(
        [TOOL, ROOT / "docs/openapi.yaml", part, "/v1/self", "--check",
         ROOT / "conf" / conf], capture_output=True, text=True, timeout=60,
        check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_conf_is_what_the_contract_says():
    """The contract's table, in its own words."""
    table = """GET /health/api public
        GET /v1/loads loads:read
        GET /v1/loads/:id loads:read
        POST /v1/loads loads:write idempotency=required
        POST /v1/loads/upsert loads:write idempotency=required
        POST /v1/loads/:id/status loads:write idempotency=required
        GET /v1/customers customers:read
        GET /v1/carriers carriers:read
        GET /v1/tracking/:loadId tracking:read
        POST /v1/webhooks webhooks:manage idempotency=required
        GET /v1/webhooks webhooks:manage
        DELETE /v1/webhooks/:id webhooks:manage"""
    text = (ROOT / "conf/keygate-routes.conf").read_text("utf-8")
    assert sorted(re.sub(" +", " ", line) for line in
                  re.findall(r"^([A-Z]+ .*);$", text, re.M)) == \
        sorted(line.strip() for line in table.splitlines())


def test_every_method_and_parameter(routes):
    assert routes(document({
        "/a/{id}/b/{other-id}": {
            "summary": "s", "x-own": 1, "parameters": [HEADER],
            "get": may("a:read", parameters=[]) | {"parameters": [
                {**HEADER, "in": "query"}]},
            "head": may("a:read")} | {"parameters": []},
        "/w": {
            "parameters": [HEADER],
            "post": may("a:write"),
            "put": may("a:write", parameters=[{**HEADER, "required": False}]),
            "patch": may("b:write", parameters=[
                {"name": HEADER["name"], "in": "header"}]),
            "delete": may("a.b-c_d:e")},
        "/p": {"get": may(None), "options": may(None)},
        "/k": {"get": {"security": [{"header": ["k"]}]}},
    })) == ["GET /a/:id/b/:other-id a:read",
            "POST /w a:write idempotency=required",
            "PUT /w a:write idempotency=optional",
            "PATCH /w b:write idempotency=optional",
            "DELETE /w a.b-c_d:e idempotency=required",
            "GET /p public", "GET /k k"]


def test_references(routes):
    found = document({
        "/a": {"$ref": "#/components/pathItems/A"},
        "/b": {"post": may("b:w", parameters=[
            {"$ref": "#/components/parameters/One"}])}})
    found["components"] |= {
        "pathItems": {"A": {"get": may("a:r")}},
        "parameters": {"One": {"$ref": "#/components/parameters/a~1b%20c"},
                       "a/b c": HEADER}}
    assert routes(found) == ["GET /a a:r", "POST /b b:w idempotency=required"]


def test_security_of_the_document(routes):
    found = document({"/a": {"get": {}}, "/b": {"get": may(None)},
                      "/c": {"get": {"security": [{"header": []}]}}},
                     security=[{"key": ["all:read"]}])
    assert routes(found) == ["GET /a all:read", "GET /b public",
                             "GET /c any_key"]


@pytest.mark.parametrize("url, path", [
    ("/v1", "/v1/a"), ("https://api.example.com/v1/", "/v1/a"),
    ("https://api.example.com", "/a"), ("/", "/a"),
    ("https://{host}/{base}", "/v2/x/a")])
def test_base_path_of_the_server(routes, url, path):
    variables = {"host": {"default": "h"}, "base": {"default": "v2/x"}}
    found = document(servers=[{"url": url, "variables": variables}])
    assert routes(found) == [f"GET {path} a:read"]
    assert routes(found, "--base", "/b") == ["GET /b/a a:read"]
    assert routes(found, "--base", "") == ["GET /a a:read"]


def test_paths_of_another_host_are_left_out(run):
    here, there = {"url": "https://a/v1"}, {"url": "http://localhost"}
    status, out, err = run(document({
        "/a": {"get": may("a:r")},
        "/b": {"servers": [{"url": "https://A/v2"}], "get": may("b:r")},
        "/c": {"get": may("c:r", servers=[{"url": "/v3"}])},
        "/d": {"servers": [there], "get": may("d:r")}}, servers=[here]))
    assert status == 0
    assert re.findall(r"/v\d/\S+", out) == ["/v1/a", "/v2/b", "/v3/c"]
    assert err == "routes-from-openapi: left out, on another host: /d\n"


def test_a_part(routes):
    found = document({path: {"get": may("a:r")} for path in
                      ("/a", "/a/b", "/ab", "/a/c/d", "/e")},
                     servers=[{"url": "/v1"}])
    assert [line.split()[1] for line in routes(found, "--only", "/a")] == [
        "/v1/a", "/v1/a/b", "/v1/a/c/d"]
    assert [line.split()[1] for line in routes(
        found, "--only", "/a", "--but", "/a/c", "--only", "/e")] == [
        "/v1/a", "/v1/a/b", "/v1/e"]
    assert [line.split()[1] for line in routes(found, "--but", "/a/")] == [
        "/v1/a", "/v1/ab", "/v1/e"]


def test_further_parameters(routes):
    found = document({"/a": {
        "get": may("a:r", **{"x-keygate": "limit=+poll,day"}),
        "post": may("a:w", parameters=[HEADER],
                    **{"x-keygate": ["limit=off"]})}})
    assert routes(found) == ["GET /a a:r limit=+poll,day",
                             "POST /a a:w idempotency=required limit=off"]



def test_nginx_takes_what_is_written(run, nginx_t):
    """Words that nginx's parser would end, and a whole block."""
    paths = {path: {"get": may("a:r")} for path in
             ("/a,b/%7e/q", "/a;b", '/"q"/{id}', "/$x/%C3%A9", "/l/x:y", "/")}
    paths["/w"] = {
        "post": may("a:w", parameters=[HEADER],
                    **{"x-keygate": "limit=+default lease=2m durable=1"}),
        "patch": may("a:w", parameters=[{**HEADER, "required": False}])}
    paths["/any"] = {"get": {"security": [{"key": []}]}}
    status, out, _ = run(document(paths), "--name", "partner")
    assert status == 0
    assert out.count(";\n") == len(paths) + 1
    rc, stderr = nginx_t(routes=out)
    assert rc == 0, stderr


def test_routes_answer_as_the_document_says(run, make_gate, upstream):
    _, out, _ = run(document({
        "/a%3Bb/{id}": {"get": may("a:r")},
        '/"q";x': {"post": may("q:w", parameters=[HEADER])},
        "/open": {"get": may(None)}}, servers=[{"url": "/v1"}]),
        "--name", "partner")
    gate = make_gate(routes=out)
    key = gate.key(scopes=["a:r", "q:w"])

    assert gate.get("/v1/a%3Bb/7", key=key).status == 200
    assert gate.post("/v1/%22q%22%3Bx", key=key).code == \
        "missing_idempotency_key"
    assert gate.get("/v1/open").status == 200
    assert gate.get("/open", key=key).status == 404
    other = gate.get("/v1/a%3Bb/7", key=gate.key(scopes=["q:w"]))
    assert other.error["details"] == {"requiredScope": "a:r"}


def test_check_says_what_differs(run, tmp_path):
    conf = tmp_path / "routes.conf"
    conf.write_text(run(document())[1].replace("a:read", "a:write"), "utf-8")
    status, out, _ = run(document(), "--check", conf)
    assert status == 1
    assert "-GET  /a  a:write;\n+GET  /a  a:read;" in out
    status, _, err = run(document(), "--check", tmp_path / "none")
    assert status == 1 and "No such file" in err


# What is refused.


def changed(path, value):
    """The smallest document with a value put in at a path of names."""
    found = copy.deepcopy(document())
    place = found
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return found


GET = ("paths", "/a", "get")
SECURITY = GET + ("security",)
SCHEMES = ("components", "securitySchemes")


@pytest.mark.parametrize("text, says", [
    ("{", "neither YAML nor JSON"),
    ("\x00", "neither YAML nor JSON"),
    (b"\xff\xfe\x00", "codec can't decode"),
    ("[" * 5000, "neither YAML nor JSON"),
    ("", "not an OpenAPI document"),
    ("- a\n", "not an OpenAPI document"),
    ("a: !!python/object/apply:os.system [true]\n", "neither YAML nor JSON"),
    ("swagger: '2.0'\npaths: {}\n", "openapi: it must be 3.0 or 3.1"),
    ("openapi: 3.1\npaths: {}\n", "openapi: it must be 3.0 or 3.1"),
    ("openapi: 3.1.0\npaths: {}\npaths: {}\n",
     "line 3: 'paths' stands there twice"),
    ({"openapi": "3.0.3"}, "paths: no operation"),
    (document({}), "paths: no operation"),
    (document({"/a": {"servers": [{"url": "//h/"}], "get": may("a:r")}},
              servers=[{"url": "//i/"}]), "paths: no operation"),
    (document([]), "paths: no operation"),
    (document(["/a"]), "paths: it must be an object"),
    ("openapi: 3.1.0\npaths: {7: {}}\n", "7 is no path"),
    (changed(("paths", "/a"), None), "paths./a: it must be an object"),
    (changed(GET, "x"), "paths./a.get: it must be an object"),
    (changed(("paths", "/a", "GET"), may("a:r")), "'GET' is neither a method"),
    (changed(("paths", "/a", "trace"), {}), "trace: it has no route"),
    (document({"/a": {"get": may("a:r"), "head": may("a:w")}}),
     "paths./a.head.security: it must be that of get"),
    (document({"/a": {"get": may(None), "head": may("a:r")}}),
     "paths./a.head.security: it must be that of get"),
    (document({"/a": {"get": may("a:r"), "head": may(None)}}),
     "paths./a.head.security: it must be that of get"),
    (document({"/a": {"get": {}, "head": may("a:w")}},
              security=[{"key": ["a:r"]}]),
     "paths./a.head.security: it must be that of get"),
    (document({"/a": {"get": may("a:r"), "head": may(
        "a:r", parameters=[HEADER])}}),
     "paths./a.head: Idempotency-Key is for writes"),
    (document({"/a": {"get": may("a:r"), "head": may(
        "a:r", **{"x-keygate": "limit=+poll"})}}),
     "paths./a.head.x-keygate: it must be that of get"),
    (document({"/a": {"get": may("a:r"), "head": may(
        "a:r", servers=[{"url": "https://elsewhere"}])}}),
     "paths./a.head.servers: it must be that of get"),
    (document({"/a": {"head": may("a:r")}}), "head: it has no route"),
    (changed(GET, {}), "paths./a.get.security: there is none"),
    (changed(SECURITY, {}), "security: it must be a list"),
    (changed(SECURITY, [{}]), "of a public route it is []"),
    (changed(SECURITY, ["key"]), "security: it must be an object"),
    (changed(SECURITY, [{"nokey": ["a:r"]}]), "'nokey' is not in components"),
    (changed(SECURITY, [{"basic": ["a:r"]}]), "'basic' is no scheme for keys"),
    (changed(SECURITY, [{"key": ["a"], "header": ["a"]}]), "one scheme"),
    (changed(SECURITY, [{"key": ["a"]}, {"key": ["b"]}]), "alternatives"),
    (changed(SECURITY, [{"key": ["a", "b"]}]), "names 2 scopes"),
    (changed(SECURITY, [{"key": None}]), "it must be a list"),
    (changed(SECURITY, [{"key": ["public"]}]), "scope 'public'"),
    (changed(SECURITY, [{"key": ["any_key"]}]), "scope 'any_key'"),
    (changed(SECURITY, [{"key": ["a; GET / public"]}]), "scope 'a; GET"),
    (changed(SECURITY, [{"key": ["*"]}]), "scope '*'"),
    (changed(SECURITY, [{"key": [7]}]), "scope 7"),
    (changed(SCHEMES, ["key"]), "securitySchemes: it must be an object"),
    (changed(SCHEMES + ("key",), {"$ref": "x.yaml#/a"}), "not in this"),
    (changed(GET, may("a:r", parameters=[HEADER])), "not for GET"),
    (changed(GET, may("a:r", parameters={"a": 1})), "parameters: it must be"),
    (changed(GET, may("a:r", parameters=[{}])), "name and in"),
    (document({"/a": {"post": may("a:r", parameters=[
        {**HEADER, "required": "yes"}])}}), "required is true or false"),
    (document({"/a": {"post": may(None, parameters=[HEADER])}}),
     "a public route knows no caller"),
    (changed(GET, may("a:r", parameters=[{"$ref": "p.yaml"}])),
     "$ref 'p.yaml' is not in this document"),
    (changed(GET, may("a:r", parameters=[{"$ref": "#/components/x/y"}])),
     "names nothing"),
    (changed(GET, may(None, parameters=[{"$ref": "#/components/p"}]))
     | {"components": {"p": {"$ref": "#/components/p"}}}, "back to itself"),
    (document({"/a": {"$ref": "#/components/a", "get": may("a:r")}}),
     "beside $ref"),
    (changed(GET, may("a:r", **{"x-keygate": "idempotency=off"})),
     "no parameter of a route"),
    (changed(GET, may("a:r", **{"x-keygate": "limit=a; } evil"})),
     "no parameter of a route"),
    (changed(GET, may("a:r", **{"x-keygate": {"limit": 1}})),
     "it must be a list"),
    (changed(("servers",), {"url": "/"}), "servers: it must be a list"),
    (changed(("servers",), [{}]), "a server has a url"),
    (changed(("servers",), [{"url": "/{v}"}]), "variable 'v'"),
    (changed(("servers",), [{"url": "v1"}]), "starts with a slash"),
    (changed(("servers",), [{"url": "/v1?x=1"}]), "neither query"),
    (changed(("servers",), [{"url": "http://[x"}]), "no url"),
    (changed(("servers",), [{"url": "/v1"}, {"url": "/v2"}]), "with --base"),
    (document({"a": {"get": may("a:r")}}), "starts with a slash"),
    (document({"/a?b": {"get": may("a:r")}}), "no query"),
    (document({"/a\n": {"get": may("a:r")}}), "control character"),
    (document({"/{a}.json": {"get": may("a:r")}}), "a whole segment"),
    (document({"/{a b}": {"get": may("a:r")}}), "a whole segment"),
    (document({"/{}": {"get": may("a:r")}}), "a whole segment"),
    (document({"/:a": {"get": may("a:r")}}), "a parameter of Keygate's"),
    (document({"/%7Ba%7D": {"get": may("a:r")}}), "a parameter of Keygate's"),
    (document({"/a/../b": {"get": may("a:r")}}), "a dot segment"),
    (document({"/a%2fb": {"get": may("a:r")}}), "a slash"),
    (document({"/a b": {"get": may("a:r")}}), "a space"),
    (document({"/%ff": {"get": may("a:r")}}), "not UTF-8"),
    (document({"/a//b": {"get": may("a:r")}}), "two slashes"),
    (document({"/{a}/{a}": {"get": may("a:r")}}), "stands there twice"),
    (document({"/{a}": {"get": may("a:r")}, "/{b}": {"get": may("b:r")}}),
     "the same route as paths./{a}.get"),
])
def test_refused(run, text, says):
    status, out, err = run(text)
    assert (status, out) == (1, "")
    assert says in err
    assert err.startswith("routes-from-openapi: ")


def test_every_wrong_operation_is_named(run):
    status, _, err = run(document({"/a": {"get": {}}, "/b": {"get": {}},
                                   "/c": {"get": may("c:r")}}))
    assert status == 1
    assert [line.split(": ")[2] for line in err.splitlines()] == [
        "paths./a.get.security", "paths./b.get.security"]


@pytest.mark.parametrize("words", [
    ["--name", "off"], ["--name", "a b"], ["--base", "v1"]])
def test_arguments_refused(run, words):
    assert run(document(), *words)[0] == 2


def test_published_document_is_json_too(routes):
    """YAML or JSON, the same routes."""
    text = (ROOT / "docs/openapi.yaml").read_text("utf-8")
    found = yaml.safe_load(text)
    here = {path: item for path, item in found["paths"].items()
            if "servers" not in item}
    assert len(routes({**found, "paths": here})) == 20
