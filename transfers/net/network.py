"""The small interface between the engine and whatever carries its bytes.

Everything above it, controller and nodes included, runs unmodified on any carrier that implements
these three protocols: TCP (`transfers.net.tcp`), or a modelled network under a virtual clock. Errors are
mapped here once: an implementation raises `ConnectFailed` and `StreamBroken`, never an ``OSError``.
"""

from collections.abc import Callable
from typing import Protocol

LEAST_PACING_BYTES_PER_S = 512e3
"""No stream is paced below this. A packet of 64 KiB that leaves at less holds its socket for longer than 0.13
s, also when the rate is raised meanwhile (Linux keeps the time of the next packet, not the rate): with 64e3,
flows that were let go after a pause came to their rates only after half a second and more."""


class Stream(Protocol):
    """A reliable, ordered, two-way stream of bytes with backpressure."""

    @property
    def peer(self) -> str:
        """The other end's address, for messages to people."""
        ...

    async def send_all(
        self,
        data: bytes | memoryview,
        progress: Callable[[int], None] | None = None,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        """Send ``head``, all of ``data`` and ``tail``, as few packets as that takes.

        ``progress`` hears of every part of the data that has been taken off our hands.

        Raises:
            StreamBroken: when the other end is gone.
        """
        ...

    async def receive_some_into(self, buffer: memoryview, wanted_bytes: int = 1) -> int:
        """Receive at least one byte into ``buffer``; the number received, 0 at the end of the stream.

        It is best to wait until ``wanted_bytes`` are there, no more than the buffer takes: each waking costs.

        Raises:
            StreamBroken: when the connection was torn.
        """
        ...

    def busy_s(self) -> float | None:
        """For how many seconds, in all, bytes sent were under way; None where that cannot be told."""
        ...

    def set_pacing_rate(self, rate_bytes_per_s: float | None) -> None:
        """Send no faster than this from now on; None lifts the limit.

        Less than `LEAST_PACING_BYTES_PER_S` counts as that much: who is to send less, or nothing, does so.
        """
        ...

    def set_unsent_limit(self, count_bytes: int | None) -> None:
        """Take no more off our hands than so much beyond what can leave at once; None lifts the limit."""
        ...

    def prefer_low_delay(self) -> None:
        """This stream carries control messages: small, urgent, ahead of bulk data."""
        ...

    async def aclose(self) -> None:
        """Close both directions at once."""
        ...

    def abort(self) -> None:
        """Close at once, without waiting for anything."""
        ...


class Listener(Protocol):
    """Where a node or the controller takes in connections."""

    @property
    def address(self) -> str:
        """The bound address, ``HOST:PORT``."""
        ...

    async def accept(self) -> Stream:
        """Wait for the next connection."""
        ...

    async def aclose(self) -> None:
        """Stop listening."""
        ...


class Network(Protocol):
    """One host's way into the network."""

    async def paces(self) -> bool:
        """Whether `Stream.set_pacing_rate` has an effect, as far as that can be tried."""
        ...

    async def connect(self, address: str, timeout_s: float) -> Stream:
        """Connect to ``HOST:PORT``.

        Raises:
            ConnectFailed: naming the address and the reason.
        """
        ...

    async def listen(self, address: str) -> Listener:
        """Listen on ``HOST:PORT``; port 0 takes a free one.

        Raises:
            ConnectFailed: when the address cannot be had, for example because the port is in use.
        """
        ...
