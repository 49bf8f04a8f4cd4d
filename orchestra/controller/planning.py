"""What moves one broadcast's bytes: its head start, then a planner, or for the moment nothing.

Owns the planner, the check of its waits, and the head start, and so the one answer to who holds what. Must
not know who is counted, nor when it is over; it sends nothing. Pure but for the generator that is passed in.

Theory of operation. A broadcast has a head start, or a planner, or neither (before it starts, and while no
living node holds all of it), never both. Questions are answered by whichever there is. Whatever the planner
is told and commands is told to the wait check, too: nodes that wait for each other in a circle would do so
for ever, and only a mistake of the planner can make one.
"""

from random import Random

from orchestra.controller.head_start import HeadStart
from transfers.blocks import BlockSet
from transfers.ids import NodeName
from transfers.manifest import Manifest
from transfers.planners import Mechanism, Racks, make_planner
from transfers.planners.base import BroadcastPlanner
from transfers.planners.events import Command, Event
from transfers.planners.waits import WaitCheck, WaitFault, WaitFaultKind


class Planning:
    """Of one broadcast.

    Args:
        rng: for the planner's random choices.
        block_s: what a block takes over a usual link, as far as that is believed; else 0.
        explores: whether many pairs of nodes are to meet.

    Attributes:
        head_start: while it lasts.
        racks: where nodes stand; None where all are equally near.
        held_s: for how long in all nothing was allowed to move: the planner's clock stands still meanwhile.
    """

    def __init__(
        self, rng: Random, block_s: float = 0.0, racks: Racks | None = None, explores: bool = False
    ) -> None:
        self.head_start: HeadStart | None = None
        self.held_s = 0.0
        self._planner: BroadcastPlanner | None = None
        self._waits: WaitCheck | None = None
        self._rng = rng
        self._block_s = block_s
        self.racks = racks
        self._explores = explores

    def plan(self, mechanism: Mechanism, manifest: Manifest, source: NodeName) -> None:
        """From here on a planner decides; it knows of the source only."""
        self._planner = make_planner(
            mechanism,
            manifest.layout.count,
            source,
            self._rng,
            block_s=self._block_s,
            racks=self.racks,
            explores=self._explores,
        )
        self._waits = WaitCheck(manifest.layout.count, source)

    def stop(self) -> None:
        """There is nothing to plan for now."""
        self._planner = self._waits = None

    def handle(self, event: Event, now: float) -> tuple[list[Command], WaitFault | None]:
        """The planner's answer to an event, nothing if there is none; and a circle of waits that it has made.

        A wait that ends at no holder is no reason to worry here: the planner mends it after a while.
        """
        if self._planner is None or self._waits is None:
            return [], None
        commands = self._planner.handle(event, now - self.held_s)
        self._waits.note_event(event)
        for command in commands:
            self._waits.note_command(command)
        circles = (fault for fault in self._waits.faults() if fault.kind is WaitFaultKind.CIRCLE)
        return commands, next(circles, None)

    # -- how it stands -------------------------------------------------------------------------

    @property
    def has_plan(self) -> bool:
        """Whether there is a planner."""
        return self._planner is not None

    @property
    def has_begun(self) -> bool:
        """Whether it is planned, or has its head start; not while it waits, or for a holder to come back."""
        return self._planner is not None or self.head_start is not None

    @property
    def idle(self) -> bool:
        """Whether a planner has nothing left to do."""
        return self._planner is None or self._planner.all_done

    @property
    def ahead(self) -> bool:
        """Whether a head start is under way that has not brought everything yet."""
        return self.head_start is not None and not self.head_start.complete

    def holds_of(self, name: NodeName) -> BlockSet | None:
        """What a node holds, as far as it is known here; None where it has said nothing."""
        if self.head_start is not None:
            return self.head_start.holds.get(name)
        member = None if self._planner is None else self._planner.members.get(name)
        return None if member is None else member.holds

    def knows(self, name: NodeName) -> bool:
        """Whether a node holds the object or is being sent it, not by mapping."""
        if self.head_start is not None:
            return self.head_start.knows(name)
        return self._planner is not None and name in self._planner.members

    @property
    def blocks_held_count(self) -> int:
        """Blocks that receivers hold, all together; not those that were mapped."""
        if self.head_start is not None:
            return sum(len(held) for held in self.head_start.holds.values())
        return 0 if self._planner is None else sum(len(each.holds) for each in self._planner.receivers())
