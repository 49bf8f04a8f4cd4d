"""Placement, pipelines and readers of `transfers.planners.hdfs`."""

from collections import Counter
from random import Random
from string import ascii_lowercase

import pytest

from tests.transfers.planners.harness import World
from tests.transfers.planners.told import SOURCE, fail, fetches, join, lose, planned, store, tick
from transfers.ids import BlockIndex, NodeName
from transfers.planners import HdfsPlanner, Mechanism
from transfers.planners.events import FetchFailure
from transfers.planners.hdfs import READ_WINDOW, WRITE_WINDOW

B0 = BlockIndex(0)


def writing(blocks: int, joined: str, **options: int) -> HdfsPlanner:
    planner = planned(Mechanism.HDFS, blocks, joined, **options)
    assert isinstance(planner, HdfsPlanner)
    return planner


def test_replicas_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="replicas must be at least 1, got 0"):
        HdfsPlanner(4, SOURCE, Random(0), replicas=0)


def test_writing_starts_at_the_first_tick_and_stays_within_its_window() -> None:
    planner = writing(20, "abcdef")
    placed = fetches(tick(planner, 0.1))
    assert sum(len(blocks) for _, source, blocks in placed if source == SOURCE) == WRITE_WINDOW


def test_a_block_is_written_through_a_pipeline() -> None:
    planner = writing(1, "abcdef")
    commands = fetches(tick(planner, 0.1))
    first, second, third = planner.replicas_of(B0)
    assert commands == [(first, SOURCE, (0,)), (second, first, (0,)), (third, second, (0,))]


def test_replicas_are_drawn_block_by_block_over_all_receivers() -> None:
    names = [NodeName(letter) for letter in ascii_lowercase[:20]]
    world = World(Mechanism.HDFS, 100, seed=3)
    for name in names:
        world.join(name)
        world.deliver_report(name)
    world.drain()
    world.check_end()
    planner = world.planner
    assert isinstance(planner, HdfsPlanner)
    placed = [planner.replicas_of(BlockIndex(block)) for block in range(100)]
    assert all(len(set(replicas)) == 3 for replicas in placed)
    share = Counter(name for replicas in placed for name in replicas)
    assert set(share) == set(names)
    assert max(share.values()) <= 30, "15 are expected of each"
    assert len(set(placed)) > 90


def test_there_are_no_more_replicas_than_receivers() -> None:
    planner = writing(1, "ab", replicas=10)
    tick(planner, 0.1)
    assert sorted(planner.replicas_of(B0)) == ["a", "b"]


def test_readers_read_a_block_once_all_its_replicas_hold_it_and_share_them_out() -> None:
    planner = writing(1, "abcdefghi")
    tick(planner, 0.1)
    first, second, third = planner.replicas_of(B0)
    assert store(planner, first, 0) == []
    assert store(planner, second, 0, source=first) == []
    reads = fetches(store(planner, third, 0, source=second))
    assert len(reads) == 6
    assert Counter(source for _, source, _ in reads) == {first: 2, second: 2, third: 2}


def test_a_reader_reads_in_block_order_within_its_window() -> None:
    planner = writing(12, "a", replicas=1)
    tick(planner, 0.1)
    store(planner, "a", *range(12))
    join(planner, "b")
    reader = planner.members[NodeName("b")]
    assert list(reader.asked) == list(range(READ_WINDOW))


def test_a_pipeline_is_made_anew_around_a_lost_replica() -> None:
    planner = writing(1, "abcdef")
    tick(planner, 0.1)
    first, second, _ = planner.replicas_of(B0)
    store(planner, first, 0)
    lose(planner, second)
    replicas = planner.replicas_of(B0)
    assert len(set(replicas)) == 3
    assert second not in replicas
    for name in replicas[1:]:
        assert planner.members[name].asked[B0] in replicas


def test_readers_move_to_another_replica() -> None:
    planner = writing(1, "abcd")
    tick(planner, 0.1)
    replicas = planner.replicas_of(B0)
    for name in replicas:
        store(planner, name, 0)
    (reader,) = set("abcd") - set(replicas)
    at = planner.members[NodeName(reader)].asked[B0]
    moved = fetches(fail(planner, reader, at, FetchFailure.STALLED, 0))
    assert [(name, blocks) for name, _, blocks in moved] == [(reader, (0,))]
    assert moved[0][1] in set(replicas) - {at}
    lose(planner, moved[0][1])
    assert planner.members[NodeName(reader)].asked[B0] in set(replicas) - {at, moved[0][1]}


def test_a_reader_whose_replicas_all_fail_reads_from_any_holder() -> None:
    planner = writing(1, "abcd")
    tick(planner, 0.1)
    replicas = planner.replicas_of(B0)
    for name in replicas:
        store(planner, name, 0)
    (reader,) = set("abcd") - set(replicas)
    for _ in replicas:
        at = planner.members[NodeName(reader)].asked[B0]
        fail(planner, reader, at, FetchFailure.UNREACHABLE, 0, now=0.1)
    assert planner.members[NodeName(reader)].asked[B0] == SOURCE
