"""What an exact decision costs Redis, beside EVALSHA of `return 1`.

Both run with the same keys and arguments on the same connection, so many
commands to a write; the CPU is what the kernel accounts to redis-server, and
the commands' own time what Redis measures of itself (commandstats).  The
states are those of steady demand at the limit, one for each call, each at a
moment of its own: at 60 a minute a decision drops an entry and adds one, at
600 one of ten does.
"""

import os
import pathlib
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import redis

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness import scripts                                 # noqa: E402
from harness.ports import reaches, wait_for                 # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", 9))
COUNT = int(os.environ.get("COUNT", 4000))
DEPTHS = (1, 16, 256)
WINDOW = 60
SECOND = 1000000


def steady(rate, now, one):
    """The state of a key whose demand is at the limit, as limit.lua keeps it;
    one of its slices' requests is still to come."""
    slices = WINDOW
    each = rate // slices
    size = WINDOW * SECOND // slices
    done = one % each

    entries = [[now - WINDOW * SECOND + size * i, each] for i in range(slices)]
    newest = [now - 1 if done else now - size, done or each]
    if done:
        entries[0][0] = now + 3600 * SECOND - WINDOW * SECOND
        entries.pop(0)
        entries[0] = [now - WINDOW * SECOND + 30 * SECOND, each]
    else:
        entries.pop()

    def block(some):
        return b"".join(struct.pack("<dI", *entry)
                        for entry in some).ljust(96, b"\0")

    start = random.randrange(7) if not done else 0
    ring = entries[8 - start:8 - start + 48]
    first = [[0, 0]] * start + entries[:8 - start]
    last = entries[56 - start:]
    if len(last) > 8:
        ring, last = ring + last[:8], last[8:]
    total = sum(count for _, count in entries) + newest[1]
    head = struct.pack("<BIIdddd5B2x", 2, total, newest[1], newest[0],
                       entries[0][0], now // 1000 + 2 * WINDOW * 1000,
                       now - 1000 * SECOND, start, 8, len(last), 0,
                       len(ring) // 8)
    return head + block(last) + block(first) + block(ring)


class Server:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="keygate-bench-")
        self.path = os.path.join(self.folder, "redis.sock")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.path,
             "--save", "", "--dir", self.folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.path) and reaches(self.path), 10,
                 "redis-server")
        self.client = redis.Redis(unix_socket_path=self.path)

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu(self):
        """ns so far, of all its threads."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat",
                      encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total

    def run(self, commands, depth):
        """us of CPU and of commandstats for each of the commands."""
        self.client.config_resetstat()
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        before = self.cpu()

        if depth > 100:
            data = b"".join(commands) + b"*1\r\n$4\r\nPING\r\n"
            sender = threading.Thread(target=sock.sendall, args=(data,))
            sender.start()
            self.until_pong(sock)
            sender.join()
        else:
            for i in range(0, len(commands), depth):
                sock.sendall(b"".join(commands[i:i + depth])
                             + b"*1\r\n$4\r\nPING\r\n")
                self.until_pong(sock)

        cpu = self.cpu() - before
        sock.close()
        stats = self.client.info("commandstats")["cmdstat_evalsha"]
        if stats["failed_calls"]:
            sys.exit("bench: the script failed")
        return cpu / 1e3 / len(commands), stats["usec_per_call"]

    @staticmethod
    def until_pong(sock):
        tail = b""
        while not tail.endswith(b"+PONG\r\n"):
            data = sock.recv(1 << 16)
            if not data:
                sys.exit("bench: redis-server has gone")
            tail = (tail + data)[-16:]


def command(sha, key, args):
    parts = [b"EVALSHA", sha.encode(), b"1", key, args]
    return b"*5\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part)
                                for part in parts)


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="keygate-bench-"))
    server = Server()
    client = server.client
    shas = [client.script_load("return 1"),
            client.script_load(scripts.shipped(folder)["limit"])]
    keys = [b"kg:limit:{org_%08d}:default:60:k=key_%020d" % (i, i)
            for i in range(COUNT)]
    runs = {}

    try:
        for _ in range(ROUNDS):
            for rate in (60, 600):
                args = struct.pack("<IBII", 1, 0, rate, WINDOW)
                for depth in DEPTHS:
                    pair = []
                    for sha in shas:
                        now = time.time_ns() // 1000
                        fill = client.pipeline(transaction=False)
                        for i, key in enumerate(keys):
                            fill.set(key, steady(rate, now, i),
                                     px=2 * WINDOW * 1000)
                        fill.execute()
                        pair.append(server.run(
                            [command(sha, key, args) for key in keys], depth))
                    runs.setdefault((rate, depth), []).append(pair)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)

    print(f"{'requests/min':>12}{'to a write':>12}{'CPU ratio':>11}"
          f"{'own ratio':>11}{'CPU us':>9}{'own us':>9}")
    for (rate, depth), pairs in runs.items():
        ratios = [statistics.median(pair[1][i] / pair[0][i] for pair in pairs)
                  for i in (0, 1)]
        costs = [statistics.median(pair[1][i] for pair in pairs)
                 for i in (0, 1)]
        print(f"{rate:>12}{'all' if depth > 100 else depth:>12}"
              f"{ratios[0]:11.2f}{ratios[1]:11.2f}"
              f"{costs[0]:9.2f}{costs[1]:9.2f}")


if __name__ == "__main__":
    main()
