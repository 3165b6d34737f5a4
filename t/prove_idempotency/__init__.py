"""The proof that a write happens once: a load with faults, and a checker of
the history that comes of it.

    plan        what is asked: keys, payloads, how each client behaves
    upstream    a server that logs every execution before it answers
    load        the clients, and the operator who resolves keys
    relay       the way to Redis, where acknowledgements are lost
    node        an nginx that can be upgraded while it runs
    faults      what is done to nodes, Redis and the upstream meanwhile
    history     what was seen: the events, and their keys
    rules       what must hold of a history, whatever made it
    run         all of it in order, and the report

scripts/prove-idempotency runs it; t/test_history_checker.py shows that every
rule can fail, and the patches of t/mutants that the whole does.
"""
