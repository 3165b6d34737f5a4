"""The upstream of the proof: what it executes it has written down before the
first byte of its answer, and how it answers comes from the seed.

A process of its own.  The log is a file of JSON lines: an execution when it
begins, and its number again when its whole answer is out.
"""

import asyncio
import json
import os
import random
import signal
import socket
import time

from harness.ports import free_port

from . import plan
from .history import Execution, Name, sha
from .routes import route_of

# How it answers: weight and verdict.
MANNERS = {
    "created": (42, "final"), "accepted": (4, "final"),
    "empty": (5, "final"), "see_other": (4, "final"),
    "invalid": (5, "final"), "failed": (6, "final"),
    "large": (6, "final"), "too_large": (3, "final"),
    "slow": (8, "final"),
    "hang": (2, "ambiguous"), "closed": (2, "ambiguous"),
    "reset": (2, "ambiguous"), "cut": (3, "ambiguous"),
    "cut_chunked": (2, "ambiguous"), "cut_large": (1, "ambiguous"),
    "gone": (3, "ambiguous"),
    "refused": (7, "refused"),
}

STATUS = {"created": 201, "slow": 201, "accepted": 202, "empty": 204,
          "see_other": 303, "invalid": 422, "failed": 500, "large": 200,
          "too_large": 200, "cut": 201, "cut_chunked": 201, "cut_large": 200}

CODES = {401: "unauthorized", 403: "forbidden", 408: "request_timeout",
         422: "unprocessable_content", 425: "too_early",
         429: "rate_limited", 500: "internal_error", 502: "bad_gateway",
         503: "service_unavailable", 504: "gateway_timeout"}

GONE = (408, 502, 503, 504)
REFUSED = (401, 403, 425, 429, 503)

# Longer than a lease, shorter than proxy_read_timeout, s.
SLOW = (0.8, 2.0)

# Of the answers of these, which some routes keep and others do not, bytes: too
# large is more than a route keeps that says nothing.
LARGE = (20000, 60000)
TOO_LARGE = 600000


class Upstream:
    """calm: every answer is 201."""

    def __init__(self, seed, log):
        self.seed = seed
        self.log = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self.calm = False
        self.count = 0
        self.tries = {}

    def note(self, **what):
        os.write(self.log, json.dumps(what).encode() + b"\n")

    async def serve(self, reader, writer):
        try:
            while await self.one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def one(self, reader, writer):
        """Reads a request, executes and answers it; whether another may come
        on the connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head[:-4].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, value in
                  (line.split(":", 1) for line in lines)}
        body = await read_body(reader, fields)
        method, target, _ = line.split(" ")
        route = route_of(target)

        name = Name(fields.get("x-keygate-org"), fields.get("x-keygate-mode"),
                    fields.get("idempotency-key"))
        turn = self.tries[name] = self.tries.get(name, 0) + 1
        rng = random.Random(f"{self.seed} {name} {turn}")
        manner = "created" if self.calm else rng.choices(
            list(MANNERS), [weight for weight, _ in MANNERS.values()])[0]

        self.count += 1
        number = self.count
        status = {"gone": rng.choice(GONE), "refused": rng.choice(REFUSED)
                  }.get(manner, STATUS.get(manner, 0))
        request_id = fields.get("x-request-id")
        head, body_out = answer(rng, manner, status, number, request_id, name)

        self.note(n=number, name=name, id=request_id, start=time.monotonic(),
                  variant=plan.variant_of(name.key, method, target,
                                          fields.get("content-type"), body),
                  manner=manner, verdict=MANNERS[manner][1], status=status,
                  sha=sha(body_out), location=location(manner, number),
                  kept=len(body_out) <= route.keeps, durable=route.durable)

        if manner == "hang":
            await reader.read()
            return False

        if manner == "slow":
            await asyncio.sleep(rng.uniform(*SLOW))

        if manner in ("closed", "reset"):
            await asyncio.sleep(rng.uniform(0, 0.2))
            end(writer, manner == "reset")
            return False

        if manner.startswith("cut"):
            whole = head + frame(body_out, manner == "cut_chunked")
            writer.write(whole[:rng.randrange(len(head), len(whole) - 8)])
            await writer.drain()
            await asyncio.sleep(rng.uniform(0, 0.2))
            end(writer, rng.random() < 0.5)
            return False

        writer.write(head + frame(body_out, manner == "accepted"))
        await writer.drain()
        self.note(n=number, done=time.monotonic())
        return True


async def read_body(reader, fields):
    if "chunked" not in fields.get("transfer-encoding", ""):
        return await reader.readexactly(int(fields.get("content-length", 0)))

    body = b""
    while True:
        size = int(await reader.readline(), 16)
        body += (await reader.readexactly(size + 2))[:-2]
        if size == 0:
            return body


def location(manner, number):
    return (f"/v1/loads/{number}" if STATUS.get(manner, 500) < 400 else None)


def answer(rng, manner, status, number, request_id, name):
    """The head and the body of it, every one unlike every other."""
    text = {"execution": number, "org": name.org, "mode": name.mode,
            "key": name.key, "requestId": request_id}

    if status >= 400:
        text = {"error": {"code": CODES[status], "message": "As told.",
                          "details": {"execution": number}},
                "requestId": request_id}

    if manner == "large":
        text["pad"] = f"{number:08d}" * (rng.randrange(*LARGE) // 8)
    elif manner in ("too_large", "cut_large"):
        text["pad"] = f"{number:08d}" * (TOO_LARGE // 8)

    body = json.dumps(text).encode()
    lines = [f"HTTP/1.1 {status} Told", "Content-Type: application/json"]

    if location(manner, number):
        lines.append(f"Location: {location(manner, number)}")
    if status in (425, 429) or (status == 503 and manner == "refused"):
        lines.append("Retry-After: 1")

    if manner in ("empty", "see_other"):
        body = b""
        lines.remove("Content-Type: application/json")

    if manner in ("accepted", "cut_chunked"):
        lines.append("Transfer-Encoding: chunked")
    elif manner != "empty":
        lines.append(f"Content-Length: {len(body)}")

    return "\r\n".join(lines).encode() + b"\r\n\r\n", body


def frame(body, chunked):
    if not chunked:
        return body
    half = len(body) // 2
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece)
                    for piece in (body[:half], body[half:])
                    ) + b"0\r\n\r\n"


def end(writer, reset):
    if reset:
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


def main(pipe, seed, log):
    """Runs it until the pipe ends.  What it is told: "calm", "refuse",
    "accept"; it says its port first, and each word back when it is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(pipe, Upstream(seed, log)))


async def serve(pipe, upstream):
    loop = asyncio.get_running_loop()
    words = asyncio.Queue()

    def told():
        try:
            words.put_nowait(pipe.recv())
        except EOFError:
            loop.remove_reader(pipe.fileno())
            words.put_nowait("end")

    async def listen(port):
        return await asyncio.start_server(
            upstream.serve, "127.0.0.1", port, backlog=1024, limit=1 << 20,
            reuse_address=True)

    port = free_port()
    server = await listen(port)
    pipe.send(port)
    loop.add_reader(pipe.fileno(), told)

    while (word := await words.get()) != "end":
        if word == "calm":
            upstream.calm = True
        elif word == "refuse":
            server.close()
        elif word == "accept":
            server = await listen(port)
        pipe.send(word)


def read_log(path):
    """The executions of a log."""
    found = {}

    with open(path, encoding="ascii") as file:
        for line in file:
            what = json.loads(line)
            if "done" in what:
                found[what["n"]].done = what["done"]
            else:
                what["name"] = Name(*what["name"])
                found[what["n"]] = Execution(**what)

    return list(found.values())
