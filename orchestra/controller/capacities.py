"""What each port is believed to carry, and how that belief follows what plans come to.

Owns the belief. Must not know transfers or policies: it is shown what was planned for a port, and what has
passed it. Pure.

Theory of operation. A port carries what was told for all (``--port-rate``). Where nothing was told it carries
what is usual: as much as the busiest port of the cluster has carried so far, or what is sure of what
broadcasts have measured of most, whichever is more; for links of one cluster are mostly alike, and what is
measured of one is an eighth off after a short transfer, and too little after one beside others. Only a port
that was measured at less than half of that, and has not carried more, is believed to be slower. Where nothing
has been seen, nothing is believed, and no port is a limit.

Beliefs are put to the test by every plan. A port that carries less than was planned for it, twice in a row,
where no other port explains that, has less: then what it leaves of others' ports can be given away. One that
carries all of a plan that fills it may have more, up to what is usual; so the belief rises step by step until
plans come to less. What is usual is less where no port keeps a plan that fills it, which takes some seconds
to tell to within a percent, and is approached again in small steps where one does: where sums of rates exceed
what a port carries, TCP shares it again, and nothing says any more which port is the narrow one.

Who is held to a rate shows no more than that rate, so now and then flows go free for a moment
(`orchestra.controller.trial`). What they show of ports is believed as ever, and no more than that.

On loopback there are no links, so nothing is believed unless it was told.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from orchestra.controller.measured import Measured
from orchestra.controller.members import Card
from orchestra.security import is_loopback

LEARNT_SHARE = 0.97
"""Of a rate that was measured or seen, not told, what is planned with: where paced sums stay below what a
port carries, its queue stays empty, and control messages pass (the design has 0.95; 0.96 to 1.00 were tried
on emulated ports of 50 Mbit/s, and all came to what they asked for, within 1 %)."""
MEASURED_SHARE = 0.9
"""Of what broadcasts have measured of most ports, what is sure (measured: of 4 MB over ports of 50 Mbit/s
they tell 0.99 to 1.15 of what those carry, for buckets let the first blocks through at once)."""
RISE = 1.5
"""From one test of a full port to the next (a guess: one that had stopped has all of it after a dozen)."""
LEAST_SHARE = 0.01
"""Of the usual, what is believed of any port at least (a guess): one that hardly moves must be able to show
that it goes on. (Where nothing comes at all nothing less is believed: receivers have nothing to tell.)"""
SLOW_SHARE = 0.5
"""Of what is usual; a port that was measured at less is slower than others (a guess: far more than a short
transfer is off)."""
WINDOW_S = 4.0
"""For which plans must have filled a port before it is told how much of them it has kept (what is uncertain
of six flows of 50 Mbit/s together is 0.7 % of what is due in that time; after half a second, 4 %)."""
WHOLE = 0.985
"""Share of all that was due in such a time from which on it counts as kept (a guess: twice what is
uncertain)."""
STEP = 0.1
"""From one such time in which plans were kept to the next, so much of the way from what is usual to what had
been seen (a guess: a step of a quarter of it is less than `LEARNT_SHARE` leaves). What is quicker is a
trial."""
LEAST_STEP = 0.01
"""Of what is usual; a smaller rise of it asks for no new plan (a guess: half of what pacing differs by)."""
SLACK = 1.05
"""Over what a port has carried that fell short, what is believed of it (a guess: so that it can show
more)."""
KEPT, SHORT = 0.97, 0.9
"""Shares of a plan: from the one on a port counts as full in one test, and below the other it has fallen
short (guesses: pacing keeps within 2.5 %)."""

Port = tuple[Card, bool]
"""A card, and whether it is what that sends."""


class Passed(NamedTuple):
    """What has passed a port that a plan filled.

    Attributes:
        moved_bytes: of flows that have a rate.
        due_bytes: of them by the plan.
        seconds: in which.
    """

    moved_bytes: float
    due_bytes: float
    seconds: float

    def plus(self, other: "Passed") -> "Passed":
        """Both."""
        return Passed(*(one + another for one, another in zip(self, other, strict=True)))


class Kept(NamedTuple):
    """How plans were kept that filled ports.

    Attributes:
        share: how much of all that was due the best of the ports has carried.
        ports: how many there were that are believed to carry what is usual, of one direction.
    """

    share: float
    ports: int

    @property
    def whole(self) -> bool:
        """Whether that counts as all of it."""
        return self.share >= WHOLE


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
        self._filled: dict[Port, Passed] = {}  # since it was told last how plans are kept
        self._acted_on: float | None = None  # what was usual when that last asked for a plan

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
        """The most that any port has been seen to carry, or what is sure of what most were measured to."""
        measured = self._measured.usual_rate_bytes_per_s or 0.0
        return max(self._seen_bytes_per_s, MEASURED_SHARE * measured)

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
        if news:
            self.begin_window()
        self._seen_bytes_per_s = max(self._seen_bytes_per_s, most)
        self._most_bytes_per_s = max(self._most_bytes_per_s, most)
        return news

    def begin_window(self) -> None:
        """What has passed ports so far no longer says how plans are kept."""
        self._filled.clear()
        self._acted_on = None

    def how_kept(self, filled: Mapping[Port, Passed], address_of: Callable[[Card], str]) -> Kept | None:
        """Ports that a plan fills have carried so much; how plans are kept, once that is known well enough.

        Ports that are believed to be slower than others are asked only where no other is filled: they say
        nothing of what is usual.
        """
        if not self.learns:
            return None
        for port, passed in filled.items():
            known = self._filled.get(port)
            self._filled[port] = passed if known is None else known.plus(passed)
        if max((passed.seconds for passed in self._filled.values()), default=0.0) < WINDOW_S:
            return None
        known_well = {port: its for port, its in self._filled.items() if its.seconds >= WINDOW_S / 2}
        self._filled.clear()
        least = self._usual_bytes_per_s * LEARNT_SHARE * (1 - 1e-9)
        usual = {port: its for port, its in known_well.items() if self.of(port, address_of(port[0])) >= least}
        shares = [its.moved_bytes / its.due_bytes for its in (usual or known_well).values()]
        out = sum(egress for _, egress in usual)  # one flow fills a port of each direction
        return Kept(max(shares), max(out, len(usual) - out))

    def adapt(self, kept: Kept) -> bool:
        """Believe what that says of what is usual; whether it changes by more than a little."""
        usual = self._usual_bytes_per_s
        before = usual if self._acted_on is None else self._acted_on
        if not kept.whole:
            if kept.ports > 1:  # one alone that keeps less may be its own affair
                self._most_bytes_per_s = usual * LEARNT_SHARE * kept.share
        elif math.isfinite(self._most_bytes_per_s):
            self._most_bytes_per_s += STEP * max(0.0, self._shown_bytes_per_s - self._most_bytes_per_s)
        changed = abs(self._usual_bytes_per_s - before) > LEAST_STEP * before
        self._acted_on = self._usual_bytes_per_s if changed else before
        return changed

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
        self._filled.pop(port, None)
        return True

    def was_full(self, port: Port) -> bool:
        """A port carried all of a plan that filled it; whether more is believed now."""
        factor = self._factors.pop(port, None)
        if factor is None:
            return False
        self._filled.pop(port, None)
        if factor * RISE < 1.0:
            self._factors[port] = factor * RISE
        return True

    def forget(self, card: Card) -> None:
        """Who was behind it has gone, or comes anew."""
        for egress in (True, False):
            self._carried.pop((card, egress), None)
            self._filled.pop((card, egress), None)
            self._factors.pop((card, egress), None)
            self._suspected.discard((card, egress))
