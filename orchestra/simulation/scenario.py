"""What a simulated run is to be: cluster, transfers and faults, all drawn from one seed.

Owns the drawing. Pure but for the generator that it makes from the seed: a scenario is plain data that can be
printed, changed by hand, and run (`orchestra.simulation.soak`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from orchestra.simulation.faults import CONTROLLER_HOST, Fault, draw_faults
from orchestra.small import small_block_bytes
from schedulers import POLICIES

SOURCE = "source"
MOST_RECEIVERS, MOST_BLOCKS, MOST_FAULTS = 9, 60, 4
BLOCK_SIZES = (3 << 10, 6 << 10, 8 << 10, 12 << 10, 16 << 10)
"""One of them travels as messages of a simulated stream does, the others as bulk."""
TIMEOUT_S = 20.0
"""Limit on standing still: longer than any drawn fault lasts, so that nobody fails who could go on."""
PAUSED_S = (0.05, 3.0)
"""How long a drawn pause lasts (a guess: from less than anyone notices to more than a block may stand
still)."""
MECHANISMS = ("auto", "chain", "tree", "hdfs", "cornet", "cornet")


@dataclass(frozen=True, slots=True)
class BroadcastPlan:
    """One broadcast.

    Attributes:
        at_s: when it is asked for.
        source: the node that sends.
        to: receivers by name, or None for all agents.
        cancel_after_s: when its source cancels it, from when it is under way; None for never.
        seed: of its bytes.
        small: whether it is left to the library, which has a cut and a way of its own for it.
    """

    name: str
    at_s: float
    source: str
    size_bytes: int
    block_size_bytes: int
    mechanism: str
    timeout_s: float
    to: tuple[str, ...] | None
    cancel_after_s: float | None
    seed: int
    small: bool = False


@dataclass(frozen=True, slots=True)
class ShufflePlan:
    """One shuffle of synthetic bytes, asked for by the source's node."""

    name: str
    at_s: float
    sizes: dict[str, dict[str, int]]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing of a transfer is to move for a while."""

    at_s: float
    transfer: str
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Turns:
    """How transfers share ports.

    Attributes:
        policy: in the beginning.
        changes: when it is changed, and to which.
        claims: priority and weight of transfers, by name; others have the usual ones.
        pauses: while transfers run.
        weighted, replaceable: terms of the shuffle.
    """

    policy: str = "fair"
    changes: tuple[tuple[float, str], ...] = ()
    claims: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    pauses: tuple[Pause, ...] = ()
    weighted: bool = True
    replaceable: bool = False

    def claim_of(self, transfer: str) -> tuple[int, float]:
        """Its priority and weight."""
        return self.claims.get(transfer, (0, 1.0))

    @property
    def paused_s(self) -> float:
        """By how much pauses may delay anything at most."""
        return sum(pause.lasts_s for pause in self.pauses)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run.

    Attributes:
        rates: bytes/s of each host's network card; host 0 is the source's and the controller's.
        racks, uplink_bytes_per_s: see `orchestra.simulation.fabric.Fabric`.
        receivers: agents that are there from the beginning, and their hosts.
        late: agents that join later: name, host, and when.
    """

    seed: int
    rates: tuple[float, ...]
    racks: tuple[int, ...] | None
    uplink_bytes_per_s: float | None
    port_rate_bytes_per_s: float | None
    heartbeat_timeout_s: float
    receivers: dict[str, int]
    late: tuple[tuple[str, int, float], ...]
    broadcasts: tuple[BroadcastPlan, ...]
    shuffle: ShufflePlan | None
    faults: tuple[Fault, ...]
    turns: Turns = Turns()

    @property
    def slowest_bytes_per_s(self) -> float:
        """The least that anything carries when nothing is wrong."""
        limits = [*self.rates, self.uplink_bytes_per_s or math.inf, self.port_rate_bytes_per_s or math.inf]
        return min(limits)

    @property
    def hosts(self) -> dict[str, int]:
        """Every node's host."""
        late = {name: host for name, host, _ in self.late}
        return {SOURCE: CONTROLLER_HOST, **self.receivers, **late}


def draw_scenario(seed: int, *, most_faults: int = MOST_FAULTS) -> Scenario:
    """Draw a run: three to nine receivers, one to sixty blocks, any mechanism, and what may come besides.

    Args:
        seed: of everything.
        most_faults: 0 for none.
    """
    rng = Random(seed)
    count = min(rng.randint(3, MOST_RECEIVERS), rng.randint(3, MOST_RECEIVERS))
    receivers = {f"n{at}": at for at in range(1, count + 1)}
    rate = math.exp(rng.uniform(math.log(0.5e6), math.log(4e6)))
    port_rate = rate * rng.uniform(0.3, 0.8) if rng.random() < 0.2 else None
    first = _draw_broadcast(rng, "first", SOURCE, receivers)
    span_s = _span_s(first, count, min(rate, port_rate or rate))
    late = _draw_late(rng, count, span_s)
    hosts = 1 + count + len(late)
    racked = rng.random() < 0.25
    broadcasts = [first]
    if rng.random() < 0.25:
        source = rng.choice([SOURCE, *receivers])
        broadcasts.append(_draw_broadcast(rng, "second", source, receivers, rng.uniform(0.0, span_s)))
    shuffle = _draw_shuffle(rng, receivers, span_s) if rng.random() < 0.2 else None
    faults = draw_faults(rng, receivers, span_s, source=SOURCE, most=most_faults)
    uneven = rng.random() < 0.3
    return Scenario(
        seed=seed,
        rates=tuple(rate * (rng.uniform(0.4, 1.0) if uneven else 1.0) for _ in range(hosts)),
        racks=tuple(sorted(rng.randrange(3) for _ in range(hosts))) if racked else None,
        uplink_bytes_per_s=rate * rng.uniform(0.5, 2.0) if racked else None,
        port_rate_bytes_per_s=port_rate,
        heartbeat_timeout_s=4.0 if rng.random() < 0.25 else 15.0,
        receivers=receivers,
        late=late,
        broadcasts=tuple(broadcasts),
        shuffle=shuffle,
        faults=faults,
        turns=_draw_turns(Random(f"turns of {seed}"), span_s),
    )


def _draw_turns(rng: Random, span_s: float) -> Turns:
    """Half of all runs are as simple as can be."""
    if rng.random() < 0.5:
        return Turns()
    policies, names = list(POLICIES), ("first", "second", "shuffle")
    changes = [
        (rng.uniform(0.0, 1.5 * span_s), rng.choice(policies)) for _ in range(rng.choice((0, 0, 1, 2)))
    ]
    pauses = [
        Pause(rng.uniform(0.0, 1.5 * span_s), rng.choice(names), rng.uniform(*PAUSED_S))
        for _ in range(rng.choice((0, 0, 1, 2)))
    ]
    return Turns(
        policy=rng.choice(policies),
        changes=tuple(changes),
        claims={name: (rng.randint(0, 2), rng.choice((0.5, 1.0, 1.0, 4.0))) for name in names},
        pauses=tuple(pauses),
        weighted=rng.random() < 0.7,
        replaceable=rng.random() < 0.5,
    )


def _draw_broadcast(
    rng: Random, name: str, source: str, receivers: dict[str, int], at_s: float = 0.0
) -> BroadcastPlan:
    blocks = round(math.exp(rng.uniform(0.0, math.log(MOST_BLOCKS))))
    block_size = rng.choice(BLOCK_SIZES)
    others = [name for name in receivers if name != source]
    some = tuple(rng.sample(others, rng.randint(1, len(others)))) if rng.random() < 0.15 else None
    size = blocks * block_size - rng.choice((0, 0, 1, block_size // 3))
    mechanism = rng.choice(MECHANISMS)
    small_block = small_block_bytes(size) if mechanism == "auto" else None
    return BroadcastPlan(
        name=name,
        at_s=at_s,
        source=source,
        size_bytes=size,
        block_size_bytes=small_block or block_size,
        mechanism=mechanism,
        timeout_s=TIMEOUT_S,
        to=some,
        cancel_after_s=rng.uniform(0.0, 0.5) if rng.random() < 0.06 else None,
        seed=rng.getrandbits(32),
        small=small_block is not None,
    )


def _draw_late(rng: Random, count: int, span_s: float) -> tuple[tuple[str, int, float], ...]:
    if rng.random() >= 0.3:
        return ()
    return tuple(
        (f"late{at}", count + at, rng.uniform(0.0, 1.5 * span_s)) for at in range(1, rng.randint(1, 2) + 1)
    )


def _draw_shuffle(rng: Random, receivers: dict[str, int], span_s: float) -> ShufflePlan:
    names = list(receivers)
    mappers = rng.sample(names, rng.randint(1, len(names)))
    reducers = rng.sample(names, rng.randint(1, len(names)))
    sizes = {
        mapper: {reducer: rng.choice((0, 1, 5_000, 20_000)) for reducer in reducers} for mapper in mappers
    }
    return ShufflePlan("shuffle", rng.uniform(0.0, span_s), sizes, TIMEOUT_S)


def _span_s(broadcast: BroadcastPlan, receivers: int, rate_bytes_per_s: float) -> float:
    """About how long it takes: so that most faults come while it lasts."""
    return 0.3 + 1.5 * (broadcast.size_bytes + receivers * broadcast.block_size_bytes) / rate_bytes_per_s
