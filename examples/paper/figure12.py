"""Figure 12: where inference puts the nodes of three racks in a line.

    python -m examples.paper.figure12 --output pictures      (as root, for emulated hosts)

Writes figure12.png and figure12.md. Markers are the true racks, ellipses the inferred ones, two standard
deviations wide. The source is in the middle rack; it receives nothing, and is not shown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.benchmarks.figures import listed
from examples.benchmarks.rack_runs import Knows, Layout, RackRuns, emulate, simulate_runs
from examples.paper.side_by_side import (
    EMULATED,
    PAPER_RATE_BYTES_PER_S,
    parser_for,
    picture,
    places,
)
from orchestra.units import format_bytes, format_rate, parse_size

MARKERS = "osD^v<>pP*"
LEAST_SPREAD = 0.02
"""Of an ellipse, as a share of the picture: nodes that lie on top of each other are to be seen."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print what was inferred, write both files."""
    parser = parser_for(__doc__, "figure12", rate="50Mbit", repeats=1, seeds=1)
    parser.add_argument(
        "--racks", type=listed(int), default=[5, 5, 5], help="emulated receivers (default: 5,5,5)"
    )
    parser.add_argument("--size", type=parse_size, default=16_000_000, help="emulated (default: 16MB)")
    parser.add_argument("--simulated-racks", type=listed(int), default=[10, 10, 10], help="default: 10,10,10")
    parser.add_argument(
        "--simulated-size", type=parse_size, default=200_000_000, help="default: 200MB, the paper's"
    )
    options = parser.parse_args(argv)
    where = places(parser, options, "racks", "size", "simulated_racks", "simulated_size")
    found: dict[str, RackRuns] = {}
    told: list[str] = []
    for place in where:
        emulated = place == EMULATED
        racks = tuple(options.racks if emulated else options.simulated_racks)
        rate, size = (
            (options.rate, options.size) if emulated else (PAPER_RATE_BYTES_PER_S, options.simulated_size)
        )
        layout = Layout(racks, len(racks) // 2, rate, rate)
        found[place] = (emulate if emulated else simulate_runs)(layout, Knows.INFERRED, size, 1, 0)
        told.append(
            f"{place.capitalize()}: {', '.join(map(str, racks))} receivers, {format_bytes(size)}, "
            f"{format_rate(rate)} everywhere."
        )
    text = as_text(found, told)
    print(text)
    (options.output / "figure12.md").write_text(text)
    draw(found, options.output / "figure12.png")
    return 0


def as_text(found: Mapping[str, RackRuns], told: Sequence[str]) -> str:
    """What was inferred."""
    lines = ["# Figure 12: nodes in the plane", "", *told]
    for place, runs in found.items():
        known = runs.topology
        lines += [
            "",
            f"## {place.capitalize()}",
            "",
            f"{len(known['racks'])} racks after {len(runs.training_s)} broadcasts, confidence "
            f"{known['confidence']:.2f}: {'exact' if runs.exact else 'not the true ones'}.",
            "",
        ]
        for number, names in enumerate(known["racks"], 1):
            true = ", ".join(f"{name} (rack {runs.true_racks[name] + 1})" for name in names)
            lines.append(f"- inferred rack {number}: {true}")
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, RackRuns], path: Path) -> None:
    """A panel a place."""
    with picture(path, 1, len(found), (5.5 * len(found), 5)) as (figure, panels):
        for panel, (place, runs) in zip(panels[0], found.items(), strict=True):
            known = runs.topology
            positions = known.get("positions", {})
            for rack in sorted(set(runs.true_racks.values())):
                its = [
                    positions[name]
                    for name, at in runs.true_racks.items()
                    if at == rack and name in positions
                ]
                panel.scatter(
                    [x for x, _ in its],
                    [y for _, y in its],
                    marker=MARKERS[rack % len(MARKERS)],
                    label=f"true rack {rack + 1}",
                    s=40,
                    alpha=0.8,
                )
            across = np.ptp(np.array(list(positions.values()) or [[0.0, 0.0]]), axis=0).max()
            for names in known["racks"]:
                its = [positions[name] for name in names if name in positions]
                if its:
                    panel.add_patch(ellipse(np.array(its), LEAST_SPREAD * across))
            panel.set_title(
                f"{place}: {len(known['racks'])} racks inferred, confidence {known['confidence']:.2f}"
            )
            panel.set_xticks([])
            panel.set_yticks([])
            panel.set_aspect("equal", adjustable="datalim")
            panel.legend(frameon=False, fontsize=8)
        figure.tight_layout()


def ellipse(points: np.ndarray[Any, np.dtype[np.float64]], least: float) -> Any:
    """Around some points, two standard deviations wide to each side, and no less than ``least``."""
    from matplotlib.patches import Ellipse

    middle = points.mean(axis=0)
    spread = np.cov(points.T) if len(points) > 1 else np.zeros((2, 2))
    values, vectors = np.linalg.eigh(spread)
    width, height = 4 * np.maximum(np.sqrt(np.maximum(values, 0)), least)
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    return Ellipse((middle[0], middle[1]), width, height, angle=angle, fill=False, linestyle="--")


if __name__ == "__main__":
    raise SystemExit(main())
