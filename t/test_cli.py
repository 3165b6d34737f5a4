"""scripts/keygate: each command against a real gate, what it prints, and how
it fails."""

import json
import os
import re
import socketserver
import subprocess
import threading

import pytest

import harness
from harness import records, template

TOOL = template.ROOT / "scripts/keygate"

GATE = {
    "policies": "keygate_policy default rate=60r/m min=1r/m max=600r/m "
                "by=key;\nkeygate_policy org rate=3000r/m by=org;",
    "locations": "location /admin/ { keygate_admin role=operator; }\n"
                 "location /read { keygate_admin role=read; }",
    "servers": "server { listen unix:%%FOLDER%%/other.sock; "
               "location /a/ { keygate_admin role=operator; } }",
}


def run_at(url, *words):
    """(exit status, standard output, standard error)."""
    env = {**os.environ, "KEYGATE_ADMIN_URL": url or ""}
    done = subprocess.run([str(TOOL), *words], env=env, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def run(gate):
    """Runs the tool on the admin socket."""
    return lambda *words: run_at("unix:" + gate.path("admin.sock"), *words)


@pytest.fixture
def org():
    return "org_" + records.base62(12)


def parsed(outcome):
    """What a command with --json printed."""
    code, out, err = outcome
    assert (code, err) == (0, ""), outcome
    return json.loads(out)


def lines(outcome):
    """What a command printed for people: {member: text}."""
    code, out, err = outcome
    assert (code, err) == (0, ""), outcome
    return dict(re.findall(r"^(\w+)  +(.*)$", out, re.M))


def test_org_set_and_get(run, org):
    shown = lines(run("org", "set", org, "--access", "test", "--name",
                      "Äcme Inc", "--limit", "org=3000r/m", "--limit",
                      "default=120r/m"))
    assert shown["id"] == org
    assert shown["access"] == "test"
    assert shown["name"] == "Äcme Inc"
    assert shown["limits"] == "org=3000r/m default=120r/m"
    assert shown["plan"] == "-"

    got = parsed(run("--json", "org", "get", org))
    assert got["access"] == "test"
    assert got["limits"] == {"org": "3000r/m", "default": "120r/m"}
    assert got["keys"] == 0


def test_org_set_changes_what_is_named_only(run, org):
    run("org", "set", org, "--access", "test", "--name", "Acme", "--limit",
        "org=3000r/m", "--limit", "default=120r/m")

    assert parsed(run("org", "set", org, "--access", "live",
                      "--json"))["name"] == "Acme"
    assert parsed(run("org", "set", org, "--limit", "org=",
                      "--json"))["limits"] == {"default": "120r/m"}

    record = parsed(run("org", "set", org, "--name", "", "--json"))
    assert record["name"] is None
    assert record["access"] == "live"
    assert record["limits"] == {"default": "120r/m"}


def test_org_set_creates_only_with_access(run, org):
    code, out, err = run("org", "set", org, "--name", "Acme")
    assert (code, out) == (1, "")
    assert "not_found" in err
    assert run("org", "get", org)[0] == 1


def test_key_from_creation_to_revocation(run, gate, org):
    run("org", "set", org, "--access", "live")
    record = parsed(run(
        "--json", "key", "create", org, "--mode", "live", "--scope",
        "loads:read", "--scope", "carriers:read", "--name", "Prod", "--limit",
        "default=120r/m", "--allow", "127.0.0.1", "--allow", "10.0.0.0/8",
        "--not-before", "2020-01-01T00:00:00Z", "--expires",
        "2099-01-01T00:00:00Z"))
    assert record["org"] == org
    assert record["mode"] == "live"
    assert record["scopes"] == ["loads:read", "carriers:read"]
    assert record["name"] == "Prod"
    assert record["limits"] == {"default": "120r/m"}
    assert record["allow"] == ["127.0.0.1", "10.0.0.0/8"]
    assert record["notBefore"] == "2020-01-01T00:00:00Z"
    assert record["expiresAt"] == "2099-01-01T00:00:00Z"
    assert gate.get("/v1/carriers", key=record["token"]).status == 200

    got = parsed(run("--json", "key", "get", record["id"]))
    assert got == {name: value for name, value in record.items()
                   if name != "token"}

    revoked = lines(run("key", "revoke", record["id"]))
    assert revoked["revokedAt"] != "-"
    assert gate.get("/v1/carriers", key=record["token"]).status == 401


def test_the_token_is_shown_once_and_said_to_be(run, gate, org):
    run("org", "set", org, "--access", "test")
    outcome = run("key", "create", org, "--mode", "test", "--scope",
                  "loads:read")
    shown = lines(outcome)
    assert re.fullmatch(r"tf_test_[0-9A-Za-z]{38}", shown["token"])
    assert outcome[1].count(shown["token"]) == 1
    assert "only time the token is shown" in outcome[1]
    assert gate.get("/v1/loads", key=shown["token"]).status == 200

    again = run("key", "get", shown["id"])
    assert shown["token"] not in again[1]
    assert "only time" not in again[1]


@pytest.mark.parametrize("words, code, field", [
    (["org", "get", "nosuch"], "not_found", None),
    (["org", "get", "a b"], "bad_request", "org"),
    (["org", "get", "ORG?x"], "bad_request", "org"),
    (["org", "get", "ORG/keys/import"], "method_not_allowed", None),
    (["org", "set", "ORG", "--access", "all"], "bad_request", "access"),
    (["org", "set", "ORG", "--plan", "gold"], "bad_request", "plan"),
    (["org", "set", "ORG", "--limit", "default=601r/m"], "bad_request",
     "limits.default"),
    (["key", "get", "key_x"], "not_found", None),
    (["key", "revoke", "key_x"], "not_found", None),
    (["key", "create", "ORG", "--mode", "live", "--scope", "a"], "conflict",
     None),
    (["key", "create", "ORG", "--mode", "x", "--scope", "a"], "bad_request",
     "mode"),
    (["key", "create", "ORG", "--mode", "test", "--scope", "a", "--allow",
      "x"], "bad_request", "allow"),
    (["key", "create", "ORG", "--mode", "test", "--scope", "a", "--expires",
      "soon"], "bad_request", "expiresAt"),
])
def test_refusals(run, gate, words, code, field):
    name = gate.org("test")
    words = [word.replace("ORG", name) for word in words]

    for extra in ([], ["--json"]):
        status, out, err = run(*words, *extra)
        assert (status, out) == (1, "")
        assert err.startswith(f"keygate: {code}: ")
        assert len(err.splitlines()) == 1
        assert re.search(r"\[req_\w+\]$", err.strip())
        assert (f"(field {field})" in err) is (field is not None)


@pytest.mark.parametrize("words", [
    [], ["org"], ["key"], ["nosuch"], ["org", "set"], ["org", "get"],
    ["org", "get", "a", "b"], ["org", "set", "a", "--limit", "default"],
    ["org", "set", "a", "--limit", "=1r/m"], ["org", "get", "a", "--nosuch"],
    ["key", "create", "a", "--mode", "test"],
    ["key", "create", "a", "--scope", "x"],
    ["--url", "ftp://x", "org", "get", "a"],
    ["--url", "unix:relative", "org", "get", "a"],
    ["--url", "http://", "org", "get", "a"],
    ["--url", "http://x:port", "org", "get", "a"],
])
def test_wrong_usage(words):
    code, out, err = run_at("unix:/nonexistent", *words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: keygate")
    assert "Traceback" not in err


def test_every_form_of_address(gate, org):
    for url in (f"unix:{gate.path('admin.sock')}",
                f"unix:{gate.path('other.sock')}:/a",
                f"unix:{gate.path('other.sock')}:/a/",
                f"http://127.0.0.1:{gate.port}/admin",
                f"http://127.0.0.1:{gate.port}/admin/"):
        assert lines(run_at(url, "org", "set", org, "--access",
                            "test"))["id"] == org
        assert lines(run_at(None, "--url", url, "org", "get",
                            org))["access"] == "test"
        assert lines(run_at(None, "org", "get", org, "--url",
                            url))["access"] == "test"


def test_a_role_that_may_not(gate, org):
    run_at(f"http://127.0.0.1:{gate.port}/admin", "org", "set", org,
           "--access", "test")
    code, out, err = run_at(f"http://127.0.0.1:{gate.port}/read", "key",
                            "create", org, "--mode", "test", "--scope", "a")
    assert (code, out) == (1, "")
    assert err.startswith("keygate: forbidden: ")


def test_nobody_there():
    port = harness.ports.free_port()
    for url in ("unix:/nonexistent.sock", f"http://127.0.0.1:{port}"):
        code, out, err = run_at(url, "org", "get", "a")
        assert (code, out) == (1, "")
        assert err.startswith(f"keygate: cannot reach {url}: ")


def test_somebody_else_there(gate, upstream):
    """The partner API, and a server that is no HTTP server."""
    upstream.answer(status=200, body=b"<html>", path="/other/orgs/a")
    url = f"http://127.0.0.1:{upstream.port}/other"
    code, out, err = run_at(url, "org", "get", "a")
    assert (code, out) == (1, "")
    assert "answers 200, and not as an admin interface does" in err

    class Noise(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(b"\x1b[2Jhello\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Noise) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        code, out, err = run_at(url, "org", "get", "a")
        server.shutdown()
    assert (code, out) == (1, "")
    assert err.startswith(f"keygate: cannot reach {url}: ")
    assert "\x1b" not in err


def test_what_a_record_holds_does_not_steer_the_terminal(run, gate, org):
    records.make_org(gate.redis.client, "test", org, name="a\x1b[2Jb\nid  x")
    code, out, _ = run("org", "get", org)
    assert code == 0
    assert "\x1b" not in out
    assert lines((code, out, ""))["name"] == r"a\x1b[2Jb\nid  x"
