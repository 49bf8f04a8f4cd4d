"""Modelled senders do what the block server does."""

import pytest

from orchestra.simulation import links, slots, streams
from tests.orchestra.simulation.swarms import BLOCK_BYTES, Nodes
from transfers.net import server
from transfers.planners.events import forward_bytes


def test_no_more_are_served_at_a_time_than_there_are_slots_first_come_first_served() -> None:
    nodes = Nodes(6)
    for receiver in range(1, 7):
        nodes.fetch(receiver, 0, 0)
    freed_s = links.SLOTS * (1 - slots.SEND_BUFFER_BYTES / BLOCK_BYTES)
    nodes.run(freed_s - 0.01)
    assert nodes.flowing() == {(0, 1), (0, 2), (0, 3), (0, 4)}
    nodes.run(freed_s + 0.01)
    assert {(0, 5), (0, 6)} < nodes.flowing()
    nodes.run(5.0)
    assert nodes.flowing() == {(0, 5), (0, 6)}
    nodes.run()
    assert [nodes.held(receiver) for receiver in range(1, 7)] == [[0]] * 6
    assert max(at_s for at_s, *_ in nodes.stored) == pytest.approx(6.02, abs=0.01)


def test_a_slot_goes_round_so_that_one_who_asks_for_much_does_not_keep_it() -> None:
    nodes = Nodes(5)
    nodes.fetch(1, 0, *range(8))
    for receiver in range(2, 6):
        nodes.fetch(receiver, 0, 0)
    nodes.run()
    order = [(node, block) for _, node, block, _ in nodes.stored]
    assert order.index(("n5", 0)) < order.index(("n1", 2))


def test_one_block_at_a_time_goes_to_each_receiver() -> None:
    nodes = Nodes(2, blocks=2)
    nodes.fetch(1, 0, 0, 1)
    nodes.fetch(2, 0, 0, 1)
    nodes.run()
    assert [(node, block) for _, node, block, _ in nodes.stored] == [
        ("n1", 0),
        ("n2", 0),
        ("n1", 1),
        ("n2", 1),
    ]
    assert [at_s for at_s, *_ in nodes.stored] == pytest.approx([2.02, 2.02, 4.0, 4.0], abs=0.01)


def test_what_is_passed_on_while_it_arrives_is_there_a_part_later_and_not_sooner() -> None:
    # The second link could be through with it sooner: it has been idle, and the first is shared.
    nodes = Nodes(3)
    nodes.fetch(1, 0, 0)
    nodes.fetch(3, 0, 1)
    nodes.fetch(2, 1, 0)
    nodes.run()
    stored_s = {node: at_s for at_s, node, _, _ in nodes.stored}
    part = forward_bytes(BLOCK_BYTES) / BLOCK_BYTES
    assert stored_s["n1"] == pytest.approx(2.0, abs=0.05)
    assert stored_s["n1"] < stored_s["n2"] <= stored_s["n1"] + 2 * part + 0.01


def test_what_was_passed_on_counts_only_when_its_sender_has_it() -> None:
    nodes = Nodes(3)
    nodes.fetch(1, 0, 0)
    nodes.fetch(2, 1, 0)
    nodes.run(0.5)
    assert (1, 2) in nodes.flowing()
    nodes.swarm.kill(nodes.swarm.nodes[0])
    nodes.run(5.0)
    assert nodes.held(1) == nodes.held(2) == []


def test_an_ask_that_waits_takes_no_slot() -> None:
    nodes = Nodes(6)
    for receiver in range(2, 7):
        nodes.fetch(receiver, 1, 7)
    nodes.run(0.5)
    assert nodes.swarm.nodes[1].free_slots == links.SLOTS
    nodes.fetch(1, 0, 7)
    nodes.run()
    assert [nodes.held(receiver) for receiver in range(1, 7)] == [[7]] * 6


def test_an_ask_that_is_withdrawn_while_it_waits_for_a_slot_is_passed_over() -> None:
    nodes = Nodes(6)
    for receiver in range(1, 7):
        nodes.fetch(receiver, 0, 0)
    nodes.run(0.5)
    nodes.cancel(5, 0)
    nodes.run()
    assert nodes.held(5) == []
    assert nodes.held(6) == [0]


def test_what_is_left_in_the_send_buffer_needs_no_slot() -> None:
    nodes = Nodes(5, block_bytes=slots.SEND_BUFFER_BYTES)
    for receiver in range(1, 6):
        nodes.fetch(receiver, 0, 0)
    nodes.run(0.1)
    assert len(nodes.flowing()) == 5


def test_every_byte_that_is_sent_is_counted() -> None:
    nodes = Nodes(3)
    nodes.fetch(1, 0, 0, 1)
    nodes.fetch(2, 0, 0)
    nodes.run(5.0)
    nodes.fetch(3, 1, 1)
    nodes.run()
    sent = [node.sent_bytes for node in nodes.swarm.nodes]
    assert sent == pytest.approx([3e6, 1e6, 0.0, 0.0])


def test_what_is_copied_from_the_product_is_the_products() -> None:
    assert links.SLOTS == server.SLOTS
    assert slots.PASSED_ON_LIMIT_S == server.PASSING_LIMIT_S
    assert slots.SEND_BUFFER_BYTES == streams.SEND_BUFFER_BYTES
