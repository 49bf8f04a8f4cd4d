"""What benchmarks have in common: lists on the command line, medians with their spread, figures that are
void.

Owns how a figure is told. Must not know what is measured.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from examples.benchmarks.emulation import why_not

VOID_BELOW = 0.15
"""Idle share of the CPU under which a figure is void (the design)."""
NO_ROOM = 2
"""Exit status where hosts cannot be emulated, or for wrong arguments."""

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class Series:
    """Repeats of one measurement.

    Attributes:
        values: one a repeat, at least one; in seconds unless it is said otherwise.
        idle_share: of the CPU while they were taken, 0 to 1; NaN where it could not be told.
    """

    values: tuple[float, ...]
    idle_share: float = math.nan

    @property
    def median(self) -> float:
        """Of the values."""
        return median(self.values)

    @property
    def void(self) -> bool:
        """Whether the CPU, not the links, made the values."""
        return self.idle_share < VOID_BELOW

    def extent(self, decimals: int = 2) -> str:
        """Least and most, for people."""
        return f"{min(self.values):.{decimals}f}-{max(self.values):.{decimals}f}"

    @property
    def idle(self) -> str:
        """The idle share for people, with what it means where it is low."""
        if math.isnan(self.idle_share):
            return "?"
        return f"{self.idle_share:.0%}" + ("  void: too little CPU was left" if self.void else "")

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "values": list(self.values),
            "median": self.median,
            "idle_share": None if math.isnan(self.idle_share) else self.idle_share,
            "void": self.void,
        }


def listed(parse: Callable[[str], ValueT]) -> Callable[[str], list[ValueT]]:
    """What reads several values, separated by commas, of which ``parse`` reads one."""

    def values(text: str) -> list[ValueT]:
        return [parse(part) for part in text.split(",")]

    return values


def refuse_wrong(parser: argparse.ArgumentParser, options: argparse.Namespace, *names: str) -> None:
    """End with status 2 unless these options, or all values of each that is a list, are above 0."""
    for name in names:
        given = getattr(options, name)
        for value in given if isinstance(given, list) else [given]:
            if not value > 0:  # NaN is not
                parser.error(f"--{name.replace('_', '-')} must be above 0, got {value}")


def cannot_emulate() -> bool:
    """Whether hosts cannot be emulated here; then standard error says why."""
    if reason := why_not():
        print(f"hosts cannot be emulated here: {reason}", file=sys.stderr)
    return reason is not None


def write_json(path: Path | None, told: dict[str, Any]) -> None:
    """Write figures where a path was given."""
    if path is not None:
        path.write_text(json.dumps(told, indent=1) + "\n")
