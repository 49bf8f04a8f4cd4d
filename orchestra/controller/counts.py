"""What a controller has done so far, in numbers: for `orchestra status --json`, and for whoever measures it.

Owns counters that only grow. Pure; whoever does a thing counts it.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Since the controller began.

    Attributes:
        messages_in: of nodes, of every kind.
        messages_out: to nodes, of every kind.
        heartbeats: of ``messages_in``, those that said nothing else.
        reports: of ``messages_in``, those about blocks that were stored.
        block_events: blocks that those reports named, each stored and verified on one node.
        ticks: looks at the clock.
    """

    messages_in: int = 0
    messages_out: int = 0
    heartbeats: int = 0
    reports: int = 0
    block_events: int = 0
    ticks: int = 0
