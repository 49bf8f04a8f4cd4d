"""Orchestra: broadcasts and shuffles between the machines of a cluster, under one controller.

The API is async (trio); `orchestra.blocking` has the same names without await. Names are imported when
they are first used, so that ``orchestra.attach`` costs a reader neither trio nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.cluster import LocalCluster, local_cluster
    from orchestra.controller.serving import Controller, serve_controller
    from orchestra.node.handles import Transfer, TransferProgress
    from orchestra.node.joining import join
    from orchestra.node.node import Node
    from orchestra.node.shuffle import LostPlace, Shuffle
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
    from transfers.store.attach import Attachment, attach
    from transfers.store.view import ObjectView

_HOMES = {
    "LocalCluster": "orchestra.cluster",
    "local_cluster": "orchestra.cluster",
    "Controller": "orchestra.controller.serving",
    "serve_controller": "orchestra.controller.serving",
    "Transfer": "orchestra.node.handles",
    "TransferProgress": "orchestra.node.handles",
    "join": "orchestra.node.joining",
    "Node": "orchestra.node.node",
    "LostPlace": "orchestra.node.shuffle",
    "Shuffle": "orchestra.node.shuffle",
    "Attachment": "transfers.store.attach",
    "attach": "transfers.store.attach",
    "ObjectView": "transfers.store.view",
}
_ERRORS = [
    *("AuthenticationFailed", "ConnectFailed", "ControllerLost", "JoinRefused", "LocalProtocolError"),
    *("NodeLost", "OrchestraError", "RemoteProtocolError", "StoreFull", "StreamBroken"),
    *("TransferFailed", "TransferRefused", "UnknownTransfer", "WaitTimeout"),
]

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
    "attach",
    "join",
    "local_cluster",
    "serve_controller",
]


def __getattr__(name: str) -> object:
    if name == "blocking":
        return import_module("orchestra.blocking")
    home = "transfers.errors" if name in _ERRORS else _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'orchestra' has no attribute {name!r}")
    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found
