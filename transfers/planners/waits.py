"""Who waits for whom: finds a circle, or a wait that does not end at a holder.

Owns a picture of standing commands and holdings, kept apart from the planners' own so that one can
check the other. Pure, and cheap: only what has changed since the last check is walked again.

Theory of operation. For each block that a node lacks it waits on one node at most: on the source of its ask,
else on the node that it follows for the block's stripe. A change at one node can only make a circle that runs
through that node, and can only break waits that end at it. So it is enough to walk up from each changed node,
for all its blocks at once as bits of an integer, and from those that wait directly on it where it lacks
blocks that it does not wait for.

A circle is always a mistake. A wait without a holder may stand for a moment while its repair rests
(`transfers.planners.base.RETRY_PAUSE_S`): it is a mistake if it stays. Checked after all commands
that one event has brought about.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from transfers.blocks import stripe_bits
from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import (
    BlocksStored,
    Cancel,
    Command,
    Event,
    Failed,
    Fetch,
    FetchFailed,
    FetchFailure,
    Finished,
    Follow,
    GiveUp,
    NodeJoined,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
    Tick,
)


class WaitFaultKind(Enum):
    """What is wrong with a wait."""

    CIRCLE = "circle"
    NO_HOLDER = "no holder"


@dataclass(frozen=True, slots=True)
class WaitFault:
    """A wait that cannot end: the nodes from the one that waits to where the walk stopped."""

    kind: WaitFaultKind
    block: BlockIndex
    path: tuple[NodeName, ...]

    def __str__(self) -> str:
        return f"{self.kind.value} for block {self.block}: {' waits on '.join(self.path)}"


@dataclass(slots=True, eq=False)
class _Node:
    """Bits: ``holds`` what it has, ``asking`` what it asks by `Fetch`; ``followers`` and ``askers`` count
    stripes and open asks at it."""

    holds: int
    follows: dict[int, NodeName] = field(default_factory=dict)
    asks: dict[BlockIndex, NodeName] = field(default_factory=dict)
    asking: int = 0
    followers: dict[NodeName, int] = field(default_factory=dict)
    askers: dict[NodeName, int] = field(default_factory=dict)


class WaitCheck:
    """Told all events and commands of one broadcast, in order, says what is wrong.

    Args:
        block_count: blocks of the object.
        source: the node that holds them all at the start.
    """

    def __init__(self, block_count: int, source: NodeName) -> None:
        self._all = (1 << block_count) - 1
        self._masks = [self._all]
        self._nodes: dict[NodeName, _Node] = {source: _Node(self._all)}
        self._changed: dict[NodeName, None] = {}

    # -- what has happened ---------------------------------------------------------------------

    def note_event(self, event: Event) -> None:
        """Take in what a planner is told."""
        match event:
            case NodeJoined(node=name, holds=holds):
                self._remove(name)
                self._nodes[name] = _Node(int.from_bytes(holds.to_bytes(), "little"))
            case NodeLost(node=name):
                self._remove(name)
            case BlocksStored(node=name, records=records):
                if (node := self._nodes.get(name)) is not None:
                    for record in records:
                        node.holds |= 1 << record.block
                        if record.block in node.asks:
                            self._unask(name, record.block)
            case FetchFailed(node=name, source=source, blocks=blocks, failure=failure):
                node = self._nodes.get(name)
                if node is None:
                    return
                for block in blocks:
                    if node.asks.get(block) == source:
                        self._unask(name, block)
                if failure is not FetchFailure.CORRUPT:
                    for stripe in [stripe for stripe, at in node.follows.items() if at == source]:
                        self._set_follow(name, stripe, None)
            case NodeSuspected() | NodeRecovered() | Tick():
                pass
            case _:
                assert_never(event)

    def note_command(self, command: Command) -> None:
        """Take in what a planner has answered; commands for or about unknown nodes are passed over."""
        match command:
            case Follow(node=name, source=source, stripe=stripe, stripes=stripes):
                if stripes != len(self._masks):
                    count = self._all.bit_length()
                    self._masks = [stripe_bits(count, at, stripes) for at in range(stripes)]
                if name in self._nodes:
                    self._set_follow(name, stripe, source)
            case Fetch(node=name, source=source, blocks=blocks):
                node = self._nodes.get(name)
                if node is None:
                    return
                for block in blocks:
                    self._unask(name, block)
                    if not node.holds >> block & 1:
                        self._ask(name, block, source)
            case Cancel(node=name, blocks=blocks):
                for block in blocks if name in self._nodes else ():
                    self._unask(name, block)
            case GiveUp() | Finished() | Failed():
                pass
            case _:
                assert_never(command)

    # -- what is wrong -------------------------------------------------------------------------

    def faults(self) -> list[WaitFault]:
        """What is wrong around the nodes that have changed since the last call; empty if nothing is.

        A node whose wait ends nowhere stays on the list of the changed until that is mended, so that a
        fault which lasts is told at every call.
        """
        if not self._changed:
            return []
        changed, self._changed = self._changed, {}
        found: list[WaitFault] = []
        walked: set[NodeName] = set()
        for name in changed:
            for waiter in self._concerned(name):
                if waiter in walked:
                    continue
                walked.add(waiter)
                fault = self._walk(waiter)
                if fault is not None:
                    found.append(fault)
                    self._changed[waiter] = None
        return found

    def _concerned(self, name: NodeName) -> Iterator[NodeName]:
        """A changed node, and its direct waiters where it neither holds nor waits for everything."""
        node = self._nodes.get(name)
        if node is None:
            return
        yield name
        followed = 0
        for stripe in node.follows:
            followed |= self._masks[stripe]
        if node.holds | node.asking | followed != self._all:
            yield from node.followers
            yield from node.askers

    def _walk(self, name: NodeName) -> WaitFault | None:
        """Follow the waits of one node for all blocks at once."""
        node = self._nodes[name]
        for block, source in node.asks.items():
            fault = self._walk_block(block, name, source)
            if fault is not None:
                return fault
        for stripe, source in node.follows.items():
            fault = self._walk_stripe(stripe, name, source)
            if fault is not None:
                return fault
        return None

    def _walk_stripe(self, stripe: int, name: NodeName, source: NodeName) -> WaitFault | None:
        """Follow the waits of one node for all blocks of a stripe that it follows."""
        node = self._nodes[name]
        waits = self._masks[stripe] & ~node.holds & ~node.asking
        path = {name: None}  # in order; as a list a long chain would be searched again at every step
        at: NodeName | None = source
        while waits:
            here = self._nodes.get(at) if at is not None else None
            if at is None or here is None:
                return WaitFault(WaitFaultKind.NO_HOLDER, _lowest(waits), tuple(path))
            if at in path:
                return WaitFault(WaitFaultKind.CIRCLE, _lowest(waits), (*path, at))
            path[at] = None
            waits &= ~here.holds
            for block, source in here.asks.items() if waits & here.asking else ():
                if waits >> block & 1:
                    fault = self._walk_block(block, *path, source)
                    if fault is not None:
                        return fault
            waits &= ~here.asking
            at = here.follows.get(stripe)
        return None

    def _walk_block(self, block: BlockIndex, *path: NodeName) -> WaitFault | None:
        """Follow the waits for one block on from the end of a path."""
        walked = dict.fromkeys(path[:-1])
        at: NodeName | None = path[-1]
        while True:
            here = self._nodes.get(at) if at is not None else None
            if at is None or here is None:
                return WaitFault(WaitFaultKind.NO_HOLDER, block, tuple(walked))
            if at in walked:
                return WaitFault(WaitFaultKind.CIRCLE, block, (*walked, at))
            if here.holds >> block & 1:
                return None
            walked[at] = None
            at = here.asks.get(block) or here.follows.get(block % len(self._masks))

    # -- the picture ---------------------------------------------------------------------------

    def _set_follow(self, name: NodeName, stripe: int, source: NodeName | None) -> None:
        node = self._nodes[name]
        former = node.follows.pop(stripe, None)
        if former in self._nodes:
            followers = self._nodes[former].followers
            followers[name] -= 1
            if not followers[name]:
                del followers[name]
        if source is not None:
            node.follows[stripe] = source
            if source in self._nodes:
                followers = self._nodes[source].followers
                followers[name] = followers.get(name, 0) + 1
        self._changed[name] = None

    def _ask(self, name: NodeName, block: BlockIndex, source: NodeName) -> None:
        node = self._nodes[name]
        node.asks[block] = source
        node.asking |= 1 << block
        if source in self._nodes:
            askers = self._nodes[source].askers
            askers[name] = askers.get(name, 0) + 1
        self._changed[name] = None

    def _unask(self, name: NodeName, block: BlockIndex) -> None:
        node = self._nodes[name]
        source = node.asks.pop(block, None)
        if source is None:
            return
        node.asking &= ~(1 << block)
        if source in self._nodes:
            askers = self._nodes[source].askers
            askers[name] -= 1
            if not askers[name]:
                del askers[name]
        self._changed[name] = None

    def _remove(self, name: NodeName) -> None:
        """Nobody follows or asks a node that is gone: the controller has told its waiters, or will now."""
        gone = self._nodes.get(name)
        if gone is None:
            return
        for waiter in list(gone.followers):
            follows = self._nodes[waiter].follows
            for stripe in [stripe for stripe, source in follows.items() if source == name]:
                self._set_follow(waiter, stripe, None)
        for waiter in list(gone.askers):
            for block in [block for block, source in self._nodes[waiter].asks.items() if source == name]:
                self._unask(waiter, block)
        for block in list(gone.asks):
            self._unask(name, block)
        for stripe in list(gone.follows):
            self._set_follow(name, stripe, None)
        del self._nodes[name]
        self._changed.pop(name, None)


def _lowest(bits: int) -> BlockIndex:
    return BlockIndex((bits & -bits).bit_length() - 1)
