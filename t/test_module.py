"""The loadable module beside one that brings a Redis client of its own.

nginx loads modules RTLD_GLOBAL, and Debian's nchan exports a hiredis of another
version and layout: were one of the two clients' symbols taken for the other's,
both would crash.
"""

import re
import subprocess

import pytest

from harness import template

pytestmark = pytest.mark.dynamic

NCHAN = "/usr/lib/nginx/modules/ngx_nchan_module.so"
OURS = str(template.ROOT / "build/ngx_http_keygate_module.so")

HIREDIS = re.compile(r" (redis|sds|hi_|__redis)\w*")

CHANNEL = """
    upstream channels { nchan_redis_server redis://127.0.0.1:%%NCHAN_PORT%%; }
"""

LOCATIONS = """
    location = /channel/write {
        keygate off; nchan_publisher; nchan_channel_id one;
        nchan_redis_pass channels;
    }
    location = /channel/read {
        keygate off; nchan_subscriber longpoll; nchan_channel_id one;
        nchan_subscriber_first_message oldest; nchan_redis_pass channels;
    }
"""


def symbols(path, *options):
    done = subprocess.run(["nm", "-D", *options, path], check=True,
                          capture_output=True, text=True)
    return done.stdout.splitlines()


def test_hiredis_is_hidden():
    """Neither offered to nchan nor taken from it."""
    assert [line for line in symbols(OURS) if HIREDIS.search(line)] == []


def test_only_what_nginx_looks_for_is_offered():
    """Any other name could be taken for another module's."""
    assert {line.split()[-1] for line in symbols(OURS, "--defined-only")} == \
        {"ngx_modules", "ngx_module_names", "ngx_module_order"}


def test_hiredis_of_nchan_is_not_hidden():
    """What makes the other tests here say something."""
    found = [line for line in symbols(NCHAN, "--defined-only")
             if HIREDIS.search(line)]

    assert len(found) > 50
    assert any(line.endswith(" redisReaderCreate") for line in found)


def test_module_needs_no_library_of_redis():
    done = subprocess.run(["ldd", OURS], check=True, capture_output=True,
                          text=True)

    assert "hiredis" not in done.stdout
    assert "not found" not in done.stdout


@pytest.fixture(params=["nchan first", "nchan last"])
def gate(request, monkeypatch, make_gate, redis):
    """A gate with both modules, in either order, both talking to Redis."""
    lines = [f"load_module {NCHAN};", f"load_module {OURS};"]
    if request.param == "nchan last":
        lines.reverse()

    values = template.values
    monkeypatch.setattr(template, "values", lambda *args: {
        **values(*args), "MODULE": "\n".join(lines),
        "NCHAN_PORT": redis.port})

    return make_gate(http=CHANNEL, locations=LOCATIONS)


def test_gate_beside_nchan(gate, upstream):
    key = gate.key(limits={"default": "3r/m"})

    assert [gate.get("/v1/loads", key=key).status for _ in range(4)] == [
        200, 200, 200, 429]
    assert gate.get("/v1/loads").status == 401

    writer = gate.key()
    first, again = (gate.post("/v1/loads", key=writer, idem="one",
                              json={"a": 1}) for _ in range(2))
    assert (first.status, again.status) == (200, 200)
    assert again.get("Idempotent-Replayed") == "true"
    assert again.body == first.body
    assert len(upstream.requests) == 4

    org = gate.org("live")
    made = gate.admin("POST", f"/orgs/{org}/keys", json={
        "mode": "live", "scopes": ["loads:read"]})
    assert gate.get("/v1/loads", key=made.json()["token"]).status == 200


def test_nchan_beside_the_gate(gate):
    """Each asks Redis through its own client, in turns."""
    key = gate.key()

    for word in (b"hello", b"again"):
        assert gate.get("/v1/loads", key=key).status == 200
        assert gate.post("/channel/write", body=word).status in (201, 202)

    answer = gate.get("/channel/read")
    assert (answer.status, answer.body) == (200, b"hello")
    assert gate.redis.client.keys("*channel*one*")
    assert gate.get("/v1/loads", key=key).status == 200
