"""`serve_controller`: a controller inside your own program."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from orchestra.controller.core import ControllerConfig
from orchestra.controller.itc import Enforcement
from orchestra.controller.server import serve
from orchestra.racks_file import GivenRacks, given_racks
from orchestra.security import as_secret, check_open
from transfers.net.network import Network
from transfers.net.tcp import TcpNetwork

DEFAULT_HEARTBEAT_TIMEOUT_S = 15.0
"""Silence after which a node is lost (contract)."""


class Controller:
    """A running controller.

    Attributes:
        address: HOST:PORT on which it listens.
    """

    def __init__(self, address: str) -> None:
        self.address = address


@asynccontextmanager
async def serve_controller(
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
) -> AsyncIterator[Controller]:
    """Run a controller while the block runs.

    Args:
        address: HOST:PORT to listen on; port 0 takes a free one.
        token: shared secret that nodes must prove; None is an open cluster, on loopback only.
        insecure: let an open cluster listen elsewhere too.
        policy: by which transfers share ports: ``fair``, ``weighted``, ``fifo``, ``fifo+``, ``priority``,
            ``sebf``, ``bssi`` or ``dclas``.
        enforcement: how flows of shuffles are kept to their rates: ``"pacing"`` by the kernel,
            ``"connections"`` in proportion, or ``"auto"``, by pacing where all senders can.
        topology: ``"flat"``, every node is equally near; ``"inferred"``, racks are found out from block
            times; or names of nodes by rack, racks that have a link between them side by side.
        port_rate: cap on each node's two directions, bytes/s; None is none.
        heartbeat_timeout: seconds of silence after which a node is lost.
        allow_pickle: whether nodes may unpickle what they receive; only if all of them are trusted.
        seed: of the controller's random choices; None draws one.
        network: another carrier than TCP.

    Raises:
        ValueError: for a bad argument, or an open cluster beyond loopback.
        ConnectFailed: when the address cannot be had.
    """
    secret = as_secret(token)
    check_open(address, secret, insecure)
    means = [each.value for each in Enforcement]
    if enforcement not in means:
        raise ValueError(f"enforcement must be one of {', '.join(means)}, got {enforcement!r}")
    config = ControllerConfig(
        enforcement=Enforcement(enforcement),
        topology=given_racks(topology) if isinstance(topology, Mapping) else topology,
        policy=policy,
        port_rate_bytes_per_s=port_rate,
        heartbeat_timeout_s=heartbeat_timeout,
        allow_pickle=allow_pickle,
    )
    carrier = TcpNetwork() if network is None else network
    async with serve(carrier, address, secret, config, Random(seed)) as server:
        yield Controller(server.address)
