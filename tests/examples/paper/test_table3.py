"""The script of table 3: its topology, its figures, and one small run of each kind."""

from pathlib import Path

import pytest

from examples.paper import side_by_side, table3
from examples.paper.side_by_side import EMULATED, SIMULATED, Runs
from examples.paper.table3 import FAIR, FAIR_PACED, WEIGHTED, as_table, first_flow, speedup, topology
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_refused
from tests.examples.paper.made_up import done


def test_receivers_have_senders_of_their_own_and_share_one_with_as_much_as_all_of_these() -> None:
    matrix = topology(3, 10)
    assert len(matrix) == 7
    assert matrix["h9"] == {"h1": 30, "h2": 30}
    for receiver in ("h1", "h2"):
        assert sum(row.get(receiver, 0) for row in matrix.values()) == 60


def test_a_speedup_is_counted_as_in_the_paper() -> None:
    assert speedup(83.3, 70.6) == pytest.approx(0.18, abs=0.001)


def made(*took_s: float) -> Runs:
    """Shuffles whose first flow ends half-way."""
    flows = [{"h3": {"h1": each / 2}, "h4": {"h2": each}} for each in took_s]
    runs = [done("shuffle", each, flows_s=its) for each, its in zip(took_s, flows, strict=True)]
    return Runs([{"": {"shuffle": each}} for each in runs])


def test_the_table_has_medians_in_units_beside_theory_and_paper() -> None:
    found = {(EMULATED, 2, FAIR): made(9.0, 9.3, 9.2), (EMULATED, 2, FAIR_PACED): made(10.0, 10.2, 10.1)}
    found |= {(EMULATED, 2, setting): made(8.0, 8.5, 8.1) for setting in WEIGHTED}
    assert first_flow(found[EMULATED, 2, FAIR]).values == (0.5, 0.5, 0.5)
    lines = as_table(found, {EMULATED: 2.0, SIMULATED: 1.0}, []).splitlines()
    paced = [cell.strip() for cell in lines[-2].strip("|").split("|")]
    assert paced[:6] == ["2", "weighted, paced", "4.05 [4.00…4.25]", "4", "24.7%", "13.6%"]
    assert paced[6:9] == ["25.0%", "18%", "0.500 [0.500…0.500]"]
    assert "Simulated" not in lines[-5]


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--senders", "2,9"], ["--unit", "0"], ["--repeats", "-1"], ["--rate", "fast"]):
        check_refused(lambda given: table3.main([*given, "--only", "simulated"]), wrong, capsys)


def test_without_emulated_hosts_it_says_so_and_simulates_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(side_by_side, "why_not", lambda: "network namespaces need root")
    small = ["--senders", "2", "--simulated-unit", "3000000", "--output", str(tmp_path)]
    assert table3.main(small) == 0
    told = capsys.readouterr()
    assert "network namespaces need root" in told.err
    assert "## Simulated" in told.out
    assert "## Emulated" not in told.out
    with pytest.raises(SystemExit) as ended:
        table3.main([*small, "--only", "emulated"])
    assert ended.value.code == 2


@NEEDS_HOSTS
def test_weighted_shuffles_are_faster_on_links_and_there_is_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table3, "WEIGHTED", WEIGHTED[:1])
    small = ["--only", "emulated", "--senders", "2", "--unit", "1000000", "--rate", "16Mbit"]
    assert table3.main([*small, "--repeats", "1", "--output", str(tmp_path)]) == 0
    table = (tmp_path / "table3.md").read_text()
    assert table in capsys.readouterr().out
    assert table.count("| 2 |") == 3
    assert (tmp_path / "table3.png").read_bytes().startswith(b"\x89PNG")
