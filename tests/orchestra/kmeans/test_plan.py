"""Who reduces for whom, and who has which rows."""

import math

from hypothesis import given
from hypothesis import strategies as st

from orchestra.kmeans.plan import Plan


@given(workers=st.integers(1, 200))
def test_there_are_sqrt_m_partial_reducers_with_about_sqrt_m_mappers_each(workers: int) -> None:
    plan = Plan(workers)
    reducers = [plan.reducer_of(index) for index in range(workers)]
    assert len(plan.reducers) == math.ceil(math.sqrt(workers))
    assert tuple(dict.fromkeys(reducers)) == plan.reducers
    assert set(plan.reducers) <= set(plan.names)
    sizes = [reducers.count(reducer) for reducer in plan.reducers]
    assert max(sizes) <= math.ceil(math.sqrt(workers))
    assert max(sizes) - min(sizes) <= 1


@given(workers=st.integers(1, 200))
def test_a_partial_reducer_is_of_its_own_group(workers: int) -> None:
    plan = Plan(workers)
    for reducer in plan.reducers:
        assert plan.reducer_of(plan.names.index(reducer)) == reducer


@given(workers=st.integers(1, 50), extra=st.integers(0, 500))
def test_every_row_has_one_worker_and_no_worker_is_idle(workers: int, extra: int) -> None:
    rows = workers + extra
    taken = [list(range(rows))[Plan(workers).rows_of(index, rows)] for index in range(workers)]
    assert [row for part in taken for row in part] == list(range(rows))
    sizes = [len(part) for part in taken]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
