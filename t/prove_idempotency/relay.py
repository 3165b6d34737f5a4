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

from .history import Command, name_of

SHOWN = 60

OUTCOMES = ("complete", "tombstone", "unknown", "release")

# What claim.lua takes of each claim.
CLAIM = 8


class Journal(list):
    """The commands about idempotency keys, as events; the relay appends every
    command before it passes it on.  drops: how many of an action are not to
    pass; outcomes: (when, words) of those that Redis has had."""

    def __init__(self, node):
        super().__init__()
        self.node = node
        self.drops = {}
        self.under_way = {}
        self.outcomes = []

    def append(self, words):
        found = self.under_way[id(words)] = []

        for name, action, arguments in asked(words):
            command = Command(name_of(name), time.monotonic(), self.node,
                              action, shown(arguments),
                              with_limits=limited(words))
            list.append(self, command)
            found.append(command)

            if self.drops.get(action, 0) > 0:
                self.drops[action] -= 1
                command.lost = "command"

        if any(command.lost for command in found):
            raise ConnectionError("lost")

    def answered(self, words, value):
        """The commands that words were, now that Redis has said value."""
        found = self.under_way.pop(id(words), [])
        together = found and limited(words)

        for i, command in enumerate(found):
            command.heard = time.monotonic()
            command.said = said(value[1 + i] if together
                                and isinstance(value, list) else value)
            if command.action in OUTCOMES:
                self.outcomes.append((command.start, words))
        return found


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

    if not records:
        return []

    if limited(words):
        return [(name, "claim", arguments[2 + CLAIM * i:2 + CLAIM * (i + 1)])
                for i, name in enumerate(records)]

    alone = len(arguments[0]) == 16
    return [(records[0], "claim" if alone else arguments[0].decode(),
             arguments)]


def limited(words):
    """Whether the limits of requests come before their claims."""
    return b":limit:" in words[3]


def said(value):
    """The word in which Redis answered for a record."""
    if isinstance(value, list) and value:
        value = value[0]
    return (value.decode(errors="replace") if isinstance(value, bytes)
            else str(value))[:SHOWN]


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
                (name, action, _), = asked(words)
                command = Command(name_of(name), time.monotonic(),
                                  self.commands.node, action, "REPEATED")
                list.append(self.commands, command)
                redis.sendall(b"*%d\r\n" % len(words) + b"".join(
                    b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
                reply = b""
                while (value := parse(reply)) is None:
                    reply += redis.recv(4096)
                command.heard, command.said = time.monotonic(), said(value[0])

    def _rewrite(self, value, reply, pending):
        words = pending[0] if pending else []
        reply = super()._rewrite(value, reply, pending)

        for command in self.commands.answered(words, value):
            if self.losses.get(command.action, 0) > 0:
                self.losses[command.action] -= 1
                self.lost[command.action] += 1
                command.lost = "answer"
                raise ConnectionError("lost")

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
