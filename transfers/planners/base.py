"""What every broadcast planner shares: who is there, who holds what, when it is over.

A planner is pure. It is told events (`transfers.planners.events`), keeps a picture of the transfer that
may be 100 ms old, and answers with commands. Mechanisms differ in `_plan`, which is called after
the picture has taken in the event, and which gives orders through `_follow`, `_fetch` and `_cancel`:
these change the picture at once, so that the next decision sees what the last one did. Nothing here
awaits, reads a clock or draws random numbers except from the generator passed in.

Theory of operation. Three rules make every mechanism end under any faults:

- a pair of node and source that has failed rests for `RETRY_PAUSE_S`, so that nothing spins;
- a node that has failed `MAX_FAILURES_PER_NODE` times without one new block between is given up: it
  fails by name, keeps what it holds and serves on;
- an ask that has ended unserved withdraws the asks that wait behind it (`_settle_waits`), so that every
  wait goes on ending at a holder. What was withdrawn is planned again at the next tick.

So a node makes at most ``block_count + (block_count + 1) * MAX_FAILURES_PER_NODE`` asks that end, each
time it joins, beside those that were moved because a node was lost or suspected.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import assert_never

from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import (
    BlocksStored,
    Command,
    Event,
    Failed,
    FetchFailed,
    FetchFailure,
    Finished,
    GiveUp,
    NodeJoined,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
    Tick,
)
from transfers.planners.outbox import Outbox
from transfers.planners.racks import Racks

MAX_FAILURES_PER_PAIR = 3
"""Failed asks of one node to one source before that source is the last resort for it (a guess)."""

MAX_FAILURES_PER_NODE = 30
"""Failed asks of one node, over all sources and without a new block between them, before it is given
up (a guess: three tries at each of ten sources)."""

RETRY_PAUSE_S = 0.2
"""How long a node does not ask a source again that has failed it (a guess: two ticks)."""

_CHANGING_WHO_IS_THERE = (NodeLost, NodeJoined)


@dataclass(slots=True)
class Member:
    """A planner's picture of one node.

    Attributes:
        follows: by stripe, the source of its standing `Follow`.
        asked: its open asks under `Fetch`, each with its source.
        failures: failed asks of each source since that source last gave a new block.
        resting: until when (seconds, as `handle`'s ``now``) a failed source is not asked again.
        failures_in_a_row: failed asks of all sources since the last new block.
    """

    name: NodeName
    holds: BlockSet
    wants: bool
    suspected: bool = False
    follows: dict[int, NodeName] = field(default_factory=dict)
    asked: dict[BlockIndex, NodeName] = field(default_factory=dict)
    failures: dict[NodeName, int] = field(default_factory=dict)
    resting: dict[NodeName, float] = field(default_factory=dict)
    failures_in_a_row: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for this node."""
        return not self.wants or self.holds.complete


class BroadcastPlanner(ABC):
    """One broadcast: everyone who wants, wants every block.

    Args:
        block_count: blocks of the object.
        source: the node that holds them all at the start; it joins here, as no receiver.
        rng: where every random choice comes from.
        stripes: into how many the blocks are dealt; each is followed by itself.
        racks: where nodes stand; None where all are equally near.

    Raises:
        ValueError: for a negative ``block_count``, or ``stripes`` below 1.
    """

    def __init__(
        self,
        block_count: int,
        source: NodeName,
        rng: Random,
        stripes: int = 1,
        racks: Racks | None = None,
    ) -> None:
        if block_count < 0:
            raise ValueError(f"block_count must not be negative, got {block_count}")
        if stripes < 1:
            raise ValueError(f"stripes must be at least 1, got {stripes}")
        self.block_count = block_count
        self.stripes = stripes
        self.racks = racks
        self.source = source
        self.rng = rng
        self.members: dict[NodeName, Member] = {
            source: Member(source, BlockSet.full(block_count), wants=False)
        }
        self.now = 0.0
        self.lost_holders: dict[BlockIndex, NodeName] = {}
        self.given_up: set[NodeName] = set()
        self._asks_open_at: dict[NodeName, int] = {}
        self._unfinished: set[NodeName] = set()
        self._ended_asks: list[tuple[NodeName, BlockIndex]] = []
        self._unsettled = False
        self._outbox = Outbox(stripes)
        self._finished_said = False
        self._failed_said = False

    # -- the one entry -----------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in one event at time ``now`` (seconds, any origin) and answer with commands.

        `GiveUp`, `Finished` and `Failed` stand at the end of the list.
        """
        self.now = now
        if self._failed_said or not self._take_in(event, now):
            return []
        if isinstance(event, _CHANGING_WHO_IS_THERE) and self._unfinished:
            dead = self._blocks_nobody_holds()
            if dead:
                self._failed_said = True
                return [self._failure(dead)]
        endings: list[Command] = []
        if isinstance(event, FetchFailed):
            endings += self._give_up_if_hopeless(self.members[event.node])
        self._plan(event, now)
        self._settle_waits()
        if not self._unfinished and not self._finished_said:
            self._finished_said = True
            endings.append(Finished())
        return self._outbox.empty() + endings

    @abstractmethod
    def _plan(self, event: Event, now: float) -> None:
        """Give the orders of this mechanism after ``event``; the picture has taken it in already.

        On `NodeLost` the member is gone from `members`, and whoever followed it or asked it has
        ``follows`` and ``asked`` cleared of it. So too on `NodeJoined` of a node that was known; the
        member is then there anew.
        """

    # -- giving orders -----------------------------------------------------------------------

    def _follow(self, member: Member, source: NodeName | None, stripe: int = 0) -> None:
        if source is None:
            member.follows.pop(stripe, None)
        else:
            member.follows[stripe] = source
        self._outbox.follows.pop((member.name, stripe), None)  # commands go in the order of decisions
        self._outbox.follows[member.name, stripe] = source

    def _fetch(self, member: Member, block: BlockIndex, source: NodeName) -> None:
        if block in member.asked:
            self._unask(member, block)
        member.asked[block] = source
        self._asks_open_at[source] = self._asks_open_at.get(source, 0) + 1
        self._outbox.fetches[member.name, block] = source
        self._outbox.cancels.pop((member.name, block), None)
        self._ask_noted(member, block, source)

    def _cancel(self, member: Member, block: BlockIndex) -> None:
        self._unask(member, block)
        self._outbox.cancels[member.name, block] = None
        self._outbox.fetches.pop((member.name, block), None)

    def _unask(self, member: Member, block: BlockIndex) -> None:
        source = member.asked.pop(block)
        self._asks_open_at[source] -= 1
        self._unask_noted(member, block, source)

    def _join_noted(self, member: Member) -> None:
        """For mechanisms that keep accounts of their own: a member is there, its inventory comes next."""

    def _ask_noted(self, member: Member, block: BlockIndex, source: NodeName) -> None:
        """An ask is open."""

    def _unask_noted(self, member: Member, block: BlockIndex, source: NodeName) -> None:
        """An ask is open no longer, for whatever reason."""

    def _hold_noted(self, member: Member, block: BlockIndex) -> None:
        """A member holds one more block."""

    def _leave_noted(self, member: Member) -> None:
        """A member is gone; its own asks and those at it have been noted as ended."""

    # -- reading the picture -----------------------------------------------------------------

    @property
    def all_done(self) -> bool:
        """Whether nothing is left to do for anybody who is there."""
        return not self._unfinished

    @property
    def unsettled(self) -> bool:
        """Whether some work could not be given, because every source for it rests: a tick will try again."""
        return self._unsettled

    def far(self, node: NodeName, source: NodeName) -> int:
        """How far a node would have its blocks from, see `Racks.far`; 0 where all are equally near."""
        return 0 if self.racks is None else self.racks.far(node, source)

    def turn(self, node: NodeName) -> tuple[int, int]:
        """By which nodes are in the order of their racks, see `Racks.turn`."""
        return (0, 0) if self.racks is None else self.racks.turn(node)

    def known_mates(self, one: NodeName, other: NodeName) -> bool:
        """Whether two nodes are known to stand in one rack."""
        return self.racks is not None and self.racks.together(one, other)

    def living(self) -> Iterator[Member]:
        """Members in the order in which they joined."""
        return iter(self.members.values())

    def receivers(self) -> Iterator[Member]:
        """Members that want the object, done or not."""
        return (member for member in self.members.values() if member.wants)

    def holders(self, block: BlockIndex) -> list[Member]:
        """Members that hold a block, in the order in which they joined."""
        return [member for member in self.members.values() if block in member.holds]

    def asks_open_at(self, source: NodeName) -> int:
        """How many asks of all members are open at a node; following is not counted."""
        return self._asks_open_at.get(source, 0)

    def exhausted(self, member: Member, source: NodeName) -> bool:
        """Whether ``member`` has failed with ``source`` too often to be hung on it again by choice."""
        return member.failures.get(source, 0) >= MAX_FAILURES_PER_PAIR

    def usable(self, member: Member, source: Member, now: float) -> bool:
        """Whether ``member`` may be given new work with ``source`` now."""
        return (
            source is not member
            and not source.suspected
            and (not member.resting or member.resting.get(source.name, now) <= now)
        )

    def pick_source(
        self, member: Member, among: Iterable[Member], now: float, prefer: NodeName | None = None
    ) -> NodeName | None:
        """The source to ask: fewest failures, then the preferred one, then fewest asks open, then first."""
        best: Member | None = None
        best_key = (0, False, 0)
        for source in among:
            if not self.usable(member, source, now):
                continue
            failures = member.failures.get(source.name, 0)
            key = (failures, source.name != prefer, self._asks_open_at.get(source.name, 0))
            if best is None or key < best_key:
                best, best_key = source, key
        return None if best is None else best.name

    def waits_end_at_holder(self, node: NodeName, block: BlockIndex, source: NodeName) -> bool:
        """Whether ``node`` may ask ``source`` for ``block``: the waits end at a holder, not at ``node``."""
        at: NodeName | None = source
        for _ in range(len(self.members) + 1):
            if at is None or at == node or at not in self.members:
                return False
            member = self.members[at]
            if block in member.holds:
                return True
            at = self.waits_on(member, block)
        return False

    def waits_on(self, member: Member, block: BlockIndex) -> NodeName | None:
        """Whom a member is to have a block from, by its standing commands."""
        return member.asked.get(block) or member.follows.get(block % self.stripes)

    # -- keeping the picture -----------------------------------------------------------------

    def _take_in(self, event: Event, now: float) -> bool:
        """Update the picture. False where the event says nothing new, so that nothing need be planned."""
        match event:
            case BlocksStored():  # first, because they are by far the most
                return self._take_stored(event)
            case NodeJoined():
                self._take_joined(event)
                return True
            case NodeLost(node=node):
                return self._take_lost(node)
            case NodeSuspected(node=node) | NodeRecovered(node=node):
                member = self.members.get(node)
                if member is None:
                    return False
                member.suspected = isinstance(event, NodeSuspected)
                return True
            case FetchFailed():
                return self._take_failed(event, now)
            case Tick():
                return True
            case _:
                assert_never(event)

    def _take_joined(self, event: NodeJoined) -> None:
        known = self.members.get(event.node)
        wants = event.wants or (known is not None and known.wants)
        # Whoever waits for a known node may wait for what it does not hold any more: begin afresh.
        self._take_lost(event.node)
        member = Member(event.node, BlockSet(self.block_count), wants)
        self.members[event.node] = member
        self._join_noted(member)
        self.given_up.discard(event.node)
        if wants:
            self._unfinished.add(event.node)
        for block in event.holds:
            self._hold(member, block)
        self._unfinish(member)
        self._finished_said = False

    def _take_lost(self, node: NodeName) -> bool:
        gone = self.members.get(node)
        if gone is None:
            return False
        for member in self.members.values():
            member.failures.pop(node, None)
            member.resting.pop(node, None)
            for stripe in [stripe for stripe, source in member.follows.items() if source == node]:
                del member.follows[stripe]
            if self._asks_open_at.get(node):
                for block in [block for block, source in member.asked.items() if source == node]:
                    # Withdrawn, too: the node may be there still, with less than it held.
                    self._cancel(member, block)
                    self._ended_asks.append((member.name, block))
        for block in list(gone.asked):
            self._unask(gone, block)
        for block in gone.holds:
            self.lost_holders[block] = node
        del self.members[node]
        self._asks_open_at.pop(node, None)
        self._unfinished.discard(node)
        self._leave_noted(gone)
        return True

    def _take_stored(self, event: BlocksStored) -> bool:
        member = self.members.get(event.node)
        if member is None:
            return False
        holds, asked = member.holds, member.asked
        for record in event.records:
            block = record.block
            if block in asked:
                self._unask(member, block)
            if block not in holds:
                # Only what is new pays for failures, or a block that is stored again and again would.
                if member.failures or member.resting:
                    member.failures.pop(record.source, None)
                    member.resting.pop(record.source, None)
                member.failures_in_a_row = 0
                holds.add(block)
                self._hold_noted(member, block)
        self._unfinish(member)
        return True

    def _take_failed(self, event: FetchFailed, now: float) -> bool:
        member = self.members.get(event.node)
        if member is None:
            return False
        current = False
        for block in event.blocks:
            if member.asked.get(block) == event.source:
                self._unask(member, block)
                self._ended_asks.append((member.name, block))
                current = True
        followed = [stripe for stripe, source in member.follows.items() if source == event.source]
        if followed:
            current = current or not event.blocks or any(block not in member.asked for block in event.blocks)
            if event.failure is not FetchFailure.CORRUPT:
                current = True
                for stripe in followed:
                    del member.follows[stripe]
        if current and event.source in self.members:
            member.failures[event.source] = member.failures.get(event.source, 0) + 1
            member.resting[event.source] = now + RETRY_PAUSE_S
            member.failures_in_a_row += 1
        return True

    def _hold(self, member: Member, block: BlockIndex) -> None:
        member.holds.add(block)
        self._hold_noted(member, block)

    def _unfinish(self, member: Member) -> None:
        if member.done:
            self._unfinished.discard(member.name)

    def _settle_waits(self) -> None:
        """Withdraw the asks that wait behind an ask which has ended without a block or a successor."""
        if not self._ended_asks:
            return
        for name, block in self._ended_asks:  # grows while it is walked
            member = self.members.get(name)
            if member is None or block in member.holds or self.waits_on(member, block) is not None:
                continue
            self._unsettled = True
            if not self.asks_open_at(name):
                continue
            for waiter in self.members.values():
                if waiter.asked.get(block) == name:
                    self._cancel(waiter, block)
                    self._ended_asks.append((waiter.name, block))
        self._ended_asks.clear()

    # -- endings -----------------------------------------------------------------------------

    def _give_up_if_hopeless(self, member: Member) -> list[Command]:
        if member.failures_in_a_row < MAX_FAILURES_PER_NODE or member.done:
            return []
        worst = max(member.failures, key=lambda name: member.failures[name], default=self.source)
        reason = f"{member.failures_in_a_row} fetches in a row failed, most from {worst}"
        member.wants = False
        self._unfinished.discard(member.name)
        self.given_up.add(member.name)
        for stripe in list(member.follows):
            self._follow(member, None, stripe)
        for block in list(member.asked):
            self._cancel(member, block)
        self._ended_asks += [(member.name, block) for block in member.holds.missing()]
        return [GiveUp(member.name, reason)]

    def _blocks_nobody_holds(self) -> BlockSet:
        held = BlockSet(self.block_count)
        for member in self.members.values():
            held = held | member.holds
            if held.complete:
                break
        return held.missing()

    def _failure(self, dead: BlockSet) -> Failed:
        with_whom = {block: self.lost_holders[block] for block in dead}
        by_node: dict[NodeName, BlockSet] = {}
        for block, node in with_whom.items():
            by_node.setdefault(node, BlockSet(self.block_count)).add(block)
        told = "; ".join(
            f"{len(lost)} with {node} (blocks {lost.spelled()})" for node, lost in by_node.items()
        )
        return Failed(
            f"{len(dead)} of {self.block_count} blocks are held by no living node: {told}", with_whom
        )
