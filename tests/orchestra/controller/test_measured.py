"""What is known of links after broadcasts over known links, reported as nodes would."""

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from orchestra.controller.gauge import Gauge
from orchestra.controller.measured import ALIKE, MAX_LINKS, MAX_SAMPLES, Decaying, Measured
from orchestra.estimate import LinkEstimate
from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex, NodeName
from transfers.planners import Mechanism
from transfers.planners.events import Stored

BLOCK = 128 << 10
RATE = 6.25e6
NODES = [NodeName(name) for name in ("s", "n1", "n2", "n3", "n4")]
ADDRESSES = {name: f"10.0.0.{at}:7001" for at, name in enumerate(NODES, 1)}
LOOPBACK = {name: f"127.0.0.1:{7000 + at}" for at, name in enumerate(NODES, 1)}


def chain(
    rates: dict[str, float] | None = None,
    *,
    size_bytes: int = 8_000_000,
    nodes: list[NodeName] = NODES,
    at_s: float = 0.0,
    rng: Random | None = None,
    odd: tuple[str, int, float] | None = None,
) -> Gauge:
    """A chain over links of given rates, reports up to 20 ms late; ``odd`` is one block's own seconds."""
    layout = BlockLayout(size_bytes, BLOCK)
    gauge = Gauge(nodes[0], layout, at_s, Mechanism.CHAIN)
    rng = rng or Random(0)
    arrivals = [at_s + 0.03] * layout.count
    for sender, node in pairwise(nodes):
        rate = min((rates or {}).get(node, RATE), (rates or {}).get(sender, RATE))
        free_s, reports = 0.0, []
        for block in range(layout.count):
            seconds = layout.length(BlockIndex(block)) / rate
            if odd is not None and (node, block) == odd[:2]:
                seconds = odd[2]
            free_s = arrivals[block] = max(arrivals[block] + 0.001, free_s) + seconds
            reports.append((free_s + rng.uniform(0, 0.02), Stored(BlockIndex(block), sender, seconds)))
        for now, record in sorted(reports, key=lambda each: each[0]):
            gauge.note(node, (record,), now)
    return gauge


def after(*gauges: Gauge) -> Measured:
    measured = Measured()
    for at, gauge in enumerate(gauges):
        measured.learn(gauge, ADDRESSES, float(at))
    return measured


def link(measured: Measured) -> LinkEstimate:
    return measured.link_for([ADDRESSES[name] for name in NODES])


def test_before_anything_is_measured_links_are_assumed_or_told() -> None:
    assert link(Measured()) == LinkEstimate.unknown()
    assert link(Measured(port_rate_bytes_per_s=1e6)) == LinkEstimate.unknown(1e6)
    told = LinkEstimate(rate_bytes_per_s=3e6, start_s=0.5)
    assert link(Measured(told)) == told
    assert Measured().link_for(list(LOOPBACK.values())) == LinkEstimate.on_loopback()


@pytest.mark.parametrize("rate", [1e5, RATE, 1.2e8, 1.2e9])
def test_one_broadcast_tells_the_rate(rate: float) -> None:
    rates: dict[str, float] = dict.fromkeys(NODES, rate)
    known = link(after(chain(rates, size_bytes=64_000_000)))
    assert known.rate_bytes_per_s == pytest.approx(rate, rel=0.05)
    assert (
        known.slowest_in_bytes_per_s is known.slowest_out_bytes_per_s is known.source_rate_bytes_per_s is None
    )
    assert known.origin == "measured over 1 transfer"


def test_it_converges_on_noisy_reports() -> None:
    rng = Random(4)
    gauges = [chain({n: RATE * rng.uniform(0.9, 1.0) for n in NODES}, rng=rng) for _ in range(6)]
    known = link(after(*gauges))
    assert known.rate_bytes_per_s == pytest.approx(RATE * 0.95, rel=0.06)
    assert known.start_s == pytest.approx(0.04, abs=0.015)
    assert known.latency_s == pytest.approx(0.001, abs=0.008)
    assert known.origin == "measured over 6 transfers"


def test_one_block_that_hung_does_not_make_a_link_slow() -> None:
    known = link(after(chain(odd=("n2", 30, 2.5))))
    assert known.rate_bytes_per_s == pytest.approx(RATE, rel=0.05)
    assert known.slowest_in_bytes_per_s is None


def test_one_odd_broadcast_does_not_change_much_and_two_alike_do() -> None:
    slow: dict[str, float] = dict.fromkeys(NODES, RATE / 5)
    before = [chain() for _ in range(4)]
    assert link(after(*before, chain(slow))).rate_bytes_per_s == pytest.approx(RATE, rel=0.05)
    changed = link(after(*before, chain(slow), chain(slow), chain(slow), chain(slow)))
    assert changed.rate_bytes_per_s == pytest.approx(RATE / 5, rel=0.05)


def test_a_slow_link_is_told_from_the_others() -> None:
    known = link(after(chain({"n4": RATE / 5}), chain({"n4": RATE / 5})))
    assert known.rate_bytes_per_s == pytest.approx(RATE, rel=0.05)
    assert known.slowest_in_bytes_per_s == pytest.approx(RATE / 5, rel=0.05)
    without = after(chain({"n4": RATE / 5}), chain({"n4": RATE / 5}))
    assert without.link_for([ADDRESSES[name] for name in NODES[:-2]]).slowest_in_bytes_per_s is None


def test_a_slow_source_is_told_from_the_others() -> None:
    known = link(after(chain({"s": RATE / 4}), chain({"s": RATE / 4})))
    assert known.source_rate_bytes_per_s == pytest.approx(RATE / 4, rel=0.05)
    assert known.rate_bytes_per_s == pytest.approx(RATE, rel=0.05)


def test_links_that_are_nearly_alike_count_as_alike() -> None:
    known = link(after(*[chain({"n2": RATE * (1 - ALIKE / 2)}) for _ in range(3)]))
    assert known.slowest_in_bytes_per_s is None


def test_nothing_is_faster_than_the_port_rate() -> None:
    measured = Measured(port_rate_bytes_per_s=RATE / 2)
    measured.learn(chain(), ADDRESSES, 0.0)
    assert link(measured).rate_bytes_per_s == RATE / 2


def test_what_links_between_racks_may_have_held_up_says_only_what_ports_have_at_least() -> None:
    rates = {"n1": RATE / 2, "n3": RATE / 5, "n4": RATE / 8}
    measured = after(chain(rates), chain(rates))
    addresses = [ADDRESSES[name] for name in NODES]
    held_up = measured.link_for(addresses, may_be_held_up=True)
    assert link(measured).slowest_in_bytes_per_s == pytest.approx(RATE / 8, rel=0.05)
    assert held_up.rate_bytes_per_s == pytest.approx(RATE / 2, rel=0.05)
    assert held_up == replace(
        LinkEstimate.unknown(held_up.rate_bytes_per_s),
        start_s=link(measured).start_s,
        origin="measured over 2 transfers",
    )
    measured.forget_links()
    assert link(measured) == held_up
    assert measured.described()["slowest_bytes_per_s"] == measured.usual_rate_bytes_per_s
    assert measured.usual_rate_bytes_per_s == held_up.rate_bytes_per_s
    measured.forget_links()
    assert link(measured) == held_up
    measured.learn(chain(), ADDRESSES, 3.0)
    assert link(measured).rate_bytes_per_s == pytest.approx(RATE, rel=0.05)
    assert link(measured).slowest_in_bytes_per_s is None


@pytest.mark.parametrize("told", [{"told": LinkEstimate(3e6)}, {"port_rate_bytes_per_s": 3e6}])
def test_what_was_told_of_links_counts_while_they_may_be_held_up(told: dict[str, Any]) -> None:
    measured = Measured(**told)
    measured.learn(chain({"n3": RATE / 5}), ADDRESSES, 0.0)
    known = [measured.link_for([ADDRESSES[name] for name in NODES], may_be_held_up=True)]
    measured.forget_links()
    known.append(link(measured))
    assert [each.rate_bytes_per_s for each in known] == [3e6, 3e6]


def test_a_port_that_was_not_full_says_nothing_unless_it_is_more() -> None:
    # Two receivers of one source: each gets half, and their links may well be faster.
    layout = BlockLayout(4_000_000, BLOCK)
    gauge = Gauge(NODES[0], layout, 0.0, Mechanism.TREE)
    for block in range(layout.count):
        for node in NODES[1:3]:
            seconds = 2 * layout.length(BlockIndex(block)) / RATE
            gauge.note(node, (Stored(BlockIndex(block), NODES[0], seconds),), 0.03 + (block + 1) * seconds)
    measured = after(gauge)
    assert link(measured).rate_bytes_per_s == pytest.approx(RATE, rel=0.05)
    described = measured.described()
    assert described["spread"] == 0.0


def test_processes_of_one_host_share_it() -> None:
    measured = Measured()
    one = chain(dict.fromkeys(NODES, 8e8), size_bytes=64_000_000, nodes=NODES[:2])
    measured.learn(one, {name: LOOPBACK[name] for name in NODES[:2]}, 0.0)
    alone = measured.link_for(list(LOOPBACK.values())[:2])
    assert alone.rate_bytes_per_s == pytest.approx(8e8, rel=0.05)
    assert alone.origin == "measured over 1 transfer"
    together = measured.link_for(list(LOOPBACK.values()))
    assert together.origin == "assumed of loopback"
    measured.learn(chain(dict.fromkeys(NODES, 4e8), size_bytes=64_000_000), LOOPBACK, 1.0)
    known = measured.link_for(list(LOOPBACK.values())).shared_host_rate_bytes_per_s
    assert known is not None
    assert known > 8e8
    assert link(measured) == LinkEstimate.unknown()


def test_a_broadcast_that_moved_nothing_teaches_nothing() -> None:
    measured = Measured()
    measured.learn(Gauge(NODES[0], BlockLayout(100, 10), 0.0, Mechanism.CHAIN), ADDRESSES, 0.0)
    assert link(measured) == LinkEstimate.unknown()
    assert measured.described()["transfers"] == 0


def test_what_is_told_of_links_and_predictions() -> None:
    measured = after(chain())
    for error in (0.1, -0.3, 0.02):
        measured.note_prediction(error)
    measured.note_prediction(-0.4, small=True)
    told = measured.described()
    assert told["rate_bytes_per_s"] == pytest.approx(RATE, rel=0.05)
    assert told["hosts"] == 5
    assert told["transfers"] == 1
    assert told["predictions"] == 3
    assert told["median_prediction_error"] == pytest.approx(0.1)
    assert told["small_predictions"] == 1
    assert told["median_small_prediction_error"] == pytest.approx(0.4)
    nothing = Measured().described()
    assert nothing["rate_bytes_per_s"] is None
    assert nothing["median_prediction_error"] is None


def test_small_broadcasts_teach_their_own_start_on_their_own_kind_of_network() -> None:
    measured = Measured()
    measured.learn_small(0.008, ADDRESSES.values(), 0.0)
    assert link(measured).small_start_s == 0.008
    on_loopback = measured.link_for(list(LOOPBACK.values()))
    assert on_loopback.small_start_s == LinkEstimate().small_start_s
    measured.learn_small(-0.001, LOOPBACK.values(), 1.0)
    assert measured.link_for(list(LOOPBACK.values())).small_start_s == 0.0
    assert link(measured).small_start_s == 0.008


def test_no_more_links_are_kept_than_allowed() -> None:
    measured = Measured()
    for at in range(MAX_LINKS + 10):
        names = {NODES[0]: "10.9.9.9:1", NODES[1]: f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}:1"}
        measured.learn(chain(nodes=NODES[:2], size_bytes=600_000), names, 0.0)
    hosts = measured.described()["hosts"]
    assert isinstance(hosts, int)
    assert hosts <= MAX_LINKS + 1


def test_samples_fade_with_number_and_age() -> None:
    assert Decaying().value is None
    figure = Decaying()
    for value in (1.0, 1.0, 5.0):
        figure.add(value, 1.0, 0.0)
    assert figure.value == 1.0
    figure.add(5.0, 1.0, 0.0)
    assert figure.value == 5.0
    aged = Decaying()
    for value, at_s in ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (5.0, 86_400.0)):
        aged.add(value, 1.0, at_s)
    assert aged.value == 5.0
    for _ in range(3 * MAX_SAMPLES):
        aged.add(2.0, 1.0, 86_400.0)
    assert aged.value == 2.0


def test_a_short_sample_weighs_less_than_a_long_one() -> None:
    figure = Decaying()
    figure.add(1.0, 1.0, 0.0)
    figure.add(9.0, 0.05, 0.0)
    assert figure.value == 1.0
