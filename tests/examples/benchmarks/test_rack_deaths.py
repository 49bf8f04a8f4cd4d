"""The script of deaths in racks: its table, and one small run."""

import pytest

from examples.benchmarks import rack_deaths
from examples.benchmarks.figures import Series
from examples.benchmarks.rack_deaths import Death, table
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused


def test_the_table_has_what_each_death_cost() -> None:
    deaths = [
        Death(host, at, enters, 2.1 * cost)
        for at, host in enumerate(["h1", "h2"])
        for enters, cost in ((True, 1.2 + at / 10), (False, 1.1))
    ]
    told = table(1000, 500.0, Series((2.0, 2.1, 2.2), 0.5), deaths).splitlines()
    assert "S/W 2.00 s" in told[0]
    assert "2.10 s [2.00-2.20], 1.050 x S/W" in told[1]
    assert told[2].startswith("an entry point killed 2.62 s [2.52-2.73]: +25.0%, at most +30.0%")
    assert told[3].startswith("another host killed   2.31 s [2.31-2.31]: +10.0%, at most +10.0%")
    assert told[-1].split() == ["h2", "of", "rack", "2:", "entry", "+30.0%,", "other", "+10.0%"]


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--racks", "5,0"], ["--size", "-1"], ["--repeats", "0"]):
        check_refused(rack_deaths.main, wrong, capsys)


def test_it_says_that_hosts_cannot_be_emulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(rack_deaths.main, monkeypatch, capsys)


@NEEDS_HOSTS
def test_every_host_dies_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert rack_deaths.main(["--racks", "1,1", "--rate", "16Mbit", "--size", "1MB"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[-2:]] == ["h1", "h2"]
    assert all("entry" in line and "other" in line for line in told[-2:])
