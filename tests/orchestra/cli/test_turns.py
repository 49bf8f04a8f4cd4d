"""Pauses, policies and places of the lost by command, against real processes on loopback."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from orchestra.cli import main
from tests.orchestra.cli.commands import PATIENCE_S, Cluster, cluster, end, first_line, one_line, run, start

SLOW = ("--port-rate", "8Mbit")
"""A megabyte a second."""
LONG = 30_000_000
"""Bytes that take so long at that rate that what moves them is always interrupted."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), ("n1", "n2", "n3"), *SLOW) as made:
        yield made


def known(made: Cluster) -> dict[str, Any]:
    done = made.run("status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wait_active(made: Cluster) -> str:
    """Wait until a transfer moves; its name."""
    give_up_s = monotonic() + PATIENCE_S
    while monotonic() < give_up_s:
        for name, its in known(made)["transfers"].items():
            if its["state"] == "active":
                return str(name)
    raise AssertionError("nothing moves")


def write_matrix(path: Path, matrix: dict[str, dict[str, int]]) -> str:
    path.write_text(json.dumps(matrix))
    return str(path)


def interrupted(process: "subprocess.Popen[str]") -> int:
    """Interrupt a command, and give its status."""
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    return process.returncode


@pytest.fixture(params=["broadcast", "shuffle"])
def moving(request: pytest.FixtureRequest, slow: Cluster, tmp_path: Path) -> Iterator[str]:
    """The name of a transfer that is under way."""
    if request.param == "broadcast":
        with (tmp_path / "file").open("wb") as file:
            file.truncate(LONG)
        process = slow.start("broadcast", "--file", str(tmp_path / "file"), "--transfer", "big")
    else:
        matrix = write_matrix(tmp_path / "m.json", {"n1": {"n2": LONG}})
        process = slow.start("shuffle", "--matrix", matrix)
    try:
        name = wait_active(slow)
        yield name
    finally:
        interrupted(process)


def test_a_transfer_is_paused_and_goes_on_by_command(slow: Cluster, moving: str) -> None:
    done = slow.run("pause", "--transfer", moving)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"paused {moving}\n", "")
    paused = known(slow)["transfers"][moving]
    assert (paused["state"], paused["granted_bytes_per_s"]) == ("paused", 0.0)
    assert "paused" in slow.run("status").stdout
    done = slow.run("resume", "--transfer", moving)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"resumed {moving}\n", "")
    resumed = known(slow)["transfers"][moving]
    assert resumed["state"] == "active"
    assert resumed["granted_bytes_per_s"] != 0.0


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_what_is_not_under_way_is_named(slow: Cluster, command: str) -> None:
    done = slow.run(command, "--transfer", "un/known")
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr) == f"orchestra {command}: no transfer 'un/known' is under way"


def test_the_policy_is_changed_by_command_quietly_where_asked(slow: Cluster) -> None:
    done = slow.run("policy", "bssi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "policy bssi\n", "")
    assert known(slow)["policy"] == "bssi"
    done = slow.run("policy", "fair", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    told = slow.run("status").stdout
    assert "policy fair" in told


def test_commands_hand_on_what_is_claimed(slow: Cluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"few bytes")
    claim = ("--priority", "-3", "--weight", "2.5")
    done = slow.run("broadcast", "--file", str(tmp_path / "file"), "--transfer", "claims", *claim)
    assert done.returncode == 0, done.stderr
    assert "--priority changes nothing now: the controller's policy is" in done.stderr
    assert "--weight changes nothing now: the controller's policy is" in done.stderr
    its = known(slow)["transfers"]["claims"]
    assert (its["priority"], its["weight"]) == (-3, 2.5)
    matrix = write_matrix(tmp_path / "m.json", {"n1": {"n2": 1000}})
    done = slow.run("shuffle", "--matrix", matrix, "--scheduling", "fair", "--json", "--flows", *claim)
    told = json.loads(done.stdout)
    assert told["scheduling"] == "fair"
    assert list(told["flow_completion_s"]) == ["n1"]
    its = known(slow)["transfers"][told["transfer"]]
    assert (its["mechanism"], its["priority"], its["weight"]) == ("fair", -3, 2.5)


def test_a_controller_begins_as_it_is_told() -> None:
    controller = start(
        *("controller", "--listen", "127.0.0.1:0"), *("--policy", "sebf", "--enforcement", "connections")
    )
    try:
        address = first_line(controller).removeprefix("listening on ")
        told = json.loads(run("status", "--controller", address, "--json").stdout)
        assert (told["policy"], told["enforcement"]["means"]) == ("sebf", "connections")
    finally:
        end(controller)


def test_a_killed_agents_place_goes_to_another_and_the_shuffle_is_done(tmp_path: Path) -> None:
    names = ("n1", "n2", "n3", "n4")
    with cluster(tmp_path, names, *SLOW) as made:
        matrix = write_matrix(tmp_path / "m.json", {"n1": {"n3": 8_000_000}, "n2": {"n3": 1_000_000}})
        running = made.start("shuffle", "--matrix", matrix, "--replace-lost", "--json")
        wait_active(made)
        made.agents["n1"].kill()
        out, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 0, err
        told = json.loads(out)
        assert told["replaced"] == {"n1": "n4"}
        assert list(told["reducer_completion_s"]) == ["n3"]


def test_without_replacing_a_killed_agent_is_named(tmp_path: Path) -> None:
    with cluster(tmp_path, ("n1", "n2", "n3"), *SLOW) as made:
        matrix = write_matrix(tmp_path / "m.json", {"n1": {"n2": LONG}})
        running = made.start("shuffle", "--matrix", matrix, "--json")
        wait_active(made)
        made.agents["n1"].kill()
        _, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 1
        assert "n1" in one_line(err)


def test_agents_spill_what_has_no_room_in_memory(tmp_path: Path) -> None:
    with cluster(tmp_path, ("n1",)) as made:
        small = start(
            *("agent", "--controller", made.address, "--name", "small", "--no-share"),
            *("--store-limit", "1MiB", "--spill", str(tmp_path / "spill"), "--spill-limit", "16MiB"),
        )
        try:
            assert first_line(small) == "joined as small"
            matrix = write_matrix(
                tmp_path / "m.json", {"n1": {"small": 5_000_000}, "small": {"n1": 6_000_000}}
            )
            done = made.run("shuffle", "--matrix", matrix, "--json")
            assert (done.returncode, done.stderr) == (0, "")
            assert set(json.loads(done.stdout)["reducer_completion_s"]) == {"n1", "small"}
            assert list((tmp_path / "spill").iterdir()) == []
        finally:
            end(small)


# -- wrong usage ---------------------------------------------------------------------------------------


def complaint(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """What is said of wrong usage."""
    try:
        status: object = main(arguments)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    return one_line(captured.err)


AT = ["--controller", "127.0.0.1:7000"]
CONTROLLER = ["controller", "--listen", "127.0.0.1:0"]
SHUFFLE = ["shuffle", *AT, "--matrix", "m.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*CONTROLLER, "--policy", "lottery"], ["--policy", "'lottery'", "fifo+", "dclas"]),
        ([*CONTROLLER, "--enforcement", "hope"], ["--enforcement", "'hope'", "auto", "connections"]),
        (["policy", *AT, "Fair"], ["name", "'Fair'", "weighted", "sebf"]),
        ([*SHUFFLE, "--scheduling", "lottery"], ["--scheduling", "'lottery'", "weighted", "fair"]),
        ([*SHUFFLE, "--priority", "1e3"], ["--priority", "'1e3'", "whole number"]),
        ([*SHUFFLE, "--priority", "9999999999"], ["--priority", "'9999999999'", "999999999"]),
        ([*SHUFFLE, "--weight", "-2"], ["--weight", "'-2'", "above 0"]),
        ([*SHUFFLE, "--weight", "inf"], ["--weight", "'inf'", "above 0"]),
        ([*SHUFFLE, "--weight", "1e9"], ["--weight", "from 1e-06 to 1e+06", "1000000000"]),
        (["pause", *AT, "--transfer", "../up"], ["--transfer", "../up"]),
        (["resume", *AT, "--transfer", ""], ["--transfer"]),
        (["agent", *AT, "--name", "a", "--spill-limit", "0"], ["--spill-limit", "'0'"]),
        (["agent", *AT, "--name", "a", "--spill-limit", "lots"], ["--spill-limit", "'lots'"]),
        (["agent", *AT, "--name", "a", "--spill-limit", "1MB"], ["--spill DIR", "--spill-limit SIZE"]),
        (["agent", *AT, "--name", "a", "--spill", "folder"], ["--spill DIR", "--spill-limit SIZE"]),
    ],
)
def test_a_bad_value_is_named_with_what_may_be_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: list[str]
) -> None:
    line = complaint(capsys, arguments)
    assert [word for word in said if word not in line] == [], line
