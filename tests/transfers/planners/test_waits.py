"""`transfers.planners.waits` finds circles and waits without a holder, as a plain walk does."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfers.planners.told import SOURCE
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.planners.events import (
    BlocksStored,
    Cancel,
    Fetch,
    FetchFailed,
    FetchFailure,
    Follow,
    NodeJoined,
    NodeLost,
    Stored,
)
from transfers.planners.waits import WaitCheck, WaitFaultKind

A, B, C = NodeName("a"), NodeName("b"), NodeName("c")
B0, B1 = BlockIndex(0), BlockIndex(1)


def joined(blocks: int, *names: NodeName) -> WaitCheck:
    check = WaitCheck(blocks, SOURCE)
    for name in names:
        check.note_event(NodeJoined(name, BlockSet(blocks)))
    return check


def kinds(check: WaitCheck) -> set[WaitFaultKind]:
    return {fault.kind for fault in check.faults()}


def test_a_chain_that_ends_at_the_source_is_sound() -> None:
    check = joined(4, A, B)
    check.note_command(Follow(B, A))
    check.note_command(Follow(A, SOURCE))
    assert check.faults() == []


def test_a_circle_of_follows_is_found() -> None:
    check = joined(4, A, B, C)
    for node, source in [(A, B), (B, C), (C, A)]:
        check.note_command(Follow(node, source))
    fault = check.faults()[0]
    assert fault.kind is WaitFaultKind.CIRCLE
    assert str(fault) == "circle for block 0: a waits on b waits on c waits on a"


def test_a_circle_for_one_block_of_many_is_found() -> None:
    check = joined(2, A, B)
    check.note_command(Follow(A, SOURCE))
    check.note_command(Follow(B, A))
    assert check.faults() == []
    check.note_command(Fetch(A, B, (B1,)))
    assert [(fault.kind, fault.block) for fault in check.faults()] == [(WaitFaultKind.CIRCLE, B1)] * 1


def test_asking_a_node_below_for_what_it_holds_is_sound() -> None:
    check = joined(2, A, B)
    check.note_command(Follow(A, SOURCE))
    check.note_command(Follow(B, A))
    check.note_event(BlocksStored(B, (Stored(B1, A, 0.1),)))
    check.note_command(Fetch(A, B, (B1,)))
    assert check.faults() == []


def test_a_wait_on_a_node_that_waits_for_nobody_is_found_and_told_until_it_is_mended() -> None:
    check = joined(2, A, B)
    check.note_command(Fetch(B, A, (B0,)))
    assert kinds(check) == kinds(check) == {WaitFaultKind.NO_HOLDER}
    check.note_command(Fetch(A, SOURCE, (B0,)))
    assert check.faults() == []


def test_the_end_of_an_ask_is_found_by_those_who_wait_behind_it() -> None:
    check = joined(2, A, B)
    check.note_command(Fetch(A, SOURCE, (B0,)))
    check.note_command(Fetch(B, A, (B0,)))
    assert check.faults() == []
    check.note_event(FetchFailed(A, SOURCE, (B0,), FetchFailure.STALLED))
    assert kinds(check) == {WaitFaultKind.NO_HOLDER}
    check.note_command(Cancel(B, (B0,)))
    assert check.faults() == []


def test_what_a_node_asked_before_it_came_back_counts_no_more() -> None:
    check = joined(1, A, B)
    check.note_command(Follow(A, SOURCE))
    check.note_command(Follow(B, A))
    check.note_event(NodeLost(A, "gone"))
    check.note_event(NodeJoined(A, BlockSet(1)))
    check.note_command(Follow(B, SOURCE))
    check.note_command(Follow(A, B))
    assert check.faults() == []


NAMES = [SOURCE, A, B, C]
orders = st.tuples(
    st.sampled_from(["follow", "fetch", "cancel", "store"]),
    st.integers(1, 3),
    st.integers(-1, 3),
    st.integers(0, 2),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(orders, max_size=25))
def test_it_agrees_with_a_plain_walk_after_every_command(commands: list[tuple[str, int, int, int]]) -> None:
    check = joined(3, A, B, C)
    holds: dict[NodeName, set[int]] = {SOURCE: {0, 1, 2}, A: set(), B: set(), C: set()}
    follow: dict[NodeName, NodeName] = {}
    asks: dict[tuple[NodeName, int], NodeName] = {}
    for kind, who, whom, at in commands:
        node, block = NAMES[who], BlockIndex(at)
        source = NAMES[whom] if whom >= 0 and whom != who else None
        if kind == "follow":
            check.note_command(Follow(node, source))
            follow.pop(node, None)
            if source is not None:
                follow[node] = source
        elif kind == "fetch" and source is not None:
            check.note_command(Fetch(node, source, (block,)))
            if block not in holds[node]:
                asks[node, block] = source
        elif kind == "cancel":
            check.note_command(Cancel(node, (block,)))
            asks.pop((node, block), None)
        elif kind == "store":
            check.note_event(BlocksStored(node, (Stored(block, SOURCE, 0.1),)))
            holds[node].add(block)
            asks.pop((node, block), None)
        assert bool(check.faults()) == any(
            _is_faulty(name, at, holds, follow, asks) for name in NAMES for at in range(3)
        )


def _is_faulty(
    name: NodeName,
    block: int,
    holds: dict[NodeName, set[int]],
    follow: dict[NodeName, NodeName],
    asks: dict[tuple[NodeName, int], NodeName],
) -> bool:
    if block in holds[name] or not (name in follow or (name, block) in asks):
        return False
    seen: list[NodeName] = []
    at: NodeName | None = name
    while at is not None and at not in seen:
        if block in holds[at]:
            return False
        seen.append(at)
        at = asks.get((at, block), follow.get(at))
    return True
