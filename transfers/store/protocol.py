"""What two processes of one host say to each other about a store, and where they meet.

Owns the messages, their limits, the address and the check of who is on the other side. No waiting
here: `transfers.store.attach` asks over plain sockets, `transfers.store.sharing` answers under trio.

Theory of operation. The meeting point is an abstract Unix socket of kind ``SOCK_SEQPACKET``, which keeps
messages apart by itself. The first message each way is a greeting with the version. `Lookup` is
answered by `Found`, with the descriptor of the file that the object lies in attached, or by `Absent`.
`Found` grants a lease: until the client sends `Drop`, or the connection ends, the bytes stay as they
are. Requests carry a number that the answer repeats, so that an answer that comes too late is
known as such.

A store that has itself borrowed the object attaches its connections to the lenders as well. The client keeps
them open while it looks, and so keeps the lenders' leases even if the store between them dies.
"""

import os
import secrets
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from transfers.codec import Codec
from transfers.errors import RemoteProtocolError
from transfers.manifest import ContentType, Manifest

PROTOCOL_VERSION = 1

MAX_MESSAGE_BYTES = 64 * 1024
"""Longest message either way (a guess: below the default send buffer, above any one name)."""

MAX_LISTED = 64
"""Names in one `Listing` at most (a guess); fewer where they would not fit into one message."""

MAX_CONNECTIONS = 256
"""Processes attached to one store at a time (a guess: the largest hosts run that many workers)."""

MAX_LEASES = 65_536
"""Leases of one connection (a guess: a process can have about as many mappings)."""

MAX_DESCRIPTORS = 8
"""Descriptors with one answer: the file, and a connection for each store that lent it on (a guess; a
host where everyone borrows from the first holder needs two)."""

HANDSHAKE_TIMEOUT_S = 5.0
"""Limit on the greeting (a guess; it takes under a millisecond on an idle host)."""

REPLY_TIMEOUT_S = 5.0
"""Limit on one answer (a guess: a node under load answers within tens of milliseconds)."""

_ADDRESS_PREFIX = "orchestra-"
_ADDRESS_RANDOM_BYTES = 16

CAN_SHARE = sys.platform == "linux" and hasattr(os, "memfd_create")
"""Whether this system has what sharing rests on: abstract sockets, sealed memory, SO_PEERCRED."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First word of both sides."""

    version: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where does this object lie?"""

    request: int
    transfer: str
    part: str


@dataclass(frozen=True, slots=True)
class Names:
    """Which complete objects are there, after this one in order?"""

    request: int
    after_transfer: str
    after_part: str


@dataclass(frozen=True, slots=True)
class Drop:
    """A lease is needed no longer. Not answered."""

    lease: int


@dataclass(frozen=True, slots=True)
class Found:
    """Where an object lies in the file whose descriptor is attached; grants a lease."""

    request: int
    lease: int
    offset_bytes: int
    size_bytes: int
    whole_checksum: int
    kind: str
    dtype: str
    shape: tuple[int, ...]

    def content(self) -> ContentType:
        """How the bytes are to be read; what they would be saved as is not told."""
        return ContentType(self.kind, self.dtype, self.shape)

    def describes(self, manifest: Manifest) -> bool:
        """Whether this is the object that ``manifest`` tells of: the same bytes, to be read the same way."""
        content = manifest.content
        return (self.size_bytes, self.whole_checksum, self.kind, self.dtype, self.shape) == (
            *(manifest.layout.size_bytes, manifest.whole_checksum),
            *(content.kind, content.dtype, content.shape),
        )


@dataclass(frozen=True, slots=True)
class Absent:
    """No such object, or not all of it is there."""

    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Keys of complete objects in order; ``more`` says that others follow the last one."""

    request: int
    transfers: tuple[str, ...]
    parts: tuple[str, ...]
    more: bool


ClientMessage = Hello | Lookup | Names | Drop
ServerMessage = Hello | Found | Absent | Listing

CLIENT_CODEC: Codec[ClientMessage] = Codec([Hello, Lookup, Names, Drop])
SERVER_CODEC: Codec[ServerMessage] = Codec([Hello, Found, Absent, Listing])


def new_address() -> str:
    """A printable name that nobody can guess."""
    return _ADDRESS_PREFIX + secrets.token_hex(_ADDRESS_RANDOM_BYTES)


def socket_name(address: str) -> str:
    """The abstract socket behind an address.

    Raises:
        ValueError: when ``address`` is not one that `new_address` makes.
    """
    digits = address.removeprefix(_ADDRESS_PREFIX)
    if digits == address or len(digits) != 2 * _ADDRESS_RANDOM_BYTES or set(digits) - set("0123456789abcdef"):
        raise ValueError(f"address={address[:80]!r} is not that of a store (orchestra-<32 hex digits>)")
    return "\0" + address


def peer_uid(credentials: bytes) -> int:
    """The user id in what ``SO_PEERCRED`` gives: process, user, group."""
    _, uid, _ = struct.unpack("=iII", credentials)
    return int(uid)


PEER_CREDENTIALS_BYTES = struct.calcsize("=iII")


def read_peer_uid(sock: socket.socket) -> int:
    """The user on the other side, as the kernel saw it when the connection was made."""
    return peer_uid(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS_BYTES))


def is_same_user(uid: int) -> bool:
    """Whether a peer may share memory with this process: only the very same user may."""
    return uid == os.geteuid()


def check_length(data: bytes) -> None:
    """Refuse a message that is too long; it was read with one byte of room more than allowed.

    Raises:
        RemoteProtocolError: when it is.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(f"message over the limit of {MAX_MESSAGE_BYTES} bytes")


def host_id() -> str:
    """What tells hosts apart: two processes with one id can attach to each other's stores.

    Made of the boot, the network namespace (abstract sockets end there, so emulated hosts are different
    hosts) and the user. Where sharing is not possible every process is a host of its own.
    """
    if not CAN_SHARE:
        return _LONELY_ID
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return _LONELY_ID
    return f"{boot}-{namespace}-{os.geteuid()}"


_LONELY_ID = f"alone-{secrets.token_hex(16)}"
