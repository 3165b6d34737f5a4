#!/usr/bin/python3
"""A partner API for the demo: the contract's routes, in memory, no keys.

    upstream.py PORT [PIDFILE]      listens on 127.0.0.1:PORT

It stands behind Keygate and trusts what Keygate tells it: the organisation
(X-Keygate-Org), whose data alone it shows, and the request id (X-Request-Id),
which successful bodies carry as requestId.  Every POST /v1/loads it executes
makes a new load.  A load whose externalId is "boom" fails with a 500 and the
HTML page of a program that fell over, and makes none.
"""

import json
import os
import re
import secrets
import sys
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BODY_MAX = 1 << 20

CRASH = b"""<html><head><title>500</title></head><body><h1>Oops</h1>
<pre>Traceback: app/loads.py, line 42, host db-3.internal</pre></body></html>
"""

lock = threading.Lock()
organisations = {}


class Refused(Exception):
    """An answer other than success: status and body."""

    def __init__(self, status, **body):
        super().__init__(status)
        self.status = status
        self.body = body


class Crashed(Exception):
    """What the demo's 500 stands for."""


class Store:
    """What one organisation has."""

    def __init__(self):
        self.loads = {}
        self.webhooks = {}


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(things, identity):
    if identity not in things:
        raise Refused(404, problem=f"there is no {identity}")
    return things[identity]


def external_id(body):
    value = body.get("externalId")

    if not isinstance(value, str) or not value:
        raise Refused(400, field="externalId", problem="must be a string")
    if value == "boom":
        raise Crashed
    return value


def add_load(store, body):
    load = {"id": "ld_" + secrets.token_hex(8),
            "externalId": external_id(body),
            "status": body.get("status", "draft"), "createdAt": now()}
    store.loads[load["id"]] = load
    return load


def health(store, query, body):
    return 200, {"status": "ok"}


def list_loads(store, query, body):
    wanted = query.get("externalId")
    loads = [load for load in store.loads.values()
             if wanted is None or load["externalId"] in wanted]
    return 200, {"data": loads, "nextCursor": None}


def get_load(store, query, body, identity):
    return 200, find(store.loads, identity)


def create_load(store, query, body):
    return 201, add_load(store, body)


def upsert_load(store, query, body):
    wanted = external_id(body)

    for load in store.loads.values():
        if load["externalId"] == wanted:
            load["status"] = body.get("status", load["status"])
            return 200, load
    return 201, add_load(store, body)


def set_status(store, query, body, identity):
    load = find(store.loads, identity)

    if not isinstance(body.get("status"), str):
        raise Refused(400, field="status", problem="must be a string")
    load["status"] = body["status"]
    return 200, load


def list_customers(store, query, body):
    return 200, {"data": [{"id": "cu_1", "name": "Northwind"}],
                 "nextCursor": None}


def list_carriers(store, query, body):
    return 200, {"data": [{"id": "ca_1", "name": "Longhaul"}],
                 "nextCursor": None}


def track(store, query, body, identity):
    load = find(store.loads, identity)
    return 200, {"loadId": identity, "status": load["status"], "events": []}


def list_webhooks(store, query, body):
    shown = [{k: v for k, v in hook.items() if k != "secret"}
             for hook in store.webhooks.values()]
    return 200, {"data": shown, "nextCursor": None}


def create_webhook(store, query, body):
    if not isinstance(body.get("url"), str):
        raise Refused(400, field="url", problem="must be a string")

    hook = {"id": "wh_" + secrets.token_hex(8), "url": body["url"],
            "secret": "whsec_" + secrets.token_hex(16), "createdAt": now()}
    store.webhooks[hook["id"]] = hook
    return 201, hook


def delete_webhook(store, query, body, identity):
    find(store.webhooks, identity)
    del store.webhooks[identity]
    return 200, {"id": identity, "deleted": True}


ROUTES = [(method, re.compile(path), handler) for method, path, handler in (
    ("GET", r"/health/api", health),
    ("GET", r"/v1/loads", list_loads),
    ("POST", r"/v1/loads", create_load),
    ("POST", r"/v1/loads/upsert", upsert_load),
    ("GET", r"/v1/loads/([^/]+)", get_load),
    ("POST", r"/v1/loads/([^/]+)/status", set_status),
    ("GET", r"/v1/customers", list_customers),
    ("GET", r"/v1/carriers", list_carriers),
    ("GET", r"/v1/tracking/([^/]+)", track),
    ("GET", r"/v1/webhooks", list_webhooks),
    ("POST", r"/v1/webhooks", create_webhook),
    ("DELETE", r"/v1/webhooks/([^/]+)", delete_webhook),
)]


def execute(method, target, org, raw):
    """Status and body of a request; Refused or Crashed."""
    parts = urlsplit(target)
    body = {}

    if method == "POST":
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            raise Refused(400, problem="the body is not JSON") from None
        if not isinstance(body, dict):
            raise Refused(400, problem="the body is not an object")

    for wanted, path, handler in ROUTES:
        found = path.fullmatch(parts.path)
        if found and wanted == method:
            with lock:
                store = organisations.setdefault(org, Store())
                status, answer = handler(store, parse_qs(parts.query), body,
                                         *found.groups())
                return status, dict(answer)

    raise Refused(404, problem="no such route")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = 65536    # head and body in one packet

    def answer(self):
        length = min(int(self.headers.get("Content-Length") or 0), BODY_MAX)
        raw = self.rfile.read(length)
        kind = "application/json"

        try:
            status, body = execute(
                "GET" if self.command == "HEAD" else self.command, self.path,
                self.headers.get("X-Keygate-Org"), raw)
            body["requestId"] = self.headers.get("X-Request-Id")
        except Refused as refused:
            status, body = refused.status, refused.body
        except Crashed:
            status, body, kind = 500, None, "text/html"

        data = CRASH if body is None else json.dumps(body).encode() + b"\n"

        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *args):
        """Keygate's access log has every request."""


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True

    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    server.serve_forever()


if __name__ == "__main__":
    main()
