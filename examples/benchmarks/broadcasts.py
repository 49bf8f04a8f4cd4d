"""Broadcasts side by side: Orchestra and the systems that people use today, on the same emulated hosts.

Every host is a network namespace with a shaped link (`examples.benchmarks.emulation`), so what is compared is
what each system makes of the links. Needs root, Linux and pyroute2; systems that are not installed are named
and left out.

    python -m examples.benchmarks.broadcasts --receivers 16 --size 32MB --rate 50Mbit --plot bench.png

Each system sits down `--rounds` times, on a cluster of its own each time, in an order drawn anew for each
round; the repeats are spread over the rounds, so that a disturbance of the machine does not fall on one
system alone. The last column is the CPU that was left while bytes moved: under 15 % a figure is the CPU's and
not the links', and is marked void. A system that spins while it waits leaves none, but gives way to who needs
it; of that the column cannot tell.
"""

import argparse
import math
import os
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, VOID_BELOW, cannot_emulate, refuse_wrong, write_json
from examples.benchmarks.systems import all_systems
from examples.benchmarks.systems.base import System, heavy, polls
from orchestra.bounds import broadcast_s
from orchestra.units import format_block_size, format_bytes, format_rate, parse_rate, parse_size

TIMEOUT_S = 300.0
"""For one broadcast: a guess, several times what the slowest system was seen to take at the default size."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        receivers: hosts besides the source.
        size_bytes: of the object.
        rate_bytes_per_s: of each host's link, in each direction.
        repeats: broadcasts that count, of each system.
        rounds: over which they are spread.
        block_size_bytes: that the bound is stated for.
        timeout_s: for each broadcast.
        seed: of the order.
    """

    receivers: int
    size_bytes: int
    rate_bytes_per_s: float
    repeats: int
    rounds: int
    block_size_bytes: int
    timeout_s: float
    seed: int

    @property
    def ideal_s(self) -> float:
        """S/W: the object once over one link."""
        return self.size_bytes / self.rate_bytes_per_s

    @property
    def bound_s(self) -> float:
        """S/W · (1 + ⌊log2 N⌋ / M): no way of sending M blocks is faster (Bar-Noy and Kipnis 1994)."""
        return broadcast_s(self.size_bytes, self.receivers, self.block_size_bytes, self.rate_bytes_per_s)


@dataclass(slots=True)
class Measured:
    """What became of one system.

    Attributes:
        name, how, polls: of the system.
        times_s: of all broadcasts that counted.
        idle_shares: of the CPU, one of each round; NaN where it could not be told.
        failure: why there are no more times; empty if all went well.
    """

    name: str
    how: str
    polls: bool = False
    times_s: list[float] = field(default_factory=list)
    idle_shares: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def idle_share(self) -> float:
        """The least of the rounds; NaN if it could not be told in any."""
        return min((share for share in self.idle_shares if not math.isnan(share)), default=math.nan)

    @property
    def void(self) -> bool:
        """Whether the CPU, not the links, made the times."""
        return not self.polls and self.idle_share < VOID_BELOW


def spread_over(repeats: int, rounds: int) -> list[int]:
    """How many repeats each round has: as even as can be, the larger first, none of 0."""
    return [count for turn in range(rounds) if (count := repeats // rounds + (turn < repeats % rounds))]


def measure(plan: Plan, systems: Sequence[System]) -> list[Measured]:
    """Run every system in every round; a system that fails once is not tried again.

    Progress goes to stderr. The results stand in the order of ``systems``.
    """
    results = {system.name: Measured(system.name, system.how, polls(system)) for system in systems}
    order = random.Random(plan.seed)
    counts = spread_over(plan.repeats, plan.rounds)
    with tqdm(total=len(counts) * len(systems), unit="sitting", file=sys.stderr) as bar:
        for turn, repeats in enumerate(counts, 1):
            for system in order.sample(list(systems), len(systems)):
                result = results[system.name]
                bar.set_postfix_str(system.name)
                if not result.failure:
                    told = sit(plan, system, repeats, result)
                    bar.write(f"round {turn}/{len(counts)}  {system.name:24} {told}", file=sys.stderr)
                bar.update()
    return list(results.values())


def sit(plan: Plan, system: System, repeats: int, result: Measured) -> str:
    """Measure one system once, on a cluster of its own; what came out, in a line."""
    try:
        with (
            EmulatedCluster(plan.receivers + 1, plan.rate_bytes_per_s) as cluster,
            IdleWhileMoving(cluster) as idle,
        ):
            times_s = system.broadcast(cluster, plan.size_bytes, repeats, plan.timeout_s)
    except (RuntimeError, OSError) as failed:
        result.failure = " ".join(str(failed).split()) or type(failed).__name__
        return f"failed: {result.failure}"
    result.times_s += times_s
    result.idle_shares.append(idle.share)
    return "  ".join(f"{time_s:.2f}" for time_s in times_s)


def table(plan: Plan, results: Sequence[Measured], missing: dict[str, str]) -> str:
    """The results for people."""
    blocks = format_block_size(plan.block_size_bytes)
    measured = [result for result in results if result.times_s]
    width = max((len(result.name) for result in results), default=6)
    lines = [
        f"{format_bytes(plan.size_bytes)} from one host to {plan.receivers} receivers, links of "
        f"{format_rate(plan.rate_bytes_per_s)} each way, {plan.repeats} repeats in {plan.rounds} rounds",
        f"S/W = {plan.ideal_s:.3f} s; bound for blocks of {blocks}: {plan.bound_s:.3f} s "
        f"({plan.bound_s / plan.ideal_s:.3f} x S/W); {os.cpu_count()} cores",
        "",
        f"{'system':{width}}  {'median s':>9}  {'min-max s':>15}  {'x S/W':>6}  {'idle CPU':>8}",
    ]
    for result in sorted(measured, key=lambda each: statistics.median(each.times_s)):
        median = statistics.median(result.times_s)
        extent = f"{min(result.times_s):.2f}-{max(result.times_s):.2f}"
        idle = (
            "polls" if result.polls else "?" if math.isnan(result.idle_share) else f"{result.idle_share:.0%}"
        )
        note = "  void: too little CPU was left" if result.void else ""
        note += "" if len(result.times_s) == plan.repeats else f"  only {len(result.times_s)} repeats"
        figures = f"{median:9.3f}  {extent:>15}  {median / plan.ideal_s:6.2f}  {idle:>8}"
        lines.append(f"{result.name:{width}}  {figures}{note}")
    lines += ["", *(f"{result.name}: {result.how}" for result in results)]
    lines += [f"failed: {result.name}: {result.failure}" for result in results if result.failure]
    lines += [f"not here: {name}: {why}" for name, why in missing.items()]
    return "\n".join(lines)


def as_json(plan: Plan, results: Sequence[Measured], missing: dict[str, str]) -> dict[str, Any]:
    """The results for programs."""
    return {
        "receivers": plan.receivers,
        "size_bytes": plan.size_bytes,
        "rate_bytes_per_s": plan.rate_bytes_per_s,
        "repeats": plan.repeats,
        "rounds": plan.rounds,
        "seed": plan.seed,
        "cores": os.cpu_count(),
        "ideal_s": plan.ideal_s,
        "bound_s": plan.bound_s,
        "bound_block_size_bytes": plan.block_size_bytes,
        "systems": {
            result.name: {
                "how": result.how,
                "times_s": result.times_s,
                "median_s": statistics.median(result.times_s) if result.times_s else None,
                "ratio": statistics.median(result.times_s) / plan.ideal_s if result.times_s else None,
                "polls": result.polls,
                "idle_share": None if math.isnan(result.idle_share) else result.idle_share,
                "void": result.void,
                "failure": result.failure,
            }
            for result in results
        },
        "missing": missing,
    }


def plot(plan: Plan, results: Sequence[Measured], path: Path) -> None:
    """Medians as bars with their extent, and S/W as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = sorted(
        (result for result in results if result.times_s), key=lambda each: -statistics.median(each.times_s)
    )
    medians = [statistics.median(result.times_s) for result in shown]
    below = [median - min(result.times_s) for median, result in zip(medians, shown, strict=True)]
    above = [max(result.times_s) - median for median, result in zip(medians, shown, strict=True)]
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.42 * len(shown)), layout="constrained")
    ours = [result.name.startswith("Orchestra") for result in shown]
    bars = axes.barh(
        [result.name + (" (void)" if result.void else "") for result in shown],
        medians,
        xerr=(below, above),
        color=["#1f6fb2" if our else "#a8adb3" for our in ours],
        error_kw={"ecolor": "#333333", "capsize": 3, "linewidth": 1},
        height=0.65,
    )
    labels = [f"{median:.2f} s  ({median / plan.ideal_s:.2f}×)" for median in medians]
    axes.bar_label(bars, labels, padding=8, fontsize=9)
    axes.axvline(plan.ideal_s, color="#c0392b", linewidth=1.2, linestyle="--")
    axes.set_title(
        f"{format_bytes(plan.size_bytes)} to {plan.receivers} receivers over links of "
        f"{format_rate(plan.rate_bytes_per_s)}: median and extent of {plan.repeats}",
        fontsize=11,
    )
    axes.set_xlabel(f"seconds to the last receiver's last byte; dashed: S/W = {plan.ideal_s:.2f} s")
    axes.set_xlim(0, 1.28 * max((max(result.times_s) for result in shown), default=1.0))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def pick(systems: Sequence[System], names: str) -> list[System]:
    """Those whose names begin with one of ``names``, separated by commas; ``light`` ones, or ``all``.

    Only letters and digits count, in either case: ``openmpi`` picks what begins with "Open MPI".

    Raises:
        ValueError: for a name that no system's begins with.
    """
    if names == "all":
        return list(systems)
    if names == "light":
        return [system for system in systems if not heavy(system)]
    picked: set[str] = set()
    for name in names.split(","):
        found = {system.name for system in systems if _plain(system.name).startswith(_plain(name))}
        if not _plain(name) or not found:
            known = "; ".join(system.name for system in systems)
            raise ValueError(f"systems must be the beginnings of names ({known}), got {name!r}")
        picked |= found
    return [system for system in systems if system.name in picked]


def _plain(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receivers", type=int, default=16)
    parser.add_argument("--size", type=parse_size, default=parse_size("32MB"))
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=2, help="over which the repeats are spread")
    parser.add_argument(
        "--systems",
        default="light",
        help="light (all but what takes minutes to come up), all, or beginnings of names: orchestra,openmpi",
    )
    parser.add_argument(
        "--block-size",
        type=parse_size,
        default=parse_size("32KiB"),
        help="for the bound: what is passed on at a time, as Open MPI's chain and Orchestra do by default",
    )
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for each broadcast")
    parser.add_argument("--seed", type=int, default=0, help="of the order in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status: 0 if every system that is here did all its broadcasts."""
    parser = arguments()
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "receivers", "size", "repeats", "rounds", "block_size", "timeout")
    try:
        systems = pick(all_systems(), options.systems)
    except ValueError as wrong:
        parser.error(str(wrong))
    if cannot_emulate():
        return NO_ROOM
    plan = Plan(
        receivers=options.receivers,
        size_bytes=options.size,
        rate_bytes_per_s=options.rate,
        repeats=options.repeats,
        rounds=options.rounds,
        block_size_bytes=options.block_size,
        timeout_s=options.timeout,
        seed=options.seed,
    )
    missing = {system.name: reason for system in systems if (reason := system.missing()) is not None}
    results = measure(plan, [system for system in systems if system.name not in missing])
    print(table(plan, results, missing))
    write_json(options.json, as_json(plan, results, missing))
    if options.plot is not None:
        plot(plan, results, options.plot)
    return 1 if any(result.failure for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
