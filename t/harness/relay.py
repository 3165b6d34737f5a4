"""A relay between the gate and Redis, where the network's faults are made.

It reads the protocol as it passes (RESP2), so that a test can count the
commands and put other bytes in the place of a reply.
"""

import socket
import threading
import time
from collections import deque

from .ports import free_port


def parse(data, at=0):
    """One RESP2 value at an offset: (value, end), or None when it is not
    there whole.  Errors come as Exception values."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return None

    kind, line, end = data[at:at + 1], bytes(data[at + 1:end]), end + 2

    if kind == b"+":
        return line, end
    if kind == b"-":
        return Exception(line.decode(errors="replace")), end
    if kind == b":":
        return int(line), end

    size = int(line)
    if size < 0:
        return None if kind not in b"$*" else ("nil", end)

    if kind == b"$":
        if len(data) < end + size + 2:
            return None
        return bytes(data[end:end + size]), end + size + 2

    values = []
    for _ in range(size):
        value = parse(data, end)
        if value is None:
            return None
        values.append(value[0])
        end = value[1]
    return values, end


class Rule:
    """A reply to replace; see Relay.replace()."""

    def __init__(self, command, reply, times, delay, name):
        self.command = command.upper().encode()
        self.name = name.encode()
        self.reply = reply
        self.times = times
        self.delay = delay
        self.hits = 0

    def fits(self, words):
        return (self.times != 0 and words
                and words[0].upper() == self.command
                and (not self.name or (len(words) > 1
                                       and words[1].startswith(self.name))))


class Relay:
    """Listens on 127.0.0.1:port and connects to target, (host, port) or a
    port of 127.0.0.1 or a socket's path.

    delay       seconds each piece waits, both ways
    late        seconds that each piece from Redis waits besides
    split       True: every byte is a packet of its own, towards the gate
    commands    every command that passed, a list of lists of bytes
    pieces      how many reads it took to get them from the gate
    bytes_up, bytes_down    what passed towards Redis, and back
    connections how many were accepted
    """

    def __init__(self, target):
        if isinstance(target, int):
            target = ("127.0.0.1", target)
        self.target = target
        self.port = free_port()
        self.delay = 0
        self.late = 0
        self.split = False
        self.commands = []
        self.connections = 0
        self.pieces = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._rules = []
        self._holds = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._telling = threading.Event()
        self._telling.set()
        self._subscribed = set()
        self._pairs = set()
        self._lock = threading.Lock()
        self._listener = None
        self.accept()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def replace(self, command, reply, times=None, delay=0, name=""):
        """The reply to a command becomes these bytes, as they are ("-LOADING
        x\\r\\n"); None keeps it.  The command is executed all the same.
        delay: seconds this reply, and those behind it, are late, or the Event
        that they wait for.
        name: only where the command's first argument begins with it."""
        rule = Rule(command, reply, times, delay, name)
        self._rules.insert(0, rule)
        return rule

    def count(self, command):
        """How many commands of this name passed."""
        wanted = command.upper().encode()
        return sum(1 for words in list(self.commands)
                   if words and words[0].upper() == wanted)

    def hold(self, fits):
        """Commands for which fits(words) is true do not pass, nor does what
        comes behind them on their connection, until the Event returned is
        set."""
        event = threading.Event()
        self._holds.append((fits, event))
        return event

    def freeze(self):
        """Nothing passes, connections stay."""
        self._flowing.clear()

    def thaw(self):
        self._flowing.set()
        self._telling.set()

    def deafen(self):
        """Nothing passes, either way, on connections that subscribe to
        something: who listens there is not told that he hears nothing."""
        self._telling.clear()

    def cut(self):
        """Every connection ends with a RST."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for sock in pair:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                    b"\x01\0\0\0\0\0\0\0")
                    sock.shutdown(socket.SHUT_RD)
                    sock.close()
                except OSError:
                    pass

    def refuse(self):
        """New connections are refused, those that stand are cut."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def accept(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept_loop, args=(listener,),
                         daemon=True).start()

    def reset(self):
        """Back to passing everything; the counts stay."""
        self.delay, self.late, self.split, self._rules = 0, 0, False, []
        for _, event in self._holds:
            event.set()
        self._holds = []
        self.thaw()
        if self._listener is None:
            self.accept()

    def close(self):
        self.refuse()
        for _, event in self._holds:
            event.set()
        self.thaw()

    def _accept_loop(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return

            unix = isinstance(self.target, str)
            far = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            try:
                far.connect(self.target)
            except OSError:
                far.close()
                near.close()
                continue

            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pending = deque()
            with self._lock:
                if self._listener is not listener:
                    near.close()        # refused between the two
                    far.close()
                    return
                self.connections += 1
                self._pairs.add((near, far))
            for pump in (self._pump_up, self._pump_down):
                threading.Thread(target=self._run, daemon=True,
                                 args=(pump, near, far, pending)).start()

    def _run(self, pump, near, far, pending):
        try:
            pump(near, far, pending)
        except OSError:
            pass

        with self._lock:
            standing = (near, far) in self._pairs
            self._pairs.discard((near, far))
            self._subscribed.discard(near)

        if standing:
            for sock in (near, far):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _pass(self, near):
        self._flowing.wait()
        if near in self._subscribed:
            self._telling.wait()
        if self.delay:
            time.sleep(self.delay)

    def _pump_up(self, near, far, pending):
        parsed = bytearray()

        while True:
            data = near.recv(65536)
            if not data:
                return
            self.pieces += 1
            self.bytes_up += len(data)
            parsed += data

            while parsed:
                value = parse(parsed)
                if value is None:
                    break
                words, end = value
                del parsed[:end]
                self.commands.append(words)
                pending.append(words)
                if words and words[0].upper() == b"SUBSCRIBE":
                    self._subscribed.add(near)
                for fits, event in self._holds:
                    if fits(words):
                        event.wait(60)

            self._pass(near)
            far.sendall(data)

    def _pump_down(self, near, far, pending):
        parsed = bytearray()

        while True:
            data = far.recv(65536)
            if not data:
                return
            parsed += data
            self._pass(near)
            if self.late:
                time.sleep(self.late)

            while parsed:
                value = parse(parsed)
                if value is None:
                    break
                reply = bytes(parsed[:value[1]])
                del parsed[:value[1]]
                self._send_down(near, self._rewrite(value[0], reply, pending))

    def _rewrite(self, value, reply, pending):
        if isinstance(value, list) and value[:1] in ([b"message"],
                                                     [b"pmessage"]):
            return reply

        words = pending.popleft() if pending else []

        for rule in self._rules:
            if rule.fits(words):
                if rule.times:
                    rule.times -= 1
                rule.hits += 1
                if isinstance(rule.delay, threading.Event):
                    rule.delay.wait(10)
                elif rule.delay:
                    time.sleep(rule.delay)
                return reply if rule.reply is None else rule.reply
        return reply

    def _send_down(self, near, data):
        self.bytes_down += len(data)
        if not self.split:
            near.sendall(data)
            return
        for i in range(len(data)):
            near.sendall(data[i:i + 1])
            time.sleep(0.0002)
