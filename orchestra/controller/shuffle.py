"""The transfer controller of one shuffle: every mapper's partition reaches its reducer.

A partition is an object of its own, held by its mapper and wanted by one reducer. The shuffle is there
when the first participant opens it, moves each partition as soon as it is put and its reducer has
opened, and is done when every reducer has every mapper's partition. A participant that is lost with
something still due ends it, by name.

A shuffle is opened by its participants, or asked for by a node that only wants to hear how it went
(`RunShuffle`): then it is open for all of them from the start, and each is told its part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestra.controller.members import Node
from orchestra.controller.transfer import (
    PROGRESS_INTERVAL_S,
    Cluster,
    TransferController,
    TransferState,
    timeout_refused,
)
from orchestra.messages import (
    Begin,
    FetchTrouble,
    FollowSource,
    MapFailed,
    MapObject,
    OpenShuffle,
    PartitionEmpty,
    PartitionPut,
    Progress,
    RunShuffle,
    Settled,
    TakePart,
)
from transfers.ids import NodeName
from transfers.manifest import Manifest, ObjectKey, partition_name
from transfers.planners.events import Stored

MAX_FETCH_FAILURES = 5
"""Failed asks for one partition before its shuffle fails; its mapper is its only holder (a guess)."""


Sizes = Mapping[NodeName, Mapping[NodeName, int]]
"""Bytes by mapper, then by reducer."""


@dataclass(slots=True)
class _Partition:
    """One mapper's data for one reducer."""

    mapper: NodeName
    reducer: NodeName
    manifest: Manifest | None
    sent: bool = False
    delivered: bool = False
    failures: int = 0
    again_at_s: float | None = None


class ShuffleController(TransferController):
    """One shuffle, from its first opening to its outcome."""

    kind = "shuffle"

    def __init__(
        self, cluster: Cluster, opened: OpenShuffle, now: float, asker: NodeName | None = None
    ) -> None:
        super().__init__(opened.transfer, cluster, opened.timeout_s, now)
        self.mappers = opened.mappers
        self.reducers = opened.reducers
        self.asker = asker
        self.tally.accepted_at_s = now
        self.state = TransferState.ACTIVE
        self._opened: dict[NodeName, None] = {}
        self._partitions: dict[tuple[NodeName, NodeName], _Partition] = {}
        self._bytes_delivered = 0
        self._bytes_asked = 0
        self._told_progress_at_s = 0.0

    @classmethod
    def asked(cls, cluster: Cluster, message: RunShuffle, asker: NodeName, now: float) -> "ShuffleController":
        """A shuffle of synthetic bytes among agents, for a node that asked for it."""
        sizes = message.sizes_bytes
        reducers = dict.fromkeys(reducer for row in sizes.values() for reducer in row)
        opened = OpenShuffle(
            message.request, message.transfer, tuple(sizes), tuple(reducers), message.timeout_s
        )
        shuffle = cls(cluster, opened, now, asker)
        shuffle._bytes_asked = sum(sum(row.values()) for row in sizes.values())
        shuffle._opened = dict.fromkeys(shuffle.mappers + shuffle.reducers)
        for node in shuffle._opened:
            puts = {reducer: size for reducer, size in sizes.get(node, {}).items() if size}
            takes = {mapper: row[node] for mapper, row in sizes.items() if row.get(node)}
            cluster.send(
                node,
                TakePart(shuffle.name, shuffle.mappers, shuffle.reducers, puts, takes, shuffle.timeout_s),
            )
        return shuffle

    @property
    def method(self) -> str:
        """All share fairly."""
        return "fair"

    @property
    def progress(self) -> float:
        """Share of the partitions that have been delivered."""
        due = len(self.mappers) * len(self.reducers)
        return sum(part.delivered for part in self._partitions.values()) / due if due else 1.0

    @property
    def moving(self) -> bool:
        """Until its outcome is settled."""
        return not self.over

    def participants(self) -> list[NodeName]:
        """Mappers and reducers that have opened it."""
        return list(self._opened)

    # -- opening and putting -------------------------------------------------------------------

    def open(self, node: NodeName, message: OpenShuffle, now: float) -> str | None:
        """A participant takes part; a reason where it may not."""
        if (message.mappers, message.reducers) != (self.mappers, self.reducers):
            return f"shuffle {self.name!r} exists with other mappers or reducers"
        if node not in self.mappers and node not in self.reducers:
            return f"{node} is neither mapper nor reducer of shuffle {self.name!r}"
        if node in self._opened:
            return f"{node} takes part in shuffle {self.name!r} already: the name is in use"
        self._opened[node] = None
        self.moved_at_s = now
        return None

    def opened(self, node: NodeName, now: float) -> None:
        """The participant has been told that it takes part: give it what is there for it."""
        for partition in list(self._partitions.values()):
            if partition.reducer == node:
                self._send(partition, now)

    def put(self, mapper: NodeName, message: PartitionPut, now: float) -> None:
        """A mapper's partition for one reducer is there."""
        where = (mapper, message.reducer)
        if mapper not in self.mappers or message.reducer not in self.reducers or where in self._partitions:
            self.cluster.log(f"{self.name}: unexpected partition of {mapper} for {message.reducer}")
            return
        expected = ObjectKey(self.name, partition_name(mapper, message.reducer))
        if message.manifest is not None and message.manifest.key != expected:
            self.cluster.log(f"{self.name}: partition of {mapper} under the name {message.manifest.key}")
            return
        self.moved_at_s = now
        partition = self._partitions[where] = _Partition(mapper, message.reducer, message.manifest)
        if message.reducer in self._opened:
            self._send(partition, now)

    def _send(self, partition: _Partition, now: float) -> None:
        """Set a partition moving."""
        if partition.sent or self.over:
            return
        partition.sent = True
        manifest = partition.manifest
        mapper = self.cluster.members.present(partition.mapper)
        reducer = self.cluster.members.present(partition.reducer)
        if manifest is None:
            self.cluster.send(partition.reducer, PartitionEmpty(self.name, partition.mapper))
            self._delivered(partition, now)
        elif mapper is not None and reducer is not None:
            if reducer is not mapper and reducer.shares_with(mapper):
                self.cluster.send(
                    partition.reducer, MapObject(manifest, mapper.name, mapper.join.store_address)
                )
            else:
                self._follow(partition)

    def _follow(self, partition: _Partition) -> None:
        if partition.manifest is not None:
            self.cluster.send(partition.reducer, Begin(partition.manifest))
            if partition.reducer != partition.mapper:
                self.cluster.send(partition.reducer, FollowSource(partition.manifest.key, partition.mapper))

    # -- events --------------------------------------------------------------------------------

    def node_joined(self, node: Node, now: float) -> None:
        """A participant that came back would need its partitions again: the shuffle has ended by then."""

    def node_lost(self, name: NodeName, reason: str, now: float) -> None:
        """A participant is gone: the shuffle fails unless nothing of it is due any more."""
        if self.over:
            return
        if name == self.asker:
            self.end(TransferState.CANCELLED, f"{name}, which asked for it, is gone: {reason}", now)
        elif (name in self.mappers or name in self.reducers) and self._due_of(name):
            self._fail({name: f"lost: {reason}"}, f"{name} lost: {reason}", now)

    def blocks_held(self, node: NodeName, key: ObjectKey, records: tuple[Stored, ...], now: float) -> None:
        """Blocks have arrived at a reducer."""
        self.moved_at_s = now

    def settled(self, node: NodeName, message: Settled, now: float) -> None:
        """A reducer has a partition, or cannot take it."""
        partition = self._find(node, message.key)
        if partition is None or self.over:
            return
        if message.failure is not None:
            self._fail({node: message.failure}, f"{node} failed: {message.failure}", now)
            return
        self._delivered(partition, now)

    def _delivered(self, partition: _Partition, now: float) -> None:
        if partition.delivered:
            return
        partition.delivered = True
        self.moved_at_s = now
        if partition.manifest is not None:
            self._bytes_delivered += partition.manifest.layout.size_bytes
        if not self._due_of(partition.reducer, as_mapper=False):
            self.tally.node_completion_s[partition.reducer] = now - self.tally.accepted_at_s
        if self.progress == 1.0:
            self.state = TransferState.DONE
            self.tally.completion_s = now - self.tally.accepted_at_s
            self._tell_progress(now, at_once=True)
            self._tell_outcome([*self.participants(), *self._bystander()])

    def fetch_failed(self, node: NodeName, trouble: FetchTrouble, now: float) -> None:
        """An ask came to nothing: again, after a moment, for a bounded number of times."""
        partition = self._find(node, trouble.key)
        if partition is None or self.over:
            return
        partition.failures += 1
        self.cluster.log(
            f"{self.name}: {node} could not fetch from {trouble.source}: {trouble.failure.value}"
        )
        if partition.failures > MAX_FETCH_FAILURES:
            why = f"{trouble.failure.value} {partition.failures} times at {trouble.source}"
            self._fail({node: why}, f"{node} cannot fetch the partition of {trouble.source}: {why}", now)
        else:
            partition.again_at_s = now

    def map_failed(self, node: NodeName, message: MapFailed, now: float) -> None:
        """Mapping does not work: move the bytes."""
        partition = self._find(node, message.key)
        if partition is not None:
            self.cluster.log(f"{self.name}: {node} cannot map its host's store: {message.reason}")
            self._follow(partition)

    def tick(self, now: float) -> None:
        """Try failed asks again; end what stands still, naming those who hold it up."""
        if self.over:
            return
        for partition in self._partitions.values():
            if (
                partition.again_at_s is not None
                and partition.again_at_s < now
                and partition.manifest is not None
            ):
                partition.again_at_s = None
                self.cluster.send(partition.reducer, FollowSource(partition.manifest.key, partition.mapper))
        if now - self.moved_at_s >= self.timeout_s:
            self._fail(self._hold_ups(), f"stood still for {self.timeout_s:g} s", now)
        self._tell_progress(now)

    def _tell_progress(self, now: float, at_once: bool = False) -> None:
        """Tell the node that asked how far it is."""
        if self.asker is None or not (at_once or now - self._told_progress_at_s >= PROGRESS_INTERVAL_S):
            return
        self._told_progress_at_s = now
        through = len(self.tally.node_completion_s)
        self.cluster.send(
            self.asker,
            Progress(self.name, self._bytes_delivered, self._bytes_asked, through, len(self.reducers)),
        )

    # -- endings -------------------------------------------------------------------------------

    def give_up(self, node: NodeName, reason: str, now: float) -> None:
        """A participant cannot go on, or the node that asked for it does not want it any more."""
        if self.over:
            return
        if node in self.mappers or node in self.reducers:
            why = reason or "gave up"
            self._fail({node: why}, f"{node} failed: {why}", now)
        elif node == self.asker:
            self.end(TransferState.CANCELLED, f"cancelled by {node}", now)

    def end(self, state: TransferState, reason: str, now: float) -> None:
        """As for every transfer; who asked for it is told too."""
        super().end(state, reason, now)
        self._tell_outcome(self._bystander())

    def _bystander(self) -> list[NodeName]:
        """The node that asked for it, where it takes no part itself."""
        return [] if self.asker is None or self.asker in self._opened else [self.asker]

    def _hold_ups(self) -> dict[str, str]:
        told: dict[str, str] = {}
        for name in dict.fromkeys(self.mappers + self.reducers):
            if name not in self._opened:
                told[name] = "did not take part"
        for mapper in self.mappers:
            missing = [to for to in self.reducers if (mapper, to) not in self._partitions]
            if missing and mapper not in told:
                told[mapper] = f"put nothing for {', '.join(missing)}"
        for part in self._partitions.values():
            if not part.delivered and part.reducer not in told:
                told[part.reducer] = f"has not received the partition of {part.mapper}"
        return told

    def _due_of(self, name: NodeName, as_mapper: bool = True) -> bool:
        """Whether something is still due from, or to, a participant."""
        pairs: Iterable[tuple[NodeName, NodeName]] = (
            (mapper, reducer)
            for mapper in self.mappers
            for reducer in self.reducers
            if reducer == name or (as_mapper and mapper == name)
        )
        return any(pair not in self._partitions or not self._partitions[pair].delivered for pair in pairs)

    def _find(self, reducer: NodeName, key: ObjectKey) -> _Partition | None:
        mapper = NodeName(str(key.part).partition("/")[0])
        partition = self._partitions.get((mapper, reducer))
        return partition if partition is not None and key.part == partition_name(mapper, reducer) else None

    def _fail(self, failed: dict[str, str], reason: str, now: float) -> None:
        self.tally.failed.update(failed)
        self.end(TransferState.FAILED, reason, now)

    def _tell_outcome(self, names: Iterable[NodeName]) -> None:
        outcome = self.tally.outcome(self.name)
        for name in names:
            self.cluster.send(name, outcome)


def run_refused(message: RunShuffle, agents: Iterable[NodeName]) -> str | None:
    """Why agents cannot be asked to run this shuffle, or None."""
    if not any(message.sizes_bytes.values()):
        return f"shuffle {message.transfer!r} needs at least one mapper and one reducer"
    refused = timeout_refused(message.timeout_s)
    if refused is not None:
        return refused
    known = set(agents)
    named = [*message.sizes_bytes, *(reducer for row in message.sizes_bytes.values() for reducer in row)]
    unknown = dict.fromkeys(name for name in named if name not in known)
    if unknown:
        return f"no agents of these names have joined: {', '.join(unknown)}"
    for mapper, row in message.sizes_bytes.items():
        for reducer, size_bytes in row.items():
            if size_bytes < 0:
                return f"bytes from {mapper} to {reducer} must not be negative, got {size_bytes}"
    return None
