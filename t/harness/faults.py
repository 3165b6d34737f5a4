"""What no test may leave in a log, whatever it was about.

    lines of level alert, emerg and crit
    what a sanitizer prints
    a worker that ended other than by exit 0

A test announces the first kind with a regular expression when the line is what
it provokes; sanitizer lines cannot be announced.
"""

import re

LEVEL = re.compile(
    r"^(\d{4}/\d\d/\d\d [\d:]{8}|nginx:) \[(alert|emerg|crit)\]")

SANITIZER = re.compile(
    r"(Address|Leak|UndefinedBehavior)Sanitizer|runtime error:")

ENDED = re.compile(
    r"exited on signal|exited with (fatal )?code (?!0\b)\d|open socket #")

SHOWN = 60


class Fault(AssertionError):
    """The log has lines that no test may leave."""


def faults(text, expected=()):
    """The lines of a log that are faults."""
    found = []

    for line in text.splitlines():
        if SANITIZER.search(line):
            found.append(line)

        elif LEVEL.search(line) or ENDED.search(line):
            if not any(re.search(pattern, line) for pattern in expected):
                found.append(line)

    return found


def check(text, expected=(), where="error.log"):
    """Raises Fault when the text has faults."""
    found = faults(text, expected)

    if found:
        report = ""
        sanitizer = SANITIZER.search(text)
        if sanitizer:
            after = text[sanitizer.start():].splitlines()[:SHOWN]
            report = "\n\n" + "\n".join(after)

        raise Fault(f"{len(found)} bad lines in {where}:\n"
                    + "\n".join(found[:SHOWN]) + report)
