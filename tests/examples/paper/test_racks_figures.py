"""The scripts of figures 11 and 12: their tables, and one small run of each kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.benchmarks import rack_runs
from examples.benchmarks.rack_runs import Knows, Layout, RackRuns
from examples.paper import figure11, figure12
from examples.paper.figure11 import as_table
from examples.paper.figure12 import ellipse
from examples.paper.side_by_side import EMULATED, SIMULATED
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_refused


def test_the_source_is_one_more_host_of_its_rack() -> None:
    layout = Layout((5, 4, 3), 1, 1.0, 1.0)
    assert layout.host_racks == [5, 5, 3]
    assert layout.receivers == 12


def made(*times_s: float, busiest: int = 100) -> RackRuns:
    """Runs that took so long."""
    return RackRuns(list(times_s), [[(busiest, 0), (50, 10)]] * len(times_s), [1.0, 2.0])


def test_the_table_has_ratios_to_links_and_to_runs_that_knew_no_racks() -> None:
    its = {Knows.OBLIVIOUS: made(8.0, 9.0, 10.0), Knows.GIVEN: made(4.0, 4.5, 5.0, busiest=105)}
    its[Knows.INFERRED] = replace(made(4.5), said=["topology: something"])
    table = as_table(
        {(EMULATED, "first rack", 100): its}, ["Told."], {(EMULATED, "first rack", 100): (4.0, 4.2)}
    )
    rows = [line for line in table.splitlines() if line.startswith("| first")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[1][2:8] == ["given", "4.50 [4.00-5.00]", "1.125", "0.50", "0.50", "1.05"]
    assert cells[2][8] == "2"
    each = table.splitlines()
    assert "- first rack, 100 B, given: 4.00, 4.50, 5.00" in each
    assert each[each.index("- first rack, 100 B, inferred: 4.50") + 1].strip() == "- topology: something"


def test_believed_racks_are_compared_with_the_true_ones() -> None:
    runs = RackRuns(true_racks={"a": 0, "b": 0, "c": 1})
    for racks, exact in (
        ([["a", "b"], ["c"]], True),
        ([["c"], ["b", "a"]], True),
        ([["a", "b", "c"]], False),
        ([["a"], ["b"], ["c"]], False),
        ([["a", "c"], ["b"]], False),
    ):
        runs.topology = {"racks": racks}
        assert runs.exact == exact
    runs.topology = {"racks": [["a", "b"]], "unplaced": ["c"]}
    assert not runs.exact


def test_an_ellipse_is_two_standard_deviations_wide_and_never_nothing() -> None:
    points = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    drawn = ellipse(points, 0.1)
    assert sorted([drawn.width, drawn.height]) == [pytest.approx(0.4), pytest.approx(4.0)]
    assert ellipse(points[:1], 0.1).width == pytest.approx(0.4)


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--racks", "5,0,5"], ["--sizes", "-1"], ["--repeats", "0"]):
        check_refused(figure11.main, wrong, capsys)
    check_refused(figure12.main, ["--simulated-racks", "0"], capsys)


def test_given_and_inferred_racks_are_better_than_none_in_simulation(tmp_path: Path) -> None:
    small = ["--only", "simulated", "--simulated-racks", "4,4,4", "--simulated-size", "40MB"]
    assert figure11.main([*small, "--simulated-repeats", "1", "--output", str(tmp_path)]) == 0
    rows = [line for line in (tmp_path / "figure11.md").read_text().splitlines() if "| given |" in line]
    assert len(rows) == 2
    assert all(float(row.split("|")[6]) < 0.9 for row in rows)
    assert (tmp_path / "figure11.png").read_bytes().startswith(b"\x89PNG")


def test_nodes_are_put_in_the_plane_in_simulation(tmp_path: Path) -> None:
    small = ["--only", "simulated", "--simulated-racks", "5,5,5", "--simulated-size", "40MB"]
    assert figure12.main([*small, "--output", str(tmp_path)]) == 0
    assert f"## {SIMULATED.capitalize()}" in (tmp_path / "figure12.md").read_text()
    assert (tmp_path / "figure12.png").read_bytes().startswith(b"\x89PNG")


@NEEDS_HOSTS
def test_they_run_on_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rack_runs, "TRAINING", 1)  # so small broadcasts show nothing
    monkeypatch.setattr(figure11, "PLACES", (figure11.PLACES[0], figure11.ONE_SWITCH))
    small = ["--only", "emulated", "--racks", "2,1", "--rate", "16Mbit", "--output", str(tmp_path)]
    assert figure11.main([*small, "--sizes", "600kB", "--repeats", "1"]) == 0
    assert "## Emulated" in (tmp_path / "figure11.md").read_text()
    assert figure12.main([*small, "--size", "600kB"]) == 0
    assert (tmp_path / "figure12.png").exists()
