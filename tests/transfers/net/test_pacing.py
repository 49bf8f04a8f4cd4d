"""The trial that tells whether this host's kernel paces sockets, with clocks and kernels made up."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from transfers.net import pacing
from transfers.net.pacing import SHARE, TRIAL_BYTES, TRIAL_S, kernel_paces
from transfers.net.tcp import TcpNetwork, TcpStream


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not tried."""
    monkeypatch.setattr(pacing, "_found", None)
    monkeypatch.setattr(pacing, "sys", SimpleNamespace(platform="linux"))


def trial_takes(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the trial's own clock say so."""
    told = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr(pacing, "time", SimpleNamespace(perf_counter=lambda: next(told)))


@pytest.mark.parametrize(
    ("seconds", "paces"), [(0.0, False), (0.9 * SHARE * TRIAL_S, False), (TRIAL_S, True), (1.0, True)]
)
async def test_only_what_is_sent_slowly_is_paced(
    seconds: float, paces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_takes(seconds, monkeypatch)
    assert await kernel_paces() is paces


async def test_the_trial_asks_for_a_rate_before_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    class Noting(TcpStream):
        def set_pacing_rate(self, rate_bytes_per_s: float | None) -> None:
            done.append(rate_bytes_per_s)
            super().set_pacing_rate(rate_bytes_per_s)

        async def send_all(self, data: bytes | memoryview, *more: Any, **words: Any) -> None:
            done.append(len(data))
            await super().send_all(data, *more, **words)

    monkeypatch.setattr(pacing, "TcpStream", Noting)
    trial_takes(TRIAL_S, monkeypatch)
    assert await kernel_paces()
    assert done == [pytest.approx(TRIAL_BYTES / TRIAL_S), TRIAL_BYTES]


async def test_it_is_tried_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    trial_takes(TRIAL_S, monkeypatch)
    assert await TcpNetwork().paces()
    assert await kernel_paces()
    assert await TcpNetwork().paces()


async def test_other_systems_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def try_it() -> bool:
        raise AssertionError("tried")

    monkeypatch.setattr(pacing, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(pacing, "_try", try_it)
    assert not await kernel_paces()


async def test_a_host_that_allows_no_trial_does_not_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(socket.socket):
        def bind(self, address: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(pacing, "socket", SimpleNamespace(**{**vars(socket), "socket": Refused}))
    assert not await kernel_paces()


async def test_a_trial_that_does_not_end_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    class Stuck(TcpStream):
        async def receive_some_into(self, buffer: memoryview, wanted_bytes: int = 1) -> int:
            return await trio.sleep_forever()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing, "TcpStream", Stuck)
        assert not await kernel_paces()
