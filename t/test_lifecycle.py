"""Workers come and go: reload, quit and kill, with requests on their way."""

import threading
import time

import pytest

import harness
from checks import check_error
from harness.client import Closed, encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"

# What holds a worker up holds it for longer, Redis for half a minute.
SOON = 10

GATE_PIECES = dict(policies="keygate_policy default rate=60000r/m by=key;",
                   gate="keygate partner; keygate_limit default;"
                        "keygate_errors envelope;")


class Load:
    """Threads that keep asking until stop(); failures has what went wrong.

    Each asks with its own way of connecting.  nginx closes an idle connection
    when a worker leaves, and a client whose next request crosses that close
    sends it again (RFC 9112, 9.3.1): it got no byte of an answer.
    """

    def __init__(self, gate, key):
        self.gate = gate
        self.key = key
        self.served = 0
        self.failures = []
        self._going = True
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=how)
                         for how in [("keep",), ("keep",), ("close",),
                                     ("write",)]]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._going = False
        for thread in self._threads:
            thread.join()

    def _run(self, kind):
        client, n = None, 0
        while self._going:
            try:
                fresh = client is None
                if fresh:
                    client = harness.Client(("127.0.0.1", self.gate.port))
                answer = self._ask(client, kind, n)
            except Closed:
                client.close()
                client = None
                if fresh:
                    self._note(kind, "closed without an answer")
                continue
            except OSError as error:
                self._note(kind, repr(error))
                client = None
                continue

            n += 1
            if answer.status != 200 or not answer.complete:
                self._note(kind, repr(answer))
            with self._lock:
                self.served += 1
            if answer.get("Connection") == "close":
                client.close()
                client = None
        if client:
            client.close()

    def _ask(self, client, kind, n):
        fields = {"Authorization": f"Bearer {self.key.token}"}
        if kind == "close":
            fields["Connection"] = "close"
        if kind == "write":
            fields["Idempotency-Key"] = f"{id(self)}-{n}"
            return client.request("POST", LOADS, fields, b'{"n":1}')
        return client.request("GET", LOADS, fields)

    def _note(self, kind, what):
        with self._lock:
            self.failures.append((kind, what))


def redis_connections(redis):
    """How many the gates have; this one's own is not counted."""
    return sum(1 for c in redis.client.client_list()
               if c["cmd"] not in ("client|list", "info"))


def test_reload_under_load(make_gate, redis, upstream):
    gate = make_gate(**GATE_PIECES)
    load = Load(gate, gate.key())
    time.sleep(0.2)
    for _ in range(4):
        gate.reload()
        time.sleep(0.2)
    load.stop()

    assert load.failures == []
    assert load.served > 200
    executed = [seen.get("Idempotency-Key") for seen in upstream.requests
                if seen.method == "POST"]
    assert len(executed) == len(set(executed)) > 20


def test_requests_on_their_way_end_well_when_it_quits(make_gate, upstream):
    """At the upstream, and at Redis."""
    gate = make_gate(**GATE_PIECES)
    key = gate.key()
    upstream.answer(delay=0.4)
    clients = [gate.connect() for _ in range(6)]
    for i, client in enumerate(clients):
        client.send(encode_request(
            "POST" if i % 2 else "GET", LOADS,
            {"Authorization": f"Bearer {key.token}",
             "Idempotency-Key": str(i)}))
    upstream.wait(6)

    gate.quit()
    for client in clients:
        answer = client.read()
        assert (answer.status, answer.complete) == (200, True)
    values = [gate.redis.client.get(name) for name in
              gate.redis.client.keys(f"kg:idem:{{{key.org}}}*")]
    assert [value[1:2] for value in values] == [b"C"] * 3


def test_redis_is_still_asked_while_it_quits(make_gate, make_relay, redis,
                                             upstream):
    """A worker that is leaving still decides the requests it has."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, workers="1",
                     redis_parameters="connect=2s command=2s dead=3s",
                     **GATE_PIECES)
    key = gate.key()
    relay.freeze()

    with gate.connect() as client:
        client.send(encode_request("POST", LOADS, {
            "Authorization": f"Bearer {key.token}", "Idempotency-Key": "k"}))
        time.sleep(0.1)
        thread = threading.Thread(target=gate.quit)
        thread.start()
        time.sleep(0.1)
        relay.thaw()
        assert client.read().status == 200
        thread.join()


def test_quit_is_not_held_up_by_redis(make_gate, redis):
    gate = make_gate(**GATE_PIECES)
    for _ in range(8):
        assert gate.get(LOADS, key=gate.key()).status == 200

    start = time.monotonic()
    gate.quit()
    assert time.monotonic() - start < SOON
    wait_for(lambda: redis_connections(redis) == 0, 5, "closed connections")


@pytest.mark.parametrize("fault", ["freeze", "stop"])
def test_quit_is_not_held_up_by_a_redis_that_is_away(make_gate, make_redis,
                                                     fault):
    redis = make_redis()
    gate = make_gate(redis=redis, **GATE_PIECES)
    key = gate.key()
    gate.get(LOADS, key=key)
    getattr(redis, fault)()
    check_error(gate.get(LOADS, key=key), 503, "service_unavailable", None,
                (1, 30))

    start = time.monotonic()
    gate.quit()
    assert time.monotonic() - start < SOON


def test_old_workers_close_their_connections(make_gate, redis):
    gate = make_gate(**GATE_PIECES)
    key = gate.key()
    for _ in range(5):
        for _ in range(6):
            assert gate.get(LOADS, key=key).status == 200
        gate.reload()

    wait_for(lambda: redis_connections(redis) <= 5, 3, "few connections")


def test_connections_do_not_grow(make_gate, redis):
    """Two a worker at most, whatever it is asked, and one for the watch."""
    gate = make_gate(**GATE_PIECES)
    key = gate.key()
    load = Load(gate, key)
    time.sleep(0.3)
    load.stop()

    assert load.failures == []
    assert redis_connections(redis) <= 5


def test_cache_after_a_reload(make_gate, make_relay, redis):
    """Nobody was told of changes for a moment: each record is looked at once.
    """
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **GATE_PIECES)
    key = gate.key()
    gate.watched()
    gate.get(LOADS, key=key)
    before = relay.count("get")
    gate.reload()
    gate.watched()

    for _ in range(4):
        assert gate.get(LOADS, key=key).status == 200
    assert relay.count("get") == before + 2


def test_reload_changes_what_holds(make_gate):
    gate = make_gate()
    key = gate.key()
    assert gate.get(LOADS, key=key).get("RateLimit-Policy") == \
        '"default";q=60;w=60'

    gate.edit(policies="keygate_policy default rate=9r/m by=key;")
    gate.reload()
    assert gate.get(LOADS, key=key).get("RateLimit-Policy") == \
        '"default";q=9;w=60'


def test_reload_with_a_mistake_changes_nothing(make_gate):
    gate = make_gate()
    key = gate.key()
    gate.edit(policies="keygate_policy default rate=9 by=key;")
    gate.expect(r"\[emerg\].*rate")
    old = gate.workers()
    gate.process.send_signal(1)
    gate.wait_log(r"\[emerg\]")

    assert gate.workers() == old
    assert gate.get(LOADS, key=key).status == 200
    gate.edit(policies="keygate_policy default rate=9r/m by=key;")


def test_limit_survives_a_reload(make_gate):
    gate = make_gate()
    key = gate.key(limits={"default": "2r/m"})
    gate.get(LOADS, key=key)
    gate.get(LOADS, key=key)
    gate.reload()

    assert gate.get(LOADS, key=key).status == 429


def test_killed_worker(make_gate):
    """Another takes its place and finds the zone usable."""
    gate = make_gate(**GATE_PIECES)
    keys = [gate.key() for _ in range(4)]
    for key in keys:
        gate.get(LOADS, key=key)

    for _ in range(3):
        gate.kill_worker()
        for key in keys:
            assert gate.get(LOADS, key=key).status == 200


def test_workers_killed_under_load(make_gate):
    """Only what the killed worker had fails, and the retry of its write is
    refused; then all is as before."""
    gate = make_gate(**GATE_PIECES)
    key = gate.key()
    load = Load(gate, key)
    for _ in range(3):
        time.sleep(0.15)
        gate.kill_worker()
    load.stop()

    assert load.served > 100
    for kind, what in load.failures:
        assert ("closed without" in what or "Reset" in what
                or "cut off" in what
                or (kind == "write" and "idempotency_in_progress" in what))
    assert len(load.failures) <= 12

    again = Load(gate, key)
    time.sleep(0.3)
    again.stop()
    assert again.failures == []


def test_terminated_at_once(make_gate, upstream):
    """SIGTERM: requests are dropped, and still nothing is left open."""
    gate = make_gate(**GATE_PIECES)
    key = gate.key()
    upstream.answer(hang=True)
    with gate.connect() as client:
        client.send(encode_request("POST", LOADS, {
            "Authorization": f"Bearer {key.token}", "Idempotency-Key": "k"}))
        upstream.wait()
        process, gate.process = gate.process, None
        process.terminate()
        assert process.wait(5) == 0
        assert client.read_all() == b""

    name = f"kg:idem:{{{key.org}}}:test:k"
    assert gate.redis.client.get(name)[1:2] in (b"P", b"U")
