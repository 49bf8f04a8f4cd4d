"""A controller core without sockets, and nodes that are nothing but sessions."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from orchestra.controller.core import ControllerConfig, ControllerCore
from orchestra.controller.members import SessionId
from orchestra.messages import (
    Begin,
    BlocksHeld,
    FetchBlocks,
    FollowSource,
    Granted,
    Heartbeat,
    Holding,
    Join,
    Leave,
    Offer,
    Planned,
    Propose,
    Settled,
    ToController,
    ToNode,
)
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ContentType, Manifest, ObjectKey, PartName, make_manifest
from transfers.planners import Mechanism
from transfers.planners.events import TICK_INTERVAL_S, Stored

MessageT = TypeVar("MessageT")


def manifest_of(transfer: str, size: int = 40, block_size: int = 10, part: str = "") -> Manifest:
    """The manifest of an object of zeros."""
    key = ObjectKey(TransferName(transfer), PartName(part))
    return make_manifest(key, BlockLayout(size, block_size), memoryview(bytes(size)), ContentType())


class Agent:
    """One session: what it was told, and what it says.

    An agent that `obeys` stores at once what it is told to fetch or follow, if its source holds it.
    """

    def __init__(self, cluster: "FakeCluster", session: SessionId, name: str) -> None:
        self.cluster = cluster
        self.session = session
        self.name = NodeName(name)
        self.told: list[ToNode] = []
        self.closed = False

    def say(self, *messages: ToController) -> None:
        """Send messages to the controller."""
        for message in messages:
            self.cluster.core.receive(self.session, message, self.cluster.now)
        self.cluster.deliver()

    def all_of(self, kind: type[MessageT]) -> list[MessageT]:
        """What it was told, of one class."""
        return [message for message in self.told if isinstance(message, kind)]

    def last(self, kind: type[MessageT]) -> MessageT:
        """What it was told last, of one class."""
        return self.all_of(kind)[-1]

    def hang_up(self, reason: str = "connection closed") -> None:
        """Its connection closes."""
        self.closed = True
        self.cluster.core.closed(self.session, reason, self.cluster.now)
        self.cluster.deliver()

    def leave(self) -> None:
        """Say goodbye and go."""
        self.say(Leave())
        self.hang_up()

    def propose(
        self,
        transfer: str,
        to: Sequence[str] | None = None,
        *,
        size: int = 40,
        wait_for: int = 1,
        timeout_s: float = 60.0,
        mechanism: Mechanism | None = None,
        block_size: int | None = 10,
    ) -> None:
        """Ask for a broadcast."""
        receivers = None if to is None else tuple(NodeName(name) for name in to)
        self.say(
            Propose(1, TransferName(transfer), size, receivers, wait_for, timeout_s, mechanism, block_size)
        )

    def offer(self, transfer: str, size: int = 40, block_size: int = 10) -> Manifest:
        """Say that the object is in the store."""
        manifest = manifest_of(transfer, size, block_size)
        self.say(Offer(2, manifest))
        return manifest

    def broadcast(self, transfer: str, to: Sequence[str] | None = None, **options: object) -> Manifest:
        """Propose and offer; both must be granted."""
        self.propose(transfer, to, **options)  # type: ignore[arg-type]
        assert self.last(Planned).request == 1
        size = options.get("size", 40)
        assert isinstance(size, int)
        manifest = self.offer(transfer, size)
        assert self.last(Granted).request == 2
        return manifest

    def store(self, manifest: Manifest, *blocks: int, source: str = "src") -> None:
        """Report blocks as stored."""
        records = tuple(Stored(BlockIndex(block), NodeName(source), 0.01) for block in blocks)
        self.say(BlocksHeld(manifest.key, records))

    def finish(self, manifest: Manifest) -> None:
        """Report all blocks, and that it is through."""
        self.store(manifest, *range(manifest.layout.count))
        self.say(Settled(manifest.key, None))

    @property
    def begun(self) -> set[str]:
        """Transfers that it was told to make room for."""
        return {str(message.manifest.key) for message in self.all_of(Begin)}

    @property
    def sources(self) -> set[str]:
        """Whom it was told to take blocks from."""
        follows = {message.source for message in self.all_of(FollowSource) if message.source is not None}
        return {*follows, *(message.source for message in self.all_of(FetchBlocks))}


class FakeCluster:
    """A core, its clock and its sessions."""

    def __init__(self, seed: int = 1, **config: object) -> None:
        self.core = ControllerCore(ControllerConfig(**config), Random(seed))  # type: ignore[arg-type]
        self.now = 100.0
        self.sessions: dict[SessionId, Agent] = {}

    def connect(self, name: str) -> Agent:
        """A session that has not joined."""
        session = SessionId(len(self.sessions) + 1)
        agent = self.sessions[session] = Agent(self, session, name)
        return agent

    def join(
        self,
        name: str,
        *,
        incarnation: str = "",
        receives: bool = True,
        shares: bool = False,
        host: str = "host",
        inventory: tuple[Holding, ...] = (),
    ) -> Agent:
        """A session that joins."""
        agent = self.connect(name)
        agent.say(
            Join(
                NodeName(name), incarnation or f"first {name}", f"{name}:1", host,
                f"store of {name}" * shares, receives, False, inventory,
            )
        )  # fmt: skip
        return agent

    def joined(self, *names: str) -> list[Agent]:
        """The source and agents of these names."""
        return [self.join("src", receives=False), *(self.join(name) for name in names)]

    def deliver(self) -> None:
        """Hand out what the core has to say."""
        for session, message in self.core.take_output():
            agent = self.sessions[session]
            if message is None:
                if not agent.closed:
                    agent.closed = True
                    self.core.closed(session, "closed by the controller", self.now)
            elif not agent.closed:
                agent.told.append(message)

    def pass_time(
        self, seconds: float, *, silent: Sequence[Agent] = (), step_s: float = TICK_INTERVAL_S
    ) -> None:
        """Let time pass; everyone but the ``silent`` sends heartbeats."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + step_s)
            for agent in list(self.sessions.values()):
                if not agent.closed and agent not in silent and self.core.members.speaking(agent.session):
                    self.core.receive(agent.session, Heartbeat(), self.now)
            self.core.tick(self.now)
            self.deliver()
        self.core.take_log()

    def state(self, transfer: str) -> dict[str, object]:
        """What the status says of a transfer."""
        transfers = self.core.status()["transfers"]
        assert isinstance(transfers, dict)
        found = transfers[transfer]
        assert isinstance(found, dict)
        return found
