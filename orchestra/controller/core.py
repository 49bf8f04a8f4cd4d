"""The controller without its sockets: messages in, messages out.

Owns membership and one inter-transfer controller. Each transfer has a controller of its own, `table` has
them all, and `requests` answers what nodes ask for. Pure: sessions are numbers, time and randomness
are passed in, and whoever drives it carries out what `take_output` gives. The same object serves TCP
and simulation.
"""

import json
from dataclasses import asdict, dataclass
from random import Random

from orchestra.choice import LinkEstimate
from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.counts import Counts
from orchestra.controller.itc import Enforcement, InterTransferController
from orchestra.controller.measured import Measured
from orchestra.controller.members import Members, Node, NodeState, SessionId
from orchestra.controller.racks import FLAT, INFERRED, Topology
from orchestra.controller.requests import Requests
from orchestra.controller.shuffle import ShuffleController
from orchestra.controller.table import TransferTable
from orchestra.controller.transfer import TransferController, TransferState
from orchestra.messages import (
    AskOutcome,
    AskStatus,
    BlocksHeld,
    CancelTransfer,
    Denied,
    FetchBlocks,
    FetchTrouble,
    FlowProgress,
    FollowSource,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Leave,
    MapFailed,
    NotJoined,
    Offer,
    OpenShuffle,
    PartitionPut,
    PartitionWaits,
    PauseTransfer,
    Peer,
    Propose,
    PushTrouble,
    Release,
    RunShuffle,
    SetPolicy,
    Settled,
    Status,
    StillHere,
    ToController,
    ToNode,
    Want,
)
from orchestra.names import node_name
from orchestra.racks_file import GivenRacks
from schedulers import POLICIES
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.net.address import parse_address

SUSPECT_AFTER_S = 1.0
"""Silence after which a node that takes part in a transfer is suspected (design)."""
REPORTS_MISSED = 4
"""The same in the longest time between reports that nodes were told (a guess: three may be late)."""
FEW_SUSPECTS, MOST_SUSPECTS = 20, 0.25
"""So many may be suspected at one time, or this share of those who take part: more are not silent, but the
host or the network between is busy, and nothing is gained by planning anew (guesses)."""
MAX_TICK_GAP_S = 2.0
"""Time between two ticks from which the controller takes itself for the one who was away (a guess)."""
HEARTBEATS_PER_TIMEOUT = 5
"""Heartbeats of an idle node within the time after which it would be lost (a guess: four may be late)."""

_NAMING = (FollowSource, FetchBlocks)
"""Commands that name a node, whose address the receiver must know."""


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """How a controller is set up.

    Attributes:
        policy: by which transfers share ports, by its name (`schedulers.POLICIES`).
        port_rate_bytes_per_s: cap on each node's two directions; None is none.
        heartbeat_timeout_s: silence after which a node is lost.
        allow_pickle: whether nodes may unpickle what they receive.
        link: what is believed of links until some are measured; None is what is assumed by their addresses.
        enforcement: how flows of shuffles are kept to their rates.
        topology: ``"flat"``, ``"inferred"``, or racks that are told.
    """

    policy: str = "fair"
    port_rate_bytes_per_s: float | None = None
    heartbeat_timeout_s: float = 15.0
    allow_pickle: bool = False
    link: LinkEstimate | None = None
    enforcement: Enforcement = Enforcement.AUTO
    topology: str | GivenRacks = FLAT

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        if not self.heartbeat_timeout_s > 0:
            raise ValueError(f"heartbeat_timeout_s must be above 0, got {self.heartbeat_timeout_s}")
        if self.port_rate_bytes_per_s is not None and not self.port_rate_bytes_per_s > 0:
            raise ValueError(f"port_rate_bytes_per_s must be above 0, got {self.port_rate_bytes_per_s}")
        if not isinstance(self.topology, GivenRacks) and self.topology not in (FLAT, INFERRED):
            raise ValueError(f"topology must be {FLAT}, {INFERRED} or racks, got {self.topology!r}")


@dataclass(frozen=True, slots=True)
class ControllerStatistics:
    """What a controller keeps.

    Attributes:
        nodes: names of those connected.
        transfers: names that are taken.
        proposals: names of broadcasts that wait for receivers.
        wanted: names of transfers that nodes wait for and that are not there.
        budgets: rates that hold, of one transfer at one node each.
    """

    nodes: tuple[NodeName, ...]
    transfers: tuple[TransferName, ...]
    proposals: tuple[TransferName, ...]
    wanted: tuple[TransferName, ...]
    budgets: int


class ControllerCore:
    """One cluster's controller.

    Args:
        config: see there.
        rng: where every random choice comes from.
    """

    def __init__(self, config: ControllerConfig, rng: Random) -> None:
        self.config = config
        self._log: list[str] = []
        self.members = Members()
        self.counts = Counts()
        self.table = TransferTable()
        self.measured = Measured(config.link, config.port_rate_bytes_per_s)
        self.topology = Topology(config.topology, self.members, self.log, self.measured.forget_links)
        self.itc = InterTransferController(
            self, config.policy, config.port_rate_bytes_per_s, config.enforcement
        )
        self._requests = Requests(self, self.table, rng)
        self._output: list[tuple[SessionId, ToNode | None]] = []
        self._ticked_at_s: float | None = None

    # -- for whoever drives it -----------------------------------------------------------------

    def take_output(self) -> list[tuple[SessionId, ToNode | None]]:
        """What is to be sent since the last call, in order; None closes the session."""
        taken, self._output = self._output, []
        self.counts.messages_out += len(taken)
        return taken

    def statistics(self) -> ControllerStatistics:
        """What is kept now."""
        return ControllerStatistics(
            nodes=tuple(node.name for node in self.members if node.present),
            transfers=tuple(transfer.name for transfer in self.table),
            proposals=self._requests.proposals,
            wanted=self.table.wanted,
            budgets=self.itc.budgets,
        )

    def take_log(self) -> list[str]:
        """Lines for whoever runs the controller, since the last call."""
        taken, self._log = self._log, []
        return taken

    def receive(self, session: SessionId, message: ToController, now: float) -> None:
        """Take in one message of a session."""
        self.counts.messages_in += 1
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
        self.itc.review(now)

    def closed(self, session: SessionId, reason: str, now: float) -> None:
        """A session has ended."""
        node = self.members.speaking(session)
        if node is not None:
            self._lose(node, NodeState.LOST, reason, now)
            self.itc.review(now)

    def tick(self, now: float) -> None:
        """Time has passed; to be called about every `transfers.planners.events.TICK_INTERVAL_S`."""
        self.counts.ticks += 1
        self._forgive_own_silence(now)
        engaged: set[NodeName] = set()
        silent: list[Node] = []
        suspect_after_s = SUSPECT_AFTER_S
        for transfer in self.table:
            if transfer.state is TransferState.ACTIVE:  # who serves late joiners only need not speak often
                suspect_after_s = max(suspect_after_s, REPORTS_MISSED * transfer.report_interval_s)
                engaged.update(transfer.engaged())
        suspect_after_s = min(suspect_after_s, self.config.heartbeat_timeout_s / 2)
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
                and min(silent_s, now - node.engaged_at_s) >= suspect_after_s
            ):
                silent.append(node)
        self._suspect(silent, len(engaged), now)
        for transfer in self.table:
            transfer.tick(now)
        self._requests.answer_proposals(now)
        self.table.forget_ended()
        self.itc.tick(now)

    def _suspect(self, silent: list[Node], engaged: int, now: float) -> None:
        """Nodes have fallen silent. Where they are very many it is rather that they are heard late."""
        before = sum(node.state is NodeState.SUSPECTED for node in self.members)
        if len(silent) + before > max(FEW_SUSPECTS, MOST_SUSPECTS * engaged):
            return
        for node in silent:
            node.state = NodeState.SUSPECTED
            for transfer in self.table:
                transfer.node_suspected(node.name, True, now)

    def _forgive_own_silence(self, now: float) -> None:
        """Where this process stood still, what nodes said meanwhile lies unread: they were not silent."""
        gap_s = 0.0 if self._ticked_at_s is None else now - self._ticked_at_s
        self._ticked_at_s = now
        if gap_s >= MAX_TICK_GAP_S:
            self.log(f"the controller stood still for {gap_s:.1f} s")
            for node in self.members:
                node.heard_at_s = min(now, node.heard_at_s + gap_s)

    # -- for transfer controllers (`Cluster`) --------------------------------------------------

    def send(self, node: NodeName, message: ToNode) -> None:
        """Say something to a node, with the address of whom it names if it does not know that yet."""
        to = self.members.present(node)
        if to is None:
            return
        if isinstance(message, _NAMING) and message.source is not None:
            source = self.members.present(message.source)
            if source is not None and to.known_peers.get(source.name) != source.session:
                to.known_peers[source.name] = source.session
                self._output.append((to.session, Peer(source.name, source.join.data_address)))
        self._output.append((to.session, message))

    def log(self, text: str) -> None:
        """One line for whoever runs the controller."""
        self._log.append(text)

    def changed(self, transfer: TransferController, *, urgent: bool = False) -> None:
        """What a transfer has left to move is another than before."""
        self.itc.note(transfer, urgent=urgent)

    def moved(self, source: NodeName, to: NodeName, count_bytes: int) -> None:
        """Bytes have come from one node to another."""
        self.itc.moved(source, to, count_bytes)

    # -- membership ----------------------------------------------------------------------------

    def _join(self, session: SessionId, join: Join, now: float) -> None:
        try:
            node_name(join.name)
            parse_address(join.data_address)  # others are sent there, and links are told by it
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
        self._output.append(
            (
                session,
                Joined(
                    *(interval_s, self.config.heartbeat_timeout_s, self.config.allow_pickle),
                    self.config.port_rate_bytes_per_s,
                ),
            )
        )
        self.log(f"{join.name} joined from {join.data_address}")
        for held in join.inventory:
            self._requests.adopt(node, held, now)
        for transfer in self.table:
            transfer.node_joined(node, now)
        self._requests.answer_proposals(now)

    def _refuse(self, session: SessionId, reason: str, final: bool) -> None:
        self._output.append((session, NotJoined(reason, final)))
        self._output.append((session, None))
        self.log(f"a node was refused: {reason}")

    def _hear(self, node: Node, now: float) -> None:
        node.heard_at_s = now
        if node.state is NodeState.SUSPECTED:
            node.state = NodeState.JOINED
            for transfer in self.table:
                transfer.node_suspected(node.name, False, now)

    def _lose(self, node: Node, state: NodeState, reason: str, now: float) -> None:
        self.members.remove(node, state)
        self.itc.forget_node(node.name)
        self.log(f"{node.name} {state.value}: {reason}")
        self.table.forget_node(node.name)
        self._requests.forget_owner(node.name)
        for transfer in self.table:
            transfer.node_lost(node.name, reason, now)

    # -- messages ------------------------------------------------------------------------------

    def _dispatch(self, node: Node, message: ToController, now: float) -> None:
        match message:
            case BlocksHeld(key=key, records=records):  # first, because they are by far the most
                self.counts.reports += 1
                self.counts.block_events += len(records)
                found = self._transfer_of(node, key)
                if found is not None:
                    found.blocks_held(node.name, key, records, now)
            case Heartbeat():
                self.counts.heartbeats += 1
                self.send(node.name, StillHere())
            case Join():
                pass
            case Leave():
                self._lose(node, NodeState.LEFT, "it left", now)
                self._output.append((node.session, None))
            case Propose():
                self._requests.propose(node, message, now)
            case Offer():
                self._requests.offer(node, message, now)
            case OpenShuffle():
                self._requests.open_shuffle(node, message, now)
            case Release(request=request, transfer=name):
                self._requests.release(node, request, name)
            case RunShuffle():
                self._requests.run_shuffle(node, message, now)
            case CancelTransfer():
                self._requests.cancel(node, message, now)
            case AskStatus(request=request):
                hidden = None if node.join.receives else node.name
                self.send(node.name, Status(request, json.dumps(self.status(hidden)).encode()))
            case Want(transfer=name):
                self._requests.want(node, name, now)
            case PartitionPut(transfer=name):
                transfer = self.table.get(name)
                if isinstance(transfer, ShuffleController):
                    transfer.put(node.name, message, now)
            case PartitionWaits(key=key):
                found = self._transfer_of(node, key)
                if isinstance(found, ShuffleController):
                    found.waits(node.name, message, now)
            case FlowProgress(transfer=name):
                self.counts.reports += 1
                transfer = self.table.get(name)
                if isinstance(transfer, ShuffleController):
                    transfer.progressed(node.name, message, now)
            case AskOutcome(transfer=name):
                self._requests.ask_outcome(node, name, now)
            case PauseTransfer():
                self._requests.pause(node, message, now)
            case SetPolicy(request=request, policy=policy):
                self._set_policy(node, request, policy)
            case FetchTrouble(key=key):
                found = self._transfer_of(node, key)
                if found is not None:
                    found.fetch_failed(node.name, message, now)
            case PushTrouble(key=key):
                found = self._transfer_of(node, key)
                if isinstance(found, BroadcastController):
                    found.push_failed(node.name, message, now)
            case Settled(key=key):
                found = self._transfer_of(node, key)
                if found is not None:
                    found.settled(node.name, message, now)
            case MapFailed(key=key):
                found = self._transfer_of(node, key)
                if found is not None:
                    found.map_failed(node.name, message, now)

    def _set_policy(self, node: Node, request: int, policy: str) -> None:
        try:
            self.itc.change_policy(policy)
        except ValueError as bad:
            self.send(node.name, Denied(request, str(bad)))
            return
        self.log(f"policy {policy}, as {node.name} said")
        self.send(node.name, Granted(request))

    def _transfer_of(self, node: Node, key: ObjectKey) -> TransferController | None:
        """The transfer that a report is about, if the node takes part in it."""
        transfer = self.table.get(key.transfer)
        return transfer if transfer is not None and transfer.involves(node.name) else None

    # -- for people ----------------------------------------------------------------------------

    def status(self, hidden: NodeName | None = None) -> dict[str, object]:
        """What `orchestra status --json` prints; without the node ``hidden``, which only came to ask."""
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
            "transfers": self.table.described(),
            "policy": self.itc.policy,
            "enforcement": {
                "means": self.config.enforcement.value,
                "without_pacing": [
                    node.name for node in self.members if node.present and not node.join.paces
                ],
            },
            "links": self.measured.described(),
            "topology": self.topology.described(node.name for node in self.members.agents()),
            "controller": {**asdict(self.counts), "blocks_held": self.table.blocks_held()},
        }
