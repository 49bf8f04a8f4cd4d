"""The transfer controller of one broadcast.

Owns in which state the broadcast is, from its proposal to its release: what nodes report goes through here
to the books and to the planner. Must not know what the planner decides, nor which transfer goes first. What
was asked for is in `orchestra.controller.proposal`; who is through and who has failed is written down in
`orchestra.controller.account`; how the object gets to a node is the business of
`orchestra.controller.delivery`. Pure.

Theory of operation. A broadcast is proposed (the name is reserved, receivers are waited for, a mechanism is
chosen), planned (the source puts the object in its store) and offered, which is when it is accepted and its
clock starts. From then on there is a delivery. After it is done it stays: late joiners are served until it
is released. A small object comes with its proposal and has a head start (`orchestra.controller.head_start`);
there is a planner only once that does not suffice. If it is done and no living node holds all of it any more,
it sleeps until a holder is back.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import assert_never

from orchestra.controller.account import Account
from orchestra.controller.block_times import BlockTimes
from orchestra.controller.delivery import Delivery, Ending
from orchestra.controller.demands import NodeFlow, PortNumbers, broadcast_demand
from orchestra.controller.gauge import Gauge
from orchestra.controller.head_start import PATIENCE_SHARE, HeadStart
from orchestra.controller.members import Node
from orchestra.controller.proposal import OFFER_LIMIT_S, Proposal
from orchestra.controller.transfer import GONE, Cluster, TransferController, TransferState
from orchestra.messages import FetchTrouble, Holding, LetGo, MapFailed, Propose, PushTrouble, Settled
from schedulers import Demand
from transfers.ids import NodeName
from transfers.manifest import Manifest, ObjectKey
from transfers.planners import Mechanism, Racks
from transfers.planners.events import (
    Failed,
    FetchFailed,
    GiveUp,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
    Stored,
    Tick,
    report_interval_s,
)


class BroadcastController(TransferController):
    """One broadcast, from its proposal to its release.

    Args:
        owner: the node that proposed it and is its source.
        propose: what it asked for.
        rng: for the planner's random choices.
    """

    kind = "broadcast"

    def __init__(self, cluster: Cluster, owner: NodeName, propose: Propose, rng: Random, now: float) -> None:
        super().__init__(propose.transfer, cluster, propose.timeout_s, propose.claim, now)
        self.owner = owner
        self.proposal = Proposal(owner, propose, now)
        self._account = Account(self.name, self.tally)
        self._delivery: Delivery | None = None
        self._gauge: Gauge | None = None  # while it is counted how long it takes, and there is a plan
        self._times: BlockTimes | None = None  # as long, where racks matter
        self._racks: Racks | None = None
        self._explores = False
        self._rng = rng
        self._wanted_by: dict[NodeName, None] = {}  # who waits for it to start, or for a holder
        self._ticked_at_s: float | None = None

    @property
    def manifest(self) -> Manifest | None:
        """Of the object, once it is there."""
        return None if self._delivery is None else self._delivery.manifest

    # -- it starts -----------------------------------------------------------------------------

    def start(self, manifest: Manifest, now: float) -> None:
        """Accept it: the object is in the source's store."""
        self.state = TransferState.ACTIVE
        self.tally.accepted_at_s = self.moved_at_s = now
        there, absent = self.proposal.receivers_now(self.cluster.members)
        self._account.count(there, absent, self.timeout_s)
        self.report_interval_s = report_interval_s(len(self._account.counted))
        choice = self.proposal.choice
        assert choice is not None, "a broadcast is planned before it is offered"
        delivery = self._deliver(manifest, choice.mechanism)
        self.tally.predicted_s = choice.predicted_s
        if self.proposal.asked.manifest is None:
            self._gauge = Gauge(self.owner, manifest.layout, now, choice.mechanism)
            if self.cluster.topology.learns:
                self._times = BlockTimes(manifest.layout)
                self._rng.shuffle(there)  # so that others meet each time
            delivery.start()
        else:
            involves = self._account.involves
            others = [name for name in self._wanted_by if name != self.owner and not involves(name)]
            for name in others:
                self._account.take_in(name)
            delivery.start_ahead(self.proposal.take_content(), [*there, *others], now)
        for name in there:
            delivery.add_receiver(name, now)
        for name in list(self._wanted_by):
            self.want(name, now)
        self.cluster.changed(self, urgent=True)
        delivery.tell(Tick(), now)  # some plan only once they have seen all who are there
        self._check_done(now)

    def adopt(self, manifest: Manifest, now: float) -> None:
        """Take over a broadcast that was done before this controller began; the owner holds all of it."""
        self.state = TransferState.DONE
        self.tally.accepted_at_s = now
        # For whoever waits for its end, promised by a controller that is no more.
        self.tally.reason = "the controller was started anew and does not know who holds the object"
        self._account.closed = True
        self._account.settled[self.owner] = None
        self._deliver(manifest, Mechanism.CORNET).start()

    def _deliver(self, manifest: Manifest, mechanism: Mechanism) -> Delivery:
        self._explores = mechanism is Mechanism.CORNET and self.cluster.topology.explores
        self._racks = self.cluster.topology.racks_for(self.owner, self._explores)
        self._delivery = Delivery(
            self.cluster,
            self.owner,
            manifest,
            mechanism,
            self.proposal.block_s,
            self._racks,
            self._explores,
            self.report_interval_s,
            self._account,
            self._rng,
            self._planner_stopped,
        )
        return self._delivery

    # -- who takes part ------------------------------------------------------------------------

    def participants(self) -> list[NodeName]:
        """The source and all receivers, counted or not; those, too, who wait for a holder to come back."""
        waiting = () if self.manifest is None else self._wanted_by
        return list(dict.fromkeys([self.owner, *self._account.counted, *self._account.uncounted, *waiting]))

    def engaged(self) -> list[NodeName]:
        """Not those who wait for a copy on their host, who have nothing to say."""
        if self._delivery is None:
            return self.participants()
        return [name for name in self.participants() if name not in self._delivery.mates]

    def involves(self, node: NodeName) -> bool:
        """Whether a node is one of `participants`."""
        waiting = self.manifest is not None and node in self._wanted_by
        return node == self.owner or self._account.involves(node) or waiting

    @property
    def moving(self) -> bool:
        """Also while a late joiner is served."""
        if self.state in (TransferState.DONE, TransferState.PARTIAL):
            planning = None if self._delivery is None else self._delivery.planning
            return planning is not None and (planning.ahead or not planning.idle)
        return self.state is TransferState.ACTIVE

    def want(self, name: NodeName, now: float) -> None:
        """A node asks for the object, whether or not it was meant for it."""
        delivery = self._delivery
        if delivery is None or self.state in GONE or not delivery.planning.has_begun:
            self._wanted_by[name] = None
        elif name != self.owner and not delivery.serves(name):
            self.cluster.changed(self)
            if delivery.planning.ahead:
                delivery.end_head_start(now)
            self._account.take_in(name)
            delivery.add_receiver(name, now)

    def wanted_in_vain(self) -> list[NodeName]:
        """Who still wants the object where it never came to be."""
        return list(self._wanted_by) if self.manifest is None else []

    def node_joined(self, node: Node, now: float) -> None:
        """A late joiner fetches and is not counted; a receiver that comes back goes on where it was."""
        delivery = self._delivery
        if delivery is None or self.state in GONE:
            return
        self.cluster.changed(self)
        name, manifest = node.name, delivery.manifest
        if self.over and name == self.owner:  # it may have gone before it was told
            self.cluster.send(self.owner, self.tally.outcome(self.name))
        held = next((item for item in node.join.inventory if item.manifest.key == manifest.key), None)
        meant = self.proposal.for_everyone_like(node)
        due = not self.over and self._account.involves(name)  # after the end it comes like any other
        if held is not None or due or (meant and delivery.planning.ahead):
            delivery.end_head_start(now)
        if delivery.planning.head_start is not None:
            if meant:
                self._account.take_in(name)
                delivery.add_receiver(name, now)
        elif not delivery.planning.has_plan:
            self._join_asleep(delivery, node, held, now)
        elif held is not None and held.manifest == manifest:
            delivery.add_holder(name, held.blocks, now)
        elif self._account.take_back(name):
            delivery.add_receiver(name, now)
        elif name in self._account.uncounted or meant:
            self._account.uncounted[name] = None  # also one that was counted: it is a late joiner now
            delivery.add_receiver(name, now)

    def _join_asleep(self, delivery: Delivery, node: Node, held: Holding | None, now: float) -> None:
        """A node comes while no living one holds all: perhaps it does, perhaps it waits with the others."""
        if held is not None and held.manifest == delivery.manifest and held.blocks.complete:
            delivery.wake_up(node.name)
            waiting, self._wanted_by = self._wanted_by, {}
            for name in waiting:
                self.want(name, now)
        elif node.name in self._account.counted or self.proposal.for_everyone_like(node):
            self._wanted_by[node.name] = None

    # -- events --------------------------------------------------------------------------------

    def node_lost(self, name: NodeName, reason: str, now: float) -> None:
        """A node is gone: a receiver that was not through has failed; the planner mends the rest."""
        self._wanted_by.pop(name, None)
        if self.state in GONE:
            return
        self.cluster.changed(self)
        delivery = self._delivery
        if delivery is None:
            if name == self.owner:
                self.end(TransferState.FAILED, f"source {name} lost before it offered: {reason}", now)
            return
        ahead = delivery.planning.head_start
        if ahead is not None and self.over and ahead.can_spare(name):
            self._account.lose(name, reason)  # one holder less; nobody waits for anything
            delivery.forget_holder(name)
            return
        delivery.end_head_start(now)
        if not delivery.planning.has_plan:
            return
        self._account.lose(name, reason)
        delivery.mates.discard(name)
        delivery.drop(name, reason, now)
        self._check_done(now)

    def node_suspected(self, name: NodeName, suspected: bool, now: float) -> None:
        """Silence, or an end of it. Those who wait for what a silent one passes on are planned for."""
        delivery = self._delivery
        if delivery is None or self.state in GONE:
            return
        if suspected and delivery.planning.ahead and delivery.planning.knows(name):
            delivery.end_head_start(now)  # by which the planner hears who is silent
        else:
            delivery.tell(NodeSuspected(name) if suspected else NodeRecovered(name), now)

    def _delivery_of(self, key: ObjectKey) -> Delivery | None:
        """The delivery, where a word about this object is about anything that goes on."""
        delivery = self._delivery
        if delivery is None or key != delivery.manifest.key or self.state in GONE:
            return None
        return delivery if delivery.planning.has_begun else None

    def blocks_held(self, node: NodeName, key: ObjectKey, records: tuple[Stored, ...], now: float) -> None:
        """Blocks have arrived somewhere."""
        delivery = self._delivery_of(key)
        if delivery is None:
            return
        blocks = [record.block for record in records]
        if blocks and not 0 <= min(blocks) <= max(blocks) < delivery.manifest.layout.count:
            self.cluster.log(f"{node} reports blocks of {self.name} that do not exist")
            return
        if delivery.mates.matters(node):  # else it stands still, however many late joiners are served
            self.moved_at_s = now
        for record in records:
            self.cluster.moved(record.source, node, delivery.manifest.layout.length(record.block))
        owner = self.cluster.members.get(self.owner)
        if owner is not None and delivery.planning.head_start is not None:
            owner.pushed_at_s = now
        if not all(0.0 <= record.seconds < math.inf for record in records):  # no time that can be
            records = tuple(replace(record, seconds=0.0) for record in records)
        if self._gauge is not None:  # nodes are not trusted to name each other
            known = [record for record in records if self.involves(record.source)]
            self._gauge.note(node, known, now)
            if self._times is not None:
                self._times.note(node, known)
        delivery.has_stored(node, records, now)
        held = delivery.planning.holds_of(node)
        if held is not None and held.complete:
            self._account.note_complete(node, now)

    def push_failed(self, node: NodeName, trouble: PushTrouble, now: float) -> None:
        """A block could not be pushed: plan for who lacks it."""
        delivery = self._delivery_of(trouble.key)
        if delivery is not None:
            self.cluster.log(f"{self.name}: {node}: block {trouble.block} {trouble.reason}")
            if not self.over or delivery.planning.ahead:
                delivery.end_head_start(now)

    def fetch_failed(self, node: NodeName, trouble: FetchTrouble, now: float) -> None:
        """Asks came to nothing."""
        delivery = self._delivery_of(trouble.key)
        if delivery is None:
            return
        delivery.end_head_start(now)
        if delivery.planning.has_plan and self.state not in GONE:
            blocks = ", ".join(map(str, trouble.blocks[:4])) + (" …" if len(trouble.blocks) > 4 else "")
            self.cluster.log(
                f"{self.name}: {node} could not fetch from {trouble.source}: {trouble.failure.value}"
                + (f" (blocks {blocks})" if blocks else "")
            )
            delivery.tell(FetchFailed(node, trouble.source, trouble.blocks, trouble.failure), now)

    def settled(self, node: NodeName, message: Settled, now: float) -> None:
        """A node is through: it holds the object, or it has failed on its own."""
        delivery = self._delivery_of(message.key)
        if delivery is None:
            return
        if delivery.mates.matters(node):
            self.moved_at_s = now
        if self.over:  # a late joiner is through, or someone who came back may not have heard
            self.cluster.send(node, self.tally.outcome(self.name))
        if message.failure is not None:
            self._receiver_failed(node, message.failure, now)
        else:
            self._account.note_settled(node, now)
            delivery.has_settled(node, now)
        self._check_done(now)

    def map_failed(self, node: NodeName, message: MapFailed, now: float) -> None:
        """Mapping does not work for this node: it receives like any other."""
        delivery = self._delivery_of(message.key)
        if delivery is None:
            return
        delivery.end_head_start(now)
        if delivery.planning.has_plan and self.state not in GONE:
            self.cluster.log(f"{self.name}: {node} cannot map its host's store: {message.reason}")
            delivery.add_by_planner(node, now)

    def tick(self, now: float) -> None:
        """Plan what is due, tell the owner how far it is, and end what stands still."""
        if self.state in GONE:
            return
        delivery = self._delivery
        if delivery is None:
            if self.proposal.overdue(now):
                self.end(TransferState.FAILED, f"not offered within {OFFER_LIMIT_S:g} s", now)
            return
        ahead = delivery.planning.head_start
        if ahead is not None and self._is_late(ahead, now):
            delivery.end_head_start(now)
        if self.granted_bytes_per_s == 0 and self._ticked_at_s is not None:
            delivery.planning.held_s += now - self._ticked_at_s
        self._ticked_at_s = now
        if not delivery.planning.idle:
            delivery.tell(Tick(), now)
        if self.state is not TransferState.ACTIVE:
            return
        if self.stands_still(now):
            for name in self._account.unsettled():
                self.tally.failed[name] = f"stood still for {self.timeout_s:g} s"
                self.cluster.send(name, LetGo(self.name, self.tally.failed[name]))
                delivery.tell(NodeLost(name, "stood still"), now)
            self._check_done(now)
        self._tell_progress(now)

    def _is_late(self, ahead: HeadStart, now: float) -> bool:
        """Whether somebody waits and the head start has brought nothing for too long, or for so much of the
        timeout that they might fail before there is a plan."""
        active = self.state is TransferState.ACTIVE
        if not active and ahead.complete:
            return False
        if active and now - self.moved_at_s >= PATIENCE_SHARE * self.timeout_s:
            return True
        bytes_s = max(0.0, (self.tally.predicted_s or 0.0) - self.proposal.small_start_s)
        owner = self.cluster.members.get(self.owner)
        return ahead.is_late(bytes_s, -math.inf if owner is None else owner.pushed_at_s, now)

    # -- who is given up -----------------------------------------------------------------------

    def _planner_stopped(self, ending: Ending, now: float) -> None:
        """The planner cannot go on: with one node, or at all."""
        match ending:
            case GiveUp(node=node, reason=reason):
                self._receiver_failed(node, reason, now)
                self._check_done(now)
            case Failed(reason=reason):
                if not self.over:
                    self.end(TransferState.FAILED, reason, now)
                else:
                    self._fall_asleep(reason)
            case _:
                assert_never(ending)

    def _receiver_failed(self, node: NodeName, reason: str, now: float) -> None:
        delivery = self._delivery
        assert delivery is not None, "nobody receives before there is anything"
        delivery.end_head_start(now)
        self._account.fail(node, reason)
        self.cluster.log(f"{self.name}: {node} failed: {reason}")
        delivery.give_up(node, reason, now)

    def _fall_asleep(self, reason: str) -> None:
        """It was done, and now no living node holds all of it: late joiners wait until a holder is back."""
        self.cluster.log(f"{self.name}: {reason}; waiting for a holder to come back")
        assert self._delivery is not None, "what was done has been delivered"
        self._wanted_by.update(dict.fromkeys(self._delivery.sleep()))

    # -- the end -------------------------------------------------------------------------------

    def end(self, state: TransferState, reason: str, now: float) -> None:
        """As for every transfer; receivers that are not through have failed by it."""
        self._account.close_failed(reason)
        super().end(state, reason, now)

    def _check_done(self, now: float) -> None:
        if self.state is not TransferState.ACTIVE or not self._account.all_settled():
            return
        self._tell_progress(now, at_once=True)
        self.state = TransferState.PARTIAL if self.tally.failed else TransferState.DONE
        self.cluster.changed(self, urgent=True)
        self._account.close(now)
        self._learn(now)
        outcome = self.tally.outcome(self.name)
        for name in self.participants():
            self.cluster.send(name, outcome)

    def _learn(self, now: float) -> None:
        """What its blocks said of links is known from here on."""
        measured, (gauge, self._gauge) = self.cluster.measured, (self._gauge, None)
        small = self._delivery is not None and self._delivery.planning.head_start is not None
        if gauge is None and not small:
            return
        members = map(self.cluster.members.get, self.participants())
        addresses = {node.name: node.join.data_address for node in members if node is not None}
        if gauge is not None:
            topology = self.cluster.topology
            if self._times is not None:
                took_s = self.tally.completion_s - (self._delivery.planning.held_s if self._delivery else 0.0)
                topology.learn(self._times, self._racks, self._explores, took_s, now)
                self._times = None
            if topology.shows_links(self._racks, addresses):
                measured.learn(gauge, addresses, now)
        if self.tally.prediction_error is not None and self.tally.predicted_s is not None:
            if small:
                late_s = self.tally.completion_s - self.tally.predicted_s
                measured.learn_small(self.proposal.small_start_s + late_s, addresses.values(), now)
            measured.note_prediction(self.tally.prediction_error, small)

    @property
    def progress(self) -> float:
        """Share of the counted receivers' bytes that has arrived."""
        if self.state in (TransferState.DONE, TransferState.PARTIAL, TransferState.RELEASED):
            return self._account.settled_share
        delivery = self._delivery
        if delivery is None or not delivery.planning.has_begun:
            return 0.0
        done, total = self._account.bytes_done(delivery.manifest.layout, delivery.planning.holds_of)
        return done / total if total else 0.0

    def demand(self, ports: PortNumbers, left_bytes: Mapping[NodeFlow, float]) -> Demand | None:
        """What its receivers lack. A small object is through before a plan could be kept: none."""
        delivery = self._delivery
        if delivery is None or not delivery.planning.has_plan:
            return None
        layout, present = delivery.manifest.layout, self.cluster.members.present
        lacking: dict[NodeName, int] = {}
        complete: list[NodeName] = []
        for name in self.participants():
            held = delivery.planning.holds_of(name)
            if held is None or present(name) is None:
                continue
            if held.complete:
                complete.append(name)
            else:
                lacking[name] = layout.size_bytes - min(
                    layout.size_bytes, len(held) * layout.block_size_bytes
                )
        sent_bytes = self.blocks_held_count * layout.block_size_bytes
        return broadcast_demand(self.standing(sent_bytes), ports, lacking, complete)

    @property
    def blocks_held_count(self) -> int:
        """Blocks that its receivers hold, all together, as their reports say; not those that were mapped."""
        return 0 if self._delivery is None else self._delivery.planning.blocks_held_count

    @property
    def method(self) -> str:
        """The mechanism."""
        choice = self.proposal.choice
        return "" if choice is None else choice.mechanism.value

    def _tell_progress(self, now: float, at_once: bool = False) -> None:
        if self._delivery is not None:
            layout, holds_of = self._delivery.manifest.layout, self._delivery.planning.holds_of
            news = self._account.news(layout, holds_of, now, at_once)
            if news is not None:
                self.cluster.send(self.owner, news)
