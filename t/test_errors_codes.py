"""The whole table of statuses: a code for each that is registered, and
retryable and Retry-After exactly together, wherever the error comes from."""

import email.utils
import http
import itertools
import json
import re
import time

import pytest

from checks import check_error, check_headers
from harness.template import ROOT

CATALOGUE = json.loads((ROOT / "conf/errors.json").read_text("utf-8"))

# Registered since with other words than Python 3.11 has (RFC 9110, 15.5).
RENAMED = {413: "Content Too Large", 414: "URI Too Long",
           416: "Range Not Satisfiable", 422: "Unprocessable Content"}

REGISTERED = {
    status.value: RENAMED.get(status.value, status.phrase)
    for status in http.HTTPStatus
    if status >= 400 and status != 418}         # (Unused)

# The contract has a code of its own for these.
NAMED = {429: "rate_limited", 500: "internal_error"}

# nginx ends these without an answer; it takes 494 to 497 for 400.
NO_ANSWER = {408, 444, 499}
AS_400 = {494, 495, 496, 497}

STATUSES = range(400, 600)

GATE = dict(
    routes="""keygate_routes partner {
        GET /t public; POST /t public; PUT /t public; DELETE /t public; }""",
    server="\n".join(f"location = /r/{status} {{ return {status}; }}"
                     for status in STATUSES))


def code_of(status):
    if status in NAMED:
        return NAMED[status]
    if status in REGISTERED:
        return REGISTERED[status].lower().replace(" ", "_")
    return "bad_request" if status < 500 else "internal_error"


def test_every_registered_status_has_one_code():
    first = {}
    for entry in CATALOGUE:
        first.setdefault(entry["status"], entry)

    assert set(first) == set(REGISTERED)
    for status, entry in first.items():
        assert entry["code"] == code_of(status)
        assert entry["phrase"].lower() == REGISTERED[status].lower()


def test_every_code_is_explained_to_partners():
    """Once: as a heading, or in the table of what is rare."""
    page = (ROOT / "docs/errors.md").read_text("utf-8")
    prose, table = page.split("<!-- errors: written by")
    _, rare = prose.split("## Rarely")
    explained = re.findall(r"^### (\w+)$", prose, re.M) + [
        code for row in re.findall(r"^\| (`.+?`) \|", rare, re.M)
        for code in re.findall(r"\w+", row)]

    assert sorted(explained) == sorted(e["code"] for e in CATALOGUE)
    for entry in CATALOGUE:
        assert f"| `{entry['code']}` | {entry['message']} |" in table


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_every_status_of_nginx(gate, method):
    """Nothing was executed: a write may be repeated as a GET may."""
    for status in STATUSES:
        if status in NO_ANSWER:
            continue
        answer = gate.request(method, f"/r/{status}", body=b"x"
                              if method == "POST" else b"")
        seen = 400 if status in AS_400 else status
        check_error(answer, seen, code_of(seen), head=method == "HEAD",
                    retry=(1, 1) if seen in (425, 429, 502, 503, 504)
                    else None)


@pytest.mark.parametrize("status", sorted(NO_ANSWER))
def test_statuses_without_an_answer(gate, status):
    with gate.connect() as client:
        client.send(f"GET /r/{status} HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_all() == b""


# A date is of use for a day.
SOON = email.utils.formatdate(time.time() + 7200, usegmt=True)

BODIES = {
    "html": b"<p>trace",
    "json": b'{"message": "m"}',
    "says it can": b'{"error":{"code":"c","message":"m","retryable":true}}',
    "says it cannot": b'{"error":{"code":"c","message":"m",'
                      b'"retryable":false}}',
    "in progress": b'{"error":{"code":"idempotency_in_progress",'
                   b'"message":"m"}}',
}


def may_be_retried(method, status, after, body):
    """The contract's rule in its own words."""
    if "in_progress" in str(body):
        return True
    if status in (425, 429):
        return True
    if status in (502, 504):
        return method in ("GET", "HEAD")
    if status == 503:       # with Retry-After nothing was executed
        return method in ("GET", "HEAD") or after is not None
    return False


@pytest.mark.parametrize("after", [None, "7", SOON],
                         ids=["none", "seconds", "date"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_retryable_and_retry_after_are_together(gate, upstream, method,
                                                after):
    """Of every status and whatever an upstream says of it itself."""
    headers = {} if after is None else {"Retry-After": after}

    with gate.connect() as client:
        for status, body in itertools.product(STATUSES, BODIES.values()):
            if method == "HEAD" and body is not BODIES["html"]:
                continue
            upstream.reset()
            upstream.answer(status, headers, body)
            answer = client.request(method, "/t")
            wanted = may_be_retried(method, status, after, body)

            check_headers(answer, status, "application/json",
                          check_retry_after(answer, wanted, after))
            if method != "HEAD":
                assert answer.error["retryable"] is wanted, answer


def check_retry_after(answer, wanted, after):
    """Asserts its value, and returns the bounds check_headers() takes."""
    if not wanted:
        return None

    assert answer.all("Retry-After") == [after or "1"], answer
    if after is None or after.isdigit():
        return int(after or 1), int(after or 1)

    # A date is as good as seconds, RFC 9110, 10.2.3.
    answer.headers = [(name, "1" if name == "Retry-After" else value)
                      for name, value in answer.headers]
    return 1, 1
