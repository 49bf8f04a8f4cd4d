"""Table 3: a weighted shuffle against one whose flows share ports fairly.

    python -m examples.paper.table3 --output pictures      (as root, for emulated hosts)

Writes table3.png and table3.md. Two receivers each take one unit from k senders of their own, and k units
from one sender that they share (the paper's figure 13). Fair sharing is TCP's, left to itself, or exact, by
pacing. Weighted flows get rates in proportion to what they have left, kept by pacing or, as in the paper, by
numbers of connections.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from examples.benchmarks.figures import Series, listed
from examples.benchmarks.jobs import Done, Job, Setting
from examples.paper.side_by_side import (
    EMULATED,
    PAPER_RATE_BYTES_PER_S,
    SIMULATED,
    Links,
    Runs,
    parser_for,
    picture,
    places,
    run,
)
from orchestra.units import format_bytes, format_rate

PAPER_S = {2: (83.3, 70.6), 3: (131.0, 105.0), 4: (183.0, 142.0)}
"""Seconds by senders of a receiver's own, fair and weighted, of units of 2 GB."""
THEORY_UNITS = {2: (5, 4), 3: (8, 6), 4: (11, 8)}
"""The same where ports are shared exactly, in times that a unit takes alone."""
FAIR = Setting("fair, by TCP", "fair", "fair", told=False, color="tab:gray")
FAIR_PACED = Setting("fair, paced", "fair", "fair", color="tab:green")
WEIGHTED = (
    Setting("weighted, paced", "fair", "weighted", color="tab:blue"),
    Setting("weighted, by connections", "fair", "weighted", enforcement="connections", color="tab:orange"),
)

Found = Mapping[tuple[str, int, Setting], Runs]


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the table, write both files."""
    parser = parser_for(__doc__, "table3", rate="50Mbit", repeats=7, seeds=1)
    parser.add_argument(
        "--senders",
        type=listed(int),
        default=list(PAPER_S),
        help="k, the senders of a receiver's own (default: 2,3,4)",
    )
    parser.add_argument("--unit", type=int, default=12_000_000, help="bytes, emulated (default: 12000000)")
    parser.add_argument(
        "--simulated-unit",
        type=int,
        default=200_000_000,
        help="bytes (default: 200000000, a tenth of the paper's)",
    )
    options = parser.parse_args(argv)
    where = places(parser, options, "senders", "unit", "simulated_unit")
    if unknown := [k for k in options.senders if k not in PAPER_S]:
        parser.error(f"--senders must be of 2, 3 and 4, got {unknown[0]}")
    found: dict[tuple[str, int, Setting], Runs] = {}
    rates = {EMULATED: options.rate, SIMULATED: PAPER_RATE_BYTES_PER_S}
    units = {EMULATED: options.unit, SIMULATED: options.simulated_unit}
    for place in where:
        for k in options.senders:
            parts = {"": [Job("shuffle", matrix=topology(k, units[place]))]}
            for setting in (FAIR, FAIR_PACED, *WEIGHTED):
                links = Links(2 * k + 3, rates[place])
                found[place, k, setting] = run(place, setting, links, parts, options)
    told = [
        f"{place.capitalize()}: {format_rate(rates[place])} each way, a unit is "
        f"{format_bytes(units[place])}, {'1 run' if runs == 1 else f'{runs} runs'}."
        for place, runs in ((EMULATED, options.repeats), (SIMULATED, options.seeds))
        if place in where
    ]
    table = as_table(found, {place: units[place] / rates[place] for place in where}, told)
    print(table)
    (options.output / "table3.md").write_text(table)
    draw(found, options.output / "table3.png")
    return 0


def topology(k: int, unit_bytes: int) -> dict[str, dict[str, int]]:
    """Bytes by mapper, then by reducer: h1 and h2 receive, the last sends to both."""
    own = {
        f"h{3 + receiver * k + sender}": {f"h{1 + receiver}": unit_bytes}
        for receiver in range(2)
        for sender in range(k)
    }
    return {**own, f"h{3 + 2 * k}": {"h1": k * unit_bytes, "h2": k * unit_bytes}}


def completion(runs: Runs) -> Series:
    """Seconds until the last flow had ended, of each run."""
    return runs.series(lambda parts: _shuffle(parts).completion_s)


def first_flow(runs: Runs) -> Series:
    """When the first flow had ended, as a share of when the last had, of each run."""

    def share(parts: Mapping[str, Mapping[str, Done]]) -> float:
        ends = [at_s for row in _shuffle(parts).flow_completion_s.values() for at_s in row.values()]
        return min(ends) / max(ends)

    return runs.series(share)


def _shuffle(parts: Mapping[str, Mapping[str, Done]]) -> Done:
    return parts[""]["shuffle"]


def speedup(fair_s: float, weighted_s: float) -> float:
    """By how much the weighted one is faster, as the paper counts it."""
    return fair_s / weighted_s - 1


def as_table(found: Found, units_s: Mapping[str, float], told: Sequence[str]) -> str:
    """Times in units, speedups beside theory's and the paper's, and how close flows end."""
    lines = ["# Table 3: weighted shuffle", "", *told, "Medians, and in brackets the least and the most."]
    lines += ["Times are in what a unit takes alone. *First flow*: when it ended, as a share of the last's."]
    for place, unit_s in units_s.items():
        ks = list(dict.fromkeys(k for where, k, _ in found if where == place))
        if not ks:
            continue
        lines += ["", f"## {place.capitalize()}", ""]
        heads = ("k", "", "time, units", "theory", "over fair, paced", "over fair, TCP", "theory", "paper")
        lines.append("| " + " | ".join([*heads, "first flow", "idle CPU"]) + " |")
        lines.append("|---" * (len(heads) + 2) + "|")
        for k in ks:
            tcp, paced = (completion(found[place, k, setting]) for setting in (FAIR, FAIR_PACED))
            for setting, times in ((FAIR, tcp), (FAIR_PACED, paced)):
                lines.append(
                    f"| {k} | {setting.label} | {_in_units(times, unit_s)} | {THEORY_UNITS[k][0]} | | | | | "
                    f"{_share(first_flow(found[place, k, setting]))} | {times.idle} |"
                )
            for setting in WEIGHTED:
                runs = found[place, k, setting]
                times = completion(runs)
                lines.append(
                    f"| {k} | {setting.label} | {_in_units(times, unit_s)} | {THEORY_UNITS[k][1]} | "
                    f"{speedup(paced.median, times.median):.1%} | {speedup(tcp.median, times.median):.1%} | "
                    f"{speedup(*THEORY_UNITS[k]):.1%} | "
                    f"{speedup(*PAPER_S[k]):.0%} | {_share(first_flow(runs))} | {times.idle} |"
                )
    return "\n".join(lines) + "\n"


def _in_units(times: Series, unit_s: float) -> str:
    values = [value / unit_s for value in times.values]
    return f"{median(values):.2f} [{min(values):.2f}…{max(values):.2f}]"


def _share(shares: Series) -> str:
    return f"{shares.median:.3f} [{min(shares.values):.3f}…{max(shares.values):.3f}]"


def draw(found: Found, path: Path) -> None:
    """Speedups, in groups by topology: theory, the paper, and what was measured."""
    ks = list(dict.fromkeys(k for _, k, _ in found))
    bars: list[tuple[str, str, str, list[float]]] = [
        ("theory", "white", "", [speedup(*THEORY_UNITS[k]) for k in ks]),
        ("the paper, by connections", "lightgray", "", [speedup(*PAPER_S[k]) for k in ks]),
    ]
    for place, hatch in ((EMULATED, ""), (SIMULATED, "//")):
        for setting in WEIGHTED:
            if (place, ks[0], setting) in found:
                values = [
                    speedup(
                        completion(found[place, k, FAIR_PACED]).median,
                        completion(found[place, k, setting]).median,
                    )
                    for k in ks
                ]
                bars.append((f"{place}, {setting.label}", setting.color, hatch, values))
    with picture(path, 1, 1, (9.0, 5.0)) as (figure, panels):
        panel = panels[0][0]
        width = 0.86 / len(bars)
        for at, (label, color, hatch, values) in enumerate(bars):
            places_ = [place + (at - (len(bars) - 1) / 2) * width for place in range(len(ks))]
            panel.bar(
                places_,
                [100 * value for value in values],
                width,
                label=label,
                color=color,
                hatch=hatch,
                edgecolor="black",
                linewidth=0.6,
            )
        panel.set_xticks(range(len(ks)), [f"k = {k}" for k in ks])
        panel.set_ylabel("faster than exact fair sharing, %")
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
        panel.set_title("Weighted shuffle (table 3)")
        handles, labels = panel.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8)
        figure.tight_layout(rect=(0, 0.1, 1, 1))


if __name__ == "__main__":
    raise SystemExit(main())
