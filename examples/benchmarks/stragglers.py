"""What a slow or dying host costs the others: one NIC at a fifth, the source's at a half, two receivers
killed.

    python -m examples.benchmarks.stragglers --receivers 16 --size 32MB --rate 50Mbit --repeats 7

All scenarios take turns on one emulated cluster, undisturbed first in each round, after a round of
undisturbed broadcasts that does not count; a disturbance of the machine so falls on all of them. Who is slow
is set before the broadcast, then the shapers' buckets are emptied, and rates are set right afterwards: of a
slow receiver's own time nothing is said, so its link is let go as soon as all others have the object. Victims
get SIGKILL when so much of all bytes has passed the links; new processes take their places, and an
undisturbed broadcast that does not count follows.

The figure is the library's own time of the last of those who are neither slow nor killed. It is compared with
the median of the undisturbed broadcasts of the same run, for a slow source with S over the source's rate,
below which nobody can be, and for the undisturbed themselves with S/W. Needs root, Linux and pyroute2.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, assert_never

from tqdm import tqdm

from examples.benchmarks.broadcasts import TIMEOUT_S
from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, refuse_wrong, write_json
from examples.benchmarks.systems.contained import PeerFailed
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes, Timing
from orchestra.units import format_bytes, format_rate, parse_rate, parse_size

POLL_S = 0.01
"""Between two looks at how much has moved (a guess: a look takes under 1 ms)."""


class Trouble(Enum):
    """What is done to a host."""

    NONE = "undisturbed"
    SLOW_RECEIVER = "slow receiver"
    SLOW_SOURCE = "slow source"
    KILLED = "killed receivers"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One disturbance.

    Attributes:
        trouble: its kind.
        hosts: numbers of the hosts it is done to.
        share: of the link's rate that is left; for killed ones, of all bytes that have moved by then.
        allowed: ratio that is aimed at.
    """

    trouble: Trouble
    hosts: tuple[int, ...] = ()
    share: float = 1.0
    allowed: float = 1.0

    @property
    def name(self) -> str:
        """For people."""
        hosts = " and ".join(f"h{number}" for number in self.hosts)
        match self.trouble:
            case Trouble.NONE:
                return "undisturbed"
            case Trouble.SLOW_RECEIVER | Trouble.SLOW_SOURCE:
                return f"{hosts} at {self.share:.0%} of its rate"
            case Trouble.KILLED:
                return f"{hosts} killed at {self.share:.0%}"
            case never:
                assert_never(never)

    @property
    def apart(self) -> set[str]:
        """Names of those whose own time does not count."""
        return {f"h{number}" for number in self.hosts} - {"h0"}


UNDISTURBED = Scenario(Trouble.NONE)


def scenarios(receivers: int) -> list[Scenario]:
    """All of them for so many receivers: a slow one at the beginning, in the middle and at the end.

    Which receivers become roots of stripes is the planner's affair; these are three of them.
    """
    slow = dict.fromkeys((1, (receivers + 1) // 2, receivers))
    victims = (receivers // 3 or 1, 2 * receivers // 3 or 1)
    return [
        UNDISTURBED,
        *(Scenario(Trouble.SLOW_RECEIVER, (number,), 0.2, 1.10) for number in slow),
        Scenario(Trouble.SLOW_SOURCE, (0,), 0.5, 1.15),
        Scenario(Trouble.KILLED, victims, 0.3, 1.15),
    ]


class Course:
    """Broadcasts on one cluster, disturbed and not."""

    def __init__(
        self, cluster: EmulatedCluster, nodes: OrchestraNodes, how: Orchestra, size_bytes: int
    ) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._how = how
        self._size_bytes = size_bytes
        self._turns = 0

    def run(self, scenario: Scenario) -> float:
        """One broadcast; seconds until the last of those whose time counts.

        Raises:
            PeerFailed: when it fails for anyone but the killed, or takes too long.
        """
        self._turns += 1
        ongoing = self._nodes.prepare(f"turn-{self._turns}", self._size_bytes, TIMEOUT_S)
        others = [name for name in self._nodes.receivers if name not in scenario.apart]
        rates = {number: self._cluster.hosts[number].rate_bytes_per_s for number in scenario.hosts}
        slow = scenario.trouble in (Trouble.SLOW_RECEIVER, Trouble.SLOW_SOURCE)
        if slow:
            for number, rate in rates.items():
                self._cluster.hosts[number].set_rate(rate * scenario.share)
        self._cluster.drain_all()
        moved = self._cluster.moved_bytes()
        ongoing.send(self._how)
        if scenario.trouble is Trouble.KILLED:
            due = moved + scenario.share * self._size_bytes * len(self._nodes.receivers)
            ongoing.wait_until(lambda: self._cluster.moved_bytes() >= due, POLL_S)
            for name in sorted(scenario.apart):
                self._nodes.kill(name)
        ongoing.wait_received(others)
        if slow:
            for number, rate in rates.items():
                self._cluster.hosts[number].set_rate(rate)
        timing = ongoing.finish()
        if scenario.trouble is Trouble.KILLED:
            self._replace(scenario, timing)
        return max(timing.node_completion_s[name] for name in others)

    def _replace(self, scenario: Scenario, timing: Timing) -> None:
        if set(timing.failed) != scenario.apart:
            raise PeerFailed(f"{sorted(scenario.apart)} were killed, but failed have {dict(timing.failed)}")
        for name in sorted(scenario.apart):
            self._nodes.restart(name)
        self.run(UNDISTURBED)


def measure(
    receivers: int, size_bytes: int, rate_bytes_per_s: float, how: Orchestra, repeats: int
) -> dict[Scenario, Series]:
    """Every scenario in every round; their times.

    Raises:
        RuntimeError: when a broadcast fails for anyone who should have it.
    """
    chosen = scenarios(receivers)
    times: dict[Scenario, list[float]] = {scenario: [] for scenario in chosen}
    with (
        EmulatedCluster(receivers + 1, rate_bytes_per_s) as cluster,
        ExitStack() as stack,
        tqdm(total=repeats * len(chosen), unit="broadcast", file=sys.stderr) as bar,
    ):
        course = Course(cluster, OrchestraNodes(cluster, stack), how, size_bytes)
        course.run(UNDISTURBED)
        with IdleWhileMoving(cluster) as idle:
            for _ in range(repeats):
                for scenario in chosen:
                    bar.set_postfix_str(scenario.name)
                    times[scenario].append(course.run(scenario))
                    bar.update()
    return {scenario: Series(tuple(its), idle.share) for scenario, its in times.items()}


def yardstick_s(scenario: Scenario, results: Mapping[Scenario, Series], ideal_s: float) -> float:
    """What a scenario's time is divided by."""
    if scenario.trouble is Trouble.NONE:
        return ideal_s
    if scenario.trouble is Trouble.SLOW_SOURCE:
        return ideal_s / scenario.share
    return results[UNDISTURBED].median


def table(results: Mapping[Scenario, Series], ideal_s: float) -> str:
    """The results for people."""
    width = max(len(scenario.name) for scenario in results)
    lines = [
        f"S/W = {ideal_s:.3f} s; {os.cpu_count()} cores",
        "",
        f"{'scenario':{width}}  {'median s':>9}  {'min-max s':>15}  {'ratio':>6}  {'aim':>5}  to what",
    ]
    for scenario, series in results.items():
        base_s = yardstick_s(scenario, results, ideal_s)
        beside = {Trouble.NONE: "S/W", Trouble.SLOW_SOURCE: f"S/({scenario.share:g} W)"}
        aim = "" if scenario is UNDISTURBED else f"{scenario.allowed:.2f}"
        lines.append(
            f"{scenario.name:{width}}  {series.median:9.3f}  {series.extent():>15}  "
            f"{series.median / base_s:6.3f}  {aim:>5}  {beside.get(scenario.trouble, 'undisturbed')}"
        )
    return "\n".join([*lines, f"idle CPU: {results[UNDISTURBED].idle}"])


def as_json(results: Mapping[Scenario, Series], ideal_s: float) -> dict[str, Any]:
    """The results for programs."""
    return {
        scenario.name: {
            **series.as_json(),
            "ratio": series.median / yardstick_s(scenario, results, ideal_s),
            "allowed": scenario.allowed,
        }
        for scenario, series in results.items()
    }


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receivers", type=int, default=16)
    parser.add_argument("--size", type=parse_size, default=parse_size("32MB"))
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--mechanism", default="cornet")
    parser.add_argument("--block-size", type=parse_size, help="the library's choice by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status: 1 if a broadcast failed, 2 without emulated hosts."""
    parser = arguments()
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "size", "repeats")
    if options.receivers < 3:
        parser.error(f"--receivers must be at least 3: two are killed, got {options.receivers}")
    if options.block_size is not None:
        refuse_wrong(parser, options, "block_size")
    if cannot_emulate():
        return NO_ROOM
    how = Orchestra(options.mechanism, options.block_size)
    ideal_s = options.size / options.rate
    print(
        f"{format_bytes(options.size)} by {options.mechanism} to {options.receivers} receivers at "
        f"{format_rate(options.rate)}, medians of {options.repeats}"
    )
    try:
        results = measure(options.receivers, options.size, options.rate, how, options.repeats)
    except (RuntimeError, OSError) as failed:
        print(f"failed: {' '.join(str(failed).split())}")
        return 1
    print(table(results, ideal_s))
    write_json(options.json, {"ideal_s": ideal_s, "scenarios": as_json(results, ideal_s)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
