"""Is the simulation right? Each mechanism on emulated hosts, and simulated on links of the same rate.

    python -m examples.benchmarks.calibration --receivers 16 --size 32MB --rate 50Mbit

Prints medians of both and how far they are apart. Needs root, Linux and pyroute2.
"""

import argparse
import sys
from collections.abc import Sequence
from statistics import median

from examples.benchmarks.broadcasts import TIMEOUT_S
from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, cannot_emulate
from examples.benchmarks.systems.orchestra import BLOCK_BYTES, Orchestra
from orchestra.simulation.broadcast import BroadcastSetup, simulate_whole
from orchestra.units import format_block_size, format_bytes, format_rate, parse_rate, parse_size

ALLOWED = 0.15
"""How far apart the two may be, as a share of what was measured."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, simulate, compare; 1 if any mechanism is farther apart than allowed, 2 without a cluster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receivers", type=int, default=16)
    parser.add_argument("--size", type=parse_size, default=parse_size("32MB"))
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument(
        "--repeats", type=int, default=5, help="of each mechanism, and seeds of each simulation"
    )
    parser.add_argument("--mechanisms", default=",".join(BLOCK_BYTES), help="of these: %(default)s")
    options = parser.parse_args(argv)
    mechanisms = options.mechanisms.split(",")
    if unknown := [name for name in mechanisms if name not in BLOCK_BYTES]:
        parser.error(f"--mechanisms: there is no {', '.join(unknown)}")
    if cannot_emulate():
        return NO_ROOM
    least_s = options.size / options.rate
    print(
        f"{format_bytes(options.size)} to {options.receivers} receivers at {format_rate(options.rate)}, "
        f"S/W {least_s:.2f} s; "
        f"medians of {options.repeats} (least-most)\n"
    )
    print(f"{'':8}{'blocks':>9}{'emulated':>22}{'idle':>7}{'simulated':>22}{'apart':>8}")
    apart: list[float] = []
    for mechanism in mechanisms:
        block_size_bytes = BLOCK_BYTES[mechanism]
        with (
            EmulatedCluster(options.receivers + 1, options.rate) as cluster,
            IdleWhileMoving(cluster) as idle,
        ):
            system = Orchestra(mechanism, block_size_bytes)
            measured = system.broadcast(cluster, options.size, options.repeats, TIMEOUT_S)
        simulated = [
            simulate_whole(
                BroadcastSetup(
                    *(options.receivers, options.size, options.rate, mechanism, block_size_bytes), seed=seed
                )
            ).completion_s
            for seed in range(options.repeats)
        ]
        apart.append(median(simulated) / median(measured) - 1)
        print(
            f"{mechanism:8}{format_block_size(block_size_bytes):>9}{_told(measured):>22}{idle.share:7.0%}{_told(simulated):>22}{apart[-1]:+8.1%}",
            flush=True,
        )
    return int(any(abs(each) > ALLOWED for each in apart))


def _told(times: Sequence[float]) -> str:
    return f"{median(times):.2f} ({min(times):.2f}-{max(times):.2f})"


if __name__ == "__main__":
    sys.exit(main())
