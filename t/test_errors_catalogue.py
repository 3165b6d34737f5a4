"""keygate_errors … catalogue=: a deployment's messages, links and codes, and
what nginx -t says of a file that is wrong."""

import json

import pytest

from checks import check_error
from harness.template import ROOT

LOADS = "/v1/loads"

CATALOGUE = [
    {"code": "unauthorized", "message": "Show your key"},
    {"code": "not_found", "status": 404, "message": "Gibt es nicht: \u00fc\"",
     "docUrl": "https://docs.example.com/errors#not_found"},
    {"code": "rate_limited", "docUrl": "https://docs.example.com/slow"},
    {"code": "load_locked", "status": 409, "message": "The load is locked",
     "docUrl": "https://docs.example.com/locked"},
    {"code": "calm_down", "status": 420, "message": "Too eager"},
]

GATE = dict(
    files={"errors.json": json.dumps(CATALOGUE, indent=1),
           "other.json": '[{"code": "gone", "message": "Elsewhere"}]'},
    gate="""keygate partner; keygate_limit default;
        keygate_errors envelope catalogue=errors.json;""",
    locations="""
        location = /gone { keygate off; return 410; }
        location = /again { keygate off; return 410;
                            keygate_errors envelope catalogue=other.json; }
        location = /plain { keygate off; return 404;
                            keygate_errors envelope; }
        location = /missing { keygate off; return 404; }
        location = /eager { keygate off; return 420; }
    """)


def test_messages_and_links_of_nginx_and_keygate(gate):
    error = check_error(gate.get(LOADS), 401, "unauthorized")
    assert (error["message"], "docUrl" in error) == ("Show your key", False)

    for target, key in (("/missing", None), ("/nowhere", gate.key())):
        error = check_error(gate.get(target, key=key), 404, "not_found")
        assert error["message"] == "Gibt es nicht: \u00fc\""
        assert error["docUrl"] == "https://docs.example.com/errors#not_found"

    key = gate.key(limits={"default": "1r/m"})
    gate.get(LOADS, key=key)
    error = check_error(gate.get(LOADS, key=key), 429, "rate_limited",
                        {"policy": "default"}, (1, 60))
    assert error["message"] == "Rate limit exceeded"
    assert error["docUrl"] == "https://docs.example.com/slow"


def test_messages_that_say_more_stay(gate):
    """Only the holder of a key is told that it has expired."""
    key = gate.key(expiresAt="2026-01-01T00:00:00Z")
    error = check_error(gate.get(LOADS, key=key), 401, "unauthorized")
    assert "expired" in error["message"]


def test_added_codes(gate, upstream):
    check_error(gate.get("/eager"), 420, "calm_down")
    upstream.answer(420, {}, "<p>")
    check_error(gate.get(LOADS, key=gate.key()), 420, "calm_down")
    upstream.answer(409, {}, "<p>")
    check_error(gate.get(LOADS, key=gate.key()), 409, "conflict")


@pytest.mark.parametrize("said, link", [
    ({}, "https://docs.example.com/locked"),
    ({"docUrl": "https://a/b"}, "https://a/b"),
    ({"docUrl": 7}, "https://docs.example.com/locked"),
    ({"docUrl": ""}, "https://docs.example.com/locked")])
def test_upstreams_envelope_with_an_added_code(gate, upstream, said, link):
    upstream.answer(409, {}, {"error": {"code": "load_locked",
                                        "message": "By Ann", **said}})
    error = check_error(gate.get(LOADS, key=gate.key()), 409, "load_locked")

    assert (error["message"], error["docUrl"]) == ("By Ann", link)


def test_codes_that_nobody_lists_pass(gate, upstream):
    upstream.answer(409, {}, {"error": {"code": "new_one", "message": "M"}})
    error = check_error(gate.get(LOADS, key=gate.key()), 409, "new_one")
    assert "docUrl" not in error


def test_form_and_catalogue_are_inherited_together(gate):
    assert gate.get("/gone").error["message"] != "Elsewhere"
    assert gate.get("/again").error["message"] == "Elsewhere"
    assert "docUrl" not in gate.get("/plain").error


def test_reload_reads_the_catalogue_again(make_gate):
    gate = make_gate(**GATE)
    gate.write("errors.json", '[{"code": "not_found", "message": "New"}]')
    assert gate.get("/missing").error["message"].startswith("Gibt")
    gate.reload()
    assert gate.get("/missing").error["message"] == "New"


def test_admin_answers_in_the_envelope(make_gate):
    gate = make_gate(http="keygate_errors problem;",
                     gate="keygate partner;")
    answer = gate.admin("GET", "/nowhere")
    check_error(answer, 404, "not_found")


# What nginx -t says.

WRONG = {
    "no JSON": ("[\n{]", r'wrong in line 2: '),
    "no list": ("{}", "wrong in line 1: a catalogue is a list"),
    "unknown member": ('[\n{"code": "gone",\n"statsu": 410}]',
                       'wrong in line 3: "statsu" is unknown'),
    "bad status": ('[{"code": "x", "message": "M",\n "status": 200}]',
                   'line 2: a "status" is a number from 400 to 599'),
    "another status": ('[{"code": "gone", "status": 404}]',
                       'line 1: the status of "gone" is 410'),
    "missing code": ('[\n\n{"status": 404}]', 'line 3: an entry has a "code"'),
    "missing message": ('[{"code": "x", "status": 404}]',
                        '"x", which is not built in, needs'),
    "twice": ('[{"code": "gone"},\n{"code": "gone"}]',
              'line 2: "gone" is there twice'),
    "a link that is none": ('[{"code": "gone", "docUrl": "gone.html"}]',
                            '"https://"'),
    "empty": ("", "1 to 262144 bytes"),
    "too long": ("[" + " " * 262144 + "]", "1 to 262144 bytes"),
}


@pytest.mark.parametrize("text, said", WRONG.values(), ids=WRONG)
def test_wrong_catalogue(nginx_t, text, said):
    rc, stderr = nginx_t(files={"e.json": text}, http="keygate_errors "
                         "envelope catalogue=e.json;")
    assert rc == 1
    assert said in stderr
    assert "e.json" in stderr and "nginx.conf:" in stderr


@pytest.mark.parametrize("line, said", [
    ("keygate_errors html;", '"envelope", "problem" or "off"'),
    ("keygate_errors envelope errors.json;", '"catalogue=FILE"'),
    ("keygate_errors envelope catalogue=;", "without a file"),
    ("keygate_errors off catalogue=e.json;", "no use for"),
    ("keygate_errors envelope catalogue=none.json;", "cannot be read"),
    ("keygate_errors envelope catalogue=.;", "must be a file"),
    ("keygate_errors;", "invalid number of arguments"),
    ("keygate_errors envelope; keygate_errors off;", "duplicate")])
def test_wrong_line(nginx_t, line, said):
    rc, stderr = nginx_t(files={"e.json": "[]"}, http=line)
    assert rc == 1
    assert said in stderr


def test_shipped_catalogue_is_one_itself(nginx_t):
    """conf/errors.json is the form, but for the phrases it is made with."""
    entries = json.loads((ROOT / "conf/errors.json").read_text("utf-8"))
    for entry in entries:
        entry.pop("phrase", None)
    rc, stderr = nginx_t(files={"e.json": json.dumps(entries)},
                         http="keygate_errors envelope catalogue=e.json;")
    assert rc == 0, stderr
