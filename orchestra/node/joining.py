"""Becoming a node: listening, opening the store, joining, and leaving again."""

import ipaddress
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from orchestra.groups import collapsed
from orchestra.names import node_name
from orchestra.node.link import ControllerLink
from orchestra.node.member import Member
from orchestra.node.node import Node
from orchestra.node.objects import NodeObjects
from orchestra.security import as_secret, check_open
from transfers.net.address import format_address, parse_address
from transfers.net.network import Listener, Network
from transfers.net.tcp import TcpNetwork, local_host_towards
from transfers.store import Store
from transfers.store.protocol import CAN_SHARE
from transfers.store.sharing import serve as serve_store
from transfers.store.spill import Spill

CONNECT_TIMEOUT_S = 30.0
"""How long `join` tries (contract: agents retry for 30 s)."""


@asynccontextmanager
async def join(
    address: str,
    *,
    name: str | None = None,
    token: str | bytes | None = None,
    insecure: bool = False,
    share: bool = True,
    listen: str | None = None,
    save: str | Path | None = None,
    receives: bool = True,
    reconnect: bool = True,
    store_limit: int | None = None,
    spill: str | Path | None = None,
    spill_limit: int | None = None,
    connect_timeout: float = CONNECT_TIMEOUT_S,
    network: Network | None = None,
    store: Store | None = None,
) -> AsyncIterator[Node]:
    """Join a cluster while the block runs.

    Args:
        address: the controller's, HOST:PORT.
        name: of this node, unique in the cluster; made from host and process if None.
        token: the cluster's shared secret, if it has one.
        insecure: go beyond loopback without a secret.
        share: whether nodes of this host map each other's store rather than send blocks.
        listen: HOST or HOST:PORT of this node's data port; by default a free port on the address by
            which the controller is reached.
        save: a folder to write every received broadcast into.
        receives: whether broadcasts to everyone are meant for this node too.
        reconnect: whether to come back when the controller's connection breaks.
        store_limit: bytes of memory that this node's objects may take; by default a share of all memory.
        spill: a folder for files with partitions of shuffles that have no room in memory; None for no files.
        spill_limit: bytes that these files may take in all; must be given with ``spill``, and only then.
        connect_timeout: seconds to try for.
        network: another carrier than TCP.
        store: memory to use, and to close in the end, instead of one made of the limits above.

    Raises:
        ConnectFailed: when the controller cannot be reached in time, or the data port cannot be had.
        AuthenticationFailed: for a wrong token or another protocol version.
        JoinRefused: when the name is taken.
        ValueError: for a bad argument, or to go beyond loopback without a secret.
    """
    parse_address(address)
    own_name = node_name(name if name is not None else _default_name())
    save_folder = None if save is None else Path(save)
    if save_folder is not None:
        save_folder.mkdir(parents=True, exist_ok=True)
    secret = as_secret(token)
    check_open(address, secret, insecure)
    where = _listen_address(address, listen)
    check_open(where, secret, insecure)
    carrier = TcpNetwork() if network is None else network
    member = Member(own_name, receives=receives, saves=save_folder is not None)
    if (spill is None) != (spill_limit is None):
        raise ValueError(
            f"spill_limit must be given with spill, and only then, got {spill_limit} and {spill!r}"
        )
    files = None if spill is None or spill_limit is None else Spill(spill, spill_limit)
    memory = Store(store_limit, spill=files) if store is None else store
    try:
        with collapsed():
            async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
                listener = await carrier.listen(where)
                stack.push_async_callback(_close, listener)
                stack.callback(nursery.cancel_scope.cancel)  # before the listener closes, however this ends
                store_address: str = await nursery.start(serve_store, memory) if share and CAN_SHARE else ""
                link = ControllerLink(carrier, address, secret, member, reconnect=reconnect)
                objects = NodeObjects(member.name, carrier, secret, memory, member, save_folder)
                member.attach_parts(link, objects, _advertised(listener.address, address), store_address)
                await nursery.start(objects.run, listener)
                member.paces = await carrier.paces()
                await nursery.start(member.run, connect_timeout)
                yield Node(member)
    finally:
        memory.close()


async def _close(listener: Listener) -> None:
    """Close it in any case: were that cancelled, an error of the user's block would be lost."""
    with trio.CancelScope(shield=True):
        await listener.aclose()


def _listen_address(controller: str, listen: str | None) -> str:
    """Where the data port listens: as asked, else on the address by which the controller is reached."""
    if listen is None:
        return format_address(local_host_towards(controller), 0)
    return format_address(*parse_address(listen, "listen", default_port=0))


def _advertised(bound: str, controller: str) -> str:
    """Where others reach the data port: its address, or ours where it listens on all of them."""
    host, port = parse_address(bound)
    everywhere = ipaddress.ip_address(host).is_unspecified
    return format_address(local_host_towards(controller), port) if everywhere else bound


def _default_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
