"""Figure 14: three shuffles of high priority, one after another, beside a long one of low priority.

    python -m examples.paper.figure14 --output pictures      (as root, for emulated hosts)

Writes figure14.png and figure14.md: with turns (policy ``priority``, weighted shuffles, rates of ports told),
and without, when TCP shares ports by itself. Before that each repeat runs one shuffle of high priority alone.
The picture has the share of each shuffle of the flows that have not ended, and of the bytes that move, over
time.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from examples.benchmarks.figures import Series
from examples.benchmarks.jobs import Done, Job, Sample, Setting
from examples.paper.side_by_side import (
    EMULATED,
    PAPER_RATE_BYTES_PER_S,
    SIMULATED,
    Links,
    Runs,
    all_to_all,
    parser_for,
    picture,
    places,
    run,
)
from orchestra.units import format_bytes, format_rate

HIGH = ("high 1", "high 2", "high 3")
LOW = "low"
WITHOUT = Setting("without", "fair", "fair", told=False, color="tab:gray")
WITH = Setting("with turns", "priority", "weighted", color="tab:blue")
SETTINGS = (WITHOUT, WITH)
COLORS = {LOW: "lightgray", **dict(zip(HIGH, ("tab:blue", "tab:orange", "tab:green"), strict=True))}
PAPER_S = {WITHOUT: (14.1, 45.6), WITH: (8.1, 48.7)}
"""Seconds of each high one, and of the low one: 256 MB and 2 GB a mapper, 30 nodes."""
FIRST_SHARE = 0.25
"""Of the time that the low one needs alone, when the first high one comes (the paper: after 10 s of 45)."""
ALONE, TOGETHER = "alone", "together"

Found = Mapping[tuple[str, Setting], Runs]


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the table, write both files."""
    parser = parser_for(__doc__, "figure14", rate="25Mbit", repeats=5, seeds=1)
    parser.add_argument("--agents", type=int, default=6, help="emulated hosts beside one (default: 6)")
    parser.add_argument(
        "--high", type=int, default=20_000_000, help="bytes a mapper, emulated (default: 20000000)"
    )
    parser.add_argument("--simulated-agents", type=int, default=10, help="default: 10")
    parser.add_argument(
        "--simulated-high", type=int, default=64_000_000, help="bytes a mapper (default: 64000000)"
    )
    parser.add_argument(
        "--times", type=float, default=8.0, help="as much of the low one (default: 8, as in the paper)"
    )
    options = parser.parse_args(argv)
    where = places(parser, options, "agents", "high", "simulated_agents", "simulated_high", "times")
    found: dict[tuple[str, Setting], Runs] = {}
    told, alone_s, high_bytes = [], {}, {}
    for place in where:
        if place == EMULATED:
            links, high = Links(options.agents, options.rate), options.high
        else:
            links, high = Links(options.simulated_agents, PAPER_RATE_BYTES_PER_S), options.simulated_high
        low = round(high * options.times)
        told.append(
            f"{place.capitalize()}: {links.agents} nodes, {format_rate(links.rate_bytes_per_s)} each way, "
            f"{format_bytes(high)} a mapper of high priority, {format_bytes(low)} of low."
        )
        alone_s[place] = high * (links.agents - 1) / links.agents / links.rate_bytes_per_s
        high_bytes[place] = float(high)
        parts = shuffles(links.agents, high, low, FIRST_SHARE * options.times * alone_s[place])
        for setting in SETTINGS:
            found[place, setting] = run(place, setting, links, parts, options, sample_s=alone_s[place] / 8)
    table = as_table(found, told, alone_s)
    print(table)
    (options.output / "figure14.md").write_text(table)
    draw(found, high_bytes, options.times, options.output / "figure14.png")
    return 0


def shuffles(nodes: int, high_bytes: int, low_bytes: int, first_s: float) -> dict[str, list[Job]]:
    """One of high priority alone; then the low one, and three high ones from ``first_s`` on."""
    high, low = all_to_all(nodes, high_bytes), all_to_all(nodes, low_bytes)
    together = [Job(LOW, matrix=low), Job(HIGH[0], first_s, matrix=high, priority=1)]
    together += [Job(name, after=before, matrix=high, priority=1) for before, name in pairwise(HIGH)]
    return {ALONE: [Job(ALONE, matrix=high, priority=1)], TOGETHER: together}


def series_of(runs: Runs, name: str) -> Series:
    """Seconds that one shuffle took, of each run."""
    part = ALONE if name == ALONE else TOGETHER
    return runs.series(lambda parts: parts[part][name].completion_s)


def as_table(found: Found, told: Sequence[str], alone_s: Mapping[str, float]) -> str:
    """How long each took, and how much longer than alone."""
    lines = [
        "# Figure 14: shuffles of high priority beside one of low",
        "",
        *told,
        "Seconds; medians, and in brackets the least and the most; in percent, over the high one alone.",
    ]
    for place, bound_s in alone_s.items():
        lines += [
            "",
            f"## {place.capitalize()}",
            "",
            f"A high one needs {bound_s:.2f} s at the full rate.",
            "",
        ]
        lines.append("| | alone | high 1 | high 2 | high 3 | low | idle CPU |")
        lines.append("|---|---|---|---|---|---|---|")
        for setting in SETTINGS:
            runs = found[place, setting]
            alone = series_of(runs, ALONE)
            cells = [f"{alone.median:.2f} [{alone.extent()}]"]
            for name in HIGH:
                took = series_of(runs, name)
                cells.append(f"{took.median:.2f} [{took.extent()}] {took.median / alone.median - 1:+.0%}")
            low = series_of(runs, LOW)
            cells += [f"{low.median:.2f} [{low.extent()}]", low.idle]
            lines.append(f"| {setting.label} | " + " | ".join(cells) + " |")
        before, after = (series_of(found[place, setting], LOW).median for setting in (WITHOUT, WITH))
        lines += ["", f"The low one ends {after / before - 1:+.1%} later with turns than without."]
    without, with_ = PAPER_S[WITHOUT], PAPER_S[WITH]
    lines += [
        "",
        f"The paper (30 nodes, 256 MB and 2 GB): {without[0]} s each without, {with_[0]} s with; the low one "
        f"{without[1]} and {with_[1]} s, {with_[1] / without[1] - 1:+.0%}.",
    ]
    return "\n".join(lines) + "\n"


def active_flows(done: Mapping[str, Done], times_s: Sequence[float]) -> dict[str, list[int]]:
    """How many flows of each shuffle had begun and not ended at each time."""
    found = {}
    for name, its in done.items():
        ends = [its.accepted_s + at_s for row in its.flow_completion_s.values() for at_s in row.values()]
        found[name] = [sum(end > at_s for end in ends) if at_s >= its.accepted_s else 0 for at_s in times_s]
    return found


def moving_bytes(
    samples: Sequence[Sample], sizes: Mapping[str, float]
) -> tuple[list[float], dict[str, list[float]]]:
    """Bytes/s of each shuffle between two samples, and when.

    Args:
        samples: how far shuffles were.
        sizes: of shuffles, bytes in all.
    """
    times_s = [(before.at_s + after.at_s) / 2 for before, after in pairwise(samples)]
    rates: dict[str, list[float]] = {name: [] for name in sizes}
    for before, after in pairwise(samples):
        for name, size in sizes.items():
            begun = before.progress.get(name, 0.0)
            now = after.progress.get(name, 1.0 if name in before.progress else 0.0)
            rates[name].append(max(0.0, now - begun) * size / (after.at_s - before.at_s))
    return times_s, rates


def draw(found: Found, high_bytes: Mapping[str, float], times: float, path: Path) -> None:
    """A row a place and measure, a column a setting: shares over time, stacked.

    Args:
        found: all runs; the first of each is drawn.
        high_bytes: of a shuffle of high priority, in each place.
        times: as much of the low one.
        path: of the picture.
    """
    rows = [
        (place, what)
        for place in (EMULATED, SIMULATED)
        if (place, WITH) in found
        for what in ("flows", "bytes")
    ]
    with picture(path, len(rows), len(SETTINGS), (10.0, 2.7 * len(rows))) as (figure, panels):
        for row, (place, what) in enumerate(rows):
            longest_s = max(
                done.ended_s
                for setting in SETTINGS
                for done in found[place, setting].done[0][TOGETHER].values()
            )
            for column, setting in enumerate(SETTINGS):
                runs = found[place, setting]
                done = runs.done[0][TOGETHER]
                if what == "flows":
                    times_s = list(np.linspace(0.0, longest_s, 400))
                    amounts = {
                        name: list(map(float, its)) for name, its in active_flows(done, times_s).items()
                    }
                else:
                    sizes = dict.fromkeys(HIGH, high_bytes[place]) | {LOW: times * high_bytes[place]}
                    times_s, amounts = moving_bytes(runs.samples, sizes)
                panel = panels[row][column]
                names = [LOW, *HIGH]
                total = np.maximum(1e-9, np.sum([amounts[name] for name in names], axis=0))
                shares = [100 * np.array(amounts[name]) / total for name in names]
                panel.stackplot(
                    times_s, shares, labels=names, colors=[COLORS[name] for name in names], step="mid"
                )
                panel.set_xlim(0, longest_s)
                panel.set_ylim(0, 100)
                panel.set_title(f"{place}, {setting.label}", fontsize=10)
                panel.set_ylabel("% of active flows" if what == "flows" else "% of bytes moving")
                panel.set_xlabel("seconds")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
        figure.tight_layout(rect=(0, 0.2 / len(rows), 1, 1))


if __name__ == "__main__":
    raise SystemExit(main())
