"""Processes of one host against one process."""

import json
from pathlib import Path

import pytest

from examples.benchmarks import one_host
from examples.benchmarks.figures import Series
from examples.benchmarks.one_host import Compared, told
from tests.examples.benchmarks.scripts import check_refused


def test_the_ratio_is_that_of_the_medians_and_a_busy_cpu_makes_nothing_void() -> None:
    compared = Compared(
        Series((1.0, 2.0, 1.5), 0.1), Series((1.8, 1.2, 1.9), 0.0), Series((1.0,)), Series((1.1,))
    )
    assert compared.ratio == pytest.approx(1.2)
    assert compared.completion_ratio == pytest.approx(1.1)
    text = told(compared, 8)
    assert text.endswith("ratio 1.200, of completions 1.100 (aim of both: 1.3)")
    assert "void" not in text


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--processes", "0"], ["--size", "0"], ["--repeats", "-1"]):
        check_refused(one_host.main, wrong, capsys)


def test_all_processes_of_a_host_hold_the_object(tmp_path: Path) -> None:
    figures = tmp_path / "o.json"
    small = ["--processes", "3", "--size", "4MB", "--repeats", "1"]
    assert one_host.main([*small, "--json", str(figures)]) == 0
    compared = json.loads(figures.read_text())
    assert compared["one_s"]["median"] > 0
    assert compared["ratio"] == compared["all_s"]["median"] / compared["one_s"]["median"]
    of_completions = compared["all_completion_s"]["median"] / compared["one_completion_s"]["median"]
    assert compared["completion_ratio"] == of_completions
