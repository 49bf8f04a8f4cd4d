"""Small objects: how many milliseconds from the call to the last receiver.

    python -m examples.benchmarks.small_objects --receivers 16 --sizes 1KiB,4KiB,64KiB,256KiB --rate 50Mbit
    python -m examples.benchmarks.small_objects --loopback
    python -m examples.benchmarks.small_objects --many 2000

On emulated hosts a link that was idle lets 72 kB through at once, which would hide most of a small object. So
all buckets are drained right before each call; how long the source's has had to fill again is told. `--burst`
makes the buckets themselves small, which also holds for ports that are idle until the object gets there. Each
size has several clusters of its own (`--rounds`): the first broadcast of each, over connections that are not
there yet, is told apart from the following.

With `--loopback` the same is done over plain loopback, with a process a receiver and nothing shared. With
`--many` so many small broadcasts are asked for at once, beside one big one; see `small_many`.

The library chooses the mechanism. Emulation needs root, Linux and pyroute2.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from examples.benchmarks import small_many
from examples.benchmarks.broadcasts import spread_over
from examples.benchmarks.emulation import EmulatedCluster
from examples.benchmarks.emulation.links import BURST_BYTES, MIN_BURST_BYTES
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, listed, refuse_wrong, write_json
from examples.benchmarks.systems.loopback import LoopbackHosts, free_port
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes, Timing
from orchestra.units import format_bytes, format_rate, parse_rate, parse_size

TIMEOUT_S = 30.0
"""For one broadcast: a guess, a hundred times what one takes."""
ALLOWED_LINKS, ALLOWED_S = 3.0, 0.005
"""What is aimed at: so many times S/W, and so much besides."""


@dataclass(slots=True)
class Measured:
    """One size.

    Attributes:
        size_bytes: of the object.
        first, following: broadcasts of a fresh cluster, and those after them.
        refilled_s: from the end of draining to the call, for each of the following.
    """

    size_bytes: int
    first: list[Timing] = field(default_factory=list)
    following: list[Timing] = field(default_factory=list)
    refilled_s: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "size_bytes": self.size_bytes,
            "mechanisms": sorted({timing.mechanism for timing in self.following}),
            "first_completion_s": completion(self.first).as_json(),
            "first_elapsed_s": elapsed(self.first).as_json(),
            "completion_s": completion(self.following).as_json(),
            "elapsed_s": elapsed(self.following).as_json(),
            "refilled_s": self.refilled_s,
        }


def completion(timings: Sequence[Timing]) -> Series:
    """The library's own figures."""
    return Series(tuple(timing.completion_s for timing in timings))


def elapsed(timings: Sequence[Timing]) -> Series:
    """From the call to the last return from `receive`."""
    return Series(tuple(timing.elapsed_s for timing in timings))


@contextmanager
def emulated(receivers: int, rate_bytes_per_s: float, burst_bytes: int) -> Iterator[OrchestraNodes]:
    """A fresh cluster of emulated hosts."""
    with (
        EmulatedCluster(receivers + 1, rate_bytes_per_s, burst_bytes=burst_bytes) as cluster,
        ExitStack() as stack,
    ):
        nodes = OrchestraNodes(cluster, stack)
        cluster.drain_all()  # the first time takes longer
        yield nodes


@contextmanager
def on_loopback(receivers: int) -> Iterator[OrchestraNodes]:
    """Fresh processes on loopback."""
    with ExitStack() as stack:
        yield OrchestraNodes(LoopbackHosts(receivers + 1), stack, port=free_port(), contained=False)


def measure(
    sizes: Sequence[int],
    repeats: int,
    rounds: int,
    fresh: Callable[[], AbstractContextManager[OrchestraNodes]],
) -> list[Measured]:
    """Every size, in every round on a cluster of its own.

    Raises:
        RuntimeError: when a broadcast fails or takes too long.
    """
    results = {size_bytes: Measured(size_bytes) for size_bytes in sizes}
    counts = spread_over(repeats, rounds)
    with tqdm(total=len(counts) * len(results), unit="sitting", file=sys.stderr) as bar:
        for count in counts:
            for size_bytes, result in results.items():
                bar.set_postfix_str(format_bytes(size_bytes))
                with fresh() as nodes:
                    result.first.append(_once(nodes, "first", size_bytes)[0])
                    for turn in range(count):
                        timing, refilled_s = _once(nodes, f"turn-{turn}", size_bytes)
                        result.following.append(timing)
                        result.refilled_s.append(refilled_s)
                bar.update()
    return list(results.values())


def _once(nodes: OrchestraNodes, name: str, size_bytes: int) -> tuple[Timing, float]:
    """One broadcast, and the time from draining to the call."""
    ongoing = nodes.prepare(name, size_bytes, TIMEOUT_S)
    nodes.cluster.drain_all()
    drained_s = time.monotonic()
    ongoing.send(Orchestra("auto"))
    timing = ongoing.finish()
    return timing, timing.began_s - drained_s


def table(results: Sequence[Measured], rate_bytes_per_s: float | None) -> str:
    """The results for people, in milliseconds; ratios where there are links."""
    lines = [
        f"{'':8}  {'first, cold':>15}  {'following: completion':>28}  {'elapsed':>22}"
        + ("" if rate_bytes_per_s is None else f"  {'x S/W':>6}  {'aim ms':>7}"),
        f"{'size':>8}  {'compl.':>7} {'elapsed':>7}  {'median ms':>10} {'min-max':>17}  "
        f"{'median':>7} {'min-max':>14}",
    ]
    for result in results:
        cold = f"{_ms(completion(result.first).median):>7} {_ms(elapsed(result.first).median):>7}"
        warm, whole = completion(result.following), elapsed(result.following)
        line = (
            f"{format_bytes(result.size_bytes):>8}  {cold}  {_ms(warm.median):>10} {_extent_ms(warm):>17}  "
            f"{_ms(whole.median):>7} {_extent_ms(whole):>14}"
        )
        if rate_bytes_per_s is not None:
            ideal_s = result.size_bytes / rate_bytes_per_s
            line += f"  {warm.median / ideal_s:6.2f}  {_ms(ALLOWED_LINKS * ideal_s + ALLOWED_S):>7}"
        lines.append(f"{line}  {', '.join(sorted({timing.mechanism for timing in result.following}))}")
    return "\n".join(lines)


def refilled(results: Sequence[Measured], rate_bytes_per_s: float, burst_bytes: int) -> str:
    """How full the source's bucket was again, in words."""
    longest_s = max(refilled_s for result in results for refilled_s in result.refilled_s)
    back = min(burst_bytes, longest_s * rate_bytes_per_s)
    return (
        f"from draining to the call at most {longest_s * 1e3:.1f} ms: up to {format_bytes(back)} of the "
        f"source's bucket of {format_bytes(burst_bytes)} were back"
    )


def _ms(time_s: float) -> str:
    return f"{time_s * 1e3:.1f}"


def _extent_ms(series: Series) -> str:
    return f"{_ms(min(series.values))}-{_ms(max(series.values))}"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receivers", type=int, default=16)
    parser.add_argument(
        "--sizes", type=listed(parse_size), default=listed(parse_size)("1KiB,4KiB,64KiB,256KiB")
    )
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument("--burst", type=parse_size, default=BURST_BYTES, help="of each link's bucket")
    parser.add_argument("--repeats", type=int, default=7, help="of those that follow")
    parser.add_argument("--rounds", type=int, default=3, help="clusters for each size")
    parser.add_argument("--loopback", action="store_true", help="processes of this machine, without links")
    parser.add_argument(
        "--many", type=int, metavar="N", help="so many broadcasts of 1 KiB at once, on loopback"
    )
    parser.add_argument(
        "--big", type=parse_size, default=parse_size("256MB"), help="what goes on beside many"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status: 1 if a broadcast failed, 2 without emulated hosts."""
    parser = arguments()
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "receivers", "sizes", "repeats", "rounds", "big")
    if options.burst < MIN_BURST_BYTES:
        parser.error(f"--burst must be at least {MIN_BURST_BYTES} bytes, got {options.burst}")
    if options.many is not None:
        refuse_wrong(parser, options, "many")
        return small_many.run(options.receivers, options.many, options.big, options.repeats, options.json)
    if not options.loopback and cannot_emulate():
        return NO_ROOM
    fresh = (
        (lambda: on_loopback(options.receivers))
        if options.loopback
        else (lambda: emulated(options.receivers, options.rate, options.burst))
    )
    where = "processes on loopback" if options.loopback else f"receivers at {format_rate(options.rate)}"
    print(f"to {options.receivers} {where}; medians of {options.repeats}, {os.cpu_count()} cores")
    try:
        results = measure(options.sizes, options.repeats, options.rounds, fresh)
    except (RuntimeError, OSError) as failed:
        print(f"failed: {' '.join(str(failed).split())}")
        return 1
    print(table(results, None if options.loopback else options.rate))
    if not options.loopback:
        print(refilled(results, options.rate, options.burst))
    write_json(options.json, {"sizes": [result.as_json() for result in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
