"""One simulated broadcast: the whole system and its planner alone tell the same story."""

from random import Random

import pytest
import trio

from orchestra.messages import Outcome
from orchestra.simulation.broadcast import (
    BroadcastSetup,
    Model,
    simulate_planner,
    simulate_whole,
)
from orchestra.simulation.cluster import simulated_cluster
from orchestra.simulation.pages import SharedPages, random_bytes
from orchestra.simulation.running import simulate
from orchestra.simulation.world import World

SMALL = BroadcastSetup(6, 6 << 20, 3.125e6, "cornet", 128 << 10)


@pytest.mark.parametrize("mechanism", ["chain", "tree", "hdfs", "cornet"])
def test_the_planner_alone_takes_as_long_as_the_whole_system(mechanism: str) -> None:
    setup = BroadcastSetup(8, 8 << 20, 3.125e6, mechanism, 128 << 10)
    whole, planner = simulate_whole(setup), simulate_planner(setup)
    assert planner.completion_s == pytest.approx(whole.completion_s, rel=0.1)
    assert whole.bound_s <= whole.completion_s
    assert planner.bound_s <= planner.completion_s


def test_every_receiver_is_told_with_its_time_and_every_byte_is_sent_once() -> None:
    result = simulate_whole(SMALL)
    assert set(result.node_completion_s) == {f"n{at}" for at in range(1, 7)}
    assert max(result.node_completion_s.values()) == result.completion_s
    assert not result.failed
    assert sum(result.sent_bytes) == pytest.approx(6 * SMALL.size_bytes, rel=0.02)


def test_equal_setups_give_equal_traces_and_another_seed_another() -> None:
    again = BroadcastSetup(6, 6 << 20, 3.125e6, "cornet", 128 << 10, seed=1)
    assert simulate_whole(SMALL).trace_digest == simulate_whole(SMALL).trace_digest
    assert simulate_whole(SMALL).trace_digest != simulate_whole(again).trace_digest
    assert simulate_planner(SMALL).trace_digest == simulate_planner(SMALL).trace_digest


def test_an_uplink_between_racks_bounds_the_broadcast() -> None:
    flat = BroadcastSetup(4, 4 << 20, 3.125e6, "chain", 128 << 10)
    racks = BroadcastSetup(
        4, 4 << 20, 3.125e6, "chain", 128 << 10, racks=(2, 2), uplink_bytes_per_s=0.78125e6
    )
    assert simulate_whole(racks).completion_s > 3 * simulate_whole(flat).completion_s
    assert simulate_whole(racks).bound_s == (4 << 20) / 0.78125e6


def test_a_slow_receiver_is_slow_in_both_models() -> None:
    setup = BroadcastSetup(4, 4 << 20, 3.125e6, "cornet", 128 << 10, host_rates={2: 0.2})
    for result in (simulate_whole(setup), simulate_planner(setup)):
        assert max(result.node_completion_s, key=result.node_completion_s.__getitem__) == "n2"
        assert result.completion_s > 5 * setup.least_s


@pytest.mark.parametrize(("receivers", "slow"), [(2, 1), (2, 2), (3, 1)])
def test_one_of_few_that_is_slow_delays_nobody_else_by_much(receivers: int, slow: int) -> None:
    setup = BroadcastSetup(receivers, 16 << 20, 6.25e6, "cornet", 128 << 10, host_rates={slow: 0.2})
    result = simulate_whole(setup)
    others = [at_s for name, at_s in result.node_completion_s.items() if name != f"n{slow}"]
    assert max(others) <= 1.2 * setup.least_s, "five times, if they kept step with it"


@pytest.mark.parametrize(("share", "most"), [(0.5, 1.2), (0.7, 1.25)])
@pytest.mark.parametrize("slow", [1, 2])
def test_one_of_two_that_is_slower_delays_the_other_little_also_where_blocks_are_short(
    slow: int, share: float, most: float
) -> None:
    setup = BroadcastSetup(2, 16 << 20, 6.25e6, "cornet", 64 << 10, host_rates={slow: share})
    other_s = simulate_whole(setup).node_completion_s[f"n{3 - slow}"]
    assert other_s <= most * setup.least_s, "1 / share, if it kept step"


@pytest.mark.parametrize("slow", [1, 2])
def test_one_of_two_at_a_fifth_of_a_fast_link_delays_the_other_by_less_than_a_second(slow: int) -> None:
    setup = BroadcastSetup(2, 256 << 20, 125e6, "cornet", 512 << 10, host_rates={slow: 0.2})
    other_s = simulate_whole(setup).node_completion_s[f"n{3 - slow}"]
    assert other_s <= setup.least_s + 1.0, "8.6 s more, if it kept step"


@pytest.mark.parametrize("receivers", [1, 2, 3])
def test_who_comes_late_delays_nobody_by_much(receivers: int) -> None:
    setup = BroadcastSetup(receivers + 1, 16 << 20, 6.25e6)

    async def main() -> Outcome:
        world = World(setup.fabric(), Random(0), resolution_s=setup.resolution_s)
        async with simulated_cluster(world, seed=0, link=setup.link(), pages=SharedPages()) as cluster:
            source = await cluster.start("source", 0, receives=False)
            for host in range(1, receivers + 1):
                await cluster.start(f"n{host}", host)
            transfer = await source.broadcast(
                random_bytes(setup.size_bytes, 0), "object", mechanism="cornet", block_size=128 << 10
            )
            await trio.sleep(0.8 * setup.least_s)
            await cluster.start("late", receivers + 1)
            return await transfer.wait()

    outcome = simulate(main, seed=0, limit_s=60.0)
    assert set(outcome.node_completion_s) == {f"n{host}" for host in range(1, receivers + 1)}
    assert outcome.completion_s <= 1.25 * setup.least_s


def test_what_is_too_large_for_the_whole_system_is_planned_alone() -> None:
    assert BroadcastSetup(100, 1 << 30, 9e7, "cornet", 4 << 20).model() is Model.WHOLE
    assert BroadcastSetup(1000, 1 << 30, 9e7, "cornet", 4 << 20).model() is Model.PLANNER
    assert BroadcastSetup(100, 1 << 30, 9e7, "cornet", 64 << 10).model() is Model.PLANNER


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"receivers": 0}, "receivers"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"rate_bytes_per_s": 0.0}, "rate_bytes_per_s"),
        ({"racks": (3, 4)}, "racks"),
        ({"racks": (6, 0)}, "racks"),
        ({"uplink_bytes_per_s": 1.0}, "uplink_bytes_per_s"),
        ({"host_rates": {7: 1.0}}, "host_rates"),
        ({"host_rates": {1: 0.0}}, "host_rates"),
    ],
)
def test_bad_setups_are_refused_by_name(changed: dict[str, object], named: str) -> None:
    values: dict[str, object] = {"receivers": 6, "size_bytes": 100, "rate_bytes_per_s": 1.0}
    with pytest.raises(ValueError, match=named):
        BroadcastSetup(**(values | changed))  # type: ignore[arg-type]
