"""The strict window: in no window more than the limit, on two nodes."""

import threading
import time

import harness

LIMIT = 20
SECONDS = 2.6
POLICIES = f"keygate_policy default rate={LIMIT}r/s by=key;"


def hammer(gate, key, name, until, log):
    """Asks on one connection, without a pause, until the time has come;
    notes (target, when it was sent, the answer's status)."""
    n = 0
    headers = {"Authorization": f"Bearer {key.token}"}

    with harness.Client(("127.0.0.1", gate.port)) as client:
        while time.monotonic() < until:
            target = f"/v1/loads?n={name}-{n}"
            sent = time.monotonic()
            log.append((target, sent,
                        client.request("GET", target, headers).status))
            n += 1
            time.sleep(0.003)


def most_in_a_window(spans, window):
    """The most requests that were surely admitted within one window: each
    was admitted between its sending and its arrival, so those that were all
    sent and arrived within the window were all admitted within it."""
    most = 0
    for start, _ in spans:
        most = max(most, sum(1 for sent, arrived in spans
                             if start <= sent and arrived < start + window))
    return most


def test_measure_finds_a_burst_at_a_border():
    """What a fixed window lets through: twice the limit around its border."""
    spans = [(0.9 + i / 1000, 0.901 + i / 1000) for i in range(2 * LIMIT)]

    assert most_in_a_window(spans, 1.0) == 2 * LIMIT


def test_never_more_on_two_nodes(make_gate, upstream):
    gates = [make_gate(policies=POLICIES), make_gate(policies=POLICIES)]
    key = gates[0].key()
    for gate in gates:
        assert gate.get("/v1/loads", key=key).status == 200
    time.sleep(0.4)

    until = time.monotonic() + SECONDS
    logs = [[] for _ in range(4)]
    threads = [threading.Thread(target=hammer,
                                args=(gates[i % 2], key, i, until, logs[i]))
               for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    log = [entry for part in logs for entry in part]
    sent = {target: at for target, at, status in log if status == 200}
    arrived = {seen.target: seen.time for seen in upstream.requests}
    spans = [(at, arrived[target]) for target, at in sent.items()]

    assert {status for _, _, status in log} == {200, 429}
    assert len(upstream.requests) == len(sent) + 2
    assert most_in_a_window(spans, 1.0) <= LIMIT
    # Strict is not stingy: what left the window is admitted again.
    assert len(spans) >= 2 * LIMIT
    for gate in gates:
        assert {line.split("verdict=")[1] for line in gate.access_log()} == \
            {"admitted", "rate_limited"}
