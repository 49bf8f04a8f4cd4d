"""Rates of a shuffle's single flows, and what sockets are told of rates."""

import fcntl
import math
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.transfers.net.sites import MemoryStream, until
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey, partition_name
from transfers.net.buckets import BURST_S, MIN_PART_BYTES
from transfers.net.limits import (
    FLOW_PART_BYTES,
    FLOW_PART_S,
    LEAST_FLOW_PART_BYTES,
    PATIENCE_BYTES,
    UNSENT_PARTS,
    EgressBudget,
    FlowBudget,
    IngressBudget,
    PortLimits,
)
from transfers.net.network import LEAST_PACING_BYTES_PER_S
from transfers.net.tcp import TcpNetwork, TcpStream

T, OTHER = TransferName("t"), TransferName("other")
A, B, C = NodeName("a"), NodeName("b"), NodeName("c")
NEVER = -1

linux = pytest.mark.skipif(sys.platform != "linux", reason="sockets are paced on Linux alone")


class Told(MemoryStream):
    """A stream that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.rate: float | None = NEVER
        self.unsent: int | None = NEVER

    def set_pacing_rate(self, rate_bytes_per_s: float | None) -> None:
        self.rate = rate_bytes_per_s

    def set_unsent_limit(self, count_bytes: int | None) -> None:
        self.unsent = count_bytes


def flow_of(limits: PortLimits, reducer: NodeName, transfer: TransferName = T) -> FlowBudget:
    """This node's flow to a reducer."""
    budget = limits.sending(ObjectKey(transfer, partition_name(A, reducer)))
    assert isinstance(budget, FlowBudget)
    return budget


# -- rates -------------------------------------------------------------------------------------------


async def test_a_stream_is_paced_at_its_flows_rate_or_its_share_whichever_is_less() -> None:
    group = EgressBudget(20e6)
    slow, fast, one, other = FlowBudget(group), FlowBudget(group), Told(), Told()
    slow.set_rate(4e6)
    fast.set_rate(30e6)
    with slow.sending(one):
        assert one.rate == 4e6
        with fast.sending(other):
            assert (one.rate, other.rate) == (4e6, 10e6)
        assert one.rate == 4e6
        slow.set_rate(None)
        assert one.rate == 20e6
        group.set_rate(None)
        assert one.rate is None


async def test_each_flow_named_in_a_budget_has_its_rate_and_the_others_theirs() -> None:
    limits = PortLimits()
    assert flow_of(limits, C).rate_bytes_per_s is None
    limits.set_budget(T, None, None, flows={A: 1e6, B: 2e6}, other_flows_bytes_per_s=3e6)
    assert [flow_of(limits, reducer).rate_bytes_per_s for reducer in (A, B, C)] == [1e6, 2e6, 3e6]
    assert flow_of(limits, NodeName("came later")).rate_bytes_per_s == 3e6
    assert flow_of(limits, A, OTHER).rate_bytes_per_s is None
    limits.set_budget(T, None, None, flows={B: 5e6})
    assert [flow_of(limits, reducer).rate_bytes_per_s for reducer in (A, B, C)] == [None, 5e6, None]


async def test_attempts_at_a_partition_are_one_flow() -> None:
    limits = PortLimits()
    again = limits.sending(ObjectKey(T, partition_name(A, B, 2)))
    assert again is flow_of(limits, B)


async def test_a_forgotten_transfer_lets_go_who_is_sending_for_it() -> None:
    limits, stream = PortLimits(), Told()
    limits.set_budget(T, 6e6, None, flows={B: 1e6})
    flow = flow_of(limits, B)
    with flow.sending(stream):
        before = stream.rate
        limits.forget(T)
        assert (before, stream.rate) == (1e6, None)
    assert T not in limits.transfers
    assert flow_of(limits, B) is not flow
    assert flow_of(limits, B).rate_bytes_per_s is None


async def send(flow: FlowBudget | EgressBudget, until_s: float, sent: list[int]) -> None:
    """Send parts as a server does."""
    while trio.current_time() < until_s:
        await flow.wait_turn()
        part = flow.part_size(1 << 20)
        flow.spend(part)
        sent.append(part)
        await trio.sleep(0.0001)


async def test_a_flow_that_is_slower_than_sockets_can_be_is_kept_by_a_bucket(
    autojump_clock: trio.testing.MockClock,
) -> None:
    flow, sent = FlowBudget(EgressBudget()), list[int]()
    rate, seconds = LEAST_PACING_BYTES_PER_S / 8, 10.0
    flow.set_rate(rate)
    await send(flow, trio.current_time() + seconds, sent)
    assert 0.95 * rate * seconds <= sum(sent) <= rate * (seconds + 3 * BURST_S)


async def test_a_flow_that_sockets_can_pace_is_left_to_them(autojump_clock: trio.testing.MockClock) -> None:
    flow, began_s = FlowBudget(EgressBudget()), trio.current_time()
    flow.set_rate(LEAST_PACING_BYTES_PER_S)
    for _ in range(100):
        await flow.wait_turn()
        flow.spend(flow.part_size(1 << 20))
    assert trio.current_time() == began_s


async def test_flows_together_keep_their_transfers_budget(autojump_clock: trio.testing.MockClock) -> None:
    limits, sent = PortLimits(), list[int]()
    limits.set_budget(T, 1e6, None)
    until_s = trio.current_time() + 5
    async with trio.open_nursery() as nursery:
        for reducer in (A, B, C):
            nursery.start_soon(send, flow_of(limits, reducer), until_s, sent)
    assert 0.95 * 5e6 <= sum(sent) <= 1e6 * (5 + 4 * BURST_S)


@pytest.mark.parametrize("ranks", [(0, 1), (1, 0)])
async def test_what_a_node_sends_in_all_goes_to_the_first_rank(
    ranks: tuple[int, int], autojump_clock: trio.testing.MockClock
) -> None:
    limits = PortLimits()
    limits.limit_port(1e6)
    sent: dict[int, list[int]] = {0: [], 1: []}
    until_s = trio.current_time() + 5
    async with trio.open_nursery() as nursery:
        for transfer, rank in zip((T, OTHER), ranks, strict=True):
            limits.set_budget(transfer, None, None, rank=rank)
            nursery.start_soon(send, flow_of(limits, B, transfer), until_s, sent[rank])
            nursery.start_soon(send, limits.egress(transfer), until_s, sent[rank])
    assert sum(sent[0]) >= 0.9 * 5e6
    assert sum(sent[1]) <= 0.05 * 5e6
    assert sum(sent[0]) + sum(sent[1]) <= 1e6 * (5 + 5 * BURST_S)


# -- pauses ------------------------------------------------------------------------------------------


async def test_a_paused_flow_waits_until_it_has_a_rate_again(autojump_clock: trio.testing.MockClock) -> None:
    flow = FlowBudget(EgressBudget())
    flow.set_rate(0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.wait_turn)
        await trio.sleep(1000)
        assert len(nursery.child_tasks) == 1
        flow.set_rate(1e6)


async def test_a_flow_of_a_paused_transfer_waits_too(autojump_clock: trio.testing.MockClock) -> None:
    limits = PortLimits()
    limits.set_budget(T, 0.0, None, flows={B: 5e6})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow_of(limits, B).wait_turn)
        await trio.sleep(1000)
        assert len(nursery.child_tasks) == 1
        limits.set_budget(T, None, None, flows={B: 5e6})


async def test_a_pause_leaves_pacing_as_it_was_and_the_next_rate_bites_at_once() -> None:
    group, stream = EgressBudget(), Told()
    flow = FlowBudget(group)
    flow.set_rate(5e6)
    with flow.sending(stream):
        flow.set_rate(0.0)
        assert stream.rate == 5e6
        group.set_rate(0.0)
        assert stream.rate == 5e6
        group.set_rate(None)
        flow.set_rate(2e6)
        assert stream.rate == 2e6


async def test_where_pauses_are_granted_nobody_is_blamed_for_silence() -> None:
    budget = IngressBudget()
    assert budget.stall_limit_s(2.0) == 2.0
    budget.expect_slowest(64e3)
    assert budget.stall_limit_s(2.0) == pytest.approx(2.0 + PATIENCE_BYTES / 64e3)
    budget.set_rate(32e3)
    assert budget.stall_limit_s(2.0) == pytest.approx(2.0 + PATIENCE_BYTES / 32e3)
    budget.expect_slowest(0.0)
    assert budget.stall_limit_s(2.0) == math.inf
    budget.expect_slowest(None)
    budget.set_rate(None)
    assert budget.stall_limit_s(2.0) == 2.0


# -- who has used a stream last ----------------------------------------------------------------------


async def test_a_stream_that_has_just_been_used_hears_of_a_new_rate() -> None:
    group, stream = EgressBudget(8e6), Told()
    with group.sending(stream):
        pass
    group.set_rate(3e6)
    assert stream.rate == 3e6


async def test_a_flow_that_has_just_used_a_stream_still_paces_it() -> None:
    flow, stream = FlowBudget(EgressBudget()), Told()
    flow.set_rate(9e6)
    with flow.sending(stream):
        pass
    flow.set_rate(1e6)
    assert stream.rate == 1e6
    assert stream.unsent == UNSENT_PARTS * max(LEAST_FLOW_PART_BYTES, int(1e6 * FLOW_PART_S))


async def test_only_the_last_user_of_a_stream_paces_it() -> None:
    limits, stream = PortLimits(), Told()
    limits.set_budget(T, 8e6, None)
    limits.set_budget(OTHER, 2e6, None)
    with limits.egress(T).sending(stream):
        pass
    with limits.egress(OTHER).sending(stream):
        limits.set_budget(T, 1e6, None)
        assert stream.rate == 2e6
    limits.set_budget(T, 3e6, None)
    assert stream.rate == 2e6
    limits.set_budget(OTHER, 5e6, None)
    assert stream.rate == 5e6


async def test_who_has_used_a_stream_counts_no_longer_among_those_who_share() -> None:
    group, gone, left = EgressBudget(8e6), Told(), Told()
    with group.sending(gone):
        pass
    with group.sending(left):
        assert left.rate == 8e6


# -- parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "part"),
    [
        (LEAST_PACING_BYTES_PER_S, LEAST_FLOW_PART_BYTES),
        (5e6, int(5e6 * FLOW_PART_S)),
        (20e6, int(20e6 * FLOW_PART_S)),
        (1e9, FLOW_PART_BYTES),
        (1000.0, MIN_PART_BYTES),
    ],
)
async def test_a_flow_is_handed_over_in_parts_of_a_moment(rate: float, part: int) -> None:
    flow = FlowBudget(EgressBudget())
    flow.set_rate(rate)
    assert flow.part_size(1 << 30) == part
    assert flow.part_size(100) == 100


async def test_the_kernel_keeps_parts_of_a_flow_and_what_it_likes_of_a_broadcast() -> None:
    limits, stream = PortLimits(), Told()
    limits.set_budget(T, None, None, flows={B: 5e6})
    with flow_of(limits, B).sending(stream):
        assert stream.unsent == UNSENT_PARTS * int(5e6 * FLOW_PART_S)
        limits.set_budget(T, None, None, flows={B: 10e6})
        assert stream.unsent == UNSENT_PARTS * int(10e6 * FLOW_PART_S)
    with limits.egress(OTHER).sending(stream):
        assert stream.unsent is None


async def test_a_flow_without_a_rate_learns_how_fast_it_is(autojump_clock: trio.testing.MockClock) -> None:
    flow, stream = FlowBudget(EgressBudget()), Told()
    with flow.sending(stream):
        assert flow.part_size(1 << 30) == LEAST_FLOW_PART_BYTES
        for rate in (20e6, 4e6):
            for _ in range(100):
                flow.spend(int(rate * 0.004))
                await trio.sleep(0.004)
            assert flow.part_size(1 << 30) == pytest.approx(rate * FLOW_PART_S, rel=0.02)
            assert stream.unsent == UNSENT_PARTS * flow.most_part_bytes


# -- sockets -----------------------------------------------------------------------------------------

SO_MAX_PACING_RATE = 47
TCP_NOTSENT_LOWAT = 25
SIOCOUTQNSD = 0x894B


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[TcpStream, TcpStream]]:
    """Both ends of a connection on loopback."""
    listener = await TcpNetwork().listen("127.0.0.1:0")
    client = await TcpNetwork().connect(listener.address, 5)
    server = await listener.accept()
    try:
        yield client, server
    finally:
        client.abort()
        server.abort()
        with trio.CancelScope(shield=True):
            await listener.aclose()


def paced_at(stream: TcpStream) -> int:
    """What the kernel says; 32 bits of ones are no limit."""
    return stream._sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE) & 0xFFFFFFFF


def unsent_limit(stream: TcpStream) -> int:
    """What the kernel says; 0 is the host's own."""
    return stream._sock.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT)


def unsent_bytes(stream: TcpStream) -> int:
    """What the kernel has taken and not sent yet."""
    told = fcntl.ioctl(stream._sock, SIOCOUTQNSD, bytes(4))
    return int(struct.unpack("i", told)[0])


@linux
async def test_sockets_are_told_their_rate_and_none_so_slow_that_packets_hold_them() -> None:
    async with connected() as (stream, _):
        stream.set_pacing_rate(3e6)
        assert paced_at(stream) == 3_000_000
        stream.set_pacing_rate(10.0)
        assert paced_at(stream) == LEAST_PACING_BYTES_PER_S
        stream.set_pacing_rate(1e15)
        assert paced_at(stream) == 0xFFFFFFFE
        stream.set_pacing_rate(None)
        assert paced_at(stream) == 0xFFFFFFFF


@linux
async def test_a_paused_socket_keeps_its_rate() -> None:
    async with connected() as (stream, _):
        budget = EgressBudget(3e6)
        with budget.sending(stream):
            budget.set_rate(0.0)
            assert paced_at(stream) == 3_000_000
            budget.set_rate(4e6)
            assert paced_at(stream) == 4_000_000


@linux
async def test_a_socket_has_the_limit_of_its_flow_and_loses_it_with_the_flow() -> None:
    async with connected() as (stream, _):
        group = EgressBudget()
        flow = FlowBudget(group)
        flow.set_rate(5e6)
        with flow.sending(stream):
            assert unsent_limit(stream) == UNSENT_PARTS * int(5e6 * FLOW_PART_S)
        with group.sending(stream):
            assert unsent_limit(stream) == 0


async def keeps_unsent(stream: TcpStream, enough: Callable[[int], bool]) -> list[int]:
    """What the kernel keeps, looked at while somebody sends much to one who takes nothing."""
    seen: list[int] = []

    def look() -> bool:
        seen.append(unsent_bytes(stream))
        return enough(len(seen))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, bytes(64 << 20))
        await until(look)
        nursery.cancel_scope.cancel()
    return seen


@linux
async def test_the_kernel_takes_no_more_than_the_limit_beyond_what_it_can_send() -> None:
    limit, packet = 64 << 10, 64 << 10
    async with connected() as (stream, _):
        stream.set_pacing_rate(1e6)
        seen = await keeps_unsent(stream, lambda looks: unsent_bytes(stream) > 4 * (limit + packet))
        assert max(seen) > 4 * limit, "without a limit"
    async with connected() as (stream, _):
        stream.set_pacing_rate(1e6)
        stream.set_unsent_limit(limit)
        seen = await keeps_unsent(stream, lambda looks: looks > 50)
        assert 0 < max(seen) <= 2 * (limit + packet)


async def test_a_closed_socket_is_told_nothing() -> None:
    async with connected() as (stream, _):
        stream.abort()
        stream.set_pacing_rate(1e6)
        stream.set_unsent_limit(1000)
