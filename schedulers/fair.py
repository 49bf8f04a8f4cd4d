"""Fair sharing: every transfer on a port gets the same part of it.

Owns this one rule. Must not know blocks, sockets, clocks or randomness. This is what the paper's
inter-transfer controller calls fair sharing (Chowdhury et al. 2011), taken a port at a time
and a transfer at a time: a transfer of many flows gets no more of a port than one of few.

A port's share is not lent out when its transfer cannot use it because the other end is the narrower:
budgets are ceilings for senders and planners, and a snapshot of ports alone does not say who meets
whom. The bytes lost so are the price of knowing nothing of flows.
"""

from dataclasses import dataclass

from schedulers.snapshot import Allocation, Budget, Snapshot


def fair_port_budgets(snapshot: Snapshot) -> Allocation:
    """Equal shares of every port among the transfers active on it.

    With n transfers on a port of C bytes/s each gets C / n bytes/s; on a port without a limit, None.
    """
    budgets: dict[Budget, float | None] = {}
    for port, transfers in snapshot.active.items():
        capacity = snapshot.capacities[port]
        for transfer in transfers:
            budgets[Budget(transfer, port)] = None if capacity is None else capacity / len(transfers)
    return Allocation(budgets)


@dataclass(frozen=True, slots=True)
class Fair:
    """The policy called ``fair``."""

    def allocate(self, snapshot: Snapshot) -> Allocation:
        """Budgets by `fair_port_budgets`."""
        return fair_port_budgets(snapshot)
