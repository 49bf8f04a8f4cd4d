"""Nodes of one host that map each other's copy, by themselves."""

from random import Random

from orchestra.controller.account import Account
from orchestra.controller.host_mates import HostMates
from orchestra.controller.measured import Measured
from orchestra.controller.members import Members, Node, SessionId
from orchestra.controller.planning import Planning
from orchestra.controller.racks import FLAT, Topology
from orchestra.controller.transfer import Tally, TransferController
from orchestra.messages import Join, MapObject, ToNode
from tests.orchestra.controller.clusters import manifest_of
from transfers.blocks import BlockSet
from transfers.ids import NodeName, TransferName
from transfers.planners import Mechanism
from transfers.planners.events import NodeJoined

SRC, A, B, C = (NodeName(name) for name in ("src", "a", "b", "c"))
MANIFEST = manifest_of("t")


class Host:
    """Receivers a, b and c share the store of a host; the source is on another. Is their cluster, too."""

    def __init__(self) -> None:
        self.members = Members()
        self.measured = Measured()
        self.topology = Topology(FLAT, self.members, self.log)
        self.told: list[tuple[NodeName, ToNode]] = []
        for name in (SRC, A, B, C):
            self.add(name, "far" if name == SRC else "near")
        self.tally = Tally()
        self.account = Account(TransferName("t"), self.tally)
        self.account.count([A, B, C], [], 60.0)
        self.planning = Planning(Random(1))
        self.planning.plan(Mechanism.CHAIN, MANIFEST, SRC)
        self.mates = HostMates(self, SRC, self.account, self.planning)

    def add(self, name: NodeName, host: str, shares: bool = True) -> Node:
        join = Join(name, "", f"{name}:1", host, f"store of {name}" * shares, True, False, ())
        return self.members.add(SessionId(len(list(self.members))), join, 0.0)

    def send(self, node: NodeName, message: ToNode) -> None:
        self.told.append((node, message))

    def log(self, text: str) -> None:
        raise AssertionError(text)

    def changed(self, transfer: TransferController, *, urgent: bool = False) -> None:
        raise AssertionError(transfer)

    def moved(self, source: NodeName, to: NodeName, count_bytes: int) -> None:
        raise AssertionError(source)

    def receives(self, name: NodeName) -> None:
        """A node receives for itself."""
        self.planning.handle(NodeJoined(name, BlockSet(MANIFEST.layout.count)), 0.0)

    def first_for(self, name: NodeName) -> NodeName | None:
        node = self.members.present(name)
        assert node is not None
        return self.mates.first_for(node)


def map_of(first: NodeName) -> MapObject:
    return MapObject(MANIFEST, first, f"store of {first}")


def test_the_first_to_receive_is_the_one_whose_copy_is_mapped() -> None:
    host = Host()
    assert host.first_for(A) is None
    host.receives(A)
    assert host.first_for(A) is None
    assert host.first_for(B) == A
    assert host.first_for(SRC) is None


def test_neither_mates_nor_the_failed_nor_strangers_are_mapped() -> None:
    host = Host()
    host.receives(A)
    host.receives(B)
    host.mates.add(A, B, MANIFEST)
    assert host.first_for(C) == B
    host.account.fail(B, "disk full")
    assert host.first_for(C) is None
    host.receives(host.add(NodeName("stranger"), "near").name)
    assert host.first_for(C) is None


def test_who_shares_no_store_maps_nothing() -> None:
    host = Host()
    host.receives(A)
    host.add(NodeName("alone"), "near", shares=False)
    assert host.first_for(NodeName("alone")) is None


def test_mates_are_told_once_the_copy_is_complete() -> None:
    host = Host()
    host.receives(A)
    host.mates.add(B, A, MANIFEST)
    assert host.told == []
    host.account.note_settled(A, 1.0)
    host.mates.first_is_complete(A, MANIFEST)
    host.mates.add(C, A, MANIFEST)
    assert host.told == [(B, map_of(A)), (C, map_of(A))]


def test_the_sources_copy_is_complete_from_the_start() -> None:
    host = Host()
    host.mates.add(B, SRC, MANIFEST)
    assert host.told == [(B, map_of(SRC))]
    assert B in host.mates
    host.mates.discard(B)
    assert B not in host.mates


def test_when_the_first_is_gone_those_who_have_not_mapped_it_are_let_off() -> None:
    host = Host()
    host.receives(A)
    host.mates.add(B, A, MANIFEST)
    host.mates.add(C, A, MANIFEST)
    host.account.note_settled(C, 1.0)
    assert host.mates.first_is_gone(A) == [B]
    assert B not in host.mates
    assert C not in host.mates
    assert host.mates.first_is_gone(A) == []
