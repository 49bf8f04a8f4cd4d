"""Is the right mechanism chosen: the comparison, and the script on a small scale."""

import json
import math
from pathlib import Path

import pytest

from examples.benchmarks import choices
from examples.benchmarks.choice_cells import AUTO, MECHANISMS, Cell, Sent, summary, table, within_bounds
from examples.benchmarks.choices_simulated import learnt
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused


def sent(mechanism: str, completion_s: float, predicted_s: float | None = None) -> Sent:
    return Sent(mechanism, 65_536, completion_s, completion_s + 0.02, predicted_s)


def cell(auto_s: float, predicted_s: float = 1.0, receivers: int = 4, idle_share: float = 0.5) -> Cell:
    """A cell in which the chain is best with a second."""
    made = Cell(receivers, 1_000_000, 6.25e6, idle_shares=[idle_share])
    for at, mechanism in enumerate(MECHANISMS):
        made.sent[mechanism] = [sent(mechanism, 1.0 + at, 1.0 + at)] * 3
    made.sent[AUTO] = [sent("chain", auto_s, predicted_s), sent("tree", auto_s, predicted_s)]
    made.sent[AUTO].append(sent("chain", auto_s, predicted_s))
    return made


def test_the_choice_is_compared_with_the_best() -> None:
    its = cell(1.2)
    assert its.best == "chain"
    assert its.off == pytest.approx(0.2)
    assert its.taken() == "chain/tree"


def test_the_summary_counts_cells_and_names_the_worst() -> None:
    text = summary([cell(1.05), cell(1.2, receivers=8), cell(0.95)])
    assert "within 10% of the best in 2 of 3 cells; worst +20.0% (1.0 MB to 8)" in text
    assert "of auto: median error 5.3% of 9" in text
    assert "as asked: median error 0.0% of 36" in text


def test_bounds_are_kept_or_not() -> None:
    right = [cell(1.0)] * 14
    assert within_bounds([*right, cell(1.2)])
    assert not within_bounds([*right, cell(1.3)])
    assert not within_bounds([*right[:-1], cell(1.2), cell(1.2)])
    assert not within_bounds([cell(1.0, predicted_s=1.2)] * 15)


def test_a_cell_is_void_where_the_cpu_was_busy_but_not_where_nobody_knows() -> None:
    assert cell(1.0, idle_share=0.14).void
    assert not cell(1.0, idle_share=0.15).void
    assert not cell(1.0, idle_share=math.nan).void


def test_void_cells_are_counted_apart() -> None:
    text = summary([cell(1.05), cell(1.2, receivers=8), cell(3.0, predicted_s=9.0, idle_share=0.1)])
    assert "in 1 of 2 cells; worst +20.0% (1.0 MB to 8)" in text
    assert "of auto: median error 10.7% of 6" in text
    assert text.endswith("1 of 3 cells void: too little CPU was left")
    assert "void" not in summary([cell(1.05)])
    assert "in 0 of 0 cells; 1 of 1 cells void" in summary([cell(1.0, idle_share=0.1)])


def test_a_void_cell_counts_as_one_in_which_the_choice_is_not_right() -> None:
    right, void = [cell(1.0)] * 13, cell(3.0, predicted_s=9.0, idle_share=0.1)
    assert within_bounds([*right, cell(1.0), void])
    assert within_bounds([cell(1.0), void])
    assert not within_bounds([*right, cell(1.2), void])
    assert not within_bounds([*right, cell(1.0, idle_share=0.1), void])
    assert not within_bounds([void])


def test_hopeless_is_who_was_tried_and_is_far_from_the_best() -> None:
    its = cell(1.0)
    assert its.hopeless("tree", 1.3, 2)
    assert not its.hopeless("chain", 1.3, 2)
    assert not its.hopeless(AUTO, 1.3, 2)
    assert not its.hopeless("tree", 1.3, 4)


def test_the_table_has_a_line_a_cell() -> None:
    its = cell(1.2)
    del its.sent["hdfs"][1:]
    its.idle_shares = [0.5, math.nan, 0.25]
    line = table([its]).splitlines()[1]
    assert "1.000 (1.00-1.00)" in line
    assert " of 1" in line
    assert "chain/tree 64 KiB    1.200 !" in line
    assert line.endswith("17%    1.220       38%")


def test_the_table_and_the_figures_mark_a_void_cell() -> None:
    void = cell(1.2, idle_share=0.1)
    assert table([cell(1.2), void]).splitlines()[2].endswith("10% void")
    assert [each.as_json()["void"] for each in (cell(1.2), void)] == [False, True]


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--receivers", "4,0"], ["--sizes", "x"], ["--repeats", "0"]):
        check_refused(choices.main, wrong, capsys)


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(choices.main, monkeypatch, capsys)


@pytest.mark.parametrize("rate", [6.25e6, 125e6])
def test_a_controller_learns_the_rate_of_simulated_links(rate: float) -> None:
    link = learnt(3, rate)
    assert link.rate_bytes_per_s == pytest.approx(rate, rel=0.1)
    assert link.slowest_in_bytes_per_s is link.slowest_out_bytes_per_s is link.source_rate_bytes_per_s is None
    assert link.origin.startswith("measured over")


def test_simulated_cells_are_told_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--simulated", "--sizes", "1MB", "--receivers", "1,4", "--repeats", "2"]
    files = ["--json", str(tmp_path / "c.json"), "--plot", str(tmp_path / "c.png")]
    assert choices.main([*small, *files]) == 0
    assert "in 2 of 2 cells" in capsys.readouterr().out
    told = json.loads((tmp_path / "c.json").read_text())
    assert [each["receivers"] for each in told["cells"]] == [1, 4]
    assert set(told["cells"][0]["sent"]) == {*MECHANISMS, AUTO}
    assert (tmp_path / "c.png").stat().st_size > 0


@NEEDS_HOSTS
def test_emulated_cells_have_times_and_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--sizes", "500kB", "--receivers", "2", "--rate", "32Mbit", "--repeats", "1"]
    choices.main([*small, "--json", str(tmp_path / "c.json")])
    assert "auto within 10%" in capsys.readouterr().out
    (only,) = json.loads((tmp_path / "c.json").read_text())["cells"]
    for mechanism in (*MECHANISMS, AUTO):
        (each,) = only["sent"][mechanism]
        assert each["completion_s"] > 0
        assert each["predicted_s"] > 0
