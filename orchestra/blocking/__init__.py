"""The API of `orchestra` without await: same names, same arguments.

    with orchestra.blocking.local_cluster(nodes=2) as cluster:
        cluster.node.broadcast(array, name="prototypes/7").wait()

For programs that are not async, and for those that run another event loop than trio's. Everything runs in
one thread of its own, which is started when it is first needed; any number of threads may call at the
same time, each waiting for its own call, and Ctrl-C ends the call that the main thread waits in.

A process that was forked has nothing open: what it inherited refuses with `LocalProtocolError`, and it can
join by itself. Contexts that are open when the interpreter ends are left in order, within 10 seconds.
How, and why it cannot hang: `orchestra.blocking.portal`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import orchestra.cluster
import orchestra.controller.serving
import orchestra.node.joining
from orchestra.blocking.context import Context
from orchestra.blocking.handles import Controller, LocalCluster, Node, Shuffle, Transfer, WatchedTransfer
from orchestra.blocking.portal import root
from orchestra.controller.serving import DEFAULT_HEARTBEAT_TIMEOUT_S
from orchestra.node.handles import TransferProgress
from orchestra.node.joining import CONNECT_TIMEOUT_S
from orchestra.node.shuffle import LostPlace
from orchestra.racks_file import GivenRacks
from transfers.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ControllerLost,
    JoinRefused,
    LocalProtocolError,
    NodeLost,
    OrchestraError,
    RemoteProtocolError,
    StoreFull,
    StreamBroken,
    TransferFailed,
    TransferRefused,
    UnknownTransfer,
    WaitTimeout,
)
from transfers.net.network import Network
from transfers.store import Store
from transfers.store.attach import Attachment, attach
from transfers.store.view import ObjectView

__all__ = [
    "Attachment",
    "AuthenticationFailed",
    "ConnectFailed",
    "Controller",
    "ControllerLost",
    "JoinRefused",
    "LocalCluster",
    "LocalProtocolError",
    "LostPlace",
    "Node",
    "NodeLost",
    "ObjectView",
    "OrchestraError",
    "RemoteProtocolError",
    "Shuffle",
    "StoreFull",
    "StreamBroken",
    "Transfer",
    "TransferFailed",
    "TransferProgress",
    "TransferRefused",
    "UnknownTransfer",
    "WaitTimeout",
    "WatchedTransfer",
    "attach",
    "join",
    "local_cluster",
    "serve_controller",
]


def local_cluster(
    nodes: int = 4,
    *,
    share: bool = True,
    port_rate: float | None = None,
    policy: str = "fair",
    allow_pickle: bool = False,
    store_limit: int | None = None,
) -> AbstractContextManager[LocalCluster]:
    """Run a cluster of agent processes on loopback while the block runs; as `orchestra.local_cluster`.

    Raises:
        ValueError: for a negative number of nodes.
        JoinRefused: when an agent does not come up.
    """
    return Context(
        root,
        "the local cluster",
        lambda: orchestra.cluster.local_cluster(
            nodes,
            share=share,
            port_rate=port_rate,
            policy=policy,
            allow_pickle=allow_pickle,
            store_limit=store_limit,
        ),
        LocalCluster,
    )


def serve_controller(
    address: str = "127.0.0.1:0",
    *,
    token: str | bytes | None = None,
    insecure: bool = False,
    policy: str = "fair",
    enforcement: str = "auto",
    topology: str | Mapping[str, Sequence[str]] | GivenRacks = "flat",
    port_rate: float | None = None,
    heartbeat_timeout: float = DEFAULT_HEARTBEAT_TIMEOUT_S,
    allow_pickle: bool = False,
    seed: int | None = None,
    network: Network | None = None,
) -> AbstractContextManager[Controller]:
    """Run a controller while the block runs; as `orchestra.serve_controller`.

    Raises:
        ValueError: for a bad argument, or an open cluster beyond loopback.
        ConnectFailed: when the address cannot be had.
    """
    return Context(
        root,
        f"the controller at {address}",
        lambda: orchestra.controller.serving.serve_controller(
            address,
            token=token,
            insecure=insecure,
            policy=policy,
            enforcement=enforcement,
            topology=topology,
            port_rate=port_rate,
            heartbeat_timeout=heartbeat_timeout,
            allow_pickle=allow_pickle,
            seed=seed,
            network=network,
        ),
        Controller,
    )


def join(
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
) -> AbstractContextManager[Node]:
    """Join a cluster while the block runs; as `orchestra.join`.

    Raises:
        ConnectFailed: when the controller cannot be reached in time, or the data port cannot be had.
        AuthenticationFailed: for a wrong token or another protocol version.
        JoinRefused: when the name is taken.
        ValueError: for a bad argument, or to go beyond loopback without a secret.
    """
    return Context(
        root,
        "the node" if name is None else f"node {name}",
        lambda: orchestra.node.joining.join(
            address,
            name=name,
            token=token,
            insecure=insecure,
            share=share,
            listen=listen,
            save=save,
            receives=receives,
            reconnect=reconnect,
            store_limit=store_limit,
            spill=spill,
            spill_limit=spill_limit,
            connect_timeout=connect_timeout,
            network=network,
            store=store,
        ),
        Node,
    )
