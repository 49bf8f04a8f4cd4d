"""The side-by-side benchmark: who is measured, in what order, and what is said of it."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from examples.benchmarks import broadcasts, figures
from examples.benchmarks.broadcasts import Measured, Plan, measure, pick, plot, spread_over, table
from examples.benchmarks.emulation import EmulatedCluster, why_not
from examples.benchmarks.systems import all_systems

PLAN = Plan(
    receivers=16,
    size_bytes=32_000_000,
    rate_bytes_per_s=6.25e6,
    repeats=5,
    rounds=2,
    block_size_bytes=262_144,
    timeout_s=1.0,
    seed=1,
)


@dataclass
class Fake:
    """A system whose broadcasts take as long as it is told, or fail."""

    name: str
    time_s: float = 6.0
    failure: str = ""
    absent: str | None = None
    how: str = "as it is told"
    sittings: list[int] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def missing(self) -> str | None:
        return self.absent

    def broadcast(
        self, cluster: EmulatedCluster, size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        self.sittings.append(repeats)
        self.log.append(self.name)
        if self.failure:
            raise RuntimeError(self.failure)
        return [self.time_s + turn / 100 for turn in range(repeats)]


@pytest.fixture
def idle_share(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No hosts, and an idle share of the CPU that the test sets."""
    share = [0.5]

    @contextmanager
    def no_cluster(hosts: int, rate_bytes_per_s: float) -> Iterator[None]:
        yield None

    @contextmanager
    def no_watch(cluster: None) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(share=share[0])

    monkeypatch.setattr(broadcasts, "EmulatedCluster", no_cluster)
    monkeypatch.setattr(broadcasts, "IdleWhileMoving", no_watch)
    return share


def test_repeats_are_spread_over_the_rounds() -> None:
    assert spread_over(5, 2) == [3, 2]
    assert spread_over(2, 3) == [1, 1]
    assert spread_over(6, 1) == [6]


def test_the_bound_is_that_of_bar_noy_and_kipnis() -> None:
    assert PLAN.ideal_s == pytest.approx(5.12)
    assert PLAN.bound_s == pytest.approx(5.12 * (1 + 4 / 123))


@pytest.mark.usefixtures("idle_share")
def test_every_system_sits_in_every_round_in_a_drawn_order() -> None:
    log: list[str] = []
    systems = [Fake(name, log=log) for name in "abcdef"]
    results = measure(PLAN, systems)
    assert [result.name for result in results] == list("abcdef")
    assert all(system.sittings == [3, 2] for system in systems)
    assert all(len(result.times_s) == 5 for result in results)
    assert sorted(log[:6]) == sorted(log[6:]) == list("abcdef")
    assert log[:6] != log[6:]
    again: list[str] = []
    measure(PLAN, [Fake(name, log=again) for name in "abcdef"])
    assert again == log


@pytest.mark.usefixtures("idle_share")
def test_one_that_fails_is_not_tried_again_and_says_why() -> None:
    bad, good = Fake("bad", failure="h3\nended early"), Fake("good")
    results = measure(PLAN, [bad, good])
    assert bad.sittings == [3]
    assert len(results[1].times_s) == 5
    assert "failed: bad: h3 ended early" in table(PLAN, results, {})


def test_the_table_gives_median_extent_ratio_and_who_is_not_here() -> None:
    results = [
        Measured("slow", "x", times_s=[10.0, 11.0, 10.24, 10.5, 10.1], idle_shares=[0.4, 0.3]),
        Measured("quick", "y", times_s=[5.5, 5.4, 5.7], idle_shares=[0.8, math.nan]),
    ]
    lines = table(PLAN, results, {"other": "not installed"}).splitlines()
    assert "S/W = 5.120 s" in lines[1]
    assert "5.287 s" in lines[1]
    quick, slow = lines[4:6]
    assert quick.split() == ["quick", "5.500", "5.40-5.70", "1.07", "80%", "only", "3", "repeats"]
    assert slow.split() == ["slow", "10.240", "10.00-11.00", "2.00", "30%"]
    assert "not here: other: not installed" in lines


def test_a_figure_is_void_where_the_cpu_was_short_unless_the_system_polls() -> None:
    starved = Measured("a", "", times_s=[6.0], idle_shares=[0.5, 0.14])
    assert starved.void
    assert "void" in table(PLAN, [starved], {})
    assert not Measured("a", "", times_s=[6.0], idle_shares=[0.15]).void
    assert not Measured("a", "", times_s=[6.0], idle_shares=[math.nan]).void
    polling = Measured("a", "", polls=True, times_s=[6.0], idle_shares=[0.0])
    assert not polling.void
    assert "polls" in table(PLAN, [polling], {})


def test_systems_are_picked_by_the_beginnings_of_their_names() -> None:
    systems = [Fake("Open MPI, chain"), Fake("Orchestra, chain"), Fake("Orchestra, cornet")]
    assert pick(systems, "all") == systems
    assert pick(systems, "orchestra") == systems[1:]
    assert pick(systems, "orchestra ch,OpenMPI") == systems[:2]
    for wrong in ("", "orchestra,", "spark"):
        with pytest.raises(ValueError, match="systems must be the beginnings of names"):
            pick(systems, wrong)


def test_all_systems_have_names_of_their_own_and_say_how_they_are_set() -> None:
    systems = all_systems()
    assert len({system.name for system in systems}) == len(systems)
    assert all("\n" not in system.how and system.how for system in systems)
    assert {"Orchestra, cornet", "Orchestra, auto"} <= {system.name for system in systems}


@pytest.mark.usefixtures("idle_share")
def test_the_command_prints_writes_and_draws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    systems = (Fake("Orchestra, chain", 5.5), Fake("other", 20.0), Fake("absent", absent="not installed"))
    monkeypatch.setattr(broadcasts, "all_systems", lambda: systems)
    monkeypatch.setattr(figures, "why_not", lambda: None)
    written, picture = tmp_path / "b.json", tmp_path / "b.png"
    assert broadcasts.main(["--json", str(written), "--plot", str(picture)]) == 0
    assert "not here: absent: not installed" in capsys.readouterr().out
    told = json.loads(written.read_text())
    assert told["receivers"] == 16
    assert told["missing"] == {"absent": "not installed"}
    assert told["systems"]["other"]["median_s"] == 20.01
    assert told["systems"]["Orchestra, chain"]["ratio"] == pytest.approx(5.51 / 5.12)
    with Image.open(picture) as image:
        assert image.width > 1000


def test_a_picture_of_nothing_is_still_a_picture(tmp_path: Path) -> None:
    plot(PLAN, [Measured("a", "", failure="ended early")], tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--receivers", "0"], ["--repeats", "-1"], ["--timeout", "nan"], ["--systems", "nobody"]):
        with pytest.raises(SystemExit) as ended:
            broadcasts.main(wrong)
        assert ended.value.code == 2
        assert wrong[0].strip("-") in capsys.readouterr().err


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figures, "why_not", lambda: "network namespaces need root")
    assert broadcasts.main([]) == 2
    assert "network namespaces need root" in capsys.readouterr().err


@pytest.mark.skipif(why_not() is not None, reason=f"no emulated hosts: {why_not()}")
def test_orchestra_is_measured_on_real_links(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--receivers", "2", "--size", "1MB", "--rate", "32Mbit", "--repeats", "1"]
    assert broadcasts.main([*small, "--systems", "orchestra chain"]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("Orchestra, chain "))
    assert float(line.removeprefix("Orchestra, chain").split()[0]) >= 0.2
