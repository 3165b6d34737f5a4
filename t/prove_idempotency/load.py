"""The clients of a run, in a process of their own, and the operator, who frees
some of the keys whose outcome is unknown, and tries to free running ones.
"""

import asyncio
import random
import signal
import time

from harness.client import encode_request

from . import plan
from .history import Request, Resolution
from .http1 import parsed, seen, talk
from .http2 import Http2

# So many at a time.
OPEN = 400

# What the operator hears of a key makes him free it, or try to, with this
# probability, after s.
RESOLVES = {"idempotency_outcome_unknown": (0.5, 1.0),
            "idempotency_in_progress": (0.2, 0.3)}

# The client hears of that after so many s.
TELLS_AFTER = (0, 2)

# Clients of these leave before their answer.
LEAVE = ("close", "reset", "half", "h2_reset", "h2_half")


class Load:
    """targets: the nodes' ports, of HTTP/1.1 and of HTTP/2; admins: their admin
    sockets; tokens: {(org, mode): token}.  requests and resolutions are what
    came of it."""

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
            for request in await self.act(step):
                self.hears(request)
        finally:
            self.gate.release()

    async def act(self, step):
        """The requests of a step."""
        if step.manner.startswith("h2"):
            return await self.over_http2(step)
        return [await self.ask(step.name, step.variant, step.node,
                               step.manner, step.patience)]

    # The operator.

    def hears(self, request):
        """Of a refusal, and whether he will do something."""
        code = request.answer and request.answer.error.get("code")
        if code not in RESOLVES or request.name in self.resolving:
            return

        chance, after = RESOLVES[code]
        if self.rng.random() < chance:
            self.resolving.add(request.name)
            self.spawn(self.resolve(request, self.rng.uniform(0, after)))

    async def resolve(self, request, after):
        """Frees the key, and the client tries again, at both nodes, at once
        or when the operator has told him so."""
        await asyncio.sleep(after)
        name = request.name

        for node in (request.node, 1 - request.node):
            status = await self.freed(name, node)
            if status in (200, 404, 409):
                break

        self.resolving.discard(name)
        if status == 409:
            return

        await asyncio.sleep(self.rng.choice(TELLS_AFTER))
        await asyncio.gather(*(self.ask(name, request.variant, node, "read")
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

    # The clients.

    def begin(self, name, variant, node, manner, phase="load"):
        """A request that is about to be sent, and its headers."""
        payload = plan.payload(name.key, variant)
        request = Request(name, variant, node, time.monotonic(),
                          manner=manner, phase=phase,
                          whole=not (manner.endswith("half")
                                     and payload.body))
        self.requests.append(request)
        return request, payload, {
            "Authorization": f"Bearer {self.tokens[name[:2]]}",
            "Idempotency-Key": name.key, "Content-Type": payload.kind}

    async def ask(self, name, variant, node, manner, patience=0,
                  phase="load"):
        """One request over HTTP/1.1, and what came of it."""
        request, payload, head = self.begin(name, variant, node, manner,
                                            phase)
        method, target, _, body = payload
        head["Connection"] = "close"

        if manner == "chunked":
            head["Transfer-Encoding"] = "chunked"
            body = body and b"%x\r\n%s\r\n" % (len(body), body)
            body += b"0\r\n\r\n"

        data = encode_request(method, target, head, body)
        pieces = [data if request.whole else data[:-(len(body) // 2)]]
        if manner == "slow":
            pieces = [data[:-9], data[-9:]]

        received, request.lost = await talk(
            asyncio.open_connection("127.0.0.1", self.targets[node][0]),
            *pieces, leaves=patience if manner in LEAVE else None,
            reset=manner == "reset")

        response = parsed(received)
        request.end = time.monotonic()

        if response is not None and response.complete:
            request.answer = seen(response.status, response.get,
                                  response.body)
            request.lost = None
        elif request.lost is None:
            request.lost = "cut" if received else "closed"
        return request

    async def over_http2(self, step):
        """The requests of a step on one connection: twins at the same time, or
        the whole one behind one that was reset."""
        began = time.monotonic()

        try:
            connection = await Http2.open(self.targets[step.node][1])
        except OSError as error:
            request, *_ = self.begin(step.name, step.variant, step.node,
                                     step.manner)
            request.end, request.opened = time.monotonic(), began
            request.lost = type(error).__name__
            return [request]

        try:
            if step.manner == "h2_twins":
                return await asyncio.gather(*(
                    self.stream(connection, step, step.manner)
                    for _ in range(2)))

            requests = [await self.stream(connection, step, step.manner)]
            if requests[0].lost == "left":
                requests.append(await self.stream(connection, step, "h2"))
            return requests
        finally:
            await connection.close()

    async def stream(self, connection, step, manner):
        """One request over HTTP/2.  Twins do not say how long they are."""
        request, payload, head = self.begin(step.name, step.variant,
                                            step.node, manner)
        if payload.body and manner != "h2_twins":
            head["Content-Length"] = str(len(payload.body))

        request.opened = connection.opened
        request.answer, request.lost = await connection.ask(
            payload, head, request.whole,
            step.patience if manner in LEAVE else None)
        request.end = time.monotonic()
        return request


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
