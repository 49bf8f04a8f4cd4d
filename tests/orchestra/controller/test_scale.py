"""What keeps a controller's work small where nodes are many."""

import pytest

from orchestra.controller.members import NodeState
from orchestra.messages import Begin, Settled
from tests.orchestra.controller.clusters import Agent, FakeCluster
from transfers.planners.events import REPORTS_PER_S, report_interval_s


def many(count: int) -> tuple[FakeCluster, Agent, list[Agent]]:
    """A source and agents that take part in its broadcast ``t``."""
    cluster = FakeCluster()
    source, *agents = cluster.joined(*(f"a{number}" for number in range(count)))
    source.broadcast("t")
    return cluster, source, agents


def suspects(cluster: FakeCluster) -> int:
    return sum(node.state is NodeState.SUSPECTED for node in cluster.core.members)


@pytest.mark.parametrize(("receivers", "interval_s"), [(0, 0.02), (20, 0.02), (100, 0.1), (1000, 1.0)])
def test_reports_gather_longer_where_receivers_are_many(receivers: int, interval_s: float) -> None:
    assert report_interval_s(receivers) == pytest.approx(interval_s)
    assert receivers / report_interval_s(receivers) <= REPORTS_PER_S


def test_receivers_are_told_how_long_to_gather_and_in_one_message_for_all() -> None:
    _, _, agents = many(50)
    begins = [agent.last(Begin) for agent in agents]
    assert {begin.report_interval_s for begin in begins} == {report_interval_s(50)}
    assert len({id(begin) for begin in begins}) == 1, "so that it is encoded once"


def test_a_few_silent_nodes_are_suspected_and_very_many_are_not() -> None:
    cluster, _, agents = many(60)
    cluster.pass_time(2.0, silent=agents[:15])
    assert suspects(cluster) == 15
    cluster, _, agents = many(60)
    cluster.pass_time(2.0, silent=agents[:30])
    assert suspects(cluster) == 0


def test_nodes_that_report_seldom_are_not_suspected_for_it() -> None:
    cluster, _, agents = many(400)
    cluster.pass_time(1.5, silent=agents[:1])
    assert suspects(cluster) == 0
    cluster.pass_time(0.5, silent=agents[:1])
    assert suspects(cluster) == 1


def test_what_the_controller_has_done_is_counted() -> None:
    cluster, _, agents = many(3)
    before = cluster.core.counts.messages_in
    manifest = agents[0].last(Begin).manifest
    agents[0].store(manifest, 0, 1)
    agents[1].store(manifest, 3)
    agents[1].say(Settled(manifest.key, "no room"))
    counts = cluster.core.counts
    assert (counts.reports, counts.block_events) == (2, 3)
    assert counts.messages_in == before + 3
    told = cluster.core.status()["controller"]
    assert isinstance(told, dict)
    assert told["blocks_held"] == {"t": 2}, "of those who take part still"
    assert told["block_events"] == 3


def test_it_is_done_only_when_the_last_is_through() -> None:
    cluster, _, agents = many(5)
    for agent in reversed(agents):
        assert cluster.state("t")["state"] == "active"
        agent.finish(agent.last(Begin).manifest)
    assert cluster.state("t")["state"] == "done"
