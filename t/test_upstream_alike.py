"""$keygate_upstream_headers says what the variables say, wherever a request
has come to: of each request that goes on, both are sent and compared."""

import pytest

NAMES = {
    "X-Request-Id": "keygate_request_id",
    "X-Client-Request-Id": "keygate_client_request_id",
    "X-Keygate-Org": "keygate_org", "X-Keygate-Key-Id": "keygate_key_id",
    "X-Keygate-Mode": "keygate_mode", "X-Keygate-Scopes": "keygate_scopes",
    "X-Keygate-Route": "keygate_route",
    "Authorization": "keygate_upstream_authorization"}

ONE_BY_ONE = "".join(f"proxy_set_header One-{name} ${variable};"
                     for name, variable in NAMES.items())

BOTH = ("include %%ROOT%%/conf/keygate_proxy_params;" + ONE_BY_ONE
        + "proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%")

GATE = {
    "location": ONE_BY_ONE,
    "routes": "keygate_routes partner { GET /health/api public; "
              + "".join(f"GET {path} loads:read; " for path in (
                  "/v1/loads", "/dry", "/mirrored", "/asked", "/handed-on",
                  "/page", "/page-off")) + "}",
    "locations": f"""
        location = /off {{ keygate off; {BOTH}; }}
        location = /dry {{ keygate partner dry_run; {BOTH}; }}
        location = /rewritten {{ rewrite ^ /off last; }}
        location = /mirrored {{ mirror /mirror; {BOTH}; }}
        location = /mirror {{ internal; keygate off; {BOTH}/mirror; }}
        location = /asked {{ auth_request /auth; {BOTH}; }}
        location = /auth {{
            internal; keygate partner dry_run; {BOTH}/auth;
        }}
        location = /handed-on {{ {BOTH}; }}
        location = /hidden {{ internal; keygate partner dry_run; {BOTH}; }}
        location = /page {{ error_page 401 403 404 /error; {BOTH}; }}
        location = /error {{ internal; {BOTH}/error; }}
        location = /page-off {{ error_page 401 403 404 /error-off; {BOTH}; }}
        location = /error-off {{ internal; keygate off; {BOTH}/error-off; }}
    """,
}

# Where the gate is off or refuses nothing, so that the key is not its own.
OPEN = ["/off", "/dry", "/mirror", "/auth", "/hidden", "/error-off"]

ALL = ["good", "no scope", "revoked", "disabled", "unknown", "none", "basic"]

# What the upstream gets to see of whom, and who gets so far.
PLACES = {
    "/v1/loads": (["/v1/loads"], ["good"]),
    "/health/api": (["/health/api"], ALL),
    "/off": (["/off"], ALL),
    "/dry": (["/dry"], ALL),
    "/rewritten": (["/off"], ALL),
    "/mirrored": (["/mirror", "/mirrored"], ["good"]),
    "/asked": (["/asked", "/auth"], ["good"]),
    "/handed-on": (["/handed-on", "/hidden"], ["good"]),
    "/page": (["/error"], ALL[1:]),
    "/page-off": (["/error-off"], ALL[1:]),
}


def authorization(gate, kind):
    if kind == "none":
        return []
    if kind == "basic":
        return ["Basic abc"]
    if kind == "unknown":
        return ["Bearer tf_test_" + "a" * 38]
    return ["Bearer " + gate.key(**{
        "good": {}, "no scope": {"scopes": []},
        "revoked": {"revokedAt": "2026-01-01T00:00:00Z"},
        "disabled": {"org": gate.org(access="disabled")}}[kind]).token]


@pytest.mark.parametrize("path", PLACES)
def test_alike(gate, upstream, path):
    targets, kinds = PLACES[path]
    upstream.answer(200, headers={"X-Accel-Redirect": "/hidden"},
                    path="/handed-on")

    for kind in kinds:
        upstream.requests.clear()
        sent = authorization(gate, kind)
        gate.get(path, headers=[("X-Request-Id", "mine")]
                 + [("Authorization", value) for value in sent])
        upstream.wait(len(targets))

        assert sorted(seen.target for seen in upstream.requests) == targets
        for seen in upstream.requests:
            assert {name: seen.all(name) for name in NAMES} \
                == {name: seen.all("One-" + name) for name in NAMES}, kind
            assert seen.all("X-Client-Request-Id") == ["mine"]
            assert seen.all("Authorization") == (
                sent if seen.target in OPEN else [])


def identity(seen):
    """Who calls, as the upstream got it: every value of each header."""
    return [seen.all(f"X-Keygate-{name}")
            for name in ("Org", "Key-Id", "Mode", "Scopes")]


@pytest.mark.parametrize("end", [b"\r\n ", b"\r\n\t", b"\r", b"\n", b"\r\r\n",
                                 b"\0", b"\x0b", b"\x0c", b"\x85",
                                 b"\xe2\x80\xa8"])
@pytest.mark.parametrize("name", [b"Authorization", b"X-Request-Id"])
@pytest.mark.parametrize("path", [b"/dry", b"/off"])
def test_no_value_begins_another_header(gate, upstream, path, name, end):
    """A value goes on as it came, as far as nginx takes it for one, or the
    request is refused; what it looks like says nobody's name."""
    value = b"mine" + end + b"X-Keygate-Org: acme"
    client = gate.connect()
    client.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close"
                b"\r\n" + name + b": " + value + b"\r\n\r\n")
    answer = client.read()
    client.close()

    assert answer.status == (200 if upstream.requests else 400)
    for seen in upstream.requests:
        assert identity(seen) == [[]] * 4
        assert seen.all("X-Client-Request-Id") in ([], ["mine"])
        assert seen.all("Authorization") in (
            [["mine"], [value.decode("latin-1")]]
            if name == b"Authorization" else [[]])
