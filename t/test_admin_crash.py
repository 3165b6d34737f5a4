"""A call that is cut off anywhere leaves nothing more permitted than it was
before, or would be after it.

Redis goes away after the first command of the call, then after the second,
and so on until the call gets through; each time the records alone say what
every key is permitted.
"""

import json
import threading
import time

import pytest

import harness
from admin_calls import KEY, PIECES, make_key, make_org, trail

GATE = PIECES
RANK = {"not_enabled": 0, "disabled": 0, "test": 1, "live": 2}


class Cutter(harness.Relay):
    """Lets a number of writes through and then nothing, both ways."""

    WRITES = (b"SET", b"ZADD", b"ZREM", b"DEL", b"EVALSHA", b"EVAL")

    def __init__(self, target):
        self.left = None
        self.lock = threading.Lock()
        self.seen = 0
        super().__init__(target)

    def cut_after(self, writes):
        with self.lock:
            self.seen = len(self.commands)
            self.left = writes

    def pass_all(self):
        with self.lock:
            self.left = None

    def _pass(self, *how):
        with self.lock:
            if self.left is not None:
                new = self.commands[self.seen:]
                self.seen += len(new)
                self.left -= sum(words[0] in self.WRITES for words in new)
                if self.left < 0:
                    raise OSError("cut off")
        super()._pass(*how)


def permitted(client):
    """{(digest, mode rank, scope)} of what keys may do by the records."""
    orgs, found = {}, set()
    for name in client.scan_iter("kg:org:*"):
        org = name.decode().split("{")[1][:-1]
        orgs[org] = RANK[json.loads(client.get(name))["access"]]
    for name in client.scan_iter("kg:key:*"):
        record = json.loads(client.get(name))
        needs = RANK[record["mode"]]
        if record.get("revokedAt") or orgs.get(record["org"], 0) < needs:
            continue
        found |= {(name.decode(), needs, scope, record.get("expiresAt"))
                  for scope in record["scopes"]}
    return found


def snapshot(client):
    return {name: client.dump(name) for name in client.scan_iter("*")}


def restore(client, state):
    client.flushall()
    for name, value in state.items():
        client.restore(name, 0, value, replace=True)


def cases():
    """(what is there, the call, of a gate and a key)."""

    def imported(gate, key):
        """Organisations and keys that lose as others win."""
        lines = gate.admin("GET", "/export").body.splitlines()
        lines = [json.loads(line) for line in lines]
        for line in lines:
            record = line["record"]
            if line["type"] == "org":
                swap = {"live": "disabled", "disabled": "live",
                        "test": "live"}
                record["access"] = swap[record["access"]]
            elif record.get("revokedAt"):
                del record["revokedAt"]
            else:
                record["revokedAt"] = "2026-01-01T00:00:00Z"
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        return "POST", "/import", body

    return {
        "put": lambda gate, key: (
            "PUT", "/orgs/brandnew", {"access": "live"}),
        "patch": lambda gate, key: (
            "PATCH", f"/orgs/{key['org']}", {"access": "disabled"}),
        "create": lambda gate, key: (
            "POST", f"/orgs/{key['org']}/keys", {**KEY, "mode": "live"}),
        "rotate": lambda gate, key: (
            "POST", f"/keys/{key['id']}/rotate", {"overlap": "0"}),
        "revoke": lambda gate, key: (
            "DELETE", f"/keys/{key['id']}", None),
        "change": lambda gate, key: (
            "PATCH", f"/keys/{key['id']}", {"scopes": ["carriers:read"]}),
        "delete": lambda gate, key: (
            "DELETE", f"/orgs/{key['org']}", None),
        "import": imported,
    }


def fill(gate):
    """The key a call is about, and others around it."""
    for access in ("live", "test", "disabled"):
        org = make_org(gate)
        for mode in ("live", "test"):
            make_key(gate, org, mode=mode)
            gone = make_key(gate, org, mode=mode)
            gate.admin("DELETE", f"/keys/{gone['id']}")
        gate.admin("PATCH", f"/orgs/{org}", json={"access": access})
    key = make_key(gate)
    make_key(gate, key["org"])
    return key


@pytest.mark.parametrize("name", cases())
def test_cut_off_anywhere(make_gate, make_redis, name):
    redis = make_redis()
    relay = Cutter(redis.port)
    gate = make_gate(redis=redis, redis_url=relay.url, workers="1")
    try:
        key = fill(gate)
        state = snapshot(redis.client)
        method, path, body = cases()[name](gate, key)
        body = ({"body": body} if isinstance(body, bytes)
                else {"json": body})

        def reached():
            deadline = time.monotonic() + 10
            while gate.admin("GET", f"/keys/{key['id']}").status == 503:
                assert time.monotonic() < deadline
                time.sleep(0.02)

        before = permitted(redis.client)
        assert len(before) >= 4
        done = gate.admin(method, path, **body)
        assert done.status in (200, 201), done
        after = permitted(redis.client)
        tokens = {record for record, *_ in after} - {
            record for record, *_ in before}

        for writes in range(200):
            restore(redis.client, state)
            reached()
            relay.cut_after(writes)
            answer = gate.admin(method, path, **body)
            now = permitted(redis.client)
            relay.pass_all()

            # The token of a new key that was cut off nobody has seen.

            unknown = {entry for entry in now
                       if entry[0].encode() not in state}
            if name in ("create", "rotate"):
                now -= unknown
            assert now <= before | after, (writes, now - before - after)

            if answer.status != 503:
                break
            assert answer.code == "service_unavailable"
            reached()

        assert answer.status == done.status
        assert writes >= (2 if name in ("create", "import") else 1)
        if name in ("create", "rotate"):
            assert len(tokens) == 1

        # Whatever was cut off, the same call finds its way to the end.

        restore(redis.client, state)
        reached()
        relay.cut_after(writes - 1)
        gate.admin(method, path, **body)
        relay.pass_all()
        reached()
        gate.admin(method, path, **body)
        assert {entry for entry in permitted(redis.client)
                if entry[0].encode() in state} == {
                    entry for entry in after if entry[0].encode() in state}
        assert trail(gate)
    finally:
        relay.close()
