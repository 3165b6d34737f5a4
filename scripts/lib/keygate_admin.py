"""The admin interface as a client sees it: a call is a method, a path and
JSON, over TCP or a unix socket."""

import http.client
import json
import socket
import urllib.parse

TIMEOUT = 30
LONG_TIMEOUT = 900
ANSWER_MAX = 64 * 1024 * 1024
PAGE = 100
BLOCK = 65536


class Refused(Exception):
    """An error answer; the envelope's members."""

    def __init__(self, status, error, request_id):
        super().__init__(error["code"])
        self.status = status
        self.error = error
        self.request_id = request_id


class Unreachable(Exception):
    """No answer, or one that is not the admin interface's."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Admin:
    """The admin interface at http://host[:port][/prefix] or
    unix:/path[:/prefix].  actor is what its audit trail is told.  Raises
    ValueError for another address."""

    def __init__(self, url, actor=None):
        self.url = url
        self.actor = actor

        if url.startswith("unix:/"):
            path, _, prefix = url[len("unix:"):].partition(":/")
            self.connection = UnixConnection(path)
            self.prefix = "/" + prefix.strip("/")

        elif url.startswith("http://"):
            parts = urllib.parse.urlsplit(url)
            if (not parts.hostname or parts.query or parts.fragment
                    or parts.username is not None):
                raise ValueError(url)
            self.connection = http.client.HTTPConnection(
                parts.hostname, parts.port or 80, timeout=TIMEOUT)
            self.prefix = "/" + parts.path.strip("/")

        else:
            raise ValueError(url)

        self.prefix = self.prefix.rstrip("/")

    def call(self, method, *path, query=None, body=None, lines=None,
             long=False):
        """The JSON of a call to /path/..., whose parts are quoted here.

        body becomes JSON; lines are sent as they are.  long: it may take
        minutes.  Raises Refused or Unreachable.
        """
        data, kind = lines, "application/x-ndjson"
        if body is not None:
            data, kind = json.dumps(body).encode(), "application/json"

        try:
            response = self._send(method, path, query, data, kind, long)
            text = response.read(ANSWER_MAX)
        except (OSError, http.client.HTTPException) as reason:
            raise self._unreachable(reason) from None
        finally:
            self.connection.close()

        return self._answer(response.status, text)

    def pages(self, *path, query=None):
        """Every entry of a list."""
        cursor = ""

        while cursor is not None:
            answer = self.call("GET", *path, query={
                **(query or {}), "limit": PAGE, "cursor": cursor})
            yield from answer["data"]
            cursor = answer["nextCursor"]

    def copy(self, out, *path):
        """Writes what a call answers to a binary file, as it comes."""
        try:
            response = self._send("GET", path, None, None, None, True)
            if response.status != 200:
                return self._answer(response.status, response.read(ANSWER_MAX))
            while True:
                block = response.read1(BLOCK)
                if not block:
                    return None
                out.write(block)
        except (OSError, http.client.HTTPException) as reason:
            raise self._unreachable(reason) from None
        finally:
            self.connection.close()

    def _send(self, method, path, query, data, kind, long):
        target = self.prefix + "".join(
            "/" + urllib.parse.quote(part, safe="") for part in path)
        query = {name: value for name, value in (query or {}).items()
                 if value not in (None, "")}
        if query:
            target += "?" + urllib.parse.urlencode(query)

        headers = {"Accept": "application/json", "Connection": "close"}
        if data is not None:
            headers["Content-Type"] = kind
        if self.actor:
            headers["Keygate-Actor"] = self.actor

        self.connection.timeout = LONG_TIMEOUT if long else TIMEOUT
        self.connection.request(method, target, data, headers)
        return self.connection.getresponse()

    def _unreachable(self, reason):
        return Unreachable(f"cannot reach {self.url}: "
                           f"{reason or type(reason).__name__}")

    def _answer(self, status, text):
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None

        if isinstance(answer, dict) and 200 <= status < 300:
            return answer

        error = answer.get("error") if isinstance(answer, dict) else None

        if isinstance(error, dict) and "code" in error and "message" in error:
            raise Refused(status, error, answer.get("requestId"))

        raise Unreachable(f"{self.url} answers {status}, and not as an admin "
                          "interface does")
