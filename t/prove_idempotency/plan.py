"""What is asked in a run, all of it drawn from the seed.

The same names of keys, and the same payloads, are used in several scopes
(organisation, mode): whoever mixes scopes up answers one with another's.
"""

import json
import random
from dataclasses import dataclass

from .history import Name

TENANTS = 8
MODES = ("test", "live")

# A name of a key is used in this many scopes.
SHARED = 4

VARIANTS = 4

# How a client behaves, and how often.
MANNERS = {"read": 76, "slow": 4, "chunked": 4, "close": 6, "reset": 6,
           "half": 4}


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


def payload(key, variant):
    """(target, content type, body).  1 has another body, 2 goes to another
    route, 3 says another type."""
    target = "/v1/loads/upsert" if variant == 2 else "/v1/loads"
    kind = ("application/vnd.load+json" if variant == 3
            else "application/json")
    body = {"load": key, "changed": variant == 1}
    return target, kind, json.dumps(body).encode()


def variant_of(key, target, kind, body):
    """Which payload of the key it is, None when it is none of them."""
    for variant in range(VARIANTS):
        if payload(key, variant) == (target, kind, body):
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
