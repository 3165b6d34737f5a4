"""Requests over HTTP/2 with prior knowledge, whose client may reset one of
them and go on with others on the same connection."""

import asyncio
import time

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from .http1 import PATIENCE, seen

FRAME_HEAD = 9
GOAWAY = 7


class Stream:
    """A request under way; done when it is over, without an answer lost says
    why."""

    def __init__(self):
        self.headers = None
        self.body = bytearray()
        self.lost = None
        self.done = asyncio.get_running_loop().create_future()

    def end(self, lost=None):
        if not self.done.done():
            self.lost = lost
            self.done.set_result(None)

    @property
    def answer(self):
        if self.lost or not self.headers:
            return None
        return seen(int(self.headers[":status"]),
                    lambda name: self.headers.get(name.lower()),
                    bytes(self.body))


class Http2:
    """A connection; opened: since when.  left_off: the last stream that the
    peer will answer, once it has said that it goes."""

    def __init__(self, reader, writer, opened):
        self.reader = reader
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=True,
                                               header_encoding="ascii"))
        self.streams = {}
        self.opened = opened
        self.left_off = None
        self.over = False
        self.moved = asyncio.Event()
        self.heard = asyncio.Event()
        self.h2.initiate_connection()
        self.flush()
        self.task = asyncio.create_task(self.read())

    @classmethod
    async def open(cls, port):
        began = time.monotonic()
        return cls(*await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", port), PATIENCE), began)

    async def close(self):
        self.writer.transport.abort()
        await self.task

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    # What comes.

    async def read(self):
        data, reason = b"", "closed"

        try:
            while piece := await self.reader.read(65536):
                data += piece
                while len(data) >= FRAME_HEAD:
                    size = FRAME_HEAD + int.from_bytes(data[:3], "big")
                    if len(data) < size:
                        break
                    self.take(data[:size])
                    data = data[size:]
                self.flush()
                self.moved.set()
        except OSError as error:
            reason = type(error).__name__
        finally:
            self.over = True
            for stream in self.streams.values():
                stream.end("cut" if stream.headers else reason)
            self.moved.set()
            self.heard.set()

    def take(self, frame):
        """h2 would take nothing more behind a GOAWAY, but answers may come."""
        if frame[3] == GOAWAY:
            self.left_off = int.from_bytes(frame[9:13], "big")
            for number, stream in self.streams.items():
                if number > self.left_off:
                    stream.end("unprocessed")
            return

        for event in self.h2.receive_data(frame):
            self.happened(event)

    def happened(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))

        if isinstance(event, events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length,
                                              event.stream_id)
        if isinstance(event, events.PingAckReceived):
            self.heard.set()
        if stream is None:
            return

        if isinstance(event, events.ResponseReceived):
            stream.headers = dict(event.headers)
        elif isinstance(event, events.DataReceived):
            stream.body += event.data
        elif isinstance(event, events.StreamEnded):
            stream.end()
        elif isinstance(event, events.StreamReset):
            stream.end("cut" if stream.headers else "reset")

    # What goes.

    async def ask(self, payload, fields, whole=True, leaves=None):
        """One request: (answer, why there is none).  Not whole: half of its
        body is sent.  leaves: it is reset after so many seconds."""
        if self.over or self.left_off is not None:
            return None, "unprocessed"

        number = self.h2.get_next_available_stream_id()
        stream = self.streams[number] = Stream()
        self.h2.send_headers(number, [
            (":method", payload.method), (":scheme", "http"),
            (":path", payload.target), (":authority", "localhost"),
            *((name.lower(), value) for name, value in fields.items())],
            end_stream=not payload.body)
        self.flush()

        try:
            await asyncio.wait_for(
                self.finish(number, stream, payload.body, whole),
                PATIENCE if leaves is None else leaves)
        except asyncio.TimeoutError:
            if not stream.done.done():
                stream.end("timeout" if leaves is None else "left")
                await self.reset(number)

        return stream.answer, stream.lost

    async def finish(self, number, stream, body, whole):
        sent, end = 0, len(body) if whole else len(body) // 2

        while sent < end and not stream.done.done():
            room = min(self.h2.local_flow_control_window(number),
                       self.h2.max_outbound_frame_size)
            if room <= 0:
                self.moved.clear()
                await self.moved.wait()
                continue
            piece = body[sent:min(sent + room, end)]
            sent += len(piece)
            self.h2.send_data(number, piece, end_stream=sent == len(body))
            self.flush()

        await asyncio.shield(stream.done)

    async def reset(self, number):
        """RST_STREAM, and the peer has read it when this returns."""
        self.h2.reset_stream(number, ErrorCodes.CANCEL)
        self.h2.ping(b"received")
        self.heard.clear()
        self.flush()

        if not self.over:
            await asyncio.wait_for(self.heard.wait(), PATIENCE)
