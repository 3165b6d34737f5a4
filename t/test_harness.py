"""The harness itself: a fault it does not see is a fault no test sees."""

import json
import os
import signal
import subprocess
import sys

import pytest
import redis.exceptions

import harness
from harness import faults, records
from harness.ports import wait_for
from harness.processes import asleep
from harness.relay import parse

ALERT = "2026/11/22 02:51:00 [alert] 12#12: *1 open socket #3 left\n"
CLEAN = """\
2026/11/22 02:51:00 [notice] 12#12: worker process 13 exited with code 0
2026/11/22 02:51:00 [error] 12#12: *1 connect() failed (111: refused)
2026/11/22 02:51:00 [info] 12#12: *1 client sent "[alert]" in a header
"""


def append(gate, text):
    with open(gate.path("error.log"), "a", encoding="utf-8") as file:
        file.write(text)


@pytest.mark.parametrize("line", [
    ALERT,
    "2026/11/22 02:51:00 [emerg] 12#12: bind() failed\n",
    "2026/11/22 02:51:00 [crit] 12#12: *1 connect() to unix: failed\n",
    "2026/11/22 02:51:00 [notice] 1#1: worker process 5 exited with code 23\n",
    "2026/11/22 02:51:00 [alert] 1#1: worker process 5 exited on signal 11\n",
    "==12==ERROR: AddressSanitizer: heap-use-after-free on address 0x1\n",
    "==12==ERROR: LeakSanitizer: detected memory leaks\n",
    "src/core/kg_time.c:12:3: runtime error: signed integer overflow\n",
])
def test_bad_line_is_a_fault(line):
    with pytest.raises(faults.Fault):
        faults.check(CLEAN + line)


def test_ordinary_lines_are_no_faults():
    faults.check(CLEAN)


def test_announced_line_is_no_fault():
    faults.check(ALERT, [r"open socket #3"])


def test_sanitizer_cannot_be_announced():
    with pytest.raises(faults.Fault):
        faults.check("a.c:1:1: runtime error: null pointer", [r"."])


def test_half_a_line_is_not_seen_yet(make_gate):
    """nginx's write of a line shows in two steps at the end of a page."""
    gate = make_gate(level="error")     # it has nothing to say itself
    append(gate, ALERT[:20])
    assert ALERT[:20] not in gate.log()
    gate.check()

    append(gate, ALERT[20:])
    assert ALERT in gate.log()
    with pytest.raises(faults.Fault):
        gate.end_test()

    gate.write("access.log", "one\ntw")
    assert gate.access_log() == ["one"]


def test_alert_fails_the_test_it_appears_in(make_gate):
    gate = make_gate()
    append(gate, ALERT)

    with pytest.raises(faults.Fault):
        gate.end_test()


def test_announcement_ends_with_the_test(make_gate):
    gate = make_gate()
    gate.expect("open socket #3")
    append(gate, ALERT)
    gate.end_test()
    append(gate, ALERT)

    with pytest.raises(faults.Fault):
        gate.end_test()


def test_line_written_in_two_pieces_is_seen(make_gate):
    gate = make_gate(level="error")
    append(gate, ALERT[:30])
    gate.end_test()
    append(gate, ALERT[30:])

    with pytest.raises(faults.Fault):
        gate.end_test()


def test_worker_that_dies_is_a_fault(make_gate):
    gate = make_gate()
    os.kill(gate.workers()[0], signal.SIGKILL)
    gate.wait_log("exited on signal 9")

    with pytest.raises(faults.Fault):
        gate.end_test()


def test_killed_worker_is_replaced_and_no_fault(make_gate):
    gate = make_gate()
    before = set(gate.workers())
    dead = gate.kill_worker()
    after = set(gate.workers())

    assert len(before) == len(after) == 2
    assert before - after == {dead}
    gate.end_test()


def test_gate_that_does_not_quit_is_a_fault(redis, upstream):
    gate = harness.Gate(redis, upstream)
    upstream.answer(hang=True)
    gate.connect().send("GET /health/api HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.wait()

    with pytest.raises(faults.Fault, match="did not quit"):
        gate.close(timeout=0.3)


def test_worker_with_something_to_do_is_not_idle(make_gate):
    """A process that never waits, in a worker's place."""
    gate = make_gate()
    gate.idle()
    spinning = subprocess.Popen(
        [sys.executable, "-c", "while True: pass"])
    try:
        gate.workers = lambda: [spinning.pid]
        wait_for(lambda: not asleep(spinning.pid))
        with pytest.raises(TimeoutError):
            gate.idle(0.1)
    finally:
        spinning.kill()
        spinning.wait()
        del gate.workers
    gate.idle()


def test_unknown_piece_is_refused(nginx_t):
    with pytest.raises(KeyError):
        nginx_t(polices="")


def test_nginx_t_says_what_is_wrong(nginx_t):
    assert nginx_t()[0] == 0

    rc, stderr = nginx_t(server="no_such_directive on;")
    assert rc == 1
    assert 'unknown directive "no_such_directive"' in stderr

    rc, stderr = nginx_t(conf="events { } bad;")
    assert rc == 1
    assert "nginx.conf:1" in stderr


def test_reload_puts_new_workers(make_gate):
    gate = make_gate()
    before = set(gate.workers())
    gate.edit(workers="3")
    gate.reload()

    assert len(gate.workers()) == 3
    assert not before & set(gate.workers())


def test_upstream_sees_the_raw_request(make_gate, upstream):
    gate = make_gate()
    answer = gate.get("/health/api?a=%2F&b=1", headers={"X-Mine": "1"})

    assert answer.status == 200
    assert upstream.requests[0].method == "GET"
    assert upstream.requests[0].target == "/health/api?a=%2F&b=1"
    assert upstream.requests[0].get("x-mine") == "1"


@pytest.fixture
def api(make_upstream):
    """An upstream, and requests sent to it without a gate between."""
    upstream = make_upstream()

    def ask(method="GET", target="/", body=b""):
        with harness.Client(("127.0.0.1", upstream.port)) as client:
            return client.request(method, target, body=body)

    upstream.ask = ask
    return upstream


def test_upstream_answers_as_told(api):
    api.answer(201, {"X-A": "b"}, {"a": 1}, method="POST", path="^/x")
    answer = api.ask("POST", "/x", b"hello")

    assert (answer.status, answer.get("x-a"), answer.json()) == \
        (201, "b", {"a": 1})
    assert api.requests[0].body == b"hello"
    assert api.ask("POST", "/y").status == 200
    assert api.ask("GET", "/x").status == 200


def test_upstream_instruction_runs_out(api):
    api.answer(500, times=1)

    assert [api.ask().status, api.ask().status] == [500, 200]


@pytest.mark.parametrize("how, complete, body", [
    (dict(cut=3), False, b"012"),
    (dict(length=20), False, b"0123456789"),
    (dict(chunked=True), True, b"0123456789"),
    (dict(cut="headers"), False, b""),
])
def test_upstream_bodies(api, how, complete, body):
    api.answer(body="0123456789", **how)
    answer = api.ask()

    assert (answer.complete, answer.body) == (complete, body)


def test_upstream_closes_before_the_answer(api):
    api.answer(cut="before")

    with pytest.raises(ConnectionError):
        api.ask()


def test_upstream_refuses_and_accepts(api):
    api.refuse()
    with pytest.raises(ConnectionRefusedError):
        api.ask()

    api.accept()
    assert api.ask().status == 200


def test_upstream_hangs_until_released(api):
    api.answer(hang=True)

    with harness.Client(("127.0.0.1", api.port), timeout=0.2) as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.read()
        api.release()
        client.sock.settimeout(10)
        assert client.read().status == 200


def test_client_reads_pipelined_answers(api):
    with harness.Client(("127.0.0.1", api.port)) as client:
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        statuses = [client.read().status for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert len(api.requests) == 3


def test_redis_stops_freezes_and_comes_back(make_redis):
    server = make_redis(options={"maxmemory": "50mb"})
    server.client.set("a", "1")
    server.restart()
    assert server.client.get("a") == b"1"
    server.restart(empty=True)
    assert server.client.get("a") is None
    assert server.client.config_get("maxmemory") == {"maxmemory": "52428800"}

    with server.frozen(), pytest.raises(redis.exceptions.TimeoutError):
        server.connect(timeout=0.2).ping()
    assert server.client.ping()


def test_redis_on_a_socket_with_users(make_redis):
    server = make_redis(unix=True, password="secret",
                        acl={"kg": "on >word ~kg:* +get"})

    assert server.url == f"unix:{server.path}"
    user = server.connect(username="kg", password="word")
    assert user.get("kg:a") is None
    with pytest.raises(redis.exceptions.NoPermissionError):
        user.set("kg:a", "1")


@pytest.mark.parametrize("data, value", [
    (b"+OK\r\n", b"OK"),
    (b":12\r\n", 12),
    (b"$3\r\na\r\n\r\n", b"a\r\n"),
    (b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", [b"a", [1]]),
])
def test_protocol_is_parsed_whole_or_not(data, value):
    assert parse(data) == (value, len(data))
    for end in range(len(data)):
        assert parse(data[:end]) is None


def test_relay_counts_splits_and_replaces(make_redis, make_relay):
    server = make_redis()
    relay = make_relay(server.port)
    relay.split = True

    with harness.Client(("127.0.0.1", relay.port)) as client:
        client.send("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n")
        relay.replace("GET", b"-LOADING x\r\n", times=1)
        answer = b""
        while not answer.endswith(b"PONG\r\n"):
            answer += client.sock.recv(100)

    assert answer == b"-LOADING x\r\n+PONG\r\n"
    assert relay.count("get") == relay.count("ping") == 1
    assert relay.commands[0] == [b"GET", b"a"]


def test_relay_freezes_and_cuts(make_redis, make_relay):
    relay = make_relay(make_redis().port)

    with harness.Client(("127.0.0.1", relay.port), timeout=0.2) as client:
        relay.freeze()
        client.send("*1\r\n$4\r\nPING\r\n")
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        relay.thaw()
        client.sock.settimeout(10)
        assert client.sock.recv(100) == b"+PONG\r\n"
        relay.cut()
        with pytest.raises(ConnectionError):
            client.sock.recv(1)

    relay.refuse()
    with pytest.raises(ConnectionRefusedError):
        harness.Client(("127.0.0.1", relay.port))


def test_token_has_the_shape_of_the_contract():
    token = harness.make_token("live", "tf")
    prefix, mode, digits = token.split("_")

    assert (prefix, mode, len(digits)) == ("tf", "live", 38)
    assert records.checksum(token[:-6]) == token[-6:]


def test_checksum_is_crc32_in_base62():
    # The check value of CRC-32 (ISO 3309) is that of "123456789".
    value = 0
    for digit in records.checksum("123456789"):
        value = value * 62 + records.DIGITS.index(digit)

    assert value == 0xCBF43926


def test_key_is_written_where_its_digest_says(redis):
    org = records.make_org(redis.client, "test", name="Acme")
    key = records.make_key(redis.client, b"p" * 32, org, scopes=["loads:read"])
    name = f"kg:key:{{{harness.digest(b'p' * 32, key.token)}}}"

    assert json.loads(redis.client.get(name)) == {
        "v": 1, "id": key.id, "org": org, "mode": "test",
        "scopes": ["loads:read"]}
    record = json.loads(redis.client.get(f"kg:org:{{{org}}}"))
    assert record == {"v": 1, "access": "test", "name": "Acme"}
