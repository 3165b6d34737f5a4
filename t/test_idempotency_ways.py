"""Writes that are answered in another way than by proxy_pass alone: handed on
within nginx, by another protocol, changed on their way out, by nobody but
nginx; and what asks beside them."""

import socket
import threading

import pytest

from checks import check_error
from harness.client import encode_request
from harness.ports import wait_for
from test_idempotency import BODY, LOADS, check_replay, write
from test_idempotency_claims import state, together

PROXY = ("include %%ROOT%%/conf/keygate_proxy_params;"
         "proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;")

GATE = dict(
    workers="1", policies="keygate_policy default rate=100000r/m by=key;",
    locations=f"""
        location /files/ {{ internal; alias %%FOLDER%%/; }}
        location /inner {{ internal; {PROXY} }}
        location = /v1/webhooks {{
            rewrite ^ /v1/hooks break;
            {PROXY}
        }}
        location = /v1/loads/upsert {{ try_files /nowhere @app; }}
        location @app {{ {PROXY} }}""",
    files={"label.pdf": "%PDF a label"})


def executions(upstream):
    return [seen for seen in upstream.requests if seen.method == "POST"]


# Handed on within nginx

def test_file_of_x_accel_redirect(gate, upstream):
    """The upstream names a file; what was in it then is the answer."""
    key = gate.key()
    upstream.answer(201, {"X-Accel-Redirect": "/files/label.pdf"}, b"")
    first = write(gate, key)
    assert first.body == b"%PDF a label"

    with open(gate.path("label.pdf"), "a") as file:
        file.write(" that has changed")
    check_replay(first, write(gate, key))
    assert len(executions(upstream)) == 1


def test_x_accel_redirect_to_the_upstream(gate, upstream):
    key = gate.key()
    upstream.answer(200, {}, {"of": "inner"}, path="^/inner")
    upstream.answer(201, {"X-Accel-Redirect": "/inner"}, b"", path="^/v1")
    first = write(gate, key)

    assert first.json() == {"of": "inner"}
    check_replay(first, write(gate, key))
    assert len(executions(upstream)) == 1


def test_x_accel_redirect_to_nothing(gate, upstream):
    """It was executed, whatever nginx makes of its answer."""
    key = gate.key()
    upstream.answer(201, {"X-Accel-Redirect": "/files/nothing"}, b"")
    first = write(gate, key)

    check_error(first, 404, "not_found")
    check_replay(first, write(gate, key))
    assert len(executions(upstream)) == 1


def test_x_accel_redirect_to_an_upstream_that_breaks(gate, upstream):
    """The first part was executed: not free, and not what broke."""
    key = gate.key()
    upstream.answer(200, cut="before", path="^/inner")
    upstream.answer(201, {"X-Accel-Redirect": "/inner"}, b"", path="^/v1")
    assert write(gate, key).error["retryable"] is False

    assert write(gate, key).code == "idempotency_outcome_unknown"
    assert len(executions(upstream)) == 1


@pytest.mark.parametrize("target", ["/v1/webhooks", "/v1/loads/upsert"],
                         ids=["rewrite", "try_files"])
def test_location_chosen_within(gate, upstream, target):
    key = gate.key()
    first = write(gate, key, target=target)

    check_replay(first, write(gate, key, target=target))
    assert write(gate, key, target=target, body=b"x").status == 409
    assert len(executions(upstream)) == 1


# By nobody but nginx

def test_answer_of_nginx(make_gate, upstream):
    gate = make_gate(**GATE, proxy="return 202 accepted;")
    key = gate.key()
    first = write(gate, key)

    assert (first.status, first.body) == (202, b"accepted")
    assert first.get("Idempotent-Replayed") is None


# By another protocol

class Scgi:
    """An application by SCGI that answers with what it is told."""

    def __init__(self, answer):
        self.answer = answer
        self.bodies = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _ = self.server.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as file:
                length = int(b"".join(iter(lambda: file.read(1), b":")))
                words = file.read(length + 1)[:-1].split(b"\0")
                size = int(words[words.index(b"CONTENT_LENGTH") + 1])
                self.bodies.append(file.read(size))
                sock.sendall(self.answer)


@pytest.mark.parametrize("said, status", [
    (b"Status: 201 Created\r\nLocation: /v1/loads/3\r\n"
     b"Content-Type: text/plain\r\n\r\nmade", 201),
    (b"Status: 409 Conflict\r\n\r\n", 409),
    (b"Status: 429 Too Many Requests\r\n\r\n", None),
    (b"", 502), (b"Status: 504 Gateway Timeout\r\n\r\n", 504)],
    ids=["201", "409", "429", "nothing", "504"])
def test_scgi(make_gate, said, status):
    app = Scgi(said)
    gate = make_gate(**GATE, proxy=f"""
        scgi_param CONTENT_LENGTH $content_length; scgi_param SCGI 1;
        scgi_ignore_client_abort on; scgi_pass 127.0.0.1:{app.port};""")
    key = gate.key()
    first, again = write(gate, key), write(gate, key)
    app.server.close()

    if status is None:
        check_error(first, 429, "rate_limited", None, (1, 60))
        assert app.bodies == [BODY, BODY]
        return
    assert app.bodies == [BODY]
    assert first.status == status
    if status < 500:
        check_replay(first, again)
        assert first.get("Location") == again.get("Location")
    else:
        assert again.code == "idempotency_outcome_unknown"


# Changed on its way out

def test_changed_on_its_way_out(make_gate, upstream):
    """What is stored is what came; the filters behind do the same again."""
    gate = make_gate(**GATE, location="""
        add_header X-Added $status always; charset utf-8;
        add_before_body /files/label.pdf; add_after_body /files/label.pdf;
        addition_types *; ssi on; ssi_types *;""")
    key = gate.key()
    upstream.answer(200, {"Content-Type": "text/plain"}, b'a <!--# echo var="request_method" -->')
    first = write(gate, key)
    again = write(gate, key)

    assert first.body == b"%PDF a labela POST%PDF a label"
    check_replay(first, again)
    assert again.all("X-Added") == ["200"]


@pytest.mark.parametrize("filters", [
    "add_after_body /files/label.pdf; addition_types *;",
    "gzip on; gzip_types *; gzip_min_length 0;"], ids=["addition", "gzip"])
def test_nothing_that_is_changed_on_its_way_out(make_gate, upstream, filters):
    """An empty body has an end, too, at which filters add theirs."""
    gate = make_gate(**GATE, location=filters)
    key = gate.key()
    upstream.answer(200, {"Content-Type": "text/plain"}, b"")
    accepts = {"Accept-Encoding": "gzip"}
    first = write(gate, key, headers=accepts)

    assert first.body
    check_replay(first, write(gate, key, headers=accepts))


@pytest.mark.parametrize("filters", [
    "gzip on; gzip_types *; gzip_min_length 0;", "ssi on; ssi_types *;"],
    ids=["gzip", "ssi"])
def test_what_is_said_of_bytes_that_are_changed(make_gate, upstream, filters):
    """gzip makes an ETag weak, ssi takes it and Last-Modified away."""
    gate = make_gate(**GATE, location=filters)
    key = gate.key()
    upstream.answer(200, {"Content-Type": "text/plain", "ETag": '"tag"',
                          "Last-Modified": "Sun, 22 Nov 2026 10:57:48 GMT"},
                    b"made")
    accepts = {"Accept-Encoding": "gzip"}
    first = write(gate, key, headers=accepts)
    again = write(gate, key, headers=accepts)

    check_replay(first, again)
    assert first.all("ETag") != ['"tag"']
    for name in ("ETag", "Last-Modified"):
        assert again.all(name) == first.all(name)


@pytest.mark.parametrize("filters, more", [
    ("sub_filter one two; sub_filter_types text/plain;", {}),
    ("gzip on; gzip_types text/plain; gzip_min_length 0;", {}),
    ("addition_types text/plain; add_after_body /files/label.pdf;", {}),
    ("charset koi8-r; override_charset on; source_charset utf-8;", {}),
    ("charset off;", {"X-Accel-Charset": "koi8-r"})],
    ids=["sub", "gzip", "addition", "charset", "X-Accel-Charset"])
@pytest.mark.parametrize("said", [
    "text/plain; charset=utf-8", 'text/plain;charset="UTF-8"', "text/plain"])
def test_changed_by_its_type(make_gate, upstream, filters, more, said):
    """What filters behind go by is the type without its charset."""
    gate = make_gate(**GATE, location=filters,
                     http="charset_map koi8-r utf-8 { 80 E282AC; }")
    key = gate.key()
    upstream.answer(200, {"Content-Type": said, **more}, b"one")
    accepts = {"Accept-Encoding": "gzip"}
    first = write(gate, key, headers=accepts)
    again = write(gate, key, headers=accepts)

    assert first.body != b"one" or "charset" in filters
    check_replay(first, again)
    assert first.all("Content-Encoding") == again.all("Content-Encoding")


@pytest.mark.parametrize("said", [
    "http://127.0.0.1:{port}/v1/loads/1", "/v1/loads/1",
    "https://example.com/v1/loads/1"])
@pytest.mark.parametrize("absolute", ["on", "off"])
def test_location_that_nginx_makes_whole(make_gate, upstream, said, absolute):
    """Of its own address the upstream's proxy_redirect makes the gate's."""
    gate = make_gate(**GATE, location=f"absolute_redirect {absolute};")
    key = gate.key()
    upstream.answer(201, {"Location": said.format(port=upstream.port)}, b"")
    first, again = write(gate, key), write(gate, key)

    check_replay(first, again)
    assert first.get("Location").endswith("/v1/loads/1")
    assert str(upstream.port) not in first.get("Location")
    assert again.all("Location") == first.all("Location")


def test_304_has_no_length(gate, upstream):
    """It would be that of what was not modified."""
    key = gate.key()
    upstream.answer(304)
    first, again = write(gate, key), write(gate, key)

    check_replay(first, again)
    assert first.all("Content-Length") == again.all("Content-Length") == []


# Beside it

def test_auth_request(make_gate, upstream):
    """Another is asked first, without the body, and is no execution."""
    gate = make_gate(**{**GATE, "locations": GATE["locations"] + """
        location = /ask { internal; keygate off;
            proxy_pass http://127.0.0.1:%%UPSTREAM_PORT%%;
            proxy_pass_request_body off; proxy_method GET;
            proxy_set_header Content-Length ""; }"""},
        location="auth_request /ask;")
    key = gate.key()
    first = write(gate, key)

    check_replay(first, write(gate, key))
    assert len(executions(upstream)) == 1


def test_duplicates_on_one_connection(gate, upstream):
    """Streams of HTTP/2 are requests of their own."""
    key = gate.key()
    upstream.answer(201, {}, {"id": 1}, hang=True, times=1)

    def refused():
        return sum(" 409 " in line and key.id in line
                   for line in gate.access_log())

    with gate.h2() as client:
        def one(i):
            if i == 8:                  # the first is over after the others
                wait_for(lambda: refused() == 7, what="refusals")
                upstream.release()
                return None
            return client.post(LOADS, content=BODY, headers={
                "Authorization": f"Bearer {key.token}",
                "Idempotency-Key": "k", "Content-Type": "application/json"})

        answers = together(9, one)[:8]
        again = one(0)

    assert sorted(a.status_code for a in answers) == [201] + [409] * 7
    assert again.headers["idempotent-replayed"] == "true"
    assert len(upstream.requests) == 1


def test_client_leaves_while_a_large_answer_is_asked_for(make_gate, make_relay,
                                                         redis, upstream):
    """Between the two questions and after them: what is stored stays, and a
    key that was freed meanwhile stays free."""
    relay = make_relay(redis.port)
    gate = make_gate(redis_url=relay.url, redis_parameters="connect=1s "
                     "command=1s dead=10s", **GATE)
    key = gate.key()
    upstream.answer(201, body="x" * 100000)
    first = write(gate, key)
    wait_for(lambda: state(gate, key) == b"C", what="stored answer")
    check_replay(first, write(gate, key))

    for freed in (False, True):
        held = relay.hold(lambda words: words[-1] == b"0")
        with gate.connect() as client:
            before = relay.count("evalsha")
            client.send(encode_request("POST", LOADS, {
                "Authorization": f"Bearer {key.token}", "Idempotency-Key": "k",
                "Content-Type": "application/json"}, BODY))
            wait_for(lambda: relay.count("evalsha") >= before + 2,
                     what="the second question")
            client.reset()
        if freed:
            redis.client.delete(f"kg:idem:{{{key.org}}}:test:k")
        held.set()
        relay.reset()
        if not freed:
            check_replay(first, write(gate, key))

    wait_for(lambda: state(gate, key) is None, what="free key")
    assert write(gate, key).get("Idempotent-Replayed") is None
    assert len(upstream.requests) == 2
