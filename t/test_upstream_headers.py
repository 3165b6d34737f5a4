"""What the upstream gets to know, and the request id on every answer.

conf/keygate_proxy_params is what makes it so; the template includes it.
"""

import re

import pytest

from harness.ports import wait_for

IDENTITY = ["X-Keygate-Org", "X-Keygate-Key-Id", "X-Keygate-Mode",
            "X-Keygate-Scopes", "X-Keygate-Route"]

FORGED = [("X-Request-Id", "req_forged"), ("x-request-id", "req_again"),
          ("X-Client-Request-Id", "forged")] + [
    (name, "forged") for name in IDENTITY] + [
    (name.lower(), "again") for name in IDENTITY] + [
    (name.replace("-", "_"), "underscore") for name in IDENTITY]

REQUEST_ID = re.compile(r"req_[0-9A-HJKMNP-TV-Z]{26}")

PROXY = """include %%ROOT%%/conf/keygate_proxy_params;
            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;"""

ONE_BY_ONE = "".join(f"proxy_set_header {name} ${variable};"
                     for name, variable in {
    "X-Request-Id": "keygate_request_id",
    "X-Client-Request-Id": "keygate_client_request_id",
    "X-Keygate-Org": "keygate_org", "X-Keygate-Key-Id": "keygate_key_id",
    "X-Keygate-Mode": "keygate_mode", "X-Keygate-Scopes": "keygate_scopes",
    "X-Keygate-Route": "keygate_route",
    "Authorization": "keygate_upstream_authorization"}.items())

GATE = {
    "locations": f"""
        location = /off {{ keygate off; {PROXY} }}
        location = /v1/carriers {{
            keygate partner; client_max_body_size 10; {PROXY}
        }}
        location = /v1/customers {{
            include %%ROOT%%/conf/keygate_proxy_params;
            proxy_pass http://127.0.0.1:1;
        }}
        location = /v1/tracking/7 {{ {ONE_BY_ONE}
            proxy_ignore_client_abort on;
            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;
        }}""",
}


def identity(seen):
    """The identity headers as the upstream got them, every value of each."""
    return [seen.all(name) for name in IDENTITY]


def logged_ids(gate):
    """Every request id in the access log."""
    return [line.split(" id=")[1].split(" ")[0] for line in gate.access_log()]


def check_id(gate, answer, upstream=None):
    """The id of an answer: one, ours, in the access log once, forwarded."""
    values = answer.all("X-Request-Id")
    assert len(values) == 1, answer
    assert REQUEST_ID.fullmatch(values[0])
    wait_for(lambda: logged_ids(gate).count(values[0]) == 1, 5,
             "the access log")
    if upstream is not None:
        assert [seen.all("X-Request-Id") for seen in upstream.requests] == [
            values]
    return values[0]


@pytest.mark.parametrize("mode", ["test", "live"])
def test_identity_goes_in(gate, upstream, mode):
    key = gate.key(mode=mode, scopes=["tracking:*", "loads:read"])
    gate.get("/v1/loads/7?a=b", key=key)

    assert identity(upstream.requests[0]) == [
        [key.org], [key.id], [mode], ["tracking:* loads:read"],
        ["GET /v1/loads/:id"]]


def test_each_from_its_own_variable(gate, upstream):
    key = gate.key(scopes=["tracking:*", "loads:read"])
    answer = gate.get("/v1/tracking/7", key=key,
                      headers={"X-Request-Id": "mine"})

    seen = upstream.requests[0]
    assert identity(seen) == [
        [key.org], [key.id], ["test"], ["tracking:* loads:read"],
        ["GET /v1/tracking/:loadId"]]
    assert seen.all("X-Request-Id") == [answer.get("X-Request-Id")]
    assert seen.all("X-Client-Request-Id") == ["mine"]
    assert seen.all("Authorization") == []


def test_a_caller_s_own_id_goes_in_beside(gate, upstream):
    key = gate.key()
    gate.get("/v1/loads", key=key, headers={"X-Request-Id": "mine:1"})
    gate.get("/v1/loads", key=key, headers={"X-Request-Id": "two words"})

    assert [seen.all("X-Client-Request-Id") for seen in upstream.requests] \
        == [["mine:1"], []]


def test_what_a_caller_forges_goes_out(gate, upstream):
    key = gate.key(scopes=["loads:read"])
    answer = gate.get("/v1/loads", key=key, headers=FORGED)

    seen = upstream.requests[0]
    assert identity(seen) == [[key.org], [key.id], ["test"], ["loads:read"],
                              ["GET /v1/loads"]]
    check_id(gate, answer, upstream)
    assert not [value for _, value in seen.headers if value in (
        "forged", "again", "underscore", "req_forged", "req_again")]


def test_forgery_on_a_write(gate, upstream):
    key = gate.key()
    answer = gate.post("/v1/loads", key=key, headers=FORGED, idem="one",
                       json={"a": 1})

    assert answer.status == 200
    assert upstream.requests[0].all("X-Keygate-Org") == [key.org]
    assert upstream.requests[0].all("Idempotency-Key") == ["one"]
    check_id(gate, answer, upstream)


@pytest.mark.parametrize("target", ["/health/api", "/off"])
def test_forgery_where_nobody_is_asked(gate, upstream, target):
    """No identity header at all: an upstream cannot tell a forged one."""
    gate.get(target, headers=FORGED)

    assert identity(upstream.requests[0])[:4] == [[]] * 4
    assert "forged" not in upstream.requests[0].all("X-Keygate-Route")


def test_public_route_tells_nobody_s_name(gate, upstream):
    gate.get("/health/api", key=gate.key())

    assert identity(upstream.requests[0])[:4] == [[]] * 4
    assert upstream.requests[0].all("Authorization") == []


@pytest.mark.parametrize("headers", [PROXY, ONE_BY_ONE + """
    proxy_ignore_client_abort on;
    proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;"""],
    ids=["all in one", "one by one"])
@pytest.mark.parametrize("where, status", [("off", 200), ("partner", 401)])
def test_dry_run_hides_a_refused_key_behind_a_redirect(
        make_gate, upstream, headers, where, status):
    gate = make_gate(
        gate="keygate partner dry_run;", location="try_files /none @app;",
        proxy="", locations=f"location @app {{ keygate {where}; {headers} }}")
    good = gate.key(scopes=["loads:read"])
    bad = gate.key(revokedAt="2026-01-01T00:00:00Z")

    assert [gate.get("/v1/loads", key=key).status for key in (good, bad)] \
        == [200, status]

    told = [identity(seen)[:4] for seen in upstream.requests]
    assert told[0] == [[good.org], [good.id], ["test"], ["loads:read"]]
    assert told[1:] == [[[]] * 4] * (status == 200)


def test_connection_header_takes_nothing_off(gate, upstream):
    key = gate.key()
    gate.get("/v1/loads", key=key, headers={
        "Connection": "close, X-Keygate-Org, X-Request-Id"})

    assert upstream.requests[0].all("X-Keygate-Org") == [key.org]
    assert len(upstream.requests[0].all("X-Request-Id")) == 1


@pytest.mark.parametrize("target", ["/v1/loads", "/health/api"])
def test_key_goes_out(gate, upstream, target):
    key = gate.key()
    gate.get(target, key=key, headers={"X-Other": "stays"})

    seen = upstream.requests[0]
    assert seen.all("Authorization") == []
    assert seen.all("X-Other") == ["stays"]
    assert key.token not in repr(seen.headers)
    assert key.digest not in repr(seen.headers)


def test_address_and_scheme_go_in(gate, upstream):
    gate.get("/v1/loads", key=gate.key(),
             headers={"X-Forwarded-For": "203.0.113.7",
                      "X-Forwarded-Proto": "https"})

    seen = upstream.requests[0]
    assert seen.all("X-Forwarded-For") == ["203.0.113.7, 127.0.0.1"]
    assert seen.all("X-Forwarded-Proto") == ["http"]


def test_http_2_forges_nothing(gate, upstream):
    key = gate.key()

    with gate.h2() as client:
        answer = client.get("/v1/loads", headers=[
            ("authorization", f"Bearer {key.token}"),
            ("x-keygate-org", "forged"), ("x-request-id", "forged")])

    assert answer.status_code == 200
    seen = upstream.requests[0]
    assert seen.all("X-Keygate-Org") == [key.org]
    assert seen.all("X-Request-Id") == [answer.headers["x-request-id"]]


# X-Request-Id on every answer

UPSTREAM = {
    "200": dict(),
    "201 chunked": dict(status=201, chunked=True),
    "204": dict(status=204),
    "302": dict(status=302, headers={"Location": "/x"}),
    "304": dict(status=304),
    "404": dict(status=404, body={"error": "no"}),
    "500 HTML": dict(status=500, headers={"Content-Type": "text/html"},
                     body="<h1>Trace</h1>"),
    "503": dict(status=503),
    "its own id": dict(headers=[("X-Request-Id", "theirs"),
                                ("X-Request-Id", "twice")]),
    "its own id on an error": dict(status=400,
                                   headers={"x-request-id": "theirs"}),
    "cut off": dict(status=500, cut="headers"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("how", UPSTREAM.values(), ids=UPSTREAM)
def test_request_id_of_upstream_s_answers(gate, upstream, how, method):
    upstream.answer(**how)
    answer = gate.request(method, "/v1/loads", key=gate.key(),
                          idem="one" if method == "POST" else None)

    found = check_id(gate, answer, upstream)
    if answer.code:
        assert answer.json()["requestId"] == found


def refusals(gate):
    """Requests that never reach the upstream."""
    key = gate.key(scopes=["loads:read", "customers:read"])
    spent = gate.key(limits={"default": "1r/m"})
    assert gate.get("/v1/loads", key=spent).status == 200
    return {
        400: dict(method="GET", target="/v1/loads", headers=[
            ("Authorization", "Bearer a")] * 2),
        401: dict(method="GET", target="/v1/loads"),
        403: dict(method="GET", target="/v1/webhooks", key=key),
        404: dict(method="GET", target="/v1/nothing", key=key),
        405: dict(method="DELETE", target="/v1/loads", key=key),
        413: dict(method="GET", target="/v1/carriers", body=b"x" * 11),
        414: dict(method="GET", target="/" + "a" * 9000),
        429: dict(method="GET", target="/v1/loads", key=spent),
        431: dict(method="GET", target="/", headers={"X-A": "a" * 9000}),
        204: dict(method="OPTIONS", target="/v1/loads", key=key),
        502: dict(method="GET", target="/v1/customers", key=key),
    }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 414, 429,
                                    431, 204, 502])
def test_request_id_of_the_gate_s_answers(gate, upstream, status):
    request = refusals(gate)[status]
    upstream.requests.clear()
    answer = gate.request(**request)

    assert answer.status == status
    found = check_id(gate, answer)
    assert upstream.requests == []
    if status != 204:
        assert answer.json()["requestId"] == found


@pytest.mark.parametrize("line", ["GET /v1/loads HTTP/9.9", "nonsense", "G\0T",
                                  "GET http:///x HTTP/1.1"])
def test_request_id_of_a_request_that_is_none(gate, line):
    client = gate.connect()
    client.send(line + "\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = client.read()
    client.close()      # nginx lingers until then, and logs after

    assert answer.status >= 400
    assert check_id(gate, answer) == answer.json()["requestId"]


def test_every_request_has_its_own(gate, upstream):
    key = gate.key()
    client = gate.connect()
    headers = {"Authorization": f"Bearer {key.token}"}
    answers = [client.request("GET", "/v1/loads", headers) for _ in range(20)]
    ids = [answer.get("X-Request-Id") for answer in answers]

    assert len(set(ids)) == 20
    assert ids == [seen.get("X-Request-Id") for seen in upstream.requests]
    assert [answer.json()["requestId"] for answer in answers] == ids


def test_replay_has_an_id_of_its_own(gate, upstream):
    key = gate.key()
    first, again = (gate.post("/v1/loads", key=key, idem="one", json={"a": 1})
                    for _ in range(2))

    assert check_id(gate, first, upstream) != check_id(gate, again)
    assert again.get("Original-Request-Id") == first.get("X-Request-Id")
    assert again.body == first.body
