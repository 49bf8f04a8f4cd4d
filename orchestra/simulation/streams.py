"""Streams of a simulated network: what `transfers.net.network.Stream` promises.

Owns the bytes under way in each direction of each stream. Rates are the fluid's; who may talk to whom, delays
and faults are the world's (`orchestra.simulation.world`).

Theory of operation. A direction counts bytes: written by the sender, on their way in the fluid, arrived,
read. A write of a few bytes into an idle direction is a *message*: it takes a delay and no capacity. Anything
else is *bulk*: it becomes, or extends, a flow of the fluid, which may run ahead of the reader by
`WINDOW_BYTES` (backpressure) and behind the writer by `SEND_BUFFER_BYTES`, as in the kernel. Bytes never
overtake each other. A reader of bulk is woken when all it has room for is there, when the flow can go no
farther (unless it is known that more comes), or after `POLL_S`, so that time without bytes can be told from
time with some: to wake it for every packet would change nothing but the cost of simulating.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import trio

from transfers.errors import StreamBroken
from transfers.net.network import LEAST_PACING_BYTES_PER_S

if TYPE_CHECKING:
    from orchestra.simulation.world import World

MESSAGE_BYTES = 4096
"""Largest write that counts as a message: asks and block headers are smaller, blocks larger (a guess)."""
SEND_BUFFER_BYTES = 1 << 18
"""Written and not yet on its way before a writer waits (a guess: what Linux grows a sender's buffer to where
round trips are short; its limit is 4 MiB)."""
WINDOW_BYTES = 6 << 20
"""Arrived and not read before the sender must wait: Linux's limit on a receiver's buffer (tcp_rmem)."""
POLL_S = 0.25
"""Longest time that a reader or writer is left in the dark about progress (a guess: an eighth of the time
after which a block counts as stalled)."""

_ROUNDING = 0.01
"""A flow is at a whole byte when it is this near: more than rounding, far less than a byte."""


class Way:
    """One direction of a stream. All counts are bytes since it was opened."""

    def __init__(self, world: "World", sender: int, receiver: int) -> None:
        self.world = world
        self.sender = sender
        self.receiver = receiver
        self.urgent = False
        self.back: Way | None = None  # the other direction of its stream
        self.cap_bytes_per_s = float("inf")
        self.unsent_limit = SEND_BUFFER_BYTES
        self.written = 0
        self.arrived = 0
        self.read = 0
        self.last_arrival_s = 0.0
        self.flow: int | None = None
        self.ended = False
        self.torn: str | None = None  # for the writer
        self.cut_off: str | None = None  # for the reader
        self._flow_base = 0
        self._under_way = 0
        self._segments: deque[memoryview] = deque()
        self._wanted = 0
        self._patient = False
        self._reader: trio.Event | None = None
        self._writer: trio.Event | None = None
        self._writer_at = 0
        self._broken_off = False
        self._waiting_since_s = 0.0
        self._busy_s = 0.0
        self._flows_since_s = 0.0

    # -- the sender's side -------------------------------------------------------------------------

    async def write(
        self,
        data: bytes | memoryview,
        progress: Callable[[int], None] | None,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        """Write ``head``, all of ``data`` and ``tail``; wait until most of it is on its way.

        What has a head or a tail is no message, however short: it is part of something longer.
        """
        pieces = [memoryview(piece).cast("B") for piece in (head, data, tail) if len(piece)]
        self._check_writable()
        await trio.lowlevel.checkpoint_if_cancelled()  # here alone: what has been taken has been sent
        if not pieces:
            await trio.lowlevel.checkpoint()
            return
        if self._broken_off:
            self.world.complain(f"host {self.sender} writes on after a write that was cancelled half-way")
        self.world.catch_up()
        for piece in pieces:
            self._segments.append(piece if self.world.keeps_references else memoryview(bytes(piece)))
        told = self.written + len(head)
        ends_at = told + len(data)
        idle = self.flow is None and self._under_way == self.written
        self.written = ends_at + len(tail)
        if idle and not head and not tail and (self.urgent or len(data) <= MESSAGE_BYTES):
            self._under_way = self.written
            self.world.deliver(self, self.written, self.world.message_delay_s(self, len(data)), message=True)
        else:
            self._flow_on()
        while self.written - self._gone() > self.unsent_limit:
            self._writer, self._writer_at = trio.Event(), self.written - self.unsent_limit
            self._set_mark()
            self._waiting_since_s = trio.current_time()
            self._broken_off = True
            await self._writer.wait()
            self._broken_off = False
            self._writer = None
            self._check_writable()
            self.world.catch_up()
            gone = min(self._gone(), ends_at)
            if progress is not None and gone > told:
                progress(gone - told)
                told = gone
        if progress is not None and told < ends_at:
            progress(ends_at - told)

    def set_cap(self, rate_bytes_per_s: float | None) -> None:
        """Pace what is sent from now on."""
        self.cap_bytes_per_s = (
            float("inf") if rate_bytes_per_s is None else max(rate_bytes_per_s, LEAST_PACING_BYTES_PER_S)
        )
        if self.flow is not None:
            self.world.catch_up()
            if self.flow is not None:
                self.world.fluid.set_cap(self.flow, self.cap_bytes_per_s)
                self.world.poke()

    @property
    def busy_s(self) -> float:
        """For how long in all it has had a flow."""
        return self._busy_s if self.flow is None else self._busy_s + self.world.now_s - self._flows_since_s

    def _check_writable(self) -> None:
        if self.torn is not None:
            raise StreamBroken(self.torn)

    def _gone(self) -> int:
        """Bytes that have left the sender's buffer."""
        if self.flow is None:
            return self._under_way
        return self._flow_base + int(self.world.fluid.moved(self.flow) + _ROUNDING)

    # -- the receiver's side -----------------------------------------------------------------------

    async def read_into(self, buffer: memoryview, wanted_bytes: int) -> int:
        """Read at least one byte; 0 at the end. Who wants more than one waits for all that there is room for,
        or, where the sender is paced, for what is wanted."""
        target = buffer.cast("B") if buffer.format != "B" or buffer.ndim != 1 else buffer
        await trio.lowlevel.checkpoint_if_cancelled()  # here alone: what has been taken must be handed over
        while self.arrived == self.read:
            if self.cut_off is not None:
                raise StreamBroken(self.cut_off)
            if self.ended:
                return 0
            paced = self.cap_bytes_per_s < float("inf")
            self._wanted = self.read + (min(len(target), wanted_bytes) if paced else len(target))
            self._reader, self._patient = trio.Event(), wanted_bytes > 1
            if self.flow is not None:
                self.world.catch_up()
                self._set_mark()
                self._deliver_wanted()
            self._waiting_since_s = trio.current_time()
            await self._reader.wait()
            self._reader = None
        count = min(len(target), self.arrived - self.read)
        self._take(target[:count])
        self.read += count
        self.world.count_read(self, count)
        if self.flow is None and self._under_way < self.written:
            self.world.catch_up()
            self._flow_on()
        elif self.flow is not None:
            self._extend()
        return count

    def _deliver_wanted(self) -> None:
        """All that the reader wants may have left since bytes were delivered last: no mark is ahead of it."""
        if self.flow is not None and (gone := self._gone()) >= self._wanted:
            self.world.deliver(self, gone, self.world.fabric.latency_s, message=False)

    def _take(self, target: memoryview) -> None:
        at = 0
        while at < len(target):
            segment = self._segments[0]
            part = min(len(segment), len(target) - at)
            self.world.copy(self, segment[:part], target[at : at + part])
            at += part
            if part == len(segment):
                self._segments.popleft()
            else:
                self._segments[0] = segment[part:]

    # -- between ---------------------------------------------------------------------------------

    def reached(self) -> None:
        """Its flow is at its mark, or at its goal."""
        assert self.flow is not None
        gone = self._gone()
        self.world.deliver(self, gone, self.world.fabric.latency_s, message=False)
        stops = gone >= self._goal()
        if self._writer is not None and (stops or gone >= self._writer_at):
            self._writer.set()
        if stops:
            self._under_way = gone
            self._stop()
        else:
            self._set_mark()

    def poll(self) -> None:
        """Time has passed: whoever has waited for long hears how far its flow has come."""
        if self.world.now_s - self._waiting_since_s < POLL_S:
            return
        self._waiting_since_s = self.world.now_s
        gone = self._gone()
        if self._reader is not None and gone > self.read and self.last_arrival_s <= self.world.now_s:
            self._arrive(gone)
            self._reader.set()
        if self._writer is not None:
            self._writer.set()

    def arrive(self, count: int, message: bool) -> None:
        """Bytes up to ``count`` have come to the receiver."""
        self._arrive(count)
        if self._reader is not None and (
            message
            or self.arrived >= self._wanted
            or (not self._patient and self.arrived in (self.written, self._under_way))
        ):
            self._reader.set()

    def end(self) -> None:
        """The receiver hears that nothing more will come."""
        self.ended = True
        if self._reader is not None:
            self._reader.set()

    def cut(self, reason: str) -> None:
        """The receiver itself reads no more."""
        if self.cut_off is None:
            self.cut_off = reason
        if self._reader is not None:
            self._reader.set()

    def tear(self, reason: str) -> None:
        """Nothing can be written any more, and what has not left is lost."""
        if self.torn is None:
            self.torn = reason
        if self.flow is not None:
            self.world.catch_up()
        if self.flow is not None:
            self._stop()
        if self._writer is not None:
            self._writer.set()

    def _arrive(self, count: int) -> None:
        self.arrived = max(self.arrived, count)

    def _goal(self) -> int:
        return min(self.written, self.read + WINDOW_BYTES)

    def _flow_on(self) -> None:
        """Let bulk flow as far as writer and reader allow."""
        if self.flow is not None:
            self._extend()
            return
        self._flow_base = self._under_way
        goal = self._goal() - self._flow_base
        if goal > 0:
            self.flow = self.world.start_flow(self, goal)
            self._flows_since_s = self.world.now_s
            self._set_mark()

    def _stop(self) -> None:
        assert self.flow is not None
        self.world.stop_flow(self.flow)
        self.flow = None
        self._busy_s += self.world.now_s - self._flows_since_s

    def _extend(self) -> None:
        assert self.flow is not None
        self.world.fluid.extend(self.flow, self._goal() - self._flow_base)
        self._set_mark()

    def _set_mark(self) -> None:
        """The flow's next event is the nearest thing that anyone waits for."""
        if self.flow is None:
            return
        gone = self._gone()
        marks = [self._goal()]
        if self._reader is not None and self._wanted > gone:
            marks.append(self._wanted)
        if self._writer is not None and self._writer_at > gone:
            marks.append(self._writer_at)
        self.world.fluid.watch(self.flow, min(marks) - self._flow_base)
        self.world.poke()


class SimulatedStream:
    """One end of a stream; see `transfers.net.network.Stream`."""

    def __init__(self, world: "World", out: Way, back: Way, peer: str) -> None:
        self.peer = peer
        self._world = world
        self._out = out
        self._back = back
        self.on_close: Callable[[], object] = lambda: None
        self._closed = False

    async def send_all(
        self,
        data: bytes | memoryview,
        progress: Callable[[int], None] | None = None,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        """Send everything; `StreamBroken` when the other end is gone."""
        self._check_open()
        for piece in (head, data, tail):
            if len(piece):
                self._world.wiretap(self._out, piece)
        await self._out.write(data, progress, head, tail)

    async def receive_some_into(self, buffer: memoryview, wanted_bytes: int = 1) -> int:
        """Receive at least one byte; 0 at the end of the stream."""
        self._check_open()
        return await self._back.read_into(buffer, wanted_bytes)

    def busy_s(self) -> float | None:
        """For how long bulk was on its way."""
        return self._out.busy_s

    def set_pacing_rate(self, rate_bytes_per_s: float | None) -> None:
        """Cap its flow."""
        self._out.set_cap(rate_bytes_per_s)

    def set_unsent_limit(self, count_bytes: int | None) -> None:
        """Let a writer wait until no more than this is still to leave."""
        self._out.unsent_limit = SEND_BUFFER_BYTES if count_bytes is None else count_bytes

    def prefer_low_delay(self) -> None:
        """Everything sent from now on is a control message, however long."""
        self._out.urgent = True

    async def aclose(self) -> None:
        """Close both directions at once."""
        self.abort()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close at once; what has been written and not yet arrived is lost, as after a reset."""
        if self._closed:
            return
        self._closed = True
        self.on_close()
        self._world.close_stream(self._out, self._back)

    def _check_open(self) -> None:
        if self._closed:
            raise StreamBroken(f"connection to {self.peer}: closed on this side")


def same_memory(one: memoryview, other: memoryview) -> bool:
    """Whether two buffers are the same bytes in memory."""
    return bool(
        np.frombuffer(one, np.uint8).__array_interface__["data"][0]
        == np.frombuffer(other, np.uint8).__array_interface__["data"][0]
    )
