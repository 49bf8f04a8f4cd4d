"""Broadcasts as the controller sees them, from proposal to release."""

import gc
import sys

import pytest

from orchestra.controller.proposal import OFFER_LIMIT_S
from orchestra.controller.table import MAX_REMEMBERED
from orchestra.messages import (
    Begin,
    BlocksHeld,
    Budget,
    CancelTransfer,
    Denied,
    FetchBlocks,
    FetchTrouble,
    FollowSource,
    Granted,
    Holding,
    LetGo,
    MapFailed,
    MapObject,
    Offer,
    Outcome,
    PauseTransfer,
    Planned,
    Progress,
    Propose,
    Release,
    Settled,
    Want,
)
from tests.orchestra.controller.clusters import FakeCluster, manifest_of
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.planners import Mechanism
from transfers.planners.events import FetchFailure, Stored

T = TransferName("t")
KEY = ObjectKey(T)


# -- proposing -------------------------------------------------------------------------------------


def test_a_broadcast_is_planned_offered_and_done() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    source.propose("t")
    planned = source.last(Planned)
    assert planned.block_size_bytes == 10
    assert planned.reason
    assert not a.begun, "nothing moves before the object is there"
    manifest = source.offer("t")
    assert source.last(Granted).request == 2
    assert a.begun == b.begun == {"t"}
    assert a.sources | b.sources
    cluster.now += 1.0
    a.finish(manifest)
    assert not source.all_of(Outcome)
    cluster.now += 1.0
    b.store(manifest, 0, 1, 2, 3)
    cluster.now += 1.0
    b.say(Settled(KEY, None))  # its file is in place later: the last byte counts
    outcome = source.last(Outcome)
    assert outcome.failed == {}
    assert outcome.reason == ""
    assert dict(outcome.node_completion_s) == {"a": pytest.approx(1.0), "b": pytest.approx(2.0)}
    assert outcome.completion_s == pytest.approx(2.0)
    assert a.last(Outcome) == b.last(Outcome) == outcome
    assert cluster.state("t")["state"] == "done"


def test_progress_is_told_to_the_owner() -> None:
    cluster = FakeCluster()
    source, a, _ = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.store(manifest, 0, 1)
    cluster.pass_time(0.5)
    assert source.last(Progress) == Progress(T, 20, 80, 0, 2)
    assert not a.all_of(Progress)
    assert cluster.state("t")["progress"] == 0.25


@pytest.mark.parametrize("mechanism", list(Mechanism))
def test_the_wished_mechanism_is_taken(mechanism: Mechanism) -> None:
    cluster = FakeCluster()
    source, *_ = cluster.joined("a", "b", "c")
    source.broadcast("t", mechanism=mechanism)
    assert source.last(Planned).mechanism is mechanism
    assert cluster.state("t")["mechanism"] == mechanism.value


@pytest.mark.parametrize(
    ("propose", "named"),
    [
        (Propose(1, T, -1, None, 1, 60.0, None, None), "size_bytes"),
        (Propose(1, T, 1, None, 1, 0.0, None, None), "timeout_s"),
        (Propose(1, T, 1, None, 1, float("inf"), None, None), "timeout_s"),
        (Propose(1, T, 1, None, 1, 60.0, None, 0), "block_size"),
        (Propose(1, T, 1, None, 1, 60.0, None, -5), "block_size"),
        (Propose(1, T, 1, (NodeName("src"),), 1, 60.0, None, None), "src"),
        (Propose(1, T, 1, (), 1, 60.0, None, None), "no receiver"),
        (Propose(1, TransferName("../t"), 1, None, 1, 60.0, None, None), "'..'"),
        (Propose(1, TransferName("/t"), 1, None, 1, 60.0, None, None), "relative"),
        (Propose(1, TransferName("t\0"), 1, None, 1, 60.0, None, None), "control"),
        (Propose(1, TransferName(""), 1, None, 1, 60.0, None, None), "name"),
    ],
)
def test_bad_proposals_are_denied_by_name_and_leave_nothing(propose: Propose, named: str) -> None:
    cluster = FakeCluster()
    source, _ = cluster.joined("a")
    source.say(propose)
    assert named in source.last(Denied).reason
    assert cluster.core.status()["transfers"] == {}
    source.broadcast("t")


def test_a_name_is_used_once_until_it_is_released() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    other = cluster.join("other", receives=False)
    for _ in range(2):
        manifest = source.broadcast("t", ["a", "b"])
        other.propose("t")
        assert "exists (active)" in other.last(Denied).reason
        a.finish(manifest)
        b.finish(manifest)
        other.propose("t")
        assert "exists (done)" in other.last(Denied).reason
        a.say(Release(5, T))
        assert a.last(Granted).request == 5
        for each in (source, a, b):
            assert each.last(LetGo).transfer == "t"


def test_without_agents_it_is_denied_at_once() -> None:
    cluster = FakeCluster()
    (source,) = cluster.joined()
    source.propose("t", timeout_s=3.0, wait_for=0)
    assert "no receiver" in source.last(Denied).reason


def test_asked_to_wait_for_an_agent_it_waits_until_its_timeout() -> None:
    cluster = FakeCluster()
    (source,) = cluster.joined()
    source.propose("t", timeout_s=3.0, wait_for=1)
    cluster.pass_time(2.5)
    assert not source.all_of(Denied)
    cluster.pass_time(1.0)
    assert "0 of 1 agents joined within 3 s" in source.last(Denied).reason


def test_what_is_planned_and_never_offered_ends() -> None:
    cluster = FakeCluster()
    source, _ = cluster.joined("a")
    source.propose("t", ["a"])
    cluster.pass_time(OFFER_LIMIT_S - 1.0, step_s=1.0)
    assert not source.all_of(Outcome)
    cluster.pass_time(2.0)
    assert "not offered" in source.last(Outcome).reason


def test_it_waits_for_as_many_agents_as_were_asked_for() -> None:
    cluster = FakeCluster()
    source, _ = cluster.joined("a")
    source.propose("t", wait_for=2)
    assert not source.all_of(Planned)
    cluster.join("b")
    assert source.all_of(Planned)
    source.propose("u", wait_for=5, timeout_s=1.0)
    cluster.pass_time(1.5)
    assert "2 of 5 agents" in source.last(Denied).reason


def test_an_unknown_receiver_is_waited_for_and_then_named() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    source.propose("t", ["a", "nobody"], timeout_s=3.0)
    cluster.pass_time(2.0)
    assert not source.all_of(Planned)
    cluster.pass_time(1.5)
    assert source.all_of(Planned)
    a.finish(source.offer("t"))
    outcome = source.last(Outcome)
    assert set(outcome.failed) == {"nobody"}
    assert "not joined within 3 s" in outcome.failed["nobody"]
    assert not b.begun
    assert cluster.state("t")["state"] == "partial"


def test_a_receiver_that_joins_in_time_is_taken_in() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    source.propose("t", ["a", "b"])
    b = cluster.join("b")
    assert source.all_of(Planned)
    manifest = source.offer("t")
    a.finish(manifest)
    b.finish(manifest)
    assert source.last(Outcome).failed == {}


def test_an_empty_object_is_done_when_all_have_said_so() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    source.propose("t", size=0)
    manifest = source.offer("t", size=0)
    a.say(Settled(manifest.key, None))
    assert source.last(Outcome).failed == {}
    assert cluster.state("t")["progress"] == 1.0


def test_an_offer_must_be_what_was_proposed() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    source.offer("t")
    assert "no broadcast 't'" in source.last(Denied).reason
    source.propose("t")
    a.say(Offer(9, manifest_of("t")))
    assert "no broadcast 't' of a" in a.last(Denied).reason
    source.offer("t", size=39)
    assert "not what was proposed" in source.last(Denied).reason
    source.say(Offer(9, manifest_of("t", part="x")))
    assert "not what was proposed" in source.last(Denied).reason
    source.offer("t")
    source.offer("t")
    assert "offered already" in source.last(Denied).reason


# -- losses ----------------------------------------------------------------------------------------


def test_a_source_lost_before_its_offer_fails_the_broadcast_and_frees_the_name() -> None:
    cluster = FakeCluster()
    source, *_ = cluster.joined("a", "b")
    source.propose("t")
    source.hang_up()
    assert cluster.state("t")["state"] == "failed"
    cluster.pass_time(0.2)
    cluster.join("src", incarnation="second", receives=False).broadcast("t")


def test_a_source_lost_before_all_blocks_are_out_fails_at_once_and_says_which() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.store(manifest, 0)
    b.store(manifest, 1)
    source.hang_up()
    outcome = a.last(Outcome)
    assert "2 of 4 blocks" in outcome.reason
    assert "src" in outcome.reason
    assert "2-3" in outcome.reason
    assert set(outcome.failed) == {"a", "b"}
    assert a.last(LetGo).transfer == b.last(LetGo).transfer == "t"


def test_a_source_lost_after_all_blocks_are_out_is_not_missed() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.store(manifest, 0, 1)
    b.store(manifest, 2, 3)
    source.hang_up()
    cluster.pass_time(1.0)
    assert "b" in a.sources
    assert "a" in b.sources
    a.store(manifest, 2, 3, source="b")
    a.say(Settled(KEY, None))
    b.store(manifest, 0, 1, source="a")
    b.say(Settled(KEY, None))
    assert a.last(Outcome).failed == {}
    assert cluster.state("t")["state"] == "done"


def test_a_source_that_comes_back_hears_what_it_missed() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.finish(manifest)
    source.hang_up()
    b.finish(manifest)
    held = Holding(manifest, BlockSet.full(4))
    assert cluster.join("src", receives=False, inventory=(held,)).last(Outcome).failed == {}
    cluster.pass_time(0.2)


def test_a_lost_receiver_is_named_with_the_reason_and_the_others_finish() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.store(manifest, 0, 1, 2, 3)
    a.hang_up("connection reset")  # all bytes, but it has not said that it is through
    b.finish(manifest)
    outcome = source.last(Outcome)
    assert outcome.failed == {"a": "lost: connection reset"}
    assert set(outcome.node_completion_s) == {"b"}


def test_a_receiver_that_comes_back_in_time_has_not_failed() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.store(manifest, 0, 1)
    a.hang_up()
    back = cluster.join("a", inventory=(Holding(manifest, BlockSet(4, [0, 1])),))
    assert not back.begun, "it has made room already"
    assert back.sources
    b.finish(manifest)
    assert not source.all_of(Outcome)
    back.store(manifest, 2, 3)
    back.say(Settled(KEY, None))
    assert source.last(Outcome).failed == {}


def test_another_process_under_a_lost_name_begins_anew() -> None:
    cluster = FakeCluster()
    source, a, _ = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.finish(manifest)
    a.hang_up()
    back = cluster.join("a", incarnation="second")
    assert back.begun == {"t"}
    back.finish(manifest)


@pytest.mark.parametrize("again", [True, False])
def test_a_node_started_anew_may_want_what_its_forerunner_had(again: bool) -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = source.broadcast("t", ["a"])
    if again:
        a.finish(manifest)
    a.hang_up()
    cluster.pass_time(0.2)
    back = cluster.join("a", incarnation="second")
    back.say(Want(T))
    assert back.begun == {"t"}
    back.finish(manifest)


def test_when_every_receiver_is_lost_it_ends_and_nothing_has_arrived() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    source.broadcast("t")
    a.hang_up()
    b.leave()
    assert set(source.last(Outcome).failed) == {"a", "b"}
    assert cluster.state("t")["state"] == "partial"
    assert cluster.state("t")["progress"] == 0.0


def test_what_was_done_waits_for_a_holder_to_come_back() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = source.broadcast("t")
    a.finish(manifest)
    source.leave()
    a.hang_up()
    late = cluster.join("late")
    assert not late.all_of(FetchBlocks)
    assert cluster.state("t")["state"] == "done"
    held = Holding(manifest, BlockSet.full(manifest.layout.count))
    cluster.join("a", incarnation="first a", inventory=(held,))
    cluster.pass_time(0.1)
    assert late.sources == {"a"}
    late.finish(manifest)


def test_a_proposal_that_is_released_while_it_waits_is_answered() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    source.propose("t", wait_for=5)
    a.say(Release(9, T))
    assert "released by a" in source.last(Denied).reason


def test_who_stood_still_is_the_controller_if_it_did_not_tick() -> None:
    cluster = FakeCluster(heartbeat_timeout_s=5.0)
    _, a = cluster.joined("a")
    cluster.pass_time(1.0)
    cluster.pass_time(60.0, silent=list(cluster.sessions.values()), step_s=60.0)
    assert not a.closed
    cluster.pass_time(6.0, silent=[a])
    assert a.closed


@pytest.mark.parametrize("reason", ["the store is full: 1 of 2 bytes", "cannot be saved: disk full"])
def test_a_node_that_cannot_take_the_object_fails_by_name(reason: str) -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    if "saved" in reason:
        a.store(manifest, 0, 1, 2, 3)
    a.say(Settled(KEY, reason))
    b.finish(manifest)
    outcome = source.last(Outcome)
    assert outcome.failed == {"a": reason}
    assert set(outcome.node_completion_s) == {"b"}


def test_what_stands_still_fails_after_its_timeout_by_name() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t", timeout_s=5.0)
    a.finish(manifest)
    cluster.pass_time(4.0)
    b.store(manifest, 0)
    cluster.pass_time(4.5)
    assert not source.all_of(Outcome)
    cluster.pass_time(1.0)
    assert source.last(Outcome).failed == {"b": "stood still for 5 s"}
    assert b.last(LetGo).transfer == "t"


def test_a_node_whose_fetches_all_fail_is_given_up_and_the_others_go_on() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    for _ in range(200):
        for target in list(a.sources):
            a.say(FetchTrouble(KEY, NodeName(target), (BlockIndex(0),), FetchFailure.UNREACHABLE))
        cluster.pass_time(0.3)
        if a.all_of(LetGo):
            break
    assert a.all_of(LetGo)
    b.finish(manifest)
    assert set(source.last(Outcome).failed) == {"a"}


# -- ending on purpose -----------------------------------------------------------------------------


def test_only_the_owner_cancels() -> None:
    cluster = FakeCluster()
    source, a, _ = cluster.joined("a", "b")
    source.broadcast("t")
    a.say(CancelTransfer(T))
    assert not a.all_of(LetGo)
    source.say(CancelTransfer(T))
    for agent in (source, a):
        assert agent.last(Outcome).reason == "cancelled by src"
        assert agent.last(LetGo).transfer == "t"
    assert cluster.state("t")["state"] == "cancelled"
    cluster.pass_time(0.2)
    source.broadcast("t")


def test_a_proposal_that_waits_can_be_cancelled() -> None:
    cluster = FakeCluster()
    (source,) = cluster.joined()
    source.propose("t")
    source.say(CancelTransfer(T))
    cluster.join("a")
    cluster.pass_time(0.5)
    assert not source.all_of(Planned)
    source.leave()
    assert cluster.state("t")["state"] == "cancelled"


def test_release_in_flight_ends_it_for_all() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    a.store(manifest, 0)
    b.say(Release(3, T))
    for agent in (source, a, b):
        assert agent.last(Outcome).reason == "released by b"
        assert agent.last(LetGo).transfer == "t"
    b.say(Release(4, TransferName("nothing")))
    assert "no transfer 'nothing'" in b.last(Denied).reason


def test_reports_that_cross_the_end_bring_nothing_back() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    source.say(CancelTransfer(T))
    for agent in (source, a, b):
        agent.told.clear()
    late = cluster.join("late")
    a.store(manifest, 0)
    a.say(MapFailed(KEY, "late"), FetchTrouble(KEY, NodeName("src"), (), FetchFailure.REFUSED))
    a.say(Settled(KEY, None))
    b.hang_up()
    for agent in (source, a, b, late):
        assert not agent.all_of(Begin)
        assert not agent.all_of(FollowSource)
    assert cluster.state("t")["state"] == "cancelled"
    assert cluster.state("t")["failed"] == {"a": "cancelled by src", "b": "cancelled by src"}


# -- late joiners and wants ------------------------------------------------------------------------


def test_a_pause_ends_with_what_is_paused_so_that_late_joiners_are_served() -> None:
    """All of it may be there already when somebody says pause, and nobody can say resume after its end."""
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t")
    b.say(PauseTransfer(9, T, True))
    cluster.pass_time(0.5)
    assert b.last(Budget).egress_bytes_per_s == 0
    assert cluster.state("t")["state"] == "paused"
    a.finish(manifest)
    b.finish(manifest)
    assert cluster.state("t")["state"] == "done"
    late = cluster.join("late")
    cluster.pass_time(0.5)
    assert late.sources
    assert all(budget.egress_bytes_per_s != 0 for budget in late.all_of(Budget))


def test_a_late_joiner_fetches_and_is_not_counted() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = source.broadcast("t")
    late = cluster.join("late")
    assert late.begun == {"t"}
    a.finish(manifest)
    outcome = source.last(Outcome)
    assert set(outcome.node_completion_s) == {"a"}
    later = cluster.join("later")
    assert later.begun == {"t"}
    later.finish(manifest)
    assert later.all_of(Outcome), "it need not speak often any more"
    late.hang_up()
    assert source.last(Outcome) == outcome
    assert cluster.state("t") == cluster.state("t") | {"state": "done", "failed": {}}


def test_a_command_that_joins_late_receives_only_what_it_wants() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    a.finish(source.broadcast("t"))
    command = cluster.join("command", receives=False)
    assert not command.begun
    command.say(Want(T))
    assert command.begun == {"t"}
    command.say(Want(T))
    assert len(command.all_of(Begin)) == 1


def test_an_agent_not_named_receives_only_what_it_wants() -> None:
    cluster = FakeCluster()
    source, _, b = cluster.joined("a", "b")
    source.broadcast("t", ["a"])
    late = cluster.join("late")
    assert not b.begun
    assert not late.begun
    b.say(Want(T))
    assert b.begun == {"t"}


def test_a_want_may_come_before_its_transfer() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    b.say(Want(T))
    source.propose("t", ["a"])
    late = cluster.join("late", receives=False)
    late.say(Want(T))
    source.offer("t")
    assert b.begun == late.begun == {"t"}
    a.finish(manifest_of("t"))
    assert set(source.last(Outcome).node_completion_s) == {"a"}


def test_a_want_survives_a_proposal_that_comes_to_nothing() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    b.say(Want(T))
    source.propose("t", ["a"], block_size=-1)
    assert source.all_of(Denied)
    source.propose("t", ["a"])
    source.say(CancelTransfer(T))
    cluster.pass_time(0.2)
    source.broadcast("t", ["a"])
    assert b.begun == {"t"}
    assert a.begun == {"t"}


def test_wants_of_those_who_have_gone_are_forgotten() -> None:
    cluster = FakeCluster()
    (source,) = cluster.joined()
    for number in range(50):
        agent = cluster.join(f"n{number}")
        agent.say(Want(TransferName(f"t{number}")))
        agent.hang_up()
    assert cluster.core.table._wanted == {}
    source.say(Want(T))
    assert len(cluster.core.table._wanted) == 1


# -- sharing a host --------------------------------------------------------------------------------


def test_the_reason_says_who_maps_instead_of_receiving() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False, shares=True)
    cluster.join("a", shares=True)
    source.propose("t")
    assert source.last(Planned).reason.startswith("nothing to move: all receivers (1) map the copy")
    cluster.join("b", shares=True, host="elsewhere")
    cluster.join("c", shares=True, host="elsewhere")
    source.propose("u")
    assert "to 1 receiver " in source.last(Planned).reason
    assert source.last(Planned).reason.endswith("; 2 more map a copy on their host")


def test_nodes_of_the_sources_host_map_its_store() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False, shares=True)
    a = cluster.join("a", shares=True)
    b = cluster.join("b", shares=True, host="elsewhere")
    manifest = source.broadcast("t")
    assert a.last(MapObject) == MapObject(manifest, NodeName("src"), "store of src")
    assert not a.begun
    assert b.begun == {"t"}
    a.say(Settled(KEY, None))
    b.finish(manifest)
    assert source.last(Outcome).failed == {}


def test_the_first_of_another_host_receives_and_the_others_map_its_copy() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False)
    a, b, c = [cluster.join(name, shares=True, host="other") for name in "abc"]
    manifest = source.broadcast("t")
    assert a.begun == {"t"}
    assert not b.begun
    assert not b.all_of(MapObject)
    a.finish(manifest)
    assert b.last(MapObject).store_address == c.last(MapObject).store_address == "store of a"
    b.say(Settled(KEY, None))
    c.say(MapFailed(KEY, "no such store"))
    assert c.begun == {"t"}
    c.finish(manifest)
    assert source.last(Outcome).failed == {}


@pytest.mark.parametrize("how", ["lost", "full"])
def test_when_the_first_of_a_host_fails_the_next_receives(how: str) -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False)
    a, b, c = [cluster.join(name, shares=True, host="other") for name in "abc"]
    manifest = source.broadcast("t")
    a.store(manifest, 0)
    if how == "lost":
        a.hang_up()
    else:
        a.say(Settled(KEY, "store full"))
    assert b.begun == {"t"}
    assert not c.begun
    b.finish(manifest)
    assert c.last(MapObject).holder == "b"
    c.say(Settled(KEY, None))
    assert set(source.last(Outcome).failed) == {"a"}


def test_a_copy_that_could_not_be_saved_can_be_mapped_by_others() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False)
    a, b = [cluster.join(name, shares=True, host="other") for name in "ab"]
    manifest = source.broadcast("t")
    a.store(manifest, 0, 1, 2, 3)
    a.say(Settled(KEY, "cannot be saved: disk full"))
    assert b.last(MapObject).holder == "a"
    b.say(Settled(KEY, None))
    assert set(source.last(Outcome).failed) == {"a"}


def test_a_source_whose_host_mates_have_not_mapped_yet_fails_them_when_lost() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False, shares=True)
    a = cluster.join("a", shares=True)
    source.broadcast("t")
    source.hang_up()
    outcome = a.last(Outcome)
    assert set(outcome.failed) == {"a"}
    assert "src" in outcome.reason


# -- a controller started anew ---------------------------------------------------------------------


def test_what_a_node_holds_whole_is_adopted_and_served() -> None:
    cluster = FakeCluster()
    manifest = manifest_of("t")
    held = Holding(manifest, BlockSet.full(4))
    source = cluster.join("src", receives=False, inventory=(held,))
    assert "started anew" in source.last(Outcome).reason, "whoever waits for its end is told"
    assert not source.all_of(LetGo)
    a = cluster.join("a", inventory=(held,))
    assert not a.all_of(LetGo)
    late = cluster.join("late")
    assert not late.begun
    late.say(Want(T))
    assert late.begun == {"t"}
    cluster.pass_time(0.1)
    assert late.sources
    late.finish(manifest)
    assert cluster.state("t")["state"] == "done"
    source.hang_up()
    later = cluster.join("later")
    later.say(Want(T))
    assert later.sources <= {"a", "late"}


def test_what_nobody_holds_whole_is_let_go() -> None:
    cluster = FakeCluster()
    half = Holding(manifest_of("t"), BlockSet(4, [1]))
    assert cluster.join("a", inventory=(half,)).last(LetGo).transfer == "t"
    part = Holding(manifest_of("s", part="m/r"), BlockSet.full(4))
    assert cluster.join("b", inventory=(part,)).last(LetGo).transfer == "s"
    assert cluster.core.status()["transfers"] == {}


def test_what_was_released_meanwhile_is_not_adopted() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    manifest = source.broadcast("t")
    a.finish(manifest)
    a.hang_up()
    source.say(Release(1, T))
    cluster.pass_time(0.2)
    back = cluster.join("a", inventory=(Holding(manifest, BlockSet.full(4)),))
    assert back.last(LetGo).transfer == "t"
    assert cluster.state("t")["state"] == "released"


def test_another_object_under_the_same_name_is_replaced() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    a.hang_up()
    cluster.join("b")
    source.broadcast("t", ["b"])
    other = Holding(manifest_of("t", size=50), BlockSet.full(5))
    back = cluster.join("a", inventory=(other,))
    assert not back.all_of(LetGo)
    back.say(Want(T))
    assert back.begun == {"t"}


# -- reports that make no sense --------------------------------------------------------------------


def test_reports_of_strangers_and_of_other_objects_are_passed_over() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    manifest = source.broadcast("t", ["a"])
    b.finish(manifest)
    assert not source.all_of(Outcome)
    a.store(manifest, 0, 4)
    a.store(manifest, -1)
    a.store(manifest_of("t", part="x"), 0)
    a.say(Settled(ObjectKey(T, manifest_of("t", part="x").key.part), None))
    a.say(BlocksHeld(ObjectKey(TransferName("u")), (Stored(BlockIndex(0), NodeName("src"), 0.0),)))
    assert cluster.state("t")["progress"] == 0.0
    a.finish(manifest)
    assert source.last(Outcome).failed == {}


# -- budgets, and memory ---------------------------------------------------------------------------


def test_budgets_are_told_where_ports_are_limited_and_follow_the_transfers() -> None:
    cluster = FakeCluster(port_rate_bytes_per_s=100.0)
    source, a, b = cluster.joined("a", "b")
    one = source.broadcast("one", ["a"])
    assert source.last(Budget).egress_bytes_per_s == 100.0
    assert a.last(Budget).ingress_bytes_per_s == 100.0
    assert not b.all_of(Budget)
    two = b.broadcast("two", ["a"])
    cluster.pass_time(0.1)
    assert {each.ingress_bytes_per_s for each in a.all_of(Budget)[-2:]} == {50.0}
    a.finish(one)
    cluster.pass_time(0.2)
    assert (a.last(Budget).transfer, a.last(Budget).ingress_bytes_per_s) == ("two", 100.0)
    a.finish(two)
    told = len(a.all_of(Budget))
    cluster.pass_time(1.0)
    assert len(a.all_of(Budget)) == told


def test_without_a_limit_no_budget_is_told() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    source.broadcast("t")
    assert not a.all_of(Budget)


def table_sizes(cluster: FakeCluster) -> dict[str, int]:
    """How long the core's tables are."""
    core = cluster.core
    return {
        "transfers": len(core.table),
        "proposals": len(core._requests._proposals),
        "wanted": len(core.table._wanted),
        "budgets": len(core.itc._told),
        "output": len(core._output),
    }


def test_a_thousand_released_transfers_leave_nothing_behind() -> None:
    cluster = FakeCluster(port_rate_bytes_per_s=100.0)
    source, a, b = cluster.joined("a", "b")

    def run(first: int, count: int) -> None:
        for number in range(first, first + count):
            manifest = source.broadcast(f"t{number}")
            a.finish(manifest)
            b.finish(manifest)
            b.say(Release(1, manifest.key.transfer))
            for agent in (source, a, b):
                agent.told.clear()
            if not number % 10:
                cluster.pass_time(0.1)
        cluster.pass_time(0.3)
        cluster.core.take_log()

    run(0, 300)
    gc.collect()
    before, allocated = table_sizes(cluster), sys.getallocatedblocks()
    run(300, 1000)
    gc.collect()
    assert table_sizes(cluster) == before
    assert before["transfers"] == before["proposals"] == before["wanted"] == before["budgets"] == 0
    assert sys.getallocatedblocks() - allocated < 2000
    transfers = cluster.core.status()["transfers"]
    assert isinstance(transfers, dict)
    assert len(transfers) == MAX_REMEMBERED


def test_whoever_follows_the_source_in_stripes_asks_in_step() -> None:
    cluster = FakeCluster()
    source, *agents = cluster.joined(*(f"a{number}" for number in range(6)))
    source.broadcast("t", size=400, mechanism=Mechanism.CORNET)
    cluster.pass_time(0.3)
    orders = [order for agent in agents for order in agent.all_of(FollowSource) if order.source is not None]
    assert {order.stripes for order in orders} == {2}
    assert {order.source == "src" for order in orders if order.in_step} == {True}
    assert {order.source == "src" for order in orders if not order.in_step} == {False}


def test_a_chain_takes_what_comes() -> None:
    cluster = FakeCluster()
    source, *agents = cluster.joined("a", "b")
    source.broadcast("t", size=400, mechanism=Mechanism.CHAIN)
    assert not any(order.in_step for agent in agents for order in agent.all_of(FollowSource))


def test_who_comes_late_does_not_put_off_the_end_of_what_stands_still() -> None:
    cluster = FakeCluster()
    source, _ = cluster.joined("a")
    other = cluster.join("other", receives=False)
    manifest = source.broadcast("t", to=["a"], timeout_s=2.0)
    cluster.pass_time(1.0)
    other.say(Want(TransferName("t")))
    for block in range(4):
        cluster.pass_time(0.2)
        other.store(manifest, block)
    other.say(Settled(manifest.key, None))
    cluster.pass_time(0.4)
    assert source.last(Outcome).failed == {"a": "stood still for 2 s"}


def test_what_gets_on_at_one_whose_copy_a_receiver_is_to_map_is_no_standing_still() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False)
    mate, a = cluster.join("mate", shares=True, host="other"), cluster.join("a")
    manifest = source.broadcast("t", timeout_s=2.0)
    mate.hang_up()
    first = cluster.join("first", shares=True, host="other")
    mate = cluster.join("mate", incarnation="second", shares=True, host="other")
    assert not mate.begun
    a.finish(manifest)
    for block in range(4):
        cluster.pass_time(0.8)
        first.store(manifest, block)
    first.say(Settled(manifest.key, None))
    assert mate.last(MapObject).holder == "first"
    mate.say(Settled(manifest.key, None))
    assert source.last(Outcome).failed == {}
