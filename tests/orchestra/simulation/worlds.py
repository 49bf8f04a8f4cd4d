"""What tests of the simulated network are made of: a world that runs, and streams through it."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio

from orchestra.simulation.fabric import Fabric
from orchestra.simulation.running import simulate
from orchestra.simulation.streams import SimulatedStream
from orchestra.simulation.world import Delays, World, host_name

ResultT = TypeVar("ResultT")

RATE = 1e6
"""Bytes/s of every host here."""
BULK = 100_000
"""Bytes that are no message."""
AT_ONCE = Delays(0.0)
"""No control delay: times can be worked out by hand."""


def in_world(
    do: Callable[[World], Awaitable[ResultT]],
    *,
    hosts: int = 4,
    rate: float = RATE,
    latency_s: float = 0.0,
    delays: Delays = AT_ONCE,
    seed: int = 1,
    limit_s: float = 1000.0,
) -> ResultT:
    """Run something in a world of its own, exact to the event."""

    async def main() -> ResultT:
        world = World(
            Fabric([rate] * hosts, latency_s=latency_s), Random(seed), delays=delays, resolution_s=0.0
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            result = await do(world)
            nursery.cancel_scope.cancel()
        return result

    return simulate(main, seed=seed, limit_s=limit_s)


async def connected(world: World, sender: int, receiver: int) -> tuple[SimulatedStream, SimulatedStream]:
    """Both ends of a stream between processes of their own."""
    listener = await world.process(receiver).listen(f"{host_name(receiver)}:0")
    stream = await world.process(sender).connect(listener.address, 5.0)
    return stream, await listener.accept()


async def read_all(stream: SimulatedStream, count: int, at_once: int = 1 << 16) -> bytes:
    """Exactly so many bytes, or fewer where the stream ends."""
    got = bytearray()
    buffer = memoryview(bytearray(at_once))
    while len(got) < count:
        more = await stream.receive_some_into(buffer[: min(at_once, count - len(got))])
        if not more:
            break
        got += buffer[:more]
    return bytes(got)


def some_bytes(count: int) -> bytes:
    """Bytes by which a mistake in order shows."""
    return b"".join(at.to_bytes(4, "big") for at in range(-(-count // 4)))[:count]
