"""A node of the cluster: what users hold in their hands.

`join` connects to a controller and gives a `Node`, whose methods broadcast, receive, release and shuffle.
It puts together the link to the controller (`link`) and the objects of this host (`objects`); nothing
is decided or moved here.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from orchestra.messages import (
    AskStatus,
    CancelTransfer,
    Denied,
    Granted,
    Join,
    Joined,
    LetGo,
    NotJoined,
    Offer,
    OpenShuffle,
    Outcome,
    PartitionEmpty,
    Planned,
    Progress,
    Propose,
    Release,
    RunShuffle,
    Status,
    TakePart,
    ToController,
    ToNode,
    Want,
)
from orchestra.names import node_name, transfer_name
from orchestra.node.content import as_bytes
from orchestra.node.handles import Transfer, TransferControl, WatchedTransfer
from orchestra.node.link import ControllerLink
from orchestra.node.objects import NodeObjects
from orchestra.node.shuffle import Shuffle
from orchestra.node.synthetic import take_part
from transfers.errors import (
    ControllerLost,
    LocalProtocolError,
    RemoteProtocolError,
    TransferFailed,
    TransferRefused,
    UnknownTransfer,
    WaitTimeout,
)
from transfers.ids import NodeName, TransferName
from transfers.manifest import ContentType, ObjectKey
from transfers.planners import Mechanism
from transfers.store import StoredObject, host_id
from transfers.store.view import ObjectView

REQUEST_TIMEOUT_S = 30.0
"""Longest wait for the controller's answer where nothing else is waited for (a guess)."""
DEFAULT_TIMEOUT_S = 60.0
"""Limit on waiting for receivers and on standing still (contract)."""
_THREAD_FROM_BYTES = 8 << 20
"""A copy of this size takes 2 to 16 ms (measured at 0.5 GB/s into fresh memory, 5 GB/s into used)."""

_Put = Callable[[ObjectKey, int], StoredObject]


class Node:
    """A member of a cluster. Made by `join`; its methods are for the trio run that made it.

    Attributes:
        name: of this node.
        allow_pickle: whether this cluster lets ``.object()`` unpickle.
        objects: what it holds and serves.
    """

    def __init__(self, name: NodeName, *, receives: bool, save_folder: Path | None) -> None:
        self.name = name
        self.allow_pickle = False
        self.objects: NodeObjects
        self._link: ControllerLink
        self._receives = receives
        self._saves = save_folder is not None
        self._incarnation = secrets.token_hex(8)
        self._data_address = ""
        self._store_address = ""
        self._controls: dict[TransferName, TransferControl] = {}
        self._shuffles: dict[TransferName, Shuffle] = {}
        self._wants: dict[TransferName, int] = {}
        self._abandoned: dict[TransferName, None] = {}
        self._nursery: trio.Nursery | None = None

    def attach_parts(
        self, link: ControllerLink, objects: NodeObjects, data_address: str, store_address: str
    ) -> None:
        """Put together what `orchestra.node.joining.join` has made."""
        self._link = link
        self.objects = objects
        self._data_address = data_address
        self._store_address = store_address

    # -- broadcasts ----------------------------------------------------------------------------

    @property
    def store(self) -> str:
        """Where this host's blocks lie, for `orchestra.attach` in other processes; empty if not shared."""
        return self._store_address

    async def broadcast(
        self,
        value: Any,
        name: str | None = None,
        *,
        to: Iterable[str] | None = None,
        wait_for: int = 1,
        mechanism: str = "auto",
        block_size: int | None = None,
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Transfer:
        """Send an object to other nodes; returns once it is under way.

        Args:
            value: anything with the buffer protocol; numpy arrays keep dtype and shape.
            name: of the transfer; a unique one is made up if None.
            to: the receivers; None is every node that has joined when the transfer is accepted.
            wait_for: with ``to=None``, how many receivers to wait for at least.
            mechanism: ``"auto"``, ``"chain"``, ``"tree"``, ``"hdfs"`` or ``"cornet"``.
            block_size: in bytes; None for a choice.
            priority, weight: must be 0 and 1.0; policies that heed them are not built yet.
            timeout: seconds to wait for receivers, and to stand still before those that lack the object fail.

        Raises:
            ValueError: for a bad argument, by name and value.
            TransferRefused: when the name is in use, or nobody is there to receive.
            StoreFull: when the object has no room in this host's store.
            ControllerLost: when the connection breaks.
        """
        data, content = as_bytes(value, allow_pickle=self.allow_pickle)
        return await self._broadcast(
            lambda key, block: self.objects.store.put(key, data, block, content),
            *(data.nbytes, name, to, wait_for, mechanism, block_size, priority, weight, timeout),
        )

    async def broadcast_file(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        to: Iterable[str] | None = None,
        wait_for: int = 1,
        mechanism: str = "auto",
        block_size: int | None = None,
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Transfer:
        """Send a file to other nodes; as `broadcast`. Without a name it is saved under its own name.

        Raises:
            OSError: when the file cannot be read.
        """
        path = Path(path)
        size_bytes = path.stat().st_size
        content = ContentType(file_name="" if name is not None else path.name)
        return await self._broadcast(
            lambda key, block: self.objects.store.put_file(key, path, size_bytes, block, content),
            *(size_bytes, name, to, wait_for, mechanism, block_size, priority, weight, timeout),
        )

    async def _broadcast(
        self,
        put: _Put,
        size_bytes: int,
        name: str | None,
        to: Iterable[str] | None,
        wait_for: int,
        mechanism: str,
        block_size: int | None,
        priority: int,
        weight: float,
        timeout: float,
    ) -> Transfer:
        transfer = transfer_name(name) if name is not None else self._unique_name()
        _check_broadcast(to, wait_for, block_size, priority, weight, timeout)
        key = ObjectKey(transfer)
        wanted = None if mechanism == "auto" else _mechanism(mechanism)
        receivers = None if to is None else tuple(dict.fromkeys(node_name(each) for each in to))
        if self.objects.store.get(key) is not None:
            raise LocalProtocolError(f"this node holds an object named {transfer!r} already")
        if transfer in self._controls:
            raise LocalProtocolError(f"this node has a transfer named {transfer!r} under way already")

        def propose(number: int) -> ToController:
            return Propose(number, transfer, size_bytes, receivers, wait_for, timeout, wanted, block_size)

        control = TransferControl(lambda: self._abandon(transfer))
        await self._let_pass(transfer)
        self._controls[transfer] = control
        try:
            planned = await self._link.request(propose, timeout + REQUEST_TIMEOUT_S)
            if not isinstance(planned, Planned):
                raise LocalProtocolError(f"a proposal was answered by {type(planned).__name__}")
            stored = await self._put(put, key, max(1, planned.block_size_bytes), size_bytes)
            self.objects.put(stored)
            await self._link.request(lambda number: Offer(number, stored.manifest), REQUEST_TIMEOUT_S)
        except BaseException:
            self._abandon(transfer)
            self._controls.pop(transfer, None)
            if self.objects.store.get(key) is not None:
                self.objects.drop(key, "not accepted")
            raise
        return Transfer(
            transfer, planned.mechanism, planned.reason, size_bytes, planned.block_size_bytes, control
        )

    def _abandon(self, name: TransferName) -> None:
        """End a transfer of this node. The last words about it are still to come."""
        self._abandoned[name] = None
        self._link.send(CancelTransfer(name))

    async def _let_pass(self, name: TransferName) -> None:
        """Before a name is used again: let the last words pass about what was abandoned under it."""
        if name in self._abandoned:
            await self._link.request(AskStatus, REQUEST_TIMEOUT_S)
            self._abandoned.pop(name, None)

    async def _put(self, put: _Put, key: ObjectKey, block_size_bytes: int, size_bytes: int) -> StoredObject:
        """Large objects are copied in a thread: this node's other transfers and heartbeats go on."""
        if size_bytes < _THREAD_FROM_BYTES:
            return put(key, block_size_bytes)
        return await trio.to_thread.run_sync(put, key, block_size_bytes)

    async def receive(self, name: str, timeout: float = DEFAULT_TIMEOUT_S) -> ObjectView:
        """Wait for a broadcast, and give a read-only, zero-copy view of it.

        Args:
            name: of the transfer; it need not exist yet, and need not be meant for this node.
            timeout: seconds to wait.

        Raises:
            WaitTimeout: when it is not complete here in time.
            TransferFailed: when it ended, for this node, without being complete.
            ControllerLost: when the connection is gone for good.
        """
        transfer = transfer_name(name)
        key = ObjectKey(transfer)
        arrival = self.objects.arrival(key)
        self._wants[transfer] = self._wants.get(transfer, 0) + 1
        try:
            if not arrival.done.is_set():
                self._link.send(Want(transfer))
                with trio.move_on_after(timeout):
                    await self._done_or_lost(arrival.done)
        finally:
            self._wants[transfer] -= 1
            if not self._wants[transfer]:
                del self._wants[transfer]
                self.objects.forget_arrival(key)
        if arrival.failure is not None:
            raise TransferFailed(transfer, {self.name: arrival.failure})
        held = self.objects.store.get(key)
        if held is None or not held.complete:
            if self._link.lost.is_set():
                raise ControllerLost(f"controller {self._link.address} lost: {self._link.lost_because}")
            raise WaitTimeout(f"transfer {name!r} has not arrived within {timeout:g} s")
        return held.view(self.allow_pickle)

    async def release(self, name: str) -> None:
        """Let go of an object on every node; views that are alive stay good. Ends it if it is under way.

        Raises:
            UnknownTransfer: when there is no such transfer.
        """
        transfer = transfer_name(name)
        try:
            await self._link.request(lambda number: Release(number, transfer), REQUEST_TIMEOUT_S)
        except TransferRefused as refused:
            raise UnknownTransfer(str(refused)) from None

    # -- shuffles ------------------------------------------------------------------------------

    @asynccontextmanager
    async def shuffle(
        self,
        name: str,
        *,
        mappers: Iterable[str],
        reducers: Iterable[str],
        scheduling: str = "fair",
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> AsyncIterator[Shuffle]:
        """Take part in a shuffle; every mapper and reducer calls this with the same arguments.

        Leaving the block declares what a mapper has not put as empty, and waits until the whole shuffle is
        over, so that its bytes are there as long as anyone needs them.

        Args:
            name: of the shuffle; free again when it is over.
            mappers, reducers: names of nodes; a node may be both.
            scheduling: ``"fair"``; others are not built yet.
            priority, weight: must be 0 and 1.0.
            timeout: seconds that it may stand still before it fails, naming who holds it up.

        Raises:
            ValueError: for a bad argument.
            TransferRefused: when the name is in use, or exists with other participants.
            TransferFailed: when the shuffle fails, naming who is to blame.
        """
        _check_sharing(priority, weight, timeout)
        if scheduling != "fair":
            raise ValueError(f"scheduling must be 'fair', the only one built yet, got {scheduling!r}")
        shuffle = Shuffle(
            self,
            transfer_name(name),
            tuple(dict.fromkeys(node_name(each) for each in mappers)),
            tuple(dict.fromkeys(node_name(each) for each in reducers)),
            timeout,
        )
        if shuffle.name in self._shuffles:
            raise LocalProtocolError(f"this node takes part in shuffle {name!r} already")
        await self._let_pass(shuffle.name)
        self._shuffles[shuffle.name] = shuffle
        opened = False
        try:
            await self._link.request(
                lambda number: OpenShuffle(number, shuffle.name, shuffle.mappers, shuffle.reducers, timeout),
                REQUEST_TIMEOUT_S,
            )
            opened = True
            yield shuffle
            if self.name in shuffle.mappers:
                shuffle.finish()
            await shuffle.wait()
        except BaseException as wrong:
            refused = not opened and isinstance(wrong, TransferRefused)  # it is not ours to end
            if not shuffle.over and not refused:
                self._abandon(shuffle.name)
            raise
        finally:
            del self._shuffles[shuffle.name]
            for manifest in shuffle.local_manifests():
                self.objects.drop(manifest.key, "the shuffle is over")

    async def run_shuffle(
        self,
        sizes: Mapping[str, Mapping[str, int]],
        name: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> WatchedTransfer:
        """Have agents shuffle synthetic bytes among each other; returns once it is under way.

        Args:
            sizes: bytes by mapper, then by reducer; all of them agents that have joined.
            name: of the shuffle; a unique one is made up if None.
            timeout: seconds that it may stand still before it fails, naming who holds it up.

        Raises:
            ValueError: for a bad argument.
            TransferRefused: when the name is in use, or agents are not there.
            ControllerLost: when the connection breaks.
        """
        _check_sharing(0, 1.0, timeout)
        transfer = transfer_name(name) if name is not None else self._unique_name()
        matrix = {
            node_name(mapper): {node_name(reducer): size_bytes for reducer, size_bytes in row.items()}
            for mapper, row in sizes.items()
        }
        control = TransferControl(lambda: self._link.send(CancelTransfer(transfer)))
        self._controls[transfer] = control
        try:
            await self._link.request(
                lambda number: RunShuffle(number, transfer, matrix, timeout), REQUEST_TIMEOUT_S
            )
        except BaseException:
            self._link.send(CancelTransfer(transfer))
            self._controls.pop(transfer, None)
            raise
        return WatchedTransfer(transfer, control)

    # -- the cluster ---------------------------------------------------------------------------

    async def status(self) -> bytes:
        """What the controller knows, as JSON text (the form of ``orchestra status --json``)."""
        answer = await self._link.request(AskStatus, REQUEST_TIMEOUT_S)
        if not isinstance(answer, Status):
            raise LocalProtocolError(f"a question for the status was answered by {type(answer).__name__}")
        return answer.text

    async def wait_lost(self) -> str:
        """Wait until the controller is lost for good; why it was."""
        await self._link.lost.wait()
        return self._link.lost_because

    def tell(self, message: ToController) -> None:
        """Queue a message for the controller."""
        self._link.send(message)

    # -- for the link (`LinkOwner`) --------------------------------------------------------------

    def make_join(self) -> Join:
        """The opening message, with the inventory of this moment."""
        return Join(
            name=self.name,
            incarnation=self._incarnation,
            data_address=self._data_address,
            host=host_id(),
            store_address=self._store_address,
            receives=self._receives,
            saves=self._saves,
            inventory=self.objects.inventory(),
        )

    def joined(self, message: Joined) -> None:
        """The controller has taken this node in, for the first time or again."""
        self.allow_pickle = message.allow_pickle
        self.objects.say_again()
        for transfer in self._wants:
            self._link.send(Want(transfer))

    @property
    def busy(self) -> bool:
        """Whether this node takes part in a transfer that is under way."""
        sending = any(not control.over.is_set() for control in self._controls.values())
        return sending or bool(self._shuffles) or self.objects.engaged

    def hear(self, message: ToNode) -> None:
        """Hand a command to whom it is for."""
        match message:
            case Progress(transfer=transfer):
                self._hear_progress(transfer, message)
            case Outcome(transfer=transfer):
                self._hear_progress(transfer, message)
                self.objects.outcome(transfer)
                if transfer in self._shuffles:
                    self._shuffles[transfer].hear_outcome(message)
            case PartitionEmpty(transfer=transfer, mapper=mapper):
                if transfer in self._shuffles:
                    self._shuffles[transfer].hear_empty(mapper)
            case LetGo(transfer=transfer):
                self.objects.hear(message)
                self._abandoned.pop(transfer, None)
                if transfer in self._controls:
                    self._controls.pop(transfer).let_go(message)
            case TakePart():
                self._take_part(message)
            case Joined() | NotJoined() | Planned() | Granted() | Denied() | Status():
                raise RemoteProtocolError(f"{type(message).__name__} out of turn")
            case _:
                self.objects.hear(message)

    def arrived(self, key: ObjectKey) -> None:
        """An object is complete on this node."""
        if key.transfer in self._shuffles:
            self._shuffles[key.transfer].hear_arrival()

    def _take_part(self, message: TakePart) -> None:
        """Take part from this moment on, so that partitions that follow find their shuffle."""
        name = message.transfer
        if name in self._shuffles or self._nursery is None:
            self._link.send(CancelTransfer(name, "takes part in another shuffle of this name"))
            return
        shuffle = Shuffle(self, name, message.mappers, message.reducers, message.timeout_s)
        self._shuffles[name] = shuffle
        self._nursery.start_soon(self._run_part, shuffle, message)

    async def _run_part(self, shuffle: Shuffle, message: TakePart) -> None:
        try:
            await take_part(self, shuffle, message)
        finally:
            del self._shuffles[shuffle.name]

    def _hear_progress(self, transfer: TransferName, message: Progress | Outcome) -> None:
        control = self._controls.get(transfer)
        if control is not None:
            control.hear(message)
            if control.over.is_set():
                del self._controls[transfer]

    async def run(self, connect_timeout_s: float, task_status: trio.TaskStatus[None]) -> None:
        """Stay joined; when the controller is lost for good, whoever waits is told."""
        async with trio.open_nursery() as self._nursery:
            await self._link.run(connect_timeout_s, task_status)
            why = f"controller {self._link.address} lost: {self._link.lost_because}"
            for control in self._controls.values():
                control.lose(why)
            for shuffle in self._shuffles.values():
                shuffle.lose(why)

    async def _done_or_lost(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:

            async def watch(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch, done)
            nursery.start_soon(watch, self._link.lost)

    def _unique_name(self) -> TransferName:
        return TransferName(f"{self.name}-{secrets.token_hex(6)}")


def _mechanism(name: str) -> Mechanism:
    try:
        return Mechanism(name)
    except ValueError:
        known = ", ".join(["auto", *(each.value for each in Mechanism)])
        raise ValueError(f"mechanism must be one of {known}, got {name!r}") from None


def _check_broadcast(
    to: Iterable[str] | None,
    wait_for: int,
    block_size: int | None,
    priority: int,
    weight: float,
    timeout: float,
) -> None:
    if isinstance(to, str):
        raise ValueError(f"to must be a sequence of names, got the text {to!r}")
    if wait_for < 1:
        raise ValueError(f"wait_for must be at least 1, got {wait_for}")
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    _check_sharing(priority, weight, timeout)


def _check_sharing(priority: int, weight: float, timeout: float) -> None:
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout must be above 0 and finite, got {timeout}")
    if priority != 0:
        raise ValueError(f"priority must be 0: the policies that heed it are not built yet, got {priority}")
    if weight != 1.0:
        raise ValueError(f"weight must be 1.0: the policies that heed it are not built yet, got {weight}")
