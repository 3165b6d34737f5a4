"""What the documentation shows works, and what there is is documented.

A fenced block ```nginx CONTEXT in README.md and docs/*.md is configuration,
and passes `nginx -t`; CONTEXT says where it would stand: main (a whole file),
http, server or location.  What a snippet needs and does not say itself is put
around it from BASE.
"""

import pathlib
import re

import pytest

from harness import template

ROOT = template.ROOT
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md",
         *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "docs/directives.md"
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")

LANGUAGES = {"sh", "console", "http", "text", "json", "toml", "python"}

MODULE = (ROOT / "src/http/ngx_http_keygate_module.c").read_text("utf-8")
VARIABLES = (ROOT / "src/http/ngx_http_keygate_variables.c").read_text("utf-8")

FLAGS = {"http": "NGX_HTTP_MAIN_CONF", "server": "NGX_HTTP_SRV_CONF",
         "location": "NGX_HTTP_LOC_CONF"}

# How a snippet names a thing, and the thing.
BASE = {
    r"^ *keygate_redis ": "keygate_redis redis://127.0.0.1:6379;",
    r"^ *keygate_zone ": "keygate_zone zone=keygate:1m;",
    r"^ *keygate_keys ": "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper;",
    r"^ *keygate_policy +org ": "keygate_policy org rate=3000r/m by=org;",
    r"^ *keygate_policy +poll ": "keygate_policy poll rate=12r/m by=key;",
    r"^ *keygate_routes +partner ":
        "keygate_routes partner { GET /v1/loads loads:read; }",
    r"^ *upstream app ": "upstream app { server 127.0.0.1:8080; }",
}

# A machine's own places, and those of the test.
PLACES = [
    (r"^ *load_module .*;", "%%MODULE%% %%USER%% pid %%FOLDER%%/nginx.pid;"),
    (r"^http \{", r"""http {
        access_log %%FOLDER%%/access.log;
        client_body_temp_path %%FOLDER%%/body;
        proxy_temp_path %%FOLDER%%/proxy;
        fastcgi_temp_path %%FOLDER%%/fastcgi;
        scgi_temp_path %%FOLDER%%/scgi;
        uwsgi_temp_path %%FOLDER%%/uwsgi;"""),
    (r"/etc/nginx/keygate-2\.pepper", "%%FOLDER%%/pepper-2"),
    (r"/etc/nginx/[\w.-]*pepper", "%%FOLDER%%/pepper"),
    (r"/etc/nginx/redis\.password", "%%FOLDER%%/redis.password"),
    (r"\binclude( +)keygate", r"include\1%%ROOT%%/conf/keygate"),
    (r"/var/log/nginx/", "%%FOLDER%%/"),
    (r"\blisten( +)unix:/run/[\w/.-]+", r"listen\1unix:%%FOLDER%%/gate.sock"),
    (r"\blisten( +)80;", r"listen\g<1>127.0.0.1:%%PORT%%;"),
]

LEFT = re.compile(r"/(etc|var|run)/nginx|unix:/run/[\w/.-]+;|listen +\d+;")


def blocks(page):
    """(line, info string, text) of every fenced block of a page."""
    found, start, info, lines = [], None, None, []

    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif start is None:
            start, info, lines = number, line[3:].strip(), []
        else:
            assert line == "```", f"{page.name}:{number}: {line}"
            found.append((start, info, "\n".join(lines)))
            start = None

    assert start is None, f"{page.name}:{start}: a block without an end"
    return found


def snippets():
    for page in PAGES:
        for line, info, text in blocks(page):
            if info.startswith("nginx"):
                yield pytest.param(info[len("nginx"):].strip(), text,
                                   id=f"{page.name}:{line}")


def wrap(context, text):
    """A whole configuration with a snippet at its place."""
    if context == "main":
        return text

    base = "\n".join(thing for name, thing in BASE.items()
                     if not re.search(name, text, re.M))

    if context == "location":
        text = f"location / {{ {text}\n }}"
    if context in ("location", "server"):
        text = f"server {{ {text}\n }}"
    else:
        assert context == "http", f"no context {context!r}"

    return f"load_module x;\nevents {{}}\nhttp {{\n{base}\n{text}\n}}\n"


def here(text):
    """The same configuration on this machine, not on the reader's."""
    text = re.sub(r"^ *#.*$", "", text, flags=re.M)

    for place, ours in PLACES:
        text = re.sub(place, ours, text, flags=re.M)

    left = LEFT.search(text)
    assert left is None, f"the test does not know the place of {left[0]!r}"
    return text


@pytest.fixture
def tried(nginx_t):
    """tried(text): (rc, stderr) of a whole configuration."""
    return lambda text: nginx_t(conf=here(text),
                                files={"redis.password": "secret\n",
                                       "pepper-2": 48 * "2"})


@pytest.mark.parametrize("context, text", snippets())
def test_snippet(tried, context, text):
    rc, stderr = tried(wrap(context, text))

    assert rc == 0, stderr
    assert "[emerg]" not in stderr


def test_shipped_configuration(tried):
    rc, stderr = tried((ROOT / "conf/nginx.conf").read_text("utf-8"))

    assert rc == 0, stderr


@pytest.mark.parametrize("context, text", [
    ("http", "keygate_zone zone=keygate;"),
    ("server", "keygate nobody;"),
    ("location", "keygate_limit default none;"),
    ("location", "keygate_token bearer\n"),
    ("main", "load_module x;\nevents {}\nhttp {\n keygate partner; }"),
])
def test_snippet_that_is_wrong_is_found(tried, context, text):
    """What is put around a snippet must not swallow it."""
    rc, stderr = tried(wrap(context, text))

    assert rc == 1
    assert "[emerg]" in stderr


def test_every_block_says_what_it_is():
    for page in PAGES:
        for line, info, _ in blocks(page):
            assert info in LANGUAGES or re.fullmatch(
                "nginx (main|http|server|location)", info), f"{page}:{line}"


def test_readme_shows_fifteen_lines():
    text, = [text for _, info, text in blocks(ROOT / "README.md")
             if info.startswith("nginx")]

    assert len(text.splitlines()) == 15


# The reference and the module name the same things.

def sections():
    """name -> text of every "### name" of the reference."""
    parts = re.split(r"^### (\S+)$", REFERENCE.read_text("utf-8"),
                     flags=re.M)
    assert len(parts[1::2]) == len(set(parts[1::2]))
    return {name: re.split(r"^## ", text, flags=re.M)[0]
            for name, text in zip(parts[1::2], parts[2::2])}


def commands():
    """name -> the contexts it is registered for."""
    table = MODULE[MODULE.index("ngx_command_t  "):
                   MODULE.index("ngx_null_command")]
    found = re.findall(r'\{ ngx_string\("(\w+)"\),\s+([A-Z0-9_|\s]+),', table)
    return {name: [context for context, flag in FLAGS.items()
                   if flag in flags]
            for name, flags in found}


def variables():
    return {"$" + name for name in re.findall(r'"(keygate_\w+)"', VARIABLES)}


def row(section, title):
    cell = re.search(rf"^\| {title} \| (.*) \|$", section, re.M)[1]
    return cell.replace(r"\|", "|")


def test_what_there_is_is_documented_and_nothing_else():
    assert len(commands()) > 10 and len(variables()) > 5
    assert set(sections()) == set(commands()) | variables()


@pytest.mark.parametrize("name", commands())
def test_directive(tried, name):
    """Its contexts are those of the module, its default can be written, its
    syntax names it, and an example uses it."""
    section = sections()[name]

    assert row(section, "Context").split(", ") == commands()[name]
    assert row(section, "Syntax").startswith((f"`{name} ", f"`{name};"))
    assert re.search(rf"^```nginx .*?^ *{name}[ ;].*?^```$", section,
                     re.M | re.S)

    default = re.fullmatch(r"`(.*;)`", row(section, "Default"))
    if default:
        assert default[1].startswith(f"{name} ")
        rc, stderr = tried(wrap("http", default[1]))
        assert rc == 0, stderr


def log_lines():
    table = OPERATIONS.split("| line | level | what to do |", 1)[1]
    table = table.split("\n\n", 1)[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return [line for cell in cells for line in re.findall("`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def strings():
    """The module's source with its string literals put together."""
    text = "\n".join(path.read_text("utf-8")
                     for path in sorted((ROOT / "src").rglob("*.c")))
    return re.sub(r'"\s*\n\s*"', "", text).replace(r'\"', '"')


@pytest.mark.parametrize("line", log_lines())
def test_log_line(strings, line):
    """What is documented between the dots is what the module says."""
    parts = line.replace("redis://…", "…").split("…")
    fixed = [part.strip(" :") for part in parts if part.strip(" :")]

    assert fixed
    for part in fixed:
        assert part in strings


def test_acl_user_is_allowed_what_the_gate_does(make_gate, make_redis,
                                                upstream):
    """A command that Keygate has come to use and the page does not name."""
    line = re.search(r"^user keygate (.*)$", OPERATIONS, re.M)[1]
    server = make_redis(acl={"keygate": line})
    gate = make_gate(redis=server, files={"password": "PASSWORD\n"},
                     redis_url=f"{server.url} user=keygate "
                               "password_file=%%FOLDER%%/password")
    gate.watched()
    key = gate.key()
    upstream.answer(429, method="POST", times=1)

    assert gate.get("/v1/loads", key=key).status == 200
    assert [gate.post("/v1/loads", key=key, idem="one").status
            for _ in range(3)] == [429, 200, 200]

    made = gate.admin("POST", f"/orgs/{key.org}/keys",
                      json={"mode": "test", "scopes": ["loads:read"]})
    assert made.status == 201
    assert [gate.admin(method, path, json=body).status
            for method, path, body in (
                ("PUT", "/orgs/acme", {"access": "test"}),
                ("PATCH", "/orgs/acme", {"name": "Acme"}),
                ("GET", "/orgs/acme", None),
                ("GET", f"/keys/{made.json()['id']}", None),
                ("DELETE", f"/keys/{made.json()['id']}", None))
            ] == [201, 200, 200, 200, 200]
    assert not re.search("NOPERM|can't run this command", gate.log())
    assert "tells of every change" in gate.log()


# Links

def slug(title):
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def prose(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"),
                  flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`(?!\])", "", text)


def anchors(page):
    return {slug(title) for title in re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"),
                             flags=re.M | re.S), re.M)}


def links():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if not target.startswith("https://"):
                yield pytest.param(page, target, id=f"{page.name}:{target}")


@pytest.mark.parametrize("page, target", links())
def test_link(page, target):
    path, _, anchor = target.partition("#")
    to = pathlib.Path(page.parent, path).resolve() if path else page

    assert to.exists()
    assert ROOT in to.parents
    if anchor:
        assert anchor in anchors(to)
