"""One attached process as the store sees it: its questions in, answers out, its leases.

Owns what a client may ask and what it holds. Does no input or output and waits for nothing:
`transfers.store.sharing` moves the messages. A client is not trusted: whatever it sends, the worst that
comes of it is a `RemoteProtocolError`, upon which its connection is to be closed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from transfers.errors import RemoteProtocolError
from transfers.ids import TransferName
from transfers.manifest import ObjectKey, PartName
from transfers.store.protocol import (
    CLIENT_CODEC,
    MAX_DESCRIPTORS,
    MAX_LEASES,
    MAX_LISTED,
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    SERVER_CODEC,
    Absent,
    Drop,
    Found,
    Hello,
    Listing,
    Lookup,
    Names,
    check_length,
)
from transfers.store.store import Store
from transfers.store.stored import StoredObject

_LISTING_ROOM_BYTES = MAX_MESSAGE_BYTES - 1024
_KEY_OVERHEAD_BYTES = 6
"""What msgpack adds to two strings of up to 65,535 bytes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message, and the descriptors to send with it. ``last`` asks to close the connection after it."""

    data: bytes
    descriptors: tuple[int, ...] = ()
    last: bool = False


class Session:
    """The server's side of one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._greeted = False
        self._leases: dict[int, StoredObject] = {}
        self._last_lease = 0

    @property
    def greeted(self) -> bool:
        """Whether the client has shown itself to speak the protocol."""
        return self._greeted

    def handle(self, data: bytes) -> Reply | None:
        """Take one message in; gives the answer, if it has one.

        Raises:
            RemoteProtocolError: for anything that the protocol does not allow.
        """
        check_length(data)
        message = CLIENT_CODEC.decode(data)
        if isinstance(message, Hello) == self._greeted:
            raise RemoteProtocolError("greeted twice" if self._greeted else "did not greet")
        match message:
            case Hello(version=version):
                self._greeted = True
                hello = SERVER_CODEC.encode(Hello(PROTOCOL_VERSION))
                return Reply(hello, last=version != PROTOCOL_VERSION)
            case Lookup():
                return self._look_up(message)
            case Names():
                return Reply(SERVER_CODEC.encode(self._list(message)))
            case Drop(lease=lease):
                held = self._leases.pop(lease, None)
                if held is None:
                    raise RemoteProtocolError(f"lease {lease} is not held")
                held.leases -= 1
                return None
            case _:
                assert_never(message)

    def end(self) -> None:
        """End every lease: the client is gone, or has done something that the protocol forbids."""
        for held in self._leases.values():
            held.leases -= 1
        self._leases.clear()

    def _look_up(self, asked: Lookup) -> Reply:
        held = self._store.get(ObjectKey(TransferName(asked.transfer), PartName(asked.part)))
        if held is None:
            return self._absent(asked, "no such object")
        if not held.complete:
            return self._absent(
                asked, f"only {len(held.holds)} of its {held.holds.count} blocks have arrived"
            )
        descriptors = held.place.descriptors()
        if len(descriptors) > MAX_DESCRIPTORS:
            return self._absent(asked, "it is borrowed over too many stores: attach to an earlier one")
        if len(self._leases) >= MAX_LEASES:
            raise RemoteProtocolError(f"more than {MAX_LEASES} leases")
        self._last_lease += 1
        self._leases[self._last_lease] = held
        held.leases += 1
        manifest = held.manifest
        found = Found(
            request=asked.request,
            lease=self._last_lease,
            offset_bytes=held.place.offset_bytes,
            size_bytes=manifest.layout.size_bytes,
            whole_checksum=manifest.whole_checksum,
            kind=manifest.content.kind,
            dtype=manifest.content.dtype,
            shape=manifest.content.shape,
        )
        return Reply(SERVER_CODEC.encode(found), descriptors)

    def _absent(self, asked: Lookup, reason: str) -> Reply:
        return Reply(SERVER_CODEC.encode(Absent(asked.request, reason)))

    def _list(self, asked: Names) -> Listing:
        after = ObjectKey(TransferName(asked.after_transfer), PartName(asked.after_part))
        keys = sorted(key for key in self._complete() if key > after)
        listed: list[ObjectKey] = []
        room = _LISTING_ROOM_BYTES
        for key in keys[:MAX_LISTED]:
            room -= len(key.transfer.encode()) + len(key.part.encode()) + _KEY_OVERHEAD_BYTES
            if room < 0:
                break
            listed.append(key)
        return Listing(
            asked.request,
            tuple(key.transfer for key in listed),
            tuple(key.part for key in listed),
            more=len(listed) < len(keys),
        )

    def _complete(self) -> Iterator[ObjectKey]:
        return (held.manifest.key for held in self._store.objects() if held.complete)
