"""Running an async function under virtual time, the same way every time.

Owns the clock and the order of tasks. trio runs tasks that are ready in random order; Hypothesis makes that
order repeatable by two variables inside trio, since there is no public way, and so does this module, which
says so when a newer trio has them no longer.
"""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

from transfers.errors import OrchestraError

ResultT = TypeVar("ResultT")


class StuckSimulation(OrchestraError):
    """Nothing was left to happen, or it took longer than its limit of virtual time."""


def simulate(main: Callable[[], Awaitable[ResultT]], *, seed: int, limit_s: float) -> ResultT:
    """Run ``main`` under a clock that jumps to the next deadline whenever all tasks wait.

    Args:
        main: what to run. No threads, sockets or files that make it wait for the real world.
        seed: of the order of tasks.
        limit_s: virtual seconds after which it is stuck.

    Raises:
        StuckSimulation: when ``limit_s`` have passed.
    """
    runner: Any = trio._core._run
    if not hasattr(runner, "_ALLOW_DETERMINISTIC_SCHEDULING") or not isinstance(runner._r, Random):
        raise OrchestraError(f"trio {trio.__version__} cannot be made to run its tasks in a repeatable order")

    async def limited() -> ResultT:
        with trio.move_on_after(limit_s):
            return await main()
        raise StuckSimulation(f"not done after {limit_s:g} virtual seconds (seed {seed})")

    before = runner._ALLOW_DETERMINISTIC_SCHEDULING
    state = runner._r.getstate()
    runner._ALLOW_DETERMINISTIC_SCHEDULING = True
    runner._r.seed(seed)
    try:
        return trio.run(limited, clock=MockClock(autojump_threshold=0))
    finally:
        runner._ALLOW_DETERMINISTIC_SCHEDULING = before
        runner._r.setstate(state)
