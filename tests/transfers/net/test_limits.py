"""Budgets, on a clock that is not the wall's."""

import pytest
import trio
import trio.testing

from tests.transfers.net.sites import MemoryStream
from transfers.ids import TransferName
from transfers.net.buckets import BURST_S, MIN_PART_BYTES
from transfers.net.limits import EgressBudget, IngressBudget, PortLimits

T = TransferName("t")


async def reader(budget: IngressBudget | EgressBudget, until_s: float, read: list[int]) -> None:
    """Read as fast as the budget allows."""
    while trio.current_time() < until_s:
        await budget.wait_turn()
        step = budget.part_size(1 << 20)
        budget.spend(step)
        read.append(step)
        await trio.sleep(0.0001)


@pytest.mark.parametrize("readers", [1, 2, 7])
async def test_readers_together_keep_an_ingress_budget(
    readers: int, autojump_clock: trio.testing.MockClock
) -> None:
    rate, seconds = 1e6, 5.0
    budget, read = IngressBudget(rate), list[int]()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(readers):
            nursery.start_soon(reader, budget, began + seconds, read)
    assert sum(read) <= rate * (seconds + BURST_S * (readers + 1))
    assert sum(read) >= 0.95 * rate * seconds


async def test_what_was_not_used_is_saved_up_for_a_moment_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget, read = IngressBudget(1e6), list[int]()
    await trio.sleep(100)
    began = trio.current_time()
    await reader(budget, began + 1, read)
    assert sum(read) <= 1e6 * (1 + 3 * BURST_S)


async def test_without_a_rate_nobody_waits(autojump_clock: trio.testing.MockClock) -> None:
    budget, began = IngressBudget(), trio.current_time()
    for _ in range(100):
        await budget.wait_turn()
        assert budget.part_size(1 << 30) == 1 << 30
        budget.spend(1 << 30)
    assert trio.current_time() == began


async def test_a_lifted_budget_lets_go_those_who_wait(autojump_clock: trio.testing.MockClock) -> None:
    budget, began = IngressBudget(1.0), trio.current_time()
    budget.spend(5)
    budget.set_rate(None)
    await budget.wait_turn()
    assert trio.current_time() == began
    assert IngressBudget(0.5).part_size(5000) == MIN_PART_BYTES


class Paced(MemoryStream):
    """A stream that remembers its pacing rate."""

    rate: float | None = -1.0

    def set_pacing_rate(self, rate_bytes_per_s: float | None) -> None:
        self.rate = rate_bytes_per_s


async def test_egress_is_divided_over_those_who_send_as_they_come_and_go() -> None:
    budget, one, two = EgressBudget(12.0), Paced(b""), Paced(b"")
    with budget.sending(one):
        assert one.rate == 12.0
        with budget.sending(two):
            assert one.rate == two.rate == 6.0
            budget.set_rate(4.0)
            assert one.rate == two.rate == 2.0
        assert one.rate == 4.0
        budget.set_rate(None)
        assert one.rate is None


async def test_egress_is_a_bucket_too(autojump_clock: trio.testing.MockClock) -> None:
    budget, read = EgressBudget(1e6), list[int]()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(reader, budget, began + 2.0, read)
    assert 0.95 * 2e6 <= sum(read) <= 1e6 * (2.0 + 6 * BURST_S)


async def test_a_forgotten_transfer_begins_anew() -> None:
    limits = PortLimits()
    limits.set_budget(T, 1.0, 2.0)
    assert limits.egress(T).part_size(1 << 20) < 1 << 20
    assert limits.ingress(T).part_size(1 << 20) < 1 << 20
    limits.forget(T)
    assert limits.egress(T).part_size(1 << 20) == 1 << 20
    assert limits.ingress(T).part_size(1 << 20) == 1 << 20
