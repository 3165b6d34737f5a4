"""A page's ```console blocks, run as they stand.

A line that begins with "$ " is a command, what follows is what it prints, on
either output.  What differs each time has a form; the page shows one of that
form, and a command that names an id or a pepper of the page is run with the
one that came in its place:

    key_0123456789ABCDEFGHIJ    an id
    0a1b2c3d                    a pepper's id
    2026-11-22T10:00:00Z, 2026-11-22, req_..., tf_test_...Ab3d
    the seconds in the last column of a limit

A token is printed as tf_test_… and becomes $TEST_KEY or $LIVE_KEY.
"""

import re
import subprocess
import time

TOKEN = re.compile(r"\b(\w+)_(test|live)_[0-9A-Za-z]{38}\b")

FORMS = re.compile(
    r"(?P<key>key_[0-9A-Za-z]{20})"
    r"|(?P<date>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"
    r"|(?P<day>\d{4}-\d\d-\d\d)"
    r"|(?P<request>req_[0-9A-Z]{26})"
    r"|(?P<hint>\w+_(?:test|live)_\.\.\.[0-9A-Za-z]{4})"
    r"|\b(?P<pepper>[0-9a-f]{8})\b"
    r"|(?P<reset>(?<=\d {8}) *\d+$)", re.M)

END = "--end of the command--"


def form(text):
    """The text with what differs each time taken out, and what that was."""
    found = [(match.lastgroup, match[0]) for match in FORMS.finditer(text)]
    return FORMS.sub(lambda match: f"<{match.lastgroup}>", text), found


def commands(block):
    """[(command, what it prints)] of a block, which ends without a newline."""
    found = []
    for line in (block + "\n").splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line[2:].rstrip("\n"), ""])
        else:
            found[-1][1] += line
    return found


class Console:
    """A shell.  places: {"what the page names": "what is there"}."""

    def __init__(self, folder, places, env):
        self.places = places
        self.page = {}              # an id of the page: the one here
        self.shell = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)

    def set(self, name, value):
        """A variable of the shell, which no process list shows."""
        self.run(f"{name}='{value}'")

    def run(self, command):
        """What a command prints."""
        for page, here in {**self.places, **self.page}.items():
            command = command.replace(page, here)
        self.shell.stdin.write(f"{command}\necho '{END}'\n")
        self.shell.stdin.flush()

        text = ""
        for line in self.shell.stdout:
            if line.endswith(END + "\n"):
                break
            text += line
        text += line[:-len(END) - 1]

        for token in TOKEN.finditer(text):
            self.set(f"{token[2].upper()}_KEY", token[0])
        return TOKEN.sub(r"\1_\2_…", text)

    def check(self, command, wanted, wait=0):
        """Runs a command of the page and asserts what it prints; repeats it
        for up to wait seconds, for what Redis is told a little later."""
        until = time.monotonic() + wait
        fits, shown = form(wanted)

        while True:
            text = self.run(command)
            got, found = form(text)
            if got == fits or time.monotonic() > until:
                break
            time.sleep(0.1)

        assert got == fits, f"$ {command}\n{text}"
        for (kind, page), (_, here) in zip(shown, found):
            if kind in ("key", "pepper"):
                assert self.page.setdefault(page, here) == here, \
                    f"$ {command}\n{text}"

    def close(self):
        self.shell.stdin.close()
        self.shell.stdout.close()
        self.shell.wait(10)
