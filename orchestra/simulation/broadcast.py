"""One broadcast, simulated: the whole system, or its planner alone where that would be too much.

Owns what a simulated broadcast is asked for and what comes of it. `orchestra simulate` and the paper's
figures are made of this.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from random import Random

import trio

from orchestra.bounds import passed_on_s
from orchestra.choice import HDFS_REPLICAS, TREE_DEGREE, LinkEstimate, choose
from orchestra.controller.racks import FLAT
from orchestra.messages import Outcome
from orchestra.node.handles import Transfer
from orchestra.racks_file import GivenRacks, racks_by_number
from orchestra.simulation import checkers
from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric, rack_of_each_host
from orchestra.simulation.pages import SharedPages, random_bytes
from orchestra.simulation.planner_loop import SOURCE, node_name, run_planner, time_limit_s
from orchestra.simulation.running import simulate
from orchestra.simulation.world import Delays, World
from transfers.errors import OrchestraError
from transfers.planners import Mechanism, Racks
from transfers.planners.racks import feeds_in_line

COARSE_S = 0.002
"""Resolution of time, unless asked otherwise (measured: between 0.1 and 4 ms completion differs no more than
between seeds, by 1 %, with blocks that take 42 ms; finer ones take longer to simulate)."""
WHOLE_UP_TO_RECEIVERS = 128
"""More are planned without the rest of the system, unless asked otherwise (each costs a store and tasks)."""
WHOLE_UP_TO_BLOCKS = 60_000
"""Blocks times receivers; as before (a whole one takes about a millisecond a block, measured)."""
WHOLE_UP_TO_BYTES = 4 << 30
"""The bytes of the object are really there, once; as before (a guess: a laptop's memory)."""


class Model(Enum):
    """What is simulated."""

    WHOLE = "whole"
    """Controller and nodes as they are, on a simulated network."""
    PLANNER = "planner"
    """The planner as it is; nodes and messages are modelled."""


class SimulationFault(OrchestraError):
    """A checker has complained: the system, or the model of the network, does what it must not."""


@dataclass(frozen=True, slots=True)
class BroadcastSetup:
    """What is to be simulated.

    Attributes:
        receivers: hosts beside the source's.
        size_bytes: of the object.
        rate_bytes_per_s: of each host's network card, each way.
        mechanism: ``"auto"`` or one by name.
        block_size_bytes: None for a choice.
        racks: receivers in each rack, in a line, the source in the first; None is one rack.
        uplink_bytes_per_s: between neighbouring racks, each way; None is no limit.
        knows_racks: whether the controller is told of them.
        host_rates: share of the rate that single hosts have, by number; 0 is the source.
        seed: of everything that is drawn.
        delays: of messages.
        latency_s: one way.
        resolution_s: see `orchestra.simulation.world.World`.
        degree, replicas: of the tree and of HDFS, where the planner alone is simulated.

    Raises:
        ValueError: for bad values, by name.
    """

    receivers: int
    size_bytes: int
    rate_bytes_per_s: float
    mechanism: str = "auto"
    block_size_bytes: int | None = None
    racks: tuple[int, ...] | None = None
    uplink_bytes_per_s: float | None = None
    knows_racks: bool = False
    host_rates: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0
    delays: Delays = Delays()
    latency_s: float = 1e-4
    resolution_s: float = COARSE_S
    degree: int = TREE_DEGREE
    replicas: int = HDFS_REPLICAS

    def __post_init__(self) -> None:
        if self.receivers < 1:
            raise ValueError(f"receivers must be at least 1, got {self.receivers}")
        if self.size_bytes < 1:
            raise ValueError(f"size_bytes must be at least 1, got {self.size_bytes}")
        if not (math.isfinite(self.rate_bytes_per_s) and self.rate_bytes_per_s > 0):
            raise ValueError(f"rate_bytes_per_s must be above 0 and finite, got {self.rate_bytes_per_s}")
        if self.racks is not None:
            if any(count < 1 for count in self.racks):
                raise ValueError(f"racks must have at least one receiver each, got {self.racks}")
            if sum(self.racks) != self.receivers:
                raise ValueError(f"racks must add up to receivers={self.receivers}, got {self.racks}")
        elif self.uplink_bytes_per_s is not None:
            raise ValueError("uplink_bytes_per_s needs racks")
        elif self.knows_racks:
            raise ValueError("knows_racks needs racks")
        for host, share in self.host_rates.items():
            if not 0 <= host <= self.receivers or not share > 0:
                raise ValueError(f"host_rates must give hosts from 0 to {self.receivers} a share above 0")

    def fabric(self) -> Fabric:
        """Its hosts and links."""
        rates = [self.rate_bytes_per_s * self.host_rates.get(at, 1.0) for at in range(self.receivers + 1)]
        return Fabric(rates, self.places(), self.uplink_bytes_per_s, self.latency_s)

    def places(self) -> list[int] | None:
        """Rack of each host, the source's first; None for one rack."""
        return None if self.racks is None else rack_of_each_host(self.racks)

    def topology(self) -> str | GivenRacks:
        """What the controller is told of racks."""
        places = self.places()
        if places is None or not self.knows_racks:
            return FLAT
        return racks_by_number({node_name(host): rack for host, rack in enumerate(places)})

    def link(self) -> LinkEstimate:
        """What the controller is told of it."""
        return LinkEstimate(rate_bytes_per_s=self.rate_bytes_per_s, latency_s=self.latency_s, origin="told")

    @property
    def least_s(self) -> float:
        """S/W."""
        return self.size_bytes / self.rate_bytes_per_s

    def model(self) -> Model:
        """What is simulated if nobody asks for one."""
        block = self.block_size_bytes or 1 << 20
        small = self.receivers <= WHOLE_UP_TO_RECEIVERS and self.size_bytes <= WHOLE_UP_TO_BYTES
        small = small and -(-self.size_bytes // block) * self.receivers <= WHOLE_UP_TO_BLOCKS
        return Model.WHOLE if small else Model.PLANNER


@dataclass(frozen=True, slots=True)
class SimulatedBroadcast:
    """What came of it; times in virtual seconds from the transfer's acceptance.

    Attributes:
        setup: what was asked for.
        model: what was simulated.
        mechanism, reason, block_size_bytes: as the controller chose.
        completion_s: to the last receiver's last verified byte.
        node_completion_s: the same for each receiver.
        failed: receivers without the object, and why.
        trace_digest: of all that arrived; equal for equal setups.
        sent_bytes: by each host, the source first.
    """

    setup: BroadcastSetup
    model: Model
    mechanism: str
    reason: str
    block_size_bytes: int
    completion_s: float
    node_completion_s: Mapping[str, float]
    failed: Mapping[str, str]
    trace_digest: str
    sent_bytes: tuple[int, ...] = ()

    @property
    def bound_s(self) -> float:
        """What no broadcast can beat (`orchestra.bounds.passed_on_s`), nor the uplinks."""
        setup = self.setup
        flat_s = passed_on_s(setup.size_bytes, setup.receivers, self.block_size_bytes, setup.rate_bytes_per_s)
        if setup.uplink_bytes_per_s is None:
            return flat_s
        return max(flat_s, setup.size_bytes / setup.uplink_bytes_per_s)

    @property
    def ratio(self) -> float:
        """Completion over S/W."""
        return self.completion_s / self.setup.least_s


Watch = Callable[[Transfer], Awaitable[Outcome]]


def simulate_whole(setup: BroadcastSetup, watch: Watch = Transfer.wait_outcome) -> SimulatedBroadcast:
    """Run controller and nodes under virtual time, unmodified.

    Args:
        setup: what to simulate.
        watch: waits for the outcome; may show progress meanwhile.

    Raises:
        SimulationFault: when a checker has complained.
        StuckSimulation: when nothing goes on.
    """

    async def main() -> SimulatedBroadcast:
        world = World(
            setup.fabric(),
            Random(setup.seed),
            delays=setup.delays,
            resolution_s=setup.resolution_s,
            keeps_references=True,
        )
        async with simulated_cluster(
            world, seed=setup.seed, link=setup.link(), topology=setup.topology(), pages=SharedPages()
        ) as cluster:
            # Bytes are compared by the world itself, which knows where each has to arrive in shared pages.
            checkers.watch(cluster)
            report = await _broadcast(setup, cluster, watch)
        if world.complaints:
            raise SimulationFault("; ".join(world.complaints[:3]))
        return report

    return simulate(main, seed=setup.seed, limit_s=time_limit_s(setup.least_s))


def simulate_planner(setup: BroadcastSetup) -> SimulatedBroadcast:
    """Run the planner alone, without trio; for thousands of receivers.

    The mechanism and the block size are chosen as the controller chooses them.

    Raises:
        PlannerStuck: when the plan hangs.
    """
    choice = choose(
        setup.size_bytes,
        setup.receivers,
        link=setup.link(),
        block_size_bytes=setup.block_size_bytes,
        mechanism=None if setup.mechanism == "auto" else Mechanism(setup.mechanism),
        degree=setup.degree,
        replicas=setup.replicas,
    )
    known, told = None, setup.topology()
    if isinstance(told, GivenRacks):
        known = Racks(told.rack_of, feeds_in_line(range(len(told.racks)), 0))
    run = run_planner(
        choice.mechanism,
        setup.receivers,
        setup.size_bytes,
        choice.block_size_bytes,
        setup.rate_bytes_per_s,
        places=setup.places(),
        uplink_bytes_per_s=setup.uplink_bytes_per_s,
        known=known,
        host_rates=setup.host_rates,
        seed=setup.seed,
        degree=setup.degree,
        replicas=setup.replicas,
        latency_s=setup.latency_s,
        control_delay_s=setup.delays.control_s,
        control_jitter=setup.delays.jitter,
        resolution_s=setup.resolution_s,
    )
    return SimulatedBroadcast(
        setup,
        Model.PLANNER,
        choice.mechanism.value,
        choice.reason,
        choice.block_size_bytes,
        run.completion_s,
        run.node_completion_s,
        run.failed,
        run.trace_digest,
        run.sent_bytes,
    )


async def _broadcast(setup: BroadcastSetup, cluster: SimulatedCluster, watch: Watch) -> SimulatedBroadcast:
    source = await cluster.start(SOURCE, 0, receives=False)
    async with trio.open_nursery() as nursery:
        for host in range(1, setup.receivers + 1):
            nursery.start_soon(cluster.start, node_name(host), host)
    before = list(cluster.world.bytes_sent)
    transfer = await source.broadcast(
        random_bytes(setup.size_bytes, setup.seed),
        "object",
        wait_for=setup.receivers,
        mechanism=setup.mechanism,
        block_size=setup.block_size_bytes,
    )
    outcome = await watch(transfer)
    world = cluster.world
    return SimulatedBroadcast(
        setup,
        Model.WHOLE,
        transfer.mechanism.value,
        transfer.reason,
        transfer.block_size_bytes,
        outcome.completion_s,
        dict(outcome.node_completion_s),
        dict(outcome.failed),
        world.trace_digest,
        tuple(after - earlier for after, earlier in zip(world.bytes_sent, before, strict=True)),
    )
