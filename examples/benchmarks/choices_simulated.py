"""The cells of `examples.benchmarks.choices`, simulated: for sizes and receivers that no two cores emulate.

Owns how a cell is simulated. Theory of operation: a whole cluster, controller and nodes as they are, is run
under virtual time on links of the same rate, with up to `LEARNING_RECEIVERS` receivers. Its controller learns
from a few broadcasts, as it would on real hosts. What it believes then is what choices are made by; each
mechanism's planner is then run alone on the modelled network, in the blocks that are chosen for it, which
goes as far as thousands of receivers. To choose is to take one of the four, so what the choice takes is not
simulated twice.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import trio
from tqdm import tqdm

from examples.benchmarks.choice_cells import AUTO, Cell, Sent
from orchestra.choice import MIN_BLOCK_SIZE_BYTES, choose
from orchestra.estimate import LinkEstimate
from orchestra.simulation.broadcast import COARSE_S, BroadcastSetup, simulate_planner
from orchestra.simulation.cluster import simulated_cluster
from orchestra.simulation.pages import SharedPages, random_bytes
from orchestra.simulation.planner_loop import SOURCE, time_limit_s
from orchestra.simulation.running import simulate
from orchestra.simulation.world import World, host_name
from transfers.net.address import format_address
from transfers.planners import Mechanism

LEARNING_RECEIVERS = 8
"""Most receivers of the cluster that learns (a guess: enough that ports are shared as they are by more)."""

LEARNING_S = (0.05, 0.05, 0.5, 0.5)
"""What it broadcasts, in seconds of one link, by its own choice (a guess: two short ones and two longer)."""


STEPS_A_BLOCK = 4
"""Of the clock, in the time of the smallest block (a guess: coarser ones made links of 1 Gbit/s look like a
fifth of that)."""


def resolution_s(rate_bytes_per_s: float) -> float:
    """Of time: fine enough for the smallest blocks, or their seconds would be those of the clock."""
    return min(COARSE_S, MIN_BLOCK_SIZE_BYTES / rate_bytes_per_s / STEPS_A_BLOCK)


def learnt(receivers: int, rate_bytes_per_s: float) -> LinkEstimate:
    """What a controller believes of such links after a few broadcasts."""
    receivers = min(receivers, LEARNING_RECEIVERS)
    setup = BroadcastSetup(receivers, 1, rate_bytes_per_s, resolution_s=resolution_s(rate_bytes_per_s))
    addresses = [format_address(host_name(host), 1) for host in range(receivers + 1)]

    async def main() -> LinkEstimate:
        world = World(
            setup.fabric(),
            Random(0),
            delays=setup.delays,
            resolution_s=setup.resolution_s,
            keeps_references=True,
        )
        async with simulated_cluster(world, seed=0, pages=SharedPages()) as cluster:
            source = await cluster.start(SOURCE, 0, receives=False)
            async with trio.open_nursery() as nursery:
                for host in range(1, receivers + 1):
                    nursery.start_soon(cluster.start, f"n{host}", host)
            for turn, seconds in enumerate(LEARNING_S):
                name, size_bytes = f"learning-{turn}", max(1 << 20, int(seconds * rate_bytes_per_s))
                transfer = await source.broadcast(random_bytes(size_bytes, turn), name, wait_for=receivers)
                await transfer.wait()
                await source.release(name)
            return cluster.server.core.measured.link_for(addresses)

    return simulate(main, seed=0, limit_s=time_limit_s(sum(LEARNING_S)))


def simulate_cells(
    receivers: int, sizes: Sequence[int], rate_bytes_per_s: float, seeds: int, bar: "tqdm[Any]"
) -> list[Cell]:
    """All sizes to so many receivers, each mechanism with so many seeds.

    Raises:
        OrchestraError: when a plan hangs, or the model does what it must not.
    """
    link = learnt(receivers, rate_bytes_per_s)
    cells = []
    for size_bytes in sizes:
        cell = Cell(receivers, size_bytes, rate_bytes_per_s)
        for mechanism in Mechanism:
            choice = choose(size_bytes, receivers, link=link, mechanism=mechanism)
            cell.sent[mechanism.value] = []
            for seed in range(seeds):
                setup = BroadcastSetup(
                    *(receivers, size_bytes, rate_bytes_per_s, mechanism.value, choice.block_size_bytes),
                    seed=seed,
                    resolution_s=resolution_s(rate_bytes_per_s),
                )
                took_s = simulate_planner(setup).completion_s
                sent = Sent(mechanism.value, choice.block_size_bytes, took_s, took_s, choice.predicted_s)
                cell.sent[mechanism.value].append(sent)
                bar.update()
        taken = choose(size_bytes, receivers, link=link)
        cell.sent[AUTO] = cell.sent[taken.mechanism.value]
        cells.append(cell)
    return cells
