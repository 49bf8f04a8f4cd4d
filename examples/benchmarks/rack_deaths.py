"""What the death of a host costs a broadcast that keeps to racks, on emulated hosts.

    python -m examples.benchmarks.rack_deaths      (as root)

Racks stand in a line, and the controller is told of them. Every receiver in turn gets SIGKILL when half of
all bytes have arrived, those among them by which blocks enter its rack; an undisturbed broadcast goes before
each. What the others hold is compared, and the dead one joins again before the next. Times are from the call
of `broadcast` to the last return from `receive`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tqdm import tqdm

from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, listed, refuse_wrong
from examples.benchmarks.rack_runs import TIMEOUT_S, Knows, Layout, rack_nodes, true_racks
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes
from orchestra.units import format_bytes, format_rate, parse_rate, parse_size

LOOK_S = 0.01
"""Between two looks at what has arrived (a guess: some hundredths of a broadcast)."""
CORNET = Orchestra("cornet", None)


@dataclass(frozen=True, slots=True)
class Death:
    """One broadcast in which a host died.

    Attributes:
        host: its name.
        rack: its number.
        took_s: the broadcast, to the others.
    """

    host: str
    rack: int
    took_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--racks", type=listed(int), default=[5, 5, 5], help="receivers (default: 5,5,5)")
    parser.add_argument("--size", type=parse_size, default=16_000_000, help="default: 16MB")
    parser.add_argument(
        "--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of every link (default: 50Mbit)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="deaths of each host (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the orders in which receivers join")
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "racks", "size", "rate", "repeats")
    if cannot_emulate():
        return NO_ROOM
    layout = Layout(tuple(options.racks), 0, options.rate, options.rate if len(options.racks) > 1 else None)
    rng = Random(options.seed)
    whole_s: list[float] = []
    deaths: list[Death] = []
    with rack_nodes(layout, Knows.GIVEN) as (cluster, nodes):
        racks = true_racks(cluster)
        broadcast(nodes, "first", options.size, rng)
        with IdleWhileMoving(cluster) as idle:
            hosts = list(nodes.receivers) * options.repeats
            for number, host in enumerate(tqdm(hosts, desc="deaths", unit="host")):
                whole_s.append(broadcast(nodes, f"whole-{number}", options.size, rng))
                took_s = broadcast(nodes, f"killed-{number}", options.size, rng, host, cluster)
                deaths.append(Death(host, racks[host], took_s))
                nodes.restart(host)
    print(table(options.size, options.rate, Series(tuple(whole_s), idle.share), deaths))
    return 0


def broadcast(
    nodes: OrchestraNodes,
    name: str,
    size_bytes: int,
    rng: Random,
    victim: str | None = None,
    cluster: EmulatedCluster | None = None,
) -> float:
    """One; with a ``victim`` of a ``cluster`` that one is killed midway.

    Returns:
        Seconds to the last of those who live.
    """
    order = rng.sample(list(nodes.receivers), len(nodes.receivers))
    if victim is None or cluster is None:
        return nodes.broadcast(name, CORNET, size_bytes, TIMEOUT_S, order).elapsed_s
    ongoing = nodes.prepare(name, size_bytes, TIMEOUT_S, order)
    cluster.drain_all()
    half = cluster.moved_bytes() + len(order) * size_bytes / 2
    ongoing.send(CORNET)
    ongoing.wait_until(lambda: cluster.moved_bytes() >= half, LOOK_S)
    nodes.kill(victim)
    return ongoing.finish().elapsed_s


def table(size_bytes: int, rate_bytes_per_s: float, whole: Series, deaths: Sequence[Death]) -> str:
    """What each death cost, the most and the median."""
    took = Series(tuple(death.took_s for death in deaths), whole.idle_share)
    least_s = size_bytes / rate_bytes_per_s
    lines = [
        f"{format_bytes(size_bytes)} over {format_rate(rate_bytes_per_s)}, S/W {least_s:.2f} s; "
        f"idle CPU {whole.idle}",
        f"undisturbed   {whole.median:.2f} s [{whole.extent()}], {whole.median / least_s:.3f} x S/W",
        f"a host killed {took.median:.2f} s [{took.extent()}]: {took.median / whole.median - 1:+.1%}, "
        f"at most {max(took.values) / whole.median - 1:+.1%}",
    ]
    for death in deaths:
        cost = death.took_s / whole.median - 1
        lines.append(f"  {death.host:5} of rack {death.rack + 1}: {death.took_s:.2f} s, {cost:+.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
