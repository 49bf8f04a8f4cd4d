"""A node that does what `transfers.planners.events` says, without sockets: for the harnesses here.

Owns holdings and open asks of one node. How and when answers arrive is the harness's business.
"""

from dataclasses import dataclass, field

from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import LOOK_AHEAD, Cancel, Command, Fetch, FetchFailure, Follow


@dataclass(slots=True, eq=False)
class ModelNode:
    """One node's engine: `Follow`, `Fetch`, `Cancel`, and what comes of asks."""

    name: NodeName
    holds: BlockSet
    follows: NodeName | None = None
    asked: dict[BlockIndex, NodeName] = field(default_factory=dict)
    window: set[BlockIndex] = field(default_factory=set)
    barred: set[tuple[BlockIndex, NodeName]] = field(default_factory=set)

    def obey(self, command: Command) -> list[BlockIndex]:
        """Carry out a command for this node; gives the blocks that it names and that are stored already."""
        again: list[BlockIndex] = []
        match command:
            case Follow(source=source):
                if source != self.follows:
                    for block in list(self.window):
                        self._drop(block)
                self.follows = source
                self.barred = {pair for pair in self.barred if pair[1] != source}
            case Fetch(source=source, blocks=blocks):
                for block in blocks:
                    self.barred.discard((block, source))
                    if block in self.holds:
                        again.append(block)
                        continue
                    self._drop(block)
                    self.asked[block] = source
            case Cancel(blocks=blocks):
                for block in blocks:
                    self._drop(block)
            case _:
                raise AssertionError(f"{command} is not for a node")
        self.refill()
        return again

    def store(self, block: BlockIndex) -> NodeName:
        """An open ask is answered; gives who was asked."""
        source = self.asked[block]
        self._drop(block)
        self.holds.add(block)
        self.refill()
        return source

    def fail(self, source: NodeName, blocks: list[BlockIndex], failure: FetchFailure) -> None:
        """Open asks at a source have failed."""
        for block in blocks:
            assert self.asked[block] == source
            self._drop(block)
            self.barred.add((block, source))
        if self.follows == source and failure is not FetchFailure.CORRUPT:
            self.follows = None
            for block in list(self.window):
                self._drop(block)
        self.refill()

    def refill(self) -> None:
        """Keep `LOOK_AHEAD` asks open at the followed source."""
        if self.follows is None:
            return
        for block in self.holds.missing():
            if len(self.window) >= LOOK_AHEAD:
                return
            if block not in self.asked and (block, self.follows) not in self.barred:
                self.asked[block] = self.follows
                self.window.add(block)

    def _drop(self, block: BlockIndex) -> None:
        self.asked.pop(block, None)
        self.window.discard(block)
