"""What must hold of the times of requests, in plain arithmetic.

A span is (sent, arrived, cost): the request was admitted at a moment that
nobody saw, between the two.  What is counted is therefore what was admitted
within a stretch of time for certain, because it was sent and arrived within.
Whatever the true moments are, this many were in it: a verdict of "too many"
is never wrong.  It is sharp as far as spans are short: some milliseconds on
an idle machine, against windows of a second and more.

(Counting arrivals alone would have to shorten every window by the longest
forwarding delay there was; here each request pays for its own only.)
"""

import bisect


def worst_window(spans, window, limit_at):
    """The window that is fullest for its limit, (ratio, count, limit, start).

    limit_at(start, end) is the limit that held in it.  A window that starts
    between two sendings holds no more than the one from the later.
    """
    spans = sorted(spans)
    worst = (0.0, 0, 0, 0.0)

    for i, (start, _, _) in enumerate(spans):
        end = start + window
        count = 0
        for sent, arrived, cost in spans[i:bisect.bisect(spans, (end,))]:
            if arrived < end:
                count += cost

        limit = limit_at(start, end)
        if count / limit > worst[0]:
            worst = (count / limit, count, limit, start)

    return worst


def worst_stretch(spans, burst, pace):
    """The stretch of time in which a token bucket that gets pace tokens a
    second is fullest, (ratio, count, limit, start, length)."""
    by_arrival = sorted(spans, key=lambda span: span[1])
    worst = (0.0, 0, 0, 0.0, 0.0)

    for start, _, _ in spans:
        count = 0
        for sent, arrived, cost in by_arrival:
            if sent < start:
                continue
            count += cost
            limit = burst + pace * (arrived - start)
            if count / limit > worst[0]:
                worst = (count / limit, count, limit, start, arrived - start)

    return worst


def greedy(sent, limit, window):
    """How many of requests sent at these moments a strict window that knows
    every single one would admit."""
    admitted = []
    first = 0

    for at in sorted(sent):
        while first < len(admitted) and admitted[first] + window <= at:
            first += 1
        if len(admitted) - first < limit:
            admitted.append(at)

    return len(admitted)
