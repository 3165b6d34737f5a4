"""What the tests of keygate_self share: its gate, its callers, its calls."""

from harness import records

ROUTES = """keygate_routes partner {
        GET     /v1/loads                 loads:read;
        GET     /v1/self                  any_key;
        GET     /v1/self/keys             keys:manage;
        POST    /v1/self/keys             keys:manage idempotency=required;
        GET     /v1/self/keys/:id         keys:manage;
        PATCH   /v1/self/keys/:id         keys:manage;
        DELETE  /v1/self/keys/:id         keys:manage;
        POST    /v1/self/keys/:id/rotate  keys:manage;
        GET     /v1/self/keys/:id/usage   keys:manage;
        POST    /plain/keys               keys:manage;
        GET     /plain                    any_key;
        GET     /plain/keys               any_key;
        DELETE  /plain/keys/:id           any_key;
        GET     /plain/nothing            any_key;
        PUT     /plain/keys               any_key;
        GET     /plainkeys                any_key;
        GET     /open                     public;
    }"""

PIECES = {
    "zone": "keygate_zone zone=keygate:16m usage=200ms;",
    "policies":
        "keygate_policy default rate=60r/m min=1r/m max=600r/m by=key;\n"
        "keygate_policy org rate=3000r/m max=6000r/m by=org;\n"
        "keygate_policy self rate=600r/m by=key exact;\n"
        "keygate_plan gold default=300r/m;\n",
    "gate": "keygate partner; keygate_limit default org;"
            "keygate_errors envelope;",
    "routes": ROUTES,
    "locations": "location /v1/self { keygate_self; }\n"
                 "location /plain { keygate_self; keygate_errors off; }\n"
                 "location /open { keygate_self; }\n",
}

SELF = "/v1/self"
KEYS = "/v1/self/keys"
PLAIN = "/plain/keys"      # the same without Idempotency-Key

MANAGE = ["keys:manage", "loads:read", "loads:write"]
READ = {"scopes": ["loads:read"]}


def manager(gate, org=None, mode="test", scopes=None, **members):
    """A key that may look after others, as the admin interface makes it."""
    org = org or gate.org("live")
    answer = gate.admin("POST", f"/orgs/{org}/keys", json={
        "mode": mode, "scopes": MANAGE if scopes is None else scopes,
        **members})
    assert answer.status == 201, answer
    return Made(gate, answer.json())


def other(gate, org, mode="test", scopes=("loads:read",), **members):
    """A key of that organisation, made by the platform."""
    return manager(gate, org, mode, list(scopes), **members)


class Made:
    """A key that was made by a call, and what is known of it."""

    def __init__(self, gate, answer):
        self.gate = gate
        self.answer = answer
        self.id = answer["id"]
        self.org = answer["org"]
        self.token = answer["token"]

    @property
    def name(self):
        digest = records.digest(self.gate.pepper, self.token)
        return f"kg:key:{{{digest}}}"

    def call(self, method, path="", **how):
        return self.gate.request(method, path, key=self.token, **how)

    def make(self, **members):
        """The answer to the making of a key by this one."""
        return self.call("POST", PLAIN, json={**READ, **members})

    def works(self):
        return self.gate.get("/v1/loads", key=self.token).status == 200

    def shown(self):
        return self.gate.admin("GET", f"/keys/{self.id}").json()


def made(gate, answer):
    assert answer.status == 201, answer
    return Made(gate, answer.json())


def check_more(answer, field):
    """Asserts the refusal of what is more than the caller may give."""
    assert (answer.status, answer.code) == (403, "forbidden"), answer
    assert answer.error["details"] == {"reason": "more_than_own",
                                       "field": field}, answer
    assert answer.error["retryable"] is False
    assert answer.json()["requestId"] == answer.get("X-Request-Id")
