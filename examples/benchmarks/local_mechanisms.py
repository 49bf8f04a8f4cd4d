"""Every mechanism side by side on loopback, with the plainest broadcast as the yardstick.

Loopback has no links: what is compared is the cost of moving bytes through processes that share a few
cores. It says what Python costs, not what a network gives.

    python -m examples.benchmarks.local_mechanisms [--nodes 7] [--size 256MB] [--repeats 5]
"""

import argparse
import os
import statistics

import numpy as np
import numpy.typing as npt
import psutil
import trio

from examples.benchmarks.star import star
from orchestra.cluster import LocalCluster, local_cluster
from orchestra.units import format_bytes, parse_size

MECHANISMS = ("chain", "tree", "hdfs", "cornet", "auto")
YARDSTICK = "plain sockets"


async def broadcast_once(cluster: LocalCluster, data: npt.NDArray[np.uint8], how: str) -> float:
    """Seconds from acceptance to the last receiver's verified last byte."""
    transfer = await cluster.node.broadcast(data, mechanism=how)
    outcome = await transfer.wait()
    await cluster.node.release(transfer.name)
    return outcome.completion_s


async def measure(nodes: int, size_bytes: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each repeat, by system: all in turn in every round, after a round that is not counted."""
    data = np.random.default_rng(0).integers(0, 256, size_bytes, dtype=np.uint8)
    times: dict[str, list[float]] = {YARDSTICK: [], **{how: [] for how in MECHANISMS}}
    with star(nodes, size_bytes) as yardstick:
        async with local_cluster(nodes, share=False) as cluster:
            for turn in range(repeats + 1):
                took = {YARDSTICK: await trio.to_thread.run_sync(yardstick.broadcast, data.data)}
                for how in MECHANISMS:
                    took[how] = await broadcast_once(cluster, data, how)
                if turn:
                    for system, seconds in took.items():
                        times[system].append(seconds)
    return times


def print_table(times: dict[str, list[float]], nodes: int, size_bytes: int) -> None:
    """Median, spread and ratio to the yardstick."""
    base = statistics.median(times[YARDSTICK])
    print(f"{format_bytes(size_bytes)} to {nodes} processes on loopback, {os.cpu_count()} cores, ", end="")
    print(f"medians of {len(times[YARDSTICK])}")
    print(f"{'':14} {'median s':>9} {'min':>7} {'max':>7} {'MB/s in all':>12} {'time / plain':>13}")
    for system, seconds in times.items():
        median = statistics.median(seconds)
        spread = f"{min(seconds):7.3f} {max(seconds):7.3f}"
        moved = nodes * size_bytes / median / 1e6
        print(f"{system:14} {median:9.3f} {spread} {moved:12.0f} {median / base:13.2f}")


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=7)
    parser.add_argument("--size", type=parse_size, default=parse_size("256MB"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    psutil.cpu_percent()
    times = trio.run(measure, options.nodes, options.size, options.repeats)
    print_table(times, options.nodes, options.size)
    print(f"idle CPU over the whole run: {100 - psutil.cpu_percent():.0f} %")


if __name__ == "__main__":
    main()
