"""The transfer controller of one broadcast.

It turns what nodes report into planner events and planner commands into messages, and keeps the
account of who is through. What the planner decides is not its business; neither is which
transfer goes first.

A broadcast is proposed (the name is reserved, receivers are waited for, a mechanism is chosen), planned
(the source puts the object in its store) and offered, which is when it is accepted and its clock starts.
After it is done it stays: late joiners are served until it is released. A small object comes with its
proposal and has a head start (`orchestra.controller.head_start`); there is a planner only once that does not
suffice.

Nodes of one host that share their store count as one for the planner: the first of them receives,
the others map its copy when it is complete.
"""

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import assert_never

from orchestra.choice import Choice
from orchestra.controller.gauge import Gauge
from orchestra.controller.head_start import PATIENCE_S, HeadStart
from orchestra.controller.members import Node
from orchestra.controller.transfer import (
    GONE,
    PROGRESS_INTERVAL_S,
    Cluster,
    TransferController,
    TransferState,
)
from orchestra.messages import (
    Begin,
    FetchBlocks,
    FetchTrouble,
    FollowSource,
    Holding,
    LetGo,
    MapFailed,
    MapObject,
    Progress,
    Propose,
    PushTrouble,
    Settled,
    WithdrawAsks,
)
from transfers.blocks import BlockSet
from transfers.ids import NodeName
from transfers.manifest import Manifest, ObjectKey
from transfers.planners import Mechanism, make_planner
from transfers.planners.base import BroadcastPlanner
from transfers.planners.events import (
    BlocksStored,
    Cancel,
    Command,
    Event,
    Failed,
    Fetch,
    FetchFailed,
    Finished,
    Follow,
    GiveUp,
    NodeJoined,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
    Stored,
    Tick,
    report_interval_s,
)
from transfers.planners.waits import WaitCheck, WaitFaultKind

OFFER_LIMIT_S = 600.0
"""Longest time between plan and offer, in which the source copies the object into its store (a guess: 300 GB
at the 0.5 GB/s measured into fresh memory)."""


class BroadcastController(TransferController):
    """One broadcast, from its proposal to its release.

    Args:
        owner: the node that proposed it and is its source.
        propose: what it asked for.
        rng: for the planner's random choices.
    """

    kind = "broadcast"

    def __init__(self, cluster: Cluster, owner: NodeName, propose: Propose, rng: Random, now: float) -> None:
        super().__init__(propose.transfer, cluster, propose.timeout_s, now)
        self.owner = owner
        self.propose = propose
        self.proposed_at_s = now
        self.choice: Choice | None = None
        self.planned_at_s: float | None = None
        self.manifest: Manifest | None = None
        self._planner: BroadcastPlanner | None = None
        self._waits: WaitCheck | None = None
        self._head_start: HeadStart | None = None
        self._gauge: Gauge | None = None  # while it is counted how long it takes, and there is a plan
        self._begin: Begin | None = None  # the same for all, so that it is encoded once
        self._rng = rng
        self._lacking: NodeName | None = None  # someone who was not through when last looked at
        self._counted: dict[NodeName, None] = {}
        self._uncounted: dict[NodeName, None] = {}
        self._settled: dict[NodeName, None] = {}
        self._first_of_host: dict[NodeName, NodeName] = {}
        self._wanted_by: dict[NodeName, None] = {}
        self._told_progress: tuple[int, int] = (-1, -1)
        self._told_progress_at_s = 0.0

    # -- before it starts ----------------------------------------------------------------------

    def receivers_now(self) -> tuple[list[NodeName], list[NodeName]]:
        """Those who would receive if it started now, and those named who are not there."""
        if self.propose.to is None:
            return [node.name for node in self.cluster.members.agents() if node.name != self.owner], []
        there = [name for name in self.propose.to if self.cluster.members.present(name) is not None]
        return there, [name for name in self.propose.to if name not in there]

    def ready(self, now: float) -> bool:
        """Whether the receivers it waits for are there, or the wait is over."""
        there, absent = self.receivers_now()
        if now - self.proposed_at_s >= self.timeout_s:
            return True
        return not absent if self.propose.to is not None else len(there) >= self.propose.wait_for

    def start(self, manifest: Manifest, now: float) -> None:
        """Accept it: the object is in the source's store."""
        self.manifest = manifest
        self.state = TransferState.ACTIVE
        self.tally.accepted_at_s = self.moved_at_s = now
        there, absent = self.receivers_now()
        self._counted = dict.fromkeys(there + absent)
        self.report_interval_s = report_interval_s(len(self._counted))
        for name in absent:
            self.tally.failed[name] = f"not joined within {self.timeout_s:g} s"
        assert self.choice is not None, "a broadcast is planned before it is offered"
        if self.propose.manifest is None:
            self.tally.predicted_s = self.choice.predicted_s
            self._gauge = Gauge(self.owner, manifest.layout, now, self.choice.mechanism)
            self._set_planner(self.choice.mechanism, manifest, self.owner)
        else:
            others = [name for name in self._wanted_by if name != self.owner and name not in self._counted]
            self._uncounted.update(dict.fromkeys(others))
            self._begin_head_start(manifest, [*there, *others])
        for name in there:
            self._add_receiver(name, now)
        for name in list(self._wanted_by):
            self.want(name, now)
        self._plan(Tick(), now)  # some plan only once they have seen all who are there
        self._check_done(now)

    def adopt(self, manifest: Manifest, now: float) -> None:
        """Take over a broadcast that was done before this controller began; the owner holds all of it."""
        self.manifest = manifest
        self.state = TransferState.DONE
        self.tally.accepted_at_s = now
        # For whoever waits for its end, promised by a controller that is no more.
        self.tally.reason = "the controller was started anew and does not know who holds the object"
        self._set_planner(Mechanism.CORNET, manifest, self.owner)
        self._settled[self.owner] = None

    def _set_planner(self, mechanism: Mechanism, manifest: Manifest, source: NodeName) -> None:
        self._planner = make_planner(mechanism, manifest.layout.count, source, self._rng)
        self._waits = WaitCheck(manifest.layout.count, source)

    # -- the head start ------------------------------------------------------------------------

    def _begin_head_start(self, manifest: Manifest, there: Iterable[NodeName]) -> None:
        """Send a small object to one node of each host, before there is a plan."""
        moved_to = self.cluster.members.one_of_each_host(self.owner, there)
        receivers = {node.name: node.join.data_address for node in moved_to}
        content = self.propose.content
        self._head_start = HeadStart(manifest, self.owner, content, receivers.items())
        self.propose = replace(self.propose, content=b"")
        for name, message in self._head_start.messages():
            self.cluster.send(name, message)

    def _end_head_start(self, now: float) -> None:
        """Plan from here on, with what everyone holds by now."""
        started, self._head_start = self._head_start, None
        if started is None or self.manifest is None or self.choice is None:
            return
        self._set_planner(self.choice.mechanism, self.manifest, self.owner)
        for name, held in started.holds.items():
            if self.cluster.members.present(name) is not None:
                self._plan(NodeJoined(name, held), now)
        self._plan(Tick(), now)

    def push_failed(self, node: NodeName, trouble: PushTrouble, now: float) -> None:
        """A block could not be pushed: plan for who lacks it."""
        if self.manifest is not None and trouble.key == self.manifest.key and self.state not in GONE:
            self.cluster.log(f"{self.name}: {node}: block {trouble.block} {trouble.reason}")
            if not self.over:
                self._end_head_start(now)

    def _holds_of(self, name: NodeName) -> BlockSet | None:
        """What a node holds, as far as it is known here; None where it has said nothing."""
        if self._head_start is not None:
            return self._head_start.holds.get(name)
        member = None if self._planner is None else self._planner.members.get(name)
        return None if member is None else member.holds

    def _under_way(self, name: NodeName) -> bool:
        """Whether a node holds the object or is being sent it, not by mapping."""
        if self._head_start is not None:
            return self._head_start.knows(name)
        return self._planner is not None and name in self._planner.members

    # -- who takes part ------------------------------------------------------------------------

    def participants(self) -> list[NodeName]:
        """The source and all receivers, counted or not; those, too, who wait for a holder to come back."""
        waiting = () if self.manifest is None else self._wanted_by
        return list(dict.fromkeys([self.owner, *self._counted, *self._uncounted, *waiting]))

    def involves(self, node: NodeName) -> bool:
        """Whether a node is one of `participants`."""
        waiting = self.manifest is not None and node in self._wanted_by
        return node == self.owner or node in self._counted or node in self._uncounted or waiting

    @property
    def moving(self) -> bool:
        """Also while a late joiner is served."""
        return self.state is TransferState.ACTIVE or (
            self.state in (TransferState.DONE, TransferState.PARTIAL) and not self._idle()
        )

    def want(self, name: NodeName, now: float) -> None:
        """A node asks for the object, whether or not it was meant for it."""
        under_way = self.state in (TransferState.ACTIVE, TransferState.DONE, TransferState.PARTIAL)
        if not under_way or (self._planner is None and self._head_start is None):
            self._wanted_by[name] = None
        elif name != self.owner and not self._served(name):
            self._end_head_start(now)
            if name not in self._counted:
                self._uncounted[name] = None
            self._add_receiver(name, now)

    def _served(self, name: NodeName) -> bool:
        return self._under_way(name) or name in self._first_of_host

    def wanted_in_vain(self) -> list[NodeName]:
        """Who still wants the object where it never came to be."""
        return list(self._wanted_by) if self.manifest is None else []

    def node_joined(self, node: Node, now: float) -> None:
        """A late joiner fetches and is not counted; a receiver that comes back goes on where it was."""
        if self.manifest is None or self.state in GONE:
            return
        if self.over and node.name == self.owner:  # it may have gone before it was told
            self.cluster.send(self.owner, self.tally.outcome(self.name))
        held = next((item for item in node.join.inventory if item.manifest.key == self.manifest.key), None)
        meant = node.name in self._counted or (node.join.receives and self.propose.to is None)
        if held is not None or meant or node.name in self._uncounted:
            self._end_head_start(now)
        if self._planner is None:
            self._join_asleep(node, held, now)
        elif held is not None and held.manifest == self.manifest:
            self._add_holder(node.name, held.blocks, now)
        elif node.name in self._counted and not self.over:
            self.tally.failed.pop(node.name, None)
            self._add_receiver(node.name, now)
        elif node.name in self._uncounted or (node.join.receives and self.propose.to is None):
            self._uncounted[node.name] = None
            self._add_receiver(node.name, now)

    def _join_asleep(self, node: Node, held: Holding | None, now: float) -> None:
        """A node comes while no living one holds all: perhaps it does, perhaps it waits with the others."""
        if held is not None and held.manifest == self.manifest and held.blocks.complete:
            self._wake_up(node.name, held.manifest, now)
        elif node.name in self._counted or (node.join.receives and self.propose.to is None):
            self._wanted_by[node.name] = None

    def _add_holder(self, name: NodeName, blocks: BlockSet, now: float) -> None:
        """A node has come back with what it held."""
        if name in self._counted and not self.over:
            self.tally.failed.pop(name, None)
        elif name != self.owner and name not in self._counted:
            self._uncounted[name] = None
        self._plan(NodeJoined(name, blocks, wants=name != self.owner), now)

    def _add_receiver(self, name: NodeName, now: float) -> None:
        """Bring one receiver in: by mapping where a node of its host has or will have the object."""
        if self.manifest is None or (self._planner is None and self._head_start is None):
            return
        node = self.cluster.members.present(name)
        if node is None:
            return
        self._settled.pop(name, None)
        if self._head_start is not None and self._under_way(name):
            return
        first = self._host_mate(node)
        if first is None:
            if self._begin is None:
                self._begin = Begin(self.manifest, self.report_interval_s)
            self.cluster.send(name, self._begin)
            self._plan(NodeJoined(name, BlockSet(self.manifest.layout.count)), now)
            return
        self._first_of_host[name] = first
        if first == self.owner or first in self._settled:
            self._send_map(name, first)

    def _host_mate(self, node: Node) -> NodeName | None:
        """A node whose copy this one can map, now or when it is complete."""
        if not node.join.store_address:
            return None
        for mate in self.cluster.members.sharing_on(node.join.host):
            name = mate.name
            if name == node.name or not (
                name == self.owner or name in self._counted or name in self._uncounted
            ):
                continue
            fit = name not in self._first_of_host and name not in self.tally.failed
            if (name == self.owner or fit) and self._under_way(name):
                return name
        return None

    def _send_map(self, name: NodeName, first: NodeName) -> None:
        mate = self.cluster.members.present(first)
        if mate is not None and self.manifest is not None:
            self.cluster.send(name, MapObject(self.manifest, first, mate.join.store_address))

    def _send_maps_of(self, first: NodeName) -> None:
        """A node's copy is complete: those who wait for it can map it."""
        for name, of in self._first_of_host.items():
            if of == first and name not in self._settled:
                self._send_map(name, first)

    def _rehome_mates(self, first: NodeName, now: float) -> None:
        """The node whose copy others were to map is gone: they receive for themselves, one a host."""
        mates = [name for name, of in self._first_of_host.items() if of == first]
        for name in mates:
            del self._first_of_host[name]
        for name in mates:
            if name not in self._settled:
                self._add_receiver(name, now)

    # -- events --------------------------------------------------------------------------------

    def node_lost(self, name: NodeName, reason: str, now: float) -> None:
        """A node is gone: a receiver that was not through has failed; the planner mends the rest."""
        self._wanted_by.pop(name, None)
        if self.state in GONE:
            return
        if self._head_start is not None and self.over and name != self.owner:
            self._head_start.holds.pop(name, None)  # one holder less; nobody waits for anything
            self._first_of_host.pop(name, None)
            return
        self._end_head_start(now)
        if self._planner is None:
            if name == self.owner and self.manifest is None:
                self.end(TransferState.FAILED, f"source {name} lost before it offered: {reason}", now)
            return
        if name in self._counted and name not in self._settled and not self.over:
            self.tally.failed.setdefault(name, f"lost: {reason}")
            self.tally.node_completion_s.pop(name, None)
        self._uncounted.pop(name, None)
        self._first_of_host.pop(name, None)
        self._plan(NodeLost(name, reason), now)
        self._rehome_mates(name, now)
        self._check_done(now)

    def node_suspected(self, name: NodeName, suspected: bool, now: float) -> None:
        """Silence, or an end of it."""
        if self.state not in GONE:
            self._plan(NodeSuspected(name) if suspected else NodeRecovered(name), now)

    def blocks_held(self, node: NodeName, key: ObjectKey, records: tuple[Stored, ...], now: float) -> None:
        """Blocks have arrived somewhere."""
        if not self._has_begun or self.manifest is None or key != self.manifest.key or self.state in GONE:
            return
        blocks = [record.block for record in records]
        if blocks and not 0 <= min(blocks) <= max(blocks) < self.manifest.layout.count:
            self.cluster.log(f"{node} reports blocks of {self.name} that do not exist")
            return
        self.moved_at_s = now
        if self._head_start is not None:
            self._head_start.note(node, records)
        else:
            if self._gauge is not None:
                self._gauge.note(node, records, now)
            self._plan(BlocksStored(node, records), now)
        held = self._holds_of(node)
        if held is not None and held.complete and node in self._counted and not self.over:
            self.tally.node_completion_s.setdefault(node, now - self.tally.accepted_at_s)

    def fetch_failed(self, node: NodeName, trouble: FetchTrouble, now: float) -> None:
        """Asks came to nothing."""
        self._end_head_start(now)
        if self._planner is not None and self.state not in GONE:
            blocks = ", ".join(map(str, trouble.blocks[:4])) + (" …" if len(trouble.blocks) > 4 else "")
            self.cluster.log(
                f"{self.name}: {node} could not fetch from {trouble.source}: {trouble.failure.value}"
                + (f" (blocks {blocks})" if blocks else "")
            )
            self._plan(FetchFailed(node, trouble.source, trouble.blocks, trouble.failure), now)

    def settled(self, node: NodeName, message: Settled, now: float) -> None:
        """A node is through: it holds the object, or it has failed on its own."""
        if not self._has_begun or self.manifest is None or message.key != self.manifest.key:
            return
        if self.state in GONE:
            return
        self.moved_at_s = now
        if self.over:  # a late joiner is through, or someone who came back may not have heard
            self.cluster.send(node, self.tally.outcome(self.name))
        if message.failure is not None:
            self._receiver_failed(node, message.failure, now)
        else:
            self._settled[node] = None
            if node in self._counted and not self.over:
                self.tally.failed.pop(node, None)
                self.tally.node_completion_s.setdefault(node, now - self.tally.accepted_at_s)
            if self._head_start is not None:
                self._head_start.note_holder(node)
            elif self._planner is not None and node not in self._planner.members:
                # It has mapped another's copy: one holder more.
                full = BlockSet.full(self.manifest.layout.count)
                self._plan(NodeJoined(node, full, wants=False), now)
            self._send_maps_of(node)
        self._check_done(now)

    def map_failed(self, node: NodeName, message: MapFailed, now: float) -> None:
        """Mapping does not work for this node: it receives like any other."""
        self._end_head_start(now)
        if self._planner is None or self.manifest is None or self.state in GONE:
            return
        self.cluster.log(f"{self.name}: {node} cannot map its host's store: {message.reason}")
        self._first_of_host.pop(node, None)
        self.cluster.send(node, Begin(self.manifest))
        self._plan(NodeJoined(node, BlockSet(self.manifest.layout.count)), now)

    def tick(self, now: float) -> None:
        """Plan what is due, tell the owner how far it is, and end what stands still."""
        if self.state in GONE:
            return
        if self.state is TransferState.ACTIVE and now - self.moved_at_s >= PATIENCE_S:
            self._end_head_start(now)
        if not self._has_begun:
            if (
                self.manifest is None
                and self.planned_at_s is not None
                and now - self.planned_at_s >= OFFER_LIMIT_S
            ):
                self.end(TransferState.FAILED, f"not offered within {OFFER_LIMIT_S:g} s", now)
            return
        if not self._idle():
            self._plan(Tick(), now)
        if self.state is not TransferState.ACTIVE:
            return
        if now - self.moved_at_s >= self.timeout_s:
            for name in self._unsettled():
                self.tally.failed[name] = f"stood still for {self.timeout_s:g} s"
                self.cluster.send(name, LetGo(self.name, self.tally.failed[name]))
                self._plan(NodeLost(name, "stood still"), now)
            self._check_done(now)
        self._tell_progress(now)

    # -- planner -------------------------------------------------------------------------------

    @property
    def _has_begun(self) -> bool:
        """Whether it is planned, or has its head start; not while it waits, or for a holder to come back."""
        return self._planner is not None or self._head_start is not None

    def _idle(self) -> bool:
        return self._planner is None or self._planner.all_done

    def _plan(self, event: Event, now: float) -> None:
        if self._planner is None or self._waits is None:
            return
        commands = self._planner.handle(event, now)
        self._waits.note_event(event)
        for command in commands:
            self._waits.note_command(command)
        for fault in self._waits.faults():
            if fault.kind is WaitFaultKind.CIRCLE and not self.over:
                self.cluster.log(f"{self.name}: the {self.method} planner made nodes wait in a {fault}")
                self.end(TransferState.FAILED, f"the plan waits for itself: {fault}", now)
                return
        for command in commands:
            self._carry_out(command, now)

    def _carry_out(self, command: Command, now: float) -> None:
        assert self.manifest is not None, "there is no plan before there is a manifest"
        key = self.manifest.key
        match command:
            case Follow(node=node, source=source, stripe=stripe, stripes=stripes):
                self.cluster.send(node, FollowSource(key, source, stripe, stripes))
            case Fetch(node=node, source=source, blocks=blocks):
                self.cluster.send(node, FetchBlocks(key, source, blocks))
            case Cancel(node=node, blocks=blocks):
                self.cluster.send(node, WithdrawAsks(key, blocks))
            case GiveUp(node=node, reason=reason):
                self._receiver_failed(node, reason, now)
                self._check_done(now)
            case Failed(reason=reason):
                if not self.over:
                    for name in self._unsettled():
                        self.tally.failed.setdefault(name, reason)
                    self.end(TransferState.FAILED, reason, now)
                else:
                    self._fall_asleep(reason)
            case Finished():
                pass  # receivers say so themselves, once their files are in place
            case _:
                assert_never(command)

    def _fall_asleep(self, reason: str) -> None:
        """It was done, and now no living node holds all of it: late joiners wait until a holder is back."""
        self.cluster.log(f"{self.name}: {reason}; waiting for a holder to come back")
        self._planner = self._waits = None
        for name in list(self._uncounted):
            if name not in self._settled:
                del self._uncounted[name]
                self._first_of_host.pop(name, None)
                self._wanted_by[name] = None

    def _wake_up(self, holder: NodeName, manifest: Manifest, now: float) -> None:
        """A holder of all of it is back."""
        if holder != self.owner and holder not in self._counted:
            self._uncounted[holder] = None
        self._settled[holder] = None
        self._set_planner(Mechanism.CORNET, manifest, holder)
        waiting, self._wanted_by = self._wanted_by, {}
        for name in waiting:
            self.want(name, now)

    def _receiver_failed(self, node: NodeName, reason: str, now: float) -> None:
        self._end_head_start(now)
        if node in self._counted and node not in self._settled and not self.over:
            self.tally.failed[node] = reason
            self.tally.node_completion_s.pop(node, None)
        self.cluster.log(f"{self.name}: {node} failed: {reason}")
        member = self._planner.members.get(node) if self._planner is not None else None
        if member is None or not member.holds.complete:
            self._uncounted.pop(node, None)
            self.cluster.send(node, LetGo(self.name, reason))
            self._plan(NodeLost(node, reason), now)
            self._rehome_mates(node, now)
        else:  # it could not save; what it holds is good
            self._send_maps_of(node)

    # -- the end -------------------------------------------------------------------------------

    def end(self, state: TransferState, reason: str, now: float) -> None:
        """As for every transfer; receivers that are not through have failed by it."""
        for name in self._unsettled():
            self.tally.failed[name] = reason
        super().end(state, reason, now)

    def _unsettled(self) -> list[NodeName]:
        return [name for name in self._counted if self._is_unsettled(name)]

    def _is_unsettled(self, name: NodeName) -> bool:
        return name not in self._settled and name not in self.tally.failed

    def _check_done(self, now: float) -> None:
        if self.state is not TransferState.ACTIVE:
            return
        if self._lacking is None or not self._is_unsettled(self._lacking):  # else there is no need to look
            self._lacking = next((name for name in self._counted if self._is_unsettled(name)), None)
        if self._lacking is not None:
            return
        self._tell_progress(now, at_once=True)
        self.state = TransferState.PARTIAL if self.tally.failed else TransferState.DONE
        self.tally.completion_s = max(
            self.tally.node_completion_s.values(), default=now - self.tally.accepted_at_s
        )
        self._learn(now)
        outcome = self.tally.outcome(self.name)
        for name in self.participants():
            self.cluster.send(name, outcome)

    def _learn(self, now: float) -> None:
        """What its blocks said of links is known from here on."""
        gauge, self._gauge = self._gauge, None
        if gauge is None:
            return
        members = map(self.cluster.members.get, self.participants())
        addresses = {node.name: node.join.data_address for node in members if node is not None}
        self.cluster.measured.learn(gauge, addresses, now)
        if self.tally.prediction_error is not None:
            self.cluster.measured.note_prediction(self.tally.prediction_error)

    @property
    def progress(self) -> float:
        """Share of the counted receivers' bytes that has arrived."""
        if self.state in (TransferState.DONE, TransferState.PARTIAL, TransferState.RELEASED):
            through = sum(name in self._settled for name in self._counted)
            return through / len(self._counted) if self._counted else 1.0
        done, total = self._bytes_done(self._counted)
        return done / total if total else 0.0

    @property
    def blocks_held_count(self) -> int:
        """Blocks that its receivers hold, all together, as their reports say; not those that were mapped."""
        if self._head_start is not None:
            return sum(len(held) for held in self._head_start.holds.values())
        return 0 if self._planner is None else sum(len(each.holds) for each in self._planner.receivers())

    @property
    def method(self) -> str:
        """The mechanism."""
        return "" if self.choice is None else self.choice.mechanism.value

    def _bytes_done(self, names: Iterable[NodeName]) -> tuple[int, int]:
        if not self._has_begun or self.manifest is None:
            return 0, 0
        layout = self.manifest.layout
        done = total = 0
        for name in names:
            if name in self.tally.failed:
                continue
            total += layout.size_bytes
            held = self._holds_of(name)
            if name in self._settled:
                done += layout.size_bytes
            elif held is not None:
                done += min(layout.size_bytes, len(held) * layout.block_size_bytes)
        return done, total

    def _tell_progress(self, now: float, at_once: bool = False) -> None:
        if not at_once and now - self._told_progress_at_s < PROGRESS_INTERVAL_S:
            return
        done, total = self._bytes_done(self._counted)
        if (done, total) != self._told_progress:
            self._told_progress, self._told_progress_at_s = (done, total), now
            through = sum(name in self._settled for name in self._counted)
            self.cluster.send(self.owner, Progress(self.name, done, total, through, len(self._counted)))
