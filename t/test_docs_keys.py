"""docs/keys.md is true: what it says to type does what it says, and prints
what it shows.  t/harness/console.py runs its blocks."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib

import pytest

import harness
from admin_calls import make_key
from harness import records, template
from harness.console import Console, commands
from harness.ports import wait_for
from test_docs import blocks

PAGE = template.ROOT / "docs/keys.md"

LEGACY = "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper legacy=sha256;"

LOG_FORMAT = re.search(r"log_format  gate .*?;",
                       (template.ROOT / "conf/nginx.conf").read_text(),
                       re.S)[0]

PIECES = {
    "zone": "keygate_zone zone=keygate:16m valid=10s usage=100ms;",
    "policies": """keygate_policy default rate=60r/m min=1r/m max=600r/m
                   by=key;
                   keygate_plan gold default=300r/m;
                   keygate_plan silver default=120r/m;""",
    "http": LOG_FORMAT,
    "server": "access_log %%FOLDER%%/gate.log gate;",
}


def section(title):
    """[(language, text)] of the blocks below a heading."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index(f"## {title}")
    end = next((n for n, line in enumerate(lines[start + 1:], start + 1)
                if line.startswith("## ")), len(lines))
    return [(info.split()[0], text) for line, info, text in blocks(PAGE)
            if start < line <= end]


def texts(title, language):
    return [text for kind, text in section(title) if kind == language]


class Page:
    """A gate and a shell in which a section is run."""

    def __init__(self, gate, folder):
        self.gate = gate
        self.folder = folder
        self.written = []
        if not (folder / "scripts").exists():
            (folder / "scripts").symlink_to(template.ROOT / "scripts")

        start, = texts("Before you begin", "sh")
        self.console = Console(str(folder), {
            "unix:/run/keygate/admin.sock": "unix:" + gate.path("admin.sock"),
            "https://api.example.com": gate.url,
            "/var/log/nginx/access.log": gate.path("gate.log"),
            "redis-cli": f"redis-cli -p {gate.redis.port}",
            "/etc/nginx/keygate.pepper": gate.path("pepper"),
            "port=6379": f"port={gate.redis.port}",
        }, {**os.environ, "LC_ALL": "C.UTF-8"})
        assert self.console.run(start) == ""

    def run(self, block):
        """A ```console block; usage comes to Redis a little later."""
        for command, printed in commands(block):
            self.console.check(command, printed,
                               10 if re.search("usage|list", command) else 0)

    def check_section(self, title):
        found = texts(title, "console")
        assert found
        for block in found:
            self.run(block)


@pytest.fixture
def make_page(make_gate, make_redis, upstream, tmp_path, one_day):
    upstream.answer(200, body='{"data":[]}')
    made = []

    def make(folder=tmp_path, **pieces):
        folder.mkdir(exist_ok=True)
        gate = make_gate(**{"redis": make_redis(), **PIECES, **pieces})
        made.append(Page(gate, folder))
        return made[-1]

    yield make
    for page in made:
        page.console.close()


def test_every_console_block_is_run():
    """A section that is not here would not be true for long."""
    run = {"Onboarding a partner", "Plans and limits", "Rotation",
           "A key has leaked", "Restore drill", "Another pepper",
           "Moving partners with keys of their own",
           "When the pepper is lost", "Records in Redis"}
    titles = re.findall("^## (.*)$", PAGE.read_text("utf-8"), re.M)

    assert {title for title in titles if texts(title, "console")} == run


def test_onboarding(make_page):
    """Each cell of the contract's table, as the partner sees it."""
    page = make_page()
    page.check_section("Onboarding a partner")

    shown = "\n".join(texts("Onboarding a partner", "console"))
    codes = [re.search(r'"code":"(\w+)"|(\(200\))', line).group(1, 2)
             for line in shown.splitlines()
             if re.search(r"\(\d+\)$", line)]
    assert [code or ok for code, ok in codes] == [
        "partner_access_not_enabled", "(200)", "(200)",
        "live_access_not_enabled", "(200)", "partner_access_disabled",
        "partner_access_disabled", "(200)"]


def partner(page, name="UAT"):
    """acme, and its key in the place of the page's."""
    assert page.gate.admin("PUT", "/orgs/acme", json={
        "access": "live"}).status in (200, 201)
    key = make_key(page.gate, "acme", name=name)
    page.console.set("TEST_KEY", key["token"])
    page.console.page["key_p4Fv0cVvZbZbXvFJ3l2A"] = key["id"]
    return key


def use(page, key, times=1):
    """Requests that Redis has been told of."""
    for _ in range(times):
        assert page.gate.get("/v1/loads", key=key["token"]).status == 200
    wait_for(lambda: sum(
        count["count"] for day in page.gate.admin(
            "GET", f"/keys/{key['id']}/usage").json()["days"]
        for count in day["counts"]) == times, 10, "its usage")


def test_plans(make_page):
    page = make_page()
    use(page, partner(page))
    page.check_section("Plans and limits")


def test_rotation(make_page):
    page = make_page()
    old = partner(page)
    use(page, old)
    page.check_section("Rotation")

    answer = page.console.run('ask "$TEST_KEY"')
    assert answer.endswith("(200)\n")
    assert page.gate.get("/v1/loads", key=old["token"]).status == 200


def test_leaked(make_page, tmp_path):
    page = make_page()
    key = partner(page)
    use(page, key, 3)
    (tmp_path / "leaked.txt").write_text(key["token"] + "\n")
    page.console.set("LEAKED_KEY", key["token"])

    page.check_section("A key has leaked")


def drilled(make_page):
    page = make_page()
    key = partner(page)
    page.gate.admin("PUT", "/orgs/globex", json={"access": "test"})
    make_key(page.gate, "globex")
    return page, key


def test_restore_drill(make_page):
    """Redis and all that was in it is lost; a gate with the pepper's copy and
    an empty Redis is what the export comes into."""
    night, *day = texts("Restore drill", "console")
    page, key = drilled(make_page)
    lost = make_key(page.gate, "acme")
    page.gate.admin("DELETE", f"/keys/{lost['id']}")
    page.run(night)
    late = make_key(page.gate, "acme")
    page.gate.admin("DELETE", f"/keys/{key['id']}")
    page.gate.redis.kill()

    fresh = make_page()
    fresh.console.set("TEST_KEY", key["token"])
    assert fresh.gate.get("/v1/loads", key=key["token"]).status == 401
    for block in day:
        fresh.run(block)

    # What the page says is not in it.
    gate = fresh.gate
    assert gate.get("/v1/loads", key=lost["token"]).status == 401
    assert gate.get("/v1/loads", key=late["token"]).status == 401
    trail = gate.admin("GET", "/audit").json()["data"]
    assert [entry["action"] for entry in trail] == ["import"]


def test_what_is_not_in_an_export(make_page, upstream):
    """A write that is retried runs again, and the window starts afresh."""
    page = make_page()
    key = partner(page)
    page.gate.admin("PATCH", f"/keys/{key['id']}",
                    json={"scopes": ["loads:write"]})

    def write(gate):
        return gate.post("/v1/loads", key=key["token"], idem="one", json={})

    assert write(page.gate).status == 200
    assert write(page.gate).get("Idempotent-Replayed") == "true"
    page.console.run("scripts/keygate export > keygate.jsonl")
    page.gate.redis.kill()

    fresh = make_page()
    fresh.console.run("scripts/keygate import keygate.jsonl")
    first = write(fresh.gate)
    assert first.status == 200
    assert first.get("Idempotent-Replayed") is None
    assert ";r=59;" in first.get("RateLimit")
    assert len(upstream.requests) == 2


# 200 partners

def listed(n):
    return f"p{n:03}"


def old_partners():
    """{org: (token, line of the list)}; p200 is not in the list, p042 is not
    live, p017 lacks a scope."""
    partners = {}
    for n in range(1, 201):
        token = f"old.{n}." + records.base62(30)
        scopes = "loads:read" if n == 17 else "loads:read loads:write"
        partners[listed(n)] = token, ",".join((
            listed(n), "live", scopes,
            hashlib.sha256(token.encode()).hexdigest()))
    return partners


@pytest.mark.seconds(300)               # it starts the tool 400 times
def test_move_of_200_partners(make_page, upstream, tmp_path):
    title = "Moving partners with keys of their own"
    _, dry, on = texts(title, "nginx")
    loop, = texts(title, "sh")
    come, look, mend, retire = texts(title, "console")
    gate_of = "{}\nkeygate_limit default; keygate_errors envelope;".format
    page = make_page(keys=LEGACY, gate=gate_of(dry))
    gate, partners = page.gate, old_partners()
    upstream.answer(201, body='{"id":"load_1"}', method="POST")

    def ask(org):
        """What the partner's system does: it reads, and it writes."""
        headers = {"X-Api-Key": partners[org][0]}
        return [gate.get("/v1/loads", headers=headers).status,
                gate.post("/v1/loads", headers=headers, json={},
                          idem=org + records.base62(6)).status]

    lines = [line + "\n" for org, (_, line) in partners.items()
             if org != "p200"]
    (tmp_path / "partners.csv").write_text("".join(lines))
    page.run(come)
    assert page.console.run(loop) == ""
    assert (tmp_path / "imported.txt").read_text().split() == [
        listed(n) for n in range(1, 200)]
    (tmp_path / "partners.csv").write_text("".join(lines[:5]))
    assert page.console.run(loop).count("keygate: conflict: ") == 5
    assert (tmp_path / "imported.txt").read_text() == ""

    # Dry: nobody is refused, and the log knows who would be.
    gate.admin("PATCH", "/orgs/p042", json={"access": "test"})
    for _ in range(30):
        assert ask("p100") == [200, 201]
    for org in partners:
        assert ask(org) == [200, 201]
        assert upstream.requests[-1].get("X-Api-Key") == partners[org][0]
    wait_for(lambda: len(gate.access_log("gate.log")) == 460, 5, "the log")
    page.run(look)

    page.console.set("FORGOTTEN", partners["p200"][0])
    page.run(mend)

    gate.edit(gate=gate_of(on))
    gate.reload()
    refused = [org for org in partners if ask(org) != [200, 201]]
    assert refused == []
    assert upstream.requests[-1].get("X-Keygate-Org") == "p200"
    for seen in upstream.requests[-400:]:
        assert seen.get("X-Api-Key") in (None, "")
    assert gate.get("/v1/loads", headers={
        "X-Api-Key": "old.201." + records.base62(30)}).status == 401

    page.run(retire)


# The pepper

TWO = "keygate_keys prefix=tf {};"
OLD = "pepper=%%FOLDER%%/pepper"
NEW = "pepper=%%FOLDER%%/new"


def test_another_pepper(make_page):
    second, third = texts("Another pepper", "console")
    page = make_page(keys=TWO.format(OLD), files={"new": "n" * 48})
    gate = page.gate
    key = partner(page)
    page.console.page["0a1b2c3d"] = gate.admin(
        "GET", "/peppers").json()["data"][0]["id"]

    # Known, second: it is what the old one was, with the new one waiting.
    gate.edit(keys=TWO.format(f"{OLD} {NEW}"))
    gate.reload()
    before = make_key(gate, "acme", scopes=["loads:write"])

    gate.edit(keys=TWO.format(f"{NEW} {OLD}"))
    gate.reload()
    assert gate.get("/v1/loads", key=key["token"]).status == 200
    assert gate.admin("POST", f"/keys/{before['id']}/rotate",
                      json={"overlap": "0"}).status == 201
    page.run(second)
    page.run(third)

    # A node one step behind knows what is made here.
    after = make_key(gate, "acme")
    gate.edit(keys=TWO.format(f"{OLD} {NEW}"))
    gate.reload()
    assert gate.get("/v1/loads", key=after["token"]).status == 200

    # The old one is gone, and nobody misses it.
    gate.edit(keys=TWO.format(NEW))
    gate.reload()
    assert page.console.run('ask "$TEST_KEY"').endswith("(401)\n")
    assert gate.get("/v1/loads", key=after["token"]).status == 200


def test_the_pepper_is_lost(make_page, upstream, tmp_path):
    title = "When the pepper is lost"
    backup, after = texts(title, "console")
    legacy = " legacy=sha256"
    page = make_page(keys=TWO.format(OLD + legacy), files={"new": "n" * 48})
    gate = page.gate
    key = partner(page)
    gate.admin("PATCH", f"/keys/{key['id']}", json={
        "scopes": ["loads:read", "loads:write"]})
    old_token = "old." + records.base62(30)
    assert gate.admin("POST", "/orgs/acme/keys/import", json={
        "mode": "test", "scopes": ["loads:read"],
        "sha256": hashlib.sha256(old_token.encode()).hexdigest(),
    }).status == 201
    page.run(backup)

    def write(token):
        return gate.post("/v1/loads", key=token, idem="one", json={})

    assert write(key["token"]).status == 200

    gate.edit(keys=TWO.format(NEW + legacy))
    gate.reload()
    assert gate.get("/v1/loads", key=key["token"]).status == 401
    assert gate.get("/v1/loads", key=old_token).status == 200
    page.console.run("TEST_KEY=")
    page.run(after)

    # The new key has the rights of the old one; the stored answer is not to
    # be had, and the write does not run again.
    asked = len(upstream.requests)
    page.console.run('printf %s "$TEST_KEY" > token.txt')
    token = (tmp_path / "token.txt").read_text()
    gate.expect("stored answer cannot be opened")
    answer = write(token)
    assert (answer.status, answer.code) == (
        409, "idempotency_replay_unavailable")
    assert len(upstream.requests) == asked
    assert gate.get("/v1/loads", key=token).status == 200


# Secret scanners

SCANNERS = "Finding leaked keys: secret scanners"


@pytest.fixture(scope="module")
def made(gate_of_module):
    """Tokens of the module's own making, of each mode."""
    org = gate_of_module.org("live")
    return [gate_of_module.admin("POST", f"/orgs/{org}/keys", json={
        "mode": mode, "scopes": ["loads:read"]}).json()["token"]
        for mode in ("test", "live") for _ in range(20)]


def patterns():
    text, = texts(SCANNERS, "text")
    rules, = texts(SCANNERS, "toml")
    rule, = re.findall("regex = '''(.*)'''", rules)
    table = dict(re.findall(r"^\| (\w+ secret|Secret format) \| `(.*)` \|$",
                            PAGE.read_text("utf-8"), re.M))
    table = {name: cell.replace(r"\|", "|") for name, cell in table.items()}
    github = "(?:{})({})(?:{})".format(
        table["Before secret"], table["Secret format"],
        table["After secret"].replace(r"\z", r"\Z"))
    return {"text": text, "gitleaks": rule, "github": github}


@pytest.mark.parametrize("name", ["text", "gitleaks", "github"])
def test_scanner_pattern(made, name):
    pattern = patterns()[name]

    def found(text, pattern=pattern):
        return [match[1] for match in re.finditer(pattern, text)]

    for token in made:
        for text in ("{}", "key={}", "'{}'", "\"{}\",", "X-Api-Key: {}\r\n",
                     "Bearer {}", "KEY_{} ", "/?key={}&a", "<b>{}</b>",
                     "- {}\n"):
            assert found(text.format(token)) == [token], text
        for wrong in (token[:-1], token + "a", token.upper(), "a" + token,
                      token.replace("_", "-"), token.replace("tf_", "tg_")):
            assert found(wrong) == []

    several = pattern.replace("tf_", "(?:tf|acme9)_")
    for prefix in ("tf", "acme9"):
        token = harness.make_token("live", prefix)
        assert found(f" {token} ", several) == [token]


def test_gitleaks_rule(made):
    """Its keywords, of which gitleaks wants one in the text, in lower case,
    before it tries the expression."""
    rule, = tomllib.loads(texts(SCANNERS, "toml")[0])["rules"]

    assert rule["regex"] in texts(SCANNERS, "text")
    for token in made:
        assert any(word in token.lower() for word in rule["keywords"])
        assert re.search(rule["regex"],
                         f"x={token};")[rule["secretGroup"]] == token


def test_checksum_drops_what_is_no_token(made, tmp_path):
    program, = texts(SCANNERS, "python")
    lines = [f"key = {token};" for token in made]
    lines += ["tf_test_" + "x" * 38, "tf_live_" + "0" * 38,
              "sample: tf_test_abcdefghijklmnopqrstuvwxyz012345ABCDEF",
              made[0][:-1] + ("0" if made[0][-1] != "0" else "1"),
              made[0].replace("_test_", "_live_")]
    (tmp_path / "scan.py").write_text(program)
    done = subprocess.run([sys.executable, str(tmp_path / "scan.py")],
                          input="\n".join(lines), capture_output=True,
                          text=True, timeout=60, check=True)

    assert done.stdout.splitlines() == [
        f"line {n}: {token[:8]}...{token[-4:]}"
        for n, token in enumerate(made, 1)]


# Records

def test_records_written_by_hand(make_page):
    title = "Records in Redis"
    page = make_page(keys=LEGACY)
    gate = page.gate
    old_token = "old." + records.base62(30)
    page.console.set("OLD_KEY", old_token)
    page.check_section(title)

    # Without the indexes it works, and is in no list.
    lists = [gate.admin("GET", path).json()
             for path in ("/orgs", "/orgs/globex/keys")]
    assert [one["data"] for one in lists] == [[], []]
    assert gate.admin("GET", "/export").body == b""
    assert gate.admin("GET", "/keys/key_globex1").status == 404
    assert gate.admin("DELETE", "/keys/key_globex1").status == 404
    found = gate.admin("POST", "/keys/find", json={"token": old_token})
    assert found.json()["id"] == "key_globex1"

    # With them it is.
    program, = texts(title, "python")
    for name, here in page.console.places.items():
        program = program.replace(name, here)
    done = subprocess.run([sys.executable, "-c", program], timeout=60,
                          capture_output=True, text=True, check=True)
    token = done.stdout.strip()
    answer = gate.get("/v1/loads", key=token)
    assert answer.status == 200
    assert answer.get("RateLimit-Policy") == '"default";q=120;w=60'
    assert [org["id"] for org in gate.admin("GET", "/orgs").json()["data"]] \
        == ["globex"]
    key, = gate.admin("GET", "/orgs/globex/keys").json()["data"]
    assert key["hint"] == f"tf_test_...{token[-4:]}"
    assert gate.admin("GET", f"/keys/{key['id']}").status == 200
    assert len(gate.admin("GET", "/export").body.splitlines()) == 2
    assert gate.admin("DELETE", f"/keys/{key['id']}").status == 200
    assert gate.get("/v1/loads", key=token).status == 401


def test_lines_of_the_page_are_imported(gate):
    text = texts("Records in Redis", "text")[0]
    digest = hashlib.sha256(records.base62(9).encode()).hexdigest()
    answer = gate.admin("POST", "/import?dry_run=1",
                        body=text.replace("5f0e3a…", digest).encode())
    assert (answer.status, answer.json()["created"]) == (200, 2)
