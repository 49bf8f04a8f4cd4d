"""The benchmark of the data path: what is made of its runs, and that it runs."""

import json
from pathlib import Path

import pytest

from examples.benchmarks import data_path
from examples.benchmarks.data_path import IPERF3, ORCHESTRA, SOCKETS, figures, measure, table, verdict
from examples.benchmarks.loopback.openmpi import VARIANTS, mpirun
from examples.benchmarks.loopback.processes import PeerFailed, Run, Talker, python
from examples.benchmarks.loopback.yardsticks import parse_iperf3, why_no_iperf3
from examples.benchmarks.systems.openmpi import SEGMENT_PARAMETER, SYSTEMS

GB = 1_000_000_000


def ours(seconds: float, ends_s: float, put_s: float, warm: float = 1.0) -> Run:
    cpu_s = {"controller": 0.5, "source": ends_s / 2, "n1": ends_s / 2}
    return Run(seconds, cpu_s, {"completion_s": seconds / 2, "put_cpu_s": put_s, "warm": warm})


def plain(seconds: float, ends_s: float) -> Run:
    return Run(seconds, {"sender": ends_s / 4, "receiver": 3 * ends_s / 4}, {})


RUNS = {
    IPERF3: [plain(1.0, 1.0), plain(2.0, 1.0), plain(4.0, 1.0)],
    SOCKETS: [plain(1.0, 0.5), plain(1.0, 1.0), plain(1.0, 2.0)],
    ORCHESTRA: [ours(2.0, 0.6, 0.15), ours(2.5, 1.1, 0.2), ours(8.0, 2.4, 0.4)],
}


def test_ratios_are_taken_within_each_round_and_leave_the_controller_out() -> None:
    row = figures(RUNS, 2 * GB)[ORCHESTRA]
    assert row["rate_ratio"] == pytest.approx(0.5)  # of 0.5, 0.8, 0.5
    assert row["moving_ratio"] == pytest.approx(1.0)
    assert row["cpu_ratio"] == pytest.approx(1.2)  # of 1.2, 1.1, 1.2
    assert row["cpu_ratio_with_put"] == pytest.approx(1.4)  # of 1.5, 1.3, 1.4
    assert row["cpu_s_per_gb"] == pytest.approx(0.55)
    assert row["cpu_s_per_gb_by_process"]["controller"] == pytest.approx(0.25)
    assert row["gb_per_s"] == pytest.approx(0.8)


def test_the_table_tells_every_system_and_fresh_memory() -> None:
    fresh = {**RUNS, ORCHESTRA: [ours(2.0, 0.6, 0.15, warm=0.0)] * 3}
    told = table(figures(fresh, 2 * GB), 2 * GB, 1, 3)
    assert all(name in told for name in RUNS)
    assert [line.endswith("(fresh memory)") for line in told.splitlines()] == [False] * 5 + [True]


def test_the_verdict_says_what_was_reached() -> None:
    said = verdict(figures(RUNS, 2 * GB)[ORCHESTRA])
    assert "0.50 x iperf3 (aim: at least 0.6): MISSED" in said
    assert "1.40 x plain sockets (aim: at most 1.3): MISSED" in said
    assert said.endswith("without the put 1.00 and 1.20")
    without = {name: runs for name, runs in RUNS.items() if name != IPERF3}
    assert "missing" in verdict(figures(without, 2 * GB)[ORCHESTRA])


def test_all_run_in_turn_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def mover(name: str) -> Run:
        order.append(name)
        return plain(float(len(order)), 1.0)

    runs = measure({"a": lambda: mover("a"), "b": lambda: mover("b")}, 2)
    assert order == ["a", "b"] * 3
    assert [run.seconds for run in runs["a"]] == [3.0, 5.0]


def test_a_report_of_iperf3_is_read() -> None:
    end = {
        "sum_received": {"seconds": 2.0},
        "cpu_utilization_percent": {"host_total": 50.0, "remote_total": 25.0},
    }
    run = parse_iperf3(json.dumps({"end": end}))
    assert run == Run(2.0, {"sender": 1.0, "receiver": 0.5}, {})


def test_ranks_of_mpi_share_no_memory() -> None:
    command = mpirun(5, {"some": "parameter"})
    assert command[command.index("btl") + 1] == "tcp,self"
    assert command[-3:] == ["--mca", "some", "parameter"]


def test_the_chain_of_mpi_has_larger_segments_than_on_shaped_links() -> None:
    assert SEGMENT_PARAMETER not in VARIANTS["Open MPI, default"]
    shaped = dict(next(system for system in SYSTEMS if system.name == "Open MPI, chain").tuning)
    assert (shaped[SEGMENT_PARAMETER], VARIANTS["Open MPI, chain"][SEGMENT_PARAMETER]) == ("32768", "131072")
    assert shaped.keys() == VARIANTS["Open MPI, chain"].keys()


def test_a_child_that_ends_early_is_named() -> None:
    with (
        Talker("the child", python("examples.benchmarks.loopback")) as child,
        pytest.raises(PeerFailed, match="the child ended early with status 1"),
    ):
        child.hear()


@pytest.mark.skipif(why_no_iperf3() is not None, reason="iperf3 is not installed")
def test_it_measures_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    assert data_path.main(["--size", "4MB", "--repeats", "1", "--json", str(path)]) == 0
    told = json.loads(path.read_text())
    assert told["systems"][ORCHESTRA]["rate_ratio"] > 0
    assert told["systems"][ORCHESTRA]["warm"]
    assert "x iperf3" in capsys.readouterr().out


def test_without_iperf3_the_exit_status_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_path, "why_no_iperf3", lambda: "iperf3 is not installed")
    assert data_path.main(["--size", "1MB", "--repeats", "1"]) == 1
    assert f"not here: {IPERF3}: iperf3 is not installed" in capsys.readouterr().out
