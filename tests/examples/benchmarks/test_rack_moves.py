"""The script of hosts that move to other racks: its table, and one small run."""

import pytest

from examples.benchmarks import rack_moves
from examples.benchmarks.figures import Series
from examples.benchmarks.rack_moves import Move, table
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused


def test_the_table_counts_who_was_found_soon_and_says_what_was_said() -> None:
    moves = [
        Move("h1", (0, 2), [5.0, 11.0], True, ["topology: first"]),
        Move("h1", (2, 0), [5.0] * 4, True, ["topology: second"]),
        Move("h2", (1, 0), [5.0, 5.5], False, ["topology: third"]),
    ]
    told = table(1000, 500.0, Series((2.0, 2.1, 2.2), 0.5), moves).splitlines()
    assert "2.10 s [2.00-2.20]" in told[1]
    assert told[2] == "found within 3 broadcasts: 1 of 3"
    assert told[3] == "  h1    rack 1 to 3: found after 2 (5.00, 11.00 s)"
    assert [line.strip() for line in told[4::2]] == [
        f"topology: {what}" for what in ("first", "second", "third")
    ]
    assert "not found in 2" in told[7]


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--racks", "5,0"], ["--racks", "5"], ["--size", "-1"], ["--moves", "0"]):
        check_refused(rack_moves.main, wrong, capsys)


def test_it_says_that_hosts_cannot_be_emulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(rack_moves.main, monkeypatch, capsys)


@NEEDS_HOSTS
@pytest.mark.parametrize("right", [True, False])
def test_hosts_are_moved_from_where_racks_are_right_alone(
    right: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, few in (("TRAINING", 1), ("QUIET", 1), ("MOST", 1)):
        monkeypatch.setattr(rack_moves, name, few)
    for name in ("is_learnt", "is_exact"):  # so few nodes may be one rack to the controller
        monkeypatch.setattr(rack_moves, name, lambda *_: right)
    small = ["--racks", "2,2", "--rate", "16Mbit", "--size", "600kB", "--moves", "1"]
    assert rack_moves.main(small) == (0 if right else 1)
    told = capsys.readouterr()
    moves = 1 if right else 0
    assert told.out.splitlines()[2] == f"found within 3 broadcasts: {moves} of {moves}"
    assert ("were not believed in" in told.err) != right
