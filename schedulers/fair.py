"""Per-flow max-min fairness: what the network does by itself, and so the baseline.

Owns this one policy. Must not know blocks, sockets, clocks or randomness. Idealised TCP: every flow counts
the same, so a transfer of many flows gets more than one of few, and flows of one shuffle end at different
times. A weighted shuffle keeps what it has among the others: its flows count by what they have left, and on
average once, as with the paper's connections in proportion (Chowdhury et al. 2011, section 5.2). Of others no
size is looked at. Nobody is passed by: every flow has a rate above 0 at all times.
"""

from dataclasses import dataclass

import numpy as np

from schedulers.allocation import Allocation
from schedulers.sharing import Sharing
from schedulers.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Fair:
    """The policy called ``fair``."""

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """As `Policy.allocate`."""
        sharing = Sharing(snapshot)
        sharing.fill_together(np.ones(len(snapshot.demands)), heed_scheduling=True)
        return sharing.allocation()
