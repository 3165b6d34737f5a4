"""What the contract says of every answer, asked in one place."""

import re

REQUEST_ID = re.compile(r"req_[0-9A-HJKMNP-TV-Z]{26}")

# What describes a body that an error has replaced.
LEFT_OVER = ("Content-Encoding", "ETag", "Last-Modified", "Accept-Ranges",
             "Content-Disposition", "Content-Language", "Content-Location",
             "Content-MD5", "Content-Digest", "Repr-Digest", "Digest",
             "Trailer", "Expires", "Pragma", "CDN-Cache-Control",
             "Surrogate-Control")


def check_error(answer, status, code, details=None, retry=None,
                request_id=None, head=False):
    """Asserts an error in the contract's envelope and returns its "error".

    details: what they are, None for none.  retry: None: it cannot be retried;
    else the least and most of Retry-After.  request_id: that of the body when
    it is not the answer's own.  head: the answer has no body to look into.
    """
    check_headers(answer, status, "application/json", retry)

    if head:
        assert answer.body == b"", answer
        return None

    body = answer.json()
    assert set(body) == {"error", "requestId"}, answer
    assert body["requestId"] == (request_id or answer.get("X-Request-Id")), \
        answer

    error = body["error"]
    assert error["code"] == code, answer
    assert error["message"], answer
    assert error["retryable"] is (retry is not None), answer
    assert error.get("details") == details, answer
    return error


def check_headers(answer, status, media_type, retry):
    """Asserts what the headers of an error are; retry as in check_error()."""
    assert answer.status == status, answer
    assert answer.complete, answer
    assert answer.all("Content-Type") == [media_type], answer
    assert answer.all("Cache-Control") == ["no-store"], answer
    assert len(answer.all("X-Request-Id")) == 1, answer
    assert len(answer.all("Content-Length")) <= 1, answer

    for name in LEFT_OVER:
        assert answer.get(name) is None, answer

    if retry is None:
        assert answer.all("Retry-After") == [], answer
    else:
        assert len(answer.all("Retry-After")) == 1, answer
        assert answer.get("Retry-After").isdigit(), answer
        assert retry[0] <= int(answer.get("Retry-After")) <= retry[1], answer


def check_problem(answer, status, code, title, details=None, retry=None,
                  link="about:blank", more=frozenset()):
    """Asserts an error as a problem of RFC 9457, and returns it.  link is its
    type, more are the names of members beside the usual ones."""
    check_headers(answer, status, "application/problem+json", retry)

    body = answer.json()
    wanted = {"type": link, "title": title, "status": status, "code": code,
              "retryable": retry is not None,
              "requestId": answer.get("X-Request-Id")}
    assert {name: body.get(name) for name in wanted} == wanted, answer
    assert body["detail"], answer
    assert body.get("details") == details, answer
    assert set(body) == set(wanted) | {"detail"} | set(more) | (
        set() if details is None else {"details"}), answer
    return body


def check_request_id(answer):
    """Asserts the answer's own request id, and returns it."""
    values = answer.all("X-Request-Id")
    assert len(values) == 1 and REQUEST_ID.fullmatch(values[0]), answer
    return values[0]


def structured(answer, header):
    """RateLimit or RateLimit-Policy as {name: {parameter: integer}}: a list
    of strings with parameters, RFC 9651, and of nothing else."""
    values = answer.all(header)
    assert len(values) == 1, answer
    item = r'"([a-z0-9_-]+)"((?:;[a-z]+=\d+)+)'
    assert re.fullmatch(rf"{item}(?:, {item})*", values[0]), values

    found = {}
    for name, parameters in re.findall(item, values[0]):
        assert name not in found, values
        found[name] = {p: int(v) for p, v in
                       re.findall(r";([a-z]+)=(\d+)", parameters)}
    return found
