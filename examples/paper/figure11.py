"""Figure 11: broadcasts over three racks in a line, unknown to the controller, told, and inferred.

    python -m examples.paper.figure11 --output pictures      (as root, for emulated hosts)

Writes figure11.png and figure11.md. The source stands in the first rack, and in the middle one; and all stand
at one switch, where there are no racks to be found. Receivers join each broadcast in an order that is drawn.
Emulated times are from the call of `broadcast` to the last return from `receive`, simulated ones the
library's own. Racks are inferred from broadcasts that are not counted; how many it took is told.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.benchmarks.figures import listed
from examples.benchmarks.rack_runs import Knows, Layout, RackRuns, emulate, simulate_runs
from examples.paper.side_by_side import (
    EMULATED,
    PAPER_RATE_BYTES_PER_S,
    SIMULATED,
    parser_for,
    picture,
    places,
)
from orchestra.bounds import passed_on_s
from orchestra.units import format_bytes, format_rate, parse_rate, parse_size

ONE_SWITCH = "one switch"
PLACES = ("first rack", "middle rack", ONE_SWITCH)
"""Where the source stands."""
PAPER_SHARES = {Knows.GIVEN: 0.50, Knows.INFERRED: 0.53}
"""Of the time that was taken where racks were not known (200 MB, three racks of ten)."""
BLOCK_BYTES = 1 << 16
"""For the bound, which falls with the size of blocks: the least that the library chooses."""
COLORS = {Knows.OBLIVIOUS: "tab:gray", Knows.GIVEN: "tab:blue", Knows.INFERRED: "tab:green"}

Cell = tuple[str, str, int]
"""Where it ran, where the source stands, and the object's size in bytes."""
Found = Mapping[Cell, Mapping[Knows, RackRuns]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the table, write both files."""
    parser = parser_for(__doc__, "figure11", rate="50Mbit", repeats=10, seeds=1)
    parser.add_argument(
        "--racks", type=listed(int), default=[5, 5, 5], help="emulated receivers (default: 5,5,5)"
    )
    parser.add_argument("--uplink", type=parse_rate, help="of emulated racks (default: as --rate)")
    parser.add_argument(
        "--sizes",
        type=listed(parse_size),
        default=[16_000_000, 32_000_000],
        help="emulated (default: 16MB,32MB)",
    )
    parser.add_argument("--simulated-racks", type=listed(int), default=[10, 10, 10], help="default: 10,10,10")
    parser.add_argument(
        "--simulated-size", type=parse_size, default=200_000_000, help="default: 200MB, the paper's"
    )
    parser.add_argument("--simulated-repeats", type=int, default=5, help="default: 5")
    options = parser.parse_args(argv)
    where = places(
        parser, options, "racks", "sizes", "simulated_racks", "simulated_size", "simulated_repeats"
    )
    uplink = options.rate if options.uplink is None else options.uplink
    found: dict[Cell, dict[Knows, RackRuns]] = {}
    bounds: dict[Cell, tuple[float, float]] = {}
    told: list[str] = []
    for place in where:
        racks = tuple(options.racks if place == EMULATED else options.simulated_racks)
        rate = options.rate if place == EMULATED else PAPER_RATE_BYTES_PER_S
        between = uplink if place == EMULATED else rate
        told.append(
            f"{place.capitalize()}: {', '.join(map(str, racks))} receivers, {format_rate(rate)} each way, "
            f"{format_rate(between)} between neighbouring racks."
        )
        for stands in PLACES:
            layout = laid_out(stands, racks, rate, between)
            for seed, size in enumerate(options.sizes if place == EMULATED else [options.simulated_size]):
                its = found[place, stands, size] = {}
                ideal_s = size / min(rate, layout.uplink_bytes_per_s or rate)
                bounds[place, stands, size] = (
                    ideal_s,
                    max(ideal_s, passed_on_s(size, sum(racks), BLOCK_BYTES, rate)),
                )
                for knows in Knows:
                    if knows is Knows.GIVEN and stands == ONE_SWITCH:
                        continue  # there are none
                    if place == EMULATED:
                        its[knows] = emulate(layout, knows, size, options.repeats, seed)
                    else:
                        its[knows] = simulate_runs(layout, knows, size, options.simulated_repeats, seed)
    table = as_table(found, told, bounds)
    print(table)
    (options.output / "figure11.md").write_text(table)
    draw(found, bounds, options.output / "figure11.png")
    return 0


def laid_out(stands: str, racks: tuple[int, ...], rate: float, between: float) -> Layout:
    """The hosts with the source where it ``stands``."""
    if stands == ONE_SWITCH:
        return Layout((sum(racks),), 0, rate, None)
    return Layout(racks, 0 if stands == PLACES[0] else len(racks) // 2, rate, between)


def as_table(found: Found, told: Sequence[str], bounds: Mapping[Cell, tuple[float, float]]) -> str:
    """Times, their ratios, and what passed the uplinks; and each time, in the order in which they ran, with
    what the controller said of racks meanwhile."""
    heads = (
        "source in/at",
        "object",
        "racks",
        "time, s",
        "to S/W",
        "to unknown",
        "paper",
        "busiest uplink",
        "training",
        "idle CPU",
    )
    lines = [
        "# Figure 11: three racks in a line",
        "",
        *told,
        "Medians, and in brackets the least and the most. *S/W*: over the slowest link that all bytes pass.",
        "*Bound*: in blocks of 64 KiB to as many receivers on one switch, which racks do not make easier.",
        "*Busiest uplink*: the most that passed any in one direction in any run, in objects.",
    ]
    for place in dict.fromkeys(cell[0] for cell in found):
        lines += [
            "",
            f"## {place.capitalize()}",
            "",
            "| " + " | ".join(heads) + " |",
            "|---" * len(heads) + "|",
        ]
        each = ["", "Each broadcast, in the order in which they ran, s:", ""]
        for (at, stands, size), its in found.items():
            if at != place:
                continue
            ideal_s, least_s = bounds[at, stands, size]
            what = f"{format_bytes(size)}, S/W {ideal_s:.2f} s, bound {least_s:.2f} s"
            unknown_s = its[Knows.OBLIVIOUS].series.median
            for knows, runs in its.items():
                series = runs.series
                paper = f"{PAPER_SHARES[knows]:.2f}" if knows in PAPER_SHARES and stands != ONE_SWITCH else ""
                passed = runs.busiest_uplink(size)
                uplink = "" if math.isnan(passed) else f"{passed:.2f}"
                training = f"{len(runs.training_s)}" if knows is Knows.INFERRED else ""
                lines.append(
                    f"| {stands} | {what} | {knows.value} | {series.median:.2f} [{series.extent()}] | "
                    f"{series.median / ideal_s:.3f} | {series.median / unknown_s:.2f} | {paper} | {uplink} | "
                    f"{training} | {series.idle} |"
                )
                times = ", ".join(f"{time_s:.2f}" for time_s in runs.times_s)
                each.append(f"- {stands}, {format_bytes(size)}, {knows.value}: {times}")
                each += [f"  - {line}" for line in runs.said]
        lines += each
    return "\n".join(lines) + "\n"


def draw(found: Found, bounds: Mapping[Cell, tuple[float, float]], path: Path) -> None:
    """A panel a place: bars from least to most, a group for each source and size."""
    wheres = [place for place in (EMULATED, SIMULATED) if any(cell[0] == place for cell in found)]
    with picture(path, 1, len(wheres), (6.5 * len(wheres), 4)) as (figure, panels):
        for panel, place in zip(panels[0], wheres, strict=True):
            cells = [cell for cell in found if cell[0] == place]
            for group, cell in enumerate(cells):
                for knows, runs in found[cell].items():
                    series = runs.series
                    low, high = series.median - min(series.values), max(series.values) - series.median
                    panel.bar(
                        group + 0.27 * (list(Knows).index(knows) - 1),
                        series.median,
                        0.25,
                        yerr=[[low], [high]],
                        capsize=3,
                        color=COLORS[knows],
                        label=knows.value if not group else None,
                    )
                panel.plot(
                    [group - 0.4, group + 0.4], [bounds[cell][0]] * 2, "k--", label=None if group else "S/W"
                )
            panel.set_xticks(
                range(len(cells)),
                [f"{stands},\n{format_bytes(size)}" for _, stands, size in cells],
            )
            panel.set_title(place)
            panel.set_ylabel("completion, s")
            panel.set_xlabel("where the source stands, and size")
            panel.set_ylim(bottom=0)
            panel.grid(axis="y", alpha=0.3)
            panel.set_axisbelow(True)
            panel.legend(frameon=False, fontsize=8)
        figure.tight_layout()


if __name__ == "__main__":
    raise SystemExit(main())
