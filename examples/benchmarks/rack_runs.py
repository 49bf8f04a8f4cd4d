"""Broadcasts over racks in a line, or to one alone, whether or not the controller knows of them.

Owns the running, on emulated hosts and in simulation. What is compared, and how it is told, is the scripts'
(`examples.paper.figure11`, `examples.paper.figure12`).
"""

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import trio
from tqdm import tqdm

from examples.benchmarks.emulation import EmulatedCluster, EmulatedHost, IdleWhileMoving
from examples.benchmarks.figures import Series, listed
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes
from orchestra.racks_file import GivenRacks, racks_by_number
from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric, rack_of_each_host
from orchestra.simulation.pages import SharedPages, random_bytes
from orchestra.simulation.planner_loop import SOURCE, node_name
from orchestra.simulation.running import simulate
from orchestra.simulation.world import World
from orchestra.units import parse_rate, parse_size

CORNET = Orchestra("cornet", None)
TRAINING = 10
"""Broadcasts at most before racks count as learnt (the paper's)."""
TIMEOUT_S = 120.0
"""For one broadcast to get on (a guess: many times what any takes)."""
LIMIT_S = 100_000.0
"""Of virtual time (a guess: more than any run takes)."""
OF_RACKS = "topology: "
"""What begins whatever the controller says of racks."""
INFERENCE_S, POLL_S = 20.0, 0.2
"""For an inference to end on a busy machine, and between two looks (guesses)."""


class Knows(Enum):
    """What the controller knows of racks."""

    OBLIVIOUS = "oblivious"
    GIVEN = "given"
    INFERRED = "inferred"


def parser_for(doc: str) -> argparse.ArgumentParser:
    """Of a script that broadcasts over emulated racks: how many stand in each, what, how fast links are."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--racks", type=listed(int), default=[5, 5, 5], help="receivers (default: 5,5,5)")
    parser.add_argument("--size", type=parse_size, default=16_000_000, help="default: 16MB")
    parser.add_argument(
        "--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of every link (default: 50Mbit)"
    )
    return parser


@dataclass(frozen=True, slots=True)
class Layout:
    """Racks in a line, or one alone.

    Attributes:
        racks: receivers in each.
        place: the source's rack; it is one more host there.
        rate_bytes_per_s: of each host's link, each way.
        uplink_bytes_per_s: of the link between two neighbours, each way; None where there is one rack.
    """

    racks: tuple[int, ...]
    place: int
    rate_bytes_per_s: float
    uplink_bytes_per_s: float | None

    @property
    def receivers(self) -> int:
        """In all racks."""
        return sum(self.racks)

    @property
    def host_racks(self) -> list[int]:
        """Hosts in each rack, the source's among them."""
        return [count + (rack == self.place) for rack, count in enumerate(self.racks)]


@dataclass(slots=True)
class RackRuns:
    """Broadcasts of one kind.

    Attributes:
        times_s: of each that counts.
        uplink_bytes: of each of those, what passed each uplink, behind and before; empty in simulation.
        training_s: of each before those, where racks were to be inferred.
        topology: what the controller believed in the end, as ``orchestra topology --json`` prints it.
        said: what the controller said of racks while those ran that count; empty in simulation.
        true_racks: of every node, by name.
        idle_share: of the CPU on emulated hosts; NaN in simulation.
    """

    times_s: list[float] = field(default_factory=list)
    uplink_bytes: list[list[tuple[int, int]]] = field(default_factory=list)
    training_s: list[float] = field(default_factory=list)
    topology: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    true_racks: dict[str, int] = field(default_factory=dict)
    idle_share: float = math.nan

    @property
    def series(self) -> Series:
        """Of the times."""
        return Series(tuple(self.times_s), self.idle_share)

    @property
    def exact(self) -> bool:
        """Whether the racks that are believed in are the true ones of all who are there."""
        return is_exact(self.topology, self.true_racks)

    def busiest_uplink(self, size_bytes: int) -> float:
        """The most that passed any uplink in one direction in any run, in objects; NaN where there is none,
        or it was not counted."""
        passed = [max(both) for uplinks in self.uplink_bytes for both in uplinks]
        return max(passed) / size_bytes if passed else math.nan


@dataclass(frozen=True, slots=True)
class _SourceFirst:
    """Emulated hosts in another order."""

    hosts: Sequence[EmulatedHost]
    cluster: EmulatedCluster

    def drain_all(self) -> None:
        """Of all hosts."""
        self.cluster.drain_all()


@contextmanager
def rack_nodes(layout: Layout, knows: Knows) -> Iterator[tuple[EmulatedCluster, OrchestraNodes]]:
    """Emulated hosts in racks, on which Orchestra runs while the block does; the source stands first among
    the nodes' hosts."""
    sizes = layout.host_racks
    with (
        EmulatedCluster(sum(sizes), layout.rate_bytes_per_s, sizes, layout.uplink_bytes_per_s) as cluster,
        TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        told = {Knows.OBLIVIOUS: "flat", Knows.INFERRED: "inferred", Knows.GIVEN: f"{folder}/racks.toml"}
        given = racks_by_number(true_racks(cluster)).racks.items()
        Path(folder, "racks.toml").write_text("".join(f"{rack} = {list(names)}\n" for rack, names in given))
        source = cluster.rack_of.index(layout.place)
        hosts = [cluster.hosts[source], *(host for at, host in enumerate(cluster.hosts) if at != source)]
        options = ["--verbose", "--topology", told[knows]]
        yield cluster, OrchestraNodes(_SourceFirst(hosts, cluster), stack, options)


def is_exact(topology: Mapping[str, Any], racks: Mapping[str, int]) -> bool:
    """Whether the racks that are believed in are the true ones of all who are there."""
    found = [{racks[name] for name in names} for names in topology["racks"]]
    whole = not topology.get("unplaced")
    return whole and all(len(rack) == 1 for rack in found) and len(found) == len(set(map(min, found)))


def true_racks(cluster: EmulatedCluster) -> dict[str, int]:
    """Number of every host's rack, by the host's name."""
    return {host.name: rack for host, rack in zip(cluster.hosts, cluster.rack_of, strict=True)}


def broadcast(nodes: OrchestraNodes, name: str, size_bytes: int, rng: Random) -> float:
    """One, which receivers join in an order that is drawn; seconds.

    Raises:
        PeerFailed: when it fails.
    """
    order = rng.sample(list(nodes.receivers), len(nodes.receivers))
    return nodes.broadcast(name, CORNET, size_bytes, TIMEOUT_S, order).elapsed_s


def emulate(layout: Layout, knows: Knows, size_bytes: int, repeats: int, seed: int) -> RackRuns:
    """Broadcast over emulated hosts; one before those that count, and as many as it takes to infer racks.

    Args:
        layout: of the hosts.
        knows: what the controller does.
        size_bytes: of the object.
        repeats: broadcasts that count.
        seed: of the order in which receivers join each of them.

    Raises:
        PeerFailed: when a broadcast fails.
    """
    runs, rng = RackRuns(), Random(seed)
    with rack_nodes(layout, knows) as (cluster, nodes):
        runs.true_racks = true_racks(cluster)

        for number in range(TRAINING if knows is Knows.INFERRED else 1):
            runs.training_s.append(broadcast(nodes, f"object-{number}", size_bytes, rng))
            if knows is Knows.INFERRED and is_learnt(nodes):
                break
        said = len(nodes.said(OF_RACKS))
        with IdleWhileMoving(cluster) as idle:
            for number in tqdm(range(repeats), desc=f"emulated, {knows.value}", unit="broadcast"):
                before = cluster.uplink_bytes()
                runs.times_s.append(broadcast(nodes, f"object-{TRAINING + number}", size_bytes, rng))
                runs.uplink_bytes.append(
                    [
                        (after[0] - earlier[0], after[1] - earlier[1])
                        for after, earlier in zip(cluster.uplink_bytes(), before, strict=True)
                    ]
                )
        runs.idle_share = idle.share
        if knows is Knows.INFERRED:
            is_learnt(nodes)  # what it comes to is said as well
        runs.topology = nodes.status()["topology"]
        runs.said = nodes.said(OF_RACKS)[said:]
    return runs


def is_learnt(nodes: OrchestraNodes) -> bool:
    """Whether racks are believed in, and nothing is explored any more, once whatever is being inferred is."""
    ends_by_s = time.monotonic() + INFERENCE_S
    while (topology := nodes.status()["topology"])["inferring"] and time.monotonic() < ends_by_s:
        time.sleep(POLL_S)
    return _is_settled(topology)


def _is_settled(topology: Mapping[str, Any]) -> bool:
    return topology["believed"] and not topology["exploring"]


def simulate_runs(layout: Layout, knows: Knows, size_bytes: int, repeats: int, seed: int) -> RackRuns:
    """The same in simulation, controller and nodes as they are; arguments as for `emulate`."""
    places = rack_of_each_host(layout.racks, layout.place)
    true_racks: dict[str, int] = {node_name(host): rack for host, rack in enumerate(places)}

    async def main() -> RackRuns:
        fabric = Fabric([layout.rate_bytes_per_s] * len(places), places, layout.uplink_bytes_per_s)
        world = World(fabric, Random(seed), resolution_s=0.002, keeps_references=True)
        told: dict[Knows, str | GivenRacks] = {
            Knows.OBLIVIOUS: "flat",
            Knows.INFERRED: "inferred",
            Knows.GIVEN: racks_by_number(true_racks),
        }
        async with simulated_cluster(world, seed=seed, topology=told[knows], pages=SharedPages()) as cluster:
            await cluster.start(SOURCE, 0, receives=False)
            for host in range(1, len(places)):
                await cluster.start(node_name(host), host)
            runs = await _run(cluster, knows, size_bytes, repeats, Random(seed))
            runs.true_racks = true_racks
        if world.complaints:
            raise RuntimeError("; ".join(world.complaints[:3]))
        return runs

    return simulate(main, seed=seed, limit_s=LIMIT_S)


async def _run(
    cluster: SimulatedCluster, knows: Knows, size_bytes: int, repeats: int, rng: Random
) -> RackRuns:
    runs = RackRuns()
    topology, source = cluster.server.core.topology, cluster.nodes[SOURCE]
    receivers = [name for name in cluster.nodes if name != SOURCE]

    def believed() -> dict[str, Any]:
        return topology.described(node.name for node in cluster.server.core.members.agents())

    async def broadcast(number: int) -> float:
        transfer = await source.broadcast(
            random_bytes(size_bytes, number),
            f"object-{number}",
            to=rng.sample(receivers, len(receivers)),
            mechanism="cornet",
            timeout=TIMEOUT_S,
        )
        outcome = await transfer.wait()
        await source.release(transfer.name)
        await trio.sleep(1.0)  # what is to be inferred is
        return outcome.completion_s

    for number in range(TRAINING if knows is Knows.INFERRED else 1):
        runs.training_s.append(await broadcast(number))
        if knows is Knows.INFERRED and _is_settled(believed()):
            break
    for number in tqdm(range(repeats), desc=f"simulated, {knows.value}", unit="broadcast"):
        runs.times_s.append(await broadcast(TRAINING + number))
    runs.topology = believed()
    return runs
