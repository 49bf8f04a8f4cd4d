"""Progress bars: on a terminal, on stderr, and nowhere else."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from orchestra.groups import collapsed

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
