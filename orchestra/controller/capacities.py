"""What each port is believed to carry, and how that belief follows what plans come to.

Owns the belief. Must not know transfers or policies: it is shown what was planned for a port, and what has
passed it. Pure.

Theory of operation. A port carries what was told for all (``--port-rate``). Where nothing was told it carries
what is usual: as much as the busiest port of the cluster has carried so far, or as broadcasts have measured
of most, whichever is more; for links of one cluster are mostly alike, and what is measured of one is an
eighth off after a short transfer, and too little after one beside others. Only a port that was measured at
less than half of that, and has not carried more, is believed to be slower. Where nothing has been seen,
nothing is believed, and no port is a limit.

Beliefs are put to the test by every plan. A port that carries less than was planned for it, twice in a row,
where no other port explains that, has less: then what it leaves of others' ports can be given away. One that
carries all of a plan that fills it may have more, up to what is usual; so the belief rises step by step until
plans come to less. What is usual is less where no port keeps a plan that fills it, and is approached again in
small steps where one does: where sums of rates exceed what a port carries, TCP shares it again, and nothing
says any more which port is the narrow one.

Who is held to a rate shows no more than that rate, so now and then flows go free for a moment
(`orchestra.controller.trial`). What they show of ports is believed as ever, and no more than that.

On loopback there are no links, so nothing is believed unless it was told.
"""

import math
from collections.abc import Iterable, Mapping

from orchestra.controller.measured import Measured
from orchestra.controller.members import Card
from orchestra.security import is_loopback

LEARNT_SHARE = 0.97
"""Of a rate that was measured or seen, not told, what is planned with: where paced sums stay below what a
port carries, its queue stays empty, and control messages pass (the design has 0.95; 0.96 to 1.00 were tried
on emulated ports of 50 Mbit/s, and all came to what they asked for, within 1 %)."""
RISE = 1.5
"""From one test of a full port to the next (a guess: one that had stopped has all of it after a dozen)."""
LEAST_SHARE = 0.01
"""Of the usual, what is believed of any port at least (a guess): one that hardly moves must be able to show
that it goes on. (Where nothing comes at all nothing less is believed: receivers have nothing to tell.)"""
SLOW_SHARE = 0.5
"""Of what is usual; a port that was measured at less is slower than others (a guess: far more than a short
transfer is off)."""
STEP = 0.25
"""From one test that was passed to the next, so much of the way from what is usual to what had been seen (a
guess: far below it, it is there again after some tests; near to it, steps are less than `LEARNT_SHARE`
leaves)."""
LEAST_STEP = 0.01
"""Of what is usual; a smaller rise of it asks for no new plan (a guess: half of what pacing differs by)."""
SLACK = 1.05
"""Over what a port has carried that fell short, what is believed of it (a guess: so that it can show
more)."""
KEPT, SHORT = 0.97, 0.9
"""Shares of a plan: from the one on it counts as kept, and below the other as fallen short of (guesses:
pacing keeps within 2.5 %)."""

Port = tuple[Card, bool]
"""A card, and whether it is what that sends."""

MOST_PORTS = 20_000
"""Of which beliefs are kept that differ (a guess: ten times the largest cluster)."""


class Capacities:
    """Beliefs about ports.

    Args:
        measured: what is known of links.
        told_bytes_per_s: what every port carries at most; None where nobody said.
    """

    def __init__(self, measured: Measured, told_bytes_per_s: float | None) -> None:
        self._measured = measured
        self._told = told_bytes_per_s
        self._seen_bytes_per_s = 0.0
        self._most_bytes_per_s = math.inf
        self._carried: dict[Port, float] = {}
        self._factors: dict[Port, float] = {}
        self._suspected: set[Port] = set()

    @property
    def learns(self) -> bool:
        """Whether what ports carry is to be seen; it was not told."""
        return self._told is None

    def of(self, port: Port, address: str) -> float:
        """Bytes/s; infinity where nothing is believed.

        Args:
            port: which one.
            address: a data address behind it.
        """
        return self._base(port, address) * self._factors.get(port, 1.0)

    def _base(self, port: Port, address: str) -> float:
        if self._told is not None:
            return self._told
        if is_loopback(address):
            return float("inf")
        usual = self._usual_bytes_per_s
        known = self._measured.rate_of(address, egress=port[1])
        if known is not None:
            known = max(known, self._carried.get(port, 0.0))
        rate = usual if known is None or known >= SLOW_SHARE * usual else known
        return rate * LEARNT_SHARE if rate > 0 else float("inf")

    @property
    def _usual_bytes_per_s(self) -> float:
        """What ports carry that are not slower than others; 0 where nothing has been seen."""
        return min(self._most_bytes_per_s, self._shown_bytes_per_s)

    @property
    def _shown_bytes_per_s(self) -> float:
        """The most that any port has been seen to carry, or most have been measured to."""
        return max(self._seen_bytes_per_s, self._measured.usual_rate_bytes_per_s or 0.0)

    # -- learning --------------------------------------------------------------------------------

    def see(self, moved_bytes_per_s: Mapping[Port, float]) -> bool:
        """Ports have carried so much, over long enough to tell; whether that is news."""
        if not self.learns:
            return False
        for port, rate in moved_bytes_per_s.items():
            if rate > self._carried.get(port, 0.0) and (
                port in self._carried or len(self._carried) < MOST_PORTS
            ):
                self._carried[port] = rate
        most = max(moved_bytes_per_s.values(), default=0.0)
        news = most > self._usual_bytes_per_s * SLACK
        self._seen_bytes_per_s = max(self._seen_bytes_per_s, most)
        self._most_bytes_per_s = max(self._most_bytes_per_s, most)
        return news

    def none_kept_more(self, share: float) -> bool:
        """Of a plan that filled ports none carried more than this share; whether that changes what is
        believed by more than a little."""
        if not self.learns:
            return False
        usual = self._usual_bytes_per_s
        if share < KEPT:
            self._most_bytes_per_s = usual * share
        elif math.isfinite(self._most_bytes_per_s):
            self._most_bytes_per_s += STEP * max(0.0, self._shown_bytes_per_s - self._most_bytes_per_s)
        return abs(self._usual_bytes_per_s - usual) > LEAST_STEP * usual

    def unsuspect(self, ports: Iterable[Port]) -> None:
        """Ports have not fallen short."""
        self._suspected.difference_update(ports)

    def fell_short(self, port: Port, address: str, moved_bytes_per_s: float) -> bool:
        """A port carried less than was planned, and no other explains it; whether less is believed now."""
        if port not in self._suspected:
            if len(self._suspected) < MOST_PORTS:
                self._suspected.add(port)
            return False
        base = self._base(port, address)
        if math.isinf(base):
            return False
        factor = max(LEAST_SHARE, moved_bytes_per_s * SLACK / base)
        if factor >= self._factors.get(port, 1.0):
            return False
        if len(self._factors) >= MOST_PORTS:
            del self._factors[next(iter(self._factors))]
        self._factors[port] = factor
        return True

    def was_full(self, port: Port) -> bool:
        """A port carried all of a plan that filled it; whether more is believed now."""
        factor = self._factors.pop(port, None)
        if factor is None:
            return False
        if factor * RISE < 1.0:
            self._factors[port] = factor * RISE
        return True

    def forget(self, card: Card) -> None:
        """Who was behind it has gone, or comes anew."""
        for egress in (True, False):
            self._carried.pop((card, egress), None)
            self._factors.pop((card, egress), None)
            self._suspected.discard((card, egress))
