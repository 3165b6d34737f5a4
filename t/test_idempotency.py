"""Did they already: the header, the replay, the conflict, the scope."""

import json

import pytest

from checks import check_error, check_request_id

LOADS = "/v1/loads"
BODY = b'{"externalId":"L-1"}'

WRITES = ["/v1/loads", "/v1/loads/upsert", "/v1/loads/17/status",
          "/v1/webhooks"]


def write(gate, key, idem="k", target=LOADS, body=BODY, headers=(), **how):
    fields = [("Content-Type", "application/json"), *dict(headers).items()]
    return gate.post(target, key=key, idem=idem, body=body, headers=fields,
                     **how)


def check_replay(first, again):
    """The first answer again, under a request id of its own."""
    assert (again.status, again.body) == (first.status, first.body)
    assert again.all("Content-Type") == first.all("Content-Type")
    assert again.all("Idempotent-Replayed") == ["true"]
    assert again.all("Original-Request-Id") == [check_request_id(first)]
    assert check_request_id(again) != check_request_id(first)
    assert first.get("Idempotent-Replayed") is None
    assert first.get("Original-Request-Id") is None


# The header.

@pytest.mark.parametrize("target", WRITES)
@pytest.mark.parametrize("headers", [
    {}, {"Idempotency-Key": ""}, {"Idempotency-Key": "  \t "},
    {"Idempotency-Key": '""'}, {"X-Idempotency-Key": "abc"}],
    ids=["absent", "empty", "spaces", "empty string", "another"])
def test_key_is_required(gate, upstream, target, headers):
    answer = gate.post(target, key=gate.key(), headers=headers, body=BODY)

    check_error(answer, 400, "missing_idempotency_key")
    assert upstream.requests == []


INVALID = {
    "256 bytes": "a" * 256,
    "256 bytes in quotes": '"' + "a" * 256 + '"',
    "4 KiB": "a" * 4096,
    "not ASCII": "caf\xe9",
    "UTF-8": "caf\xc3\xa9",
    "space inside": "a b",
    "tab inside": "a\tb",
    "space in quotes": '"a b"',
    "control byte": "a\x01b",
    "delete byte": "a\x7f",
    "half quoted": '"abc',
    "one quote": '"',
    "text behind the string": '"abc"d',
    "parameter behind the string": '"abc";a=1',
    "escape that is none": '"a\\bc"',
    "escape at the end": '"abc\\"',
}


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID)
def test_key_that_is_not_valid(gate, upstream, value):
    answer = write(gate, gate.key(), value)

    check_error(answer, 400, "invalid_idempotency_key")
    assert upstream.requests == []


@pytest.mark.parametrize("second", ["k", "other", ""])
def test_key_sent_twice(gate, upstream, second):
    answer = gate.post(LOADS, key=gate.key(), body=BODY,
                       headers=[("Idempotency-Key", "k"),
                                ("idempotency-key", second)])

    check_error(answer, 400, "invalid_idempotency_key")
    assert upstream.requests == []


@pytest.mark.parametrize("value", [
    "a", "a" * 255, '"' + "a" * 255 + '"', "!#$%&'()*+,-./:;<=>?@[]^_`{|}~",
    'a"b', "a\\b", "'abc'", "x" * 100 + "}" + "{",
], ids=lambda value: value[:12])
def test_key_that_is_valid(gate, upstream, value):
    key = gate.key()

    assert write(gate, key, value).status == 200
    assert write(gate, key, value).get("Idempotent-Replayed") == "true"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("one, two", [
    ("abc", '"abc"'), ("abc", "  abc\t"), ('a"b', '"a\\"b"'),
    ("a\\b", '"a\\\\b"')])
def test_same_key_written_otherwise(gate, upstream, one, two):
    key = gate.key()
    check_replay(write(gate, key, one), write(gate, key, two))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("one, two", [
    ("abc", "ABC"), ("abc", "abcd"), ("a", "a:"), ("abc", "'abc'"),
    ("a" * 254, "a" * 255)])
def test_other_keys_are_other_writes(gate, upstream, one, two):
    key = gate.key()
    for value in (one, two):
        assert write(gate, key, value).get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("value", ["k", "", "a" * 300, '"half'])
def test_ignored_where_it_is_not_asked_for(gate, upstream, value):
    key = gate.key()

    for method, target in [("GET", LOADS), ("DELETE", "/v1/webhooks/1")]:
        for _ in range(2):
            answer = gate.request(method, target, key=key, idem=value)
            assert answer.status == 200
            assert answer.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 4


# The replay.

@pytest.mark.parametrize("target", WRITES)
def test_replay(gate, upstream, target):
    key = gate.key()
    upstream.answer(201, {"Location": "/v1/loads/17",
                          "Content-Language": "de"}, {"id": 17})

    first = write(gate, key, target=target)
    again = write(gate, key, target=target)
    third = write(gate, key, target=target)

    assert (first.status, first.json()) == (201, {"id": 17})
    check_replay(first, again)
    check_replay(first, third)
    assert again.all("Location") == ["/v1/loads/17"]
    assert again.all("Content-Language") == ["de"]
    assert len(upstream.requests) == 1


def test_replay_keeps_the_body_byte_for_byte(gate, upstream):
    key = gate.key()
    body = bytes(range(256)) * 40
    upstream.answer(200, {"Content-Type": "application/octet-stream"}, body)

    first, again = write(gate, key), write(gate, key)

    assert first.body == body
    check_replay(first, again)


def test_request_id_within_the_body_is_the_first(gate):
    key = gate.key()
    first, again = write(gate, key), write(gate, key)

    assert first.json()["requestId"] == first.get("X-Request-Id")
    assert again.json()["requestId"] == first.get("X-Request-Id")


def test_headers_of_the_moment_are_not_replayed(gate, upstream):
    key = gate.key()
    upstream.answer(201, [("Set-Cookie", "a=b"),
                          ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
                          ("X-Request-Id", "req_of_the_upstream"),
                          ("RateLimit", '"default";r=999;t=1')], {})

    first, again = write(gate, key), write(gate, key)

    check_replay(first, again)
    assert first.get("Set-Cookie") == "a=b"
    assert again.get("Set-Cookie") is None
    assert "1970" not in again.get("Date")
    assert again.get("RateLimit").startswith('"default";r=58;')
    assert check_request_id(again) != "req_of_the_upstream"


def test_keep_alive_after_a_replay(gate, upstream):
    key = gate.key()
    headers = {"Authorization": f"Bearer {key.token}", "Idempotency-Key": "k"}

    with gate.connect() as client:
        for _ in range(3):
            answer = client.request("POST", LOADS, headers, BODY)
            assert answer.status == 200
            assert client.request("GET", LOADS, headers).status == 200

    assert answer.get("Idempotent-Replayed") == "true"
    assert len(upstream.requests) == 4


def test_http2(gate, upstream):
    key = gate.key()
    headers = {"Authorization": f"Bearer {key.token}", "Idempotency-Key": "h"}

    with gate.h2() as client:
        first, again, other = (client.post(LOADS, headers=headers, json=body)
                               for body in ({"a": 1}, {"a": 1}, {"a": 2}))

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request-id"] == \
        first.headers["x-request-id"]
    assert other.json()["error"]["code"] == "idempotency_conflict"
    assert len(upstream.requests) == 1


def test_http1_0(gate, upstream):
    key = gate.key()
    first = write(gate, key, version="HTTP/1.0")

    check_replay(first, write(gate, key, version="HTTP/1.0"))
    assert len(upstream.requests) == 1


# The conflict.

OTHERS = {
    "body": dict(body=b'{"externalId":"L-2"}'),
    "order of the body": dict(body=b'{ "externalId":"L-1"}'),
    "no body": dict(body=b""),
    "longer body": dict(body=BODY + b" "),
    "query": dict(target=LOADS + "?a=b"),
    "path": dict(target="/v1/loads/upsert"),
    "parameter of the path": dict(target="/v1/loads/18/status"),
    "content type": dict(headers={"Content-Type": "text/plain"}),
    "parameter of the content type":
        dict(headers={"Content-Type": "application/json; charset=utf-8"}),
    "content encoding": dict(headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_conflict(gate, upstream, other):
    key = gate.key()
    first = dict(target="/v1/loads/17/status") if "status" in \
        other.get("target", "") else {}
    done = write(gate, key, **first)
    how = {**first, **other}
    fields = {"Content-Type": "application/json", **how.pop("headers", {})}
    target, body = how.pop("target", LOADS), how.pop("body", BODY)

    answer = gate.post(target, key=key, idem="k", body=body, headers=fields)

    check_error(answer, 409, "idempotency_conflict")
    assert len(upstream.requests) == 1
    check_replay(done, write(gate, key, **first))


def test_same_request_by_other_headers(gate, upstream):
    """What is not the request itself may differ between two tries."""
    key = gate.key()
    first = write(gate, key, headers={"User-Agent": "one", "X-A": "1"})
    again = write(gate, key, headers={"User-Agent": "two", "Accept": "*/*"},
                  version="HTTP/1.0")

    check_replay(first, again)
    assert len(upstream.requests) == 1


def test_conflict_while_the_first_is_running(gate, upstream):
    key = gate.key()
    upstream.answer(hang=True, times=1)

    with gate.connect() as client:
        send(client, key)
        upstream.wait()
        check_error(write(gate, key, body=b"{}"), 409, "idempotency_conflict")
        check_error(write(gate, key), 409, "idempotency_in_progress",
                    None, (1, 1))
        upstream.release()
        assert client.read().status == 200

    assert len(upstream.requests) == 1


def send(client, key, idem="k", body=BODY):
    """Sends the write of write() and does not wait."""
    client.send(f"POST {LOADS} HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {key.token}\r\n"
                f"Idempotency-Key: {idem}\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


# The scope.

def test_another_organisation_is_another_scope(gate, upstream):
    for _ in range(2):
        answer = write(gate, gate.key())
        assert answer.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2


def test_organisations_never_meet(gate, upstream):
    """Where one's id ends and the key begins is not up to the caller."""
    one = gate.key(gate.org(org="org_a"))
    two = gate.key(gate.org(org="org_a-test"))

    write(gate, one, "x")
    for idem in ("x", "test:x", "}:test:x"):
        assert write(gate, two, idem).get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 4


def test_test_and_live_never_meet(gate, upstream):
    org = gate.org()
    for mode in ("test", "live"):
        answer = write(gate, gate.key(org, mode))
        assert answer.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("mode", ["test", "live"])
def test_rotated_api_key_replays(gate, upstream, mode):
    org = gate.org()
    first = write(gate, gate.key(org, mode))

    check_replay(first, write(gate, gate.key(org, mode)))
    assert len(upstream.requests) == 1


# Refusals of Keygate itself.

def test_refusal_never_occupies_the_key(gate, upstream, redis):
    org = gate.org()
    poor = gate.key(org, limits={"default": "1r/m"})
    unscoped = gate.key(org, scopes=["loads:read"])
    good = gate.key(org)
    gate.get(LOADS, key=poor)

    assert write(gate, poor).code == "rate_limited"
    assert write(gate, unscoped).code == "forbidden"
    assert write(gate, good.token[:-1] + "!").code == "unauthorized"
    assert redis.client.keys(f"kg:idem:{{{org}}}*") == []

    answer = write(gate, good, body=json.dumps({"other": 1}).encode())
    assert answer.status == 200
    assert answer.get("Idempotent-Replayed") is None


def test_dry_run_claims_and_replays_nothing(make_gate, upstream, redis):
    gate = make_gate(gate="keygate partner dry_run; keygate_limit default;"
                          "keygate_errors envelope;")
    key = gate.key()

    for idem in ("k", "k", None, "a" * 300):
        answer = write(gate, key, idem)
        assert answer.status == 200
        assert answer.get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 4
    assert redis.client.keys(f"kg:idem:{{{key.org}}}*") == []
