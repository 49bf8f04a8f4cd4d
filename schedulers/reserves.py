"""What is kept back so that nobody is passed by for ever.

Owns the rule that policies share which do not go by arrival. Must not know what else they do. Whoever came
first has a part of its pace alone at all times, so it ends at last; then another is the oldest. Only who has
something left counts.
"""

import numpy as np

from schedulers.filling import Floats
from schedulers.snapshot import Snapshot

OLDEST_PART = 0.01
"""Of its pace alone, for whoever has been there longest (a guess: it costs those who are first a
hundredth)."""


def reserve_for_oldest(snapshot: Snapshot, part: float) -> Floats:
    """Shape (transfers,): a part for whoever came first, nothing for the others."""
    order = snapshot.in_order()
    reserves = np.zeros(len(order))
    reserves[order[snapshot.unfinished[order]][:1]] = part
    return reserves


def refuse_wrong_part(name: str, part: float) -> None:
    """Raise for a part that is not between 0 and 1."""
    if not 0 <= part <= 1:
        raise ValueError(f"{name} must be 0 to 1, got {part}")
