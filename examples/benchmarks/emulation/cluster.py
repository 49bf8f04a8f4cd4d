"""The emulated cluster: hosts, the switches between them, and their certain end.

Theory of operation. One namespace holds all switches: a bridge a rack, the bridges in a line, each joined to
the next by an uplink. Every host has a namespace with one interface, cabled to the bridge of its rack. This
process holds the namespaces by descriptors and nothing else, so they go when it goes. A guardian process
kills what still runs in them, at the ordinary end as after a SIGKILL.
"""

import contextlib
import ipaddress
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from examples.benchmarks.emulation import links
from examples.benchmarks.emulation.host import EmulatedHost, check_rate
from examples.benchmarks.emulation.namespaces import inside, new_namespace

MAX_HOSTS = 250
"""A guess; what two cores carry ends far below."""
NETWORK = ipaddress.ip_network("10.77.0.0/16")
"""Seen only inside the namespaces, so it collides with nothing."""
DEFAULT_CONGESTION = "cubic"
"""What Linux has unless told otherwise. (Namespaces start with bbr on the machines this was written on. One
connection fills a port alike with either; where two share it, bbr is less even and less steady: Cornet to 16
receivers took 1.07 x S/W with cubic and with reno, 1.07 to 1.11 with bbr.)"""
END_TIMEOUT_S = 15.0
"""For the guardian to kill what is left; above its own limit."""

_GUARDIAN = Path(__file__).with_name("guardian.py")


class EmulatedCluster:
    """A cluster of emulated hosts; it exists while the block runs.

    Args:
        hosts: how many; ``hosts[0]`` is the source by convention.
        rate_bytes_per_s: of every host's link, in each direction at a time.
        racks: hosts in each rack, in order; None is one rack of all. Racks stand in a line.
        uplink_bytes_per_s: of the link between two neighbouring racks, in each direction.
        host_rates: links that differ, by the host's number.
        congestion: TCP congestion control of all hosts; None is `DEFAULT_CONGESTION`, or what new namespaces
            have where that cannot be had.
        burst_bytes: what a link that was idle lets through at once. Large, or packet handling takes the CPU
            (`links.BURST_BYTES`); small objects want it small, for it hides so much of them from the link.

    Attributes:
        hosts: the hosts, in order.
        rack_of: number of each host's rack by now, in the order of ``hosts``.

    Raises:
        ValueError: for a bad argument.
        OSError: where the kernel refuses; `why_not` asks beforehand.
    """

    def __init__(
        self,
        hosts: int,
        rate_bytes_per_s: float,
        racks: Sequence[int] | None = None,
        uplink_bytes_per_s: float | None = None,
        host_rates: Mapping[int, float] | None = None,
        *,
        congestion: str | None = None,
        burst_bytes: int = links.BURST_BYTES,
    ) -> None:
        if not 1 <= hosts <= MAX_HOSTS:
            raise ValueError(f"hosts must be from 1 to {MAX_HOSTS}, got {hosts}")
        check_rate("rate_bytes_per_s", rate_bytes_per_s)
        if burst_bytes < links.MIN_BURST_BYTES:
            raise ValueError(f"burst_bytes must be at least {links.MIN_BURST_BYTES}, got {burst_bytes}")
        sizes = [hosts] if racks is None else list(racks)
        if min(sizes, default=0) < 1 or sum(sizes) != hosts:
            raise ValueError(f"racks must be sizes above 0 that add up to {hosts} hosts, got {racks}")
        if (uplink_bytes_per_s is None) != (len(sizes) == 1):
            raise ValueError(
                "uplink_bytes_per_s must be given for several racks, and only then; "
                f"got {uplink_bytes_per_s} for {len(sizes)}"
            )
        rates = dict.fromkeys(range(hosts), rate_bytes_per_s)
        for number, rate in (host_rates or {}).items():
            if number not in rates:
                raise ValueError(f"host_rates must name hosts 0 to {hosts - 1}, got {number}")
            check_rate(f"host_rates[{number}]", rate)
            rates[number] = rate
        if uplink_bytes_per_s is not None:
            check_rate("uplink_bytes_per_s", uplink_bytes_per_s)
        self.hosts: tuple[EmulatedHost, ...] = ()
        self.rack_of = tuple(rack for rack, size in enumerate(sizes) for _ in range(size))
        self._racks = len(sizes)
        self._rates = rates
        self._uplink_bytes_per_s = uplink_bytes_per_s
        self._congestion = congestion
        self._burst_bytes = burst_bytes
        self._processes: list[subprocess.Popen[Any]] = []
        self._switches = -1
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            switches = self._held_namespace(stack)
            namespaces = [self._held_namespace(stack) for _ in self._rates]
            stack.callback(self._reap)
            stack.callback(_end, _start_guardian([switches, *namespaces]))
            stack.callback(self._kill)
            inside(switches, lambda: self._cable(namespaces))
            self.hosts = tuple(
                EmulatedHost(
                    *(f"h{number}", _address(number), rate, namespace, switches),
                    *(self._processes.append, self._burst_bytes),
                )
                for (number, rate), namespace in zip(self._rates.items(), namespaces, strict=True)
            )
            with links.allowed(self._congestion or DEFAULT_CONGESTION) as default_allowed:
                if self._congestion is None and default_allowed:
                    self._congestion = DEFAULT_CONGESTION
                for host, namespace in zip(self.hosts, namespaces, strict=True):
                    stack.callback(host.close)
                    self._set_up(host, namespace, switches)
            self._switches = switches
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hosts = ()
        self._switches = -1
        self._stack.close()

    def drain_all(self) -> None:
        """Empty the token buckets of all hosts; see `EmulatedHost.drain`."""
        for host in reversed(self.hosts):  # the source last: it is the first to send
            host.drain()

    def moved_bytes(self) -> int:
        """What all hosts together have been sent so far: that much has passed the shapers towards them."""
        return sum(received for received, _ in self.port_bytes())

    def port_bytes(self) -> list[tuple[int, int]]:
        """What each host has been sent and has sent so far, as it has passed the shapers; in order."""
        counted = inside(self._switches, links.received_and_sent_bytes)
        ports = [counted[host.name] for host in self.hosts]  # seen from the switch, the other way round
        return [(its_sent, its_received) for its_received, its_sent in ports]

    def uplink_bytes(self) -> list[tuple[int, int]]:
        """What has passed each uplink so far, to the rack behind and to the one before; in order."""
        counted = inside(self._switches, links.received_and_sent_bytes)
        between = range(self._racks - 1)
        return [(counted[_uplink(at, at + 1)][1], counted[_uplink(at + 1, at)][1]) for at in between]

    def move(self, number: int, rack: int) -> None:
        """Plug a host into another rack's switch; connections stay, as they would.

        Args:
            number: the host's, in the order of ``hosts``.
            rack: where to.
        """
        if not (0 <= number < len(self.rack_of) and 0 <= rack < self._racks):
            raise ValueError(
                f"there are hosts 0 to {len(self.rack_of) - 1} and racks 0 to {self._racks - 1}, "
                f"got host {number} and rack {rack}"
            )

        def at_switches() -> None:
            with links.netlink() as ip:
                links.plug(ip, self.hosts[number].name, f"rack{rack}")

        inside(self._switches, at_switches)
        self.rack_of = (*self.rack_of[:number], rack, *self.rack_of[number + 1 :])

    def _cable(self, namespaces: Sequence[int]) -> None:
        """Bridges, uplinks and a cable to every host. Runs in the switches' namespace."""
        with links.netlink() as ip:
            racks = self._racks
            for rack in range(racks):
                links.add_bridge(ip, f"rack{rack}")
            for left, right in zip(range(racks - 1), range(1, racks), strict=True):
                assert self._uplink_bytes_per_s is not None  # checked on construction
                ends = (_uplink(left, right), _uplink(right, left))
                links.add_uplink(ip, ends, (f"rack{left}", f"rack{right}"), self._uplink_bytes_per_s)
            for number, (rack, namespace) in enumerate(zip(self.rack_of, namespaces, strict=True)):
                links.add_host_link(ip, f"h{number}", f"rack{rack}", namespace)

    def _set_up(self, host: EmulatedHost, namespace: int, switches: int) -> None:
        def inside_host() -> None:
            with links.netlink() as ip:
                links.set_up_host(ip, host.address, NETWORK.prefixlen, self._congestion)

        inside(namespace, inside_host)
        host.set_rate(host.rate_bytes_per_s)

    def _kill(self) -> None:
        """Kill what was started: one that has not entered its namespace yet, the guardian would not find."""
        for process in self._processes:
            process.kill()

    def _reap(self) -> None:
        """Take the exit status of what the guardian has killed, and close what this process holds of it."""
        for process in self._processes:
            process.wait(END_TIMEOUT_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):  # what was still to be flushed into it
                        stream.close()
        self._processes.clear()

    @staticmethod
    def _held_namespace(stack: contextlib.ExitStack) -> int:
        namespace = new_namespace()
        stack.callback(os.close, namespace)
        return namespace


def _uplink(here: int, there: int) -> str:
    """The interface of one rack's switch towards another's."""
    return f"up{here}-{there}"


def _address(number: int) -> str:
    return str(NETWORK[number + 1])


def _start_guardian(namespaces: Sequence[int]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARDIAN), str(os.getpid()), *map(str, namespaces)],
        stdin=subprocess.PIPE,
        pass_fds=namespaces,
        start_new_session=True,
    )


def _end(guardian: "subprocess.Popen[bytes]") -> None:
    assert guardian.stdin is not None
    guardian.stdin.close()
    if guardian.wait(END_TIMEOUT_S):
        raise OSError("some processes of the emulated hosts could not be killed")
