"""Looking records up: what Redis is asked, how often and by whom."""

import json
import threading
import time

import pytest

from harness import make_token, records
from harness.ports import wait_for
from harness.processes import stopped

LOADS = "/v1/loads"
PAST = "2020-01-01T00:00:00Z"
SLOW = "connect=1s command=5s dead=6s"
NEW = b"a-pepper-that-came-later-0123456789"
FAST = "keygate_policy default rate=10000r/m by=key;"


def gets(relay, name=None):
    """The GETs that Redis was asked for, or how many of one name."""
    asked = [words[1].decode() for words in list(relay.commands)
             if words[0].upper() == b"GET"]
    return asked if name is None else asked.count(name)


def lookups(redis):
    """The GETs that Redis has run."""
    return redis.client.info("commandstats")["cmdstat_get"]["calls"]


def send(client, token):
    client.send(b"GET /v1/loads HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "
                + token.encode() + b"\r\n\r\n")


# Two peppers

class Peppers:
    """A gate with two of them, a key under each, and one under none of them;
    they are written before it watches, so that GETs can be counted."""

    def __init__(self, make_gate, relay, **pieces):
        self.relay = relay
        self.gate = make_gate(
            redis_url=relay.url, redis_parameters=SLOW, policies=FAST,
            zone="keygate_zone zone=keygate:16m valid=1m negative=1m;",
            keys="keygate_keys prefix=tf pepper=%%FOLDER%%/new "
                 "pepper=%%FOLDER%%/pepper;",
            files={"new": NEW.decode()}, workers="1",
            gate="keygate partner; keygate_limit off;"
                 "keygate_errors envelope;", **pieces)
        self.old, self.new, self.none, self.other = (
            records.make_key(self.gate.redis.client, pepper, self.gate.org())
            for pepper in (self.gate.pepper, NEW, b"x" * 32, NEW))
        self.gate.watched()

    def connected(self):
        """Something was asked before; the GETs until then."""
        assert self.get(self.other.token).status == 200
        return len(gets(self.relay))

    def names(self, token):
        return [f"kg:key:{{{records.digest(pepper, token)}}}"
                for pepper in (NEW, self.gate.pepper)]

    def get(self, token):
        return self.gate.get(LOADS, key=token)


@pytest.fixture
def peppers(make_gate, make_relay, redis):
    return Peppers(make_gate, make_relay(redis.port))


KEYS = ["new", "old", "none"]


@pytest.mark.parametrize("name, status", zip(KEYS, (200, 200, 401)))
def test_both_peppers_are_asked_for_at_once(peppers, name, status):
    """Before Redis has answered anything."""
    key = getattr(peppers, name)
    asked = peppers.connected()
    client = peppers.gate.connect()
    peppers.relay.freeze()
    send(client, key.token)

    wait_for(lambda: len(gets(peppers.relay)) >= asked + 2, 5, "the GETs")
    assert gets(peppers.relay)[asked:] == peppers.names(key.token)

    peppers.relay.thaw()
    assert client.read().status == status


def test_absent_under_each_pepper(peppers):
    """Each is remembered, so that neither is asked for again; and each is
    forgotten by itself."""
    token = make_token()
    for _ in range(4):
        assert peppers.get(token).status == 401
    assert gets(peppers.relay) == peppers.names(token)

    for name in peppers.names(token):
        asked = len(gets(peppers.relay))
        both = peppers.gate.redis.client.pipeline()     # one message tells
        both.set(name, "{}").delete(name).execute()
        wait_for(lambda: peppers.get(token).status == 401
                 and gets(peppers.relay)[asked:], 5, "a GET")
        assert set(gets(peppers.relay)[asked:]) == {name}


def test_the_first_pepper_wins_whatever_is_cached(peppers):
    """A token with two records has the first, also when the second was
    cached long before."""
    old = peppers.old
    assert peppers.get(old.token).status == 200

    new = records.make_key(peppers.gate.redis.client, NEW, old.org,
                           token=old.token, revokedAt=PAST)
    wait_for(lambda: peppers.get(old.token).status == 401, 5, "the first")
    assert "revoked" in peppers.get(old.token).error["message"]

    old.save(name="written again")
    time.sleep(0.05)
    assert peppers.get(old.token).status == 401

    new.delete()
    wait_for(lambda: peppers.get(old.token).status == 200, 5, "the second")


def test_a_cached_key_of_an_old_pepper_costs_nothing(peppers):
    assert [peppers.get(peppers.old.token).status
            for _ in range(6)] == [200] * 6
    assert len(gets(peppers.relay)) == 3        # two, and the organisation


@pytest.mark.parametrize("bad, name, status", [
    (1, "new", 503), (1, "old", 503), (1, "none", 503),
    (2, "new", 200), (2, "old", 503), (2, "none", 503),
])
def test_one_of_two_answers_is_an_error(peppers, bad, name, status):
    """What is not known is not absent; what comes after the record that was
    found does not matter."""
    key = getattr(peppers, name)
    peppers.relay.replace("GET", b"-LOADING Redis is loading\r\n", times=1)
    if bad == 2:
        peppers.relay.replace("GET", None, times=1)

    answer = peppers.get(key.token)
    assert answer.status == status
    if status == 503:
        assert answer.get("Retry-After") == "1"
        assert answer.error["retryable"] is True

    # Nothing of it stays.
    assert peppers.get(key.token).status == (401 if name == "none" else 200)


@pytest.mark.parametrize("first", [True, False])
def test_a_record_is_broken_under_one_pepper(peppers, first):
    key = peppers.old if first else peppers.new
    broken = peppers.names(key.token)[0 if first else 1]
    peppers.gate.redis.client.set(broken, "{")

    assert peppers.get(key.token).status == (500 if first else 200)


@pytest.mark.parametrize("changed", [0, 1])
def test_changed_while_both_are_read(peppers, changed):
    """The fill race, of either: what was on its way is not kept."""
    client = peppers.gate.redis.client
    key = peppers.none if changed == 0 else peppers.old
    late = threading.Event()
    rule = peppers.relay.replace("GET", None, times=1, delay=late)
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(peppers.get(key.token)))
    asking.start()
    wait_for(lambda: rule.hits == 1, 5, "the replies")

    name = peppers.names(key.token)[changed]
    client.set(name, json.dumps({**key.record, "revokedAt": PAST}))
    time.sleep(0.05)
    peppers.gate.idle()
    assert asking.is_alive()
    late.set()
    asking.join()

    assert answers[0].status == (401 if changed == 0 else 200)
    for _ in range(3):
        answer = peppers.get(key.token)
        assert answer.status == 401
        assert "revoked" in answer.error["message"]


def test_a_client_that_leaves_while_both_are_read(peppers):
    key = peppers.old
    peppers.relay.replace("GET", None, times=1, delay=0.3)
    client = peppers.gate.connect()
    send(client, key.token)
    wait_for(lambda: len(gets(peppers.relay)) == 2, 5, "the GETs")
    client.close()

    assert peppers.get(key.token).status == 200
    assert len(gets(peppers.relay)) == 3


# Several workers

class Workers:
    """A gate and, for each of its workers, connections that are its own; the
    key is written before it watches, so that GETs can be counted."""

    def __init__(self, make_gate, relay, workers, each=1, parameters=SLOW,
                 **pieces):
        self.relay = relay
        self.gate = make_gate(
            redis_url=relay.url, redis_parameters=parameters,
            workers=str(workers), policies=FAST,
            server="add_header X-Pid $pid always;",
            gate="keygate partner; keygate_limit off;"
                 "keygate_errors envelope;", **pieces)
        self.key = self.gate.key()
        self.gate.watched()
        self.clients = {}
        self.count, self.each = workers, each
        wait_for(self._enough, 30, "a connection to each worker", step=0)

    def _enough(self):
        client = self.gate.connect()
        pid = client.request("GET", "/health/api").get("X-Pid")
        mine = self.clients.setdefault(int(pid), [])
        if len(mine) < self.each:
            mine.append(client)
        else:
            client.close()
        return (len(self.clients) == self.count
                and all(len(c) == self.each for c in self.clients.values()))

    def all(self):
        return [client for mine in self.clients.values() for client in mine]

    def two(self):
        """(pid, client) of two workers, the first not the one that is told of
        changes: that may be killed or stopped."""
        told = self.gate.wait_log(r" (\d+)#\d+: keygate: \S+ tells of").group(1)
        pids = sorted(self.clients, key=lambda pid: pid == int(told))
        return [(pid, self.clients[pid][0]) for pid in pids[:2]]

    def warm(self):
        """Every worker is connected to Redis."""
        for client in self.all():
            send(client, make_token())
            client.read()


def ask_slowly(workers, token, delay=1.0):
    """The first of two workers asks Redis, whose answer is late; then the
    other one asks too.  The relay's rule and both workers."""
    first, other = workers.two()
    workers.warm()
    rule = workers.relay.replace("GET", None, times=1, delay=delay)
    send(first[1], token)
    wait_for(lambda: rule.hits == 1, 5, "the answer of Redis")
    send(other[1], token)
    return first, other


@pytest.mark.parametrize("workers, each", [(2, 8), (4, 4)])
def test_many_misses_of_a_node_make_one_lookup(make_gate, make_relay, redis,
                                               workers, each):
    relay = make_relay(redis.port)
    node = Workers(make_gate, relay, workers, each)
    node.warm()
    key, unknown = node.key, make_token()

    for token, status in ((key.token, 200), (unknown, 401)):
        # The first answer is late, so that all have asked by then.
        relay.replace("GET", None, times=1, delay=0.3)
        for client in node.all():
            send(client, token)
        assert [client.read().status for client in node.all()] \
            == [status] * workers * each

    absent = f"kg:key:{{{records.digest(node.gate.pepper, unknown)}}}"
    assert gets(relay, key.name) == 1
    assert gets(relay, f"kg:org:{{{key.org}}}") == 1
    assert gets(relay, absent) == 1


def test_worker_killed_while_it_asks(make_gate, make_relay, redis):
    """Those who wait for its answer ask themselves, long before the time that
    an answer may take is over."""
    node = Workers(make_gate, make_relay(redis.port), 2,
                   parameters="connect=1s command=50s dead=60s")
    key = node.key
    first, other = ask_slowly(node, key.token, delay=9)

    time.sleep(0.1)
    assert gets(node.relay, key.name) == 1      # the other one waits
    node.gate.kill_worker(first[0])
    assert other[1].read().status == 200
    assert gets(node.relay, key.name) == 2


def test_worker_stuck_while_it_asks(make_gate, make_relay, redis):
    """It holds up nobody for longer than Redis may take."""
    node = Workers(make_gate, make_relay(redis.port), 2,
                   parameters="connect=1s command=500ms dead=60s")
    key = node.key
    (pid, _), _ = node.two()
    late = threading.Event()
    try:
        _, other = ask_slowly(node, key.token, delay=late)
        with stopped(pid):
            assert other[1].read().status == 200
            assert gets(node.relay, key.name) == 2
    finally:
        late.set()


def test_worker_that_asks_gets_an_error(make_gate, make_relay, redis):
    """The others are not told of it: they ask themselves."""
    node = Workers(make_gate, make_relay(redis.port), 2)
    key = node.key
    first, other = node.two()
    node.warm()
    rule = node.relay.replace("GET", b"-LOADING x\r\n", times=1, delay=0.5)
    send(first[1], key.token)
    wait_for(lambda: rule.hits == 1, 5, "the answer of Redis")
    send(other[1], key.token)

    assert first[1].read().status == 503
    assert other[1].read().status == 200


def test_a_change_is_not_waited_out(make_gate, make_relay, redis):
    """Who comes after a record changed takes no part in a lookup that began
    before it, of whichever worker."""
    node = Workers(make_gate, make_relay(redis.port), 2, each=2)
    key = node.key
    first, other = ask_slowly(node, key.token, delay=2)

    key.save(revokedAt=PAST)
    time.sleep(0.5)                             # it is told
    late = node.clients[other[0]][1]
    send(late, key.token)
    assert late.read().status == 401

    first[1].read()
    assert other[1].read().status == 401
    for client in node.all():
        send(client, key.token)
        assert client.read().status == 401


def test_waiting_for_another_worker_is_left(make_gate, make_relay, redis):
    node = Workers(make_gate, make_relay(redis.port), 2)
    key = node.key
    first, other = ask_slowly(node, key.token, delay=0.5)
    other[1].close()

    assert first[1].read().status == 200
    assert gets(node.relay, key.name) == 1
    assert node.gate.get(LOADS, key=key).status == 200


def test_reload_while_another_worker_is_waited_for(make_gate, make_relay,
                                                   redis):
    """Both answers come, from workers that are told to go."""
    node = Workers(make_gate, make_relay(redis.port), 2)
    key = node.key
    first, other = ask_slowly(node, key.token, delay=1)
    node.gate.reload()

    assert first[1].read().status == 200
    assert other[1].read().status == 200


# No room

def test_a_full_zone_looks_up_in_redis(make_gate, redis):
    """With a line in the log, and never with an error."""
    gate = make_gate(
        zone="keygate_zone zone=keygate:1m usage=off;", workers="1",
        http="keepalive_requests 100000;",
        gate="keygate partner; keygate_limit off; keygate_errors envelope;",
        proxy="proxy_pass http://unix:%%FOLDER%%/upstream.sock;",
        servers="""server {
            listen unix:%%FOLDER%%/upstream.sock;
            access_log off;
            location / { return 200; }
        }""")
    org = gate.org()
    keys = [gate.key(org) for _ in range(5000)]
    gate.watched()
    redis.client.config_resetstat()

    client = gate.connect()
    for _ in range(2):
        for start in range(0, len(keys), 50):
            part = keys[start:start + 50]
            for key in part:
                send(client, key.token)
            assert [client.read().status for _ in part] == [200] * len(part)

    # They push each other out.
    assert lookups(redis) > 1.5 * len(keys)
    assert len([line for line in gate.log().splitlines()
                if "is full" in line]) == 1

    # What is in use stays: the organisation's record among them.
    asked = lookups(redis)
    for _ in range(50):
        assert gate.get(LOADS, key=keys[-1]).status == 200
    assert lookups(redis) == asked
