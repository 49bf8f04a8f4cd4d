"""Reading the host's and the container's memory."""

from pathlib import Path

import pytest

from transfers.store import memory


def test_available_memory_is_not_more_than_there_is() -> None:
    available = memory.available_bytes()
    assert available is None or 0 < available <= memory.physical_bytes()


@pytest.mark.parametrize(
    ("cgroup_line", "folder", "limit", "use", "stat"),
    [
        ("0::/job", "job", "memory.max", "memory.current", "inactive_file 1000\n"),
        ("0::/seen/from/outside", "", "memory.max", "memory.current", "inactive_file 1000\n"),
        (
            "4:cpu,memory:/job",
            "memory/job",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "inactive_file 1\ntotal_inactive_file 1000\n",
        ),
    ],
)
def test_a_control_groups_limit_is_found(
    tmp_path: Path, cgroup_line: str, folder: str, limit: str, use: str, stat: str
) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(f"7:cpuset:/\nodd line\n{cgroup_line}\n")
    home = groups / folder
    home.mkdir(parents=True)
    (home / limit).write_text("5000000\n")
    (home / use).write_text("3000\n")
    (home / "memory.stat").write_text(stat)
    assert memory._group_limit_and_use(proc, groups) == (5_000_000, 2000)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_no_limit_is_no_limit(tmp_path: Path, limit: str) -> None:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("1")
    assert memory._group_limit_and_use(proc, tmp_path) is None


def test_where_nobody_says_nothing_is_guessed(tmp_path: Path) -> None:
    assert memory._host_available_bytes(tmp_path) is None
    assert memory._group_limit_and_use(tmp_path, tmp_path) is None


def test_available_memory_is_read_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2 kB\n")
    assert memory._host_available_bytes(tmp_path) == 2048
