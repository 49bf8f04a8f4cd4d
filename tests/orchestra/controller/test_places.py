"""Shuffles in which others take the places of those who are lost, as the controller sees them."""

import math

import pytest

from orchestra.controller.partitions import Partitions
from orchestra.messages import (
    Begin,
    CancelTransfer,
    Claim,
    Denied,
    DropPartition,
    FlowProgress,
    FollowSource,
    Granted,
    OpenShuffle,
    Outcome,
    PartitionDelivered,
    PartitionEmpty,
    PartitionPut,
    PartitionWaits,
    PlaceFilled,
    PlaceLost,
    PlaceTaken,
    RunShuffle,
    Settled,
    ShuffleTerms,
    TakePart,
)
from tests.orchestra.controller.clusters import Agent, FakeCluster, manifest_of
from transfers.ids import NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey, PartName, partition_name

S = TransferName("s")
REPLACEABLE = ShuffleTerms(replaceable=True)


def names(letters: str) -> tuple[NodeName, ...]:
    """Each letter a name."""
    return tuple(NodeName(letter) for letter in letters)


def opening(place: str | None = None, terms: ShuffleTerms = REPLACEABLE) -> OpenShuffle:
    """From a and b to b and c."""
    at = None if place is None else NodeName(place)
    return OpenShuffle(1, S, names("ab"), names("bc"), 60.0, terms, at)


def partition(part: str, size: int = 40) -> Manifest:
    """The manifest of one partition."""
    return manifest_of("s", size, part=part)


def put(agent: Agent, part: str, size: int = 40, place: str | None = None) -> None:
    """Put one partition by its name."""
    at = None if place is None else NodeName(place)
    agent.say(PartitionPut(S, NodeName(part.split("/")[1]), partition(part, size), at))


def put_nothing(agent: Agent, reducer: str, place: str | None = None) -> None:
    """Put an empty one."""
    agent.say(PartitionPut(S, NodeName(reducer), None, None if place is None else NodeName(place)))


def settle(agent: Agent, *parts: str) -> None:
    """A reducer has them."""
    for part in parts:
        agent.say(Settled(ObjectKey(S, PartName(part)), None))


def begun(agent: Agent) -> list[str]:
    """Partitions that an agent was told to take in."""
    return [str(each.manifest.key.part) for each in agent.all_of(Begin)]


def opened(terms: ShuffleTerms = REPLACEABLE) -> tuple[FakeCluster, Agent, Agent, Agent, Agent]:
    """A cluster of a, b, c and a spare; the shuffle is open for the first three."""
    cluster = FakeCluster()
    a, b, c, spare = (cluster.join(name) for name in ("a", "b", "c", "spare"))
    for agent in (a, b, c):
        agent.say(opening(terms=terms))
        assert agent.all_of(Granted)
    return cluster, a, b, c, spare


def test_the_others_are_told_what_a_lost_mapper_has_still_to_put() -> None:
    cluster, a, b, c, _ = opened()
    put(a, "a/b")
    settle(b, "a/b")
    a.hang_up("connection reset")
    for agent in (b, c):
        told = agent.last(PlaceLost)
        assert (told.place, told.node, told.reason, told.due) == ("a", "a", "connection reset", names("c"))
        assert not agent.all_of(Outcome)
    assert cluster.state("s")["state"] == "active"


def test_what_a_lost_mapper_had_begun_to_give_is_dropped_and_put_again_under_another_name() -> None:
    cluster, a, b, c, spare = opened()
    put(a, "a/b")
    put(a, "a/c")
    settle(b, "a/b")
    a.hang_up()
    assert [str(each.key.part) for each in c.all_of(DropPartition)] == ["a/c"]
    assert not b.all_of(DropPartition)
    spare.say(opening("a"))
    assert spare.last(PlaceTaken).attempts == {"c": 1}
    put(spare, "a/c/1", place="a")
    assert begun(c)[-1] == "a/c/1"
    assert c.last(FollowSource).source == "spare"
    settle(c, "a/c/1")
    for reducer in (b, c):
        put(b, f"b/{reducer.name}")
        settle(reducer, f"b/{reducer.name}")
    outcome = c.last(Outcome)
    assert (outcome.failed, outcome.replaced) == ({}, {"a": "spare"})
    assert cluster.state("s")["replaced"] == {"a": "spare"}


def test_late_words_about_an_attempt_in_vain_are_passed_over() -> None:
    cluster, a, _, c, spare = opened()
    put(a, "a/c")
    a.hang_up()
    spare.say(opening("a"))
    put(spare, "a/c", place="a")
    assert begun(c) == ["a/c"], "under its old name it is not taken"
    put(spare, "a/c/1", place="a")
    settle(c, "a/c")
    c.say(FlowProgress(S, {PartName("a/c"): 40}, 1.0))
    assert cluster.state("s")["progress"] == 0.0
    settle(c, "a/c/1")
    assert cluster.state("s")["progress"] == 0.25


def test_who_takes_a_place_puts_no_more_than_is_due() -> None:
    cluster, a, b, _, spare = opened()
    put(a, "a/b")
    settle(b, "a/b")
    a.hang_up()
    spare.say(opening("a"))
    before = len(begun(b))
    put(spare, "a/b", place="a")
    put(spare, "a/b/1", place="a")
    assert len(begun(b)) == before
    assert cluster.state("s")["progress"] == 0.25


def test_whoever_has_not_a_place_puts_nothing_there() -> None:
    cluster, _, b, c, spare = opened()
    put(spare, "a/c", place="a")
    put(b, "a/c", place="a")
    assert begun(c) == []
    assert cluster.state("s")["progress"] == 0.0


def test_all_partitions_of_a_lost_reducer_go_to_who_takes_its_place_without_being_put_again() -> None:
    cluster, a, b, c, spare = opened()
    put(a, "a/c")
    put_nothing(b, "c")
    settle(c, "a/c")
    assert cluster.state("s")["progress"] == 0.5
    c.hang_up("killed")
    told = b.last(PlaceLost)
    assert (told.place, told.reason, told.due) == ("c", "killed", ())
    assert [each.place for each in a.all_of(PlaceLost)] == ["c"], "nobody has to put anything again"
    assert cluster.state("s")["progress"] == 0.0
    spare.say(opening("c"))
    assert spare.last(PlaceTaken).attempts == {}
    assert begun(spare) == ["a/c"]
    assert spare.last(FollowSource).source == "a"
    assert [(each.mapper, each.reducer) for each in spare.all_of(PartitionEmpty)] == [("b", "c")]
    settle(spare, "a/c")
    assert cluster.state("s")["progress"] == 0.5


def test_what_a_lost_mapper_had_put_for_a_lost_reducer_is_due_again_as_well() -> None:
    cluster, a, b, c, spare = opened()
    for part, reducer in (("a/b", b), ("a/c", c)):
        put(a, part)
        settle(reducer, part)
    a.hang_up()
    assert not b.all_of(PlaceLost), "nothing of it was due"
    c.hang_up()
    assert {each.place: each.due for each in b.all_of(PlaceLost)} == {"a": names("c"), "c": ()}
    spare.say(opening("a"))
    assert spare.last(PlaceTaken).attempts == {"c": 1}
    put(spare, "a/c/1", place="a")
    spare.say(opening("c"))
    assert begun(spare) == ["a/c/1"]
    settle(spare, "a/c/1")
    assert cluster.state("s")["progress"] == 0.5


def test_a_node_that_had_two_places_leaves_both_free() -> None:
    _, a, b, c, spare = opened()
    a.hang_up()
    spare.say(opening("a"))
    c.hang_up()
    spare.say(opening("c"))
    told = len(b.all_of(PlaceLost))
    spare.hang_up("gone too")
    assert {(each.place, each.node) for each in b.all_of(PlaceLost)[told:]} == {
        ("a", "spare"),
        ("c", "spare"),
    }


def test_a_node_that_comes_back_takes_its_own_place_with_the_next_attempt() -> None:
    cluster, a, _, c, _ = opened()
    put(a, "a/c")
    a.hang_up()
    again = cluster.join("a", incarnation="second")
    again.say(opening())
    assert again.last(PlaceTaken).attempts == {"b": 0, "c": 1}
    put(again, "a/c/1")
    assert begun(c)[-1] == "a/c/1"


def test_a_place_of_one_that_never_came_can_be_taken() -> None:
    cluster = FakeCluster()
    b, spare = cluster.join("b"), cluster.join("spare")
    b.say(opening())
    spare.say(opening("a"))
    assert spare.last(PlaceTaken).attempts == {"b": 0, "c": 0}
    put(spare, "a/b", place="a")
    assert begun(b) == ["a/b"]
    cluster.join("a").say(opening())
    assert (
        "spare has the place of a"
        in next(agent for agent in cluster.sessions.values() if agent.name == "a").last(Denied).reason
    )


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (opening("b"), "b has the place of b"),
        (opening("nobody"), "nobody is neither mapper nor reducer"),
        (opening("a", ShuffleTerms()), "on other terms"),
        (opening("a", ShuffleTerms(Claim(weight=2.0), replaceable=True)), "on other terms"),
    ],
)
def test_places_that_are_not_free_are_denied(message: OpenShuffle, named: str) -> None:
    cluster, a, _, _, spare = opened()
    a.hang_up()
    spare.say(message)
    assert named in spare.last(Denied).reason
    assert cluster.state("s")["state"] == "active"


def test_in_a_shuffle_that_is_not_replaceable_nobody_takes_the_place_of_another() -> None:
    cluster = FakeCluster()
    b, spare = cluster.join("b"), cluster.join("spare")
    b.say(opening(terms=ShuffleTerms()))
    spare.say(opening("a", ShuffleTerms()))
    assert "not replaceable" in spare.last(Denied).reason


def test_a_place_that_nobody_takes_is_named_when_the_shuffle_has_stood_still() -> None:
    cluster, a, b, c, spare = opened()
    a.hang_up("connection reset")
    cluster.pass_time(59.0)
    assert not b.all_of(Outcome)
    cluster.pass_time(2.0)
    outcome = b.last(Outcome)
    assert outcome.failed["a"] == "lost: connection reset; nobody took its place"
    assert outcome.reason == "stood still for 60 s"
    assert not spare.all_of(Outcome)
    assert c.all_of(Outcome)


def test_taking_a_place_is_getting_on() -> None:
    cluster, a, b, _, spare = opened()
    a.hang_up()
    cluster.pass_time(50.0)
    spare.say(opening("a"))
    cluster.pass_time(50.0)
    assert not b.all_of(Outcome)


def test_partitions_stay_with_their_mappers_only_while_they_may_be_needed_again() -> None:
    for terms, let_go in ((REPLACEABLE, 0), (ShuffleTerms(), 1)):
        _, a, _, c, _ = opened(terms)
        put(a, "a/c")
        settle(c, "a/c")
        assert len(a.all_of(PartitionDelivered)) == let_go


def test_a_mapper_of_which_nothing_is_due_is_not_missed() -> None:
    _, a, b, c, _ = opened()
    for part, reducer in (("a/b", b), ("a/c", c)):
        put(a, part)
        settle(reducer, part)
    a.leave()
    assert not c.all_of(PlaceLost)
    for part, reducer in (("b/b", b), ("b/c", c)):
        put(b, part)
        settle(reducer, part)
    assert c.last(Outcome).failed == {}


def test_places_of_an_asked_shuffle_go_to_other_agents_with_what_is_due() -> None:
    cluster = FakeCluster()
    asks = cluster.join("asks", receives=False)
    a, b, c, spare = (cluster.join(name) for name in ("a", "b", "c", "spare"))
    sizes = {NodeName("a"): {NodeName("b"): 40, NodeName("c"): 30}}
    asks.say(RunShuffle(1, S, sizes, 60.0, REPLACEABLE))
    put(a, "a/b")
    put(a, "a/c", 30)
    settle(b, "a/b")
    a.hang_up()
    part = spare.last(TakePart)
    assert (part.place, part.puts_bytes, part.takes_bytes, part.attempts) == ("a", {"c": 30}, {}, {"c": 1})
    put(spare, "a/c/1", 30, place="a")
    settle(c, "a/c/1")
    assert asks.last(Outcome).replaced == {"a": "spare"}
    assert asks.last(Outcome).failed == {}


def test_a_lost_reducer_of_an_asked_shuffle_is_replaced_and_gets_everything_anew() -> None:
    cluster = FakeCluster()
    asks = cluster.join("asks", receives=False)
    a, b, c, spare = (cluster.join(name) for name in ("a", "b", "c", "spare"))
    sizes = {NodeName(mapper): {NodeName("c"): 40} for mapper in "ab"}
    asks.say(RunShuffle(1, S, sizes, 60.0, REPLACEABLE))
    put(a, "a/c")
    settle(c, "a/c")
    put(b, "b/c")
    c.hang_up()
    part = spare.last(TakePart)
    assert (part.place, part.puts_bytes, part.takes_bytes) == ("c", {}, {"a": 40, "b": 40})
    assert sorted(begun(spare)) == ["a/c", "b/c"]
    settle(spare, "a/c", "b/c")
    assert asks.last(Outcome).node_completion_s.keys() == {"c"}
    assert asks.last(Outcome).replaced == {"c": "spare"}


def test_one_of_an_asked_shuffle_that_is_not_replaceable_fails_by_name() -> None:
    cluster = FakeCluster()
    asks, a, spare = cluster.join("asks", receives=False), cluster.join("a"), cluster.join("spare")
    cluster.join("b")
    asks.say(RunShuffle(1, S, {NodeName("a"): {NodeName("b"): 40}}, 60.0))
    a.hang_up()
    assert list(asks.last(Outcome).failed) == ["a"]
    assert not spare.all_of(TakePart)


# -- no room -------------------------------------------------------------------------------------------


def test_who_has_no_room_for_too_long_is_named_with_what_waits() -> None:
    cluster, a, b, c, _ = opened(ShuffleTerms())
    put(a, "a/b")
    put(a, "a/c")
    settle(b, "a/b")
    put_nothing(b, "b")
    put_nothing(b, "c")
    c.say(PartitionWaits(ObjectKey(S, PartName("a/c")), True))
    cluster.pass_time(61.0)
    assert c.last(Outcome).failed == {"c": "has no room for the partition of a"}


def test_finding_room_is_getting_on_and_lacking_it_is_not() -> None:
    cluster, a, b, c, _ = opened(ShuffleTerms())
    put(a, "a/c")
    cluster.pass_time(40.0)
    c.say(PartitionWaits(ObjectKey(S, PartName("a/c")), True))
    cluster.pass_time(19.0)
    c.say(PartitionWaits(ObjectKey(S, PartName("a/c")), False))
    cluster.pass_time(40.0)
    assert not b.all_of(Outcome)
    c.say(PartitionWaits(ObjectKey(S, PartName("a/c")), True))
    cluster.pass_time(21.0)
    assert b.all_of(Outcome)


# -- the matrix ----------------------------------------------------------------------------------------


def test_the_matrix_counts_each_pair_once_whatever_is_lost_and_put_again() -> None:
    a, b, c = names("abc")
    matrix = Partitions([a, b], [c])
    first = matrix.put(a, c, partition("a/c"), a)
    assert first is not None
    assert matrix.put(a, c, partition("a/c"), a) is None
    matrix.start(first)
    matrix.deliver(first, 1.0)
    assert (matrix.delivered, matrix.delivered_bytes, matrix.is_due_of(a)) == (1, 40, False)
    assert matrix.lose_holder(a) == []
    assert [each.name for each in matrix.lose_reducer(c, {b})] == ["a/c"]
    assert (matrix.delivered, matrix.delivered_bytes, matrix.missing_of(a)) == (0, 0, [c])
    assert matrix.name_of((a, c)) == "a/c/1"
    second = matrix.put(a, c, partition("a/c/1", 30), b)
    other = matrix.put(b, c, None, b)
    assert second is not None
    assert other is not None
    assert matrix.by_name(c, PartName("a/c")) is None
    assert matrix.by_name(c, PartName("a/c/1")) is second
    for each in (second, other):
        matrix.start(each)
        matrix.deliver(each, 2.0)
    assert matrix.complete
    assert (matrix.delivered_bytes, matrix.moving) == (30, {})


def test_of_a_place_that_is_free_again_it_is_said_who_had_it_and_why() -> None:
    _, a, b, c, _ = opened()
    put(a, "a/c")
    settle(c, "a/c")
    put(a, "a/b")
    settle(b, "a/b")
    a.hang_up("out of memory")
    c.hang_up("switched off")
    told = {str(each.place): (each.node, each.reason) for each in b.all_of(PlaceLost)}
    assert told.keys() == {"a", "c"}
    assert told["a"][0] == "a"
    assert "out of memory" in told["a"][1]
    assert told["c"][0] == "c"


def test_the_others_hear_who_has_taken_a_place() -> None:
    _, a, b, _, spare = opened()
    a.hang_up()
    assert b.all_of(PlaceFilled) == []
    spare.say(opening("a"))
    assert b.all_of(PlaceFilled) == [PlaceFilled(S, NodeName("a"), NodeName(spare.name))]


def test_who_comes_late_hears_which_places_are_free() -> None:
    cluster, a, _, c, _ = opened()
    c.hang_up()
    a.hang_up("out of memory")
    again = cluster.join("c", incarnation="second")
    again.say(opening())
    assert [(each.place, each.node) for each in again.all_of(PlaceLost)] == [("a", "a")]


def test_who_asked_for_a_shuffle_and_takes_part_in_it_can_cancel_it() -> None:
    cluster = FakeCluster()
    a = cluster.join("a")
    cluster.join("b")
    a.say(RunShuffle(1, S, {NodeName("a"): {NodeName("b"): 40}}, 60.0))
    a.say(CancelTransfer(S))
    assert a.last(Outcome).failed == {}
    assert a.last(Outcome).reason == "cancelled by a"


def asked(terms: ShuffleTerms = REPLACEABLE) -> tuple[FakeCluster, Agent, dict[str, Agent]]:
    """A cluster of which one node has asked a and b to shuffle; who asks, and the agents."""
    cluster = FakeCluster()
    asks = cluster.join("asks", receives=False)
    agents = {name: cluster.join(name) for name in ("a", "b")}
    asks.say(RunShuffle(1, S, {NodeName("a"): {NodeName("b"): 40}}, 60.0, terms))
    return cluster, asks, agents


def test_a_place_that_comes_back_to_who_had_it_first_goes_on_with_the_next_attempt() -> None:
    cluster, _, agents = asked()
    spare = cluster.join("spare")
    put(agents["a"], "a/b")
    agents["a"].hang_up()
    put(spare, "a/b/1", place="a")
    again = cluster.join("a", incarnation="second")
    spare.hang_up()
    part = again.last(TakePart)
    assert (part.place, part.puts_bytes, part.attempts) == (None, {"b": 40}, {"b": 2})


def test_a_place_for_which_there_is_no_agent_is_given_to_the_next_who_comes() -> None:
    cluster, asks, agents = asked()
    agents["b"].hang_up()
    agents["a"].hang_up()
    late = cluster.join("late")
    assert {str(part.place) for part in late.all_of(TakePart)} == {"a", "b"}
    attempt = next(part.attempts for part in late.all_of(TakePart) if part.place == "a")[NodeName("b")]
    name = partition_name(NodeName("a"), NodeName("b"), attempt)
    put(late, name, place="a")
    settle(late, name)
    assert asks.last(Outcome).replaced == {"a": "late", "b": "late"}


@pytest.mark.parametrize("at_s", [math.inf, -math.inf])
def test_progress_without_a_clock_is_passed_over(at_s: float) -> None:
    cluster, a, b, _, _ = opened()
    put(a, "a/b")
    b.say(FlowProgress(S, {PartName("a/b"): 20}, at_s))
    assert cluster.state("s")["progress"] == 0.0
