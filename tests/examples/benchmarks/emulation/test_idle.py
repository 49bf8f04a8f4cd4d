"""The idle CPU: a share of all cores, over the right time."""

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import psutil
import pytest

from examples.benchmarks.emulation import idle
from examples.benchmarks.emulation.idle import IdleCpu


def times(**seconds: float) -> SimpleNamespace:
    """As psutil gives them."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return SimpleNamespace(**{name: seconds.get(name, 0.0) for name in names})


def replay(looks: Iterator[SimpleNamespace]) -> Callable[[], SimpleNamespace]:
    return lambda: next(looks)


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (times(user=110, idle=130, iowait=10), 0.8),
        (times(user=110, idle=100, steal=10), 0.0),
        (times(user=100, idle=120), 1.0),
    ],
)
def test_the_share_is_of_the_time_in_the_block(
    monkeypatch: pytest.MonkeyPatch, after: SimpleNamespace, share: float
) -> None:
    looks = iter([times(user=100, idle=100), after])
    monkeypatch.setattr(psutil, "cpu_times", replay(looks))
    with IdleCpu() as measured:
        assert math.isnan(measured.share)
    assert measured.share == pytest.approx(share)


def test_a_block_too_short_to_tell_has_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_times", replay(iter([times(user=1)] * 2)))
    with IdleCpu() as measured:
        pass
    assert math.isnan(measured.share)


class Moving:
    """A cluster that moves its link's rate in some looks."""

    def __init__(self, moved_bytes: list[int], then: Callable[[], None]) -> None:
        self.hosts = [SimpleNamespace(rate_bytes_per_s=1e6)]
        self._moved_bytes = moved_bytes
        self._then = then

    def moved_bytes(self) -> int:
        moved = self._moved_bytes.pop(0)
        if not self._moved_bytes:
            self._then()
        return moved


def test_only_the_time_in_which_bytes_move_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SAMPLE_S", 0.001)
    looks = [times(), times(user=10), times(user=11, idle=3), times(user=12, idle=6), times(user=22, idle=6)]
    monkeypatch.setattr(psutil, "cpu_times", replay(iter(looks)))
    watching: list[idle.IdleWhileMoving] = []
    cluster = Moving([0, 0, 10_000, 20_000, 20_001], lambda: watching[0]._over.set())
    watching.append(idle.IdleWhileMoving(cluster))  # type: ignore[arg-type]
    with watching[0] as measured:
        measured._thread.join()
    assert measured.share == pytest.approx(6 / 8)
