"""What looking keys up costs: scripts/bench flood | room | million.

flood       One address sends unknown, well-formed keys, as many as it can.
            Beside nginx's own `return 401` with a body and headers of the same
            size, and the lookups that Redis saw beside those it may see.
room        Keys are asked for by turns until the zone says that it is full.
million     Two gates with a zone of 320 MB: at one a million keys are in use,
            at the other a thousand of them.  CPU per proxied request.
"""

import json
import os
import pathlib
import random
import statistics
import sys
import time

import redis

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness import Client, records                 # noqa: E402
from harness.client import encode_request           # noqa: E402
from harness.ports import free_port, reaches, wait_for      # noqa: E402

ORGS = 10_000           # that the keys are of
FEW = 1000
UNKNOWN = 20_000        # different keys of the flood
SCOPES = ["loads:read", "loads:write"]

# Keygate with nothing but keys to ask about.
KEYGATE = """
load_module @ROOT@/build/ngx_http_keygate_module.so;
@USER@
worker_processes 1;
pid @FOLDER@/gateway-@PORT@.pid;
error_log @FOLDER@/logs/error-@PORT@.log warn;

events {
    worker_connections 4096;
}

http {
    include common.conf;

    keygate_redis     redis://127.0.0.1:@REDIS_PORT@/0 connect=5s command=5s
                      dead=5s;
    keygate_zone      zone=keygate:@ZONE@;
    keygate_keys      prefix=tf pepper=@FOLDER@/pepper;
    keygate_policy    default @LIMIT@ by=key;
    keygate_errors    envelope;

    keygate_routes partner {
        include @ROOT@/conf/keygate-routes.conf;
    }

    server {
        listen 127.0.0.1:@PORT@ backlog=4096;
        keygate partner;
        keygate_limit @LIMITS@;
        location / {
            include @ROOT@/conf/keygate_proxy_params;
            proxy_pass http://app;
        }
    }
}
"""

# nginx's own refusal, with the headers and the body of the gate's.
NGINX = """
@USER@
worker_processes 1;
pid @FOLDER@/gateway.pid;
error_log @FOLDER@/logs/error.log warn;

events {
    worker_connections 4096;
}

http {
    include common.conf;

    server {
        listen 127.0.0.1:@PORT@ backlog=4096;
        default_type application/json;
        @HEADERS@
        location / {
            return @STATUS@ '@BODY@';
        }
    }
}
"""

# keygate_failures as it is by default.
FAILURES, LOOKUPS = 120, 10


class Keys:
    """What these scenarios need, to be mixed into run.py's Bench."""

    tokens = None       # FILE FIRST COUNT HOW of tokens.lua

    def _wrk(self, seconds):
        url = f"http://127.0.0.1:{self.port}/v1/loads"
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s",
                   "--latency"]
        return [*command, "-s", self._path("tokens.lua"), url, "--",
                *map(str, self.tokens)]

    def redis_client(self):
        return redis.Redis(port=self.values["REDIS_PORT"])

    def lookups(self):
        """GETs that Redis has run."""
        stats = self.redis_client().info("commandstats")
        return stats.get("cmdstat_get", {}).get("calls", 0)

    def write_tokens(self, name, tokens):
        path = self._path(name)
        with open(path, "w", encoding="ascii") as file:
            file.write("".join(token + "\n" for token in tokens))
        return path

    def fill(self, count):
        """Writes so many typical keys; the file of their tokens."""
        client, tokens = self.redis_client(), []
        pipe = client.pipeline(transaction=False)
        org = json.dumps({"v": 1, "access": "live"})
        for n in range(ORGS):
            pipe.set(f"kg:org:{{org-{n:05}}}", org)

        for n in range(count):
            token = records.make_token("live")
            tokens.append(token)
            digest = records.digest(self.pepper, token)
            pipe.set(f"kg:key:{{{digest}}}", json.dumps({
                "v": 1, "id": f"key_{n:020}", "org": f"org-{n % ORGS:05}",
                "mode": "live", "scopes": SCOPES, "name": "Production",
                "hint": f"{token[:12]}...{token[-4:]}", "pepper": "0a1b2c3d",
                "createdAt": "2026-11-22T00:00:00Z"}))
            if n % 5000 == 0:
                pipe.execute()
        pipe.execute()
        return self.write_tokens("tokens", tokens)

    def gate(self, zone, port, limit=None):
        """A gate of KEYGATE that goes on until the end; limit is the policy
        that applies, by default none."""
        self.values.update(ZONE=zone, PORT=port, LIMIT=limit or "rate=60r/m",
                           LIMITS="default" if limit else "off")
        name = f"keys-{port}.conf"
        self._write(name, KEYGATE)
        process = self._start(0, self._nginx(name))
        wait_for(lambda: reaches(("127.0.0.1", port)), 10, name)
        return process

    def is_full(self, port):
        log = pathlib.Path(self._path(f"logs/error-{port}.log"))
        return "is full: the records" in log.read_text("utf-8")


def flood(bench, rounds):
    bench.tokens = (bench.write_tokens("unknown", [
        records.make_token("live") for _ in range(UNKNOWN)]),
        0, UNKNOWN, "turns")
    with open(bench.tokens[0], encoding="ascii") as file:
        same_answer(bench, "flood", file.read().split(), 401,
                    "too_many_failures", 401)

    ratios, cpus, asked = [], [], []
    before = bench.slice("refusal")
    for _ in range(rounds):
        lookups, start = bench.lookups(), time.monotonic()
        mine = bench.slice("flood")
        seconds = time.monotonic() - start
        may = FAILURES * (1 + seconds / 60) + LOOKUPS * (1 + seconds)
        asked.append((bench.lookups() - lookups, may))
        after = bench.slice("refusal")
        ratios.append(2 * mine.rate / (before.rate + after.rate))
        cpus.append(2 * mine.cpu / (before.cpu + after.cpu))
        before = after

    print(f"\nflood of unknown keys / return 401, medians of {rounds}: "
          f"{statistics.median(ratios):.2f} of the requests/s "
          f"({min(ratios):.2f} to {max(ratios):.2f}), "
          f"{statistics.median(cpus):.2f} of the CPU "
          f"({mine.cpu:.1f} us and {after.cpu:.1f} us)")
    print("lookups of a slice, and how many it may: "
          + ", ".join(f"{lookups} of {may:.0f}" for lookups, may in asked))


def same_answer(bench, name, tokens, until, code, status, limit=None):
    """Writes NAME.conf, and refusal.conf so that it answers with a status of
    nginx's own and as many bytes as the gate does when it has had enough: when
    no answer is until any more, and its code is code."""
    port = bench.port
    gate = bench.gate("16m", free_port(), limit)
    client = Client(("127.0.0.1", bench.values["PORT"]), 10)
    bench.values["PORT"] = port
    bench._write(f"{name}.conf", KEYGATE)

    for token in tokens:
        client.send(encode_request("GET", "/v1/loads", {
            "Authorization": f"Bearer {token}"}))
        answer = client.read()
        if answer.status != until:
            break
    client.close()
    bench._end(gate)

    if answer.code != code:
        sys.exit(f"bench: {answer} is not the refusal to compare with")

    own = ("server", "date", "content-type", "content-length", "connection")
    bench.values.update(
        STATUS=status, BODY=answer.body.decode(), HEADERS="\n".join(
            f"add_header {name} '{value}' always;"
            for name, value in answer.headers if name.lower() not in own))
    bench._write("refusal.conf", NGINX)


def room(bench, zone=32):
    count = zone * 1024 * 1024 // 128
    tokens, port = bench.fill(count), free_port()
    bench.gate(f"{zone}m", port)
    bench.port, bench.tokens = port, (tokens, 0, count, "turns")

    load = bench._start(1, bench._wrk(600))
    lookups = bench.lookups
    while not bench.is_full(port):
        asked = lookups()
        time.sleep(0.02)
    bench._end(load)

    keys = asked - ORGS
    print(f"\na zone of {zone} MB was full with {keys} keys and {ORGS} "
          f"organisations in it: {zone * 1024 * 1024 / keys:.0f} bytes for "
          "each key, of all that is in the zone")


def million(bench, rounds, count):
    tokens = bench.fill(count)
    memory = bench.redis_client().info("memory")["used_memory"]
    print(f"{count} keys and {ORGS} organisations take {memory >> 20} MiB in "
          "Redis", flush=True)

    gates = {}
    for many in (count, FEW):
        gates[many] = (bench.gate("320m", free_port()), bench.values["PORT"])
        warm(bench, tokens, gates[many][1], many)

    asked, pairs = bench.lookups(), []
    for _ in range(rounds):
        slices = {}
        for many in random.sample(list(gates), 2):
            process, bench.port = gates[many]
            bench.tokens = (tokens, 0, many, "random")
            slices[many] = bench.measure(process)
        pairs.append((slices[count], slices[FEW]))

    ratios = [mine.cpu / few.cpu for mine, few in pairs]
    print(f"\nCPU per request, {count} keys in use / {FEW}, median of {rounds}:"
          f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
          f"{max(ratios):.2f}; "
          f"{statistics.median(p[0].cpu for p in pairs):.1f} us and "
          f"{statistics.median(p[1].cpu for p in pairs):.1f} us); "
          f"{sum(p[0].bad + p[1].bad for p in pairs)} not 2xx, "
          f"{bench.lookups() - asked} lookups meanwhile")

    if any(bench.is_full(port) for _, port in gates.values()):
        sys.exit("bench: a zone is full")


def warm(bench, tokens, port, count):
    """Asks for every key by turns until all are in the zone."""
    bench.port, bench.tokens = port, (tokens, 0, count, "turns")
    load, before = bench._start(1, bench._wrk(900)), None
    asked = bench.lookups()
    while asked != before:
        time.sleep(2)
        before, asked = asked, bench.lookups()
    bench._end(load)


def main(bench, name, rounds):
    count = os.environ.get("KEYS", "1000000")
    if not count.isdigit() or int(count) <= FEW:
        sys.exit(f"bench: KEYS={count} is not a number over {FEW}")

    with bench:
        if name == "flood":
            flood(bench, rounds)
        elif name == "room":
            room(bench)
        else:
            million(bench, rounds, int(count))
