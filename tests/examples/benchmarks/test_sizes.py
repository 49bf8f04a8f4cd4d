"""Cornet by receivers and size: ratios, the bound beside them, and what more receivers cost."""

import json
from pathlib import Path

import pytest

from examples.benchmarks import sizes
from examples.benchmarks.figures import Series
from examples.benchmarks.sizes import Cell, growth, table
from examples.benchmarks.systems.orchestra import Orchestra
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused


def cell(receivers: int, completion_s: float, size_bytes: int = 32_000_000, rate: float = 6.25e6) -> Cell:
    """A measured cell."""
    return Cell(
        *(receivers, size_bytes, rate, 131_072),
        Series((completion_s, completion_s + 0.1, completion_s - 0.1), 0.5),
        Series((completion_s + 0.2,), 0.5),
    )


def test_a_cell_has_ratio_spread_and_bound() -> None:
    line = table([cell(16, 5.632)], Orchestra("cornet"), 3).splitlines()[-1]
    assert line.split()[-6:] == ["5.632", "5.53-5.73", "1.100", "1.004", "1.139", "50%"]


def test_the_bound_of_an_object_of_one_block_is_that_of_one_block() -> None:
    assert cell(4, 1.0, size_bytes=1000).bound_ratio == pytest.approx(3.0)


def test_growth_is_told_for_sizes_that_both_numbers_of_receivers_have() -> None:
    cells = [cell(8, 5.0), cell(16, 5.25), cell(8, 1.0, 4_000_000), cell(30, 9.0)]
    assert growth(cells) == ["", "32.0 MB: completion at 16 receivers +5.0% against 8"]
    assert growth([cell(8, 5.0), cell(16, 9.0, rate=2.5e6)]) == []


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--receivers", "4,0"], ["--sizes", "x"], ["--repeats", "0"], ["--block-size", "0"]):
        check_refused(sizes.main, wrong, capsys)


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(sizes.main, monkeypatch, capsys)


@NEEDS_HOSTS
def test_cells_are_measured_on_links_of_their_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sizes, "MANY_RECEIVERS", 3)
    small = ["--sizes", "500kB", "--rate", "32Mbit", "--large-rate", "16Mbit", "--repeats", "1"]
    assert sizes.main([*small, "--receivers", "2,3", "--json", str(tmp_path / "s.json")]) == 0
    assert "cornet" in capsys.readouterr().out
    cells = json.loads((tmp_path / "s.json").read_text())["cells"]
    assert [each["rate_bytes_per_s"] for each in cells] == [4e6, 2e6]
    assert all(each["completion_s"]["median"] * each["rate_bytes_per_s"] > 400_000 for each in cells)
