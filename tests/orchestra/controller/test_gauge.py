"""What one broadcast's reports say, on reports made up for known links."""

import math

import pytest

from orchestra.controller.gauge import SLOW_FACTOR, Gauge, PortUse
from orchestra.estimate import OVERHEAD_S_PER_BLOCK
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex, NodeName
from transfers.planners import Mechanism
from transfers.planners.events import Stored

S, A, B = NodeName("s"), NodeName("a"), NodeName("b")
BLOCK = 100_000
BLOCKS = 40


def gauge(mechanism: Mechanism = Mechanism.CHAIN) -> Gauge:
    return Gauge(S, BlockLayout(BLOCKS * BLOCK, BLOCK), 10.0, mechanism)


def stored(block: int, source: NodeName, seconds: float) -> Stored:
    return Stored(BlockIndex(block), source, seconds)


def feed(
    into: Gauge,
    node: NodeName,
    source: NodeName,
    blocks: range,
    block_s: float,
    *,
    begin_s: float,
    batch: int = 1,
) -> None:
    """Blocks one behind the other, reported so many at a time."""
    taken = list(blocks)
    for at in range(0, len(taken), batch):
        part = taken[at : at + batch]
        now = begin_s + (at + len(part)) * block_s
        into.note(node, tuple(stored(block, source, block_s) for block in part), now)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_one_stream_gives_the_rate_of_both_ports(batch: int) -> None:
    its = gauge()
    feed(its, A, S, range(BLOCKS), 0.02, begin_s=10.05, batch=batch)
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(BLOCK / 0.02)
    assert its.egress[S].rate_bytes_per_s == pytest.approx(BLOCK / 0.02)
    assert its.egress[S].streams == pytest.approx(1.0)


@pytest.mark.parametrize("delays", [[0.0], [0.0, 0.015], [0.02, 0.0, 0.05]])
def test_late_reports_do_not_change_the_rate(delays: list[float]) -> None:
    its = gauge()
    for block in range(BLOCKS):
        now = 10 + (block + 1) * 0.02 + delays[block % len(delays)]
        its.note(A, (stored(block, S, 0.02),), now)
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(BLOCK / 0.02, rel=0.03)


def test_two_streams_that_share_a_port_give_its_rate_together() -> None:
    its = gauge()
    for block in range(BLOCKS):
        at_s = 10 + (block + 1) * 0.04
        its.note(A, (stored(block, S, 0.04),), at_s)
        its.note(B, (stored(block, S, 0.04),), at_s + 0.007)
    assert its.egress[S].rate_bytes_per_s == pytest.approx(2 * BLOCK / 0.04, rel=0.02)
    assert its.egress[S].streams == pytest.approx(2.0, rel=0.02)
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(BLOCK / 0.04)
    verdicts = list(its.verdicts())
    assert [(each.sender_full, each.receiver_full) for each in verdicts] == [(True, False)] * 2


def test_short_gaps_between_blocks_were_spent_on_bytes_that_came_meanwhile() -> None:
    its = gauge()
    for block in range(BLOCKS):  # who looks late finds 30,000 bytes in its socket
        its.note(A, (stored(block, S, 0.014),), 10 + (block + 1) * 0.02)
    passed_s = 38 * 0.02 + 0.014 - 39 * OVERHEAD_S_PER_BLOCK
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(39 * BLOCK / passed_s)


def test_a_port_that_had_to_wait_for_blocks_was_not_busy_meanwhile() -> None:
    its = gauge()
    for block in range(BLOCKS):
        its.note(A, (stored(block, S, 0.02),), 10 + (block + 1) * 0.1)
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(BLOCK / 0.02)


def test_latency_leaves_out_who_was_not_connected_yet_where_others_were() -> None:
    its = gauge()
    feed(its, A, S, range(10), 0.02, begin_s=10.1)
    feed(its, B, A, range(10), 0.02, begin_s=10.12 + 0.05)
    assert its.latency_s() == pytest.approx(0.05)
    above, begin_s = B, 10.19
    for name in ("c", "d", "e", "f", "g"):
        begin_s += 0.002
        feed(its, NodeName(name), above, range(10), 0.02, begin_s=begin_s)
        above, begin_s = NodeName(name), begin_s + 0.02
    assert its.latency_s() == pytest.approx(0.002)


def test_one_slow_block_counts_for_a_few() -> None:
    its = gauge()
    feed(its, A, S, range(20), 0.02, begin_s=10.0)
    its.note(A, (stored(20, S, 30.0),), 45.0)
    counted_s = 19 * 0.02 + SLOW_FACTOR * 0.02
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(20 * BLOCK / counted_s, rel=0.03)


def test_a_small_first_block_is_left_out_and_tells_the_buckets_depth() -> None:
    its = gauge()
    its.note(A, (stored(0, S, 0.008),), 10.05)  # 60,000 bytes of it at once
    feed(its, A, S, range(1, 20), 0.02, begin_s=10.05)
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(BLOCK / 0.02)
    assert its.burst_bytes() == pytest.approx(60_000)


def test_a_first_block_that_was_passed_on_in_parts_does_not_tell_the_buckets_depth() -> None:
    its = gauge()
    feed(its, A, S, range(20), 0.02, begin_s=10.05)
    its.note(B, (stored(0, A, 0.004),), 10.08)  # each of its parts found a full bucket
    feed(its, B, A, range(1, 20), 0.02, begin_s=10.08)
    assert its.burst_bytes() == pytest.approx(0.0, abs=1.0)


def test_a_large_single_block_says_something() -> None:
    its = Gauge(S, BlockLayout(4_000_000, 4_000_000), 10.0, Mechanism.CHAIN)
    its.note(A, (stored(0, S, 0.64),), 10.7)
    assert its.ingress[A].rate_bytes_per_s == pytest.approx(6.25e6)
    assert [(each.sender_full, each.receiver_full) for each in its.verdicts()] == [(True, True)]
    assert its.burst_bytes() is None


def test_start_is_what_goes_before_the_sources_first_byte() -> None:
    its = gauge()
    feed(its, A, S, range(BLOCKS), 0.02, begin_s=10.035)
    assert its.start_s() == pytest.approx(0.035)


def test_latency_is_what_a_first_block_takes_besides_its_bytes() -> None:
    its = gauge()
    feed(its, A, S, range(10), 0.02, begin_s=10.0)
    feed(its, B, A, range(10), 0.02, begin_s=10.02 + 0.003)
    assert its.latency_s() == pytest.approx(0.003)


@pytest.mark.parametrize("seconds", [1e6, 1.0])
def test_a_report_of_more_time_than_there_was_says_nothing_of_latency(seconds: float) -> None:
    its = gauge()
    its.note(A, (stored(0, S, 0.1),), 10.5)
    its.note(B, (stored(0, A, 0.1), stored(1, A, seconds)), 11.0)
    assert its.streams[B, A].first_s == 0.0
    assert its.latency_s() is None


def test_where_blocks_are_commanded_one_by_one_gaps_say_nothing() -> None:
    its = gauge(Mechanism.HDFS)
    feed(its, A, S, range(10), 0.02, begin_s=10.0)
    feed(its, B, A, range(10), 0.02, begin_s=10.1)
    assert (its.start_s(), its.latency_s(), its.burst_bytes()) == (None,) * 3


def test_a_slow_receiver_below_a_shared_sender_is_found() -> None:
    its = gauge()
    feed(its, A, S, range(BLOCKS), 0.0125, begin_s=10.0)  # four fifths of the sender's port
    feed(its, B, S, range(10), 0.05, begin_s=10.0)  # a fifth
    full = {each.to: each.receiver_full for each in its.verdicts()}
    assert full[B]


@pytest.mark.parametrize("seconds", [math.nan, -1.0, 0.0])
def test_seconds_that_are_none_are_passed_over(seconds: float) -> None:
    its = gauge()
    its.note(A, (stored(0, S, seconds),), 11.0)
    assert not its.streams


def test_no_block_can_have_taken_longer_than_the_broadcast() -> None:
    its = gauge()
    its.note(A, tuple(stored(block, S, math.inf) for block in range(8)), 12.0)
    assert all(math.isfinite(port.busy_s) and port.busy_s > 0 for port in its.ingress.values())
    assert its.start_s() == 0.0


def test_a_port_is_busy_once_however_many_streams_there_are() -> None:
    port = PortUse()
    port.pass_through(10, 1, 1.0, 2.0)
    port.pass_through(10, 1, 2.0, 2.0)
    port.pass_through(10, 1, 1.5, 1.0)
    assert (port.busy_s, port.stream_s, port.moved_bytes) == (3.0, 5.0, 30)
