"""Racks in plans: each block enters each rack once, and what that costs stays within what ports have."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.simulation.fabric import rack_of_each_host
from orchestra.simulation.planner_loop import Loss, PlannerRun, node_name, run_planner
from tests.transfers.planners.told import fail, fetches, join, store
from transfers.ids import NodeName
from transfers.planners import CornetPlanner, Mechanism
from transfers.planners.events import BlocksStored, Command, Event, FetchFailure
from transfers.planners.racks import Racks, feeds_in_line, plan_trees

SOURCE = NodeName("source")
RATE = 6.25e6
BLOCK_BYTES = 1 << 17
STRIPES = 2


def in_line(sizes: Sequence[int], place: int = 0) -> tuple[list[NodeName], Racks]:
    """Receivers of racks of these sizes, the source in one of them."""
    of = {SOURCE: place}
    for rack, size in enumerate(sizes):
        of |= {NodeName(f"r{rack}n{number}"): rack for number in range(size)}
    names = [name for name in of if name != SOURCE]
    return names, Racks(of.get, feeds_in_line(range(len(sizes)), place))


def standing(**racks: int) -> Racks:
    """Three racks in a line, the source in the first; who stands where."""
    return Racks(lambda name: racks.get(name), {1: 0, 2: 1})


def crossings(tree: Mapping[NodeName, NodeName], racks: Racks) -> Counter[tuple[int, int]]:
    """Streams from rack to rack."""
    found: Counter[tuple[int, int]] = Counter()
    for name, parent in tree.items():
        there, here = racks.of(parent), racks.of(name)
        assert there is not None
        assert here is not None
        if there != here:
            found[there, here] += 1
    return found


def check_whole(tree: Mapping[NodeName, NodeName], names: Sequence[NodeName]) -> None:
    """Everyone hangs on the source, nobody on itself."""
    assert tree.keys() == set(names)
    for name in names:
        at, steps = name, 0
        while at != SOURCE:
            at, steps = tree[at], steps + 1
            assert steps <= len(names), f"{name} is in a circle"


def test_racks_in_a_line_are_fed_outwards() -> None:
    assert feeds_in_line([0, 1, 2], 0) == {1: 0, 2: 1}
    assert feeds_in_line([0, 1, 2], 2) == {1: 2, 0: 1}
    assert list(feeds_in_line(range(5), 2)) == [1, 0, 3, 4]


def test_how_far_places_are() -> None:
    racks = standing(a=0, b=1, c=2, a2=0)
    far = [racks.far(NodeName("b"), NodeName(at)) for at in ("b", "a", "c", "nobody")]
    assert far == [0, 1, 2, 1]
    assert racks.together(NodeName("a"), NodeName("a2"))
    assert not racks.together(NodeName("x"), NodeName("y"))
    order = sorted(["x", "c", "a2", "b", "a"], key=lambda name: racks.turn(NodeName(name)))
    assert order == ["a2", "a", "b", "c", "x"]


@pytest.mark.parametrize("sizes", [(5, 5, 5), (10, 10, 10), (3, 8, 1, 2), (1, 1, 1), (2, 7)])
def test_from_the_first_rack_each_is_entered_once_by_another_node_and_no_port_gives_more_than_it_takes(
    sizes: tuple[int, ...],
) -> None:
    names, racks = in_line(sizes)
    trees = plan_trees(SOURCE, names, racks, STRIPES)
    given_streams: Counter[NodeName] = Counter()
    entries: list[NodeName] = []
    for tree in trees:
        check_whole(tree, names)
        assert crossings(tree, racks) == {(rack, rack + 1): 1 for rack in range(len(sizes) - 1)}
        given_streams.update(tree.values())
        entries += [name for name, parent in tree.items() if racks.far(name, parent)]
    assert max(given_streams.values()) <= STRIPES
    assert len(set(entries)) == sum(min(STRIPES, size) for size in sizes[1:])


def test_a_rack_that_feeds_two_has_some_of_its_own_fed_by_those() -> None:
    names, racks = in_line((5, 5, 5), place=1)
    trees = plan_trees(SOURCE, names, racks, STRIPES)
    streams: Counter[tuple[int, int]] = Counter()
    given_streams: Counter[NodeName] = Counter()
    for tree in trees:
        check_whole(tree, names)
        streams += crossings(tree, racks)
        given_streams.update(tree.values())
    assert streams == {(1, 0): 2, (1, 2): 2, (0, 1): 1, (2, 1): 1}
    assert max(given_streams.values()) <= STRIPES


def test_a_source_without_mates_feeds_one_rack_and_that_the_others() -> None:
    names, racks = in_line((3, 0, 3), place=1)
    for tree in plan_trees(SOURCE, names, racks, STRIPES):
        check_whole(tree, names)
        assert Counter(tree.values())[SOURCE] == 1
        assert sum(crossings(tree, racks).values()) == 2


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=6),
    st.integers(0, 5),
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
)
def test_everyone_has_a_place_whatever_racks_there_are(
    sizes: list[int], place: int, stripes: int, strays: int, known: bool
) -> None:
    place %= len(sizes)
    names, racks = in_line(sizes, place)
    if not known:
        racks = Racks(lambda name: None if name == SOURCE else racks_of(name), racks.feeds)
    names += [NodeName(f"stray{number}") for number in range(strays)]
    Random(len(names)).shuffle(names)
    for tree in plan_trees(SOURCE, names, racks, stripes):
        check_whole(tree, names)


@pytest.mark.parametrize("feeds", [{1: 0}, {0: 2, 1: 0}, {1: 2, 2: 1}, {0: 1, 1: 0}, {}])
def test_so_it_is_where_racks_do_not_hang_together(feeds: dict[int, int]) -> None:
    names, racks = in_line((2, 3, 2), place=2)
    for tree in plan_trees(SOURCE, names, Racks(racks.of, feeds), STRIPES):
        check_whole(tree, names)


def racks_of(name: NodeName) -> int | None:
    """By a name like ``r2n1``."""
    return int(name[1 : name.index("n")]) if name.startswith("r") else None


# -- broadcasts --------------------------------------------------------------------------------------


class Crossed:
    """Counts the blocks that pass each link between racks in a line, from what is stored where."""

    def __init__(self, of: Mapping[NodeName, int]) -> None:
        self._of = of
        self.blocks: Counter[tuple[int, int]] = Counter()

    def __call__(self, now: float, event: Event | Command) -> None:
        if isinstance(event, BlocksStored):
            for record in event.records:
                here, there = self._of[record.source], self._of[event.node]
                step = 1 if there > here else -1
                for at in range(here, there, step):
                    self.blocks[at, at + step] += 1


def broadcast(
    mechanism: Mechanism,
    racks: Sequence[int],
    place: int = 0,
    *,
    blocks: int = 60,
    knows: bool = True,
    losses: Sequence[Loss] = (),
    seed: int = 0,
) -> tuple[PlannerRun, Counter[tuple[int, int]]]:
    """One, over links between racks that are no faster than hosts'; what passed them, in blocks."""
    places = rack_of_each_host(racks, place)
    of = {node_name(host): rack for host, rack in enumerate(places)}
    crossed = Crossed(of)
    run = run_planner(
        mechanism,
        sum(racks),
        blocks * BLOCK_BYTES,
        BLOCK_BYTES,
        RATE,
        places=places,
        uplink_bytes_per_s=RATE,
        known=Racks(of.get, feeds_in_line(range(len(racks)), place)) if knows else None,
        shuffled=True,
        faults=losses,
        seed=seed,
        check_waits=True,
        observe=crossed,
    )
    return run, crossed.blocks


@pytest.mark.parametrize("mechanism", list(Mechanism))
@pytest.mark.parametrize("place", [0, 1])
def test_every_mechanism_spares_links_between_racks(mechanism: Mechanism, place: int) -> None:
    blocks = 60
    knowing, crossed = broadcast(mechanism, (4, 4, 4), place, blocks=blocks)
    oblivious, _ = broadcast(mechanism, (4, 4, 4), place, blocks=blocks, knows=False)
    assert knowing.failed == {}
    if mechanism is not Mechanism.HDFS:  # which draws who holds a block first
        assert max(crossed.values()) <= 1.1 * blocks
        assert sum(crossed.values()) <= 3.1 * blocks
    assert knowing.completion_s < oblivious.completion_s


@pytest.mark.parametrize("place", [0, 1])
def test_cornet_comes_near_what_links_allow(place: int) -> None:
    run, _ = broadcast(Mechanism.CORNET, (5, 5, 5), place, blocks=120)
    assert run.completion_s <= 1.12 * 120 * BLOCK_BYTES / RATE


def test_the_death_of_entries_is_mended() -> None:
    blocks = 120
    least_s = blocks * BLOCK_BYTES / RATE
    for host in range(1, 16):
        run, crossed = broadcast(Mechanism.CORNET, (5, 5, 5), blocks=blocks, losses=[Loss(least_s / 2, host)])
        assert run.completion_s <= 1.35 * least_s
        assert max(crossed.values()) <= 1.25 * blocks


def test_in_the_swarm_a_block_is_asked_for_outside_a_rack_once() -> None:
    racks = standing(source=0, a=0, b=1, b2=1, c=2)
    planner = CornetPlanner(4, SOURCE, Random(0), explores=True, racks=racks)
    join(planner, "a")
    for block in range(4):
        store(planner, "a", block)
    asked = {block for _, _, blocks in fetches(join(planner, "b")) for block in blocks}
    assert asked == {0, 1, 2, 3}
    assert fetches(join(planner, "b2")) == []
    assert fetches(join(planner, "c")) == []
    told = fetches(store(planner, "b", 2, source="a"))
    assert sorted(told) == [("b2", "b", (2,)), ("c", "b", (2,))]


def test_who_fails_in_its_rack_may_ask_anywhere() -> None:
    racks = standing(source=0, b=1, c=2)
    planner = CornetPlanner(1, SOURCE, Random(0), explores=True, racks=racks)
    join(planner, "b")
    assert fetches(join(planner, "c")) == []
    told = fetches(store(planner, "b", 0))
    assert told == [("c", "b", (0,))]
    told = fetches(fail(planner, "c", "b", FetchFailure.CORRUPT, 0))
    assert told == [("c", "source", (0,))]


def test_a_single_block_enters_each_rack_once() -> None:
    run, crossed = broadcast(Mechanism.CORNET, (4, 4, 4), blocks=1)
    assert run.failed == {}
    assert crossed == {(0, 1): 1, (1, 2): 1}


def test_a_chain_goes_through_one_rack_after_the_other() -> None:
    _, crossed = broadcast(Mechanism.CHAIN, (3, 3, 3), blocks=20)
    assert crossed == {(0, 1): 20, (1, 2): 20}
