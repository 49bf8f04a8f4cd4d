"""The controller without its sockets: messages in, messages out.

Owns membership, the table of transfers and one inter-transfer controller; each transfer has a
controller of its own. Pure: sessions are numbers, time and randomness are passed in, and whoever
drives it carries out what `take_output` gives. The same object serves TCP and simulation.
"""

import json
from collections import deque
from dataclasses import dataclass
from random import Random

from orchestra.choice import LinkEstimate, choose
from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.itc import InterTransferController
from orchestra.controller.members import Members, Node, NodeState, SessionId
from orchestra.controller.shuffle import ShuffleController, run_refused
from orchestra.controller.transfer import TransferController, TransferState
from orchestra.messages import (
    AskStatus,
    BlocksHeld,
    CancelTransfer,
    Denied,
    FetchBlocks,
    FetchTrouble,
    FollowSource,
    Granted,
    Heartbeat,
    Holding,
    Join,
    Joined,
    Leave,
    LetGo,
    MapFailed,
    NotJoined,
    Offer,
    OpenShuffle,
    PartitionPut,
    Peer,
    Planned,
    Propose,
    Release,
    RunShuffle,
    Settled,
    Status,
    ToController,
    ToNode,
    Want,
)
from orchestra.names import node_name, transfer_name
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey

SUSPECT_AFTER_S = 1.0
"""Silence after which a node that takes part in a transfer is suspected (design)."""
HEARTBEATS_PER_TIMEOUT = 5
"""Heartbeats of an idle node within the time after which it would be lost (a guess: four may be late)."""
MAX_REMEMBERED = 200
"""Transfers that are gone and still shown in the status (a guess)."""
MAX_TRANSFERS = 10_000
"""Transfers that may exist at one time (a guess)."""
ADOPTED_TIMEOUT_S = 60.0
"""Limit on standing still of a transfer whose owner's own limit is not known any more (the default)."""


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """How a controller is set up.

    Attributes:
        policy: how transfers share, one of `schedulers.POLICIES`.
        port_rate_bytes_per_s: cap on each node's two directions; None is none.
        heartbeat_timeout_s: silence after which a node is lost.
        allow_pickle: whether nodes may unpickle what they receive.
        link: what is known of links, for the choice of mechanism.
    """

    policy: str = "fair"
    port_rate_bytes_per_s: float | None = None
    heartbeat_timeout_s: float = 15.0
    allow_pickle: bool = False
    link: LinkEstimate = LinkEstimate()

    def __post_init__(self) -> None:
        if not self.heartbeat_timeout_s > 0:
            raise ValueError(f"heartbeat_timeout_s must be above 0, got {self.heartbeat_timeout_s}")
        if self.port_rate_bytes_per_s is not None and not self.port_rate_bytes_per_s > 0:
            raise ValueError(f"port_rate_bytes_per_s must be above 0, got {self.port_rate_bytes_per_s}")


class ControllerCore:
    """One cluster's controller.

    Args:
        config: see there.
        rng: where every random choice comes from.
    """

    def __init__(self, config: ControllerConfig, rng: Random) -> None:
        self.config = config
        self.members = Members()
        self.itc = InterTransferController(self, config.port_rate_bytes_per_s, config.policy)
        self._rng = rng
        self._transfers: dict[TransferName, TransferController] = {}
        self._remembered: deque[tuple[TransferName, dict[str, object]]] = deque(maxlen=MAX_REMEMBERED)
        self._proposals: dict[TransferName, int] = {}
        self._wanted: dict[TransferName, dict[NodeName, None]] = {}
        self._output: list[tuple[SessionId, ToNode | None]] = []
        self._log: list[str] = []

    # -- for whoever drives it -----------------------------------------------------------------

    def take_output(self) -> list[tuple[SessionId, ToNode | None]]:
        """What is to be sent since the last call, in order; None closes the session."""
        taken, self._output = self._output, []
        return taken

    def take_log(self) -> list[str]:
        """Lines for whoever runs the controller, since the last call."""
        taken, self._log = self._log, []
        return taken

    def receive(self, session: SessionId, message: ToController, now: float) -> None:
        """Take in one message of a session."""
        node = self.members.speaking(session)
        if isinstance(message, Join) and node is None:
            self._join(session, message, now)
        elif isinstance(message, Join):
            self._refuse(session, "joined already on this connection", final=True)
        elif node is None:
            self._refuse(session, "join first", final=True)
        else:
            self._hear(node, now)
            self._dispatch(node, message, now)
        if not isinstance(message, Heartbeat | BlocksHeld | FetchTrouble):  # many, and the next tick will do
            self.itc.reallocate(self._transfers.values())

    def closed(self, session: SessionId, reason: str, now: float) -> None:
        """A session has ended."""
        node = self.members.speaking(session)
        if node is not None:
            self._lose(node, NodeState.LOST, reason, now)
            self.itc.reallocate(self._transfers.values())

    def tick(self, now: float) -> None:
        """Time has passed; to be called about every `transfers.planners.events.TICK_INTERVAL_S`."""
        engaged: set[NodeName] = set()
        for transfer in self._transfers.values():
            if transfer.state is TransferState.ACTIVE:  # who serves late joiners only need not speak often
                engaged.update(transfer.participants())
        for node in list(self.members):
            silent_s = now - node.heard_at_s
            if node.name not in engaged:
                node.engaged_at_s = None
            elif node.engaged_at_s is None:
                node.engaged_at_s = now
            if node.present and silent_s >= self.config.heartbeat_timeout_s:
                self._lose(node, NodeState.LOST, f"no heartbeat for {silent_s:.0f} s", now)
                self._output.append((node.session, None))
            elif (
                node.state is NodeState.JOINED
                and node.engaged_at_s is not None  # before that it had no reason to speak so often
                and min(silent_s, now - node.engaged_at_s) >= SUSPECT_AFTER_S
            ):
                node.state = NodeState.SUSPECTED
                for transfer in list(self._transfers.values()):
                    transfer.node_suspected(node.name, True, now)
        for transfer in list(self._transfers.values()):
            transfer.tick(now)
        self._answer_proposals(now)
        self._forget_finished()
        self.itc.reallocate(self._transfers.values())

    # -- for transfer controllers (`Cluster`) --------------------------------------------------

    def send(self, node: NodeName, message: ToNode) -> None:
        """Say something to a node, with the address of whom it names if it does not know that yet."""
        to = self.members.present(node)
        if to is None:
            return
        if isinstance(message, FollowSource | FetchBlocks) and message.source is not None:
            source = self.members.present(message.source)
            if source is not None and source.name not in to.known_peers:
                to.known_peers.add(source.name)
                self._output.append((to.session, Peer(source.name, source.join.data_address)))
        self._output.append((to.session, message))

    def log(self, text: str) -> None:
        """One line for whoever runs the controller."""
        self._log.append(text)

    # -- membership ----------------------------------------------------------------------------

    def _join(self, session: SessionId, join: Join, now: float) -> None:
        try:
            node_name(join.name)
        except ValueError as bad:
            self._refuse(session, str(bad), final=True)
            return
        known = self.members.present(join.name)
        if known is not None and known.join.incarnation != join.incarnation:
            self._refuse(session, f"a node named {join.name!r} has joined already", final=True)
            return
        if known is not None:  # its old connection is dead, only we have not noticed
            self._lose(known, NodeState.LOST, "came back on a new connection", now)
            self._output.append((known.session, None))
        node = self.members.add(session, join, now)
        self.itc.forget_node(join.name)
        interval_s = self.config.heartbeat_timeout_s / HEARTBEATS_PER_TIMEOUT
        self._output.append((session, Joined(interval_s, self.config.allow_pickle)))
        self.log(f"{join.name} joined from {join.data_address}")
        for held in join.inventory:
            self._adopt(node, held, now)
        for transfer in list(self._transfers.values()):
            transfer.node_joined(node, now)
        self._answer_proposals(now)

    def _adopt(self, node: Node, held: Holding, now: float) -> None:
        """A node brings an object that another controller, of before a restart, knew."""
        name = held.manifest.key.transfer
        known = self._transfers.get(name)
        if known is not None and not self._gone(known):
            return
        ended = next((told for each, told in reversed(self._remembered) if each == name), None)
        if ended is not None:
            self.send(node.name, LetGo(name, f"{name} is over: {ended['state']}"))
            return
        if held.manifest.key.part or not held.blocks.complete or self._name_refused(name) is not None:
            self.send(node.name, LetGo(name, "not known to this controller"))
            return
        self._forget(name)
        propose = Propose(0, name, held.manifest.layout.size_bytes, (), 0, ADOPTED_TIMEOUT_S, None, None)
        transfer = BroadcastController(self, node.name, propose, self._rng_for_transfer(), now)
        transfer.adopt(held.manifest, now)
        self._transfers[name] = transfer
        self.log(f"{name} adopted: {node.name} holds it")

    def _rng_for_transfer(self) -> Random:
        return Random(self._rng.getrandbits(64))

    def _refuse(self, session: SessionId, reason: str, final: bool) -> None:
        self._output.append((session, NotJoined(reason, final)))
        self._output.append((session, None))
        self.log(f"a node was refused: {reason}")

    def _hear(self, node: Node, now: float) -> None:
        node.heard_at_s = now
        if node.state is NodeState.SUSPECTED:
            node.state = NodeState.JOINED
            for transfer in list(self._transfers.values()):
                transfer.node_suspected(node.name, False, now)

    def _lose(self, node: Node, state: NodeState, reason: str, now: float) -> None:
        self.members.remove(node, state)
        self.log(f"{node.name} {state.value}: {reason}")
        for name, wanted_by in list(self._wanted.items()):
            wanted_by.pop(node.name, None)
            if not wanted_by:
                del self._wanted[name]
        for transfer in list(self._transfers.values()):
            transfer.node_lost(node.name, reason, now)
            if isinstance(transfer, BroadcastController) and transfer.owner == node.name:
                self._proposals.pop(transfer.name, None)

    # -- messages ------------------------------------------------------------------------------

    def _dispatch(self, node: Node, message: ToController, now: float) -> None:
        match message:
            case Heartbeat() | Join():
                pass
            case Leave():
                self._lose(node, NodeState.LEFT, "it left", now)
                self._output.append((node.session, None))
            case Propose():
                self._propose(node, message, now)
            case Offer():
                self._offer(node, message, now)
            case OpenShuffle():
                self._open_shuffle(node, message, now)
            case Release(request=request, transfer=name):
                self._release(node, request, name)
            case RunShuffle():
                self._run_shuffle(node, message, now)
            case CancelTransfer(transfer=name, reason=reason):
                transfer = self._transfers.get(name)
                if isinstance(transfer, BroadcastController) and transfer.owner == node.name:
                    self._proposals.pop(name, None)
                    self._stop(transfer, TransferState.CANCELLED, f"cancelled by {node.name}", now)
                elif isinstance(transfer, ShuffleController):
                    transfer.give_up(node.name, reason, now)
            case AskStatus(request=request):
                hidden = None if node.join.receives else node.name
                self.send(node.name, Status(request, json.dumps(self.status(hidden)).encode()))
            case Want(transfer=name):
                self._want(node, name, now)
            case PartitionPut(transfer=name):
                transfer = self._transfers.get(name)
                if isinstance(transfer, ShuffleController):
                    transfer.put(node.name, message, now)
            case BlocksHeld(key=key, records=records):
                found = self._transfer_of(node, key)
                if found is not None:
                    found.blocks_held(node.name, key, records, now)
            case FetchTrouble(key=key):
                found = self._transfer_of(node, key)
                if found is not None:
                    found.fetch_failed(node.name, message, now)
            case Settled(key=key):
                found = self._transfer_of(node, key)
                if found is not None:
                    found.settled(node.name, message, now)
            case MapFailed(key=key):
                found = self._transfer_of(node, key)
                if found is not None:
                    found.map_failed(node.name, message, now)

    def _transfer_of(self, node: Node, key: ObjectKey) -> TransferController | None:
        """The transfer that a report is about, if the node takes part in it."""
        transfer = self._transfers.get(key.transfer)
        return transfer if transfer is not None and node.name in transfer.participants() else None

    def _name_refused(self, name: str) -> str | None:
        try:
            transfer_name(name)
        except ValueError as bad:
            return str(bad)
        taken = self._transfers.get(TransferName(name))
        if taken is not None and not self._gone(taken):
            return f"a transfer named {name!r} exists ({taken.state.value}); release it first"
        if len(self._transfers) >= MAX_TRANSFERS:
            return f"{MAX_TRANSFERS} transfers exist already; release some"
        return None

    def _propose(self, node: Node, message: Propose, now: float) -> None:
        refused = self._name_refused(message.transfer)
        if refused is None and message.size_bytes < 0:
            refused = f"size_bytes must not be negative, got {message.size_bytes}"
        if refused is None and not 0 < message.timeout_s < float("inf"):
            refused = f"timeout_s must be above 0, got {message.timeout_s}"
        if refused is None and message.to is not None and node.name in message.to:
            refused = f"{node.name} is the source of {message.transfer!r} and cannot be a receiver too"
        if refused is not None:
            self.send(node.name, Denied(message.request, refused))
            return
        self._forget(message.transfer)
        transfer = BroadcastController(self, node.name, message, self._rng_for_transfer(), now)
        self._transfers[message.transfer] = transfer
        self._proposals[message.transfer] = message.request
        for name in self._wanted.pop(message.transfer, {}):
            transfer.want(name, now)
        self._answer_proposals(now)

    def _answer_proposals(self, now: float) -> None:
        """Choose for every proposal whose receivers are there."""
        for name, request in list(self._proposals.items()):
            transfer = self._transfers[name]
            assert isinstance(transfer, BroadcastController)
            if not transfer.ready(now):
                continue
            del self._proposals[name]
            there, absent = transfer.receivers_now()
            asked = transfer.propose
            short = asked.wait_for - len(there) if asked.to is None else 0
            if short > 0 and asked.wait_for > 1:
                self._deny(transfer, request, f"{len(there)} of {asked.wait_for} agents joined within "
                           f"{asked.timeout_s:g} s")  # fmt: skip
            elif not there and not absent:
                self._deny(transfer, request, "there is no receiver: no agent has joined")
            else:
                self._plan(transfer, request, max(1, len(there)))

    def _plan(self, transfer: BroadcastController, request: int, receivers: int) -> None:
        asked = transfer.propose
        try:
            transfer.choice = choose(
                asked.size_bytes,
                receivers,
                link=self._link(),
                block_size_bytes=asked.block_size_bytes,
                mechanism=asked.mechanism,
            )
        except ValueError as bad:
            self._deny(transfer, request, str(bad))
            return
        choice = transfer.choice
        self.send(transfer.owner, Planned(request, choice.mechanism, choice.block_size_bytes, choice.reason))

    def _link(self) -> LinkEstimate:
        return self.config.link

    def _deny(self, transfer: BroadcastController, request: int, reason: str) -> None:
        self.send(transfer.owner, Denied(request, reason))
        self._forget(transfer.name)

    def _offer(self, node: Node, message: Offer, now: float) -> None:
        name = message.manifest.key.transfer
        transfer = self._transfers.get(name)
        reason = None
        if (
            not isinstance(transfer, BroadcastController)
            or transfer.owner != node.name
            or transfer.choice is None
        ):
            reason = f"no broadcast {name!r} of {node.name} has been planned"
        elif transfer.manifest is not None or transfer.over:
            reason = f"broadcast {name!r} has been offered already"
        elif message.manifest.key.part or message.manifest.layout.size_bytes != transfer.propose.size_bytes:
            reason = f"the manifest of {name!r} is not what was proposed"
        if reason is not None or not isinstance(transfer, BroadcastController):
            self.send(node.name, Denied(message.request, reason or ""))
            return
        self.send(node.name, Granted(message.request))
        transfer.start(message.manifest, now)

    def _open_shuffle(self, node: Node, message: OpenShuffle, now: float) -> None:
        transfer = self._transfers.get(message.transfer)
        if transfer is None or self._gone(transfer):
            refused = self._name_refused(message.transfer)
            if refused is None and not (message.mappers and message.reducers):
                refused = f"shuffle {message.transfer!r} needs at least one mapper and one reducer"
            if refused is None and any(
                len(set(each)) < len(each) for each in (message.mappers, message.reducers)
            ):
                refused = f"shuffle {message.transfer!r} names a mapper or a reducer twice"
            if refused is None and not 0 < message.timeout_s < float("inf"):
                refused = f"timeout_s must be above 0, got {message.timeout_s}"
            if refused is not None:
                self.send(node.name, Denied(message.request, refused))
                return
            self._forget(message.transfer)
            transfer = self._transfers[message.transfer] = ShuffleController(self, message, now)
        if not isinstance(transfer, ShuffleController):
            reason: str | None = f"{message.transfer!r} is a {transfer.kind}, not a shuffle"
        else:
            reason = transfer.open(node.name, message, now)
            if not transfer.participants():  # made for nothing
                del self._transfers[message.transfer]
        answer = Granted(message.request) if reason is None else Denied(message.request, reason)
        self.send(node.name, answer)
        if reason is None and isinstance(transfer, ShuffleController):
            transfer.opened(node.name, now)

    def _run_shuffle(self, node: Node, message: RunShuffle, now: float) -> None:
        refused = self._name_refused(message.transfer) or run_refused(
            message, [agent.name for agent in self.members.agents()]
        )
        if refused is not None:
            self.send(node.name, Denied(message.request, refused))
            return
        self.send(node.name, Granted(message.request))
        self._forget(message.transfer)
        self._transfers[message.transfer] = ShuffleController.asked(self, message, node.name, now)

    def _want(self, node: Node, name: TransferName, now: float) -> None:
        transfer = self._transfers.get(name)
        if isinstance(transfer, BroadcastController) and not self._gone(transfer):
            transfer.want(node.name, now)
        else:
            self._note_wanted(node.name, name)

    def _note_wanted(self, node: NodeName, name: TransferName) -> None:
        """Remember who wants what does not exist yet; the oldest go first when there are too many."""
        self._wanted.setdefault(name, {})[node] = None
        if len(self._wanted) > MAX_TRANSFERS:
            del self._wanted[next(iter(self._wanted))]

    def _release(self, node: Node, request: int, name: TransferName) -> None:
        transfer = self._transfers.get(name)
        if transfer is None or self._gone(transfer):
            self.send(node.name, Denied(request, f"there is no transfer {name!r}"))
            return
        self._stop(transfer, TransferState.RELEASED, f"released by {node.name}", None)
        self.send(node.name, Granted(request))

    def _stop(
        self, transfer: TransferController, state: TransferState, reason: str, now: float | None
    ) -> None:
        """End a transfer on purpose, whether or not it was done."""
        self._proposals.pop(transfer.name, None)
        if transfer.over:
            transfer.state = state
            for name in transfer.participants():
                self.send(name, LetGo(transfer.name, reason))
        else:
            transfer.end(state, reason, transfer.moved_at_s if now is None else now)

    # -- the table of transfers ----------------------------------------------------------------

    @staticmethod
    def _gone(transfer: TransferController) -> bool:
        """Whether nobody holds anything of it any more, so that its name is free."""
        ended = (TransferState.FAILED, TransferState.CANCELLED, TransferState.RELEASED)
        return transfer.state in ended or (transfer.over and isinstance(transfer, ShuffleController))

    def _forget(self, name: TransferName) -> None:
        gone = self._transfers.pop(name, None)
        if gone is not None and gone.over:
            self._remembered.append((name, _described(gone)))
        if isinstance(gone, BroadcastController):
            for node in gone.wanted_in_vain():
                self._note_wanted(node, name)

    def _forget_finished(self) -> None:
        for name, transfer in list(self._transfers.items()):
            if self._gone(transfer):
                self._forget(name)

    def status(self, hidden: NodeName | None = None) -> dict[str, object]:
        """What `orchestra status --json` prints; without the node ``hidden``, which only came to ask."""
        transfers = dict(self._remembered)
        transfers.update({name: _described(transfer) for name, transfer in self._transfers.items()})
        return {
            "nodes": {
                node.name: {
                    "address": node.join.data_address,
                    "host": node.join.host,
                    "state": node.state.value,
                }
                for node in self.members
                if node.name != hidden
            },
            "transfers": transfers,
            "policy": self.config.policy,
        }


def _described(transfer: TransferController) -> dict[str, object]:
    return {
        "kind": transfer.kind,
        "mechanism": transfer.method,
        "state": transfer.state.value,
        "progress": round(transfer.progress, 4),
        "failed": dict(transfer.tally.failed),
    }
