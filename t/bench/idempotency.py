"""What a write that happens once costs: CPU time of its first execution and of
a replay, beside a bare proxied POST of the same 1 KiB body, in slices by turns;
of a POST on a route that does not ask for it, beside the same on a gate where
no route does; and the memory that Redis takes for a stored answer of 1 KiB.
"""

import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness import Gate, RedisServer, Upstream         # noqa: E402

BODY = 1024
ANSWERS = 200

# Each measured thing: the gate it is asked of, the policy that applies there,
# how its requests have a key, and what it is held against.
KINDS = {
    "first": ("idempotency=required", "default", "new", "bare"),
    "first, exact limit": ("idempotency=required", "exact", "new", "bare"),
    "first, limits off": ("idempotency=required", "off", "new", "bare"),
    "replay": ("idempotency=required", "default", "same", "bare"),
    "replay, limits off": ("idempotency=required", "off", "same", "bare"),
    "not asked for": ("idempotency=required", "default", "none", "alone"),
}

GATE = """
load_module @ROOT@/build/ngx_http_keygate_module.so;
@USER@
worker_processes 1;
pid @FOLDER@/gateway.pid;
error_log @FOLDER@/logs/error.log warn;

events {
    worker_connections 4096;
}

http {
    include common.conf;

    keygate_redis       redis://127.0.0.1:@REDIS_PORT@/0 command=1s;
    keygate_zone        zone=keygate:64m;
    keygate_keys        prefix=tf pepper=@FOLDER@/pepper;
    keygate_policy      default rate=1000000000r/m by=key;
    keygate_policy      exact rate=1000000000r/m by=key exact;
    keygate_errors      envelope;

    keygate_routes partner {
        POST /v1/loads  loads:write @ASKED@;
        POST /v1/plain  loads:write;
    }

    server {
        listen 127.0.0.1:@PORT@ backlog=4096;
        keygate partner;
        keygate_limit @LIMIT@;
        location / {
            include @ROOT@/conf/keygate_proxy_params;
            proxy_pass http://app;
        }
    }
}
"""

WRITES = """
local n, key = 0, "@RUN@-"
local headers = {
    ["Authorization"] = "Bearer @TOKEN@",
    ["Content-Type"] = "application/json"
}
local body = string.rep("x", @BODY@)

request = function()
    if "@KEYS@" == "new" then
        n = n + 1
        headers["Idempotency-Key"] = key .. n
    elseif "@KEYS@" == "same" then
        headers["Idempotency-Key"] = key
    end

    return wrk.format("POST", "@TARGET@", headers, body)
end
"""


class Writing:
    """What sends writes, to be mixed into run.py's Bench."""

    runs = 0

    def write_slice(self, kind):
        """Runs one gateway for some seconds under load of its writes."""
        asked, limit, keys, _ = KINDS.get(
            kind, ("", "default", "none", None))
        self.values.update(
            ASKED=asked, LIMIT=limit, KEYS=keys, BODY=BODY, RUN=os.urandom(8)
            .hex(), TARGET="/v1/plain" if keys == "none" else "/v1/loads")

        if kind != "bare":
            self._write("writes_gate.conf", GATE)
        return self.slice("bare" if kind == "bare" else "writes_gate")

    def _wrk(self, seconds):
        # The warm-up's keys are not those of the run, but for "same".
        if self.values["KEYS"] == "new":
            self.runs += 1
            self.values["RUN"] += f"-{self.runs}"
        self._write("writes.lua", WRITES)

        return ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s",
                "--latency", "-s", self._path("writes.lua"),
                f"http://127.0.0.1:{self.port}/"]


def costs(bench, rounds):
    print(f"\n{'CPU of a POST of 1 KiB':22}{'ratio':>7}{'from':>7}{'to':>7}"
          f"{'us':>8}{'beside':>8}{'Redis us':>10}{'not 2xx':>9}")

    for kind, (_, _, _, beside) in KINDS.items():
        ratios, mine, others = [], [], []
        before = bench.write_slice(beside)

        for _ in range(rounds):
            one, after = bench.write_slice(kind), bench.write_slice(beside)
            ratios.append(2 * one.cpu / (before.cpu + after.cpu))
            mine.append(one)
            others.append(after.cpu)
            before = after

        print(f"{kind:22}{statistics.median(ratios):7.2f}{min(ratios):7.2f}"
              f"{max(ratios):7.2f}"
              f"{statistics.median(s.cpu for s in mine):8.1f}"
              f"{statistics.median(others):8.1f}"
              f"{statistics.median(s.redis_cpu for s in mine):10.1f}"
              f"{sum(s.bad for s in mine):9}", flush=True)


def memory():
    """Bytes of Redis for a stored answer, its name and the rest included."""
    redis, upstream = RedisServer(), Upstream()
    gate = Gate(redis, upstream,
                policies="keygate_policy default rate=1000000r/m by=key;")
    try:
        key = gate.key()
        upstream.answer(201, {"Location": "/v1/loads/ld_1"}, "y" * 1024)
        client = redis.client

        for i in range(ANSWERS + 1):
            if i == 1:
                used = client.info("memory")["used_memory_dataset"]
            gate.post("/v1/loads", key=key, idem=f"order-{i:010}-" + "k" * 20,
                      body=b"x" * BODY)

        grown = client.info("memory")["used_memory_dataset"] - used
        sizes = [client.memory_usage(name)
                 for name in client.scan_iter("kg:idem:*")]
    finally:
        gate.close()
        upstream.close()
        redis.close()

    print(f"\nRedis memory of a stored answer of 1 KiB: "
          f"{statistics.median(sizes):.0f} bytes by MEMORY USAGE, "
          f"{grown / ANSWERS:.0f} by the growth of its dataset "
          f"({ANSWERS} answers)")


def main(bench, rounds):
    with bench:
        costs(bench, rounds)
    memory()
