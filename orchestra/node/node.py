"""A node of the cluster: what users hold in their hands.

`join` connects to a controller and gives a `Node`, whose methods broadcast, receive, release and shuffle.
They turn what users ask for into requests and waits; the inside of a node is `orchestra.node.member`.
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
    Offer,
    OpenShuffle,
    PauseTransfer,
    PlaceTaken,
    Planned,
    Propose,
    Release,
    RunShuffle,
    SetPolicy,
    ShuffleTerms,
    Status,
    ToController,
    Want,
)
from orchestra.names import transfer_name
from orchestra.node.arguments import (
    node_names,
    parse_block_size,
    parse_claim,
    parse_mechanism,
    parse_scheduling,
    parse_sizes,
    standstill_s,
    waiting_s,
    whole_number,
)
from orchestra.node.content import as_bytes, in_thread_if_large
from orchestra.node.files import name_to_save, size_to_send
from orchestra.node.handles import Transfer, TransferControl, WatchedTransfer
from orchestra.node.member import REQUEST_TIMEOUT_S, Member
from orchestra.node.objects import NodeObjects
from orchestra.node.shuffle import Shuffle
from orchestra.small import USUAL_RECEIVERS, fits_in_messages, small_block_bytes
from transfers.errors import (
    ControllerLost,
    LocalProtocolError,
    TransferFailed,
    TransferRefused,
    UnknownTransfer,
    WaitTimeout,
)
from transfers.ids import TransferName
from transfers.manifest import ContentType, ObjectKey
from transfers.store import StoredObject
from transfers.store.view import ObjectView

DEFAULT_TIMEOUT_S = 60.0
"""Limit on waiting for receivers and on standing still (contract)."""

_Put = Callable[[ObjectKey, int], StoredObject]


class Node:
    """A member of a cluster. Made by `join`; its methods are for the trio run that made it.

    Attributes:
        name: of this node.
    """

    def __init__(self, member: Member) -> None:
        self.name = member.name
        self._member = member

    @property
    def allow_pickle(self) -> bool:
        """Whether this cluster lets ``.object()`` unpickle."""
        return self._member.allow_pickle

    @property
    def objects(self) -> NodeObjects:
        """What it holds and serves."""
        return self._member.objects

    # -- broadcasts ----------------------------------------------------------------------------

    @property
    def store(self) -> str:
        """Where this host's blocks lie, for `orchestra.attach` in other processes; empty if not shared."""
        return self._member.store_address

    async def broadcast(
        self,
        value: Any,
        name: str | None = None,
        *,
        to: Iterable[str] | None = None,
        wait_for: int = 0,
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
            wait_for: with ``to=None``, how many to wait for at least; 0 takes those who are there.
            mechanism: ``"auto"``, ``"chain"``, ``"tree"``, ``"hdfs"`` or ``"cornet"``.
            block_size: in bytes; None for a choice.
            priority: of its class; the highest goes first, under the policy ``priority``.
            weight: of its share, under ``weighted`` and ``bssi``.
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
        wait_for: int = 0,
        mechanism: str = "auto",
        block_size: int | None = None,
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Transfer:
        """Send a file to other nodes; as `broadcast`. Without a name it is saved under its own name.

        Raises:
            ValueError: for what is no regular file or does not tell its size, and, without a name, for a file
                whose own name receivers would not take; besides as `broadcast`.
            OSError: when the file cannot be read.
        """
        path = Path(path)
        size_bytes = size_to_send(path)
        content = ContentType(file_name="" if name is not None else name_to_save(path))
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
        claim = parse_claim(priority, weight)
        agents, block_bytes = whole_number("wait_for", wait_for), parse_block_size(block_size)
        limit_s = standstill_s(timeout)
        key = ObjectKey(transfer)
        wanted = parse_mechanism(mechanism)
        receivers = None if to is None else node_names("to", to)
        if transfer in self._member.controls:
            raise LocalProtocolError(f"this node has a transfer named {transfer!r} under way already")
        if self.objects.store.get(key) is not None:
            raise LocalProtocolError(f"this node holds an object named {transfer!r} already")

        small = small_block_bytes(size_bytes) if wanted is None and block_bytes is None else None
        brought: StoredObject | None = None
        stored: StoredObject | None = None
        content = b""

        def propose(number: int) -> ToController:
            manifest = None if brought is None else brought.manifest
            told = (number, transfer, size_bytes, receivers, agents, limit_s, wanted, block_bytes)
            return Propose(*told, manifest, content, claim)

        control = TransferControl(lambda: self._member.abandon(transfer))
        await self._member.let_pass(transfer)
        self._member.controls[transfer] = control
        asked = False
        try:
            if small is not None:  # all that there is to say goes with the proposal
                await self._member.wait_small_turn(control)
                stored = brought = put(key, small)
                if fits_in_messages(size_bytes, agents or len(receivers or ()) or USUAL_RECEIVERS):
                    content = bytes(brought.view().buffer)
            asked = True
            planned = await self._member.link.request(propose, limit_s + REQUEST_TIMEOUT_S)
            if not isinstance(planned, Planned):
                raise LocalProtocolError(f"a proposal was answered by {type(planned).__name__}")
            if brought is None:
                cut_bytes = max(1, planned.block_size_bytes)
                stored = await in_thread_if_large(lambda: put(key, cut_bytes), size_bytes)
                self.objects.put(stored)
                manifest = stored.manifest
                await self._member.link.request(lambda number: Offer(number, manifest), REQUEST_TIMEOUT_S)
            elif self.objects.store.get(key) is brought:  # else it has been let go of already
                self.objects.put(brought)
        except BaseException:
            if asked:
                self._member.abandon(transfer)
            self._member.controls.pop(transfer, None)
            control.lose("it was not accepted")
            if stored is not None and self.objects.store.get(key) is stored:  # not another's of this name
                self.objects.drop(key, "not accepted")
            raise
        return Transfer(
            transfer, planned.mechanism, planned.reason, size_bytes, planned.block_size_bytes, control
        )

    async def receive(self, name: str, timeout: float = DEFAULT_TIMEOUT_S) -> ObjectView:
        """Wait for a broadcast, and give a read-only, zero-copy view of it.

        Args:
            name: of the transfer; it need not exist yet, and need not be meant for this node.
            timeout: seconds to wait; 0 only looks, infinity waits for ever.

        Raises:
            ValueError: for a bad argument, by name and value.
            WaitTimeout: when it is not complete here in time.
            TransferFailed: when it ended, for this node, without being complete.
            ControllerLost: when the connection is gone for good.
        """
        transfer, limit_s = transfer_name(name), waiting_s(timeout)
        key = ObjectKey(transfer)
        arrival = self.objects.arrival(key)
        self._member.wants[transfer] = self._member.wants.get(transfer, 0) + 1
        try:
            if not arrival.done.is_set():
                self._member.link.send(Want(transfer))
                with trio.move_on_after(limit_s):
                    await self._member.wait_or_lost(arrival.done)
        finally:
            self._member.wants[transfer] -= 1
            if not self._member.wants[transfer]:
                del self._member.wants[transfer]
                self.objects.forget_arrival(key)
        if arrival.failure is not None:
            raise TransferFailed(transfer, {self.name: arrival.failure})
        held = self.objects.store.get(key)
        if held is None or not held.complete:
            if self._member.link.lost.is_set():
                raise ControllerLost(self._member.lost_because)
            raise WaitTimeout(f"transfer {name!r} has not arrived within {limit_s:g} s")
        return held.view(self.allow_pickle)

    async def release(self, name: str) -> None:
        """Let go of an object on every node; views that are alive stay good. Ends it if it is under way.

        Raises:
            UnknownTransfer: when there is no such transfer.
        """
        transfer = transfer_name(name)
        try:
            await self._member.link.request(lambda number: Release(number, transfer), REQUEST_TIMEOUT_S)
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
        scheduling: str = "weighted",
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
        replaceable: bool = False,
        in_place_of: str | None = None,
    ) -> AsyncIterator[Shuffle]:
        """Take part in a shuffle; every mapper and reducer calls this with the same arguments.

        Leaving the block declares what a mapper has not put as empty, and waits until the whole shuffle is
        over, so that its bytes are there as long as anyone needs them.

        Args:
            name: of the shuffle; free again when it is over.
            mappers, reducers: names of nodes; a node may be both.
            scheduling: ``"weighted"``, flows get rates in proportion to what they have left, so that they end
                together; or ``"fair"``, all get the same.
            priority, weight: as `broadcast` has them.
            timeout: seconds that it may stand still before it fails, naming who holds it up.
            replaceable: whether another may take the place of a lost mapper or reducer. Then the shuffle
                waits for that, for its timeout, instead of failing; and partitions stay with their mappers
                until its end.
            in_place_of: the mapper or reducer, lost or never come, whose place to take: what this node puts
                and takes is then that one's. Any node may, also one that has a place already.

        Raises:
            ValueError: for a bad argument.
            TransferRefused: when the name is in use, or exists with other participants, or the place is not
                free.
            TransferFailed: when the shuffle fails, naming who is to blame.
        """
        terms = ShuffleTerms(parse_claim(priority, weight), parse_scheduling(scheduling), bool(replaceable))
        limit_s = standstill_s(timeout)
        place = None if in_place_of is None else node_names("in_place_of", [in_place_of])[0]
        shuffle = Shuffle(
            self._member,
            transfer_name(name),
            node_names("mappers", mappers),
            node_names("reducers", reducers),
            limit_s,
            terms,
            place,
        )
        if place is None:
            await self._member.let_pass(shuffle.name)
        if not self._member.enter(shuffle):
            raise LocalProtocolError(f"this node takes part in shuffle {name!r} already")
        opened = False
        try:
            told = (shuffle.name, shuffle.mappers, shuffle.reducers, limit_s, terms, place)
            answer = await self._member.link.request(
                lambda number: OpenShuffle(number, *told), REQUEST_TIMEOUT_S
            )
            opened = True
            if isinstance(answer, PlaceTaken):
                shuffle.take_place(answer.attempts)
            yield shuffle
            if shuffle.place in shuffle.mappers:
                shuffle.finish()
            await shuffle.wait()
        except BaseException as wrong:
            refused = not opened and isinstance(wrong, TransferRefused)  # it is not ours to end
            if not shuffle.over and not refused:
                self._member.abandon(shuffle.name)
            raise
        finally:
            self._member.leave(shuffle)

    async def run_shuffle(
        self,
        sizes: Mapping[str, Mapping[str, int]],
        name: str | None = None,
        *,
        scheduling: str = "weighted",
        priority: int = 0,
        weight: float = 1.0,
        replaceable: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> WatchedTransfer:
        """Have agents shuffle synthetic bytes among each other; returns once it is under way.

        Args:
            sizes: bytes by mapper, then by reducer; all of them agents that have joined.
            name: of the shuffle; a unique one is made up if None.
            scheduling, priority, weight: as `shuffle` has them.
            replaceable: whether the places of lost agents go to others, who make up the same bytes.
            timeout: seconds that it may stand still before it fails, naming who holds it up.

        Raises:
            ValueError: for a bad argument.
            TransferRefused: when the name is in use, or agents are not there.
            ControllerLost: when the connection breaks.
        """
        transfer = transfer_name(name) if name is not None else self._unique_name()
        matrix, limit_s = parse_sizes(sizes), standstill_s(timeout)
        terms = ShuffleTerms(parse_claim(priority, weight), parse_scheduling(scheduling), bool(replaceable))
        control = TransferControl(lambda: self._member.link.send(CancelTransfer(transfer)))
        self._member.controls[transfer] = control
        try:
            await self._member.link.request(
                lambda number: RunShuffle(number, transfer, matrix, limit_s, terms), REQUEST_TIMEOUT_S
            )
        except BaseException:
            self._member.link.send(CancelTransfer(transfer))
            self._member.controls.pop(transfer, None)
            raise
        return WatchedTransfer(transfer, control)

    # -- turns ---------------------------------------------------------------------------------

    async def pause(self, name: str) -> None:
        """Let nothing of a transfer move until `resume`; what is on its way still arrives.

        Raises:
            UnknownTransfer: when no such transfer is under way.
        """
        await self._set_paused(name, True)

    async def resume(self, name: str) -> None:
        """Let a paused transfer go on.

        Raises:
            UnknownTransfer: when no such transfer is under way.
        """
        await self._set_paused(name, False)

    async def _set_paused(self, name: str, paused: bool) -> None:
        transfer = transfer_name(name)
        try:
            await self._member.link.request(
                lambda number: PauseTransfer(number, transfer, paused), REQUEST_TIMEOUT_S
            )
        except TransferRefused as refused:
            raise UnknownTransfer(str(refused)) from None

    async def set_policy(self, policy: str) -> None:
        """Have the controller share ports by another policy from now on, also among what is under way.

        Args:
            policy: its name: ``fair``, ``weighted``, ``fifo``, ``fifo+``, ``priority``, ``sebf``, ``bssi`` or
                ``dclas``.

        Raises:
            ValueError: for a policy that is none.
        """
        try:
            await self._member.link.request(lambda number: SetPolicy(number, policy), REQUEST_TIMEOUT_S)
        except TransferRefused as refused:
            raise ValueError(str(refused)) from None

    # -- the cluster ---------------------------------------------------------------------------

    async def status(self) -> bytes:
        """What the controller knows, as JSON text (the form of ``orchestra status --json``)."""
        answer = await self._member.link.request(AskStatus, REQUEST_TIMEOUT_S)
        if not isinstance(answer, Status):
            raise LocalProtocolError(f"a question for the status was answered by {type(answer).__name__}")
        return answer.text

    async def wait_lost(self) -> str:
        """Wait until the controller is lost for good; why it was."""
        await self._member.link.lost.wait()
        return self._member.link.lost_because

    def _unique_name(self) -> TransferName:
        return TransferName(f"{self.name}-{secrets.token_hex(6)}")
