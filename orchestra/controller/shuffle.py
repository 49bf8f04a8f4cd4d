"""The transfer controller of one shuffle: every mapper's partition reaches its reducer.

Owns in which state the shuffle is, and who has which place in it. The matrix of partitions is in
`orchestra.controller.partitions`. Must not know which flow may move how fast. Pure.

Theory of operation. A partition is an object of its own, held by who has put it and wanted by one reducer.
The shuffle is there when the first participant opens it, moves each partition as soon as it is put and its
reducer has opened, and is done when every reducer has every mapper's partition. Where nobody can take a lost
participant's place, its loss ends the shuffle, by name, and a partition that has been delivered is let go of
at once. Else partitions stay until the end, the others are told which place is free and what has to be put
again, and the shuffle stands still, for its timeout, until somebody takes it.

A shuffle is opened by its participants, or asked for by a node that only wants to hear how it went
(`RunShuffle`): then it is open for all of them from the start, each is told its part, and lost places are
given to other agents by the controller itself.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from orchestra.controller.demands import NodeFlow, PortNumbers, shuffle_demand
from orchestra.controller.members import Node, NodeState
from orchestra.controller.partitions import Partition, Partitions, PartitionState
from orchestra.controller.standing_plan import FlowState
from orchestra.controller.transfer import (
    PROGRESS_INTERVAL_S,
    Cluster,
    TransferController,
    TransferState,
    timeout_refused,
)
from orchestra.messages import (
    Begin,
    DropPartition,
    FetchTrouble,
    FlowProgress,
    FollowSource,
    MapFailed,
    MapObject,
    OpenShuffle,
    Outcome,
    PartitionDelivered,
    PartitionEmpty,
    PartitionPut,
    PartitionWaits,
    PlaceFilled,
    PlaceLost,
    Progress,
    RunShuffle,
    Settled,
    TakePart,
)
from schedulers import Demand
from transfers.ids import NodeName
from transfers.manifest import ObjectKey, PartName, taker_of
from transfers.planners.events import Stored

MAX_FETCH_FAILURES = 5
"""Failed asks for one partition before its shuffle fails; its mapper is its only holder (a guess)."""
_NOTHING = (0, -math.inf, -math.inf)
MOST_FLOWS_TOLD = 10_000
"""Whose times are told to who asked for a shuffle (a guess: they take half a megabyte)."""

Sizes = Mapping[NodeName, Mapping[NodeName, int]]
"""Bytes by mapper, then by reducer."""


class ShuffleController(TransferController):
    """One shuffle, from its first opening to its outcome."""

    kind = "shuffle"

    def __init__(
        self, cluster: Cluster, opened: OpenShuffle, now: float, asker: NodeName | None = None
    ) -> None:
        super().__init__(opened.transfer, cluster, opened.timeout_s, opened.terms.claim, now)
        self.mappers = opened.mappers
        self.reducers = opened.reducers
        self.terms = opened.terms
        self.asker = asker
        self.tally.accepted_at_s = now
        self.state = TransferState.ACTIVE
        self._sizes: Sizes = {}
        self._partitions = Partitions(opened.mappers, opened.reducers)
        self._having: dict[NodeName, NodeName] = {}  # who has which place
        self._lost: dict[NodeName, str] = {}  # places that are free and needed, and why
        self._left: dict[NodeName, tuple[NodeName, str]] = {}  # who had a place last, and why no longer
        self._moved: dict[NodeFlow, tuple[int, float, float]] = {}  # bytes; when, by the receiver and by us
        self._told_progress_at_s = 0.0

    @classmethod
    def asked(cls, cluster: Cluster, message: RunShuffle, asker: NodeName, now: float) -> "ShuffleController":
        """A shuffle of synthetic bytes among agents, for a node that asked for it."""
        sizes = message.sizes_bytes
        reducers = dict.fromkeys(reducer for row in sizes.values() for reducer in row)
        opened = OpenShuffle(
            *(message.request, message.transfer, tuple(sizes), tuple(reducers), message.timeout_s),
            message.terms,
        )
        shuffle = cls(cluster, opened, now, asker)
        shuffle._sizes = sizes
        for place in dict.fromkeys(shuffle.mappers + shuffle.reducers):
            shuffle._having[place] = place
            shuffle._tell_part(place, place, first=True)
        return shuffle

    def _tell_part(self, place: NodeName, node: NodeName, *, first: bool = False) -> None:
        """Tell a node what it has to make up and to take, at a place; ``first``: nobody has had it before."""
        attempts = {} if first else self.attempts_of(place)
        puts = {to: size for to, size in self._sizes.get(place, {}).items() if size}
        if not first:  # what has been delivered before is not asked for again
            puts = {to: size for to, size in puts.items() if to in attempts}
        takes = {mapper: row[place] for mapper, row in self._sizes.items() if row.get(place)}
        where = None if place == node else place
        self.cluster.send(
            node,
            TakePart(
                *(self.name, self.mappers, self.reducers, puts, takes, self.timeout_s, self.terms, where),
                attempts,
            ),
        )

    @property
    def method(self) -> str:
        """How its flows share what it has."""
        return "weighted" if self.terms.weighted else "fair"

    @property
    def progress(self) -> float:
        """Share of the partitions that have been delivered, with what has come of those under way."""
        if not self._partitions.count:
            return 1.0
        moving = self._partitions.moving.values()
        come = sum(each.received_bytes / each.size_bytes for each in moving if each.size_bytes)
        return (self._partitions.delivered + come) / self._partitions.count

    @property
    def moving(self) -> bool:
        """Until its outcome is settled."""
        return not self.over

    @property
    def gone(self) -> bool:
        """Nobody keeps anything of a shuffle that is over."""
        return self.over

    def participants(self) -> list[NodeName]:
        """Nodes that have a place in it, each once."""
        return list(dict.fromkeys(self._having.values()))

    def involves(self, node: NodeName) -> bool:
        """Whether a node has a place in it."""
        return self._having.get(node) == node or node in self._having.values()

    def _places_of(self, node: NodeName) -> list[NodeName]:
        return [place for place, has in self._having.items() if has == node]

    # -- its share of ports --------------------------------------------------------------------

    def demand(self, ports: PortNumbers, left_bytes: Mapping[NodeFlow, float]) -> Demand | None:
        """Of every flow that may move what it has left."""
        sent_bytes = self._partitions.delivered_bytes + sum(
            partition.received_bytes for partition in self._partitions.moving.values()
        )
        return shuffle_demand(self.standing(sent_bytes), ports, left_bytes, self.terms.weighted)

    def flows(self) -> Mapping[NodeFlow, FlowState]:
        """By the nodes at their ends, those that may move and have something left."""
        left: dict[NodeFlow, int] = {}
        for partition in self._partitions.moving.values():
            if partition.state is PartitionState.MOVING and not partition.local:
                to = self._having.get(partition.reducer)
                if to is not None and partition.left_bytes:
                    flow = (partition.holder, to)
                    left[flow] = left.get(flow, 0) + partition.left_bytes
        return {flow: FlowState(its, *self._moved.get(flow, _NOTHING)) for flow, its in left.items()}

    def places(self) -> Mapping[NodeName, Sequence[NodeName]]:
        """Of reducers."""
        found: dict[NodeName, list[NodeName]] = {}
        for reducer in self.reducers:
            if (node := self._having.get(reducer)) is not None:
                found.setdefault(node, []).append(reducer)
        return found

    # -- opening and putting -------------------------------------------------------------------

    def open(self, node: NodeName, message: OpenShuffle, now: float) -> str | None:
        """A participant takes part, in its own place or in another's; a reason where it may not."""
        if (message.mappers, message.reducers) != (self.mappers, self.reducers):
            return f"shuffle {self.name!r} exists with other mappers or reducers"
        if message.terms != self.terms:
            return f"shuffle {self.name!r} exists on other terms (scheduling, priority, weight, replaceable)"
        place = node if message.place is None else message.place
        if place not in self.mappers and place not in self.reducers:
            return f"{place} is neither mapper nor reducer of shuffle {self.name!r}"
        if self._having.get(place) == node:
            return f"{node} takes part in shuffle {self.name!r} already: the name is in use"
        if place in self._having:
            return f"{self._having[place]} has the place of {place} in shuffle {self.name!r}"
        if place != node and not self.terms.replaceable:
            return f"in shuffle {self.name!r} nobody can take the place of another: it is not replaceable"
        self._take(place, node)
        self.moved_at_s = now
        return None

    def _take(self, place: NodeName, node: NodeName) -> None:
        self._having[place] = node
        if place != node:
            self.tally.replaced[place] = node
            self.cluster.log(f"{self.name}: {node} takes the place of {place}")
        if self._lost.pop(place, None) is not None:
            for name in self.participants():
                self.cluster.send(name, PlaceFilled(self.name, place, node))

    def attempts_of(self, place: NodeName) -> dict[NodeName, int]:
        """For whom who takes a place has something to put, and how often that was done in vain."""
        if place not in self.mappers:
            return {}
        return {to: self._partitions.attempt_at((place, to)) for to in self._partitions.missing_of(place)}

    def tell_ended(self, node: NodeName, now: float) -> None:
        """A node has come back and asks whether it still takes part."""
        if self.over or not self._places_of(node):
            reason = self.tally.reason or f"{node} was away meanwhile"
            failed = dict(self.tally.failed)
            if not self.over:
                failed[node] = "lost meanwhile"
            self.cluster.send(node, Outcome(self.name, self.tally.completion_s, {}, failed, reason))

    def opened(self, node: NodeName, now: float) -> None:
        """The participant has been told that it takes part: give it what is there for it."""
        for place in self._lost:
            self._tell_of_lost(node, place)
        places = self._places_of(node)
        for partition in self._partitions:
            if partition.reducer in places:
                self._send(partition, now)

    def put(self, node: NodeName, message: PartitionPut, now: float) -> None:
        """A mapper's partition for one reducer is there."""
        mapper = node if message.place is None else message.place
        pair = (mapper, message.reducer)
        if self._having.get(mapper) != node:
            self.cluster.log(f"{self.name}: unexpected partition of {mapper} for {message.reducer}")
            return
        expected = ObjectKey(self.name, self._partitions.name_of(pair))
        if message.manifest is not None and message.manifest.key != expected:
            self.cluster.log(f"{self.name}: partition of {mapper} under the name {message.manifest.key}")
            return
        partition = self._partitions.put(mapper, message.reducer, message.manifest, node)
        if partition is None:
            self.cluster.log(f"{self.name}: unexpected partition of {mapper} for {message.reducer}")
            return
        self.moved_at_s = now
        self._send(partition, now)

    def _send(self, partition: Partition, now: float) -> None:
        """Set a partition moving."""
        to = self._having.get(partition.reducer)
        if partition.state is not PartitionState.PUT or self.over or to is None:
            return
        if partition.manifest is None:
            self.cluster.send(to, PartitionEmpty(self.name, partition.mapper, partition.reducer))
            self._delivered(partition, now)
            return
        holder = self.cluster.members.present(partition.holder)
        reducer = self.cluster.members.present(to)
        if holder is None or reducer is None:
            return
        first = not self._partitions.moving
        self._partitions.start(partition)
        partition.local = holder is reducer or reducer.shares_with(holder)
        if partition.local and holder is not reducer:
            self.cluster.send(to, MapObject(partition.manifest, holder.name, holder.join.store_address))
        else:
            self._follow(partition)
        if not partition.local:
            self.cluster.changed(self, urgent=first)

    def _follow(self, partition: Partition) -> None:
        to = self._having.get(partition.reducer)
        if partition.manifest is not None and to is not None:
            self.cluster.send(to, Begin(partition.manifest))
            if to != partition.holder:
                self.cluster.send(to, FollowSource(partition.manifest.key, partition.holder))

    # -- events --------------------------------------------------------------------------------

    def node_joined(self, node: Node, now: float) -> None:
        """A participant that came back would need its partitions again: it may take its place anew. Where
        agents were asked to take part, who comes is given a place that nobody could take so far."""
        if self.asker is not None and not self.over:
            for place in list(self._lost):
                self._give_away(place, now)

    def node_lost(self, name: NodeName, reason: str, now: float) -> None:
        """A participant is gone: unless nothing of it is due any more, the shuffle fails, or its place is
        free."""
        if self.over:
            return
        if name == self.asker:
            self.end(TransferState.CANCELLED, f"{name}, which asked for it, is gone: {reason}", now)
            return
        places = self._places_of(name)
        absent = [name] if not places and (name in self.mappers or name in self.reducers) else places
        due = [
            place
            for place in absent
            if self._partitions.is_due_of(place) or self._partitions.is_due_to(place)
        ]
        if not self.terms.replaceable:
            if due:
                told: dict[str, str] = dict.fromkeys(due, f"lost: {reason}")
                self._fail(told, f"{name} lost: {reason}", now)
            return
        for flow in [flow for flow in self._moved if name in flow]:
            del self._moved[flow]  # by the clock of who is gone
        for partition in self._partitions.lose_holder(name):
            self._drop(partition)
        for place in places:
            del self._having[place]
            self._left[place] = (name, reason)
        for place in places:
            self._vacate(place, now)

    def _vacate(self, place: NodeName, now: float) -> None:
        """A place is free. What its reducer had is gone, all of it or not, and so perhaps is what others had
        put for it."""
        again: dict[NodeName, None] = {}
        if place in self.reducers:
            self.tally.node_completion_s.pop(place, None)
            present = {name for name in self._having.values() if self.cluster.members.present(name)}
            again = dict.fromkeys(each.mapper for each in self._partitions.lose_reducer(place, present))
        if self._partitions.is_due_of(place) or self._partitions.is_due_to(place):
            again[place] = None
        for needed in again:
            if needed not in self._having:
                self._announce_lost(needed, now)
        self.moved_at_s = now
        self.cluster.changed(self, urgent=True)

    def _announce_lost(self, place: NodeName, now: float) -> None:
        node, reason = self._left[place]
        self._lost[place] = reason
        self.cluster.log(f"{self.name}: {node} lost: {reason}; the place of {place} is free")
        for name in self.participants():
            self._tell_of_lost(name, place)
        if self.asker is not None:
            self._give_away(place, now)

    def _tell_of_lost(self, name: NodeName, place: NodeName) -> None:
        node, reason = self._left[place]
        due = tuple(self.attempts_of(place))
        self.cluster.send(name, PlaceLost(self.name, place, node, reason[:200], due))

    def _give_away(self, place: NodeName, now: float) -> None:
        """Have another agent take a place; those without a place before those with the fewest."""
        counts = {
            agent.name: (agent.state is NodeState.SUSPECTED, len(self._places_of(agent.name)))
            for agent in self.cluster.members.agents()
        }
        if counts:
            chosen = min(counts, key=lambda name: counts[name])
            self._take(place, chosen)
            self._tell_part(place, chosen)
            self.opened(chosen, now)

    def _drop(self, partition: Partition) -> None:
        """Have a reducer let go of what has come of a partition whose holder is gone."""
        to = self._having.get(partition.reducer)
        if to is not None and partition.state is not PartitionState.PUT:
            self.cluster.send(to, DropPartition(ObjectKey(self.name, partition.name)))

    def blocks_held(self, node: NodeName, key: ObjectKey, records: tuple[Stored, ...], now: float) -> None:
        """Blocks have arrived at a reducer; how far its partitions are it tells otherwise."""
        self.moved_at_s = now

    def progressed(self, node: NodeName, message: FlowProgress, now: float) -> None:
        """A reducer tells how far its partitions are."""
        if not math.isfinite(message.at_s):
            self.cluster.log(f"{self.name}: {node} has no clock: it is {message.at_s} there")
            return
        for name, received_bytes in message.received_bytes.items():
            partition = self._find(node, PartName(name))
            if partition is None or partition.delivered or not received_bytes > partition.received_bytes:
                continue
            self._count(partition, node, min(received_bytes, partition.size_bytes), message.at_s, now)
            self.moved_at_s = now

    def _count(
        self, partition: Partition, node: NodeName, received_bytes: int, at_s: float | None, now: float
    ) -> None:
        """So much of a partition has come, at a moment of the receiver's clock, if that was told."""
        flow = (partition.holder, node)
        moved_bytes, before_s, _ = self._moved.get(flow, _NOTHING)
        moved_bytes += received_bytes - partition.received_bytes
        self._moved[flow] = (moved_bytes, before_s if at_s is None else at_s, now)
        partition.received_bytes = received_bytes

    def waits(self, node: NodeName, message: PartitionWaits, now: float) -> None:
        """A reducer has no room for a partition, or has found some."""
        partition = self._find(node, message.key.part)
        if partition is not None:
            self._partitions.set_waiting(partition, message.waits)
            if not message.waits:
                self.moved_at_s = now
            self.cluster.changed(self)

    def settled(self, node: NodeName, message: Settled, now: float) -> None:
        """A reducer has a partition, or cannot take it."""
        partition = self._find(node, message.key.part)
        if partition is None or self.over:
            return
        if message.failure is not None:
            self._fail({node: message.failure}, f"{node} failed: {message.failure}", now)
            return
        self._delivered(partition, now)

    def _delivered(self, partition: Partition, now: float) -> None:
        if partition.delivered:
            return
        to = self._having.get(partition.reducer)
        if to is not None:
            self._count(partition, to, partition.size_bytes, None, now)
        self._partitions.deliver(partition, now)
        self.moved_at_s = now
        self.cluster.changed(self)
        if partition.manifest is not None and not self.terms.replaceable and to != partition.holder:
            self.cluster.send(partition.holder, PartitionDelivered(partition.manifest.key))
        if not self._partitions.is_due_to(partition.reducer):
            self.tally.node_completion_s[partition.reducer] = now - self.tally.accepted_at_s
        if self._partitions.complete:
            self.state = TransferState.DONE
            self.cluster.changed(self, urgent=True)
            self.tally.completion_s = now - self.tally.accepted_at_s
            self._tell_progress(now, at_once=True)
            self._tell_outcome(self.participants())

    def fetch_failed(self, node: NodeName, trouble: FetchTrouble, now: float) -> None:
        """An ask came to nothing: again, after a moment, for a bounded number of times."""
        partition = self._find(node, trouble.key.part)
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
        partition = self._find(node, message.key.part)
        if partition is not None:
            self.cluster.log(f"{self.name}: {node} cannot map its host's store: {message.reason}")
            partition.local = False
            self._follow(partition)
            self.cluster.changed(self)

    def tick(self, now: float) -> None:
        """Try failed asks again; end what stands still, naming those who hold it up."""
        if self.over:
            return
        for partition in self._partitions.moving.values():
            due_s, to = partition.again_at_s, self._having.get(partition.reducer)
            if due_s is not None and due_s < now and partition.manifest is not None and to is not None:
                partition.again_at_s = None
                self.cluster.send(to, FollowSource(partition.manifest.key, partition.holder))
        if self.stands_still(now):
            self._fail(self._hold_ups(), f"stood still for {self.timeout_s:g} s", now)
        self._tell_progress(now)

    def _tell_progress(self, now: float, at_once: bool = False) -> None:
        """Tell the node that asked how far it is."""
        if self.asker is None or not (at_once or now - self._told_progress_at_s >= PROGRESS_INTERVAL_S):
            return
        self._told_progress_at_s = now
        through = len(self.tally.node_completion_s)
        done = self._partitions.delivered_bytes
        done += sum(partition.received_bytes for partition in self._partitions.moving.values())
        total = sum(sum(row.values()) for row in self._sizes.values())
        self.cluster.send(self.asker, Progress(self.name, done, total, through, len(self.reducers)))

    # -- endings -------------------------------------------------------------------------------

    def give_up(self, node: NodeName, reason: str, now: float) -> None:
        """A participant cannot go on, or the node that asked for it does not want it any more."""
        if self.over:
            return
        if node == self.asker and not reason:
            self.end(TransferState.CANCELLED, f"cancelled by {node}", now)
        elif self.involves(node) or node in self.mappers or node in self.reducers:
            why = reason or "gave up"
            self._fail({node: why}, f"{node} failed: {why}", now)

    def end(self, state: TransferState, reason: str, now: float) -> None:
        """As for every transfer; who asked for it is told too."""
        super().end(state, reason, now)
        if self.asker is not None and not self.involves(self.asker):
            self._tell_outcome([])

    def _hold_ups(self) -> dict[str, str]:
        told: dict[str, str] = {}
        for name in dict.fromkeys(self.mappers + self.reducers):
            if name in self._lost:
                told[name] = f"lost: {self._lost[name]}; nobody took its place"
            elif name not in self._having:
                told[name] = "did not take part"
        for mapper in self.mappers:
            missing = self._partitions.missing_of(mapper)
            if missing and mapper not in told:
                told[mapper] = f"put nothing for {', '.join(missing)}"
        for part in self._partitions:
            if not part.delivered and part.reducer not in told:
                what = "has no room for" if part.state is PartitionState.WAITING else "has not received"
                told[part.reducer] = f"{what} the partition of {part.mapper}"
        return told

    def _find(self, node: NodeName, name: PartName) -> Partition | None:
        """The partition of a name, where the node is its taker."""
        reducer = taker_of(name)
        return self._partitions.by_name(reducer, name) if self._having.get(reducer) == node else None

    def _fail(self, failed: dict[str, str], reason: str, now: float) -> None:
        self.tally.failed.update(failed)
        self.end(TransferState.FAILED, reason, now)

    def _tell_outcome(self, names: Iterable[NodeName]) -> None:
        """Tell participants, and, with the time of each flow, who asked."""
        outcome = self.tally.outcome(self.name)
        for name in names:
            if name != self.asker:
                self.cluster.send(name, outcome)
        if self.asker is not None:
            self.cluster.send(self.asker, self._with_flows(outcome))

    def _with_flows(self, outcome: Outcome) -> Outcome:
        flows: dict[str, dict[str, float]] = {}
        if self._partitions.delivered <= MOST_FLOWS_TOLD:
            for each in self._partitions:
                if each.delivered_at_s is not None and each.manifest is not None:
                    took_s = each.delivered_at_s - self.tally.accepted_at_s
                    flows.setdefault(each.mapper, {})[each.reducer] = took_s
        return Outcome(
            *(outcome.transfer, outcome.completion_s, outcome.node_completion_s, outcome.failed),
            *(outcome.reason, outcome.replaced, flows),
        )


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
