"""A node's part in a shuffle: put what it has for each reducer, take what each mapper has for it.

Owns what is put and taken at one *place*: that of the node itself, or of a lost mapper or reducer which it
has taken. Must not know how partitions travel.

Theory of operation. A partition is copied into the node's store, or into its spill files where that has no
room; where neither has, `Shuffle.put` waits as long as others of this node's partitions are still to be
delivered, since what is delivered is let go of. A reducer's partitions come as its store has room for each of
them as a whole, and each leaves it again when the loop over them goes on: so a reducer that is slow slows
down those who send, and nobody holds more than its store takes.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import trio

from orchestra.choice import MAX_BLOCK_SIZE_BYTES
from orchestra.messages import Outcome, PartitionPut, PlaceLost, ShuffleTerms, ToController
from orchestra.node.content import as_bytes, in_thread_if_large
from orchestra.node.objects import NodeObjects
from transfers.blocks import BlockLayout
from transfers.errors import ControllerLost, LocalProtocolError, StoreFull, TransferFailed
from transfers.ids import NodeName, TransferName
from transfers.manifest import ContentType, Manifest, ObjectKey, PartName, giver_of, partition_name, taker_of
from transfers.store import StoredObject
from transfers.store.store import Fill
from transfers.store.view import ObjectView

LEAST_BLOCK_BYTES, BLOCKS_OF_PARTITION = 128 << 10, 64
"""Blocks of a partition: none smaller, and about so many of one that is large (a guess: eight connections
that share it end within an eighth of each other; an ask costs little beside 128 KiB). None is larger than
those of broadcasts."""

PLAIN_TERMS = ShuffleTerms()

ROOM_POLL_S = 0.05
"""Between two looks for room in the store (a guess: it also comes when a view dies, which nobody tells)."""


def block_size_bytes(size_bytes: int) -> int:
    """How a partition of so many bytes is cut."""
    return min(MAX_BLOCK_SIZE_BYTES, max(LEAST_BLOCK_BYTES, -(-size_bytes // BLOCKS_OF_PARTITION)))


class ShuffleHome(Protocol):
    """What a shuffle needs of its node."""

    name: NodeName
    objects: NodeObjects
    allow_pickle: bool

    def tell(self, message: ToController) -> None:
        """Queue a message for the controller."""
        ...


@dataclass(frozen=True, slots=True)
class LostPlace:
    """A mapper or reducer of a shuffle is lost, and its place may be taken.

    Attributes:
        place: whose it was at first.
        node: who has had it last.
        reason: why it is lost.
        due: the reducers for whom a mapper's partitions are to be put again; empty for a reducer's place.
    """

    place: str
    node: str
    reason: str
    due: tuple[str, ...]


class Shuffle:
    """One node's part in one shuffle; made by `Node.shuffle`.

    Attributes:
        name, mappers, reducers: as given.
        place: as whom this node takes part: itself, or a lost mapper or reducer.
    """

    def __init__(
        self,
        home: ShuffleHome,
        name: TransferName,
        mappers: tuple[NodeName, ...],
        reducers: tuple[NodeName, ...],
        timeout_s: float,
        terms: ShuffleTerms = PLAIN_TERMS,
        place: NodeName | None = None,
    ) -> None:
        self.name = name
        self.mappers = mappers
        self.reducers = reducers
        self.timeout_s = timeout_s
        self._terms = terms
        self.place = home.name if place is None else place
        self._due = reducers
        self._home = home
        self._put: dict[NodeName, None] = {}
        self._left = False
        self._empty: dict[NodeName, None] = {}
        self._attempts: dict[NodeName, int] = {}
        self._arrived: dict[NodeName, PartName] = {}
        self._taken: dict[NodeName, None] = {}
        self._changed = trio.Event()
        self._news = 0
        self._ended = trio.Event()
        self._lost: dict[NodeName, LostPlace] = {}
        self._outcome: Outcome | None = None
        self._lost_because = ""

    @property
    def node(self) -> NodeName:
        """This node."""
        return self._home.name

    @property
    def due(self) -> tuple[NodeName, ...]:
        """In the place of a lost mapper, the reducers for whom something is to be put; else all."""
        return self._due

    @property
    def over(self) -> bool:
        """Whether its outcome is known here."""
        return self._ended.is_set()

    @property
    def lost(self) -> tuple[LostPlace, ...]:
        """Places that are free now, as far as this node has heard; none unless it is replaceable."""
        return tuple(self._lost.values())

    async def put(self, partitions: Mapping[str, Any]) -> None:
        """Give this mapper's partitions, by reducer; what is left out is empty.

        May be called several times; a partition can be given once, and those left out are declared empty
        when `finish` is called or the block ends. One that is being copied when this is cancelled is not put.
        In the place of a lost mapper only what is `due` is taken; the rest has been delivered before.

        Waits for room while this node has other partitions to be delivered, or to be taken by itself: so a
        node that is both mapper and reducer takes partitions while it puts, and not after. Where it has no
        files to spill to, room for one more partition of the same size is left to those that come in.

        Args:
            partitions: reducer to anything with the buffer protocol; bytes are copied before it returns.

        Raises:
            ValueError: for a name that is no reducer, or values that cannot travel.
            LocalProtocolError: when this node is no mapper, or has put that partition already.
            StoreFull: when the partition has no room, and none will come or has come within the timeout.
            TransferFailed: when the shuffle fails meanwhile.
        """
        self._check_puts(partitions)
        for reducer, value in partitions.items():
            if reducer in self._due:
                data, content = as_bytes(value, allow_pickle=self._home.allow_pickle)
                await self._put_one(NodeName(reducer), data.nbytes, partial(self._copy, data, content))

    def _copy(self, data: memoryview, content: ContentType, key: ObjectKey) -> StoredObject:
        block_bytes = block_size_bytes(data.nbytes)
        return self._home.objects.store.put(key, data, block_bytes, content, may_spill=True)

    def _check_puts(self, reducers: Iterable[str]) -> None:
        self._check_mapper()
        for reducer in reducers:
            if reducer not in self.reducers:
                raise ValueError(f"partitions: {reducer!r} is no reducer of shuffle {self.name!r}")
            self._check_not_put(reducer)

    async def _put_one(
        self, reducer: NodeName, size_bytes: int, put: Callable[[ObjectKey], StoredObject]
    ) -> None:
        key = ObjectKey(self.name, partition_name(self.place, reducer, self._attempts.get(reducer, 0)))
        store = self._home.objects.store
        self._check_not_put(reducer)  # again: others may have put while those before it were copied
        self._put[reducer] = None  # nobody may give it again, or call it empty, while it is copied
        try:
            await trio.lowlevel.checkpoint()
            stored = await self._with_room(lambda: put(key), size_bytes)
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
                if self._left:
                    raise LocalProtocolError(f"shuffle {self.name!r} was left before a partition was put")
            except BaseException:
                if store.get(key) is stored:
                    store.release(key)
                raise
        except BaseException:
            del self._put[reducer]
            raise
        if store.get(key) is not stored:  # let go meanwhile: the shuffle's outcome tells why
            return
        self._home.objects.put(stored)
        self._home.tell(PartitionPut(self.name, reducer, stored.manifest, self._other_place))
        if reducer == self.place:
            self._tell_changed()

    async def _with_room(self, put: Callable[[], StoredObject], size_bytes: int) -> StoredObject:
        """Put something as soon as there is room, which comes when others are delivered, and when what is
        here for this place is taken."""
        before, give_up_at_s = -1, 0.0
        store = self._home.objects.store
        while True:
            left = len(self.local_manifests())
            try:
                if left and self.place in self.reducers and not self._terms.replaceable:
                    store.check_room(2 * size_bytes)
                return await in_thread_if_large(put, size_bytes)
            except StoreFull as full:
                if self._terms.replaceable or not left or not store.could_hold(size_bytes):
                    raise
                if left != before:  # some have been delivered, or taken: that is progress
                    before, give_up_at_s = left, trio.current_time() + self.timeout_s
                elif trio.current_time() >= give_up_at_s:
                    what = f"{full}; nothing was delivered or taken for {self.timeout_s:g} s"
                    raise StoreFull(what) from None
            await trio.sleep(ROOM_POLL_S)
            self._check_ended()

    def finish(self) -> None:
        """Declare this mapper's partitions complete: those not put are empty."""
        self._check_mapper()
        for reducer in self._due:
            if reducer not in self._put:
                self._put[reducer] = None
                self._home.tell(PartitionPut(self.name, reducer, None, self._other_place))

    async def partitions(self) -> AsyncIterator[tuple[str, ObjectView]]:
        """Every mapper's partition for this reducer, each once and as soon as it is here; empty ones are left
        out.

        A partition leaves the store when the loop goes on; its view stays good, and keeps its memory from
        being used again, for as long as anybody holds it.

        Yields:
            the mapper's name and a read-only view of its bytes.

        Raises:
            TransferFailed: naming who was lost or held it up, also when it has stood still for its timeout.
            LocalProtocolError: when this node is no reducer.
            ControllerLost: when nobody can tell any more.
        """
        if self.place not in self.reducers:
            raise LocalProtocolError(f"{self.place} is no reducer of shuffle {self.name!r}")
        due = {mapper: None for mapper in self.mappers if mapper not in self._taken}
        while due:
            seen = self._news
            for mapper in list(due):
                if mapper in self._empty:
                    del due[mapper]
                    continue
                held = self._complete_from(mapper)
                if held is not None:
                    del due[mapper]
                    self._taken[mapper] = None
                    view = held.view(self._home.allow_pickle)
                    key = held.manifest.key
                    del held  # or it would be kept while the other side looks
                    yield mapper, view
                    del view
                    self._home.objects.consumed(key)
            if due and self.over:
                self._check_ended()
                raise LocalProtocolError(f"shuffle {self.name!r} is over; what {', '.join(due)} gave is gone")
            if due:
                await self._wait_news(seen)

    def _complete_from(self, mapper: NodeName) -> StoredObject | None:
        name = self._arrived.get(mapper, partition_name(mapper, self.place))
        held = self._home.objects.store.get(ObjectKey(self.name, name))
        return held if held is not None and held.complete else None

    async def wait(self) -> Outcome:
        """Wait until every reducer has every partition.

        Raises:
            TransferFailed: naming who was lost or held it up, also when it has stood still for its timeout.
            ControllerLost: when nobody can tell any more.
        """
        await self._ended.wait()  # by the controller, which ends what stands still, or by its loss
        self._check_ended()
        assert self._outcome is not None, "it has ended, and the controller is there"
        return self._outcome

    async def wait_lost(self) -> LostPlace:
        """Wait until a place is free: of a lost mapper, whose partitions are then to be put again, or of a
        lost reducer. It can be taken by `Node.shuffle` with ``in_place_of``.

        Raises:
            LocalProtocolError: when the shuffle is not replaceable, or is over.
            TransferFailed: when it fails.
            ControllerLost: when nobody can tell any more.
        """
        if not self._terms.replaceable:
            raise LocalProtocolError(f"shuffle {self.name!r} is not replaceable")
        while not self._lost:
            self._check_ended()
            if self.over:
                raise LocalProtocolError(f"shuffle {self.name!r} is over")
            await self._wait_news(self._news)
        return next(iter(self._lost.values()))

    # -- for the node --------------------------------------------------------------------------

    def hear_outcome(self, outcome: Outcome) -> None:
        """The controller says that it is over."""
        self._outcome = outcome
        self._lost.clear()
        self._ended.set()
        self._tell_changed()

    def hear_empty(self, mapper: NodeName) -> None:
        """A mapper has nothing for this place."""
        self._empty[mapper] = None
        self._tell_changed()

    def hear_arrival(self, part: PartName) -> None:
        """A partition is here."""
        if taker_of(part) == self.place:
            self._arrived[giver_of(part)] = part
        self._tell_changed()

    def hear_lost(self, message: PlaceLost) -> None:
        """A place is free."""
        place = LostPlace(message.place, message.node, message.reason, message.due)
        self._lost[message.place] = place
        self._tell_changed()

    def hear_filled(self, place: NodeName) -> None:
        """A place is not free any more."""
        self._lost.pop(place, None)
        self._tell_changed()

    def take_place(self, attempts: Mapping[NodeName, int]) -> None:
        """The controller has given it the place of another; with the attempt at each partition that is
        due."""
        self._due = tuple(attempts)
        self._attempts = dict(attempts)

    def lose(self, reason: str) -> None:
        """The controller is gone for good."""
        self._lost_because = reason
        self._lost.clear()
        self._ended.set()
        self._tell_changed()

    def local_manifests(self) -> list[Manifest]:
        """Of the partitions of this place that lie on this node."""
        return [
            stored.manifest
            for stored in self._home.objects.store.objects()
            if stored.manifest.key.transfer == self.name
            and self.place in (giver_of(stored.manifest.key.part), taker_of(stored.manifest.key.part))
        ]

    def leave(self, staying: Collection[NodeName] = ()) -> None:
        """It is over on this node: let its partitions go, and take no more.

        Args:
            staying: other places that this node has in the same shuffle, whose partitions are not touched.
        """
        self._left = True
        for manifest in self.local_manifests():
            if not {giver_of(manifest.key.part), taker_of(manifest.key.part)} & set(staying):
                self._home.objects.drop(manifest.key, "the shuffle is over")
        self._home.objects.forget_if_gone(self.name)

    # -- waiting -------------------------------------------------------------------------------

    @property
    def _other_place(self) -> NodeName | None:
        return None if self.place == self.node else self.place

    def _tell_changed(self) -> None:
        self._news += 1
        self._changed.set()
        self._changed = trio.Event()

    def _check_mapper(self) -> None:
        if self.place not in self.mappers:
            raise LocalProtocolError(f"{self.place} is no mapper of shuffle {self.name!r}")

    def _check_not_put(self, reducer: str) -> None:
        if reducer in self._put:
            raise LocalProtocolError(f"the partition for {reducer} has been put already")

    def _check_ended(self) -> None:
        if self._outcome is not None and (self._outcome.failed or self._outcome.reason):
            raise TransferFailed(self.name, self._outcome.failed, self._outcome.reason)
        if self._lost_because:
            raise ControllerLost(self._lost_because)

    async def _wait_news(self, seen: int) -> None:
        """Wait until something has changed since so many changes had been seen."""
        self._check_ended()
        while self._news == seen:
            await self._changed.wait()


async def put_filled(shuffle: Shuffle, reducer: NodeName, size_bytes: int, fill: Fill) -> None:
    """Give one partition of plain bytes that are yet to be written, straight to where they are to lie.

    For the library's own: a careless ``fill`` could harm what else is in the store.

    Args:
        shuffle: whose mapper this node is.
        reducer: whose partition it is.
        size_bytes: how many bytes there are.
        fill: writes those from an offset on into all of a part of the memory, of which it keeps nothing; in
            order, and in another thread where there are many.

    Raises:
        As `Shuffle.put`; and what ``fill`` raises, which is no `StoreFull`.
    """
    shuffle._check_puts([reducer])
    if reducer not in shuffle._due:
        return
    store = shuffle._home.objects.store
    if not store.could_hold(size_bytes):
        what = f"the partition from {shuffle.place} to {reducer} needs {size_bytes} bytes"
        raise StoreFull(f"{what}, more than its store can ever hold")
    layout = BlockLayout(size_bytes, block_size_bytes(size_bytes))
    await shuffle._put_one(
        reducer, size_bytes, lambda key: store.put_filled(key, layout, fill, may_spill=True)
    )
