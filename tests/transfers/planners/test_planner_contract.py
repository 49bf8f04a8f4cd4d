"""One contract for every broadcast planner, under joins, losses, failures and any order of events.

What must hold after every answer of the planner is checked by `tests.transfers.planners.harness.World`:
no waits in a circle; no wait without a holder unless a repair is due; nothing asked for that is held or not
wanted; a bounded number of orders; `Failed` only for blocks that nobody alive has reported.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transfers.planners.harness import SOURCE, World
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners import Mechanism, Racks
from transfers.planners.events import FetchFailure, Finished

every_mechanism = pytest.mark.parametrize("mechanism", list(Mechanism), ids=lambda each: each.value)
# Derandomised: the same examples at every run, so that a red build is red again.
contract = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)

Step = tuple[str, int, int]

_MOVES = ["report", "order", "serve", "tick"]
_HARM = ["join", "holder", "kill", "rejoin", "suspect", "recover", "fail"]


def steps(harm: list[str]) -> st.SearchStrategy[list[Step]]:
    """Schedules: movement is as likely as all harm together, in runs that make it go some way."""
    kinds = st.one_of(st.sampled_from(_MOVES), st.sampled_from(_MOVES), st.sampled_from(harm))
    return st.lists(st.tuples(kinds, st.integers(0, 63), st.integers(0, 7)), max_size=150)


def take(world: World, step: Step, may_kill_source: bool) -> None:
    """Do one step, where it can be done; numbers choose among what there is."""
    kind, which, how = step
    done: dict[str, Callable[[], None]] = {
        "report": lambda: _report(world, which, how),
        "order": lambda: _order(world, which, how),
        "serve": lambda: _serve(world, which, how),
        "tick": world.tick,
        "join": lambda: world.join(NodeName(f"n{len(world.wants)}")),
        "holder": lambda: _join_as_holder(world, how),
        "kill": lambda: _kill(world, which, how, may_kill_source),
        "rejoin": lambda: _rejoin(world, which, how),
        "suspect": lambda: _suspect(world, which),
        "recover": lambda: _recover(world, which),
        "fail": lambda: _fail(world, which, how),
    }
    done[kind]()


def _report(world: World, which: int, how: int) -> None:
    for _ in range(how + 1):
        senders = world.report_senders()
        if senders:
            world.deliver_report(senders[which % len(senders)])


def _order(world: World, which: int, how: int) -> None:
    for _ in range(how + 1):
        receivers = world.order_receivers()
        if receivers:
            world.deliver_order(receivers[which % len(receivers)])


def _serve(world: World, which: int, how: int) -> None:
    for _ in range(how + 1):
        asks = world.servable()
        if asks:
            world.serve(*asks[which % len(asks)])


def _join_as_holder(world: World, how: int) -> None:
    some = BlockSet(world.block_count, (BlockIndex(at) for at in range(world.block_count) if at % 8 <= how))
    world.join(NodeName(f"n{len(world.wants)}"), wants=False, holds=some)


def _kill(world: World, which: int, how: int, may_kill_source: bool) -> None:
    living = [name for name in world.nodes if may_kill_source or name != SOURCE]
    if living:
        world.kill(living[which % len(living)], unsent=how % 4, noticed=how < 6)


def _rejoin(world: World, which: int, how: int) -> None:
    """With all it held, with every second block, or with nothing."""
    dead = [name for name in world.wants if name not in world.nodes]
    if not dead:
        return
    name = dead[which % len(dead)]
    held = world.inventories[name]
    kept = [held, BlockSet(world.block_count, (at for at in held if at % 2)), BlockSet(world.block_count)]
    world.join(name, wants=world.wants[name], holds=kept[0 if name == SOURCE else how % 3].copy())


def _suspect(world: World, which: int) -> None:
    fit = [name for name in world.planner.members if not world.planner.members[name].suspected]
    fit = [name for name in fit if name in world.nodes]
    if fit:
        world.suspect(fit[which % len(fit)])


def _recover(world: World, which: int) -> None:
    silent = [name for name in world.nodes if name in world.planner.members]
    silent = [name for name in silent if world.planner.members[name].suspected]
    if silent:
        world.recover(silent[which % len(silent)])


def _fail(world: World, which: int, how: int) -> None:
    pairs = [
        (node, source)
        for node in world.nodes.values()
        for source in dict.fromkeys([*node.asked.values(), *node.follows.values()])
    ]
    if not pairs:
        return
    node, source = pairs[which % len(pairs)]
    failure = list(FetchFailure)[how % 4]
    if failure is FetchFailure.CORRUPT and source not in node.asked.values():
        return
    one = failure is FetchFailure.CORRUPT or how >= 4
    world.fail(node, source, failure, only=which if one else None)


def racks_by_number(name: NodeName) -> int | None:
    """Three racks and some who stand in none, by the numbers in nodes' names; the source in the first."""
    number = int("0" + "".join(filter(str.isdigit, name)))
    return None if number % 4 == 3 else number % 4


RACKS = Racks(racks_by_number, {1: 0, 2: 1})


def run(
    mechanism: Mechanism,
    blocks: int,
    first: int,
    schedule: list[Step],
    may_kill_source: bool,
    racks: Racks | None = None,
) -> World:
    world = World(mechanism, blocks, seed=len(schedule), racks=racks)
    for index in range(first):
        world.join(NodeName(f"n{index}"))
    for step in schedule:
        if world.failed is not None:
            break
        take(world, step, may_kill_source)
    world.drain()
    world.check_end()
    return world


@every_mechanism
@contract
@given(blocks=st.integers(0, 12), first=st.integers(1, 8), schedule=steps([*_HARM]))
def test_everyone_alive_ends_with_every_block_or_the_lost_ones_are_named(
    mechanism: Mechanism, blocks: int, first: int, schedule: list[Step]
) -> None:
    run(mechanism, blocks, first, schedule, may_kill_source=True)


@every_mechanism
@contract
@given(blocks=st.integers(0, 12), first=st.integers(1, 8), schedule=steps([*_HARM]))
def test_so_it_is_where_there_are_racks(
    mechanism: Mechanism, blocks: int, first: int, schedule: list[Step]
) -> None:
    run(mechanism, blocks, first, schedule, may_kill_source=True, racks=RACKS)


@every_mechanism
@contract
@given(blocks=st.integers(1, 12), first=st.integers(1, 8), schedule=steps([*_HARM]))
def test_no_loss_of_receivers_fails_the_transfer_while_the_source_lives(
    mechanism: Mechanism, blocks: int, first: int, schedule: list[Step]
) -> None:
    assert run(mechanism, blocks, first, schedule, may_kill_source=False).failed is None


@every_mechanism
@contract
@given(blocks=st.integers(0, 20), first=st.integers(1, 12), schedule=steps(["join"]))
def test_without_faults_no_block_is_sent_twice_to_anyone(
    mechanism: Mechanism, blocks: int, first: int, schedule: list[Step]
) -> None:
    world = run(mechanism, blocks, first, schedule, may_kill_source=False)
    assert world.failed is None
    assert world.commands.count(Finished()) >= 1


@every_mechanism
@pytest.mark.parametrize("receivers", [1, 2, 3, 7])
def test_a_quiet_broadcast_ends(mechanism: Mechanism, receivers: int) -> None:
    world = run(mechanism, 10, receivers, [], may_kill_source=False)
    assert all(node.holds.complete for node in world.nodes.values())


@every_mechanism
def test_an_empty_object_is_finished_at_the_first_word(mechanism: Mechanism) -> None:
    world = World(mechanism, 0)
    world.join(NodeName("n0"))
    world.deliver_report(NodeName("n0"))
    assert world.commands[-1] == Finished()
    assert all(isinstance(command, Finished) or not hasattr(command, "blocks") for command in world.commands)
