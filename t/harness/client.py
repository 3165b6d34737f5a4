"""A client that sends the bytes it is given.

What a test of a gateway must be able to do and HTTP libraries refuse: half a
request, two Authorization headers, a raw path, several requests in one write.
"""

import json
import socket


class Closed(ConnectionError):
    """The peer closed the connection before an answer began."""


class Response:
    """An answer.

    status and reason; headers, a list of (name, value) as they came; body;
    complete is False when the connection ended inside the body; interim has
    the 1xx answers before it.
    """

    def __init__(self, version, status, reason, headers):
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = b""
        self.complete = True
        self.interim = []

    def get(self, name, default=None):
        """The value of a header, the first when there are several."""
        values = self.all(name)
        return values[0] if values else default

    def all(self, name):
        """Every value of a header."""
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The "error" member of the envelope."""
        return self.json()["error"]

    @property
    def code(self):
        """The code of the envelope, None when the body is no envelope."""
        try:
            return self.json()["error"]["code"]
        except (ValueError, KeyError, TypeError):
            return None

    def __repr__(self):
        return (f"<{self.status} {dict(self.headers)} "
                f"{self.body[:500]!r}{'' if self.complete else ' cut off'}>")


def encode_request(method, target, headers=(), body=b"", host="localhost",
                   version="HTTP/1.1"):
    """The bytes of a request.

    Host, and Content-Length for a body, are added unless headers has them;
    a header whose value is None is left out, Host too.
    """
    if isinstance(headers, dict):
        headers = headers.items()

    lines = [(n, v) for n, v in headers if v is not None]
    names = {n.lower() for n, _ in headers}

    if "host" not in names:
        lines.insert(0, ("Host", host))

    if body and not names & {"content-length", "transfer-encoding"}:
        lines.append(("Content-Length", str(len(body))))

    head = as_bytes(method) + b" " + as_bytes(target) + b" "
    head += as_bytes(version) + b"\r\n"
    for name, value in lines:
        head += as_bytes(name) + b": " + as_bytes(value) + b"\r\n"

    return head + b"\r\n" + as_bytes(body)


def as_bytes(value):
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


class Client:
    """One connection; address is (host, port) or the path of a socket."""

    def __init__(self, address, timeout=10.0):
        unix = isinstance(address, str)
        self.sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(address)
            if not unix:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.sock.close()
            raise
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(as_bytes(data))

    def request(self, method, target, headers=(), body=b"", **how):
        """Sends one request and reads its answer."""
        self.send(encode_request(method, target, headers, body, **how))
        return self.read(method)

    def read(self, method="GET"):
        """The next answer; method says whether it has a body."""
        interim = []

        while True:
            response = self._read_head()
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)

        response.interim = interim
        self._read_body(response, method)
        return response

    def read_all(self):
        """What comes until the peer closes; a reset counts as closing."""
        data = self.buffer
        self.buffer = b""

        while True:
            try:
                chunk = self.sock.recv(65536)
            except ConnectionError:
                return data
            if not chunk:
                return data
            data += chunk

    def is_closed(self):
        """True when the peer closes within the timeout, with no more bytes."""
        return self.read_all() == b""

    def shutdown(self):
        """Ends the sending side."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Leaves with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _fill(self):
        try:
            chunk = self.sock.recv(65536)
        except ConnectionError:
            return False
        self.buffer += chunk
        return bool(chunk)

    def _read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self._fill():
                raise Closed(f"closed after {self.buffer!r}")

        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *reason = first.split(" ", 2)
        headers = []

        for line in lines:
            name, value = line.split(":", 1)
            headers.append((name, value.strip()))

        return Response(version, int(status), "".join(reason), headers)

    def _read_body(self, response, method):
        if method == "HEAD" or response.status in (204, 304, 101):
            return

        coding = (response.get("Transfer-Encoding") or "").lower()
        length = response.get("Content-Length")

        if "chunked" in coding:
            self._read_chunked(response)

        elif length is not None:
            response.body = self._take(int(length))
            response.complete = len(response.body) == int(length)

        else:
            response.body = self.read_all()

    def _read_chunked(self, response):
        while True:
            line = self._line()
            if line is None:
                response.complete = False
                return

            size = int(line.split(b";")[0], 16)
            if size == 0:
                while self._line():
                    pass
                return

            data = self._take(size)
            response.body += data
            if len(data) < size or self._line() is None:
                response.complete = False
                return

    def _take(self, n):
        while len(self.buffer) < n and self._fill():
            pass
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def _line(self):
        while b"\r\n" not in self.buffer:
            if not self._fill():
                return None
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line
