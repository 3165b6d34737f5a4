"""The way from a node to Redis, in a process of its own: the relay of the
tests, which also loses commands and acknowledgements, and remembers what
passed.

A lost acknowledgement is a connection that ends after Redis has executed the
command and before its reply has arrived; a lost command, one that ends before
Redis has got it.  What became of a claim is sent until it is acknowledged, so
that it may come again at any time: an outcome repeated.
"""

import signal
import socket
import time
from collections import Counter

from harness import Relay
from harness.relay import parse

from .history import Command

SHOWN = 60

OUTCOMES = ("complete", "tombstone", "unknown", "release")


class Journal(list):
    """The commands about idempotency keys, as events; the relay appends every
    command before it passes it on.  drops: how many of an action are not to
    pass; outcomes: (when, words) of those."""

    def __init__(self, node):
        super().__init__()
        self.node = node
        self.drops = {}
        self.outcomes = []

    def append(self, words):
        for name, what, arguments in asked(words):
            self.say(name, "> " + shown(arguments))
            if what in OUTCOMES:
                self.outcomes.append((time.monotonic(), words))
            if self.drops.get(what, 0) > 0:
                self.drops[what] -= 1
                self.say(name, f"> {what} lost")
                raise ConnectionError("lost")

    def say(self, name, text):
        list.append(self, Command(time.monotonic(), self.node,
                                  f"{name} {text}"))


def asked(words):
    """What a script is to do with records: (record, action, arguments) of
    each; the action is claim, release, renew, complete ...  Claims may come
    with the limits of their requests (admit.lua), several at once."""
    if not (isinstance(words, list) and len(words) > 3
            and words[0].upper() in (b"EVALSHA", b"EVAL")):
        return []

    count = int(words[2])
    names, arguments = words[3:3 + count], words[3 + count:]
    records = [name.decode() for name in names if b":idem:" in name]

    if names and b":limit:" in names[0]:
        return [(name, "claim", arguments[2 + 8 * i:10 + 8 * i])
                for i, name in enumerate(records)]

    if not records:
        return []

    alone = len(arguments[0]) == 16
    return [(records[0], "claim" if alone else arguments[0].decode(),
             arguments)]


def shown(arguments):
    """The arguments of a script, what is no text in hex, and short."""
    return " ".join(word.decode() if word.isascii()
                    and word.decode().isprintable() else word[:16].hex()
                    for word in arguments)


class LossyRelay(Relay):
    """lose(action, times): the next acknowledgements of it are lost, lost has
    how many were; drop(action, times): the next commands themselves."""

    def __init__(self, target, node):
        super().__init__(target)
        self.commands = Journal(node)
        self.losses = {}
        self.lost = Counter()

    def lose(self, what, times):
        self.losses[what] = times

    def drop(self, what, times):
        self.commands.drops[what] = times

    def repeat(self, seconds):
        """Sends the outcomes of the last seconds again, one by one."""
        since = time.monotonic() - seconds

        with socket.create_connection(self.target, 10) as redis:
            for sent, words in list(self.commands.outcomes):
                if sent < since:
                    continue
                (name, what, _), = asked(words)
                redis.sendall(b"*%d\r\n" % len(words) + b"".join(
                    b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
                reply = b""
                while parse(reply) is None:
                    reply += redis.recv(4096)
                self.commands.say(name, f"repeated {what} {reply[:SHOWN]!r}")

    def _rewrite(self, value, reply, pending):
        words = pending[0] if pending else []
        reply = super()._rewrite(value, reply, pending)

        for name, what, _ in asked(words):
            if self.losses.get(what, 0) > 0:
                self.losses[what] -= 1
                self.lost[what] += 1
                self.commands.say(name, f"< {what} lost {reply[:SHOWN]!r}")
                raise ConnectionError("lost")

            self.commands.say(name, f"< {what} {reply[:SHOWN]!r}")

        return reply


def main(pipe, port, node):
    """Runs it until the pipe ends: (method or attribute, arguments) in, what
    came of it out; the relay's url first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    relay = LossyRelay(port, node)
    pipe.send(relay.url)

    while True:
        try:
            name, *arguments = pipe.recv()
        except EOFError:
            return

        if name == "delay":
            relay.delay, = arguments
            pipe.send(None)
        elif name in ("commands", "lost"):
            pipe.send(getattr(relay, name))
        else:
            pipe.send(getattr(relay, name)(*arguments))
