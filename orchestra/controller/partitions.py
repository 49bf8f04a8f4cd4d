"""The partitions of one shuffle: which have been put, which are on their way, which have arrived.

Owns the matrix of mappers by reducers. Must not know nodes' connections, nor how partitions travel. Pure.

Theory of operation. A partition goes by the *places* of its two ends, which are the names of the shuffle's
mappers and reducers; who has a place may change when its node is lost. What is put again after that is
another attempt, under another name, so that bytes of two attempts never meet. A pair counts as delivered
once, and is due again only when the reducer's place has gone to another node.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from transfers.ids import NodeName
from transfers.manifest import Manifest, PartName, partition_name

Pair = tuple[NodeName, NodeName]
"""The places of a mapper and a reducer."""


class PartitionState(Enum):
    """Where a partition stands."""

    PUT = "put"
    """Its mapper has it; its reducer has not been told yet."""
    MOVING = "moving"
    """Its reducer takes it in."""
    WAITING = "waiting"
    """Its reducer has no room for it yet."""
    DELIVERED = "delivered"


@dataclass(slots=True)
class Partition:
    """One mapper's data for one reducer.

    Attributes:
        mapper, reducer: the places.
        name: of the object; another for each attempt.
        manifest: None where it is empty.
        holder: the node that has put it.
        received_bytes: as the reducer says; not all of it need be checked.
        failures: asks that came to nothing.
        again_at_s: when to ask again; None for not.
        delivered_at_s: None until then.
        local: whether it moves inside one host only.
    """

    mapper: NodeName
    reducer: NodeName
    name: PartName
    manifest: Manifest | None
    holder: NodeName
    state: PartitionState = PartitionState.PUT
    received_bytes: int = 0
    failures: int = 0
    again_at_s: float | None = None
    delivered_at_s: float | None = None
    local: bool = False

    @property
    def size_bytes(self) -> int:
        """Of all of it."""
        return 0 if self.manifest is None else self.manifest.layout.size_bytes

    @property
    def left_bytes(self) -> int:
        """What is still to come."""
        return max(0, self.size_bytes - self.received_bytes)

    @property
    def delivered(self) -> bool:
        """Whether its reducer has all of it."""
        return self.state is PartitionState.DELIVERED


class Partitions:
    """Of one shuffle.

    Args:
        mappers, reducers: places.

    Attributes:
        delivered: how many pairs are.
        delivered_bytes: of all that are.
        moving: partitions that are on their way, by pair.
    """

    def __init__(self, mappers: Sequence[NodeName], reducers: Sequence[NodeName]) -> None:
        self.mappers = mappers
        self.reducers = reducers
        self.delivered = 0
        self.delivered_bytes = 0
        self.moving: dict[Pair, Partition] = {}
        self._found: dict[Pair, Partition] = {}
        self._attempts: dict[Pair, int] = {}
        self._due_to = dict.fromkeys(reducers, len(mappers))
        self._due_of = dict.fromkeys(mappers, len(reducers))

    def __iter__(self) -> Iterator[Partition]:
        """All that have been put, as of now."""
        return iter(list(self._found.values()))

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.mappers) * len(self.reducers)

    @property
    def complete(self) -> bool:
        """Whether all pairs are delivered."""
        return self.delivered == self.count

    def get(self, pair: Pair) -> Partition | None:
        """What has been put for a pair."""
        return self._found.get(pair)

    def by_name(self, reducer: NodeName, name: PartName) -> Partition | None:
        """The partition of a name, if it is the one that counts."""
        found = self._found.get((NodeName(name.partition("/")[0]), reducer))
        return found if found is not None and found.name == name else None

    def name_of(self, pair: Pair) -> PartName:
        """How the next attempt at a pair is called."""
        return partition_name(*pair, self.attempt_at(pair))

    def attempt_at(self, pair: Pair) -> int:
        """How often a pair has been put in vain."""
        return self._attempts.get(pair, 0)

    def is_due_of(self, mapper: NodeName) -> bool:
        """Whether anything of a mapper's is not delivered."""
        return self._due_of.get(mapper, 0) > 0

    def is_due_to(self, reducer: NodeName) -> bool:
        """Whether a reducer lacks anything."""
        return self._due_to.get(reducer, 0) > 0

    def missing_of(self, mapper: NodeName) -> list[NodeName]:
        """The reducers for whom a mapper has still to put something."""
        return [reducer for reducer in self.reducers if (mapper, reducer) not in self._found]

    # -- changes ---------------------------------------------------------------------------------

    def put(
        self, mapper: NodeName, reducer: NodeName, manifest: Manifest | None, holder: NodeName
    ) -> Partition | None:
        """A partition is there; None where it is none, or has been put already."""
        pair = (mapper, reducer)
        if mapper not in self._due_of or reducer not in self._due_to or pair in self._found:
            return None
        made = self._found[pair] = Partition(mapper, reducer, self.name_of(pair), manifest, holder)
        return made

    def start(self, partition: Partition) -> None:
        """Its reducer has been told."""
        partition.state = PartitionState.MOVING
        self.moving[partition.mapper, partition.reducer] = partition

    def set_waiting(self, partition: Partition, waits: bool) -> None:
        """Its reducer has no room for it, or has found some."""
        if partition.state in (PartitionState.MOVING, PartitionState.WAITING):
            partition.state = PartitionState.WAITING if waits else PartitionState.MOVING

    def deliver(self, partition: Partition, now: float) -> None:
        """Its reducer has all of it."""
        partition.state = PartitionState.DELIVERED
        partition.received_bytes = partition.size_bytes
        partition.delivered_at_s = now
        self.moving.pop((partition.mapper, partition.reducer), None)
        self._due_of[partition.mapper] -= 1
        self._due_to[partition.reducer] -= 1
        self.delivered += 1
        self.delivered_bytes += partition.size_bytes

    def lose_holder(self, node: NodeName) -> list[Partition]:
        """A node is gone: what it has put and is not delivered has to be put again. What it was."""
        gone = [each for each in self if each.holder == node and not each.delivered]
        for partition in gone:
            self._forget(partition)
        return gone

    def lose_reducer(self, reducer: NodeName, present: "set[NodeName]") -> list[Partition]:
        """A reducer is gone with all it had: every partition for it is due again.

        Args:
            reducer: the place.
            present: nodes that are there: what others have put has to be put again.

        Returns:
            What has to be put again.
        """
        gone = []
        for partition in [each for each in self if each.reducer == reducer]:
            if partition.delivered:
                self._due_of[partition.mapper] += 1
                self._due_to[reducer] += 1
                self.delivered -= 1
                self.delivered_bytes -= partition.size_bytes
            self.moving.pop((partition.mapper, reducer), None)
            partition.state, partition.received_bytes = PartitionState.PUT, 0
            partition.failures, partition.again_at_s, partition.delivered_at_s = 0, None, None
            if partition.manifest is not None and partition.holder not in present:
                self._forget(partition)
                gone.append(partition)
        return gone

    def _forget(self, partition: Partition) -> None:
        pair = (partition.mapper, partition.reducer)
        del self._found[pair]
        self.moving.pop(pair, None)
        self._attempts[pair] = self._attempts.get(pair, 0) + 1
