"""Replays of coflows: when each is through, and what merging costs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestra.simulation.coflows import Coflow, Stuck, replay
from schedulers import POLICIES, Allocation, Dclas, Fair, Fifo, Share, Snapshot, TransferId
from schedulers.filling import Floats


def coflow(name: str, arrival_s: float, sizes: Floats, egress: int = 0, ingress: int = 4) -> Coflow:
    """Mappers from port ``egress`` on, reducers from ``ingress`` on."""
    mappers, reducers = sizes.shape
    return Coflow(
        TransferId(name),
        arrival_s,
        np.arange(egress, egress + mappers),
        np.arange(ingress, ingress + reducers),
        sizes,
    )


ONE = np.array([[10.0]])


def test_times_run_from_each_arrival_and_stand_in_the_order_given() -> None:
    done = replay([coflow("late", 7.0, ONE), coflow("early", 2.0, ONE)], np.ones(8), Fifo(), merge_s=0.0)
    assert done.completions_s == pytest.approx([15.0, 10.0])


def test_who_comes_meanwhile_is_decided_for_at_once() -> None:
    """Alone for 4 s; then each has half, until one has had its 10."""
    done = replay([coflow("a", 0.0, ONE), coflow("b", 4.0, ONE)], np.ones(8), Fair(), merge_s=0.0)
    assert done.completions_s == pytest.approx([16.0, 16.0])


def test_a_gap_between_coflows_is_skipped() -> None:
    done = replay([coflow("a", 0.0, ONE), coflow("b", 1000.0, ONE)], np.ones(8), Fair(), merge_s=0.0)
    assert done.completions_s == pytest.approx([10.0, 10.0])
    assert done.decisions == 2


def test_flows_that_end_free_their_ports_for_the_others() -> None:
    """One reducer of two mappers: 2 and 6 bytes, equal shares until the small one is through."""
    unweighted = replace(coflow("a", 0.0, np.array([[2.0], [6.0]])), weighted=False)
    done = replay([unweighted], np.ones(8), Fair(), merge_s=0.0)
    assert done.completions_s == pytest.approx([8.0])
    assert done.decisions == 2


@pytest.mark.parametrize("name", POLICIES)
def test_nobody_is_through_sooner_than_its_busiest_port_allows(name: str) -> None:
    rng = np.random.default_rng(5)
    coflows = [coflow(f"c{k}", float(rng.uniform(0, 20)), rng.uniform(0.1, 5, (3, 4))) for k in range(12)]
    alone = [max(one.size_bytes.sum(axis=0).max(), one.size_bytes.sum(axis=1).max()) for one in coflows]
    exact = replay(coflows, np.ones(8), POLICIES[name], merge_s=0.0)
    assert (exact.completions_s >= np.array(alone) * (1 - 1e-9)).all()
    total = sum(one.size_bytes.sum() for one in coflows)
    last = max(one.arrival_s + took for one, took in zip(coflows, exact.completions_s, strict=True))
    assert last >= total / 4, "four ports at either side"
    merged = replay(coflows, np.ones(8), POLICIES[name], merge_s=0.05)
    assert merged.decisions < exact.decisions
    assert merged.completions_s.mean() == pytest.approx(exact.completions_s.mean(), rel=0.02)


def test_flows_that_end_in_one_step_end_at_their_own_times() -> None:
    coflows = [coflow("a", 0.0, np.array([[1.00]]), 0, 4), coflow("b", 0.0, np.array([[1.03]]), 1, 5)]
    done = replay(coflows, np.ones(8), Fair(), merge_s=0.05)
    assert done.completions_s == pytest.approx([1.00, 1.03], rel=1e-12)
    assert done.decisions == 1


def test_a_step_ends_with_its_last_flow_so_that_no_port_waits_for_nobody() -> None:
    """A hundred of a millisecond each, one after the other, cost nothing by being merged."""
    coflows = [coflow(f"c{at}", 0.0, np.array([[0.001]])) for at in range(100)]
    done = replay(coflows, np.ones(8), Fifo(), merge_s=0.01)
    assert done.completions_s.mean() == pytest.approx(0.0505)


def test_who_comes_while_flows_end_is_decided_for_at_its_own_time() -> None:
    coflows = [
        coflow("a", 0.0, np.array([[1.00]]), 0, 4),
        coflow("b", 0.0, np.array([[1.04]]), 1, 5),
        coflow("c", 1.02, np.array([[1.0]]), 0, 4),
    ]
    done = replay(coflows, np.ones(8), Fair(), merge_s=0.05)
    assert done.completions_s == pytest.approx([1.0, 1.04, 1.0])


def test_a_policy_is_asked_again_when_its_answer_has_run_out() -> None:
    """In the second queue after 5 bytes, it makes way for who has come meanwhile."""
    policy = Dclas(queues=2, first_bytes=5.0, oldest_part=0.0)
    coflows = [coflow("a", 0.0, ONE), coflow("b", 4.0, np.array([[4.0]]))]
    assert replay(coflows, np.ones(8), policy, merge_s=0.0).completions_s == pytest.approx([14.0, 5.0])


def test_whoever_watches_sees_every_step() -> None:
    seen: list[tuple[float, float]] = []

    def watch(now: float, step_s: float, snapshot: Snapshot, allocation: Allocation) -> None:
        seen.append((now, step_s))
        assert len(snapshot.demands) == len(allocation.shares)

    replay([coflow("a", 1.0, ONE), coflow("b", 5.0, ONE)], np.ones(8), Fifo(), merge_s=0.0, watch=watch)
    np.testing.assert_allclose(seen, [(1.0, 4.0), (5.0, 6.0), (11.0, 10.0)])


class _Idle:
    """Gives nothing to anybody."""

    def allocate(self, snapshot: Snapshot) -> Allocation:
        return Allocation([Share(demand, 0.0) for demand in snapshot.demands])


def test_a_policy_that_gives_nothing_is_named() -> None:
    with pytest.raises(Stuck, match="at 3 s nobody may move, of 1 transfers"):
        replay([coflow("a", 3.0, ONE)], np.ones(8), _Idle())


def test_bad_arguments_are_refused() -> None:
    for sizes in (np.zeros((1, 1)), np.array([[2.0, -1.0]]), np.array([[math.inf]])):
        with pytest.raises(ValueError, match="size_bytes of coflow a must be finite, not below 0"):
            coflow("a", 0.0, sizes)
    with pytest.raises(ValueError, match=r"size_bytes of coflow a must have shape \(2, 1\)"):
        Coflow(TransferId("a"), 0.0, np.array([0, 1]), np.array([4]), ONE)
    with pytest.raises(ValueError, match="arrival_s of coflow a must be finite"):
        coflow("a", math.nan, ONE)
    with pytest.raises(ValueError, match="capacities must be finite"):
        replay([coflow("a", 0.0, ONE)], np.full(8, np.inf), Fifo())
    with pytest.raises(ValueError, match="merge_s must not be below 0"):
        replay([], np.ones(8), Fifo(), merge_s=math.nan)
