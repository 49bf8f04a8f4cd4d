"""What a node has asked for with a broadcast, and what was chosen for it, until the object is offered.

Owns who is meant by it, and how long is waited: for receivers, and for the offer. Must not know what is
answered, nor what happens once the object is there. Pure.

Theory of operation. A broadcast to named receivers is ready when all of them are there, one to everyone when
as many as it waits for are; in any case after its timeout. Its owner then learns how blocks are to be cut,
puts the object in its store and offers it, which must not take for ever.
"""

from dataclasses import dataclass, replace

from orchestra.choice import Choice
from orchestra.controller.members import Members, Node
from orchestra.messages import Propose
from transfers.ids import NodeName

OFFER_LIMIT_S = 600.0
"""Longest time between plan and offer, in which the source copies the object into its store (a guess: 300 GB
at the 0.5 GB/s measured into fresh memory)."""


@dataclass(slots=True)
class Proposal:
    """Of one broadcast.

    Attributes:
        owner: the node that proposed it and is its source.
        asked: what it asked for.
        made_at_s: when.
        choice: how it is done; None until the receivers it waits for are there.
        planned_at_s: when that was chosen.
        small_start_s: what was believed then of the start of small objects.
        block_s: what was believed then of the time of one of its blocks over a usual link.
    """

    owner: NodeName
    asked: Propose
    made_at_s: float
    choice: Choice | None = None
    planned_at_s: float | None = None
    small_start_s: float = 0.0
    block_s: float = 0.0

    def receivers_now(self, members: Members) -> tuple[list[NodeName], list[NodeName]]:
        """Those who would receive if it started now, and those named who are not there."""
        if self.asked.to is None:
            return [node.name for node in members.agents() if node.name != self.owner], []
        there = [name for name in self.asked.to if members.present(name) is not None]
        return there, [name for name in self.asked.to if name not in there]

    def ready(self, members: Members, now: float) -> bool:
        """Whether the receivers it waits for are there, or the wait is over."""
        there, absent = self.receivers_now(members)
        if now - self.made_at_s >= self.asked.timeout_s:
            return True
        return not absent if self.asked.to is not None else len(there) >= self.asked.wait_for

    def for_everyone_like(self, node: Node) -> bool:
        """Whether it is meant for a node without naming it."""
        return node.join.receives and self.asked.to is None

    def overdue(self, now: float) -> bool:
        """Whether it was planned so long ago that nobody waits for the offer any more."""
        return self.planned_at_s is not None and now - self.planned_at_s >= OFFER_LIMIT_S

    def take_content(self) -> bytes:
        """The object's bytes, where they were brought along, else empty; they are not kept here."""
        content, self.asked = self.asked.content, replace(self.asked, content=b"")
        return content
