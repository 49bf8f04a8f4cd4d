"""Shuffles with a stopped reducer and a killed mapper: what counts as whole, and one small run of each."""

import argparse

import pytest

from examples.benchmarks import shuffle_faults
from examples.benchmarks.shuffle_faults import FAULTS, UNDISTURBED, Fault, Run, is_whole, table
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused

OPTIONS = argparse.Namespace(
    mappers=3, reducers=4, partition=16_000_000, store_limit=40_000_000, rate=6.25e6, repeats=1
)
KILLED = next(fault for fault in FAULTS if fault.kills)


def made(
    store_bytes: int = 32_000_000,
    arrived: int = 12,
    replaced: dict[str, str] | None = None,
    took_s: float = 10.0,
) -> Run:
    """One run."""
    return Run(took_s, 0.5, store_bytes, 65_000_000, 0, arrived, replaced or {})


@pytest.mark.parametrize(
    ("fault", "run", "whole"),
    [
        (UNDISTURBED[False], made(), True),
        (UNDISTURBED[False], made(store_bytes=40_000_001), False),
        (UNDISTURBED[False], made(arrived=11), False),
        (UNDISTURBED[False], made(replaced={"h1": "h8"}), False),
        (KILLED, made(replaced={"h1": "h8"}), True),
        (KILLED, made(), False),
    ],
)
def test_everything_has_to_come_within_the_stores_limit_and_the_dead_to_be_named(
    fault: Fault, run: Run, whole: bool
) -> None:
    assert is_whole(fault, run, OPTIONS) == whole


def test_the_table_tells_how_much_later_than_undisturbed_it_ended() -> None:
    runs = {fault: [made(took_s=12.0 if fault.stops else 10.0)] for fault in FAULTS}
    runs[KILLED] = [made(replaced={"h1": "h8"}, took_s=14.0)]
    lines = table(runs, OPTIONS).splitlines()
    assert "+2.0" in next(line for line in lines if line.startswith("reducer stopped "))
    assert "+4.0" in next(line for line in lines if line.startswith("mapper killed"))
    assert lines[-1].strip() == "h1 was lost, h8 put its partitions again"


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--mappers", "0"], ["--stopped", "0"], ["--partition", "50MB"], ["--repeats", "x"]):
        check_refused(shuffle_faults.main, wrong, capsys)


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(shuffle_faults.main, monkeypatch, capsys)


@NEEDS_HOSTS
def test_nothing_is_lost_on_links(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--mappers", "2", "--reducers", "2", "--partition", "2MB", "--store-limit", "3MB"]
    assert shuffle_faults.main([*small, "--rate", "16Mbit", "--stopped", "1.5", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count(" 4/4 ") == len(FAULTS)
    assert "h1 was lost" in out
