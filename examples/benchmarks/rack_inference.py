"""How often racks are inferred exactly, from simulated broadcasts that know of none.

    python -m examples.benchmarks.rack_inference --seeds 100 --processes 2

Every seed draws broadcasts over racks in a line, each from a host of a rack that is drawn, its receivers in
an order that is drawn. Uplinks are as fast as hosts' links. Each block's time is noisy, and some pairs of
nodes stay unseen. From what is known after some broadcasts, all of them by trees, the racks are inferred by
the controller's own steps (it broadcasts by the swarm, where more pairs meet, while it is unsure), and by the
paper's criterion alone (`orchestra.topology.least_criterion`). The last layout is one switch: there it is
right to find one rack.
"""

import argparse
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from random import Random

import numpy as np
from tqdm import tqdm

from examples.benchmarks.figures import listed, refuse_wrong
from orchestra.controller.block_times import BlockTimes, PairTimes
from orchestra.controller.members import Card
from orchestra.simulation.planner_loop import node_name, run_planner
from orchestra.topology import complete, infer, least_criterion, project, symmetric_distances
from transfers.blocks import BlockLayout
from transfers.ids import NodeName
from transfers.planners import Mechanism
from transfers.planners.events import BlocksStored, Command, Event, Stored

RATE = 6.25e6
LAYOUTS: Mapping[str, tuple[int, ...]] = {
    "3 x 10": (10,) * 3,
    "4 x 25": (25,) * 4,
    "2 unequal": (6, 14),
    "5 unequal": (5, 9, 14, 4, 8),
    "10 unequal": (3, 8, 5, 12, 6, 4, 10, 7, 9, 5),
    "one switch": (30,),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What one seed is to draw.

    Attributes:
        racks: nodes in each.
        broadcasts: after how many to infer, ascending.
        blocks, block_bytes: of each broadcast.
        noise: standard deviation of the logarithm of a block's time.
        unseen: share of pairs that are hidden.
    """

    racks: tuple[int, ...]
    broadcasts: tuple[int, ...]
    blocks: int
    block_bytes: int
    noise: float
    unseen: float
    seed: int


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it, after so many broadcasts.

    Attributes:
        exact, by_criterion: whether the racks are the true ones, and by the paper's criterion alone.
        confidence: of the former.
        seen: share of pairs that were seen.
    """

    broadcasts: int
    exact: bool
    by_criterion: bool
    confidence: float
    seen: float


def draw(case: Case) -> list[Found]:
    """One seed."""
    rng = Random(case.seed)
    nodes = sum(case.racks)
    cards = [Card(node_name(number)) for number in range(1, nodes + 1)]
    truth = [rack for rack, count in enumerate(case.racks) for _ in range(count)]
    hidden = np.triu(np.random.default_rng(case.seed).random((nodes, nodes)) < case.unseen, 1)
    pairs = PairTimes()
    found = []
    for number in range(1, case.broadcasts[-1] + 1):
        pairs.add(block_times(case, rng), float(number))
        if number in case.broadcasts:
            times = pairs.matrix(cards)
            times[hidden | hidden.T] = np.nan
            inferred = infer(times, case.seed)
            distances = symmetric_distances(times)
            known = np.flatnonzero((~np.isnan(distances)).sum(axis=1))
            plane = project(complete(distances[np.ix_(known, known)], case.seed), case.seed)
            by_criterion = np.full(nodes, -1)
            by_criterion[known] = least_criterion(plane, case.seed)
            found.append(
                Found(
                    number,
                    same(inferred.racks, truth),
                    same(by_criterion.tolist(), truth),
                    inferred.confidence,
                    float((~np.isnan(distances)).sum()) / (nodes * (nodes - 1)),
                )
            )
    return found


def block_times(case: Case, rng: Random) -> dict[tuple[Card, Card], float]:
    """Of one broadcast, by the byte, without those of its source."""
    noise = Random(rng.getrandbits(64))
    times = BlockTimes(BlockLayout(case.blocks * case.block_bytes, case.block_bytes))

    def heard(now: float, event: Event | Command) -> None:
        if isinstance(event, BlocksStored):
            times.note(
                event.node,
                [
                    Stored(each.block, each.source, each.seconds * math.exp(noise.gauss(0, case.noise)))
                    for each in event.records
                ],
            )

    several = len(case.racks) > 1
    run_planner(
        Mechanism.CORNET,
        sum(case.racks),
        case.blocks * case.block_bytes,
        case.block_bytes,
        RATE,
        racks=case.racks if several else None,
        uplink_bytes_per_s=RATE if several else None,
        source_rack=rng.randrange(len(case.racks)),
        shuffled=True,
        seed=rng.getrandbits(32),
        observe=heard,
    )
    source = NodeName(node_name(0))
    return {
        (Card(to), Card(sender)): time_s
        for (to, sender), time_s in times.medians().items()
        if source not in (to, sender)
    }


def same(racks: Sequence[int], truth: Sequence[int]) -> bool:
    """Whether two partitions are one, and everyone has a place."""
    pairs = set(zip(racks, truth, strict=True))
    return -1 not in racks and len(pairs) == len(set(racks)) == len(set(truth))


def table(results: Mapping[str, Sequence[Sequence[Found]]]) -> str:
    """A line for each layout and number of broadcasts."""
    lines = [
        f"{'racks':12} {'broadcasts':>10} {'exact':>9} {'criterion':>9} {'pairs seen':>10} "
        f"{'least sure, right':>17} {'surest, wrong':>13}"
    ]
    for layout, seeds in results.items():
        for its in zip(*seeds, strict=True):
            right = [found.confidence for found in its if found.exact]
            wrong = [found.confidence for found in its if not found.exact]
            exact = f"{len(right)}/{len(its)}"
            by_criterion = f"{sum(found.by_criterion for found in its)}/{len(its)}"
            seen = sum(found.seen for found in its) / len(its)
            lines.append(
                f"{layout:12} {its[0].broadcasts:10} {exact:>9} {by_criterion:>9} {seen:10.0%} "
                f"{f'{min(right):.2f}' if right else '-':>17} {f'{max(wrong):.2f}' if wrong else '-':>13}"
            )
    return "\n".join(lines)


def cost(nodes: int) -> str:
    """Seconds and memory of one inference."""
    rng = np.random.default_rng(0)
    at = np.arange(nodes) // 20
    times = np.where(at[:, None] == at[None, :], 1.0, 8.0) * np.exp(0.2 * rng.standard_normal((nodes, nodes)))
    times[rng.random((nodes, nodes)) < 0.3] = np.nan
    infer(times[:8, :8])  # loads scikit-learn
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = []
    for _ in range(5):
        began_s = time.perf_counter()
        infer(times)
        took.append(time.perf_counter() - began_s)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    took.sort()
    spread = f"{took[0]:.2f}-{took[-1]:.2f}"
    return f"{nodes} nodes: median {took[2]:.2f} s ({spread}), {grown:.0f} MiB more than before"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="default: 100")
    parser.add_argument("--processes", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--broadcasts", type=listed(int), default=[1, 3, 10], help="after how many to infer (default: 1,3,10)"
    )
    parser.add_argument(
        "--layouts", type=listed(str), default=list(LAYOUTS), help=f"of {', '.join(LAYOUTS)} (default: all)"
    )
    parser.add_argument("--blocks", type=int, default=64, help="of a broadcast (default: 64)")
    parser.add_argument("--block-bytes", type=int, default=1 << 17, help="default: 131072")
    parser.add_argument("--noise", type=float, default=0.2, help="of block times (default: 0.2)")
    parser.add_argument("--unseen", type=float, default=0.3, help="share of pairs (default: 0.3)")
    parser.add_argument("--nodes", type=int, default=200, help="for the cost of one inference (default: 200)")
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "seeds", "processes", "broadcasts", "blocks", "block_bytes", "nodes")
    for name in options.layouts:
        if name not in LAYOUTS:
            parser.error(f"--layouts must be of {', '.join(LAYOUTS)}, got {name!r}")
    results: dict[str, list[list[Found]]] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for name in options.layouts:
            cases = [
                Case(
                    LAYOUTS[name],
                    tuple(sorted(options.broadcasts)),
                    options.blocks,
                    options.block_bytes,
                    options.noise,
                    options.unseen,
                    seed,
                )
                for seed in range(options.seeds)
            ]
            results[name] = list(tqdm(pool.map(draw, cases), total=len(cases), desc=name, unit="seed"))
    print(table(results))
    print(cost(options.nodes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
