"""The clients of a run, in a process of their own, and the operator, who frees
some of the keys whose outcome is unknown.
"""

import asyncio
import random
import signal
import socket
import time

from harness.client import Client, Closed, encode_request

from . import plan
from .history import Answer, Request, Resolution

# A request without an answer by then has none, s.
PATIENCE = 30

# So many at a time.
OPEN = 400

# The operator frees a key he hears of with this probability, after s.
RESOLVES = 0.5
RESOLVES_AFTER = 1.0


class Received(Client):
    """A connection that has ended, and what came on it."""

    def __init__(self, data):        # no socket: all is in the buffer
        self.buffer = data

    def _fill(self):
        return False

    def read_all(self):
        data, self.buffer = self.buffer, b""
        return data


class Load:
    """targets: the nodes' ports; admins: their admin sockets; tokens: {(org,
    mode): token}.  requests and resolutions are what came of it."""

    def __init__(self, seed, targets, admins, tokens):
        self.rng = random.Random(f"operator {seed}")
        self.targets = targets
        self.admins = admins
        self.tokens = tokens
        self.requests = []
        self.resolutions = []
        self.gate = asyncio.Semaphore(OPEN)
        self.resolving = set()
        self.tasks = set()
        self.broken = []

    async def run(self, steps, tick):
        """Asks what the plan says, when it says; tick() once a second."""
        began = ticked = time.monotonic()

        for step in steps:
            wait = began + step.at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await self.gate.acquire()
            self.spawn(self.step(step))

            if time.monotonic() > ticked + 1:
                ticked = time.monotonic()
                tick()

        while self.tasks:
            await asyncio.wait(self.tasks)
        if self.broken:
            raise self.broken[0]

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task):
        self.tasks.discard(task)
        if task.exception():
            self.broken.append(task.exception())

    async def step(self, step):
        try:
            request = await self.ask(step.name, step.variant, step.node,
                                     step.manner, step.patience)
        finally:
            self.gate.release()

        answer = request.answer
        if (answer and step.name not in self.resolving
                and answer.error.get("code") == "idempotency_outcome_unknown"
                and self.rng.random() < RESOLVES):
            self.resolving.add(step.name)
            self.spawn(self.resolve(step))

    async def resolve(self, step):
        """Frees the key, and the client tries again, at both nodes, at once
        or when the operator has told him so."""
        await asyncio.sleep(self.rng.uniform(0, RESOLVES_AFTER))

        for node in (step.node, 1 - step.node):
            if await self.freed(step.name, node) in (200, 404, 409):
                break

        self.resolving.discard(step.name)
        await asyncio.sleep(self.rng.choice((0, 2 * RESOLVES_AFTER)))

        await asyncio.gather(*(self.ask(step.name, step.variant, node, "read")
                               for node in range(len(self.targets))))

    async def freed(self, name, node):
        """The status of what the operator asked for, None without one."""
        start = time.monotonic()
        data, _ = await talk(
            asyncio.open_unix_connection(self.admins[node]), encode_request(
                "DELETE", f"/orgs/{name.org}/idempotency/{name.mode}/"
                f"{name.key}", {"Connection": "close"}))
        answer = parsed(data)
        status = answer and answer.status
        self.resolutions.append(Resolution(name, start, time.monotonic(),
                                           status))
        return status

    async def ask(self, name, variant, node, manner, patience=0,
                  phase="load"):
        """One request, and what came of it."""
        request = Request(name, variant, node, time.monotonic(),
                          manner=manner, phase=phase,
                          whole=manner != "half")
        self.requests.append(request)
        target, kind, body = plan.payload(name.key, variant)
        head = {"Authorization": f"Bearer {self.tokens[name[:2]]}",
                "Idempotency-Key": name.key, "Content-Type": kind,
                "Connection": "close"}

        if manner == "chunked":
            head["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

        data = encode_request("POST", target, head, body)
        cut = len(data) if manner != "half" else len(data) - len(body) // 2
        pieces = [data[:cut]]
        if manner == "slow":
            pieces = [data[:-9], data[-9:]]

        leaves = patience if manner in ("close", "reset", "half") else None
        received, request.lost = await talk(
            asyncio.open_connection("127.0.0.1", self.targets[node]),
            *pieces, leaves=leaves, reset=manner == "reset")

        response = parsed(received)
        request.end = time.monotonic()

        if response is not None and response.complete:
            request.answer = seen(response)
            request.lost = None
        elif request.lost is None:
            request.lost = "cut" if received else "closed"
        return request


async def talk(opening, *pieces, leaves=None, reset=False):
    """Sends the pieces and reads until the peer ends: (bytes, reason).  leaves:
    the client goes after so many seconds.  The reason is None when the peer
    closed the connection as it should."""
    received, writer, reason = b"", None, None

    async def exchange():
        nonlocal received
        for i, piece in enumerate(pieces):
            if i:
                await asyncio.sleep(0.05)
            writer.write(piece)
            await writer.drain()
        while data := await reader.read(65536):
            received += data

    try:
        reader, writer = await asyncio.wait_for(opening, PATIENCE)
        await asyncio.wait_for(exchange(),
                               PATIENCE if leaves is None else leaves)
    except asyncio.TimeoutError:
        reason = "timeout" if leaves is None else "left"
    except OSError as error:
        reason = type(error).__name__

    if writer is not None:
        if reset:
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER,
                b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()
    return received, reason


def parsed(data):
    """The answer in it, None when there is none."""
    try:
        return Received(data).read("POST")
    except (Closed, ValueError):
        return None


def seen(response):
    """An answer as the history has it."""
    return Answer(response.status, response.get("X-Request-Id"),
                  response.body, type=response.get("Content-Type"),
                  location=response.get("Location"),
                  replayed=response.get("Idempotent-Replayed"),
                  original=response.get("Original-Request-Id"),
                  retry_after=response.get("Retry-After"))


async def probe(load, names, phase, find):
    """Asks of every key what find(name) says, (variant, node) pairs one after
    the other; a 503 is asked again, because the faults are over."""
    queue = iter(names)

    async def one():
        for name in queue:
            for variant, node in find(name):
                for _ in range(20):
                    request = await load.ask(name, variant, node, "read",
                                             phase=phase)
                    if not request.answer or request.answer.status != 503:
                        break
                    await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(32)))


def main(pipe, seed, targets, admins, tokens, steps):
    """Runs the plan, then the probes it is told of; sends the number of
    requests begun as it goes, and what it saw at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(pipe, Load(seed, targets, admins, tokens), steps))


async def serve(pipe, load, steps):
    await load.run(steps, lambda: pipe.send(("at", len(load.requests))))
    pipe.send(("load", load.requests, load.resolutions))

    while True:
        try:
            phase, wanted = pipe.recv()
        except EOFError:
            return
        before = len(load.requests)
        await probe(load, wanted, phase, wanted.get)
        pipe.send((phase, load.requests[before:], []))
