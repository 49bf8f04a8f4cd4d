"""One broadcast's planner in a plain event loop: the model for thousands of receivers.

Owns the loop and the controller's side of one broadcast: events in, commands out, who is done, who has
failed. Must not know how nodes move blocks: they are modelled in `orchestra.simulation.swarm`, on the same
fluid as the simulated network. Pure: no trio, no socket, no clock but its own.

Theory of operation. The planner runs as it is. A loop moves from one point of a grid of time to the next at
which anything happens: flows that are at their marks first, then messages that arrive, then the fluid
settles, once for all changes of that point. Reports and commands take a control delay, drawn anew for each,
and those of one node keep their order. A receiver counts as done when the controller hears so, as in the
product.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import assert_never

from orchestra.simulation.agenda import Agenda
from orchestra.simulation.fabric import Fabric, Wiring
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.links import Delays, ModelNode
from orchestra.simulation.swarm import Swarm
from transfers.blocks import BlockLayout, BlockSet
from transfers.errors import OrchestraError
from transfers.ids import BlockIndex, NodeName
from transfers.planners import BroadcastPlanner, Mechanism, Racks, make_planner
from transfers.planners.events import (
    TICK_INTERVAL_S,
    BlocksStored,
    Cancel,
    Command,
    Event,
    Failed,
    Fetch,
    FetchFailed,
    FetchFailure,
    Finished,
    Follow,
    GiveUp,
    NodeJoined,
    NodeLost,
    Stored,
    Tick,
)
from transfers.planners.waits import WaitCheck, WaitFaultKind

SOURCE = "source"
"""The name of host 0; receivers are ``n1``, ``n2`` and so on."""

# The next two are the simulated network's own (`orchestra.simulation.world`), which is not pure; a test holds
# them equal.
CONTROL_DELAY_S = 0.02
CONTROL_JITTER = 0.5
RESOLUTION_S = 0.001
"""Distance of the points in time at which anything happens (measured: between 0.1 and 4 ms completion differs
no more than between seeds, by 1 %, for 16 x 128 blocks of 42 ms and for 100 x 256 of 45 ms)."""

_LIMIT_S, _LIMIT_RATIO = 600.0, 100.0
"""Virtual time, and multiples of S/W besides, after which a run counts as hanging: far above anything that
goes on (a guess)."""


def time_limit_s(least_s: float) -> float:
    """Virtual time after which a run hangs, of an object that takes ``least_s`` over one link."""
    return _LIMIT_S + _LIMIT_RATIO * least_s


class PlannerStuck(OrchestraError):
    """The planner has made nodes wait for each other, or some receiver was never served."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A host is gone from a time on, in seconds."""

    at_s: float
    host: int


@dataclass(frozen=True, slots=True)
class Slowness:
    """A host's network card carries a share of what it is made for, from a time on, in seconds; both ways."""

    at_s: float
    host: int
    share: float


@dataclass(frozen=True, slots=True)
class PlannerRun:
    """What has come of a broadcast.

    Attributes:
        completion_s: from the start to the last receiver that was served, as the controller hears it.
        node_completion_s: the same for each of them.
        failed: the other receivers, and why.
        planning_cpu_s: spent in the planner, by the clock that was passed in; 0 without one.
        events, commands: told to the planner, and its answers.
        deliveries: blocks stored.
        wasted_bytes: what arrived though nobody wanted it any more.
        sent_bytes: by each host, the source first.
        settlings: computations of rates.
        trace_digest: of every block's arrival; equal for equal arguments.
    """

    completion_s: float
    node_completion_s: Mapping[str, float]
    failed: Mapping[str, str]
    planning_cpu_s: float
    events: int
    commands: int
    deliveries: int
    wasted_bytes: int
    sent_bytes: tuple[int, ...]
    settlings: int
    trace_digest: str


def run_planner(
    mechanism: Mechanism,
    receivers: int,
    size_bytes: int,
    block_size_bytes: int,
    rate_bytes_per_s: float,
    *,
    places: Sequence[int] | None = None,
    uplink_bytes_per_s: float | None = None,
    wiring: Wiring = Wiring.LINE,
    known: Racks | None = None,
    explores: bool = False,
    shuffled: bool = False,
    host_rates: Mapping[int, float] | None = None,
    faults: Sequence[Loss | Slowness] = (),
    seed: int = 0,
    degree: int = 2,
    replicas: int = 3,
    latency_s: float = 1e-4,
    control_delay_s: float = CONTROL_DELAY_S,
    control_jitter: float = CONTROL_JITTER,
    resolution_s: float = RESOLUTION_S,
    cpu_clock: Callable[[], float] | None = None,
    check_waits: bool = False,
    observe: Callable[[float, Event | Command], None] | None = None,
) -> PlannerRun:
    """Broadcast an object from one host to ``receivers`` others, by the planner of a mechanism.

    Args:
        mechanism: whose planner.
        receivers: hosts beside the source's, which is host 0.
        size_bytes: of the object.
        block_size_bytes: of each of its blocks but the last.
        rate_bytes_per_s: of each host's network card, each way.
        places: rack of each host, the source's first; None is one rack.
        uplink_bytes_per_s: of each link between racks, each way; None is no limit.
        wiring: of racks.
        known: what the planner is told of racks.
        explores: whether in Cornet as many pairs of nodes are to meet as can.
        shuffled: whether receivers join in an order that is drawn, not in that of their numbers.
        host_rates: share of the rate that single hosts have, by number.
        faults: in any order.
        seed: of everything that is drawn.
        degree: of the tree.
        replicas: of HDFS.
        latency_s: one way between hosts.
        control_delay_s, control_jitter: of control messages, and of others where a host is busy; the jitter
            is a share of the delay.
        resolution_s: of the grid of time.
        cpu_clock: seconds of CPU used so far, for `PlannerRun.planning_cpu_s`.
        check_waits: whether every plan is checked for nodes that wait in a circle, as the controller does.
        observe: hears of every event that the planner is told and every command of its, with the time.

    Raises:
        ValueError: for bad values, by name.
        PlannerStuck: when the plan hangs.
    """
    if receivers < 1:
        raise ValueError(f"receivers must be at least 1, got {receivers}")
    shares = {} if host_rates is None else host_rates
    rates = [rate_bytes_per_s * shares.get(host, 1.0) for host in range(receivers + 1)]
    fabric = Fabric(rates, places, uplink_bytes_per_s, latency_s, wiring)
    layout = BlockLayout(size_bytes, block_size_bytes)
    rng = Random(seed)
    planner_rng = Random(rng.getrandbits(64))
    planner = make_planner(
        mechanism,
        layout.count,
        NodeName(SOURCE),
        planner_rng,
        degree=degree,
        replicas=replicas,
        racks=known,
        explores=explores,
    )
    loop = PlannerLoop(
        planner,
        layout,
        Fluid(fabric),
        Agenda(resolution_s),
        Delays(latency_s, control_delay_s, control_jitter),
        rng,
        cpu_clock=cpu_clock,
        check_waits=check_waits,
        observe=observe,
    )
    for fault in faults:
        loop.expect(fault)
    if shuffled:
        loop.shuffle()
    return loop.run(time_limit_s(size_bytes / min(rates)))


def node_name(host: int) -> NodeName:
    """What the node of a host is called."""
    return NodeName(f"n{host}" if host else SOURCE)


@dataclass(slots=True)
class _Tally:
    """What is counted on the way."""

    node_completion_s: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    planning_cpu_s: float = 0.0
    events: int = 0
    commands: int = 0


class PlannerLoop:
    """One run. Most callers want `run_planner`.

    Args:
        planner: of a broadcast from `SOURCE`, nobody joined yet.
        layout: the object's blocks.
        fluid: over the hosts of the source and the receivers, the source's first.
        agenda: at time 0.
        delays: of messages.
        rng: of their jitter.
        cpu_clock, check_waits, observe: see `run_planner`.
    """

    def __init__(
        self,
        planner: BroadcastPlanner,
        layout: BlockLayout,
        fluid: Fluid,
        agenda: Agenda,
        delays: Delays,
        rng: Random,
        *,
        cpu_clock: Callable[[], float] | None = None,
        check_waits: bool = False,
        observe: Callable[[float, Event | Command], None] | None = None,
    ) -> None:
        names = [node_name(host) for host in range(fluid.fabric.hosts)]
        self._planner = planner
        self._fluid = fluid
        self._agenda = agenda
        self._delays = delays
        self._rng = rng
        self._swarm = Swarm(names, layout, fluid, agenda, delays, rng, self)
        self._cpu_clock = cpu_clock
        self._observe = observe
        self._waits = WaitCheck(layout.count, names[0]) if check_waits else None
        self._tally = _Tally()
        self._due: dict[NodeName, None] = dict.fromkeys(names[1:])

    def expect(self, fault: Loss | Slowness) -> None:
        """Something is to go wrong.

        Raises:
            ValueError: for a host that is not there, or a share that is not above 0.
        """
        hosts = self._fluid.fabric.hosts
        if not 0 <= fault.host < hosts:
            raise ValueError(f"host must be from 0 to {hosts - 1}, got {fault.host}")
        match fault:
            case Loss(at_s=at_s, host=host):
                self._agenda.at(at_s, self._lose, self._swarm.nodes[host])
            case Slowness(at_s=at_s, host=host, share=share):
                if not (math.isfinite(share) and share > 0):
                    raise ValueError(f"share must be above 0 and finite, got {share}")
                self._agenda.at(at_s, self._slow, host, share)
            case _:
                assert_never(fault)

    def shuffle(self) -> None:
        """Have receivers join in an order that is drawn."""
        names = list(self._due)
        self._rng.shuffle(names)
        self._due = dict.fromkeys(names)

    def run(self, limit_s: float) -> PlannerRun:
        """Until every receiver is done or has failed.

        Raises:
            PlannerStuck: when that takes longer than ``limit_s``, or waits go in a circle.
        """
        for name in list(self._due):
            self._tell(NodeJoined(name, BlockSet(self._planner.block_count)))
            if not self._planner.block_count:
                self._done(name)
        self._tick()
        fluid, agenda, swarm = self._fluid, self._agenda, self._swarm
        while self._due:
            now_s = agenda.go_on(fluid.next_event_s())
            if now_s > limit_s:
                raise PlannerStuck(
                    f"not done after {limit_s:g} virtual seconds: {', '.join(list(self._due)[:4])}"
                )
            for flow in fluid.advance(now_s):
                swarm.reached(flow)
            agenda.happen()
            while fluid.next_event_s() <= now_s:
                for flow in fluid.advance(now_s):
                    swarm.reached(flow)
        return self._result()

    def _result(self) -> PlannerRun:
        tally, swarm = self._tally, self._swarm
        return PlannerRun(
            completion_s=max(tally.node_completion_s.values(), default=0.0),
            node_completion_s=tally.node_completion_s,
            failed=tally.failed,
            planning_cpu_s=tally.planning_cpu_s,
            events=tally.events,
            commands=tally.commands,
            deliveries=swarm.deliveries,
            wasted_bytes=swarm.wasted_bytes,
            sent_bytes=tuple(round(node.sent_bytes) for node in swarm.nodes),
            settlings=self._fluid.settlings,
            trace_digest=swarm.trace_digest,
        )

    # -- reports (`SwarmReports`) ----------------------------------------------------------------

    def blocks_stored(self, node: ModelNode, records: tuple[Stored, ...]) -> None:
        """Blocks have been stored somewhere."""
        self._report(node, self._tell_stored, BlocksStored(node.name, records), not node.missing)

    def fetch_failed(
        self, node: ModelNode, source: NodeName, blocks: tuple[BlockIndex, ...], failure: FetchFailure
    ) -> None:
        """Asks came to nothing."""
        self._report(node, self._tell, FetchFailed(node.name, source, blocks, failure))

    def _report(self, node: ModelNode, what: Callable[..., None], *arguments: object) -> None:
        """Have the controller hear of something, after all that the node has said before."""
        node.last_report_s = max(node.last_report_s, self._agenda.now_s + self._delays.draw_s(self._rng))
        self._agenda.at(node.last_report_s, what, *arguments)

    def _tell_stored(self, event: BlocksStored, complete: bool) -> None:
        self._tell(event)
        if complete:
            self._done(event.node)

    def _done(self, name: NodeName) -> None:
        if name in self._due:
            del self._due[name]
            self._tally.node_completion_s[name] = self._agenda.now_s

    def _fail(self, name: NodeName, reason: str) -> None:
        if name in self._due:
            del self._due[name]
            self._tally.failed[name] = reason

    # -- the planner -----------------------------------------------------------------------------

    def _tick(self) -> None:
        self._tell(Tick())
        self._agenda.at(self._agenda.now_s + TICK_INTERVAL_S, self._tick)

    def _tell(self, event: Event) -> None:
        """Tell the planner something and send its commands off."""
        now_s = self._agenda.now_s
        clock = self._cpu_clock
        if clock is None:
            commands = self._planner.handle(event, now_s)
        else:
            began_s = clock()
            commands = self._planner.handle(event, now_s)
            self._tally.planning_cpu_s += clock() - began_s
        self._tally.events += 1
        self._tally.commands += len(commands)
        if self._observe is not None:
            for each in (event, *commands):
                self._observe(now_s, each)
        if self._waits is not None:
            self._check(self._waits, event, commands)
        for command in commands:
            self._send(command)

    def _send(self, command: Command) -> None:
        match command:
            case Follow(node=name) | Fetch(node=name) | Cancel(node=name):
                node = self._swarm.by_name[name]
                arrives_s = self._agenda.now_s + self._delays.draw_s(self._rng)
                node.last_command_s = max(node.last_command_s, arrives_s)
                self._agenda.at(node.last_command_s, self._swarm.obey, node, command)
            case GiveUp(node=name, reason=reason):
                self._fail(name, reason)
                self._swarm.kill(self._swarm.by_name[name])
                self._tell(NodeLost(name, reason))
            case Failed(reason=reason):
                for name in list(self._due):
                    self._fail(name, reason)
            case Finished():
                pass  # whoever is done has said so
            case _:
                assert_never(command)

    def _check(self, waits: WaitCheck, event: Event, commands: Sequence[Command]) -> None:
        waits.note_event(event)
        for command in commands:
            waits.note_command(command)
        for fault in waits.faults():
            if fault.kind is WaitFaultKind.CIRCLE:
                raise PlannerStuck(f"the plan waits for itself: {fault}")

    # -- faults --------------------------------------------------------------------------------

    def _lose(self, node: ModelNode) -> None:
        self._swarm.kill(node)
        self._agenda.at(self._agenda.now_s + self._delays.latency_s, self._tell_lost, node)

    def _tell_lost(self, node: ModelNode) -> None:
        self._fail(node.name, "lost: connection closed")
        self._tell(NodeLost(node.name, "connection closed"))

    def _slow(self, host: int, share: float) -> None:
        self._fluid.fabric.slow(host, share)
        self._fluid.unsettle()
