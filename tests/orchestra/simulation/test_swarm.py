"""Modelled receivers do what the engine does: `transfers.planners.events` says what."""

import pytest

from orchestra.node import reports
from orchestra.simulation import swarm
from tests.orchestra.simulation.swarms import BLOCK_BYTES, Nodes
from transfers import handshake
from transfers.net import pool
from transfers.planners.events import LOOK_AHEAD, REPORT_INTERVAL_S, forward_bytes, report_interval_s


def test_a_fetched_block_arrives_and_is_reported_with_its_source() -> None:
    nodes = Nodes(1)
    nodes.fetch(1, 0, 3)
    nodes.run()
    ((at_s, *stored),) = nodes.stored
    assert stored == ["n1", 3, "n0"]
    assert at_s == pytest.approx(1.02)
    assert nodes.held(1) == [3]


def test_blocks_of_a_fetch_come_in_its_order_without_a_gap() -> None:
    nodes = Nodes(1)
    nodes.fetch(1, 0, 5, 2, 7)
    nodes.run()
    assert [block for _, _, block, _ in nodes.stored] == [5, 2, 7]
    assert nodes.stored[-1][0] == pytest.approx(3.02)


def test_a_block_that_is_there_already_is_reported_again() -> None:
    nodes = Nodes(1)
    nodes.fetch(1, 0, 3)
    nodes.run(2.0)
    nodes.fetch(1, 0, 3)
    nodes.run()
    assert [block for _, _, block, _ in nodes.stored] == [3, 3]
    assert nodes.swarm.deliveries == 1


def test_a_fetch_takes_a_block_away_from_whoever_had_it_before() -> None:
    nodes = Nodes(2)
    nodes.fetch(1, 0, 0)
    nodes.run(2.0)
    nodes.fetch(2, 0, 4, 0)
    nodes.fetch(2, 1, 0)
    nodes.run()
    assert {(block, source) for _, node, block, source in nodes.stored if node == "n2"} == {
        (4, "n0"),
        (0, "n1"),
    }
    assert nodes.swarm.wasted_bytes == 0


def test_a_block_that_is_arriving_already_is_taken_and_the_new_ask_withdrawn() -> None:
    nodes = Nodes(2)
    nodes.fetch(1, 0, 0)
    nodes.run(2.0)
    nodes.fetch(2, 0, 0, 1)
    nodes.run(2.9)
    nodes.fetch(1, 0, 5)  # keeps node 1 from sending at once what it will be asked for
    nodes.fetch(2, 1, 0)
    nodes.run()
    assert sorted(nodes.held(2)) == [0, 1]
    assert len([block for _, node, block, _ in nodes.stored if (node, block) == ("n2", 0)]) == 1


def test_a_follower_asks_for_the_lowest_it_lacks_and_no_more_than_the_look_ahead() -> None:
    nodes = Nodes(1, blocks=6)
    nodes.fetch(1, 0, 1)
    nodes.run(2.0)
    nodes.follow(1, 0)
    assert sorted(nodes.swarm.nodes[1].windows[0]) == [0, 2, 3, 4]
    assert len(nodes.swarm.nodes[1].asked) == LOOK_AHEAD
    nodes.run()
    assert [block for _, _, block, _ in nodes.stored] == [1, 0, 2, 3, 4, 5]


def test_a_follower_passes_over_what_a_fetch_has_given_to_another() -> None:
    nodes = Nodes(2, blocks=4)
    nodes.fetch(1, 0, 0, 1, 2, 3)
    nodes.run(5.0)
    nodes.fetch(2, 1, 0)
    nodes.follow(2, 0)
    nodes.run()
    assert {block: source for _, node, block, source in nodes.stored if node == "n2"} == {
        0: "n1",
        1: "n0",
        2: "n0",
        3: "n0",
    }


def test_a_follower_of_a_follower_is_answered_while_the_block_arrives() -> None:
    nodes = Nodes(2, blocks=3)
    nodes.follow(2, 1)
    nodes.follow(1, 0)
    nodes.run()
    assert nodes.held(2) == [0, 1, 2]
    assert {source for _, node, _, source in nodes.stored if node == "n2"} == {"n1"}
    part = forward_bytes(BLOCK_BYTES) / BLOCK_BYTES
    assert max(at_s for at_s, *_ in nodes.stored) == pytest.approx(3 + part, abs=0.01)


def test_following_can_end_and_another_be_followed() -> None:
    nodes = Nodes(2, blocks=6)
    nodes.follow(1, 0)
    nodes.run(2.5)
    nodes.follow(1, None)
    nodes.run(10.0)
    assert nodes.held(1) == [0, 1, 2], "what has begun to arrive is taken"
    nodes.follow(1, 0)
    nodes.run()
    assert nodes.held(1) == list(range(6))


def test_a_cancelled_ask_is_not_answered() -> None:
    nodes = Nodes(1)
    nodes.fetch(1, 0, 0, 1, 2)
    nodes.run(0.5)
    nodes.cancel(1, 2)
    nodes.run()
    assert nodes.held(1) == [0, 1]
    assert nodes.swarm.nodes[0].sent_bytes == pytest.approx(2e6)


def test_reports_leave_together() -> None:
    nodes = Nodes(1, blocks=20, block_bytes=1000)
    nodes.fluid.fabric.capacities[:] = 1e6  # a block a millisecond
    nodes.fetch(1, 0, *range(20))
    nodes.run()
    assert [len(blocks) for _, _, blocks in nodes.reports] == [8, 8, 4]


def test_a_single_block_is_reported_after_the_interval() -> None:
    nodes = Nodes(1)
    nodes.fetch(1, 0, 0)
    nodes.run(0.99)
    nodes.run()
    (at_s, _, _), *_ = nodes.reports
    assert at_s == pytest.approx(1.0 + REPORT_INTERVAL_S)


def test_the_last_block_is_reported_at_once() -> None:
    nodes = Nodes(1, blocks=1)
    nodes.fetch(1, 0, 0)
    nodes.run()
    ((at_s, *report),) = nodes.reports
    assert report == ["n1", (0,)]
    assert at_s == pytest.approx(1.0)


MANY = 100
MANY_S = report_interval_s(MANY)


def test_what_a_follow_brings_gathers_longer_where_receivers_are_many() -> None:
    nodes = Nodes(MANY, blocks=300, block_bytes=1000)
    nodes.fluid.fabric.capacities[:] = 1e6  # a block a millisecond
    nodes.follow(1, 0)
    nodes.run()
    (first_s, _, blocks), *_, (last_s, _, _) = nodes.reports
    assert first_s == pytest.approx(0.001 + MANY_S)
    assert len(blocks) > 10 * swarm.REPORT_BLOCKS
    assert last_s == pytest.approx(0.3, abs=0.002), "the last at once"
    assert len(nodes.reports) == 3


def test_a_fetched_block_is_reported_soon_all_the_same_and_takes_along_what_has_gathered() -> None:
    nodes = Nodes(MANY, blocks=200, block_bytes=1000)
    nodes.fluid.fabric.capacities[:] = 1e6
    nodes.follow(1, 0)
    nodes.fetch(1, 0, 150)
    nodes.run(0.09)
    ((at_s, _, blocks),) = nodes.reports
    assert LOOK_AHEAD * 0.001 <= at_s <= LOOK_AHEAD * 0.001 + 0.002 + REPORT_INTERVAL_S
    assert {0, 1, 2, 3, 150} <= set(blocks)


def test_a_fetched_block_that_is_there_already_is_reported_soon_where_receivers_are_many() -> None:
    nodes = Nodes(MANY)
    nodes.follow(1, 0)
    nodes.run(1.5)
    nodes.fetch(1, 0, 0)
    nodes.run(1.9)
    at_s, *report = nodes.reports[-1]
    assert at_s == pytest.approx(1.5 + REPORT_INTERVAL_S)
    assert report == ["n1", (0,)]


# -- what dies -------------------------------------------------------------------------------------


def test_asks_at_a_node_that_dies_fail_and_are_reported_once() -> None:
    nodes = Nodes(2)
    nodes.fetch(1, 0, 0, 1)
    nodes.run(3.0)
    nodes.fetch(2, 1, 0, 1, 5)
    nodes.run(4.5)
    nodes.kill(1)
    nodes.run()
    assert nodes.held(2) == [0]
    assert nodes.failures == [("n2", "n1", (1, 5))]
    assert nodes.flowing() == set()


def test_a_source_that_dies_is_followed_no_longer() -> None:
    nodes = Nodes(2, blocks=4)
    nodes.follow(1, 0)
    nodes.follow(2, 1)
    nodes.run(2.5)
    nodes.kill(1)
    nodes.run(3.0)
    assert [(node, source) for node, source, _ in nodes.failures] == [("n2", "n1")]
    assert not nodes.swarm.nodes[2].follows
    nodes.follow(2, 0)
    nodes.run()
    assert nodes.held(2) == [0, 1, 2, 3]


def test_a_node_that_is_dead_cannot_be_asked() -> None:
    nodes = Nodes(2)
    nodes.kill(1)
    nodes.fetch(2, 1, 0)
    nodes.run()
    assert nodes.failures == [("n2", "n1", (0,))]


def test_the_dead_do_nothing_and_free_what_they_had() -> None:
    nodes = Nodes(2, blocks=2)
    nodes.fetch(1, 0, 0, 1)
    nodes.fetch(2, 0, 0)
    nodes.run(0.5)
    nodes.kill(1)
    nodes.fetch(1, 0, 0)
    nodes.run()
    assert nodes.held(1) == []
    ((at_s, *stored),) = nodes.stored
    assert stored == ["n2", 0, "n0"]
    assert at_s == pytest.approx(1.27), "half the rate for half a second, then all of it"
    assert nodes.swarm.nodes[0].free_slots == 4


# -- links -----------------------------------------------------------------------------------------


def test_a_first_ask_pays_for_the_handshake_and_later_ones_do_not() -> None:
    latency_s = 0.1
    nodes = Nodes(1, latency_s=latency_s)
    nodes.fetch(1, 0, 0)
    nodes.run(5.0)
    nodes.fetch(1, 0, 1)
    nodes.run()
    (first_s, *_), (second_s, *_) = nodes.stored
    # Connecting takes two, the handshake four, the ask one, the last byte one.
    assert first_s == pytest.approx(1.0 + 8 * latency_s + REPORT_INTERVAL_S, abs=0.002)
    assert second_s == pytest.approx(5.0 + 1.0 + 2 * latency_s + REPORT_INTERVAL_S, abs=0.002)


def test_a_link_that_was_idle_for_too_long_is_opened_anew() -> None:
    nodes = Nodes(1, latency_s=0.1)
    nodes.fetch(1, 0, 0)
    nodes.run(5.0 + swarm.MAX_IDLE_S)
    nodes.fetch(1, 0, 1)
    nodes.run()
    took_s = nodes.stored[-1][0] - 5.0 - swarm.MAX_IDLE_S
    assert took_s == pytest.approx(1.0 + 8 * 0.1 + REPORT_INTERVAL_S, abs=0.002)


def test_a_link_with_a_withdrawn_ask_is_not_kept() -> None:
    nodes = Nodes(1)
    nodes.fetch(1, 0, 0, 1)
    nodes.cancel(1, 1)
    nodes.run()
    assert nodes.swarm.nodes[1].links == {}
    assert nodes.swarm.nodes[0].clients == {}


def test_what_is_copied_from_the_product_is_the_products() -> None:
    assert swarm.REPORT_BLOCKS == reports.REPORT_BLOCKS
    assert swarm.MAX_IDLE_LINKS == pool.MAX_IDLE_CONNECTIONS
    assert swarm.MAX_IDLE_S == pool.MAX_IDLE_S


def test_a_handshake_has_as_many_messages_as_the_model_says() -> None:
    client = handshake.ClientHandshake(b"", bytes(handshake.NONCE_BYTES))
    server = handshake.ServerHandshake(b"", bytes(handshake.NONCE_BYTES))
    messages = 0
    said: handshake.HandshakeMessage | None = client.open()
    while said is not None:
        messages += 2
        said = client.receive(server.receive(said))
    assert messages == swarm.HANDSHAKE_MESSAGES
