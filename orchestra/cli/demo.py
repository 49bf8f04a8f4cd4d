"""``orchestra demo``: what this library does, on this machine, in under two minutes.

K-Means on a photograph, if the examples are at hand; the same object to some local nodes by each mechanism
and by automatic choice; and once more with nodes that share their host's memory, as they do by default.
"""

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import trio

from orchestra.cli.arguments import MECHANISMS, complain
from orchestra.cli.progress import progress_bar
from orchestra.cli.running import Exit, Signals, run
from orchestra.cluster import LocalCluster, local_cluster
from orchestra.node.handles import Transfer
from orchestra.units import format_block_size, format_bytes, format_seconds

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "kmeans_colors.py"
"""Lies beside the package in a checkout, and nowhere when the package is installed."""
SEED = 11
"""Of the random bytes that are sent."""
_ORDER = [*(name for name in MECHANISMS if name != "auto"), "auto"]


def demo(options: argparse.Namespace) -> int:
    """Show it."""

    output = Path(options.output).absolute()

    async def body(_: Signals) -> int:
        began_s = perf_counter()
        kmeans_ok = options.no_kmeans or await _kmeans(output)
        data = np.random.Generator(np.random.SFC64(SEED)).bytes(options.size)
        await _compare(data, options.nodes, options.quiet)
        await _share(data, options.nodes, options.quiet)
        print(f"\nThe demo took {format_seconds(perf_counter() - began_s)}.", flush=True)
        if not options.no_kmeans:
            _tell_pictures(output)
        return Exit.DONE if kmeans_ok else Exit.FAILED

    return run(options, body)


# -- K-Means -----------------------------------------------------------------------------------


async def _kmeans(output: Path) -> bool:
    """Run the example as a user would; whether that went well."""
    _headline("K-Means on a photograph, by worker processes")
    if not EXAMPLE.is_file():
        print("The examples are not installed: run this in a checkout to see it.", flush=True)
        return True
    root = str(EXAMPLE.parents[1])
    known = os.environ.get("PYTHONPATH")
    paths = root if not known else root + os.pathsep + known
    result = await trio.run_process(
        [sys.executable, str(EXAMPLE), "--output", str(output)],
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if result.returncode:
        complain("orchestra demo", f"the K-Means example ended with status {result.returncode}")
    return result.returncode == 0


def _tell_pictures(output: Path) -> None:
    pictures = sorted(output.glob("*.png")) if output.is_dir() else []
    if pictures:
        print(f"Pictures are in {output}: {', '.join(picture.name for picture in pictures)}", flush=True)
    else:
        print("There are no pictures.", flush=True)


# -- broadcasts --------------------------------------------------------------------------------


async def _compare(data: bytes, nodes: int, quiet: bool) -> None:
    """The same object by each mechanism, every byte over loopback."""
    size = format_bytes(len(data))
    _headline(f"{size} to {nodes} local nodes by each mechanism, every byte sent (--no-share)")
    async with local_cluster(nodes=nodes, share=False) as cluster:
        before_bytes = _memory_bytes(cluster)
        await _send(cluster, data, "warm-up", "cornet", quiet)
        _tell_memory(before_bytes, _memory_bytes(cluster), len(data), nodes + 1)
        await cluster.node.release("demo/warm-up")
        print(f"{'asked':<8}{'done by':<9}{'blocks':>9}{'time':>9}{'in all':>13}{'to each':>13}", flush=True)
        reason = ""
        for mechanism in _ORDER:
            transfer, took_s = await _send(cluster, data, mechanism, mechanism, quiet)
            await cluster.node.release(transfer.name)
            reason = transfer.reason
            print(_row(mechanism, transfer, took_s, nodes), flush=True)
    print(f"auto: {reason}", flush=True)


async def _share(data: bytes, nodes: int, quiet: bool) -> None:
    """Once more, mapped instead of sent."""
    _headline(f"{format_bytes(len(data))} to {nodes} local nodes that share memory (the default)")
    async with local_cluster(nodes=nodes, share=True) as cluster:
        before_bytes = _memory_bytes(cluster)
        transfer, took_s = await _send(cluster, data, "shared", "auto", quiet)
        print(f"All {nodes} map the one copy of this host, after {format_seconds(took_s)}.", flush=True)
        _tell_memory(before_bytes, _memory_bytes(cluster), len(data), 1)
        await cluster.node.release(transfer.name)


async def _send(
    cluster: LocalCluster, data: bytes, label: str, mechanism: str, quiet: bool
) -> tuple[Transfer, float]:
    """One broadcast from its acceptance to its last verified byte, in seconds."""
    transfer = await cluster.node.broadcast(data, name=f"demo/{label}", mechanism=mechanism)

    def done_and_total() -> tuple[int, int]:
        progress = transfer.progress()
        return progress.done_bytes, progress.total_bytes

    async with progress_bar(label, done_and_total, quiet=quiet):
        outcome = await transfer.wait()
    return transfer, outcome.completion_s


def _row(asked: str, transfer: Transfer, took_s: float, nodes: int) -> str:
    each = transfer.size_bytes / max(took_s, 1e-6) / 1e6
    return (
        f"{asked:<8}{transfer.mechanism.value:<9}{format_block_size(transfer.block_size_bytes):>9}"
        f"{took_s:>7.2f} s{each * nodes:>8.0f} MB/s{each:>8.0f} MB/s"
    )


# -- memory ------------------------------------------------------------------------------------


def _memory_bytes(cluster: LocalCluster) -> int | None:
    """Memory of this process and the agents, each page counted once; None where nobody can tell."""
    total_bytes = 0
    for process in ("self", *(agent.pid for agent in cluster.processes)):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            return None
        total_bytes += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total_bytes


def _tell_memory(before_bytes: int | None, after_bytes: int | None, size_bytes: int, copies: int) -> None:
    if before_bytes is None or after_bytes is None:
        return
    more_bytes = max(0, after_bytes - before_bytes)
    times = f"{more_bytes / size_bytes:.1f} times the object"
    print(
        f"Memory of all processes together grew by {format_bytes(more_bytes)}: {times}, for "
        f"{'one copy' if copies == 1 else f'{copies} copies'}.",
        flush=True,
    )


def _headline(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)
