"""The client is gone: until Redis has acknowledged the claim nothing is
executed and the key is free; after it the write goes on and is stored."""

import socket
import threading
import time

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from checks import check_request_id
from harness.ports import wait_for
from test_idempotency import BODY, LOADS, check_replay, write
from test_idempotency_claims import claims, state

LIMITED = "/v1/loads/upsert"
APART = "/v1/loads/apart"
ROUTES = f"""keygate_routes partner {{
    GET  /v1/loads  loads:read;
    POST /v1/loads  loads:write idempotency=required;
    POST {LIMITED}  loads:write idempotency=required limit=default;
    POST {APART}    loads:write idempotency=required limit=default; }}"""

PIECES = dict(
    workers="1", routes=ROUTES,
    policies="keygate_policy default rate=600r/m by=key;",
    gate="keygate partner; keygate_limit off; keygate_errors envelope;",
    locations=f"""location = {APART} {{
        client_body_buffer_size 1;
        include %%ROOT%%/conf/keygate_proxy_params;
        proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;
    }}""",
    # Usage is flushed by a script, too.
    zone="keygate_zone zone=keygate:16m usage=off;",
    redis_parameters="connect=2s command=9s dead=20s")


class Http1:
    """A write over HTTP/1.1, whose client leaves in its way."""

    def __init__(self, gate, key, target, how):
        self.client = gate.connect()
        self.how = how
        self.client.send(
            f"POST {target} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {key.token}\r\nIdempotency-Key: k\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:-1])

    def finish(self):
        self.client.send(BODY[-1:])

    def leave(self):
        getattr(self.client, self.how)()


class Http2:
    """The same over HTTP/2: the stream is reset, the connection stays."""

    def __init__(self, gate, key, target, _how):
        self.sock = socket.create_connection(("127.0.0.1", gate.h2_port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, [
            (":method", "POST"), (":scheme", "http"), (":path", target),
            (":authority", "localhost"),
            ("authorization", f"Bearer {key.token}"),
            ("idempotency-key", "k"), ("content-type", "application/json"),
            ("content-length", str(len(BODY)))])
        self.h2.send_data(self.stream, BODY[:-1])
        self._flush()

    def _flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def finish(self):
        self.h2.send_data(self.stream, BODY[-1:], end_stream=True)
        self._flush()

    def leave(self):
        self.h2.reset_stream(self.stream, 8)
        self._flush()


HOWS = {"close": (Http1, "close"), "reset": (Http1, "reset"),
        "RST_STREAM": (Http2, None), "HTTP/2 close": (Http2, "close")}


@pytest.fixture
def relayed(make_gate, make_relay, redis):
    """A gate that knows its Redis, by a relay, and a key it knows."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **PIECES)
    gate.relay = relay
    gate.known = gate.key()
    gate.watched()                      # no record is asked for after this
    for target in (LOADS, LIMITED):
        assert write(gate, gate.known, "warm" + target,
                     target).status == 200
    return gate


@pytest.fixture(params=HOWS.values(), ids=HOWS)
def started(request, relayed):
    """started(target): a write whose last byte is not sent."""
    cls, how = request.param
    opened = []

    def start(target=LOADS):
        opened.append(cls(relayed, relayed.known, target, how))
        return opened[-1]

    yield start

    for one in opened:
        (one.client if cls is Http1 else one.sock).close()


def leave(gate, client):
    """The client leaves, and its worker has seen it: the request is over."""
    gate.idle()                         # what was before is in the log
    logged = len(gate.access_log())
    client.leave()
    wait_for(lambda: len(gate.access_log()) > logged, what="its leaving")


def check_released(gate, scripts):
    """What frees the key is the last script that is sent."""
    wait_for(lambda: gate.relay.count("evalsha") >= scripts, what="release")
    gate.idle()
    assert gate.relay.count("evalsha") == scripts


def check_not_executed(gate, upstream, target=LOADS):
    """The key is free, and the next one runs."""
    key = gate.known
    wait_for(lambda: state(gate, key) is None, what="freed key")
    assert len(upstream.requests) == 2
    answer = write(gate, key, target=target)
    assert answer.get("Idempotent-Replayed") is None
    check_replay(answer, write(gate, key, target=target))
    assert len(upstream.requests) == 3


def check_executed(gate, upstream, body, target=LOADS):
    """Once, and the retry gets it."""
    key = gate.known
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    answer = write(gate, key, target=target)
    assert answer.get("Idempotent-Replayed") == "true"
    assert answer.body == body
    assert check_request_id(answer) != answer.get("Original-Request-Id")
    assert len(upstream.requests) == 3


# Before the claim.

def test_within_the_body(relayed, upstream, started):
    client = started()
    time.sleep(0.05)
    leave(relayed, client)

    assert claims(relayed, relayed.known) == [
        name for name in claims(relayed, relayed.known) if b"warm" in name]
    check_not_executed(relayed, upstream)


def test_while_the_limit_is_asked_for(relayed, upstream, started):
    """No claim is made for who is not there any more."""
    late = threading.Event()
    rule = relayed.relay.replace("EVALSHA", None, times=1, delay=late)
    before = relayed.relay.count("evalsha")
    client = started(APART)
    client.finish()
    wait_for(lambda: rule.hits, what="limit")
    leave(relayed, client)
    late.set()
    time.sleep(0.1)
    relayed.idle()

    assert relayed.relay.count("evalsha") == before + 1
    check_not_executed(relayed, upstream, APART)


def test_while_limit_and_claim_are_asked_for(relayed, upstream, started):
    """The claim came with the limit, and goes with its client."""
    late = threading.Event()
    relayed.relay.replace("EVALSHA", None, times=1, delay=late)
    before = relayed.relay.count("evalsha")
    client = started(LIMITED)
    client.finish()
    wait_for(lambda: state(relayed, relayed.known) == b"P", what="claim")
    leave(relayed, client)
    late.set()
    check_released(relayed, before + 2)

    check_not_executed(relayed, upstream, LIMITED)


def test_while_the_claim_is_made(relayed, upstream, started):
    late = threading.Event()
    relayed.relay.replace("EVALSHA", None, times=1, delay=late)
    before = relayed.relay.count("evalsha")
    client = started()
    client.finish()
    wait_for(lambda: state(relayed, relayed.known) == b"P", what="claim")
    leave(relayed, client)
    late.set()
    check_released(relayed, before + 2)

    check_not_executed(relayed, upstream)


def test_while_the_claim_does_not_arrive(relayed, upstream, started):
    before = relayed.relay.count("evalsha")
    relayed.relay.freeze()
    client = started()
    client.finish()
    wait_for(lambda: relayed.relay.count("evalsha") > before, what="claim")
    leave(relayed, client)
    relayed.relay.thaw()
    check_released(relayed, before + 2)

    check_not_executed(relayed, upstream)


# After it.

def test_while_the_upstream_runs(relayed, upstream, started):
    upstream.answer(201, {}, {"id": 7}, hang=True, times=1)
    client = started()
    client.finish()
    upstream.wait(3)
    client.leave()
    time.sleep(0.1)
    assert write(relayed, relayed.known).code == "idempotency_in_progress"
    upstream.release()

    check_executed(relayed, upstream, b'{"id": 7}')


def test_while_the_answer_is_stored(relayed, upstream, started):
    upstream.answer(201, {}, {"id": 8}, hang=True, times=1)
    client = started()
    client.finish()
    upstream.wait(3)
    relayed.relay.freeze()
    upstream.release()
    time.sleep(0.1)
    client.leave()
    time.sleep(0.1)
    relayed.relay.thaw()

    check_executed(relayed, upstream, b'{"id": 8}')


def test_while_the_answer_is_sent(relayed, upstream, started):
    """Most of it is in nothing but nginx's memory."""
    upstream.answer(201, {}, b"x" * 250000, times=1)
    client = started()
    client.finish()
    wait_for(lambda: state(relayed, relayed.known) == b"C", what="answer")
    client.leave()

    check_executed(relayed, upstream, b"x" * 250000)


def test_while_the_answer_is_replayed(relayed, upstream, started):
    upstream.answer(201, {}, b"y" * 250000, times=1)
    first = write(relayed, relayed.known)
    client = started()
    client.finish()
    time.sleep(0.05)
    client.leave()

    check_replay(first, write(relayed, relayed.known))
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
@pytest.mark.parametrize("sent", ["nothing", "half the head", "the head",
                                  "half the body", "all but a byte"])
def test_while_the_upstream_answers(make_gate, redis, how, sent):
    """Its answer is taken to the last byte."""
    head = b"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n"
    whole = head + b"z" * 100000
    part = {"nothing": 0, "half the head": 20, "the head": len(head),
            "half the body": len(head) + 50000,
            "all but a byte": len(whole) - 1}[sent]

    with socket.create_server(("127.0.0.1", 0)) as server:
        gate = make_gate(**PIECES, proxy="proxy_pass http://127.0.0.1:"
                         f"{server.getsockname()[1]};")
        key = gate.key()
        cls, leaving = how
        client = cls(gate, key, LOADS, leaving)
        client.finish()
        stream, _ = server.accept()

        with stream:
            stream.recv(65536)
            stream.sendall(whole[:part])
            time.sleep(0.05)
            client.leave()
            time.sleep(0.05)
            stream.sendall(whole[part:])
            wait_for(lambda: state(gate, key) == b"C", what="stored answer")
        answer = write(gate, key)
        (client.client if cls is Http1 else client.sock).close()

    assert (answer.status, answer.body) == (201, b"z" * 100000)
    assert answer.get("Idempotent-Replayed") == "true"


def test_while_an_answer_too_large_to_keep_is_sent(relayed, upstream, started):
    """Nothing more can be known of it: it was executed."""
    upstream.answer(201, {}, b"z" * 3000000, times=1)
    client = started()
    client.finish()
    wait_for(lambda: state(relayed, relayed.known) == b"T", what="tombstone")
    client.leave()

    time.sleep(0.1)
    answer = write(relayed, relayed.known)
    assert (answer.status, answer.code) == (
        409, "idempotency_replay_unavailable")
    assert len(upstream.requests) == 3


def test_half_closed_client_gets_its_answer(relayed, upstream):
    """It has said all it had to say."""
    upstream.answer(201, {}, {"id": 9}, hang=True, times=1)
    client = Http1(relayed, relayed.known, LOADS, "shutdown")
    client.finish()
    upstream.wait(3)
    client.leave()
    upstream.release()
    first = client.client.read()
    client.client.close()

    assert first.json() == {"id": 9}
    check_replay(first, write(relayed, relayed.known))
