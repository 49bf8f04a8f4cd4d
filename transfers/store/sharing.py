"""Serving a store to other processes of this host, in the node's trio loop.

Owns the socket, its connections and their limits. Must not know what is asked (`transfers.store.session`).

Theory of operation. Only processes of the same user are let in (``SO_PEERCRED``), at most
`MAX_CONNECTIONS` at a time, each with `HANDSHAKE_TIMEOUT_S` to greet. After that a connection may
be silent for as long as it likes: being open is what it is for, since its leases last as long as it
does. When serving is cancelled, leases do not end: clients may be looking still, and the memory is
never used again.
"""

import array
import logging
import socket
from typing import NoReturn

import trio

from transfers.errors import LocalProtocolError, OrchestraError, RemoteProtocolError
from transfers.manifest import Manifest
from transfers.store.protocol import (
    CAN_SHARE,
    HANDSHAKE_TIMEOUT_S,
    MAX_CONNECTIONS,
    MAX_MESSAGE_BYTES,
    PEER_CREDENTIALS_BYTES,
    REPLY_TIMEOUT_S,
    is_same_user,
    new_address,
    peer_uid,
    socket_name,
)
from transfers.store.session import Reply, Session
from transfers.store.store import Store
from transfers.store.stored import StoredObject

log = logging.getLogger(__name__)

BACKLOG = 64
"""Connections waiting to be accepted (a guess; accepting takes microseconds)."""

ACCEPT_PAUSE_S = 0.1
"""Pause after an accept that failed, for want of descriptors for example (a guess)."""


async def serve(store: Store, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> NoReturn:
    """Let other processes map what is in a store, until cancelled.

    ``store.address`` says where while this runs; it is also what ``task_status`` is started with.

    Raises:
        LocalProtocolError: when the store is served already, or the system cannot share
            (`transfers.store.protocol.CAN_SHARE`).
    """
    if not CAN_SHARE:
        raise LocalProtocolError("this system cannot share stores between processes")
    if store.address:
        raise LocalProtocolError(f"the store is served already, at {store.address}")
    address = new_address()
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        await listener.bind(socket_name(address))
        listener.listen(BACKLOG)
        store.address = address
        task_status.started(address)
        try:
            async with trio.open_nursery() as nursery:
                await _accept_all(listener, store, nursery)
        finally:
            store.address = ""
    raise AssertionError("accepting ends by cancellation only")


async def adopt(store: Store, manifest: Manifest, store_address: str) -> StoredObject:
    """`transfers.store.store.Store.adopt`, with the waiting done in a worker thread. Raises as that does."""
    # Not abandoned when cancelled (trio's default): a loan that nobody takes would stay for good.
    return store.take_loan(
        manifest, await trio.to_thread.run_sync(store.borrow, manifest, store_address), store_address
    )


async def _accept_all(listener: trio.socket.SocketType, store: Store, nursery: trio.Nursery) -> NoReturn:
    while True:
        try:
            sock, _ = await listener.accept()
        except OSError as failed:
            log.warning("store: cannot accept a process: %s", failed.strerror)
            await trio.sleep(ACCEPT_PAUSE_S)
            continue
        reason = _reason_to_refuse(sock, len(nursery.child_tasks))
        if reason:
            log.warning("store: dropped a process: %s", reason)
            sock.close()
        else:
            nursery.start_soon(_attend, sock, store)


def _reason_to_refuse(sock: trio.socket.SocketType, connections: int) -> str:
    """Why a process that has just connected may not stay; empty if it may."""
    uid = peer_uid(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS_BYTES))
    if not is_same_user(uid):
        return f"it belongs to user {uid}"
    if connections >= MAX_CONNECTIONS:
        return f"{MAX_CONNECTIONS} are attached already"
    return ""


async def _attend(sock: trio.socket.SocketType, store: Store) -> None:
    """One connection from first to last message."""
    session = Session(store)
    with sock:
        try:
            await _converse(sock, session)
        except OrchestraError as wrong:
            log.warning("store: dropped a process: %s", wrong)
        except OSError as broken:
            log.info("store: a process went away: %s", broken.strerror)
    # Not in a `finally`: see the theory of operation.
    session.end()


async def _converse(sock: trio.socket.SocketType, session: Session) -> None:
    while True:
        with trio.move_on_after(float("inf") if session.greeted else HANDSHAKE_TIMEOUT_S) as scope:
            data = await sock.recv(MAX_MESSAGE_BYTES + 1)
        if scope.cancelled_caught:
            raise RemoteProtocolError(f"no greeting within {HANDSHAKE_TIMEOUT_S} s")
        if not data:
            return
        reply = session.handle(data)
        if reply is None:
            continue
        with trio.move_on_after(REPLY_TIMEOUT_S) as scope:
            await _send(sock, reply)
        if scope.cancelled_caught:
            raise RemoteProtocolError(f"did not take an answer within {REPLY_TIMEOUT_S} s")
        if reply.last:
            return


async def _send(sock: trio.socket.SocketType, reply: Reply) -> None:
    """Send a message whole; this kind of socket knows no other way."""
    rights = array.array("i", reply.descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
    await sock.sendmsg([reply.data], ancillary)
