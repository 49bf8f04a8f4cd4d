"""Every command against real processes on loopback."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.cli import main
from orchestra.cli import running as running_module
from tests.orchestra.cli.commands import Cluster, cluster, end, first_line, one_line, run, start

AGENTS = ("n1", "n2", "n3")
CONTENT = bytes(range(256)) * 1700 + b"an odd end"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), AGENTS) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "content.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("mechanism", ["auto", "chain", "tree", "hdfs", "cornet"])
def test_broadcast_reaches_every_agents_folder(running: Cluster, file: Path, mechanism: str) -> None:
    name = f"folder/{mechanism}"
    done = running.run(
        *("broadcast", "--file", str(file), "--transfer", name, "--mechanism", mechanism),
        *("--block-size", "64KiB", "--wait-for", "3", "--json"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert list(told) == [
        *("transfer", "mechanism", "reason", "size_bytes", "block_size_bytes", "receivers"),
        *("completion_s", "node_completion_s", "failed"),
    ]
    assert (told["transfer"], told["size_bytes"], told["receivers"]) == (name, len(CONTENT), 3)
    assert told["mechanism"] == mechanism or mechanism == "auto"
    assert told["failed"] == {}
    assert set(told["node_completion_s"]) == set(AGENTS)
    assert told["completion_s"] == max(told["node_completion_s"].values()) > 0
    for agent in AGENTS:
        assert (running.folder / agent / name).read_bytes() == CONTENT


def test_broadcast_without_a_name_is_saved_under_the_files_own(running: Cluster, file: Path) -> None:
    done = running.run("broadcast", "--file", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 3 receivers" in done.stdout
    assert (running.folder / "n2" / "content.bin").read_bytes() == CONTENT


def test_an_empty_file_is_broadcast(running: Cluster, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    done = running.run("broadcast", "--file", str(tmp_path / "empty"), "--transfer", "nothing", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["size_bytes"] == 0
    assert (running.folder / "n1" / "nothing").read_bytes() == b""


def test_who_never_joins_is_named_in_failed(running: Cluster, file: Path) -> None:
    done = running.run(
        *("broadcast", "--file", str(file), "--transfer", "some", "--to", "n1,n9"),
        *("--timeout", "1", "--json"),
    )
    assert done.returncode == 1
    assert "n9" in one_line(done.stderr)
    told = json.loads(done.stdout)
    assert list(told["failed"]) == ["n9"]
    assert list(told["node_completion_s"]) == ["n1"]
    assert told["receivers"] == 2
    assert not (running.folder / "n2" / "some").exists()


def test_a_name_is_used_once_until_it_is_released(running: Cluster, file: Path) -> None:
    arguments = ("broadcast", "--file", str(file), "--transfer", "once")
    assert running.run(*arguments).returncode == 0
    again = running.run(*arguments)
    assert again.returncode == 1
    assert "release it first" in one_line(again.stderr)
    assert running.run("release", "--transfer", "once").returncode == 0
    assert running.run(*arguments).returncode == 0


def test_receive_writes_the_bytes_and_leaves_no_trace(running: Cluster, file: Path, tmp_path: Path) -> None:
    assert running.run("broadcast", "--file", str(file), "--transfer", "fetched").returncode == 0
    output = tmp_path / "new" / "output.bin"
    done = running.run("receive", "--transfer", "fetched", "--output", str(output))
    assert (done.returncode, done.stderr) == (0, "")
    assert output.read_bytes() == CONTENT
    assert [path.name for path in output.parent.iterdir()] == ["output.bin"]
    known = json.loads(running.run("status", "--json").stdout)
    assert set(known["nodes"]) == set(AGENTS)


def test_receive_of_what_never_comes_ends_in_time(running: Cluster, tmp_path: Path) -> None:
    output = tmp_path / "output.bin"
    output.write_bytes(b"as before")
    done = running.run("receive", "--transfer", "never", "--output", str(output), "--timeout", "0.5")
    assert done.returncode == 1
    assert "'never' has not arrived within 0.5 s" in one_line(done.stderr)
    assert output.read_bytes() == b"as before"


def test_receive_into_a_folder_is_wrong_usage(running: Cluster, tmp_path: Path) -> None:
    done = running.run("receive", "--transfer", "x", "--output", str(tmp_path))
    assert done.returncode == 2
    assert "--output" in one_line(done.stderr)


def test_release_of_an_unknown_transfer_fails(running: Cluster) -> None:
    done = running.run("release", "--transfer", "unheard/of")
    assert done.returncode == 1
    assert "'unheard/of'" in one_line(done.stderr)


def test_status_has_the_form_of_the_contract(running: Cluster, file: Path) -> None:
    assert running.run("broadcast", "--file", str(file), "--transfer", "shown").returncode == 0
    done = running.run("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    known = json.loads(done.stdout)
    assert list(known)[:3] == ["nodes", "transfers", "policy"]
    assert known["policy"] == "fair"
    assert set(known["nodes"]) == set(AGENTS)
    assert list(known["nodes"]["n1"]) == ["address", "host", "state"]
    assert known["nodes"]["n1"]["state"] == "joined"
    shown = known["transfers"]["shown"]
    assert list(shown)[:5] == ["kind", "mechanism", "state", "progress", "failed"]
    assert shown["completion_s"] > 0
    assert (shown["kind"], shown["state"], shown["progress"]) == ("broadcast", "done", 1.0)
    text = running.run("status").stdout
    assert "shown" in text
    assert "joined" in text


def test_shuffle_moves_what_the_matrix_says(running: Cluster, tmp_path: Path) -> None:
    matrix = {"n1": {"n2": 300_000, "n3": 0, "n1": 10}, "n2": {"n3": 200_001}}
    (tmp_path / "m.json").write_text(json.dumps(matrix))
    done = running.run("shuffle", "--matrix", str(tmp_path / "m.json"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert list(told) == ["transfer", "scheduling", "bytes", "completion_s", "reducer_completion_s"]
    assert (told["scheduling"], told["bytes"]) == ("weighted", 500_011)
    assert set(told["reducer_completion_s"]) == {"n1", "n2", "n3"}
    assert told["completion_s"] == max(told["reducer_completion_s"].values()) > 0
    text = running.run("shuffle", "--matrix", str(tmp_path / "m.json")).stdout
    assert "500.0 kB shuffled" in text
    assert "n3" in text


def test_shuffle_with_an_unknown_agent_names_it(running: Cluster, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"n1": {"n8": 1}, "n7": {"n1": 1}}')
    done = running.run("shuffle", "--matrix", str(tmp_path / "m.json"), "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "n7, n8" in one_line(done.stderr)


def test_a_bad_file_is_wrong_usage(running: Cluster, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        done = running.run("broadcast", "--file", str(path), "--json")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--file" in one_line(done.stderr)


def test_a_second_node_of_one_name_is_refused(running: Cluster) -> None:
    done = running.run("agent", "--name", "n1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "'n1'" in one_line(done.stderr)


def test_a_port_in_use_is_one_line(running: Cluster) -> None:
    done = run("controller", "--listen", running.address)
    assert (done.returncode, done.stdout) == (1, "")
    assert "address already in use" in one_line(done.stderr)


def test_another_secret_is_one_line(running: Cluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    done = running.run("status", "--token-file", str(tmp_path / "token"), "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "secret" in one_line(done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("controller", "--listen", "0.0.0.0:0"),
        ("status", "--controller", "192.0.2.1:7000"),
        ("agent", "--name", "a", "--controller", "127.0.0.1:7000", "--listen", "0.0.0.0"),
        ("broadcast", "--file", __file__, "--controller", "127.0.0.1:7000", "--listen", "192.0.2.1"),
    ],
)
def test_beyond_loopback_wants_a_secret(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    line = one_line(done.stderr)
    assert "--token-file" in line
    assert "--insecure" in line


def test_servers_end_cleanly_and_agents_take_their_leave(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    token = ("--token-file", str(tmp_path / "token"))
    controller = start("controller", "--listen", "127.0.0.1:0", *token)
    address = first_line(controller).removeprefix("listening on ")
    agents = {
        name: start("agent", "--controller", address, "--name", name, *token) for name in ("term", "int")
    }
    try:
        for name, agent in agents.items():
            assert first_line(agent) == f"joined as {name}"
        assert end(agents["term"], signal.SIGTERM) == 0
        assert end(agents["int"], signal.SIGINT) == 0
        known = json.loads(run("status", "--controller", address, *token, "--json").stdout)
        assert {name: node["state"] for name, node in known["nodes"].items()} == {
            "term": "left",
            "int": "left",
        }
    finally:
        assert end(controller, signal.SIGINT) == 0
        for agent in agents.values():
            if agent.poll() is None:
                end(agent, signal.SIGKILL)


def test_ctrl_c_takes_a_broadcast_back(tmp_path: Path) -> None:
    # 10 Mbit/s: 20 MB would take 16 s, and the command is interrupted when it is under way.
    file = tmp_path / "content.bin"
    file.write_bytes(bytes(20_000_000))
    with cluster(tmp_path, ("n1",), "--port-rate", "10Mbit") as made:
        sending = made.start("broadcast", "--file", str(file), "--transfer", "big")
        state = ""
        while state != "active":
            assert sending.poll() is None
            known = json.loads(made.run("status", "--json").stdout)
            state = known["transfers"].get("big", {}).get("state", "")
        sending.send_signal(signal.SIGINT)
        out, err = sending.communicate(timeout=30)
        assert (sending.returncode, out) == (130, "")
        assert "interrupted" in one_line(err)
        known = json.loads(made.run("status", "--json").stdout)
        assert known["transfers"]["big"]["state"] == "cancelled"
        assert list(known["nodes"]) == ["n1"]


def test_a_broadcast_ends_when_its_controller_dies(tmp_path: Path) -> None:
    file = tmp_path / "content.bin"
    file.write_bytes(bytes(20_000_000))
    with cluster(tmp_path, ("n1",), "--port-rate", "10Mbit") as made:
        sending = made.start("broadcast", "--file", str(file), "--transfer", "big", "--json")
        state = ""
        while state != "active":
            known = json.loads(made.run("status", "--json").stdout)
            state = known["transfers"].get("big", {}).get("state", "")
        made.controller.kill()
        _, err = sending.communicate(timeout=30)
        assert sending.returncode == 1
        assert "lost" in one_line(err)


def test_a_command_without_a_controller_says_so_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running_module, "COMMAND_CONNECT_TIMEOUT_S", 0.1)
    with socket.socket() as taken:  # bound but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        assert main(["status", "--controller", f"127.0.0.1:{taken.getsockname()[1]}"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "cannot connect" in one_line(captured.err)


def test_demo_compares_all_mechanisms(tmp_path: Path) -> None:
    done = run("demo", "--no-kmeans", "--size", "1MB", "--nodes", "2", "--output", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    for mechanism in ("chain", "tree", "hdfs", "cornet", "auto"):
        assert any(line.startswith(mechanism) and "MB/s" in line for line in done.stdout.splitlines())
    assert "map the one copy of this host" in done.stdout
