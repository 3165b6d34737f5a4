"""No key, pepper, password or stored answer is where it should not be: in what
Keygate writes, in Redis, in the process list.

One run (secrets_run.py) uses and issues keys in every way there is, at level
debug, with a Redis that wants a password, and leaves its traces; the tests
look for secrets in them.  nginx itself writes headers at debug and info: what
it writes is named in docs/operations.md, and nothing else may hold a secret.
"""

import base64
import re
import secrets

import pytest

import harness
from harness import template
from harness.ports import wait_for
from secrets_run import HIDDEN, Scene, Watch, values

ROOT = template.ROOT
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")

# What nginx writes itself, a whole entry of the log; docs/operations.md names
# each.  A value is between quotes: what stands after it is nginx's again.
NGINX = {
    ("debug", "http header:"): r'http header: "[\w-]+: [^"]*"',
    ("debug", "http2 header:"): r'http2 header: ":?[\w-]+: [^"]*"',
    ("debug", "http2 table add:"): r'http2 table add: ":?[\w-]+: [^"]*"',
    ("debug", "http script var:"): r'http script var: "[^"]*"',
    ("debug", "http map:"): r'http map: "[^"]*" "[^"]*"',
    ("debug", "http regex set"): r'http regex set \$\w+ to "[^"]*"',
    ("debug", "http proxy header:"):
        r'http proxy header: "[\w-]+: [^"]*"'
        r'|http proxy header:\n"[A-Z]+ \S+ HTTP/1\.[01]\r?\n'
        r'(?:[\w-]+: [^"\r\n]*\r?\n)+\r?\n"',
    ("info", "client sent duplicate header line:"):
        r'client sent duplicate header line: "[\w-]+: [^"]*", '
        r'previous value: "[\w-]+: [^"]*"',
    ("info", "client sent invalid header line:"):
        r'client sent invalid header line: "[^"]*"',
    ("info", "client sent too long header line:"):
        r'client sent too long header line: "[^"]*"',
}

# What nginx puts after a line of level info and above, of the request.
CONTEXT = (r'(?: while (?:reading|processing|sending)[\w -]*)?'
           r'(?:, (?:client: \S+|server: \S*|request: "[^"]*"|host: "[^"]*"'
           r'|upstream: "[^"]*"))*')

ENTRY = re.compile(r"^\d{4}/\d\d/\d\d [\d:]{8} \[(\w+)\] "
                   r"\d+#\d+: (?:\*\d+ )?(.*)\Z", re.S)


def entries(text):
    """(level, message) of each entry of an error log; one may have several
    lines, and what is no entry is one of level None."""
    found = []
    for part in re.split(r"\n(?=\d{4}/\d\d/\d\d [\d:]{8} \[)", text):
        match = ENTRY.match(part.rstrip("\n"))
        found.append(match.groups() if match else (None, part))
    return found


def own(level, message):
    """The rule of nginx's own lines that an entry is of, or None."""
    for (at, name), pattern in NGINX.items():
        if level == at and re.fullmatch(f"(?:{pattern}){CONTEXT}", message):
            return at, name
    return None


def forms(secret):
    """A secret as it may be found: raw, in hex, and in base64 at each of the
    places it may begin at in a longer text."""
    if isinstance(secret, str):
        secret = secret.encode()
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + secret)
        first, last = -(-shift * 8 // 6), len(secret) + shift
        text = text[first:last * 8 // 6]
        found += [text, text.replace(b"+", b"-").replace(b"/", b"_")]
    return [form for form in found if len(form) >= 16]


def hunt(data, wanted):
    """The names of secrets in bytes."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    return sorted({name for name, shapes in wanted.items()
                   if any(shape in data for shape in shapes)})


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("secrets"))
    watch = Watch()
    try:
        scene.play()
        scene.config()
        for kind in ("usage", "seen"):      # it is sent a little later
            wait_for(lambda kind=kind: scene.redis.client.keys(
                f"kg:{kind}:*"), 10, kind)
        scene.sent = [list(words) for words in scene.relay.commands]
        scene.values = list(values(scene.redis.client))
        watch.end()
        scene.processes = watch.seen
        scene.gate.quit()
        scene.log = scene.gate.log()
        scene.access = "\n".join(scene.gate.access_log())
        yield scene
    finally:
        scene.close()


@pytest.fixture(scope="module")
def wanted(scene):
    """{name: its forms} of every secret."""
    return {name: forms(secret) for name, secret in scene.secrets.items()}


def test_every_form_is_found():
    """What looks for secrets finds them."""
    secret = secrets.token_bytes(40)
    for n in range(7):
        text = b"a" * n + secret + b"z" * 5
        for shape in (text, text.hex().encode(), base64.b64encode(text),
                      base64.urlsafe_b64encode(text)):
            assert hunt(shape, {"it": forms(secret)}) == ["it"]
            assert hunt(shape[:len(shape) // 3], {"it": forms(secret)}) == []


def test_nginx_s_own_lines_are_told_from_ours():
    token = harness.make_token()
    for level, message, rule in (
            ("debug", f'http header: "Authorization: Bearer {token}"', True),
            ("info", f'http header: "Authorization: Bearer {token}"', False),
            ("debug", f'keygate http header: "X: {token}"', False),
            ("debug", f'http header: "X: y", {token}', False),
            ("info", f'keygate: {token}, client: 127.0.0.1', False),
            ("info", 'client sent duplicate header line: "A: ' + token
             + '", previous value: "A: b" while reading client request '
             'headers, client: 127.0.0.1, server: a, request: "GET / HTTP/1.1"'
             ', host: "a"', True),
            (None, token, False)):
        assert (own(level, message) is not None) is rule, message


def test_error_log(scene, wanted):
    """Only nginx's own lines that are documented have a secret."""
    rules = {}
    for level, message in entries(scene.log):
        found = hunt(message, wanted)
        if found:
            rule = own(level, message)
            assert rule, (level, message[:300], found)
            rules.setdefault(rule, set()).update(found)

    # Each is seen, so each is still what nginx writes.
    assert set(rules) == set(NGINX)
    everything = set().union(*rules.values())
    assert [name for name in everything if name.startswith(HIDDEN)] == []


def test_lines_of_ours_are_there(scene):
    """What was looked through was worth it."""
    ours = [message for _, message in entries(scene.log)
            if message.startswith("keygate")]
    text = "\n".join(ours)

    for words in ("keygate answers 401", "would answer 401", "identified key",
                  "key.create", "is not valid", "WRONGPASS", "NOPERM",
                  "redis op", "settles a claim", "admin answers 400"):
        assert words in text, words
    assert len(ours) > 500


def test_access_log(scene, wanted):
    assert "verdict=unauthorized" in scene.access
    assert hunt(scene.access, wanted) == []


def test_redis_holds_none(scene, wanted):
    """Names and values of every type."""
    kinds = {name.split(b":")[1] for name, _ in scene.values}
    assert {b"key", b"org", b"id", b"keys", b"orgs", b"audit", b"idem",
            b"limit", b"usage", b"seen"} <= kinds
    for name, value in scene.values:
        assert hunt(value, wanted) == [], name


def test_redis_is_sent_none(scene, wanted):
    """Nothing on the way either, but the password where it belongs."""
    names = {words[0].upper() for words in scene.sent}
    assert {b"AUTH", b"GET", b"EVALSHA", b"ZADD"} <= names
    for words in scene.sent:
        found = hunt(b"\0".join(words), wanted)
        if words[0].upper() == b"AUTH":
            assert set(found) <= {HIDDEN + "password",
                                  HIDDEN + "wrong password"}
        else:
            assert found == [], words[0]


def test_process_list(scene, wanted):
    """Command lines and environments of all that ran: nginx, Redis, the
    tool."""
    text = b"\n".join(scene.processes)
    for program in (b"nginx: worker", b"redis-server", b"scripts/keygate\0"):
        assert program in text
    for data, name in scene.processes.items():
        assert hunt(data, wanted) == [], (name, data[:200])


def test_tool_shows_none(scene, wanted):
    """Beside a new key's one line."""
    assert len(scene.shown) > 15
    for text in scene.shown:
        assert hunt(text, wanted) == []


def test_nginx_s_configuration_shows_none(scene, wanted):
    for text in scene.printed:
        assert hunt(text, wanted) == []


# What the page and the shipped configuration say of it

def test_nginx_s_own_lines_are_documented():
    text = OPERATIONS.split("| level | what nginx writes |", 1)[1]
    table = text.split("\n\n", 1)[0]
    named = {(row.split(" | ")[0].strip("| `"), line)
             for row in table.splitlines()
             for line in re.findall(r"`([^`…]+)…`", row)}

    assert named == set(NGINX)


@pytest.mark.parametrize("path", sorted(
    path for path in (ROOT / "conf").iterdir()), ids=lambda path: path.name)
def test_what_is_shipped_logs_no_headers(path):
    text = re.sub("#.*", "", path.read_text("utf-8"))
    levels = re.findall(r"\berror_log\s+\S+\s*(\w*)\s*;", text)

    if path.name == "nginx.conf":
        assert levels == ["warn"]
    else:
        assert levels == []
