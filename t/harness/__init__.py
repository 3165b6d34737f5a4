"""The harness: a real nginx with the module, a real Redis, and an upstream,
a client and a relay that do what a test tells them to.

A test in fifteen lines (t/test_something.py; the fixtures are in
t/conftest.py)::

    def test_scope_is_asked_for(gate, upstream):
        key = gate.key(scopes=["loads:read"])        # its own organisation
        answer = gate.get("/v1/customers", key=key)
        assert answer.status == 403
        assert answer.error["code"] == "forbidden"
        assert answer.get("X-Request-Id") == answer.json()["requestId"]
        assert upstream.requests == []

    def test_frozen_redis(make_gate, redis):
        gate = make_gate(redis_parameters="command=100ms dead=1s",
                         location="proxy_read_timeout 1s;")
        key = gate.key()
        with redis.frozen():
            assert gate.get("/v1/loads", key=key).status == 503

Fixtures
    gate        one a module, two workers.  GATE = dict(...) in the test module
                changes its pieces (template.PIECES).  Make organisations and
                keys afresh in every test and nothing a test does is seen by
                the next.
    make_gate   a gate of the test's own: make_gate(piece=text, ...)
    redis       one a module; redis.client is a redis.Redis
    upstream    one a module, reset before every test
    make_redis, make_upstream, make_relay     more of them, the test's own
    nginx_t     nginx_t(piece=text, ...) -> (rc, stderr) of `nginx -t`;
                nginx_t(conf=whole_text) for a configuration of the test's own

Gate
    get post put patch delete head options request(method, target, key=,
    headers=, body=, json=, idem=, version=)  -> Response, on a connection of
    its own; connect() -> Client for bytes, pipelining, half requests; h2() ->
    httpx client that speaks HTTP/2; admin(method, path, json=) -> Response;
    org(access=) -> id, key(org=, mode=, scopes=, limits=, ...) -> Key, written
    straight into Redis; edit(piece=text), reload(), quit(), kill_worker(),
    workers(), watched(), idle(), log(), wait_log(regex), access_log(),
    expect(regex).

Upstream
    upstream.answer(status=, headers=, body=, delay=, hang=, cut=, length=,
    chunked=, gzip=, raw=, stall=, method=, path=, times=); refuse(),
    accept();
    requests -> [Seen(method, target, headers, body)], wait(n).

Redis and the way to it
    redis.stop() start() kill() freeze() thaw() frozen() restart(empty=);
    relay = make_relay(redis.port); make_gate(redis_url=relay.url); relay has
    delay, split, freeze(), thaw(), deafen(), cut(), refuse(), accept(),
    replace(), commands.

Every test fails, after it and whatever it asserted, on an [alert], [emerg] or
[crit] of its gates that gate.expect(regex) did not announce, on any line of a
sanitizer, on a worker that ended other than by exit 0, and on a gate that does
not quit when told to, or leaves a socket.  The environment variable
KEYGATE_NGINX names an nginx binary with the module linked in.
"""

from .client import Client, Response
from .gate import Gate, nginx_t
from .records import Key, digest, make_token
from .redis_server import RedisServer
from .relay import Relay
from .upstream import Upstream

__all__ = ["Client", "Gate", "Key", "RedisServer", "Relay", "Response",
           "Upstream", "digest", "make_token", "nginx_t"]
