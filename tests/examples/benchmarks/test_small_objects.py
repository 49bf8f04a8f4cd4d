"""Small objects: what is told of first and following broadcasts, and of many at once."""

import json
import math
from pathlib import Path

import pytest

from examples.benchmarks import small_objects
from examples.benchmarks.small_many import Round, percentile, summary, told
from examples.benchmarks.small_objects import Measured, refilled, table
from tests.examples.benchmarks.scripts import (
    NEEDS_HOSTS,
    check_needs_hosts,
    check_refused,
    made_timing,
)

MEASURED = Measured(
    65_536,
    first=[made_timing(0.2)],
    following=[made_timing(0.13), made_timing(0.12), made_timing(0.14)],
    refilled_s=[0.001, 0.004],
)


def test_the_first_is_told_apart_and_the_others_stand_beside_the_aim() -> None:
    line = table([MEASURED], 6.25e6).splitlines()[-1].split()
    assert line[:4] == ["65.5", "kB", "100.0", "200.0"]
    assert line[4:8] == ["30.0", "20.0-40.0", "130.0", "120.0-140.0"]
    assert line[8:] == ["2.86", "36.5", "cornet"]


def test_without_links_there_is_no_ratio() -> None:
    assert table([MEASURED], None).splitlines()[-1].split()[-2:] == ["120.0-140.0", "cornet"]


def test_the_longest_time_to_fill_again_is_told_but_no_more_than_the_bucket() -> None:
    assert "4.0 ms: up to 25.0 kB" in refilled([MEASURED], 6.25e6, 72_000)
    assert "up to 10.0 kB" in refilled([MEASURED], 6.25e6, 10_000)


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_many_are_summed_up_over_rounds() -> None:
    rounds = [
        Round([0.1, 0.2], 1.0, 1.2, 1.0, 1.0, {}),
        Round([0.3], 1.0, 1.4, 1.0, 0.5, {"TransferRefused": 1}),
    ]
    figures = summary(rounds, 2)
    assert figures["rate_per_s"]["median"] == 1.5
    assert figures["latency_max_s"] == 0.3
    assert figures["through"] == 0.75
    text = told(figures, 3, 2, 1_000_000, 2)
    assert "1.300 s beside them (+30%)" in text
    assert "not through: 1 by TransferRefused" in text


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--receivers", "0"], ["--sizes", "1KiB,0"], ["--burst", "9000"], ["--many", "0"]):
        check_refused(small_objects.main, wrong, capsys)


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(small_objects.main, monkeypatch, capsys)


@NEEDS_HOSTS
def test_a_small_object_crosses_links_with_drained_buckets(tmp_path: Path) -> None:
    figures = tmp_path / "s.json"
    small = ["--receivers", "2", "--sizes", "64KiB", "--rate", "8Mbit", "--burst", "10kB"]
    assert small_objects.main([*small, "--repeats", "2", "--rounds", "1", "--json", str(figures)]) == 0
    (told_of_it,) = json.loads(figures.read_text())["sizes"]
    assert told_of_it["elapsed_s"]["median"] > (65_536 - 20_000) / 1e6
    assert len(told_of_it["completion_s"]["values"]) == 2


def test_loopback_needs_no_links(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--loopback", "--receivers", "2", "--sizes", "1KiB", "--repeats", "1", "--rounds", "1"]
    assert small_objects.main(small) == 0
    assert "x S/W" not in capsys.readouterr().out


def test_many_at_once_all_get_through(tmp_path: Path) -> None:
    figures = tmp_path / "m.json"
    small = ["--many", "20", "--receivers", "2", "--big", "8MB", "--repeats", "1"]
    assert small_objects.main([*small, "--json", str(figures)]) == 0
    told_of_them = json.loads(figures.read_text())
    assert told_of_them["through"] == 1.0
    assert not told_of_them["refused"]
    assert told_of_them["latency_p99_s"] >= told_of_them["latency_median_s"] > 0
