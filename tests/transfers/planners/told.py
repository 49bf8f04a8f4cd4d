"""Short ways to say what a planner is told, for tests of behaviour."""

from random import Random

from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import BroadcastPlanner, Mechanism, make_planner
from transfers.planners.events import (
    BlocksStored,
    Command,
    Fetch,
    FetchFailed,
    FetchFailure,
    Follow,
    NodeJoined,
    NodeLost,
    Stored,
    Tick,
)

SOURCE = NodeName("source")


def planned(
    mechanism: Mechanism, blocks: int, joined: str = "", *, degree: int = 2, replicas: int = 3, seed: int = 0
) -> BroadcastPlanner:
    """A planner to which receivers have joined, one a letter."""
    planner = make_planner(mechanism, blocks, SOURCE, Random(seed), degree=degree, replicas=replicas)
    for name in joined:
        join(planner, name)
    return planner


def join(planner: BroadcastPlanner, name: str, now: float = 0.0) -> list[Command]:
    return planner.handle(NodeJoined(NodeName(name), BlockSet(planner.block_count)), now)


def lose(planner: BroadcastPlanner, name: str, now: float = 0.0) -> list[Command]:
    return planner.handle(NodeLost(NodeName(name), "gone"), now)


def store(
    planner: BroadcastPlanner, name: str, *blocks: int, source: str = SOURCE, now: float = 0.0
) -> list[Command]:
    records = tuple(Stored(BlockIndex(block), NodeName(source), 0.01) for block in blocks)
    return planner.handle(BlocksStored(NodeName(name), records), now)


def fail(
    planner: BroadcastPlanner, name: str, source: str, failure: FetchFailure, *blocks: int, now: float = 0.0
) -> list[Command]:
    indices = tuple(BlockIndex(block) for block in blocks)
    return planner.handle(FetchFailed(NodeName(name), NodeName(source), indices, failure), now)


def tick(planner: BroadcastPlanner, now: float) -> list[Command]:
    return planner.handle(Tick(), now)


def shape(planner: BroadcastPlanner) -> dict[str, str]:
    """Who follows whom."""
    return {str(at.name): str(at.follows[0]) for at in planner.living() if at.follows}


def follows(commands: list[Command]) -> dict[str, str | None]:
    return {
        str(order.node): None if order.source is None else str(order.source)
        for order in commands
        if isinstance(order, Follow)
    }


def fetches(commands: list[Command]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [
        (str(order.node), str(order.source), tuple(order.blocks))
        for order in commands
        if isinstance(order, Fetch)
    ]
