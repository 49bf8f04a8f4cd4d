"""Every checker catches what it is for: a mistake is planted, and the run that was silent complains."""

import struct
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

import transfers.net.fetch as fetch_module
from orchestra.controller.account import Account
from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.itc import InterTransferController
from orchestra.controller.requests import Requests
from orchestra.controller.table import TransferTable
from orchestra.controller.transfer import Tally
from orchestra.messages import Granted
from orchestra.node.objects import NodeObjects
from orchestra.simulation import fluid as fluid_module
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.faults import Clog, Corrupt, Cut, Fault, Kill
from orchestra.simulation.fluid import Fluid
from orchestra.simulation.ports import LinkWatch, RateWatch, Side
from orchestra.simulation.scenario import Scenario
from orchestra.simulation.soak import run_scenario
from orchestra.simulation.streams import Way
from orchestra.simulation.wiretap import Content, Wiretap
from orchestra.simulation.world import World
from schedulers.filling import Floats, Indices, max_min_rates
from tests.orchestra.simulation.scenarios import RATE, broadcast, scenario
from transfers.codec import pack
from transfers.handshake import CODEC as HANDSHAKE
from transfers.handshake import Challenge, HandshakeMessage, Hello, Proof, Welcome
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ObjectKey, RunningChecksum
from transfers.net.limits import PortLimits
from transfers.net.messages import (
    CODEC,
    IDLE_BYTES,
    Ask,
    BlockArriving,
    BlockHeader,
    DataMessage,
    Unavailable,
    Withdraw,
)
from transfers.net.server import BlockServer
from transfers.planners.base import BroadcastPlanner
from transfers.planners.events import Command, Event, FetchFailed, NodeLost

Plant = Callable[[pytest.MonkeyPatch], None]


# -- planted bugs, whole runs ------------------------------------------------------------------------


def forget_lost_nodes(patch: pytest.MonkeyPatch) -> None:
    """A planner that does not hear of a lost node: its children are never hung elsewhere."""
    handle = BroadcastPlanner.handle

    def deaf(self: BroadcastPlanner, event: Event, now: float) -> list[Command]:
        return [] if isinstance(event, NodeLost | FetchFailed) else handle(self, event, now)

    patch.setattr(BroadcastPlanner, "handle", deaf)


def wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    """The same, in a controller that lets transfers stand still as long as they like."""
    forget_lost_nodes(patch)
    init = BroadcastController.__init__

    def patient(self: BroadcastController, *args: Any) -> None:
        init(self, *args)
        self.timeout_s = 1e9

    patch.setattr(BroadcastController, "__init__", patient)


def send_unasked(patch: pytest.MonkeyPatch) -> None:
    """A server that sends the next block, too."""
    take_ask = BlockServer._take_ask

    def generous(self: BlockServer, client: Any, key: ObjectKey, blocks: tuple[BlockIndex, ...]) -> None:
        take_ask(self, client, key, blocks)
        held = self._store.get(key)
        more = BlockIndex(max(blocks) + 1)
        if held is not None and more in held.holds:
            client.ready[key, more] = None

    patch.setattr(BlockServer, "_take_ask", generous)


class _AnyChecksum(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def verify_nothing(patch: pytest.MonkeyPatch) -> None:
    """A receiver to whom every checksum matches."""

    class Gullible(RunningChecksum):
        def value(self) -> int:
            return _AnyChecksum()

    patch.setattr(fetch_module, "RunningChecksum", Gullible)


def fill_beyond_capacity(patch: pytest.MonkeyPatch) -> None:
    """Rates that ignore how much a link carries."""

    def generous(paths: Indices, capacities: Floats, caps: Floats | None = None) -> Floats:
        return max_min_rates(paths, capacities * 1.5, caps)

    patch.setattr(fluid_module, "max_min_rates", generous)


def fill_beyond_caps(patch: pytest.MonkeyPatch) -> None:
    """Rates that ignore pacing, and that a way is cut."""

    def unpaced(paths: Indices, capacities: Floats, caps: Floats | None = None) -> Floats:
        return max_min_rates(paths, capacities)

    patch.setattr(fluid_module, "max_min_rates", unpaced)


def ignore_budgets(patch: pytest.MonkeyPatch) -> None:
    """Nodes that do not keep their rates."""

    def ignore(self: PortLimits, transfer: TransferName, *rates: float | None, **words: Any) -> None:
        self.egress(transfer)

    patch.setattr(PortLimits, "set_budget", ignore)
    patch.setattr(PortLimits, "limit_port", lambda self, rate_bytes_per_s: None)


def keep_limits(patch: pytest.MonkeyPatch) -> None:
    """Nodes that keep the budgets of what they have let go."""
    patch.setattr(PortLimits, "forget", lambda self, transfer: None)


def keep_objects(patch: pytest.MonkeyPatch) -> None:
    """Nodes that let nothing go."""
    patch.setattr(NodeObjects, "_let_go", lambda self, transfer, reason: None)


def keep_intakes(patch: pytest.MonkeyPatch) -> None:
    """An engine that goes on taking in what is gone."""
    patch.setattr(fetch_module.FetchEngine, "forget", lambda self, key: None)


def keep_transfers(patch: pytest.MonkeyPatch) -> None:
    """A controller that never forgets a name."""
    patch.setattr(TransferTable, "forget_ended", lambda self: None)


def keep_told_budgets(patch: pytest.MonkeyPatch) -> None:
    """An inter-transfer controller that never forgets a budget."""
    note = InterTransferController.note

    def hoard(self: InterTransferController, transfer: Any, *, urgent: bool = False) -> None:
        before = dict(self._told)
        note(self, transfer, urgent=urgent)
        self._told = {**before, **self._told}

    patch.setattr(InterTransferController, "note", hoard)


def call_it_done(patch: pytest.MonkeyPatch) -> None:
    """A controller that calls a transfer done as soon as one receiver is through."""
    unsettled = Account.is_unsettled

    def hasty(self: Account, name: NodeName) -> bool:
        return not self.settled and unsettled(self, name)

    patch.setattr(Account, "is_unsettled", hasty)


def lie_to_the_source(patch: pytest.MonkeyPatch) -> None:
    """A controller that tells the source of nobody's failure."""
    outcome = Tally.outcome
    calls: list[int] = []

    def lie(self: Any, name: TransferName) -> Any:
        calls.append(1)
        told = outcome(self, name)
        return replace(told, failed={}) if len(calls) == 1 else told

    patch.setattr(Tally, "outcome", lie)


def blame_the_untouched(patch: pytest.MonkeyPatch) -> None:
    """A controller that takes everyone suspected for failed."""
    suspected = BroadcastController.node_suspected

    def harsh(self: BroadcastController, name: Any, is_so: bool, now: float) -> None:
        suspected(self, name, is_so, now)
        if is_so:
            self._receiver_failed(name, "suspected", now)
            self._check_done(now)

    patch.setattr(BroadcastController, "node_suspected", harsh)


def never_mind_the_late(patch: pytest.MonkeyPatch) -> None:
    """A controller that does not serve who comes late."""
    patch.setattr(BroadcastController, "node_joined", lambda self, node, now: None)


def release_nothing(patch: pytest.MonkeyPatch) -> None:
    """A controller that says it has released, and has not."""

    def pretend(self: Requests, node: Any, request: int, name: TransferName) -> None:
        self._cluster.send(node.name, Granted(request))

    patch.setattr(Requests, "release", pretend)


KILL: tuple[Fault, ...] = (Kill(0.2, "n1", 1),)
CORRUPT: tuple[Fault, ...] = tuple(Corrupt(0.0, 0, host, 2) for host in range(1, 5))
CUT: tuple[Fault, ...] = tuple(Cut(0.2, 0, host, True, 1.0) for host in range(1, 5))
CHAIN = broadcast("chain", blocks=40)
LARGE = broadcast("chain", size_bytes=400_000, block_size_bytes=100_000)
SLOWED = scenario(port_rate_bytes_per_s=RATE / 8)

PLANTED: list[tuple[Plant, Scenario, str]] = [
    (forget_lost_nodes, scenario(CHAIN, faults=KILL), "failed, whom no fault excuses"),
    (wait_for_ever, scenario(CHAIN, faults=KILL), "no outcome within"),
    (send_unasked, scenario(), "times and was asked for"),
    (verify_nothing, scenario(faults=CORRUPT), "holds other bytes"),
    (verify_nothing, scenario(CHAIN, faults=CORRUPT), "sends other bytes than the source"),
    (fill_beyond_capacity, scenario(), "bytes/s of 1000000"),
    (fill_beyond_caps, SLOWED, "its cap is"),
    (fill_beyond_caps, scenario(LARGE, faults=CUT), "where nothing passes"),
    (ignore_budgets, SLOWED, "bytes more than"),
    (keep_limits, SLOWED, "keeps budgets"),
    (keep_objects, scenario(), "keeps objects"),
    (keep_intakes, scenario(), "keeps objects"),
    (keep_transfers, scenario(), "the controller keeps transfers"),
    (keep_told_budgets, SLOWED, "the controller keeps budgets"),
    (call_it_done, scenario(CHAIN), "is neither complete nor failed"),
    (lie_to_the_source, scenario(CHAIN, faults=KILL), "the source was told"),
    (blame_the_untouched, scenario(CHAIN, faults=(Clog(0.2, 2, 3.0),)), "failed, whom no fault excuses"),
    (
        never_mind_the_late,
        scenario(late=(("late1", 4, 0.5),), receivers={"n1": 1, "n2": 2}),
        "lives and lacks",
    ),
    (release_nothing, scenario(), "the controller keeps transfers"),
]


@pytest.mark.parametrize(
    ("plant", "run", "complaint"), PLANTED, ids=[f"{plant.__name__}-{said}" for plant, _, said in PLANTED]
)
def test_a_planted_mistake_is_caught(
    plant: Plant, run: Scenario, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    complaints = run_scenario(run).complaints
    assert any(complaint in each for each in complaints), complaints


def test_without_a_planted_mistake_none_of_these_runs_complains() -> None:
    for run in {id(run): run for _, run, _ in PLANTED}.values():
        report = run_scenario(run)
        assert report.complaints == (), run


# -- the wiretap by itself ---------------------------------------------------------------------------

KEY = ObjectKey(TransferName("t"))
DATA = bytes(range(250)) * 4


class Tapped:
    """A data connection through its handshake, and what the wiretap says of it."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.block_bytes = 0
        world = World(Fabric([1.0] * 2), Random(1))
        self.asks, self.answers = Way(world, 0, 1), Way(world, 1, 0)
        self.asks.back, self.answers.back = self.answers, self.asks
        self.tap = Wiretap(self.complaints.append, self._count)
        self.tap.contents["t", ""] = Content(memoryview(DATA), 300)
        opening: list[tuple[Way, HandshakeMessage]] = [
            (self.asks, Hello(1, bytes(16))),
            (self.answers, Challenge(1, bytes(16))),
            (self.asks, Proof(bytes(32))),
            (self.answers, Welcome(bytes(32))),
        ]
        for way, message in opening:
            self.write(way, HANDSHAKE.encode(message))

    def _count(self, way: Way, count_bytes: int) -> None:
        assert way is self.answers
        self.block_bytes += count_bytes

    def write(self, way: Way, body: bytes, at_once: int = 1 << 20) -> None:
        """A frame, in pieces."""
        self.raw(way, struct.pack(">I", len(body)) + body, at_once)

    def raw(self, way: Way, data: bytes, at_once: int = 1 << 20) -> None:
        for at in range(0, len(data), at_once):
            self.tap.heard(way, data[at : at + at_once])

    def say(self, way: Way, message: DataMessage, at_once: int = 1 << 20) -> None:
        self.write(way, CODEC.encode(message), at_once)

    def ask(self, *blocks: int) -> None:
        self.say(self.asks, Ask(KEY, tuple(BlockIndex(block) for block in blocks)))

    def send(self, block: int, data: bytes, length: int | None = None, at_once: int = 1 << 20) -> None:
        header = BlockHeader(KEY, BlockIndex(block), len(data) if length is None else length)
        self.say(self.answers, header, at_once)
        self.raw(self.answers, data, at_once)


@pytest.mark.parametrize("at_once", [1, 3, 7, 1 << 20])
def test_what_is_asked_for_may_be_sent_once_in_any_order_and_in_any_pieces(at_once: int) -> None:
    tapped = Tapped()
    tapped.ask(0, 1)
    tapped.ask(3)
    tapped.say(tapped.asks, Withdraw(KEY, (BlockIndex(0),)))
    for block in (3, 0, 1):
        tapped.send(block, DATA[300 * block : 300 * block + 300], at_once=at_once)
    tapped.ask(0)
    tapped.send(0, DATA[:300], at_once=at_once)
    tapped.say(tapped.answers, Unavailable(KEY, (BlockIndex(3),)))
    tapped.tap.finish()
    assert tapped.complaints == []
    assert tapped.block_bytes == 300 + 300 + 100 + 300
    assert tapped.tap.carries_blocks(tapped.answers)
    assert not tapped.tap.carries_blocks(tapped.asks)


@pytest.mark.parametrize("at_once", [1, 3, 1 << 20])
def test_what_is_passed_on_while_it_arrives_is_followed_by_some_bytes_more(at_once: int) -> None:
    tapped = Tapped()
    tapped.ask(0, 1)
    for block in (0, 1):
        data = DATA[300 * block : 300 * block + 300]
        tapped.say(tapped.answers, BlockArriving(KEY, BlockIndex(block), len(data)), at_once)
        tapped.raw(tapped.answers, data + b"?" * IDLE_BYTES, at_once)
    tapped.tap.finish()
    assert tapped.complaints == []
    assert tapped.block_bytes == 600


def stops_before_the_idle_time(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.say(tapped.answers, BlockArriving(KEY, BlockIndex(0), 300))
    tapped.raw(tapped.answers, DATA[:300])


def unasked(tapped: Tapped) -> None:
    tapped.ask(1)
    tapped.send(0, DATA[:300])


def twice(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.send(0, DATA[:300])
    tapped.send(0, DATA[:300])


def too_short(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.send(0, DATA[:299])


def beyond_the_object(tapped: Tapped) -> None:
    tapped.ask(9)
    tapped.send(9, b"x")


def other_bytes(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.send(0, DATA[:150] + b"?" + DATA[151:300], at_once=100)


def more_than_announced(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.send(0, DATA[:300] + b"\0\0\0\1?" + DATA, length=300)


def stops_inside(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.send(0, DATA[:100], length=300)


def stops_in_a_frame(tapped: Tapped) -> None:
    tapped.raw(tapped.asks, b"\0\0\0\5abc")


def refuses_what_nobody_asked(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.say(tapped.answers, Unavailable(KEY, (BlockIndex(1),)))


def sends_in_the_wrong_direction(tapped: Tapped) -> None:
    tapped.ask(0)
    tapped.say(tapped.answers, BlockHeader(KEY, BlockIndex(0), 0))
    tapped.say(tapped.answers, Ask(KEY, (BlockIndex(0),)))


def no_message(tapped: Tapped) -> None:
    tapped.write(tapped.asks, pack(("Ask",)))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (unasked, "block 0 of t is sent 1 times and was asked for 0 times"),
        (twice, "block 0 of t is sent 2 times and was asked for 1 times"),
        (too_short, "announced with 299 bytes, not 300"),
        (beyond_the_object, "announced with 1 bytes, not 0"),
        (other_bytes, "sends other bytes than the source has"),
        (more_than_announced, "no message"),
        (stops_inside, "stopped 200 bytes before the end of a block"),
        (stops_in_a_frame, "stopped in a frame"),
        (stops_before_the_idle_time, "stopped in a frame"),
        (refuses_what_nobody_asked, "refuses block 1 of t, never asked for"),
        (sends_in_the_wrong_direction, "Ask on a data connection"),
        (no_message, "no message"),
    ],
)
def test_the_wiretap_complains(wrong: Callable[[Tapped], None], complaint: str) -> None:
    tapped = Tapped()
    wrong(tapped)
    tapped.tap.finish()
    assert any(complaint in each for each in tapped.complaints), tapped.complaints


def test_a_connection_that_breaks_may_end_anywhere() -> None:
    tapped = Tapped()
    stops_inside(tapped)
    tapped.answers.torn = "connection reset by peer"
    tapped.tap.finish()
    assert tapped.complaints == []


def test_what_is_said_before_the_handshake_is_through_is_complained_of() -> None:
    complaints: list[str] = []
    world = World(Fabric([1.0] * 2), Random(1))
    body = CODEC.encode(Ask(KEY, (BlockIndex(0),)))
    Wiretap(complaints.append).heard(Way(world, 0, 1), struct.pack(">I", len(body)) + body)
    assert complaints == ["host 0 to host 1: Ask before the handshake is through"]


def test_control_connections_are_left_alone() -> None:
    tapped = Tapped()
    tapped.write(tapped.asks, pack(("Join", ("n1",))))
    tapped.raw(tapped.asks, bytes(1000))
    tapped.tap.finish()
    assert tapped.complaints == []


# -- ports by themselves -----------------------------------------------------------------------------


def watched(rates: list[tuple[int, int, float]], fabric: Fabric) -> list[str]:
    """What is said of flows (sender, receiver, rate)."""
    complaints: list[str] = []
    fluid = Fluid(fabric)
    for sender, receiver, rate in rates:
        flow = fluid.start(sender, receiver, 1e9)
        fluid._rate[flow] = rate
    LinkWatch(fabric, complaints.append).settled(fluid)
    return complaints


def test_full_links_are_fine_and_fuller_ones_are_not() -> None:
    assert watched([(0, 1, 60.0), (0, 2, 40.0), (1, 2, 60.0)], Fabric([100.0] * 3)) == []
    assert watched([(0, 1, 60.0), (0, 2, 41.0)], Fabric([100.0] * 3)) == [
        "egress of host 0 carries 101 bytes/s of 100"
    ]
    assert watched([(0, 2, 60.0), (1, 2, 41.0)], Fabric([100.0] * 3)) == [
        "ingress of host 2 carries 101 bytes/s of 100"
    ]


def test_uplinks_are_watched_each_way() -> None:
    racks = Fabric([100.0] * 4, racks=[0, 0, 1, 2], uplink_bytes_per_s=50.0)
    assert watched([(0, 3, 25.0), (1, 2, 25.0), (3, 0, 50.0)], racks) == []
    assert watched([(0, 3, 26.0), (1, 2, 25.0)], racks) == ["uplink 0 carries 51 bytes/s of 50"]
    assert watched([(3, 0, 26.0), (3, 2, 25.0)], racks) == ["uplink 3 carries 51 bytes/s of 50"]


def test_what_stays_on_a_host_loads_no_link() -> None:
    assert watched([(1, 1, 1e9)], Fabric([100.0] * 2)) == []


def test_of_a_block_that_came_corrupt_only_the_end_is_kept_back() -> None:
    """Who passes parts on has not checked them; it has before the last, and breaks off."""
    wrong = DATA[:150] + b"?" + DATA[151:300]
    broken_off, whole = Tapped(), Tapped()
    for tapped in (broken_off, whole):
        tapped.answers.world.corrupted = True
        tapped.ask(0)
        tapped.send(0, wrong[:299], length=300)
    assert broken_off.complaints == []
    whole.raw(whole.answers, wrong[299:])
    assert [said for said in whole.complaints if "to the end of a block" in said]


def test_where_nothing_passes_nothing_flows() -> None:
    fabric = Fabric([100.0] * 2)
    fabric.cut(0, 1)
    assert watched([(0, 1, 1.0), (1, 0, 1.0)], fabric) == ["host 0 to host 1: 1 bytes/s where nothing passes"]


def test_a_rate_holds_over_every_window() -> None:
    complaints: list[str] = []
    watch = RateWatch(100.0, complaints.append)
    watch.burst_bytes = {Side.SENT: 50.0, Side.RECEIVED: 20.0}
    for second in range(100):
        watch.moved(1, Side.SENT, 100, second + 0.5)
        watch.moved(1, Side.SENT, 0, second + 0.6)
    assert [bool(each) for each in complaints] == [True]  # a hundred at once is more than fifty
    assert "host 1 has sent 100 bytes more than 100 bytes/s allow" in complaints[0]
    complaints.clear()
    for tenth in range(100):
        watch.moved(2, Side.SENT, 10, tenth / 10)
        watch.moved(2, Side.RECEIVED, 10, tenth / 10)
    assert complaints == []
    watch.moved(2, Side.RECEIVED, 15, 9.9)
    assert len(complaints) == 1
    assert watch.highest[Side.RECEIVED] == pytest.approx(25.0)
