"""Tokens and the records of Redis, made as src/core says they are.

Written anew from the documentation of the formats, not through the module, so
that a test of the module does not ask the module what is right.
"""

import hashlib
import hmac
import json
import secrets
import zlib

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

ALL_SCOPES = ["loads:read", "loads:write", "customers:read", "carriers:read",
              "tracking:read", "webhooks:manage"]


def base62(n):
    """n random digits."""
    return "".join(secrets.choice(DIGITS) for _ in range(n))


def checksum(text):
    """CRC-32 in six base62 digits, the most significant first."""
    value = zlib.crc32(text.encode())
    digits = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = DIGITS[digit] + digits
    return digits


def make_token(mode="test", prefix="tf"):
    """A token of src/core/kg_token.h."""
    body = f"{prefix}_{mode}_{base62(32)}"
    return body + checksum(body)


def digest(pepper, token):
    """HMAC-SHA256(pepper, token) in hex; pepper is bytes."""
    return hmac.new(pepper, token.encode(), hashlib.sha256).hexdigest()


class Key:
    """A key in Redis: token, id, org, mode, digest, name (of the Redis key)
    and the record."""

    def __init__(self, client, namespace, pepper, token, record):
        self.client = client
        self.token = token
        self.record = record
        self.digest = digest(pepper, token)
        self.name = f"{namespace}:key:{{{self.digest}}}"
        self.save()

    id = property(lambda self: self.record["id"])
    org = property(lambda self: self.record["org"])
    mode = property(lambda self: self.record["mode"])

    def save(self, **changes):
        """Writes the record, with changes; a member of None is null."""
        self.record.update(changes)
        self.client.set(self.name, json.dumps(self.record))

    def write(self, raw):
        """Writes any bytes in the record's place."""
        self.client.set(self.name, raw)

    def delete(self):
        self.client.delete(self.name)


def make_key(client, pepper, org, mode="test", scopes=None, token=None,
             namespace="kg", prefix="tf", **members):
    """Writes kg:key:{<digest>}; further members go into the record."""
    record = {"v": 1, "id": "key_" + base62(20), "org": org, "mode": mode,
              "scopes": ALL_SCOPES if scopes is None else scopes}
    record.update(members)
    return Key(client, namespace, pepper, token or make_token(mode, prefix),
               record)


def make_org(client, access="live", org=None, namespace="kg", **members):
    """Writes kg:org:{<org>} and returns the id."""
    org = org or "org_" + base62(12)
    record = {"v": 1, "access": access}
    record.update(members)
    client.set(f"{namespace}:org:{{{org}}}", json.dumps(record))
    return org
