"""The choice of mechanism and block size: what is predicted, what is picked, what is said."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.choice import (
    EVENTS_A_BROADCAST,
    EVENTS_PER_S_BUDGET,
    FEW_BLOCKS,
    FEW_BLOCKS_GAIN,
    MAX_BLOCK_SIZE_BYTES,
    MIN_BLOCK_SIZE_BYTES,
    PREFERENCE,
    candidate_block_sizes,
    choose,
)
from orchestra.costs import (
    CHAIN_LINK_USE,
    CHAIN_LOSS_A_LINK,
    CORNET_LINK_USE,
    EVENT_S,
    HDFS_FEW_LINK_USE,
    HDFS_LINK_USE,
)
from orchestra.estimate import LOOPBACK_RATE_BYTES_PER_S, UNKNOWN_RATE_BYTES_PER_S, LinkEstimate
from orchestra.simulation.broadcast import BroadcastSetup, simulate_planner
from transfers.blocks import MAX_BLOCKS, BlockLayout
from transfers.planners import Mechanism
from transfers.planners.events import forward_bytes

FIFTY_MBIT = LinkEstimate(rate_bytes_per_s=6.25e6)
IDEAL = LinkEstimate(rate_bytes_per_s=1e6, latency_s=0.0, overhead_s_per_block=0.0, start_s=0.0)
"""Nothing costs but the bytes: predictions can be counted by hand. 1 s a block of 1,000,000 bytes."""
PART = forward_bytes(10**6) / 10**6
"""Of such a block, passed on while the rest arrives."""

links = st.builds(
    LinkEstimate,
    rate_bytes_per_s=st.floats(1e3, 1e10),
    latency_s=st.floats(0, 0.5),
    overhead_s_per_block=st.floats(0, 0.01),
    shared_host_rate_bytes_per_s=st.none() | st.floats(1e3, 1e10),
    start_s=st.floats(0, 1),
)
sizes = st.integers(0, 10**13)
receivers = st.integers(1, 5000)


def predicted(mechanism: Mechanism, blocks: int, nodes: int, link: LinkEstimate = IDEAL) -> float:
    """Seconds for ``blocks`` blocks of 1,000,000 bytes."""
    return choose(blocks * 10**6, nodes, link=link, block_size_bytes=10**6).predictions[mechanism]


@pytest.mark.parametrize(("blocks", "nodes"), [(1, 1), (10, 1), (10, 2), (1, 7), (100, 16)])
def test_chain_takes_its_blocks_and_a_part_for_each_further_receiver(blocks: int, nodes: int) -> None:
    use = max(CHAIN_LINK_USE, 1 - CHAIN_LOSS_A_LINK * (nodes - 1))
    assert predicted(Mechanism.CHAIN, blocks, nodes) == pytest.approx((blocks + (nodes - 1) * PART) / use)


@pytest.mark.parametrize(("nodes", "depth"), [(2, 1), (3, 2), (6, 2), (7, 3), (14, 3), (15, 4)])
def test_tree_of_two_halves_the_rate_and_fills_level_by_level(nodes: int, depth: int) -> None:
    assert predicted(Mechanism.TREE, 10, nodes) == pytest.approx(2 * (10 + (depth - 1) * PART))


def test_tree_of_one_child_is_a_chain_and_a_wide_tree_has_one_level() -> None:
    thin = choose(10**7, 5, link=IDEAL, block_size_bytes=10**6, degree=1).predictions
    assert thin[Mechanism.TREE] == pytest.approx(thin[Mechanism.CHAIN] * (1 - CHAIN_LOSS_A_LINK * 4))
    wide = choose(10**7, 5, link=IDEAL, block_size_bytes=10**6, degree=9).predictions
    assert wide[Mechanism.TREE] == pytest.approx(5 * 10)


def test_hdfs_links_are_busy_for_a_share_of_the_time() -> None:
    # Ten blocks written by way of two more nodes, and one hop of reading; control costs nothing here.
    for nodes, use in ((4, HDFS_LINK_USE), (12, HDFS_LINK_USE)):
        assert predicted(Mechanism.HDFS, 10, nodes) == pytest.approx((10 + 2 * PART + 1) / use)
    assert predicted(Mechanism.HDFS, 10, 3) == pytest.approx((10 + 2 * PART) / HDFS_FEW_LINK_USE)


def test_hdfs_reads_slower_where_its_blocks_lie_on_few_holders() -> None:
    # One block on 3 of 12 nodes: a quarter of the nodes serve. It is written, passed on twice, and read.
    assert predicted(Mechanism.HDFS, 1, 12) == pytest.approx((2 + 2 * PART) / (HDFS_LINK_USE / 4))


@given(sizes, st.integers(1, 3), links)
def test_hdfs_is_never_chosen_where_it_is_a_chain(size_bytes: int, nodes: int, link: LinkEstimate) -> None:
    assert choose(size_bytes, nodes, link=link).mechanism is not Mechanism.HDFS


def test_hdfs_to_one_receiver_is_a_plain_copy() -> None:
    assert predicted(Mechanism.HDFS, 10, 1) == predicted(Mechanism.CHAIN, 10, 1)


def test_hdfs_waits_for_the_controller_where_its_blocks_are_short() -> None:
    slow = replace(IDEAL, start_s=9.0)
    # Four blocks of a second under way, and ten seconds from one turn to the next.
    assert predicted(Mechanism.HDFS, 100, 1, slow) == pytest.approx(9 + 100 * 10 / 4)


@pytest.mark.parametrize(("nodes", "depth"), [(2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (100, 6)])
def test_cornet_adds_a_block_and_two_parts_for_each_level_of_its_trees(nodes: int, depth: int) -> None:
    busy_s = 10 + 1 + 2 * depth * PART
    assert predicted(Mechanism.CORNET, 10, nodes) == pytest.approx(busy_s / CORNET_LINK_USE)


def test_cornet_to_one_receiver_is_a_plain_copy() -> None:
    assert predicted(Mechanism.CORNET, 10, 1) == pytest.approx(10 / CORNET_LINK_USE)


def test_a_slow_sender_holds_up_chain_and_tree_alone() -> None:
    uneven = replace(IDEAL, slowest_out_bytes_per_s=0.5e6)
    for mechanism in (Mechanism.CHAIN, Mechanism.TREE, Mechanism.CORNET):
        slower = predicted(mechanism, 1000, 16, uneven) / predicted(mechanism, 1000, 16)
        assert slower == pytest.approx(1.0 if mechanism is Mechanism.CORNET else 2.0)


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("blocks", [1, 2, 1000])
def test_a_slow_receiver_needs_its_own_time_whoever_is_spared(mechanism: Mechanism, blocks: int) -> None:
    uneven = replace(IDEAL, slowest_in_bytes_per_s=0.1e6)
    assert predicted(mechanism, blocks, 16, uneven) >= 10 * blocks


@pytest.mark.parametrize("mechanism", Mechanism)
def test_nothing_is_faster_than_its_source(mechanism: Mechanism) -> None:
    slow = replace(IDEAL, source_rate_bytes_per_s=0.1e6)
    assert predicted(mechanism, 1000, 16, slow) >= 10_000


def test_what_ports_let_through_at_once_shortens_the_first_hops() -> None:
    deep = replace(IDEAL, burst_bytes=0.5e6)
    less_s = predicted(Mechanism.CHAIN, 10, 8) - predicted(Mechanism.CHAIN, 10, 8, deep)
    assert less_s == pytest.approx((0.5 + 7 * PART) / (1 - CHAIN_LOSS_A_LINK * 7))


def test_every_transfer_takes_its_start() -> None:
    late = replace(IDEAL, start_s=3.0)
    for mechanism in (Mechanism.CHAIN, Mechanism.TREE, Mechanism.CORNET):
        assert predicted(mechanism, 10, 4, late) == pytest.approx(predicted(mechanism, 10, 4) + 3)


def test_no_broadcast_is_done_before_the_controller_has_heard_of_all_blocks() -> None:
    fast = replace(IDEAL, rate_bytes_per_s=1e12)
    assert predicted(Mechanism.CORNET, 1000, 100, fast) == pytest.approx(1000 * 100 * EVENT_S)


def test_round_trips_are_waited_for_where_blocks_pass_faster() -> None:
    far = LinkEstimate(rate_bytes_per_s=1e9, latency_s=0.1, overhead_s_per_block=0.0, start_s=0.0)
    # 1 ms a block but 200 ms a round trip, with four asked for at a time: 50.25 ms a block.
    assert predicted(Mechanism.CHAIN, 1000, 1, far) == pytest.approx(0.101 + 999 * 0.05025)


def test_one_receiver_gets_a_plain_copy() -> None:
    choice = choose(32_000_000, 1, link=FIFTY_MBIT)
    assert choice.mechanism is Mechanism.CHAIN
    assert choice.predictions[Mechanism.CHAIN] == choice.predictions[Mechanism.TREE]
    assert choice.predictions[Mechanism.CHAIN] == choice.predictions[Mechanism.HDFS]


@given(sizes, links)
def test_one_receiver_always_gets_the_chain(size_bytes: int, link: LinkEstimate) -> None:
    assert choose(size_bytes, 1, link=link).mechanism is Mechanism.CHAIN


def test_few_receivers_get_a_chain_and_many_get_cornet() -> None:
    assert choose(10_000_000, 2, link=FIFTY_MBIT).mechanism is Mechanism.CHAIN
    assert choose(1_000_000_000, 100, link=FIFTY_MBIT).mechanism is Mechanism.CORNET


@given(sizes, receivers, links)
def test_the_fastest_is_chosen_and_ties_go_by_preference(
    size_bytes: int, nodes: int, link: LinkEstimate
) -> None:
    choice = choose(size_bytes, nodes, link=link)
    least = min(choice.predictions.values())
    fastest = [mechanism for mechanism in PREFERENCE if choice.predictions[mechanism] == least]
    assert choice.mechanism is fastest[0]
    assert set(choice.predictions) == set(Mechanism)


@given(st.integers(1, 10**13), receivers, links)
def test_no_prediction_is_below_what_links_and_host_can_carry(
    size_bytes: int, nodes: int, link: LinkEstimate
) -> None:
    bounds = [size_bytes / link.rate_bytes_per_s]
    if link.shared_host_rate_bytes_per_s is not None:
        bounds.append(nodes * size_bytes / link.shared_host_rate_bytes_per_s)
    # Rounding aside: the sums are not made in the order in which the bound is.
    for time_s in choose(size_bytes, nodes, link=link).predictions.values():
        assert time_s >= max(bounds) * (1 - 1e-9)


@given(sizes, receivers, links)
def test_a_block_size_chosen_is_one_of_the_powers_and_fits_the_object(
    size_bytes: int, nodes: int, link: LinkEstimate
) -> None:
    chosen = choose(size_bytes, nodes, link=link).block_size_bytes
    assert chosen & (chosen - 1) == 0
    assert BlockLayout(size_bytes, chosen).count <= MAX_BLOCKS
    assert chosen >= MIN_BLOCK_SIZE_BYTES
    assert chosen <= MAX_BLOCK_SIZE_BYTES or size_bytes > MAX_BLOCK_SIZE_BYTES * MAX_BLOCKS
    told_per_s = nodes * link.rate_for(nodes) / chosen
    few = nodes * BlockLayout(size_bytes, chosen).count <= EVENTS_A_BROADCAST
    assert told_per_s <= EVENTS_PER_S_BUDGET or few or chosen >= MAX_BLOCK_SIZE_BYTES


@given(st.integers(1, 10**10), receivers, links, st.sampled_from(Mechanism))
def test_no_other_candidate_block_size_is_predicted_to_be_faster(
    size_bytes: int, nodes: int, link: LinkEstimate, mechanism: Mechanism
) -> None:
    chosen = choose(size_bytes, nodes, link=link, mechanism=mechanism)
    for block_size_bytes in candidate_block_sizes(size_bytes, nodes, link):
        fixed = choose(size_bytes, nodes, link=link, block_size_bytes=block_size_bytes, mechanism=mechanism)
        few = BlockLayout(size_bytes, chosen.block_size_bytes).count < FEW_BLOCKS
        margin = 1.0 if few else 1 + FEW_BLOCKS_GAIN
        assert chosen.predictions[mechanism] <= fixed.predictions[mechanism] * margin * (1 + 1e-9)


def test_fast_ports_and_many_receivers_get_larger_blocks() -> None:
    slow = candidate_block_sizes(10**9, 16, FIFTY_MBIT)
    fast = candidate_block_sizes(10**9, 100, LinkEstimate(rate_bytes_per_s=125e6))
    assert slow[0] == MIN_BLOCK_SIZE_BYTES
    assert fast == (4 * 2**20,)
    assert candidate_block_sizes(10**9, 5000, LinkEstimate(rate_bytes_per_s=1.25e9)) == (4 * 2**20,)


def test_an_object_beyond_the_most_blocks_gets_blocks_that_suffice() -> None:
    huge = MAX_BLOCK_SIZE_BYTES * MAX_BLOCKS
    assert choose(huge, 2, link=FIFTY_MBIT).block_size_bytes == MAX_BLOCK_SIZE_BYTES
    assert choose(huge + 1, 2, link=FIFTY_MBIT).block_size_bytes == 2 * MAX_BLOCK_SIZE_BYTES


def test_a_block_size_larger_than_the_object_is_one_block() -> None:
    choice = choose(1000, 4, link=FIFTY_MBIT, block_size_bytes=2**20)
    assert choice.block_size_bytes == 2**20
    assert BlockLayout(1000, choice.block_size_bytes).count == 1
    assert choice.reason.endswith(", in one block")
    same = choose(1000, 4, link=FIFTY_MBIT, block_size_bytes=1000)
    assert choice.predictions == same.predictions


@pytest.mark.parametrize("mechanism", [None, *Mechanism])
def test_an_empty_object_is_done_at_once_by_any_mechanism(mechanism: Mechanism | None) -> None:
    choice = choose(0, 3, mechanism=mechanism)
    assert choice.mechanism is (mechanism or Mechanism.CHAIN)
    assert set(choice.predictions.values()) == {0.0}
    assert "an empty object has no blocks, so there is nothing to move to 3 receivers" in choice.reason
    assert choice.block_size_bytes >= 1


def test_the_reason_is_one_sentence_with_the_numbers() -> None:
    choice = choose(32_000_000, 16, link=FIFTY_MBIT)
    assert re.fullmatch(
        r"cornet: predicted \d\.\d s for 32\.0 MB to 16 receivers at 50\.0 Mbit/s, assumed "
        r"\(chain \d\.\d s, hdfs \d\.\d s, tree \d+\.\d s\), blocks of \d+ KiB",
        choice.reason,
    )


@pytest.mark.parametrize("mechanism", Mechanism)
def test_a_mechanism_that_was_asked_for_is_kept_and_said(mechanism: Mechanism) -> None:
    choice = choose(32_000_000, 16, link=FIFTY_MBIT, mechanism=mechanism)
    assert choice.mechanism is mechanism
    assert choice.reason.startswith(f"{mechanism.value} as asked: predicted ")


def test_the_reason_says_that_nodes_share_a_host() -> None:
    choice = choose(10**8, 1, link=LinkEstimate(rate_bytes_per_s=1e8, shared_host_rate_bytes_per_s=2e8))
    assert "to 1 receiver at 800.0 Mbit/s, sharing 1.6 Gbit/s of one host, assumed (" in choice.reason


def test_without_an_estimate_the_nodes_stand_on_this_host() -> None:
    assert choose(10**8, 4) == choose(10**8, 4, link=LinkEstimate.on_loopback())
    assert LinkEstimate.on_loopback(1e6).rate_bytes_per_s == 1e6
    assert LinkEstimate.on_loopback(1e12).rate_bytes_per_s == LOOPBACK_RATE_BYTES_PER_S
    with pytest.raises(ValueError, match=r"rate_bytes_per_s must be above 0 and finite, got 0\.0"):
        LinkEstimate.on_loopback(0.0)


@pytest.mark.parametrize("argument", ["receivers", "block_size_bytes", "degree", "replicas"])
@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_one_are_refused_by_name_and_value(argument: str, value: int) -> None:
    nodes = value if argument == "receivers" else 4
    counts = {} if argument == "receivers" else {argument: value}
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got {value}"):
        choose(1000, nodes, link=FIFTY_MBIT, **counts)  # type: ignore[arg-type]


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size_bytes must not be negative, got -1"):
        choose(-1, 4)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_rates_that_are_none_are_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=f"rate_bytes_per_s must be above 0 and finite, got {value}"):
        LinkEstimate(rate_bytes_per_s=value)
    with pytest.raises(ValueError, match=f"shared_host_rate_bytes_per_s must .* got {value}"):
        LinkEstimate(shared_host_rate_bytes_per_s=value)


@pytest.mark.parametrize("argument", ["latency_s", "overhead_s_per_block", "start_s", "burst_bytes"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_costs_that_are_none_are_refused_by_name(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be finite and not negative, got {value}"):
        LinkEstimate(**{argument: value})  # type: ignore[arg-type]


def test_the_reason_says_what_is_known_of_slow_links_and_from_where() -> None:
    known = replace(FIFTY_MBIT, slowest_in_bytes_per_s=1.25e6, origin="measured over 3 transfers")
    reason = choose(10**7, 4, link=known).reason
    assert "at 50.0 Mbit/s, the slowest link at 10.0 Mbit/s, measured over 3 transfers (" in reason


def test_unknown_links_are_taken_for_a_gigabit_or_for_what_was_told() -> None:
    assert LinkEstimate.unknown().rate_bytes_per_s == UNKNOWN_RATE_BYTES_PER_S
    assert LinkEstimate.unknown(1e6).rate_bytes_per_s == 1e6
    assert (LinkEstimate.unknown().origin, LinkEstimate.unknown(1e6).origin) == ("assumed", "told")


def test_short_broadcasts_to_many_get_small_blocks_and_long_ones_large() -> None:
    gigabit = LinkEstimate.unknown()
    assert choose(10**7, 100, link=gigabit).block_size_bytes <= 2**20
    assert choose(10**9, 100, link=gigabit).block_size_bytes == MAX_BLOCK_SIZE_BYTES


def test_few_blocks_are_taken_only_where_they_save_time() -> None:
    assert BlockLayout(10**6, choose(10**6, 1, link=FIFTY_MBIT).block_size_bytes).count >= FEW_BLOCKS
    assert BlockLayout(10**6, choose(10**6, 1).block_size_bytes).count < FEW_BLOCKS


@pytest.mark.parametrize("nodes", [1, 4, 16])
@pytest.mark.parametrize("size_bytes", [1_000_000, 4_000_000])
@pytest.mark.parametrize("mechanism", Mechanism)
def test_predictions_hold_against_simulation(size_bytes: int, nodes: int, mechanism: Mechanism) -> None:
    # As a controller has measured such links: see the same test for what it measures.
    known = LinkEstimate(rate_bytes_per_s=6.25e6, latency_s=0.003, overhead_s_per_block=0.0, start_s=0.05)
    choice = choose(size_bytes, nodes, link=known, mechanism=mechanism)
    setup = BroadcastSetup(nodes, size_bytes, 6.25e6, mechanism.value, choice.block_size_bytes)
    off = choice.predictions[mechanism] / simulate_planner(setup).completion_s - 1
    assert abs(off) <= (0.35 if mechanism is Mechanism.HDFS else 0.2), f"{off:+.1%}"
