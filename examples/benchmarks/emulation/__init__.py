"""A cluster on one machine: hosts with network interfaces of their own, shaped as links are.

    with EmulatedCluster(hosts=17, rate_bytes_per_s=6.25e6) as cluster:
        process = cluster.hosts[1].popen(["iperf3", "-s"])

Each host is an anonymous network namespace. What runs in it is an ordinary process of this machine: it
shares its CPU, its files and its clocks (CLOCK_MONOTONIC is the same in all hosts, so moments noted in
different hosts can be compared), but reaches others only through its one interface. Needs Linux, root and
pyroute2; `why_not` says which is missing. Nothing outlives the process that holds the cluster, also if that
is killed.
"""

from examples.benchmarks.emulation.availability import why_not
from examples.benchmarks.emulation.cluster import EmulatedCluster
from examples.benchmarks.emulation.host import EmulatedHost
from examples.benchmarks.emulation.idle import IdleCpu, IdleWhileMoving

__all__ = ["EmulatedCluster", "EmulatedHost", "IdleCpu", "IdleWhileMoving", "why_not"]
