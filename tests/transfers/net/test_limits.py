"""Budgets, on a clock that is not the wall's."""

import pytest
import trio
import trio.testing

from transfers.ids import TransferName
from transfers.net.limits import _BURST_S, EgressBudget, IngressBudget, PortLimits

T = TransferName("t")


async def reader(budget: IngressBudget, until_s: float, read: list[int]) -> None:
    """Read as fast as the budget allows."""
    while trio.current_time() < until_s:
        await budget.wait_turn()
        step = budget.read_size(1 << 20)
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
    assert sum(read) <= rate * (seconds + _BURST_S * (readers + 1))
    assert sum(read) >= 0.95 * rate * seconds


async def test_what_was_not_used_is_saved_up_for_a_moment_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget, read = IngressBudget(1e6), list[int]()
    await trio.sleep(100)
    began = trio.current_time()
    await reader(budget, began + 1, read)
    assert sum(read) <= 1e6 * (1 + 3 * _BURST_S)


async def test_without_a_rate_nobody_waits(autojump_clock: trio.testing.MockClock) -> None:
    budget, began = IngressBudget(), trio.current_time()
    for _ in range(100):
        await budget.wait_turn()
        assert budget.read_size(1 << 30) == 1 << 30
        budget.spend(1 << 30)
    assert trio.current_time() == began


async def test_a_lifted_budget_lets_go_those_who_wait(autojump_clock: trio.testing.MockClock) -> None:
    budget, began = IngressBudget(1.0), trio.current_time()
    budget.spend(5)
    budget.set_rate(None)
    await budget.wait_turn()
    assert trio.current_time() == began
    assert IngressBudget(0.5).read_size(100) == 1


def test_egress_is_shared_by_those_who_send() -> None:
    budget = EgressBudget(12.0)
    assert budget.share() == 12.0
    budget.sending = 4
    assert budget.share() == 3.0
    budget.set_rate(None)
    assert budget.share() is None


def test_a_forgotten_transfer_begins_anew() -> None:
    limits = PortLimits()
    limits.set_budget(T, 1.0, 2.0)
    assert limits.egress(T).share() == 1.0
    assert limits.ingress(T).read_size(1 << 20) < 1 << 20
    limits.forget(T)
    assert limits.egress(T).share() is None
    assert limits.ingress(T).read_size(1 << 20) == 1 << 20
