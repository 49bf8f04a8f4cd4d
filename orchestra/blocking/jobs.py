"""What the portal of `orchestra.blocking` runs, and how its results get to the threads that wait for them.

Owns the handing over between two threads, and single calls. Must not know the portal.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import trio

from transfers.errors import LocalProtocolError

CANCEL_LIMIT_S = 1.0
"""How long a call that Ctrl-C has interrupted is waited for (a guess: cancelling takes milliseconds)."""

T = TypeVar("T")


class Result(Generic[T]):
    """What one thread hands to another, once: a value or an exception."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._values: list[T] = []
        self._error: BaseException | None = None

    @property
    def given(self) -> bool:
        """Whether it is there."""
        return self._given.is_set()

    def succeed(self, value: T) -> None:
        """Give a value, unless something has been given already."""
        if not self.given:
            self._values.append(value)
            self._given.set()

    def fail(self, error: BaseException) -> None:
        """Give an exception, unless something has been given already."""
        if not self.given:
            self._error = error
            self._given.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for it; whether it is there."""
        return self._given.wait(timeout_s)

    def take(self) -> T:
        """The value, once it is there, or raise the exception."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._values.pop()
        finally:
            del error  # it holds this frame, which would hold it


class Job(Protocol):
    """Something that runs in the loop for a thread outside of it."""

    gone: trio.Event
    cancel_limit_s: float

    async def run(self) -> None:
        """Do it, in a shielded cancel scope; raises nothing."""
        ...

    def end(self) -> None:
        """In the loop: have it end soon; cancel what it waits for."""
        ...

    def refuse(self, error: LocalProtocolError) -> None:
        """It will not be run, or is over: whoever waits still, waits in vain."""
        ...

    def wait_over(self, timeout_s: float) -> bool:
        """From any thread: wait until it is over; whether it is."""
        ...


class Call(Generic[T]):
    """One call of an async function."""

    cancel_limit_s = CANCEL_LIMIT_S

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self.gone = trio.Event()
        self.result: Result[T] = Result()
        self._scope = trio.CancelScope(shield=True)
        self._function = function

    async def run(self) -> None:
        try:
            with self._scope:
                self.result.succeed(await self._function())
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who raises it
            self.result.fail(error)

    def end(self) -> None:
        self._scope.cancel()

    def refuse(self, error: LocalProtocolError) -> None:
        self.result.fail(error)

    def wait_over(self, timeout_s: float) -> bool:
        return self.result.wait(timeout_s)
