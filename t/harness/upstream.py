"""The partner API behind the gate: answers what a test tells it to.

Every request is recorded as it arrived, the raw target included.  Without
instructions each is answered 200 with a small JSON body that carries the
request id it was given.
"""

import gzip as gzip_module
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from .client import as_bytes
from .ports import free_port, wait_for


@dataclass
class Seen:
    """A request as the upstream got it; complete: its body came whole."""
    method: str
    target: str
    headers: list
    body: bytes = b""
    complete: bool = True
    connection: int = 0
    time: float = field(default_factory=time.monotonic)

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)


@dataclass
class Answer:
    """One instruction; see Upstream.answer()."""
    status: int = 200
    headers: list = field(default_factory=list)
    body: bytes = None
    delay: float = 0
    hang: bool = False
    cut: object = None
    length: int = None
    chunked: bool = False
    gzip: bool = False
    raw: bytes = None
    stall: bool = False
    close: bool = False
    method: str = None
    path: str = None
    times: int = None

    def fits(self, seen):
        return (self.times != 0
                and self.method in (None, seen.method)
                and (self.path is None or re.search(self.path, seen.target)))


class Upstream:
    """Listens on 127.0.0.1:port, a thread a connection."""

    def __init__(self):
        self.port = free_port()
        self.requests = []
        self.connections = 0
        self._answers = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._sockets = set()
        self._listener = None
        self.accept()

    def answer(self, status=200, headers=(), body=None, **how):
        """How requests are answered from now on; the last one told that fits
        is taken.

        headers     pairs or a dict; Content-Type is application/json
        body        bytes, text, or what is made JSON; None: the default body
        delay       seconds before the answer
        hang        no answer until release(), or until the gate goes away
        cut         "before": closed without a byte; "reset": the same by a
                    reset; "headers": after them; a number: after so many
                    bytes of the body
        length      a Content-Length other than the body's
        chunked     Transfer-Encoding: chunked
        gzip        Content-Encoding: gzip, and the body so encoded
        raw         these bytes are the whole answer, then it closes
        stall       ... but not before release(), or the gate has gone away
        close       Connection: close
        method      only for this method
        path        only for targets this regular expression is found in
        times       for so many requests only
        """
        if isinstance(headers, dict):
            headers = headers.items()
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)

        instruction = Answer(status, list(headers),
                             None if body is None else as_utf8(body), **how)
        with self._lock:
            self._answers.insert(0, instruction)
        return instruction

    def reset(self):
        """Forgets instructions and requests, lets go of what hangs."""
        self.release()
        with self._lock:
            self._answers = []
            self.requests = []
        if self._listener is None:
            self.accept()
        self._released = threading.Event()

    def release(self):
        """Hanging requests are answered now."""
        self._released.set()

    def wait(self, n=1, timeout=5.0):
        """Waits until n requests have arrived whole, returns the last."""
        wait_for(lambda: len(self.requests) >= n, timeout,
                 f"request {n} at the upstream")
        return self.requests[n - 1]

    def refuse(self):
        """Connections are refused, those that stand are closed."""
        with self._lock:
            listener, self._listener = self._listener, None
            sockets = list(self._sockets)
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        self._listener = listener
        threading.Thread(target=self._accept_loop, args=(listener,),
                         daemon=True).start()

    def close(self):
        self.release()
        self.refuse()

    def _accept_loop(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if self._listener is not listener:
                    sock.close()        # refused between the two
                    return
                self.connections += 1
                number = self.connections
                self._sockets.add(sock)
            threading.Thread(target=self._serve, args=(sock, number),
                             daemon=True).start()

    def _serve(self, sock, number):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = sock.makefile("rb")
        try:
            while True:
                seen = read_request(file)
                if seen is None:
                    return
                seen.connection = number
                with self._lock:
                    self.requests.append(seen)
                    instruction = self._take(seen)
                if not self._reply(sock, seen, instruction):
                    return
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._sockets.discard(sock)
            file.close()
            sock.close()

    def _take(self, seen):
        for instruction in self._answers:
            if instruction.fits(seen):
                if instruction.times:
                    instruction.times -= 1
                return instruction
        return Answer()

    def _reply(self, sock, seen, how):
        """Returns True when the connection goes on."""
        if how.delay:
            time.sleep(how.delay)

        if how.hang and not self._hold(sock):
            return False

        if how.raw is not None:
            sock.sendall(how.raw)
            if how.stall:
                self._hold(sock)
            return False

        if how.cut == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))

        if how.cut in ("before", "reset"):
            return False

        body = how.body
        if body is None:
            body = as_utf8(json.dumps(
                {"data": [], "requestId": seen.get("X-Request-Id"),
                 "method": seen.method, "target": seen.target}))
        if how.gzip:
            body = gzip_module.compress(body)

        sock.sendall(encode_head(how, seen, body))
        if how.cut == "headers":
            return False

        bodyless = seen.method == "HEAD" or how.status in (204, 304)
        if not bodyless:
            if isinstance(how.cut, int):
                sock.sendall(body[:how.cut])
                return False
            send_body(sock, body, how.chunked)

        return not how.close and how.length is None

    def _hold(self, sock):
        """Waits for release(); False when the other side goes away first."""
        released = self._released

        while not released.wait(0.02):
            try:
                if sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                    return False
            except BlockingIOError:
                continue
        return True


def as_utf8(text):
    return text.encode() if isinstance(text, str) else text


def encode_head(how, seen, body):
    names = {name.lower() for name, _ in how.headers}
    lines = [f"HTTP/1.1 {how.status} Status"]

    if "content-type" not in names and how.status not in (204, 304):
        lines.append("Content-Type: application/json")
    if how.gzip:
        lines.append("Content-Encoding: gzip")
    if how.chunked:
        lines.append("Transfer-Encoding: chunked")
    elif "content-length" not in names and how.status not in (204, 304):
        length = len(body) if how.length is None else how.length
        lines.append(f"Content-Length: {length}")
    if how.close:
        lines.append("Connection: close")

    head = "\r\n".join(lines).encode()
    for name, value in how.headers:
        head += b"\r\n" + as_bytes(name) + b": " + as_bytes(value)
    return head + b"\r\n\r\n"


def send_body(sock, body, chunked):
    if not chunked:
        sock.sendall(body)
        return

    half = len(body) // 2
    for piece in (body[:half], body[half:]):
        if piece:
            sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    sock.sendall(b"0\r\n\r\n")


def read_request(file):
    """The next request of a connection, None at its end."""
    line = file.readline()
    if not line:
        return None

    method, target, _ = line.decode("latin-1").split(" ")
    seen = Seen(method, target, [])

    for line in iter(file.readline, b"\r\n"):
        if not line:
            return None
        name, value = line.decode("latin-1").split(":", 1)
        seen.headers.append((name, value.strip()))

    if "chunked" in (seen.get("Transfer-Encoding") or ""):
        while True:
            size = int(file.readline().split(b";")[0] or b"0", 16)
            if size == 0:
                file.readline()
                break
            seen.body += file.read(size)
            file.readline()
    else:
        length = int(seen.get("Content-Length") or 0)
        seen.body = file.read(length)
        seen.complete = len(seen.body) == length

    return seen
