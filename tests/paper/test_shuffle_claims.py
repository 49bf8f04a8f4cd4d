"""What the paper says of shuffles and of turns between transfers (Chowdhury et al. 2011, sections 5, 6 and
7)."""

import numpy as np
import pytest

from orchestra.simulation.coflows import Coflow, replay
from schedulers import POLICIES, TransferId

TOPOLOGIES = {"A": 2, "B": 3, "C": 4}
"""Private senders of each of the two receivers (figure 13)."""
UNITS = {"A": (5, 4), "B": (8, 6), "C": (11, 8)}
"""Until the last flow ends, fair and weighted (table 3's column of theory)."""


def topology(senders: int, weighted: bool) -> tuple[Coflow, int]:
    """Two receivers: each takes a unit from every sender of its own, and ``senders`` units from one that both
    share. And the number of ports."""
    shared, total = 2 * senders, 2 * senders + 1
    sizes = np.zeros((total, 2))
    sizes[:senders, 0] = sizes[senders:shared, 1] = 1.0
    sizes[shared] = senders
    ports = np.arange(total + 2)
    sides = ports[:total], ports[total:]
    return Coflow(TransferId("shuffle"), 0.0, *sides, sizes, weighted=weighted), total + 2


@pytest.mark.parametrize(("name", "senders"), TOPOLOGIES.items())
def test_weighted_shuffle_ends_sooner_than_fair_sharing_by_the_papers_units(name: str, senders: int) -> None:
    """Section 5.3, figure 13 and table 3."""
    for weighted, units in zip((False, True), UNITS[name], strict=True):
        shuffle, ports = topology(senders, weighted)
        for policy in ("fair", "weighted", "fifo", "priority"):
            done = replay([shuffle], np.ones(ports), POLICIES[policy], merge_s=0.0)
            assert float(done.completions_s[0]) == pytest.approx(units), policy


def equal_shuffles(count: int, reducers: int = 30) -> list[Coflow]:
    """At once, over the same nodes; each reducer takes one unit in all."""
    nodes = np.arange(reducers)
    sizes = np.full((reducers, reducers), 1.0 / reducers)
    return [Coflow(TransferId(f"s{number}"), 0.0, nodes, nodes + reducers, sizes) for number in range(count)]


def test_fifo_is_1_6_times_better_on_average_for_four_equal_shuffles() -> None:
    """Section 7.5, figure 15: 4 / 2.5, the last one ending when all would have ended."""
    means, lasts = {}, {}
    for policy in ("fair", "fifo", "fifo+"):
        done = replay(equal_shuffles(4), np.ones(60), POLICIES[policy], merge_s=0.0).completions_s
        means[policy], lasts[policy] = float(done.mean()), float(done.max())
    assert means["fair"] == pytest.approx(4.0)
    assert means["fifo"] == pytest.approx(2.5)
    assert means["fifo"] < means["fifo+"] < means["fair"]
    assert list(lasts.values()) == pytest.approx([4.0] * 3), "nothing is idle under any of them"


def test_high_priority_shuffles_run_nearly_as_if_alone_and_cost_the_low_one_little() -> None:
    """Section 7.4, figure 14: three of 256 MB a mapper one after another, beside one of 2 GB."""
    nodes = np.arange(30)
    rate, high, low = 93.75e6, 256e6, 2e9
    alone_s = high / rate

    def shuffle(name: str, arrival_s: float, mapper_bytes: float, priority: int) -> Coflow:
        sizes = np.full((30, 30), mapper_bytes / 30)
        return Coflow(TransferId(name), arrival_s, nodes, nodes + 30, sizes, priority)

    coflows = [shuffle("low", 0.0, low, 0)]
    coflows += [shuffle(f"high {turn}", 5.0 + turn * alone_s * 1.1, high, 1) for turn in range(3)]
    times = {
        policy: replay(coflows, np.full(60, rate), POLICIES[policy], merge_s=0.0).completions_s
        for policy in ("fair", "priority")
    }
    assert max(times["priority"][1:]) <= 1.04 * alone_s, "3 % are kept for the lower class"
    assert min(times["fair"][1:]) >= 1.9 * alone_s
    assert times["priority"][0] == pytest.approx(times["fair"][0], rel=1e-6), "nothing is idle under either"
