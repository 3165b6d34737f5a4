"""The caller's own request id: it goes on when it is well formed, and never
takes the place of the gate's or a line of the log."""

import re

import pytest

from checks import check_request_id
from harness.ports import wait_for

LOADS = "/v1/loads"

GATE = dict(
    http="log_format ids escape=none '[$keygate_request_id]"
         "[$keygate_client_request_id]';",
    server="access_log %%FOLDER%%/ids.log ids;",
    locations="""location = /off { keygate off; keygate_errors off;
        include %%ROOT%%/conf/keygate_proxy_params;
        proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%; }""")


def logged(gate, request_id):
    """Every whole line of the log that has the id of an answer."""
    def read():
        return [line for line in gate.access_log("ids.log")
                if request_id in line]

    return wait_for(read, 5, "a log line")


def ask(gate, headers, target=LOADS):
    return gate.get(target, key=gate.key(), headers=headers)


GOOD = ["a", "7f3c9a1e-5b1d-4c83-9a77-2f0e6f0d2b11", "req_01J9Z", "A.b_c:d-9",
        "x" * 128]

BAD = ["", " ", "a b", "a\tb", 'a"b', "a'b", "a\\b", "a,b", "a;b", "a/b",
       "<script>", "%0a", "\u00fc", "a]\x7f", "x" * 129, "${jndi:ldap}"]


@pytest.mark.parametrize("value", GOOD)
@pytest.mark.parametrize("target", [LOADS, "/off", "/health/api"])
def test_goes_on(gate, upstream, value, target):
    answer = ask(gate, {"X-Request-Id": value}, target)
    own = check_request_id(answer)
    seen = upstream.requests[0]

    assert own != value
    assert seen.all("X-Client-Request-Id") == [value]
    assert seen.all("X-Request-Id") == [own]
    assert logged(gate, own) == [f"[{own}][{value}]"]


@pytest.mark.parametrize("value", BAD)
def test_is_not_taken(gate, upstream, value):
    answer = ask(gate, {"X-Request-Id": value})
    own = check_request_id(answer)

    assert answer.status == 200
    assert upstream.requests[0].all("X-Client-Request-Id") == []
    assert upstream.requests[0].all("X-Request-Id") == [own]
    assert logged(gate, own) == [f"[{own}][]"]


def test_two_are_none(gate, upstream):
    own = check_request_id(ask(gate, [("X-Request-Id", "a"),
                                      ("x-request-id", "b")]))

    assert upstream.requests[0].all("X-Client-Request-Id") == []
    assert logged(gate, own) == [f"[{own}][]"]


def test_what_a_caller_says_of_it_is_replaced(gate, upstream):
    ask(gate, {"X-Client-Request-Id": "forged"})
    assert upstream.requests[-1].all("X-Client-Request-Id") == []

    ask(gate, {"X-Client-Request-Id": "forged", "X-Request-Id": "mine"})
    assert upstream.requests[-1].all("X-Client-Request-Id") == ["mine"]


def test_of_a_refusal(gate):
    answer = gate.get(LOADS, headers={"X-Request-Id": "mine"})
    own = check_request_id(answer)

    assert answer.status == 401
    assert logged(gate, own) == [f"[{own}][mine]"]


def test_over_http2(gate, upstream):
    with gate.h2() as client:
        client.get("/health/api", headers={"X-Request-Id": "mine"})
    assert upstream.requests[0].all("X-Client-Request-Id") == ["mine"]


def test_ids_of_workers_and_restarts_differ(make_gate):
    """Two workers, a reload and a second gate: none repeats another."""
    gates = [make_gate(), make_gate()]
    ids = [gate.get("/").get("X-Request-Id") for gate in gates
           for _ in range(100)]
    gates[0].reload()
    ids += [gates[0].get("/").get("X-Request-Id") for _ in range(100)]

    assert len(set(ids)) == 300
    assert all(re.fullmatch(r"req_[0-9A-HJKMNP-TV-Z]{26}", i) for i in ids)
    # What is random differs too, not the time alone.
    assert len({i[14:] for i in ids}) == 300
