"""Mapping another process's store: ``attach(address).get("prototypes/7")``.

Owns the client's side of sharing, over plain blocking sockets, so that any program can use it: it
imports neither trio nor scikit-learn. Must not know how a store finds memory.

Theory of operation. Each object found is mapped alone and read-only; its descriptor is closed at
once. The lease on it lasts as long as the array over the mapping, which every view keeps alive;
when the last one dies a `Drop` goes out. Closing an attachment ends new questions at once, but its
socket, and with it the leases, lasts until the last view is gone. A view also outlives the store's
process: the kernel keeps mapped memory.
"""

import contextlib
import fcntl
import mmap
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from transfers.errors import (
    AuthenticationFailed,
    ConnectFailed,
    LocalProtocolError,
    RemoteProtocolError,
    UnknownTransfer,
    WaitTimeout,
)
from transfers.ids import TransferName
from transfers.manifest import WHOLE, ObjectKey, PartName
from transfers.store.protocol import (
    CAN_SHARE,
    CLIENT_CODEC,
    HANDSHAKE_TIMEOUT_S,
    MAX_DESCRIPTORS,
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    REPLY_TIMEOUT_S,
    SERVER_CODEC,
    Absent,
    Drop,
    Found,
    Hello,
    Listing,
    Lookup,
    Names,
    ServerMessage,
    check_length,
    is_same_user,
    read_peer_uid,
    socket_name,
)
from transfers.store.segment import PAGE_BYTES, Bytes
from transfers.store.view import ObjectView

MAX_PAGES_OF_NAMES = 1 << 16
"""Answers that one `Attachment.keys` asks for at most (64 names each)."""


@dataclass(frozen=True, slots=True)
class Loan:
    """An object of another process, mapped here. The lease lasts while ``data`` or a view of it lives.

    Attributes:
        found: what the store said of it.
        descriptor: the file that it lies in; whoever takes the loan closes it.
        connections: on which the lease hangs, and those that the lender's leases hang on. They stay
            open as long as ``data``.
        data: its bytes, read-only.
    """

    found: Found
    descriptor: int
    connections: tuple[int, ...]
    data: Bytes


class Attachment:
    """A connection to a store of this host. Threads may share it; a forked child needs its own."""

    def __init__(self, address: str, timeout: float, allow_pickle: bool) -> None:
        self.address = address
        self._allow_pickle = allow_pickle
        self._lock = threading.Lock()
        self._line = _Line(_connect(address, timeout))
        self._closed = False
        self._requests = 0
        try:
            self._greet(timeout)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ask no more. Views that are alive stay good, and the store keeps their memory for them."""
        with self._lock:
            self._closed = True
            self._line.close_when_unused()

    def get(self, name: str, part: str = WHOLE, timeout: float = REPLY_TIMEOUT_S) -> ObjectView:
        """The complete object of a transfer, zero-copy. Does not wait for one that is still arriving.

        Args:
            name: of the transfer.
            part: which of its objects; a broadcast has one only.
            timeout: seconds to wait for the store's answer.

        Raises:
            UnknownTransfer: when the store does not hold it, or not all of it.
            ConnectFailed: when the store is gone.
            WaitTimeout: when it does not answer.
        """
        loan = self.borrow(ObjectKey(TransferName(name), PartName(part)), timeout)
        os.close(loan.descriptor)
        return ObjectView(loan.data.data, loan.found.content(), self._allow_pickle)

    def names(self, timeout: float = REPLY_TIMEOUT_S) -> list[str]:
        """The transfers whose whole object `get` would give, in order. Raises as `get` does."""
        return [key.transfer for key in self.keys(timeout) if key.part == WHOLE]

    def keys(self, timeout: float = REPLY_TIMEOUT_S) -> list[ObjectKey]:
        """Every complete object of the store, parts too, in order. Raises as `get` does."""
        deadline_s = time.monotonic() + timeout
        keys: list[ObjectKey] = []
        last = ("", "")
        for _ in range(MAX_PAGES_OF_NAMES):
            with self._lock:
                reply, descriptors = self._ask(Names(self._next(), *last), deadline_s)
            _close_all(descriptors)
            if not isinstance(reply, Listing) or len(reply.transfers) != len(reply.parts):
                raise RemoteProtocolError(f"store {self.address} gave no list of names")
            pairs = list(zip(reply.transfers, reply.parts, strict=True))
            keys += [ObjectKey(TransferName(transfer), PartName(part)) for transfer, part in pairs]
            if not reply.more or not pairs:
                return keys
            last = pairs[-1]
        raise RemoteProtocolError(f"store {self.address} lists names without end")

    def borrow(self, key: ObjectKey, timeout: float = REPLY_TIMEOUT_S) -> Loan:
        """Map an object and keep its descriptor, as a store does that adopts it. Raises as `get` does."""
        deadline_s = time.monotonic() + timeout
        with self._lock:
            reply, descriptors = self._ask(Lookup(self._next(), key.transfer, key.part), deadline_s)
            try:
                return self._take_loan(key, reply, descriptors)
            except BaseException:
                _close_all(descriptors)
                raise

    def _take_loan(self, key: ObjectKey, reply: ServerMessage, descriptors: list[int]) -> Loan:
        if isinstance(reply, Absent):
            raise UnknownTransfer(f"{key} is not in store {self.address}: {reply.reason}")
        if not isinstance(reply, Found) or not descriptors:
            raise RemoteProtocolError(f"store {self.address} answered without a descriptor")
        file, *lenders = descriptors
        data = _map(reply, file)
        connection = self._line.lend(data, reply.lease, tuple(lenders))
        return Loan(reply, file, (*lenders, connection), data)

    # -- talking ---------------------------------------------------------------------------------

    def _greet(self, timeout: float) -> None:
        self._line.send(CLIENT_CODEC.encode(Hello(PROTOCOL_VERSION)))
        reply, descriptors = self._line.receive(time.monotonic() + timeout)
        _close_all(descriptors)
        if not isinstance(reply, Hello) or reply.version != PROTOCOL_VERSION:
            raise AuthenticationFailed(
                f"store {self.address} does not speak version {PROTOCOL_VERSION} of the sharing protocol"
            )

    def _next(self) -> int:
        self._requests += 1
        return self._requests

    def _ask(self, question: Lookup | Names, deadline_s: float) -> tuple[ServerMessage, list[int]]:
        """Send a question and give its answer; the caller holds the lock."""
        if self._closed:
            raise LocalProtocolError(f"the attachment to store {self.address} is closed")
        self._line.send(CLIENT_CODEC.encode(question))
        while True:
            reply, descriptors = self._line.receive(deadline_s)
            if isinstance(reply, Found | Absent | Listing) and reply.request == question.request:
                return reply, descriptors
            # An answer to a question given up earlier: nobody will use what it grants.
            _close_all(descriptors)
            if isinstance(reply, Found):
                self._line.drop(reply.lease)


class _Line:
    """The socket of an attachment, and the views that hang on it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._process = os.getpid()
        self._lent: set[int] = set()
        self._closing = False

    def send(self, message: bytes) -> None:
        if os.getpid() != self._process:
            raise LocalProtocolError("an attachment cannot be used after a fork: attach again")
        try:
            self._socket.sendall(message)
        except TimeoutError as late:
            raise WaitTimeout("the store did not take a question") from late
        except OSError as broken:
            raise ConnectFailed(f"the store is gone: {broken.strerror}") from broken

    def receive(self, deadline_s: float) -> tuple[ServerMessage, list[int]]:
        """The next message and the descriptors that came with it; they are the caller's to close."""
        self._socket.settimeout(max(deadline_s - time.monotonic(), 1e-3))
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self._socket, MAX_MESSAGE_BYTES + 1, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except TimeoutError as late:
            raise WaitTimeout("the store did not answer in time") from late
        except OSError as broken:
            raise ConnectFailed(f"the store is gone: {broken.strerror}") from broken
        try:
            if not data:
                raise ConnectFailed("the store closed the connection")
            check_length(data)
            if flags & socket.MSG_CTRUNC:
                raise RemoteProtocolError("the store's descriptors could not be taken (too many files open?)")
            return SERVER_CODEC.decode(data), descriptors
        except BaseException:
            _close_all(descriptors)
            raise

    def lend(self, data: Bytes, lease: int, lenders: tuple[int, ...]) -> int:
        """Keep a lease, and the connections to earlier lenders, until an array dies.

        Returns:
            The connection that the lease hangs on.
        """
        self._lent.add(lease)
        # Not at exit: the process's end closes the socket, and that ends the leases.
        weakref.finalize(data, self._returned, lease, lenders).atexit = False
        return self._socket.fileno()

    def close_when_unused(self) -> None:
        self._closing = True
        if not self._lent:
            self._socket.close()

    def drop(self, lease: int) -> None:
        """Give a lease back. May run at any point of any thread (a finalizer): one system call, no lock."""
        if os.getpid() != self._process:
            return
        # Written past the socket object, which would wait for room: a socket with a timeout never blocks
        # below. Where there is no room or no store any more, the lease ends with the connection.
        with contextlib.suppress(OSError):
            os.write(self._socket.fileno(), CLIENT_CODEC.encode(Drop(lease)))

    def _returned(self, lease: int, lenders: tuple[int, ...]) -> None:
        self.drop(lease)
        _close_all(lenders)
        self._lent.discard(lease)
        if self._closing and not self._lent:
            self._socket.close()


def attach(address: str, *, timeout: float = HANDSHAKE_TIMEOUT_S, allow_pickle: bool = False) -> Attachment:
    """Connect to a store of this host.

    Args:
        address: as the node's ``store`` says it.
        timeout: seconds to wait for the store.
        allow_pickle: whether ``.object()`` of the views may unpickle; only if every sender is trusted.

    Raises:
        ValueError: when ``address`` is not that of a store.
        ConnectFailed: when nobody is there; from another host nobody ever is.
        AuthenticationFailed: when the store is another user's, or of another version.
        WaitTimeout: when it does not answer.
    """
    return Attachment(address, timeout, allow_pickle)


def _connect(address: str, timeout: float) -> socket.socket:
    name = socket_name(address)
    if not CAN_SHARE:
        raise ConnectFailed("this system cannot share stores between processes")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.settimeout(max(timeout, 1e-3))
        sock.connect(name)
        # Anyone may bind a name that has become free: make sure that this is our own user's.
        if not is_same_user(read_peer_uid(sock)):
            raise AuthenticationFailed(f"store {address} belongs to another user")
    except TimeoutError as late:
        sock.close()
        raise WaitTimeout(f"store {address} did not answer within {timeout} s") from late
    except OSError as refused:
        sock.close()
        raise ConnectFailed(f"no store {address} on this host: {refused.strerror}") from refused
    except BaseException:
        sock.close()
        raise
    return sock


def _map(found: Found, descriptor: int) -> Bytes:
    """Map an object for reading, after a look at whether the file can bear it.

    Raises:
        RemoteProtocolError: when place and file do not fit, or the file could shrink under the mapping.
    """
    if found.size_bytes < 0 or found.offset_bytes < 0 or found.offset_bytes % PAGE_BYTES:
        raise RemoteProtocolError(f"no object can lie at byte {found.offset_bytes}, {found.size_bytes} long")
    if found.size_bytes == 0:
        return np.empty(0, np.uint8)
    if found.offset_bytes + found.size_bytes > os.fstat(descriptor).st_size:
        raise RemoteProtocolError("the object ends beyond the end of the store")
    try:
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        mapping = mmap.mmap(descriptor, found.size_bytes, prot=mmap.PROT_READ, offset=found.offset_bytes)
    except OSError as refused:
        raise RemoteProtocolError(f"the store's memory cannot be mapped: {refused.strerror}") from refused
    if not sealed:
        raise RemoteProtocolError("the store's memory is not sealed against shrinking")
    return np.frombuffer(mapping, np.uint8, count=found.size_bytes)


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
