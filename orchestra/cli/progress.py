"""Progress bars, on a terminal, on stderr, and nowhere else; and waiting for a transfer beside one."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from orchestra.groups import collapsed
from orchestra.messages import Outcome
from orchestra.node.handles import WatchedTransfer

CANCEL_LIMIT_S = 2.0
"""Longest wait for the controller's word that an interrupted transfer is cancelled (a guess)."""
REDRAW_INTERVAL_S = 0.1
"""A guess: smooth to the eye, and nothing to the processor."""


@asynccontextmanager
async def progress_bar(
    label: str, progress: Callable[[], tuple[int, int]], *, quiet: bool = False
) -> AsyncIterator[None]:
    """Show how far something is while the block runs.

    Args:
        label: what it is.
        progress: bytes done, and bytes in all; 0 in all where that is not known yet.
        quiet: show nothing.
    """
    if quiet or not sys.stderr.isatty():
        yield
        return
    with collapsed():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_draw, label, progress)
            yield
            nursery.cancel_scope.cancel()


async def finished(transfer: WatchedTransfer, quiet: bool) -> Outcome:
    """Wait for the outcome; an interrupted command takes its transfer back."""

    def done_and_total() -> tuple[int, int]:
        progress = transfer.progress()
        return progress.done_bytes, progress.total_bytes

    try:
        async with progress_bar(transfer.name, done_and_total, quiet=quiet):
            return await transfer.wait_outcome()
    except trio.Cancelled:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_LIMIT_S):
            await transfer.cancel()
        raise


async def _draw(label: str, progress: Callable[[], tuple[int, int]]) -> None:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread beside trio's: the bar is redrawn often enough
    with tqdm(desc=label, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:
        try:
            while True:
                bar.n, total = progress()
                bar.total = total or None
                bar.refresh()
                await trio.sleep(REDRAW_INTERVAL_S)
        finally:
            bar.n, _ = progress()
