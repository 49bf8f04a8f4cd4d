"""What it costs to move bytes: Orchestra on plain loopback beside iperf3, plain sockets, and Open MPI.

    python -m examples.benchmarks.data_path [--size 2GB] [--repeats 7] [--json FILE]
    python -m examples.benchmarks.data_path --receivers 4 [--size 500MB]

To one receiver it is held against ``iperf3 -P 1`` (its rate) and against blocking sockets into one reused
buffer (CPU seconds a GB of both ends). To several it stands beside MPI_Bcast over TCP and a plain star, where
nothing hides the cost of Python. Everything runs in turn, in every round, after a round that nobody counts.

Seconds are from the call to the last receiver's last byte; for Orchestra they include the copy into the
source's store and the checksums taken there, which the others do not make. ``moving`` is the part from
accepting the transfer on, in which bytes move. CPU time is that of the two ends in that part; what the kernel
does for a packet is counted to whoever runs then, for all alike. ``put`` is what the source takes before it;
``ctl`` is the controller's process. The exit status is 1 where something failed, or is missing so that a
ratio cannot be told.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from examples.benchmarks.loopback.nodes import OrchestraNodes
from examples.benchmarks.loopback.openmpi import VARIANTS, OpenMPI, why_no_openmpi
from examples.benchmarks.loopback.processes import PeerFailed, Run
from examples.benchmarks.loopback.yardsticks import PlainSockets, iperf3, why_no_iperf3
from examples.benchmarks.star import star
from orchestra.units import format_bytes, parse_size

IPERF3 = "iperf3 -P 1"
SOCKETS = "plain sockets"
WHOLE = "plain sockets, whole"
ORCHESTRA = "Orchestra"
STAR = "plain star"
SIZES_BYTES = (2_000_000_000, 500_000_000)
"""Of the object unless given: to one receiver, and to several, where every process holds it once or twice."""
BUFFER_BYTES = 1 << 17
"""Of the plain sockets' one buffer: what iperf3 reads and writes at a time."""
MECHANISMS = ("auto", "chain", "cornet")
"""To several receivers."""
LEAST_RATE, MOST_CPU = 0.6, 1.3
"""What is aimed at with one receiver: rate over iperf3's, CPU time over the plain sockets'."""

Mover = Callable[[], Run]


def one_receiver(stack: ExitStack, size_bytes: int) -> tuple[dict[str, Mover], dict[str, str]]:
    """What is measured with one receiver, by name, and what is missing, and why."""
    plain, whole = PlainSockets(stack, BUFFER_BYTES), PlainSockets(stack, size_bytes)
    nodes = OrchestraNodes(stack, size_bytes, 1)
    movers: dict[str, Mover] = {}
    missing: dict[str, str] = {}
    if reason := why_no_iperf3():
        missing[IPERF3] = reason
    else:
        movers[IPERF3] = lambda: iperf3(size_bytes)
    movers[SOCKETS] = lambda: plain.run(size_bytes)
    movers[WHOLE] = lambda: whole.run(size_bytes)
    movers[ORCHESTRA] = nodes.broadcast
    return movers, missing


def several_receivers(
    stack: ExitStack, size_bytes: int, receivers: int
) -> tuple[dict[str, Mover], dict[str, str]]:
    """The same with several."""
    data = np.random.default_rng(0).integers(0, 256, size_bytes, dtype=np.uint8)
    plain = stack.enter_context(star(receivers, size_bytes))
    nodes = OrchestraNodes(stack, size_bytes, receivers)
    movers: dict[str, Mover] = {STAR: lambda: Run(plain.broadcast(data.data), {}, {})}
    missing: dict[str, str] = {}
    if reason := why_no_openmpi():
        missing["Open MPI"] = reason
    else:
        for name, tuning in VARIANTS.items():
            movers[name] = OpenMPI(stack, size_bytes, receivers, tuning).broadcast
    for mechanism in MECHANISMS:
        movers[f"{ORCHESTRA}, {mechanism}"] = partial(nodes.broadcast, mechanism)
    return movers, missing


def measure(movers: Mapping[str, Mover], repeats: int) -> dict[str, list[Run]]:
    """Run all in turn, ``repeats`` times after a round that does not count; progress goes to stderr."""
    runs: dict[str, list[Run]] = {name: [] for name in movers}
    for turn in range(repeats + 1):
        for name, move in movers.items():
            run = move()
            print(f"round {turn}/{repeats}  {name:22} {run.seconds:.3f} s", file=sys.stderr)
            if turn:
                runs[name].append(run)
    return runs


def figures(runs: Mapping[str, Sequence[Run]], size_bytes: int) -> dict[str, dict[str, Any]]:
    """Medians and extents of each system, and the medians of the ratios taken within each round.

    Ratios are of rates over iperf3's (``rate_ratio``, and ``moving_ratio`` without the put) and of CPU time
    of the two ends over the plain sockets' (``cpu_ratio``, and ``cpu_ratio_with_put``); None where the
    yardstick is missing.
    """
    gb = size_bytes / 1e9
    found: dict[str, dict[str, Any]] = {}
    for name, series in runs.items():
        seconds = [run.seconds for run in series]
        ends_s = [_ends_s(run) for run in series]
        found[name] = {
            "seconds": seconds,
            "median_s": statistics.median(seconds),
            "moving_s": _median_of(run.more.get("completion_s") for run in series),
            "gb_per_s": gb / statistics.median(seconds),
            "cpu_s_per_gb": _median_of(None if s is None else s / gb for s in ends_s),
            "cpu_s_per_gb_by_process": {
                who: statistics.median(run.cpu_s[who] for run in series) / gb for who in series[0].cpu_s
            },
            "put_cpu_s_per_gb": _median_of(
                run.more["put_cpu_s"] / gb if "put_cpu_s" in run.more else None for run in series
            ),
            "rate_ratio": _ratio(runs.get(IPERF3), series, lambda yard, run: yard.seconds / run.seconds),
            "moving_ratio": _ratio(runs.get(IPERF3), series, _moving_ratio),
            "cpu_ratio": _ratio(runs.get(SOCKETS), series, _cpu_ratio),
            "cpu_ratio_with_put": _ratio(runs.get(SOCKETS), series, _cpu_ratio_with_put),
            "warm": all(run.more.get("warm", 1.0) for run in series),
        }
    return found


def table(found: Mapping[str, Mapping[str, Any]], size_bytes: int, receivers: int, repeats: int) -> str:
    """The results for people."""
    who = "one receiver" if receivers == 1 else f"{receivers} receivers"
    lines = [
        f"{format_bytes(size_bytes)} from one process to {who} on loopback, {os.cpu_count()} cores, "
        f"medians of {repeats}",
        "",
        f"{'':22} {'s':>7} {'min-max':>13} {'GB/s':>6} {'x iperf3':>8} {'moving':>7} "
        f"{'x iperf3':>8} {'CPU s/GB':>8} {'put':>6} {'ctl':>6} {'x plain':>7} {'with put':>8}",
    ]
    for name, row in found.items():
        extent = f"{min(row['seconds']):.2f}-{max(row['seconds']):.2f}"
        columns = [
            (row["gb_per_s"], 6),
            (row["rate_ratio"], 8),
            (row["moving_s"], 7),
            (row["moving_ratio"], 8),
            (row["cpu_s_per_gb"], 8),
            (row["put_cpu_s_per_gb"], 6),
            (row["cpu_s_per_gb_by_process"].get("controller"), 6),
            (row["cpu_ratio"], 7),
            (row["cpu_ratio_with_put"], 8),
        ]
        told = " ".join(_told(value, width) for value, width in columns)
        note = "" if row["warm"] else "  (fresh memory)"
        lines.append(f"{name:22} {row['median_s']:7.3f} {extent:>13} {told}{note}")
    return "\n".join(lines)


def verdict(row: Mapping[str, Any]) -> str:
    """One line on what was aimed at, which is held against the whole: the source's copy and checksums too."""
    if row["rate_ratio"] is None:
        return f"no ratio to {IPERF3}: it is missing"
    rate = "reached" if row["rate_ratio"] >= LEAST_RATE else "MISSED"
    cpu = "reached" if row["cpu_ratio_with_put"] <= MOST_CPU else "MISSED"
    return (
        f"rate {row['rate_ratio']:.2f} x iperf3 (aim: at least {LEAST_RATE}): {rate}; "
        f"CPU {row['cpu_ratio_with_put']:.2f} x plain sockets (aim: at most {MOST_CPU}): {cpu}; "
        f"without the put {row['moving_ratio']:.2f} and {row['cpu_ratio']:.2f}"
    )


def _ends_s(run: Run) -> float | None:
    """CPU time of all but the controller."""
    return sum(s for who, s in run.cpu_s.items() if who != "controller") if run.cpu_s else None


def _moving_ratio(yard: Run, run: Run) -> float | None:
    moving_s = run.more.get("completion_s")
    return None if moving_s is None else yard.seconds / moving_s


def _cpu_ratio(yard: Run, run: Run) -> float | None:
    ours, theirs = _ends_s(run), _ends_s(yard)
    return ours / theirs if ours is not None and theirs else None


def _cpu_ratio_with_put(yard: Run, run: Run) -> float | None:
    ours, theirs = _ends_s(run), _ends_s(yard)
    return (ours + run.more["put_cpu_s"]) / theirs if ours and theirs and "put_cpu_s" in run.more else None


def _ratio(
    yard: Sequence[Run] | None, series: Sequence[Run], ratio: Callable[[Run, Run], float | None]
) -> float | None:
    return None if yard is None else _median_of(map(ratio, yard, series))


def _median_of(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _told(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.2f'):>{width}}"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receivers", type=int, default=1)
    parser.add_argument("--size", type=parse_size, help="by default 2GB to one receiver, 500MB to several")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    parser = arguments()
    options = parser.parse_args(argv)
    size_bytes = SIZES_BYTES[options.receivers > 1] if options.size is None else options.size
    for name, value in (("receivers", options.receivers), ("size", size_bytes), ("repeats", options.repeats)):
        if value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    psutil.cpu_percent()
    try:
        with ExitStack() as stack:
            if options.receivers == 1:
                movers, missing = one_receiver(stack, size_bytes)
            else:
                movers, missing = several_receivers(stack, size_bytes, options.receivers)
            runs = measure(movers, options.repeats)
    except (PeerFailed, OSError) as failed:
        print(f"failed: {failed}", file=sys.stderr)
        return 1
    found = figures(runs, size_bytes)
    print(table(found, size_bytes, options.receivers, options.repeats))
    if options.receivers == 1:
        print(verdict(found[ORCHESTRA]))
    for name, why in missing.items():
        print(f"not here: {name}: {why}")
    idle_share = 1 - psutil.cpu_percent() / 100
    print(f"idle CPU over the whole run: {idle_share:.0%}")
    if options.json is not None:
        told = {
            "size_bytes": size_bytes,
            "receivers": options.receivers,
            "repeats": options.repeats,
            "cores": os.cpu_count(),
            "idle_share": idle_share,
            "systems": found,
            "missing": missing,
        }
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
