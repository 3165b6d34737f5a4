"""scripts/keygate: lists, rotation, tokens on standard input, the audit trail,
export and import."""

import hashlib
import json
import os
import re
import subprocess
import time

import pytest

import harness
from admin_calls import make_key, make_org, stored, trail
from harness import records, template

TOOL = template.ROOT / "scripts/keygate"

GATE = {
    "keys": "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper legacy=sha256;",
    "policies": "keygate_policy default rate=60r/m min=1r/m max=600r/m "
                "by=key;",
    "locations": "location /read { keygate_admin role=read; }",
}


def run_at(url, *words, given=b"", **env):
    """(exit status, standard output, standard error)."""
    done = subprocess.run(
        [str(TOOL), *words], input=given, timeout=60, capture_output=True,
        env={**os.environ, "KEYGATE_ADMIN_URL": url, **env}, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def run(gate):
    return lambda *words, **how: run_at("unix:" + gate.path("admin.sock"),
                                        *words, **how)


@pytest.fixture
def fresh(make_gate, make_redis):
    return make_gate(redis=make_redis(), **GATE)


def at(gate):
    return lambda *words, **how: run_at("unix:" + gate.path("admin.sock"),
                                        *words, **how)


def done(outcome):
    code, out, err = outcome
    assert (code, err) == (0, ""), outcome
    return out


def parsed(outcome):
    return json.loads(done(outcome))


def rows(outcome):
    """What a list printed: the header's words, and one line a record."""
    head, *lines = done(outcome).splitlines()
    return re.split(r"  +", head), lines


def test_lists_of_any_length(fresh):
    run, client = at(fresh), fresh.redis.client
    for n in range(230):
        records.make_org(client, "test", f"o{n:03}", name=f"Nº {n}")
        client.zadd("kg:orgs", {f"o{n:03}": 0})
    keys = []
    for n in range(3):
        keys.append(make_key(fresh, "o007", name=f"K{n}"))
        time.sleep(0.003)               # they are listed by the millisecond

    head, lines = rows(run("org", "list"))
    assert head == ["ID", "ACCESS", "PLAN", "NAME"]
    assert [line.split()[0] for line in lines] == [
        f"o{n:03}" for n in range(230)]
    assert re.fullmatch(r"o007 +test +- +Nº 7", lines[7])
    assert [org["id"] for org in parsed(run("org", "list", "--json"))] == [
        f"o{n:03}" for n in range(230)]

    head, lines = rows(run("key", "list", "o007"))
    assert [line.split()[0] for line in lines] == [
        key["id"] for key in keys[::-1]]
    assert "K2" in lines[0] and "valid" in lines[0]
    listed = parsed(run("--json", "key", "list", "o007"))
    assert [key["id"] for key in listed] == [key["id"] for key in keys[::-1]]
    assert "token" not in listed[0]

    done(run("key", "revoke", keys[2]["id"]))
    assert "revoked 2" in rows(run("key", "list", "o007"))[1][0]
    assert rows(run("key", "list", "o000"))[1] == []


def test_which_pepper_can_go(make_gate, make_redis):
    keys = "keygate_keys prefix=tf {} legacy=sha256;"
    one = "pepper=%%FOLDER%%/pepper"
    gate = make_gate(redis=make_redis(), keys=keys.format(one),
                     files={"new": "n" * 48})
    key, run = make_key(gate), at(gate)
    gate.edit(keys=keys.format("pepper=%%FOLDER%%/new " + one))
    gate.reload()

    new, old = done(run("key", "list", "--pepper")).splitlines()
    assert re.search(r" 0 keys +new keys are made with it$", new)
    assert re.search(r" 1 keys +is needed", old)
    pepper = old.split()[0]
    assert key["id"] in done(run("key", "list", key["org"], "--pepper",
                                 pepper))
    assert rows(run("key", "list", key["org"], "--pepper",
                    new.split()[0]))[1] == []

    done(run("key", "rotate", key["id"], "--overlap", "0"))
    new, old = done(run("key", "list", "--pepper")).splitlines()
    assert re.search(r" 1 keys ", new)
    assert re.search(rf"^{pepper} +0 keys +can go", old)
    assert [pepper["keys"] for pepper in parsed(
        run("key", "list", "--pepper", "--json"))["data"]] == [1, 0]


def test_set_changes_what_is_named_of_a_key(run, gate):
    key = make_key(gate, name="K", allow=["127.0.0.1"],
                   limits={"default": "90r/m"})
    record = parsed(run("key", "set", key["id"], "--scope", "carriers:read",
                        "--scope", "a:*", "--expires", "2099-01-01T00:00:00Z",
                        "--json"))
    assert record["scopes"] == ["carriers:read", "a:*"]
    assert record["expiresAt"] == "2099-01-01T00:00:00Z"
    assert (record["name"], record["allow"]) == ("K", ["127.0.0.1"])

    record = parsed(run("key", "set", key["id"], "--name", "", "--allow", "",
                        "--expires", "", "--limit", "default=", "--json"))
    assert (record["name"], record["allow"], record["expiresAt"],
            record["limits"]) == (None, [], None, {})


def test_rotate_shows_the_new_token_once(run, gate):
    key = make_key(gate)
    out = done(run("key", "rotate", key["id"], "--overlap", "1h"))
    token = re.search(r"^token +(\S+)$", out, re.M)[1]
    assert out.count(token) == 1
    assert "only time the token is shown" in out
    assert gate.get("/v1/loads", key=token).status == 200
    assert gate.get("/v1/loads", key=key["token"]).status == 200

    record = parsed(run("key", "rotate", key["id"], "--json"))
    assert record["replaces"]["id"] == key["id"]
    code, _, err = run("key", "rotate", key["id"], "--overlap", "31d")
    assert code == 1
    assert "(field overlap)" in err


def test_find_reads_the_token_on_standard_input(run, gate):
    key = make_key(gate)
    for given in (key["token"], key["token"] + "\n", f" {key['token']}\r\n"):
        out = done(run("key", "find", given=given.encode()))
        assert key["id"] in out
        assert key["token"] not in out
    code, out, err = run("key", "find", given=b"tf_test_nobody\n")
    assert (code, out) == (1, "")
    assert err.startswith("keygate: not_found: ")
    assert "nobody" not in err
    for given in (b"", b"\n"):
        code, out, err = run("key", "find", given=given)
        assert (code, out) == (1, "")
        assert "no token on standard input" in err


def test_a_key_is_taken_over(run, gate):
    org, token = make_org(gate), "sk_" + records.base62(30)
    words = ("key", "import", org, "--mode", "live", "--scope", "loads:read",
             "--name", "Old", "--json")
    record = parsed(run(*words, given=token.encode() + b"\n"))
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert stored(gate, "key", digest)["id"] == record["id"]
    assert (record["mode"], record["name"]) == ("live", "Old")
    assert "token" not in record

    record = parsed(run(*words, "--sha256", "ef" * 32))
    assert stored(gate, "key", "ef" * 32)["id"] == record["id"]
    assert "conflict" in run(*words, "--sha256", "ef" * 32)[2]


def test_org_delete(run, gate):
    org = make_org(gate)
    live = make_key(gate, org, mode="live")
    code, _, err = run("org", "delete", org)
    assert code == 1
    assert err.startswith("keygate: conflict: ")
    done(run("key", "revoke", live["id"]))
    assert parsed(run("org", "delete", org, "--json")) == {
        "id": org, "deleted": True, "keys": 1}
    assert run("org", "get", org)[0] == 1


def test_the_trail_names_the_actor(run, gate):
    org = make_org(gate)
    done(run("org", "set", org, "--name", "A", "--actor", "alice"))
    done(run("org", "set", org, "--name", "B", KEYGATE_ACTOR="bob"))
    done(run("org", "set", org, "--name", "C", SUDO_USER="carol",
             KEYGATE_ACTOR=""))
    done(run("--actor", "dora", "org", "set", org, "--name", "D",
             KEYGATE_ACTOR="bob"))
    entries = trail(gate, org=org)
    assert [entry["actor"] for entry in entries[:4]] == [
        "dora", "carol", "bob", "alice"]
    assert all(entry["claimed"] for entry in entries[:4])

    head, lines = rows(run("audit", "--limit", "2"))
    assert head[0] == "AT"
    assert len(lines) == 2
    assert re.search(rf"dora \(claimed\) +org.set +{org} .*name=C->D",
                     lines[0])
    assert len(rows(run("audit", "--limit", "3"))[1]) == 3
    everything = parsed(run("audit", "--all", "--json"))
    assert everything == trail(gate)
    assert len(rows(run("audit", "--all"))[1]) == len(everything)


@pytest.mark.parametrize("actor", ["a\nb", "ä", "\x1b[2J"])
def test_actors_that_are_none(run, actor):
    code, out, err = run("org", "get", "a", "--actor", actor)
    assert (code, out) == (2, "")
    assert "printable ASCII" in err


def test_export_and_import(fresh, make_gate, make_redis, tmp_path):
    keys = [make_key(fresh, name=f"K{n}") for n in range(3)]
    text = done(at(fresh)("export"))
    assert len(text.splitlines()) == 6
    for line in text.splitlines():
        assert json.loads(line)["type"] in ("org", "key")
    file = tmp_path / "export"
    file.write_text(text)

    other = make_gate(redis=make_redis(), **GATE)
    run = at(other)
    out = done(run("import", "--dry-run", str(file)))
    assert "line 1: create org " in out
    assert out.splitlines()[-1] == (
        "would be: 6 created, 0 changed, 0 unchanged, 0 refused")
    assert list(other.redis.client.scan_iter("kg:org:*")) == []

    assert "\n6 created, " in done(run("import", given=text.encode()))
    assert other.get("/v1/loads", key=keys[0]["token"]).status == 200
    assert parsed(run("import", "-", "--json", given=text.encode()))[
        "unchanged"] == 6
    assert sorted(done(run("export")).splitlines()) == sorted(
        text.splitlines())


def test_a_password_in_the_address_is_refused(gate):
    """It would not be sent, and what fails would be told with it."""
    code, out, err = run_at(f"http://alice:secret@127.0.0.1:{gate.port}/read",
                            "org", "list")
    assert (code, out) == (2, "")
    assert "neither http://host:port" in err
    assert "secret" not in err


def test_a_file_does_not_steer_the_terminal(run):
    """A record may have members of any name, and they are kept."""
    line = json.dumps({"type": "org", "id": "steers", "record": {
        "v": 1, "access": "test", "\x1b[2J": 1}})
    code, out, _ = run("import", "--dry-run", given=line.encode())
    assert code == 0
    assert "\x1b" not in out
    assert r"\x1b[2J" in out


def test_import_says_which_lines_are_refused(run):
    given = b'{"type":"org","id":"a b","record":{}}\nx\n'
    code, out, err = run("import", given=given)
    assert (code, out) == (1, "")
    assert err.splitlines()[0].startswith("keygate: bad_request: ")
    assert re.search(r"^keygate: line 1: .*id", err, re.M)
    assert re.search(r"^keygate: line 2: ", err, re.M)
    out = done(run("import", "--dry-run", given=given))
    assert "line 2: refused: " in out

    code, out, err = run("import", "/nonexistent")
    assert (code, out) == (1, "")
    assert "No such file" in err


def test_an_export_that_breaks_off_is_a_failure(make_gate, make_redis,
                                                make_relay):
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    for n in range(150):
        records.make_org(redis.client, "test", f"o{n:03}")
        redis.client.zadd("kg:orgs", {f"o{n:03}": 0})
    redis.client.set("kg:keys:{o120}", "of another type")
    code, out, err = at(gate)("export")
    assert code == 1
    assert '"o000"' in out
    assert err.startswith("keygate: cannot reach ")


@pytest.mark.parametrize("words", [
    ["key", "list"], ["key", "list", "--pepper", "abc"],
    ["key", "list", "a", "b"], ["key", "rotate"], ["key", "set"],
    ["key", "import", "a"], ["audit", "--limit", "0"],
    ["audit", "--limit", "x"], ["audit", "x"], ["export", "x"],
    ["import", "a", "b"], ["org", "list", "x"], ["org", "delete"]])
def test_wrong_usage(words):
    code, out, err = run_at("unix:/nonexistent", *words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: keygate")
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [
    ["org", "list"], ["audit"], ["export"], ["key", "list", "--pepper"]])
def test_nobody_there(words):
    url = f"http://127.0.0.1:{harness.ports.free_port()}"
    code, out, err = run_at(url, *words)
    assert (code, out) == (1, "")
    assert err.startswith(f"keygate: cannot reach {url}: ")


def test_a_role_that_may_not(gate):
    url = f"http://127.0.0.1:{gate.port}/read"
    for words in (["export"], ["import"], ["org", "delete", "a"]):
        code, out, err = run_at(url, *words)
        assert (code, out) == (1, "")
        assert err.startswith("keygate: forbidden: ")
