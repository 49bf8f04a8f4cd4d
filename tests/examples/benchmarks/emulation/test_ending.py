"""Nothing outlives a cluster: no process, no namespace, no interface."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.benchmarks.emulation import EmulatedCluster, why_not
from examples.benchmarks.emulation.guardian import processes_in

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no emulated hosts: {why_not()}")

ENDS_WITHIN_S = 10.0
"""The guardian's own limit."""


def interfaces() -> list[str]:
    """Of this process's own namespace."""
    return sorted(os.listdir("/sys/class/net"))


def held_somewhere(namespaces: set[tuple[int, int]]) -> bool:
    """Whether a process lives in one of them, or holds one open."""
    if processes_in(namespaces):
        return True
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                links = [os.stat(link) for link in (process / "fd").iterdir()]
            except OSError:
                continue
            if any((link.st_dev, link.st_ino) in namespaces for link in links):
                return True
    return False


def wait_until(true: Callable[[], bool]) -> bool:
    """Whether it becomes true in time."""
    give_up_at_s = time.monotonic() + ENDS_WITHIN_S
    while not true():
        if time.monotonic() > give_up_at_s:
            return False
        time.sleep(0.01)
    return True


def test_nothing_is_left_when_the_holder_is_killed() -> None:
    before = interfaces(), sorted(Path("/run").glob("netns/*"))
    command = [sys.executable, "-m", "tests.examples.benchmarks.emulation.holder"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        told = json.loads(holder.stdout.readline())
        namespaces = {(device, number) for device, number in told["namespaces"]}
        assert set(processes_in(namespaces)) >= set(told["processes"])
        holder.kill()
    assert wait_until(lambda: not held_somewhere(namespaces))
    assert (interfaces(), sorted(Path("/run").glob("netns/*"))) == before


def test_leaving_the_cluster_ends_whatever_runs_in_it() -> None:
    with EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster:
        held = os.stat(cluster.hosts[0].namespace_path)
        command = ["sh", "-c", "setsid sleep 600 & echo; trap '' TERM; sleep 600"]
        process = cluster.hosts[0].popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        namespace = {(held.st_dev, held.st_ino)}
        assert wait_until(lambda: len(processes_in(namespace)) >= 2)
    assert process.returncode == -9
    assert not held_somewhere(namespace)


def test_the_cluster_ends_when_its_block_fails() -> None:
    def block() -> None:
        with EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster:
            started.append(cluster.hosts[0].popen(["sleep", "600"]))
            raise KeyError

    started: list[subprocess.Popen[bytes]] = []
    with pytest.raises(KeyError):
        block()
    assert started[0].returncode == -9


def test_hosts_see_their_own_interface_and_nothing_of_the_machine() -> None:
    with EmulatedCluster(hosts=2, rate_bytes_per_s=1e6) as cluster:
        assert [(host.name, host.address) for host in cluster.hosts] == [
            ("h0", "10.77.0.1"),
            ("h1", "10.77.0.2"),
        ]
        process = cluster.hosts[1].popen(["cat", "/proc/self/net/dev"], stdout=subprocess.PIPE, text=True)
        seen = process.communicate()[0]
    assert sorted(line.partition(":")[0].strip() for line in seen.splitlines()[2:]) == ["eth0", "lo"]


def test_a_command_that_is_not_there_is_refused() -> None:
    with EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster:
        with pytest.raises(FileNotFoundError, match="no-such-command"):
            cluster.hosts[0].popen(["no-such-command"])
        with pytest.raises(ValueError, match="argv"):
            cluster.hosts[0].popen([])


def test_processes_are_not_started_from_threads_whose_end_would_kill_them() -> None:
    failures: list[BaseException] = []
    with EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster:

        def start() -> None:
            try:
                cluster.hosts[0].popen(["true"])
            except RuntimeError as refused:
                failures.append(refused)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    assert len(failures) == 1


def test_hosts_have_cubic_and_the_machines_list_stays_as_it_was() -> None:
    listed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    before = listed.read_text()
    with EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster:
        command = ["cat", "/proc/sys/net/ipv4/tcp_congestion_control"]
        process = cluster.hosts[0].popen(command, stdout=subprocess.PIPE, text=True)
        assert process.communicate()[0] == "cubic\n"
        assert listed.read_text() == before


def test_hosts_know_the_congestion_control_they_were_given() -> None:
    with EmulatedCluster(hosts=1, rate_bytes_per_s=1e6, congestion="reno") as cluster:
        command = ["cat", "/proc/sys/net/ipv4/tcp_congestion_control"]
        process = cluster.hosts[0].popen(command, stdout=subprocess.PIPE, text=True)
        assert process.communicate()[0] == "reno\n"
    with (
        pytest.raises(OSError, match="no-such-control"),
        EmulatedCluster(hosts=1, rate_bytes_per_s=1e6, congestion="no-such-control"),
    ):
        pass
