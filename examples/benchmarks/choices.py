r"""Is the right mechanism chosen? Each of the four, and the library's own choice, for many sizes and
receivers.

    python -m examples.benchmarks.choices --sizes 1MB,4MB,32MB --receivers 1,2,4,8,16 --rate 50Mbit \
        --repeats 7
    python -m examples.benchmarks.choices --simulated --sizes 1MB,10MB,100MB,1GB --receivers 1,10,100 \
        --rate 1Gbit

Each number of receivers is one cluster of emulated hosts, whose controller is told nothing of links: it
learns from `WARM_UPS` broadcasts of each size by its own choice, which do not count, and from all that
follow. A round is each size by each mechanism and by choice, in an order drawn anew; all are sent in blocks
as the library chooses them. The shapers' buckets are emptied before each. A mechanism that is hopeless after
`TRIED_ROUNDS` rounds is not repeated in that cell. Times are the library's own ``completion_s``; what was
predicted is read from `orchestra status`. A cell is void where too little CPU was left: it is counted apart,
and as one in which the choice was not right. Needs root, Linux and pyroute2.

With ``--simulated`` planners run alone under a modelled network (`examples.benchmarks.choices_simulated`),
which goes as far as one likes, and needs nothing.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from examples.benchmarks.broadcasts import TIMEOUT_S
from examples.benchmarks.choice_cells import AUTO, MECHANISMS, Cell, Sent, plot, summary, table, within_bounds
from examples.benchmarks.choices_simulated import simulate_cells
from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, cannot_emulate, listed, refuse_wrong, write_json
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import PORT, ROOT, OrchestraNodes, Timing
from orchestra.units import format_bytes, format_rate, parse_rate, parse_size
from transfers.errors import OrchestraError

WARM_UPS = 2
"""Broadcasts of each size that do not count, by choice (the first one is made in blocks for another
network)."""

TRIED_ROUNDS = 2
"""After so many a mechanism may be called hopeless."""

HOPELESS = 1.3
"""Times the best of its cell (a guess: far beyond what repeats vary by)."""

STATUS_S = 60.0
"""For `orchestra status` to come up and answer (a guess, many times what it takes)."""


def measure(
    receivers: int,
    sizes: Sequence[int],
    rate_bytes_per_s: float,
    repeats: int,
    order: random.Random,
    bar: "tqdm[Any]",
) -> list[Cell]:
    """All sizes on one cluster, round by round.

    Raises:
        RuntimeError: when a broadcast fails or takes too long.
    """
    cells = {size_bytes: Cell(receivers, size_bytes, rate_bytes_per_s) for size_bytes in sizes}
    timings: list[tuple[Cell, str, str, Timing]] = []
    with EmulatedCluster(receivers + 1, rate_bytes_per_s) as cluster, ExitStack() as stack:
        nodes = OrchestraNodes(cluster, stack)

        def send(name: str, mechanism: str, size_bytes: int) -> Timing:
            bar.set_postfix_str(f"{receivers} receivers, {format_bytes(size_bytes)}, {mechanism}")
            ongoing = nodes.prepare(name, size_bytes, TIMEOUT_S)
            cluster.drain_all()
            ongoing.send(Orchestra(mechanism))
            timing = ongoing.finish()
            bar.update()
            return timing

        for size_bytes in sizes:
            for turn in range(WARM_UPS):
                send(f"warm-up-{size_bytes}-{turn}", AUTO, size_bytes)
        for turn in range(repeats):
            with IdleWhileMoving(cluster) as idle:
                for cell, mechanism in _shuffled(cells, turn, order, bar):
                    name = f"{cell.size_bytes}-{turn}-{mechanism}"
                    timing = send(name, mechanism, cell.size_bytes)
                    timings.append((cell, mechanism, name, timing))
                    known = Sent(timing.mechanism, timing.block_size_bytes, timing.completion_s, 0.0, None)
                    cell.sent.setdefault(mechanism, []).append(known)
            for cell in cells.values():
                cell.idle_shares.append(idle.share)
        predictions = _predictions(cluster)
    for cell in cells.values():
        cell.sent.clear()
    for cell, mechanism, name, timing in timings:
        sent = Sent(
            *(timing.mechanism, timing.block_size_bytes, timing.completion_s, timing.elapsed_s),
            predictions.get(name),
        )
        cell.sent.setdefault(mechanism, []).append(sent)
    return list(cells.values())


def _shuffled(
    cells: dict[int, Cell], turn: int, order: random.Random, bar: "tqdm[Any]"
) -> Iterator[tuple[Cell, str]]:
    """One round: every cell by every mechanism that is not hopeless there, and by choice."""
    asked = [(cell, mechanism) for cell in cells.values() for mechanism in (*MECHANISMS, AUTO)]
    for cell, mechanism in order.sample(asked, len(asked)):
        if turn >= TRIED_ROUNDS and cell.hopeless(mechanism, HOPELESS, TRIED_ROUNDS):
            bar.update()
        else:
            yield cell, mechanism


def _predictions(cluster: EmulatedCluster) -> dict[str, float | None]:
    """What was predicted for each transfer, as `orchestra status` tells it."""
    head = cluster.hosts[0]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    asking = head.popen(
        [*(sys.executable, "-m", "orchestra", "status"), *("--controller", f"{head.address}:{PORT}")]
        + ["--insecure", "--json"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    told, _ = asking.communicate(timeout=STATUS_S)
    return {name: known["predicted_s"] for name, known in json.loads(told)["transfers"].items()}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=listed(parse_size), default=listed(parse_size)("1MB,4MB,32MB"))
    parser.add_argument("--receivers", type=listed(int), default=[1, 2, 4, 8, 16])
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument("--repeats", type=int, default=7, help="or seeds, where it is simulated")
    parser.add_argument("--simulated", action="store_true", help="model the network instead of emulating it")
    parser.add_argument("--seed", type=int, default=0, help="of the order in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status: 0 if the choice is right as often as it is to be, 2 for no
    hosts.
    """
    parser = arguments()
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "sizes", "receivers", "repeats")
    if not options.simulated and cannot_emulate():
        return NO_ROOM
    cells: list[Cell] = []
    failures: list[str] = []
    rounds = options.repeats * (len(MECHANISMS) + 1)
    each = len(MECHANISMS) * options.repeats if options.simulated else rounds + WARM_UPS
    with tqdm(total=len(options.receivers) * len(options.sizes) * each, file=sys.stderr) as bar:
        for receivers in options.receivers:
            work = (receivers, options.sizes, options.rate, options.repeats)
            try:
                if options.simulated:
                    cells += simulate_cells(*work, bar)
                else:
                    cells += measure(*work, random.Random(options.seed), bar)
            except (RuntimeError, OSError, OrchestraError) as failed:
                failures.append(f"failed: {receivers} receivers: {' '.join(str(failed).split())}")
    how = "simulated" if options.simulated else f"emulated, {os.cpu_count()} cores"
    title = f"links of {format_rate(options.rate)}, {how}; medians of {options.repeats}"
    print("\n".join([title, "", *([table(cells), "", summary(cells)] if cells else []), *failures]))
    told = {"rate_bytes_per_s": options.rate, "repeats": options.repeats, "simulated": options.simulated}
    write_json(
        options.json,
        {
            **told,
            "cores": os.cpu_count(),
            "summary": summary(cells) if cells else "",
            "cells": [cell.as_json() for cell in cells],
            "failures": failures,
        },
    )
    if options.plot is not None and cells:
        plot(cells, title, options.plot)
    return int(bool(failures) or not within_bounds(cells))


if __name__ == "__main__":
    sys.exit(main())
