"""How one broadcast's object is brought to its receivers, once it is there.

Owns the words to nodes that make bytes move: the head start's, the planner's orders, and to map a copy. Must
not know in which state the broadcast is, nor what its end is: where the planner gives up, it says so to
whoever made this. Pure.

Theory of operation. A receiver is brought in by mapping, if a node of its host has or will have the object
(`orchestra.controller.host_mates`), else by the planner (`orchestra.controller.planning`), which is told
events and whose commands are sent as messages. A broadcast that is done and of which no living node holds all
sleeps, with no planner, until a holder is back.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import assert_never

from orchestra.controller.account import Account
from orchestra.controller.head_start import HeadStart
from orchestra.controller.host_mates import HostMates
from orchestra.controller.members import NodeState
from orchestra.controller.planning import Planning
from orchestra.controller.transfer import Cluster
from orchestra.messages import Begin, FetchBlocks, FollowSource, LetGo, WithdrawAsks
from transfers.blocks import BlockSet
from transfers.ids import NodeName
from transfers.manifest import Manifest
from transfers.planners import Mechanism, Racks
from transfers.planners.events import (
    BlocksStored,
    Cancel,
    Command,
    Event,
    Failed,
    Fetch,
    Finished,
    Follow,
    GiveUp,
    NodeJoined,
    NodeLost,
    NodeSuspected,
    Stored,
    Tick,
)

Ending = GiveUp | Failed
"""What a planner says when it cannot go on: with one node, or at all."""


class Delivery:
    """Of one broadcast.

    Args:
        source: who holds the object.
        manifest: of the object.
        mechanism: how its blocks are planned.
        block_s: what a block takes over a usual link, as far as that is believed; else 0.
        racks, explores: as `orchestra.controller.planning.Planning` has them.
        report_interval_s: how long its nodes may gather what they report.
        account: who receives, and who is through.
        rng: for the planner's random choices.
        on_ending: called with an ending and ``now``, in the middle of what brought it about.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: NodeName,
        manifest: Manifest,
        mechanism: Mechanism,
        block_s: float,
        racks: Racks | None,
        explores: bool,
        report_interval_s: float,
        account: Account,
        rng: Random,
        on_ending: Callable[[Ending, float], None],
    ) -> None:
        self.source = source
        self.manifest = manifest
        self.planning = Planning(rng, block_s, racks, explores)
        self.mates = HostMates(cluster, source, account, self.planning)
        self._cluster = cluster
        self._mechanism = mechanism
        self._report_interval_s = report_interval_s
        self._account = account
        self._on_ending = on_ending
        self._begin: Begin | None = None  # the same for all, so that it is encoded once

    # -- what moves the bytes ------------------------------------------------------------------

    def start(self) -> None:
        """Plan from the beginning."""
        self.planning.plan(self._mechanism, self.manifest, self.source)

    def start_ahead(self, content: bytes, there: Iterable[NodeName], now: float) -> None:
        """Send a small object to one node of each host, before there is a plan.

        Where one of them is silent already, and others might wait for what it passes on, there is a plan from
        the beginning.

        Args:
            content: its bytes, where the proposal brought them along, else empty.
            there: who is to have it.
        """
        moved_to = self._cluster.members.one_of_each_host(self.source, there)
        receivers = {node.name: node.join.data_address for node in moved_to}
        started = HeadStart(self.manifest, self.source, content, receivers.items(), now)
        if started.pushed and any(node.state is NodeState.SUSPECTED for node in moved_to):
            self.start()
            return
        self.planning.head_start = started
        for name, message in started.messages():
            self._cluster.send(name, message)

    def end_head_start(self, now: float) -> None:
        """Plan from here on, with what everyone holds by now; nothing happens if it has no head start."""
        started, self.planning.head_start = self.planning.head_start, None
        if started is None:
            return
        self.start()
        self._tell_if_silent(self.source, now)
        for name, held in started.holds.items():
            self._join(name, held, now)
        if started.source_gone:
            self.tell(NodeLost(self.source, "it is gone"), now)
        self.tell(Tick(), now)

    def _join(self, name: NodeName, held: BlockSet, now: float) -> None:
        """A node is there for the planner."""
        if self._cluster.members.present(name) is not None:
            self.tell(NodeJoined(name, held), now)
            self._tell_if_silent(name, now)

    def _tell_if_silent(self, name: NodeName, now: float) -> None:
        """The planner did not hear so far what was said of a node before it knew of it."""
        node = self._cluster.members.present(name)
        if node is not None and node.state is NodeState.SUSPECTED:
            self.tell(NodeSuspected(name), now)

    def sleep(self) -> list[NodeName]:
        """No living node holds all of it, so nobody is served; late joiners who lack it are let off, and
        returned."""
        self.planning.stop()
        names = self._account.put_off()
        for name in names:
            self.mates.discard(name)
        return names

    def wake_up(self, holder: NodeName) -> None:
        """A holder of all of it is back. By now everyone is a late joiner, so the plan is the usual one."""
        if holder != self.source:
            self._account.take_in(holder)
        self._account.settled[holder] = None
        self.planning.racks = self._cluster.topology.racks_for(holder)
        self.planning.plan(Mechanism.CORNET, self.manifest, holder)

    # -- who gets it ---------------------------------------------------------------------------

    def serves(self, name: NodeName) -> bool:
        """Whether a node has the object or is on the way to it."""
        return self.planning.knows(name) or name in self.mates

    def add_receiver(self, name: NodeName, now: float) -> None:
        """Bring one receiver in: by mapping where a node of its host has or will have the object."""
        node = self._cluster.members.present(name)
        if node is None or not self.planning.has_begun:
            return
        self._account.settled.pop(name, None)
        if self.planning.head_start is not None and self.planning.knows(name):
            return
        first = self.mates.first_for(node)
        if first is not None:
            self.mates.add(name, first, self.manifest)
            return
        if self._begin is None:
            self._begin = Begin(self.manifest, self._report_interval_s)
        self._cluster.send(name, self._begin)
        if self.planning.head_start is not None:
            holder = self.planning.head_start.admit(name, now)
            if holder is not None:
                self._cluster.send(name, FollowSource(self.manifest.key, holder))
                return
            self.end_head_start(now)
        self._join(name, BlockSet(self.manifest.layout.count), now)

    def add_by_planner(self, name: NodeName, now: float) -> None:
        """Mapping does not work for a node: it receives like any other."""
        self.mates.discard(name)
        self._cluster.send(name, Begin(self.manifest, self._report_interval_s))
        self._join(name, BlockSet(self.manifest.layout.count), now)

    def add_holder(self, name: NodeName, blocks: BlockSet, now: float) -> None:
        """A node has come back with what it held."""
        if not self._account.take_back(name) and name != self.source:
            self._account.take_in(name)
        self.tell(NodeJoined(name, blocks, wants=name != self.source), now)

    def give_up(self, name: NodeName, reason: str, now: float) -> None:
        """A node has failed; what it has serves on if it is all."""
        held = self.planning.holds_of(name)
        if held is None or not held.complete:
            self._account.uncounted.pop(name, None)
            self._cluster.send(name, LetGo(self.manifest.key.transfer, reason))
            self.drop(name, reason, now)
        else:  # it could not save; what it holds is good
            self.mates.first_is_complete(name, self.manifest)

    def drop(self, name: NodeName, reason: str, now: float) -> None:
        """A node is out of it: those who were to map its copy receive for themselves, one a host."""
        self.tell(NodeLost(name, reason), now)
        for mate in self.mates.first_is_gone(name):
            self.add_receiver(mate, now)

    def has_settled(self, name: NodeName, now: float) -> None:
        """A node holds all of it."""
        if self.planning.head_start is not None:
            self.planning.head_start.note_holder(name, now)
        elif not self.planning.knows(name):
            # It has mapped another's copy: one holder more.
            self.tell(NodeJoined(name, BlockSet.full(self.manifest.layout.count), wants=False), now)
        self.mates.first_is_complete(name, self.manifest)

    def has_stored(self, name: NodeName, records: tuple[Stored, ...], now: float) -> None:
        """Blocks have arrived at a node."""
        if self.planning.head_start is not None:
            self.planning.head_start.note(name, records, now)
        else:
            self.tell(BlocksStored(name, records), now)

    def forget_holder(self, name: NodeName) -> None:
        """A node is gone that nobody waits for."""
        if self.planning.head_start is not None:
            self.planning.head_start.forget(name)
        self.mates.discard(name)

    # -- the planner ---------------------------------------------------------------------------

    def tell(self, event: Event, now: float) -> None:
        """Tell the planner, if there is one, and carry out what it commands."""
        commands, circle = self.planning.handle(event, now)
        if circle is not None and not self._account.closed:
            transfer, mechanism = self.manifest.key.transfer, self._mechanism.value
            self._cluster.log(f"{transfer}: the {mechanism} planner made nodes wait in a {circle}")
            self._on_ending(Failed(f"the plan waits for itself: {circle}"), now)
            return
        for command in commands:
            self._carry_out(command, now)

    def _carry_out(self, command: Command, now: float) -> None:
        key = self.manifest.key
        match command:
            case Follow(node=node, source=source, stripe=stripe, stripes=stripes, in_step=in_step):
                self._cluster.send(node, FollowSource(key, source, stripe, stripes, in_step))
            case Fetch(node=node, source=source, blocks=blocks):
                self._cluster.send(node, FetchBlocks(key, source, blocks))
            case Cancel(node=node, blocks=blocks):
                self._cluster.send(node, WithdrawAsks(key, blocks))
            case GiveUp() | Failed():
                self._on_ending(command, now)
            case Finished():
                pass  # receivers say so themselves, once their files are in place
            case _:
                assert_never(command)
