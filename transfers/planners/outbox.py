"""Collects the orders that a planner gives while it takes in one event, and turns them into commands.

Owns their order and their merging; knows nothing of why they are given.
"""

from dataclasses import dataclass, field

from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import Cancel, Command, Fetch, Follow


@dataclass(slots=True)
class Outbox:
    """Orders of one event, the last for each stripe or block of a node counting; asks of one pair become one
    `Fetch`. Of ``in_step``, nodes and stripes, it is kept from event to event who follows so."""

    stripes: int = 1
    in_step: set[tuple[NodeName, int]] = field(default_factory=set)
    follows: dict[tuple[NodeName, int], NodeName | None] = field(default_factory=dict)
    cancels: dict[tuple[NodeName, BlockIndex], None] = field(default_factory=dict)
    fetches: dict[tuple[NodeName, BlockIndex], NodeName] = field(default_factory=dict)

    def empty(self) -> list[Command]:
        """All orders, follows first; the outbox is empty then."""
        if not (self.follows or self.cancels or self.fetches):
            return []
        commands: list[Command] = [
            Follow(node, source, stripe, self.stripes, source is not None and (node, stripe) in self.in_step)
            for (node, stripe), source in self.follows.items()
        ]
        cancels: dict[NodeName, list[BlockIndex]] = {}
        for node, block in self.cancels:
            cancels.setdefault(node, []).append(block)
        commands += [Cancel(node, tuple(blocks)) for node, blocks in cancels.items()]
        fetches: dict[tuple[NodeName, NodeName], list[BlockIndex]] = {}
        for (node, block), source in self.fetches.items():
            fetches.setdefault((node, source), []).append(block)
        commands += [Fetch(node, source, tuple(blocks)) for (node, source), blocks in fetches.items()]
        self.follows.clear()
        self.cancels.clear()
        self.fetches.clear()
        return commands
