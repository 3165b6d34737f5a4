"""How Redis is reached: password, user, socket, database and namespace."""

import pytest

from harness.ports import wait_for
from test_redis_faults import (LOADS, ONE, SLACK, TIMEOUT, check_down,
                               recovers, timed)


def one(parameters):
    """ONE, whose Redis has more parameters."""
    return {**ONE, "redis_parameters": parameters + ONE["redis_parameters"]}


def test_password_that_nobody_told(make_gate, make_redis):
    redis = make_redis(password="secret")
    gate = make_gate(redis=redis, **ONE)

    check_down(gate.get(LOADS, key=gate.key()))
    gate.wait_log("NOAUTH")
    assert "secret" not in gate.log()


def test_wrong_password(make_gate, make_redis):
    redis = make_redis(password="secret")
    gate = make_gate(redis=redis, files={"word": "wrong-one\n"},
                     **one("password_file=%%FOLDER%%/word "))
    answer, seconds = timed(gate, gate.key())

    check_down(answer)
    assert seconds < TIMEOUT + SLACK
    gate.wait_log("WRONGPASS")
    assert "wrong-one" not in gate.log()


def test_password(make_gate, make_redis):
    redis = make_redis(password="secret")
    gate = make_gate(redis=redis, files={"word": "secret\n"},
                     **one("password_file=%%FOLDER%%/word "))

    assert gate.get(LOADS, key=gate.key()).status == 200
    assert "secret" not in gate.log()


def test_user_with_few_rights(make_gate, make_redis):
    redis = make_redis(acl={
        "kg": "on >word ~kg:* resetchannels -@all +get +set +del +time "
              "+getrange +setrange +pexpire +eval +evalsha +select +ping "
              "+info +script|load"})
    gate = make_gate(redis=redis, files={"word": "word"},
                     **one("user=kg password_file=%%FOLDER%%/word "))
    key = gate.key()
    first = gate.post(LOADS, key=key, idem="k", body=b"{}")

    assert first.status == 200
    assert gate.post(LOADS, key=key, idem="k",
                     body=b"{}").get("Idempotent-Replayed") == "true"
    # One that has only just come is nobody's yet.
    wait_for(lambda: {c["user"] for c in redis.client.client_list()
                      if c["cmd"] != "client|list"} == {"kg"}, what="its user")


def test_user_without_rights(make_gate, make_redis):
    redis = make_redis(acl={"kg": "on >word ~kg:* +get"})
    gate = make_gate(redis=redis, files={"word": "word"},
                     **one("user=kg password_file=%%FOLDER%%/word "))

    check_down(gate.get(LOADS, key=gate.key()))
    gate.wait_log("NOPERM")


def test_unix_socket(make_gate, make_redis):
    redis = make_redis(unix=True)
    gate = make_gate(redis=redis, **ONE)
    key = gate.key()

    assert gate.get(LOADS, key=key).status == 200
    redis.client.save()
    redis.stop()
    check_down(gate.get(LOADS, key=key))
    redis.start()
    recovers(gate, key)


@pytest.mark.parametrize("unix", [False, True])
def test_database(make_gate, make_redis, unix):
    redis = make_redis(unix=unix)
    url = (f"unix:{redis.path}:3" if unix
           else f"redis://127.0.0.1:{redis.port}/3")
    gate = make_gate(redis=redis, redis_url=url, **ONE)
    key = gate.key()
    assert gate.get(LOADS, key=key).status == 401

    there = redis.connect(db=3)
    for name in redis.client.keys("*"):
        there.set(name, redis.client.get(name))
    other = gate.key()
    for name in redis.client.keys("*"):
        there.set(name, redis.client.get(name))
    assert gate.get(LOADS, key=other).status == 200
    assert there.keys("kg:limit:*") and not redis.client.keys("kg:limit:*")
    there.close()


def test_namespace(make_gate, redis):
    gate = make_gate(**one("namespace=other "))
    key = gate.key()
    assert gate.get(LOADS, key=key).status == 401
    other = gate.key()
    for name in (other.name, f"kg:org:{{{other.org}}}"):
        redis.client.rename(name, "other" + name[2:])

    answer = gate.post(LOADS, key=other, idem="k", body=b"{}")
    assert answer.status == 200
    kinds = {name.split(b":{")[0] for name in
             redis.client.keys(f"*{{{other.org}}}*")}
    assert kinds == {b"other:org", b"other:limit", b"other:idem"}
