"""The nginx.conf of the tests: the contract's routes, in pieces a test may
change.

Each %%NAME%% is a piece of the same name in lower case.
"""

import os
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

PIECES = {
    "daemon": "off",
    "workers": "2",
    "level": "info",
    "main": "",
    "events": "",
    "redis": "keygate_redis %%REDIS_URL%% %%REDIS_PARAMETERS%%;",
    "redis_parameters": "connect=1s command=1s",
    "zone": "keygate_zone zone=keygate:16m valid=10s negative=2s;",
    "keys": "keygate_keys prefix=tf pepper=%%FOLDER%%/pepper;",
    "policies":
        "keygate_policy default rate=60r/m min=1r/m max=600r/m by=key;",
    "idempotency": "keygate_idempotency retention=24h lease=30s;",
    "outage": "keygate_outage keys=stale:5m limits=deny;",
    "routes": """keygate_routes partner {
        GET     /health/api         public;
        GET     /v1/loads           loads:read;
        GET     /v1/loads/:id       loads:read;
        POST    /v1/loads           loads:write idempotency=required;
        POST    /v1/loads/upsert    loads:write idempotency=required;
        POST    /v1/loads/:id/status loads:write idempotency=required;
        GET     /v1/customers       customers:read;
        GET     /v1/carriers        carriers:read;
        GET     /v1/tracking/:loadId tracking:read;
        POST    /v1/webhooks        webhooks:manage idempotency=required;
        GET     /v1/webhooks        webhooks:manage;
        DELETE  /v1/webhooks/:id    webhooks:manage;
    }""",
    "http": "",
    "gate": """keygate partner;
        keygate_limit default;
        keygate_errors envelope;""",
    "server": "",
    "location": "",
    "proxy": "proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;",
    "locations": "",
    "admin": "keygate_admin role=operator;",
    "servers": "",
}

TEMPLATE = """\
%%MODULE%%
%%USER%%
daemon %%DAEMON%%;
worker_processes %%WORKERS%%;
pid %%FOLDER%%/nginx.pid;
error_log %%FOLDER%%/error.log %%LEVEL%%;
%%MAIN%%

events {
    worker_connections 512;
    %%EVENTS%%
}

http {
    log_format keygate '$remote_addr "$request" $status '
                       'id=$keygate_request_id key=$keygate_key_id '
                       'verdict=$keygate_verdict';
    access_log %%FOLDER%%/access.log keygate;

    client_body_temp_path %%FOLDER%%/body;
    proxy_temp_path %%FOLDER%%/proxy;
    fastcgi_temp_path %%FOLDER%%/fastcgi;
    scgi_temp_path %%FOLDER%%/scgi;
    uwsgi_temp_path %%FOLDER%%/uwsgi;

    %%REDIS%%
    %%ZONE%%
    %%KEYS%%
    %%POLICIES%%
    %%IDEMPOTENCY%%
    %%OUTAGE%%
    %%ROUTES%%
    %%HTTP%%

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%H2_PORT%% http2;
        server_name api.trailflow.ai;
        %%GATE%%
        %%SERVER%%

        location / {
            include %%ROOT%%/conf/keygate_proxy_params;
            %%LOCATION%%
            %%PROXY%%
        }
        %%LOCATIONS%%
    }

    server {
        listen unix:%%FOLDER%%/admin.sock;
        location / {
            %%ADMIN%%
        }
    }
    %%SERVERS%%
}
"""


def render(pieces, values):
    """The whole configuration: TEMPLATE with PIECES, with pieces over them.

    values are the names the harness fills in (FOLDER, PORT ...).  A piece that
    is not in PIECES is a KeyError: a misspelt one would change nothing.
    """
    for name in pieces:
        if name not in PIECES:
            raise KeyError(f"no piece {name!r} in the template")

    names = {name.upper(): text for name, text in {**PIECES, **pieces}.items()}
    names.update(values)
    return fill(TEMPLATE, names)


def fill(text, names):
    """Replaces each %%NAME%%, in what is put in too."""
    while "%%" in text:
        text = re.sub(r"%%(\w+)%%", lambda m: str(names[m.group(1)]), text)
    return text


def values(folder, port, h2_port, redis_url, upstream_port):
    """What the template needs to know of this machine and this run."""
    linked_in = os.environ.get("KEYGATE_NGINX")
    module = ROOT / "build/ngx_http_keygate_module.so"

    return {
        "MODULE": "" if linked_in else f"load_module {module};",
        "USER": "user root;" if os.geteuid() == 0 else "",
        "ROOT": ROOT,
        "FOLDER": folder,
        "PORT": port,
        "H2_PORT": h2_port,
        "REDIS_URL": redis_url,
        "UPSTREAM_PORT": upstream_port,
    }
