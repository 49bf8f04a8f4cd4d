"""Authenticated data connections, kept between transfers so that small ones pay no set-up."""

from collections import deque

import trio

from transfers.errors import AuthenticationFailed, ConnectFailed, RemoteProtocolError, StreamBroken
from transfers.net.connection import Connection, open_connection
from transfers.net.network import Network

CONNECT_TIMEOUT_S = 5.0
"""A guess: two lost SYNs (1 s and 2 s) and some slack."""
MAX_IDLE_CONNECTIONS = 256
"""Over all addresses; the oldest goes first (a guess, far below the usual limit of descriptors)."""
MAX_IDLE_S = 30.0
"""Older ones are closed when met (a guess)."""

LINK_ERRORS = (ConnectFailed, StreamBroken, AuthenticationFailed, RemoteProtocolError)
"""How a conversation with another node may fail, from connecting on."""


class ConnectionPool:
    """Idle connections by address.

    Args:
        network: how to reach others.
        secret: the cluster's shared secret.
    """

    def __init__(self, network: Network, secret: bytes) -> None:
        self._network = network
        self._secret = secret
        self._idle: deque[tuple[str, Connection, float]] = deque()

    def take_idle(self, address: str) -> Connection | None:
        """The connection to ``address`` that was used last, if one is idle. It may have died meanwhile."""
        self._drop_old()
        for at in range(len(self._idle) - 1, -1, -1):
            if self._idle[at][0] == address:
                connection = self._idle[at][1]
                del self._idle[at]
                return connection
        return None

    async def connect(self, address: str) -> Connection:
        """A new connection.

        Raises:
            ConnectFailed, StreamBroken, AuthenticationFailed, RemoteProtocolError: naming the address.
        """
        stream = await self._network.connect(address, CONNECT_TIMEOUT_S)
        return await open_connection(stream, self._secret)

    def give_back(self, address: str, connection: Connection) -> None:
        """Keep a connection on which nothing is open any more."""
        self._idle.append((address, connection, trio.current_time()))
        while len(self._idle) > MAX_IDLE_CONNECTIONS:
            self._idle.popleft()[1].stream.abort()

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.popleft()[1].stream.abort()

    def _drop_old(self) -> None:
        before = trio.current_time() - MAX_IDLE_S
        while self._idle and self._idle[0][2] < before:
            self._idle.popleft()[1].stream.abort()
