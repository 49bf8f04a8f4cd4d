"""The picture of policies port by port: what is drawn is what was given."""

from pathlib import Path

import numpy as np
import pytest

from examples.policies_by_port import SECOND, coflows, course, draw, table
from schedulers import POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_every_byte_is_drawn_once_and_no_port_is_drawn_over_full(name: str) -> None:
    found = course(POLICIES[name])
    widths = np.diff(found.edges_s)
    for shuffle in coflows():
        drawn = found.parts[shuffle.name] @ widths
        sizes = shuffle.size_bytes / SECOND
        np.testing.assert_allclose(drawn[shuffle.egress], sizes.sum(axis=1))
        np.testing.assert_allclose(drawn[shuffle.ingress], sizes.sum(axis=0))
    assert np.sum(list(found.parts.values()), axis=0).max() <= 1 + 1e-9
    assert max(found.ends_s.values()) == pytest.approx(found.edges_s[-1])


def test_the_documents_table_is_what_is_computed() -> None:
    page = Path(__file__).parents[2] / "docs" / "scheduling.md"
    assert table({name: course(policy) for name, policy in POLICIES.items()}) in page.read_text()


def test_the_table_has_a_row_a_policy_and_the_picture_is_written(tmp_path: Path) -> None:
    courses = {name: course(POLICIES[name]) for name in ("fifo", "priority")}
    lines = table(courses).splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["fifo", "priority"]
    assert lines[2].startswith("| fifo | 5.00 s |"), "the first has the network for itself"
    draw(courses, tmp_path / "policies.png")
    assert (tmp_path / "policies.png").stat().st_size > 0
