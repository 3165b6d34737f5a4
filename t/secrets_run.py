"""The run that t/test_secrets.py searches: it issues, takes over, finds, uses,
misuses and ends keys, writes what answers with a secret, and meets a Redis
that refuses, hangs and holds broken records.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import secrets
import subprocess
import threading

import harness
from harness import records, template
from harness.gate import binary, environment
from harness.ports import wait_for

TOOL = str(template.ROOT / "scripts/keygate")

ACL = re.search(r"^user keygate (.*)$",
                (template.ROOT / "docs/operations.md").read_text("utf-8"),
                re.M)[1]

# Begins the name of a secret that no request had in a header.
HIDDEN = "hidden: "


def whole_and_parts(token):
    """A token, and what of it is random."""
    parts = [token]
    ours = re.fullmatch(r"\w+?_(?:test|live)_(\w{32})\w{6}", token)
    return parts + ([ours[1]] if ours else [])


def values(client):
    """Every name and value of a Redis, of every database and type."""
    for number in client.info("keyspace"):
        client.select(int(number[2:]))
        for name in client.scan_iter(count=1000):
            kind = client.type(name).decode()
            yield name, name
            yield name, {
                "string": lambda: client.get(name),
                "hash": lambda: repr(client.hgetall(name)),
                "list": lambda: repr(client.lrange(name, 0, -1)),
                "set": lambda: repr(client.smembers(name)),
                "zset": lambda: repr(client.zrange(name, 0, -1,
                                                   withscores=True)),
                "stream": lambda: repr(client.xrange(name)),
            }[kind.replace("unknown", "")]()


class Watch(threading.Thread):
    """Reads the command line and environment of every process, over and
    over."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen = {}              # bytes: the names of programs
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            self.look()

    def look(self):
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            for name in ("cmdline", "environ"):
                try:
                    data = pathlib.Path("/proc", entry, name).read_bytes()
                except OSError:
                    continue
                self.seen.setdefault(data, name)

    def end(self):
        self.look()
        self.over.set()
        self.join()


class Scene:
    """The run.  secrets: {name: bytes or text}; the traces are text."""

    def __init__(self, folder):
        self.folder = folder
        self.secrets = {}
        self.shown = []             # what the tool printed, tokens aside
        self.sent = []              # commands that went to Redis
        self.printed = []           # what nginx -t and nginx -T printed

        password = "rpw-" + records.base62(28)
        self.secrets[HIDDEN + "password"] = password
        self.redis = harness.RedisServer(acl={
            "keygate": ACL.replace(">PASSWORD", f">{password}"),
            "blind": f"on >{password} resetkeys ~no:* -@all +ping"})
        self.relay = harness.Relay(self.redis.port)
        self.upstream = harness.Upstream()
        self.peppers = {"text": base64.b64encode(secrets.token_bytes(48)),
                        "bytes": secrets.token_bytes(64).replace(b"\n", b"n")}
        for name, pepper in self.peppers.items():
            self.secrets[HIDDEN + f"pepper of {name}"] = pepper
            (folder / name).write_bytes(pepper + b"\n")
            (folder / name).chmod(0o600)
        (folder / "password").write_text(password + "\n")
        wrong = "wpw-" + records.base62(28)
        self.secrets[HIDDEN + "wrong password"] = wrong
        (folder / "wrong").write_text(wrong)

        location = "include %%ROOT%%/conf/keygate_proxy_params; " \
            "proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;"
        self.gate = harness.Gate(
            redis=self.redis, upstream=self.upstream, level="debug",
            redis_url=f"{self.relay.url} user=keygate "
                      f"password_file={folder}/password",
            zone="keygate_zone zone=keygate:4m usage=100ms;",
            keys=f"keygate_keys prefix=tf prefix=acme pepper={folder}/text "
                 f"pepper={folder}/bytes legacy=sha256;",
            http="""map $http_authorization $of_scheme {
                        "~^ApiKey (?<of_scheme_key>.*)$" $of_scheme_key;
                    }""",
            server="keygate_token $http_x_api_key $of_scheme bearer;",
            locations="location /dry { keygate partner dry_run; "
                      f"{location} }}"
                      f"location /off {{ keygate off; {location} }}")

    def token(self, name, token):
        for n, part in enumerate(whole_and_parts(token)):
            self.secrets[f"{name}{' (random)' * n}"] = part
        return token

    def tool(self, *words, given=""):
        """Runs scripts/keygate; its output with the token of a "token" line,
        which is where it is shown, taken out, and that token."""
        done = subprocess.run(
            [TOOL, *words], input=given, timeout=60, capture_output=True,
            text=True, check=False, env={
                **os.environ,
                "KEYGATE_ADMIN_URL": "unix:" + self.gate.path("admin.sock")})
        out = done.stdout
        line = re.search(r"^token +(\S+)$", out, re.M)
        if line:
            out = out.replace(line[0], "token", 1)
        self.shown.append(out + done.stderr)
        return line and line[1]

    def play(self):
        gate = self.gate
        gate.watched()
        org = "acme"
        assert gate.admin("PUT", f"/orgs/{org}",
                          json={"access": "live"}).status == 201
        tokens = [self.issue(org)["token"]]
        tokens += self.by_the_tool(org)
        tokens.append(self.legacy(org))
        for token in tokens:
            self.use(token)
        self.misuse(tokens[0])
        self.write(tokens[0])
        self.manage(org)
        self.trouble(tokens[0])

    def issue(self, org, mode="test"):
        made = gate_call(self.gate, "POST", f"/orgs/{org}/keys", {
            "mode": mode, "scopes": ["*"], "name": "UAT"}, 201)
        self.token(f"key of the interface, {mode}", made["token"])
        return made

    def by_the_tool(self, org):
        token = self.tool("key", "create", org, "--mode", "live", "--scope",
                          "*")
        self.token("key of the tool", token)
        found = gate_call(self.gate, "POST", "/keys/find", {"token": token})
        fresh = self.tool("key", "rotate", found["id"], "--overlap", "1h")
        self.token("key of a rotation", fresh)
        unknown = self.token(HIDDEN + "key nobody has", harness.make_token())
        for one in (token, fresh, unknown):
            self.tool("key", "find", given=one + "\n")
        for words in (("key", "list", org), ("key", "get", found["id"]),
                      ("org", "list"), ("usage", found["id"]), ("audit",),
                      ("key", "list", "--pepper")):
            self.tool(*words)
        return [token, fresh]

    def legacy(self, org):
        token = self.token("legacy key", "Old+Key/" + records.base62(40))
        other = self.token(HIDDEN + "legacy key, stdin",
                           "old-" + records.base62(40))
        gate_call(self.gate, "POST", f"/orgs/{org}/keys/import", {
            "mode": "test", "scopes": ["*"],
            "sha256": hashlib.sha256(token.encode()).hexdigest()}, 201)
        self.tool("key", "import", org, "--mode", "test", "--scope", "*",
                  given=other + "\n")
        self.tool("key", "find", given=token + "\n")
        return token

    def use(self, token):
        """In every header, in both versions, where the gate is on, dry and
        off."""
        for target in ("/v1/loads", "/dry", "/off"):
            for headers in ({"Authorization": f"Bearer {token}"},
                            {"Authorization": f"ApiKey {token}"},
                            {"X-Api-Key": token}):
                answer = self.gate.get(target, headers=headers)
                assert answer.status == 200, answer
        with self.gate.h2() as client:
            for _ in range(2):
                assert client.get("/v1/loads", headers={
                    "X-Api-Key": token}).status_code == 200

    def misuse(self, token):
        """Keys that are none."""
        flipped = token[:-1] + ("0" if token[-1] != "0" else "1")
        wrong = {
            "flipped": flipped, "cut": token[:-1], "long": token + "x",
            "unknown": harness.make_token(),
            "unknown, live": harness.make_token("live", "acme"),
            "of another prefix": harness.make_token("test", "zz9"),
            "of no form": records.base62(40), "huge": records.base62(600),
        }
        for name, text in wrong.items():
            self.token(f"wrong key, {name}", text)
            for target in ("/v1/loads", "/dry", "/v1/nothing"):
                self.gate.get(target, key=text)
            self.gate.get("/v1/loads", headers={"X-Api-Key": text})

        basic = self.token("password of basic", records.base62(30))
        pair = base64.b64encode(f"u:{basic}".encode()).decode()
        self.token("pair of basic", pair)
        self.gate.get("/v1/loads", headers={"Authorization": f"Basic {pair}"})
        two = [self.token(f"one of two {n}", harness.make_token())
               for n in (1, 2)]
        answer = self.gate.get("/v1/loads", headers=[
            ("Authorization", f"Bearer {one}") for one in two])
        assert answer.status == 400
        self.gate.get("/v1/loads", headers={
            "X_Api_Key": self.token("key in an invalid header",
                                    harness.make_token())})
        long = self.token("key in a header too long", harness.make_token())
        self.gate.get("/v1/loads", headers={"X-Api-Key": long * 800})

    def write(self, token):
        """Writes whose answers carry a secret: stored, replayed, refused."""
        whsec = "whsec_" + records.base62(32)
        self.secrets[HIDDEN + "secret of an answer"] = whsec
        self.upstream.answer(201, body=json.dumps({"secret": whsec}),
                             method="POST", path="/v1/webhooks")
        answers = [self.gate.post("/v1/webhooks", key=token, idem="one",
                                  json={"url": n})
                   for n in (1, 1, 2)]
        assert [one.status for one in answers] == [201, 201, 409]
        assert answers[1].get("Idempotent-Replayed") == "true"
        assert whsec in answers[1].body.decode()

        large = "whsec_" + records.base62(32)
        self.secrets[HIDDEN + "secret of a large answer"] = large
        self.upstream.answer(201, body=large * 2000, method="POST",
                             path="/v1/loads", times=1)
        for _ in range(2):
            answer = self.gate.post("/v1/loads", key=token, idem="large")
            assert answer.body.decode() == large * 2000

        # The error of an upstream, and a write whose outcome is unknown.
        body = "whsec_" + records.base62(32)
        self.secrets[HIDDEN + "secret of an error"] = body
        for status, idem in ((422, "error"), (500, "worse"), (503, "away")):
            self.upstream.answer(status, body=json.dumps({"x": body}),
                                 method="POST", path="/v1/loads", times=1)
            self.gate.post("/v1/loads", key=token, idem=idem)
        sent = "whsec_" + records.base62(32)
        self.secrets[HIDDEN + "secret of a request"] = sent
        self.gate.post("/v1/loads", key=token, idem="sent",
                       json={"secret": sent})

    def manage(self, org):
        """Everything else the interface does, and an export and import."""
        gate = self.gate
        made = self.issue(org, "live")
        path = f"/keys/{made['id']}"
        gate_call(gate, "PATCH", path, {"name": "x", "scopes": ["a"]})
        gate.admin("PATCH", path, json={
            "name": self.token(HIDDEN + "key as a field",
                               harness.make_token()),
            "nonsense": 1})
        gate.admin("POST", "/keys/find", body=b'{"token":"'
                   + self.token(HIDDEN + "key in half a body",
                                harness.make_token()).encode())
        gate.admin("POST", "/keys/find", json={
            "token": self.token(HIDDEN + "key in a long body",
                                harness.make_token()) + "y" * 60000})
        gate_call(gate, "DELETE", path)
        gate.get("/v1/loads", key=made["token"])

        export = gate.admin("GET", "/export").body
        self.shown.append(export.decode())
        broken = self.token(HIDDEN + "key as a line", harness.make_token())
        for lines in (export, export + b"\n" + broken.encode()):
            for query in ("?dry_run=1", ""):
                answer = gate.admin("POST", "/import" + query, body=lines)
                self.shown.append(answer.body.decode())
        self.shown.append(gate.admin("GET", "/audit").body.decode())

    def trouble(self, token):
        """Redis refuses, is away, holds broken records; a reload; a worker
        that is killed."""
        gate, client = self.gate, self.redis.client
        digest = hashlib.sha256(b"x" + records.base62(20).encode())
        client.set(f"kg:key:{{{digest.hexdigest()}}}", "{")

        broken = self.token("key with a broken record", harness.make_token())
        for pepper in self.peppers.values():
            client.set(f"kg:key:{{{harness.digest(pepper, broken)}}}", "{")
        assert gate.get("/v1/loads", key=broken).status == 500
        gate.admin("POST", "/keys/find", json={"token": broken})

        with self.redis.frozen():
            gate.get("/v1/loads", key=harness.make_token())
            gate.post("/v1/loads", key=token, idem="frozen")
            gate.admin("POST", "/keys/find", json={"token": token})
        wait_for(lambda: gate.get("/v1/loads", key=token).status == 200, 10,
                 "Redis again")

        for user, file in (("keygate", "wrong"), ("blind", "password")):
            gate.edit(redis=f"keygate_redis {self.relay.url} user={user} "
                            f"password_file={self.folder}/{file};")
            gate.reload()
            gate.get("/v1/loads", key=token)
            gate.wait_log("WRONGPASS" if file == "wrong" else "NOPERM")
        gate.edit(redis=template.PIECES["redis"])
        gate.reload()
        gate.kill_worker()
        wait_for(lambda: gate.get("/v1/loads", key=token).status == 200, 10,
                 "Redis again")

    def config(self):
        """nginx -T, and what nginx -t says of passwords where they must not
        be."""
        conf = self.gate.path("nginx.conf")
        done = subprocess.run(
            [binary(), "-T", "-p", self.gate.folder, "-c", conf, "-e",
             "stderr"], capture_output=True, text=True, timeout=60,
            env=environment(leaks=False), check=True)
        assert "keygate_keys" in done.stdout
        self.printed.append(done.stdout + done.stderr)

        password = "cpw-" + records.base62(28)
        self.secrets[HIDDEN + "password in a configuration"] = password
        for line in (f"redis://u:{password}@127.0.0.1;",
                     f"redis://:{password}@127.0.0.1/0;",
                     f"redis://127.0.0.1 password={password};",
                     f"redis://127.0.0.1 user=a password={password};"):
            rc, stderr = harness.nginx_t(redis=f"keygate_redis {line}")
            assert rc == 1
            self.printed.append(stderr)

        for text in ("p" * 31, "p" * 1025):
            short = secrets.token_hex(len(text))[:len(text)]
            self.secrets[HIDDEN + f"pepper of {len(text)} bytes"] = short
            rc, stderr = harness.nginx_t(
                keys="keygate_keys prefix=tf pepper=mine;",
                files={"mine": short})
            assert rc == 1
            self.printed.append(stderr)

    def close(self):
        for thing in (self.gate, self.upstream, self.relay, self.redis):
            thing.close()


def gate_call(gate, method, path, body=None, status=200):
    answer = gate.admin(method, path, json=body)
    assert answer.status == status, answer
    return answer.json()
