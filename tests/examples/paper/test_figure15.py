"""The script of figure 15: its figures, and one small run of each kind."""

from pathlib import Path

import pytest

from examples.paper import figure15
from examples.paper.figure15 import FAIR, FIFO, FIFO_PLUS, as_table, mean, middle_completions_s, shuffles
from examples.paper.side_by_side import SIMULATED, Runs
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_refused
from tests.examples.paper.made_up import done


def made(*times_s: tuple[float, float, float, float]) -> Runs:
    """Runs of four shuffles each."""
    return Runs([{"": {str(at): done(str(at), took) for at, took in enumerate(its)}} for its in times_s])


def test_four_alike_come_one_right_after_another() -> None:
    jobs = shuffles(3, 300)
    assert len(jobs) == 4
    assert all(sum(row["h2"] for row in job.matrix.values()) == 300 for job in jobs)
    assert [job.at_s for job in jobs] == sorted({job.at_s for job in jobs})


def test_means_and_ratios_are_of_medians_over_runs() -> None:
    found = {
        (SIMULATED, FAIR): made((4, 4, 4, 4), (4, 4, 4, 4.4), (4, 4, 4, 4)),
        (SIMULATED, FIFO): made((1, 2, 3, 4), (2, 1, 3, 4), (1, 2, 3, 4)),
        (SIMULATED, FIFO_PLUS): made((1.2, 2.2, 3.2, 4), (1.2, 2.2, 3.2, 4)),
    }
    assert mean(found[SIMULATED, FIFO]).values == (2.5, 2.5, 2.5)
    assert middle_completions_s(found[SIMULATED, FIFO]) == [1, 2, 3, 4]
    table = as_table(found, [], {SIMULATED: 1.0})
    fifo = next(line for line in table.splitlines() if line.startswith("| FIFO |"))
    assert [cell.strip() for cell in fifo.strip("|").split("|")][1:7] == [
        *("2.50 [2.50-2.50]", "1.60", "1.60", "1.45", "4.00 [4.00-4.00]", "+0.0%")
    ]


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--agents", "0"], ["--size", "-1"], ["--seeds", "0"]):
        check_refused(figure15.main, wrong, capsys)


def test_one_after_another_is_better_on_average_in_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--only", "simulated", "--simulated-agents", "3", "--simulated-size", "100000000"]
    assert figure15.main([*small, "--output", str(tmp_path)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| FIFO |"))
    assert float(row.split("|")[3]) > 1.2
    assert (tmp_path / "figure15.png").read_bytes().startswith(b"\x89PNG")


@NEEDS_HOSTS
def test_it_runs_on_links(tmp_path: Path) -> None:
    small = ["--only", "emulated", "--agents", "3", "--size", "600000", "--rate", "16Mbit", "--repeats", "1"]
    assert figure15.main([*small, "--output", str(tmp_path)]) == 0
    assert "## Emulated" in (tmp_path / "figure15.md").read_text()
