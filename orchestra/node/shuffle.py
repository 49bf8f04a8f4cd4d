"""A node's part in a shuffle: put what it has for each reducer, take what each mapper has for it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import trio

from orchestra.choice import MAX_BLOCK_SIZE_BYTES
from orchestra.messages import Outcome, PartitionPut, ToController
from orchestra.node.content import as_bytes, in_thread_if_large
from orchestra.node.objects import NodeObjects
from transfers.errors import ControllerLost, LocalProtocolError, TransferFailed, WaitTimeout
from transfers.ids import NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey, partition_name
from transfers.store.view import ObjectView


class ShuffleHome(Protocol):
    """What a shuffle needs of its node."""

    name: NodeName
    objects: NodeObjects
    allow_pickle: bool

    def tell(self, message: ToController) -> None:
        """Queue a message for the controller."""
        ...


class Shuffle:
    """One node's part in one shuffle; made by `Node.shuffle`.

    Attributes:
        name, mappers, reducers: as given.
    """

    def __init__(
        self,
        home: ShuffleHome,
        name: TransferName,
        mappers: tuple[NodeName, ...],
        reducers: tuple[NodeName, ...],
        timeout_s: float,
    ) -> None:
        self.name = name
        self.mappers = mappers
        self.reducers = reducers
        self.timeout_s = timeout_s
        self._home = home
        self._put: dict[NodeName, None] = {}
        self._left = False
        self._empty: dict[NodeName, None] = {}
        self._changed = trio.Event()
        self._ended = trio.Event()
        self._outcome: Outcome | None = None
        self._lost_because = ""

    @property
    def node(self) -> NodeName:
        """This node."""
        return self._home.name

    @property
    def over(self) -> bool:
        """Whether its outcome is known here."""
        return self._ended.is_set()

    async def put(self, partitions: Mapping[str, Any]) -> None:
        """Give this node's partitions, by reducer; what is left out is empty.

        May be called several times; a partition can be given once, and those left out are declared empty
        when `finish` is called or the block ends. One that is being copied when this is cancelled is not put.

        Args:
            partitions: reducer to anything with the buffer protocol; bytes are copied before it returns.

        Raises:
            ValueError: for a name that is no reducer, or values that cannot travel.
            LocalProtocolError: when this node is no mapper, or has put that partition already.
            StoreFull: when the partition has no room.
        """
        self._check_mapper()
        for reducer in partitions:
            if reducer not in self.reducers:
                raise ValueError(f"partitions: {reducer!r} is no reducer of shuffle {self.name!r}")
            self._check_not_put(reducer)
        for reducer, value in partitions.items():
            await self._put_one(NodeName(reducer), value)

    async def _put_one(self, reducer: NodeName, value: Any) -> None:
        data, content = as_bytes(value, allow_pickle=self._home.allow_pickle)
        key = ObjectKey(self.name, partition_name(self.node, reducer))
        store = self._home.objects.store
        self._check_not_put(reducer)  # again: others may have put while those before it were copied
        self._put[reducer] = None  # nobody may give it again, or call it empty, while it is copied
        try:
            await trio.lowlevel.checkpoint()
            stored = await in_thread_if_large(
                lambda: store.put(key, data, MAX_BLOCK_SIZE_BYTES, content), data.nbytes
            )
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
        self._home.tell(PartitionPut(self.name, reducer, stored.manifest))
        if reducer == self.node:
            self._changed.set()

    def finish(self) -> None:
        """Declare this mapper's partitions complete: those not put are empty."""
        self._check_mapper()
        for reducer in self.reducers:
            if reducer not in self._put:
                self._put[reducer] = None
                self._home.tell(PartitionPut(self.name, reducer, None))

    async def partitions(self) -> AsyncIterator[tuple[str, ObjectView]]:
        """Every mapper's partition for this node, each as soon as it is here; empty ones are left out.

        Yields:
            the mapper's name and a read-only view of its bytes.

        Raises:
            TransferFailed: naming who was lost or held it up.
            LocalProtocolError: when this node is no reducer.
            WaitTimeout: when nothing comes for the shuffle's timeout.
        """
        if self.node not in self.reducers:
            raise LocalProtocolError(f"{self.node} is no reducer of shuffle {self.name!r}")
        due = dict.fromkeys(self.mappers)
        while due:
            for mapper in list(due):
                if mapper in self._empty:
                    del due[mapper]
                    continue
                key = ObjectKey(self.name, partition_name(mapper, self.node))
                held = self._home.objects.store.get(key)
                if held is not None and held.complete:
                    del due[mapper]
                    yield mapper, held.view(self._home.allow_pickle)
            if due:
                await self._wait_change(due)

    async def wait(self) -> Outcome:
        """Wait until every reducer has every partition.

        Raises:
            TransferFailed: naming who was lost or held it up.
            ControllerLost: when nobody can tell any more.
            WaitTimeout: when nothing is heard for twice the shuffle's timeout.
        """
        with trio.move_on_after(2 * self.timeout_s):
            await self._ended.wait()
        self._check_ended()
        if self._outcome is None:
            raise WaitTimeout(f"shuffle {self.name!r}: no outcome within {2 * self.timeout_s:g} s")
        return self._outcome

    # -- for the node --------------------------------------------------------------------------

    def hear_outcome(self, outcome: Outcome) -> None:
        """The controller says that it is over."""
        self._outcome = outcome
        self._ended.set()
        self._changed.set()

    def hear_empty(self, mapper: NodeName) -> None:
        """A mapper has nothing for this node."""
        self._empty[mapper] = None
        self._changed.set()

    def hear_arrival(self) -> None:
        """A partition is here."""
        self._changed.set()

    def lose(self, reason: str) -> None:
        """The controller is gone for good."""
        self._lost_because = reason
        self._ended.set()
        self._changed.set()

    def local_manifests(self) -> list[Manifest]:
        """Of the partitions that lie on this node."""
        return [
            stored.manifest
            for stored in self._home.objects.store.objects()
            if stored.manifest.key.transfer == self.name
        ]

    def leave(self) -> None:
        """It is over on this node: let its partitions go, and take no more."""
        self._left = True
        for manifest in self.local_manifests():
            self._home.objects.drop(manifest.key, "the shuffle is over")

    # -- waiting -------------------------------------------------------------------------------

    def _check_mapper(self) -> None:
        if self.node not in self.mappers:
            raise LocalProtocolError(f"{self.node} is no mapper of shuffle {self.name!r}")

    def _check_not_put(self, reducer: str) -> None:
        if reducer in self._put:
            raise LocalProtocolError(f"the partition for {reducer} has been put already")

    def _check_ended(self) -> None:
        if self._outcome is not None and (self._outcome.failed or self._outcome.reason):
            raise TransferFailed(self.name, self._outcome.failed, self._outcome.reason)
        if self._lost_because:
            raise ControllerLost(self._lost_because)

    async def _wait_change(self, due: Mapping[NodeName, None]) -> None:
        self._check_ended()
        with trio.move_on_after(2 * self.timeout_s) as patience:
            await self._changed.wait()
        if patience.cancelled_caught:
            raise WaitTimeout(
                f"shuffle {self.name!r}: nothing from {', '.join(due)} in {2 * self.timeout_s:g} s"
            )
        self._changed = trio.Event()
