"""What broadcasts have moved through each port so far, as reports tell. Pure.

Owns one sum a port. Must not know transfers, or what a port could carry. (How fast the flows of shuffles are
is told by themselves.)
"""

from collections import Counter

from orchestra.controller.capacities import Port
from orchestra.controller.members import Card

MOST_PORTS = 20_000
"""Of which sums are kept (a guess: ten times the largest cluster); beyond it all begin anew."""


class Traffic:
    """Bytes by port, since the controller began or had seen too many.

    Attributes:
        moved_bytes: by port.
    """

    def __init__(self) -> None:
        self.moved_bytes: Counter[Port] = Counter()

    def note(self, source: Card, to: Card, count_bytes: int) -> None:
        """So much more has come from one card to another."""
        if len(self.moved_bytes) > MOST_PORTS:
            self.moved_bytes.clear()
        self.moved_bytes[source, True] += count_bytes
        self.moved_bytes[to, False] += count_bytes
