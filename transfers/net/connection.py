"""Frames on a stream, and the handshake that opens every connection.

A frame is a 4-byte big-endian length and that many bytes of msgpack; on data connections a block's
raw bytes follow the frame that announces it. A length is checked before anything is buffered. Small
reads go through a buffer of a few KiB, block bodies around it straight into the store.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

from transfers.codec import Codec
from transfers.errors import AuthenticationFailed, RemoteProtocolError, StreamBroken
from transfers.handshake import CODEC as HANDSHAKE
from transfers.handshake import NONCE_BYTES, ClientHandshake, HandshakeMessage, Refusal, ServerHandshake
from transfers.net.network import Stream
from transfers.planners.events import forward_bytes

MAX_HANDSHAKE_FRAME_BYTES = 512
"""Before the secret is proved nobody may make us buffer more than this."""
MAX_DATA_FRAME_BYTES = 1 << 20
"""Asks for a whole object: 9 bytes a block, over 100,000 blocks (a guess)."""
MAX_CONTROL_FRAME_BYTES = 16 << 20
"""Largest control message: a manifest of `MAX_BLOCKS` blocks takes 8 MiB."""
HANDSHAKE_TIMEOUT_S = 10.0
"""A busy host answers within 0.1 s; a guess far above it."""

MOST_WANTED_BYTES, MOST_WAIT_S = 1 << 17, 0.05
"""Of a block as much is waited for at a time, at the rate of late (the design measured 0.57 s of CPU a
process for 32 MB in and out at 50 Mbit/s with a waking for every packet, and 0.29 s with this)."""
FAST_WANTED_BYTES, FAST_WAIT_S = 1 << 20, 0.001
"""On fast links more is, but no longer: from 130 MB/s on what comes in a millisecond. Of 128, 256 and
1,024 KiB the last took least CPU on loopback, by a tenth; it fits in the processor's cache."""
_RATE_OVER_S = 0.01
"""The rate is that of the last such time spent receiving (a guess: what has piled up in a socket is gone in
much less, so that it does not count for a fast link)."""

_BUFFER_BYTES = 4096
"""Read ahead of what is asked for (a guess: a page of memory; block headers and usual asks fit many times,
and of a block no more than this is copied twice)."""
_LENGTH_BYTES = 4

MessageT = TypeVar("MessageT")


class Connection:
    """An authenticated stream of frames. Make one with `open_connection` or `accept_connection`.

    One task may send and one may receive; a send that is cancelled leaves half a frame behind, so the
    connection must be closed then.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self._measured_bytes, self._measured_s = 0, 0.0
        self._wanted_bytes = 1
        self._rate_bytes_per_s = 0.0

    @property
    def peer(self) -> str:
        """The other end's address."""
        return self.stream.peer

    async def send_frame(self, body: bytes) -> None:
        """Send one frame."""
        await self.stream.send_all(framed(body))

    async def send_frames(self, bodies: Iterable[bytes]) -> None:
        """Send several frames at once."""
        await self.stream.send_all(b"".join(map(framed, bodies)))

    async def receive_frame(self, limit_bytes: int) -> memoryview | None:
        """The next frame's body, or None where the stream ended between frames.

        The view is good until the next call.

        Raises:
            RemoteProtocolError: for a frame over ``limit_bytes``.
            StreamBroken: when the stream ended inside a frame.
        """
        if self._start == self._end and not await self._fill():
            return None
        length = int.from_bytes(await self._small(_LENGTH_BYTES), "big")
        if length > limit_bytes:
            raise RemoteProtocolError(f"frame of {length} bytes, limit {limit_bytes}")
        if length <= _BUFFER_BYTES:
            return await self._small(length)
        body = memoryview(bytearray(length))
        await self.receive_into(body)
        return body

    async def receive_exactly(self, count_bytes: int) -> memoryview:
        """So many bytes, no more than a few KiB; the view is good until the next call.

        Raises:
            StreamBroken: when the stream ends before that.
        """
        return await self._small(count_bytes)

    async def receive_into(
        self,
        target: memoryview,
        progress: Callable[[int], None] | None = None,
        forwarding: Callable[[], bool] | None = None,
    ) -> None:
        """Receive exactly ``len(target)`` raw bytes; ``progress`` hears of every part that arrives.

        While ``forwarding`` says so, it hears sooner: others wait for the bytes.

        Raises:
            StreamBroken: when the stream ends before that.
        """
        got = min(len(target), self._end - self._start)
        target[:got] = self._buffer[self._start : self._start + got]
        self._start += got
        if got and progress is not None:
            progress(got)
        last_s = trio.current_time()
        while got < len(target):
            wanted = max(1, min(len(target) - got, self._wanted_bytes))
            room = target[got:]
            if forwarding is not None and forwarding():
                room = room[: forward_bytes(len(target), self._rate_bytes_per_s)]
                wanted = min(wanted, len(room))
            more = await self.stream.receive_some_into(room, wanted)
            if not more:
                raise StreamBroken(f"connection to {self.peer} closed inside a block")
            got += more
            now_s = trio.current_time()
            self._measure(more, now_s - last_s)
            last_s = now_s
            if progress is not None:
                progress(more)

    async def aclose(self) -> None:
        """Close the stream."""
        await self.stream.aclose()

    def _measure(self, count_bytes: int, seconds: float) -> None:
        """So many bytes have come in so long a time: adjust how much to wait for."""
        self._measured_bytes += count_bytes
        self._measured_s += seconds
        if self._measured_s >= _RATE_OVER_S:
            rate = self._measured_bytes / self._measured_s
            slow = min(MOST_WANTED_BYTES, int(rate * MOST_WAIT_S))
            self._wanted_bytes = max(slow, min(FAST_WANTED_BYTES, int(rate * FAST_WAIT_S)))
            self._rate_bytes_per_s = rate
            self._measured_bytes, self._measured_s = 0, 0.0

    async def _small(self, count: int) -> memoryview:
        while self._end - self._start < count:
            if not await self._fill():
                raise StreamBroken(f"connection to {self.peer} closed inside a frame")
        self._start += count
        return self._buffer[self._start - count : self._start]

    async def _fill(self) -> bool:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            left = self._end - self._start
            self._buffer[:left] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, left
        got = await self.stream.receive_some_into(self._buffer[self._end :])
        self._end += got
        return got > 0


def framed(body: bytes) -> bytes:
    """A frame."""
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def open_connection(stream: Stream, secret: bytes) -> Connection:
    """Prove ourselves to the server at the other end of ``stream``; closes it where that fails.

    Raises:
        AuthenticationFailed: wrong secret or other protocol version.
        RemoteProtocolError: the other end speaks something else.
        StreamBroken: it closed, or did not answer within `HANDSHAKE_TIMEOUT_S`.
    """
    connection = Connection(stream)
    machine = ClientHandshake(secret, secrets.token_bytes(NONCE_BYTES))
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            await _send(connection, machine.open())
            while not machine.done:
                answer = machine.receive(await _receive(connection))
                if answer is not None:
                    await _send(connection, answer)
    except trio.TooSlowError:
        stream.abort()
        raise StreamBroken(f"no handshake from {stream.peer} within {HANDSHAKE_TIMEOUT_S:g} s") from None
    except BaseException:
        stream.abort()
        raise
    return connection


async def accept_connection(stream: Stream, secret: bytes) -> Connection:
    """Let the client at the other end of ``stream`` prove itself; closes it where that fails.

    Raises: as `open_connection`.
    """
    connection = Connection(stream)
    machine = ServerHandshake(secret, secrets.token_bytes(NONCE_BYTES))
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            while not machine.done:
                answer = machine.receive(await _receive(connection))
                await _send(connection, answer)
                if isinstance(answer, Refusal):
                    raise AuthenticationFailed(answer.reason)
    except trio.TooSlowError:
        stream.abort()
        raise StreamBroken(f"no handshake from {stream.peer} within {HANDSHAKE_TIMEOUT_S:g} s") from None
    except BaseException:
        stream.abort()
        raise
    return connection


async def _send(connection: Connection, message: HandshakeMessage) -> None:
    await connection.send_frame(HANDSHAKE.encode(message))


async def _receive(connection: Connection) -> HandshakeMessage:
    return await receive_message(connection, HANDSHAKE, MAX_HANDSHAKE_FRAME_BYTES)


async def receive_message(connection: Connection, codec: Codec[MessageT], limit_bytes: int) -> MessageT:
    """The next message; the end of the stream is `StreamBroken`."""
    body = await connection.receive_frame(limit_bytes)
    if body is None:
        raise StreamBroken(f"connection to {connection.peer} closed")
    return codec.decode(body)
