"""What a browser was made to send by another site's page changes nothing: it
has the password or the certificate of who is signed in with it."""

import json

import pytest

from admin_calls import KEY, PIECES, check_refused, make_key, make_org

GATE = PIECES


def ways(gate):
    """Calls that a page may make without the leave of a preflight, and one
    that it may not."""
    org = make_org(gate)
    key = make_key(gate, org)
    line = {"type": "org", "id": org, "record": {"v": 1, "access": "disabled"}}
    return [("POST", f"/orgs/{org}/keys", json.dumps(KEY)),
            ("POST", f"/keys/{key['id']}/rotate", '{"overlap":"0"}'),
            ("POST", "/import", json.dumps(line)),
            ("DELETE", f"/keys/{key['id']}", "")], org, key


def send(gate, way, headers):
    method, path, body = way
    return gate.admin(method, path, body=body.encode(), headers=[
        ("Content-Type", "text/plain"), *headers])


@pytest.mark.parametrize("headers", [
    [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")],
    [("Sec-Fetch-Site", "same-site")],
    [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
    [("Origin", "https://evil.example")],
    [("Origin", "http://localhost.evil.example")],
    [("Origin", "http://evil.example#localhost")],
    [("Origin", "null")],
    [("Origin", "")],
    [("Origin", "localhost")]])
def test_another_sites_page_changes_nothing(gate, headers):
    calls, org, key = ways(gate)
    keys = gate.admin("GET", f"/orgs/{org}").json()["keys"]
    headers = [("Host", "localhost"), *headers]

    for way in calls:
        answer = send(gate, way, headers)
        check_refused(answer, 403, "forbidden")
        assert answer.error["details"] == {"reason": "origin"}

    shown = gate.admin("GET", f"/orgs/{org}").json()
    assert (shown["access"], shown["keys"]) == ("live", keys)
    assert gate.get("/v1/loads", key=key["token"]).status == 200
    assert gate.admin("GET", f"/orgs/{org}", headers=headers).status == 200


@pytest.mark.parametrize("headers", [
    [],
    [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://portal.example")],
    [("Sec-Fetch-Site", "none")],
    [("Host", "admin.example"), ("Origin", "https://admin.example")],
    [("Host", "admin.example:8443"), ("Origin", "https://Admin.Example:8443")],
])
def test_ones_own_page_and_programs_change(gate, headers):
    calls, _, _ = ways(gate)
    for way in calls:
        assert send(gate, way, headers).status in (200, 201)
