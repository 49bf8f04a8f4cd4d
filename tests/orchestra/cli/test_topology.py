"""``orchestra topology``: what it prints, and racks told, inferred and probed by real processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestra.cli.topology import plot_projection, topology_text
from tests.orchestra.cli.commands import cluster, one_line

INFERRED: dict[str, Any] = {
    "racks": [["a", "b"], ["c"]],
    "confidence": 0.912,
    "source": "inferred",
    "broadcasts": 4,
    "inferring": False,
    "believed": True,
    "unplaced": ["d"],
    "positions": {"a": [0.0, 1.0], "b": [0.1, 1.0], "c": [1.0, 0.0]},
}


def test_racks_are_told_line_by_line_and_what_is_odd_after_them() -> None:
    assert topology_text(INFERRED).splitlines() == [
        "2 racks, inferred from 4 broadcasts, confidence 0.91",
        "rack 1: a, b",
        "rack 2: c",
        "not placed yet: d",
    ]
    given = {
        "racks": [["a"]],
        "confidence": 1.0,
        "source": "given",
        "not_in_file": ["x"],
        "not_joined": ["y", "z"],
        "contradicting": ["a"],
    }
    assert topology_text(given).splitlines() == [
        "1 rack, given",
        "rack 1: a",
        "joined, but not in the file: x",
        "in the file, but not joined: y, z",
        "slow with its rack, so perhaps in another: a",
    ]


def test_nothing_known_is_said_as_such() -> None:
    assert topology_text({"source": "flat", "racks": [["a"]], "confidence": 0.0}).startswith("no racks")
    nothing = {"source": "inferred", "racks": [["a"]], "confidence": 0.0, "broadcasts": 1, "believed": False}
    assert topology_text(nothing).startswith("racks not inferred yet: 1 broadcast seen")


def test_the_projection_is_drawn(tmp_path: Path) -> None:
    plot_projection(INFERRED, tmp_path / "plane.png")
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")


def test_told_racks_and_what_does_not_agree_with_them(tmp_path: Path) -> None:
    (tmp_path / "racks.toml").write_text('front = ["n1", "n2"]\nback = ["n3", "away"]\n')
    with cluster(tmp_path, ("n1", "n2", "n3", "n4"), "--topology", str(tmp_path / "racks.toml")) as made:
        done = made.run("topology", "--json")
        assert done.returncode == 0, done.stderr
        known = json.loads(done.stdout)
        known["racks"] = [sorted(rack) for rack in known["racks"]]  # they join in any order
        assert known == {
            "racks": [["n1", "n2"], ["n3"]],
            "confidence": 1.0,
            "source": "given",
            "not_in_file": ["n4"],
            "not_joined": ["away"],
            "contradicting": [],
        }
        (tmp_path / "file").write_bytes(bytes(range(256)) * 4096)
        sent = made.run("broadcast", "--file", str(tmp_path / "file"), "--mechanism", "cornet", "--json")
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["failed"] == {}
        for name in ("n1", "n2", "n3", "n4"):
            assert (tmp_path / name / "file").read_bytes() == (tmp_path / "file").read_bytes()
        probed = made.run("topology", "--probe")
        assert probed.returncode == 2
        assert "--probe needs a controller that infers racks" in one_line(probed.stderr)


def test_a_probe_finds_out_that_one_host_is_one_rack(tmp_path: Path) -> None:
    with cluster(tmp_path, ("n1", "n2", "n3", "n4"), "--topology", "inferred") as made:
        plot = tmp_path / "plane.png"
        early = made.run("topology", "--plot", str(plot))
        assert early.returncode == 1
        assert "there is no projection yet" in one_line(early.stderr)
        assert not plot.exists()
        done = made.run("topology", "--probe", "--probe-size", "8MB", "--json")
        assert done.returncode == 0, done.stderr
        known = json.loads(done.stdout)
        assert known["source"] == "inferred"
        assert known["broadcasts"] >= 1
        assert sorted(name for rack in known["racks"] for name in rack) == ["n1", "n2", "n3", "n4"]
        assert "probe 1:" in done.stderr
        status = made.run("status", "--json")
        states = {its["state"] for its in json.loads(status.stdout)["transfers"].values()}
        assert states == {"released"}


@pytest.mark.parametrize(
    ("text", "message"), [("a = 1", "rack 'a'"), ("a = [", "racks.toml"), (None, "No such file")]
)
def test_a_bad_file_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    from orchestra.cli import main

    path = tmp_path / "racks.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["controller", "--listen", "127.0.0.1:0", "--topology", str(path)])
    assert ended.value.code == 2
    line = one_line(capsys.readouterr().err)
    assert "--topology" in line
    assert message in line
