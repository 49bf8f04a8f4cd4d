"""Cornet from 4 to 30 receivers and from 4 to 128 MB: how near to one link's time it comes.

    python -m examples.benchmarks.sizes --receivers 4,8,16,30 --sizes 4MB,32MB,128MB --rate 50Mbit --repeats 7

Every cell is a sitting of its own on emulated hosts: a cluster a number of receivers, a broadcast that does
not count before each size. The shapers' buckets are emptied before each broadcast. From 30 receivers on the
links are slower (`--large-rate`), or two cores would not carry them. The ratio is that of the library's
``completion_s`` to S/W; beside it stands that of the time from the call of `broadcast` to the last return
from `receive`, which is what systems are compared by, and the least ratio that any broadcast in such blocks
could have (`orchestra.bounds`). Needs root, Linux and pyroute2.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from examples.benchmarks.broadcasts import TIMEOUT_S
from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, listed, refuse_wrong, write_json
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes
from orchestra.bounds import passed_on_s
from orchestra.units import format_block_size, format_bytes, format_rate, parse_rate, parse_size

MANY_RECEIVERS = 30
"""From here on links have ``--large-rate`` (the design: 30 hosts need 20 Mbit/s on two cores)."""
COMPARED_RECEIVERS = (8, 16)
"""Between which completion should hardly grow."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of receivers and one size.

    Attributes:
        receivers, size_bytes, rate_bytes_per_s: what was measured.
        block_size_bytes: of the last repeat.
        completion_s: the library's own figure.
        elapsed_s: from the call to the last hand-over.
    """

    receivers: int
    size_bytes: int
    rate_bytes_per_s: float
    block_size_bytes: int
    completion_s: Series
    elapsed_s: Series

    @property
    def ideal_s(self) -> float:
        """S/W."""
        return self.size_bytes / self.rate_bytes_per_s

    @property
    def bound_ratio(self) -> float:
        """Least ratio to S/W in blocks of this size, passed on while they arrive."""
        bound_s = passed_on_s(self.size_bytes, self.receivers, self.block_size_bytes, self.rate_bytes_per_s)
        return bound_s / self.ideal_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "receivers": self.receivers,
            "size_bytes": self.size_bytes,
            "rate_bytes_per_s": self.rate_bytes_per_s,
            "block_size_bytes": self.block_size_bytes,
            "ideal_s": self.ideal_s,
            "ratio": self.completion_s.median / self.ideal_s,
            "bound_ratio": self.bound_ratio,
            "completion_s": self.completion_s.as_json(),
            "elapsed_s": self.elapsed_s.as_json(),
        }


def measure(
    receivers: int,
    sizes: Sequence[int],
    rate_bytes_per_s: float,
    how: Orchestra,
    repeats: int,
    bar: "tqdm[Any]",
) -> Iterator[Cell]:
    """All sizes on one cluster, one after another.

    Raises:
        RuntimeError: when a broadcast fails or takes too long.
    """
    with EmulatedCluster(receivers + 1, rate_bytes_per_s) as cluster, ExitStack() as stack:
        nodes = OrchestraNodes(cluster, stack)
        for size_bytes in sizes:
            with IdleWhileMoving(cluster) as idle:
                timings = []
                for turn in range(repeats + 1):
                    bar.set_postfix_str(f"{receivers} receivers, {format_bytes(size_bytes)}")
                    timings.append(nodes.broadcast(f"{size_bytes}-{turn}", how, size_bytes, TIMEOUT_S))
                    bar.update()
            counted = timings[1:]
            yield Cell(
                *(receivers, size_bytes, rate_bytes_per_s, counted[-1].block_size_bytes),
                Series(tuple(timing.completion_s for timing in counted), idle.share),
                Series(tuple(timing.elapsed_s for timing in counted), idle.share),
            )


def table(cells: Sequence[Cell], how: Orchestra, repeats: int) -> str:
    """The results for people."""
    lines = [
        f"{how.name}, from one host to all others; medians of {repeats}, {os.cpu_count()} cores",
        "",
        f"{'receivers':>9}  {'size':>8}  {'link':>11}  {'blocks':>8}  {'median s':>9}  {'min-max s':>15}  "
        f"{'x S/W':>6}  {'bound':>6}  {'elapsed x S/W':>13}  idle CPU",
    ]
    for cell in cells:
        lines.append(
            f"{cell.receivers:9}  {format_bytes(cell.size_bytes):>8}  "
            f"{format_rate(cell.rate_bytes_per_s):>11}  {format_block_size(cell.block_size_bytes):>8}  "
            f"{cell.completion_s.median:9.3f}  "
            f"{cell.completion_s.extent():>15}  {cell.completion_s.median / cell.ideal_s:6.3f}  "
            f"{cell.bound_ratio:6.3f}  {cell.elapsed_s.median / cell.ideal_s:13.3f}  {cell.completion_s.idle}"
        )
    return "\n".join([*lines, *growth(cells)])


def growth(cells: Sequence[Cell]) -> list[str]:
    """What twice as many receivers cost, a line for each size that both were measured with."""
    few, many = COMPARED_RECEIVERS
    found = {(cell.receivers, cell.size_bytes): cell for cell in cells}
    lines = []
    for size_bytes in dict.fromkeys(cell.size_bytes for cell in cells):
        pair = found.get((few, size_bytes)), found.get((many, size_bytes))
        if pair[0] is None or pair[1] is None or pair[0].rate_bytes_per_s != pair[1].rate_bytes_per_s:
            continue
        more = pair[1].completion_s.median / pair[0].completion_s.median - 1
        lines.append(f"{format_bytes(size_bytes)}: completion at {many} receivers {more:+.1%} against {few}")
    return ["", *lines] if lines else []


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receivers", type=listed(int), default=[4, 8, 16, 30])
    parser.add_argument("--sizes", type=listed(parse_size), default=listed(parse_size)("4MB,32MB,128MB"))
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument(
        "--large-rate",
        type=parse_rate,
        default=parse_rate("20Mbit"),
        help=f"from {MANY_RECEIVERS} receivers on",
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--mechanism", default="cornet")
    parser.add_argument("--block-size", type=parse_size, help="the library's choice by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status: 1 if a broadcast failed, 2 without emulated hosts."""
    parser = arguments()
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "receivers", "sizes", "repeats")
    if options.block_size is not None:
        refuse_wrong(parser, options, "block_size")
    if cannot_emulate():
        return NO_ROOM
    how = Orchestra(options.mechanism, options.block_size)
    cells: list[Cell] = []
    failures: list[str] = []
    total = len(options.receivers) * len(options.sizes) * (options.repeats + 1)
    with tqdm(total=total, unit="broadcast", file=sys.stderr) as bar:
        for receivers in options.receivers:
            rate = options.large_rate if receivers >= MANY_RECEIVERS else options.rate
            try:
                cells.extend(measure(receivers, options.sizes, rate, how, options.repeats, bar))
            except (RuntimeError, OSError) as failed:
                failures.append(f"failed: {receivers} receivers: {' '.join(str(failed).split())}")
    print("\n".join([table(cells, how, options.repeats), *failures]))
    told = {"mechanism": how.mechanism, "repeats": options.repeats, "cores": os.cpu_count()}
    write_json(options.json, {**told, "cells": [cell.as_json() for cell in cells], "failures": failures})
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
