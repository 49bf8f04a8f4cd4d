"""Which racks are believed in: what broadcasts show, what contradicts it, and racks that are told."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from orchestra.controller.block_times import LEAST_BLOCKS, MOST_BLOCKS, BlockTimes, PairTimes
from orchestra.controller.core import ControllerConfig
from orchestra.controller.doubts import LINKS_KEPT
from orchestra.controller.members import Card, Members, NodeState, SessionId
from orchestra.controller.racks import (
    CALM,
    EXPLORE_PAUSE,
    INSIDE_LASTS,
    MOST_IN_VAIN,
    MOST_TRIES,
    SIDES,
    TRUST,
    Topology,
)
from orchestra.estimate import LinkEstimate
from orchestra.messages import Join, Outcome
from orchestra.racks_file import given_racks
from orchestra.topology import LEAST_NODES, SURE, Floats, Inferred, infer
from tests.orchestra.controller.clusters import FakeCluster
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.planners.events import TICK_INTERVAL_S, Stored
from transfers.planners.racks import Racks

LAYOUT = BlockLayout(100_000, 1000)
SOURCE = NodeName("source")
RACKS = {f"{rack}{number}": at for at, rack in enumerate("abc") for number in range(5)}
QUICK = {(f"b{to}", f"b{sender}"): 0.01 for to in range(5) for sender in range(5) if to != sender != 2}
"""What nodes of a rack take from each other, but from one."""
FREE = {(f"a{to}", "b0"): 0.01 for to in (0, 1)}
"""The same over a link between racks that nothing holds up."""
LONG_BESIDE_LINK = {("b2", f"b{sender}"): 0.015 for sender in (0, 1, 3, 4)} | dict.fromkeys(FREE, 0.018)
"""One node that takes long with all of its rack, beside that link, which is held up."""
TOOK_S, LONG_S = 1.0, 1.5
"""A broadcast, and one in which a link had half as many streams again to carry."""


class Learning:
    """A topology, its members, and the network as it is.

    Args:
        told: as the controller is.
        racks: of nodes but the source.
        held_up: two racks between which the link is full only where plans keep to racks.
    """

    def __init__(
        self,
        told: object = "inferred",
        racks: Mapping[str, int] = RACKS,
        held_up: Collection[int] = (),
    ) -> None:
        self.members = Members()
        self.log: list[str] = []
        self.divided = 0
        self.topology = Topology(told, self.members, self.log.append, self._divide)  # type: ignore[arg-type]
        self.racks = {"source": 1, **racks}
        self._held_up = set(held_up)
        self._rng = np.random.default_rng(1)
        for number, name in enumerate(self.racks):
            self.join(name, number)

    def _divide(self) -> None:
        self.divided += 1

    def join(self, name: str, number: int) -> None:
        join = Join(NodeName(name), "", f"{name}:1", name, "", name != "source", False, ())
        self.members.add(SessionId(number + 1), join, 0.0)

    def broadcast(self, *, slow: Sequence[str] = ()) -> Racks | None:
        """One from the source, as its plan would have it go; what the plan knew of racks."""
        explores = self.topology.explores
        planned = self.topology.racks_for(SOURCE, explores)
        times = BlockTimes(LAYOUT)
        least_s: dict[str, float] = {}
        for to, here in self.racks.items():
            for source, there in self.racks.items():
                if to in ("source", source) or (planned is None and self._rng.random() < 0.4):
                    continue
                noise = 0.2 if planned is None else 0.05  # streams that have a share each are steadier
                block_s = 0.01 * np.exp(noise * self._rng.standard_normal())
                if here != there and planned is None and {here, there} != self._held_up:
                    block_s *= 10  # everyone's blocks cross at a time
                if planned is not None:
                    placed = None not in (planned.of(NodeName(to)), planned.of(NodeName(source)))
                    if placed and planned.far(NodeName(to), NodeName(source)):
                        continue
                    block_s *= 2 if here != there else 1
                if to in slow:
                    block_s *= 3
                least_s[to] = min(block_s, least_s.get(to, block_s))
                times.note(
                    NodeName(to),
                    [Stored(BlockIndex(at), NodeName(source), float(block_s)) for at in range(3)],
                )
        took_s = max(least_s.values()) * LAYOUT.count
        self.topology.learn(times, planned, explores, took_s, 0.0)
        self.infer()
        return planned

    def shows_links(self, planned: Racks | None) -> bool:
        """Whether a broadcast to all that is done now, of such a plan, would."""
        return self.topology.shows_links(planned, map(NodeName, self.racks))

    def infer(self) -> None:
        job = self.topology.take_job()
        if job is not None:
            assert self.topology.take_job() is None, "one at a time"
            job()()

    def believed(self) -> dict[str, int]:
        """The true rack of each node that is believed to stand with others of that rack alone."""
        described = self.topology.described(node.name for node in self.members.agents())
        racks = described["racks"]
        assert isinstance(racks, list)
        return {name: at for at, names in enumerate(racks) for name in names}

    @property
    def is_right(self) -> bool:
        believed = self.believed()
        pairs = {(believed.get(name), rack) for name, rack in self.racks.items() if name != "source"}
        return len(pairs) == len(dict(pairs)) == len({rack for _, rack in pairs})


def test_racks_are_found_from_broadcasts_that_know_none_and_kept_by_those_that_do() -> None:
    learning = Learning()
    assert learning.broadcast() is None
    while learning.broadcast() is None:
        assert learning.topology.described([])["broadcasts"] != 10
    assert learning.is_right
    for _ in range(20):
        planned = learning.broadcast()
        assert planned is not None
        assert planned.of(SOURCE) == planned.of(NodeName("b0"))
        assert learning.is_right
    assert any("3 racks" in line for line in learning.log)


def test_links_are_to_be_measured_anew_once_racks_are_known_and_by_plans_that_keep_to_them() -> None:
    learning = Learning(racks={**RACKS, **{f"d{number}": 3 for number in range(5)}}, held_up=(2, 3))
    topology = learning.topology
    seeks = [topology.seeks]
    learning.broadcast()
    assert learning.shows_links(None), "nothing else is known"
    seeks.append(topology.seeks)
    learning.broadcast()
    seeks.append(topology.seeks)
    assert seeks == [False, True, False], "at first nothing was measured"
    assert learning.divided == 1
    of_three = topology.racks_for(SOURCE)
    assert learning.shows_links(of_three)
    assert not learning.shows_links(None)
    while not learning.is_right:
        learning.broadcast()
    assert not learning.shows_links(of_three), "there is a fourth"
    for _ in range(10):
        planned = learning.broadcast()
    assert learning.shows_links(planned)
    assert learning.divided == 2


def test_where_there_are_no_racks_what_was_measured_is_of_links() -> None:
    learning = Learning(racks=dict.fromkeys(RACKS, 1))
    for _ in range(3):
        learning.broadcast()
    assert not learning.topology.seeks
    assert learning.shows_links(None)
    assert not learning.divided


def test_a_broadcast_by_which_a_node_is_found_to_have_moved_does_not_show_links() -> None:
    learning = Learning()
    while learning.broadcast() is None:
        pass
    before = learning.broadcast()
    shows = [learning.shows_links(before)]
    learning.racks["b2"] = 0
    while not learning.topology.explores:
        planned = learning.broadcast()
        shows.append(learning.shows_links(planned))
    while not learning.is_right:
        planned = learning.broadcast()
        shows.append(learning.shows_links(planned))
    assert shows[0]
    assert shows[-2:] == [False, False], "it takes long, and is looked for"
    assert not learning.shows_links(before), "it stands elsewhere now"
    assert learning.divided == 2, "what was learnt before it was noticed"
    assert learning.shows_links(learning.broadcast())


def test_new_nodes_say_nothing_of_links_until_it_is_known_where_they_stand() -> None:
    learning = Learning()
    while learning.broadcast() is None:
        pass
    for number in range(5):
        learning.racks[f"d{number}"] = 3
        learning.join(f"d{number}", 100 + number)
    known, shows = [], []
    for _ in range(2 * EXPLORE_PAUSE):
        planned = learning.broadcast()
        known.append(planned is not None and planned.of(NodeName("d0")) is not None)
        shows.append(learning.shows_links(planned))
    assert shows == known
    assert (shows[0], shows[-1]) == (False, True)
    assert learning.divided == 1, "nobody stands apart who stood together"


def test_where_one_rack_was_believed_in_and_another_comes_links_are_measured_anew() -> None:
    learning = Learning(racks=dict.fromkeys(RACKS, 1))
    for _ in range(3):
        learning.broadcast()
    for number in range(5):
        learning.racks[f"d{number}"] = 3
        learning.join(f"d{number}", 100 + number)
    before = [learning.divided]
    for _ in range(2 * EXPLORE_PAUSE):
        learning.broadcast()
    assert learning.topology.racks_for(SOURCE) is not None
    assert [*before, learning.divided] == [0, 1]


def test_where_nothing_explores_for_who_is_in_doubt_links_are_measured_in_the_end() -> None:
    learning = Learning()
    while (planned := learning.topology.racks_for(SOURCE)) is None:
        learning.broadcast()
    pairs = {(f"{rack}{to}", f"{rack}{sender}") for rack in "abc" for to, sender in permutations(range(5), 2)}
    takes = {pair: 0.03 if {"b0", "b1"} & {*pair} else 0.01 for pair in pairs}
    shows = []
    for _ in range(MOST_IN_VAIN + 1):  # a rack that may be two, and trees, which meet nobody else
        learning.topology.learn(times_of(takes), planned, False, TOOK_S, 0.0)
        shows.append(learning.shows_links(planned))
    assert (shows[0], shows[-1]) == (False, True)
    assert sum("may be several" in line for line in learning.log) == 1, "said once"


def test_a_new_node_that_was_looked_for_in_vain_still_says_nothing_of_links(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learning = Learning()
    while learning.broadcast() is None:
        pass
    learning.racks["new0"] = 0
    learning.join("new0", 50)

    def unsure_of_the_last(times: Floats, seed: int) -> Inferred:
        whole = infer(times, seed)
        return replace(whole, racks=(*whole.racks[:-1], -1))

    monkeypatch.setattr("orchestra.controller.racks.infer", unsure_of_the_last)
    explored, shows = 0, []
    while explored < MOST_TRIES:
        planned = learning.broadcast()
        explored += planned is None
        shows.append(learning.shows_links(planned))
    assert not any(shows[:-1])
    assert learning.shows_links(learning.broadcast()), "nothing explores for it any more"


@pytest.mark.parametrize(("nodes", "seeks"), [(LEAST_NODES - 1, False), (LEAST_NODES, True)])
def test_among_few_nodes_no_racks_are_sought(nodes: int, seeks: bool) -> None:
    learning = Learning(racks={f"a{number}": 1 for number in range(nodes - 1)})
    times = times_of(
        {(to, sender): 0.01 for to in learning.racks for sender in learning.racks if to != sender}
    )
    learning.topology.learn(times, None, True, TOOK_S, 0.0)
    assert learning.topology.seeks == seeks
    sought = []
    for _ in range(MOST_IN_VAIN + 1):  # of one block each
        learning.topology.learn(BlockTimes(LAYOUT), None, True, TOOK_S, 0.0)
        sought.append(learning.topology.seeks)
    assert sought == [seeks] * MOST_IN_VAIN + [False], "nothing is shown any more"


def test_exploring_ends_where_inference_always_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(times: object, seed: int) -> None:
        raise ValueError("no convergence")

    learning = Learning()
    while learning.broadcast() is None:
        pass
    monkeypatch.setattr("orchestra.controller.racks.infer", broken)
    learning.racks["b2"] = 0
    for _ in range(MOST_TRIES * MOST_IN_VAIN):
        planned = learning.broadcast()
    assert any("no convergence" in line for line in learning.log)
    assert not learning.topology.explores
    assert learning.shows_links(planned)


def test_where_racks_are_looked_for_in_vain_what_was_measured_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def by_chance(times: Floats, seed: int) -> Inferred:
        order = rng.permutation(len(times))  # others each time
        return replace(infer(times[np.ix_(order, order)], seed), confidence=SURE / 2)

    monkeypatch.setattr("orchestra.controller.racks.infer", by_chance)
    learning = Learning()
    seeks = []
    for _ in range(MOST_IN_VAIN):
        learning.broadcast()
        seeks.append(learning.topology.seeks)
    assert seeks == [True] * (MOST_IN_VAIN - 1) + [False]


def test_a_link_that_others_hold_up_is_found_once_plans_keep_to_racks() -> None:
    learning = Learning(racks={**RACKS, **{f"d{number}": 3 for number in range(5)}}, held_up=(2, 3))
    for _ in range(2):
        assert learning.broadcast() is None
    believed = learning.believed()
    assert believed["c0"] == believed["d0"] != believed["a0"]
    planned = []
    while not learning.is_right:
        planned.append(learning.broadcast())
        assert len(planned) < 4
    assert None not in planned, "nothing is explored for it"
    later = [learning.broadcast() for _ in range(4)]
    assert later[0] is None, "who was put into a rack of several by little evidence may stand in none of them"
    assert None not in later[1:]
    assert learning.is_right


@pytest.mark.parametrize(("racks", "between"), [(2, (0, 1)), (3, (2, 1)), (4, (3, 1))])
def test_two_of_several_racks_are_explored_as_one_now_and_then_if_it_is_not_sure(
    monkeypatch: pytest.MonkeyPatch, racks: int, between: tuple[int, int]
) -> None:
    confidence = SURE / 2

    def rated(times: Floats, seed: int) -> Inferred:
        return replace(infer(times, seed), confidence=confidence, between=between)

    trust = 6
    monkeypatch.setattr("orchestra.controller.racks.infer", rated)
    monkeypatch.setattr("orchestra.controller.racks.TRUST", trust)
    firsts = [NodeName(f"{rack}0") for rack in "abcd"[:racks]]
    names = {f"{rack}{number}": at for at, rack in enumerate("abcd"[:racks]) for number in range(5)}
    learning = Learning(racks=names)
    for _ in range(2):  # it comes out twice, and is believed
        learning.broadcast()
    assert learning.is_right
    looks = []
    for number in range(2 * trust):
        confidence = 1.0 if number < trust // 2 else SURE / 2
        if number in (trust // 2, trust):  # so that it is inferred again
            learning.racks[f"a{number}"] = 0
            learning.join(f"a{number}", 100 + number)
        planned = learning.topology.racks_for(SOURCE, learning.topology.explores)
        if planned is not None:
            apart = len({planned.of(name) for name in firsts})
            assert learning.shows_links(planned) == (apart == racks)
            assert apart == racks - planned.together(firsts[0], firsts[-1])
            looks += [number] * (apart < racks)
        learning.broadcast()
    assert looks == ([] if racks == 2 else [0, looks[-1]])
    assert racks == 2 or looks[-1] > trust // 2, "not again at once"
    assert learning.is_right


def test_an_exploring_broadcast_that_shows_nothing_is_not_the_end_of_exploring() -> None:
    learning = Learning(racks={**RACKS, **{f"d{number}": 3 for number in range(5)}}, held_up=(2, 3))
    while not (learning.topology.explores and learning.broadcast()):
        learning.broadcast()
        assert len(learning.log) < 10
    planned = learning.topology.racks_for(SOURCE)
    learning.topology.learn(BlockTimes(LAYOUT), planned, True, TOOK_S, 0.0)
    learning.infer()
    for _ in range(3):
        learning.broadcast()
    assert learning.is_right


def test_a_rack_that_is_divided_is_found_to_be_two_in_the_end() -> None:
    learning = Learning(racks={**RACKS, **{f"c{number}": 2 for number in range(5, 10)}})
    for _ in range(4 + CALM):
        learning.broadcast()
    assert learning.is_right
    learning.racks.update({f"c{number}": 3 for number in range(5)})
    right = []
    for _ in range(CALM + TRUST + 5):
        learning.broadcast()
        right.append(learning.is_right)
    assert not any(right[:5]), "no rack is taken to be several again and again"
    assert right[-1]


def test_racks_that_have_become_one_are_found_to_be_one_while_new_nodes_are_explored() -> None:
    learning = Learning(racks={**RACKS, **{f"d{number}": 3 for number in range(5)}}, held_up=(2, 3))
    for _ in range(8):
        learning.broadcast()
    assert learning.is_right
    learning.racks.update({f"d{number}": 2 for number in range(5)})
    for number in range(2 * INSIDE_LASTS):
        learning.racks[f"new{number}"] = number % 3
        learning.join(f"new{number}", 50 + number)
        for _ in range(EXPLORE_PAUSE + 1):
            learning.broadcast()
    assert learning.is_right


def test_the_plan_goes_from_the_sources_rack_to_the_next_nearest() -> None:
    learning = Learning()
    for _ in range(4):
        planned = learning.broadcast()
    assert planned is not None
    home = planned.of(SOURCE)
    assert home is not None
    assert home not in planned.feeds
    assert len(planned.feeds) == 2
    assert next(iter(planned.feeds.values())) == home


def test_a_node_that_has_moved_is_found_in_its_new_rack_within_three_broadcasts() -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    assert learning.is_right
    for rack in (2, 0):  # and back
        learning.racks["a2"] = rack
        right = [learning.is_right]
        for _ in range(3):
            learning.broadcast()
            right.append(learning.is_right)
        assert (right[0], right[-1]) == (False, True)
        assert learning.broadcast() is not None


def test_two_nodes_of_a_rack_that_move_at_once_are_found_within_three_broadcasts() -> None:
    learning = Learning()
    for _ in range(5):
        learning.broadcast()
    assert learning.is_right
    learning.racks.update({"a2": 1, "a3": 2})
    for _ in range(3):
        learning.broadcast()
    assert learning.is_right


def test_a_node_is_doubted_for_what_it_sends_where_the_way_to_it_is_idle() -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    planned = learning.topology.racks_for(SOURCE)
    slow = {(f"b{to}", "b2"): 0.015 for to in (0, 1)}
    link = {(f"a{to}", "b0"): 0.01 for to in (0, 1)}
    explores = []
    for held_up in (1.0, 1.25, 1.35):
        between = {pair: time_s * held_up for pair, time_s in link.items()}
        learning.topology.learn(times_of({**QUICK, **slow, **between}), planned, False, LONG_S, 0.0)
        explores.append(learning.topology.explores)
    assert explores == [False, False, True], "where no link is held up its port may have been busy"
    assert "b2 takes long" in learning.log[-1]


@pytest.mark.parametrize(("took_s", "explores"), [(1.1, [False, True]), (LONG_S, [True])])
def test_who_takes_long_in_a_broadcast_that_takes_no_longer_than_others_is_doubted_the_second_time(
    took_s: float, explores: list[bool]
) -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    planned = learning.topology.racks_for(SOURCE)
    learning.topology.learn(times_of({**QUICK, **FREE}), planned, False, TOOK_S, 0.0)
    doubted = []
    for _ in explores:
        learning.topology.learn(times_of({**QUICK, **LONG_BESIDE_LINK}), planned, False, took_s, 0.0)
        doubted.append(learning.topology.explores)
    assert doubted == explores
    assert "b2 takes long" in learning.log[-1]


@pytest.mark.parametrize(
    ("size_bytes", "took_s", "explores"),
    [
        (2 * LAYOUT.size_bytes, 2 * TOOK_S, False),  # by the byte
        (2 * LAYOUT.size_bytes, 2 * LONG_S, True),
        (10 * LAYOUT.size_bytes, 10 * TOOK_S, True),  # none of its size is known
    ],
)
def test_a_broadcast_takes_long_beside_others_of_about_its_size(
    size_bytes: int, took_s: float, explores: bool
) -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    planned = learning.topology.racks_for(SOURCE)
    for _ in range(LINKS_KEPT):
        learning.topology.learn(BlockTimes(LAYOUT), planned, False, 0.0, 0.0)  # in which nothing moved
    times = times_of({**QUICK, **LONG_BESIDE_LINK}, layout=BlockLayout(size_bytes, LAYOUT.block_size_bytes))
    learning.topology.learn(times, planned, False, took_s, 0.0)
    assert learning.topology.explores == explores


def test_who_was_never_quick_at_home_is_doubted_however_long_broadcasts_take() -> None:
    learning = Learning()
    for _ in range(2):
        assert learning.broadcast() is None
    planned = learning.topology.racks_for(SOURCE)
    assert planned is not None
    others = {pair: time_s for pair, time_s in QUICK.items() if "b2" not in pair}
    explores = []
    for takes in ({**others, **FREE}, {**others, **LONG_BESIDE_LINK}):
        learning.topology.learn(times_of(takes), planned, False, TOOK_S, 0.0)
        explores.append(learning.topology.explores)
    assert explores == [False, True]
    assert "b2 takes long" in learning.log[-1]


def test_with_new_racks_broadcasts_are_compared_anew() -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    learning.racks["a1"] = 2
    for _ in range(2):
        learning.broadcast()
    assert learning.is_right
    planned = learning.topology.racks_for(SOURCE)
    assert planned is not None
    learning.topology.learn(times_of({**QUICK, **LONG_BESIDE_LINK}), planned, False, TOOK_S, 0.0)
    assert learning.topology.explores


def test_links_that_are_slower_than_ports_are_not_held_up_by_that() -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    planned = learning.topology.racks_for(SOURCE)
    link = {(f"a{to}", "b0"): 0.018 for to in (0, 1)}
    slow = {(f"b{to}", "b2"): 0.015 for to in (0, 1)}
    learning.topology.learn(times_of({**QUICK, **link}), planned, False, TOOK_S, 0.0)
    learning.topology.learn(times_of({**QUICK, **link, **slow}), planned, False, TOOK_S, 0.0)
    assert not learning.topology.explores
    held_up = {pair: 2 * time_s for pair, time_s in link.items()}
    slow = {pair: 2 * time_s for pair, time_s in slow.items()}
    learning.topology.learn(times_of({**QUICK, **held_up, **slow}), planned, False, LONG_S, 0.0)
    assert learning.topology.explores


def test_a_source_that_receives_nothing_is_found_by_what_it_sends() -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    learning.racks["source"] = 2
    for _ in range(3):
        learning.broadcast()
    planned = learning.topology.racks_for(SOURCE)
    assert planned is not None
    assert planned.of(SOURCE) == planned.of(NodeName("c0"))


@pytest.mark.parametrize("racks", [3, 4])
def test_who_is_just_slow_is_looked_for_once_and_then_left_alone(racks: int) -> None:
    names = {f"{rack}{number}": at for at, rack in enumerate("abcd"[:racks]) for number in range(5)}
    learning = Learning(racks=names)
    for _ in range(4):
        learning.broadcast()
    known = []
    for _ in range(TRUST):
        planned = learning.topology.racks_for(SOURCE, learning.topology.explores)
        known.append(None if planned is None else len({planned.of(NodeName(name)) for name in names}))
        learning.broadcast(slow=["b1"])
        assert learning.is_right
    if racks == 3:
        assert (known.count(None), known.count(racks)) == (1, TRUST - 1)
    else:
        assert (known.count(racks - SIDES), known.count(racks)) == (1, TRUST - 1 - known.count(None))
        assert known.count(None) <= 1
    assert sum("takes long" in line for line in learning.log) == 1


def test_who_was_held_up_by_another_that_had_moved_is_found_when_it_moves_itself() -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    learning.racks["a1"] = 2
    learning.broadcast(slow=["b1"])
    assert sum("takes long" in line for line in learning.log) == 2
    learning.broadcast()
    assert learning.is_right
    for _ in range(2):
        learning.broadcast()
    learning.racks["b1"] = 2
    for _ in range(3):
        learning.broadcast()
    assert learning.is_right


def test_where_all_are_alike_there_is_one_rack_and_plans_stay_as_they_are() -> None:
    learning = Learning(racks=dict.fromkeys(RACKS, 1))
    for _ in range(10):
        assert learning.broadcast() is None
    described = learning.topology.described(node.name for node in learning.members.agents())
    assert described["racks"] == [list(RACKS)]
    confidence = described["confidence"]
    assert isinstance(confidence, float)
    assert confidence > 0.6


def test_inference_is_seldom_where_nothing_new_comes_of_it() -> None:
    learning = Learning(racks=dict.fromkeys(RACKS, 1))
    inferred = 0
    for _ in range(60):
        planned = learning.topology.racks_for(SOURCE)
        assert planned is None
        learning.topology.learn(times_of({("a0", "a1"): 0.01}), None, False, TOOK_S, 0.0)
        job = learning.topology.take_job()
        if job is not None:
            inferred += 1
            job()()
    assert inferred <= 15


def test_new_nodes_are_found_by_exploring_now_and_then() -> None:
    learning = Learning()
    for _ in range(4):
        learning.broadcast()
    for number in range(3):
        learning.racks[f"new{number}"] = number
        learning.join(f"new{number}", 50 + number)
    planned = learning.topology.racks_for(SOURCE)
    assert planned is None or planned.of(NodeName("new1")) is None
    for _ in range(EXPLORE_PAUSE + 2):
        learning.broadcast()
    assert learning.is_right


def test_nothing_explores_for_a_node_that_has_left_before_its_place_was_found() -> None:
    learning = Learning()
    while learning.topology.racks_for(SOURCE) is None:
        learning.broadcast()
    learning.join("new0", 50)
    learning.racks["new0"] = 0
    learning.broadcast()
    assert learning.topology.racks_for(NodeName("new0")) is not None, "not at once"
    del learning.racks["new0"]
    new = learning.members.present(NodeName("new0"))
    assert new is not None
    learning.members.remove(new, NodeState.LEFT)
    assert None not in [learning.broadcast() for _ in range(2 * EXPLORE_PAUSE)]


def test_a_node_that_is_put_where_it_is_likeliest_to_be_stands_there_in_the_plane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unsure_of_the_first(times: Floats, seed: int) -> Inferred:
        whole = infer(times, seed)
        return replace(whole, racks=(-1, *whole.racks[1:]), likeliest=whole.racks)

    monkeypatch.setattr("orchestra.controller.racks.infer", unsure_of_the_first)
    learning = Learning()
    names = [NodeName(name) for name in learning.racks]
    while learning.topology.racks_for(SOURCE) is None:
        learning.broadcast()

    def places() -> tuple[list[NodeName], dict[str, list[float]]]:
        described = learning.topology.described(names)
        unplaced, positions = described["unplaced"], described["positions"]
        assert isinstance(unplaced, list)
        assert isinstance(positions, dict)
        return unplaced, positions

    for _ in range((MOST_TRIES + 1) * (EXPLORE_PAUSE + 1)):
        learning.broadcast()
    assert places()[0] == [SOURCE]
    assert SOURCE not in places()[1]
    learning.racks["new0"] = 0  # so that it is inferred again
    learning.join("new0", 50)
    for _ in range(EXPLORE_PAUSE + 2):
        learning.broadcast()
    unplaced, positions = places()
    assert not unplaced
    for name in names:
        near = {other: np.hypot(*np.subtract(positions[name], positions[other])) for other in names}
        mates = [other for other in names if learning.racks[other] == learning.racks[name]]
        assert {*sorted(near, key=near.__getitem__)[: len(mates)]} == {*mates}


def test_evidence_that_never_came_is_no_reason_to_believe() -> None:
    learning = Learning()
    learning.topology.learn(BlockTimes(LAYOUT), None, False, TOOK_S, 0.0)
    learning.infer()
    described = learning.topology.described([NodeName("a0")])
    assert described["confidence"] == 0.0
    assert described["racks"] == [["a0"]]
    assert learning.topology.racks_for(SOURCE) is None


def test_an_inference_that_breaks_is_said_and_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no convergence")

    learning = Learning()
    monkeypatch.setattr("orchestra.controller.racks.infer", broken)
    seeks = []
    for _ in range(20):
        learning.broadcast()
        seeks.append(learning.topology.seeks)
    assert any("could not be inferred: no convergence" in line for line in learning.log)
    assert seeks[0]
    assert not seeks[-1], "what was measured counts in the end"
    monkeypatch.undo()
    for _ in range(6):
        learning.broadcast()
    assert learning.is_right


def test_what_comes_out_of_nothing_is_not_what_came_out_before() -> None:
    learning = Learning()
    learning.topology.learn(times_of({("a0", "b0"): 0.01}), None, False, TOOK_S, 0.0)
    learning.infer()
    learning.topology.learn(times_of({("a0", "a1"): 0.01, ("a1", "a2"): 0.01}), None, False, TOOK_S, 0.0)
    learning.infer()
    assert learning.topology.described([])["believed"] is False


def test_a_flat_topology_learns_nothing() -> None:
    learning = Learning("flat")
    assert not learning.topology.learns
    assert learning.topology.racks_for(SOURCE) is None
    assert learning.topology.take_job() is None
    assert learning.topology.described([NodeName("a0")])["source"] == "flat"


# -- told ------------------------------------------------------------------------------------------


GIVEN = given_racks({"front": ["a0", "a1", "x"], "middle": ["b0", "source"], "back": ["c0"]})


def test_told_racks_stand_in_a_line() -> None:
    learning = Learning(GIVEN)
    planned = learning.topology.racks_for(SOURCE)
    assert planned is not None
    assert planned.feeds == {0: 1, 2: 1}
    assert [planned.of(NodeName(name)) for name in ("a0", "source", "c0", "c1")] == [0, 1, 2, None]
    assert learning.topology.described([NodeName("a0"), NodeName("c0"), NodeName("c1")]) == {
        "racks": [["a0"], ["c0"]],
        "confidence": 1.0,
        "source": "given",
        "not_in_file": ["c1"],
        "not_joined": ["a1", "x", "b0", "source"],
        "contradicting": [],
    }


def test_a_command_stands_where_the_agent_of_its_host_does() -> None:
    learning = Learning(GIVEN)
    join = Join(NodeName("command-7"), "", "c0:999", "c0", "", False, False, ())
    learning.members.add(SessionId(99), join, 0.0)
    planned = learning.topology.racks_for(NodeName("command-7"))
    assert planned is not None
    assert planned.of(NodeName("command-7")) == 2
    assert planned.feeds == {1: 2, 0: 1}


def test_what_contradicts_the_file_is_said() -> None:
    told = given_racks({rack: [name for name in RACKS if name.startswith(rack)] for rack in "abc"})
    learning = Learning(told)
    learning.racks["a2"] = 2
    learning.broadcast()
    assert learning.topology.described([])["contradicting"] == ["a2"]
    assert any("a2 takes long" in line for line in learning.log)
    learning.racks["a2"] = 0
    learning.broadcast()
    assert learning.topology.described([])["contradicting"] == []
    planned = learning.topology.racks_for(SOURCE)
    learning.topology.learn(times_of({**QUICK, **FREE}), planned, False, TOOK_S, 0.0)
    for contradicting in ([], ["b2"]):  # since that took no longer than others
        learning.topology.learn(times_of({**QUICK, **LONG_BESIDE_LINK}), planned, False, TOOK_S, 0.0)
        assert learning.topology.described([])["contradicting"] == contradicting


def test_a_controller_tells_how_long_a_broadcast_took_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(topology="inferred")
    told: list[float] = []
    monkeypatch.setattr(
        cluster.core.topology, "learn", lambda times, planned, explored, took_s, now: told.append(took_s)
    )
    source, a = cluster.joined("a")
    source.propose("t")
    manifest = source.offer("t")
    cluster.pass_time(1.0)
    transfer = cluster.core.table.get(TransferName("t"))
    assert transfer is not None
    transfer.set_paused(True, cluster.now)
    cluster.pass_time(3.0)
    transfer.set_paused(False, cluster.now)
    cluster.pass_time(1.0)
    a.finish(manifest)
    assert source.last(Outcome).completion_s == pytest.approx(5.0)
    assert told == [pytest.approx(2.0, abs=2 * TICK_INTERVAL_S)]


def test_one_told_rack_is_as_good_as_none() -> None:
    assert Learning(given_racks({"all": ["a0"]})).topology.racks_for(SOURCE) is None


def test_a_controller_hands_racks_to_its_plans() -> None:
    """Both of the back rack's entries are fed from the front, the others from each other."""
    racks = {"front": ["src", "a", "b"], "back": ["c", "d", "e"]}
    cluster = FakeCluster(topology=given_racks(racks))
    source, *agents = cluster.joined("c", "a", "d", "b", "e")
    source.broadcast("t", size=4000, block_size=1000)
    by_name = {agent.name: agent for agent in agents}
    crossing = [name for name in "cde" if by_name[NodeName(name)].sources & {"src", "a", "b"}]
    assert len(crossing) <= 2
    assert all(not by_name[NodeName(name)].sources & {"c", "d", "e"} for name in "ab")
    topology = cluster.core.status()["topology"]
    assert isinstance(topology, dict)
    assert topology["racks"] == [["a", "b"], ["c", "d", "e"]]


@pytest.mark.parametrize("seeks", [False, True])
def test_a_controller_takes_links_to_be_held_up_while_racks_are_sought(
    monkeypatch: pytest.MonkeyPatch, seeks: bool
) -> None:
    cluster = FakeCluster(topology="inferred")
    source, *_ = cluster.joined("a", "b")
    asked: list[bool] = []
    link_for = cluster.core.measured.link_for

    def recorded(addresses: Sequence[str], may_be_held_up: bool = False) -> LinkEstimate:
        asked.append(may_be_held_up)
        return link_for(addresses, may_be_held_up)

    monkeypatch.setattr(cluster.core.measured, "link_for", recorded)
    monkeypatch.setattr(Topology, "seeks", seeks)
    source.broadcast("t")
    assert asked == [seeks]


@pytest.mark.parametrize("kept", [False, True])
def test_a_controller_measures_links_by_plans_that_keep_to_racks(
    monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    cluster = FakeCluster(topology="inferred")
    source, agent = cluster.joined("a")
    manifest = source.broadcast("t", size=4000, block_size=1000)

    def shows_links(topology: Topology, planned: Racks | None, names: Iterable[NodeName]) -> bool:
        assert topology.described([])["broadcasts"] == 1, "it was learnt from"
        assert list(names) == [source.name, agent.name]
        return kept

    monkeypatch.setattr(Topology, "shows_links", shows_links)
    cluster.now += 1.0
    agent.finish(manifest)
    links = cluster.core.status()["links"]
    assert isinstance(links, dict)
    assert links["transfers"] == kept


@pytest.mark.parametrize("told", ["", "round", "racks.toml"])
def test_an_unknown_topology_is_refused(told: str) -> None:
    with pytest.raises(ValueError, match="topology must be flat, inferred or racks"):
        ControllerConfig(topology=told)


# -- block times -----------------------------------------------------------------------------------


def times_of(
    pairs: Mapping[tuple[str, str], float], blocks: int = LEAST_BLOCKS, layout: BlockLayout = LAYOUT
) -> BlockTimes:
    times = BlockTimes(layout)
    for (to, source), block_s in pairs.items():
        times.note(NodeName(to), [Stored(BlockIndex(at), NodeName(source), block_s) for at in range(blocks)])
    return times


def test_of_a_pair_the_median_of_its_last_blocks_counts_by_the_byte() -> None:
    times = BlockTimes(LAYOUT)
    seconds = [9.0] * 40 + [0.1] * MOST_BLOCKS
    records = [Stored(BlockIndex(at), NodeName("a"), block_s) for at, block_s in enumerate(seconds)]
    times.note(NodeName("b"), records)
    assert times.medians() == {("b", "a"): pytest.approx(0.1 / 1000)}


def test_blocks_that_tell_nothing_of_links_do_not_count() -> None:
    assert times_of({("a", "b"): 1e-5}).medians() == {}
    assert times_of({("a", "b"): 0.1}, blocks=LEAST_BLOCKS - 1).medians() == {}


def test_newer_broadcasts_outweigh_older_ones() -> None:
    pairs = PairTimes()
    a, b = Card("a"), Card("b")
    for _ in range(3):
        pairs.add({(a, b): 1.0}, 0.0)
    pairs.add({(a, b): 9.0}, 0.0)
    assert pairs.matrix([a, b])[0, 1] == 1.0
    for _ in range(3):
        pairs.add({(a, b): 9.0}, 0.0)
    assert pairs.matrix([a, b])[0, 1] == 9.0
    assert np.isnan(pairs.matrix([a, b])[1, 0])
    pairs.forget(b, below=9.0)
    assert len(pairs) == 1
    pairs.forget(b)
    assert len(pairs) == 0
