"""What limits cost: scripts/bench many | denial | asks | states.

many        Requests of 10,000 keys at random, each under a limit that is
            exact, beside the same requests through a bare proxy.  Redis shares
            a CPU with the load and the upstream, and is what saturates.
denial      A key that has spent its limit asks on and on, beside nginx's own
            `return 429` with a body and headers of the same size, and beside
            limit_req where the key is in a map.
asks        How often Redis is asked for an admitted request, of one node and
            one key: steady demand of half the limit, and of the whole.
states      What the state of a limit takes in Redis.
"""

import pathlib
import statistics
import tempfile
import time

import keys
from pace import Stage, at_pace, together

from harness import limits, scripts
from harness.ports import free_port, reaches, wait_for

KEYS = 10_000
NEVER_REFUSES = "rate=1000000000r/m exact"

# Before the demand of `asks` is steady, and then counted, s.
WARM, COUNTED = 75, 60

NAME = "kg:limit:{org_01M80NK6EW}:default:60:k=key_01M80NK6EWXQ4861J488"


# In the place of `return 429` in keys.NGINX.
LIMIT_REQ = """
        location / {
            if ($partner = "") {
                return 401;
            }
            limit_req zone=partners;
            error_page 429 @refused;
            proxy_pass http://app;
        }
        location @refused {"""

ZONE = """
    map_hash_bucket_size 128;
    map $http_authorization $partner {
        default           "";
        "Bearer @TOKEN@"  k1;
    }

    limit_req_zone $partner zone=partners:10m rate=1r/m;
    limit_req_status 429;
    limit_req_log_level info;

    server {"""


def many(bench, rounds):
    """Both run on, so that every key is in the gate's zone."""
    tokens, bare = bench.fill(KEYS), free_port()
    gates = {"exact": (bench.gate("64m", free_port(), NEVER_REFUSES),
                       bench.values["PORT"])}
    keys.warm(bench, tokens, gates["exact"][1], KEYS)

    bench.values["PORT"] = bare
    bench._write("bare.conf", (keys.HERE / "bare.conf").read_text("utf-8"))
    gates["bare"] = bench._start(0, bench._nginx("bare.conf")), bare
    wait_for(lambda: reaches(("127.0.0.1", bare)), 10, "bare")

    def measured(name):
        process, bench.port = gates[name]
        bench.tokens = (tokens, 0, KEYS, "random")
        return bench.measure(process)

    runs, before = [], measured("bare")
    for _ in range(rounds):
        mine, after = measured("exact"), measured("bare")
        runs.append((before, mine, after))
        before = after

    beside(f"exact on {KEYS} keys at random / bare", runs)
    redis = statistics.median(mine.redis_cpu for _, mine, _ in runs)
    print(f"Redis: {redis:.1f} us of CPU for each request; not 2xx: "
          f"{sum(mine.bad for _, mine, _ in runs)}")


def denial(bench, rounds):
    token = [bench.token]
    bench.tokens = (bench.write_tokens("spent", token), 0, 1, "turns")
    keys.same_answer(bench, "denial", token * 3, 200, "rate_limited",
                     429, "rate=1r/d")

    bench._write("limited.conf",
                 keys.NGINX.replace("\n    server {", ZONE)
                 .replace("\n        location / {", LIMIT_REQ))

    for name, what in (("refusal", "return 429"), ("limited", "limit_req")):
        runs, before = [], bench.slice(name)
        for _ in range(rounds):
            mine, after = bench.slice("denial"), bench.slice(name)
            runs.append((before, mine, after))
            before = after

        beside(f"a remembered denial / {what} of the same size", runs)


def beside(what, runs):
    def ratios(member):
        return [2 * getattr(mine, member)
                / (getattr(before, member) + getattr(after, member))
                for before, mine, after in runs]

    print(f"\n{what}, medians of {len(runs)}: "
          + ", ".join(f"{statistics.median(ratios(member)):.2f} of the {name} "
                      f"({min(ratios(member)):.2f} to "
                      f"{max(ratios(member)):.2f})"
                      for member, name in (("rate", "requests/s"),
                                           ("cpu", "CPU"))))


def asks():
    """All at once: none of them is in a hurry."""
    def run(rate, part, exact=""):
        with Stage() as stage:
            gate = stage.gate(
                policies=f"keygate_policy default rate={rate}r/m by=key "
                         f"{exact};")
            key, pace = gate.key(), rate * part / 60
            at_pace(gate, key, "/v1/loads", [(0, WARM, pace)])
            before = stage.asks()
            events = at_pace(gate, key, "/v1/loads", [(0, COUNTED, pace)])
            passed = [status for _, _, status in events].count(200)
            return passed, len(events), stage.asks() - before

    cases = [(rate, part, exact) for rate in (60, 600, 6000)
             for part in (0.5, 1) for exact in ("", "exact")
             if exact == "" or rate == 600]
    print(f"{'limit':>9}{'demand':>8}{'':8}{'admitted':>10}{'of':>7}"
          f"{'asks':>7}{'asks/admitted':>15}")
    results = together(*(lambda case=case: run(*case) for case in cases))
    for (rate, part, exact), (passed, sent, asked) in zip(cases, results):
        print(f"{rate:>6}r/m{part:>8.0%}{exact or 'leased':>8}{passed:>10}"
              f"{sent:>7}{asked:>7}{asked / passed:>15.3f}")


def states():
    """Made by the script itself, on a clock that stands between its calls."""
    with tempfile.TemporaryDirectory(prefix="keygate-bench-") as folder, \
            Stage() as stage:
        folder = pathlib.Path(folder)
        script = limits.Script(stage.redis, limits.library(folder),
                               scripts.shipped(folder)["limit"], clock=True)
        window, bucket = limits.Policy(600, 60), limits.Policy(60, 60, 20)

        for what, policy, seconds in (
                ("a window, one request", window, 1),
                ("a window, a request in 8 of its 60ths", window, 8),
                ("a window, a request in each of its 60ths", window, 61),
                ("a bucket", bucket, 1)):
            print(f"{what:45}{state(script, policy, seconds):6} bytes")


def state(script, policy, seconds):
    """Bytes of Redis's memory that one takes, its name among them, after a
    request in each of so many seconds."""
    client = script.client
    client.flushall()
    script.now = int(time.time()) * limits.SECOND

    for _ in range(seconds):
        script([policy], [NAME])
        script.now += limits.SECOND
    return client.memory_usage(NAME)


def main(bench, name, rounds):
    if name == "asks":
        asks()
    elif name == "states":
        states()
    else:
        with bench:
            (many if name == "many" else denial)(bench, rounds)
