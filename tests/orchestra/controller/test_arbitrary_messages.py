"""Whatever well-formed messages nodes send, in whatever order: the core never raises, and stays sound.

Nodes prove the secret before they are heard; that does not make them right.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from orchestra.controller.core import ControllerCore
from orchestra.messages import (
    TO_NODE,
    BlocksHeld,
    FetchTrouble,
    Holding,
    Join,
    MapFailed,
    Offer,
    OpenShuffle,
    PartitionPut,
    Propose,
    Settled,
    ToController,
    Want,
)
from tests.orchestra.controller.clusters import Agent, FakeCluster, manifest_of
from tests.transfers.net.strategies import any_of, messages
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey, PartName
from transfers.planners import Mechanism
from transfers.planners.events import FetchFailure, Stored

NAMES = st.sampled_from(["a", "b", "c", "d", "t", "u", "../x", "a/b", ""])
NODES = [NodeName(name) for name in "abcd"]
TRANSFERS = [TransferName(name) for name in ("t", "u")]


class Storm(RuleBasedStateMachine):
    """Sessions that come, go and say anything."""

    agents: Bundle[Agent] = Bundle("agents")

    @initialize(rate=st.none() | st.just(1e6), target=agents)
    def start(self, rate: float | None) -> Agent:
        self.cluster = FakeCluster(port_rate_bytes_per_s=rate, heartbeat_timeout_s=4.0)
        return self.cluster.join("a")

    @rule(
        target=agents,
        name=st.sampled_from("abcd"),
        fresh=st.booleans(),
        receives=st.booleans(),
        shares=st.booleans(),
        held=st.lists(st.tuples(st.sampled_from(TRANSFERS), st.sets(st.integers(0, 3))), max_size=2),
    )
    def join(
        self, name: str, fresh: bool, receives: bool, shares: bool, held: list[tuple[TransferName, set[int]]]
    ) -> Agent:
        inventory = tuple(Holding(manifest_of(transfer), BlockSet(4, blocks)) for transfer, blocks in held)
        return self.cluster.join(
            name,
            incarnation=str(self.cluster.now) if fresh else "",
            receives=receives,
            shares=shares,
            inventory=inventory,
        )

    @rule(target=agents, message=messages(Join, NAMES), address=st.none() | st.just("10.0.0.9:1"))
    def join_oddly(self, message: Join, address: str | None) -> Agent:
        agent = self.cluster.connect(message.name)
        agent.say(message if address is None else replace(message, data_address=address))
        return agent

    @rule(agent=agents, message=any_of(ToController, NAMES))
    def say_anything(self, agent: Agent, message: ToController) -> None:
        self.say(agent, message)

    @rule(
        agent=agents,
        transfer=st.sampled_from(TRANSFERS),
        to=st.none() | st.lists(st.sampled_from(NODES), max_size=4).map(tuple),
        mechanism=st.none() | st.sampled_from(list(Mechanism)),
        timeout_s=st.sampled_from([0.5, 3.0]),
    )
    def broadcast(
        self,
        agent: Agent,
        transfer: TransferName,
        to: tuple[NodeName, ...] | None,
        mechanism: Mechanism | None,
        timeout_s: float,
    ) -> None:
        self.say(agent, Propose(1, transfer, 40, to, 1, timeout_s, mechanism, 10))
        self.say(agent, Offer(2, manifest_of(transfer)))

    @rule(
        agent=agents,
        transfer=st.sampled_from(TRANSFERS),
        blocks=st.lists(st.integers(0, 3)),
        through=st.booleans(),
    )
    def report(self, agent: Agent, transfer: TransferName, blocks: list[int], through: bool) -> None:
        key = ObjectKey(transfer)
        records = tuple(Stored(BlockIndex(block), NODES[block], 0.1) for block in blocks)
        self.say(agent, BlocksHeld(key, records))
        if through:
            self.say(agent, Settled(key, None))

    @rule(
        agent=agents,
        transfer=st.sampled_from(TRANSFERS),
        source=st.sampled_from(NODES),
        blocks=st.lists(st.integers(-1, 5)),
        failure=st.sampled_from(list(FetchFailure)),
    )
    def complain(
        self, agent: Agent, transfer: TransferName, source: NodeName, blocks: list[int], failure: FetchFailure
    ) -> None:
        key = ObjectKey(transfer)
        asked = tuple(BlockIndex(block) for block in blocks)
        self.say(agent, FetchTrouble(key, source, asked, failure))
        if not blocks:
            self.say(agent, MapFailed(key, "odd"))
        if len(blocks) > 5:
            self.say(agent, Settled(key, "full"))

    @rule(agent=agents, transfer=st.sampled_from(TRANSFERS))
    def want(self, agent: Agent, transfer: TransferName) -> None:
        self.say(agent, Want(transfer))

    @rule(
        agent=agents,
        transfer=st.sampled_from(TRANSFERS),
        reducer=st.sampled_from(NODES),
        manifest=st.none() | st.just(40),
        through=st.none() | st.sampled_from(NODES),
    )
    def shuffle(
        self,
        agent: Agent,
        transfer: TransferName,
        reducer: NodeName,
        manifest: int | None,
        through: NodeName | None,
    ) -> None:
        self.say(agent, OpenShuffle(1, transfer, tuple(NODES[:2]), tuple(NODES[1:3]), 2.0))
        part = None if manifest is None else self.partition(transfer, agent.name, reducer)
        self.say(agent, PartitionPut(transfer, reducer, part))
        if through is not None:
            self.say(agent, Settled(ObjectKey(transfer, PartName(f"{through}/{agent.name}")), None))

    @rule(agent=consumes(agents), said=st.booleans())
    def go(self, agent: Agent, said: bool) -> None:
        if said and not agent.closed:
            agent.leave()
        elif not agent.closed:
            agent.hang_up()

    @rule(seconds=st.sampled_from([0.1, 0.4, 1.2, 5.0]), silent=agents)
    def wait(self, seconds: float, silent: Agent) -> None:
        self.cluster.pass_time(seconds, silent=[silent])

    @invariant()
    def what_is_said_can_be_sent(self) -> None:
        for agent in getattr(self, "cluster", FakeCluster()).sessions.values():
            for message in agent.told:
                assert TO_NODE.decode(TO_NODE.encode(message)) == message
            agent.told.clear()

    @invariant()
    def every_open_session_speaks_for_one_node(self) -> None:
        core: ControllerCore = getattr(self, "cluster", FakeCluster()).core
        for node in core.members:
            if node.present:
                assert core.members.speaking(node.session) is node
        core.status()

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        # Time heals: everyone falls silent, and nothing is left under way.
        self.cluster.pass_time(8.0, silent=list(self.cluster.sessions.values()), step_s=0.5)
        core = self.cluster.core
        assert not core.members._sessions
        assert not core.table._wanted
        assert not core._requests._proposals
        assert not any(transfer.moving and not transfer.over for transfer in core.table)

    @staticmethod
    def partition(transfer: TransferName, mapper: str, reducer: str) -> Manifest:
        return manifest_of(transfer, part=f"{mapper}/{reducer}")

    def say(self, agent: Agent, message: Any) -> None:
        if not agent.closed:
            agent.say(message)


Storm.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
TestStorm = Storm.TestCase


def test_a_long_storm_of_plausible_messages() -> None:
    """Cheaper than drawing: thousands of messages about few names from a seeded generator."""
    for seed in range(6):
        rng = Random(seed)
        cluster = FakeCluster(seed, heartbeat_timeout_s=3.0, port_rate_bytes_per_s=1e6 if seed % 2 else None)
        agents = [cluster.join(name) for name in "abcd"]
        for step in range(1500):
            if all(agent.closed for agent in agents) or rng.random() < 0.02:
                at = rng.randrange(4)
                inventory = tuple(
                    Holding(manifest_of(transfer), BlockSet(4, rng.sample(range(4), rng.randrange(5))))
                    for transfer in TRANSFERS
                    if rng.random() < 0.3
                )
                agents[at] = cluster.join(
                    "abcd"[at],
                    incarnation=str(step) if rng.random() < 0.5 else "",
                    receives=rng.random() < 0.8,
                    shares=rng.random() < 0.5,
                    inventory=inventory,
                )
            agent = rng.choice(agents)
            if not agent.closed:
                try:
                    one_of(rng)(agent)
                except Exception as wrong:
                    raise AssertionError(f"seed {seed}, step {step}") from wrong
            for each in agents:
                each.told.clear()
            if rng.random() < 0.2:
                cluster.pass_time(rng.choice([0.1, 0.3, 1.5]), silent=[rng.choice(agents)])


def one_of(rng: Random) -> Callable[[Agent], None]:
    """Something that a node may say or do."""
    transfer, node = rng.choice(TRANSFERS), rng.choice(NODES)
    key = ObjectKey(transfer)
    block = BlockIndex(rng.randrange(4))
    part = ObjectKey(transfer, PartName(f"{rng.choice(NODES)}/{node}"))
    others = tuple(rng.sample(NODES, rng.randrange(4)))
    said: list[ToController] = [
        Propose(1, transfer, 40, rng.choice([None, others]), 1, 2.0, rng.choice([None, *Mechanism]), 10),
        Offer(2, manifest_of(transfer)),
        BlocksHeld(key, (Stored(block, node, 0.1),)),
        BlocksHeld(key, (Stored(block, node, 0.1),)),
        BlocksHeld(key, tuple(Stored(BlockIndex(each), node, 0.1) for each in range(4))),
        FetchTrouble(key, node, (block,), rng.choice(list(FetchFailure))),
        Settled(key, rng.choice([None, None, "full"])),
        MapFailed(key, "odd"),
        Want(transfer),
        OpenShuffle(1, transfer, tuple(NODES[:2]), tuple(NODES[1:3]), 2.0),
        PartitionPut(transfer, node, None),
        Settled(part, None),
        FetchTrouble(part, node, (block,), FetchFailure.STALLED),
    ]

    def act(agent: Agent) -> None:
        dice = rng.random()
        if dice < 0.01:
            agent.hang_up()
        elif dice < 0.02:
            agent.leave()
        elif dice < 0.1:
            manifest = manifest_of(transfer, part=f"{agent.name}/{node}")
            agent.say(PartitionPut(transfer, node, manifest))
        else:
            agent.say(rng.choice(said))

    return act
