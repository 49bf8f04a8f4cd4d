"""The simulated network: hosts, processes on them, their streams, and what goes wrong.

Implements `transfers.net.network.Network` for every process of the modelled cluster, under trio's virtual
clock, so that controller and nodes run on it as they do on TCP. Owns time until the next event, delays and
faults; must not know what is sent.

Theory of operation. One task sleeps until the next event: a mark of the fluid (`orchestra.simulation.fluid`)
or a delivery. Everyone else catches up with the fluid first, changes it, and pokes that task. A message takes
the latency; on a control stream, or from a host that is busy sending, a control delay besides, drawn anew for
each: it is what queues and schedulers of busy hosts cost (measured at 50 Mbit/s: round trips of 20 to 100
ms). What cannot pass because a way is cut or a host is clogged is held back, and goes on when that is mended,
as TCP sends again. All choices come from one seeded generator, and every arrival goes into a digest.
"""

import hashlib
import heapq
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from random import Random

import numpy as np
import trio

from orchestra.simulation.fabric import Fabric
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.streams import POLL_S, SimulatedStream, Way, same_memory
from transfers.errors import ConnectFailed, StreamBroken
from transfers.net.address import format_address, parse_address

CONTROL_DELAY_S = 0.02
"""Mean delay of a control message (design: what plans must tolerate, never 0)."""
CONTROL_JITTER = 0.5
"""Delays are spread evenly over this share of the mean to both sides (a guess)."""
RESOLUTION_S = 0.0005
"""Events happen on a grid of this, unless asked otherwise (a guess: a few round trips of an idle network, a
hundredth of the time that a block of 4 MiB takes at 0.75 Gbit/s)."""
BACKLOG = 1024
"""Connections waiting to be accepted, as TCP has it."""
_RETRY_S = 0.05
"""How often a connection is tried while nothing passes (a guess: TCP begins with 1 s)."""
_GRID_SLACK = 1e-6
"""Of a step of the grid: a moment that is on it but for rounding is on it."""
_FIRST_PORT, _PORTS = 32_768, 28_232
"""What Linux draws from when nobody asks for a port."""


@dataclass(frozen=True, slots=True)
class Delays:
    """How late messages are.

    Attributes:
        control_s: mean delay of a control message beside the latency.
        jitter: delays are spread evenly over ``control_s`` times one less to one more than this.
    """

    control_s: float = CONTROL_DELAY_S
    jitter: float = CONTROL_JITTER

    def __post_init__(self) -> None:
        if not (math.isfinite(self.control_s) and self.control_s >= 0):
            raise ValueError(f"control_s must be finite and not negative, got {self.control_s}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, got {self.jitter}")


class World:
    """A simulated network. Run `run` in a nursery for as long as it is used.

    Args:
        fabric: hosts and links.
        rng: of all that is drawn here.
        delays: of messages.
        resolution_s: what happens, happens at multiples of this, and rates are computed no more often;
            0 is exact, and takes longer.
        keeps_references: whether streams carry references to the sender's memory, not copies. For runs in
            which stores share their pages (`orchestra.simulation.pages`): a receiver's memory is then the
            sender's, and what arrives at another place than it left from is compared.

    Attributes:
        complaints: what was seen that must not be.
        watchers: called after every computation of rates, and with every write: see `Watcher`.
    """

    def __init__(
        self,
        fabric: Fabric,
        rng: Random,
        *,
        delays: Delays | None = None,
        resolution_s: float = RESOLUTION_S,
        keeps_references: bool = False,
    ) -> None:
        self.fabric = fabric
        self.fluid = Fluid(fabric, resolution_s)
        self.rng = rng
        self.delays = Delays() if delays is None else delays
        self.keeps_references = keeps_references
        self.complaints: list[str] = []
        self.on_write: Callable[[Way, bytes | memoryview], None] | None = None
        self.on_read: Callable[[Way, int], None] | None = None
        self.on_settled: Callable[[Fluid], None] | None = None
        self.corrupting: dict[tuple[int, int], int] = {}
        self.corrupted = False
        self.bytes_sent = [0] * fabric.hosts
        self._digest = hashlib.blake2b(digest_size=16)
        self._heap: list[tuple[float, int, Callable[[], None] | tuple[Way, int, bool]]] = []
        self._numbers = 0
        self._held: dict[tuple[int, int], list[tuple[Way, int, bool] | Callable[[], None]]] = {}
        self._flows: dict[int, Way] = {}
        self._sending = [0] * fabric.hosts
        self._listeners: dict[str, SimulatedListener] = {}
        self._ports: dict[int, int] = {}
        self._wake = trio.Event()
        self._planned_s = math.inf
        self._poll_at_s = 0.0
        self._settled = 0
        self.resolution_s = resolution_s
        self.now_s = 0.0

    def process(self, host: int) -> "SimulatedProcess":
        """A process on a host: its own way into the network."""
        return SimulatedProcess(self, host)

    @property
    def trace_digest(self) -> str:
        """Of every arrival so far: when, from whom, to whom, how much."""
        return self._digest.hexdigest()

    def note(self, *what: object) -> None:
        """Add something to the digest."""
        self._digest.update(repr(what).encode())

    def complain(self, what: str) -> None:
        """Something is as it must not be."""
        self.complaints.append(f"at {trio.current_time():.6f} s: {what}")

    # -- time ------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make things happen when they are due, until cancelled."""
        self.fluid.now_s = trio.current_time()
        task_status.started()
        while True:
            self.catch_up()
            self._wake = trio.Event()
            self._planned_s = self._on_grid(self._due_s())
            if self._planned_s <= self.now_s:
                await trio.lowlevel.checkpoint()
                continue
            with trio.move_on_at(self._planned_s):
                await self._wake.wait()

    def catch_up(self) -> None:
        """Let everything happen that is due by now."""
        now_s = self.now_s = trio.current_time()
        if now_s > self.fluid.now_s or self.fluid.next_event_s() <= now_s:
            for flow in self.fluid.advance(now_s):
                self._flows[flow].reached()
            if self.fluid.settlings != self._settled:
                self._settled = self.fluid.settlings
                if self.on_settled is not None:
                    self.on_settled(self.fluid)
        while self._heap and self._heap[0][0] <= now_s:
            self._happen(heapq.heappop(self._heap)[2])
        if now_s >= self._poll_at_s:
            self._poll_at_s = now_s + POLL_S / 2
            for way in list(self._flows.values()):
                way.poll()

    def poke(self) -> None:
        """Something may be due earlier than it was."""
        if not self._wake.is_set() and self._on_grid(self._due_s()) < self._planned_s:
            self._wake.set()

    def _on_grid(self, due_s: float) -> float:
        """The next moment at which things happen."""
        if self.resolution_s and due_s < math.inf:
            return max(due_s, math.ceil(due_s / self.resolution_s - _GRID_SLACK) * self.resolution_s)
        return due_s

    def _due_s(self) -> float:
        due_s = self.fluid.next_event_s()
        if self._flows:
            due_s = min(due_s, self._poll_at_s)
        return min(due_s, self._heap[0][0]) if self._heap else due_s

    def at(self, when_s: float, what: Callable[[], None] | tuple[Way, int, bool]) -> None:
        """Have something happen at a time."""
        self._numbers += 1
        heapq.heappush(self._heap, (when_s, self._numbers, what))
        if not self._wake.is_set() and self._on_grid(when_s) < self._planned_s:
            self._wake.set()

    def _happen(self, what: Callable[[], None] | tuple[Way, int, bool]) -> None:
        if not isinstance(what, tuple):
            what()
            return
        way, count, message = what
        if not self.fabric.passes(way.sender, way.receiver):
            self._held.setdefault((way.sender, way.receiver), []).append(what)
            return
        self._digest.update(
            struct.pack("<dIIQ?", trio.current_time(), way.sender, way.receiver, count, message)
        )
        way.arrive(count, message)

    # -- for streams -----------------------------------------------------------------------------

    def start_flow(self, way: Way, goal_bytes: int) -> int:
        """Bulk begins to flow."""
        flow = self.fluid.start(way.sender, way.receiver, goal_bytes, way.cap_bytes_per_s)
        self._flows[flow] = way
        self._sending[way.sender] += 1
        self.poke()
        return flow

    def stop_flow(self, flow: int) -> None:
        """Bulk flows no longer."""
        way = self._flows.pop(flow)
        self._sending[way.sender] -= 1
        self.bytes_sent[way.sender] += int(self.fluid.moved(flow))
        self.fluid.stop(flow)
        self.poke()

    def message_delay_s(self, way: Way, size_bytes: int) -> float:
        """From writing a message to its arrival."""
        delay_s = self.fabric.latency_s
        if way.urgent or self._sending[way.sender]:
            delays = self.delays
            delay_s += delays.control_s * (1 + delays.jitter * (2 * self.rng.random() - 1))
        if way.sender != way.receiver:
            egress = self.fabric.egress(way.sender)
            delay_s += size_bytes / egress if egress > 0 else 0.0
        return delay_s

    def deliver(self, way: Way, count: int, delay_s: float, message: bool) -> None:
        """Bytes up to ``count`` arrive after a delay, and not before what went ahead of them."""
        way.last_arrival_s = max(trio.current_time() + delay_s, way.last_arrival_s)
        self.at(way.last_arrival_s, (way, count, message))

    def copy(self, way: Way, data: memoryview, target: memoryview) -> None:
        """Hand bytes over to the receiver; a fault may change one of them."""
        if self.keeps_references:
            if same_memory(data, target):
                return
            if isinstance(target.obj, mmap):  # of a store, not a buffer of the engine's own
                self.complain(
                    f"bytes for host {way.receiver} from host {way.sender} arrived at a wrong place"
                )
                return
        target[:] = data
        pair = (way.sender, way.receiver)
        if pair in self.corrupting and len(target) >= _OWN_BUFFER_BYTES // 4 and not way.urgent:
            self.corrupting[pair] -= 1
            if not self.corrupting[pair]:
                del self.corrupting[pair]
                target[len(target) // 2] ^= 0xFF
                self.corrupted = True
                self.note("corrupted", *pair)

    def wiretap(self, way: Way, data: bytes | memoryview) -> None:
        """Let whoever watches see what is written."""
        if self.on_write is not None:
            self.on_write(way, data)

    def count_read(self, way: Way, count: int) -> None:
        """Let whoever watches see how much is read."""
        if self.on_read is not None:
            self.on_read(way, count)

    def close_stream(self, out: Way, back: Way) -> None:
        """One end has closed: it reads and writes no more, the other hears of it."""
        out.tear("closed on this side")
        back.cut("closed on this side")
        reset = "connection reset by peer"

        def hear() -> None:
            out.end()
            back.tear(reset)

        self._tell(out, hear)

    def _tell(self, way: Way, what: Callable[[], None]) -> None:
        """Have the receiving end of a way hear of something after all that was sent before."""

        def arrive() -> None:
            if self.fabric.passes(way.sender, way.receiver):
                what()
            else:
                self._held.setdefault((way.sender, way.receiver), []).append(arrive)

        way.last_arrival_s = max(trio.current_time() + self.fabric.latency_s, way.last_arrival_s)
        self.at(way.last_arrival_s, arrive)

    # -- listeners -------------------------------------------------------------------------------

    def listen(self, host: int, address: str) -> "SimulatedListener":
        """Take a port of a host."""
        try:
            name, port = parse_address(address)
        except ValueError as bad:
            raise ConnectFailed(f"cannot listen on {address}: {bad}") from bad
        if name != host_name(host):
            raise ConnectFailed(f"cannot listen on {address}: not an address of {host_name(host)}")
        if not port:
            port = self._port(host)
        bound = format_address(name, port)
        if bound in self._listeners:
            raise ConnectFailed(f"cannot listen on {address}: address already in use")
        listener = self._listeners[bound] = SimulatedListener(self, host, bound)
        return listener

    def _port(self, host: int) -> int:
        """A port of a host that has not been used for long."""
        self._ports[host] = (self._ports.get(host, -1) + 1) % _PORTS
        return _FIRST_PORT + self._ports[host]

    def forget_listener(self, address: str) -> None:
        """A port is free again."""
        self._listeners.pop(address, None)

    async def connect(self, process: "SimulatedProcess", address: str, timeout_s: float) -> SimulatedStream:
        """A stream from a process to an address."""
        with trio.move_on_after(timeout_s):
            try:
                there = host_number(address)
            except ValueError as bad:  # another node gave an address that is none
                raise ConnectFailed(f"cannot connect to {address}: {bad}") from bad
            if there is None or there >= self.fabric.hosts:
                raise ConnectFailed(f"cannot connect to {address}: no such host")
            here = process.host
            while not (self.fabric.passes(here, there) and self.fabric.passes(there, here)):
                await trio.sleep(_RETRY_S)
            await trio.sleep(2 * self.fabric.latency_s)
            listener = self._listeners.get(address)
            if listener is None or len(listener.waiting) >= BACKLOG:
                raise ConnectFailed(f"cannot connect to {address}: connection refused")
            out, back = Way(self, here, there), Way(self, there, here)
            out.back, back.back = back, out
            stream = SimulatedStream(self, out, back, address)
            other = SimulatedStream(self, back, out, format_address(host_name(here), self._port(here)))
            process.own(stream)
            listener.take_in(other)
            return stream
        raise ConnectFailed(f"cannot connect to {address}: no answer within {timeout_s:g} s")

    # -- faults ----------------------------------------------------------------------------------

    def change(self, what: str, *hosts: int, share: float = 1.0) -> None:
        """Something goes wrong with the fabric, or is mended: a method's name of `Fabric`, and its hosts."""
        self.catch_up()
        self.note(what, hosts, share)
        match what:
            case "slow":
                self.fabric.slow(hosts[0], share)
            case "cut":
                self.fabric.cut(*hosts)
            case "mend":
                self.fabric.mend(*hosts)
            case "clog":
                self.fabric.clog(hosts[0])
            case "unclog":
                self.fabric.unclog(hosts[0])
            case _:
                raise ValueError(f"what={what!r} is no fault")
        self.fluid.unsettle()
        self.poke()
        for pair in [pair for pair in self._held if self.fabric.passes(*pair)]:
            for held in self._held.pop(pair):
                self._happen(held)


_OWN_BUFFER_BYTES = 4096
"""Reads of no more than this go to buffers of the reader's own, never to pages that stores share."""


class SimulatedListener:
    """See `transfers.net.network.Listener`."""

    def __init__(self, world: World, host: int, address: str) -> None:
        self.address = address
        self.waiting: list[SimulatedStream] = []
        self.process: SimulatedProcess | None = None
        self._world = world
        self._arrival = trio.Event()
        self._closed = False

    def take_in(self, stream: SimulatedStream) -> None:
        """A connection has come."""
        self.waiting.append(stream)
        if self.process is not None:
            self.process.own(stream)
        self._arrival.set()

    async def accept(self) -> SimulatedStream:
        """Wait for the next connection."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not (self.waiting or self._closed):
            self._arrival = trio.Event()
            await self._arrival.wait()
        if self._closed:
            raise StreamBroken(f"listening on {self.address}: closed on this side")
        return self.waiting.pop(0)

    async def aclose(self) -> None:
        """Stop listening; connections that nobody has accepted are reset."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Stop listening at once."""
        if not self._closed:
            self._closed = True
            self._world.forget_listener(self.address)
            while self.waiting:
                self.waiting.pop().abort()
            self._arrival.set()


class SimulatedProcess:
    """One process's way into the network; see `transfers.net.network.Network`."""

    def __init__(self, world: World, host: int) -> None:
        self.host = host
        self.streams: dict[SimulatedStream, None] = {}
        self._listeners: list[SimulatedListener] = []
        self._world = world
        self._dead = False

    async def connect(self, address: str, timeout_s: float) -> SimulatedStream:
        """Connect within ``timeout_s``, else `ConnectFailed`."""
        if self._dead:
            raise ConnectFailed(f"cannot connect to {address}: killed")
        return await self._world.connect(self, address, timeout_s)

    async def listen(self, address: str) -> SimulatedListener:
        """Listen, or `ConnectFailed`."""
        listener = self._world.listen(self.host, address)
        listener.process = self
        self._listeners.append(listener)
        await trio.lowlevel.checkpoint()
        return listener

    async def paces(self) -> bool:
        """It does."""
        await trio.lowlevel.checkpoint()
        return True

    def own(self, stream: SimulatedStream) -> None:
        """A stream is this process's until it is closed."""
        self.streams[stream] = None
        stream.on_close = lambda: self.streams.pop(stream, None)

    def kill(self) -> None:
        """End without a word: the host's kernel resets its connections."""
        self._dead = True
        self._world.note("kill", self.host)
        for listener in self._listeners:
            self._world.forget_listener(listener.address)
        for stream in list(self.streams):
            stream.abort()


def host_name(host: int) -> str:
    """The address of a host: 10.0.0.0 is a network's, so host 0 has 10.0.0.1."""
    number = host + 1
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def host_number(address: str) -> int | None:
    """The host of an address, or None where it is none of ours."""
    name, _ = parse_address(address)
    parts = name.split(".")
    if len(parts) != 4 or parts[0] != "10" or not all(part.isdigit() for part in parts[1:]):
        return None
    return (int(parts[1]) << 16 | int(parts[2]) << 8 | int(parts[3])) - 1


def equal_bytes(one: memoryview, other: memoryview) -> bool:
    """Whether two buffers hold the same bytes."""
    return len(one) == len(other) and bool(
        np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8))
    )
