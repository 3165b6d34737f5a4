"""Fixtures of the tests; t/harness says how to use them."""

import contextlib
import datetime
import os
import signal
import time

import hypothesis
import pytest

import harness

TEST_SECONDS = 120

# A busy machine draws examples slowly, too.
hypothesis.settings.register_profile("busy", deadline=None,
                                     suppress_health_check=[
                                         hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")


class Family:
    """Every gate that is alive, so that each test is checked on all."""

    def __init__(self):
        self.gates = []

    def check(self):
        for gate in self.gates:
            gate.end_test()

    def end(self, gate):
        self.gates.remove(gate)
        gate.close()


FAMILY = Family()


@pytest.fixture(scope="module")
def redis():
    server = harness.RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def upstream_of_module():
    api = harness.Upstream()
    yield api
    api.close()


@pytest.fixture
def upstream(upstream_of_module):
    upstream_of_module.reset()
    yield upstream_of_module
    upstream_of_module.reset()


@pytest.fixture(scope="module")
def gate_of_module(request, redis, upstream_of_module):
    pieces = getattr(request.module, "GATE", {})
    running = harness.Gate(redis, upstream_of_module, **pieces)
    FAMILY.gates.append(running)
    yield running
    upstream_of_module.release()
    FAMILY.end(running)


@pytest.fixture
def gate(gate_of_module, upstream):
    return gate_of_module


@pytest.fixture
def make_gate(redis, upstream, make_redis, make_relay):
    """A gate of the test's own: make_gate(piece=text, redis=, upstream=,
    redis_url=, files=).  It ends before what it asks: a worker that is exiting
    stays for what Redis has not acknowledged."""
    made = []

    def make(**how):
        how.setdefault("redis", redis)
        how.setdefault("upstream", upstream)
        running = harness.Gate(**how)
        FAMILY.gates.append(running)
        made.append(running)
        return running

    yield make

    upstream.release()
    with contextlib.ExitStack() as stack:
        for running in made:
            stack.callback(FAMILY.end, running)


def maker(cls):
    """A fixture that makes what it is asked for and closes it after."""

    @pytest.fixture
    def make_one():
        with contextlib.ExitStack() as stack:
            def make(*args, **how):
                made = cls(*args, **how)
                stack.callback(made.close)
                return made

            yield make

    return make_one


make_redis = maker(harness.RedisServer)
make_upstream = maker(harness.Upstream)
make_relay = maker(harness.Relay)


@pytest.fixture
def nginx_t():
    return harness.nginx_t


@pytest.fixture
def one_day():
    """For what is told of by days: midnight, UTC, is not within the test."""
    now = datetime.datetime.now(datetime.timezone.utc)
    end = datetime.datetime.combine(now.date() + datetime.timedelta(days=1),
                                    datetime.time(), datetime.timezone.utc)
    left = (end - now).total_seconds()
    if left < TEST_SECONDS / 4:
        time.sleep(left + 0.1)


@pytest.fixture(autouse=True)
def no_faults():
    """Fails the test during which a gate's log got a bad line."""
    yield
    FAMILY.check()


def pytest_collection_modifyitems(config, items):
    """Tests of the loadable module are none of an nginx it is linked into."""
    if not os.environ.get("KEYGATE_NGINX"):
        return

    linked = [item for item in items if not item.get_closest_marker("dynamic")]
    config.hook.pytest_deselected(
        items=[item for item in items if item not in linked])
    items[:] = linked


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Ends a test that hangs, so that the run goes on and names it."""
    marker = item.get_closest_marker("seconds")
    seconds = marker.args[0] if marker else TEST_SECONDS

    def late(number, frame):
        raise TimeoutError(f"{item.nodeid} takes over {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
