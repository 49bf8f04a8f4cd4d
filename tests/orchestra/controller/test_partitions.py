"""The matrix of one shuffle."""

from hypothesis import given
from hypothesis import strategies as st

from orchestra.controller.partitions import Partition, Partitions, PartitionState
from tests.orchestra.controller.clusters import manifest_of
from transfers.ids import NodeName
from transfers.manifest import PartName

A, B, C, D, X = (NodeName(name) for name in "abcdx")
FULL = manifest_of("s", 40)


def two_by_two() -> Partitions:
    return Partitions([A, B], [C, D])


def put(into: Partitions, mapper: NodeName, reducer: NodeName, holder: NodeName | None = None) -> Partition:
    """One of 40 bytes, by the mapper itself where nobody else is named."""
    made = into.put(mapper, reducer, FULL, mapper if holder is None else holder)
    assert made is not None
    return made


def delivered(into: Partitions, mapper: NodeName, reducer: NodeName) -> Partition:
    made = put(into, mapper, reducer)
    into.start(made)
    into.deliver(made, 5.0)
    return made


def test_a_partition_is_put_once_and_only_for_a_pair_that_there_is() -> None:
    its = two_by_two()
    made = put(its, A, C)
    assert its.get((A, C)) is made
    assert its.put(A, C, FULL, A) is None
    assert its.put(C, A, FULL, C) is None
    assert its.put(A, X, FULL, A) is None
    assert list(its) == [made]
    assert its.missing_of(A) == [D]
    assert its.missing_of(B) == [C, D]


def test_it_is_found_by_its_name_at_its_own_reducer_only() -> None:
    its = two_by_two()
    made = put(its, A, C)
    assert its.by_name(C, made.name) is made
    assert its.by_name(D, made.name) is None
    assert its.by_name(C, PartName("b/c")) is None
    assert its.by_name(C, PartName("")) is None


def test_it_is_complete_when_all_pairs_are_delivered() -> None:
    its = two_by_two()
    for mapper in (A, B):
        for reducer in (C, D):
            assert not its.complete
            assert its.is_due_of(mapper)
            assert its.is_due_to(reducer)
            delivered(its, mapper, reducer)
    assert its.complete
    assert (its.delivered, its.delivered_bytes) == (its.count, 4 * 40)
    assert not any(map(its.is_due_of, [A, B]))
    assert not any(map(its.is_due_to, [C, D]))
    assert not its.moving


def test_what_is_left_of_one_falls_as_it_comes_and_an_empty_one_has_nothing() -> None:
    its = two_by_two()
    made = put(its, A, C)
    made.received_bytes = 30
    assert made.left_bytes == 10
    made.received_bytes = 50
    assert made.left_bytes == 0
    empty = its.put(A, D, None, A)
    assert empty is not None
    assert (empty.size_bytes, empty.left_bytes) == (0, 0)


def test_only_one_that_is_on_its_way_can_wait_for_room() -> None:
    its = two_by_two()
    made = put(its, A, C)
    states = []
    for waits in (True, False):
        its.set_waiting(made, waits)
        states.append(made.state)
    its.start(made)
    for waits in (False, True, False):
        its.set_waiting(made, waits)
        states.append(made.state)
    its.deliver(made, 1.0)
    for waits in (True, False):
        its.set_waiting(made, waits)
        states.append(made.state)
    assert [state.value for state in states] == [
        *("put", "put"), *("moving", "waiting", "moving"), *("delivered", "delivered"),
    ]  # fmt: skip


def test_what_a_lost_node_had_put_has_to_be_put_again_under_another_name() -> None:
    its = two_by_two()
    kept, lost = delivered(its, A, C), put(its, A, D)
    its.start(lost)
    assert its.lose_holder(A) == [lost]
    assert its.missing_of(A) == [D]
    assert not its.moving
    assert its.get((A, C)) is kept
    again = put(its, A, D, X)
    assert again.name != lost.name
    assert its.by_name(D, lost.name) is None
    assert its.attempt_at((A, D)) == 1


def test_what_others_had_put_is_not_lost_with_a_node() -> None:
    its = two_by_two()
    put(its, A, C, X)
    assert its.lose_holder(A) == []
    assert len(its.lose_holder(X)) == 1


def test_a_lost_reducer_lacks_everything_again() -> None:
    its = two_by_two()
    first, other = delivered(its, A, C), delivered(its, A, D)
    moving = put(its, B, C)
    its.start(moving)
    moving.received_bytes = 30
    assert its.lose_reducer(C, {A, B}) == []
    assert (its.delivered, its.delivered_bytes) == (1, 40)
    assert [each.state for each in (first, moving)] == [PartitionState.PUT] * 2
    assert [each.left_bytes for each in (first, moving)] == [40, 40]
    assert first.delivered_at_s is None
    assert other.delivered
    assert its.is_due_of(A)
    assert its.is_due_to(C)
    assert not its.moving


def test_for_a_lost_reducer_only_what_nobody_holds_any_more_is_put_again() -> None:
    its = two_by_two()
    gone, there = delivered(its, A, C), delivered(its, B, C)
    empty = Partitions([A], [C])
    nothing = empty.put(A, C, None, A)
    assert its.lose_reducer(C, {B}) == [gone]
    assert its.missing_of(A) == [C, D]
    assert its.get((B, C)) is there
    assert empty.lose_reducer(C, set()) == []
    assert empty.get((A, C)) is nothing, "nobody has to hold what is empty"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "start", "deliver", "lose mapper", "lose reducer"]),
            st.sampled_from([A, B]),
            st.sampled_from([C, D]),
        ),
        max_size=40,
    )
)
def test_counts_are_those_of_the_partitions_whatever_comes_and_goes(
    steps: list[tuple[str, NodeName, NodeName]],
) -> None:
    its = two_by_two()
    names: dict[tuple[NodeName, NodeName], set[PartName]] = {}
    for step, mapper, reducer in steps:
        found = its.get((mapper, reducer))
        match step:
            case "put":
                made = its.put(mapper, reducer, FULL, mapper)
                assert (made is None) == (found is not None)
                if made is not None:
                    used = names.setdefault((mapper, reducer), set())
                    assert made.name not in used, "bytes of two attempts never meet"
                    used.add(made.name)
            case "start" if found is not None and found.state is PartitionState.PUT:
                its.start(found)
            case "deliver" if found is not None and found.state is PartitionState.MOVING:
                its.deliver(found, 1.0)
            case "lose mapper":
                its.lose_holder(mapper)
            case "lose reducer":
                its.lose_reducer(reducer, {A})
        done = [each for each in its if each.delivered]
        assert (its.delivered, its.delivered_bytes) == (len(done), 40 * len(done))
        assert its.complete == (len(done) == 4)
        assert set(its.moving) == {
            (each.mapper, each.reducer) for each in its if each.state is PartitionState.MOVING
        }
        for each in (A, B):
            assert its.is_due_of(each) == (sum(one.mapper == each for one in done) < 2)
        for each in (C, D):
            assert its.is_due_to(each) == (sum(one.reducer == each for one in done) < 2)
