import io
import sys

import pytest
import trio
import trio.testing

from orchestra.cli.progress import REDRAW_INTERVAL_S, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def drawn(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    async with progress_bar("label", lambda: (3_000_000, 4_000_000), quiet=quiet):
        await trio.sleep(3 * REDRAW_INTERVAL_S)
    return stream.getvalue()


async def test_a_terminal_shows_a_bar(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    text = await drawn(Terminal(), monkeypatch)
    assert "label" in text
    assert "75%" in text


async def test_a_pipe_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    assert await drawn(io.StringIO(), monkeypatch) == ""


async def test_quiet_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    assert await drawn(Terminal(), monkeypatch, quiet=True) == ""


async def test_errors_of_the_block_come_out_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyError):
        async with progress_bar("label", lambda: (0, 0)):
            raise KeyError
