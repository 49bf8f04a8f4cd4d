"""Others take the places of lost mappers and reducers, and every byte arrives once."""

from functools import partial
from typing import Any

import pytest
import trio

from orchestra.groups import first_of
from orchestra.node.shuffle import Shuffle
from orchestra.simulation.cluster import SimulatedCluster
from tests.orchestra.node.clusters import cluster as on_loopback
from tests.orchestra.node.simulated import Part, content, in_cluster
from transfers.errors import LocalProtocolError, TransferFailed, TransferRefused

SIZE = 1_000_000
TERMS: dict[str, Any] = {"mappers": ["a", "b"], "reducers": ["b", "c"], "replaceable": True, "timeout": 60.0}
WHEN_S = [0.1, 0.5, 1.2, 1.8]
"""The whole takes two seconds or so: two partitions out of each mapper, two into each reducer."""


def expected(reducer: str) -> dict[str, list[bytes]]:
    """What a place of a reducer should have got, each once."""
    return {mapper: [content(mapper, reducer, SIZE)] for mapper in "ab"}


async def failure_of(part: Part) -> TransferFailed:
    """How a part ends that cannot end well."""
    with pytest.raises(BaseExceptionGroup) as caught:
        await part.run(SIZE)
    found = first_of(caught.value, TransferFailed)
    assert isinstance(found, TransferFailed)
    return found


async def replaced(cluster: SimulatedCluster, victim: str, heir: str, after_s: float) -> dict[str, Part]:
    """Kill one of three participants at some time, and have another take its place."""
    parts = {name: Part(cluster, name, **TERMS) for name in "abc"}
    witness = next(name for name in "bc" if name != victim)
    async with trio.open_nursery() as nursery:
        for part in parts.values():
            nursery.start_soon(part.run, SIZE)
        await trio.sleep(after_s)
        assert not parts[witness].shuffle.over
        await parts[victim].die()
        lost = await parts[witness].shuffle.wait_lost()
        assert (lost.place, lost.node) == (victim, victim)
        assert lost.reason
        assert parts[witness].shuffle.lost == (lost,)
        parts["heir"] = Part(cluster, heir, in_place_of=lost.place, **TERMS)
        nursery.start_soon(parts["heir"].run, SIZE)
        await parts["heir"].entered.wait()
        await trio.sleep(0.05)
        assert parts[witness].shuffle.lost == ()
    with pytest.raises(LocalProtocolError, match="is over"):
        await parts[witness].shuffle.wait_lost()
    outcome = await parts[witness].shuffle.wait()
    assert (outcome.failed, outcome.replaced) == ({}, {victim: heir})
    assert set(outcome.node_completion_s) == {"b", "c"}
    for node in cluster.nodes.values():
        assert node.objects.statistics().store.objects == 0
        assert node.objects.statistics().arrivals == 0
    return parts


@pytest.mark.parametrize("after_s", WHEN_S)
@pytest.mark.parametrize("heir", ["d", "b"], ids=["a spare", "one with places"])
def test_a_lost_mappers_partitions_are_put_again_and_arrive_once(after_s: float, heir: str) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        parts = await replaced(cluster, "a", heir, after_s)
        assert parts["b"].got == expected("b")
        assert parts["c"].got == expected("c")

    in_cluster("abcd", body)


@pytest.mark.parametrize("after_s", WHEN_S)
@pytest.mark.parametrize("heir", ["d", "a"], ids=["a spare", "one with a place"])
def test_who_takes_a_lost_reducers_place_gets_all_of_its_partitions(after_s: float, heir: str) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        parts = await replaced(cluster, "c", heir, after_s)
        assert parts["b"].got == expected("b")
        assert parts["heir"].got == expected("c")

    in_cluster("abcd", body)


@pytest.mark.parametrize("after_s", WHEN_S)
def test_one_that_was_both_is_replaced_in_both(after_s: float) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        parts = await replaced(cluster, "b", "d", after_s)
        assert parts["c"].got == expected("c")
        assert parts["heir"].got == expected("b")

    in_cluster("abcd", body)


def test_the_heir_of_an_heir_carries_on() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        parts = {name: Part(cluster, name, **TERMS) for name in "abc"}
        async with trio.open_nursery() as nursery:
            for part in parts.values():
                nursery.start_soon(part.run, SIZE)
            await trio.sleep(0.5)
            await parts["a"].die()
            for heir in "de":
                await parts["c"].shuffle.wait_lost()
                await trio.sleep(1.0)
                parts[heir] = Part(cluster, heir, in_place_of="a", **TERMS)
                nursery.start_soon(parts[heir].run, SIZE)
                await trio.sleep(0.5)
                if heir == "d":
                    await parts["d"].die()
        outcome = await parts["c"].shuffle.wait()
        assert outcome.replaced == {"a": "e"}
        assert parts["b"].got == expected("b")
        assert parts["c"].got == expected("c")

    in_cluster("abcde", body)


def test_a_node_that_is_started_again_takes_its_own_place() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        parts = {name: Part(cluster, name, **TERMS) for name in "abc"}
        async with trio.open_nursery() as nursery:
            for part in parts.values():
                nursery.start_soon(part.run, SIZE)
            await trio.sleep(1.2)
            await parts["a"].die()
            await parts["c"].shuffle.wait_lost()
            await cluster.start("a", 1)
            again = Part(cluster, "a", **TERMS)
            nursery.start_soon(again.run, SIZE)
        assert parts["b"].got == expected("b")
        assert parts["c"].got == expected("c")

    in_cluster("abc", body)


def test_a_place_of_one_that_never_came_is_taken() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        parts = [Part(cluster, name, **TERMS) for name in "bc"]
        parts.append(Part(cluster, "d", in_place_of="a", **TERMS))
        async with trio.open_nursery() as nursery:
            for part in parts:
                nursery.start_soon(part.run, SIZE)
        assert parts[0].got == expected("b")
        assert parts[1].got == expected("c")

    in_cluster("bcd", body)


def test_what_is_due_is_told_to_who_waits_and_to_who_takes_the_place() -> None:
    async def only_b(shuffle: Shuffle) -> None:
        await shuffle.put({"b": content("a", "b", SIZE)})
        await trio.sleep_forever()

    async def body(cluster: SimulatedCluster) -> None:
        a, b, c = (Part(cluster, name, **TERMS) for name in "abc")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(a.run, SIZE, waits=only_b))
            for part in (b, c):
                nursery.start_soon(part.run, SIZE)
            await trio.sleep(5.0)
            assert b.got == expected("b")
            assert c.shuffle.lost == ()
            await a.die()
            lost = await c.shuffle.wait_lost()
            assert lost.due == ("c",)
            heir = Part(cluster, "d", in_place_of="a", **TERMS)
            nursery.start_soon(heir.run, SIZE)
            await heir.entered.wait()
            assert heir.shuffle.due == ("c",)
            assert (heir.shuffle.place, heir.shuffle.node) == ("a", "d")
            with pytest.raises(ValueError, match="'x' is no reducer"):
                await heir.shuffle.put({"x": b""})
            await heir.shuffle.put({"b": b"passed over, since it has been delivered"})
        assert b.got == expected("b")
        assert c.got == expected("c")

    in_cluster("abcd", body)


def test_what_was_taken_before_anybody_knew_of_the_loss_is_not_given_twice() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        a, b, c = (Part(cluster, name, **TERMS) for name in "abc")
        async with trio.open_nursery() as nursery:
            for part in (a, b, c):
                nursery.start_soon(part.run, SIZE)
            while not b.got.get("a"):
                await trio.sleep(0.001)
            await a.die()
            await c.shuffle.wait_lost()
            nursery.start_soon(Part(cluster, "d", in_place_of="a", **TERMS).run, SIZE)
        assert b.got == expected("b")
        assert c.got == expected("c")

    in_cluster("abcd", body)


def test_who_asks_for_a_place_that_is_not_free_is_refused_and_hurts_nobody() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        parts = [Part(cluster, name, **TERMS) for name in "abc"]
        async with trio.open_nursery() as nursery:
            for part in parts:
                nursery.start_soon(part.run, SIZE)
            await trio.sleep(1.0)
            for place, named in (("a", "has the place of a"), ("d", "neither mapper nor reducer")):
                with pytest.raises(TransferRefused, match=named):
                    async with cluster.nodes["d"].shuffle("s", in_place_of=place, **TERMS):
                        pass
        assert parts[2].got == expected("c")

    in_cluster("abcd", body)


def test_without_an_heir_it_fails_in_time_and_names_the_lost() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        terms = {**TERMS, "timeout": 20.0}
        parts = {name: Part(cluster, name, **terms) for name in "abc"}
        failures: dict[str, TransferFailed] = {}

        async def fails(part: Part) -> None:
            failures[part.name] = await failure_of(part)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(parts["a"].run, SIZE)
            for name in "bc":
                nursery.start_soon(fails, parts[name])
            await trio.sleep(0.5)
            await parts["a"].die()
        for name in "bc":
            assert failures[name].failed["a"].endswith("nobody took its place")

    in_cluster("abc", body)


def test_without_leave_to_replace_the_loss_ends_it_at_once_by_name() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        terms = {**TERMS, "replaceable": False}
        parts = {name: Part(cluster, name, **terms) for name in "abc"}
        began_s = trio.current_time()

        async def fails(part: Part) -> None:
            assert set((await failure_of(part)).failed) == {"a"}

        async with trio.open_nursery() as nursery:
            nursery.start_soon(parts["a"].run, SIZE)
            for name in "bc":
                nursery.start_soon(fails, parts[name])
            await trio.sleep(0.5)
            await parts["a"].die()
        assert trio.current_time() - began_s < 30.0

    in_cluster("abc", body)


# -- on loopback ---------------------------------------------------------------------------------------


async def test_one_node_may_have_every_place() -> None:
    places: dict[str, Any] = {"mappers": ["x", "y"], "reducers": ["x", "z"], "replaceable": True}
    got: dict[str, list[tuple[str, bytes]]] = {}
    async with on_loopback("one") as (one,):

        async def take(place: str) -> None:
            async with one.shuffle("s", in_place_of=place, **places) as shuffle:
                if place in shuffle.mappers:
                    await shuffle.put({to: f"{place} to {to}".encode() for to in shuffle.due})
                if place in shuffle.reducers:
                    got[place] = sorted(
                        [(mapper, bytes(view.buffer)) async for mapper, view in shuffle.partitions()]
                    )

        async with trio.open_nursery() as nursery:
            for place in "xyz":
                nursery.start_soon(take, place)
        assert got == {to: [(mapper, f"{mapper} to {to}".encode()) for mapper in "xy"] for to in "xz"}
        assert one.objects.store.statistics().objects == 0


async def test_waiting_for_a_place_ends_with_the_shuffle_and_is_refused_where_none_is_free() -> None:
    async with on_loopback("a") as (a,):
        async with a.shuffle("s", mappers=["a"], reducers=["a"]) as shuffle:
            with pytest.raises(LocalProtocolError, match="'s' is not replaceable"):
                await shuffle.wait_lost()
        async with (
            trio.open_nursery() as nursery,
            a.shuffle("s", mappers=["a"], reducers=["a"], replaceable=True) as shuffle,
        ):

            async def wait() -> None:
                with pytest.raises(LocalProtocolError, match="'s' is over"):
                    await shuffle.wait_lost()

            nursery.start_soon(wait)
            await shuffle.put({"a": b"x"})


@pytest.mark.parametrize("bad", ["", "a,b", 3])
async def test_a_place_that_is_no_name_is_refused_at_once(bad: str) -> None:
    async with on_loopback("a") as (a,):
        with pytest.raises(ValueError, match="name"):
            async with a.shuffle("s", mappers=["a"], reducers=["a"], in_place_of=bad):
                pass


def test_who_is_refused_a_place_keeps_what_it_has_put_in_its_own() -> None:
    async def body(cluster: SimulatedCluster) -> None:
        a, b, c = (Part(cluster, name, **TERMS) for name in "abc")
        async with trio.open_nursery() as nursery:
            for part in (a, b, c):
                nursery.start_soon(part.run, SIZE)
            await trio.sleep(0.3)
            await c.die()
            await a.shuffle.wait_lost()
            heir = Part(cluster, "d", in_place_of="c", **TERMS)
            nursery.start_soon(heir.run, SIZE)
            await heir.entered.wait()
            with pytest.raises(TransferRefused):
                await Part(cluster, "a", in_place_of="c", **TERMS).run(SIZE)
        assert b.got == expected("b")
        assert heir.got == expected("c")

    in_cluster("abcd", body)


def test_what_has_come_can_be_taken_when_another_place_of_the_node_has_ended() -> None:
    got: dict[str, bytes] = {}

    async def body(cluster: SimulatedCluster) -> None:
        a, c = (Part(cluster, name, **TERMS) for name in "ac")

        async def late() -> None:
            async with cluster.nodes["b"].shuffle("s", **TERMS) as shuffle:
                await shuffle.put({to: content("b", to, SIZE) for to in "bc"})
                await shuffle.wait()
                await trio.sleep(1.0)
                async for mapper, view in shuffle.partitions():
                    got[mapper] = bytes(view.buffer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            for part in (a, c):
                nursery.start_soon(part.run, SIZE)
            await trio.sleep(0.1)
            await a.die()
            await c.shuffle.wait_lost()
            nursery.start_soon(Part(cluster, "b", in_place_of="a", **TERMS).run, SIZE)
        assert got == {mapper: content(mapper, "b", SIZE) for mapper in "ab"}

    in_cluster("abc", body)
