"""Real gates under requests at an even pace: what plot_limits.py and limits.py
drive.
"""

import contextlib
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness import Gate, RedisServer, Upstream     # noqa: E402

# Ports are looked for by one thread at a time.
STARTING = threading.Lock()

# Usage goes to Redis too, and is not what is asked here.
PIECES = {
    "workers": "2",
    "level": "warn",
    "zone": "keygate_zone zone=keygate:16m usage=off;",
    "redis_parameters": "connect=200ms command=500ms",
    "http": "keepalive_requests 1000000;",
}


def at_pace(gate, key, target, paces):
    """Requests on one connection, (from, to, requests/s) after each other;
    returns the (sent, answered, status) of each, in s from now."""
    events = []
    begin = time.monotonic()
    headers = {"Authorization": f"Bearer {key.token}"}

    with gate.connect(timeout=30) as client:
        for start, end, pace in paces:
            for i in range(int((end - start) * pace)):
                wait = begin + start + i / pace - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                sent = time.monotonic() - begin
                answer = client.request("GET", target, headers)
                events.append((sent, time.monotonic() - begin,
                               answer.status))
    return events


def together(*calls):
    """The results of calls that run at the same time."""
    results = [None] * len(calls)

    def run(i, call):
        results[i] = call()

    threads = [threading.Thread(target=run, args=pair)
               for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    if None in results:
        sys.exit("a run has failed")
    return results


class Stage(contextlib.ExitStack):
    """Gates, one Redis for them and an upstream, until the end."""

    def __init__(self):
        super().__init__()
        with STARTING:
            self.redis = RedisServer()
            self.callback(self.redis.close)
            self.upstream = Upstream()
            self.callback(self.upstream.close)

    def gate(self, **pieces):
        with STARTING:
            gate = Gate(self.redis, self.upstream, **{**PIECES, **pieces})
        self.callback(gate.close)
        return gate

    def asks(self):
        """How often limits were asked for."""
        return self.redis.calls("evalsha") + self.redis.calls("eval")
