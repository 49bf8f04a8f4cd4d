"""The script that counts how often racks are inferred exactly."""

import pytest

from examples.benchmarks import rack_inference
from examples.benchmarks.rack_inference import Found, same, table
from tests.examples.benchmarks.scripts import check_refused


@pytest.mark.parametrize(
    ("racks", "exact"),
    [([0, 0, 1], True), ([1, 1, 0], True), ([0, 0, 0], False), ([0, 1, 2], False), ([0, 0, -1], False)],
)
def test_partitions_are_the_same_whatever_their_numbers(racks: list[int], exact: bool) -> None:
    assert same(racks, [5, 5, 7]) == exact


def test_the_table_counts_seeds_that_were_exact() -> None:
    seeds = [
        [Found(1, False, False, 0.3, 2), Found(10, True, False, 0.9, 3)],
        [Found(1, False, False, 0.2, 4), Found(10, True, True, 0.8, 3)],
    ]
    rows = [line.split() for line in table({"three": seeds}).splitlines()[1:]]
    assert rows[0] == ["three", "1", "0/2", "0/2", "2-4", "-", "0.30"]
    assert rows[1] == ["three", "10", "2/2", "1/2", "3-3", "0.80", "-"]


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--seeds", "0"], ["--layouts", "none"], ["--broadcasts", "1,0"], ["--unseen", "1"]):
        check_refused(rack_inference.main, wrong, capsys)


def test_two_racks_and_none_are_found_and_who_moves_between_two(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--seeds", "1", "--broadcasts", "3", "--blocks", "48", "--nodes", "40", "--move"]
    assert rack_inference.main([*small, "--layouts", "2 unequal,no racks"]) == 0
    rows = [line[15:].split() for line in capsys.readouterr().out.splitlines()[1:9]]
    broadcasts = ["3", "moved, 4", "moved, 5", "moved, 6", "3", "4", "5", "6"]
    assert [" ".join(row[:-5]) for row in rows] == broadcasts
    assert [row[-5] for row in rows[:1] + rows[3:]] == ["1/1"] * 6
