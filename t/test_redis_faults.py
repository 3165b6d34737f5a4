"""Redis fails, in every way it can: nothing hangs, nothing crashes, nothing is
mixed up, an outage looks like one, and it passes."""

import threading
import time

import pytest

from checks import check_error
from harness.client import encode_request
from harness.ports import wait_for

LOADS = "/v1/loads"
TIMEOUT = 0.5           # connect= and command= of the gates
SLACK = 1               # what this machine may take beside that

# Who waits for dead= is out of every bound here.
ONE = dict(workers="1", redis_parameters="connect=500ms command=500ms dead=9s",
           policies="keygate_policy default rate=600r/m by=key;")


def check_down(answer):
    check_error(answer, 503, "service_unavailable", None, (1, 30))


def timed(gate, key, target=LOADS):
    """A request's answer and the seconds it took."""
    start = time.monotonic()
    answer = gate.get(target, key=key)
    return answer, time.monotonic() - start


def recovers(gate, key, seconds=10):
    """Waits until a request of the key is served again."""
    def served():
        answer = gate.get(LOADS, key=key)
        if answer.status != 200:
            check_down(answer)
        return answer.status == 200

    wait_for(served, seconds, "recovery", step=0.05)


@pytest.fixture
def relayed(make_gate, make_relay, redis):
    """A gate of one worker with a relay before Redis, and a warm key."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, **ONE)
    gate.relay = relay
    gate.warm = gate.key()
    recovers(gate, gate.warm)
    return gate


# Away.

def test_absent_at_start(make_gate, make_redis, upstream):
    redis = make_redis()
    before = make_gate(redis=redis, **ONE)
    key = before.key()
    redis.stop()

    gate = make_gate(redis=redis, **ONE)
    for _ in range(5):
        answer, seconds = timed(gate, key)
        check_down(answer)
        assert seconds < TIMEOUT + SLACK
    assert gate.get("/health/api").status == 200
    assert gate.get(LOADS, key="nonsense").status == 401
    assert [seen.target for seen in upstream.requests] == ["/health/api"]

    redis.start()
    recovers(gate, key)


def test_killed_in_mid_request(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, **ONE)
    key = gate.key()
    redis.client.save()
    gate.get(LOADS, key=key)

    redis.freeze()
    with gate.connect() as client:
        client.send(encode_request("GET", LOADS, {
            "Authorization": f"Bearer {key.token}"}))
        time.sleep(0.05)
        redis.process.kill()
        check_down(client.read())

    redis.kill()
    redis.start()
    recovers(gate, key)


def test_frozen(make_gate, make_redis):
    """No request hangs past its timeout, however many there are."""
    redis = make_redis()
    gate = make_gate(redis=redis, **ONE)
    keys = [gate.key() for _ in range(10)]
    gate.get(LOADS, key=keys[0])
    results = []

    with redis.frozen():
        threads = [threading.Thread(
            target=lambda key=key: results.append(timed(gate, key)))
            for key in keys * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(results) == 20
    for answer, seconds in results:
        check_down(answer)
        assert seconds < 2 * TIMEOUT + SLACK
    recovers(gate, keys[0])


def test_black_hole(relayed):
    """Connections are made and nothing ever comes."""
    relayed.relay.freeze()
    relayed.relay.cut()

    for _ in range(8):
        answer, seconds = timed(relayed, relayed.warm)
        check_down(answer)
        assert seconds < 2 * TIMEOUT + SLACK
    relayed.relay.thaw()
    recovers(relayed, relayed.warm)


def test_breaker(relayed):
    """No request waits for a Redis that is known to be down."""
    relayed.relay.freeze()
    for _ in range(12):
        relayed.relay.cut()
        relayed.get(LOADS, key=relayed.warm)
        time.sleep(0.05)

    times = sorted(timed(relayed, relayed.warm)[1] for _ in range(9))
    assert times[4] < TIMEOUT / 2

    relayed.relay.reset()
    recovers(relayed, relayed.warm)


@pytest.mark.parametrize("seconds", [1.6, 0])
def test_connections_cut(relayed, seconds):
    relay = relayed.relay
    relay.refuse()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer, took = timed(relayed, relayed.warm)
        check_down(answer)
        assert took < TIMEOUT + SLACK
        time.sleep(0.05)
    relay.accept()
    recovers(relayed, relayed.warm)


def test_reconnects_are_few(relayed):
    """Backoff: an outage is no storm of connections."""
    relay = relayed.relay
    before = relay.connections
    relay.target = ("127.0.0.1", 1)
    relay.cut()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        relayed.get(LOADS, key=relayed.warm)

    assert relay.connections - before < 30


# Slow, and in pieces.

def test_slow(relayed, upstream):
    relayed.relay.delay = 0.03
    for _ in range(3):
        assert relayed.get(LOADS, key=relayed.key()).status == 200


def test_slower_than_a_command_may_take(relayed, upstream):
    """Late replies are consumed in order: nobody gets another's."""
    relay = relayed.relay
    keys = [relayed.key() for _ in range(4)]
    relay.replace("GET", None, times=1, delay=2 * TIMEOUT)

    for key in keys[:3]:
        answer, seconds = timed(relayed, key)
        assert answer.status in (200, 503)
        assert seconds < TIMEOUT + SLACK
    relay.reset()

    for key in keys:
        recovers(relayed, key)
        assert upstream.requests[-1].get("X-Keygate-Key-Id") == key.id


def test_replies_split_at_every_byte(make_gate, make_relay, redis, upstream):
    """Time enough for the longest of them, INFO's."""
    relay = make_relay(redis.port)
    relay.split = True
    relayed = make_gate(redis_url=relay.url, **{
        **ONE, "redis_parameters": "connect=2s command=5s dead=10s"})
    key = relayed.key(limits={"default": "2r/m"})

    first = relayed.post(LOADS, key=key, idem="k", body=b"{}")
    again = relayed.post(LOADS, key=key, idem="k", body=b"{}")
    third = relayed.post(LOADS, key=key, idem="k", body=b"{}")

    assert (first.status, again.body) == (200, first.body)
    assert again.get("Idempotent-Replayed") == "true"
    assert third.code == "rate_limited"
    assert relayed.get(LOADS, key=key.token[:-1] + "!").status == 401
    assert upstream.requests[-1].get("X-Keygate-Key-Id") == key.id


def test_many_at_once_in_pieces(make_gate, make_relay, redis, upstream):
    """Pipelined commands and replies in pieces: each to whom it belongs."""
    relay = make_relay(redis.port)
    relay.split = True
    gate = make_gate(redis_url=relay.url, **{
        **ONE, "redis_parameters": "connect=1s command=5s dead=5s"})
    keys = [gate.key() for _ in range(12)]
    answers = {}

    def ask(key):
        answers[key.id] = gate.get(f"{LOADS}?{key.id}", key=key)

    threads = [threading.Thread(target=ask, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(answers[key.id].status == 200 for key in keys)
    assert len(upstream.requests) == len(keys)
    for seen in upstream.requests:
        assert seen.get("X-Keygate-Key-Id") == seen.target.split("?")[1]


# Another Redis than before.

def test_restarted_empty(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, **ONE)
    key = gate.key(limits={"default": "3r/m"})
    for _ in range(2):
        assert gate.get(LOADS, key=key).status == 200

    # What was counted is forgotten, and is counted anew.
    redis.restart(empty=True)
    gate.org(org=key.org)
    key.save()
    recovers(gate, key)
    assert [gate.get(LOADS, key=key).status for _ in range(3)] == \
        [200, 200, 429]
    assert gate.get(LOADS, key=gate.key()).status == 200


def test_restarted_with_its_data(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, **ONE)
    key = gate.key(limits={"default": "3r/m"})
    first = gate.post(LOADS, key=key, idem="k", body=b"{}")
    gate.get(LOADS, key=key)

    redis.restart()
    answer = wait_for(lambda: (a := gate.post(LOADS, key=key, idem="k",
                                              body=b"{}")).status == 200
                      and a, 10, "recovery", step=0.05)
    assert answer.get("Idempotent-Replayed") == "true"
    assert answer.body == first.body
    assert gate.get(LOADS, key=key).status == 429


def test_script_flush(gate, redis):
    key = gate.key(limits={"default": "6r/m"})
    statuses = []
    for _ in range(7):
        redis.client.script_flush()
        statuses.append(gate.get(LOADS, key=key).status)

    assert statuses == [200] * 6 + [429]


# Errors of Redis.

def test_out_of_memory(make_gate, make_redis, upstream):
    """maxmemory reached under noeviction: reads go, writes do not."""
    redis = make_redis()
    gate = make_gate(redis=redis, **ONE)
    key = gate.key()
    gate.get(LOADS, key=key)
    redis.client.config_set("maxmemory", 1)

    check_down(gate.get(LOADS, key=key))
    check_down(gate.post(LOADS, key=key, idem="k", body=b"{}"))
    gate.wait_log("OOM")
    assert len(upstream.requests) == 1

    redis.client.config_set("maxmemory", 0)
    recovers(gate, key)


@pytest.mark.parametrize("stale, word", [("yes", "READONLY"),
                                         ("no", "MASTERDOWN")])
def test_replica(make_gate, make_redis, upstream, stale, word):
    redis = make_redis(options={"replica-serve-stale-data": stale})
    gate = make_gate(redis=redis, **ONE)
    key = gate.key()
    gate.get(LOADS, key=key)
    redis.client.replicaof("127.0.0.1", 1)

    check_down(gate.get(LOADS, key=key))
    check_down(gate.post(LOADS, key=key, idem="k", body=b"{}"))
    gate.wait_log(word)
    assert len(upstream.requests) == 1

    redis.client.replicaof("NO", "ONE")
    recovers(gate, key)


ERRORS = ["-LOADING Redis is loading the dataset in memory",
          "-BUSY Redis is busy running a script",
          "-MISCONF Redis is configured to save RDB snapshots",
          "-NOPERM this user has no permissions",
          "-ERR something", "-", "-CLUSTERDOWN Hash slot not served",
          "-NOAUTH Authentication required.", "-ERR " + "x" * 3000]

SHAPES = [b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*0\r\n", b"*-1\r\n",
          b"*5\r\n:1\r\n:0\r\n:0\r\n:5\r\n$1\r\na\r\n",
          b"*5\r\n:0\r\n:9\r\n:0\r\n:5\r\n:1\r\n",
          b"*3\r\n:1\r\n:0\r\n:0\r\n", b"$3\r\nabc\r\n",
          b"*1\r\n*1\r\n*1\r\n:1\r\n"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error[:9])
def test_error_in_place_of_a_decision(relayed, upstream, error):
    relayed.relay.replace("EVALSHA", error.encode() + b"\r\n")
    relayed.relay.replace("EVAL", error.encode() + b"\r\n")

    check_down(relayed.get(LOADS, key=relayed.warm))
    assert len(upstream.requests) == 1
    relayed.relay.reset()
    recovers(relayed, relayed.warm)


@pytest.mark.parametrize("reply", SHAPES, ids=repr)
def test_decision_of_another_shape(relayed, upstream, reply):
    relayed.relay.replace("EVALSHA", reply, times=1)

    check_down(relayed.get(LOADS, key=relayed.warm))
    assert len(upstream.requests) == 1
    recovers(relayed, relayed.warm)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error[:9])
def test_error_in_place_of_a_record(relayed, error):
    """An outage never looks like bad credentials."""
    key = relayed.key()
    relayed.relay.replace("GET", error.encode() + b"\r\n")

    check_down(relayed.get(LOADS, key=key))
    relayed.relay.reset()
    recovers(relayed, key)


@pytest.mark.parametrize("reply", [b":1\r\n", b"*0\r\n", b"+OK\r\n",
                                   b"*1\r\n$1\r\na\r\n"], ids=repr)
def test_record_of_another_type(relayed, reply):
    """Nobody is told that a key is unknown when Redis did not say so."""
    key = relayed.key()
    relayed.relay.replace("GET", reply)

    answer = relayed.get(LOADS, key=key)
    assert answer.status in (500, 503)
    check_error(answer, answer.status, answer.code,
                retry=(1, 30) if answer.status == 503 else None)
    relayed.relay.reset()
    wait_for(lambda: relayed.get(LOADS, key=key).status == 200, 10,
             "recovery", step=0.05)


@pytest.mark.parametrize("noise", [
    b"?\r\n", b"$99999999999999\r\n", b"*99999999\r\n:1\r\n", b"\0" * 100,
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b":12x\r\n", b"$5\r\nabcdefgh\r\n"],
    ids=repr)
def test_reply_that_is_no_protocol(relayed, upstream, noise):
    relayed.relay.replace("EVALSHA", noise, times=1)

    answer, seconds = timed(relayed, relayed.warm)
    assert answer.status in (200, 503)
    assert seconds < TIMEOUT + SLACK
    recovers(relayed, relayed.warm)


def test_reply_that_nobody_asked_for(relayed, upstream):
    """One reply too many would be everybody's who asks after."""
    relayed.relay.replace("GET", b"$-1\r\n$2\r\n{}\r\n", times=1)
    relayed.get(LOADS, key=relayed.key())

    for _ in range(4):
        key = relayed.key()
        recovers(relayed, key)
        assert upstream.requests[-1].get("X-Keygate-Key-Id") == key.id


def test_state_of_another_type(gate, redis):
    """Another's value under the name of one key's state: only it suffers."""
    key, other = gate.key(), gate.key()
    gate.get(LOADS, key=key)
    name, = redis.client.keys(f"kg:limit:{{{key.org}}}*")
    redis.client.delete(name)
    redis.client.lpush(name, "x")

    check_down(gate.get(LOADS, key=key))
    assert gate.get(LOADS, key=other).status == 200
    redis.client.set(name, "noise")
    check_down(gate.get(LOADS, key=key))
    redis.client.delete(name)
    assert gate.get(LOADS, key=key).status == 200


# Clients that leave meanwhile.

@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("warm", [True, False])
def test_client_leaves_while_redis_is_asked(make_gate, make_redis, upstream,
                                            leave, warm):
    """What is leased is admitted without asking, so nothing is."""
    redis = make_redis()
    gate = make_gate(redis=redis, **{**ONE, "policies":
                                     "keygate_policy default rate=60r/m "
                                     "by=key exact;"})
    key = gate.key()
    if warm:
        gate.get(LOADS, key=key)
    workers = gate.workers()
    asked = len(upstream.requests)

    for _ in range(3):
        with redis.frozen():
            clients = [gate.connect() for _ in range(10)]
            for client in clients:
                client.send(encode_request("GET", LOADS, {
                    "Authorization": f"Bearer {key.token}"}))
            time.sleep(0.03)
            for client in clients:
                getattr(client, leave)()
            time.sleep(0.03)
            assert gate.get("/health/api").status == 200

    recovers(gate, key)
    assert gate.workers() == workers
    lines = [seen for seen in upstream.requests[asked:]
             if seen.target == LOADS]
    assert len(lines) <= 2


def test_http2_stream_reset_while_redis_is_asked(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, **ONE)
    key = gate.key()
    headers = {"Authorization": f"Bearer {key.token}"}

    with redis.frozen(), gate.h2() as client:
        with pytest.raises(Exception, match="time"):
            client.get(LOADS, headers=headers, timeout=0.05)
    recovers(gate, key)


def test_admin_while_redis_is_away(make_gate, make_redis):
    redis = make_redis()
    gate = make_gate(redis=redis, **ONE)
    org = gate.org()
    with redis.stopped():
        answer = gate.admin("GET", f"/orgs/{org}")
        assert answer.status == 503
        assert answer.error["retryable"] is True
