"""Configuration at work: what a location inherits, what a reload keeps."""

import signal

import pytest

LOADS = "/v1/loads"

PROXY = """include %%ROOT%%/conf/keygate_proxy_params;
            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;"""

OTHER = """
    keygate_routes other { GET /v1/customers loads:read; }
    keygate_policy slow rate=7r/m by=key;
    keygate_policy poll rate=5r/m by=key;
"""

# Everything is said once in http {}, and some of it anew further in.

GATE = {
    "http": OTHER + """
        keygate partner;
        keygate_limit default;
        keygate_errors envelope;
        keygate_realm outer;
        keygate_token $http_x_key bearer;
    """,
    "gate": "",
    "locations": f"""
        location = /v1/customers {{ keygate other; {PROXY} }}
        location = /v1/carriers {{ keygate off; {PROXY} }}
        location /v1/tracking/ {{
            keygate_limit slow poll; keygate_realm inner;
            location /v1/tracking/deep {{ {PROXY} }}
            location /v1/tracking/off {{ keygate_limit off; {PROXY} }}
            {PROXY}
        }}
        location = /v1/webhooks {{
            keygate_errors off; keygate_token bearer; {PROXY}
        }}
    """,
}


def policies(answer):
    """The policies that applied, {name: limit}."""
    value = answer.get("RateLimit-Policy")
    if value is None:
        return {}
    return {item.split(";")[0].strip('" '): int(item.split("q=")[1]
                                                .split(";")[0])
            for item in value.split(",")}


def test_from_http(gate):
    key = gate.key()
    answer = gate.get(LOADS, key=key)

    assert (answer.status, policies(answer)) == (200, {"default": 60})
    assert gate.get(LOADS, headers={"X-Key": key.token}).status == 200
    answer = gate.get(LOADS)
    assert answer.code == "unauthorized"
    assert answer.get("WWW-Authenticate") == 'Bearer realm="outer"'


def test_routes_of_a_location(gate):
    """The other table, and everything else as in http {}."""
    key = gate.key(scopes=["loads:read"])
    answer = gate.get("/v1/customers", key=key)

    assert (answer.status, policies(answer)) == (200, {"default": 60})
    assert gate.get("/v1/customers").get(
        "WWW-Authenticate") == 'Bearer realm="outer"'


def test_off_in_a_location(gate, upstream):
    answer = gate.get("/v1/carriers", key="hello")

    assert (answer.status, policies(answer)) == (200, {})
    assert upstream.requests[0].get("Authorization") == "Bearer hello"


@pytest.mark.parametrize("target, wanted", [
    ("/v1/tracking/1", {"slow": 7, "poll": 5}),
    ("/v1/tracking/deep", {"slow": 7, "poll": 5}),
    ("/v1/tracking/off", {})])
def test_limits_of_a_location(gate, target, wanted):
    """They replace those of http {}; a location in it inherits them."""
    answer = gate.get(target, key=gate.key())

    assert (answer.status, policies(answer)) == (200, wanted)
    assert gate.get(target).get(
        "WWW-Authenticate") == 'Bearer realm="inner"'


def test_errors_and_token_of_a_location(gate):
    key = gate.key()

    assert gate.get("/v1/webhooks", key=key).status == 200
    answer = gate.get("/v1/webhooks", headers={"X-Key": key.token})
    assert (answer.status, answer.code) == (401, None)
    assert answer.get("X-Request-Id")


def test_admin_is_no_partner_s_location(gate):
    """It answers under a keygate of http {} without a key."""
    org = gate.org("live")

    assert gate.admin("GET", f"/orgs/{org}").status == 200


def test_limit_of_a_route(make_gate):
    """In the location's place, beside it, or none."""
    gate = make_gate(policies=OTHER, routes="""keygate_routes partner {
        GET /a a:b; GET /b a:b limit=slow; GET /c a:b limit=+slow,poll;
        GET /d a:b limit=off; }""")
    key = gate.key(scopes=["*"])

    assert [policies(gate.get(f"/{target}", key=key))
            for target in "abcd"] == [
        {"default": 60}, {"slow": 7}, {"default": 60, "slow": 7, "poll": 5},
        {}]


def test_default_policy_is_the_contract_s(make_gate):
    gate = make_gate(policies="", gate="keygate partner;")

    for limit, wanted in ((None, 60), ("600r/m", 600), ("601r/m", 600)):
        key = gate.key(limits={"default": limit} if limit else {})
        answer = gate.get(LOADS, key=key)
        assert answer.get("RateLimit-Policy") == f'"default";q={wanted};w=60'


def test_two_prefixes_and_two_peppers(make_gate):
    """A record is found under whichever pepper it was made with."""
    gate = make_gate(
        keys="keygate_keys prefix=tf prefix=acme pepper=new pepper=pepper;",
        files={"new": "n" * 40})
    old = gate.key()
    gate.pepper = b"n" * 40
    new = gate.key(prefix="acme")
    gate.pepper = b"x" * 40
    other = gate.key()

    assert [gate.get(LOADS, key=key).status
            for key in (old, new, other, old, new)] == [200, 200, 401, 200,
                                                        200]


def test_newline_of_the_pepper_is_not_part_of_it(make_gate):
    for text in ("p" * 32, "p" * 32 + "\n"):
        gate = make_gate(keys="keygate_keys prefix=tf pepper=mine;",
                         files={"mine": text})
        gate.pepper = b"p" * 32
        assert gate.get(LOADS, key=gate.key()).status == 200


# Reload

@pytest.fixture
def warm(make_gate, make_relay, redis):
    """A gate that knows a key, the key, and the way to Redis."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url)
    key = gate.key()
    gate.watched()
    assert gate.get(LOADS, key=key).status == 200
    assert relay.count("GET") == 2
    return gate, key, relay


def test_reload_keeps_the_zone(warm):
    """It serves on without Redis."""
    gate, key, relay = warm
    gate.edit(outage="keygate_outage keys=stale:5m limits=allow;")

    for _ in range(2):
        gate.reload()
    relay.refuse()

    assert gate.get(LOADS, key=key).status == 200
    assert relay.count("GET") == 2


@pytest.mark.parametrize("zone", [
    "keygate_zone zone=keygate:8m;", "keygate_zone zone=another:16m;"])
def test_reload_with_another_zone(warm, zone):
    gate, key, relay = warm
    gate.edit(zone=zone)
    gate.reload()
    gate.watched()

    assert [gate.get(LOADS, key=key).status for _ in range(4)] == [200] * 4
    assert relay.count("GET") == 4


def test_reload_changes_what_holds(warm):
    gate, key, _ = warm
    gate.edit(policies="keygate_policy default rate=9r/m by=key;",
              routes="keygate_routes partner { GET /v1/loads loads:write; }")
    gate.reload()

    assert policies(gate.get(LOADS, key=key)) == {"default": 9}
    assert gate.get("/v1/customers", key=key).status == 404
    reader = gate.key(scopes=["loads:read"])
    assert gate.get(LOADS, key=reader).error["details"] == {
        "requiredScope": "loads:write"}


def test_reload_to_off_and_back(warm):
    gate, key, _ = warm

    for text, status in (("keygate off;", 200),
                         ("keygate partner dry_run;", 200),
                         ("keygate partner;", 401)):
        gate.edit(gate=text)
        gate.reload()
        assert gate.get(LOADS).status == status


def test_wrong_reload_changes_nothing(warm):
    gate, key, relay = warm
    workers = gate.workers()
    gate.expect("invalid parameter")
    gate.edit(gate="keygate partner dryrun;")
    gate.process.send_signal(signal.SIGHUP)
    gate.wait_log(r'\[emerg\].*"dry_run".*nginx\.conf:\d+')

    assert gate.workers() == workers
    assert gate.get(LOADS, key=key).status == 200
    assert gate.get(LOADS).status == 401
    assert relay.count("GET") == 2
