"""What came of choosing: cells of a table, each a size and a number of receivers.

Owns the comparison of the choice with the best of the four, the table and the picture. Must not know whether
times are measured or simulated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from examples.benchmarks.figures import VOID_BELOW
from orchestra.units import format_block_size, format_bytes
from transfers.planners import Mechanism

MECHANISMS = tuple(mechanism.value for mechanism in Mechanism)
AUTO = "auto"

NEAR = 0.10
"""A choice is right within this much of the best."""
FAR = 0.25
"""No choice may be further off than this."""
CELLS_NOT_NEAR = 1 / 15
"""Share of cells in which the choice may be off by more than `NEAR`."""
PREDICTED_WITHIN = 0.15
"""Median error of predictions that is allowed."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One broadcast.

    Attributes:
        mechanism, block_size_bytes: by which it went.
        completion_s: the library's own figure, or the simulated one.
        elapsed_s: from the call to the last hand-over; the same as ``completion_s`` where it is simulated.
        predicted_s: None where nothing was predicted.
    """

    mechanism: str
    block_size_bytes: int
    completion_s: float
    elapsed_s: float
    predicted_s: float | None

    @property
    def error(self) -> float:
        """Of the prediction, as a share of what it came to; NaN without one."""
        return math.nan if self.predicted_s is None else self.predicted_s / self.completion_s - 1


@dataclass(slots=True)
class Cell:
    """One size and one number of receivers.

    Attributes:
        sent: broadcasts by what was asked for: one of `MECHANISMS`, or `AUTO`.
        idle_shares: of the CPU in each round; none where it is simulated.
    """

    receivers: int
    size_bytes: int
    rate_bytes_per_s: float
    sent: dict[str, list[Sent]] = field(default_factory=dict)
    idle_shares: list[float] = field(default_factory=list)

    def median_s(self, asked: str) -> float:
        """Median completion of what was asked for."""
        return median(sent.completion_s for sent in self.sent[asked])

    @property
    def best(self) -> str:
        """The fastest of the four."""
        return min(MECHANISMS, key=self.median_s)

    @property
    def off(self) -> float:
        """How far the choice is from the best, as a share of it."""
        return self.median_s(AUTO) / self.median_s(self.best) - 1

    def hopeless(self, asked: str, factor: float, rounds: int) -> bool:
        """Whether one of the four need not be repeated."""
        tried = [mechanism for mechanism in MECHANISMS if len(self.sent.get(mechanism, ())) >= rounds]
        return asked in tried and self.median_s(asked) > factor * min(map(self.median_s, tried))

    @property
    def idle_share(self) -> float:
        """The median of the rounds; NaN if it could not be told."""
        known = [share for share in self.idle_shares if not math.isnan(share)]
        return median(known) if known else math.nan

    @property
    def void(self) -> bool:
        """Whether the CPU, not the links, made the times."""
        return self.idle_share < VOID_BELOW

    def taken(self) -> str:
        """What the choice was, most often first."""
        by = [sent.mechanism for sent in self.sent[AUTO]]
        return "/".join(sorted(set(by), key=lambda mechanism: (-by.count(mechanism), mechanism)))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "receivers": self.receivers,
            "size_bytes": self.size_bytes,
            "rate_bytes_per_s": self.rate_bytes_per_s,
            "best": self.best,
            "off": self.off,
            "idle_share": None if math.isnan(self.idle_share) else self.idle_share,
            "void": self.void,
            "sent": {
                asked: [
                    {
                        "mechanism": each.mechanism,
                        "block_size_bytes": each.block_size_bytes,
                        "completion_s": each.completion_s,
                        "elapsed_s": each.elapsed_s,
                        "predicted_s": each.predicted_s,
                    }
                    for each in sent
                ]
                for asked, sent in self.sent.items()
            },
        }


def errors(cells: Sequence[Cell], asked: Sequence[str]) -> list[float]:
    """Errors of all predictions of what was asked for, without their sign."""
    found = [abs(sent.error) for cell in cells for each in asked for sent in cell.sent.get(each, ())]
    return [error for error in found if not math.isnan(error)]


def table(cells: Sequence[Cell]) -> str:
    """A line a cell: medians in seconds, with least and most and the number where it is not that of
    others.
    """
    heads = ["receivers", "size", *MECHANISMS, AUTO, "took", "auto/best"]
    heads += ["predicted off", "elapsed", "idle CPU"]
    rows = [heads]
    for cell in cells:
        most = len(cell.sent[AUTO])
        off = errors([cell], [AUTO])
        rows.append(
            [
                str(cell.receivers),
                format_bytes(cell.size_bytes),
                *(_figure(cell, asked, most) for asked in (*MECHANISMS, AUTO)),
                f"{cell.taken()} {format_block_size(cell.sent[AUTO][-1].block_size_bytes)}",
                f"{1 + cell.off:.3f}{'' if cell.off <= NEAR else ' !' if cell.off <= FAR else ' !!'}",
                f"{median(off):.0%}" if off else "-",
                f"{median(sent.elapsed_s for sent in cell.sent[AUTO]):.3f}",
                _idle(cell),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(each.rjust(width) for each, width in zip(row, widths, strict=True)) for row in rows
    )


def _idle(cell: Cell) -> str:
    if math.isnan(cell.idle_share):
        return "-"
    return f"{cell.idle_share:.0%}{' void' if cell.void else ''}"


def _figure(cell: Cell, asked: str, most: int) -> str:
    times = [sent.completion_s for sent in cell.sent[asked]]
    few = "" if len(times) == most else f" of {len(times)}"
    return f"{median(times):.3f} ({min(times):.2f}-{max(times):.2f}){few}"


def summary(cells: Sequence[Cell]) -> str:
    """How often the choice was right, and how good predictions were; void cells are counted apart."""
    sound = [cell for cell in cells if not cell.void]
    near = sum(cell.off <= NEAR for cell in sound)
    told = [f"auto within {NEAR:.0%} of the best in {near} of {len(sound)} cells"]
    if sound:
        worst = max(sound, key=lambda cell: cell.off)
        told.append(f"worst {worst.off:+.1%} ({format_bytes(worst.size_bytes)} to {worst.receivers})")
    for name, asked in (("of auto", [AUTO]), ("of the four as asked", MECHANISMS)):
        if found := errors(sound, asked):
            told.append(f"predictions {name}: median error {median(found):.1%} of {len(found)}")
    if void := len(cells) - len(sound):
        told.append(f"{void} of {len(cells)} cells void: too little CPU was left")
    return "; ".join(told)


def within_bounds(cells: Sequence[Cell]) -> bool:
    """Whether the choice is right as often, and predictions as good, as they are to be.

    In a void cell the choice is taken as not near; its times and predictions say nothing more. Where all are
    void nothing is known to be right.
    """
    sound = [cell for cell in cells if not cell.void]
    wrong = sum(cell.void or cell.off > NEAR for cell in cells)
    found = errors(sound, [AUTO])
    good = not found or median(found) <= PREDICTED_WITHIN
    far = any(cell.off > FAR for cell in sound)
    return bool(sound) and wrong <= max(1, len(cells) * CELLS_NOT_NEAR) and not far and good


def plot(cells: Sequence[Cell], title: str, path: Path) -> None:
    """For each cell the four and the choice, as times the best of the four."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    marks = dict(zip((*MECHANISMS, AUTO), "osD^x", strict=False))
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    names = [
        f"{format_bytes(cell.size_bytes)}\nto {cell.receivers}{' (void)' if cell.void else ''}"
        for cell in cells
    ]
    for asked, mark in marks.items():
        ratios = [cell.median_s(asked) / cell.median_s(cell.best) for cell in cells]
        size, colour = (90, "#c0392b") if asked == AUTO else (36, None)
        axes.scatter(names, ratios, s=size, marker=mark, color=colour, label=asked, zorder=3)
    axes.axhline(1 + NEAR, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_ylim(0.9, 2.2)
    axes.set_ylabel("times the best of the four (beyond 2.2 not shown)")
    axes.set_title(title, fontsize=11)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=5, fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
