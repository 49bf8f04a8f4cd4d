"""Every error that Orchestra raises on purpose, rooted in `OrchestraError`.

Bad arguments are plain `ValueError`s that name argument and value. What the other side did wrong is
`RemoteProtocolError`; what we did wrong is `LocalProtocolError`. Errors about nodes name them.
"""

from collections.abc import Mapping


class OrchestraError(Exception):
    """The root of all errors raised by this library."""


class RemoteProtocolError(OrchestraError):
    """The other side sent something that the protocol does not allow."""


class LocalProtocolError(OrchestraError):
    """This side was used in a way that its state does not allow."""


class AuthenticationFailed(OrchestraError):
    """The two sides do not hold the same secret, or do not speak the same protocol version."""


class JoinRefused(OrchestraError):
    """The controller does not take this node in, for example because its name is taken."""


class TransferRefused(OrchestraError):
    """The controller does not accept a transfer: its name is in use, a receiver is unknown."""


class ControllerLost(OrchestraError):
    """The connection to the controller ended and was not regained within its limit."""


class ConnectFailed(OrchestraError):
    """No connection could be made to an address within its limit."""


class WaitTimeout(OrchestraError, TimeoutError):
    """A wait reached its limit; the message says what was waited for."""


class StoreFull(OrchestraError):
    """The host's store has no room for an object under its limit."""


class UnknownTransfer(OrchestraError):
    """No complete object of that name is where it was looked for."""


class NodeLost(OrchestraError):
    """A node went away.

    Attributes:
        node: its name.
        reason: what was seen of it last, for example ``"connection closed"``.
    """

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"node {node} lost: {reason}")
        self.node = node
        self.reason = reason


class TransferFailed(OrchestraError):
    """A transfer did not reach everyone it was for.

    Attributes:
        transfer: its name.
        failed: the nodes that do not hold the object, each with the reason.
        reason: why the transfer as a whole ended, empty where only some nodes failed.
    """

    def __init__(self, transfer: str, failed: Mapping[str, str], reason: str = "") -> None:
        parts = [reason] if reason else []
        parts += [f"{node}: {why}" for node, why in failed.items()]
        super().__init__(f"transfer {transfer!r} failed: " + "; ".join(parts or ["no reason given"]))
        self.transfer = transfer
        self.failed = dict(failed)
        self.reason = reason


class StreamBroken(OrchestraError):
    """A connection ended in the middle of something."""
