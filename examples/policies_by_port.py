"""What each policy does with three shuffles on two mappers and two reducers, drawn port by port.

    python -m examples.policies_by_port --output pictures

Writes policies.png and prints when each shuffle is through. Links of 100 Mbit/s; ``bulk`` comes first and is
large, ``skewed`` comes a second later and enters by one port, ``quick`` comes after two seconds, is small,
and has a higher priority and twice the weight. `docs/scheduling.md` explains what is seen.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestra.simulation.coflows import Coflow, replay
from schedulers import POLICIES, Allocation, Fair, Policy, Snapshot, TransferId
from schedulers.filling import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPACITY_BYTES_PER_S = 12.5e6
"""100 Mbit/s."""
SECOND = CAPACITY_BYTES_PER_S
"""What one port carries in a second: sizes below are in seconds of a link."""
PORTS = ("mapper 1 out", "mapper 2 out", "reducer 1 in", "reducer 2 in")
COLOURS = {"bulk": "#4c78a8", "skewed": "#f58518", "quick": "#54a24b"}


def coflows(weighted: bool = True) -> list[Coflow]:
    """The three shuffles."""
    senders, receivers = np.array([0, 1]), np.array([2, 3])
    return [
        Coflow(TransferId("bulk"), 0.0, senders, receivers, np.full((2, 2), 2.5 * SECOND), 0, 1.0, weighted),
        Coflow(
            *(TransferId("skewed"), 1.0, senders, receivers[:1]),
            *(np.array([[0.5], [1.5]]) * SECOND, 0, 1.0, weighted),
        ),
        Coflow(
            *(TransferId("quick"), 2.0, senders[:1], receivers[1:]),
            *(np.full((1, 1), SECOND), 1, 2.0, weighted),
        ),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What a policy did.

    Attributes:
        edges_s: shape (steps + 1,): between which rates were constant.
        parts: by shuffle, shape (ports, steps): its part of each port.
        ends_s: by shuffle, when its last flow ended.
    """

    edges_s: Floats
    parts: Mapping[str, Floats]
    ends_s: Mapping[str, float]


def course(policy: Policy) -> Course:
    """The three shuffles under a policy; under ``fair`` flows are by themselves."""
    shuffles = coflows(weighted=not isinstance(policy, Fair))
    edges_s: list[float] = []
    steps: list[dict[str, Floats]] = []

    def watch(now: float, step_s: float, snapshot: Snapshot, allocation: Allocation) -> None:
        edges_s[-1:] = [now, now + step_s]
        found = {}
        for share in allocation.shares:
            part = np.zeros(len(PORTS))
            part[share.demand.ports] = share.port_rates / CAPACITY_BYTES_PER_S
            found[str(share.demand.standing.transfer)] = part
        steps.append(found)

    done = replay(shuffles, np.full(len(PORTS), CAPACITY_BYTES_PER_S), policy, merge_s=0.0, watch=watch)
    nothing = np.zeros(len(PORTS))
    return Course(
        np.array(edges_s),
        {name: np.stack([step.get(name, nothing) for step in steps], axis=1) for name in COLOURS},
        {
            str(one.name): one.arrival_s + float(took_s)
            for one, took_s in zip(shuffles, done.completions_s, strict=True)
        },
    )


def table(courses: Mapping[str, Course]) -> str:
    """When each shuffle is through under each policy, and how long they take on average."""
    arrivals = {str(one.name): one.arrival_s for one in coflows()}
    lines = [f"| policy | {' | '.join(COLOURS)} | mean |", "|---" * (len(COLOURS) + 2) + "|"]
    for name, found in courses.items():
        took = [found.ends_s[shuffle] - arrivals[shuffle] for shuffle in COLOURS]
        cells = " | ".join(f"{seconds:.2f} s" for seconds in [*took, sum(took) / len(took)])
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def draw(courses: Mapping[str, Course], path: Path) -> None:
    """A row a policy, a column a port: who has which part of it, over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 1.25 * len(courses) + 1), layout="constrained")
    rows = figure.subplots(len(courses), len(PORTS), sharex=True, sharey=True, squeeze=False)
    for row, (name, found) in zip(rows, courses.items(), strict=True):
        for port, axes in enumerate(row):
            _draw_port(axes, found, port)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11, fontweight="bold")
    for title, axes in zip(PORTS, rows[0], strict=True):
        axes.set_title(title, fontsize=10)
    for axes in rows[-1]:
        axes.set_xlabel("seconds")
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(COLOURS), frameon=False)
    figure.savefig(path, dpi=110)


def _draw_port(axes: "Axes", found: Course, port: int) -> None:
    base = np.zeros(len(found.edges_s) - 1)
    for name, colour in COLOURS.items():
        top = base + found.parts[name][port]
        axes.stairs(top, found.edges_s, baseline=base, fill=True, color=colour, label=name)
        axes.axvline(found.ends_s[name], color=colour, linewidth=1, linestyle=":")
        base = top
    axes.set(ylim=(0, 1.02), yticks=[0, 1], xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help="folder for policies.png (default: here)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    courses = {name: course(policy) for name, policy in POLICIES.items()}
    print(table(courses))
    draw(courses, options.output / "policies.png")


if __name__ == "__main__":
    main()
