"""Configuration: what is wrong is refused by nginx -t, with the file, the line
and what would be right."""

import os
import re

import pytest

GOOD_ROUTES = "keygate_routes partner { GET /v1/loads loads:read; }"

ROUTE = "keygate_routes partner {{\n{}\n}}"


def route(line):
    return ROUTE.format(line)


# (the piece of the template it stands in for, the text, what must be said).
# The last line of the text but those of only a brace is the wrong one; it is
# put into a file of its own, so that file and line can be checked.

REDIS = [
    ("keygate_redis;", "invalid number of arguments"),
    ("keygate_redis 127.0.0.1:6379;", "redis://host"),
    ("keygate_redis http://127.0.0.1;", "redis://host"),
    ("keygate_redis rediss://127.0.0.1:6379;", "TLS"),
    ("keygate_redis redis://;", "no host"),
    ("keygate_redis redis://127.0.0.1:x;", "invalid port"),
    ("keygate_redis redis://127.0.0.1:0;", "invalid port"),
    ("keygate_redis redis://127.0.0.1:65536;", "invalid port"),
    ("keygate_redis redis://127.0.0.1/x;", "database.*number"),
    ("keygate_redis redis://127.0.0.1/-1;", "database.*number"),
    ("keygate_redis redis://127.0.0.1/0/0;", "database.*number"),
    ("keygate_redis unix:;", "absolute path"),
    ("keygate_redis unix:redis.sock;", "absolute path"),
    ("keygate_redis unix:/run/redis.sock:x;", "database.*number"),
    ("keygate_redis redis://a:s3cr3t@127.0.0.1;", "password_file="),
    ("keygate_redis redis://:s3cr3t@127.0.0.1;", "password_file="),
    ("keygate_redis redis://a password=s3cr3t;", "host not found|file"),
    ("keygate_redis redis://127.0.0.1 password=s3cr3t;", "password_file="),
    ("keygate_redis redis://127.0.0.1 user=a;", "password_file="),
    ("keygate_redis redis://127.0.0.1 password_file=none;",
     "none.*cannot be opened"),
    ("keygate_redis redis://127.0.0.1 password_file=empty;", "empty"),
    ("keygate_redis redis://127.0.0.1 password_file=lines;", "line"),
    ("keygate_redis redis://127.0.0.1 password_file=long;", "1024"),
    ("keygate_redis redis://127.0.0.1 password_file=.;", "regular file"),
    ("keygate_redis redis://127.0.0.1 password_file=;", "no value"),
    ("keygate_redis redis://127.0.0.1 connect=0;", "1ms to 60s"),
    ("keygate_redis redis://127.0.0.1 connect=61s;", "1ms to 60s"),
    ("keygate_redis redis://127.0.0.1 connect=fast;", "1ms to 60s"),
    ("keygate_redis redis://127.0.0.1 connect=;", "no value"),
    ("keygate_redis redis://127.0.0.1 command=-1s;", "1ms to 60s"),
    ("keygate_redis redis://127.0.0.1 dead=x;", "1ms to 60s"),
    ("keygate_redis redis://127.0.0.1 command=2s dead=1s;", "dead="),
    ("keygate_redis redis://127.0.0.1 namespace=;", "no value"),
    ("keygate_redis redis://127.0.0.1 namespace=a:b;", "letters"),
    ('keygate_redis redis://127.0.0.1 "namespace={a}";', "letters"),
    (f"keygate_redis redis://127.0.0.1 namespace={'a' * 65};", "64"),
    ("keygate_redis redis://127.0.0.1 timeout=1s;", "connect="),
    ("keygate_redis redis://127.0.0.1 fast;", "connect="),
    ("keygate_redis redis://127.0.0.1 use=all;", '"records"'),
    ("keygate_redis redis://127.0.0.1 use=;", '"records"'),
    ("keygate_redis redis://127.0.0.1 use=records,;", '"records"'),
    ("keygate_redis redis://127.0.0.1;\nkeygate_redis redis://127.0.0.1;",
     '"use="'),
    ("keygate_redis redis://127.0.0.1 use=records,limits;\n"
     "keygate_redis redis://127.0.0.1 use=limits;", "limits already"),
]

ZONE = [
    ("keygate_zone;", "invalid number of arguments"),
    ("keygate_zone keygate:16m;", '"zone=NAME:SIZE"'),
    ("keygate_zone zone=keygate;", '"zone=NAME:SIZE"'),
    ("keygate_zone zone=:16m;", '"zone=NAME:SIZE"'),
    ("keygate_zone zone=keygate:;", '"zone=NAME:SIZE"'),
    ("keygate_zone zone=keygate:16x;", '"zone=NAME:SIZE"'),
    ("keygate_zone zone=keygate:-1m;", '"zone=NAME:SIZE"'),
    ("keygate_zone zone=keygate:1023k;", "at least 1m"),
    ("keygate_zone zone=keygate:0;", "at least 1m"),
    ("keygate_zone valid=1s;", "zone=NAME:SIZE"),
    ("keygate_zone zone=keygate:1m valid=soon;", "invalid time"),
    ("keygate_zone zone=keygate:1m valid=;", "invalid time"),
    ("keygate_zone zone=keygate:1m valid=-1s;", "invalid time"),
    ("keygate_zone zone=keygate:1m valid=25h;", "invalid time"),
    ("keygate_zone zone=keygate:1m negative=x;", "invalid time"),
    ("keygate_zone zone=keygate:1m valid=1s valid=1s;", "duplicate"),
    ("keygate_zone zone=a:1m zone=b:1m;", "zone=b:1m"),
    ("keygate_zone zone=a:1m size=1m;", '"valid=TIME"'),
    ("keygate_zone zone=a:1m;\nkeygate_zone zone=b:1m;", "duplicate"),
    ("limit_conn_zone $uri zone=keygate:1m;\nkeygate_zone zone=keygate:1m;",
     "keygate"),
]

KEYS = [
    ("keygate_keys;", "invalid number of arguments"),
    ("keygate_keys prefix=tf;", "pepper=FILE"),
    ("keygate_keys pepper=pepper;", "prefix=NAME"),
    ("keygate_keys prefix= pepper=pepper;", r"\[a-z0-9\]\{1,16\}"),
    ("keygate_keys prefix=TF pepper=pepper;", r"\[a-z0-9\]\{1,16\}"),
    ("keygate_keys prefix=t_f pepper=pepper;", r"\[a-z0-9\]\{1,16\}"),
    (f"keygate_keys prefix={'a' * 17} pepper=pepper;", r"\[a-z0-9\]\{1,16\}"),
    ("keygate_keys prefix=tf pepper=none;", "none.*openssl rand"),
    ("keygate_keys prefix=tf pepper=empty;", "32 to 1024.*openssl rand"),
    ("keygate_keys prefix=tf pepper=newline;", "32 to 1024"),
    ("keygate_keys prefix=tf pepper=short;", "32 to 1024"),
    ("keygate_keys prefix=tf pepper=long;", "32 to 1024"),
    ("keygate_keys prefix=tf pepper=.;", "32 to 1024"),
    ("keygate_keys prefix=tf pepper=;", "without a file"),
    ("keygate_keys prefix=tf peper=pepper;", '"pepper=FILE"'),
    ("keygate_keys prefix=tf pepper=pepper tolerance=6m;", "0 ms to 300 s"),
    ("keygate_keys prefix=tf pepper=pepper tolerance=-1s;", "0 ms to 300 s"),
    ("keygate_keys prefix=tf pepper=pepper tolerance=1500ms;",
     "whole seconds"),
    ("keygate_keys prefix=tf pepper=pepper tolerance=1s tolerance=1s;",
     "duplicate"),
    ("keygate_keys prefix=tf prefix=ab prefix=tf pepper=pepper;",
     'duplicate parameter "prefix=tf"'),
    ("keygate_keys prefix=tf pepper=pepper pepper=pepper;",
     "the same as one before it"),
    ("keygate_keys prefix=tf pepper=pepper;\n"
     "keygate_keys prefix=tf pepper=pepper;", "duplicate"),
]

POLICY = [
    ("keygate_policy slow;", "invalid number of arguments"),
    ("keygate_policy slow by=key;", "rate=60r/m"),
    ("keygate_policy slow rate=60r/m;", "by=key"),
    ("keygate_policy Slow rate=60r/m by=key;", r"\[a-z0-9_-\]\{1,32\}"),
    ("keygate_policy off rate=60r/m by=key;", 'not "off"'),
    (f"keygate_policy {'a' * 33} rate=60r/m by=key;", "1,32"),
    ("keygate_policy slow rate=60 by=key;", "60r/m"),
    ("keygate_policy slow rate= by=key;", "60r/m"),
    ("keygate_policy slow rate=r/m by=key;", "60r/m"),
    ("keygate_policy slow rate=60r/w by=key;", "60r/m"),
    ("keygate_policy slow rate=60r/mx by=key;", "60r/m"),
    ("keygate_policy slow rate=0r/m by=key;", "60r/m"),
    ("keygate_policy slow rate=-1r/m by=key;", "60r/m"),
    ("keygate_policy slow rate=1.5r/m by=key;", "60r/m"),
    ("keygate_policy slow rate=99999999999r/m by=key;", "60r/m"),
    ("keygate_policy slow rate=9r/m min=x by=key;", "60r/m"),
    ("keygate_policy slow rate=9r/m max=x by=key;", "60r/m"),
    ("keygate_policy slow rate=9r/m min=10r/m by=key;", '"min="'),
    ("keygate_policy slow rate=9r/m max=8r/m by=key;", '"max="'),
    ("keygate_policy slow rate=1r/s max=59r/m by=key;", '"max="'),
    ("keygate_policy slow rate=61r/h max=60r/m by=key;", '"max="'),
    ("keygate_policy slow rate=9r/m min=9r/m max=8r/m by=key;", '"max="'),
    ("keygate_policy slow rate=5r/s min=30r/m max=10r/s by=key;",
     "min=1r/m max=600r/m"),
    ("keygate_policy slow rate=9r/m by=;", '"key", "org"'),
    ("keygate_policy slow rate=9r/m by=ip;", '"key", "org"'),
    ("keygate_policy slow rate=9r/m by=key,,org;", '"key", "org"'),
    ("keygate_policy slow rate=9r/m by=org,;", '"key", "org"'),
    ("keygate_policy slow rate=9r/m by=key by=org;", "duplicate"),
    ("keygate_policy slow rate=9r/m rate=9r/m by=key;", "duplicate"),
    ("keygate_policy slow rate=9r/m by=key,org,key;", 'duplicate "key"'),
    ("keygate_policy slow rate=9r/m by=$host,key,$host;",
     r'duplicate "\$host"'),
    ("keygate_policy slow rate=9r/m by=key exact exact;", "duplicate"),
    ("keygate_policy slow rate=9r/m dry_run by=key dry_run;", "duplicate"),
    ("keygate_policy slow rate=9r/m per=key by=key;", '"by="'),
    ("keygate_policy a rate=9r/m by=key;\nkeygate_policy a rate=1r/m by=key;",
     "duplicate policy"),
]

ROUTES = [
    ("keygate_routes { }", "invalid number of arguments"),
    ("keygate_routes Partner {\n}", r"\[a-z0-9_-\]\{1,32\}"),
    ("keygate_routes off {\n}", 'not "off"'),
    ("keygate_routes partner;", "no opening"),
    (GOOD_ROUTES + "\n" + GOOD_ROUTES, "duplicate routes"),
    (route("GET /a;"), "METHOD PATH SCOPE"),
    (route("GET;"), "METHOD PATH SCOPE"),
    (route("get /a a:b;"), "upper case"),
    (route("G(T /a a:b;"), "upper case"),
    (route("HEAD /a a:b;"), "HEAD"),
    (route("OPTIONS /a a:b;"), "OPTIONS"),
    (route("TRACE /a a:b;"), "nginx itself refuses TRACE"),
    (route("CONNECT /a a:b;"), "nginx itself refuses TRACE"),
    (route("GET a a:b;"), "invalid route"),
    (route('GET "" a:b;'), "invalid route"),
    (route("GET /a//b a:b;"), "invalid route"),
    (route("GET /a/../b a:b;"), "invalid route"),
    (route("GET /./a a:b;"), "invalid route"),
    (route('GET "/a b" a:b;'), "space"),
    (route("GET /a?b a:b;"), "invalid route"),
    (route('GET "/a#b" a:b;'), "invalid route"),
    (route("GET /a/: a:b;"), "invalid route"),
    (route('GET "/a/{}" a:b;'), "invalid route"),
    (route('GET "/a/{b" a:b;'), "invalid route"),
    (route("GET /a a:b;\nGET /a a:c;"), "twice"),
    (route("GET /a/:x a:b;\nGET /a/:y a:c;"), "twice"),
    (route('GET /a/:x a:b;\nGET "/a/{y}" a:c;'), "twice"),
    (route("GET /a Loads;"), "loads:read"),
    (route('GET /a "a b";'), "loads:read"),
    (route('GET /a "";'), "loads:read"),
    (route("GET /a loads:*;"), "loads:read"),
    (route("GET /a *;"), "loads:read"),
    (route(f"GET /a {'a' * 129};"), "loads:read"),
    (route("GET /a a:b limit=none;"), 'no policy "none".*keygate_policy'),
    (route("GET /a a:b limit=;"), 'no policy ""'),
    (route("GET /a a:b limit=+;"), 'no policy ""'),
    (route("GET /a a:b limit=default,default;"), "twice"),
    (route("GET /a a:b limit=default limit=default;"), "duplicate"),
    (route("POST /a a:b idempotency=yes;"), '"idempotency=required"'),
    (route("POST /a a:b idempotency;"), '"idempotency=required"'),
    (route("POST /a a:b quick;"), '"idempotency=required"'),
    (route("GET /a a:b idempotency=required;"), "for writes"),
    (route("GET /a a:b idempotency=optional;"), "for writes"),
    (route("POST /a a:b idempotency=required idempotency=optional;"),
     "duplicate"),
    (route("POST /a a:b retention=48h;"), 'routes with "idempotency="'),
    (route("GET /a a:b on_unknown=forward;"), 'routes with "idempotency="'),
    (route("POST /a a:b idempotency=required eviction=accept;"),
     '"keygate_idempotency" has for routes'),
    (route("POST /a a:b store=429;"), 'routes with "idempotency="'),
    (route("POST /a a:b idempotency=required retention=1s lease=2s;"),
     'shorter than its "lease="'),
    (route("POST /a a:b idempotency=required retention=10s;"),
     'shorter than its "lease="'),
    (route("POST /a public idempotency=required;"), "public"),
    (route("GET /a public limit=default;"), "public"),
    (route("include;"), "include FILE"),
    (route("include a b;"), "include FILE"),
    (route("include none.conf;"), "none.conf"),
]

SERVER = [
    ("keygate;", "invalid number of arguments"),
    ("keygate none;", 'no routes "none".*keygate_routes none'),
    ("keygate partner dryrun;", '"dry_run"'),
    ("keygate partner off;", '"dry_run"'),
    ("keygate off dry_run;", 'after "off"'),
    ("keygate partner dry_run off;", "invalid number of arguments"),
    ("keygate partner;\nkeygate off;", "duplicate"),
    ("keygate off;\nkeygate off;", "duplicate"),
    ("keygate_token;", "invalid number of arguments"),
    ("keygate_token X-Api-Key;", r"\$http_x_api_key"),
    ("keygate_token bearer cookie;", r"\$http_x_api_key"),
    ("keygate_token bearer;\nkeygate_token bearer;", "duplicate"),
    ("keygate_limit;", "invalid number of arguments"),
    ("keygate_limit none;", 'no policy "none".*keygate_policy'),
    ("keygate_limit default none;", 'no policy "none"'),
    ("keygate_limit off default;", 'after "off"'),
    ("keygate_limit default off;", 'no policy "off"'),
    ("keygate_limit default default;", "twice"),
    ("keygate_limit a b c d e f g h i;", "more than 8"),
    ("keygate_limit default;\nkeygate_limit default;", "duplicate"),
    ("keygate_errors;", "invalid number of arguments"),
    ("keygate_errors on;", 'invalid value "on"'),
    ("keygate_errors envelope;\nkeygate_errors off;", "duplicate"),
    ("keygate_realm;", "invalid number of arguments"),
    ('keygate_realm "a\\"b";', "printable ASCII"),
    ('keygate_realm "a\\\\b";', "printable ASCII"),
    ('keygate_realm "caf\xe9";', "printable ASCII"),
    ("keygate_realm a;\nkeygate_realm b;", "duplicate"),
]

ADMIN = [
    ("location /a/ { keygate_admin; }", "invalid number of arguments"),
    ("location /a/ { keygate_admin role=root; }", '"role=operator"'),
    ("location /a/ { keygate_admin operator; }", '"role=operator"'),
    ("location /a/ { keygate_admin role=; }", '"role=operator"'),
    ("location /a/ { keygate_admin role=read; keygate_admin role=read; }",
     "duplicate"),
    ("location ~ ^/a/ { keygate_admin role=read; }", "regular expression"),
    ("location = /a { keygate_admin role=read; }", "prefix"),
    ("location @a { keygate_admin role=read; }", "prefix"),
    ("keygate_admin role=read;", "not allowed here"),
]

IDEMPOTENCY = [
    ("keygate_idempotency;", "invalid number of arguments"),
    ("keygate_idempotency 24h;", '"retention=TIME"'),
    ("keygate_idempotency retention=;", "invalid time"),
    ("keygate_idempotency retention=long;", "invalid time"),
    ("keygate_idempotency retention=0;", "invalid time"),
    ("keygate_idempotency retention=500ms;", "invalid time"),
    ("keygate_idempotency retention=367d;", "invalid time"),
    ("keygate_idempotency lease=0;", "invalid time"),
    ("keygate_idempotency lease=61m;", "invalid time"),
    ("keygate_idempotency retention=1h retention=1h;", "duplicate"),
    ("keygate_idempotency retention=1s;", 'shorter than "lease="'),
    ("keygate_idempotency max_response=1023;", "from 1k to 8m"),
    ("keygate_idempotency max_response=9m;", "from 1k to 8m"),
    ("keygate_idempotency max_response=;", "from 1k to 8m"),
    ("keygate_idempotency max_response=-1;", "from 1k to 8m"),
    ("keygate_idempotency max_response=1m max_response=1m;", "duplicate"),
    ("keygate_idempotency on_unknown=;", '"on_unknown=forward"'),
    ("keygate_idempotency on_unknown=run;", '"on_unknown=refuse"'),
    ("keygate_idempotency on_unknown=refuse on_unknown=forward;",
     "duplicate"),
    ("keygate_idempotency conflict=400;", '"conflict=422"'),
    ("keygate_idempotency conflict=409 conflict=409;", "duplicate"),
    ("keygate_idempotency durable=;", "replicas from 0 to 16"),
    ("keygate_idempotency durable=17;", "replicas from 0 to 16"),
    ("keygate_idempotency durable=-1;", "replicas from 0 to 16"),
    ("keygate_idempotency durable=all;", "replicas from 0 to 16"),
    ("keygate_idempotency durable=1 durable=1;", "duplicate"),
    ("keygate_idempotency eviction=allow;", '"eviction=accept"'),
    ("keygate_idempotency eviction=accept eviction=refuse;", "duplicate"),
    ("keygate_idempotency store=;", "from 200 to 599"),
    ("keygate_idempotency store=199;", "from 200 to 599"),
    ("keygate_idempotency store=600;", "from 200 to 599"),
    ("keygate_idempotency store=429,;", "from 200 to 599"),
    ("keygate_idempotency store=4xx;", "from 200 to 599"),
    ("keygate_idempotency release=201;", "from 400 to 599"),
    ("keygate_idempotency store=429,429;", "429 is given twice"),
    ("keygate_idempotency store=500 unknown=500;", "500 is given twice"),
    ("keygate_idempotency retention=1h;\nkeygate_idempotency lease=1s;",
     "duplicate"),
]

OUTAGE = [
    ("keygate_outage;", "invalid number of arguments"),
    ("keygate_outage keys=fresh;", '"keys=stale:TIME"'),
    ("keygate_outage keys=stale;", '"keys=stale:TIME"'),
    ("keygate_outage keys=stale:;", "invalid time"),
    ("keygate_outage keys=stale:x;", "invalid time"),
    ("keygate_outage keys=stale:2d;", "invalid time"),
    ("keygate_outage limits=maybe;", '"limits=allow"'),
    ("keygate_outage limits=deny limits=allow;", "duplicate"),
    ("keygate_outage limits=deny limits=deny;", "duplicate"),
    ("keygate_outage keys=stale:1s keys=stale:1s;", "duplicate"),
    ("keygate_outage keys=stale:1s;\nkeygate_outage limits=deny;",
     "duplicate"),
]

# What belongs into http {} alone.

ELSEWHERE = [
    (text, "not allowed here") for text in (
        "keygate_redis redis://127.0.0.1;", "keygate_zone zone=b:1m;",
        "keygate_keys prefix=tf pepper=pepper;",
        "keygate_policy slow rate=1r/m by=key;",
        "keygate_idempotency lease=1s;", "keygate_outage limits=deny;",
        "keygate_routes b { GET /a a:b; }")]

WRONG = [(piece, text, said) for piece, rows in (
    ("redis", REDIS), ("zone", ZONE), ("keys", KEYS), ("http", POLICY),
    ("routes", ROUTES), ("gate", SERVER), ("locations", ADMIN),
    ("idempotency", IDEMPOTENCY), ("outage", OUTAGE), ("server", ELSEWHERE))
    for text, said in rows]

FILES = {
    "empty": "", "newline": "\n", "short": "a" * 31 + "\n",
    "long": "a" * 1025 + "\n", "lines": "one\ntwo\n",
}


def wrong_line(text):
    """The number of the last line that is not only a brace."""
    lines = text.split("\n")
    return max(i for i, line in enumerate(lines, 1) if line.strip() != "}")


@pytest.mark.parametrize("piece, text, said", WRONG,
                         ids=[text[:60] for _, text, _ in WRONG])
def test_wrong_line_is_refused(nginx_t, piece, text, said):
    rc, stderr = nginx_t(files={**FILES, "wrong.conf": "# One.\n" + text},
                         **{piece: "include wrong.conf;"})
    lines = [line for line in stderr.splitlines() if "[emerg]" in line]

    assert rc == 1
    assert len(lines) == 1, stderr
    assert re.search(said, lines[0]), lines[0]
    assert "s3cr3t" not in stderr

    places = re.findall(r"wrong\.conf:(\d+)", lines[0])
    ends = {1 + wrong_line(text), 2 + text.count("\n")}
    assert places and {int(place) for place in places} <= ends, lines[0]


# What is missing.

@pytest.mark.parametrize("pieces, said", [
    ({"redis": ""}, 'needs "keygate_redis".*redis://'),
    ({"redis": "keygate_redis redis://127.0.0.1 use=records,limits;"},
     'needs "keygate_redis"'),
    ({"zone": ""}, 'needs "keygate_zone".*zone=keygate:'),
    ({"keys": ""}, 'needs "keygate_keys".*pepper='),
    ({"routes": ""}, 'no routes "partner".*nginx.conf:[0-9]+'),
    ({"redis": "", "gate": "keygate partner dry_run;"},
     'needs "keygate_redis"'),
    ({"zone": "", "gate": ""}, 'needs "keygate_zone"'),
    ({"keys": "", "gate": "keygate off;"}, 'needs "keygate_keys"'),
    ({"gate": "keygate partner; keygate_token $no_such_variable;"},
     'unknown "no_such_variable" variable'),
])
def test_missing_line_is_named(nginx_t, pieces, said):
    rc, stderr = nginx_t(**pieces)

    assert rc == 1
    assert re.search(said, stderr), stderr


def test_policy_default_may_be_missing(nginx_t):
    assert nginx_t(policies="", gate="keygate partner;")[0] == 0
    assert nginx_t(policies="", gate="keygate_limit default;")[0] == 0


NOTHING = dict.fromkeys(["redis", "zone", "keys", "policies", "idempotency",
                         "outage", "routes", "gate", "admin"], "")

RIGHT = {
    "the template": {},
    "nothing": NOTHING,
    "off": {**NOTHING, "gate": "keygate off;"},
    "errors alone": {**NOTHING, "gate": "keygate_errors envelope;"},
    "routes nobody uses": {**NOTHING, "routes": GOOD_ROUTES},
    "Redis, no port": {"redis": "keygate_redis redis://127.0.0.1;"},
    "Redis, a name": {"redis": "keygate_redis redis://localhost:6379/3;"},
    "Redis, a slash": {"redis": "keygate_redis redis://127.0.0.1/;"},
    "Redis, IPv6": {"redis": "keygate_redis redis://[::1]:6379/1;"},
    "Redis, a socket": {"redis": "keygate_redis unix:/run/redis.sock;"},
    "Redis, a socket's database":
        {"redis": "keygate_redis unix:/run/redis.sock:2;"},
    "Redis, all": {
        "redis": "keygate_redis redis://127.0.0.1 connect=1ms command=50ms "
                 "dead=60s user=kg password_file=secret namespace=a.B_c-9;"},
    "Redis, password alone": {
        "redis": "keygate_redis redis://127.0.0.1 password_file=secret;"},
    "Redis, split": {
        "redis": "keygate_redis redis://127.0.0.1 use=records;\n"
                 "keygate_redis redis://127.0.0.2 use=limits,idempotency;"},
    "Redis, limits elsewhere": {
        "redis": "keygate_redis redis://127.0.0.1 "
                 "use=records,limits,idempotency;"},
    "zone, smallest": {"zone": "keygate_zone zone=k:1m;"},
    "zone, all": {
        "zone": "keygate_zone valid=0s negative=24h zone=keygate:1024k;"},
    "keys, several": {
        "keys": "keygate_keys prefix=tf prefix=acme9 pepper=pepper "
                "pepper=smallest;"},
    "policies": {
        "policies": "keygate_policy default rate=600r/m by=key;\n"
                    "keygate_policy a-b_9 rate=1r/s min=1r/d max=1000000r/h "
                    "by=org,mode,route,key;\n"
                    "keygate_policy same rate=1r/s min=60r/m max=60r/m "
                    "by=org;"},
    "routes": {
        "routes": 'keygate_routes partner {\n'
                  '# A comment.\n'
                  'GET / root:read; GET "/a/{b}" a:b limit=default;\n'
                  'POST /a/:b/c a.b-c_9:d limit=+default '
                  'idempotency=required;\n'
                  'PATCH /a a:b limit=off; MKCOL /a a:b; GET /h public; }\n'
                  'keygate_routes other { GET /a a:b; }'},
    "routes further down": {
        "routes": "", "servers": GOOD_ROUTES},
    "policies further down": {
        "policies": "", "gate": "keygate partner; keygate_limit late;",
        "servers": "keygate_policy late rate=1r/s by=key;"},
    "server": {
        "gate": 'keygate partner dry_run; keygate_token $http_x_api_key '
                'bearer $cookie_key; keygate_realm "A b, c"; '
                'keygate_limit off; keygate_errors off;'},
    "http": {
        "gate": "", "http": "keygate partner; keygate_limit default; "
                            "keygate_errors envelope; keygate_realm a; "
                            "keygate_token bearer;"},
    "location": {
        "gate": "", "location": "keygate partner; keygate_limit default; "
                                "keygate_errors envelope; keygate_realm a; "
                                "keygate_token bearer;"},
    "idempotency, shortest": {
        "idempotency": "keygate_idempotency retention=1s lease=1s;"},
    "idempotency, longest": {
        "idempotency": "keygate_idempotency retention=366d lease=60m;"},
    "idempotency, all": {
        "idempotency": "keygate_idempotency retention=48h lease=1m "
                       "max_response=8m on_unknown=forward conflict=422 "
                       "store=200,429 release=400,599 unknown=202,500 "
                       "eviction=accept durable=16;"},
    "idempotency of routes": {
        "routes": "keygate_routes partner {"
                  "POST /a a:b retention=48h idempotency=optional "
                  "lease=1m max_response=1k on_unknown=refuse conflict=409 "
                  "store=503 release=409 unknown=500 durable=1;"
                  "PATCH /a a:b idempotency=required; }"},
    "outage": {"outage": "keygate_outage limits=allow keys=stale:0s;"},
    "outage, half": {"outage": "keygate_outage keys=stale:24h;"},
    "admin roles": {
        "locations": "location /r/ { keygate_admin role=read; }\n"
                     "location ^~ /p/ { keygate_admin role=portal; }"},
}


@pytest.mark.parametrize("pieces", RIGHT.values(), ids=RIGHT)
def test_right_configuration(nginx_t, pieces):
    rc, stderr = nginx_t(files={"secret": "word\n", "smallest": "a" * 32},
                         **pieces)

    assert rc == 0, stderr
    assert "successful" in stderr
    assert not re.search(r"\[(error|alert|crit)\]", stderr)


# Secrets in files that others can read

@pytest.mark.parametrize("name, text, pieces", [
    ("pepper", "p" * 40, {"keys": "keygate_keys prefix=tf pepper={};"}),
    ("password", "w" * 40, {"redis": "keygate_redis redis://127.0.0.1 "
                                     "password_file={};"}),
])
@pytest.mark.parametrize("mode, warns", [(0o644, True), (0o604, True),
                                         (0o640, False), (0o600, False)])
def test_secret_readable_to_everyone(nginx_t, tmp_path, name, text, pieces,
                                     mode, warns):
    path = tmp_path / name
    path.write_text(text)
    path.chmod(mode)

    rc, stderr = nginx_t(**{piece: line.format(path)
                            for piece, line in pieces.items()})

    assert rc == 0
    assert bool(re.search(rf"\[warn\].*{path}", stderr)) is warns
    assert text not in stderr


@pytest.mark.parametrize("piece, line", [
    ("keys", "keygate_keys prefix=tf pepper={};"),
    ("redis", "keygate_redis redis://127.0.0.1 password_file={};"),
    ("http", "keygate_errors envelope catalogue={};")])
def test_pipe_does_not_hold_up_the_start(nginx_t, tmp_path, piece, line):
    """nginx -t would wait for a writer for ever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    assert nginx_t(**{piece: line.format(path)})[0] == 1
