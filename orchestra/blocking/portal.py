"""The thread in which `orchestra.blocking` runs trio, and the way into it from all other threads.

Owns the thread, the waiting of callers, and what becomes of both at a fork, at Ctrl-C and at the end of
the interpreter. Must not know nodes or transfers: it runs any async function (`Branch.call`); contexts
that stay open are in `orchestra.blocking.context`.

Theory of operation.

* There is one `Portal` a process, started when first needed: ``trio.run`` in a daemon thread, entered
  through its `trio.lowlevel.TrioToken`. Nothing runs in the caller's event loop, so it works under
  asyncio, in notebooks and in worker threads of other libraries alike.
* What runs in the loop is a *job*: a call, or an open context. Jobs form a tree of *branches*: the root, and
  one for each open context. A job sits in a cancel scope of its own that is shielded, so that it ends in one
  way only: when told to. When a branch ends, its jobs are ended newest first, each waited for; so no thread
  stays behind in a call on a node that has left.
* Callers wait on a `threading.Event`, which a signal interrupts. Whatever is raised there (Ctrl-C raises
  KeyboardInterrupt) ends the job, waits a moment for it, and goes on up.
* Fork: the child has no such thread. A hook forgets the portal there, so that the next use starts a new one,
  and keeps every object of the old one alive: nothing of the parent's is closed, finalized or sent by
  the child. Handles compare process ids and refuse; leaving the block of an inherited context does nothing.
* End of the interpreter: an ``atexit`` function ends all contexts, newest first, and waits `EXIT_LIMIT_S` at
  most. This works without hooks into `threading`: the interpreter first joins the threads that are not
  daemons (they may still call, the loop lives), then runs ``atexit`` functions while daemon threads still
  run, and only then stops those. Ours is a daemon, so nothing waits for it without a limit; what is not
  through by then ends with the process, and the controller sees its connections close.
"""

import atexit
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TypeVar

import trio

from orchestra.blocking.jobs import Call, Job, Result
from transfers.errors import LocalProtocolError

START_LIMIT_S = 10.0
"""For the thread to begin (a guess: it takes milliseconds)."""
EXIT_LIMIT_S = 10.0
"""For all open contexts to end with the interpreter, or one at Ctrl-C (a guess: a local cluster may take 5 s
to end its agents, a node 1 s to say goodbye)."""
_LOOK_EVERY_S = 1.0
"""How often a waiting thread looks whether the loop still lives (a guess; it matters only after a bug)."""

T = TypeVar("T")


class Branch:
    """Where jobs run: the root of a portal, or one open context.

    Args:
        portal: whose loop.
        what: it is, for messages: ``"node worker-3"``.
    """

    def __init__(self, portal: "Portal", what: str) -> None:
        self.portal = portal
        self.what = what
        self._nursery: trio.Nursery | None = None
        self._jobs: dict[Job, None] = {}

    # -- for any thread --------------------------------------------------------------------------

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run an async function in the loop and wait for it: its value, or its exception.

        Raises:
            LocalProtocolError: in a forked child, in the portal's own thread, or when this branch has ended
                or ends meanwhile.
        """
        job = Call(function)
        self.start_soon(job)
        return self.portal.wait(job, job.result)

    def call_sync(self, function: Callable[[], T]) -> T:
        """As `call`, for a plain function that must run in the loop's thread."""

        async def run() -> T:
            return function()

        return self.call(run)

    def iterate(self, source: AsyncGenerator[T, None]) -> Iterator[T]:
        """An async generator, one call an item. It is closed, without waiting, when this one ends."""
        self.portal.streams.add(source)
        try:
            while True:
                try:
                    item = self.call(source.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._close_soon(source)

    def start_soon(self, job: Job) -> None:
        """Have a job begun; `LocalProtocolError` as `call`."""
        self.portal.check()
        self.portal.post(lambda: self._start(job))

    def _close_soon(self, source: AsyncGenerator[T, None]) -> None:
        """May run in any thread, as part of garbage collection too, and in a forked child."""

        async def close() -> None:
            await source.aclose()
            self.portal.streams.discard(source)

        with contextlib.suppress(LocalProtocolError):  # in a child, or at the end: nothing is to be done
            if self.portal.is_own:
                root = self.portal.root
                self.portal.post(lambda: root._start(Call(close)))

    # -- in the loop -------------------------------------------------------------------------------

    async def host(self, until: Callable[[], Awaitable[None]]) -> None:
        """Let jobs run while ``until`` does; then end those that are left, newest first."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await until()
            finally:
                self._nursery = None
                with trio.CancelScope(shield=True):
                    for job in reversed(list(self._jobs)):
                        job.end()
                        await job.gone.wait()

    def _start(self, job: Job) -> None:
        if self._nursery is None:
            job.refuse(LocalProtocolError(f"{self.what} is not open any more"))
        else:
            self._jobs[job] = None
            self._nursery.start_soon(self._run, job)

    async def _run(self, job: Job) -> None:
        try:
            await job.run()
        finally:
            job.refuse(LocalProtocolError(f"{self.what} has ended meanwhile"))
            del self._jobs[job]
            job.gone.set()


class Portal:
    """A thread that runs trio. Made by `root`.

    Attributes:
        root: of the tree of jobs.
        streams: async generators that are being iterated. Kept here so that a forked child never
            finalizes them.
    """

    def __init__(self) -> None:
        self.root = Branch(self, "orchestra.blocking")
        self.streams: set[object] = set()
        self._process = os.getpid()
        self._closing = trio.Event()
        self._token: Result[trio.lowlevel.TrioToken] = Result()
        self._thread = threading.Thread(target=self._run, name="orchestra.blocking", daemon=True)
        self._thread.start()
        if not self._token.wait(START_LIMIT_S):
            raise LocalProtocolError(f"the thread of orchestra.blocking did not begin in {START_LIMIT_S:g} s")
        self._entry = self._token.take()

    @property
    def is_own(self) -> bool:
        """Whether it was made by this process rather than by the one that forked it."""
        return os.getpid() == self._process

    @property
    def alive(self) -> bool:
        """Whether its loop runs, in this process."""
        return self.is_own and self._thread.is_alive()

    def check(self) -> None:
        """Raise `LocalProtocolError` where nobody may call: in a forked child, in the loop's own thread."""
        if not self.is_own:
            raise LocalProtocolError(
                f"this was made by process {self._process} and belongs to it; process {os.getpid()}, its "
                "forked child, has to join by itself"
            )
        if threading.current_thread() is self._thread:
            raise LocalProtocolError("orchestra.blocking was called from within its own thread")

    def post(self, function: Callable[[], object]) -> None:
        """Have a function that neither waits nor raises called in the loop; from any thread."""
        try:
            self._entry.run_sync_soon(function)
        except trio.RunFinishedError:
            raise LocalProtocolError("orchestra.blocking has ended in this process") from None

    def wait(self, job: Job, result: Result[T]) -> T:
        """Wait for something that a job gives; what a signal raises meanwhile ends the job first."""
        try:
            while not result.wait(_LOOK_EVERY_S):
                if not self._thread.is_alive():
                    result.fail(LocalProtocolError("the thread of orchestra.blocking has died"))
        except BaseException:
            with contextlib.suppress(LocalProtocolError):
                self.post(job.end)
                job.wait_over(job.cancel_limit_s)
            raise
        return result.take()

    def close(self, limit_s: float) -> None:
        """End all jobs and the thread; gives up after ``limit_s``."""
        with contextlib.suppress(LocalProtocolError):
            self.post(self._closing.set)
            self._thread.join(limit_s)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._token.fail(error)
            raise

    async def _main(self) -> None:
        await self.root.host(self._until_closing)

    async def _until_closing(self) -> None:
        self._token.succeed(trio.lowlevel.current_trio_token())
        await self._closing.wait()


class _Process:
    """What this process has of it: at most one portal."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.portal: Portal | None = None
        self.exiting = False


_process = _Process()
_inherited: list[_Process] = []
"""What forefathers had. Held for good: see the theory of operation."""


def root() -> Branch:
    """The root of this process's portal, which is started if need be.

    Raises:
        LocalProtocolError: when the interpreter is ending.
    """
    own = _process
    with own.lock:
        if own.exiting:
            raise LocalProtocolError("orchestra.blocking has ended in this process")
        if own.portal is None or not own.portal.alive:
            own.portal = Portal()
            # Anew for each portal: multiprocessing clears the list in its forked children.
            atexit.unregister(_at_exit)
            atexit.register(_at_exit)
        return own.portal.root


def _at_exit() -> None:
    own = _process
    own.exiting = True
    if own.portal is not None:
        own.portal.close(EXIT_LIMIT_S)


def _in_forked_child() -> None:
    global _process
    _inherited.append(_process)
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
