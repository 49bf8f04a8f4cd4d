"""Lists on the command line, medians, and figures that are void."""

import argparse
import json
import math
from pathlib import Path

import pytest

from examples.benchmarks.figures import Series, listed, refuse_wrong, write_json


def test_a_series_tells_its_median_and_extent() -> None:
    series = Series((3.0, 1.0, 2.5), 0.4)
    assert series.median == 2.5
    assert series.extent() == "1.00-3.00"
    assert series.extent(0) == "1-3"
    assert series.idle == "40%"


def test_a_series_is_void_where_the_cpu_was_short() -> None:
    assert Series((1.0,), 0.14).void
    assert "void" in Series((1.0,), 0.14).idle
    assert not Series((1.0,), 0.15).void
    assert not Series((1.0,)).void
    assert Series((1.0,)).idle == "?"
    assert Series((1.0,), math.nan).as_json()["idle_share"] is None


def test_lists_are_read_part_by_part() -> None:
    assert listed(int)("4,8,16") == [4, 8, 16]
    with pytest.raises(ValueError, match="invalid literal"):
        listed(int)("4,,16")


@pytest.mark.parametrize("given", [["--count", "0"], ["--many-sizes", "3,-1"], ["--count", "nan"]])
def test_what_is_not_above_0_is_refused_by_its_name(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=float, default=1.0)
    parser.add_argument("--many-sizes", type=listed(int), default=[1])
    refuse_wrong(parser, parser.parse_args([]), "count", "many_sizes")
    with pytest.raises(SystemExit):
        refuse_wrong(parser, parser.parse_args(given), "count", "many_sizes")
    assert f"{given[0]} must be above 0" in capsys.readouterr().err


def test_figures_are_written_where_a_path_is_given(tmp_path: Path) -> None:
    write_json(None, {"a": 1})
    write_json(tmp_path / "f.json", {"a": 1})
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": 1}
