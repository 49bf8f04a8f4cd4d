"""A host of many processes: an object that all of them hold, against the same fetched by one.

    python -m examples.benchmarks.one_host --processes 8 --size 1GB --repeats 7

The processes share memory (`share=True`) as nodes of one host do: one of them fetches over TCP and verifies,
the others map its copy, read-only. The source does not share (`share=False`), so to them it is another host,
though it is reached over loopback: no link hides what the CPU does, which is the hardest case for the
ratio. Root is not needed.

The two take turns in one cluster, after a turn of each that does not count: with all processes as receivers,
and with the first of them alone. A time runs from the call of `broadcast` to the last return from `receive`,
the copy into the source's store included; completion, the library's own figure, leaves that out. What each
process has mapped is compared with what was sent afterwards, through the mapping itself.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from examples.benchmarks.broadcasts import TIMEOUT_S
from examples.benchmarks.emulation import IdleCpu
from examples.benchmarks.figures import Series, refuse_wrong, write_json
from examples.benchmarks.systems.loopback import LoopbackHosts, free_port
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes, Timing
from orchestra.units import format_bytes, parse_size

ALLOWED = 1.3
"""All processes against one: what is aimed at."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Broadcasts to one process and to all.

    Attributes:
        one_s, all_s: from the call to the last return from `receive`.
        one_completion_s, all_completion_s: the library's own figures.
    """

    one_s: Series
    all_s: Series
    one_completion_s: Series
    all_completion_s: Series

    @property
    def ratio(self) -> float:
        """All against one."""
        return self.all_s.median / self.one_s.median

    @property
    def completion_ratio(self) -> float:
        """The same without the source's copy."""
        return self.all_completion_s.median / self.one_completion_s.median

    def as_json(self) -> dict[str, Any]:
        """For programs. That the CPU is busy makes nothing void here: it is what is measured."""
        told: dict[str, Any] = {"ratio": self.ratio, "completion_ratio": self.completion_ratio}
        for name in ("one_s", "all_s", "one_completion_s", "all_completion_s"):
            series: Series = getattr(self, name)
            told[name] = {**series.as_json(), "void": False}
        return told


def measure(processes: int, size_bytes: int, repeats: int) -> Compared:
    """Turns of one process and of all.

    Raises:
        RuntimeError: when a broadcast fails or takes too long.
    """
    runs: dict[bool, list[tuple[Timing, float]]] = {False: [], True: []}
    with (
        ExitStack() as stack,
        tqdm(total=2 * (repeats + 1), unit="broadcast", file=sys.stderr) as bar,
    ):
        hosts = LoopbackHosts(processes + 1)
        nodes = OrchestraNodes(hosts, stack, port=free_port(), contained=False, share=True)
        everyone = list(nodes.receivers)
        for turn in range(repeats + 1):
            for whole, its in runs.items():
                bar.set_postfix_str(f"{processes if whole else 1} processes")
                its.append(_once(nodes, f"{turn}-{whole}", size_bytes, everyone if whole else everyone[:1]))
                bar.update()
    one, every = runs[False][1:], runs[True][1:]
    return Compared(
        Series(tuple(timing.elapsed_s for timing, _ in one), min(idle for _, idle in one)),
        Series(tuple(timing.elapsed_s for timing, _ in every), min(idle for _, idle in every)),
        Series(tuple(timing.completion_s for timing, _ in one)),
        Series(tuple(timing.completion_s for timing, _ in every)),
    )


def _once(nodes: OrchestraNodes, name: str, size_bytes: int, to: Sequence[str]) -> tuple[Timing, float]:
    """One broadcast, and the idle share of the CPU until the last has it."""
    ongoing = nodes.prepare(name, size_bytes, TIMEOUT_S, to)
    with IdleCpu() as idle:
        ongoing.send(Orchestra("auto"))
        ongoing.wait_received(to)
    return ongoing.finish(), idle.share


def told(compared: Compared, processes: int) -> str:
    """The result for people."""
    lines = [f"{'':16}  {'median s':>9}  {'min-max s':>15}  {'completion s':>12}  {'idle CPU':>8}"]
    rows = [
        ("one process", compared.one_s, compared.one_completion_s),
        (f"all {processes} processes", compared.all_s, compared.all_completion_s),
    ]
    for name, elapsed, completion in rows:
        lines.append(
            f"{name:16}  {elapsed.median:9.3f}  {elapsed.extent(3):>15}  {completion.median:12.3f}  "
            f"{elapsed.idle_share:8.0%}"
        )
    ratio = (
        f"ratio {compared.ratio:.3f}, of completions {compared.completion_ratio:.3f} (aim of both: {ALLOWED})"
    )
    return "\n".join([*lines, ratio])


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--size", type=parse_size, default=parse_size("1GB"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status: 1 if a broadcast failed."""
    parser = arguments()
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "processes", "size", "repeats")
    print(
        f"{format_bytes(options.size)} over loopback to processes of one host that share memory; medians of "
        f"{options.repeats}, {os.cpu_count()} cores"
    )
    try:
        compared = measure(options.processes, options.size, options.repeats)
    except (RuntimeError, OSError) as failed:
        print(f"failed: {' '.join(str(failed).split())}")
        return 1
    print(told(compared, options.processes))
    write_json(options.json, compared.as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
