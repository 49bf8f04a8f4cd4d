import argparse
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from orchestra.cli.running import Signals, UsageError, describe, read_token, run
from tests.orchestra.cli.commands import one_line
from transfers.errors import ConnectFailed, JoinRefused, TransferFailed, WaitTimeout


@pytest.fixture(autouse=True)
def _keep_logging() -> Iterator[None]:
    """Commands set up logging for their process, which here is everybody's."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def options(**more: object) -> argparse.Namespace:
    return argparse.Namespace(command="test", quiet=False, verbose=False, **more)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("--file: is a directory"), 2, "--file: is a directory"),
        (ValueError("weight must be 1"), 2, "weight must be 1"),
        (JoinRefused("name taken"), 1, "name taken"),
        (ConnectFailed("cannot connect"), 1, "cannot connect"),
        (WaitTimeout("too late"), 1, "too late"),
        (TransferFailed("x", {"n1": "lost"}), 1, "transfer 'x' failed: n1: lost"),
        (PermissionError(13, "Permission denied", "/f"), 1, "permission denied: /f"),
        (JoinRefused("two\nlines"), 1, "two lines"),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_expected_errors_are_one_line_and_a_status(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, said: str, grouped: bool
) -> None:
    async def body(_: Signals) -> int:
        raise ExceptionGroup("several", [error, error]) if grouped else error

    assert run(options(), body) == status
    captured = capsys.readouterr()
    assert one_line(captured.err) == f"orchestra test: {said}"
    assert captured.out == ""


def test_bugs_show_their_trace() -> None:
    async def body(_: Signals) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(options(), body)


def test_bugs_beside_expected_errors_show_their_trace() -> None:
    async def body(_: Signals) -> int:
        raise ExceptionGroup("two", [ValueError("expected"), ZeroDivisionError()])

    with pytest.raises(ExceptionGroup):
        run(options(), body)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, status: int
) -> None:
    async def body(_: Signals) -> int:
        signal.raise_signal(number)
        await trio.sleep_forever()

    assert run(options(), body) == status
    assert number.name in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_proper_end_of_what_serves(
    capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    async def body(_: Signals) -> int:
        signal.raise_signal(number)
        await trio.sleep_forever()

    assert run(options(), body, serves=True) == 0
    assert capsys.readouterr().err == ""


def test_a_signal_ends_the_inner_block_alone(capsys: pytest.CaptureFixture[str]) -> None:
    goodbyes = []

    async def body(signals: Signals) -> int:
        try:
            with signals.stopping_here():
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()
        finally:
            await trio.lowlevel.checkpoint()  # would raise Cancelled if all of the command were cancelled
            goodbyes.append("said")

    assert run(options(), body) == 130
    assert goodbyes == ["said"]


def test_the_status_is_the_commands() -> None:
    async def body(_: Signals) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    assert run(options(), body) == 1


def test_token_files_are_checked(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"0123456789abcdef\n")
    assert read_token(options(token_file=None)) is None
    assert read_token(options(token_file=str(good))) == b"0123456789abcdef"
    short = tmp_path / "short"
    short.write_bytes(b"secret")
    for path in (short, tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="--token-file"):
            read_token(options(token_file=str(path)))


def test_errors_without_words_are_called_by_their_class() -> None:
    assert describe(TimeoutError()) == "TimeoutError"
