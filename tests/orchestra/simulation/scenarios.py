"""Scenarios written by hand, for tests that want one thing to happen."""

from dataclasses import replace
from typing import Any

from orchestra.simulation.faults import Fault
from orchestra.simulation.scenario import SOURCE, BroadcastPlan, Scenario

RATE = 1e6
BLOCK_BYTES = 8192


def broadcast(mechanism: str = "cornet", blocks: int = 20, **changes: Any) -> BroadcastPlan:
    """A broadcast to everyone."""
    plan = BroadcastPlan(
        name="first",
        at_s=0.0,
        source=SOURCE,
        size_bytes=blocks * BLOCK_BYTES - 1,
        block_size_bytes=BLOCK_BYTES,
        mechanism=mechanism,
        timeout_s=10.0,
        to=None,
        cancel_after_s=None,
        seed=11,
    )
    return replace(plan, **changes)


def scenario(*broadcasts: BroadcastPlan, faults: tuple[Fault, ...] = (), **changes: Any) -> Scenario:
    """Four receivers n1 to n4 on hosts 1 to 4, all alike."""
    plain = Scenario(
        seed=5,
        rates=(RATE,) * 5,
        racks=None,
        uplink_bytes_per_s=None,
        port_rate_bytes_per_s=None,
        heartbeat_timeout_s=15.0,
        receivers={f"n{at}": at for at in range(1, 5)},
        late=(),
        broadcasts=broadcasts or (broadcast(),),
        shuffle=None,
        faults=faults,
    )
    return replace(plain, **changes)
