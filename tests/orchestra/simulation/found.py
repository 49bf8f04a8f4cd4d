"""What seeds have found, as they drew it: kept apart from the drawing, which may change."""

from orchestra.simulation.faults import Clog, Corrupt, Cut, Kill, Leave, Slow, SwizzleClog
from orchestra.simulation.scenario import BroadcastPlan, Scenario, ShufflePlan


def _agents(count: int) -> dict[str, int]:
    return {f"n{at}": at for at in range(1, count + 1)}


def _broadcast(
    name: str,
    mechanism: str,
    size_bytes: int,
    block_size_bytes: int,
    *,
    at_s: float = 0.0,
    source: str = "source",
    cancel_after_s: float | None = None,
) -> BroadcastPlan:
    return BroadcastPlan(
        *(name, at_s, source, size_bytes, block_size_bytes, mechanism, 20.0, None, cancel_after_s, 7)
    )


def _scenario(
    seed: int,
    rates: tuple[float, ...],
    broadcasts: tuple[BroadcastPlan, ...],
    faults: tuple[Kill | Leave | Cut | Clog | SwizzleClog | Slow | Corrupt, ...],
    *,
    port_rate: float | None = None,
    heartbeat_timeout_s: float = 15.0,
    shuffle: ShufflePlan | None = None,
) -> Scenario:
    receivers = _agents(len(rates) - 1)
    return Scenario(
        *(seed, rates, None, None, port_rate, heartbeat_timeout_s, receivers, (), broadcasts, shuffle, faults)
    )


DRAINED_AFTER_RELEASE = _scenario(
    249,
    (1143162.82, 1009593.37, 1031726.51, 1549085.78, 1461640.73, 901659.85),
    (
        _broadcast("first", "cornet", 928427, 16384),
        _broadcast("second", "chain", 184320, 12288, at_s=0.13823, source="n4"),
    ),
    (Slow(0.205546, 5, 0.07968, 3.90158), Kill(0.66973, "source", 0)),
)
"""A block that was drained after its release got its node a budget that nobody took away."""

EMPTY_SHUFFLE = _scenario(
    259,
    (2660991.1,) * 4,
    (_broadcast("first", "cornet", 49152, 6144),),
    (),
    port_rate=1592012.2,
    shuffle=ShufflePlan("shuffle", 0.35936, {"n2": {"n3": 0, "n1": 5000, "n2": 1}}, 20.0),
)
"""A shuffle of empty partitions left its budget behind."""

CANCELLED_WHEN_DONE = _scenario(
    334,
    (1019873.93, 1290782.93, 834169.31, 759253.33, 1097377.32),
    (_broadcast("first", "chain", 49151, 8192, cancel_after_s=0.13264),),
    (Cut(0.034117, 2, 1, False, 0.081668), Kill(0.077594, "n4", 4), Leave(0.204439, "n3")),
)
"""A transfer that was cancelled when it was done told no reason."""

RELEASED_MEANWHILE = _scenario(
    478,
    (2848570.28,) * 6,
    (_broadcast("first", "tree", 15359, 3072),),
    (
        Cut(0.107255, 0, 5, True, 0.259492),
        Cut(0.120437, 0, 5, False, 4.668065),
        Cut(0.182014, 4, 1, False, 0.460232),
        SwizzleClog(
            0.282397,
            ((3, 0.008981), (0, 0.084786), (4, 0.10966)),
            ((0, 0.172196), (3, 0.222349), (4, 0.287438)),
        ),
    ),
    port_rate=885089.5,
    heartbeat_timeout_s=4.0,
)
"""What had been released a moment before a holder came back was taken over again from that one."""

WAITING_FOR_A_HOLDER = _scenario(
    5182,
    (1335222.37,) * 4,
    (
        _broadcast("first", "auto", 6143, 3072),
        _broadcast("second", "hdfs", 415062, 8192, at_s=0.155659),
    ),
    (
        Clog(0.000215, 0, 0.062844),
        Kill(0.000269, "n2", 2),
        Kill(0.048371, "n3", 3, 1.192498),
        Kill(0.257269, "source", 0, 2.677037),
        Clog(0.269799, 0, 0.642714),
        Kill(0.28948, "n1", 1, 2.999507),
    ),
)
"""Who had begun to receive, and then waited for a holder to come back, was forgotten by the release."""
