"""Running one command: signals, expected errors, exit status.

Owns the mapping from what happened to what the caller of the process sees: expected errors are one line on
stderr and a status; anything else is a bug and shows its trace. Ctrl-C and SIGTERM cancel what a command
does while it is joined, but not its being joined, so that it can take its transfer back and its leave; a
second signal ends it at once.
"""

import argparse
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import IntEnum

import trio

from orchestra.cli.arguments import complain
from orchestra.groups import collapsed
from orchestra.node.joining import join
from orchestra.node.node import Node
from orchestra.security import read_token_file
from transfers.errors import OrchestraError

COMMAND_CONNECT_TIMEOUT_S = 10.0
"""For commands to reach the controller, which may just be starting (a guess; agents try for 30 s)."""
_EXPECTED = (OrchestraError, OSError, ValueError)

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Exit status (contract)."""

    DONE = 0
    FAILED = 1
    USAGE = 2


class UsageError(Exception):
    """An argument is wrong in a way that only shows when it is used."""


class Interrupted(Exception):
    """The command was told to end.

    Attributes:
        signal_number: by which signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class Signals:
    """What Ctrl-C and SIGTERM cancel: the innermost `stopping_here` block, else the whole command."""

    def __init__(self, whole: trio.CancelScope) -> None:
        self._scopes = [whole]
        self._caught: int | None = None

    @contextmanager
    def stopping_here(self) -> Iterator[None]:
        """Let a signal end this block alone; what is around it then sees `Interrupted`."""
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                yield
            finally:
                self._scopes.remove(scope)
        if scope.cancelled_caught:
            self.check()

    async def watch(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for one signal and act on it; after that they act as if nobody watched."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            self._caught = await anext(aiter(signals))
        self._scopes[-1].cancel()

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._caught is not None:
            raise Interrupted(self._caught)


Body = Callable[[Signals], Awaitable[int]]
"""What a command does; gives the exit status."""


def run(options: argparse.Namespace, body: Body, *, serves: bool = False) -> int:
    """Run a command to its end.

    Args:
        options: its arguments.
        body: what it does.
        serves: whether it runs until it is interrupted, which is then its proper end.
    """
    prog = f"orchestra {options.command}"
    _set_logging(options, logging.WARNING if serves else logging.ERROR)
    try:
        status = trio.run(_until_signal, body)
        sys.stdout.flush()
        return status
    except Interrupted as interrupted:
        if serves:
            return Exit.DONE
        complain(prog, str(interrupted))
        return 128 + interrupted.signal_number
    except KeyboardInterrupt:  # before signals were watched, or the second one
        complain(prog, "interrupted")
        return 128 + signal.SIGINT
    except (UsageError, *_EXPECTED) as failed:
        return _report(prog, failed)
    except BaseExceptionGroup as group:
        if group.split((UsageError, *_EXPECTED))[1] is not None:
            raise
        return _report(prog, _first(group))


def _report(prog: str, failed: BaseException) -> int:
    log.debug("this is where it failed", exc_info=failed)
    complain(prog, describe(failed))
    return Exit.USAGE if isinstance(failed, UsageError | ValueError) else Exit.FAILED


def describe(failed: BaseException) -> str:
    """An error for people, in one line."""
    if isinstance(failed, OSError) and not isinstance(failed, OrchestraError) and failed.strerror:
        where = "" if failed.filename is None else f": {failed.filename}"
        return f"{failed.strerror.lower()}{where}"
    return str(failed) or type(failed).__name__


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _until_signal(body: Body) -> int:
    """Run the command; cancel it when a signal says so."""
    statuses: list[int] = []
    with collapsed():
        async with trio.open_nursery() as nursery:
            signals = Signals(nursery.cancel_scope)
            await nursery.start(signals.watch)
            statuses.append(await body(signals))
            nursery.cancel_scope.cancel()
    if not statuses:
        signals.check()
    return statuses[0]


def _set_logging(options: argparse.Namespace, level: int) -> None:
    if options.verbose:
        level = logging.DEBUG
    elif options.quiet:
        level = logging.ERROR
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s", force=True
    )


def read_token(options: argparse.Namespace) -> bytes | None:
    """The cluster's secret, None where no file is named.

    Raises:
        UsageError: when the file cannot be used.
    """
    if options.token_file is None:
        return None
    try:
        return read_token_file(options.token_file)
    except (OSError, ValueError) as bad:
        raise UsageError(f"--token-file: {describe(bad)}") from bad


@asynccontextmanager
async def joined(
    options: argparse.Namespace, signals: Signals, *, listen: str | None = None, reconnect: bool = False
) -> AsyncIterator[Node]:
    """Join as the short-lived node of a command, for which no broadcasts are meant.

    Raises:
        Interrupted: when a signal has ended the block.
    """
    async with join(
        options.controller,
        name=_command_name(options.command),
        token=read_token(options),
        insecure=options.insecure,
        listen=listen,
        receives=False,
        reconnect=reconnect,
        connect_timeout=COMMAND_CONNECT_TIMEOUT_S,
    ) as node:
        with signals.stopping_here():
            yield node


def _command_name(command: str) -> str:
    """Unique in the cluster, and telling in its log."""
    return f"{command}-{os.getpid()}-{secrets.token_hex(4)}"
