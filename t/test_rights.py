"""What a key may be bound to: addresses, scopes, a prefix, a pepper, a
plan, the header it comes in; and that nothing else lets it in."""

import hashlib

import pytest

import harness
from admin_calls import in_days, make_key, make_org
from harness import records
from harness.client import Client

LOADS = "/v1/loads"

REALIP = """set_real_ip_from 127.0.0.1;
    real_ip_header X-Forwarded-For;"""

GATE = dict(server=REALIP,
            servers="server { listen unix:%%FOLDER%%/gate.sock; "
                    "keygate partner; location / { "
                    "include %%ROOT%%/conf/keygate_proxy_params; "
                    "proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; } }")


# Addresses

@pytest.mark.parametrize("allow, address, let_in", [
    (["203.0.113.7"], "203.0.113.7", True),
    (["203.0.113.7"], "203.0.113.8", False),
    (["203.0.113.0/28"], "203.0.113.15", True),
    (["203.0.113.0/28"], "203.0.113.16", False),
    (["203.0.113.7/32"], "203.0.113.6", False),
    (["0.0.0.0/0"], "198.51.100.1", True),
    (["0.0.0.0/0"], "2001:db8::1", False),
    (["2001:db8::7"], "2001:db8::7", True),
    (["2001:db8::7"], "2001:DB8:0:0:0:0:0:7", True),
    (["2001:db8::7"], "2001:db8::8", False),
    (["2001:db8::/33"], "2001:db8:7fff::1", True),
    (["2001:db8::/33"], "2001:db8:8000::1", False),
    (["::/0"], "2001:db8::1", True),
    (["::/0"], "203.0.113.7", False),
    (["203.0.113.0/24"], "::ffff:203.0.113.7", True),
    (["203.0.113.0/24"], "::ffff:203.0.114.7", False),
    (["::ffff:203.0.113.0/120"], "203.0.113.7", True),
    (["::ffff:203.0.113.0/120"], "203.0.114.7", False),
    (["::ffff:203.0.113.0/120"], "::ffff:203.0.113.7", True),
    (["::/0"], "::ffff:203.0.113.7", False),
    (["2001:db8::/32", "198.51.100.1", "203.0.113.0/24"], "198.51.100.1",
     True),
    (["2001:db8::/32", "198.51.100.1", "203.0.113.0/24"], "198.51.100.2",
     False),
])
def test_addresses_behind_realip(gate, upstream, allow, address, let_in):
    answer = gate.get(LOADS, key=gate.key(allow=allow),
                      headers={"X-Forwarded-For": address})

    if let_in:
        assert answer.status == 200
    else:
        assert (answer.status, answer.code) == (403, "forbidden")
        assert answer.error["details"] == {"reason": "address_not_allowed"}
        assert upstream.requests == []


def test_a_unix_socket_has_no_address(gate):
    """So no list has it."""
    def ask(key):
        with Client(gate.path("gate.sock")) as client:
            return client.request("GET", LOADS, {
                "Authorization": f"Bearer {key.token}"}).status

    assert ask(gate.key()) == 200
    assert ask(gate.key(allow=["0.0.0.0/0", "::/0"])) == 403


# Scopes

@pytest.mark.parametrize("scope, let_in", [
    ("*", True), ("loads:*", True), ("loads:read", True),
    ("load*", False), ("loads*", False), ("*:read", False), (":*", False),
    ("**", False), ("loads:**", False), ("loads:read:*", False),
    ("loads:r*", False), ("loads", False),
])
def test_what_a_star_stands_for(gate, scope, let_in):
    """For all, or for all of an area; anywhere else it is a character."""
    key = make_key(gate, scopes=[scope])

    assert gate.get(LOADS, key=key["token"]).status == (
        200 if let_in else 403)
    assert gate.get("/v1/carriers", key=key["token"]).status == (
        200 if scope == "*" else 403)


# Prefixes and peppers

def test_new_keys_are_of_the_first_prefix_and_pepper(make_gate):
    gate = make_gate(
        keys="keygate_keys prefix=acme9 prefix=tf pepper=new pepper=pepper;",
        files={"new": "n" * 40})
    key = make_key(gate)

    assert key["token"].startswith("acme9_test_")
    assert key["hint"].startswith("acme9_test_...")
    assert gate.redis.client.exists(
        f"kg:key:{{{harness.digest(b'n' * 40, key['token'])}}}")
    assert gate.get(LOADS, key=key["token"]).status == 200


def test_prefix_or_pepper_that_is_taken_away(make_gate):
    both = "keygate_keys prefix=tf prefix=acme pepper=new pepper=pepper;"
    gate = make_gate(keys=both, files={"new": "n" * 40})
    old, other = gate.key(), gate.key(prefix="acme")
    gate.pepper = b"n" * 40
    new = gate.key()

    def statuses():
        return [gate.get(LOADS, key=key).status for key in (old, other, new)]

    assert statuses() == [200, 200, 200]
    gate.edit(keys="keygate_keys prefix=tf pepper=new pepper=pepper;")
    gate.reload()
    assert statuses() == [200, 401, 200]
    gate.edit(keys="keygate_keys prefix=tf pepper=new;")
    gate.reload()
    assert statuses() == [401, 401, 200]


# Plans

PLANS = """keygate_policy default rate=60r/m min=1r/m max=600r/m by=key;
    keygate_plan gold default={}r/m;
    keygate_plan iron default=7r/m;"""


def quota(gate, token):
    answer = gate.get(LOADS, key=token)
    assert answer.status == 200
    return answer.get("RateLimit-Policy")


def test_a_plan_holds_for_all_who_have_it(make_gate):
    gate = make_gate(policies=PLANS.format(300))
    golden = [make_key(gate, make_org(gate, plan="gold"))["token"]
              for _ in range(3)]
    own = make_key(gate, make_org(gate, plan="gold"),
                   limits={"default": "90r/m"})["token"]
    iron = make_key(gate, make_org(gate, plan="iron"))["token"]
    none = make_key(gate, make_org(gate))["token"]

    def quotas():
        return [quota(gate, token) for token in (*golden, own, iron, none)]

    def wanted(*numbers):
        return [f'"default";q={n};w=60' for n in numbers]

    assert quotas() == wanted(300, 300, 300, 90, 7, 60)
    gate.edit(policies=PLANS.format(420))
    assert quotas() == wanted(300, 300, 300, 90, 7, 60)
    gate.reload()
    assert quotas() == wanted(420, 420, 420, 90, 7, 60)
    gate.edit(policies=PLANS.format(420).replace("keygate_plan gold", "#"))
    gate.reload()
    assert quotas() == wanted(60, 60, 60, 90, 7, 60)


def test_a_plan_of_an_organisation_changes_at_once(make_gate):
    gate = make_gate(policies=PLANS.format(300))
    org = make_org(gate, plan="gold")
    token = make_key(gate, org)["token"]

    for change, number in (({}, 300), ({"plan": "iron"}, 7),
                           ({"plan": None}, 60),
                           ({"limits": {"default": "30r/m"}}, 30),
                           ({"plan": "gold"}, 30),
                           ({"limits": None}, 300)):
        assert gate.admin("PATCH", f"/orgs/{org}", json=change).status == 200
        assert quota(gate, token) == f'"default";q={number};w=60'


# Keys of before Keygate

LEGACY = "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper legacy=sha256;"
OLD_TOKEN = "Old.Partner~key+1/2=" + records.base62(20)

SOURCES = {
    "a header": ("$http_x_api_key", {"X-Api-Key": "{}"}),
    "the bearer": ("bearer", {"Authorization": "Bearer {}"}),
    "another scheme": ("$of_scheme", {"Authorization": "ApiKey {}"}),
    "a cookie": ("$cookie_partner", {"Cookie": "a=b; partner={}"}),
}

OF_SCHEME = r"""map $http_authorization $of_scheme {
    "~^ApiKey +(?<of_scheme_key>\S+)$" $of_scheme_key;
}"""


def take_over(gate, token, **members):
    org = make_org(gate)
    answer = gate.admin("POST", f"/orgs/{org}/keys/import", json={
        "mode": "live", "scopes": ["loads:read"],
        "sha256": hashlib.sha256(token.encode()).hexdigest(), **members})
    assert answer.status == 201, answer
    return answer.json()


@pytest.fixture(scope="module", params=SOURCES)
def source(request):
    return SOURCES[request.param]


def test_a_legacy_key_comes_from_any_header(make_gate, upstream, source):
    where, headers = source
    gate = make_gate(keys=LEGACY, location=f"keygate_token {where};",
                     http=OF_SCHEME)
    token = OLD_TOKEN + records.base62(8)
    key = take_over(gate, token)
    ours = gate.key()

    def ask(value, headers=headers):
        return gate.get(LOADS, headers={name: text.format(value)
                                        for name, text in headers.items()})

    assert ask(token).status == 200
    assert upstream.requests[-1].get("X-Keygate-Key-Id") == key["id"]
    assert ask(ours.token).status == 200

    for name in ("Authorization", "X-Api-Key"):
        assert token not in repr(upstream.requests[-2].all(name))

    for wrong in (token[:-1], token + "x", token.swapcase(),
                  hashlib.sha256(token.encode()).hexdigest()):
        assert ask(wrong).status == 401
    for other, values in SOURCES.values():
        if other != where:
            assert ask(token, values).status == 401

    assert gate.admin("DELETE", f"/keys/{key['id']}").status == 200
    assert ask(token).status == 401


@pytest.mark.parametrize("members, status", [
    ({}, 200), ({"mode": "test"}, 200), ({"scopes": ["carriers:read"]}, 403),
    ({"allow": ["203.0.113.7"]}, 403), ({"expiresAt": in_days(1)}, 200),
    ({"notBefore": in_days(1)}, 401),
])
def test_a_legacy_key_is_bound_like_any_other(make_gate, members, status):
    gate = make_gate(keys=LEGACY)
    token = OLD_TOKEN + records.base62(8)
    take_over(gate, token, **members)

    assert gate.get(LOADS, key=token).status == status


def test_a_sha256_is_no_key_of_ours(make_gate):
    """A token of Keygate's form is looked up under the peppers alone, so that
    a record under its bare SHA-256 does not let it in."""
    gate = make_gate(keys=LEGACY)
    token = harness.make_token("live")
    take_over(gate, token)

    assert gate.get(LOADS, key=token).status == 401
