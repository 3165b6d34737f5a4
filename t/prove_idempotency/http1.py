"""Requests over HTTP/1.1, each on a connection of its own, whose client may
leave before its answer."""

import asyncio
import socket

from harness.client import Client, Closed

from .history import Answer

# A request without an answer by then has none, s.
PATIENCE = 30


class Received(Client):
    """A connection that has ended, and what came on it."""

    def __init__(self, data):        # no socket: all is in the buffer
        self.buffer = data

    def _fill(self):
        return False

    def read_all(self):
        data, self.buffer = self.buffer, b""
        return data


async def talk(opening, *pieces, leaves=None, reset=False):
    """Sends the pieces and reads until the peer ends: (bytes, reason).  leaves:
    the client goes after so many seconds.  The reason is None when the peer
    closed the connection as it should."""
    received, writer, reason = b"", None, None

    async def exchange():
        nonlocal received
        for i, piece in enumerate(pieces):
            if i:
                await asyncio.sleep(0.05)
            writer.write(piece)
            await writer.drain()
        while data := await reader.read(65536):
            received += data

    try:
        reader, writer = await asyncio.wait_for(opening, PATIENCE)
        await asyncio.wait_for(exchange(),
                               PATIENCE if leaves is None else leaves)
    except asyncio.TimeoutError:
        reason = "timeout" if leaves is None else "left"
    except OSError as error:
        reason = type(error).__name__

    if writer is not None:
        if reset and not writer.transport.is_closing():
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER,
                b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()
    return received, reason


def parsed(data):
    """The answer in it, None when there is none."""
    try:
        return Received(data).read("POST")
    except (Closed, ValueError):
        return None


def seen(status, get, body):
    """An answer as the history has it; get(name) is a header."""
    return Answer(status, get("X-Request-Id"), body,
                  type=get("Content-Type"), location=get("Location"),
                  replayed=get("Idempotent-Replayed"),
                  original=get("Original-Request-Id"),
                  retry_after=get("Retry-After"))
