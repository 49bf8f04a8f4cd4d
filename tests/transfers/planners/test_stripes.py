"""Standing stripes: their trees, how they are mended, and who is found to be slow."""

from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random

import pytest

from orchestra.simulation.planner_loop import Loss, PlannerRun, Slowness, run_planner
from tests.transfers.planners.told import SOURCE, fail, fetches, join, lose, store, tick
from transfers.ids import BlockIndex, NodeName
from transfers.planners import CornetPlanner, Mechanism
from transfers.planners.events import (
    BlocksStored,
    Command,
    FetchFailure,
    Follow,
    NodeRecovered,
    NodeSuspected,
    Stored,
)
from transfers.planners.stragglers import NOISE_S, STALL_S, STEADY_S
from transfers.planners.stripes import LATE_BLOCKS, MOST_CHILDREN, STRIPES, TAIL_BLOCKS

BLOCKS = 40
BLOCK_BYTES, BLOCK_S = 1 << 17, 0.02


def striped(receivers: int, blocks: int = BLOCKS, block_s: float = 0.0) -> CornetPlanner:
    """A planner that has begun, with receivers ``n1``, ``n2`` and so on."""
    planner = CornetPlanner(blocks, SOURCE, Random(0), block_s=block_s)
    for at in range(1, receivers + 1):
        assert join(planner, f"n{at}") == [], "nothing is told before all have joined"
    tick(planner, 0.0)
    return planner


def parents(planner: CornetPlanner, stripe: int) -> dict[str, str]:
    return {member.name: member.follows[stripe] for member in planner.living() if stripe in member.follows}


def depths(planner: CornetPlanner, stripe: int) -> dict[str, int]:
    """How far each receiver is from the source; fails for whoever is in a circle or hangs on nobody."""
    above = parents(planner, stripe)
    found = {}
    for name in above:
        depth, at = 0, name
        while at != SOURCE:
            at, depth = above[at], depth + 1
            assert depth <= len(above), f"{name} is in a circle"
        found[name] = depth
    return found


def follows(commands: list[Command]) -> set[tuple[str, str | None, int]]:
    return {(order.node, order.source, order.stripe) for order in commands if isinstance(order, Follow)}


def run_blocks(
    planner: CornetPlanner,
    turns: Iterable[int],
    *,
    seconds: Mapping[NodeName, float] | None = None,
    skip: tuple[NodeName, int] | None = None,
    only: tuple[NodeName, int] | None = None,
    ticks: bool = False,
) -> None:
    """Every receiver stores a block of each stripe a turn, 0.1 s each; ``skip`` and ``only`` name streams."""
    for turn in turns:
        for member in list(planner.receivers()):
            for stripe, sender in list(member.follows.items()):
                if (member.name, stripe) == skip or (only is not None and (member.name, stripe) != only):
                    continue
                took_s = (seconds or {}).get(member.name, 0.1)
                block = BlockIndex(turn * STRIPES + stripe)
                planner.handle(BlocksStored(member.name, (Stored(block, sender, took_s),)), 0.1 * turn)
        if ticks:
            tick(planner, 0.1 * turn)


def simulated(
    receivers: int, blocks: int = 256, faults: tuple[Slowness | Loss, ...] = (), seed: int = 0
) -> PlannerRun:
    """A broadcast of blocks that take 20 ms each at the full rate of a port, every plan checked for
    circles."""
    rate = BLOCK_BYTES / BLOCK_S
    size = blocks * BLOCK_BYTES
    return run_planner(
        Mechanism.CORNET, receivers, size, BLOCK_BYTES, rate, faults=faults, seed=seed, check_waits=True
    )


def test_every_receiver_is_in_every_tree_and_inner_in_one_at_most() -> None:
    for receivers in range(1, 40):
        planner = striped(receivers)
        for stripe in range(STRIPES):
            above = parents(planner, stripe)
            assert len(depths(planner, stripe)) == receivers
            assert Counter(above.values())[SOURCE] == 1, "every block leaves the source once"
        children = [set(parents(planner, stripe).values()) - {SOURCE} for stripe in range(STRIPES)]
        assert not children[0] & children[1]


def test_no_receiver_gives_more_streams_than_it_takes() -> None:
    for receivers in range(1, 40):
        planner = striped(receivers)
        given = Counter(parent for stripe in range(STRIPES) for parent in parents(planner, stripe).values())
        assert max(given.values()) <= STRIPES


def test_trees_are_as_flat_as_their_degree_allows() -> None:
    planner = striped(100)
    assert max(depths(planner, 0).values()) == max(depths(planner, 1).values()) == 7


def test_the_plan_takes_one_command_a_receiver_and_stripe() -> None:
    planner = CornetPlanner(1000, SOURCE, Random(0))
    for at in range(30):
        join(planner, f"n{at}")
    assert len(tick(planner, 0.0)) == 30 * STRIPES


def in_step(planner: CornetPlanner, commands: list[Command]) -> dict[tuple[str, int], bool]:
    """Who is told to follow the source, and whether in step; nobody is told so of another sender."""
    orders = [order for order in commands if isinstance(order, Follow)]
    assert not any(order.in_step for order in orders if order.source != SOURCE)
    return {(order.node, order.stripe): order.in_step for order in orders if order.source == SOURCE}


@pytest.mark.parametrize(("receivers", "told"), [(1, False), (2, False), (3, True), (20, True)])
def test_who_follows_the_source_beside_others_does_so_in_step(receivers: int, told: bool) -> None:
    planner = CornetPlanner(BLOCKS, SOURCE, Random(0))
    for at in range(1, receivers + 1):
        join(planner, f"n{at}")
    assert set(in_step(planner, tick(planner, 0.0)).values()) == {told}


def test_who_is_left_alone_at_the_source_takes_what_comes() -> None:
    planner = striped(4)
    told = in_step(planner, lose(planner, "n2")) | in_step(planner, lose(planner, "n3"))
    told |= in_step(planner, lose(planner, "n4"))
    assert (told["n1", 0], told["n1", 1]) == (False, False)


def test_nobody_keeps_step_with_a_single_child() -> None:
    planner = striped(3)
    assert in_step(planner, lose(planner, "n3")) == {("n1", 0): False, ("n2", 1): False}


def test_nobody_keeps_step_with_a_child_that_is_slow_or_far_behind() -> None:
    planner = striped(3, blocks=200)
    (root,) = (name for name, parent in parents(planner, 0).items() if parent == SOURCE)
    store(planner, root, *range(0, 2 * (LATE_BLOCKS - 1), 2), now=0.1)
    assert in_step(planner, tick(planner, 0.2)) == {}
    store(planner, root, *range(2 * (LATE_BLOCKS - 1), 2 * (LATE_BLOCKS + 1), 2), now=0.2)
    assert in_step(planner, tick(planner, 0.3)) == {(root, 0): False}
    for child in [name for name, parent in parents(planner, 0).items() if parent == root]:
        store(planner, child, *range(0, 2 * LATE_BLOCKS, 2), source=root, now=0.3)
    assert in_step(planner, tick(planner, 0.4)) == {(root, 0): True}


def test_nobody_keeps_step_with_children_that_all_take_long() -> None:
    """It may be the node itself that sends slowly, and in step they would never be far behind it."""
    planner = striped(8, blocks=400)
    (root,) = (name for name, parent in parents(planner, 0).items() if parent == SOURCE)
    others = {NodeName(name) for name, parent in parents(planner, 0).items() if parent == root}
    spared = min(others)
    told: dict[tuple[str, int], bool] = {}

    def run(turns: Iterable[int], slowly: set[NodeName]) -> None:
        for turn in turns:
            for member in list(planner.receivers()):
                for stripe, sender in list(member.follows.items()):
                    took_s = 0.5 if stripe == 0 and member.name in slowly else 0.1
                    record = Stored(BlockIndex(turn * STRIPES + stripe), sender, took_s)
                    planner.handle(BlocksStored(member.name, (record,)), 0.1 * turn)
            told.update(in_step(planner, tick(planner, 0.1 * turn)))

    run(range(12), others - {spared})
    assert told == {}, "one that takes long is slow by itself"
    run(range(12, 30), others)
    assert told == {(root, 0): False}
    run(range(30, 60), set())
    assert told == {(root, 0): True}


def test_children_of_a_lost_node_are_hung_where_its_own_places_are_free() -> None:
    planner = striped(20)
    lost = next(name for name in parents(planner, 0).values() if name != SOURCE)
    orphans = {name for name, parent in parents(planner, 0).items() if parent == lost}
    commands = lose(planner, lost)
    assert {node for node, _, _ in follows(commands)} == orphans
    given = Counter(parent for stripe in range(STRIPES) for parent in parents(planner, stripe).values())
    assert max(given.values()) <= STRIPES, "nobody has to give more"
    for stripe in range(STRIPES):
        assert len(depths(planner, stripe)) == 19


def test_however_many_are_lost_the_others_hang_on_the_source_still() -> None:
    planner = striped(30)
    rng = Random(1)
    names = [f"n{at}" for at in range(1, 31)]
    rng.shuffle(names)
    for name in names[:-1]:
        lose(planner, name)
        for stripe in range(STRIPES):
            assert len(depths(planner, stripe)) == len(planner.members) - 1
        given = Counter(parent for stripe in range(STRIPES) for parent in parents(planner, stripe).values())
        assert max(given.values()) <= MOST_CHILDREN


def test_who_joins_later_is_hung_as_a_leaf() -> None:
    planner = striped(9)
    commands = join(planner, "late")
    assert {(node, stripe) for node, _, stripe in follows(commands)} == {("late", 0), ("late", 1)}


def test_children_of_a_silent_node_are_hung_elsewhere_and_it_is_kept() -> None:
    planner = striped(20)
    silent = NodeName("n3")
    planner.handle(NodeSuspected(silent), 0.2)
    tick(planner, 0.3)
    for stripe in range(STRIPES):
        assert silent not in parents(planner, stripe).values()
        assert len(depths(planner, stripe)) == 20
    planner.handle(NodeRecovered(silent), 0.4)
    assert len(depths(planner, 0)) == 20


def test_a_sender_that_cannot_be_reached_is_followed_no_more_in_any_stripe() -> None:
    planner = striped(20)
    child, parent = next((name, parent) for name, parent in parents(planner, 1).items() if parent != SOURCE)
    commands = fail(planner, child, parent, FetchFailure.UNREACHABLE)
    assert {node for node, _, _ in follows(commands)} == {child}
    assert parent not in planner.members[NodeName(child)].follows.values()


def test_a_corrupt_block_is_asked_of_another_holder_and_the_stripe_goes_on() -> None:
    planner = striped(5)
    child, parent = next((name, parent) for name, parent in parents(planner, 0).items() if parent != SOURCE)
    above = parents(planner, 0)[parent]
    store(planner, parent, 0, source=above)
    commands = fail(planner, child, parent, FetchFailure.CORRUPT, 0)
    assert [(node, blocks) for node, _, blocks in fetches(commands)] == [(child, (0,))]
    assert parents(planner, 0)[child] == parent


def test_without_a_source_the_swarm_goes_on_with_what_is_there() -> None:
    planner = striped(2, blocks=4)
    for name, blocks in [("n1", (0, 2)), ("n2", (1, 3))]:
        store(planner, name, *blocks)
    commands = lose(planner, SOURCE)
    assert {source for _, source, _ in follows(commands)} == {None}
    assert {(node, source) for node, source, _ in fetches(commands)} == {("n1", "n2"), ("n2", "n1")}


def test_a_node_whose_blocks_all_take_long_loses_its_children() -> None:
    planner = striped(20)
    slow = NodeName("n3")
    assert slow in parents(planner, 0).values()
    run_blocks(planner, range(4), seconds={slow: 0.5})
    tick(planner, 0.5)
    assert slow not in {parent for stripe in range(STRIPES) for parent in parents(planner, stripe).values()}
    assert slow in parents(planner, 0), "it goes on as a leaf"


@pytest.mark.parametrize("block_s", [0.0, 0.1])
def test_blocks_out_of_full_buckets_are_no_measure_for_the_source_s_own_streams(block_s: float) -> None:
    """Roots take what half a port needs, 0.2 s a block; all others' blocks come ten times as fast."""
    planner = striped(16, block_s=block_s)
    before = [parents(planner, stripe) for stripe in range(STRIPES)]
    roots = {NodeName(name) for above in before for name, parent in above.items() if parent == SOURCE}
    seconds = {member.name: 0.2 if member.name in roots else 0.02 for member in planner.receivers()}
    run_blocks(planner, range(4), seconds=seconds, ticks=True)
    kept = [parents(planner, stripe) for stripe in range(STRIPES)] == before
    assert kept == (block_s > 0), "where nothing is believed of links, the streams are all there is"


@pytest.mark.parametrize("receivers", [2, 20])
def test_short_blocks_that_take_long_for_half_a_second_show_a_slow_node_too(receivers: int) -> None:
    planner = striped(receivers, blocks=200)
    slow = NodeName("n2")
    seconds = {member.name: 0.02 if member.name == slow else 0.005 for member in planner.receivers()}
    turns = round(STEADY_S / 0.02)
    run_blocks(planner, range(turns - 1), seconds=seconds, ticks=True)
    assert not planner._stripes._slow
    run_blocks(planner, range(turns - 1, turns + 1), seconds=seconds, ticks=True)
    assert set(planner._stripes._slow) == {slow}


def test_who_is_left_waiting_now_and_then_is_not_slow_since_its_next_blocks_are_there_already() -> None:
    planner = striped(20, blocks=400)
    usual = {member.name: 0.005 for member in planner.receivers()}
    late = NodeName("n3")
    for turn in range(150):
        took_s = NOISE_S if turn % 12 == 11 else 0.001
        run_blocks(planner, [turn], seconds=usual | {late: took_s}, ticks=True)
        assert not planner._stripes._slow


def test_a_node_that_was_slow_may_be_a_parent_again_when_its_blocks_are_as_quick_as_others() -> None:
    planner = striped(20)
    slow = NodeName("n3")
    run_blocks(planner, range(4), seconds={slow: 0.5})
    tick(planner, 0.5)
    assert slow in planner._stripes._slow
    run_blocks(planner, range(4, 14))
    tick(planner, 1.5)
    assert not planner._stripes._slow


def test_who_comes_back_is_not_slow_any_more() -> None:
    planner = striped(20)
    run_blocks(planner, range(4), seconds={NodeName("n3"): 0.5})
    tick(planner, 0.5)
    join(planner, "n3", 1.0)
    assert not planner._stripes._slow


def test_when_a_quarter_are_slow_everyone_goes_over_to_the_swarm() -> None:
    planner = striped(20)
    run_blocks(planner, range(4), seconds={NodeName(f"n{at}"): 0.5 for at in range(3, 9)})
    commands = tick(planner, 0.5)
    assert {source for _, source, _ in follows(commands)} == {None}
    assert not any(member.follows for member in planner.living())
    assert fetches(commands), "which begins at once"


def one_below_another(planner: CornetPlanner) -> tuple[NodeName, NodeName]:
    """A receiver, and its sender in stripe 0, neither of them near the source."""
    above = parents(planner, 0)
    return next(
        (NodeName(name), NodeName(parent))
        for name, parent in above.items()
        if parent != SOURCE and above[parent] != SOURCE and parents(planner, 1)[name] != SOURCE
    )


def test_a_single_stream_that_falls_behind_is_moved_and_nothing_else() -> None:
    planner = striped(20)
    child, parent = one_below_another(planner)
    run_blocks(planner, range(2), ticks=True)
    run_blocks(planner, range(2, 3), seconds={child: 2.0}, only=(child, 0))
    commands: list[Command] = []
    for turn in range(3, 16):
        run_blocks(planner, [turn], skip=(child, 0))
        commands += tick(planner, 0.1 * turn)
    moved = follows(commands)
    assert {(node, stripe) for node, _, stripe in moved} == {(child, 0)}
    assert parent not in {source for _, source, _ in moved}


def test_a_stream_that_stands_still_is_moved() -> None:
    planner = striped(20)
    child, parent = one_below_another(planner)
    run_blocks(planner, range(2), ticks=True)
    run_blocks(planner, [2], skip=(child, 0))
    commands: list[Command] = []
    for turn in range(3, 3 + round(10 * 2 * STALL_S)):
        run_blocks(planner, [3 + turn // 8], skip=(child, 0))
        commands += tick(planner, 0.1 * turn)
    assert {(node, stripe) for node, _, stripe in follows(commands)} == {(child, 0)}
    assert planner.members[child].follows[0] != parent


def test_who_plans_being_away_makes_nobody_slow() -> None:
    planner = striped(20)
    run_blocks(planner, range(4), ticks=True)
    for member in [member for member in planner.receivers() if member.name in parents(planner, 0).values()]:
        store(planner, member.name, 8, 9, now=0.42)
    assert tick(planner, 0.5) == []
    assert tick(planner, 2.5) == [], "two seconds without a tick, and no news yet"


def nearly_done(planner: CornetPlanner, lacking: int) -> NodeName:
    """Everyone has everything but one leaf of stripe 0, which lacks the last blocks of it."""
    late = NodeName(next(name for name in parents(planner, 0) if name not in parents(planner, 0).values()))
    lacks = list(range(0, BLOCKS, STRIPES))[BLOCKS // STRIPES - lacking :]
    for member in list(planner.receivers()):
        mine = lacks if member.name == late else []
        store(planner, member.name, *(block for block in range(BLOCKS) if block not in mine))
    return late


def test_in_the_end_idle_nodes_bring_what_a_stripe_still_owes() -> None:
    planner = striped(20)
    late = nearly_done(planner, TAIL_BLOCKS)
    asked = fetches(tick(planner, 5.0))
    assert {node for node, _, _ in asked} == {late}
    assert parents(planner, 0)[late] not in {source for _, source, _ in asked}
    assert sum(len(blocks) for _, _, blocks in asked) == TAIL_BLOCKS


def test_in_the_end_a_stripe_that_owes_little_is_left_to_itself() -> None:
    planner = striped(20)
    nearly_done(planner, TAIL_BLOCKS - 1)
    assert fetches(tick(planner, 5.0)) == []


def test_a_block_that_the_stream_will_not_bring_again_is_asked_of_anyone_also_in_the_end() -> None:
    planner = striped(1)
    store(planner, "n1", *range(1, BLOCKS, 2), *range(0, 20, 2))
    tick(planner, 5.0)
    assert fetches(fail(planner, "n1", SOURCE, FetchFailure.CORRUPT, 20, now=5.1)) == []
    assert fetches(tick(planner, 5.5)) == [("n1", SOURCE, (20,))]


def test_when_the_source_is_lost_in_the_end_another_brings_what_is_missing() -> None:
    planner = striped(2)
    store(planner, "n1", *range(BLOCKS))
    store(planner, "n2", *(block for block in range(BLOCKS) if block % 2 or block < 28), source="n1")
    tick(planner, 5.0)
    assert {source for _, source, _ in fetches(lose(planner, SOURCE))} == {"n1"}


@pytest.mark.parametrize("slow", [1, 2])
@pytest.mark.parametrize("receivers", [2, 3])
def test_one_of_few_that_is_slow_delays_nobody_else_by_much(receivers: int, slow: int) -> None:
    run = simulated(receivers, faults=(Slowness(0.0, slow, 0.2),))
    others = [at_s for name, at_s in run.node_completion_s.items() if name != f"n{slow}"]
    assert max(others) <= 1.3 * 256 * BLOCK_S


@pytest.mark.parametrize("slow", [1, 2, 7, 16])
def test_a_slow_receiver_delays_nobody_else_by_much(slow: int) -> None:
    plain = simulated(16).completion_s
    run = simulated(16, faults=(Slowness(0.0, slow, 0.2),))
    others = [at_s for name, at_s in run.node_completion_s.items() if name != f"n{slow}"]
    assert max(others) <= 1.1 * plain, "five times, if nobody noticed"


@pytest.mark.parametrize("slow", [1, 2, 4, 15])
def test_a_receiver_that_becomes_slow_midway_delays_nobody_else_by_much(slow: int) -> None:
    plain = simulated(16).completion_s
    run = simulated(16, faults=(Slowness(0.3 * plain, slow, 0.2),))
    others = [at_s for name, at_s in run.node_completion_s.items() if name != f"n{slow}"]
    assert max(others) <= 1.1 * plain


def test_a_slow_receiver_is_not_left_at_the_source_nor_beside_two_others() -> None:
    for slow in (NodeName("n1"), NodeName("n2"), NodeName("n3")):
        planner = striped(16)
        run_blocks(planner, range(4), seconds={slow: 0.5})
        tick(planner, 0.5)
        streams = [(stripe, parents(planner, stripe)) for stripe in range(STRIPES)]
        assert SOURCE not in {above[slow] for _, above in streams}
        given = Counter(parent for _, above in streams for name, parent in above.items() if name != slow)
        senders = {above[slow] for _, above in streams}
        assert max(given.values()) <= STRIPES
        assert all(given[sender] < STRIPES for sender in senders), "a port gives two whole streams"


def test_who_takes_long_for_its_very_first_blocks_is_slow_unless_many_do() -> None:
    one, several = striped(20), striped(20)
    run_blocks(one, range(1), seconds={NodeName("n3"): 0.5})
    tick(one, 0.2)
    assert set(one._stripes._slow) == {"n3"}
    run_blocks(several, range(1), seconds={NodeName(f"n{at}"): 0.5 for at in range(3, 10)})
    tick(several, 0.2)
    assert not several._stripes._slow
    assert several._stripes.standing


def test_when_a_slow_node_recovers_it_takes_streams_from_who_gives_too_many() -> None:
    planner = striped(16)
    slow = [NodeName("n3"), NodeName("n4"), NodeName("n6")]
    run_blocks(planner, range(4), seconds=dict.fromkeys(slow, 0.5))
    tick(planner, 0.5)
    assert set(planner._stripes._slow) == set(slow)
    crowded = Counter(parent for stripe in range(STRIPES) for parent in parents(planner, stripe).values())
    assert max(crowded.values()) > STRIPES
    run_blocks(planner, range(4, 14))
    tick(planner, 1.5)
    assert not planner._stripes._slow
    eased = Counter(parent for stripe in range(STRIPES) for parent in parents(planner, stripe).values())
    assert max(eased.values()) == STRIPES
    assert len(depths(planner, 0)) == len(depths(planner, 1)) == 16


def test_where_the_only_room_is_below_who_is_loose_a_leaf_makes_way() -> None:
    plain = simulated(30).completion_s
    for dead in [(1, 3), (2, 4)]:
        run = simulated(30, faults=tuple(Loss(0.3 * plain, host) for host in dead))
        assert run.completion_s <= 1.15 * plain


def test_a_slow_source_costs_no_more_than_its_link() -> None:
    assert simulated(16, faults=(Slowness(0.0, 0, 0.5),)).completion_s <= 1.1 * 256 * BLOCK_S * 2


def test_two_deaths_midway_cost_little() -> None:
    plain = simulated(16).completion_s
    for dead in [(1, 2), (3, 4), (9, 16)]:
        run = simulated(16, faults=tuple(Loss(0.3 * plain, host) for host in dead))
        assert set(run.failed) == {f"n{host}" for host in dead}
        assert run.completion_s <= 1.15 * plain


def test_unlike_links_end_the_stripes_and_everyone_is_served() -> None:
    run = simulated(12, 64, faults=tuple(Slowness(0.0, host, 0.1) for host in (3, 5, 7, 8, 12)))
    assert len(run.node_completion_s) == 12


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_receivers_take_at_most_106_percent_of_the_objects_own_time(seed: int) -> None:
    assert simulated(16, seed=seed).completion_s <= 1.06 * 256 * BLOCK_S
