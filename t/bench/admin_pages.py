"""How long the admin interface takes to show a page, with many organisations
and many keys in one of them.

Fills an empty Redis with records and their indexes, then asks for every page of
organisations and of the keys, and prints the times.  A page is to take under 50
ms with 10,000 organisations and 1,000 keys.

    t/bench/admin_pages.py [--orgs 10000] [--keys 1000] [--limit 100]
                           [--bound MS]

Exit status 1 when a page takes longer than --bound.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import harness                                              # noqa: E402
from harness import records                                 # noqa: E402

BIG = "org05000"


def fill(client, orgs, keys):
    """As the interface itself stores them."""
    pipe = client.pipeline(transaction=False)

    for n in range(orgs):
        org = f"org{n:05}"
        pipe.set(f"kg:org:{{{org}}}", json.dumps({
            "v": 1, "access": "live", "name": f"Partner {n}",
            "limits": {"default": "120r/m"},
            "createdAt": "2026-11-22T00:00:00Z"}))
        pipe.zadd("kg:orgs", {org: 0})

    pipe.set(f"kg:org:{{{BIG}}}", json.dumps({"v": 1, "access": "live"}))
    pipe.zadd("kg:orgs", {BIG: 0})

    for n in range(keys):
        key_id, digest = "key_" + records.base62(20), f"{n:064x}"
        pipe.set(f"kg:key:{{{digest}}}", json.dumps({
            "v": 1, "id": key_id, "org": BIG, "mode": "live",
            "scopes": records.ALL_SCOPES, "name": f"Key {n}",
            "hint": "tf_live_...Ab3d", "pepper": "0a1b2c3d",
            "createdAt": "2026-11-22T00:00:00Z",
            "allow": ["203.0.113.0/24"]}))
        pipe.set(f"kg:id:{{{key_id}}}", digest)
        pipe.zadd(f"kg:keys:{{{BIG}}}", {key_id: n})

    pipe.execute()


def pages(gate, path, limit):
    """The time of each page in ms, and how many entries they had."""
    times, entries, cursor = [], 0, ""

    while cursor is not None:
        start = time.perf_counter()
        answer = gate.admin("GET", f"{path}?limit={limit}&cursor={cursor}")
        times.append(1000 * (time.perf_counter() - start))
        if answer.status != 200:
            sys.exit(f"{path}: {answer}")
        entries += len(answer.json()["data"])
        cursor = answer.json()["nextCursor"]

    return times, entries


def whole(gate, path):
    start = time.perf_counter()
    client = harness.Client(gate.path("admin.sock"), timeout=300)
    with client:
        answer = client.request("GET", path, {"Connection": "close"})
    if answer.status != 200 or not answer.complete:
        sys.exit(f"{path}: {answer}")
    return time.perf_counter() - start, len(answer.body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--orgs", type=int, default=10000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--bound", type=float, metavar="MS")
    args = parser.parse_args()

    redis = harness.RedisServer()
    gate = None
    slowest = 0

    try:
        fill(redis.client, args.orgs, args.keys)
        gate = harness.Gate(redis)

        print(f"{args.orgs} organisations, {args.keys} keys in one of them, "
              f"{args.limit} a page; ms")
        print(f"{'list':16}{'pages':>7}{'entries':>9}{'median':>8}"
              f"{'p99':>8}{'max':>8}")

        for name, path in (("organisations", "/orgs"),
                           ("keys", f"/orgs/{BIG}/keys")):
            times, entries = pages(gate, path, args.limit)
            times.sort()
            slowest = max(slowest, times[-1])
            print(f"{name:16}{len(times):7}{entries:9}"
                  f"{statistics.median(times):8.1f}"
                  f"{times[int(0.99 * (len(times) - 1))]:8.1f}"
                  f"{times[-1]:8.1f}")

        for path in ("/export", "/peppers"):
            seconds, size = whole(gate, path)
            print(f"GET {path:12} {seconds:.2f} s, {size} bytes")
    finally:
        if gate is not None:
            gate.close()
        redis.close()

    return int(args.bound is not None and slowest > args.bound)


if __name__ == "__main__":
    sys.exit(main())
