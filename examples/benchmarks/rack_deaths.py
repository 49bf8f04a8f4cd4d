"""What the death of a host costs a broadcast that keeps to racks, on emulated hosts.

    python -m examples.benchmarks.rack_deaths      (as root)

Racks stand in a line, and the controller is told of them. Every receiver in turn gets SIGKILL when half of
all bytes have arrived: once when it was the first to join, so that half of all blocks enter its rack by it,
and once when it was the last. An undisturbed broadcast goes before each. What the others hold is compared,
and the dead one joins again before the next. Times are from the call of `broadcast` to the last return from
`receive`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tqdm import tqdm

from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, refuse_wrong
from examples.benchmarks.rack_runs import (
    CORNET,
    TIMEOUT_S,
    Knows,
    Layout,
    broadcast,
    parser_for,
    rack_nodes,
    true_racks,
)
from examples.benchmarks.systems.orchestra_nodes import OngoingBroadcast, OrchestraNodes
from orchestra.units import format_bytes, format_rate

LOOK_S = 0.01
"""Between two looks at what has arrived (a guess: some hundredths of a broadcast)."""


@dataclass(frozen=True, slots=True)
class Death:
    """One broadcast in which a host died.

    Attributes:
        host: its name.
        rack: its number.
        enters: whether blocks entered the rack by it.
        took_s: the broadcast, to the others.
    """

    host: str
    rack: int
    enters: bool
    took_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print."""
    parser = parser_for(__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="of both deaths of each host (default: 1)")
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
            turns = [(host, enters) for host in nodes.receivers for enters in (True, False)] * options.repeats
            for number, (host, enters) in enumerate(tqdm(turns, desc="deaths", unit="host")):
                whole_s.append(broadcast(nodes, f"whole-{number}", options.size, rng))
                ongoing = prepared(nodes, f"killed-{number}", options.size, rng, host, enters)
                took_s = killed_midway(ongoing, nodes, cluster, options.size, host)
                deaths.append(Death(host, racks[host], enters, took_s))
                nodes.restart(host)
    print(table(options.size, options.rate, Series(tuple(whole_s), idle.share), deaths))
    return 0


def prepared(
    nodes: OrchestraNodes, name: str, size_bytes: int, rng: Random, victim: str, enters: bool
) -> OngoingBroadcast:
    """One that the victim joins first, if blocks are to enter its rack by it, and else last."""
    others = [host for host in nodes.receivers if host != victim]
    rng.shuffle(others)
    return nodes.prepare(name, size_bytes, TIMEOUT_S, [victim, *others] if enters else [*others, victim])


def killed_midway(
    ongoing: OngoingBroadcast, nodes: OrchestraNodes, cluster: EmulatedCluster, size_bytes: int, victim: str
) -> float:
    """Send it, and kill the victim when half of all bytes have moved; seconds to the last of the others."""
    cluster.drain_all()
    half = cluster.moved_bytes() + len(nodes.receivers) * size_bytes / 2
    ongoing.send(CORNET)
    ongoing.wait_until(lambda: cluster.moved_bytes() >= half, LOOK_S)
    nodes.kill(victim)
    return ongoing.finish().elapsed_s


def table(size_bytes: int, rate_bytes_per_s: float, whole: Series, deaths: Sequence[Death]) -> str:
    """What deaths cost, the median and the most; and each."""
    least_s = size_bytes / rate_bytes_per_s
    lines = [
        f"{format_bytes(size_bytes)} over {format_rate(rate_bytes_per_s)}, S/W {least_s:.2f} s; "
        f"idle CPU {whole.idle}",
        f"undisturbed           {whole.median:.2f} s [{whole.extent()}], {whole.median / least_s:.3f} x S/W",
    ]
    for enters, what in ((True, "an entry point killed"), (False, "another host killed")):
        took = Series(tuple(death.took_s for death in deaths if death.enters is enters), whole.idle_share)
        lines.append(
            f"{what:21} {took.median:.2f} s [{took.extent()}]: {took.median / whole.median - 1:+.1%}, "
            f"at most {max(took.values) / whole.median - 1:+.1%}"
        )
    for host in dict.fromkeys(death.host for death in deaths):
        its = [death for death in deaths if death.host == host]
        costs = [
            f"{'entry' if death.enters else 'other'} {death.took_s / whole.median - 1:+.1%}" for death in its
        ]
        lines.append(f"  {host:5} of rack {its[0].rack + 1}: {', '.join(costs)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
