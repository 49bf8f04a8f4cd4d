"""Addresses of TCP ports as people write them, and back. Pure."""

import re
from ipaddress import AddressValueError, IPv6Address

MAX_PORT = 2**16 - 1
"""Largest port of TCP."""

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})")
_PORT = re.compile(r"[0-9]{1,5}")


def parse_address(text: str, argument: str = "address", default_port: int | None = None) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; an IPv6 host stands in brackets, as in ``[::1]:7000``.

    Args:
        text: the address. Port 0 is taken: a listener asks for any free port with it.
        argument: what the user calls this value; errors name it.
        default_port: the port where ``text`` is a host alone; without it the port must be there.

    Raises:
        ValueError: when host or port is missing or no such thing.
    """
    text = text.strip()
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        host = _ipv6_host(inside, text, argument) if bracket else ""
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
        if ":" in port:
            raise ValueError(f"{argument} must have an IPv6 host in brackets, as [::1]:7000, got {text!r}")
        if not _HOST.fullmatch(host):
            host = ""
    if not host or (rest and not rest.startswith(":")):
        raise ValueError(f"{argument} must be HOST:PORT, got {text!r}")
    if not rest:
        if default_port is None:
            raise ValueError(f"{argument} must be HOST:PORT, got {text!r} without a port")
        return host, default_port
    if not _PORT.fullmatch(rest[1:]) or int(rest[1:]) > MAX_PORT:
        raise ValueError(f"{argument} must have a port from 0 to {MAX_PORT}, got {text!r}")
    return host, int(rest[1:])


def _ipv6_host(host: str, text: str, argument: str) -> str:
    try:
        IPv6Address(host)
    except AddressValueError as error:
        raise ValueError(f"{argument} must have an IPv6 address in its brackets, got {text!r}") from error
    return host


def format_address(host: str, port: int) -> str:
    """``HOST:PORT``, with brackets around an IPv6 host; `parse_address` reads it back."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
