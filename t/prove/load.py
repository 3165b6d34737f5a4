"""Many callers at once and the upstream they reach, in one thread.

One clock stamps both ends of a request: `sent` is taken before its bytes go
to the node, `arrived` after epoll has said that they are there at the
upstream.  Whenever the node admitted the request, it was between the two.
That holds however late this thread runs: a busy machine makes the span of a
request wider, never wrong.

    load = Load()                       # load.port: the upstream
    flow = Flow(gate.port, "/v1/loads", key.token, conns=4, gap=0.002)
    load.begin(flow, stop=time.monotonic() + 2)
    load.wait(flow)
    [r for r in load.requests if r.flow is flow and r.arrived]

Times are seconds of time.monotonic().
"""

import collections
import heapq
import itertools
import os
import select
import socket
import threading
import time

ANSWER = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
          b"Content-Length: 2\r\n\r\n{}")
MARK = b"?n="

# What nginx has not answered by then is noted as lost.
PATIENCE = 10.0

BIND_ADDRESS_NO_PORT = 24           # of linux/in.h


class Request:
    """status is 0 for one that got no answer, None while it waits for it;
    arrived is None for one that did not reach the upstream."""

    __slots__ = ("flow", "number", "sent", "arrived", "answered", "status",
                 "retry_after")

    def __init__(self, flow, number, sent):
        self.flow = flow
        self.number = number
        self.sent = sent
        self.arrived = None
        self.answered = None
        self.status = None
        self.retry_after = None


class Flow:
    """A caller: so many connections, each of which sends, waits for the
    answer and pauses for gap seconds.

    With rate= requests are sent so many a second whatever becomes of them, on
    conns connections at most.  count= ends it after so many requests, until=
    when one is answered with that status.  source= is the address it calls
    from, headers= are added to each request.
    tag is the owner's.
    """

    def __init__(self, port, path, token, conns=1, gap=0.0, rate=None,
                 count=None, until=None, source="127.0.0.1", headers=(),
                 tag=None):
        self.port = port
        self.conns = conns
        self.gap = gap
        self.rate = rate
        self.count = count
        self.until = until
        self.source = source
        self.tag = tag
        self.stop = None
        self.busy = 0
        self.idle = []
        self.done = threading.Event()
        self.head = f"GET {path}".encode() + MARK
        fields = {"Host": "localhost", "Authorization": f"Bearer {token}",
                  **dict(headers)}
        self.tail = (" HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in fields.items())
            + "\r\n").encode()


class Connection:
    """A caller's connection to a node; one request at a time."""

    def __init__(self, flow):
        self.flow = flow
        self.sock = None
        self.request = None
        self.data = b""


class Load:
    """The thread, the upstream it is, and every request so far."""

    def __init__(self):
        self.requests = []
        self._epoll = select.epoll()
        self._conns = {}
        self._served = {}
        self._timers = []
        self._order = itertools.count()
        self._tasks = collections.deque()
        self._wake_read, self._wake_write = os.pipe()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._running = True
        self._failed = None
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._epoll.register(self._listener, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, flow, start=None, stop=None):
        """Starts a flow now, or at start, until stop or flow.count."""
        flow.stop = stop
        self._do(lambda: self._at(start or 0, lambda: self._start(flow)))
        return flow

    def wait(self, flow, timeout=60):
        """Waits until a flow has ended and its last answer is there."""
        end = time.monotonic() + timeout
        while not flow.done.wait(0.2):
            if self._failed:
                raise self._failed
            if time.monotonic() > end:
                raise TimeoutError(f"a flow did not end within {timeout} s")
        return flow

    def close(self):
        self._running = False
        self._do(lambda: None)
        self._thread.join(10)
        for conn in list(self._conns.values()):
            conn.sock.close()
        for sock in list(self._served.values()):
            sock.close()
        self._listener.close()
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # The loop.

    def _do(self, task):
        self._tasks.append(task)
        os.write(self._wake_write, b"x")

    def _at(self, when, task):
        heapq.heappush(self._timers, (when, next(self._order), task))

    def _run(self):
        try:
            while self._running:
                self._turn()
        except Exception as error:      # reported by whoever waits
            self._failed = error

    def _turn(self):
        wait = 1.0
        if self._timers:
            wait = max(0.0, self._timers[0][0] - time.monotonic())

        events = self._epoll.poll(min(wait, 1.0))
        now = time.monotonic()
        later = []

        # Arrivals first: what comes later in a turn is stamped no later.
        for fd, _ in events:
            if fd in self._served:
                self._serve(fd, now)
            elif fd == self._listener.fileno():
                self._accept()
            else:
                later.append(fd)

        for fd in later:
            if fd == self._wake_read:
                os.read(fd, 4096)
            elif fd in self._conns:
                self._receive(self._conns[fd])

        while self._tasks:
            self._tasks.popleft()()

        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    # The upstream.

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._served[sock.fileno()] = sock
            self._epoll.register(sock, select.EPOLLIN)

    def _serve(self, fd, now):
        sock = self._served[fd]
        try:
            data = sock.recv(65536)
        except ConnectionError:
            data = b""

        if not data:
            del self._served[fd]
            sock.close()
            return

        # A head that comes in pieces names its number in the first.
        at = data.find(MARK)
        if at >= 0:
            number = data[at + len(MARK):data.index(b" ", at)]
            request = self.requests[int(number)]
            if request.arrived is None:
                request.arrived = now

        if data.endswith(b"\r\n\r\n"):
            try:
                sock.send(ANSWER)
            except ConnectionError:
                pass

    # The callers.

    def _start(self, flow):
        conns = [Connection(flow) for _ in range(flow.conns)]
        if flow.rate is None:
            flow.busy = flow.conns
            for conn in conns:
                # However late the flow begins, each sends once.
                if flow.count == 0:
                    self._next(conn)
                else:
                    self._send(conn)
        else:
            flow.idle = conns
            self._tick(flow, time.monotonic())

    def _over(self, flow):
        return (flow.count == 0 or not self._running
                or (flow.stop is not None and time.monotonic() >= flow.stop))

    def _tick(self, flow, due):
        """One request of a flow with a rate; what is due is made up for."""
        if self._over(flow):
            flow.count = 0
            self._ended(flow)
            return

        if flow.idle:
            flow.busy += 1
            self._send(flow.idle.pop())
        due += 1 / flow.rate
        self._at(due, lambda: self._tick(flow, due))

    def _next(self, conn):
        if self._over(conn.flow):
            self._drop(conn)
            conn.flow.busy -= 1
            self._ended(conn.flow)
        else:
            self._send(conn)

    def _ended(self, flow):
        if flow.busy == 0 and (flow.rate is None or flow.count == 0):
            for conn in flow.idle:
                self._drop(conn)
            flow.done.set()

    def _send(self, conn):
        flow = conn.flow
        if flow.count is not None:
            flow.count -= 1

        number = len(self.requests)
        conn.request = Request(flow, number, time.monotonic())
        self.requests.append(conn.request)
        conn.data = b""

        try:
            if conn.sock is None:
                self._connect(conn)
            conn.sock.sendall(flow.head + str(number).encode() + flow.tail)
        except OSError:
            self._answered(conn, 0)
            return

        request = conn.request
        self._at(time.monotonic() + PATIENCE,
                 lambda: conn.request is request and self._answered(conn, 0))

    def _connect(self, conn):
        sock = socket.socket()
        sock.settimeout(1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            # Without a port of its own yet: the kernel has more to choose
            # from once it knows where to.
            sock.setsockopt(socket.SOL_IP, BIND_ADDRESS_NO_PORT, 1)
            sock.bind((conn.flow.source, 0))
            sock.connect(("127.0.0.1", conn.flow.port))
        except OSError:
            sock.close()
            raise
        conn.sock = sock
        self._conns[sock.fileno()] = conn
        self._epoll.register(sock, select.EPOLLIN)

    def _drop(self, conn):
        if conn.sock is not None:
            del self._conns[conn.sock.fileno()]
            conn.sock.close()
            conn.sock = None

    def _receive(self, conn):
        try:
            data = conn.sock.recv(65536)
        except ConnectionError:
            data = b""

        if conn.request is None or not data:
            self._drop(conn)
            if conn.request is not None:
                self._answered(conn, 0)
            return

        conn.data += data
        head, end, body = conn.data.partition(b"\r\n\r\n")
        if not end:
            return

        fields = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()

        if len(body) < int(fields[b"content-length"]):
            return

        if b"retry-after" in fields:
            conn.request.retry_after = int(fields[b"retry-after"])
        status = int(head[9:12])
        if fields.get(b"connection") == b"close":
            self._drop(conn)
        self._answered(conn, status)

    def _answered(self, conn, status):
        request, conn.request = conn.request, None
        flow = conn.flow
        request.answered = time.monotonic()
        request.status = status

        if status == 0:
            self._drop(conn)

        if status == flow.until:
            flow.count = 0

        if flow.rate is not None:
            flow.busy -= 1
            flow.idle.append(conn)
            if flow.count == 0:
                self._ended(flow)
            return

        # One that cannot connect would spin.
        pause = flow.gap if status else max(flow.gap, 0.02)
        self._at(time.monotonic() + pause, lambda: self._next(conn))
