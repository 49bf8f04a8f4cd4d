"""An adversarial scheduler: carries out what a planner says, in the worst order it can be told to.

Owns the true state of all nodes and every message on its way. Each node's reports and commands keep
their order; beyond that any of them may be late by any number of steps. A node may die with reports
unsent, come back with all, some or none of what it held, with its loss noticed or not. Everything that
must hold after each answer of a planner is checked here.
"""

from collections import deque
from dataclasses import dataclass, field
from random import Random

from tests.transfers.planners.model import ModelNode
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import BroadcastPlanner, Mechanism, Racks, TreePlanner, make_planner
from transfers.planners.base import MAX_FAILURES_PER_NODE
from transfers.planners.cornet import ASKS_A_PAIR, MAX_MOVES, MAX_SOURCES
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
    NodeRecovered,
    NodeSuspected,
    Stored,
    Tick,
)
from transfers.planners.waits import WaitCheck, WaitFaultKind

SOURCE = NodeName("source")

_QUIET_TICKS = 50
"""Ticks without any movement after which a broadcast counts as hanging: far longer than any rest."""

_MOST_ROUNDS = 600
"""In each of which everything under way arrives: a chain of 20 nodes, 20 blocks, and 30 failures of each are
far below."""


@dataclass(slots=True, eq=False)
class World:
    """One broadcast under an adversary."""

    mechanism: Mechanism
    block_count: int
    seed: int = 0
    racks: Racks | None = None
    now: float = 0.0
    failed: Failed | None = None
    finished: bool = False
    disturbances: int = 1
    joins: int = 0
    orders: int = 0
    most_nodes: int = 1
    commands: list[Command] = field(default_factory=list)
    nodes: dict[NodeName, ModelNode] = field(default_factory=dict)
    wants: dict[NodeName, bool] = field(default_factory=dict)
    inventories: dict[NodeName, BlockSet] = field(default_factory=dict)
    given_up: set[NodeName] = field(default_factory=set)
    failures: dict[NodeName, int] = field(default_factory=dict)
    planner: BroadcastPlanner = field(init=False)
    check: WaitCheck = field(init=False)
    _reports: dict[NodeName, deque[Event]] = field(default_factory=dict)
    _orders: dict[NodeName, deque[Follow | Fetch | Cancel]] = field(default_factory=dict)
    _suspected: dict[NodeName, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.planner = make_planner(
            self.mechanism, self.block_count, SOURCE, Random(self.seed), racks=self.racks
        )
        self.check = WaitCheck(self.block_count, SOURCE)
        self.nodes[SOURCE] = ModelNode(SOURCE, BlockSet.full(self.block_count))
        self.wants[SOURCE] = False
        self._orders[SOURCE] = deque()

    # -- what the adversary may do -------------------------------------------------------------

    def join(self, name: NodeName, wants: bool = True, holds: BlockSet | None = None) -> None:
        """A node takes part, with an inventory if it likes; what was on its way to it is lost."""
        assert name not in self.nodes
        held = BlockSet(self.block_count) if holds is None else holds
        self.nodes[name] = ModelNode(name, held)
        self.wants[name] = wants
        self._orders.pop(name, None)
        self._reports.setdefault(name, deque()).append(NodeJoined(name, held.copy(), wants))

    def kill(self, name: NodeName, unsent: int = 0, noticed: bool = True) -> None:
        """A node dies, its last ``unsent`` reports with it; unnoticed, only its coming back tells."""
        self.inventories[name] = self.nodes.pop(name).holds
        self._orders.pop(name, None)
        self._suspected.pop(name, None)
        reports = self._reports.setdefault(name, deque())
        while reports and unsent > 0 and isinstance(reports[-1], BlocksStored | FetchFailed):
            reports.pop()
            unsent -= 1
        if noticed:
            reports.append(NodeLost(name, "killed"))

    def suspect(self, name: NodeName) -> None:
        """A node is silent."""
        self._suspected[name] = None
        self.tell(NodeSuspected(name))

    def recover(self, name: NodeName) -> None:
        """It speaks again."""
        self._suspected.pop(name, None)
        self.tell(NodeRecovered(name))

    def tick(self) -> None:
        """Time passes."""
        self.now += TICK_INTERVAL_S
        self.tell(Tick())

    def servable(self) -> list[tuple[ModelNode, BlockIndex]]:
        """Asks that can be answered now."""
        return [
            (node, block)
            for node in self.nodes.values()
            for block, source in node.asked.items()
            if source in self.nodes and block in self.nodes[source].holds
        ]

    def serve(self, node: ModelNode, block: BlockIndex) -> None:
        """Answer one."""
        assert self.wants[node.name], f"{node.name} wants nothing and has asked for block {block}"
        assert block not in node.holds
        source = node.store(block)
        reports = self._reports[node.name]
        record = Stored(block, source, 0.01)
        if reports and isinstance(reports[-1], BlocksStored):
            reports[-1] = BlocksStored(node.name, (*reports[-1].records, record))
        else:
            reports.append(BlocksStored(node.name, (record,)))

    def fail(self, node: ModelNode, source: NodeName, failure: FetchFailure, only: int | None = None) -> None:
        """Asks of a node at one source fail: one of them, or all."""
        blocks = [block for block, at in node.asked.items() if at == source]
        if only is not None and blocks:
            blocks = [blocks[only % len(blocks)]]
        node.fail(source, blocks, failure)
        self._reports[node.name].append(FetchFailed(node.name, source, tuple(blocks), failure))

    def report_senders(self) -> list[NodeName]:
        """Nodes of which reports are on their way."""
        return [name for name, reports in self._reports.items() if reports]

    def order_receivers(self) -> list[NodeName]:
        """Nodes to which commands are on their way."""
        return [name for name, orders in self._orders.items() if orders]

    def deliver_report(self, name: NodeName) -> None:
        """The oldest report of a node arrives."""
        event = self._reports[name].popleft()
        if isinstance(event, NodeJoined):
            self.joins += 1
            if name in self.nodes and not any(isinstance(at, NodeJoined) for at in self._reports[name]):
                self._orders[name] = deque()
        if isinstance(event, FetchFailed):
            self.failures[name] = self.failures.get(name, 0) + 1
        self.tell(event)

    def deliver_order(self, name: NodeName) -> None:
        """The oldest command to a node arrives."""
        order = self._orders[name].popleft()
        for block in self.nodes[name].obey(order):
            assert isinstance(order, Fetch)
            self._reports[name].append(BlocksStored(name, (Stored(block, order.source, 0.0),)))

    # -- the planner's side --------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Ask the planner, check its answer, send the commands off."""
        commands = self.planner.handle(event, self.now)
        self.commands += commands
        self.most_nodes = max(self.most_nodes, len(self.planner.members))
        unsettling = self.planner.unsettled or not isinstance(event, BlocksStored | Tick)
        self.disturbances += unsettling
        self.check.note_event(event)
        for command in commands:
            self._take(command)
            self.check.note_command(command)
        if self.failed is None:
            self._check_picture()
        bound = self.joins * self.block_count * (2 + MAX_MOVES)
        bound += self.disturbances * self.most_nodes * (self.block_count + 1)
        assert self.orders <= bound, f"{self.orders} orders, more than {bound}"

    def _take(self, command: Command) -> None:
        assert self.failed is None, f"{command} after the end"
        match command:
            case Follow() | Fetch() | Cancel():
                self._check_order(command)
                if command.node in self._orders and command.node in self.nodes:
                    self._orders[command.node].append(command)
            case GiveUp(node=node):
                assert self.failures.get(node, 0) >= MAX_FAILURES_PER_NODE
                self.given_up.add(node)
            case Finished():
                self.finished = True
            case Failed():
                self.failed = command
                self._check_failed(command)

    def _check_order(self, order: Follow | Fetch | Cancel) -> None:
        member = self.planner.members[order.node]
        match order:
            case Follow(source=None):
                self.orders += 1
            case Follow(source=source):
                self.orders += 1
                assert member.wants
                assert source in self.planner.members
                assert source != order.node
            case Fetch(source=source, blocks=blocks):
                self.orders += len(blocks)
                assert member.wants
                assert blocks
                assert source in self.planner.members
                assert source != order.node
                assert all(block not in member.holds for block in blocks), "asked for what is there"
            case Cancel(blocks=blocks):
                assert blocks

    def _check_picture(self) -> None:
        for fault in self.check.faults():
            assert fault.kind is not WaitFaultKind.CIRCLE, str(fault)
            assert self.planner.unsettled, f"{fault}, and nothing is going to be done about it"
        planner = self.planner
        if isinstance(planner, TreePlanner):
            for name in planner.members:
                children = [member.name for member in planner.living() if member.follows.get(0) == name]
                assert len(children) <= planner.degree, f"{name} has children {children}"
        if self.mechanism is Mechanism.CORNET:
            for member in planner.living():
                # What is moved off a silent or late sender may go beyond, a block at a time.
                assert len(member.asked) <= MAX_SOURCES * ASKS_A_PAIR

    def _check_failed(self, failed: Failed) -> None:
        """Nobody alive has ever reported a block that is said to be lost."""
        assert failed.lost_blocks
        for block, last in failed.lost_blocks.items():
            assert last in failed.reason
            for name, node in self.nodes.items():
                assert block not in node.holds or self._on_its_way(name, block), f"{name} holds block {block}"

    def _on_its_way(self, name: NodeName, block: BlockIndex) -> bool:
        for event in self._reports.get(name, ()):
            if isinstance(event, BlocksStored) and any(record.block == block for record in event.records):
                return True
            if isinstance(event, NodeJoined) and block in event.holds:
                return True
        return False

    # -- the end -------------------------------------------------------------------------------

    def drain(self) -> None:
        """No more harm: everything arrives, the silent speak, the dead are unreachable. Must end."""
        for name in list(self._suspected):
            self.recover(name)
        for name in self.inventories:
            if name not in self.nodes:
                self._reports[name].append(NodeLost(name, "noticed at last"))
        quiet = rounds = 0
        while quiet < _QUIET_TICKS and not self._over():
            moved = False
            rounds += 1
            assert rounds <= _MOST_ROUNDS, f"no end in sight after {rounds} rounds"
            for name in self.report_senders():
                while self._reports[name]:
                    self.deliver_report(name)
                    moved = True
            for name in self.order_receivers():
                while self._orders[name]:
                    self.deliver_order(name)
                    moved = True
            for node in list(self.nodes.values()):
                for source in dict.fromkeys([*node.asked.values(), *node.follows.values()]):
                    if source not in self.nodes:
                        self.fail(node, source, FetchFailure.UNREACHABLE)
                        moved = True
            for node, block in self.servable():
                if block in node.asked:
                    self.serve(node, block)
                    moved = True
            self.tick()
            quiet = 0 if moved else quiet + 1

    def _over(self) -> bool:
        return self.failed is not None or (
            not self.report_senders() and not self.order_receivers() and self.finished and not self.lacking()
        )

    def lacking(self) -> list[NodeName]:
        """Living receivers, not given up, that do not hold every block."""
        return [
            name
            for name, node in self.nodes.items()
            if self.wants[name] and name not in self.given_up and not node.holds.complete
        ]

    def check_end(self) -> None:
        """Every living receiver holds every block, or the transfer has failed for a reason."""
        if self.failed is None:
            assert not self.lacking(), f"hanging: {self.lacking()} at {self.now:.1f} s"
            assert self.finished
        else:
            assert self.lacking() or any(not member.done for member in self.planner.members.values()), (
                "failed though nobody lacks anything"
            )
