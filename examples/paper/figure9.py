"""Figure 9: completion of a broadcast against the number of receivers, by mechanism.

    python -m examples.paper.figure9 --output pictures

Writes figure9.png and figure9.md: 10 MB, 100 MB and 1 GB to 1, 10, 25, 50 and 100 receivers, with the paper's
blocks of 4 MiB and with the block size that Orchestra chooses, medians over seeds.
"""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from examples.paper.runs import BLOCK_BYTES, RATE_BYTES_PER_S, SYSTEMS, System, setup, simulate_all
from orchestra.bounds import broadcast_s
from orchestra.simulation.broadcast import SimulatedBroadcast
from orchestra.units import format_bytes

RECEIVERS = (1, 10, 25, 50, 100)
SIZES = (10_000_000, 100_000_000, 1 << 30)
"""The paper's 1 GB is taken for 1 GiB: that is what its ratio to the bound fits."""
PAPER = {("Cornet", 1 << 30, 100): 15.4}
"""Seconds read from the paper's text; of HDFS it says up to 5 times (R=3) and 4.5 times (R=10) Cornet's."""

Runs = Mapping[tuple[str, int, int, bool], list[SimulatedBroadcast]]


def main() -> None:
    """Run the sweep, print the table, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=".", help="folder for figure9.png and figure9.md")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each point (default: 3)")
    parser.add_argument("--receivers", type=int, nargs="+", default=RECEIVERS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="in bytes")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: 2)")
    options = parser.parse_args()
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    keys = [
        (system, size, receivers, own)
        for size in options.sizes
        for own in (False, True)
        for receivers in options.receivers
        for system in SYSTEMS
    ]
    setups = [
        setup(system, receivers, size, None if own else BLOCK_BYTES, seed)
        for system, size, receivers, own in keys
        for seed in range(options.seeds)
    ]
    results = iter(simulate_all(setups, options.workers))
    runs = {
        (system.label, size, receivers, own): [next(results) for _ in range(options.seeds)]
        for system, size, receivers, own in keys
    }
    table = as_table(runs, options.sizes, options.receivers)
    print(table)
    (folder / "figure9.md").write_text(table)
    draw(runs, options.sizes, options.receivers, folder / "figure9.png")


def as_table(runs: Runs, sizes: Iterable[int], receivers: Iterable[int]) -> str:
    """Seconds, and the ratio to S/W, for every point."""
    lines = [
        "# Figure 9: seconds to the last receiver (ratio to S/W)",
        "",
        f"Simulated, W = {RATE_BYTES_PER_S * 8 / 1e9:g} Gbit/s each way, control delay 20 ms; medians over "
        "seeds. The bound is that of 4 MiB blocks.",
    ]
    receivers = tuple(receivers)
    for size in sizes:
        for own in (False, True):
            blocks = "own block size" if own else "blocks of 4 MiB"
            lines += ["", f"## {format_bytes(size)}, {blocks}", ""]
            lines.append("| system | " + " | ".join(f"{count}" for count in receivers) + " | paper at 100 |")
            lines.append("|---" * (len(receivers) + 2) + "|")
            for system in SYSTEMS:
                cells = [_cell(runs[system.label, size, count, own]) for count in receivers]
                paper = PAPER.get((system.label, size, 100))
                told = "" if paper is None else f"{paper:g} ({paper / (size / RATE_BYTES_PER_S):.2f})"
                lines.append(f"| {system.label} | " + " | ".join(cells) + f" | {told} |")
            bounds = [broadcast_s(size, count, BLOCK_BYTES, RATE_BYTES_PER_S) for count in receivers]
            lines.append("| bound | " + " | ".join(f"{bound_s:.2f}" for bound_s in bounds) + " | |")
    return "\n".join(lines) + "\n"


def _cell(runs: list[SimulatedBroadcast]) -> str:
    middle = median(run.completion_s for run in runs)
    return f"{middle:.2f} ({middle / runs[0].setup.least_s:.2f})"


def draw(runs: Runs, sizes: Iterable[int], receivers: Iterable[int], path: Path) -> None:
    """One panel for each size and block size: median, and the range over seeds as a band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes, receivers = tuple(sizes), tuple(receivers)
    figure, panels = pyplot.subplots(2, len(sizes), figsize=(4.6 * len(sizes), 7.4), squeeze=False)
    for column, size in enumerate(sizes):
        for row, own in enumerate((False, True)):
            panel = panels[row][column]
            for system in SYSTEMS:
                _line(panel, system, [runs[system.label, size, count, own] for count in receivers], receivers)
            bounds = [broadcast_s(size, count, BLOCK_BYTES, RATE_BYTES_PER_S) for count in receivers]
            panel.plot(receivers, bounds, "k--", label="bound, 4 MiB blocks")
            paper = PAPER.get(("Cornet", size, 100))
            if paper is not None and not own:
                panel.plot([100], [paper], "b*", markersize=11, label="Cornet in the paper")
            panel.set_title(f"{format_bytes(size)}, {'own block size' if own else '4 MiB blocks'}")
            panel.set_xlabel("receivers")
            panel.set_ylabel("completion, s")
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
    handles, labels = panels[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=110)


def _line(
    panel: "object", system: System, points: list[list[SimulatedBroadcast]], receivers: tuple[int, ...]
) -> None:
    times = [sorted(run.completion_s for run in point) for point in points]
    middle = [median(point) for point in times]
    panel.plot(receivers, middle, "o-", color=system.color, label=system.label, markersize=4)  # type: ignore[attr-defined]
    low, high = [point[0] for point in times], [point[-1] for point in times]
    panel.fill_between(receivers, low, high, color=system.color, alpha=0.15)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
