"""The overlays of `transfers.planners.tree` and `transfers.planners.chain`."""

from random import Random

import pytest

from tests.transfers.planners.told import (
    SOURCE,
    fail,
    fetches,
    follows,
    join,
    lose,
    planned,
    shape,
    store,
    tick,
)
from transfers.blocks import BlockSet
from transfers.ids import NodeName
from transfers.planners import Mechanism, TreePlanner
from transfers.planners.base import RETRY_PAUSE_S
from transfers.planners.events import (
    FetchFailure,
    Follow,
    NodeJoined,
    NodeRecovered,
    NodeSuspected,
)

CHAIN = Mechanism.CHAIN
TREE = Mechanism.TREE


def test_a_chain_stands_in_the_order_of_joining() -> None:
    planner = planned(CHAIN, 4, "abcd")
    assert shape(planner) == {"a": SOURCE, "b": "a", "c": "b", "d": "c"}


def test_a_late_joiner_is_appended_to_the_chain() -> None:
    planner = planned(CHAIN, 2, "ab")
    for name, source in [("a", SOURCE), ("b", "a")]:
        store(planner, name, 0, 1, source=source)
    assert join(planner, "c") == [Follow(NodeName("c"), NodeName("b"))]


def test_a_tree_fills_the_places_nearest_the_root() -> None:
    planner = planned(TREE, 4, "abcdefg")
    assert shape(planner) == {"a": SOURCE, "b": SOURCE, "c": "a", "d": "a", "e": "b", "f": "b", "g": "c"}


def test_a_degree_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="degree must be at least 1, got 0"):
        TreePlanner(4, SOURCE, Random(0), degree=0)


def test_the_child_of_a_lost_node_moves_to_its_grandparent() -> None:
    planner = planned(CHAIN, 4, "abcd")
    assert follows(lose(planner, "b")) == {"c": "a"}
    assert shape(planner) == {"a": SOURCE, "c": "a", "d": "c"}


def test_of_two_orphans_one_takes_the_place_and_the_other_the_next_nearest() -> None:
    planner = planned(TREE, 4, "abcdef")
    lose(planner, "a")
    assert shape(planner) == {"b": SOURCE, "c": SOURCE, "d": "c", "e": "b", "f": "b"}


def test_a_suspected_node_becomes_a_leaf() -> None:
    planner = planned(CHAIN, 4, "abc")
    planner.handle(NodeSuspected(NodeName("a")), 0.0)
    assert shape(planner) == {"b": SOURCE, "c": "b", "a": "c"}


def test_a_suspected_node_gets_no_child_until_it_has_spoken() -> None:
    planner = planned(CHAIN, 4, "a")
    planner.handle(NodeSuspected(NodeName("a")), 0.0)
    join(planner, "b")
    assert shape(planner) == {"b": SOURCE, "a": "b"}
    planner.handle(NodeRecovered(NodeName("a")), 0.0)
    join(planner, "c")
    assert shape(planner)["c"] == "a"


def test_the_children_of_a_silent_source_stay_where_they_are() -> None:
    planner = planned(TREE, 4, "abc")
    before = shape(planner)
    assert planner.handle(NodeSuspected(SOURCE), 0.0) == []
    assert shape(planner) == before


def test_an_unreachable_parent_is_left_for_another() -> None:
    planner = planned(TREE, 4, "abc")
    assert shape(planner)["c"] == "a"
    assert follows(fail(planner, "c", "a", FetchFailure.UNREACHABLE)) == {"c": "b"}


def test_a_node_cut_off_from_the_root_moves_below_its_own_former_child() -> None:
    planner = planned(CHAIN, 4, "ab")
    fail(planner, "a", SOURCE, FetchFailure.UNREACHABLE, 0)
    assert shape(planner) == {"b": SOURCE, "a": "b"}


def test_the_only_source_is_tried_again_after_a_rest_and_not_at_once() -> None:
    planner = planned(CHAIN, 4, "a")
    assert follows(fail(planner, "a", SOURCE, FetchFailure.STALLED, 0, now=1.0)) == {"a": None}
    assert tick(planner, 1.0 + RETRY_PAUSE_S / 2) == []
    assert follows(tick(planner, 1.01 + RETRY_PAUSE_S)) == {"a": SOURCE}


def test_a_corrupt_block_is_fetched_from_another_holder() -> None:
    planner = planned(CHAIN, 4, "ab")
    store(planner, "a", 0, 1)
    commands = fail(planner, "b", "a", FetchFailure.CORRUPT, 1)
    assert fetches(commands) == [("b", SOURCE, (1,))]
    assert shape(planner)["b"] == "a"


def test_a_corrupt_block_that_nobody_else_holds_is_asked_of_the_same_source_after_a_rest() -> None:
    planner = planned(CHAIN, 4, "a")
    assert fetches(fail(planner, "a", SOURCE, FetchFailure.CORRUPT, 2, now=1.0)) == []
    assert fetches(tick(planner, 1.0 + RETRY_PAUSE_S / 2)) == []
    assert fetches(tick(planner, 1.01 + RETRY_PAUSE_S)) == [("a", SOURCE, (2,))]


def test_when_the_source_dies_who_holds_most_becomes_the_root_and_fetches_the_rest() -> None:
    planner = planned(TREE, 4, "abc")
    store(planner, "a", 0, 1, 2)
    store(planner, "b", 0, 3)
    commands = lose(planner, SOURCE)
    assert follows(commands) == {"a": None, "b": "a"}
    assert fetches(commands) == [("a", "b", (3,))]
    assert shape(planner) == {"b": "a", "c": "a"}


def test_a_source_that_has_come_back_is_a_holder_like_any_other() -> None:
    planner = planned(CHAIN, 2, "ab")
    store(planner, "a", 0, 1)
    lose(planner, SOURCE)
    planner.handle(NodeJoined(SOURCE, BlockSet.full(2), wants=False), 1.0)
    assert shape(planner) == {"b": "a"}
    assert fetches(fail(planner, "b", "a", FetchFailure.CORRUPT, 0)) == [("b", SOURCE, (0,))]


def test_a_node_that_comes_back_unnoticed_is_hung_again_with_its_children() -> None:
    planner = planned(CHAIN, 4, "abc")
    commands = planner.handle(NodeJoined(NodeName("a"), BlockSet(4)), 0.0)
    assert follows(commands) == {"b": SOURCE, "a": "c"}
