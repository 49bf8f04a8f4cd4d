"""Whether hosts can be emulated here, found out by doing it."""

import functools
import importlib.util
import os
import sys

from examples.benchmarks.emulation.cluster import EmulatedCluster

_PROBE_RATE_BYTES_PER_S = 1e6


@functools.cache
def why_not() -> str | None:
    """Why hosts cannot be emulated on this machine, in one line; None if they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if importlib.util.find_spec("pyroute2") is None:
        return "pyroute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with EmulatedCluster(hosts=1, rate_bytes_per_s=_PROBE_RATE_BYTES_PER_S):
            return None
    except (OSError, NetlinkError) as refused:  # no CAP_SYS_ADMIN, or a kernel without veth, bridge or tbf
        return f"the kernel refused: {refused}"
