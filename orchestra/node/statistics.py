"""What one node keeps for objects and has under way: for those who watch that nothing is left behind.

Owns the figures' names. Must not know where they come from (`orchestra.node.objects`).
"""

from dataclasses import dataclass

from transfers.net.fetch import FetchStatistics
from transfers.net.server import ServerStatistics
from transfers.store import StoreStatistics


@dataclass(frozen=True, slots=True)
class ObjectsStatistics:
    """What a node keeps for objects, and what it has under way for them.

    Attributes:
        store: its memory.
        fetching, serving: its two engines.
        arrivals: objects that are here or waited for.
        settled: objects of which it has told the controller how it went.
        under_way: objects that are arriving.
        engaged: broadcasts whose outcome it waits for.
        unsent: objects with reports that are not sent yet.
        budgets: transfers for which it keeps rates.
        waiting: partitions for which it has no room yet.
    """

    store: StoreStatistics
    fetching: FetchStatistics
    serving: ServerStatistics
    arrivals: int
    settled: int
    under_way: int
    engaged: int
    unsent: int
    budgets: int
    waiting: int
