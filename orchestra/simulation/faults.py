"""What goes wrong in a simulated cluster: drawn from a seed, written down, carried out beside transfers.

Owns the kinds of faults, how they are drawn, and their carrying out. Must not know what transfers do
meanwhile, nor what is right: that is the checkers' (`orchestra.simulation.checkers`).

Theory of operation. A fault is a frozen record with its time, counted from the beginning of `inject`, and
what lasts says how long: so a list of faults is a whole story that can be printed, shortened by hand and run
again. Faults may overlap; a way that two of them cut is open again when both are over. Which nodes a story
may cost their success (`excused`) follows from the records alone: a process that ends, or a silence towards
the controller that is as long as the time after which a node is lost. All else must be borne.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, assert_never

import trio

from orchestra.controller.core import HEARTBEATS_PER_TIMEOUT
from orchestra.simulation.cluster import SimulatedCluster
from transfers.errors import OrchestraError

CONTROLLER_HOST = 0
RESTART_TRIES = 60
RESTART_PAUSE_S = 0.5
"""How often, and how far apart, a process that is started anew tries to join while its old self is not known
to be dead yet (guesses: together twice the default heartbeat timeout)."""
SHORTEST_S, LONGEST_S = 0.05, 6.0
"""How long a drawn fault lasts, evenly by its logarithm (guesses: from less than anyone notices to three
times the longest time without a byte that a block may take)."""
_SILENCE_GAP_S = 1.0
"""Two silences with less than this between them count as one (a guess: four heartbeats of a busy node)."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A node's process ends without a word; another of its name may start on its host later."""

    at_s: float
    node: str
    host: int
    restart_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """A node's process ends as its user would have it."""

    at_s: float
    node: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing goes from one host to another, or neither way."""

    at_s: float
    sender: int
    receiver: int
    both_ways: bool
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Clog:
    """Nothing comes out of a host or into it."""

    at_s: float
    host: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class SwizzleClog:
    """Hosts are clogged one after the other, and unclogged in another order.

    After FoundationDB's swizzle-clogging (its documentation, "Simulation and Testing"): partial
    connectivity in ever-changing groups finds what a plain cut does not.

    Attributes:
        clogs: host and time of clogging, in seconds after ``at_s``.
        unclogs: host and time of unclogging.
    """

    at_s: float
    clogs: tuple[tuple[int, float], ...]
    unclogs: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Slow:
    """A host's network card carries a share of what it is made for, both ways."""

    at_s: float
    host: int
    share: float
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Corrupt:
    """One byte of what one host reads from another is changed, at the n-th larger read from then on."""

    at_s: float
    sender: int
    receiver: int
    read: int


Fault: TypeAlias = Kill | Leave | Cut | Clog | SwizzleClog | Slow | Corrupt


# -- drawing ---------------------------------------------------------------------------------------


def draw_faults(
    rng: Random,
    receivers: Mapping[str, int],
    span_s: float,
    *,
    source: str = "source",
    most: int = 4,
    source_may_die: bool = True,
) -> tuple[Fault, ...]:
    """Draw up to ``most`` faults, in the order of their times.

    Args:
        rng: where they come from.
        receivers: nodes and their hosts; the source's is `CONTROLLER_HOST`.
        span_s: they begin within this time.
        source: the name of the source's node.
        most: faults.
        source_may_die: whether the source's process may be killed (one time in eight that anyone is).
    """
    hosts = [CONTROLLER_HOST, *receivers.values()]
    drawn = [
        _draw_fault(rng, receivers, hosts, rng.uniform(0.0, span_s), source if source_may_die else None)
        for _ in range(rng.randint(0, most))
    ]
    return tuple(sorted(drawn, key=lambda fault: fault.at_s))


def _draw_fault(
    rng: Random, receivers: Mapping[str, int], hosts: list[int], at_s: float, source: str | None
) -> Fault:
    lasts_s = math.exp(rng.uniform(math.log(SHORTEST_S), math.log(LONGEST_S)))
    match rng.choice(("kill", "kill", "leave", "cut", "cut", "clog", "swizzle", "slow", "corrupt")):
        case "kill":
            node = rng.choice(list(receivers))
            if source is not None and rng.random() < 0.125:
                node = source
            restart_after_s = rng.uniform(0.0, 3.0) if rng.random() < 0.5 else None
            return Kill(at_s, node, receivers.get(node, CONTROLLER_HOST), restart_after_s)
        case "leave":
            return Leave(at_s, rng.choice(list(receivers)))
        case "cut":
            sender, receiver = rng.sample(hosts, 2)
            return Cut(at_s, sender, receiver, rng.random() < 0.5, lasts_s)
        case "clog":
            return Clog(at_s, rng.choice(hosts), lasts_s)
        case "swizzle":
            return draw_swizzle(rng, hosts, at_s, lasts_s)
        case "slow":
            return Slow(at_s, rng.choice(hosts), rng.uniform(0.05, 0.5), lasts_s)
        case _:
            sender, receiver = rng.sample(hosts, 2)
            return Corrupt(at_s, sender, receiver, rng.randint(1, 6))


def draw_swizzle(rng: Random, hosts: Iterable[int], at_s: float, span_s: float) -> SwizzleClog:
    """Draw a swizzle-clog: a random subset of hosts, two orders, times within two halves of ``span_s``."""
    among = list(hosts)
    chosen = rng.sample(among, rng.randint(1, len(among)))
    clogs = sorted(rng.uniform(0.0, span_s / 2) for _ in chosen)
    unclogs = sorted(rng.uniform(span_s / 2, span_s) for _ in chosen)
    other = rng.sample(chosen, len(chosen))
    return SwizzleClog(at_s, tuple(zip(chosen, clogs, strict=True)), tuple(zip(other, unclogs, strict=True)))


# -- what follows from them --------------------------------------------------------------------------


def over_after_s(faults: Iterable[Fault]) -> float:
    """Seconds from the beginning until everything is mended and every restart begun; infinity for never."""
    return max((_ends_s(fault) for fault in faults), default=0.0)


def _ends_s(fault: Fault) -> float:
    match fault:
        case Kill(restart_after_s=after_s):
            return fault.at_s + (after_s or 0.0)
        case Leave() | Corrupt():
            return fault.at_s
        case Cut() | Clog() | Slow():
            return fault.at_s + fault.lasts_s
        case SwizzleClog(unclogs=unclogs):
            return fault.at_s + max((at_s for _, at_s in unclogs), default=0.0)
        case _:
            assert_never(fault)


def excused(faults: Iterable[Fault], hosts: Mapping[str, int], heartbeat_timeout_s: float) -> dict[str, str]:
    """Nodes that may fail by no fault of the product, and why.

    A node whose process ends; and one that cannot be heard by the controller, or cannot hear it, for so long
    that one of the two may take the other for dead: the heartbeat timeout, less what a heartbeat may be late.
    """
    told: dict[str, str] = {}
    silences: dict[int, list[tuple[float, float]]] = {}
    for fault in faults:
        if isinstance(fault, Kill | Leave):
            told[fault.node] = "its process ended"
        for host, begin_s, end_s in _silences(fault):
            silences.setdefault(host, []).append((begin_s, end_s))
    limit_s = heartbeat_timeout_s * (1 - 1 / HEARTBEATS_PER_TIMEOUT) - _SILENCE_GAP_S
    everyone = silences.get(CONTROLLER_HOST, [])
    for node, host in hosts.items():
        silent_s = _longest(silences.get(host, []) + everyone)
        if silent_s >= limit_s:
            told.setdefault(node, f"out of the controller's reach for {silent_s:.1f} s")
    return told


def _silences(fault: Fault) -> list[tuple[int, float, float]]:
    """Hosts that cannot speak with the controller's, from when until when."""
    match fault:
        case Cut(sender=one, receiver=other) if CONTROLLER_HOST in (one, other):
            return [(max(one, other), fault.at_s, fault.at_s + fault.lasts_s)]
        case Clog(host=host):
            return [(host, fault.at_s, fault.at_s + fault.lasts_s)]
        case SwizzleClog(clogs=clogs, unclogs=unclogs):
            ends = dict(unclogs)
            return [(host, fault.at_s + at_s, fault.at_s + ends.get(host, math.inf)) for host, at_s in clogs]
        case _:
            return []


def _longest(spans: list[tuple[float, float]]) -> float:
    longest_s, begin_s, end_s = 0.0, 0.0, -math.inf
    for each_begin_s, each_end_s in sorted(spans):
        if each_begin_s > end_s + _SILENCE_GAP_S:
            begin_s = each_begin_s
            end_s = each_end_s
        end_s = max(end_s, each_end_s)
        longest_s = max(longest_s, end_s - begin_s)
    return longest_s


# -- carrying out ------------------------------------------------------------------------------------


async def inject(cluster: SimulatedCluster, faults: Iterable[Fault]) -> None:
    """Let faults happen to a cluster, each at its time from now; returns when the last of them is over."""
    injector = _Injector(cluster)
    async with trio.open_nursery() as nursery:
        for fault in faults:
            nursery.start_soon(injector.carry_out, fault)


class _Injector:
    """Carries faults out; counts how many of them hold a host or a way, so that the last one lets it go."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._holds: Counter[tuple[int, ...]] = Counter()
        self._slowed: dict[int, list[float]] = {}

    async def carry_out(self, fault: Fault) -> None:
        """One fault from its beginning to its end."""
        await trio.sleep(fault.at_s)
        match fault:
            case Kill(node=node):
                if node in self._cluster.nodes:
                    await self._cluster.kill(node)
                    if fault.restart_after_s is not None:
                        await trio.sleep(fault.restart_after_s)
                        await self._start(node, fault.host)
            case Leave(node=node):
                if node in self._cluster.nodes:
                    await self._cluster.leave(node)
            case Cut(sender=one, receiver=other, both_ways=both_ways):
                ways: list[tuple[int, ...]] = [(one, other)]
                ways += [(other, one)] if both_ways else []
                await self._hold("cut", "mend", ways, fault.lasts_s)
            case Clog(host=host):
                await self._hold("clog", "unclog", [(host,)], fault.lasts_s)
            case SwizzleClog(clogs=clogs, unclogs=unclogs):
                await self._swizzle(clogs, unclogs)
            case Slow(host=host, share=share):
                self._slow(host, share, begins=True)
                await trio.sleep(fault.lasts_s)
                self._slow(host, share, begins=False)
            case Corrupt(sender=sender, receiver=receiver, read=read):
                self._world.corrupting[sender, receiver] = read
            case _:
                assert_never(fault)

    async def _hold(self, what: str, undo: str, ways: list[tuple[int, ...]], lasts_s: float) -> None:
        for way in ways:
            self._take(what, way)
        await trio.sleep(lasts_s)
        for way in ways:
            self._let_go(undo, way)

    def _take(self, what: str, way: tuple[int, ...]) -> None:
        self._holds[way] += 1
        if self._holds[way] == 1:
            self._world.change(what, *way)

    def _let_go(self, undo: str, way: tuple[int, ...]) -> None:
        self._holds[way] -= 1
        if not self._holds[way]:
            self._world.change(undo, *way)

    async def _swizzle(
        self, clogs: Iterable[tuple[int, float]], unclogs: Iterable[tuple[int, float]]
    ) -> None:
        began_s = trio.current_time()
        steps = [(at_s, "clog", host) for host, at_s in clogs]
        steps += [(at_s, "unclog", host) for host, at_s in unclogs]
        for at_s, what, host in sorted(steps):
            await trio.sleep_until(began_s + at_s)
            if what == "clog":
                self._take("clog", (host,))
            else:
                self._let_go("unclog", (host,))

    def _slow(self, host: int, share: float, begins: bool) -> None:
        shares = self._slowed.setdefault(host, [])
        if begins:
            shares.append(share)
        else:
            shares.remove(share)
        self._world.change("slow", host, share=min(shares, default=1.0))

    async def _start(self, node: str, host: int) -> None:
        """Start a process anew; it is refused while its old self still counts as alive."""
        for _ in range(RESTART_TRIES):
            if node in self._cluster.nodes:
                return
            try:
                await self._cluster.start(node, host, receives=host != CONTROLLER_HOST)
                return
            except OrchestraError as refused:
                self._world.note("not joined", node, type(refused).__name__)
            await trio.sleep(RESTART_PAUSE_S)
