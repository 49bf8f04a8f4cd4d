"""Links of which it is said what was measured."""

from collections.abc import Mapping

from orchestra.controller.capacities import Port
from orchestra.controller.measured import Measured, host_of
from orchestra.controller.members import Card


def port(host: str, *, egress: bool) -> Port:
    """One direction of a host's card."""
    return Card(host), egress


class KnownLinks(Measured):
    """What was measured is as said.

    Args:
        usual: the median of all links.
        rates: of single ports, by host and whether it is what that sends.
    """

    def __init__(
        self, usual: float | None = None, rates: Mapping[tuple[str, bool], float] | None = None
    ) -> None:
        super().__init__()
        self.usual = usual
        self.rates = dict(rates or {})

    def rate_of(self, address: str, *, egress: bool) -> float | None:
        """As said."""
        return self.rates.get((host_of(address), egress))

    @property
    def usual_rate_bytes_per_s(self) -> float | None:
        """As said."""
        return self.usual
