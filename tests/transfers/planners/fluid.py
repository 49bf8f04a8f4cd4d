"""A small model of time: equal shares of each port, four slots a sender, a control plane with delay.

Owns the clock and the flows of one broadcast without faults. Simple on purpose: a flow gets the smaller
of its sender's and its receiver's equal share, which leaves some of a port unused where shares differ,
so times come out rather too long than too short. Reports and commands each take ``control_delay_s``,
give or take half of it.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import process_time

from tests.transfers.planners.model import ModelNode
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners.base import BroadcastPlanner
from transfers.planners.events import (
    TICK_INTERVAL_S,
    BlocksStored,
    Cancel,
    Event,
    Fetch,
    Finished,
    Follow,
    NodeJoined,
    Stored,
    Tick,
)

SLOTS = 4
"""Blocks that a node sends at a time, as the block server has it."""

_TIME_LIMIT_S = 600.0


@dataclass(slots=True, eq=False)
class _Flow:
    sender: NodeName
    receiver: NodeName
    block: BlockIndex
    left: float = 1.0
    began_s: float = 0.0


@dataclass(slots=True, eq=False)
class Fluid:
    """One broadcast of equal blocks, each ``block_s`` seconds at the full rate of a port."""

    planner: BroadcastPlanner
    receivers: int
    block_s: float
    control_delay_s: float
    rng: Random
    now: float = 0.0
    planning_cpu_s: float = 0.0
    events_told: int = 0
    asked_of_source: list[BlockIndex] = field(default_factory=list)
    done_s: dict[NodeName, float] = field(default_factory=dict)
    slow: dict[NodeName, float] = field(default_factory=dict)
    _nodes: dict[NodeName, ModelNode] = field(default_factory=dict)
    _flows: list[_Flow] = field(default_factory=list)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _last_s: dict[tuple[str, NodeName], float] = field(default_factory=dict)
    _ready: dict[NodeName, dict[tuple[NodeName, BlockIndex], None]] = field(default_factory=dict)
    _numbered: int = 0
    _finished: bool = False

    def run(self) -> float:
        """Seconds until the last receiver holds the last block."""
        count, source = self.planner.block_count, self.planner.source
        self._nodes[source] = ModelNode(source, BlockSet.full(count))
        names = [NodeName(f"r{index}") for index in range(self.receivers)]
        for name in names:
            self._nodes[name] = ModelNode(name, BlockSet(count))
        self._ready = {name: {} for name in self._nodes}
        for name in names:
            self._tell(NodeJoined(name, BlockSet(count)))
        self._tick()
        while len(self.done_s) < self.receivers:
            self._step()
            assert self.now < _TIME_LIMIT_S, f"not done at {self.now} s: {len(self.done_s)} receivers are"
        return max(self.done_s.values())

    # -- time ----------------------------------------------------------------------------------

    def _step(self) -> None:
        rates = self._rates()
        ends = [(self.now + flow.left / rate, flow) for flow, rate in zip(self._flows, rates, strict=True)]
        first_end_s, first = min(ends, key=lambda end: end[0], default=(float("inf"), None))
        until_s = min(first_end_s, self._due[0][0])
        for flow, rate in zip(self._flows, rates, strict=True):
            flow.left -= rate * (until_s - self.now)
        self.now = until_s
        if first is not None and first_end_s <= self._due[0][0]:
            self._flows.remove(first)
            self._arrived(first)
        else:
            heapq.heappop(self._due)[2]()
        self._fill_slots()

    def _rates(self) -> list[float]:
        """Blocks a second of each flow."""
        out: dict[NodeName, int] = {}
        into: dict[NodeName, int] = {}
        for flow in self._flows:
            out[flow.sender] = out.get(flow.sender, 0) + 1
            into[flow.receiver] = into.get(flow.receiver, 0) + 1
        return [
            min(self.slow.get(flow.sender, 1.0) / out[flow.sender], 1.0 / into[flow.receiver]) / self.block_s
            for flow in self._flows
        ]

    def _later(self, way: str, node: NodeName, what: Callable[[], None]) -> None:
        """What is said to and by one node keeps its order."""
        at_s = self.now + self.control_delay_s * self.rng.uniform(0.5, 1.5)
        at_s = self._last_s[way, node] = max(at_s, self._last_s.get((way, node), 0.0))
        self._numbered += 1
        heapq.heappush(self._due, (at_s, self._numbered, what))

    def _tick(self) -> None:
        self._tell(Tick())
        self._numbered += 1
        heapq.heappush(self._due, (self.now + TICK_INTERVAL_S, self._numbered, self._tick))

    # -- movement ------------------------------------------------------------------------------

    def _fill_slots(self) -> None:
        """First ready, first served; one block at a time to each receiver."""
        for sender, ready in self._ready.items():
            sending = [flow.receiver for flow in self._flows if flow.sender == sender]
            for receiver, block in list(ready):
                if len(sending) >= SLOTS:
                    break
                if self._nodes[receiver].asked.get(block) != sender:
                    del ready[receiver, block]
                elif receiver not in sending and block in self._nodes[sender].holds:
                    del ready[receiver, block]
                    sending.append(receiver)
                    self._flows.append(_Flow(sender, receiver, block, began_s=self.now))

    def _arrived(self, flow: _Flow) -> None:
        node = self._nodes[flow.receiver]
        if flow.block not in node.holds:
            node.asked.setdefault(flow.block, flow.sender)
            node.store(flow.block)
            self._note_asks(node)
            self._note_ready(node, flow.block)
        if node.holds.complete:
            self.done_s.setdefault(node.name, self.now)
        stored = BlocksStored(node.name, (Stored(flow.block, flow.sender, self.now - flow.began_s),))
        self._later("report", node.name, lambda: self._tell(stored))

    def _note_asks(self, node: ModelNode) -> None:
        for block, source in node.asked.items():
            if block in self._nodes[source].holds:
                self._ready[source].setdefault((node.name, block))

    def _note_ready(self, holder: ModelNode, block: BlockIndex) -> None:
        for node in self._nodes.values():
            if node.asked.get(block) == holder.name:
                self._ready[holder.name].setdefault((node.name, block))

    # -- control -------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        self.events_told += 1
        started = process_time()
        commands = self.planner.handle(event, self.now)
        self.planning_cpu_s += process_time() - started
        for command in commands:
            match command:
                case Follow() | Fetch() | Cancel():
                    if isinstance(command, Fetch) and command.source == self.planner.source:
                        self.asked_of_source += command.blocks
                    self._later("command", command.node, lambda command=command: self._obey(command))  # type: ignore[misc]
                case Finished():
                    self._finished = True
                case _:
                    raise AssertionError(f"{command} without a fault")

    def _obey(self, command: Follow | Fetch | Cancel) -> None:
        node = self._nodes[command.node]
        node.obey(command)
        self._note_asks(node)
