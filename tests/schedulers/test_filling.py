"""Max-min rates against a linear program, and against the definition by bottlenecks."""

from collections.abc import Callable
from random import Random
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog  # type: ignore[import-untyped]

from schedulers.filling import Bundles, Floats, Indices, Pairs, max_min_rates, port_levels

Filling: TypeAlias = Callable[[Indices, Floats, Floats | None], Floats]
Instance: TypeAlias = tuple[Indices, Floats, Floats | None]

HOPS = 4

_SLACK = 1e-7
"""A level found is lowered by this before it is demanded: the linear program's own tolerance."""
_GROWN = 1e-5
"""A rate that exceeds its level by this can grow: more than what all others' slack leaves to one."""
_CLOSE = 1e-4
"""Rates that differ by less are equal: what the two above may grow to over some rounds."""


# -- instances -----------------------------------------------------------------------------------


def padded(ways: list[list[int]], links: int, hops: int = HOPS) -> Indices:
    """Paths padded by the link after the last, which is endless."""
    return np.array([way + [links] * (hops - len(way)) for way in ways], dtype=np.intp).reshape(-1, hops)


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Up to eight flows of one to four links: some links closed, some endless, some flows capped."""
    links = draw(st.integers(1, 6))
    capacity = st.integers(0, 20).map(float) | st.just(0.0) | st.just(np.inf)
    capacities = np.array([*draw(st.lists(capacity, min_size=links, max_size=links)), np.inf])
    way = st.lists(st.integers(0, links - 1), unique=True, min_size=1, max_size=HOPS)
    ways = draw(st.lists(way, max_size=8))
    cap = st.integers(0, 10).map(float) | st.just(np.inf)
    caps = draw(st.none() | st.lists(cap, min_size=len(ways), max_size=len(ways)).map(np.array))
    return padded(ways, links), capacities, caps


def drawn_instance(seed: int, flows: int, links: int) -> Instance:
    """Flows over links by lot; one link in ten is closed or endless, half of the flows have caps."""
    rng = Random(seed)
    odd = {0: 0.0, 1: np.inf}
    capacities = np.array([odd.get(rng.randrange(20), float(rng.randint(1, 100))) for _ in range(links)])
    ways = [rng.sample(range(links), rng.randint(1, min(HOPS, links))) for _ in range(flows)]
    caps = np.array([float(rng.randint(1, 20)) if rng.random() < 0.5 else np.inf for _ in range(flows)])
    return padded(ways, links), np.append(capacities, np.inf), caps


# -- what is right -------------------------------------------------------------------------------


class _Program:
    """The rates that an instance allows, as a linear program over the flows that something limits."""

    def __init__(self, paths: Indices, capacities: Floats, caps: Floats | None) -> None:
        flows = len(paths)
        limits = np.full(flows, np.inf) if caps is None else caps
        crosses = (paths == np.arange(len(capacities))[:, None, None]).any(axis=2)
        limited = np.isfinite(capacities)
        self.crosses = crosses[limited].astype(float)
        self.capacities = capacities[limited]
        self.limits = limits
        self.bounded = np.isfinite(limits) | (self.crosses.sum(axis=0) > 0)

    def best(self, least: Floats, most: Floats, wanted: Floats, together: Floats | None = None) -> Floats:
        """Rates between ``least`` and ``most`` that maximise the sum of ``wanted`` times them.

        With ``together`` there is one more variable at the end, the level that those flows have at least, and
        it alone is maximised.
        """
        flows = len(self.limits)
        rows, limits = self.crosses, self.capacities
        bounds = [(low, high if np.isfinite(high) else None) for low, high in zip(least, most, strict=True)]
        if together is not None:
            above = np.hstack([-np.eye(flows)[together > 0], np.ones((int(together.sum()), 1))])
            rows = np.vstack([np.hstack([rows, np.zeros((len(rows), 1))]), above])
            limits = np.append(limits, np.zeros(len(above)))
            wanted = np.append(np.zeros(flows), 1.0)
            bounds.append((0.0, None))
        solved = linprog(-wanted, A_ub=rows, b_ub=limits, bounds=bounds, method="highs")
        assert solved.success, solved.message
        return np.asarray(solved.x)


def max_min_by_program(paths: Indices, capacities: Floats, caps: Floats | None) -> Floats:
    """The lexicographic maximum: raise the least rate, fix what cannot grow beyond it, and so on."""
    program = _Program(paths, capacities, caps)
    rates = np.where(program.bounded, 0.0, np.inf)
    free = program.bounded.copy()
    least, most = np.zeros(len(paths)), np.where(program.bounded, program.limits, 0.0)
    while free.any():
        level = program.best(least, most, np.zeros(len(paths)), together=free.astype(float))[-1]
        least[free] = max(level - _SLACK, 0.0)
        stuck = free.copy()
        while stuck.any():
            grown = program.best(least, most, stuck.astype(float)) > level + _GROWN
            if not (grown & stuck).any():
                break
            stuck &= ~grown
        assert stuck.any(), "something is always at its limit"
        rates[stuck] = level
        most[stuck] = np.minimum(most[stuck], level)
        least[stuck] = np.minimum(least[stuck], most[stuck])
        free &= ~stuck
    return rates


def check_against_program(filling: Filling, instance: Instance) -> None:
    """Whether a filling gives what the linear program gives."""
    np.testing.assert_allclose(filling(*instance), max_min_by_program(*instance), rtol=0, atol=_CLOSE)


def check_bottlenecks(filling: Filling, instance: Instance) -> None:
    """Rates are feasible, and each is at its cap or among the largest on a full link of its path.

    This is max-min fairness (Bertsekas and Gallager 1992, section 6.5.2), without computing it.
    """
    paths, capacities, caps = instance
    rates = filling(*instance)
    limits = np.full(len(paths), np.inf) if caps is None else caps
    assert (rates >= 0).all()
    assert (rates <= limits).all()
    finite = np.isfinite(rates)
    load = np.zeros(len(capacities))
    largest = np.zeros(len(capacities))
    for way, rate in zip(paths[finite], rates[finite], strict=True):
        for link in set(way):
            load[link] += rate
            largest[link] = max(largest[link], rate)
    assert (load <= capacities * (1 + 1e-6)).all()
    full = load >= capacities * (1 - 1e-6)
    for way, rate, limit in zip(paths, rates, limits, strict=True):
        if np.isinf(rate):
            assert np.isinf(limit)
            assert np.isinf(capacities[way]).all()
        elif rate < limit:
            assert any(full[link] and rate >= largest[link] * (1 - 1e-6) for link in way)


@settings(max_examples=60)
@given(instance=instances())
def test_rates_are_the_lexicographic_maximum(instance: Instance) -> None:
    check_against_program(max_min_rates, instance)


@pytest.mark.parametrize("seed", range(10))
def test_rates_of_drawn_instances_are_the_lexicographic_maximum(seed: int) -> None:
    check_against_program(max_min_rates, drawn_instance(seed, flows=25, links=10))


@given(instance=instances())
def test_every_flow_is_at_its_cap_or_has_a_bottleneck(instance: Instance) -> None:
    check_bottlenecks(max_min_rates, instance)


@pytest.mark.parametrize("seed", range(5))
def test_every_one_of_many_flows_is_at_its_cap_or_has_a_bottleneck(seed: int) -> None:
    check_bottlenecks(max_min_rates, drawn_instance(seed, flows=2000, links=300))


# -- levels of ports -------------------------------------------------------------------------------


def levels_of_pairs(weights: Floats, out: Floats, into: Floats, *, complete: bool = False) -> Floats:
    """The levels of flows between ports, shape (m, r)."""
    rows, columns = weights.shape
    ports = np.arange(rows + columns)
    pairs = Pairs(len(ports), ports[:rows], ports[rows:], None if complete else weights)
    capacities = np.concatenate([out, into])
    levels, left = port_levels(capacities, [pairs])
    found: Floats = np.minimum(levels[:rows, None], levels[rows:])
    carried = np.where(weights > 0, found, 0.0) * weights
    finite = np.isfinite(capacities)
    if np.isfinite(carried).all():
        used = np.concatenate([carried.sum(axis=1), carried.sum(axis=0)])
        np.testing.assert_allclose((capacities - used)[finite], left[finite], rtol=1e-9, atol=1e-6)
    return found


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Indices, Floats, Floats]:
    """Up to four rows and columns; how many equal flows are at each place, and what ports carry."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(0, 2), min_size=rows * columns, max_size=rows * columns))
    capacity = st.integers(0, 20).map(float) | st.just(0.0) | st.just(np.inf)
    out = np.array(draw(st.lists(capacity, min_size=rows, max_size=rows)))
    into = np.array(draw(st.lists(capacity, min_size=columns, max_size=columns)))
    return np.array(counts, dtype=np.intp).reshape(rows, columns), out, into


@settings(max_examples=60)
@given(matrices())
def test_levels_of_pairs_are_those_that_the_program_gives_each_of_their_flows(
    drawn: tuple[Indices, Floats, Floats],
) -> None:
    counts, out, into = drawn
    each = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
    paths = each + np.array([0, len(out)])
    expected = max_min_by_program(paths, np.concatenate([out, into]), None)
    levels = levels_of_pairs(counts.astype(np.float64), out, into)
    np.testing.assert_allclose(levels[tuple(each.T)], expected, rtol=0, atol=_CLOSE)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_levels_of_many_pairs_are_those_of_their_flows_as_paths(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    out, into = rng.uniform(0, 10, 40), rng.uniform(0, 10, 30)
    flows = rng.random((40, 30)) < share
    paths = np.argwhere(flows) + np.array([0, 40])
    rates = max_min_rates(paths, np.concatenate([out, into]))
    levels = levels_of_pairs(flows.astype(float), out, into, complete=share == 1)
    np.testing.assert_allclose(levels[flows], rates, rtol=1e-9)


@given(instance=instances(), data=st.data())
def test_every_bundle_has_a_full_port_on_which_no_level_is_above_its_own(
    instance: Instance, data: st.DataObject
) -> None:
    """Whatever multiple of their levels bundles use of ports."""
    paths, capacities, _ = instance
    ways = [sorted(set(way)) for way in paths.tolist()]
    if not ways:
        return
    crossings = np.array([link for way in ways for link in way], dtype=np.intp)
    multiples = st.lists(st.sampled_from([0.25, 1.0, 3.0]), min_size=len(crossings), max_size=len(crossings))
    usage = np.array(data.draw(multiples))
    bundles = Bundles(len(capacities), crossings, np.cumsum([0, *map(len, ways)]), usage)
    at_ports, left = port_levels(capacities, [bundles])
    levels = bundles.least(at_ports)
    whose = np.repeat(np.arange(len(ways)), [len(way) for way in ways])
    flowing = np.isfinite(levels)[whose]
    used = usage[flowing] * levels[whose[flowing]]
    load = np.bincount(crossings[flowing], weights=used, minlength=len(capacities))
    finite = np.isfinite(capacities)
    np.testing.assert_allclose((capacities - load)[finite], left[finite], rtol=1e-9, atol=1e-6)
    full = load >= capacities * (1 - 1e-6)
    for row, way in enumerate(ways):
        largest = {link: levels[whose[crossings == link]].max() for link in way}
        held = any(full[link] and levels[row] >= most * (1 - 1e-6) for link, most in largest.items())
        assert held if np.isfinite(levels[row]) else np.isinf(capacities[way]).all()


@given(matrices(), st.data())
def test_pairs_and_bundles_together_each_have_a_full_port_on_which_nobody_has_more(
    drawn: tuple[Indices, Floats, Floats], data: st.DataObject
) -> None:
    """And in rounds by hand, one port at a time, the same levels."""
    counts, out, into = drawn
    rows, ports = len(out), len(out) + len(into)
    capacities = np.concatenate([out, into])
    ways = data.draw(
        st.lists(st.lists(st.integers(0, ports - 1), unique=True, min_size=1), min_size=1, max_size=3)
    )
    crossings = np.array([port for way in ways for port in way], dtype=np.intp)
    multiples = st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=len(crossings), max_size=len(crossings))
    usage = np.array(data.draw(multiples))
    bundles = Bundles(ports, crossings, np.cumsum([0, *map(len, ways)]), usage)
    pairs = Pairs(ports, np.arange(rows), np.arange(rows, ports), counts.astype(np.float64))
    at_ports, _ = port_levels(capacities, [pairs, bundles])
    # Each user is a row of what it uses of every port, for a level of 1.
    users = [np.zeros(ports) for _ in range(int((counts > 0).sum()) + len(ways))]
    for user, (row, column) in zip(users, np.argwhere(counts), strict=False):
        user[[row, rows + column]] = counts[row, column]
    for place, (port, used) in enumerate(zip(crossings, usage, strict=True)):
        users[len(users) - len(ways) + int(np.searchsorted(bundles.bounds, place, side="right")) - 1][
            port
        ] = used
    expected = one_port_at_a_time(np.array(users), capacities)
    found = [at_ports[user > 0].min() for user in users]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def one_port_at_a_time(users: Floats, capacities: Floats) -> Floats:
    """Filling as the textbook has it: the port with the least share is full, its users stop, and so on."""
    levels, left = np.full(len(users), np.inf), capacities.copy()
    going = np.ones(len(users), dtype=bool)
    while True:
        used = users[going].sum(axis=0)
        shares = np.divide(left, used, out=np.full(len(left), np.inf), where=used > 0)
        port = int(np.argmin(shares))
        if np.isinf(shares[port]):
            return levels
        stop = going & (users[:, port] > 0)
        levels[stop] = shares[port]
        left = np.maximum(left - shares[port] * users[stop].sum(axis=0), 0.0)
        going &= ~stop


# -- names, order, scale ---------------------------------------------------------------------------


@given(instance=instances(), seed=st.integers(0, 1000))
def test_numbers_of_flows_links_and_hops_do_not_matter(instance: Instance, seed: int) -> None:
    paths, capacities, caps = instance
    rng = np.random.default_rng(seed)
    flows, links = rng.permutation(len(paths)), rng.permutation(len(capacities))
    renamed = np.empty_like(capacities)
    renamed[links] = capacities
    turned = links[paths[flows]][:, rng.permutation(HOPS)]
    rates = max_min_rates(turned, renamed, None if caps is None else caps[flows])
    np.testing.assert_allclose(rates, max_min_rates(paths, capacities, caps)[flows], rtol=1e-9, atol=1e-12)


@given(instance=instances(), factor=st.floats(1e-6, 1e10))
def test_capacities_and_caps_times_a_factor_give_rates_times_that_factor(
    instance: Instance, factor: float
) -> None:
    paths, capacities, caps = instance
    rates = max_min_rates(paths, capacities * factor, None if caps is None else caps * factor)
    np.testing.assert_allclose(rates, max_min_rates(paths, capacities, caps) * factor, rtol=1e-9, atol=0)


@given(instance=instances())
def test_arguments_are_left_as_they_are(instance: Instance) -> None:
    paths, capacities, caps = instance
    before = paths.copy(), capacities.copy(), None if caps is None else caps.copy()
    max_min_rates(paths, capacities, caps)
    np.testing.assert_array_equal(paths, before[0])
    np.testing.assert_array_equal(capacities, before[1])
    if caps is not None and before[2] is not None:
        np.testing.assert_array_equal(caps, before[2])


# -- small cases by hand ---------------------------------------------------------------------------


def test_no_flows_have_no_rates() -> None:
    assert max_min_rates(padded([], 2), np.array([1.0, 2.0, np.inf])).shape == (0,)


def test_what_one_flow_cannot_use_the_others_get() -> None:
    rates = max_min_rates(padded([[0], [0], [0, 1]], 2), np.array([9.0, 1.0, np.inf]))
    np.testing.assert_allclose(rates, [4.0, 4.0, 1.0])


def test_what_a_cap_leaves_the_others_get() -> None:
    caps = np.array([2.0, np.inf, np.inf])
    rates = max_min_rates(padded([[0], [0], [0]], 1), np.array([12.0, np.inf]), caps)
    np.testing.assert_allclose(rates, [2.0, 5.0, 5.0])


def test_bottlenecks_that_hang_on_each_other_in_a_row_are_found() -> None:
    """Each link is shared with the one before, and limited by what that one leaves."""
    links = 20
    ways = [[0], *[[link, link + 1] for link in range(links - 1)]]
    capacities = np.array([2.0 + link for link in range(links)] + [np.inf])
    check_against_program(max_min_rates, (padded(ways, links), capacities, None))


def test_closed_links_stop_their_flows_and_nobody_else() -> None:
    rates = max_min_rates(padded([[0, 1], [1]], 2), np.array([0.0, 6.0, np.inf]))
    np.testing.assert_array_equal(rates, [0.0, 6.0])


def test_flows_over_endless_links_have_their_caps_or_no_limit() -> None:
    rates = max_min_rates(padded([[0], [0]], 1), np.array([np.inf, np.inf]), np.array([3.0, np.inf]))
    np.testing.assert_array_equal(rates, [3.0, np.inf])


# -- would a mistake be seen? ------------------------------------------------------------------------


def textbook(
    paths: Indices, capacities: Floats, caps: Floats | None, *, links_a_round: int = 1, heed_caps: bool = True
) -> Floats:
    """Progressive filling, the tightest limit of all first; more than one link a round is a mistake."""
    flows = len(paths)
    limits = np.full(flows, np.inf) if caps is None or not heed_caps else caps
    left, rates, free = capacities.copy(), np.full(flows, np.inf), set(range(flows))
    while free:
        share = {}
        for link in range(len(capacities)):
            crossing = [flow for flow in free if link in paths[flow]]
            if crossing and np.isfinite(left[link]):
                share[link] = left[link] / len(crossing)
        tightest = sorted(share, key=lambda link: share[link])[:links_a_round]
        first = min(free, key=lambda flow: float(limits[flow]))
        if not tightest and np.isinf(limits[first]):
            break
        frozen = {}
        if not tightest or limits[first] < share[tightest[0]]:
            frozen[first] = float(limits[first])
        else:
            for link in tightest:
                for flow in sorted(free):
                    if link in paths[flow]:
                        frozen.setdefault(flow, min(share[link], float(limits[flow])))
        for flow, rate in frozen.items():
            rates[flow] = rate
            free.discard(flow)
            left[list(set(paths[flow]))] -= rate
        left = np.maximum(left, 0.0)
    return rates


def right(paths: Indices, capacities: Floats, caps: Floats | None) -> Floats:
    return textbook(paths, capacities, caps)


def without_caps(paths: Indices, capacities: Floats, caps: Floats | None) -> Floats:
    return textbook(paths, capacities, caps, heed_caps=False)


def one_link_too_many(paths: Indices, capacities: Floats, caps: Floats | None) -> Floats:
    return textbook(paths, capacities, caps, links_a_round=2)


def equal_shares(paths: Indices, capacities: Floats, caps: Floats | None) -> Floats:
    crossing = np.bincount(paths.ravel(), minlength=len(capacities))
    shares = np.asarray((capacities / np.maximum(crossing, 1))[paths].min(axis=1))
    return shares if caps is None else np.minimum(shares, caps)


def finds_fault(check: Callable[[Filling, Instance], None], filling: Filling) -> bool:
    """Whether a check complains about a filling on any of the drawn instances."""
    for seed in range(5):
        try:
            check(filling, drawn_instance(seed, flows=12, links=6))
        except AssertionError:
            return True
    return False


both_checks = pytest.mark.parametrize("check", [check_against_program, check_bottlenecks])


@both_checks
@pytest.mark.parametrize("wrong", [without_caps, one_link_too_many, equal_shares])
def test_a_wrong_filling_is_caught(check: Callable[[Filling, Instance], None], wrong: Filling) -> None:
    assert finds_fault(check, wrong)


@both_checks
def test_a_right_filling_passes(check: Callable[[Filling, Instance], None]) -> None:
    assert not finds_fault(check, right)
