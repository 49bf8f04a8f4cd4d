"""Weighted fairness a transfer: each gets a part of the network by its weight, however many flows it has.

Owns this one policy. Must not know blocks, sockets, clocks or randomness. Every transfer's progress is
measured by its effective bottleneck: with equal weights all advance by the same part of what each could do
alone, until a port is full; those not on it go on (dominant resource fairness, Ghodsi et al. 2011). Inside a
transfer flows end together. What is left then goes to flows, by the weights of their transfers. Nobody is
passed by: of n transfers of equal weight each advances at an n-th of its pace alone, or more.
"""

from dataclasses import dataclass

import numpy as np

from schedulers.allocation import Allocation
from schedulers.sharing import Sharing
from schedulers.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Weighted:
    """The policy called ``weighted``."""

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """As `Policy.allocate`."""
        sharing = Sharing(snapshot)
        weights = np.array([demand.standing.weight for demand in snapshot.demands])
        sharing.share_progress(weights)
        sharing.fill_together(weights)
        return sharing.allocation()
