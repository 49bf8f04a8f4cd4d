"""Ports over time: what is read off them, split into phases, and drawn."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from examples.benchmarks import port_trace
from examples.benchmarks.emulation import EmulatedCluster
from examples.benchmarks.figures import Series
from examples.benchmarks.port_trace import PortSampler, Trace, as_trace, phases, plot, table
from tests.examples.benchmarks.scripts import NEEDS_HOSTS, check_needs_hosts, check_refused, made_timing


def made_trace() -> Trace:
    """Two receivers for 1 s: half of the rate for 0.2 s, then all; one is done 0.1 s before the other."""
    spans = 10
    ingress = np.ones((3, spans))
    ingress[:, :2] = 0.5
    ingress[0] = 0.0
    ingress[1, 9] = 0.0
    egress = np.full((3, spans), 0.6)
    timing = made_timing(1.0, {"h1": 0.9, "h2": 1.0})
    return Trace(np.linspace(0.0, 1.0, spans + 1), ingress, egress, 0.85, timing)


def test_lost_time_is_split_into_ramp_up_plateau_and_tail() -> None:
    ramp, plateau, tail = phases(made_trace())
    assert ramp.begins_s == 0.0
    assert ramp.ends_s == pytest.approx(0.2)
    assert ramp.lost_s == pytest.approx(0.1)
    assert plateau.ingress == pytest.approx(1.0)
    assert plateau.egress == pytest.approx(0.6)
    assert tail.lasts_s == pytest.approx(0.1)
    assert tail.lost_s == pytest.approx(0.05)
    assert "11.8%" in table(made_trace(), Series((0.9,), 0.5))


def test_without_a_full_port_all_until_the_first_is_done_is_ramp_up() -> None:
    trace = made_trace()
    trace.ingress[:] = 0.5
    ramp, plateau, _ = phases(trace)
    assert ramp.ends_s == pytest.approx(0.9)
    assert plateau.lasts_s == 0.0


def test_readings_become_shares_of_each_hosts_own_link() -> None:
    sampler = PortSampler(cast(EmulatedCluster, None), 0.1)
    sampler.moments_s = [99.0, 100.0, 100.5, 101.0, 109.0]
    sampler.readings = [
        [(0, 0), (5, 5)],
        [(0, 0), (5, 5)],
        [(0, 100), (30, 5)],
        [(0, 100), (55, 5)],
        [(0, 0)] * 2,
    ]
    trace = as_trace(sampler, [200.0, 50.0], 1.0, made_timing(1.0))
    assert trace.edges_s.tolist() == [0.0, 0.5, 1.0]
    assert trace.ingress.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert trace.egress.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_all_of_the_broadcast_is_kept_where_readings_were_late() -> None:
    sampler = PortSampler(cast(EmulatedCluster, None), 0.1)
    sampler.moments_s = [99.0, 99.5, 100.5, 102.0, 103.0]
    sampler.readings = [[(0, 0)], [(0, 0)], [(50, 0)], [(100, 0)], [(100, 0)]]
    trace = as_trace(sampler, [100.0], 1.0, made_timing(1.0))
    assert trace.edges_s.tolist() == [-0.5, 0.5, 2.0]
    assert (trace.ingress * np.diff(trace.edges_s)).sum() == pytest.approx(1.0)


def test_a_trace_is_drawn(tmp_path: Path) -> None:
    plot(made_trace(), "a title", tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.width > 1000


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--receivers", "0"], ["--sample", "0"], ["--repeats", "0"], ["--block-size", "0"]):
        check_refused(port_trace.main, wrong, capsys)


def test_a_machine_without_namespaces_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_needs_hosts(port_trace.main, monkeypatch, capsys)


@NEEDS_HOSTS
def test_a_broadcast_is_traced_and_every_byte_is_seen(tmp_path: Path) -> None:
    figures, picture = tmp_path / "p.json", tmp_path / "p.png"
    small = ["--receivers", "2", "--size", "1MB", "--rate", "16Mbit", "--repeats", "1", "--sample", "0.05"]
    assert port_trace.main([*small, "--json", str(figures), "--plot", str(picture)]) == 0
    told = json.loads(figures.read_text())
    seen = np.array(told["ingress"])[1:] * np.diff(told["edges_s"]) * 2e6
    assert (seen.sum(axis=1) >= 1_000_000).all()
    assert picture.stat().st_size
