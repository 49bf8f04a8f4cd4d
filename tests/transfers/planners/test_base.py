"""What `transfers.planners.base` does for every mechanism: endings, and what stale events must not spoil."""

from random import Random

import pytest

from tests.transfers.planners.harness import World
from tests.transfers.planners.told import SOURCE, fail, fetches, join, lose, planned, store, tick
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import ChainPlanner, CornetPlanner, Mechanism, make_planner
from transfers.planners.base import MAX_FAILURES_PER_NODE
from transfers.planners.events import Failed, FetchFailure, Finished, GiveUp, NodeJoined

every_mechanism = pytest.mark.parametrize("mechanism", list(Mechanism), ids=lambda each: each.value)


def test_mechanisms_have_the_names_of_the_command_line() -> None:
    assert [mechanism.value for mechanism in Mechanism] == ["chain", "tree", "hdfs", "cornet"]


def test_a_negative_block_count_is_refused() -> None:
    with pytest.raises(ValueError, match="block_count must not be negative, got -1"):
        ChainPlanner(-1, SOURCE, Random(0))


@every_mechanism
def test_losing_the_source_too_early_fails_at_once_and_says_what_died_with_whom(mechanism: Mechanism) -> None:
    planner = planned(mechanism, 8, "ab")
    store(planner, "a", 0, 1)
    store(planner, "b", 5, source="a")
    (failed,) = lose(planner, SOURCE)
    assert isinstance(failed, Failed)
    assert failed.reason == "5 of 8 blocks are held by no living node: 5 with source (blocks 2-4, 6-7)"
    assert failed.lost_blocks == dict.fromkeys([2, 3, 4, 6, 7], SOURCE)
    assert tick(planner, 1.0) == []


@every_mechanism
def test_the_last_holder_of_each_block_is_named(mechanism: Mechanism) -> None:
    planner = planned(mechanism, 4, "abc")
    store(planner, "a", 0, 1)
    store(planner, "b", 2, 3)
    assert not any(isinstance(command, Failed) for command in lose(planner, SOURCE))
    (failed,) = lose(planner, "a")
    assert isinstance(failed, Failed)
    assert failed.reason == "2 of 4 blocks are held by no living node: 2 with a (blocks 0-1)"


@every_mechanism
def test_the_source_may_die_once_the_living_hold_every_block_between_them(mechanism: Mechanism) -> None:
    world = World(mechanism, 4)
    for name, held in [("a", [0]), ("b", [1, 2, 3]), ("c", [])]:
        world.join(NodeName(name), holds=BlockSet(4, [BlockIndex(block) for block in held]))
        world.deliver_report(NodeName(name))
    world.kill(SOURCE)
    world.drain()
    world.check_end()
    assert world.failed is None


@every_mechanism
def test_a_late_joiner_after_the_last_holders_death_fails(mechanism: Mechanism) -> None:
    planner = planned(mechanism, 1, "a")
    store(planner, "a", 0)
    commands = lose(planner, SOURCE) + lose(planner, "a")
    assert not any(isinstance(command, Failed) for command in commands), "nobody lacks anything"
    (failed,) = join(planner, "b")
    assert isinstance(failed, Failed)
    assert failed.lost_blocks == {0: "a"}


@every_mechanism
def test_finished_is_said_once_until_someone_joins(mechanism: Mechanism) -> None:
    planner = planned(mechanism, 1, "a")
    assert store(planner, "a", 0) == [Finished()]
    assert store(planner, "a", 0) == []
    assert tick(planner, 1.0) == []
    assert Finished() not in join(planner, "b")
    assert store(planner, "b", 0) == [Finished()]


@every_mechanism
def test_a_receiver_that_cannot_reach_anyone_is_given_up_by_name_and_the_others_finish(
    mechanism: Mechanism,
) -> None:
    world = World(mechanism, 6)
    for name in "abc":
        world.join(NodeName(name))
        world.deliver_report(NodeName(name))
    cut_off = NodeName("b")
    for _ in range(100 * MAX_FAILURES_PER_NODE):
        if cut_off in world.given_up:
            break
        world.tick()
        while world.order_receivers():
            world.deliver_order(world.order_receivers()[0])
        node = world.nodes[cut_off]
        for source in dict.fromkeys([*node.asked.values(), *node.follows.values()]):
            if source is not None:
                world.fail(node, source, FetchFailure.UNREACHABLE)
        while world.report_senders():
            world.deliver_report(world.report_senders()[0])
    (gave_up,) = [command for command in world.commands if isinstance(command, GiveUp)]
    assert gave_up.node == cut_off
    assert gave_up.reason.startswith(f"{MAX_FAILURES_PER_NODE} fetches in a row failed, most from ")
    assert world.now >= 1.0, "tries are paced"
    world.drain()
    world.check_end()


@every_mechanism
def test_who_is_given_up_goes_on_as_a_holder(mechanism: Mechanism) -> None:
    planner = planned(mechanism, 2, "a")
    store(planner, "a", 0)
    planner.members[NodeName("a")].failures_in_a_row = MAX_FAILURES_PER_NODE
    commands = fail(planner, "a", SOURCE, FetchFailure.UNREACHABLE)
    assert any(isinstance(command, GiveUp) for command in commands)
    assert [member.name for member in planner.holders(BlockIndex(0))] == [SOURCE, "a"]
    assert not planner.members[NodeName("a")].wants


def test_a_failure_that_names_a_replaced_source_changes_nothing() -> None:
    planner = planned(Mechanism.TREE, 4, "abc")
    fail(planner, "c", "a", FetchFailure.UNREACHABLE)
    member = planner.members[NodeName("c")]
    assert (member.follows, member.failures_in_a_row) == ({0: "b"}, 1)
    assert fail(planner, "c", "a", FetchFailure.UNREACHABLE) == []
    assert (member.follows, member.failures_in_a_row) == ({0: "b"}, 1)


@every_mechanism
def test_what_is_told_of_unknown_nodes_changes_nothing(mechanism: Mechanism) -> None:
    planner = planned(mechanism, 4, "a")
    assert store(planner, "x", 1) == []
    assert fail(planner, "x", "a", FetchFailure.STALLED, 1) == []
    assert lose(planner, "x") == []


def test_a_block_stored_again_does_not_pay_for_failures() -> None:
    planner = planned(Mechanism.CHAIN, 4, "a")
    store(planner, "a", 0)
    fail(planner, "a", SOURCE, FetchFailure.CORRUPT, 1)
    store(planner, "a", 0)
    assert planner.members[NodeName("a")].failures_in_a_row == 1
    store(planner, "a", 1)
    assert planner.members[NodeName("a")].failures_in_a_row == 0


@every_mechanism
def test_equal_seeds_give_equal_plans(mechanism: Mechanism) -> None:
    def commands() -> list[str]:
        planner = make_planner(mechanism, 16, SOURCE, Random(5))
        said = []
        for name in "abcdef":
            said += join(planner, name)
        said += tick(planner, 0.1) + store(planner, "a", 1, 2, 3) + lose(planner, "b")
        return [str(command) for command in said]

    assert commands() == commands()


def test_a_node_that_comes_back_is_asked_only_for_what_it_lacks() -> None:
    planner = CornetPlanner(4, SOURCE, Random(0), explores=True)
    join(planner, "a")
    store(planner, "a", 0, 1)
    lose(planner, "a")
    held = BlockSet(4, [BlockIndex(0), BlockIndex(1)])
    commands = planner.handle(NodeJoined(NodeName("a"), held), 1.0)
    assert sorted(block for _, _, blocks in fetches(commands) for block in blocks) == [2, 3]
