"""Running one command: signals, expected errors, exit status.

Owns the mapping from what happened to what the caller of the process sees: expected errors are one line on
stderr and a status; anything else is a bug and shows its trace. Ctrl-C and SIGTERM cancel a command, so
that it can take its leave; a second one ends it at once.
"""

import argparse
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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


def run(options: argparse.Namespace, body: Callable[[], Awaitable[int]], *, serves: bool = False) -> int:
    """Run a command to its end.

    Args:
        options: its arguments.
        body: what it does; gives the exit status.
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


async def _until_signal(body: Callable[[], Awaitable[int]]) -> int:
    """Run the command; cancel it when a signal says so."""
    caught: list[int] = []
    status: int | None = None
    with collapsed():
        async with trio.open_nursery() as nursery:

            async def watch(task_status: trio.TaskStatus[None]) -> None:
                with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    task_status.started()
                    caught.append(await anext(aiter(signals)))
                nursery.cancel_scope.cancel()

            await nursery.start(watch)
            status = await body()
            nursery.cancel_scope.cancel()
    if status is None:
        raise Interrupted(caught[0])
    return status


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
    options: argparse.Namespace, *, listen: str | None = None, reconnect: bool = True
) -> AsyncIterator[Node]:
    """Join as the short-lived node of a command, for which no broadcasts are meant."""
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
        yield node


def _command_name(command: str) -> str:
    """Unique in the cluster, and telling in its log."""
    return f"{command}-{os.getpid()}-{secrets.token_hex(4)}"
