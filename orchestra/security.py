"""Shared secrets, and which addresses may be used without one."""

import ipaddress
from pathlib import Path

from transfers.net.address import parse_address

MIN_SECRET_BYTES = 16
"""128 bits, if drawn at random."""


def as_secret(token: str | bytes | None) -> bytes:
    """The secret's bytes; None is the empty secret of an open cluster.

    Raises:
        ValueError: for one that is given but empty.
    """
    if token is None:
        return b""
    secret = token.encode() if isinstance(token, str) else bytes(token)
    if not secret:
        raise ValueError("token must not be empty; None is an open cluster")
    return secret


def read_token_file(path: str | Path) -> bytes:
    """The secret in a file, without white space around it.

    Raises:
        OSError: when the file cannot be read.
        ValueError: when it holds fewer than `MIN_SECRET_BYTES`.
    """
    secret = Path(path).read_bytes().strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"token file {path} holds {len(secret)} bytes; {MIN_SECRET_BYTES} is the least")
    return secret


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT or HOST can be reached from this machine only. Names other than localhost are not."""
    host, _ = parse_address(address, default_port=0)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_open(address: str, secret: bytes, insecure: bool) -> None:
    """Refuse to leave loopback without a secret, unless that is wanted.

    Raises:
        ValueError: saying what to do.
    """
    if not is_loopback(address) and not secret and not insecure:
        raise ValueError(
            f"{address} can be reached by others: give a shared secret (--token-file), or say --insecure"
        )
