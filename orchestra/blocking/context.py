"""Async context managers as plain ones: ``with`` in one thread, ``async with`` in the portal's.

Owns entering and leaving. Must not know what the managers do.

Theory of operation. Each context is a job with a branch of its own: one task enters the async manager,
stays inside while the block of the ``with`` statement runs, and leaves it again, as trio's nurseries
and cancel scopes demand. Calls on what was opened are jobs of that branch, so they end before the manager
leaves. The exception that ends a block stays in its thread untouched: the manager is left with a stand-in,
since all it needs to know is that the block failed.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, TypeVar

import trio

from orchestra.blocking.jobs import Result
from orchestra.blocking.portal import EXIT_LIMIT_S, Branch
from orchestra.groups import collapsed
from transfers.errors import LocalProtocolError

A = TypeVar("A")
H = TypeVar("H")


class _BlockRaised(Exception):
    """Stands for whatever ended the block."""


class _Stay(Generic[A]):
    """The job: inside an async context manager from entering to leaving."""

    cancel_limit_s = EXIT_LIMIT_S

    def __init__(self, branch: Branch, make: Callable[[], AbstractAsyncContextManager[A]]) -> None:
        self.gone = trio.Event()
        self.entered: Result[A] = Result()
        self.left: Result[None] = Result()
        self._scope = trio.CancelScope(shield=True)
        self._branch = branch
        self._make = make
        self._leaving = trio.Event()
        self._raised = False

    async def run(self) -> None:
        try:
            with collapsed(), self._scope:
                async with self._make() as value:
                    await self._branch.host(lambda: self._stay(value))
                    if self._raised:
                        raise _BlockRaised
            if self.entered.given:
                self.left.succeed(None)
        except _BlockRaised:
            self.left.succeed(None)
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread of the block
            (self.left if self.entered.given else self.entered).fail(error)

    async def _stay(self, value: A) -> None:
        self.entered.succeed(value)
        await self._leaving.wait()

    def leave(self, raised: bool) -> None:
        """In the loop: the block has ended."""
        self._raised = raised
        self._leaving.set()

    def end(self) -> None:
        """Leave as when the block fails, which sends the word of leaving; cancel an entering or a leaving."""
        if self.entered.given and not self._leaving.is_set():
            self.leave(raised=True)
        else:
            self._scope.cancel()

    def refuse(self, error: LocalProtocolError) -> None:
        self.entered.fail(error)
        self.left.succeed(None)

    def wait_over(self, timeout_s: float) -> bool:
        return self.left.wait(timeout_s)


class Context(Generic[A, H]):
    """A context manager that opens an async one in the portal's thread. For one use.

    Args:
        home: where it runs: the portal's root, or the branch of the context that it belongs to.
        what: is opened, for messages.
        make: the async context manager.
        wrap: its value, as the block gets it.
    """

    def __init__(
        self,
        home: Callable[[], Branch],
        what: str,
        make: Callable[[], AbstractAsyncContextManager[A]],
        wrap: Callable[[Branch, A], H],
    ) -> None:
        self._home = home
        self._what = what
        self._make = make
        self._wrap = wrap
        self._branch: Branch | None = None
        self._stay: _Stay[A]

    def __enter__(self) -> H:
        if self._branch is not None:
            raise LocalProtocolError(f"{self._what} has been entered already: make a new one")
        home = self._home()
        self._branch = Branch(home.portal, self._what)
        self._stay = _Stay(self._branch, self._make)
        home.start_soon(self._stay)
        value = home.portal.wait(self._stay, self._stay.entered)
        return self._wrap(self._branch, value)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it. Does nothing in a forked child: it is the parent's to leave.

        Raises:
            Exception: what the async context manager raises on leaving, or what has ended it meanwhile.
        """
        assert self._branch is not None, "entered by __enter__"
        portal = self._branch.portal
        if not portal.is_own:
            return
        portal.check()
        stay = self._stay
        with contextlib.suppress(LocalProtocolError):  # it has ended with the portal
            portal.post(lambda: stay.leave(error is not None))
        portal.wait(stay, stay.left)
