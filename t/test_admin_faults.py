"""What must hold of the admin interface whatever goes wrong on the way."""

import concurrent.futures
import itertools
import time

import harness
from admin_calls import (KEY, PIECES, make_key, make_org, check_refused, stored,
                         stored_key, trail)
from harness import records

GATE = PIECES


def test_concurrent_patches_lose_nothing(gate):
    org = make_org(gate, "test")
    patches = [{"limits": {f"p{n}": f"{n + 1}r/s"}} for n in range(6)]
    patches += [{"name": "Acme"}, {"access": "live"}]

    for _ in range(5):
        gate.admin("PUT", f"/orgs/{org}", json={"access": "test"})
        with concurrent.futures.ThreadPoolExecutor(len(patches)) as pool:
            answers = list(pool.map(
                lambda body: gate.admin("PATCH", f"/orgs/{org}", json=body),
                patches))
        assert [answer.status for answer in answers] == [200] * len(patches)

        record = stored(gate, "org", org)
        assert record["limits"] == {f"p{n}": f"{n + 1}r/s" for n in range(6)}
        assert (record["name"], record["access"]) == ("Acme", "live")


def test_who_loses_every_race_is_told(make_gate, make_redis, make_relay):
    """Someone writes the record between each read and write of the edit."""
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    org = records.make_org(redis.client, "test")
    writes = itertools.count(1)

    def another_writes_first(words):
        if words[0] in (b"EVALSHA", b"EVAL"):
            records.make_org(redis.client, "test", org, n=next(writes))
        return False

    relay.hold(another_writes_first)
    answer = gate.admin("PATCH", f"/orgs/{org}", json={"access": "live"})

    check_refused(answer, 409, "conflict")
    assert stored(gate, "org", org)["access"] == "test"
    assert stored(gate, "org", org)["n"] > 8


def calls(org, key_id):
    return [("GET", f"/orgs/{org}", None),
            ("PUT", f"/orgs/{org}", {"access": "disabled"}),
            ("PATCH", f"/orgs/{org}", {"access": "test"}),
            ("POST", f"/orgs/{org}/keys", KEY),
            ("POST", f"/keys/{key_id}/rotate", {}),
            ("PATCH", f"/keys/{key_id}", {"name": "other"}),
            ("GET", f"/keys/{key_id}", None),
            ("GET", "/orgs", None),
            ("GET", f"/orgs/{org}/keys", None),
            ("GET", "/peppers", None),
            ("GET", "/audit", None),
            ("GET", "/export", None),
            ("DELETE", f"/orgs/{org}", None),
            ("DELETE", f"/keys/{key_id}", None)]


def test_redis_down(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis)
    key = make_key(gate)

    with redis.stopped():
        for method, path, body in calls(key["org"], key["id"]):
            check_refused(gate.admin(method, path, json=body), 503,
                    "service_unavailable")


def test_redis_frozen(make_gate, make_redis):
    redis = make_redis()
    # Who waits for dead= is late for this client.
    gate = make_gate(redis=redis,
                     redis_parameters="connect=1s command=1s dead=1m")
    key = make_key(gate)

    with redis.frozen():
        for method, path, body in calls(key["org"], key["id"])[::4]:
            check_refused(gate.admin(method, path, json=body), 503,
                    "service_unavailable")


def test_redis_refuses_writes(make_gate, make_redis):
    """A full Redis: what is there can be read, what is not written is not
    said to be."""
    redis = make_redis()
    gate = make_gate(redis=redis)
    key = make_key(gate)
    noted = len(trail(gate))
    redis.client.config_set("maxmemory", "1")

    for method, path, body in calls(key["org"], key["id"]):
        if (method, path) == ("DELETE", f"/orgs/{key['org']}"):
            continue                    # it needs no memory
        answer = gate.admin(method, path, json=body)
        if method == "GET":
            assert answer.status == 200
        else:
            check_refused(answer, 503, "service_unavailable")

    assert stored_key(gate, key["token"]).get("revokedAt") is None
    assert stored(gate, "org", key["org"])["access"] == "live"
    assert len(trail(gate)) == noted


def test_a_call_runs_to_its_end_without_its_client(make_gate, make_redis,
                                                   make_relay):
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    key = make_key(gate)
    relay.delay = 0.06

    client = harness.Client(gate.path("admin.sock"))
    client.send(f"DELETE /keys/{key['id']} HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.05)
    client.close()

    deadline = time.monotonic() + 5
    while not stored_key(gate, key["token"]).get("revokedAt"):
        assert time.monotonic() < deadline, "the key was not revoked"
        time.sleep(0.02)


def test_a_reload_ends_no_call(make_gate, make_redis, make_relay):
    redis = make_redis()
    relay = make_relay(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url)
    org = make_org(gate)
    relay.delay = 0.06

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        made = pool.submit(make_key, gate, org)
        time.sleep(0.1)
        gate.reload()
        key = made.result()

    relay.delay = 0
    assert stored_key(gate, key["token"])["id"] == key["id"]


def values_of(client):
    """Every value in Redis, by its name."""
    for name in client.scan_iter():
        kind = client.type(name)
        if kind == b"string":
            yield name.decode(), client.get(name).decode("latin-1")
        elif kind == b"zset":
            yield name.decode(), repr(client.zrange(name, 0, -1))
        elif kind == b"hash":
            yield name.decode(), repr(client.hgetall(name))
        elif kind == b"stream":
            yield name.decode(), repr(client.xrange(name))
        else:
            raise AssertionError(f"{name} is a {kind}")


def test_secrets_are_shown_and_kept_nowhere(make_gate, make_redis):
    """At level debug, where everybody says most."""
    redis = make_redis()
    gate = make_gate(redis=redis, level="debug")
    old = make_key(gate)
    path = f"/keys/{old['id']}"
    new = gate.admin("POST", path + "/rotate", json={}).json()
    tokens = [old["token"], new["token"]]
    secrets = tokens + [token.split("_")[2][:32] for token in tokens]
    secrets.append(gate.pepper.decode())
    digests = [harness.digest(gate.pepper, token) for token in tokens]

    shown = [gate.admin(*call) for call in (
        ("GET", path), ("GET", f"/orgs/{old['org']}"), ("GET", "/orgs"),
        ("GET", f"/orgs/{old['org']}/keys"), ("GET", "/audit"),
        ("DELETE", path), ("POST", path))]
    shown.append(gate.admin("POST", "/keys/find",
                            json={"token": old["token"]}))
    shown.append(gate.admin("PATCH", path, json={"name": "x"}))
    for answer in shown:
        text = repr(answer.headers) + answer.body.decode()
        for secret in secrets + digests + ["pepper"]:
            assert secret not in text

    export = gate.admin("GET", "/export").body.decode()
    logs = gate.log() + "".join(gate.access_log())
    assert old["id"] in logs
    for secret in secrets:
        assert secret not in logs
        assert secret not in export
    for secret in digests:
        assert secret not in logs
        assert secret in export

    found = dict(values_of(redis.client))
    assert found.pop(f"kg:id:{{{old['id']}}}") == digests[0]
    assert found.pop(f"kg:id:{{{new['id']}}}") == digests[1]
    assert "kg:audit" in found and "kg:orgs" in found
    for name, value in found.items():
        for secret in secrets + digests:
            assert secret not in value, name
