"""Where the bytes of one object lie: in the store's own arena, or in that of another process.

Owns the answer to "is anyone here still looking?". Must not know keys or blocks.

Theory of operation. A place hands out memoryviews through a `Lender`, whose weak reference tells whether any
is alive. A lent place keeps another store's lease by the life of its array (`transfers.store.attach`).
Whoever borrows from us what we have borrowed needs the first store's lease even if we die, so a place
also names descriptors of the connections on which that lease hangs: a connection ends only
when the last copy of its descriptor is closed, and copies travel with the bytes.
"""

import os
from typing import NoReturn, Protocol

from transfers.errors import LocalProtocolError
from transfers.store.arena import Arena
from transfers.store.attach import Loan
from transfers.store.ranges import Range
from transfers.store.segment import Lender


class Place(Protocol):
    """Where the bytes of one object lie."""

    @property
    def owned(self) -> bool:
        """Whether this process may write them."""
        ...

    @property
    def offset_bytes(self) -> int:
        """Their first byte in the file that they lie in."""
        ...

    @property
    def reserved_bytes(self) -> int:
        """Memory of the store's own that it takes up."""
        ...

    @property
    def busy(self) -> bool:
        """Whether views of them are alive; true, too, before `let_go`."""
        ...

    def descriptors(self) -> tuple[int, ...]:
        """The file that they lie in, not to be mapped for writing, and connections that keep them there."""
        ...

    def writable(self) -> memoryview:
        """All bytes, to write to; LocalProtocolError unless `owned`."""
        ...

    def readable(self) -> memoryview:
        """All bytes, read-only."""
        ...

    def let_go(self) -> None:
        """Keep nothing that makes it `busy`; what has been handed out still does. It can be used again."""
        ...

    def free(self) -> None:
        """Give the memory back. Only after `let_go`, when not `busy`; the place is of no use then."""
        ...


class OwnPlace:
    """A range of the store's own arena; none for an empty object."""

    owned = True

    def __init__(self, arena: Arena, size_bytes: int, what: str) -> None:
        self._arena = arena
        self._range = arena.reserve(size_bytes, what) if size_bytes else None
        self.offset_bytes = self._range.start if self._range else 0
        place, segment = self._range or Range(0, 1), arena.segment
        self._writing = Lender(lambda: segment.writable(place, size_bytes))
        self._reading = Lender(lambda: segment.readable(place, size_bytes))

    @property
    def reserved_bytes(self) -> int:
        return self._range.length if self._range is not None else 0

    @property
    def busy(self) -> bool:
        return self._writing.busy or self._reading.busy

    def descriptors(self) -> tuple[int, ...]:
        return (self._arena.segment.readonly_fd,)

    def writable(self) -> memoryview:
        return self._writing.view()

    def readable(self) -> memoryview:
        return self._reading.view().toreadonly()

    def let_go(self) -> None:
        self._writing.let_go()
        self._reading.let_go()

    def free(self) -> None:
        if self._range is not None:
            self._arena.free(self._range)
            self._range = None


class LentPlace:
    """An object of another process's store, mapped here; takes over the loan's descriptor."""

    owned = False
    reserved_bytes = 0

    def __init__(self, loan: Loan, store_address: str) -> None:
        self.store_address = store_address
        self.offset_bytes = loan.found.offset_bytes
        self._descriptor: int | None = loan.descriptor
        self._connections = loan.connections
        self._reading = Lender(_gone, loan.data)

    @property
    def busy(self) -> bool:
        return self._reading.busy

    def descriptors(self) -> tuple[int, ...]:
        if self._descriptor is None:
            return _gone()
        return (self._descriptor, *self._connections)

    def writable(self) -> memoryview:
        raise LocalProtocolError("the object is another process's and cannot be written")

    def readable(self) -> memoryview:
        return self._reading.view().toreadonly()

    def let_go(self) -> None:
        """As in `Place`, but for good: the lease ends with the last view."""
        self._reading.let_go()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def free(self) -> None:
        self.let_go()


def _gone() -> NoReturn:
    raise LocalProtocolError("the object has been given back to the store that lent it")
