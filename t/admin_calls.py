"""What the tests of the admin interface share: its gate, its calls, and what a
refusal looks like."""

import datetime
import json as json_module

import harness
from harness import records

POLICIES = "keygate_policy default rate=60r/m min=1r/m max=600r/m by=key;\n" \
           "keygate_policy org rate=3000r/m max=6000r/m by=org;\n" \
           "keygate_policy slow rate=6r/m min=2r/m by=key;\n" \
           "keygate_plan silver default=90r/m;\n" \
    + "".join(f"keygate_policy p{n} rate=60r/m by=key;\n" for n in range(8))

PIECES = {
    "policies": POLICIES,
    "locations": "location /read/ { keygate_admin role=read; }\n"
                 "location /portal { keygate_admin role=portal; }\n",
}

KEY = {"mode": "test", "scopes": ["loads:read"]}


def new_id():
    return "org-" + records.base62(12)


def ask(gate, role, method, path, json=None):
    """A call as that role."""
    if role == "operator":
        return gate.admin(method, path, json=json)
    return gate.request(method, f"/{role}{path}", json=json)


def make_org(gate, access="live", **members):
    org = new_id()
    answer = gate.admin("PUT", f"/orgs/{org}",
                        json={"access": access, **members})
    assert answer.status == 201, answer
    return org


def make_key(gate, org=None, **members):
    """The answer to a new key's making, parsed."""
    org = org or make_org(gate)
    answer = gate.admin("POST", f"/orgs/{org}/keys", json={**KEY, **members})
    assert answer.status == 201, answer
    return answer.json()


def stored(gate, kind, name):
    return json_module.loads(gate.redis.client.get(f"kg:{kind}:{{{name}}}"))


def stored_key(gate, token):
    return stored(gate, "key", harness.digest(gate.pepper, token))


def check_refused(answer, status, code, field=None):
    """Asserts a refusal in the contract's envelope, with its field."""
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.get("Content-Type") == "application/json"
    assert answer.get("Cache-Control") == "no-store"
    assert answer.get("X-Request-Id") == answer.json()["requestId"]
    assert answer.error["retryable"] is (status == 503)
    assert (answer.get("Retry-After") is not None) is (status == 503)
    assert answer.error.get("details", {}).get("field") == field, answer
    if field:
        assert field in answer.error["message"]


def everything(gate, path, limit=100, role="operator", **query):
    """All entries of a list, page by page."""
    found, cursor = [], ""
    args = "".join(f"&{name}={value}" for name, value in query.items())

    while cursor is not None:
        answer = ask(gate, role, "GET",
                     f"{path}?limit={limit}&cursor={cursor}{args}")
        assert answer.status == 200, answer
        assert len(answer.json()["data"]) <= limit
        found += answer.json()["data"]
        cursor = answer.json()["nextCursor"]

    return found


def trail(gate, **match):
    """The entries of the audit trail with these members, newest first."""
    return [entry for entry in everything(gate, "/audit")
            if all(entry[name] == value for name, value in match.items())]


def in_days(days, seconds=0):
    when = (datetime.datetime.now(datetime.timezone.utc)
            + datetime.timedelta(days=days, seconds=seconds))
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
