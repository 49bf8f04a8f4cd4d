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
    stripes: int = 1
    follows: dict[int, NodeName] = field(default_factory=dict)
    asked: dict[BlockIndex, NodeName] = field(default_factory=dict)
    windows: dict[int, set[BlockIndex]] = field(default_factory=dict)
    barred: set[tuple[BlockIndex, NodeName]] = field(default_factory=set)

    def obey(self, command: Command) -> list[BlockIndex]:
        """Carry out a command for this node; gives the blocks that it names and that are stored already."""
        again: list[BlockIndex] = []
        match command:
            case Follow(source=source, stripe=stripe, stripes=stripes):
                assert not self.follows or stripes == self.stripes, "stripes are counted once"
                self.stripes = stripes
                if source != self.follows.pop(stripe, None):
                    for block in list(self.windows.get(stripe, ())):
                        self._drop(block)
                if source is not None:
                    self.follows[stripe] = source
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
        if failure is not FetchFailure.CORRUPT:
            for stripe in [stripe for stripe, at in self.follows.items() if at == source]:
                del self.follows[stripe]
                for block in list(self.windows.get(stripe, ())):
                    self._drop(block)
        self.refill()

    def refill(self) -> None:
        """Keep `LOOK_AHEAD` asks open at the followed source of each stripe."""
        for stripe, source in self.follows.items():
            window = self.windows.setdefault(stripe, set())
            for block in self.holds.missing():
                if len(window) >= LOOK_AHEAD:
                    break
                here = block % self.stripes == stripe and block not in self.asked
                if here and (block, source) not in self.barred:
                    self.asked[block] = source
                    window.add(block)

    def _drop(self, block: BlockIndex) -> None:
        self.asked.pop(block, None)
        for window in self.windows.values():
            window.discard(block)
