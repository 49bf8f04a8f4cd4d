"""What the paper says of broadcasts (Chowdhury et al., SIGCOMM 2011, section 7.1), one test a claim.

At its rate and with its blocks, to fewer receivers and less of them than there, by planner and model alone.
"""

from functools import cache

from examples.paper.runs import BLOCK_BYTES, SYSTEMS, setup
from orchestra.simulation.broadcast import SimulatedBroadcast, simulate_planner

BY_LABEL = {system.label: system for system in SYSTEMS}
CHAIN, TREE, CORNET = BY_LABEL["chain"], BY_LABEL["tree, D=2"], BY_LABEL["Cornet"]
STRAGGLER = 8


@cache
def run(label: str, receivers: int, blocks: int, straggler: bool = False) -> SimulatedBroadcast:
    rates = {STRAGGLER: 0.2} if straggler else None
    return simulate_planner(
        setup(BY_LABEL[label], receivers, blocks * BLOCK_BYTES, BLOCK_BYTES, 0, host_rates=rates)
    )


def test_cornet_is_within_33_percent_of_the_bound() -> None:
    result = run("Cornet", 40, 128)
    assert result.completion_s <= 1.33 * result.bound_s


def test_nearly_all_receivers_of_cornet_finish_together() -> None:
    times = sorted(run("Cornet", 40, 128).node_completion_s.values())
    assert times[-1] <= 1.1 * times[0]


def test_cornet_is_ahead_of_chain_and_tree_at_many_receivers() -> None:
    cornet = run("Cornet", 40, 64).completion_s
    assert cornet < run("chain", 40, 64).completion_s
    assert cornet < run("tree, D=2", 40, 64).completion_s


def test_chain_wins_for_few_receivers() -> None:
    assert run("chain", 2, 24).completion_s < run("Cornet", 2, 24).completion_s


def test_one_straggler_delays_all_below_it_in_chain_and_tree() -> None:
    for system in (CHAIN, TREE):
        plain = run(system.label, 40, 64)
        slowed = run(system.label, 40, 64, straggler=True).node_completion_s
        late = [node for node, at in slowed.items() if at > 2 * plain.completion_s]
        assert f"n{STRAGGLER}" in late
        assert len(late) > 1


def test_one_straggler_delays_nobody_else_in_cornet() -> None:
    plain = run(CORNET.label, 40, 128)
    slowed = run(CORNET.label, 40, 128, straggler=True).node_completion_s
    others = [at for node, at in slowed.items() if node != f"n{STRAGGLER}"]
    assert max(others) <= 1.15 * plain.completion_s
