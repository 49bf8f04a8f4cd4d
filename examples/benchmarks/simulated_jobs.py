"""Transfers that are asked for at given times, on a simulated network: controller and nodes as they are.

Owns the setting up. What is asked for, and how, is in `examples.benchmarks.jobs`.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

import trio

from examples.benchmarks.jobs import Done, Job, Sample, run_jobs, sample
from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.pages import SharedPages
from orchestra.simulation.running import simulate
from orchestra.simulation.world import Delays, World

ASKS = "asks"
LIMIT_S = 10_000.0
"""Of virtual time (a guess: more than any figure takes)."""


def simulated(
    agents: int,
    rate_bytes_per_s: float,
    jobs: Sequence[Job],
    *,
    policy: str = "fair",
    port_rate_bytes_per_s: float | None = None,
    enforcement: str = "auto",
    by: Mapping[str, Sequence[Job]] | None = None,
    seed: int = 0,
    watch: Callable[[SimulatedCluster], None] | None = None,
    samples: list[Sample] | None = None,
    sample_s: float = 0.5,
) -> dict[str, Done]:
    """Run jobs to their ends under virtual time; their bytes lie in this machine's memory, once each.

    Args:
        agents: ``h1``, ``h2`` and so on, each on a host of its own; who asks stands on one more, as the
            controller.
        rate_bytes_per_s: of each host's link, each way.
        jobs: of who asks.
        policy, port_rate_bytes_per_s, enforcement: of the controller.
        by: jobs of agents that ask, too, by their names.
        seed: of all that is drawn.
        watch: called with the cluster before anything is asked for.
        samples: to which is added how far jobs were, every ``sample_s``; None for nowhere.

    Raises:
        RuntimeError: when a job fails, or a checker complains.
    """

    async def main() -> dict[str, Done]:
        fabric = Fabric([rate_bytes_per_s] * (agents + 1), None, None, 1e-4)
        world = World(fabric, Random(seed), delays=Delays(), resolution_s=0.002, keeps_references=True)
        async with simulated_cluster(
            world,
            seed=seed,
            port_rate_bytes_per_s=port_rate_bytes_per_s,
            policy=policy,
            enforcement=enforcement,
            pages=SharedPages(),
        ) as cluster:
            asks = await cluster.start(ASKS, 0, receives=False)
            async with trio.open_nursery() as nursery:
                for host in range(1, agents + 1):
                    nursery.start_soon(cluster.start, f"h{host}", host)
            if watch is not None:
                watch(cluster)
            found: dict[str, Done] = {}
            begin_s = trio.current_time()

            async def ask(name: str, its: Sequence[Job]) -> None:
                node = asks if name == ASKS else cluster.nodes[name]
                found.update({done.name: done for done in await run_jobs(node, its, begin_s)})

            async with trio.open_nursery() as watching:
                if samples is not None:
                    watching.start_soon(sample, asks, begin_s, sample_s, samples)
                async with trio.open_nursery() as nursery:
                    for name, its in {ASKS: jobs, **(by or {})}.items():
                        nursery.start_soon(ask, name, its)
                watching.cancel_scope.cancel()
        if world.complaints:
            raise RuntimeError("; ".join(world.complaints[:3]))
        for done in found.values():
            if done.failed or done.reason:
                raise RuntimeError(f"{done.name} failed: {done.reason} {dict(done.failed)}")
        return found

    return simulate(main, seed=seed, limit_s=LIMIT_S)
