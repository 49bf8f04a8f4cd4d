"""How a block's bytes are read off a connection: under a budget, and with a clock for standing still.

Owns that clock, and what follows the bytes of a block that is passed on while it arrives. Must not know what
the bytes are for: who wants them says where they go, and hears of each portion.
"""

import math
from collections.abc import Callable

import trio

from transfers.errors import RemoteProtocolError
from transfers.net.connection import Connection
from transfers.net.limits import STALL_LIMIT_S, IngressBudget
from transfers.net.messages import IDLE_BYTES, BlockArriving, BlockHeader

_SCRATCH_BYTES = 1 << 18
"""Read at once of a block that nobody wants any more (a guess: what a sender hands to its kernel at once)."""
_scratch = memoryview(bytearray(_SCRATCH_BYTES))


OWN_PAUSE_S = 0.25
"""A clock that is so late says nothing of others: this process did not run (a guess: many times what a task
waits for its turn)."""


class Stalled(Exception):
    """A block stopped arriving; the connection cannot be used any more."""


async def receive_body(
    connection: Connection,
    header: BlockHeader | BlockArriving,
    target: memoryview,
    budget: IngressBudget,
    taken: Callable[[memoryview], None],
    forwarding: Callable[[], bool],
) -> float:
    """Receive a block under the ingress budget, its stall clock running only while we read, and at the rate
    that was granted to those who send.

    Args:
        connection: its header has been read.
        header: what follows.
        target: where the bytes go; as long as the block.
        budget: of this node, for the block's transfer.
        taken: hears of each portion as it comes, while it is in the processor's cache.
        forwarding: whether others wait for the bytes, so that portions are to be small.

    Returns:
        For how many seconds the sender had nothing of the block to send, because it had not got more itself.

    Raises:
        Stalled: when no byte has come for `IngressBudget.stall_limit_s`.
        StreamBroken: when the stream ends.
    """
    await _receive(connection, target, budget, taken, forwarding)
    return await _idle_s(connection, header, budget)


async def drain_body(
    connection: Connection, header: BlockHeader | BlockArriving, budget: IngressBudget
) -> None:
    """Receive a block that nobody wants, and drop it. Raises as `receive_body`, and RemoteProtocolError."""
    left = header.length_bytes
    if left < 0:
        raise RemoteProtocolError(f"block announced with {left} bytes")
    while left:
        step = min(left, _SCRATCH_BYTES)
        await _receive(connection, _scratch[:step], budget, None, None)
        left -= step
    await _idle_s(connection, header, budget)


async def _receive(
    connection: Connection,
    target: memoryview,
    budget: IngressBudget,
    taken: Callable[[memoryview], None] | None,
    forwarding: Callable[[], bool] | None,
) -> None:
    got, since_s, looks_at_s = 0, math.nan, math.inf  # not a number: from now on
    patience = trio.CancelScope()

    def look_later() -> None:
        """The limit may be long, and change meanwhile: so it is looked at now and then."""
        nonlocal looks_at_s
        looks_at_s = patience.deadline = trio.current_time() + STALL_LIMIT_S

    def moved(count_bytes: int) -> None:
        nonlocal got, since_s
        since_s = trio.current_time()
        look_later()
        budget.spend(count_bytes)
        if taken is not None:
            taken(target[got : got + count_bytes])
        got += count_bytes

    while got < len(target):
        with patience:
            while got < len(target):
                patience.deadline = math.inf
                if await budget.wait_turn() or math.isnan(since_s):
                    since_s = trio.current_time()
                look_later()
                step = budget.part_size(len(target) - got)
                await connection.receive_into(target[got : got + step], moved, forwarding)
        now = trio.current_time()
        if now - looks_at_s >= OWN_PAUSE_S:  # this process stood still, and bytes may be here
            since_s = math.nan
        elif patience.cancelled_caught and now >= _stalled_at_s(since_s, budget):
            raise Stalled
        patience = trio.CancelScope()


def _stalled_at_s(since_s: float, budget: IngressBudget) -> float:
    """When a block stands still of which nothing has come since then."""
    return max(since_s, budget.changed_at_s) + budget.stall_limit_s(STALL_LIMIT_S)


async def _idle_s(
    connection: Connection, header: BlockHeader | BlockArriving, budget: IngressBudget
) -> float:
    if isinstance(header, BlockHeader):
        return 0.0
    since_s = trio.current_time()
    while trio.current_time() < _stalled_at_s(since_s, budget):
        with trio.move_on_after(STALL_LIMIT_S):
            return int.from_bytes(await connection.receive_exactly(IDLE_BYTES), "big") / 1e6
    raise Stalled
