"""The proof that limits are never exceeded; scripts/prove-limits runs it.

    load.py        requests from many callers at once, and the upstream they
                   reach, with the times of both
    model.py       what a proof is about: policies, tenants, flows, faults
    generate.py    scenarios, drawn by hypothesis
    pinned.py      scenarios kept for what they catch
    stage.py       the nodes, Redis, skewed clocks, and the faults at work
    check.py       what must hold of the times, in plain arithmetic
    history.py     what the script answers, on a clock that the proof sets
    script.py      many histories
    run.py         one scenario from start to verdict
    many.py        all of it, for so many seconds
    mutants.py     the module with a bug put into it, and whether run.py sees
"""
