"""Figure 15: four equal shuffles at once, under fair sharing, FIFO and FIFO+.

    python -m examples.paper.figure15 --output pictures      (as root, for emulated hosts)

Writes figure15.png and figure15.md. Every node is mapper and reducer of all four. Fair sharing is TCP's, left
to itself. FIFO lets one after another have all ports; FIFO+ gives each of the others a few percent meanwhile.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from examples.benchmarks.figures import Series
from examples.benchmarks.jobs import Done, Job, Setting
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

SHUFFLES = 4
FAIR = Setting("fair, by TCP", "fair", "fair", told=False, color="tab:gray")
FIFO = Setting("FIFO", "fifo", "weighted", color="tab:blue")
FIFO_PLUS = Setting("FIFO+", "fifo+", "weighted", color="tab:green")
SETTINGS = (FAIR, FIFO, FIFO_PLUS)
PAPER_RATIO, THEORY_RATIO = 1.45, SHUFFLES / (sum(range(1, SHUFFLES + 1)) / SHUFFLES)
"""How many times sooner shuffles end under FIFO, on average (the paper's mean is 34.6 s)."""
APART_S = 0.02
"""Between two of them, so that they come in order."""

Found = Mapping[tuple[str, Setting], Runs]


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the table, write both files."""
    parser = parser_for(__doc__, "figure15", rate="25Mbit", repeats=7, seeds=1)
    parser.add_argument("--agents", type=int, default=6, help="emulated hosts beside one (default: 6)")
    parser.add_argument(
        "--size", type=int, default=20_000_000, help="bytes for each reducer, emulated (default: 20000000)"
    )
    parser.add_argument("--simulated-agents", type=int, default=12, help="default: 12")
    parser.add_argument(
        "--simulated-size",
        type=int,
        default=250_000_000,
        help="bytes for each reducer (default: 250000000, a quarter of the paper's)",
    )
    options = parser.parse_args(argv)
    where = places(parser, options, "agents", "size", "simulated_agents", "simulated_size")
    found: dict[tuple[str, Setting], Runs] = {}
    told, alone_s = [], {}
    for place in where:
        if place == EMULATED:
            links, size = Links(options.agents, options.rate), options.size
        else:
            links, size = Links(options.simulated_agents, PAPER_RATE_BYTES_PER_S), options.simulated_size
        told.append(
            f"{place.capitalize()}: {links.agents} nodes, {format_rate(links.rate_bytes_per_s)} each way, "
            f"{format_bytes(size)} for each reducer of each shuffle."
        )
        alone_s[place] = size * (links.agents - 1) / links.agents / links.rate_bytes_per_s
        parts = {"": shuffles(links.agents, size)}
        for setting in SETTINGS:
            found[place, setting] = run(place, setting, links, parts, options)
    table = as_table(found, told, alone_s)
    print(table)
    (options.output / "figure15.md").write_text(table)
    draw(found, options.output / "figure15.png")
    return 0


def shuffles(nodes: int, bytes_a_reducer: int) -> list[Job]:
    """Equal ones, as good as at once."""
    matrix = all_to_all(nodes, bytes_a_reducer)
    return [Job(f"shuffle {at}", at * APART_S, matrix=matrix) for at in range(1, SHUFFLES + 1)]


def completions_s(parts: Mapping[str, Mapping[str, Done]]) -> list[float]:
    """Of each shuffle of one run, the soonest first."""
    return sorted(done.completion_s for done in parts[""].values())


def mean(runs: Runs) -> Series:
    """Seconds that a shuffle took on average, of each run."""
    return runs.series(lambda parts: sum(completions_s(parts)) / SHUFFLES)


def last(runs: Runs) -> Series:
    """Seconds until the last shuffle had ended, of each run."""
    return runs.series(lambda parts: completions_s(parts)[-1])


def middle_completions_s(runs: Runs) -> list[float]:
    """Of each shuffle, the soonest first, medians over runs."""
    return [median(its) for its in zip(*map(completions_s, runs.done), strict=True)]


def as_table(found: Found, told: Sequence[str], alone_s: Mapping[str, float]) -> str:
    """Means, their ratios to fair sharing's, and when each shuffle ended."""
    lines = [
        "# Figure 15: four equal shuffles",
        "",
        *told,
        "Medians, and in brackets the least and the most.",
    ]
    for place, bound_s in alone_s.items():
        lines += ["", f"## {place.capitalize()}", ""]
        lines.append(
            f"One alone needs {bound_s:.2f} s at the full rate, all four {SHUFFLES * bound_s:.2f} s."
        )
        lines.append("")
        heads = (
            "",
            "mean, s",
            "better than fair",
            "theory",
            "paper",
            "last, s",
            "to fair's",
            "each, s",
            "idle CPU",
        )
        lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        fair = mean(found[place, FAIR]), last(found[place, FAIR])
        for setting in SETTINGS:
            runs = found[place, setting]
            means, lasts = mean(runs), last(runs)
            ratios = (f"{THEORY_RATIO:.2f}", f"{PAPER_RATIO:.2f}") if setting is FIFO else ("", "")
            each = " ".join(f"{its:.1f}" for its in middle_completions_s(runs))
            later = lasts.median / fair[1].median - 1
            lines.append(
                f"| {setting.label} | {means.median:.2f} [{means.extent()}] | "
                f"{fair[0].median / means.median:.2f} | {ratios[0]} | {ratios[1]} | "
                f"{lasts.median:.2f} [{lasts.extent()}] | {later:+.1%} | {each} | "
                f"{means.idle} |"
            )
    return "\n".join(lines) + "\n"


def draw(found: Found, path: Path) -> None:
    """A row a place: average times, and the individual ones stacked."""
    rows = [place for place in (EMULATED, SIMULATED) if (place, FAIR) in found]
    with picture(path, len(rows), 2, (9.5, 3.6 * len(rows))) as (figure, panels):
        for row, place in enumerate(rows):
            averages, stacks = panels[row]
            fair_s = mean(found[place, FAIR]).median
            for at, setting in enumerate(SETTINGS):
                runs = found[place, setting]
                means = mean(runs)
                low, high = means.median - min(means.values), max(means.values) - means.median
                averages.bar(at, means.median, color=setting.color, yerr=[[low], [high]], capsize=4)
                bottom = 0.0
                for number, took_s in enumerate(middle_completions_s(runs)):
                    stacks.bar(
                        at,
                        took_s,
                        bottom=bottom,
                        color=setting.color,
                        alpha=1 - 0.2 * number,
                        edgecolor="white",
                    )
                    stacks.text(
                        at, bottom + took_s / 2, f"{took_s:.1f}", ha="center", va="center", fontsize=8
                    )
                    bottom += took_s
            for ratio, style, label in (
                (THEORY_RATIO, "k--", "FIFO in theory"),
                (PAPER_RATIO, "k:", "FIFO in the paper"),
            ):
                averages.plot([0.6, 1.4], [fair_s / ratio] * 2, style, label=label)
            averages.legend(frameon=False, fontsize=8)
            averages.set_title(f"{place}: mean of four")
            stacks.set_title(f"{place}: each of the four, stacked")
            for panel in (averages, stacks):
                panel.set_xticks(range(len(SETTINGS)), [setting.label for setting in SETTINGS])
                panel.set_ylabel("completion, s")
                panel.grid(axis="y", alpha=0.3)
                panel.set_axisbelow(True)
        figure.tight_layout()


if __name__ == "__main__":
    raise SystemExit(main())
