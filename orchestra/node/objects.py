"""What a node holds, is receiving, and serves: commands in, movement and reports out.

Owns the node's store, block server and fetch engine, and the state of each object on this node. It
carries out what the controller says and reports what has come of it; it decides nothing. When reports
leave is a matter of `orchestra.node.reports`.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from orchestra.messages import (
    Begin,
    Budget,
    Deliver,
    DropPartition,
    FetchBlocks,
    FetchTrouble,
    FlowProgress,
    FollowSource,
    Holding,
    LetGo,
    MapFailed,
    MapObject,
    PartitionDelivered,
    PartitionWaits,
    Peer,
    PushBlock,
    PushTrouble,
    Settled,
    ToController,
    WithdrawAsks,
)
from orchestra.node import files
from orchestra.node.arrivals import Arrival, Arrivals
from orchestra.node.reports import Reports
from orchestra.node.statistics import ObjectsStatistics
from orchestra.node.waiting_room import WaitingRoom
from transfers.errors import LocalProtocolError, OrchestraError, StoreFull
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey
from transfers.net.fetch import FetchEngine
from transfers.net.incoming import IncomingBlocks
from transfers.net.limits import PortLimits
from transfers.net.network import Listener, Network
from transfers.net.pool import ConnectionPool
from transfers.net.push import Pusher
from transfers.net.server import BlockServer
from transfers.planners.events import REPORT_INTERVAL_S, FetchFailure, Stored
from transfers.store import Store, StoredObject
from transfers.store.sharing import adopt

log = logging.getLogger(__name__)

ArgumentT = TypeVar("ArgumentT")

FLOW_REPORT_S = 0.1
"""Between two words on how far a shuffle's partitions are (a guess: ten in the time after which a plan is
held against them; a hundred reducers say a thousand a second). Room for those that wait is looked for as
often."""


class ObjectsOwner(Protocol):
    """What the objects need of their node."""

    def tell(self, message: ToController) -> None:
        """Queue a message for the controller."""
        ...

    def arrived(self, key: ObjectKey) -> None:
        """An object is complete here."""
        ...

    def takes_part(self, transfer: TransferName) -> bool:
        """Whether the node takes part in a shuffle of that name."""
        ...


class NodeObjects:
    """The objects of one node.

    Args:
        name: of the node.
        network: how to reach other nodes.
        secret: the cluster's, empty for none.
        store: where blocks lie.
        owner: whose objects they are.
        save_folder: where complete broadcasts are written, None for nowhere.
    """

    def __init__(
        self,
        name: NodeName,
        network: Network,
        secret: bytes,
        store: Store,
        owner: ObjectsOwner,
        save_folder: Path | None,
    ) -> None:
        self.store = store
        self._owner = owner
        self._save_folder = save_folder
        self._limits = PortLimits()
        pool = ConnectionPool(network, secret)
        self._pusher = Pusher(name, store, pool, self._limits, self)
        incoming = IncomingBlocks()
        self.server = BlockServer(store, secret, self._limits, incoming, self._pusher)
        self.engine = FetchEngine(store, pool, self._limits, self._peers_address, self, incoming, self.server)
        self._peers: dict[NodeName, str] = {}
        self._arrivals = Arrivals()
        self._settled: dict[ObjectKey, str | None] = {}
        self._under_way: dict[ObjectKey, None] = {}
        self._engaged: dict[TransferName, float] = {}  # with the time to gather reports
        self._reports = Reports(owner.tell)
        self._waiting_room = WaitingRoom()
        self._told_flows: dict[ObjectKey, int] = {}
        self._consumed: dict[ObjectKey, None] = {}  # before they were settled
        self._nursery: trio.Nursery | None = None

    async def run(
        self, listener: Listener, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve, fetch and report until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.engine.run)
            await nursery.start(self._pusher.run)
            nursery.start_soon(self.server.serve, listener)
            nursery.start_soon(self._reports.run)
            nursery.start_soon(self._tend_flows)
            task_status.started()

    def statistics(self) -> ObjectsStatistics:
        """What is kept and under way now."""
        return ObjectsStatistics(
            store=self.store.statistics(),
            fetching=self.engine.statistics(),
            serving=self.server.statistics(),
            arrivals=len(self._arrivals),
            settled=len(self._settled),
            under_way=len(self._under_way),
            engaged=len(self._engaged),
            unsent=len(self._reports),
            budgets=len(self._limits.transfers),
            waiting=len(self._waiting_room),
        )

    # -- for the node --------------------------------------------------------------------------

    @property
    def engaged(self) -> bool:
        """Whether this node takes part in a broadcast whose outcome is not known yet."""
        return bool(self._engaged)

    @property
    def report_interval_s(self) -> float:
        """How long it may gather what it reports, at most."""
        return max(self._engaged.values(), default=REPORT_INTERVAL_S)

    def limit_port(self, rate_bytes_per_s: float | None) -> None:
        """What this node may send in all; None is no limit."""
        self._limits.limit_port(rate_bytes_per_s)

    def consumed(self, key: ObjectKey) -> None:
        """Whoever waited for a partition is through with it: its room is for the next.

        One that this node has put for itself is here before the controller has said that it is to be taken.
        """
        if key in self._settled or self.store.get(key) is None:
            self.drop(key, "it has been taken")
            self._admit()
        else:
            self._consumed[key] = None

    def outcome(self, transfer: TransferName) -> None:
        """A transfer is over as far as it was waited for."""
        self._engaged.pop(transfer, None)
        self.forget_if_gone(transfer)

    def put(self, stored: StoredObject) -> None:
        """An object of this node's own is complete in the store: serve it."""
        key = stored.manifest.key
        self.server.object_known(key)
        self._arrived(key, None)

    def arrival(self, key: ObjectKey) -> Arrival:
        """The arrival of an object, past or to come."""
        arrival = self._arrivals.expect(key)
        held = self.store.get(key)
        if held is not None and held.complete and not arrival.done.is_set():
            self._arrived(key, None)
        return arrival

    def forget_arrival(self, key: ObjectKey) -> None:
        """Nobody waits for it any more; an object that never came leaves nothing behind."""
        arrival = self._arrivals.get(key)
        if arrival is not None and not arrival.done.is_set() and self.store.get(key) is None:
            self._arrivals.forget(key)

    def inventory(self) -> tuple[Holding, ...]:
        """What this node can say it holds, when it comes back to its controller."""
        return tuple(
            Holding(stored.manifest, stored.holds.copy())
            for stored in self.store.objects()
            if not stored.manifest.key.part
        )

    def forget_budgets(self) -> None:
        """Hold nothing back until it is told again."""
        for transfer in self._limits.transfers:
            self._limits.forget(transfer)
            self.engine.spread(transfer, {})

    def say_again(self) -> None:
        """The node has come back to its controller, who may have missed what was said last.

        Until then it has carried on with its commands; the controller plans anew from its inventory.
        """
        self.engine.end_commands()
        self._reports.forget_fetches()
        for key, failure in self._settled.items():
            self._owner.tell(Settled(key, failure))

    def drop(self, key: ObjectKey, reason: str) -> None:
        """Let an object go on this node."""
        self.engine.forget(key)
        self.server.forget(key)
        self._settled.pop(key, None)
        self._under_way.pop(key, None)
        self._told_flows.pop(key, None)
        self._consumed.pop(key, None)
        self._waiting_room.forget(key)
        self._reports.forget(key)
        held = self.store.get(key)
        arrival = self._arrivals.forget(key)
        if arrival is not None and not arrival.done.is_set():
            arrival.end(reason)
        if held is not None:
            self.store.release(key)
        self.forget_if_gone(key.transfer)

    def forget_if_gone(self, transfer: TransferName) -> None:
        """Keep nothing of a transfer of which no object is here, nor to come."""
        if not self._owner.takes_part(transfer) and not any(
            self.store.get(key) is not None for key in self._arrivals.of(transfer)
        ):
            self._limits.forget(transfer)
            self.engine.spread(transfer, {})
            self._engaged.pop(transfer, None)

    # -- commands ------------------------------------------------------------------------------

    def hear(
        self,
        message: Peer
        | Begin
        | Deliver
        | PushBlock
        | MapObject
        | FollowSource
        | FetchBlocks
        | WithdrawAsks
        | Budget
        | PartitionDelivered
        | DropPartition
        | LetGo,
    ) -> None:
        """Carry out one command of the controller."""
        match message:
            case Peer(node=node, data_address=address):
                self._peers[node] = address
            case Begin(manifest=manifest, report_interval_s=interval_s):
                self._begin(manifest, interval_s)
            case Deliver():
                self._deliver(message)
            case PushBlock(key=key, block=block, route=route):
                self._pusher.push(key, block, route)
            case MapObject():
                self._start(self._map, message)
            case FollowSource(key=key, source=source) if key in self._waiting_room:
                self._waiting_room.follow(key, source)
            case FollowSource(key=key, source=source, stripe=stripe, stripes=stripes, in_step=in_step):
                self.engine.follow(key, source, stripe, stripes, in_step)
            case FetchBlocks(key=key, source=source, blocks=blocks):
                self._reports.expect_fetched(key, blocks)
                self.engine.fetch(key, source, blocks)
            case WithdrawAsks(key=key, blocks=blocks):
                self.engine.cancel(key, blocks)
            case Budget():
                self._set_budget(message)
            case PartitionDelivered(key=key):
                self.drop(key, "it has been delivered")
            case DropPartition(key=key):
                self.drop(key, "it will be put again")
            case LetGo(transfer=transfer, reason=reason):
                self._let_go(transfer, reason)

    def _begin(self, manifest: Manifest, interval_s: float = REPORT_INTERVAL_S) -> None:
        key = manifest.key
        held = self.store.get(key)
        if held is not None and held.manifest != manifest:
            self.drop(key, "replaced by another object of the same name")
            held = None
        if held is None and key.part and self._waits_for_room(manifest):
            return
        if held is None:
            try:
                self._check_content(manifest)
                held = self.store.create(manifest)
            except (StoreFull, ValueError) as refused:
                log.warning("%s cannot be received: %s", key, refused)
                self._fail(key, str(refused))
                return
        self._take_in(held, interval_s)

    def _take_in(self, held: StoredObject, interval_s: float = REPORT_INTERVAL_S) -> None:
        """There is room for an object: take in what comes of it."""
        key = held.manifest.key
        self._arrivals.expect(key)
        if held.complete:
            self.server.object_known(key)
            self._complete(held)
        else:
            self._under_way[key] = None
            self._engaged[key.transfer] = max(0.0, interval_s)
            self.engine.begin(held)
            self.server.object_known(key)
            self._pusher.object_known(key)

    # -- partitions ----------------------------------------------------------------------------

    def _waits_for_room(self, manifest: Manifest) -> bool:
        """Take in a partition, now or when its turn comes; False where there can never be room for it."""
        key, size_bytes = manifest.key, manifest.layout.size_bytes
        if not self.store.could_hold(size_bytes):
            return False
        self._arrivals.expect(key)
        self._waiting_room.enter(manifest)
        self._admit()
        if key in self._waiting_room:
            self._owner.tell(PartitionWaits(key, True))
        return True

    def _admit(self) -> None:
        """Let in partitions for which there is room by now."""
        self._waiting_room.admit(self._has_room)

    def _has_room(self, manifest: Manifest, source: NodeName | None) -> bool:
        key = manifest.key
        try:
            held = self.store.create(manifest, may_spill=True)
        except StoreFull as full:
            log.debug("%s waits: %s", key, full)
            return False
        self._waiting_room.forget(key)  # before it is told of
        self._take_in(held)
        if source is not None:
            self._owner.tell(PartitionWaits(key, False))
            self.engine.follow(key, source)
        return True

    async def _tend_flows(self) -> None:
        """Say how far partitions are, and look for room, which also comes when a view dies."""
        while True:
            await trio.sleep(FLOW_REPORT_S)
            self._admit()
            news: dict[TransferName, dict[str, int]] = {}
            for key in self._under_way:
                if key.part and (received := self.engine.received_of(key)) > self._told_flows.get(key, 0):
                    self._told_flows[key] = received
                    news.setdefault(key.transfer, {})[key.part] = received
            for transfer, received_bytes in news.items():
                self._owner.tell(FlowProgress(transfer, received_bytes, trio.current_time()))

    def _set_budget(self, budget: Budget) -> None:
        self._limits.set_budget(
            budget.transfer,
            budget.egress_bytes_per_s,
            budget.ingress_bytes_per_s,
            rank=budget.rank,
            flows=budget.flows_bytes_per_s,
            other_flows_bytes_per_s=budget.other_flows_bytes_per_s,
            slowest_bytes_per_s=budget.slowest_bytes_per_s,
        )
        self.engine.spread(budget.transfer, budget.connections)

    def _deliver(self, message: Deliver) -> None:
        """A small object has come whole."""
        self._begin(message.manifest)
        layout, content = message.manifest.layout, memoryview(message.content)
        for at in range(layout.count):
            block = BlockIndex(at)
            part = content[layout.offset(block) : layout.offset(block) + layout.length(block)]
            self._pusher.keep(message.manifest.key, block, part, message.source, 0.0)

    def _check_content(self, manifest: Manifest) -> None:
        if self._save_folder is not None and not manifest.key.part:
            files.path_for(self._save_folder, manifest)

    async def _map(self, message: MapObject) -> None:
        """Map another process's copy; where that does not work, say so and receive it instead."""
        key = message.manifest.key
        held = self.store.get(key)
        if held is not None and held.manifest != message.manifest:
            self.drop(key, "replaced by another object of the same name")
            held = None
        try:
            self._check_content(message.manifest)
            if held is None:
                held = await adopt(self.store, message.manifest, message.store_address)
        except LocalProtocolError:
            held = self.store.get(key)  # it came by another way meanwhile
        except ValueError as bad:
            self._fail(key, str(bad))
            return
        except (OrchestraError, OSError) as failed:
            self._owner.tell(MapFailed(key, str(failed)))
            return
        if held is not None and held.complete:
            self.server.object_known(key)
            self._complete(held)

    def _let_go(self, transfer: TransferName, reason: str) -> None:
        for key in (*self._arrivals.of(transfer), *self._waiting_room.of(transfer)):
            self.drop(key, reason)
        self.forget_if_gone(transfer)

    # -- what comes of them (`FetchReports`, `PushOwner`) ----------------------------------------

    def block_pushed(
        self, key: ObjectKey, block: BlockIndex, data: memoryview, sender: NodeName, seconds: float
    ) -> None:
        """A block has come without being asked for, and is verified."""
        held = self.store.get(key)
        if held is None or held.adopted or self.engine.is_receiving(key, block):
            return
        held.block(block)[:] = data
        held.mark_stored(block)
        self.engine.cancel(key, (block,))
        self.block_stored(key, block, sender, seconds)

    def push_failed(self, key: ObjectKey, block: BlockIndex, reason: str) -> None:
        """A block could not be taken in, or passed on."""
        self._owner.tell(PushTrouble(key, block, reason))

    def block_stored(self, key: ObjectKey, block: BlockIndex, source: NodeName, seconds: float) -> None:
        """A block has arrived and is verified."""
        self.server.block_stored(key, block)
        held = self.store.get(key)
        complete = held is not None and held.complete and key in self._under_way
        if not key.part:
            self._reports.add(key, Stored(block, source, seconds))
        if complete and held is not None:
            self._reports.flush(key)
            self._complete(held)
        elif not key.part:
            interval_s = self._engaged.get(key.transfer, REPORT_INTERVAL_S)
            self._reports.send_soon(key, block, interval_s)

    def fetch_failed(
        self, key: ObjectKey, source: NodeName, blocks: tuple[BlockIndex, ...], failure: FetchFailure
    ) -> None:
        """Asks came to nothing."""
        self._owner.tell(FetchTrouble(key, source, blocks, failure))

    def _complete(self, held: StoredObject) -> None:
        """All blocks match their checksums, and so the whole matches its own, which is over theirs."""
        key = held.manifest.key
        self._under_way.pop(key, None)
        self._reports.forget_fetches(key)
        self._arrived(key, None)
        if self._save_folder is not None and not key.part:
            self._start(self._save, held)
        else:
            self._settle(key, None)

    async def _save(self, held: StoredObject) -> None:
        assert self._save_folder is not None
        key = held.manifest.key
        try:
            path = files.path_for(self._save_folder, held.manifest)
            await trio.to_thread.run_sync(files.save, held.view().buffer, path)
        except (OSError, ValueError, LocalProtocolError) as failed:
            log.error("%s cannot be saved: %s", key, failed)
            self._settle(key, f"cannot be saved: {failed}")
        else:
            self._settle(key, None)

    def _settle(self, key: ObjectKey, failure: str | None) -> None:
        if self.store.get(key) is not None:
            self._settled[key] = failure
        self._owner.tell(Settled(key, failure))
        if key in self._consumed:
            self.consumed(key)

    def _arrived(self, key: ObjectKey, failure: str | None) -> None:
        self._arrivals.expect(key).end(failure)
        if failure is None:
            self._owner.arrived(key)

    def _fail(self, key: ObjectKey, reason: str) -> None:
        self._arrived(key, reason)
        self._arrivals.forget(key)
        self._settle(key, reason)

    def _peers_address(self, node: NodeName) -> str | None:
        return self._peers.get(node)

    def _start(self, task: Callable[[ArgumentT], Awaitable[None]], argument: ArgumentT) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task, argument)
