"""What the shape of errors costs: nothing where there is none.

A success is counted in instructions, by valgrind's callgrind: one nginx
process answers requests one after the other on one connection, with
keygate_errors on and off, and two runs of different length leave what a
request takes.  An error, a 502 of an upstream that refuses, is measured in
CPU time beside nginx's own, in slices by turns.
"""

import pathlib
import re
import shutil
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from harness.client import Client, encode_request   # noqa: E402
from harness.ports import reaches, wait_for         # noqa: E402

# What stands in the server, and in its location.
GATES = {
    "behind keygate": (
        "keygate partner;", "include @ROOT@/conf/keygate_proxy_params;"
                            "proxy_pass http://app;"),
    "keygate_errors alone": ("", "include proxy.conf;"),
}

# Requests of the short run and of the long one.
SHORT, LONG = 500, 4500

SUCCESS = """
load_module @ROOT@/build/ngx_http_keygate_module.so;
@USER@
daemon off;
master_process off;
pid @FOLDER@/nginx.pid;
error_log @FOLDER@/logs/error.log crit;

events {
    worker_connections 512;
}

http {
    include common.conf;

    keygate_redis       redis://127.0.0.1:@REDIS_PORT@/0
                        connect=5s command=5s dead=5s;
    keygate_zone        zone=keygate:16m usage=off;
    keygate_keys        prefix=tf pepper=@FOLDER@/pepper;
    keygate_policy      default rate=1000000000r/m by=key;

    keygate_routes partner {
        include @ROOT@/conf/keygate-routes.conf;
    }

    server {
        listen unix:@FOLDER@/callgrind.sock;
        @GATE@
        keygate_errors @ERRORS@;
        location / {
            @PROXY@
        }
    }
}
"""


def ended(process, sock):
    """Whether an nginx that was told to end has; one without a timer would
    wait for an event with its signal unread, so it gets one."""
    if process.poll() is None:
        reaches(sock)
        return False
    return True


class Counting:
    """What counts instructions, to be mixed into run.py's Bench."""

    def of_a_request(self, gate, errors):
        """Instructions of one request, the start and the end left out."""
        return (self._instructions(gate, errors, LONG)
                - self._instructions(gate, errors, SHORT)) / (LONG - SHORT)

    def _instructions(self, gate, errors, requests):
        self.values["ERRORS"] = errors
        self._write("callgrind.conf", SUCCESS.replace("@GATE@", gate[0])
                    .replace("@PROXY@", gate[1]))
        sock = self._path("callgrind.sock")
        out = self._path("callgrind.out")

        process = self._start(0, [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}",
            "nginx", "-p", self.folder, "-c", self._path("callgrind.conf"),
            "-e", self._path("logs/error.log")])
        try:
            wait_for(lambda: reaches(sock), 60, "nginx in callgrind")
            self._ask(sock, requests)
        finally:
            process.terminate()
            wait_for(lambda: ended(process, sock), 60, "end of nginx", 0.05)
            self._end(process)

        with open(out, encoding="ascii", errors="replace") as file:
            return int(re.search(r"^(?:summary|totals): (\d+)", file.read(),
                                 re.MULTILINE)[1])

    def _ask(self, sock, requests):
        request = encode_request("GET", "/v1/loads", {
            "Authorization": f"Bearer {self.token}"})
        client = Client(sock, 60)

        for _ in range(requests):
            client.send(request)
            status = client.read().status
            if status != 200:
                sys.exit(f"bench: answered {status} and not 200")
        client.sock.close()


def successes(bench, rounds):
    print(f"\n{'instructions of a 200':26}{'off':>10}{'envelope':>10}"
          f"{'ratio':>8}")

    for name, gate in GATES.items():
        off, on = [], []
        for _ in range(rounds):
            off.append(bench.of_a_request(gate, "off"))
            on.append(bench.of_a_request(gate, "envelope"))
        off, on = statistics.median(off), statistics.median(on)
        print(f"{name:26}{off:10.0f}{on:10.0f}{on / off:8.4f}", flush=True)


def bad_gateways(bench, rounds):
    """Each shaped slice stands between two of nginx's own."""
    ratios = []
    before = bench.slice("error_nginx")
    for _ in range(rounds):
        mine, after = bench.slice("error_keygate"), bench.slice("error_nginx")
        ratios.append(2 * mine.cpu / (before.cpu + after.cpu))
        before = after

    print(f"\nCPU of a shaped 502 / of nginx's own: "
          f"{statistics.median(ratios):.3f} (median of {rounds}, "
          f"{min(ratios):.3f} to {max(ratios):.3f}; "
          f"{mine.cpu:.1f} us and {after.cpu:.1f} us)")


def main(bench, rounds):
    if shutil.which("valgrind") is None:
        sys.exit("bench: valgrind is not there")

    with bench:
        bad_gateways(bench, rounds)
        successes(bench, max(1, rounds // 3))
