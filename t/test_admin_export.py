"""GET /export and POST /import: all of it, back again, and nothing by
halves."""

import json
import socket
import time

import pytest

import harness
from admin_calls import (KEY, PIECES, ask, everything, make_key, make_org,
                         check_refused, trail)
from harness import records

GATE = PIECES


@pytest.fixture
def fresh(make_gate, make_redis):
    """A gate with an empty Redis."""
    return make_gate(redis=make_redis(), **GATE)


def export(gate):
    answer = gate.admin("GET", "/export")
    assert answer.status == 200
    assert answer.complete
    assert answer.get("Content-Type") == "application/x-ndjson"
    assert answer.get("Cache-Control") == "no-store"
    return answer.body


def parsed(text):
    return [json.loads(line) for line in text.decode().splitlines()]


def put_back(gate, lines, dry_run=False):
    body = lines if isinstance(lines, bytes) else b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode())
        + b"\n" for line in lines)
    return gate.admin("POST", f"/import?dry_run={int(dry_run)}", body=body)


def counts(answer):
    assert answer.status == 200, answer
    return tuple(answer.json()[name] for name in (
        "created", "changed", "unchanged", "refused"))


def in_redis(gate):
    """Every record and what leads to it."""
    client, found = gate.redis.client, {}
    for name in client.scan_iter("kg:*"):
        kind = name.split(b":")[1]
        if kind in (b"key", b"org"):
            found[name] = json.loads(client.get(name))
        elif kind == b"id":
            found[name] = client.get(name)
        elif kind in (b"orgs", b"keys"):
            found[name] = set(client.zrange(name, 0, -1))
    return found


def org_line(org, access="test", **members):
    return {"type": "org", "id": org,
            "record": {"v": 1, "access": access, **members}}


def key_line(org, digest=None, **members):
    record = {"v": 1, "id": "key_" + records.base62(20), "org": org,
              "mode": "test", "scopes": ["loads:read"], **members}
    return {"type": "key", "digest": digest or f"{time.time_ns():064x}",
            "record": record}


def fill(gate, orgs=3, keys=4):
    """Organisations and keys of every kind, made through the interface."""
    made = []
    for n in range(orgs):
        org = make_org(gate, ("live", "test", "disabled")[n % 3],
                       name=f"Nº {n}", limits={"default": "90r/m"})
        made += [make_key(gate, org, name=f"K{k}", allow=["127.0.0.1"])
                 for k in range(keys)]
    gate.admin("DELETE", f"/keys/{made[0]['id']}")
    return made


# There.


def test_every_record_is_a_line(fresh):
    keys = fill(fresh)
    records.make_org(fresh.redis.client, "live", "hand-made", region="eu")
    fresh.redis.client.zadd("kg:orgs", {"hand-made": 0})
    text = export(fresh)
    lines = parsed(text)

    assert len(lines) == 4 + 12
    for line in lines:
        kind = line["type"]
        name = line["digest"] if kind == "key" else line["id"]
        kept = fresh.redis.client.get(f"kg:{kind}:{{{name}}}")
        assert line["record"] == json.loads(kept)
        assert set(line) == {"type", "record",
                             "digest" if kind == "key" else "id"}
    assert {line["digest"] for line in lines if line["type"] == "key"} == {
        harness.digest(fresh.pepper, key["token"]) for key in keys}
    for key in keys:
        assert key["token"] not in text.decode()


def test_more_than_pages(fresh):
    """Organisations, and keys of one, of several pages."""
    client = fresh.redis.client
    for n in range(230):
        records.make_org(client, "test", f"o{n:03}")
        client.zadd("kg:orgs", {f"o{n:03}": 0})
    digests = set()
    for n in range(310):
        key = fresh.key(org="o117")
        client.set(f"kg:id:{{{key.id}}}", key.digest)
        client.zadd("kg:keys:{o117}", {key.id: n // 3})
        digests.add(key.digest)

    lines = parsed(export(fresh))
    assert [line["id"] for line in lines if line["type"] == "org"] == [
        f"o{n:03}" for n in range(230)]
    found = [line["digest"] for line in lines if line["type"] == "key"]
    assert len(found) == 310
    assert set(found) == digests


def test_an_empty_export(fresh):
    assert export(fresh) == b""
    assert fresh.admin("HEAD", "/export").status == 200
    assert counts(put_back(fresh, b"")) == (0, 0, 0, 0)


@pytest.mark.parametrize("role", ["read", "portal"])
def test_an_operator_only(gate, role):
    check_refused(ask(gate, role, "GET", "/export"), 403, "forbidden")
    check_refused(gate.request("POST", f"/{role}/import",
                         body=json.dumps(org_line("a")).encode()), 403,
            "forbidden")
    assert gate.redis.client.get("kg:org:{a}") is None


def test_not_where_its_end_cannot_be_told(fresh):
    """HTTP/1.0 has no chunks: one that breaks off would look whole."""
    make_org(fresh)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(fresh.path("admin.sock"))
        client.sendall(b"GET /export HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"bad_request"' in answer and b'"type"' not in answer


def test_a_slow_client_costs_no_memory(fresh):
    """While it takes nothing, nothing more is read of Redis."""
    client = fresh.redis.client
    pad = "x" * 200
    for n in range(600):
        key_id, digest = f"key_{n}", f"{n:064x}"
        client.set(f"kg:key:{{{digest}}}", json.dumps({
            "v": 1, "id": key_id, "org": "acme", "mode": "test",
            "scopes": [f"{pad[:90]}:{s}" for s in range(60)], "name": pad}))
        client.set(f"kg:id:{{{key_id}}}", digest)
        client.zadd("kg:keys:{acme}", {key_id: n})
    fresh.admin("PUT", "/orgs/acme", json={"access": "test"})

    with socket.socket(socket.AF_UNIX) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(fresh.path("admin.sock"))
        sock.sendall(b"GET /export HTTP/1.1\r\nHost: a\r\n"
                     b"Connection: close\r\n\r\n")
        asked = 0
        while asked != (now := fresh.redis.calls("GET")):
            asked = now                 # until there is no room any more
            time.sleep(0.5)
        assert 0 < asked < 900          # of 1,200

        with sock.makefile("rb") as file:
            text = file.read()
    assert text.count(b'"type":"key"') == 600
    assert text.endswith(b"\r\n0\r\n\r\n")


def test_an_export_that_breaks_off_is_seen_to(make_gate, make_redis,
                                              make_relay):
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    for n in range(150):
        records.make_org(redis.client, "test", f"o{n:03}")
        redis.client.zadd("kg:orgs", {f"o{n:03}": 0})
    relay.replace("GET", b"-LOADING x\r\n", times=1)
    check_refused(gate.admin("GET", "/export"), 503, "service_unavailable")

    start = relay.count("ZRANGE")
    relay.delay = 0.02
    client = harness.Client(gate.path("admin.sock"))
    client.send("GET /export HTTP/1.1\r\nHost: a\r\n\r\n")
    while relay.count("ZRANGE") < start + 10:
        time.sleep(0.01)
    relay.refuse()
    answer = client.read()
    client.close()
    assert answer.status == 200
    assert not answer.complete
    assert b'"o000"' in answer.body


# And back.


def test_what_was_exported_is_restored(make_gate, make_redis):
    one = make_gate(redis=make_redis(), **GATE)
    two = make_gate(redis=make_redis(), **GATE)
    keys = fill(one)
    text = export(one)

    dry = put_back(two, text, dry_run=True)
    assert counts(dry) == (15, 0, 0, 0)
    assert dry.json()["dryRun"] is True
    assert in_redis(two) == {}

    done = put_back(two, text)
    assert counts(done) == (15, 0, 0, 0)
    assert done.json()["dryRun"] is False
    assert in_redis(two) == in_redis(one)
    assert sorted(export(two).splitlines()) == sorted(text.splitlines())

    for key in keys:
        answers = [gate.get("/v1/loads", key=key["token"])
                   for gate in (one, two)]
        assert answers[0].status == answers[1].status
        assert answers[0].code == answers[1].code
    for path in ("/orgs", f"/orgs/{keys[0]['org']}/keys"):
        assert len(everything(one, path)) == len(everything(two, path))

    assert counts(put_back(two, text)) == (0, 0, 15, 0)
    assert counts(put_back(two, text, dry_run=True)) == (0, 0, 15, 0)


def test_a_dry_run_says_what_would_change(fresh):
    key = fill(fresh, orgs=1, keys=2)[1]
    text = export(fresh)
    org = key["org"]
    fresh.admin("PATCH", f"/orgs/{org}", json={"access": "disabled"})
    fresh.admin("PATCH", f"/keys/{key['id']}", json={"name": None})
    new = org_line("new-one", "live")
    before = in_redis(fresh)

    answer = put_back(fresh, text + json.dumps(new).encode(), dry_run=True)
    assert counts(answer) == (1, 2, 1, 0)
    lines = {line["id"]: line for line in answer.json()["lines"]}
    assert lines.keys() == {org, key["id"], "new-one"}
    assert lines[org] == {
        "line": 1, "type": "org", "id": org, "does": "change",
        "changes": {"access": {"from": "disabled", "to": "live"}}}
    assert lines[key["id"]]["changes"] == {"name": {"from": None, "to": "K1"}}
    assert lines["new-one"]["does"] == "create"
    assert lines["new-one"]["line"] == 4
    assert in_redis(fresh) == before

    real = put_back(fresh, text + json.dumps(new).encode())
    assert counts(real) == (1, 2, 1, 0)
    assert real.json()["lines"] == answer.json()["lines"]


def test_what_leads_to_a_record_is_mended(fresh):
    key = fill(fresh, orgs=1, keys=1)[0]
    text, whole = export(fresh), in_redis(fresh)
    fresh.redis.client.delete("kg:orgs", f"kg:keys:{{{key['org']}}}",
                              f"kg:id:{{{key['id']}}}")
    assert counts(put_back(fresh, text)) == (0, 0, 2, 0)
    assert in_redis(fresh) == whole


def test_keys_keep_their_order(fresh):
    org = make_org(fresh)
    lines = [org_line(org)] + [
        key_line(org, f"{n:064x}", createdAt=f"2026-01-{n + 1:02}T00:00:00Z")
        for n in range(9)]
    assert put_back(fresh, lines).status == 200
    assert [key["createdAt"] for key in everything(
        fresh, f"/orgs/{org}/keys", 4)] == [
            f"2026-01-{n + 1:02}T00:00:00Z" for n in range(8, -1, -1)]


def test_a_record_that_is_broken_is_put_right(fresh):
    key = fill(fresh, orgs=1, keys=1)[0]
    text, whole = export(fresh), in_redis(fresh)
    digest = harness.digest(fresh.pepper, key["token"])
    fresh.redis.client.set(f"kg:key:{{{digest}}}", "{")
    assert counts(put_back(fresh, text)) == (0, 1, 1, 0)
    assert in_redis(fresh) == whole


GOOD = json.dumps(org_line("good")).encode()


@pytest.mark.parametrize("line", [
    b"", b"{", b"[]", b"5", b'"x"', b"{}", GOOD + GOOD, GOOD[:-1],
    b'{"type":"org","id":"a","record":{"v":1,"access":"test"},"x":1}',
    b'{"type":"org","id":"a","id":"a","record":{"v":1,"access":"test"}}',
    org_line("a.b"), org_line(""), org_line("o" * 65), org_line("a", "all"),
    {"type": "orgs", "id": "a", "record": {"v": 1, "access": "test"}},
    {"type": "org", "id": 5, "record": {"v": 1, "access": "test"}},
    {"type": "org", "id": "a", "record": 5},
    {"type": "org", "id": "a", "record": {"access": "test"}},
    {"type": "org", "id": "a", "record": {"v": 2, "access": "test"}},
    org_line("a", limits={"default": "x"}), org_line("a", name="n" * 16500),
    org_line("a", name="n" * 17500),
    key_line("a", "ab" * 31), key_line("a", "xy" * 32), key_line("a.b"),
    key_line("a", id="k"), key_line("a", mode="x"), key_line("a", scopes=5),
    key_line("a", allow=["x"]), key_line("a", expiresAt="soon"),
    key_line("a", pepper="x"), {"type": "key", "digest": 5, "record": {}},
], ids=range(32))
def test_lines_refused(fresh, line):
    """With their number, and nothing at all is written."""
    lines = [org_line("first"), line, org_line("third")]
    dry = put_back(fresh, lines, dry_run=True)
    assert counts(dry) == (2, 0, 0, 1)
    (why,) = dry.json()["refusedLines"]
    assert why["line"] == 2
    assert why["reason"]

    answer = put_back(fresh, lines)
    check_refused(answer, 400, "bad_request")
    assert answer.error["details"] == {"refused": 1, "refusedLines": [why]}
    assert in_redis(fresh) == {}
    assert trail(fresh) == []


def test_a_file_of_something_else_is_not_read_to_its_end(fresh):
    answer = put_back(fresh, b"no\n" * 100000)
    check_refused(answer, 400, "bad_request")
    assert 100 <= answer.error["details"]["refused"] <= 150
    assert len(answer.error["details"]["refusedLines"]) == 100


@pytest.mark.parametrize("change", [
    {"id": "key_other"}, {"org": "third"}, {"mode": "live"}])
def test_a_stored_key_stays_who_it_is(fresh, change):
    put_back(fresh, [org_line("first"), org_line("third")])
    line = key_line("first", "ab" * 32, name="old")
    put_back(fresh, [line])
    before = in_redis(fresh)
    line = {**line, "record": {**line["record"], "name": "new", **change}}

    assert counts(put_back(fresh, [line], dry_run=True)) == (0, 0, 0, 1)
    check_refused(put_back(fresh, [line]), 400, "bad_request")
    assert in_redis(fresh) == before


def test_an_id_stays_one_keys(fresh):
    put_back(fresh, [org_line("first"), key_line("first", "ab" * 32,
                                                 id="key_1")])
    before = in_redis(fresh)
    check_refused(put_back(fresh, [key_line("first", "cd" * 32, id="key_1")]), 400,
            "bad_request")
    assert in_redis(fresh) == before

    # Two in one file: one is the key, the other lets nobody in.

    answer = put_back(fresh, [key_line("first", digest, id="key_2")
                              for digest in ("12" * 32, "34" * 32)])
    check_refused(answer, 409, "conflict")
    owner = fresh.redis.client.get("kg:id:{key_2}").decode()
    assert [fresh.redis.client.exists(f"kg:key:{{{digest}}}")
            for digest in ("12" * 32, "34" * 32)] == [
                owner == "12" * 32, owner == "34" * 32]


def test_a_large_import(fresh):
    """Over nginx's buffer and over a batch; lines of any length, across
    blocks, and the last one without an end."""
    lines = [org_line(f"o{n % 40}", name="é" * (n % 100)) for n in range(40)]
    lines += [key_line(f"o{n % 40}", f"{n:064x}", name="x" * (n % 255))
              for n in range(2500)]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    assert len(body) > 8 * 65536

    assert counts(put_back(fresh, body)) == (2540, 0, 0, 0)
    assert sorted(map(json.dumps, parsed(export(fresh)))) == sorted(
        map(json.dumps, lines))
    assert counts(put_back(fresh, body)) == (0, 0, 2540, 0)

    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert counts(fresh.admin("POST", "/import", headers={
        "Transfer-Encoding": "chunked"}, body=chunked)) == (0, 0, 2540, 0)


def test_another_writer_meanwhile(make_gate, make_redis, make_relay):
    """Who writes between read and write is not overwritten unseen: the
    import reads again."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    put_back(gate, [org_line("acme", "test")])
    rule = relay.replace("EVALSHA", b":0\r\n", times=1)
    answer = put_back(gate, [org_line("acme", "live"), org_line("beta")])
    assert answer.status == 200
    assert rule.hits == 1
    assert json.loads(redis.client.get("kg:org:{acme}"))["access"] == "live"
    assert redis.client.get("kg:org:{beta}")


@pytest.mark.parametrize("query", ["dry_run=2", "dry_run=true", "dryrun=1"])
def test_queries_refused(gate, query):
    answer = gate.admin("POST", f"/import?{query}", body=GOOD)
    check_refused(answer, 400, "bad_request", query.split("=")[0])
    assert gate.redis.client.get("kg:org:{good}") is None


def test_over_64_mib(fresh):
    client = harness.Client(fresh.path("admin.sock"))
    with client:
        client.send("POST /import HTTP/1.1\r\nHost: a\r\n"
                    f"Content-Length: {64 * 1024 * 1024 + 1}\r\n\r\n")
        answer = client.read()
    assert answer.status == 413
    assert answer.code == "content_too_large"


def test_who_gets_what_at_once(fresh):
    """The zone forgets what an import has written."""
    key = make_key(fresh, **{**KEY, "mode": "test"})
    text = export(fresh)
    for _ in range(4):
        assert fresh.get("/v1/loads", key=key["token"]).status == 200
    put_back(fresh, text.replace(b'"access":"live"', b'"access":"disabled"'))
    for _ in range(4):
        assert fresh.get("/v1/loads",
                         key=key["token"]).code == "partner_access_disabled"
