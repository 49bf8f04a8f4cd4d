"""What the controller has measured of links, from what transfers report anyway.

Owns the figures of each host's link and of the network as a whole, and how good predictions were. Must not
know how reports become a rate (`orchestra.controller.gauge`), nor what is made of the figures
(`orchestra.costs`). Pure: time is passed in.

Theory of operation. When a broadcast is done, its gauge gives a rate for each port that its blocks passed. A
port that was full gave what it has; of one that was not it is known only that it has no less. Each figure is
a median of the last few samples in which the newest counts most, and one that took longer more: a single odd
transfer changes little, and two alike change it. Links are those of hosts, told by their address, because a
command that broadcasts is a new node each time. Links of which nothing is known yet are as the others; where
nothing is known of any, they are as was told (`--port-rate`), else as is assumed.

Where all nodes stand on one loopback there are no links, but one host whose memory and cores they share: what
one receiver gets, and what several get together.

Where nodes may stand in racks that are not known yet, what was measured may be no port's: links between racks
hold up what passes, and blocks wait for each other. While they are sought, blocks are cut as if all ports had
the most that is measured of any that takes part. Where there do turn out to be racks, all else is forgotten
but how long starts take.

Where no rate differs from the usual one by more than `ALIKE`, all links count as alike: the slowest of many
equal ones would otherwise be taken for slow.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from orchestra.controller.gauge import Gauge, PortUse
from orchestra.estimate import LinkEstimate
from orchestra.security import is_loopback
from transfers.ids import NodeName
from transfers.net.address import parse_address

MAX_SAMPLES = 8
"""Kept of each figure (a guess: with `FADING` the eighth counts for a twelfth)."""

FADING = 0.7
"""Weight of a sample beside that of the next newer one (a guess: two new ones outweigh all before)."""

HALF_LIFE_S = 1800.0
"""Age at which a sample counts for half, besides (a guess: links change more seldom than load)."""

FULL_WEIGHT_S = 1.0
"""Busy time from which on a sample counts in full (a guess: shorter than this TCP shares unevenly)."""

TELLING_WEIGHT = 1.0
"""Of all samples of a link together, before it may be called slow (a guess: a second of busy time)."""

FULL_WEIGHT_BLOCK_S = 0.005
"""Time of a block from which on a sample of a rate counts in full (a guess: ten wake-ups of a process)."""

LEAST_WEIGHT = 0.05
"""Of the shortest (a guess)."""

ALIKE = 0.12
"""Links this much slower than the usual still count as alike (a guess: measured rates of equal links of 50
Mbit/s differ by up to a tenth within some hundred milliseconds)."""

MAX_ERRORS = 50
"""Predictions of which the errors are remembered (a guess: the last session of work)."""

MAX_LINKS = 4096
"""Hosts that are remembered; those not seen for longest go first (a guess: four times the largest
cluster)."""


@dataclass(slots=True)
class Decaying:
    """A figure: the weighted median of its last samples."""

    _samples: deque[tuple[float, float, float, float]] = field(
        default_factory=lambda: deque(maxlen=MAX_SAMPLES)
    )

    def add(self, value: float, weight: float, now: float, at_most: float | None = None) -> None:
        """Take a sample in; ``weight`` is above 0, and ``at_most`` what it may have been as well."""
        self._samples.append((value, weight, now, value if at_most is None else at_most))

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def value(self) -> float | None:
        """The figure; None before the first sample. The lower of two that share the middle."""
        if not self._samples:
            return None
        newest_s = self._samples[-1][2]
        weighed = [
            (value, weight * FADING**age * 0.5 ** ((newest_s - at_s) / HALF_LIFE_S))
            for age, (value, weight, at_s, _) in enumerate(reversed(self._samples))
        ]
        weighed.sort()
        below = sum(weight for _, weight in weighed) / 2
        for value, weight in weighed:
            below -= weight
            if below <= 0:
                return value
        return weighed[-1][0]

    @property
    def best(self) -> float | None:
        """The highest that any sample may have been, once they weigh enough to say something; None before."""
        weight = sum(weight for _, weight, _, _ in self._samples)
        return max(most for _, _, _, most in self._samples) if weight >= TELLING_WEIGHT else None


@dataclass(slots=True)
class _Figures:
    """What is the same for all links of a network."""

    start_s: Decaying = field(default_factory=Decaying)
    small_start_s: Decaying = field(default_factory=Decaying)
    latency_s: Decaying = field(default_factory=Decaying)
    burst_bytes: Decaying = field(default_factory=Decaying)
    transfers: int = 0

    def learn(self, gauge: Gauge, weight: float, now: float) -> None:
        """Take in one broadcast."""
        self.transfers += 1
        for figure, sample in (
            (self.start_s, gauge.start_s()),
            (self.latency_s, gauge.latency_s()),
            (self.burst_bytes, gauge.burst_bytes()),
        ):
            if sample is not None:
                figure.add(sample, weight, now)

    def of_starts(self) -> "_Figures":
        """Only what it takes to start."""
        return _Figures(self.start_s, self.small_start_s, transfers=self.transfers)

    def applied_to(self, prior: LinkEstimate) -> LinkEstimate:
        """A belief with all that was measured in place of what was assumed."""
        return replace(
            prior,
            start_s=_known(self.start_s.value, prior.start_s),
            small_start_s=_known(self.small_start_s.value, prior.small_start_s),
            latency_s=_known(self.latency_s.value, prior.latency_s),
            burst_bytes=_known(self.burst_bytes.value, prior.burst_bytes),
        )

    @property
    def origin(self) -> str:
        """As `LinkEstimate.origin` says it."""
        return f"measured over {self.transfers} transfer{'' if self.transfers == 1 else 's'}"


class Measured:
    """What is known of the network of one controller.

    Args:
        told: what is believed of links before any is measured; None is what is assumed, by the addresses.
        port_rate_bytes_per_s: what nodes are held to, so that nothing is faster; None is no limit.
    """

    def __init__(self, told: LinkEstimate | None = None, port_rate_bytes_per_s: float | None = None) -> None:
        self._told = told
        self._cap = float("inf") if port_rate_bytes_per_s is None else port_rate_bytes_per_s
        self._port_rate = port_rate_bytes_per_s
        self._ingress: dict[str, Decaying] = {}
        self._egress: dict[str, Decaying] = {}
        self._forgotten_bytes_per_s: float | None = None  # the most of what was forgotten last
        self._network = _Figures()
        self._one_receiver = Decaying()
        self._one_host = Decaying()
        self._loopback = _Figures()
        self._errors: deque[float] = deque(maxlen=MAX_ERRORS)
        self._small_errors: deque[float] = deque(maxlen=MAX_ERRORS)

    # -- what is known -------------------------------------------------------------------------

    def link_for(self, addresses: Sequence[str], may_be_held_up: bool = False) -> LinkEstimate:
        """What is believed of the links between some nodes.

        Args:
            addresses: data addresses, the source's first; each on a host of its own except on loopback.
            may_be_held_up: whether what was measured may be of links between racks that are not known.
        """
        if all(map(is_loopback, addresses)):
            return self._loopback_link(len(addresses) - 1)
        prior = LinkEstimate.unknown(self._port_rate) if self._told is None else self._told
        source, *hosts = map(host_of, addresses)
        inward = [self._ingress[host] for host in hosts if host in self._ingress]
        outward = [self._egress[host] for host in hosts if host in self._egress]
        own = [self._egress[source]] if source in self._egress else []
        known = _values([*own, *inward, *outward]) or self._rates()
        if may_be_held_up or not known:
            most = max(known, default=self._forgotten_bytes_per_s)
            figures = self._network.of_starts() if may_be_held_up else self._network
            return self._with_most(most, figures.applied_to(prior))
        link = self._network.applied_to(prior)
        rate = min(median(known), self._cap)
        return replace(
            link,
            rate_bytes_per_s=rate,
            source_rate_bytes_per_s=_slowest(own, rate),
            slowest_in_bytes_per_s=_slowest(inward, rate),
            slowest_out_bytes_per_s=_slowest(outward, rate),
            origin=self._network.origin,
        )

    def rate_of(self, address: str, *, egress: bool) -> float | None:
        """Bytes/s of one direction of a host's link; None where nothing is known of it.

        Args:
            address: a data address of the host.
            egress: whether it is what the host sends.
        """
        links = self._egress if egress else self._ingress
        known = links.get(host_of(address))
        rate = None if known is None else known.value
        return None if rate is None else min(rate, self._cap)

    @property
    def usual_rate_bytes_per_s(self) -> float | None:
        """The median of all directions of links of which something is known, or the most that was forgotten;
        None where nothing is."""
        rates = self._rates()
        usual = median(rates) if rates else self._forgotten_bytes_per_s
        return None if usual is None else min(usual, self._cap)

    def _with_most(self, most: float | None, prior: LinkEstimate) -> LinkEstimate:
        """A belief in which links have the most that some port gave, if nobody said what they have."""
        if most is None or self._told is not None or self._port_rate is not None:
            return prior
        return replace(prior, rate_bytes_per_s=most, origin=self._network.origin)

    def _loopback_link(self, receivers: int) -> LinkEstimate:
        prior = LinkEstimate.on_loopback(self._port_rate) if self._told is None else self._told
        link = replace(self._loopback.applied_to(prior), burst_bytes=0.0)  # sockets' buffers, not the ports'
        one, all_of_host = self._one_receiver.value, self._one_host.value
        if one is not None:
            link = replace(link, rate_bytes_per_s=min(one, self._cap))
        if all_of_host is not None:
            # More receivers at once never get less in all than one alone.
            link = replace(link, shared_host_rate_bytes_per_s=max(all_of_host, one or 0.0))
        known = one if receivers == 1 else all_of_host
        return link if known is None else replace(link, origin=self._loopback.origin)

    def _rates(self) -> list[float]:
        return _values([*self._ingress.values(), *self._egress.values()])

    # -- learning ------------------------------------------------------------------------------

    def learn(self, gauge: Gauge, addresses: Mapping[NodeName, str], now: float) -> None:
        """Take in a broadcast that is done.

        Args:
            gauge: its accounts.
            addresses: data addresses of the nodes that took part, as far as they are known.
        """
        if not gauge.whole.busy_s:
            return
        weight = _weight(gauge.whole.busy_s)
        if all(is_loopback(address) for address in addresses.values()):
            self._loopback.learn(gauge, weight, now)
            of_host = self._one_receiver if len(gauge.ingress) == 1 else self._one_host
            of_host.add(gauge.whole.rate_bytes_per_s, _link_weight(gauge.whole, gauge), now)
            return
        self._network.learn(gauge, weight, now)
        senders: dict[NodeName, float] = {}
        receivers: dict[NodeName, float] = {}
        for verdict in gauge.verdicts():
            for name, full, votes in (
                (verdict.source, verdict.sender_full, senders),
                (verdict.to, verdict.receiver_full, receivers),
            ):
                votes[name] = votes.get(name, 0.0) + (verdict.seconds if full else -verdict.seconds)
        for votes, ports, links in (
            (senders, gauge.egress, self._egress),
            (receivers, gauge.ingress, self._ingress),
        ):
            for name, vote in votes.items():
                if name in addresses:
                    host, port = host_of(addresses[name]), ports[name]
                    figure = links.pop(host, None) or Decaying()
                    links[host] = figure  # the last used stands last
                    full = gauge.standing and vote > 0
                    # Where it was not full it has no less, which is news only if it is more than was known.
                    if full or (figure.value is not None and port.rate_bytes_per_s > figure.value):
                        weight = _link_weight(port, gauge)
                        at_most = port.flowing_bytes_per_s if full else math.inf
                        figure.add(port.rate_bytes_per_s, weight, now, at_most)
            while len(links) > MAX_LINKS:
                del links[next(iter(links))]

    def forget_links(self) -> None:
        """What was measured of them was of links between racks, which were not known."""
        self._forgotten_bytes_per_s = max(self._rates(), default=self._forgotten_bytes_per_s)
        self._ingress.clear()
        self._egress.clear()
        self._network = self._network.of_starts()

    def learn_small(self, start_s: float, addresses: Iterable[str], now: float) -> None:
        """Take in a small broadcast that went as it was sent at first.

        Args:
            start_s: what it took beside what its bytes need.
            addresses: data addresses of the nodes that took part.
        """
        figures = self._loopback if all(map(is_loopback, addresses)) else self._network
        figures.small_start_s.add(max(0.0, start_s), 1.0, now)

    def note_prediction(self, error: float, small: bool = False) -> None:
        """Remember how far off a prediction was, as a share of what it came to.

        Those of small objects stand apart: they speak of milliseconds, and nothing is chosen by them.
        """
        (self._small_errors if small else self._errors).append(error)

    # -- for people ----------------------------------------------------------------------------

    def described(self) -> dict[str, object]:
        """As `orchestra status --json` shows it under ``links``; None for what is not measured.

        The spread is how far the slowest link is below the usual one, as a share of that.
        """
        usual = self.usual_rate_bytes_per_s
        links = [*self._ingress.values(), *self._egress.values()]
        slowest = None if usual is None else _slowest(links, usual)
        network = self._network if self._network.transfers or not self._loopback.transfers else self._loopback
        if usual is None and network is self._loopback:
            usual = self._one_host.value or self._one_receiver.value
        return {
            "rate_bytes_per_s": usual,
            "slowest_bytes_per_s": usual if slowest is None else slowest,
            "spread": None if usual is None else 1 - (usual if slowest is None else slowest) / usual,
            "hosts": len({*self._ingress, *self._egress}),
            "transfers": network.transfers,
            "start_s": network.start_s.value,
            "latency_s": network.latency_s.value,
            "burst_bytes": network.burst_bytes.value,
            "predictions": len(self._errors),
            "median_prediction_error": _median_size(self._errors),
            "small_predictions": len(self._small_errors),
            "median_small_prediction_error": _median_size(self._small_errors),
        }


def host_of(address: str) -> str:
    """The host of a data address."""
    return parse_address(address, default_port=0)[0]


def _median_size(errors: Collection[float]) -> float | None:
    return median(map(abs, errors)) if errors else None


def _values(figures: Iterable[Decaying]) -> list[float]:
    return [value for value in (figure.value for figure in figures) if value is not None]


def _known(measured: float | None, assumed: float) -> float:
    return assumed if measured is None else measured


def _slowest(figures: Iterable[Decaying], usual: float) -> float | None:
    """The slowest of those that never gave the usual rate; None if there is no such."""
    slow = [figure for figure in figures if figure.best is not None and figure.best < usual * (1 - ALIKE)]
    return min(_values(slow), default=None)


def _link_weight(port: PortUse, gauge: Gauge) -> float:
    """Of a rate: blocks that pass in no time tell more of wake-ups than of links."""
    block_s = gauge.layout.block_size_bytes * port.streams / port.rate_bytes_per_s
    return _weight(port.busy_s) * min(1.0, block_s / FULL_WEIGHT_BLOCK_S)


def _weight(busy_s: float) -> float:
    return max(LEAST_WEIGHT, min(1.0, busy_s / FULL_WEIGHT_S))
