"""Shuffles as the controller sees them."""

import pytest

from orchestra.messages import (
    Begin,
    CancelTransfer,
    Denied,
    FetchTrouble,
    FollowSource,
    Granted,
    LetGo,
    MapFailed,
    MapObject,
    OpenShuffle,
    Outcome,
    PartitionEmpty,
    PartitionPut,
    Release,
    Settled,
)
from tests.orchestra.controller.clusters import Agent, FakeCluster, manifest_of
from transfers.ids import NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey, PartName
from transfers.planners.events import FetchFailure

S = TransferName("s")


def open_by(*agents: Agent, mappers: str = "ab", reducers: str = "bc", timeout_s: float = 60.0) -> None:
    """Each agent opens the shuffle; a letter is a name."""
    for agent in agents:
        agent.say(OpenShuffle(1, S, names(mappers), names(reducers), timeout_s))


def names(letters: str) -> tuple[NodeName, ...]:
    """Each letter a name."""
    return tuple(NodeName(letter) for letter in letters)


def partition(mapper: Agent, reducer: Agent, size: int = 40) -> Manifest:
    """The manifest of one partition."""
    return manifest_of("s", size, part=f"{mapper.name}/{reducer.name}")


def put(mapper: Agent, reducer: Agent, size: int | None = 40) -> None:
    """Put one partition; None is an empty one."""
    manifest = None if size is None else partition(mapper, reducer, size)
    mapper.say(PartitionPut(S, reducer.name, manifest))


def settle(mapper: Agent, reducer: Agent) -> None:
    """The reducer has it."""
    reducer.say(Settled(partition(mapper, reducer).key, None))


def three() -> tuple[FakeCluster, Agent, Agent, Agent]:
    """Mapper, mapper and reducer, reducer."""
    cluster = FakeCluster()
    a, b, c = (cluster.join(name) for name in "abc")
    return cluster, a, b, c


def test_every_partition_goes_from_its_mapper_to_its_reducer() -> None:
    cluster, a, b, c = three()
    open_by(a, b, c)
    assert all(agent.last(Granted).request == 1 for agent in (a, b, c))
    for mapper in (a, b):
        for reducer in (b, c):
            put(mapper, reducer)
    assert {str(each.manifest.key.part) for each in b.all_of(Begin)} == {"a/b", "b/b"}
    assert {str(each.manifest.key.part) for each in c.all_of(Begin)} == {"a/c", "b/c"}
    assert [each.source for each in b.all_of(FollowSource)] == ["a"], "its own it has"
    for mapper in (a, b):
        settle(mapper, b)
    cluster.now += 2.0
    settle(a, c)
    assert not c.all_of(Outcome)
    assert cluster.state("s")["progress"] == 0.75
    settle(b, c)
    outcome = a.last(Outcome)
    assert outcome.failed == {}
    assert outcome.completion_s == pytest.approx(2.0)
    assert set(outcome.node_completion_s) == {"b", "c"}
    assert outcome.node_completion_s["c"] == pytest.approx(2.0)
    assert cluster.state("s")["state"] == "done"


def test_a_partition_waits_for_its_reducer_to_take_part() -> None:
    _, a, b, c = three()
    open_by(a, b)
    put(a, c)
    assert not c.told[1:]
    open_by(c)
    assert [str(each.manifest.key.part) for each in c.all_of(Begin)] == ["a/c"]


def test_empty_partitions_are_told_and_done_at_once() -> None:
    cluster, a, b, c = three()
    open_by(a, b, c)
    for mapper in (a, b):
        for reducer in (b, c):
            put(mapper, reducer, None)
    assert {each.mapper for each in c.all_of(PartitionEmpty)} == {"a", "b"}
    assert c.last(Outcome).failed == {}
    assert cluster.state("s")["state"] == "done"


def test_a_name_is_free_again_when_the_shuffle_is_over() -> None:
    _, a, b, c = three()
    for _ in range(3):
        open_by(a, b, c)
        for mapper in (a, b):
            for reducer in (b, c):
                put(mapper, reducer, None)
        assert not a.all_of(Denied)


def test_a_lost_mapper_ends_it_by_name() -> None:
    cluster, a, b, c = three()
    open_by(a, b, c)
    put(b, c)
    a.hang_up("connection reset")
    for agent in (b, c):
        outcome = agent.last(Outcome)
        assert outcome.failed == {"a": "lost: connection reset"}
        assert "a lost" in outcome.reason
        assert agent.last(LetGo).transfer == "s"
    assert cluster.state("s")["state"] == "failed"


def test_a_participant_that_is_through_may_go() -> None:
    _, a, b, c = three()
    open_by(a, b, c)
    for reducer in (b, c):
        put(a, reducer)
        settle(a, reducer)
    a.leave()
    assert not c.all_of(Outcome)
    put(b, b, None)
    put(b, c, None)
    assert c.last(Outcome).failed == {}


def test_a_body_that_fails_ends_it_for_the_others_by_name() -> None:
    _, a, b, c = three()
    open_by(a, b, c)
    a.say(CancelTransfer(S, "ZeroDivisionError"))
    for agent in (b, c):
        assert set(agent.last(Outcome).failed) == {"a"}
        assert "ZeroDivisionError" in agent.last(Outcome).reason


def test_strangers_cannot_end_it() -> None:
    cluster, a, b, c = three()
    stranger = cluster.join("stranger")
    open_by(a, b, c)
    stranger.say(CancelTransfer(S, "no"))
    assert not a.all_of(Outcome)


def test_what_stands_still_names_all_who_hold_it_up() -> None:
    cluster, a, _, c = three()
    open_by(a, c, timeout_s=5.0)
    put(a, c)
    cluster.pass_time(4.5)
    assert not a.all_of(Outcome)
    cluster.pass_time(1.0)
    outcome = a.last(Outcome)
    assert outcome.reason == "stood still for 5 s"
    assert outcome.failed["b"] == "did not take part"
    assert "has not received the partition of a" in outcome.failed["c"]
    assert "put nothing for b" in outcome.failed["a"]


def test_a_partition_that_cannot_be_had_fails_by_name_after_a_bounded_number_of_tries() -> None:
    cluster, a, b, c = three()
    open_by(a, b, c)
    put(a, c)
    for _ in range(20):
        c.say(FetchTrouble(partition(a, c).key, a.name, (), FetchFailure.REFUSED))
        cluster.pass_time(0.3)
        if c.all_of(Outcome):
            break
    assert 2 <= len(c.all_of(FollowSource)) <= 10
    assert set(c.last(Outcome).failed) == {"c"}
    assert "partition of a" in c.last(Outcome).reason


def test_a_reducer_that_has_no_room_ends_it_by_name() -> None:
    _, a, b, c = three()
    open_by(a, b, c)
    put(a, c)
    c.say(Settled(partition(a, c).key, "the store is full"))
    assert a.last(Outcome).failed == {"c": "the store is full"}


@pytest.mark.parametrize(
    ("mappers", "reducers", "named"),
    [("", "b", "at least one"), ("a", "", "at least one"), ("aa", "b", "twice"), ("a", "bb", "twice")],
)
def test_bad_shuffles_are_denied_and_leave_nothing(mappers: str, reducers: str, named: str) -> None:
    cluster, a, *_ = three()
    open_by(a, mappers=mappers, reducers=reducers)
    assert named in a.last(Denied).reason
    assert cluster.core.status()["transfers"] == {}


def test_who_takes_no_part_cannot_open_it() -> None:
    cluster, a, _, c = three()
    open_by(c, mappers="a", reducers="b")
    assert "neither mapper nor reducer" in c.last(Denied).reason
    open_by(a, mappers="a", reducers="b")
    assert a.all_of(Granted), "and it does not occupy the name"
    assert cluster.state("s")["state"] == "active"


def test_all_must_mean_the_same_shuffle_and_open_it_once() -> None:
    _, a, b, _ = three()
    open_by(a)
    open_by(b, reducers="b")
    assert "other mappers or reducers" in b.last(Denied).reason
    open_by(a)
    assert "takes part" in a.last(Denied).reason


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("inf")])
def test_its_timeout_is_checked(timeout_s: float) -> None:
    _, a, *_ = three()
    open_by(a, timeout_s=timeout_s)
    assert "timeout_s" in a.last(Denied).reason


def test_broadcasts_and_shuffles_share_one_space_of_names() -> None:
    cluster, a, b, c = three()
    a.broadcast("s", ["b"])
    open_by(b)
    assert "broadcast, not a shuffle" in b.last(Denied).reason
    a.say(Release(1, S))
    cluster.pass_time(0.2)
    open_by(a, b, c)
    c.propose("s")
    assert "exists (active)" in c.last(Denied).reason


def test_partitions_that_make_no_sense_are_passed_over() -> None:
    cluster, a, b, c = three()
    open_by(a, b, c)
    c.say(PartitionPut(S, NodeName("b"), None))  # no mapper
    a.say(PartitionPut(S, NodeName("a"), None))  # no reducer
    a.say(PartitionPut(S, NodeName("b"), partition(a, c)))  # another's name
    a.say(PartitionPut(TransferName("other"), NodeName("b"), None))
    put(a, b, None)
    put(a, b)  # twice
    assert not b.all_of(Begin)
    c.say(Settled(ObjectKey(S, PartName("a/c")), None))
    c.say(Settled(ObjectKey(S, PartName("")), None))
    c.say(FetchTrouble(ObjectKey(S, PartName("x/y")), NodeName("a"), (), FetchFailure.STALLED))
    c.say(MapFailed(ObjectKey(S, PartName("x/y")), "what?"))
    assert cluster.state("s")["progress"] == 0.25


def test_partitions_of_one_host_are_mapped() -> None:
    cluster = FakeCluster()
    a, b = (cluster.join(name, shares=True) for name in "ab")
    open_by(a, b, mappers="ab", reducers="b")
    put(a, b)
    put(b, b)
    assert [each.store_address for each in b.all_of(MapObject)] == ["store of a"]
    b.say(MapFailed(partition(a, b).key, "gone"))
    assert b.last(FollowSource).source == "a"
