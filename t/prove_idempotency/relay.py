"""The way from a node to Redis, in a process of its own: the relay of the
tests, which also loses commands and acknowledgements, and remembers what
passed.

A lost acknowledgement is a connection that ends after Redis has executed the
command and before its reply has arrived; a lost command, one that ends before
Redis has got it.
"""

import signal
import time
from collections import Counter

from harness import Relay

from .history import Command

SHOWN = 60


class Journal(list):
    """The commands about idempotency keys, as events; the relay appends every
    command before it passes it on.  drops: how many of an action are not to
    pass."""

    def __init__(self, node):
        super().__init__()
        self.node = node
        self.drops = {}

    def append(self, words):
        name, what = idempotency_key(words), action(words)
        if name is None:
            return

        self.say(name, "> " + shown(words))
        if self.drops.get(what, 0) > 0:
            self.drops[what] -= 1
            self.say(name, f"> {what} lost")
            raise ConnectionError("lost")

    def say(self, name, text):
        list.append(self, Command(time.monotonic(), self.node,
                                  f"{name} {text}"))


def idempotency_key(words):
    """The record a script is about, None for any other command."""
    if (isinstance(words, list) and len(words) > 3
            and words[0].upper() in (b"EVALSHA", b"EVAL")
            and b":idem:" in words[3]):
        return words[3].decode()
    return None


def action(words):
    """What a command wants of a key: claim, release, renew, complete ..."""
    if idempotency_key(words) is None or len(words) < 6:
        return None
    return "claim" if len(words[4]) == 16 else words[4].decode()


def shown(words):
    """The arguments of a script, what is no text in hex, and short."""
    return " ".join(word.decode() if word.isascii()
                    and word.decode().isprintable() else word[:16].hex()
                    for word in words[4:])


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

    def _rewrite(self, value, reply, pending):
        words = pending[0] if pending else []
        reply = super()._rewrite(value, reply, pending)
        name, what = idempotency_key(words), action(words)

        if name is None:
            return reply

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
