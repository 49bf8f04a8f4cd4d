"""Flows as a fluid: small cases worked out by hand, and what holds for every run."""

import math
from random import Random

import numpy as np
import pytest

from orchestra.simulation.fabric import LOOPBACK_BYTES_PER_S, Fabric
from orchestra.simulation.fluid import Fluid


def fluid(hosts: int = 4, rate: float = 100.0, settle_s: float = 0.0) -> Fluid:
    return Fluid(Fabric([rate] * hosts), settle_s)


def run(fluid: Fluid, until_s: float = math.inf) -> dict[int, float]:
    """Let every flow go to its mark and stop it there; when that was, by flow."""
    ended: dict[int, float] = {}
    while (next_s := fluid.next_event_s()) <= until_s and next_s < math.inf:
        for flow in fluid.advance(next_s):
            ended[flow] = fluid.now_s
            fluid.stop(flow)
    if until_s < math.inf:
        fluid.advance(until_s)
    return ended


def test_a_flow_alone_has_the_whole_port() -> None:
    at = fluid()
    flow = at.start(0, 1, 250.0)
    assert run(at) == {flow: pytest.approx(2.5)}
    assert at.live == 0


def test_nothing_happens_where_nothing_flows() -> None:
    at = fluid()
    assert at.next_event_s() == math.inf
    assert at.advance(5.0) == []
    assert at.now_s == 5.0


def test_flows_into_one_port_share_it_and_the_last_has_it_alone() -> None:
    at = fluid()
    short, long = at.start(0, 2, 100.0), at.start(1, 2, 300.0)
    assert run(at) == {short: pytest.approx(2.0), long: pytest.approx(4.0)}


def test_flows_out_of_one_port_share_it() -> None:
    at = fluid()
    flows = [at.start(0, to, 100.0) for to in (1, 2, 3)]
    assert run(at) == dict.fromkeys(flows, pytest.approx(3.0))


def test_both_directions_of_a_port_are_there_at_once() -> None:
    at = fluid(2)
    flows = [at.start(0, 1, 100.0), at.start(1, 0, 100.0)]
    assert run(at) == dict.fromkeys(flows, pytest.approx(1.0))


def test_what_a_slow_receiver_does_not_take_goes_to_others() -> None:
    at = Fluid(Fabric([100.0, 20.0, 100.0]))
    slow, fast = at.start(0, 1, 40.0), at.start(0, 2, 160.0)
    assert run(at) == {slow: pytest.approx(2.0), fast: pytest.approx(2.0)}


def test_a_flow_that_begins_later_takes_its_share_from_then_on() -> None:
    at = fluid()
    first = at.start(0, 2, 200.0)
    run(at, until_s=1.0)
    second = at.start(1, 2, 200.0)
    assert run(at) == {first: pytest.approx(3.0), second: pytest.approx(4.0)}


def test_a_cap_is_kept_and_the_rest_is_others() -> None:
    at = fluid()
    capped, free = at.start(0, 2, 20.0, cap_bytes_per_s=10.0), at.start(1, 2, 180.0)
    at.advance(0.0)
    assert [at.rate(capped), at.rate(free)] == pytest.approx([10.0, 90.0])
    assert run(at) == {capped: pytest.approx(2.0), free: pytest.approx(2.0)}


def test_a_cap_can_be_changed_on_the_way() -> None:
    at = fluid()
    flow = at.start(0, 1, 200.0, cap_bytes_per_s=10.0)
    run(at, until_s=10.0)
    assert at.moved(flow) == pytest.approx(100.0)
    at.set_cap(flow, 50.0)
    assert run(at) == {flow: pytest.approx(12.0)}


def test_uplinks_between_racks_are_shared_by_all_that_cross_them() -> None:
    at = Fluid(Fabric([100.0] * 6, racks=[0, 0, 1, 1, 2, 2], uplink_bytes_per_s=60.0))
    near, far, inside = at.start(0, 2, 60.0), at.start(1, 4, 60.0), at.start(3, 2, 140.0)
    back = at.start(4, 0, 120.0)
    at.advance(0.0)
    assert [at.rate(flow) for flow in (near, far, inside, back)] == pytest.approx([30.0, 30.0, 70.0, 60.0])
    ended = run(at)
    assert ended == dict.fromkeys((near, far, inside, back), pytest.approx(2.0))


def test_a_flow_within_a_host_is_as_fast_as_memory() -> None:
    at = fluid()
    flow = at.start(1, 1, LOOPBACK_BYTES_PER_S)
    assert run(at) == {flow: pytest.approx(1.0)}


def test_a_host_that_slows_down_slows_its_flows_from_then_on() -> None:
    at = fluid()
    flow = at.start(0, 1, 200.0)
    run(at, until_s=1.0)
    at.fabric.slow(1, 0.25)
    at.unsettle()
    assert run(at) == {flow: pytest.approx(5.0)}


def test_nothing_passes_where_the_way_is_cut_and_everything_goes_on_when_it_is_mended() -> None:
    at = fluid()
    there, back = at.start(0, 1, 200.0), at.start(1, 0, 200.0)
    run(at, until_s=1.0)
    at.fabric.cut(0, 1)
    at.unsettle()
    assert run(at, until_s=5.0) == {back: pytest.approx(2.0)}
    assert at.moved(there) == pytest.approx(100.0)
    at.fabric.mend(0, 1)
    at.unsettle()
    assert run(at) == {there: pytest.approx(6.0)}


def test_what_a_clogged_host_does_not_take_others_have_meanwhile() -> None:
    at = fluid()
    stuck, other = at.start(0, 1, 100.0), at.start(0, 2, 100.0)
    at.fabric.clog(1)
    assert run(at, until_s=1.5) == {other: pytest.approx(1.0)}
    assert at.moved(stuck) == 0.0
    at.fabric.unclog(1)
    at.unsettle()
    assert run(at) == {stuck: pytest.approx(2.5)}


# -- marks and goals -------------------------------------------------------------------------------


def test_marks_on_the_way_are_told_one_after_the_other_and_the_goal_last() -> None:
    at = fluid()
    flow = at.start(0, 1, 100.0)
    at.watch(flow, 25.0)
    assert at.advance(0.0) == []
    told = []
    for mark in (50.0, 200.0, 300.0):
        assert at.advance(at.next_event_s()) == [flow]
        told.append(at.now_s)
        at.watch(flow, mark)
    assert told == pytest.approx([0.25, 0.5, 1.0])


def test_a_flow_stands_at_its_goal_until_that_lies_farther_away() -> None:
    at = fluid()
    flow = at.start(0, 1, 100.0)
    at.advance(0.0)
    assert at.advance(1.0) == [flow]
    at.advance(2.0)
    assert at.moved(flow) == pytest.approx(100.0)
    at.extend(flow, 150.0)
    at.watch(flow, 150.0)
    assert at.next_event_s() == pytest.approx(2.5)
    assert at.advance(2.5) == [flow]


def test_a_mark_that_has_been_passed_already_is_told_at_once() -> None:
    at = fluid()
    flow = at.start(0, 1, 100.0)
    at.advance(0.0)
    at.advance(0.5)
    at.watch(flow, 10.0)
    assert at.next_event_s() == 0.5
    assert at.advance(0.5) == [flow]


def test_a_flow_that_is_stopped_early_leaves_its_share_and_its_number() -> None:
    at = fluid()
    gone, other = at.start(0, 2, 100.0), at.start(1, 2, 150.0)
    run(at, until_s=1.0)
    assert at.moved(gone) == pytest.approx(50.0)
    at.stop(gone)
    assert run(at, until_s=1.5) == {}
    again = at.start(0, 3, 50.0)
    assert again == gone
    assert at.moved(again) == 0.0
    assert run(at) == {other: pytest.approx(2.0), again: pytest.approx(2.0)}


def test_flows_can_be_listed() -> None:
    at = fluid()
    one, other = at.start(0, 2, 1.0), at.start(3, 1, 1.0)
    assert set(at.flows()) == {(one, 0, 2), (other, 3, 1)}
    assert at.live == 2


def test_many_flows_are_kept_apart() -> None:
    """More than the arrays hold at first."""
    at = fluid(hosts=301)
    flows = [at.start(0, host, 1.0) for host in range(1, 301)]
    assert len(set(flows)) == 300
    assert run(at) == dict.fromkeys(flows, pytest.approx(3.0))


# -- settling --------------------------------------------------------------------------------------


def test_changes_of_one_moment_cost_one_computation() -> None:
    at = fluid()
    for _ in range(10):
        at.start(0, 1, 100.0)
    at.advance(0.0)
    assert at.settlings == 1


def test_rates_are_computed_no_more_often_than_asked_and_bytes_come_no_sooner_for_it() -> None:
    at = fluid(settle_s=0.1)
    first = at.start(0, 1, 100.0)
    at.advance(0.0)
    at.advance(0.04)
    second = at.start(0, 2, 50.0)
    assert at.next_event_s() == pytest.approx(0.1)
    at.advance(0.1)
    assert at.moved(first) == pytest.approx(10.0)
    assert at.moved(second) == 0.0, "it stands still until rates are computed"
    assert run(at) == {second: pytest.approx(1.1), first: pytest.approx(1.5)}
    assert at.settlings == 4, "at the start, for the second, and when each ends"


# -- what holds for every run ------------------------------------------------------------------------


class _Turmoil:
    """Flows that come, go, are capped and meet faults by lot; their bytes are counted by rates over time."""

    def __init__(self, seed: int, settle_s: float) -> None:
        self.rng = Random(seed)
        rates = [self.rng.uniform(50, 150) for _ in range(8)]
        self.fabric = Fabric(rates, racks=[0, 0, 0, 1, 1, 1, 2, 2], uplink_bytes_per_s=120)
        self.fluid = Fluid(self.fabric, settle_s)
        self.sizes: dict[int, float] = {}
        self.carried: dict[int, float] = {}
        self.caps: dict[int, float] = {}

    def step(self) -> None:
        """Time passes up to the next event at most; what is through is stopped."""
        fluid = self.fluid
        now_s = min(fluid.next_event_s(), fluid.now_s + self.rng.uniform(0, 0.2))
        for flow in self.sizes:
            self.carried[flow] += fluid.rate(flow) * (now_s - fluid.now_s)
        for flow in fluid.advance(now_s):
            assert self.carried[flow] == pytest.approx(self.sizes[flow], abs=0.01)
            assert fluid.moved(flow) == pytest.approx(self.sizes[flow], abs=0.01)
            fluid.stop(flow)
            del self.sizes[flow]

    def begin(self) -> None:
        """One more flow, capped or not."""
        size, cap = self.rng.uniform(1, 60), self.rng.choice([math.inf, self.rng.uniform(5, 50)])
        sender, receiver = self.rng.sample(range(8), 2)
        flow = self.fluid.start(sender, receiver, size, cap)
        self.sizes[flow], self.carried[flow], self.caps[flow] = size, 0.0, cap

    def disturb(self) -> None:
        """A host becomes slow, a way is cut, a host is clogged, or all is well again."""
        host, other = self.rng.sample(range(8), 2)
        match self.rng.randrange(4):
            case 0:
                self.fabric.slow(host, self.rng.choice([0.1, 0.5, 1.0]))
            case 1:
                self.fabric.cut(host, other)
            case 2:
                self.fabric.clog(host)
            case _:
                self.mend()
        self.fluid.unsettle()

    def mend(self) -> None:
        """All is well again."""
        for host in range(8):
            self.fabric.unclog(host)
            self.fabric.slow(host, 1.0)
            for other in range(8):
                self.fabric.mend(host, other)
        self.fluid.unsettle()

    def check(self, just_settled: bool) -> None:
        """Links, caps and obstacles are heeded; between a change and the next settling rates are the old."""
        if just_settled:
            assert (self.fluid.loads() <= self.fabric.capacities * (1 + 1e-6)).all()
        for flow, sender, receiver in self.fluid.flows():
            assert self.fluid.rate(flow) <= self.caps[flow]
            if just_settled and not self.fabric.passes(sender, receiver):
                assert self.fluid.rate(flow) == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("settle_s", [0.0, 0.05])
def test_links_never_carry_more_than_they_can_and_no_byte_is_lost_or_made(seed: int, settle_s: float) -> None:
    turmoil = _Turmoil(seed, settle_s)
    begun = 0
    while begun < 150 or turmoil.sizes:
        settlings = turmoil.fluid.settlings
        turmoil.step()
        turmoil.check(turmoil.fluid.settlings > settlings)
        if begun == 150:
            continue
        if turmoil.rng.random() < 0.5:
            turmoil.begin()
            begun += 1
        if begun == 150:
            turmoil.mend()
        elif turmoil.rng.random() < 0.1:
            turmoil.disturb()
    assert turmoil.fluid.live == 0


def test_the_same_flows_go_the_same_way_each_time() -> None:
    def trace() -> list[tuple[int, float]]:
        rng = Random(7)
        at = fluid(hosts=10)
        for _ in range(50):
            sender, receiver = rng.sample(range(10), 2)
            at.start(sender, receiver, rng.uniform(1, 100))
        return list(run(at).items())

    assert trace() == trace()


def test_loads_count_every_link_of_a_path() -> None:
    fabric = Fabric([100.0] * 3, racks=[0, 1, 1], uplink_bytes_per_s=40.0)
    at = Fluid(fabric)
    at.start(0, 1, 100.0)
    at.start(0, 2, 100.0)
    at.advance(0.0)
    expected = np.zeros(len(fabric.capacities))
    for receiver in (1, 2):
        expected[fabric.path(0, receiver)] += 20.0
    finite = np.isfinite(fabric.capacities)
    np.testing.assert_allclose(at.loads()[finite], expected[finite])
