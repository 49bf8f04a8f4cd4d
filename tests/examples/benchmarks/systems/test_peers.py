"""The light peers on a small scale; each is left out, by its name, where it is not installed.

Spark and Ray take minutes to come up, and are tried by hand.
"""

import os
import time

import pytest

from examples.benchmarks.emulation import EmulatedCluster, why_not
from examples.benchmarks.emulation.links import BURST_BYTES
from examples.benchmarks.systems import (
    dask_scatter,
    libtorrent_swarm,
    openmpi,
    ray_broadcast,
    spark_broadcast,
)
from examples.benchmarks.systems.base import System
from examples.benchmarks.systems.contained import ENDING_S

TIMEOUT_S = 60.0
SIZE_BYTES = 1_000_000
RATE_BYTES_PER_S = 4e6
LIGHT: tuple[System, ...] = (*openmpi.SYSTEMS, *libtorrent_swarm.SYSTEMS, *dask_scatter.SYSTEMS)
ALL: tuple[System, ...] = (*LIGHT, *spark_broadcast.SYSTEMS, *ray_broadcast.SYSTEMS)


@pytest.mark.skipif(why_not() is not None, reason=f"no emulated hosts: {why_not()}")
@pytest.mark.parametrize("system", LIGHT, ids=lambda system: system.name)
def test_a_broadcast_reaches_all_over_the_links_and_leaves_nothing(system: System) -> None:
    if (missing := system.missing()) is not None:
        pytest.skip(f"{system.name}: {missing}")
    with EmulatedCluster(hosts=3, rate_bytes_per_s=RATE_BYTES_PER_S) as cluster:
        times_s = system.broadcast(cluster, SIZE_BYTES, 2, TIMEOUT_S)
        received = [host.received_bytes() for host in cluster.hosts]
        give_up_at_s = time.monotonic() + ENDING_S
        while left := _processes_in(cluster):
            assert time.monotonic() < give_up_at_s, left
            time.sleep(0.01)  # the kernel is at it
    assert len(times_s) == 2
    assert all(time_s * RATE_BYTES_PER_S + BURST_BYTES >= SIZE_BYTES for time_s in times_s)
    assert all(its >= 3 * SIZE_BYTES for its in received[1:])  # with the one that does not count
    assert received[0] < SIZE_BYTES


@pytest.mark.parametrize("system", ALL, ids=lambda system: system.name)
def test_every_peer_has_one_line_that_says_how_it_is_set(system: System) -> None:
    assert system.how
    assert "\n" not in system.how


def test_names_differ() -> None:
    assert len({system.name for system in ALL}) == len(ALL)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    names = [system.missing() for system in ALL]
    assert all(name is not None and "is not installed" in name for name in names)


def _processes_in(cluster: EmulatedCluster) -> list[str]:
    """Living processes on the cluster's hosts."""
    namespaces = {os.stat(host.namespace_path).st_ino for host in cluster.hosts}
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/net").st_ino in namespaces:
                    found.append(entry)
            except OSError:
                continue  # it has ended
    return found
