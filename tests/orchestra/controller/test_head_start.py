"""Small broadcasts as the controller sees them: sent first, planned only if that does not do."""

import pytest

from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.head_start import MOST_PATIENCE_S, PATIENCE_S, PATIENCE_SHARE
from orchestra.messages import (
    Begin,
    BlocksHeld,
    CancelTransfer,
    Deliver,
    Denied,
    FetchTrouble,
    FollowSource,
    Holding,
    LetGo,
    MapFailed,
    MapObject,
    Outcome,
    Planned,
    Propose,
    PushBlock,
    PushTrouble,
    Settled,
    Want,
)
from orchestra.small import SMALL_BYTES, small_block_bytes
from tests.orchestra.controller.clusters import Agent, FakeCluster, manifest_of
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey, PartName
from transfers.planners.events import FetchFailure, Stored

LARGE = 40_000
"""Too large for messages with two receivers, in two blocks."""


def propose(
    source: Agent,
    size: int = LARGE,
    *,
    content: bytes = b"",
    to: tuple[str, ...] | None = None,
    transfer: str = "t",
    timeout_s: float = 60.0,
) -> Manifest:
    """Ask for a small broadcast, manifest and all."""
    block = small_block_bytes(size)
    assert block is not None
    manifest = manifest_of(transfer, size, block)
    receivers = None if to is None else tuple(NodeName(name) for name in to)
    source.say(
        Propose(1, TransferName(transfer), size, receivers, 1, timeout_s, None, None, manifest, content)
    )
    return manifest


def others_get_on(cluster: FakeCluster, source: Agent, seconds: float, *silent: Agent) -> None:
    """All the while the source sends small objects that arrive, but at those who are silent."""
    until = cluster.now + seconds
    while cluster.now < until:
        living = [each for each in cluster.sessions.values() if each is not source and each not in silent]
        names = tuple(each.name for each in living)
        manifest = propose(source, to=names, transfer=f"other at {cluster.now:.3f}")
        cluster.pass_time(0.4 * PATIENCE_S, silent=silent)
        for agent in living:
            agent.finish(manifest)


def controller_of(cluster: FakeCluster) -> BroadcastController:
    transfer = cluster.core.table.get(TransferName("t"))
    assert isinstance(transfer, BroadcastController)
    return transfer


def has_plan(cluster: FakeCluster) -> bool:
    delivery = controller_of(cluster)._delivery
    assert delivery is not None
    return delivery.planning.has_plan


# -- how it is sent --------------------------------------------------------------------------------


def test_few_bytes_are_delivered_with_the_word_of_them() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source, 40, content=bytes(40))
    assert "inside the control messages" in source.last(Planned).reason
    for agent in (a, b):
        assert agent.last(Deliver) == Deliver(manifest, bytes(40), NodeName("src"))
        assert not agent.sources, "nothing is asked for"
        agent.finish(manifest)
    assert source.last(Outcome).node_completion_s.keys() == {"a", "b"}


def test_more_bytes_are_pushed_by_their_source_down_a_tree_a_block() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    assert "pushed" in source.last(Planned).reason
    assert source.all_of(PushBlock) == [
        PushBlock(manifest.key, BlockIndex(0), ("a:1", "b:1")),
        PushBlock(manifest.key, BlockIndex(1), ("b:1", "a:1")),
    ]
    assert a.last(Begin) == b.last(Begin) == Begin(manifest)
    a.finish(manifest)
    assert not source.all_of(Outcome)
    b.finish(manifest)
    assert not source.last(Outcome).failed
    assert cluster.state("t")["progress"] == 1.0
    assert not a.sources | b.sources


def test_content_that_came_along_is_not_delivered_to_too_many() -> None:
    cluster = FakeCluster()
    source, *agents = cluster.joined(*(f"n{at}" for at in range(20)))
    propose(source, 4_000, content=bytes(4_000))
    assert source.all_of(PushBlock)
    assert not any(agent.all_of(Deliver) for agent in agents)


def test_host_mates_map_what_the_first_has_got() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False)
    a = cluster.join("a", host="other", shares=True)
    b = cluster.join("b", host="other", shares=True)
    manifest = propose(source)
    assert [order.route for order in source.all_of(PushBlock)] == [("a:1",), ("a:1",)]
    assert not b.told[1:]
    a.finish(manifest)
    assert b.last(MapObject).holder == "a"
    b.say(Settled(manifest.key, None))
    assert source.last(Outcome).node_completion_s.keys() == {"a", "b"}


def test_an_empty_object_is_nothing_but_word_of_it() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = propose(source, 0)
    assert not source.all_of(PushBlock)
    a.say(Settled(manifest.key, None))
    assert source.all_of(Outcome)


# -- what is refused -------------------------------------------------------------------------------


def test_a_cut_that_is_not_the_rules_is_refused() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = manifest_of("t", LARGE, 1000)
    source.say(Propose(1, TransferName("t"), LARGE, None, 1, 60.0, None, None, manifest, b""))
    assert source.last(Denied).request == 1
    assert not a.begun


@pytest.mark.parametrize(
    ("name", "size", "told_size", "content"),
    [
        ("other", 40, 40, b""),
        ("t", 40, 41, b""),
        ("t", 40, 40, bytes(39)),
        ("t", SMALL_BYTES + 1, SMALL_BYTES + 1, b""),
    ],
)
def test_a_manifest_that_does_not_fit_its_proposal_is_refused(
    name: str, size: int, told_size: int, content: bytes
) -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = manifest_of(name, size, max(1, size))
    source.say(Propose(1, TransferName("t"), told_size, None, 1, 60.0, None, None, manifest, content))
    assert source.last(Denied).request == 1
    assert not a.begun
    propose(source, 40)
    assert source.all_of(Planned), "the name is free"


# -- when it does not do ---------------------------------------------------------------------------


def test_whoever_has_not_got_it_after_a_while_follows_those_who_have() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.finish(manifest)
    b.store(manifest, 0)
    cluster.pass_time(PATIENCE_S / 2)
    assert not b.all_of(FollowSource)
    cluster.pass_time(PATIENCE_S)
    assert b.all_of(FollowSource)
    b.store(manifest, 1)
    b.say(Settled(manifest.key, None))
    assert not source.last(Outcome).failed


def test_slow_links_are_given_the_time_that_they_need() -> None:
    cluster = FakeCluster(port_rate_bytes_per_s=20_000.0)
    source, a, b = cluster.joined("a", "b")
    propose(source)
    predicted_s = cluster.state("t")["predicted_s"]
    assert isinstance(predicted_s, float)
    assert predicted_s > 2 * PATIENCE_S
    cluster.pass_time(1.5 * predicted_s)
    assert not a.sources | b.sources
    cluster.pass_time(predicted_s)
    assert a.sources
    assert b.sources


def test_small_broadcasts_are_predicted_and_their_errors_stand_apart() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    assert "predicted" in source.last(Planned).reason
    cluster.now += 0.5
    a.finish(manifest)
    b.finish(manifest)
    told = cluster.state("t")
    predicted_s = told["predicted_s"]
    assert isinstance(predicted_s, float)
    assert told["prediction_error"] == pytest.approx(predicted_s / 0.5 - 1)
    links = cluster.core.measured.described()
    assert (links["predictions"], links["small_predictions"]) == (0, 1)


def test_what_was_planned_after_all_teaches_nothing_of_small_objects() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.say(PushTrouble(manifest.key, BlockIndex(0), "to b:1: refused"))
    cluster.now += 5
    a.finish(manifest)
    b.finish(manifest)
    assert cluster.core.measured.described()["small_predictions"] == 0


def test_a_push_that_fails_is_planned_around_at_once() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.say(PushTrouble(manifest.key, BlockIndex(0), "to b:1: refused"))
    assert a.sources
    assert b.sources
    a.finish(manifest)
    b.finish(manifest)
    assert not source.last(Outcome).failed


def test_word_of_a_failed_push_changes_nothing_once_all_is_done() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = propose(source)
    a.finish(manifest)
    source.say(PushTrouble(manifest.key, BlockIndex(0), "late news"))
    assert cluster.state("t")["state"] == "done"
    assert not a.sources


def test_a_receiver_that_dies_is_named_and_the_others_are_planned_for() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.hang_up()
    assert b.sources == {"src"}
    b.finish(manifest)
    assert source.last(Outcome).failed == {"a": "lost: connection closed"}


def test_a_source_that_dies_fails_it_where_nobody_else_holds_all() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.store(manifest, 0)
    source.hang_up()
    assert cluster.state("t")["state"] == "failed"
    assert a.all_of(LetGo)
    assert b.all_of(LetGo)


def test_a_source_may_die_once_the_halves_are_out() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.store(manifest, 0)
    b.store(manifest, 1)
    source.hang_up()
    assert a.sources - {"src"} == {"b"}
    assert b.sources - {"src"} == {"a"}


def test_a_receiver_that_cannot_take_it_fails_by_name() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.say(Settled(manifest.key, "no room"))
    b.finish(manifest)
    assert source.last(Outcome).failed == {"a": "no room"}


@pytest.mark.parametrize("kind", ["fetch", "map", "push"])
@pytest.mark.parametrize("about", ["a part of it", "what was cancelled"])
def test_word_of_what_does_not_go_on_makes_no_plan(kind: str, about: str) -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    key = propose(source).key
    if about == "a part of it":
        key = ObjectKey(key.transfer, PartName("x"))
    else:
        source.say(CancelTransfer(key.transfer))
    match kind:
        case "fetch":
            a.say(FetchTrouble(key, NodeName("src"), (), FetchFailure.REFUSED))
        case "map":
            a.say(MapFailed(key, "no such store"))
        case _:
            a.say(PushTrouble(key, BlockIndex(0), "to b:1: refused"))
    assert not has_plan(cluster)
    assert not a.sources | b.sources
    assert len(a.all_of(Begin)) == 1


def test_it_can_be_cancelled() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    propose(source)
    source.say(CancelTransfer(TransferName("t")))
    assert a.all_of(LetGo)
    assert cluster.state("t")["state"] == "cancelled"


# -- later -----------------------------------------------------------------------------------------


def test_late_joiners_are_served_by_those_who_hold_it() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = propose(source)
    a.finish(manifest)
    late = cluster.join("late")
    assert late.sources <= {"src", "a"}
    assert late.sources
    late.finish(manifest)
    assert late.all_of(Outcome)


def test_who_comes_when_all_are_through_costs_no_plan_unless_that_fails() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = propose(source)
    a.finish(manifest)
    late = cluster.join("late")
    assert late.sources == {"src"}
    late.finish(manifest)
    assert late.all_of(Outcome)
    later = cluster.join("later")
    assert later.sources
    assert not has_plan(cluster)
    later.say(FetchTrouble(manifest.key, NodeName("src"), (BlockIndex(0),), FetchFailure.UNREACHABLE))
    assert has_plan(cluster)
    later.finish(manifest)
    assert later.all_of(Outcome)


def test_a_receiver_started_anew_after_the_end_costs_no_plan() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.finish(manifest)
    b.finish(manifest)
    a.hang_up()
    a = cluster.join("a", incarnation="second")
    assert a.sources == {"src"}
    assert not has_plan(cluster)
    a.finish(manifest)
    assert a.all_of(Outcome)


def test_a_receiver_started_anew_is_served_once_a_holder_is_back() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = propose(source)
    a.finish(manifest)
    a.hang_up()
    a = cluster.join("a", incarnation="second")
    source.hang_up()
    a.told.clear()
    held = Holding(manifest, BlockSet.full(manifest.layout.count))
    cluster.join("src", receives=False, inventory=(held,))
    cluster.pass_time(0.5)
    assert a.sources == {"src"}


def test_late_joiners_that_go_leave_nothing_behind_and_receivers_stay_through() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.finish(manifest)
    b.finish(manifest)
    for number in range(3):
        late = cluster.join(f"late{number}")
        late.finish(manifest)
        late.hang_up()
    a.hang_up()
    assert not has_plan(cluster)
    account = controller_of(cluster)._account
    assert not account.uncounted
    assert account.settled.keys() == {"a", "b"}
    assert cluster.state("t")["progress"] == 1.0


def test_who_comes_late_does_not_put_off_the_end_of_what_is_not_saved() -> None:
    cluster = FakeCluster()
    source, a, other = *cluster.joined("a"), cluster.join("other", receives=False)
    manifest = propose(source, to=("a",), timeout_s=4.0)
    a.store(manifest, 0, 1)
    cluster.pass_time(0.8 * PATIENCE_S)
    other.say(Want(TransferName("t")))
    assert other.sources == {"src"}
    cluster.pass_time(0.8 * PATIENCE_S)
    assert not has_plan(cluster), "patience with who came late begins when it comes"
    cluster.pass_time(4.2 - 1.6 * PATIENCE_S)
    assert source.last(Outcome).failed == {"a": "stood still for 4 s"}


def test_who_comes_late_and_gets_nothing_is_planned_for() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    a.finish(propose(source))
    cluster.pass_time(5.0)
    cluster.join("late")
    cluster.pass_time(PATIENCE_S / 2)
    assert not has_plan(cluster)
    cluster.pass_time(PATIENCE_S)
    assert has_plan(cluster)


def test_one_is_given_time_while_others_of_its_source_get_on() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = propose(source)
    for number in range(8):
        other = propose(source, transfer=f"other{number}")
        cluster.pass_time(0.8 * PATIENCE_S)
        a.finish(other)
        assert not has_plan(cluster)
    cluster.pass_time(1.1 * PATIENCE_S)
    assert has_plan(cluster)
    a.finish(manifest)
    assert not source.last(Outcome).failed


def test_however_the_others_get_on_patience_ends() -> None:
    cluster = FakeCluster()
    source, a, _ = cluster.joined("a", "b")
    a.finish(propose(source))
    others_get_on(cluster, source, 0.9 * MOST_PATIENCE_S)
    assert not has_plan(cluster)
    others_get_on(cluster, source, 0.2 * MOST_PATIENCE_S)
    assert has_plan(cluster)


def test_patience_leaves_half_of_the_timeout_to_the_plan() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    timeout_s = 5.0
    manifest = propose(source, timeout_s=timeout_s)
    a.finish(manifest)
    others_get_on(cluster, source, 0.8 * PATIENCE_SHARE * timeout_s)
    assert not has_plan(cluster)
    others_get_on(cluster, source, 0.4 * PATIENCE_SHARE * timeout_s)
    assert has_plan(cluster)
    b.finish(manifest)
    assert cluster.state("t")["failed"] == {}


def test_silence_of_one_that_passes_it_on_ends_the_wait_while_others_get_on() -> None:
    cluster = FakeCluster()
    source, *agents = cluster.joined(*(f"n{at}" for at in range(16)))
    frozen, *below = agents[0], agents[2], agents[3]
    manifest = propose(source, timeout_s=5.0)
    for agent in agents:
        agent.store(manifest, 1)
        if agent is not frozen and agent not in below:
            agent.finish(manifest)
    others_get_on(cluster, source, 2.0, frozen)
    for agent in below:
        followed = [order.source for order in agent.all_of(FollowSource)]
        assert followed, "it lacks a block"
        assert followed[-1] not in {None, frozen.name}
        agent.finish(manifest)
    others_get_on(cluster, source, 5.0, frozen)
    assert cluster.state("t")["failed"] == {frozen.name: "stood still for 5 s"}


def test_silence_of_one_that_has_no_part_in_it_costs_no_plan() -> None:
    cluster = FakeCluster()
    source, a, stranger = *cluster.joined("a"), cluster.join("stranger", receives=False)
    propose(source, to=("a",))
    propose(source, to=("stranger",), transfer="for the stranger")
    others_get_on(cluster, source, 2.0, stranger)
    assert cluster.core.status()["nodes"]["stranger"]["state"] == "suspected"  # type: ignore[index]
    assert not has_plan(cluster)
    assert not a.sources


def test_where_one_is_silent_from_the_start_nobody_is_to_wait_for_what_it_passes_on() -> None:
    cluster = FakeCluster()
    source, *agents = cluster.joined(*(f"n{at}" for at in range(6)))
    propose(source, transfer="before")
    cluster.pass_time(2.0, silent=[agents[0]])
    pushes = len(source.all_of(PushBlock))
    manifest = propose(source)
    assert len(source.all_of(PushBlock)) == pushes
    for agent in agents[1:]:
        assert "t" in agent.begun
        orders = [order for order in agent.all_of(FollowSource) if order.key == manifest.key]
        assert orders
        assert orders[-1].source not in {None, agents[0].name}
    few = propose(source, 40, content=bytes(40), transfer="few")
    assert agents[-1].last(Deliver).manifest == few, "what comes inside messages is passed on by nobody"


def test_a_plan_hears_that_the_source_is_silent() -> None:
    cluster = FakeCluster()
    source, a, _ = cluster.joined("a", "b")
    a.finish(propose(source))
    cluster.pass_time(0.8, silent=[source])
    a.say(Settled(manifest_of("t", LARGE, LARGE // 2).key, None))  # patience begins anew
    assert not has_plan(cluster)
    cluster.pass_time(0.5, silent=[source])
    delivery = controller_of(cluster)._delivery
    assert delivery is not None
    assert delivery.planning._planner is not None
    assert delivery.planning._planner.members[source.name].suspected


def test_a_holder_that_goes_after_the_end_is_not_asked() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.finish(manifest)
    b.finish(manifest)
    a.hang_up()
    source.hang_up()
    assert cluster.state("t")["state"] == "done"
    late = cluster.join("late")
    assert late.sources == {"b"}


def test_who_has_asked_for_it_before_is_sent_it_with_the_others() -> None:
    cluster = FakeCluster()
    source, a, other = *cluster.joined("a"), cluster.join("other", receives=False)
    other.say(Want(TransferName("t")))
    manifest = propose(source, to=("a",))
    assert {address for order in source.all_of(PushBlock) for address in order.route} == {"a:1", "other:1"}
    a.finish(manifest)
    assert source.last(Outcome).node_completion_s.keys() == {"a"}, "it is not counted"
    other.say(BlocksHeld(manifest.key, (Stored(BlockIndex(0), NodeName("src"), 0.0),)))
    other.store(manifest, 1)
    assert not other.sources


def test_who_is_silent_when_the_plan_is_made_is_nobodys_source() -> None:
    cluster = FakeCluster()
    source, *agents = cluster.joined(*(f"n{at}" for at in range(6)))
    manifest = propose(source)
    cluster.pass_time(0.5, silent=[agents[0]])
    for agent in agents[1:]:
        agent.store(manifest, 0)  # patience begins anew, so that silence is noticed first
    cluster.pass_time(3.0, silent=[agents[0]])
    for agent in agents[1:]:
        followed = [order.source for order in agent.all_of(FollowSource)]
        assert followed, "it lacks a block"
        assert followed[-1] != agents[0].name


@pytest.mark.parametrize("trouble", ["silence", "push", "loss"])
def test_who_is_not_counted_is_planned_for_as_well(trouble: str) -> None:
    cluster = FakeCluster()
    source, a, other = *cluster.joined("a"), cluster.join("other", receives=False)
    other.say(Want(TransferName("t")))
    manifest = propose(source, to=("a",))
    a.finish(manifest)
    assert cluster.state("t")["state"] == "done"
    assert not other.sources
    match trouble:
        case "silence":
            cluster.pass_time(2 * PATIENCE_S)
        case "push":
            a.say(PushTrouble(manifest.key, BlockIndex(0), "to other:1: refused"))
        case _:
            a.hang_up()
    assert other.sources
    other.finish(manifest)
    assert other.all_of(Outcome)


def test_an_owner_that_goes_after_the_end_costs_no_plan() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = propose(source)
    a.finish(manifest)
    b.finish(manifest)
    source.hang_up()
    assert not a.sources | b.sources
    late = cluster.join("late")
    assert late.sources
    assert late.sources <= {"a", "b"}
    late.finish(manifest)
    again = cluster.join("again")
    assert again.sources <= {"a", "b", "late"}


def test_the_last_holder_that_goes_leaves_late_joiners_waiting_for_its_return() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = propose(source)
    a.finish(manifest)
    source.hang_up()
    a.hang_up()
    late = cluster.join("late")
    assert not late.sources
    held = Holding(manifest, BlockSet.full(manifest.layout.count))
    cluster.join("a", incarnation="second", inventory=(held,))
    cluster.pass_time(0.5)
    assert late.sources == {"a"}


def test_times_that_cannot_be_end_nothing() -> None:
    cluster = FakeCluster()
    cluster.now = 1e6
    source, a = cluster.joined("a")
    manifest = source.broadcast("t", ["a"])
    times = (1e-12, float("inf"), -1.0, 1e-300)
    records = tuple(Stored(BlockIndex(at), NodeName("src"), seconds) for at, seconds in enumerate(times))
    a.say(BlocksHeld(manifest.key, records), Settled(manifest.key, None))
    assert cluster.state("t")["state"] == "done"
