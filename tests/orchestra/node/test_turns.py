"""Pauses and policies, changed while transfers run, through the API of nodes."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import trio

from orchestra.controller.serving import serve_controller
from orchestra.node.handles import WatchedTransfer
from orchestra.node.joining import join
from orchestra.node.node import Node
from orchestra.simulation.cluster import SimulatedCluster
from orchestra.simulation.faults import Cut, inject
from schedulers import POLICIES
from tests.orchestra.node.clusters import cluster as on_loopback
from tests.orchestra.node.simulated import RATE, content, in_cluster, state_of
from tests.transfers.net.sites import until
from transfers.errors import TransferFailed, TransferRefused, UnknownTransfer
from transfers.ids import TransferName
from transfers.net.tcp import TcpNetwork

SIZE = int(10 * RATE)
"""Ten seconds of a host's link."""
LEAVING = int(2.5 * RATE)
"""More than what is on its way when a pause is told and still arrives: a block of a MiB on each hop."""

Start = Callable[[SimulatedCluster], Awaitable[WatchedTransfer]]


def some_bytes(size: int) -> bytes:
    return np.random.Generator(np.random.SFC64(5)).bytes(size)


async def broadcast(cluster: SimulatedCluster) -> WatchedTransfer:
    """One that takes ten seconds."""
    return await cluster.nodes["a"].broadcast(
        some_bytes(SIZE), "t", to=["b", "c"], mechanism="chain", timeout=20
    )


async def shuffle(cluster: SimulatedCluster) -> WatchedTransfer:
    """The same."""
    sizes = {"a": {"b": SIZE // 2, "c": SIZE // 2}, "b": {"c": SIZE // 4}}
    return await cluster.nodes["d"].run_shuffle(sizes, "t", timeout=20)


KINDS = pytest.mark.parametrize("start", [broadcast, shuffle])


def come(cluster: SimulatedCluster) -> int:
    """Bytes that hosts have sent in all."""
    world = cluster.world
    world.catch_up()
    moving = sum(int(world.fluid.moved(flow)) for flow in world._flows)
    return sum(world.bytes_sent) + moving


# -- pauses ------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("port_rate", [None, RATE], ids=["free", "port rate"])
def test_nothing_moves_in_a_pause_nobody_fails_for_it_and_it_goes_on(
    start: Start, port_rate: float | None
) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfer, other = await start(cluster), cluster.nodes["b"]
        await trio.sleep(3.0)
        await other.pause("t")
        at_pause = come(cluster)
        await trio.sleep(5.0)
        stopped = come(cluster)
        assert stopped - at_pause <= LEAVING
        await trio.sleep(200.0)
        assert come(cluster) == stopped
        known = await state_of(other, "t")
        assert (known["state"], known["granted_bytes_per_s"], known["failed"]) == ("paused", 0.0, {})
        resumed_s = trio.current_time()
        await other.resume("t")
        outcome = await transfer.wait()
        assert outcome.failed == {}
        assert trio.current_time() - resumed_s < 12.0
        assert (await state_of(other, "t"))["state"] == "done"

    in_cluster("abcd", body, port_rate_bytes_per_s=port_rate)


def test_every_byte_of_a_paused_broadcast_arrives() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfer = await broadcast(cluster)
        for _ in range(4):
            await trio.sleep(1.0)
            await cluster.nodes["a"].pause("t")
            await trio.sleep(5.0)
            await cluster.nodes["a"].resume("t")
        await transfer.wait()
        for name in "bc":
            assert bytes((await cluster.nodes[name].receive("t")).buffer) == some_bytes(SIZE)

    in_cluster("abcd", body)


def test_who_was_away_while_a_transfer_was_paused_goes_on_with_it() -> None:
    """It is cut off from its controller, and is told nothing of the pause's end."""

    async def body(cluster: SimulatedCluster) -> None:
        await broadcast(cluster)
        await trio.sleep(2.0)
        await cluster.nodes["d"].pause("t")
        await trio.sleep(1.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inject, cluster, [Cut(0.0, 0, 2, True, 5.0)])
            await trio.sleep(4.0)
            await cluster.nodes["d"].resume("t")
        with trio.fail_after(60.0):
            for name in "bc":
                assert bytes((await cluster.nodes[name].receive("t")).buffer) == some_bytes(SIZE)
        assert cluster.nodes["b"].objects._limits.egress(TransferName("t")).rate_bytes_per_s is None

    in_cluster("abcd", body, heartbeat_timeout_s=2.0)


def test_every_partition_of_a_paused_shuffle_arrives_once() -> None:
    size = int(2 * RATE)

    async def body(cluster: SimulatedCluster) -> None:
        terms: dict[str, Any] = {"mappers": ["a", "b"], "reducers": ["c"], "timeout": 10}
        got: list[tuple[str, bytes]] = []

        async def part(name: str) -> None:
            async with cluster.nodes[name].shuffle("t", **terms) as shuffle:
                if name == "c":
                    got.extend([(mapper, bytes(view.buffer)) async for mapper, view in shuffle.partitions()])
                else:
                    await shuffle.put({"c": content(name, "c", size)})

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(part, name)
            await trio.sleep(1.0)
            await cluster.nodes["a"].pause("t")
            await trio.sleep(100.0)
            assert len(got) == 0
            await cluster.nodes["c"].resume("t")
        assert sorted(got) == [(mapper, content(mapper, "c", size)) for mapper in "ab"]

    in_cluster("abcd", body)


@KINDS
def test_another_transfer_has_all_of_the_ports_meanwhile(start: Start) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfer = await start(cluster)
        await trio.sleep(1.0)
        await cluster.nodes["a"].pause("t")
        other = await cluster.nodes["a"].broadcast(
            some_bytes(int(4 * RATE)), "other", to=["b"], mechanism="chain"
        )
        assert (await other.wait()).completion_s < 6.5
        await cluster.nodes["a"].resume("t")
        await transfer.wait()

    in_cluster("abcd", body)


@KINDS
def test_a_paused_transfer_can_be_cancelled(start: Start) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfer = await start(cluster)
        await trio.sleep(1.0)
        await cluster.nodes["b"].pause("t")
        await transfer.cancel()
        with pytest.raises(TransferFailed, match="cancelled"):
            await transfer.wait()
        assert (await state_of(cluster.nodes["b"], "t"))["state"] == "cancelled"

    in_cluster("abcd", body)


@KINDS
def test_its_timeout_counts_again_once_it_goes_on(start: Start) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfer = await start(cluster)
        await trio.sleep(1.0)
        await cluster.nodes["b"].pause("t")
        await trio.sleep(100.0)
        cluster.world.change("cut", 1, 2)
        cluster.world.change("cut", 1, 3)
        cluster.world.change("cut", 2, 3)
        resumed_s = trio.current_time()
        await cluster.nodes["b"].resume("t")
        outcome = await transfer.wait_outcome()
        assert outcome.failed
        assert 15.0 <= trio.current_time() - resumed_s <= 60.0

    in_cluster("abcd", body)


def test_who_is_lost_in_a_pause_is_named_and_the_others_get_it() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfer = await broadcast(cluster)
        await trio.sleep(1.0)
        await cluster.nodes["a"].pause("t")
        await trio.sleep(5.0)
        await cluster.kill("c")
        await trio.sleep(30.0)
        await cluster.nodes["a"].resume("t")
        outcome = await transfer.wait_outcome()
        assert list(outcome.failed) == ["c"]
        assert list(outcome.node_completion_s) == ["b"]

    in_cluster("abcd", body)


def test_who_comes_in_a_pause_gets_nothing_until_it_is_over() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfer = await broadcast(cluster)
        await trio.sleep(1.0)
        await cluster.nodes["a"].pause("t")
        await trio.sleep(2.0)
        late = await cluster.start("late", 5)
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def receive() -> None:
                got.append(bytes((await late.receive("t", timeout=300)).buffer))

            nursery.start_soon(receive)
            before = come(cluster)
            await trio.sleep(100.0)
            assert come(cluster) == before
            await cluster.nodes["a"].resume("t")
        assert got == [some_bytes(SIZE)]
        await transfer.wait()

    in_cluster("abcde", body)


async def test_pausing_twice_and_resuming_what_goes_on_change_nothing() -> None:
    async with on_loopback("a", "b", port_rate=2e6) as (a, b):
        transfer = await a.broadcast(bytes(2_000_000), "t", to=["b"])
        await b.resume("t")
        for _ in range(2):
            await b.pause("t")
        assert (await state_of(a, "t"))["state"] == "paused"
        for _ in range(2):
            await a.resume("t")
        assert (await transfer.wait()).failed == {}


async def test_what_is_not_under_way_cannot_be_paused_nor_resumed() -> None:
    async with on_loopback("a", "b") as (a, b):
        await (await a.broadcast(bytes(1000), "done", to=["b"])).wait()
        for change in (a.pause, b.resume):
            for name in ("never", "done"):
                with pytest.raises(UnknownTransfer, match=f"'{name}' is under way"):
                    await change(name)
            with pytest.raises(ValueError, match="transfer name"):
                await change("../up")


# -- policies ------------------------------------------------------------------------------------------


async def two(
    cluster: SimulatedCluster, first: dict[str, Any], second: dict[str, Any]
) -> list[WatchedTransfer]:
    """Two shuffles through the same two ports, which alone would take ten seconds each."""
    return [
        await cluster.nodes["a"].run_shuffle({"b": {"c": SIZE}}, f"t{at}", timeout=60, **claim)
        for at, claim in enumerate((first, second))
    ]


async def both_done(transfers: list[WatchedTransfer]) -> list[float]:
    """How long each took."""
    took: dict[str, float] = {}

    async def wait(transfer: WatchedTransfer) -> None:
        took[transfer.name] = (await transfer.wait()).completion_s

    async with trio.open_nursery() as nursery:
        for transfer in transfers:
            nursery.start_soon(wait, transfer)
    return [took[transfer.name] for transfer in transfers]


@pytest.mark.parametrize(
    ("policy", "claims", "order"),
    [
        ("fair", [{"priority": 5, "weight": 9.0}, {}], None),
        ("fifo", [{}, {"priority": 5, "weight": 9.0}], 0),
        ("priority", [{"priority": -1}, {"priority": 3}], 1),
        ("priority", [{"priority": 3}, {"priority": -1}], 0),
        ("weighted", [{"weight": 1.0}, {"weight": 4.0}], 1),
        ("weighted", [{"weight": 2.0}, {"weight": 2.0}], None),
        ("bssi", [{"weight": 1.0}, {"weight": 4.0}], 1),
    ],
)
def test_a_policy_heeds_what_is_claimed(policy: str, claims: list[dict[str, Any]], order: int | None) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        first, second = claims
        took = await both_done(await two(cluster, first, second))
        assert max(took) == pytest.approx(21.5, abs=2.5)
        if order is None:
            assert min(took) == pytest.approx(20.0, abs=2.5)
        else:
            assert took[order] < took[1 - order] - 3.0

    in_cluster("abcd", body, policy=policy, port_rate_bytes_per_s=RATE)


def test_a_new_policy_bites_among_transfers_under_way() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        transfers = await two(cluster, {"priority": 1}, {"priority": 7})
        await trio.sleep(5.0)
        granted = [(await state_of(a, each.name))["granted_bytes_per_s"] for each in transfers]
        assert granted == [pytest.approx(RATE / 2, rel=0.1)] * 2
        await cluster.nodes["c"].set_policy("priority")
        await trio.sleep(1.0)
        granted = [(await state_of(a, each.name))["granted_bytes_per_s"] for each in transfers]
        assert granted[0] < 0.05 * RATE
        assert granted[1] == pytest.approx(RATE, rel=0.1)
        assert json.loads(await a.status())["policy"] == "priority"
        took = await both_done(transfers)
        assert took[1] == pytest.approx(12.5, abs=1.5)
        assert took[0] == pytest.approx(20.0, abs=2.0)

    in_cluster("abcd", body, port_rate_bytes_per_s=RATE)


def test_every_policy_can_follow_every_other() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        transfers = await two(cluster, {"priority": 1}, {"weight": 2.0})
        for policy in [*POLICIES, *list(POLICIES)[::-1]]:
            await cluster.nodes["b"].set_policy(policy)
            assert json.loads(await cluster.nodes["a"].status())["policy"] == policy
            await trio.sleep(0.7)
        assert max(await both_done(transfers)) < 25.0

    in_cluster("abcd", body, port_rate_bytes_per_s=RATE)


@pytest.mark.parametrize("policy", ["random", "", "Fair"])
async def test_a_policy_that_is_none_is_refused_by_name_and_the_old_one_stays(policy: str) -> None:
    async with on_loopback("a", policy="fifo") as (a,):
        with pytest.raises(ValueError, match=f"policy must be one of fair, .*, got '{policy}'"):
            await a.set_policy(policy)
        assert json.loads(await a.status())["policy"] == "fifo"


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"policy": "random"}, "policy must be one of fair, .* got 'random'"),
        ({"enforcement": "hope"}, "enforcement must be one of auto, pacing, connections, got 'hope'"),
    ],
)
async def test_a_controller_names_what_is_wrong(bad: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        async with serve_controller(**bad):
            pass


BAD_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"priority": 1.5}, "priority must be a whole number from .*, got 1.5"),
    ({"priority": True}, "priority must be a whole number .*, got True"),
    ({"priority": "high"}, "priority must be a whole number .*, got 'high'"),
    ({"priority": 1 << 40}, "priority must be a whole number .*, got 1099511627776"),
    ({"weight": 0}, "weight must be a number above 0 and finite, got 0"),
    ({"weight": -2.0}, "weight must be a number above 0 and finite, got -2.0"),
    ({"weight": float("inf")}, "weight must be .* got inf"),
    ({"weight": float("nan")}, "weight must be .* got nan"),
    ({"weight": "2"}, "weight must be .* got '2'"),
]


@pytest.mark.parametrize(("bad", "named"), BAD_CLAIMS)
async def test_bad_claims_are_refused_at_once_whatever_is_asked_for(bad: dict[str, Any], named: str) -> None:
    async with on_loopback("a", "b") as (a, _):
        with pytest.raises(ValueError, match=named):
            await a.broadcast(b"x", "t", **bad)
        with pytest.raises(ValueError, match=named):
            await a.run_shuffle({"a": {"b": 1}}, "t", **bad)
        with pytest.raises(ValueError, match=named):
            async with a.shuffle("t", mappers=["a"], reducers=["a"], **bad):
                pass
        assert json.loads(await a.status())["transfers"] == {}
        await (await a.broadcast(b"x", "t")).wait()


async def test_numpys_numbers_are_claims_too() -> None:
    async with on_loopback("a", "b") as (a, _):
        await (await a.broadcast(b"x", "t", priority=np.int8(-3), weight=np.float64(2.5))).wait()  # type: ignore[arg-type]
        await (await a.run_shuffle({"a": {"b": 1}}, "s", priority=np.int64(4), weight=np.int16(3))).wait()  # type: ignore[arg-type]
        known = json.loads(await a.status())["transfers"]
        assert [(known[name]["priority"], known[name]["weight"]) for name in "ts"] == [(-3, 2.5), (4, 3.0)]


async def test_all_who_take_part_must_claim_the_same() -> None:
    async with on_loopback("a", "b") as (a, b):
        terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["b"], "timeout": 20}
        async with a.shuffle("s", priority=1, **terms) as shuffle:
            others: list[dict[str, Any]] = [
                {},
                {"priority": 2},
                {"priority": 1, "weight": 2.0},
                {"priority": 1, "scheduling": "fair"},
            ]
            for other in others:
                with pytest.raises(TransferRefused, match="on other terms"):
                    async with b.shuffle("s", **terms, **other):
                        pass
            shuffle.finish()
            async with b.shuffle("s", priority=1, **terms):
                pass


# -- enforcement ---------------------------------------------------------------------------------------


class Unpaced(TcpNetwork):
    """A host whose kernel does not pace."""

    async def paces(self) -> bool:
        return False


async def test_nodes_say_whether_their_kernel_paces_and_the_status_tells_who_does_not() -> None:
    async with (
        serve_controller() as controller,
        join(controller.address, name="free", network=Unpaced()),
        join(controller.address, name="a") as a,
    ):
        a._member.paces = True  # whatever the trial has found here
        told = json.loads(await a.status())["enforcement"]
        assert told["means"] == "auto"
        assert "free" in told["without_pacing"]


@pytest.mark.parametrize("enforcement", ["auto", "pacing", "connections"])
@pytest.mark.parametrize("paces", [True, False])
async def test_a_shuffle_goes_through_by_whatever_means(enforcement: str, paces: bool) -> None:
    network = TcpNetwork() if paces else Unpaced()
    async with (
        serve_controller(enforcement=enforcement, port_rate=20e6) as controller,
        join(controller.address, name="a", share=False, network=network) as a,
        join(controller.address, name="b", share=False, network=network),
        join(controller.address, name="c", share=False, network=network),
    ):
        sizes = {"a": {"b": 1_000_000, "c": 3_000_000}, "b": {"c": 2_000_000, "b": 7}}
        with trio.fail_after(30):
            outcome = await (await a.run_shuffle(sizes, "s", timeout=20)).wait()
        assert outcome.failed == {}
        assert set(outcome.node_completion_s) == {"b", "c"}


async def test_a_pause_holds_what_real_sockets_send() -> None:
    size = 4_000_000
    async with on_loopback("a", "b", port_rate=4e6) as nodes:
        a, b = nodes

        async def held() -> int:
            return int(size * float((await state_of(b, "s"))["progress"]))

        terms: dict[str, Any] = {"mappers": ["a"], "reducers": ["b"], "timeout": 20}
        got: list[bytes] = []

        async def put() -> None:
            async with a.shuffle("s", **terms) as shuffle:
                await shuffle.put({"b": content("a", "b", size)})

        async def take(node: Node) -> None:
            async with node.shuffle("s", **terms) as shuffle:
                got.extend([bytes(view.buffer) async for _, view in shuffle.partitions()])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            nursery.start_soon(take, b)
            await until(lambda: a.objects.server.sent_bytes > 0)
            await a.pause("s")
            await settled(a)
            sent = a.objects.server.sent_bytes
            assert sent < size
            await trio.sleep(0.5)
            assert a.objects.server.sent_bytes == sent
            assert got == []
            assert await held() < size
            await b.resume("s")
        assert got == [content("a", "b", size)]


async def settled(node: Node) -> None:
    """Wait until a node has heard that it is to send nothing."""
    await until(lambda: bool(node.objects._limits.transfers))
    (transfer,) = node.objects._limits.transfers
    await until(lambda: node.objects._limits.egress(transfer).paused)
    await trio.sleep(0.1)
