"""How often racks are inferred exactly, in simulation.

    python -m examples.benchmarks.rack_inference --seeds 100 --processes 2

Every seed draws broadcasts, each from a node that is drawn, its receivers in an order that is drawn. Links
between racks are as fast as nodes'. Each block's time is noisy, and some pairs of nodes stay unseen. Planner
and inference are the controller's own (`orchestra.controller.racks.Topology`): it plans by what it believes
so far, and what it believes in the end is compared with the truth; to believe nothing is not exact. After the
first broadcast it believes nothing yet; then what it would infer is compared. *Criterion*: the paper's choice
of the number of racks (`orchestra.topology.least_criterion`), from those broadcasts alone that know of none.

Racks of unequal size are drawn up in a line, and at one switch. Small ones have down to three nodes; then one
in five draws hides some node from all others of its rack. They are there to show what that costs. The last
layout has no racks: there it is right to find one.

With ``--move``, a node that is drawn moves to another rack after the last of those broadcasts, which nobody
tells the controller; and what it believes is compared after each of three more.
"""

import argparse
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from random import Random
from typing import Any

import numpy as np
from tqdm import tqdm

from examples.benchmarks.figures import listed, refuse_wrong
from orchestra.controller.block_times import BlockTimes, PairTimes
from orchestra.controller.members import Members, SessionId
from orchestra.controller.racks import INFERRED, Topology
from orchestra.messages import Join
from orchestra.simulation.fabric import Wiring, rack_of_each_host
from orchestra.simulation.planner_loop import node_name, run_planner
from orchestra.topology import complete, infer, least_criterion, project, symmetric_distances
from transfers.blocks import BlockLayout
from transfers.planners import Mechanism, Racks
from transfers.planners.events import BlocksStored, Command, Event, Stored

RATE = 6.25e6
RESOLUTION_S = 0.004
"""Of the simulation, a fifth of a block's time over one link: far less than times are noisy."""
AFTER_MOVE = 3
"""Broadcasts in which a node that has moved is to be found."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Nodes in each rack, and how racks hang together."""

    racks: tuple[int, ...]
    wiring: Wiring = Wiring.LINE

    def places(self) -> list[int]:
        """Rack of each node."""
        return rack_of_each_host(self.racks)[1:]


SMALL_FIVE, SMALL_TEN = (5, 9, 14, 4, 8), (3, 8, 5, 12, 6, 4, 10, 7, 9, 5)
FIVE, TEN = (9, 14, 20, 8, 12), (8, 12, 9, 16, 10, 8, 14, 11, 13, 9)
LAYOUTS: Mapping[str, Layout] = {
    "3 x 10": Layout((10,) * 3),
    "4 x 25": Layout((25,) * 4),
    "2 unequal": Layout((6, 14)),
    "5 unequal": Layout(FIVE),
    "5 at a switch": Layout(FIVE, Wiring.CORE),
    "10 unequal": Layout(TEN),
    "10 at a switch": Layout(TEN, Wiring.CORE),
    "5, small ones": Layout(SMALL_FIVE),
    "10, small ones": Layout(SMALL_TEN),
    "no racks": Layout((30,)),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What one seed is to draw.

    Attributes:
        layout: of the nodes.
        broadcasts: after how many to compare, ascending.
        moves: whether a node moves then.
        blocks, block_bytes: of each broadcast.
        noise: standard deviation of the logarithm of a block's time.
        unseen: share of pairs that are hidden.
    """

    layout: Layout
    broadcasts: tuple[int, ...]
    moves: bool
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
        found: racks of the former.
        moved: whether a node has moved by then.
    """

    broadcasts: int
    exact: bool
    by_criterion: bool
    confidence: float
    found: int
    moved: bool = False


class Learning:
    """A controller's belief, and the network that it is about."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._rng = Random(case.seed)
        self.places = case.layout.places()
        self.names = [node_name(number + 1) for number in range(len(self.places))]
        size = len(self.names)
        drawn = np.triu(np.random.default_rng(case.seed).random((size, size)) < case.unseen, 1)
        self._hidden = drawn | drawn.T
        members = Members()
        for number, name in enumerate(self.names):
            members.add(SessionId(number), Join(name, "", f"{name}:1", name, "", True, False, ()), 0.0)
        self.topology = Topology(INFERRED, members, lambda _: None, seed=case.seed)
        self._members = members
        self._open = PairTimes()  # of broadcasts that knew of no racks
        self._number = 0
        self._moved = False

    def move(self) -> None:
        """One node to another rack, if there are several."""
        node = self._rng.randrange(len(self.places))
        others = sorted(set(self.places) - {self.places[node]})
        if others:
            self.places[node] = self._rng.choice(others)
            self._moved = True

    def broadcast(self) -> None:
        """One, and what is learnt from it."""
        source = self._rng.randrange(len(self.names))
        explores = self.topology.explores
        planned = self.topology.racks_for(self.names[source], explores)
        times, took_s = self._times(source, planned, explores)
        self._number += 1
        if planned is None:
            card_of = self._members.card_of
            self._open.add(
                {(card_of(to), card_of(sender)): its for (to, sender), its in times.medians().items()},
                float(self._number),
            )
        self.topology.learn(times, planned, explores, took_s, float(self._number))
        job = self.topology.take_job()
        if job is not None:
            job()()

    def found(self) -> Found:
        """How what is believed compares with the truth."""
        cards = [self._members.card_of(name) for name in self.names]
        times = self._open.matrix(cards)
        distances = symmetric_distances(times)
        known = np.flatnonzero((~np.isnan(distances)).sum(axis=1))
        by_criterion = np.full(len(cards), -1)
        seed = self._case.seed
        by_criterion[known] = least_criterion(
            project(complete(distances[np.ix_(known, known)], seed), seed), seed
        )
        described: dict[str, Any] = self.topology.described(self.names)
        if described["believed"]:
            racks = {name: rack for rack, its in enumerate(described["racks"]) for name in its}
            labels = [racks.get(name, -1) for name in self.names]
            confidence = described["confidence"]
        elif self._number == 1:
            inferred = infer(times, seed)
            labels, confidence = list(inferred.racks), inferred.confidence
        else:
            labels, confidence = [-1] * len(cards), described["confidence"]
        return Found(
            self._number,
            same(labels, self.places),
            same(by_criterion.tolist(), self.places),
            confidence,
            len(set(labels) - {-1}),
            self._moved,
        )

    def _times(self, source: int, planned: Racks | None, explores: bool) -> tuple[BlockTimes, float]:
        """Of one broadcast's blocks, noisy and with holes; and how long it took, in seconds."""
        case, rng = self._case, self._rng
        order = [source, *(number for number in range(len(self.names)) if number != source)]
        at = {node_name(host): number for host, number in enumerate(order)}
        noise = Random(rng.getrandbits(64))
        times = BlockTimes(BlockLayout(case.blocks * case.block_bytes, case.block_bytes))

        def heard(now: float, event: Event | Command) -> None:
            if not isinstance(event, BlocksStored):
                return
            to = at[event.node]
            for each in event.records:
                sender = at[each.source]
                if not self._hidden[to, sender]:
                    seconds = each.seconds * math.exp(noise.gauss(0, case.noise))
                    times.note(self.names[to], [Stored(each.block, self.names[sender], seconds)])

        known = None
        if planned is not None:
            of = {name: planned.of(self.names[number]) for name, number in at.items()}
            known = Racks(of.get, planned.feeds)
        run = run_planner(
            Mechanism.CORNET,
            len(order) - 1,
            case.blocks * case.block_bytes,
            case.block_bytes,
            RATE,
            places=[self.places[number] for number in order],
            uplink_bytes_per_s=RATE,
            wiring=case.layout.wiring,
            resolution_s=RESOLUTION_S,
            known=known,
            explores=explores,
            shuffled=True,
            seed=rng.getrandbits(32),
            observe=heard,
        )
        return times, run.completion_s


def draw(case: Case) -> list[Found]:
    """One seed."""
    learning = Learning(case)
    found = []
    for number in range(1, case.broadcasts[-1] + 1):
        learning.broadcast()
        if number in case.broadcasts:
            found.append(learning.found())
    if case.moves:
        learning.move()
        for _ in range(AFTER_MOVE):
            learning.broadcast()
            found.append(learning.found())
    return found


def same(racks: Sequence[int], truth: Sequence[int]) -> bool:
    """Whether two partitions are one, and everyone has a place."""
    pairs = set(zip(racks, truth, strict=True))
    return -1 not in racks and len(pairs) == len(set(racks)) == len(set(truth))


def table(results: Mapping[str, Sequence[Sequence[Found]]]) -> str:
    """A line for each layout and number of broadcasts."""
    lines = [
        f"{'racks':14} {'broadcasts':>10} {'exact':>9} {'criterion':>9} {'found':>9} "
        f"{'least sure, right':>17} {'surest, wrong':>13}"
    ]
    for layout, seeds in results.items():
        for its in zip(*seeds, strict=True):
            right = [found.confidence for found in its if found.exact]
            wrong = [found.confidence for found in its if not found.exact]
            exact = f"{len(right)}/{len(its)}"
            after = f"{'moved, ' if its[0].moved else ''}{its[0].broadcasts}"
            by_criterion = f"{sum(found.by_criterion for found in its)}/{len(its)}"
            counts = [found.found for found in its]
            lines.append(
                f"{layout:14} {after:>10} {exact:>9} {by_criterion:>9} "
                f"{f'{min(counts)}-{max(counts)}':>9} "
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
    parser.add_argument("--first-seed", type=int, default=0, help="default: 0")
    parser.add_argument("--processes", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--broadcasts", type=listed(int), default=[1, 3, 10], help="after how many to infer (default: 1,3,10)"
    )
    parser.add_argument("--move", action="store_true", help="a node after the last of them")
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
    if not (options.noise >= 0 and 0 <= options.unseen < 1):
        given = f"{options.noise}, {options.unseen}"
        parser.error(f"--noise must be at least 0, and --unseen from 0 to below 1, got {given}")
    for name in options.layouts:
        if name not in LAYOUTS:
            parser.error(f"--layouts must be of {', '.join(LAYOUTS)}, got {name!r}")
    results: dict[str, list[list[Found]]] = {}
    # Forked processes would hang in the threads of numerical libraries that have been at work here.
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for name in options.layouts:
            cases = [
                Case(
                    LAYOUTS[name],
                    tuple(sorted(options.broadcasts)),
                    options.move,
                    options.blocks,
                    options.block_bytes,
                    options.noise,
                    options.unseen,
                    seed,
                )
                for seed in range(options.first_seed, options.first_seed + options.seeds)
            ]
            results[name] = []
            with tqdm(total=len(cases), desc=name, unit="seed") as bar:
                for case, its in zip(cases, pool.map(draw, cases), strict=True):
                    results[name].append(its)
                    bar.update()
                    if not its[-1].exact:
                        bar.write(f"{name}: not exact in the end with seed {case.seed}", sys.stderr)
    print(table(results))
    print(cost(options.nodes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
