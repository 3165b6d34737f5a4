"""What is asked in a run, all of it drawn from the seed.

The same names of keys, and the same payloads, are used in several scopes
(organisation, mode): whoever mixes scopes up answers one with another's.
"""

import functools
import json
import random
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from .history import Name
from .routes import BUFFERED, METHODS, ROUTES

TENANTS = 8
MODES = ("test", "live")

# A name of a key is used in this many scopes.
SHARED = 4

VARIANTS = 5

# Which methods keys have, and how often.
CHOICES = ("POST", "POST", "POST", "PUT", "PATCH", "DELETE")

# One key in so many has a body that nginx buffers to a file, bytes.
LARGE_EVERY = 4
LARGE = 12 * BUFFERED

# How a client behaves, and how often.
MANNERS = {"read": 58, "slow": 4, "chunked": 4, "close": 5, "reset": 5,
           "half": 3, "h2": 11, "h2_twins": 3, "h2_reset": 5, "h2_half": 2}


@dataclass
class Step:
    """A request of the plan: when after the run's start (s), which payload,
    which node, how, and when a client that leaves does so (s)."""
    at: float
    name: Name
    variant: int
    node: int
    manner: str
    patience: float


class Payload(NamedTuple):
    method: str
    target: str
    kind: str
    body: bytes


@functools.lru_cache(256)
def payload(key, variant):
    """What is sent for a key.  1 differs from 0 in the end of its body, 2 goes
    to another route, 3 says another type, 4 has another method."""
    drawn = zlib.crc32(key.encode())
    route = drawn % len(ROUTES)
    method = METHODS.index(CHOICES[drawn // 7 % len(CHOICES)])
    kind = "application/json"
    body = {"load": key, "changed": variant == 1}

    if drawn // 53 % LARGE_EVERY == 0:
        pad = BUFFERED + drawn % (LARGE - BUFFERED)
        body = {"pad": key * (pad // len(key) + 1), **body}
    elif METHODS[method] == "DELETE" and variant != 1:
        body = None

    if variant == 2:
        route = (route + 1) % len(ROUTES)
    elif variant == 3:
        kind = "application/vnd.load+json"
    elif variant == 4:
        method = (method + 1) % len(METHODS)

    return Payload(METHODS[method], ROUTES[route].path, kind,
                   b"" if body is None else json.dumps(body).encode())


def variant_of(key, *sent):
    """Which payload of the key it is, None when it is none of them."""
    for variant in range(VARIANTS):
        if payload(key, variant) == sent:
            return variant
    return None


def names(count, orgs, rng):
    """count keys in their scopes."""
    scopes = [(org, mode) for org in orgs for mode in MODES]
    found = []

    while len(found) < count:
        key = f"k{len(found)}-{rng.randrange(1 << 32):08x}"
        for org, mode in rng.sample(scopes, SHARED):
            found.append(Name(org, mode, key))

    return found[:count]


def make(seed, keys, requests, seconds, orgs):
    """The steps of a run, in the order of time."""
    rng = random.Random(f"plan {seed}")
    chosen = names(keys, orgs, rng)
    counts = [2] * keys

    for _ in range(requests - 2 * keys):
        counts[rng.randrange(keys)] += 1

    steps = []
    for name, count in zip(chosen, counts):
        steps += of_key(rng, name, count, seconds)
    return sorted(steps, key=lambda step: step.at)


def of_key(rng, name, count, seconds):
    """A burst of duplicates, then retries over the time a lease, a hang of the
    upstream and a fault take; of some keys changed payloads among them."""
    start = rng.uniform(0, seconds)
    burst = min(count, rng.choice((1, 1, 2, 3)))
    changed = count > 2 and rng.random() < 0.3
    steps = []

    for i in range(count):
        if i < burst:
            at = start + rng.uniform(0, 0.02)
        else:
            at = start + rng.choice((0.2, 1.0, 3.0, 6.0)) * rng.random()

        variant = 0
        if changed and rng.random() < 0.35:
            variant = rng.randrange(1, VARIANTS)

        manner = rng.choices(list(MANNERS), MANNERS.values())[0]
        steps.append(Step(min(at, seconds), name, variant, rng.randrange(2),
                          manner, rng.choice((0.001, 0.01, 0.3))
                          * rng.random()))
    return steps
