"""Who may call: the two layers of access, the 401s, what comes before what."""

import re
from datetime import datetime, timedelta, timezone

import pytest

import harness
from harness import records

LOADS = "/v1/loads"
FUTURE = "2099-01-01T00:00:00Z"
PAST = "2020-01-01T00:00:00Z"


def challenge(answer):
    """The WWW-Authenticate of a 401, which has exactly one."""
    assert len(answer.all("WWW-Authenticate")) == 1, answer
    value = answer.get("WWW-Authenticate")
    assert re.match(r'Bearer realm="[^"]+"', value), value
    return value


def check_refused(answer, status, code):
    """Asserts a refusal in the contract's envelope that cannot be retried."""
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.error["retryable"] is False
    assert answer.get("Retry-After") is None
    assert answer.get("Content-Type") == "application/json"
    assert answer.get("Cache-Control") == "no-store"
    assert answer.json()["requestId"] == answer.get("X-Request-Id")


@pytest.mark.parametrize("access, mode, code", [
    ("not_enabled", "test", "partner_access_not_enabled"),
    ("not_enabled", "live", "partner_access_not_enabled"),
    ("test", "test", None),
    ("test", "live", "live_access_not_enabled"),
    ("live", "test", None),
    ("live", "live", None),
    ("disabled", "test", "partner_access_disabled"),
    ("disabled", "live", "partner_access_disabled"),
])
def test_access_table(gate, upstream, access, mode, code):
    answer = gate.get(LOADS, key=gate.key(mode=mode, access=access))

    if code is None:
        assert answer.status == 200
        assert len(upstream.requests) == 1
    else:
        check_refused(answer, 403, code)
        assert answer.get("WWW-Authenticate") is None
        assert upstream.requests == []


def test_disabled_until_access_is_restored(gate):
    """A change made on this node holds from its answer on, cache or not."""
    org = gate.org("live")
    key = gate.key(org)
    codes = []

    for access in ("live", "disabled", "test", "not_enabled", "live"):
        assert gate.admin("PATCH", f"/orgs/{org}",
                          json={"access": access}).status == 200
        codes.append(gate.get(LOADS, key=key).code)

    assert codes == [None, "partner_access_disabled", None,
                     "partner_access_not_enabled", None]


def test_revoked_key_is_refused_at_once(gate):
    org = gate.org("live")
    made = gate.admin("POST", f"/orgs/{org}/keys",
                      json={"mode": "test", "scopes": ["loads:read"]}).json()
    assert gate.get(LOADS, key=made["token"]).status == 200

    assert gate.admin("DELETE", f"/keys/{made['id']}").status in (200, 204)

    answer = gate.get(LOADS, key=made["token"])
    check_refused(answer, 401, "unauthorized")
    assert "revoked" in answer.error["message"]


# The value of Authorization, made from a token that is good; whether a key
# was sent with it.

VALUES = {
    "empty": ("", False),
    "other scheme": ("Basic dXNlcjpwYXNz", False),
    "token as another scheme": ("Token {token}", False),
    "Bearer alone": ("Bearer", False),
    "Bearer and spaces": ("Bearer    ", False),
    "no scheme": ("{token}", False),
    "no space": ("Bearer{token}", False),
    "tab": ("Bearer\t{token}", False),
    "two tokens": ("Bearer {token} {token}", True),
    "two tokens by comma": ("Bearer {token},{token}", True),
    "two challenges": ("Bearer {token}, Basic dXNlcjpwYXNz", True),
    "quoted": ('Bearer "{token}"', True),
    "character more": ("Bearer {token}A", True),
    "character less": ("Bearer {short}", True),
    "not a token": ("Bearer hello", True),
    "4 KiB": ("Bearer " + "a" * 4096, True),
    "4 KiB behind a token": ("Bearer {token}" + "a" * 4096, True),
    "control byte": ("Bearer {token}\x01", True),
    "control byte inside": ("Bearer tf_test\x0b_{token}", True),
    "delete byte": ("Bearer \x7f{token}", True),
    "not ASCII": ("Bearer {token}\xe9", True),
    "not UTF-8": ("Bearer \xff\xfe\x80", True),
    "upper case": ("Bearer {upper}", True),
}


@pytest.mark.parametrize("value, sent", VALUES.values(), ids=VALUES)
def test_malformed_authorization(gate, upstream, redis, value, sent):
    key = gate.key()
    before = redis.calls("get")
    value = (value.replace("{token}", key.token)
             .replace("{short}", key.token[:-1])
             .replace("{upper}", key.token.upper()))

    answer = gate.get(LOADS, headers=[("Authorization", value)])

    check_refused(answer, 401, "unauthorized")
    assert ('error="invalid_token"' in challenge(answer)) is sent
    assert redis.calls("get") == before
    assert upstream.requests == []


def test_no_authorization(gate, upstream, redis):
    before = redis.calls("get")
    answer = gate.get(LOADS)

    check_refused(answer, 401, "unauthorized")
    assert "error=" not in challenge(answer)
    assert redis.calls("get") == before
    assert upstream.requests == []


def flip(token):
    return token.replace("_test_", "_live_")


TOKENS = {
    "last digit of the checksum":
        lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"),
    "first digit": lambda t: t[:8] + ("A" if t[8] != "A" else "B") + t[9:],
    "flipped mode": flip,
    "swapped digits": lambda t: t[:8] + t[9] + t[8] + t[10:]
        if t[8] != t[9] else t[:8] + "-" + t[9:],
    "unknown mode": lambda t: checked(t[:-6].replace("_test_", "_prod_")),
    "other prefix": lambda t: checked("xx" + t[2:-6]),
    "prefix of a prefix": lambda t: checked("t" + t[2:-6]),
    "longer prefix": lambda t: checked("tfx" + t[2:-6]),
    "prefix in upper case": lambda t: checked("TF" + t[2:-6]),
    "short, with its checksum": lambda t: checked(t[:-7]),
    "long, with its checksum": lambda t: checked(t[:-6] + "A"),
    "digit that is none, with its checksum":
        lambda t: checked(t[:10] + "-" + t[11:-6]),
}


def checked(body):
    return body + records.checksum(body)


@pytest.mark.parametrize("change", TOKENS.values(), ids=TOKENS)
def test_token_that_cannot_be(gate, redis, change):
    """Refused without a lookup, even when Redis has a record of it."""
    good = gate.key()
    token = change(good.token)
    assert token != good.token
    records.make_key(redis.client, gate.pepper, good.org, token=token)
    before = redis.calls("get")

    answer = gate.get(LOADS, key=token)

    check_refused(answer, 401, "unauthorized")
    assert 'error="invalid_token"' in challenge(answer)
    assert redis.calls("get") == before
    assert gate.get(LOADS, key=good).status == 200


def test_unknown_token_is_looked_up_once(gate, redis):
    token = harness.make_token()
    before = redis.calls("get")

    for _ in range(4):
        answer = gate.get(LOADS, key=token)
        check_refused(answer, 401, "unauthorized")
        assert 'error="invalid_token"' in challenge(answer)

    assert redis.calls("get") == before + 1


@pytest.mark.parametrize("value", ["bearer {}", "BEARER {}", "Bearer   {}"])
def test_scheme_has_no_case_and_any_spaces(gate, value):
    """RFC 9110, 11.1, and RFC 6750, 2.1."""
    key = gate.key()
    answer = gate.get(LOADS, headers={
        "Authorization": value.format(key.token)})

    assert answer.status == 200


def test_two_authorization_headers(gate, upstream):
    key = gate.key()
    headers = [("Authorization", f"Bearer {key.token}")] * 2

    check_refused(gate.get(LOADS, headers=headers), 400, "bad_request")
    assert upstream.requests == []


def test_nul_byte_is_a_bad_request(gate, upstream):
    key = gate.key()
    answer = gate.get(LOADS, headers={
        "Authorization": f"Bearer {key.token}\0"})

    assert answer.status == 400
    assert upstream.requests == []


@pytest.mark.parametrize("size", [8192, 20000, 40000])
def test_authorization_larger_than_a_buffer(gate, upstream, size):
    answer = gate.get(LOADS, headers={"Authorization": "Bearer " + "a" * size})

    check_refused(answer, 431, "request_header_fields_too_large")
    assert answer.get("WWW-Authenticate") is None
    assert upstream.requests == []


def test_key_is_not_taken_from_elsewhere(gate):
    key = gate.key()
    answer = gate.get(f"{LOADS}?access_token={key.token}",
                      headers={"X-Api-Key": key.token,
                               "Proxy-Authorization": f"Bearer {key.token}",
                               "Cookie": f"token={key.token}"})

    check_refused(answer, 401, "unauthorized")


@pytest.mark.parametrize("members, word", [
    ({"revokedAt": PAST}, "revoked"),
    ({"revokedAt": PAST, "expiresAt": PAST}, "revoked"),
    ({"expiresAt": PAST}, "expired"),
    ({"notBefore": FUTURE}, None),
])
def test_key_out_of_its_time(gate, upstream, members, word):
    answer = gate.get(LOADS, key=gate.key(**members))

    check_refused(answer, 401, "unauthorized")
    assert 'error="invalid_token"' in challenge(answer)
    assert upstream.requests == []
    if word:
        assert word in answer.error["message"]
    else:
        assert answer.error == gate.get(LOADS).error


def test_key_within_its_time(gate):
    key = gate.key(notBefore=PAST, expiresAt=FUTURE, revokedAt=None)

    assert gate.get(LOADS, key=key).status == 200


def test_clocks_may_differ_by_the_tolerance(make_gate):
    """Minutes inside of it, and minutes outside; none by default."""
    def off(minutes):
        at = datetime.now(timezone.utc) + timedelta(minutes=minutes)
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")

    times = [{"expiresAt": off(-2)}, {"notBefore": off(2)},
             {"expiresAt": off(-8)}, {"notBefore": off(8)},
             {"revokedAt": off(2)}]

    for text, statuses in (("", [401] * 5),
                           ("tolerance=5m", [200, 200, 401, 401, 401])):
        gate = make_gate(keys="keygate_keys prefix=tf "
                         f"pepper=%%FOLDER%%/pepper {text};")
        assert [gate.get(LOADS, key=gate.key(**members)).status
                for members in times] == statuses


def test_everything_else_gets_one_answer(gate):
    """A stranger cannot tell an unknown key from a malformed one or none."""
    key = gate.key()
    errors = [gate.get(LOADS, key=token).error for token in (
        None, "hello", flip(key.token), harness.make_token(),
        harness.make_token("live"))]

    assert all(error == errors[0] for error in errors)
    assert not re.search("revoked|expired", errors[0]["message"])


def test_mode_of_the_record_must_be_the_token_s(gate, redis):
    key = gate.key(mode="test")
    key.save(mode="live")

    check_refused(gate.get(LOADS, key=key), 401, "unauthorized")


@pytest.mark.parametrize("allow, let_in", [
    ([], True),
    (["127.0.0.1"], True),
    (["203.0.113.0/24", "127.0.0.0/8"], True),
    (["203.0.113.0/24"], False),
    (["127.0.0.2"], False),
    (["::/0"], False),
])
def test_allow_list(gate, upstream, allow, let_in):
    answer = gate.get(LOADS, key=gate.key(allow=allow))

    if let_in:
        assert answer.status == 200
    else:
        check_refused(answer, 403, "forbidden")
        assert answer.error["details"]["reason"]
        assert "requiredScope" not in answer.error["details"]
        assert upstream.requests == []


@pytest.mark.parametrize("scopes, let_in", [
    (["loads:read"], True),
    (["customers:read", "loads:read"], True),
    (["loads:*"], True),
    (["*"], True),
    ([], False),
    (["loads:write"], False),
    (["loads"], False),
    (["loads:rea"], False),
    (["loads:read2"], False),
    (["customers:*"], False),
])
def test_scope(gate, upstream, scopes, let_in):
    answer = gate.get(LOADS, key=gate.key(scopes=scopes))

    if let_in:
        assert answer.status == 200
    else:
        check_refused(answer, 403, "forbidden")
        assert answer.error["details"]["requiredScope"] == "loads:read"
        assert 'error="insufficient_scope"' in challenge(answer)
        assert upstream.requests == []


@pytest.mark.parametrize("authorization", [
    None, "Bearer hello", "Basic dXNlcjpwYXNz", "Bearer", "unknown"])
def test_public_route_asks_nobody(gate, upstream, redis, authorization):
    if authorization == "unknown":
        authorization = f"Bearer {harness.make_token()}"
    before = redis.calls("get")

    answer = gate.get("/health/api", headers=[
        ("Authorization", authorization)] if authorization else [])

    assert answer.status == 200
    assert answer.get("RateLimit") is None
    assert redis.calls("get") == before
    assert len(upstream.requests) == 1


def test_public_route_serves_those_without_access(gate):
    key = gate.key(access="disabled", revokedAt=PAST)

    assert gate.get("/health/api", key=key).status == 200


# A request with every mistake there is, and the mistakes taken off one after
# another: each answer must be that of the first one left.

MISTAKES = [
    ("two keys", 400, "bad_request"),
    ("body", 413, "content_too_large"),
    ("token", 401, "unauthorized"),
    ("revoked", 401, "unauthorized"),
    ("access", 403, "partner_access_disabled"),
    ("address", 403, "forbidden"),
    ("path", 404, "not_found"),
    ("method", 405, "method_not_allowed"),
    ("scope", 403, "forbidden"),
    ("spent", 429, "rate_limited"),
    ("idempotency", 400, "missing_idempotency_key"),
]

NAMES = [name for name, _, _ in MISTAKES]


CHAINS = [(NAMES[i:], MISTAKES[i] if i < len(MISTAKES) else None)
          for i in range(len(MISTAKES) + 1)]

PAIRS = [([first, second], MISTAKES[i])
         for i, first in enumerate(NAMES) for second in NAMES[i + 1:]]


def wrong_request(gate, mistakes):
    """The answer to POST /v1/loads with these mistakes."""
    org = gate.org("live")
    limits = {"default": "1r/m"}
    good = gate.key(org, limits=limits)

    if "spent" in mistakes:
        assert gate.get(LOADS, key=good).status == 200
    if "access" in mistakes:
        assert gate.admin("PATCH", f"/orgs/{org}",
                          json={"access": "disabled"}).status == 200

    # Another token of the same key id, and so of the same limit.
    key = gate.key(org, id=good.id, limits=limits,
                   scopes=["loads:read"] if "scope" in mistakes else None,
                   allow=["203.0.113.7"] if "address" in mistakes else [],
                   revokedAt=PAST if "revoked" in mistakes else None)

    token = flip(key.token) if "token" in mistakes else key.token
    headers = [("Authorization", f"Bearer {token}")]
    if "two keys" in mistakes:
        headers *= 2
    if "idempotency" not in mistakes:
        headers.append(("Idempotency-Key", records.base62(8)))

    return gate.request("DELETE" if "method" in mistakes else "POST",
                        "/v1/nothing" if "path" in mistakes else LOADS,
                        headers=headers,
                        body=b"x" * (2 << 20 if "body" in mistakes else 10))


@pytest.mark.parametrize("mistakes, first", CHAINS + PAIRS, ids=lambda v: (
    "+".join(v) if isinstance(v, list) else "" if v else "none"))
def test_order_of_answers(gate, upstream, mistakes, first):
    answer = wrong_request(gate, mistakes)
    writes = [seen for seen in upstream.requests if seen.method != "GET"]

    if first is None:
        assert answer.status == 200
        assert len(writes) == 1
    else:
        assert (answer.status, answer.code) == first[1:], answer
        assert writes == []


def remaining(answer):
    return int(re.search(r'"default";r=(\d+)', answer.get("RateLimit"))[1])


def test_refusals_before_the_limit_spend_nothing(gate):
    key = gate.key(scopes=["loads:read"])

    for method, target, status in [("GET", "/v1/nothing", 404),
                                   ("DELETE", LOADS, 405),
                                   ("GET", "/v1/customers", 403),
                                   ("OPTIONS", LOADS, 204)]:
        answer = gate.request(method, target, key=key)
        assert answer.status == status
        assert answer.get("RateLimit") is None

    assert remaining(gate.get(LOADS, key=key)) == 59


def test_refusals_of_the_gate_occupy_no_idempotency_key(gate, upstream):
    """429 and every earlier refusal, then the same write with the same key."""
    org = gate.org("live")
    reader = gate.key(org, scopes=["loads:read"])
    spent = gate.key(org, limits={"default": "1r/m"})
    assert gate.get(LOADS, key=spent).status == 200

    for key, status in ((reader, 403), (spent, 429), (None, 401)):
        assert gate.post(LOADS, key=key, idem="one",
                         json={}).status == status

    answer = gate.post(LOADS, key=gate.key(org), idem="one", json={})
    assert answer.status == 200
    assert answer.get("Idempotent-Replayed") is None
