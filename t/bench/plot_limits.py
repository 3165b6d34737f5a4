"""The pictures of docs/limits.md: what real gates admit over time.

Each run drives nginx with the module, on a Redis of its own, with requests at
an even pace, and takes as admitted what was answered 200.  A picture's "in the
last minute" counts at each moment what was sent and answered within the 60 s
before it: no more can have been sent, admitted and answered in them, and how
long a request takes shortens no window.  All runs go on at once, for four
minutes.
"""

import argparse
import bisect
import pathlib
import time

from pace import Stage, at_pace, together
from svg import Figure, Panel

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

SECONDS = 240
STEP = 0.5              # between the points of a line, s
MINUTE = 60


def admitted(*streams):
    """The (sent, answered) of what was admitted, in order."""
    return sorted((sent, answered) for events in streams
                  for sent, answered, status in events if status == 200)


def moments():
    return [i * STEP for i in range(int(SECONDS / STEP) + 1)]


def total(*streams):
    ends = sorted(answered for _, answered in admitted(*streams))
    return [(t, bisect.bisect_right(ends, t)) for t in moments()]


def last_minute(*streams):
    passed = admitted(*streams)
    return [(t, sum(t - MINUTE < sent and answered <= t
                    for sent, answered in passed)) for t in moments()]


def asked(samples):
    """Asks a second, from (seconds, asks so far); over 5 s each."""
    points = []
    for (then, before), (now, after) in zip(samples, samples[1:]):
        points.append((then, (after - before) / (now - then)))
    return points + [(SECONDS, points[-1][1])]


def burst():
    """A window and a bucket of the same rate, and a partner in a hurry."""
    with Stage() as stage:
        gate = stage.gate(
            policies="keygate_policy window rate=60r/m by=key;"
                     "keygate_policy bucket rate=60r/m burst=20 by=key;",
            routes="keygate_routes partner {"
                   "GET /window loads:read limit=window;"
                   "GET /bucket loads:read limit=bucket; }",
            gate="keygate partner; keygate_limit off;")
        paces = [(0, 110, 5), (150, SECONDS, 5)]
        window, bucket = together(
            lambda: at_pace(gate, gate.key(), "/window", paces),
            lambda: at_pace(gate, gate.key(), "/bucket", paces))

    names = ("rate=60r/m", "rate=60r/m burst=20")
    return Figure(
        "A window and a bucket",
        "Five requests a second for 110 s, a pause, and again. The window "
        "admits 60 at once and then nothing until they are a minute old; the "
        "bucket admits 20 at once and then one a second.",
        SECONDS,
        [Panel("Requests admitted since the start",
               dict(zip(names, (total(window), total(bucket))))),
         Panel("Requests admitted in the last minute",
               dict(zip(names, (last_minute(window), last_minute(bucket)))),
               {"60": 60, "burst + 60": 80})],
        {"no requests": (110, 150)})


def nodes():
    """A limit on one node, and the same shared by two."""
    with Stage() as stage:
        first, second = (stage.gate(
            policies="keygate_policy default rate=300r/m by=key;")
            for _ in range(2))
        alone, shared = first.key(), first.key()
        one, a, b = together(
            lambda: at_pace(first, alone, "/v1/loads",
                            [(0, 20, 5), (20, SECONDS, 10)]),
            lambda: at_pace(first, shared, "/v1/loads", [(0, SECONDS, 5)]),
            lambda: at_pace(second, shared, "/v1/loads", [(20, SECONDS, 5)]))

    return Figure(
        "One node, and two that share a limit",
        "A key with 300 a minute asks twice as often as that, at one node and "
        "at two. Both together never admit more than one alone.",
        SECONDS,
        [Panel("Requests admitted in the last minute",
               {"one node": last_minute(one), "two nodes": last_minute(a, b)},
               {"300": 300}),
         Panel("Of the two, requests admitted in the last minute by each",
               {"node A": last_minute(a),
                "node B, from second 20 on": last_minute(b)},
               high=340)])


def leases():
    """Leased and exact, at the limit: what is admitted, what Redis is
    asked."""
    def run(exact):
        with Stage() as stage:
            gate = stage.gate(policies="keygate_policy default rate=600r/m "
                                       f"by=key {exact};")
            key, samples = gate.key(), []
            begin = time.monotonic()

            def sample():
                while len(samples) <= SECONDS / 5:
                    time.sleep(max(0, begin + 5 * len(samples)
                                   - time.monotonic()))
                    samples.append((time.monotonic() - begin, stage.asks()))
                return samples

            return together(lambda: at_pace(gate, key, "/v1/loads", [
                (0, 100, 7.5), (100, SECONDS, 15)]), sample)

    leased, exact = together(lambda: run(""), lambda: run("exact"))
    names = ("leased", "exact")
    return Figure(
        "Leased and exact",
        "A key with 600 a minute asks for 450 a minute, and from second 100 "
        "on for 900. Both admit the same; leased, Redis is asked for a part "
        "of it while there is room.",
        SECONDS,
        [Panel("Requests admitted in the last minute",
               {name: last_minute(run[0])
                for name, run in zip(names, (leased, exact))}, {"600": 600}),
         Panel("The same near the limit",
               {name: last_minute(run[0])
                for name, run in zip(names, (leased, exact))}, {"600": 600},
               low=560, high=606),
         Panel("Redis is asked, times a second",
               {name: asked(run[1])
                for name, run in zip(names, (leased, exact))})])


def away():
    """Redis goes away and comes back: limits=local."""
    stop, start = 70, 130

    with Stage() as stage:
        first, second = (stage.gate(
            policies="keygate_policy default rate=300r/m by=key;",
            outage="keygate_outage limits=local share=50%;")
            for _ in range(2))
        key = first.key()

        def outage():
            begin = time.monotonic()
            time.sleep(stop)
            with stage.redis.stopped():
                time.sleep(max(0, begin + start - time.monotonic()))
            return [(begin, 0, 0)]

        a, b, _ = together(
            lambda: at_pace(first, key, "/v1/loads", [(0, SECONDS, 5)]),
            lambda: at_pace(second, key, "/v1/loads", [(0, SECONDS, 5)]),
            outage)

    return Figure(
        "Redis away and back",
        "A key with 300 a minute asks twice as often, half of it at each of "
        "two nodes, with limits=local share=50%. While Redis is away each node "
        "admits half of the limit by itself; when it is back, what they "
        "admitted counts there.",
        SECONDS,
        [Panel("Requests admitted in the last minute",
               {"two nodes together": last_minute(a, b)}, {"300": 300}),
         Panel("Requests admitted in the last minute by each node",
               {"node A": last_minute(a), "node B": last_minute(b)},
               {"share=50%": 150})],
        {"Redis is away": (stop, start)})


PICTURES = {"burst": burst, "nodes": nodes, "leases": leases, "away": away}


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/plot-limits", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="*", metavar="PICTURE",
                        help=f"of {', '.join(PICTURES)}; default: all")
    parser.add_argument("--folder", type=pathlib.Path,
                        default=ROOT / "docs/images",
                        help="where limits-PICTURE.svg go")
    args = parser.parse_args()

    names = args.picture or list(PICTURES)
    for name in names:
        if name not in PICTURES:
            parser.error(f"no picture {name!r}: {' '.join(PICTURES)}")

    args.folder.mkdir(parents=True, exist_ok=True)
    for name, figure in zip(names, together(*(PICTURES[n] for n in names))):
        path = args.folder / f"limits-{name}.svg"
        path.write_text(figure.text(), encoding="utf-8")
        print(path)
        for panel in figure.panels:
            print(f"  {panel.name}: at most " + ", ".join(
                f"{max(value for _, value in line):g} ({each})"
                for each, line in panel.lines.items()))


if __name__ == "__main__":
    main()
