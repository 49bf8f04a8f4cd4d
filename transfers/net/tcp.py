"""The network of `transfers.net.network`, on TCP.

A stream uses its socket directly: it waits only where the socket is not ready, and the reader of a block
sleeps until a large part of it is there. Through trio's own sockets every call is a pass of the scheduler,
which for a megabyte costs as much as the checksum.

Pacing is the kernel's (``SO_MAX_PACING_RATE``): with bbr or cubic it needs no queueing discipline. Python
3.11's socket module has no name for the option, so its number stands here.
"""

import array
import contextlib
import errno
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Callable
from typing import Any

import trio

from transfers.errors import ConnectFailed, StreamBroken
from transfers.net.address import format_address, parse_address
from transfers.net.network import LEAST_PACING_BYTES_PER_S

_SO_MAX_PACING_RATE = 47
"""Linux, include/uapi/asm-generic/socket.h."""
_UNLIMITED_PACING = 0xFFFFFFFF
"""The kernel's ~0U: no limit. 0 would be taken for the same by some kernels, so it is never set."""
_TCP_NOTSENT_LOWAT = 25
"""Linux, include/uapi/linux/tcp.h. 0 is what the host has set, usually no limit."""
_BUSY_TIME_AT = 168
"""Of ``tcpi_busy_time``, 8 bytes of microseconds, in ``struct tcp_info`` (include/uapi/linux/tcp.h; 4.10)."""
_CONTROL_PRIORITY = 6
"""Highest ``SO_PRIORITY`` that needs no privilege (socket(7)): control goes ahead of bulk data."""
_MOST_WAIT_S = 0.25
"""How long a reader waits for as much as it would like; then it takes what is there (a guess: far below every
limit on standing still)."""
_MOST_AT_ONCE = 4
"""Calls in a row that go on without a pass of the scheduler because the socket is ready (a guess: each moves
some megabytes at most, which takes a millisecond or two)."""
_BACKLOG = 1024
"""Connections waiting to be accepted; a thousand agents may join at once."""


def local_host_towards(address: str) -> str:
    """The address by which this host would reach ``HOST:PORT``; sends nothing.

    Of several addresses that the host has, the first to which there is a way counts.

    Raises:
        ConnectFailed: when the host is unknown or there is no way to it.
    """
    host, port = parse_address(address)
    reasons: list[str] = []
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as failed:
        raise ConnectFailed(f"no way to {address}: {_why(failed)}") from failed
    for family, kind, proto, _, where in places:
        try:
            with socket.socket(family, kind, proto) as sock:
                sock.connect(where)
                return str(sock.getsockname()[0])
        except OSError as failed:
            reasons.append(_why(failed))
    raise ConnectFailed(f"no way to {address}: {_all(reasons)}")


class TcpStream:
    """One TCP connection; see `transfers.net.network.Stream`.

    Args:
        sock: connected; it is this object's from now on, and made non-blocking.
        peer: the other end's address.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._pacing: int = _UNLIMITED_PACING
        self._unsent_limit = 0
        self._wake_at_bytes = 1
        self._at_once = 0
        self._readable = array.array("i", [0])
        self.peer = peer

    async def send_all(
        self,
        data: bytes | memoryview,
        progress: Callable[[int], None] | None = None,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        """Send everything; `StreamBroken` when the other end is gone."""
        buffers = [memoryview(head), memoryview(data), memoryview(tail)]
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            while any(buffers):
                try:
                    sent = self._sock.sendmsg(buffers)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
                    self._at_once = 0
                    continue
                for at, buffer in enumerate(buffers):
                    gone = min(sent, len(buffer))
                    buffers[at], sent = buffer[gone:], sent - gone
                    if at == 1 and gone and progress is not None:
                        progress(gone)
                await self._let_others()
        except (OSError, trio.ClosedResourceError) as broken:
            raise self._broken(broken) from broken

    async def receive_some_into(self, buffer: memoryview, wanted_bytes: int = 1) -> int:
        """Receive at least one byte, better ``wanted_bytes``; 0 at the end of the stream."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            if wanted_bytes > 1 and self._readable_bytes() < wanted_bytes:
                with trio.move_on_after(_MOST_WAIT_S):
                    await self._wait_for(wanted_bytes)
            while True:
                try:
                    got = self._sock.recv_into(buffer)
                    break
                except BlockingIOError:
                    await self._wait_for(1)
        except (OSError, trio.ClosedResourceError) as broken:
            raise self._broken(broken) from broken
        await self._let_others()
        return got

    async def _let_others(self) -> None:
        """Let other tasks run after some calls that did not have to wait."""
        self._at_once += 1
        if self._at_once > _MOST_AT_ONCE:
            self._at_once = 0
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_for(self, count_bytes: int) -> None:
        """Wait until so much is there to be read, or nothing more will come.

        Above what is still to come the mark would hang the connection, so it is set anew before every wait.
        """
        if count_bytes != self._wake_at_bytes:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count_bytes)
            self._wake_at_bytes = count_bytes
        self._at_once = 0
        await trio.lowlevel.wait_readable(self._sock)

    def _readable_bytes(self) -> int:
        """What is there to be read now."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError
        fcntl.ioctl(self._sock, termios.FIONREAD, self._readable)
        return self._readable[0]

    def _broken(self, broken: BaseException) -> StreamBroken:
        why = "closed on this side" if self._sock.fileno() < 0 else _why(broken)
        return StreamBroken(f"connection to {self.peer}: {why}")

    def busy_s(self) -> float | None:
        """For how many seconds, in all, bytes were sent and not acknowledged; None where that is not told."""
        if sys.platform != "linux" or self._sock.fileno() < 0:
            return None
        told = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BUSY_TIME_AT + 8)
        if len(told) < _BUSY_TIME_AT + 8:
            return None
        return int.from_bytes(told[_BUSY_TIME_AT:], sys.byteorder) / 1e6

    def set_pacing_rate(self, rate_bytes_per_s: float | None) -> None:
        """Set the kernel's pacing rate of this socket, if it differs from the one set last."""
        if sys.platform != "linux" or self._sock.fileno() < 0:
            return
        rate = _UNLIMITED_PACING
        if rate_bytes_per_s is not None:
            rate = int(max(LEAST_PACING_BYTES_PER_S, min(rate_bytes_per_s, _UNLIMITED_PACING - 1)))
        if rate != self._pacing:
            # As bytes: the option is unsigned, and Python's integers go through a signed C int.
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate.to_bytes(4, sys.byteorder))
            self._pacing = rate

    def set_unsent_limit(self, count_bytes: int | None) -> None:
        """Set how much the kernel takes beyond what it can send, if it differs from what was set last."""
        limit = 0 if count_bytes is None else max(1, count_bytes)
        if sys.platform == "linux" and self._sock.fileno() >= 0 and limit != self._unsent_limit:
            self._sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, limit)
            self._unsent_limit = limit

    def prefer_low_delay(self) -> None:
        """Mark the socket's packets as urgent. (Whoever sets ``IP_TOS``, too, does so before: it sets
        this.)"""
        if sys.platform == "linux":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _CONTROL_PRIORITY)

    async def aclose(self) -> None:
        """Close the socket."""
        self.abort()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close the socket without a checkpoint; whoever waits on it is woken with `StreamBroken`.

        The connection ends even where a forked child still holds a copy of the descriptor.
        """
        if self._sock.fileno() < 0:
            return
        with contextlib.suppress(OSError):  # it may have ended already
            self._sock.shutdown(socket.SHUT_RDWR)
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


class TcpListener:
    """A listening TCP socket; see `transfers.net.network.Listener`."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        host, port = sock.getsockname()[:2]
        self.address = format_address(host, port)

    async def accept(self) -> TcpStream:
        """Wait for the next connection; a shortage of descriptors is waited out."""
        while True:
            try:
                sock, peer = await self._sock.accept()
                return TcpStream(_plain(sock), format_address(*peer[:2]))
            except trio.ClosedResourceError as closed:
                raise StreamBroken(f"listening on {self.address}: {_why(closed)}") from closed
            except OSError as failed:
                if failed.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    await trio.sleep(_ACCEPT_RETRY_S)
                elif failed.errno != errno.ECONNABORTED:
                    raise StreamBroken(f"listening on {self.address}: {_why(failed)}") from failed

    async def aclose(self) -> None:
        """Stop listening."""
        self._sock.close()
        await trio.lowlevel.checkpoint()


_ACCEPT_RETRY_S = 0.1
"""Pause before accepting again when descriptors have run out (the value trio's own server uses)."""


class TcpNetwork:
    """The host's TCP stack; see `transfers.net.network.Network`."""

    async def paces(self) -> bool:
        """Whether the kernel does; tried once in a process."""
        from transfers.net.pacing import kernel_paces  # which needs the streams above

        return await kernel_paces()

    async def connect(self, address: str, timeout_s: float) -> TcpStream:
        """Connect within ``timeout_s``, else `ConnectFailed`.

        The addresses that a host has are tried in turn; each may take its share of the time that is left, so
        that one which does not answer leaves some to the others.
        """
        deadline_s = trio.current_time() + timeout_s
        try:
            host, port = parse_address(address)
            with trio.fail_after(timeout_s):
                places = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except trio.TooSlowError:
            raise ConnectFailed(f"cannot connect to {address}: no answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as failed:  # ValueError: another node gave an address that is none
            raise ConnectFailed(f"cannot connect to {address}: {_why(failed)}") from failed
        reasons: list[str] = []
        for tried, (family, kind, proto, _, where) in enumerate(places):
            share_s = max(0.0, deadline_s - trio.current_time()) / (len(places) - tried)
            try:
                with trio.fail_after(share_s):
                    return await _connect_socket(family, kind, proto, where, address)
            except trio.TooSlowError:
                reasons.append(f"no answer within {share_s:.3g} s")
            except OSError as failed:
                reasons.append(_why(failed))
        raise ConnectFailed(f"cannot connect to {address}: {_all(reasons)}")

    async def listen(self, address: str) -> TcpListener:
        """Listen, or `ConnectFailed`."""
        host, port = parse_address(address)
        try:
            family, kind, proto, _, where = (
                await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            )[0]
            sock = trio.socket.socket(family, kind, proto)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                await sock.bind(where)
                sock.listen(_BACKLOG)
                return TcpListener(sock)
            except BaseException:
                sock.close()
                raise
        except OSError as failed:
            raise ConnectFailed(f"cannot listen on {address}: {_why(failed)}") from failed


async def _connect_socket(family: int, kind: int, proto: int, where: Any, address: str) -> TcpStream:
    sock = trio.socket.socket(family, kind, proto)
    try:
        await sock.connect(where)
        return TcpStream(_plain(sock), address)
    except BaseException:
        sock.close()
        raise


def _plain(sock: trio.socket.SocketType) -> socket.socket:
    """The socket without trio's wrapping, which costs a pass of its scheduler at every call."""
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())


def _all(reasons: list[str]) -> str:
    """Why each address of a host failed, each reason once."""
    return "; ".join(dict.fromkeys(reasons))


def _why(failed: BaseException) -> str:
    if isinstance(failed, trio.ClosedResourceError):
        return "closed on this side"
    if isinstance(failed, OSError) and failed.errno is not None and failed.errno > 0:
        return os.strerror(failed.errno).lower()  # trio puts the address into ``strerror``
    strerror = getattr(failed, "strerror", None)
    return (strerror or str(failed) or type(failed).__name__).lower()
