"""Orchestra over emulated hosts, as the benchmark runs it, on a small scale."""

import pytest

from examples.benchmarks.emulation import EmulatedCluster, why_not
from examples.benchmarks.emulation.links import BURST_BYTES
from examples.benchmarks.systems.contained import PeerFailed
from examples.benchmarks.systems.orchestra import Orchestra

TIMEOUT_S = 60.0

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no emulated hosts: {why_not()}")


def test_a_broadcast_reaches_all_and_beats_no_link() -> None:
    with EmulatedCluster(hosts=4, rate_bytes_per_s=4e6) as cluster:
        times_s = Orchestra("cornet").broadcast(cluster, 1_000_000, 2, TIMEOUT_S)
        received = [host.received_bytes() for host in cluster.hosts]
    assert len(times_s) == 2
    assert all(time_s * 4e6 + BURST_BYTES >= 1_000_000 for time_s in times_s)
    assert all(its >= 3_000_000 for its in received[1:])  # the one that does not count came first
    assert received[0] < 500_000  # what they say to the controller


def test_a_broadcast_that_takes_too_long_is_a_failure() -> None:
    with (
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e5) as cluster,
        pytest.raises(PeerFailed, match="h1 ended early"),
    ):
        Orchestra("chain").broadcast(cluster, 1_000_000, 1, 1.0)
