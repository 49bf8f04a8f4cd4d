"""Weighted fairness a transfer: against a linear program, and by its definition."""

import numpy as np
import pytest
from hypothesis import assume, given
from scipy.optimize import linprog  # type: ignore[import-untyped]

from schedulers import Shuffle, Snapshot, Standing, TransferId, Weighted
from tests.schedulers.strategies import snapshots


def test_transfers_share_a_port_by_weight_however_many_flows_they_have() -> None:
    many = Shuffle.of(Standing(TransferId("many"), 0.0), np.array([0, 1, 2]), np.array([4]), np.ones((3, 1)))
    few = Shuffle.of(
        Standing(TransferId("few"), 1.0, weight=3.0), np.array([3]), np.array([4]), np.full((1, 1), 9.0)
    )
    shares = Weighted().allocate(Snapshot(np.ones(5), [many, few])).shares
    assert [share.port_rates[-1] for share in shares] == pytest.approx([0.25, 0.75])


def test_progress_counts_as_a_part_of_what_each_could_do_alone() -> None:
    """One is held at its egress to a fifth of the port that both enter by: each has five sixths of that
    alone."""
    slow = Shuffle.of(Standing(TransferId("slow"), 0.0), np.array([0]), np.array([2]), np.ones((1, 1)))
    other = Shuffle.of(Standing(TransferId("other"), 1.0), np.array([1]), np.array([2]), np.ones((1, 1)))
    shares = Weighted().allocate(Snapshot(np.array([0.2, 1.0, 1.0]), [slow, other])).shares
    assert [share.port_rates[-1] for share in shares] == pytest.approx([1 / 6, 5 / 6])


def test_what_one_cannot_use_goes_to_the_other() -> None:
    """One is held at a port that a third fills as well; the other has the rest of the port that both enter
    by."""
    held = Shuffle.of(Standing(TransferId("held"), 0.0), np.array([0]), np.array([2]), np.ones((1, 1)))
    third = Shuffle.of(
        Standing(TransferId("third"), 1.0, weight=3.0), np.array([0]), np.array([3]), np.ones((1, 1))
    )
    other = Shuffle.of(Standing(TransferId("other"), 2.0), np.array([1]), np.array([2]), np.ones((1, 1)))
    shares = Weighted().allocate(Snapshot(np.ones(4), [held, third, other])).shares
    assert [share.port_rates[0] for share in shares] == pytest.approx([0.25, 0.75, 0.75])


def test_what_is_left_goes_to_flows_by_the_weights_of_their_transfers() -> None:
    """Both are held at ports of their own, and have a second flow each into a port that is free."""

    def half_held(name: str, arrival: float, weight: float, egress: int) -> Shuffle:
        sizes = np.array([[1.0, 1.0]])
        return Shuffle.of(
            Standing(TransferId(name), arrival, 0, weight),
            np.array([egress]),
            np.array([egress + 2, 4]),
            sizes,
        )

    demands = [half_held("light", 0.0, 1.0, 0), half_held("heavy", 1.0, 3.0, 1)]
    capacities = np.array([9.0, 9.0, 0.1, 0.1, 4.0])
    shares = Weighted().allocate(Snapshot(capacities, demands)).shares
    # Paces are 0.1 each; of the 3.8 that are left a quarter and three quarters.
    assert [share.port_rates[2] for share in shares] == pytest.approx([0.1 + 3.8 / 4, 0.1 + 3.8 * 3 / 4])


@given(snapshots(least=1))
def test_the_least_progress_for_its_weight_is_the_greatest_that_a_linear_program_finds(
    snapshot: Snapshot,
) -> None:
    """Progress: the pace as a part of that alone. Shuffles of equal flows count flows for bytes."""
    usages, alone = [], []
    for demand in snapshot.demands:
        usage = np.zeros(len(snapshot.capacities))
        totals = (
            demand.port_flows if isinstance(demand, Shuffle) and not demand.weighted else demand.port_bytes
        )
        usage[demand.ports] = totals
        busy_s = (usage / snapshot.capacities).max()
        assume(busy_s > 0)
        usages.append(usage / busy_s * demand.standing.weight)
        alone.append(busy_s / demand.standing.weight)
    limited = np.isfinite(snapshot.capacities)
    rows = np.sum(usages, axis=0)[limited][:, None]
    best = linprog([-1.0], A_ub=rows, b_ub=snapshot.capacities[limited], method="highs").x[0]
    shares = Weighted().allocate(snapshot).shares
    assert min(share.pace * busy_s for share, busy_s in zip(shares, alone, strict=True)) >= best * (1 - 1e-6)
