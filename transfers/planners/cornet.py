"""Cornet: standing stripes, and a swarm of blocks for what they do not bring; planned in one place.

Owns the swarm: who asks whom for which block. Must not know sockets, clocks, or how blocks travel. Sets of
blocks are bits of integers here, as in `transfers.planners.accounts`.

Theory of operation. At the first tick, when all have joined, each stripe of blocks gets a tree over all
receivers (`transfers.planners.stripes`). The swarm brings what no stripe does: to nodes that find no place in
a tree, blocks that failed, the rest of those who were held up, everything when the stripes are given up.

In the swarm a receiver takes from at most `MAX_SOURCES` nodes at once and has `ASKS_A_PAIR` asks open with
each, so that a link never idles for a round trip to the controller; a node serves at most `SLOTS` receivers
at once, its streams included. When blocks are stored, those concerned get new asks: who has least comes
first; the rarest block first, where an ask in flight counts as a holder, ties by lot; of the nodes that hold
it, the one with fewest asks open. The source gives every block once before any twice, blocks that a stripe
takes from it not at all, and after that serves only what no other with room can. Only holders are asked, so
there are no waits.

In the end, when a receiver has asked for everything, a block that takes `LATE_FACTOR` times as long as
usual is asked of another holder, at most `MAX_MOVES` times, so that a straggling sender does not
decide when all are done.

Simulated with a control delay of 20 ms, stripes take 1.05 x S/W for 16 receivers and 244 blocks of 21 ms, and
for 100 receivers and 256 blocks of 45 ms, 1.08 for 1,000; the swarm alone 1.12 to 1.20. Measurements, and
what else was tried, are in docs/decisions/0010-standing-stripes.md.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from random import Random
from typing import assert_never

from transfers.ids import BlockIndex, NodeName
from transfers.planners.accounts import Copies, Peer
from transfers.planners.base import BroadcastPlanner, Member
from transfers.planners.events import (
    TICK_INTERVAL_S,
    BlocksStored,
    Event,
    FetchFailed,
    NodeJoined,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
    Tick,
    report_interval_s,
)
from transfers.planners.racks import Rack, Racks
from transfers.planners.stripes import STRIPES, Stripes

MAX_SOURCES = 4
"""Nodes that a receiver takes from at once (the paper's prototype: 4 peers an answer)."""

SLOTS = 4
"""Receivers that ask a node at once (the paper's prototype: 4 sending slots)."""

LEAST_STRIPED_BLOCKS = STRIPES
"""With fewer some stripe would be empty (measured in simulation: from 4 blocks on stripes are faster than the
swarm alone, for 1 to 1,000 receivers)."""

ASKS_A_PAIR = 2
"""Asks open between a receiver and one of its sources in the swarm (design measurement: one hides no round
trip; more bind a receiver too early)."""

ENOUGH_ASKS = 3
"""From one node, before a receiver that explores goes on to others (a guess: one more than have to be seen
before their times count)."""

LATE_FACTOR = 4.0
"""An ask is late after this many times the usual time from ask to store (a guess)."""

LATE_AFTER_S = 0.5
"""No ask is late before this (a guess: five ticks)."""

MAX_MOVES = 3
"""How often one receiver's ask for one block is moved because it is late (a guess); it bounds the steps."""

MEND_AT_ONCE = 100
"""Nodes up to which the stripes are mended as soon as one comes or goes (measured: mending takes 20 to 100 µs
a node, so that a thousand that fall silent and speak again would keep a controller busy for minutes)."""

MOST_FED = 64
"""Receivers that are looked at after one report, those with least first (a guess: its sender has `SLOTS`)."""

MOST_LOOKED_AT = 64
"""Nodes with room among which a receiver chooses whom else to ask (a guess: many times more than it takes,
and few enough that a choice costs less than 0.1 ms)."""

USUAL_SHARE = 0.05
"""Weight of the newest block in the running mean of times from ask to store (a guess: the last 20 count)."""


class CornetPlanner(BroadcastPlanner):
    """The paper's own mechanism (Chowdhury et al. 2011, section 4).

    Departs from it in stripes; and, in the swarm, in planning in one place what there every receiver drew by
    lot from lists of peers about a second old, in look-ahead, and in rarest first, which stale lists had
    spoilt.

    Args:
        explores: as many pairs of nodes are to meet as can; by the swarm alone, in which a receiver goes on
            to nodes that it has not asked.
        block_s: what a block takes over a usual link, as far as that is believed; else 0.
        racks: where nodes stand; None where all are equally near.
    """

    def __init__(
        self,
        block_count: int,
        source: NodeName,
        rng: Random,
        explores: bool = False,
        block_s: float = 0.0,
        racks: Racks | None = None,
    ) -> None:
        super().__init__(block_count, source, rng, STRIPES, racks)
        self._all = (1 << block_count) - 1
        self._stripes = Stripes(self, block_s)
        least = LEAST_STRIPED_BLOCKS if racks is None else 1  # a tree crosses links between racks once
        self._waits_for_stripes = not explores and block_count >= least
        self._explores = explores
        self._copies = Copies(block_count)
        self._peers: dict[NodeName, Peer] = {}
        self._peers_in: dict[Rack | None, dict[NodeName, Peer]] = {}
        at_source = self._add(Peer(self.members[source], holds=self._all))
        self._roomy = {source: at_source}  # who holds something and is asked by fewer than `SLOTS` receivers
        self._idle: dict[NodeName, None] = {}  # who can help in the end, as of the last tick
        self._swarming: dict[NodeName, Peer] = {}  # who lacks something that no stripe brings
        self._usual_s: float | None = None
        self._watch_at_s = 0.0

    def _plan(self, event: Event, now: float) -> None:
        match event:
            case BlocksStored(node=node, records=records):
                self._stripes.note_stored(self.members[node], records)
                if self._swarming:  # else nobody has anything to ask for
                    self._feed(node, dict.fromkeys([node, *(record.source for record in records)]))
                return
            case NodeJoined(node=node) | NodeRecovered(node=node):
                self._stripes.forget(node)
                self._mend_soon()
                self._feed(node, [node])
                return
            case FetchFailed(node=node, source=source, blocks=blocks):
                for block in blocks:
                    if 0 <= block < self.block_count:  # nodes are not trusted to count
                        self._peers[node].strays |= 1 << block
                self._mend_soon()
                self._feed(node, [source])
                return
            case NodeSuspected(node=node):
                self._unsettled = (
                    True  # its children are hung elsewhere at the tick, once for all who fall silent
                )
                if len(self._peers) <= MEND_AT_ONCE:  # else asks at it are moved when they are late
                    self._relieve(node)
            case Tick():
                self._tick(now)
            case NodeLost():
                self._mend_soon()
            case _:
                assert_never(event)
        if isinstance(event, Tick) or len(self._peers) <= MEND_AT_ONCE:
            for peer in sorted(self._swarming.values(), key=lambda peer: peer.progress):
                self._refill(peer, self._roomy)

    def _tick(self, now: float) -> None:
        stripes = self._stripes
        to_mend, self._unsettled = self._unsettled, False
        watches = now >= self._watch_at_s
        if watches:  # no more often than there is news; a tick comes a little early or late
            self._watch_at_s = now + report_interval_s(len(self.members)) - TICK_INTERVAL_S / 2
        if self._waits_for_stripes:
            self._waits_for_stripes, to_mend = False, True
            stripes.begin()
        elif watches and stripes.watch(now):
            to_mend = True
        if to_mend:
            self._mend()
        if stripes.standing and watches:
            late, self._idle = stripes.tails()
            for peer in self._peers.values():
                peer.late = late.get(peer.member.name, 0)
                self._note_hunger(peer)
                self._note_room(peer)
            self._even()
            stripes.keep_step()
        self._move_late()

    def _even(self) -> None:
        """Have all stripes end together."""
        if self.source in self._peers:
            holds = [peer.holds for peer in self._peers.values() if peer.member.wants]
            self._stripes.carrying.even(holds, self._copies.single)

    def _mend_soon(self) -> None:
        """Mend now; or at the tick, once for all who come and go until then, where it takes long."""
        if len(self._peers) > MEND_AT_ONCE:
            self._stripes.carrying.end()  # at once, since the trees are not whole
            self._unsettled = True
        else:
            self._mend()

    def _mend(self) -> None:
        """Mend the stripes, and see which blocks they leave to the swarm."""
        if self._waits_for_stripes:
            return
        self._stripes.mend()
        self._stripes.keep_step()
        if not self._stripes.standing:
            self._idle = {}
        for peer in self._peers.values():
            brought = 0
            for stripe in peer.member.follows:
                brought |= self._stripes.bits(stripe)
            peer.swarmed = self._all & ~brought | peer.strays
            if not self._stripes.standing:
                peer.late = 0
            self._note_room(peer)
            self._note_hunger(peer)

    # -- accounts ------------------------------------------------------------------------------

    def _join_noted(self, member: Member) -> None:
        swarmed = 0 if self._waits_for_stripes else self._all
        self._note_hunger(self._add(Peer(member, swarmed=swarmed)))

    def _add(self, peer: Peer) -> Peer:
        name = peer.member.name
        peer.rack = None if self.racks is None else self.racks.of(name)
        self._peers[name] = self._peers_in.setdefault(peer.rack, {})[name] = peer
        return peer

    def _leave_noted(self, member: Member) -> None:
        self._stripes.forget(member.name)
        del self._peers_in[self._peers.pop(member.name).rack][member.name]
        self._roomy.pop(member.name, None)
        self._swarming.pop(member.name, None)
        for block in member.holds:
            self._copies.change(block, -1)

    def _hold_noted(self, member: Member, block: BlockIndex) -> None:
        peer = self._peers[member.name]
        peer.holds |= 1 << block
        self._note_room(peer)
        self._copies.change(block, 1)
        took_s = peer.took_s(block, self.now)
        if took_s is not None:
            usual_s = took_s if self._usual_s is None else self._usual_s
            self._usual_s = usual_s + USUAL_SHARE * (took_s - usual_s)
        self._note_hunger(peer)

    def _ask_noted(self, member: Member, block: BlockIndex, source: NodeName) -> None:
        peer, other = self._peers[member.name], self._peers[source]
        carried = self._stripes.carrying.asking  # stands with the streams, and counts as one
        peer.note_ask(block, other, carried, self.now)
        self._copies.change(block, 1)
        if not carried:
            self._note_room(other)

    def _unask_noted(self, member: Member, block: BlockIndex, source: NodeName) -> None:
        peer, other = self._peers[member.name], self._peers[source]
        self._copies.change(block, -1)
        if peer.note_unask(block, other, self.now):
            self._note_room(other)

    def _note_room(self, peer: Peer) -> None:
        streams = self._stripes.children.get(peer.member.name, 0)
        if peer.holds and len(peer.asks_out) + streams < SLOTS:
            self._roomy[peer.member.name] = peer
        else:
            self._roomy.pop(peer.member.name, None)

    def _note_hunger(self, peer: Peer) -> None:
        if peer.hungers:
            self._swarming[peer.member.name] = peer
        else:
            self._swarming.pop(peer.member.name, None)

    # -- new asks ------------------------------------------------------------------------------

    def _feed(self, fed: NodeName, changed: Iterable[NodeName]) -> None:
        """New asks for one node from anyone, and for all others from the nodes that have changed.

        Who has least comes first, so that those who began late catch up.
        """
        senders = {name: self._peers[name] for name in changed if name in self._peers}
        roomy = {name: peer for name, peer in senders.items() if name in self._roomy}
        useful = 0
        for peer in roomy.values():
            useful |= peer.holds
        hungry = {fed: self._peers[fed]}
        for peer in senders.values():
            for name, count in peer.asks_out.items():
                if count < ASKS_A_PAIR:
                    hungry[name] = self._peers[name]
        if useful:
            for name, peer in self._swarming.items():
                if len(peer.asks_in) < MAX_SOURCES and useful & peer.lacks:
                    hungry[name] = peer
        least = sorted(hungry.values(), key=lambda peer: peer.progress)
        if len(least) > MOST_FED:  # there is not room for all of them anyway
            least = [self._peers[fed], *(peer for peer in least[:MOST_FED] if peer.member.name != fed)]
        for peer in least:
            if peer.member.name == fed:
                self._refill(peer, self._roomy)
                continue
            for name in [name for name in roomy if name not in self._roomy]:
                del roomy[name]
            if roomy or not peer.asks_in.keys().isdisjoint(senders):
                self._refill(peer, roomy)

    def _refill(self, receiver: Peer, roomy: Mapping[NodeName, Peer]) -> None:
        """Give a receiver asks while it has room, to those it asks already and to others of ``roomy``."""
        member = receiver.member
        asks_in = receiver.asks_in
        if (
            not receiver.lacks
            or member.done
            or member.suspected
            or len(member.asked) >= MAX_SOURCES * ASKS_A_PAIR
        ):
            return
        near = {
            name: self._peers[name]
            for name, count in asks_in.items()
            if count < ASKS_A_PAIR and not self._has_met(receiver, name)
        }
        if len(asks_in) < MAX_SOURCES:
            near |= {name: peer for name, peer in self._some(roomy) if name not in asks_in}
        senders = {name: peer for name, peer in near.items() if self.usable(member, peer.member, self.now)}
        while senders and len(member.asked) < MAX_SOURCES * ASKS_A_PAIR:
            chosen = self._choose(receiver, senders)
            if chosen is None:
                return
            block, name = chosen
            is_new = name not in asks_in
            self._fetch(member, block, name)
            if asks_in[name] >= ASKS_A_PAIR:
                del senders[name]
            if is_new and len(asks_in) == MAX_SOURCES:
                senders = {at: peer for at, peer in senders.items() if at in asks_in}

    def _has_met(self, receiver: Peer, name: NodeName) -> bool:
        """Whether a receiver that explores has asked another receiver often enough, while there are any that
        it has not."""
        if not self._explores or name == self.source or receiver.met[name] < ENOUGH_ASKS:
            return False
        near = self._peers if self.racks is None else self._peers_in[receiver.rack]
        return len(receiver.met) < len(near) - 1

    def _some(self, roomy: Mapping[NodeName, Peer]) -> Iterable[tuple[NodeName, Peer]]:
        """All of them; where they are very many, some by lot."""
        if len(roomy) <= MOST_LOOKED_AT:
            return roomy.items()
        first = self.rng.randrange(len(roomy) - MOST_LOOKED_AT + 1)
        return islice(roomy.items(), first, first + MOST_LOOKED_AT)

    def _choose(self, receiver: Peer, senders: Mapping[NodeName, Peer]) -> tuple[BlockIndex, NodeName] | None:
        """The rarest block that a sender holds, and the sender of it with fewest asks; the source last."""
        racks = self.racks
        anyone = receiver.swarmed & ~(receiver.holds | receiver.open)
        near, reach = self._by_racks(receiver)
        entering = self._copies.single & self._stripes.entering & ~receiver.strays
        offers: dict[NodeName, int] = {}
        union = 0
        for name, peer in senders.items():
            offer = peer.holds & (receiver.lacks if name in self._idle else anyone)
            if name == self.source:
                offer &= ~entering  # by the stripes
                fresh = self._copies.single & peer.holds & ~entering
                if fresh:  # every block once before any twice
                    offer &= fresh
            if racks is not None and (far := racks.between(receiver.rack, peer.rack)):
                offer &= receiver.strays if far > reach else ~near
            if offer:
                offers[name] = offer
                union |= offer
        if not union:
            return None
        block = self._copies.rarest(union, self.rng)
        bit = 1 << block
        return block, self._least_loaded(receiver, [name for name, offer in offers.items() if offer & bit])

    def _by_racks(self, receiver: Peer) -> tuple[int, int]:
        """What racks say about whom a receiver may ask, but for blocks that failed.

        Returns:
            Blocks that others of its rack hold or have asked for not long ago, to be had there; and how far
            away others may be, see `Racks.far`: in the rack above, or anywhere if nobody is there.
        """
        if self.racks is None or receiver.rack is None:
            return 0, 1
        near, late_before_s = 0, self._late_before_s
        for peer in self._peers_in[receiver.rack].values():
            if peer is not receiver and not peer.member.suspected:
                near |= peer.holds
                for block, asked_at_s in peer.asked_at_s.items():
                    if asked_at_s >= late_before_s:
                        near |= 1 << block
        feeds = self.racks.feeds
        above = self._peers_in.get(feeds[receiver.rack], {}) if receiver.rack in feeds else {}
        members = [peer.member for peer in above.values()]
        fed = any(not each.suspected and (each.wants or each.holds.complete) for each in members)
        return near & ~receiver.strays, 1 if fed else 2

    def _least_loaded(self, receiver: Peer, names: Iterable[NodeName]) -> NodeName:
        """The one of some nodes with fewest asks open, by lot; the source only where it is alone. Where pairs
        are to be explored, first the one that the receiver has asked least."""
        ranks = {
            name: (receiver.met[name] if self._explores else 0, self.asks_open_at(name))
            for name in names
            if name != self.source
        }
        if not ranks:
            return self.source
        least = min(ranks.values())
        return self.rng.choice([name for name, rank in ranks.items() if rank == least])

    # -- asks that are moved -------------------------------------------------------------------

    def _relieve(self, suspect: NodeName) -> None:
        """Asks on a suspected node are moved to others that hold the blocks, if there are any."""
        for name in list(self._peers[suspect].asks_out):
            member = self.members[name]
            for block in [block for block, at in member.asked.items() if at == suspect]:
                self._move(member, block)

    def _move(self, member: Member, block: BlockIndex) -> bool:
        """Ask the least loaded other holder for a block, whether or not it has room; it is one block."""
        now_at = member.asked[block]
        near = (peer.member for _, peer in self._some(self._roomy))
        holders = self.holders(block) if len(self._peers) <= MEND_AT_ONCE else near
        others = [holder for holder in holders if holder.name != now_at and block in holder.holds]
        mates = (holder for holder in others if self.known_mates(member.name, holder.name))
        source = self.pick_source(member, mates, self.now) or self.pick_source(member, others, self.now)
        if source is None:
            return False
        self._fetch(member, block, source)
        return True

    @property
    def _late_before_s(self) -> float:
        """What was asked for before that is late."""
        return self.now - max(LATE_AFTER_S, LATE_FACTOR * (self._usual_s or 0.0))

    def _move_late(self) -> None:
        """The end game: blocks that take too long, of receivers that have nothing else to ask for."""
        late_before_s = self._late_before_s
        for peer in self._peers.values():
            if not peer.open or peer.lacks:
                continue
            for block in list(peer.member.asked):
                if peer.carried >> block & 1:
                    continue
                if peer.asked_at_s[block] >= late_before_s or peer.moves.get(block, 0) >= MAX_MOVES:
                    continue
                if self._move(peer.member, block):
                    peer.moves[block] = peer.moves.get(block, 0) + 1
