"""Interfaces, bridges and shapers, by netlink.

Owns all use of pyroute2 and every figure of the shaping. Must not know hosts or processes. Each function
says in which namespace it has to be called (`namespaces.inside`).

A link is a veth pair. The end in a host's namespace shapes what the host sends; the end at the bridge shapes
what it receives: two token buckets, so the link is full duplex. The bridge itself is as fast as the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INTERFACE = "eth0"
"""A host's one interface."""

MTU_BYTES = 9000
"""Jumbo frames: with 1500 the handling of packets eats two cores at 16 hosts of 50 Mbit/s (measured)."""

BURST_BYTES = 72_000
"""A token bucket holds one packet as the host hands it to its card (GSO: up to 64 KiB and headers), which the
kernel would otherwise cut up before it is shaped; that costs the CPU the large packets save (measured)."""

MIN_BURST_BYTES = 10_000
"""A bucket that does not hold one frame, Ethernet header and all, never lets it through. The kernel rounds
its depth down: at 50 Mbit/s 9100 bytes were enough, 9014 were not (measured)."""

QUEUE_S = 0.1
"""A port's buffer, in seconds at its rate (a guess: over a busy one, 20-100 ms a round trip were seen)."""

MIN_QUEUE_BYTES = 4 * BURST_BYTES
"""So that four senders can each have a packet in a slow port's queue (a guess)."""

_ROOT_HANDLE = 0x10000  # "1:", any would do


def netlink() -> Any:
    """A socket to the kernel's network of the namespace it is opened in; close it in the same thread."""
    from pyroute2 import IPRoute

    return IPRoute()


def add_bridge(ip: Any, name: str) -> None:
    """A bridge, up. In the switches' namespace."""
    ip.link("add", ifname=name, kind="bridge")
    _up(ip, name)


def add_host_link(ip: Any, name: str, bridge: str, host_namespace: int) -> None:
    """A cable from a bridge to a host, whose end becomes the host's `INTERFACE`. In the switches' namespace.

    The pair is made here and its far end born there, so no other namespace ever sees either.
    """
    peer = {"ifname": INTERFACE, "net_ns_fd": host_namespace}
    ip.link("add", ifname=name, kind="veth", peer=peer)
    plug(ip, name, bridge)
    _up(ip, name)


def plug(ip: Any, name: str, bridge: str) -> None:
    """Put an interface to a bridge, and away from any other. In the switches' namespace."""
    ip.link("set", index=_index(ip, name), master=_index(ip, bridge))


def add_uplink(ip: Any, names: tuple[str, str], bridges: tuple[str, str], rate_bytes_per_s: float) -> None:
    """A cable between two bridges, shaped in both directions. In the switches' namespace."""
    ip.link("add", ifname=names[0], kind="veth", peer={"ifname": names[1]})
    for name, bridge in zip(names, bridges, strict=True):
        plug(ip, name, bridge)
        _up(ip, name)
        shape(ip, name, rate_bytes_per_s)


def set_up_host(ip: Any, address: str, prefix_bits: int, congestion: str | None) -> None:
    """Loopback, address and congestion control (None: as it is). In the host's namespace.

    Raises:
        OSError: when the congestion control is unknown or not allowed.
    """
    ip.link("set", index=_index(ip, "lo"), state="up")
    _set_kernel("ipv6/conf/all/disable_ipv6", "1")  # its chatter would pass through the shapers
    index = _index(ip, INTERFACE)
    ip.addr("add", index=index, address=address, prefixlen=prefix_bits)
    _up(ip, INTERFACE)
    if congestion is not None:
        _set_kernel("ipv4/tcp_congestion_control", congestion)


@contextmanager
def allowed(congestion: str) -> Iterator[bool]:
    """While the block runs, namespaces may choose a congestion control; gives whether they may.

    The list of those that everybody may choose is the machine's; it is put back as it was.
    """
    path = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    try:
        listed = path.read_text().split()
        if congestion not in listed:
            path.write_text(" ".join([*listed, congestion]))
    except OSError:  # unknown to the kernel, or this is not the machine's own network
        yield False
        return
    try:
        yield True
    finally:
        if congestion not in listed:
            path.write_text(" ".join(listed))


def shape(ip: Any, name: str, rate_bytes_per_s: float, burst_bytes: int = BURST_BYTES) -> None:
    """Limit what leaves by an interface, from now on; its bucket starts full."""
    queue_bytes = max(MIN_QUEUE_BYTES, int(rate_bytes_per_s * QUEUE_S))
    ip.tc(
        *("replace", "tbf", _index(ip, name), _ROOT_HANDLE),
        rate=round(rate_bytes_per_s),
        burst=burst_bytes,
        limit=queue_bytes,
    )


def received_and_sent_bytes() -> dict[str, tuple[int, int]]:
    """Counters of all interfaces of the namespace in which this is called, by name."""
    counters = {}
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        interface, colon, numbers = line.partition(":")
        if colon:  # the first two lines are a heading
            fields = numbers.split()
            counters[interface.strip()] = (int(fields[0]), int(fields[8]))  # eight fields of receiving first
    return counters


def _up(ip: Any, name: str) -> None:
    ip.link("set", index=_index(ip, name), mtu=MTU_BYTES, state="up")


def _index(ip: Any, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise LookupError(f"no interface {name!r} here")
    return int(found[0])


def _set_kernel(setting: str, value: str) -> None:
    path = Path("/proc/sys/net") / setting
    if setting.startswith("ipv6") and not path.exists():
        return  # a kernel without IPv6
    try:
        path.write_text(value)
    except OSError as refused:
        raise OSError(refused.errno, f"{setting} = {value} was refused: {refused.strerror}") from refused
