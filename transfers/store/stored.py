"""One object in a store: what is known of it, which blocks are held, and its bytes.

Owns the states of an object: receiving, complete, released. Must not know how memory is found or who
asks. A `transfers.store.places.Place` says where the bytes lie.
"""

from transfers.blocks import BlockSet
from transfers.errors import LocalProtocolError
from transfers.ids import BlockIndex
from transfers.manifest import Manifest
from transfers.store.places import Place
from transfers.store.view import ObjectView


class StoredObject:
    """An object with memory reserved for all of its bytes.

    Attributes:
        manifest: what it is.
        holds: the blocks that are stored and verified. Change it by `mark_stored` and `reset` only.
        leases: how many times other processes have it mapped, kept by `transfers.store.session`.
        place: where its bytes lie; for the store and for sharing.
    """

    __slots__ = ("_released", "holds", "leases", "manifest", "place")

    def __init__(self, manifest: Manifest, place: Place, holds: BlockSet) -> None:
        self.manifest = manifest
        self.holds = holds
        self.leases = 0
        self.place = place
        self._released = False

    def __repr__(self) -> str:
        state = "released" if self._released else f"{len(self.holds)} of {self.holds.count} blocks"
        return f"StoredObject({self.manifest.key}, {state})"

    @property
    def complete(self) -> bool:
        """Whether every block is held. An empty object always is."""
        return self.holds.complete

    @property
    def adopted(self) -> bool:
        """Whether the bytes lie in another process's store."""
        return not self.place.owned

    def block(self, index: BlockIndex) -> memoryview:
        """A writable view of one block that is not held yet, to receive into.

        Raises:
            LocalProtocolError: when the block is held (it never changes again), or the object is
                released or another process's.
            ValueError: when there is no such block.
        """
        self._check_stored()
        if not self.place.owned:
            raise LocalProtocolError(f"{self.manifest.key} is another process's and cannot be written")
        bounds = self._bounds(index)
        if index in self.holds:
            raise LocalProtocolError(f"block {index} of {self.manifest.key} is stored and cannot change")
        return self.place.writable()[bounds]

    def arriving(self, index: BlockIndex) -> memoryview:
        """A read-only view of one block that is being received, to pass on what has come of it.

        Raises:
            LocalProtocolError: when the object is released.
            ValueError: when there is no such block.
        """
        self._check_stored()
        return self.place.readable()[self._bounds(index)]

    def readable(self, index: BlockIndex) -> memoryview:
        """A read-only view of one held block, to send from. Its bytes stay as long as the view lives.

        Raises:
            LocalProtocolError: when the block is not held, or the object is released.
            ValueError: when there is no such block.
        """
        self._check_stored()
        bounds = self._bounds(index)
        if index not in self.holds:
            raise LocalProtocolError(f"block {index} of {self.manifest.key} is not held")
        return self.place.readable()[bounds]

    def mark_stored(self, index: BlockIndex) -> None:
        """Say that a block's bytes are in and match their checksum. Harmless when said twice.

        Raises:
            LocalProtocolError: when the object is released.
            ValueError: when there is no such block.
        """
        self._check_stored()
        self.holds.add(index)

    def view(self, allow_pickle: bool = False) -> ObjectView:
        """A view of the complete object for a user; it outlives the object's release.

        Raises:
            LocalProtocolError: when blocks are missing, or the object is released.
        """
        self._check_stored()
        if not self.complete:
            raise LocalProtocolError(
                f"{self.manifest.key} is not complete: blocks {self.holds.missing().spelled()} are missing"
            )
        return ObjectView(self.place.readable(), self.manifest.content, allow_pickle)

    def reset(self) -> None:
        """Hold no block, as after `transfers.store.store.Store.create`. Any copy of ``holds`` is stale then.

        Raises:
            LocalProtocolError: when someone could see the bytes change: a view lives, another process
                has it mapped, or it is another process's; or when it is released.
        """
        self._check_stored()
        if self.place.owned:
            self.place.let_go()
        if not self.place.owned or self.leases or self.place.busy:
            raise LocalProtocolError(f"{self.manifest.key} is in use and cannot be received anew")
        self.holds = BlockSet(self.manifest.layout.count)

    # -- for the store ---------------------------------------------------------------------------

    def mark_released(self) -> None:
        """Give out nothing more. Only `transfers.store.store.Store` calls this."""
        self._released = True

    def let_go(self) -> bool:
        """Of a released object: keep nothing of it, unless someone can still see its bytes.

        Returns:
            Whether nobody can: no view here, no lease elsewhere. Then the place may be freed.
        """
        if self.leases:
            return False
        self.place.let_go()
        return not self.place.busy

    def _check_stored(self) -> None:
        if self._released:
            raise LocalProtocolError(f"{self.manifest.key} has been released")

    def _bounds(self, index: BlockIndex) -> slice:
        layout = self.manifest.layout
        if not 0 <= index < layout.count:
            raise ValueError(f"index={index}: {self.manifest.key} has {layout.count} blocks")
        start = layout.offset(index)
        return slice(start, start + layout.length(index))
