"""How long blocks took between pairs of nodes: of one broadcast, and as is believed from many.

Owns the samples, and how they age. Must not know what they say of racks (`orchestra.topology`), nor whether a
broadcast's samples may be compared with others' (`orchestra.controller.racks`). Pure: time is passed in.

Theory of operation. A node reports of each block the seconds in which its bytes flowed. Of a broadcast the
median of a pair's last blocks counts, by the byte, so that broadcasts in blocks of other sizes can be
compared. Of several broadcasts the weighted median counts in which newer ones weigh more. Pairs are of
network cards, because a command that broadcasts is a new node each time.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from orchestra.controller.measured import Decaying
from orchestra.controller.members import Card
from transfers.blocks import BlockLayout
from transfers.ids import NodeName
from transfers.planners.events import Stored

MOST_BLOCKS = 32
"""Kept of each pair and broadcast, the last ones (a guess: their median is off by a tenth where single ones
are by a half)."""

LEAST_BLOCK_S = 5e-4
"""Blocks that pass sooner tell of wake-ups and not of links (a guess: the time of a wake-up on a busy
host)."""

LEAST_BLOCKS = 2
"""Of a pair in a broadcast, before they count: a first block may have come out of full buckets."""

MOST_PAIRS = 200_000
"""Remembered; those not seen for longest go first (a guess: a fifth of all pairs of a thousand nodes, 200
MB)."""


class BlockTimes:
    """Of one broadcast."""

    def __init__(self, layout: BlockLayout) -> None:
        self._layout = layout
        self._pairs: dict[tuple[NodeName, NodeName], deque[float]] = {}

    @property
    def size_bytes(self) -> int:
        """Of the object."""
        return self._layout.size_bytes

    def note(self, node: NodeName, records: Iterable[Stored]) -> None:
        """Take in a report of blocks that exist, with times that can be."""
        for record in records:
            if record.seconds < LEAST_BLOCK_S:
                continue
            times = self._pairs.setdefault((node, record.source), deque(maxlen=MOST_BLOCKS))
            times.append(record.seconds / self._layout.length(record.block))

    def medians(self) -> dict[tuple[NodeName, NodeName], float]:
        """Seconds a byte, by receiver and sender."""
        return {pair: median(times) for pair, times in self._pairs.items() if len(times) >= LEAST_BLOCKS}


class PairTimes:
    """As is believed from many broadcasts."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[Card, Card], Decaying] = {}

    def add(self, times: Mapping[tuple[Card, Card], float], now: float) -> None:
        """Take in a broadcast's, in seconds a byte, by receiver and sender."""
        for pair, time_s in times.items():
            known = self._pairs.pop(pair, None) or Decaying()
            known.add(time_s, 1.0, now)
            self._pairs[pair] = known  # the last seen stands last
        while len(self._pairs) > MOST_PAIRS:
            del self._pairs[next(iter(self._pairs))]

    def forget(self, card: Card, below: float = math.inf) -> None:
        """Nothing that was seen of a card counts any more, or no pair that took less than that."""
        for pair, known in list(self._pairs.items()):
            if card in pair and (known.value is None or known.value < below):
                del self._pairs[pair]

    def __len__(self) -> int:
        return len(self._pairs)

    def matrix(self, cards: Sequence[Card]) -> NDArray[np.float64]:
        """n x n, seconds a byte to each card from each other; NaN where nothing is known."""
        at = {card: number for number, card in enumerate(cards)}
        times = np.full((len(cards), len(cards)), np.nan)
        for (to, source), known in self._pairs.items():
            if to in at and source in at and to != source and known.value is not None:
                times[at[to], at[source]] = known.value
        return times
