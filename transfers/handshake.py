"""Who is there: protocol version and proof of the shared secret, before anything else is said.

Pure state machines, one for each side; `transfers.net.connection` moves their messages. The secret
never travels. Each side draws a nonce and proves the secret by an HMAC-SHA256 over both nonces and
its own role, so that neither a recorded nor a reflected proof is worth anything:

    client                                   server
    Hello(version, nonce_c)       ──►
                                  ◄──        Challenge(version, nonce_s)  or  Refusal(reason)
    Proof(hmac("client", …))      ──►
                                  ◄──        Welcome(hmac("server", …))   or  Refusal(reason)

An empty secret goes through the same steps: a cluster without one still tells apart other versions
and strangers that speak something else.
"""

import hashlib
import hmac
from dataclasses import dataclass

from transfers.codec import Codec
from transfers.errors import AuthenticationFailed, RemoteProtocolError

PROTOCOL_VERSION = 1
NONCE_BYTES = 16
"""128 bits: no nonce repeats in the life of a cluster."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The client's opening."""

    version: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's answer to it."""

    version: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The client's proof that it holds the secret."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's proof that it holds the secret."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server ends the handshake and says why."""

    reason: str


HandshakeMessage = Hello | Challenge | Proof | Welcome | Refusal
CODEC: Codec[HandshakeMessage] = Codec([Hello, Challenge, Proof, Welcome, Refusal])


def _digest(secret: bytes, role: bytes, client_nonce: bytes, server_nonce: bytes) -> bytes:
    return hmac.digest(secret, b"orchestra\0" + role + b"\0" + client_nonce + server_nonce, hashlib.sha256)


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise RemoteProtocolError(f"nonce has {len(nonce)} bytes, not {NONCE_BYTES}")


class ClientHandshake:
    """The side that connects.

    Args:
        secret: the shared secret, empty for none.
        nonce: `NONCE_BYTES` fresh random bytes.
    """

    def __init__(self, secret: bytes, nonce: bytes) -> None:
        self._secret = secret
        self._nonce = nonce
        self._server_nonce = b""
        self.done = False

    def open(self) -> Hello:
        """The first message."""
        return Hello(PROTOCOL_VERSION, self._nonce)

    def receive(self, message: HandshakeMessage) -> HandshakeMessage | None:
        """Take the server's message; give the answer, or None where the handshake is over.

        Raises:
            AuthenticationFailed: refused, or the server does not hold the secret.
            RemoteProtocolError: a message out of turn.
        """
        match message:
            case Refusal(reason=reason):
                raise AuthenticationFailed(reason)
            case Challenge(version=version, nonce=nonce) if not self._server_nonce:
                if version != PROTOCOL_VERSION:
                    raise AuthenticationFailed(_other_version(version))
                _check_nonce(nonce)
                self._server_nonce = nonce
                return Proof(_digest(self._secret, b"client", self._nonce, nonce))
            case Welcome(digest=digest) if self._server_nonce and not self.done:
                wanted = _digest(self._secret, b"server", self._nonce, self._server_nonce)
                if not hmac.compare_digest(digest, wanted):
                    raise AuthenticationFailed("the server does not hold the shared secret")
                self.done = True
                return None
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} out of turn in the handshake")


class ServerHandshake:
    """The side that listens; arguments as for `ClientHandshake`.

    After `receive` has returned a `Refusal`, send it and close.
    """

    def __init__(self, secret: bytes, nonce: bytes) -> None:
        self._secret = secret
        self._nonce = nonce
        self._client_nonce = b""
        self._refused = False
        self.done = False

    def receive(self, message: HandshakeMessage) -> HandshakeMessage:
        """Take the client's message and give the answer.

        Raises:
            RemoteProtocolError: a message out of turn.
        """
        match message:
            case Hello(version=version, nonce=nonce) if not self._client_nonce:
                if version != PROTOCOL_VERSION:
                    return Refusal(_other_version(version))
                _check_nonce(nonce)
                self._client_nonce = nonce
                return Challenge(PROTOCOL_VERSION, self._nonce)
            case Proof(digest=digest) if self._client_nonce and not (self.done or self._refused):
                wanted = _digest(self._secret, b"client", self._client_nonce, self._nonce)
                if not hmac.compare_digest(digest, wanted):
                    self._refused = True
                    return Refusal("the shared secrets differ")
                self.done = True
                return Welcome(_digest(self._secret, b"server", self._client_nonce, self._nonce))
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} out of turn in the handshake")


def _other_version(version: int) -> str:
    return f"the other side speaks protocol version {version}, this one {PROTOCOL_VERSION}"
