"""The proof that a write happens once: a load with faults, and a checker of
the history that comes of it.

    routes      where writes go, with the options that change how
    plan        what is asked: keys, payloads, how each client behaves
    upstream    a server that logs every execution before it answers
    load        the clients, and the operator who resolves keys
    http1       their requests over HTTP/1.1
    http2       and over HTTP/2
    relay       the way to Redis, where acknowledgements are lost
    node        an nginx that can be upgraded while it runs
    faults      what is done to nodes, Redis, its replica and the upstream
    history     what was seen: the events, and their keys
    rules       what must hold of a history, whatever made it
    run         all of it in order
    report      its figures, and the history of what broke a rule

scripts/prove-idempotency runs it; t/test_history_checker.py shows that every
rule can fail, and the patches of t/mutants that the whole does.
"""
