"""What nodes ask for: to broadcast, to shuffle, to receive, to release.

Owns the answers: whether a request can be granted, and what it brings about in the table of transfers.
A proposal is answered when the receivers it waits for are there. Pure.
"""

from dataclasses import replace
from random import Random

from orchestra.choice import Choice, LinkEstimate, choose
from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.members import Node
from orchestra.controller.shuffle import ShuffleController, run_refused
from orchestra.controller.table import TransferTable
from orchestra.controller.transfer import (
    Cluster,
    TransferController,
    TransferState,
    timeout_refused,
)
from orchestra.costs import predict_small_s
from orchestra.messages import (
    CancelTransfer,
    Denied,
    Granted,
    Holding,
    LetGo,
    Offer,
    OpenShuffle,
    Outcome,
    PauseTransfer,
    PlaceTaken,
    Planned,
    Propose,
    RunShuffle,
)
from orchestra.small import goes_in_messages, small_block_bytes
from orchestra.units import format_bytes, format_seconds
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.planners import Mechanism

ADOPTED_TIMEOUT_S = 60.0
"""Limit on standing still of a transfer whose owner's own limit is not known any more (the default)."""


class Requests:
    """Answers nodes.

    Args:
        cluster: who is there, and the way to them.
        table: of all transfers.
        rng: where every random choice comes from.
    """

    def __init__(self, cluster: Cluster, table: TransferTable, rng: Random) -> None:
        self._cluster = cluster
        self._table = table
        self._rng = rng
        self._proposals: dict[TransferName, int] = {}

    @property
    def proposals(self) -> tuple[TransferName, ...]:
        """Broadcasts that are proposed and not planned yet."""
        return tuple(self._proposals)

    def propose(self, node: Node, message: Propose, now: float) -> None:
        """Reserve the name; the answer comes when the receivers are there."""
        refused = self._table.why_not(message.transfer)
        if refused is None and message.size_bytes < 0:
            refused = f"size_bytes must not be negative, got {message.size_bytes}"
        if refused is None:
            refused = timeout_refused(message.timeout_s)
        if refused is None and message.manifest is not None:
            refused = _brought_along_refused(message)
        if refused is None and message.to is not None and node.name in message.to:
            refused = f"{node.name} is the source of {message.transfer!r} and cannot be a receiver too"
        if refused is not None:
            self._cluster.send(node.name, Denied(message.request, refused))
            return
        transfer = BroadcastController(self._cluster, node.name, message, self._rng_for_transfer(), now)
        self._table.add(transfer)
        self._proposals[message.transfer] = message.request
        for name in self._table.take_wanted(message.transfer):
            transfer.want(name, now)
        self.answer_proposals(now)

    def answer_proposals(self, now: float) -> None:
        """Choose for every proposal whose receivers are there."""
        for name, request in list(self._proposals.items()):
            transfer = self._table.get(name)
            if not isinstance(transfer, BroadcastController):
                continue
            if not transfer.proposal.ready(self._cluster.members, now):
                continue
            del self._proposals[name]
            there, absent = transfer.proposal.receivers_now(self._cluster.members)
            asked = transfer.proposal.asked
            short = asked.wait_for - len(there) if asked.to is None else 0
            if short > 0:
                self._deny(transfer, request, f"{len(there)} of {asked.wait_for} agents joined within "
                           f"{asked.timeout_s:g} s")  # fmt: skip
            elif not there and not absent:
                self._deny(transfer, request, "there is no receiver: no agent has joined")
            else:
                self._plan(transfer, request, there, now)

    def _plan(self, transfer: BroadcastController, request: int, there: list[NodeName], now: float) -> None:
        asked = transfer.proposal.asked
        moved_to = self._cluster.members.one_of_each_host(transfer.owner, there)
        link = self._link_between(transfer.owner, moved_to)
        try:
            choice = _small(asked, max(1, len(moved_to)), link) or choose(
                asked.size_bytes,
                max(1, len(moved_to)),
                link=link,
                block_size_bytes=asked.block_size_bytes,
                mechanism=asked.mechanism,
            )
        except ValueError as bad:
            self._deny(transfer, request, str(bad))
            return
        mapping = len(there) - len(moved_to)
        if mapping and not moved_to:
            reason = f"nothing to move: all receivers ({mapping}) map the copy on the source's host"
            choice = replace(choice, reason=reason, predictions={})
        elif mapping:
            choice = replace(choice, reason=f"{choice.reason}; {mapping} more map a copy on their host")
        transfer.proposal.choice = choice
        transfer.proposal.planned_at_s = now
        transfer.proposal.small_start_s = link.small_start_s
        transfer.proposal.block_s = choice.block_size_bytes / link.rate_bytes_per_s
        planned = Planned(request, choice.mechanism, choice.block_size_bytes, choice.reason)
        self._cluster.send(transfer.owner, planned)
        if asked.manifest is not None:
            transfer.start(asked.manifest, now)

    def _link_between(self, owner: NodeName, receivers: list[Node]) -> LinkEstimate:
        """What is believed of the network between them."""
        source = self._cluster.members.get(owner)
        nodes = receivers if source is None else [source, *receivers]
        addresses = [node.join.data_address for node in nodes]
        return self._cluster.measured.link_for(addresses, may_be_held_up=self._cluster.topology.seeks)

    def _deny(self, transfer: BroadcastController, request: int, reason: str) -> None:
        self._cluster.send(transfer.owner, Denied(request, reason))
        self._table.remove(transfer.name)

    def offer(self, node: Node, message: Offer, now: float) -> None:
        """The object is there: start."""
        name = message.manifest.key.transfer
        transfer = self._table.get(name)
        reason = None
        if (
            not isinstance(transfer, BroadcastController)
            or transfer.owner != node.name
            or transfer.proposal.choice is None
        ):
            reason = f"no broadcast {name!r} of {node.name} has been planned"
        elif transfer.over:
            reason = f"broadcast {name!r} has ended: {transfer.tally.reason}"
        elif transfer.manifest is not None:
            reason = f"broadcast {name!r} has been offered already"
        elif message.manifest.key.part or (
            message.manifest.layout.size_bytes != transfer.proposal.asked.size_bytes
        ):
            reason = f"the manifest of {name!r} is not what was proposed"
        if reason is not None or not isinstance(transfer, BroadcastController):
            self._cluster.send(node.name, Denied(message.request, reason or ""))
            return
        self._cluster.send(node.name, Granted(message.request))
        transfer.start(message.manifest, now)

    def open_shuffle(self, node: Node, message: OpenShuffle, now: float) -> None:
        """Take part in a shuffle, or make it."""
        transfer = self._table.held(message.transfer)
        if transfer is None:
            refused = self._table.why_not(message.transfer)
            if refused is None and not (message.mappers and message.reducers):
                refused = f"shuffle {message.transfer!r} needs at least one mapper and one reducer"
            if refused is None and any(
                len(set(each)) < len(each) for each in (message.mappers, message.reducers)
            ):
                refused = f"shuffle {message.transfer!r} names a mapper or a reducer twice"
            if refused is None:
                refused = timeout_refused(message.timeout_s)
            if refused is not None:
                self._cluster.send(node.name, Denied(message.request, refused))
                return
            transfer = ShuffleController(self._cluster, message, now)
            self._table.add(transfer)
        if not isinstance(transfer, ShuffleController):
            reason: str | None = f"{message.transfer!r} is a {transfer.kind}, not a shuffle"
        else:
            reason = transfer.open(node.name, message, now)
            if not transfer.participants():  # made for nothing
                self._table.remove(message.transfer)
        answer: Granted | Denied | PlaceTaken = Granted(message.request)
        if reason is not None:
            answer = Denied(message.request, reason)
        elif isinstance(transfer, ShuffleController):
            attempts = transfer.attempts_of(message.place or node.name)
            if message.place is not None or any(attempts.values()):
                answer = PlaceTaken(message.request, attempts)
        self._cluster.send(node.name, answer)
        if reason is None and isinstance(transfer, ShuffleController):
            transfer.opened(node.name, now)

    def run_shuffle(self, node: Node, message: RunShuffle, now: float) -> None:
        """Have agents shuffle synthetic bytes."""
        refused = self._table.why_not(message.transfer) or run_refused(
            message, [agent.name for agent in self._cluster.members.agents()]
        )
        if refused is not None:
            self._cluster.send(node.name, Denied(message.request, refused))
            return
        self._cluster.send(node.name, Granted(message.request))
        self._table.add(ShuffleController.asked(self._cluster, message, node.name, now))

    def want(self, node: Node, name: TransferName, now: float) -> None:
        """Add a receiver, now or when the transfer begins."""
        transfer = self._table.held(name)
        if isinstance(transfer, BroadcastController):
            transfer.want(node.name, now)
        else:
            self._table.note_wanted(node.name, name)

    def release(self, node: Node, request: int, name: TransferName) -> None:
        """Have everyone let go of a transfer."""
        transfer = self._table.held(name)
        if transfer is None:
            self._cluster.send(node.name, Denied(request, f"there is no transfer {name!r}"))
            return
        self._stop(transfer, TransferState.RELEASED, f"released by {node.name}", None)
        self._cluster.send(node.name, Granted(request))

    def cancel(self, node: Node, message: CancelTransfer, now: float) -> None:
        """A node ends a transfer: a broadcast if it is its own, a shuffle if it takes part."""
        transfer = self._table.get(message.transfer)
        if isinstance(transfer, BroadcastController) and transfer.owner == node.name:
            self._stop(transfer, TransferState.CANCELLED, f"cancelled by {node.name}", now)
        elif isinstance(transfer, ShuffleController):
            transfer.give_up(node.name, message.reason, now)

    def ask_outcome(self, node: Node, name: TransferName, now: float) -> None:
        """A node has come back and asks about a shuffle."""
        transfer = self._table.get(name)
        if isinstance(transfer, ShuffleController):
            transfer.tell_ended(node.name, now)
        else:
            ended = self._table.how_ended(name)
            why = f"it is over: {ended}" if ended is not None else "the controller does not know it"
            self._cluster.send(node.name, Outcome(name, 0.0, {}, {node.name: "was away meanwhile"}, why))

    def pause(self, node: Node, message: PauseTransfer, now: float) -> None:
        """Hold a transfer, or let it go on."""
        transfer = self._table.held(message.transfer)
        if transfer is None or transfer.over:
            denied = f"no transfer {message.transfer!r} is under way"
            self._cluster.send(node.name, Denied(message.request, denied))
            return
        transfer.set_paused(message.paused, now)
        self._cluster.log(f"{transfer.name} {'paused' if message.paused else 'goes on'}: {node.name} says so")
        self._cluster.send(node.name, Granted(message.request))

    def forget_owner(self, node: NodeName) -> None:
        """A node is gone: nobody waits for the answers to what it has proposed."""
        for name in list(self._proposals):
            transfer = self._table.get(name)
            if isinstance(transfer, BroadcastController) and transfer.owner == node:
                del self._proposals[name]

    def adopt(self, node: Node, held: Holding, now: float) -> None:
        """A node brings an object that another controller, of before a restart, knew."""
        name = held.manifest.key.transfer
        if self._table.held(name) is not None:
            return
        ended = self._table.how_ended(name)
        if ended is not None:
            self._cluster.send(node.name, LetGo(name, f"{name} is over: {ended}"))
            return
        if held.manifest.key.part or not held.blocks.complete or self._table.why_not(name) is not None:
            self._cluster.send(node.name, LetGo(name, "not known to this controller"))
            return
        propose = Propose(0, name, held.manifest.layout.size_bytes, (), 0, ADOPTED_TIMEOUT_S, None, None)
        transfer = BroadcastController(self._cluster, node.name, propose, self._rng_for_transfer(), now)
        transfer.adopt(held.manifest, now)
        self._table.add(transfer)
        self._cluster.log(f"{name} adopted: {node.name} holds it")

    def _stop(
        self, transfer: TransferController, state: TransferState, reason: str, now: float | None
    ) -> None:
        """End a transfer on purpose, whether or not it was done."""
        request = self._proposals.pop(transfer.name, None)
        if request is not None and isinstance(transfer, BroadcastController):
            self._cluster.send(transfer.owner, Denied(request, reason))
        if transfer.over:
            transfer.state = state
            self._cluster.changed(transfer, urgent=True)
            transfer.tally.reason = transfer.tally.reason or reason
            for name in transfer.participants():
                self._cluster.send(name, LetGo(transfer.name, reason))
        else:
            transfer.end(state, reason, transfer.moved_at_s if now is None else now)

    def _rng_for_transfer(self) -> Random:
        return Random(self._rng.getrandbits(64))


def _brought_along_refused(message: Propose) -> str | None:
    """Why the manifest that came with a proposal cannot be taken; None if it can."""
    manifest = message.manifest
    if manifest is None or manifest.key != ObjectKey(message.transfer):
        return f"the manifest of {message.transfer!r} is not what is proposed"
    sizes = {message.size_bytes, len(message.content) or message.size_bytes}
    cut_bytes = small_block_bytes(message.size_bytes)
    if sizes != {manifest.layout.size_bytes} or cut_bytes != manifest.layout.block_size_bytes:
        return f"{message.transfer!r} comes with a manifest by which {message.size_bytes} bytes are not cut"
    return None


def _small(asked: Propose, receivers: int, link: LinkEstimate) -> Choice | None:
    """How a small object travels; None for one that is not."""
    if asked.manifest is None:
        return None
    to = f"{format_bytes(asked.size_bytes)} to {receivers} receiver" + ("" if receivers == 1 else "s")
    inside = goes_in_messages(asked.content, asked.size_bytes, receivers)
    way = "inside the control messages" if inside else "pushed down two trees, without being asked for"
    predicted_s = predict_small_s(asked.size_bytes, receivers, inside, link)
    reason = f"{Mechanism.TREE.value}: {to} are few bytes, {way}, predicted {format_seconds(predicted_s)}"
    block_bytes = asked.manifest.layout.block_size_bytes
    return Choice(Mechanism.TREE, block_bytes, {Mechanism.TREE: predicted_s}, reason)
