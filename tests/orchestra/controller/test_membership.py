"""Joining, falling silent, leaving."""

import json

import pytest

from orchestra.controller.core import ControllerConfig
from orchestra.controller.members import MAX_GONE, NodeState
from orchestra.messages import (
    AskStatus,
    Heartbeat,
    Join,
    Joined,
    NotJoined,
    Peer,
    Status,
)
from tests.orchestra.controller.clusters import FakeCluster
from transfers.ids import NodeName
from transfers.planners import Mechanism


def state_of(cluster: FakeCluster, name: str) -> NodeState:
    """Where a node stands."""
    node = cluster.core.members.get(NodeName(name))
    assert node is not None
    return node.state


def test_a_node_is_welcomed_and_told_how_often_to_speak() -> None:
    cluster = FakeCluster(heartbeat_timeout_s=10.0, allow_pickle=True)
    assert cluster.join("a").told == [Joined(2.0, 10.0, True)]


def test_a_name_is_taken_once() -> None:
    cluster = FakeCluster()
    first, second = cluster.join("a"), cluster.join("a", incarnation="another process")
    assert isinstance(second.told[0], NotJoined)
    assert "joined already" in second.told[0].reason
    assert second.closed
    assert not first.closed
    assert state_of(cluster, "a") is NodeState.JOINED


def test_a_name_is_free_again_when_its_node_has_gone() -> None:
    cluster = FakeCluster()
    cluster.join("a").hang_up()
    assert cluster.join("a", incarnation="another process").all_of(Joined)


def test_the_same_process_may_come_back_before_its_old_connection_is_missed() -> None:
    cluster = FakeCluster()
    old = cluster.join("a")
    new = cluster.join("a")
    assert old.closed
    assert new.all_of(Joined)
    assert cluster.core.members.speaking(new.session) is not None
    old.hang_up()  # the closing of the old one comes late, and says nothing of the new one
    assert state_of(cluster, "a") is NodeState.JOINED


@pytest.mark.parametrize("name", ["", "a,b", "a/b", "a b", "x" * 300, "\n"])
def test_names_that_are_none_are_refused(name: str) -> None:
    agent = FakeCluster().join(name)
    assert isinstance(agent.told[0], NotJoined)
    assert agent.closed


@pytest.mark.parametrize("address", ["", "a", "a:x", "a:70000", "::1:7", ":7"])
def test_data_addresses_that_are_none_are_refused(address: str) -> None:
    agent = FakeCluster().connect("a")
    agent.say(Join(NodeName("a"), "first", address, "host", "", True, False, ()))
    assert isinstance(agent.told[0], NotJoined)
    assert agent.closed


def test_whoever_has_not_joined_is_not_heard() -> None:
    cluster = FakeCluster()
    stranger = cluster.connect("a")
    stranger.say(AskStatus(1))
    assert isinstance(stranger.told[0], NotJoined)
    assert stranger.closed
    assert not stranger.all_of(Status)


def test_a_connection_joins_once() -> None:
    cluster = FakeCluster()
    agent = cluster.join("a")
    agent.say(Join(NodeName("b"), "i", "b:1", "host", "", True, False, ()))
    assert agent.closed
    assert cluster.core.members.get(NodeName("b")) is None
    assert state_of(cluster, "a") is NodeState.LOST
    again = cluster.join("c")
    again.say(Join(NodeName("c"), "first c", "c:1", "host", "", True, False, ()))
    assert again.closed
    assert state_of(cluster, "c") is NodeState.LOST


def test_a_silent_node_is_lost_after_the_timeout_and_not_before() -> None:
    cluster = FakeCluster(heartbeat_timeout_s=5.0)
    quiet, loud = cluster.join("quiet"), cluster.join("loud")
    cluster.pass_time(4.9, silent=[quiet])
    assert state_of(cluster, "quiet") is NodeState.JOINED
    cluster.pass_time(0.3, silent=[quiet])
    assert state_of(cluster, "quiet") is NodeState.LOST
    assert quiet.closed
    assert not loud.closed


def test_a_node_that_leaves_has_left() -> None:
    cluster = FakeCluster()
    cluster.join("a").leave()
    assert state_of(cluster, "a") is NodeState.LEFT


def test_only_those_who_take_part_in_a_transfer_are_suspected() -> None:
    cluster = FakeCluster()
    source, a, b = cluster.joined("a", "b")
    source.broadcast("t", ["a"])
    cluster.pass_time(0.9, silent=[a, b])
    assert state_of(cluster, "a") is NodeState.JOINED
    cluster.pass_time(0.5, silent=[a, b])
    assert state_of(cluster, "a") is NodeState.SUSPECTED
    assert state_of(cluster, "b") is NodeState.JOINED
    a.say(Heartbeat())
    assert state_of(cluster, "a") is NodeState.JOINED


def test_silence_from_before_a_transfer_is_no_reason_for_suspicion() -> None:
    # An idle node speaks every few seconds only.
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    cluster.pass_time(2.5, silent=[a])
    source.broadcast("t")
    cluster.pass_time(0.3, silent=[a])
    assert state_of(cluster, "a") is NodeState.JOINED
    assert state_of(cluster, "src") is NodeState.JOINED


def test_holders_that_serve_a_late_joiner_are_not_suspected() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    a.finish(source.broadcast("t"))
    cluster.pass_time(0.2)
    late = cluster.join("late")
    assert late.begun == {"t"}
    cluster.pass_time(2.5, silent=[source, a])
    assert state_of(cluster, "src") is NodeState.JOINED
    assert state_of(cluster, "a") is NodeState.JOINED


def test_a_waiter_is_hung_elsewhere_when_its_source_is_suspected() -> None:
    cluster = FakeCluster()
    source, a, _, c = cluster.joined("a", "b", "c")
    source.broadcast("t", mechanism=Mechanism.TREE)
    assert c.sources == {"a"}
    c.told.clear()
    cluster.pass_time(1.5, silent=[a])
    assert state_of(cluster, "a") is NodeState.SUSPECTED
    assert c.sources
    assert "a" not in c.sources


def test_an_address_is_told_before_it_is_needed_and_again_when_it_has_changed() -> None:
    cluster = FakeCluster()
    source, a = cluster.joined("a")
    source.broadcast("one")
    assert a.told[2:3] == [Peer(NodeName("src"), "src:1")]
    assert len(a.all_of(Peer)) == 1
    source.hang_up()
    back = cluster.join("src", incarnation="second", receives=False)
    back.broadcast("two", ["a"])
    assert len(a.all_of(Peer)) == 2


def test_status_has_the_shape_of_the_contract() -> None:
    cluster = FakeCluster(policy="fair")
    source, a = cluster.joined("a")
    cluster.join("gone").hang_up()
    a.finish(source.broadcast("t", ["a"]))
    a.say(AskStatus(7))
    status = a.last(Status)
    assert status.request == 7
    told = json.loads(status.text)
    assert set(told) >= {"nodes", "transfers", "policy", "links"}
    assert told["policy"] == "fair"
    assert told["nodes"]["a"] == {"address": "a:1", "host": "host", "state": "joined"}
    assert told["nodes"]["gone"]["state"] == "lost"
    described = told["transfers"]["t"]
    numbers = {"predicted_s", "completion_s", "prediction_error", "priority", "weight", "granted_bytes_per_s"}
    assert set(described) == {"kind", "mechanism", "state", "progress", "failed"} | numbers
    assert described["completion_s"] is not None
    plain = {key: told["transfers"]["t"][key] for key in described if key not in numbers}
    assert plain | {"mechanism": ""} == {
        "kind": "broadcast", "mechanism": "", "state": "done", "progress": 1.0, "failed": {},
    }  # fmt: skip


def test_those_who_have_gone_are_remembered_up_to_a_limit() -> None:
    cluster = FakeCluster()
    for number in range(MAX_GONE + 50):
        cluster.join(f"n{number}").hang_up()
    assert len(list(cluster.core.members)) <= MAX_GONE
    assert not cluster.core.members._sessions


@pytest.mark.parametrize(
    "wrong", [{"heartbeat_timeout_s": 0.0}, {"port_rate_bytes_per_s": 0.0}, {"port_rate_bytes_per_s": -1.0}]
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ControllerConfig(**wrong)  # type: ignore[arg-type]


def test_who_waits_for_a_copy_on_its_host_does_not_hide_that_another_is_silent() -> None:
    cluster = FakeCluster()
    source = cluster.join("src", receives=False)
    agents = [
        cluster.join(f"n{host}-{process}", host=f"host {host}", shares=True)
        for host in range(8)
        for process in range(6)
    ]
    firsts, mates = agents[::6], [agent for at, agent in enumerate(agents) if at % 6]
    source.broadcast("t", size=40)
    cluster.pass_time(2.5, silent=[firsts[3], *mates])
    nodes = cluster.core.status()["nodes"]
    assert isinstance(nodes, dict)
    assert [name for name, told in nodes.items() if told["state"] == "suspected"] == [firsts[3].name]
