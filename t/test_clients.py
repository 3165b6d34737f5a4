"""Clients as partners have them, against the gate: httpx over HTTP/2, curl's
--retry, and a typed client that is made from docs/openapi.yaml.  Each takes
Retry-After at its word, and however often it sends a write again, the upstream
has it once."""

import asyncio
import json
import shutil
import subprocess
import time

import httpx
import pytest

from harness.ports import wait_for
from harness.template import ROOT

LOADS = "/v1/loads"
SOURCES = ROOT / "t/openapi"
TOOLS = SOURCES / "node_modules/.bin"

GATE = dict(policies="keygate_policy default rate=600r/m max=600r/m by=key;",
            routes="keygate_routes partner { "
                   "include %%ROOT%%/conf/keygate-routes.conf; }")


def executed(upstream):
    """The writes the upstream was asked to do, by their Idempotency-Key."""
    return [seen.get("Idempotency-Key") for seen in upstream.requests
            if seen.method == "POST"]


# httpx, HTTP/2.


class Persistent(httpx.AsyncBaseTransport):
    """Sends a request again as docs/errors.md has it."""

    def __init__(self, **how):
        self.wrapped = httpx.AsyncHTTPTransport(http1=False, http2=True, **how)
        self.codes = []
        self.waited = []

    async def handle_async_request(self, request):
        while True:
            answer = await self.wrapped.handle_async_request(request)
            if answer.status_code < 400:
                return answer
            error = json.loads(await answer.aread())["error"]
            self.codes.append(error["code"])
            if not error["retryable"]:
                return answer
            self.waited.append(int(answer.headers["Retry-After"]))
            await asyncio.sleep(self.waited[-1])

    async def aclose(self):
        await self.wrapped.aclose()


def over_h2(gate, key, calls, refused=0, then=None):
    """The answers to calls, all at once on one connection, and how they were
    sent.  calls: functions of a client.  then is called when so many of them
    have been refused."""
    transport = Persistent(limits=httpx.Limits(max_connections=1))

    async def watch():
        while len(transport.codes) < refused:
            await asyncio.sleep(0.01)
        if then:
            then()

    async def run():
        async with httpx.AsyncClient(
                transport=transport, timeout=60, trust_env=False,
                base_url=f"http://127.0.0.1:{gate.h2_port}",
                headers={"Authorization": f"Bearer {key.token}"}) as client:
            return await asyncio.gather(watch(),
                                        *(call(client) for call in calls))

    _, *answers = asyncio.run(run())
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    return answers, transport


def test_httpx_waits_for_its_limit(gate, upstream):
    answers, sent = over_h2(gate, gate.key(limits={"default": "1r/s"}),
                            [lambda client: client.get(LOADS)] * 3)

    assert [answer.status_code for answer in answers] == [200] * 3
    assert set(sent.codes) == {"rate_limited"}
    assert set(sent.waited) == {1}


def test_httpx_writes_once(gate, upstream):
    """Eight tries at once on one connection: one is executed, the others wait
    and get its answer."""
    upstream.answer(201, body={"id": "ld_1"}, hang=True, times=1)
    answers, sent = over_h2(gate, gate.key(), [
        lambda client: client.post(LOADS, json={"a": 1},
                                   headers={"Idempotency-Key": "h2"})] * 8,
                            refused=7, then=upstream.release)

    assert [answer.status_code for answer in answers] == [201] * 8
    assert {answer.content for answer in answers} == {b'{"id": "ld_1"}'}
    assert executed(upstream) == ["h2"]
    assert set(sent.codes) == {"idempotency_in_progress"}
    replayed = [answer for answer in answers
                if answer.headers.get("Idempotent-Replayed") == "true"]
    assert len(replayed) == 7
    (first,) = [answer for answer in answers if answer not in replayed]
    assert {answer.headers["Original-Request-Id"] for answer in replayed} == {
        first.headers["X-Request-Id"]}


def test_httpx_gets_errors_it_can_read(gate, upstream):
    (answer,), sent = over_h2(gate, gate.key(scopes=["carriers:read"]),
                              [lambda client: client.get(LOADS)])
    assert answer.status_code == 403
    assert answer.json()["error"]["details"] == {"requiredScope": "loads:read"}
    assert sent.waited == []


# curl --retry.


class Curl:
    """curl --retry at work."""

    def __init__(self, gate, key, file, *words):
        self.file = file
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            ["curl", "-sS", "--noproxy", "*", "--retry", "5", "-o", file,
             "-w", "%{http_code}", "-H", f"Authorization: Bearer {key.token}",
             *words, gate.url + LOADS], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def answer(self):
        """(status and body of the last answer, seconds it all took)."""
        try:
            out, err = self.process.communicate(timeout=100)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, err
        return (int(out), json.loads(self.file.read_bytes()),
                time.monotonic() - self.start)


@pytest.fixture
def curl(gate, tmp_path):
    """curl(*words, key=) -> Curl."""
    begun = []

    def begin(*words, key=None):
        begun.append(Curl(gate, key or gate.key(),
                          tmp_path / f"body{len(begun)}", *words))
        return begun[-1]

    return begin


WRITE = ("-H", "Idempotency-Key: curl", "-H", "Content-Type: application/json",
         "-d", '{"a":1}')


def test_curl_waits_for_retry_after(curl, upstream):
    """Two seconds, where its own first wait would be one."""
    upstream.answer(503, headers={"Retry-After": "2"}, times=1)
    status, _, seconds = curl().answer()
    assert status == 200
    assert seconds >= 2
    assert len(upstream.requests) == 2


def test_curl_waits_for_its_limit(curl, gate, upstream):
    key = gate.key(limits={"default": "1r/s"})
    running = [curl(key=key) for _ in range(3)]
    statuses = [one.answer()[0] for one in running]

    def refused():
        return any(" 429 " in line and key.id in line
                   for line in gate.access_log())

    # Two that took more than a second to start have not met.
    while not refused() and len(statuses) < 30:
        running = [curl(key=key) for _ in range(3)]
        statuses += [one.answer()[0] for one in running]

    assert refused()
    assert statuses == [200] * len(upstream.requests)


def test_curl_writes_again_where_nothing_was_done(curl, upstream):
    upstream.answer(201)
    upstream.answer(503, headers={"Retry-After": "1"}, times=1)
    status, _, seconds = curl(*WRITE).answer()
    assert status == 201
    assert seconds >= 1
    assert executed(upstream) == ["curl"] * 2


def test_curl_does_not_write_twice(curl, upstream):
    """It takes every 502 for a reason to try again, and does not ask whether
    the write was done; the gate does."""
    upstream.answer(200, cut="before")
    status, body, _ = curl(*WRITE).answer()
    assert status == 409
    assert body["error"]["code"] == "idempotency_outcome_unknown"
    assert executed(upstream) == ["curl"]


# The typed client.


def test_lock_pins_and_names_no_registry():
    """It installs the same from any mirror: hashes, and no address."""
    lock = json.loads((SOURCES / "package-lock.json").read_text("utf-8"))
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert len(packages) > 100
    for name, one in packages.items():
        assert "resolved" not in one, name
        assert one["integrity"].startswith("sha512-"), name


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """client.ts, compiled with the types that the document makes: what the
    document does not allow does not compile."""
    assert TOOLS.exists(), "run scripts/test gate, or npm ci in t/openapi"
    folder = tmp_path_factory.mktemp("client")
    for name in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(SOURCES / name, folder)
    (folder / "node_modules").symlink_to(SOURCES / "node_modules")

    for command in ([TOOLS / "openapi-typescript", ROOT / "docs/openapi.yaml",
                     "-o", folder / "schema.d.ts"], [TOOLS / "tsc"]):
        done = subprocess.run(command, cwd=folder, capture_output=True,
                              text=True, timeout=110, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "client.js"


class Running:
    """The client at work: give_up() ends the try it is at."""

    def __init__(self, program, gate, key, what):
        self.process = subprocess.Popen(
            ["node", program, gate.url, key.token, what], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def give_up(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def reports(self):
        out, _ = self.process.communicate(timeout=100)
        assert self.process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def client(program, gate):
    """client(what, key) -> Running; none outlives its test."""
    begun = []

    def begin(what, key=None):
        begun.append(Running(program, gate, key or gate.key(), what))
        return begun[-1]

    yield begin
    for running in begun:
        running.process.kill()
        running.process.communicate()


def test_typed_client_reads(client, upstream):
    (report,) = client("read").reports()
    assert (report["status"], report["tries"], report["data"]) == (200, 1, [])
    assert report["left"] == '"default";r=599;t=60'


def test_typed_client_is_told_what_is_wrong(client, gate, upstream):
    (report,) = client("read", gate.key(scopes=["carriers:read"])).reports()
    assert (report["status"], report["code"]) == (403, "forbidden")
    assert report["advice"] == "ask for the scope loads:read"
    assert report["tries"] == 1
    assert report["requestId"].startswith("req_")


def test_typed_client_waits_for_its_limit(client, gate, upstream):
    reports = client("busy", gate.key(limits={"default": "1r/s"})).reports()
    assert [report["status"] for report in reports] == [200] * 3
    assert set(reports[-1]["waited"]) == {1}
    assert len(upstream.requests) == 3


def test_typed_client_writes_again_where_nothing_was_done(client, upstream):
    upstream.answer(201)
    upstream.answer(503, headers={"Retry-After": "1"}, times=1)
    (report,) = client("write").reports()
    assert (report["status"], report["tries"]) == (201, 2)
    assert report["waited"] == [1]
    assert report["replayed"] is None
    assert len(set(executed(upstream))) == 1


def test_typed_client_gives_up_and_writes_once(client, gate, upstream):
    """The first try is given up while the upstream is at it; the second comes
    too early, the third gets the first one's answer."""
    upstream.answer(201, hang=True)
    key = gate.key()
    running = client("write", key)
    upstream.wait()
    running.give_up()
    wait_for(lambda: any(" 409 " in line and key.id in line
                         for line in gate.access_log()), 60, "second try")
    upstream.release()
    (report,) = running.reports()

    assert (report["status"], report["replayed"]) == (201, "true")
    assert report["tries"] >= 3
    assert report["data"] == upstream.requests[0].get("X-Request-Id")
    assert len(executed(upstream)) == 1


def test_typed_client_does_not_write_twice(client, upstream):
    """Nobody knows whether it was done: it is not retryable, and a person is
    told."""
    upstream.answer(200, cut="before")
    (report,) = client("write").reports()
    assert (report["status"], report["code"]) == (502, "bad_gateway")
    assert report["tries"] == 1
    assert len(executed(upstream)) == 1
