"""The host block store of one node: objects by key, in memory that other processes can map.

Owns which objects there are, where they lie and when their memory may be used again. Must not know
networks or planners, and does not verify: blocks are verified by whoever receives them.

Theory of operation. All bytes of an object are reserved at once, in one run, before the first
arrives (`transfers.store.arena`). `Store.release` forgets an object; its memory *lingers* until no view of
it is alive in this process and no lease is held by another, and is then used again. Whether that
is so is looked up when it matters, at the next reservation or count, so that no finalizer ever changes
the books. What may spill, and finds no room in memory, lies in a file (`transfers.store.spill`) where that is
allowed.

One thread owns a store, but `Store.create`, `put`, `put_file` and `put_filled`, which take long for
large objects, may run in another one meanwhile: the books are under a lock, the copying is not.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from transfers.blocks import BlockLayout, BlockSet
from transfers.errors import LocalProtocolError, RemoteProtocolError, StoreFull
from transfers.ids import BlockIndex
from transfers.manifest import ContentType, Manifest, ObjectKey, RunningChecksum, whole_checksum
from transfers.store.arena import Arena
from transfers.store.attach import Attachment, Loan, attach
from transfers.store.memory import physical_bytes
from transfers.store.places import LentPlace, OwnPlace, Place
from transfers.store.spill import Spill, SpilledPlace
from transfers.store.stored import StoredObject

DEFAULT_SHARE_OF_MEMORY = 0.5
"""Default limit, of physical memory: what Linux gives a tmpfs by default."""

DEFAULT_SHARE_RECYCLED = 0.25
"""Of the limit, how much free memory is kept for the next transfer (a guess: one large model of four)."""

PLAIN_BYTES = ContentType()

PART_BYTES = 512 << 10
"""Filled and checksummed at a time: half a megabyte is in the processor's cache still (measured: the checksum
takes 0.04 s a GB so, and 0.07 s over whole blocks of 4 MiB)."""

Fill = Callable[[int, memoryview], None]
"""Writes what an object has from a byte on into a part of its memory."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Where a store's memory is, in bytes.

    Attributes:
        limit_bytes: most that may be backed by memory at a time.
        reserved_bytes: held by objects that are stored here.
        lingering_bytes: of released objects that views or other processes still see.
        recycled_bytes: free and backed by memory, first to be used again.
        adopted_bytes: mapped from other processes' stores; not under this limit.
        spilled_bytes: in files, views of released objects included; not under this limit either.
        objects: how many objects are stored, adopted ones included.
        leases: how many times other processes have objects mapped.
    """

    limit_bytes: int
    reserved_bytes: int
    lingering_bytes: int
    recycled_bytes: int
    adopted_bytes: int
    spilled_bytes: int
    objects: int
    leases: int


class Store:
    """Objects of one node.

    Args:
        limit_bytes: most memory to use; by default half of what the machine, or the container, has.
        recycle_bytes: most free memory to keep for the next transfer; by default a quarter of the limit.
        spill: files for what has no room in memory and may lie there; None for none.

    Attributes:
        address: where other processes of this host can attach, for `transfers.store.attach.attach`;
            empty while `transfers.store.sharing.serve` does not run.

    Raises:
        ValueError: for a limit below one page, or a negative ``recycle_bytes``.
        StoreFull: when the process may not have so much address space.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        recycle_bytes: int | None = None,
        spill: Spill | None = None,
    ) -> None:
        limit = int(physical_bytes() * DEFAULT_SHARE_OF_MEMORY) if limit_bytes is None else limit_bytes
        recycle = int(limit * DEFAULT_SHARE_RECYCLED) if recycle_bytes is None else recycle_bytes
        self.address = ""
        self._arena = Arena(limit, recycle)
        self._spill = spill
        self._objects: dict[ObjectKey, StoredObject] = {}
        self._filling: set[ObjectKey] = set()
        self._lingering: list[StoredObject] = []
        self._attachments: dict[str, Attachment] = {}
        self._borrowing: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._closed = False

    # -- taking objects in -----------------------------------------------------------------------

    def could_hold(self, size_bytes: int) -> bool:
        """Whether an object that may spill could have room here, with nothing else in it."""
        spill_bytes = 0 if self._spill is None else self._spill.limit_bytes
        return size_bytes <= max(self._arena.limit_bytes, spill_bytes)

    def check_room(self, size_bytes: int) -> None:
        """Raise StoreFull unless so much has room in memory now; where things can spill, there always is."""
        free_bytes = self._arena.limit_bytes - self._arena.taken_bytes
        if self._spill is None and size_bytes > free_bytes:
            raise StoreFull(f"{size_bytes} bytes are to be free; {free_bytes} are")

    def create(self, manifest: Manifest, *, may_spill: bool = False) -> StoredObject:
        """Reserve all bytes of an object that is about to be received.

        Args:
            manifest: what it is.
            may_spill: whether it may lie in a file where memory has no room.

        Raises:
            StoreFull: when the limit, or the memory that the host can give, does not allow it.
            LocalProtocolError: when an object of this key is stored, or the store is closed.
        """
        self._claim(manifest.key)
        try:
            place = self._reserve(manifest.key, manifest.layout.size_bytes, may_spill)
            return self._enter(manifest, place, BlockSet(manifest.layout.count))
        finally:
            self._filling.discard(manifest.key)

    def put(
        self,
        key: ObjectKey,
        data: memoryview,
        block_size_bytes: int,
        content: ContentType = PLAIN_BYTES,
        *,
        may_spill: bool = False,
    ) -> StoredObject:
        """Copy an object in, once, and checksum each block while it is in the processor's cache.

        Args:
            key: its name.
            data: its bytes, contiguous; any format and shape.
            block_size_bytes: the cut.
            content: how it is to be read.
            may_spill: as `create` has it.

        Raises:
            StoreFull, LocalProtocolError: as `create`.
            ValueError: for ``data`` that is not contiguous, or a bad block size.
        """
        if not data.c_contiguous:
            raise ValueError("data must be contiguous (copy it first)")
        source = np.frombuffer(data, np.uint8) if data.nbytes else np.empty(0, np.uint8)

        def fill(start: int, part: memoryview) -> None:
            np.copyto(np.frombuffer(part, np.uint8), source[start : start + part.nbytes])

        layout = BlockLayout(data.nbytes, block_size_bytes)
        return self.put_filled(key, layout, fill, content, may_spill=may_spill)

    def put_file(
        self,
        key: ObjectKey,
        file: int | str | os.PathLike[str],
        size_bytes: int,
        block_size_bytes: int,
        content: ContentType = PLAIN_BYTES,
    ) -> StoredObject:
        """Read the first ``size_bytes`` of a file in.

        Args:
            key: the object's name.
            file: a path, or a descriptor open for reading (its position is not used and not moved).
            size_bytes: its size, as seen before.
            block_size_bytes: the cut.
            content: how to read it, and under which name it is to be saved.

        Raises:
            StoreFull, LocalProtocolError: as `create`; LocalProtocolError, too, when the file has shrunk.
            OSError: when it cannot be read.
            ValueError: for a negative size or a bad block size.
        """
        layout = BlockLayout(size_bytes, block_size_bytes)
        descriptor = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC)

        def fill(start: int, part: memoryview) -> None:
            done = 0
            while done < part.nbytes:
                got = os.preadv(descriptor, [part[done:]], start + done)
                if got == 0:
                    at = start + done
                    raise LocalProtocolError(f"the file shrank while it was read: {at} of {size_bytes} bytes")
                done += got

        try:
            return self.put_filled(key, layout, fill, content)
        finally:
            if not isinstance(file, int):
                os.close(descriptor)

    def put_filled(
        self,
        key: ObjectKey,
        layout: BlockLayout,
        fill: Fill,
        content: ContentType = PLAIN_BYTES,
        *,
        may_spill: bool = False,
    ) -> StoredObject:
        """Have an object written where it is to lie, part by part, in order.

        Args:
            key: its name.
            layout: its size, and the cut.
            fill: writes a part, of which it keeps nothing; what it raises ends this, and nothing is stored.
            content: how it is to be read.
            may_spill: as `create` has it.

        Raises:
            StoreFull, LocalProtocolError: as `create`.
        """
        self._claim(key)
        try:
            place = self._reserve(key, layout.size_bytes, may_spill)
            try:
                sums = _fill_blocks(place, layout, fill)
            except BaseException:
                place.let_go()
                place.free()
                raise
            manifest = Manifest(key, layout, sums, whole_checksum(layout.size_bytes, sums), content)
            place.let_go()
            return self._enter(manifest, place, BlockSet.full(layout.count))
        finally:
            self._filling.discard(key)

    def adopt(self, manifest: Manifest, store_address: str) -> StoredObject:
        """Map the complete object of another process of this host, read-only, and keep its lease.

        It waits for the other process, within limits. Two event loops that adopt from one another would
        wait in vain: under trio use `transfers.store.sharing.adopt`.

        Raises:
            UnknownTransfer: when the other store does not hold all of it.
            ConnectFailed, AuthenticationFailed, WaitTimeout: as `transfers.store.attach.attach`.
            RemoteProtocolError: when it holds something else under this key.
            LocalProtocolError: when an object of this key is stored here, or the address is our own.
        """
        return self.take_loan(manifest, self.borrow(manifest, store_address), store_address)

    def borrow(self, manifest: Manifest, store_address: str) -> Loan:
        """First half of `adopt`: all of its waiting. Safe in another thread. Raises as `adopt` does.

        The loan must be handed to `take_loan`, whatever happens in between.
        """
        if store_address == self.address:
            raise LocalProtocolError(f"{manifest.key} cannot be adopted from the store's own address")
        with self._lock:
            self._check_open()
            self._borrowing[store_address] += 1
        try:
            loan = self._attached(store_address).borrow(manifest.key)
            if not loan.found.describes(manifest):
                os.close(loan.descriptor)
                del loan  # or the traceback of the error would keep the lease
                raise RemoteProtocolError(f"store {store_address} holds another object as {manifest.key}")
        except BaseException:
            self._end_borrowing(store_address)
            raise
        return loan

    def take_loan(self, manifest: Manifest, loan: Loan, store_address: str) -> StoredObject:
        """Second half of `adopt`: enter the object; at once. Raises as `adopt` does."""
        place = LentPlace(loan, store_address)
        del loan  # or the traceback of an error would keep the lease
        try:
            self._claim(manifest.key)
            try:
                return self._enter(manifest, place, BlockSet.full(manifest.layout.count))
            finally:
                self._filling.discard(manifest.key)
        except BaseException:
            place.let_go()
            raise
        finally:
            self._end_borrowing(store_address)

    # -- looking up and letting go ---------------------------------------------------------------

    def get(self, key: ObjectKey) -> StoredObject | None:
        """The object of a key, complete or not."""
        return self._objects.get(key)

    def objects(self) -> Iterator[StoredObject]:
        """Every stored object, in the order of coming in, as of now."""
        return iter(list(self._objects.values()))

    def release(self, key: ObjectKey) -> None:
        """Forget an object; harmless for one that is not stored. Views that are alive stay good."""
        with self._lock:
            gone = self._objects.pop(key, None)
            if gone is None:
                return
            gone.mark_released()
            self._lingering.append(gone)
            if isinstance(gone.place, LentPlace):
                self._detach_unless_needed(gone.place.store_address)
            self._sweep()

    def statistics(self) -> StoreStatistics:
        """Where the memory is now."""
        with self._lock:
            self._sweep()
            stored = list(self._objects.values())
            lingering = sum(gone.place.reserved_bytes for gone in self._lingering)
            return StoreStatistics(
                limit_bytes=self._arena.limit_bytes,
                reserved_bytes=self._arena.taken_bytes - lingering,
                lingering_bytes=lingering,
                recycled_bytes=self._arena.recycled_bytes,
                spilled_bytes=0 if self._spill is None else self._spill.taken_bytes,
                adopted_bytes=sum(held.manifest.layout.size_bytes for held in stored if held.adopted),
                objects=len(stored),
                leases=sum(held.leases for held in [*stored, *self._lingering]),
            )

    def close(self) -> None:
        """Let go of everything. Views stay good; the kernel frees the memory with the last one."""
        with self._lock:
            for key in list(self._objects):
                self.release(key)
            self._closed = True
            for attachment in self._attachments.values():
                attachment.close()
            self._attachments.clear()
            _LENT_ON.extend(gone for gone in self._lingering if gone.adopted and gone.leases)
            for gone in self._lingering:
                if isinstance(gone.place, SpilledPlace):
                    gone.place.free()  # views stay good: their mappings hold the file
            self._lingering.clear()
            self._arena.close()

    # -- inside ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise LocalProtocolError("the store is closed")

    def _claim(self, key: ObjectKey) -> None:
        """Keep a key from being used twice while its object is being made."""
        with self._lock:
            self._check_open()
            if key in self._objects or key in self._filling:
                raise LocalProtocolError(f"{key} is in the store already")
            self._filling.add(key)

    def _enter(self, manifest: Manifest, place: Place, holds: BlockSet) -> StoredObject:
        with self._lock:
            try:
                self._check_open()
            except BaseException:
                place.let_go()
                place.free()
                raise
            made = self._objects[manifest.key] = StoredObject(manifest, place, holds)
            return made

    def _reserve(self, key: ObjectKey, size_bytes: int, may_spill: bool) -> Place:
        with self._lock:
            self._sweep()
        try:
            return OwnPlace(self._arena, size_bytes, str(key))
        except StoreFull as full:
            if not (may_spill and self._spill is not None):
                raise
            try:
                return SpilledPlace(self._spill, size_bytes, str(key))
            except StoreFull as nor:
                raise StoreFull(f"{full}; {nor}") from None

    def _sweep(self) -> None:
        """Free what nobody sees any more."""
        still: list[StoredObject] = []
        for gone in self._lingering:
            if gone.let_go():
                gone.place.free()
            else:
                still.append(gone)
        self._lingering = still

    def _attached(self, address: str) -> Attachment:
        """The attachment to another store, made when it is first needed."""
        attachment = self._attachments.get(address)
        if attachment is not None:
            return attachment
        made = attach(address)
        with self._lock:
            attachment = self._attachments.setdefault(address, made)
            closed = self._closed and self._attachments.pop(address, None) is not None
        if attachment is not made or closed:
            made.close()
        return attachment

    def _end_borrowing(self, address: str) -> None:
        with self._lock:
            self._borrowing[address] -= 1
            self._detach_unless_needed(address)

    def _detach_unless_needed(self, address: str) -> None:
        """End an attachment that no adopted object needs; its lease lasts while views do."""
        needed = self._borrowing[address] > 0 or any(
            isinstance(held.place, LentPlace) and held.place.store_address == address
            for held in self._objects.values()
        )
        if needed:
            return
        del self._borrowing[address]
        attachment = self._attachments.pop(address, None)
        if attachment is not None:
            attachment.close()


def _fill_blocks(place: Place, layout: BlockLayout, fill: Fill) -> tuple[int, ...]:
    """Fill every block in order and give their checksums."""
    sums: list[int] = []
    for number in range(layout.count):
        index = BlockIndex(number)
        start = layout.offset(index)
        end = start + layout.length(index)
        checksum = RunningChecksum()
        for at in range(start, end, PART_BYTES):
            part = place.writable()[at : min(at + PART_BYTES, end)]
            fill(at, part)
            checksum.add(part)
        sums.append(checksum.value())
    return tuple(sums)


_LENT_ON: list[StoredObject] = []
"""Objects that were borrowed and lent on when their store closed. Letting them go would end the first
store's lease under those who look still; the end of this process does not, while they live."""
