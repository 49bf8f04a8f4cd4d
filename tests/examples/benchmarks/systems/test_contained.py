"""Children on emulated hosts: what is a host's own, how they are heard, and how they end."""

import os
import sys
import time

import pytest

from examples.benchmarks.emulation import EmulatedCluster, why_not
from examples.benchmarks.systems.contained import Child, PeerFailed

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no emulated hosts: {why_not()}")

SOON_S = 20.0
DAEMON = """
import json, os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(json.dumps({"namespace": os.stat("/proc/self/ns/pid").st_ino}), flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""
SAY_HOST = """
import json, os, socket
said = {"host": socket.gethostname(), "shm": os.listdir("/dev/shm"), "pid": os.getpid()}
print(json.dumps(said), flush=True)
open("/dev/shm/mine", "w").close()
input()
"""
ECHO = """
import sys
print("just talk", flush=True)
for line in sys.stdin:
    print("heard", line.strip(), file=sys.stderr, flush=True)
    print(line, end="", flush=True)
"""


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def soon() -> float:
    return time.monotonic() + SOON_S


def test_a_child_answers_and_its_other_talk_is_passed_over() -> None:
    with (
        EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster,
        Child(cluster.hosts[0], python(ECHO)) as child,
    ):
        child.tell(do="this", size_bytes=3)
        assert child.hear(soon()) == {"do": "this", "size_bytes": 3}


def test_what_a_child_has_said_is_kept_and_reading_it_disturbs_nothing() -> None:
    with (
        EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster,
        Child(cluster.hosts[0], python(ECHO)) as child,
    ):
        said = []
        for number in range(2):
            child.tell(number=number)
            child.hear(soon())
            said.append(child.said().splitlines())
    assert sorted(said[0]) == ['heard {"number": 0}', "just talk"]
    assert sorted(said[1]) == ['heard {"number": 0}', 'heard {"number": 1}', "just talk"]


def test_hosts_have_names_and_shared_memory_of_their_own() -> None:
    with (
        EmulatedCluster(hosts=2, rate_bytes_per_s=1e6) as cluster,
        Child(cluster.hosts[0], python(SAY_HOST)) as first,
    ):
        assert first.hear(soon()) == {"host": "h0", "shm": [], "pid": 1}
        with Child(cluster.hosts[1], python(SAY_HOST)) as second:
            assert second.hear(soon()) == {"host": "h1", "shm": [], "pid": 1}


def test_what_a_child_has_left_behind_ends_with_it() -> None:
    with EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster:
        with Child(cluster.hosts[0], python(DAEMON)) as child:
            namespace = child.hear(soon())["namespace"]
            assert processes_in(namespace)
        give_up_at_s = soon()
        while processes_in(namespace):
            assert time.monotonic() < give_up_at_s
            time.sleep(0.01)


def test_a_child_that_ends_early_is_named_with_its_last_words() -> None:
    with (
        EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster,
        Child(cluster.hosts[0], ["sh", "-c", "echo no such port >&2"]) as child,
        pytest.raises(PeerFailed, match="h0 ended early; it said: no such port"),
    ):
        child.hear(soon())


def test_a_silent_child_is_given_up_at_the_deadline() -> None:
    with (
        EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster,
        Child(cluster.hosts[0], ["sleep", "600"]) as child,
        pytest.raises(PeerFailed, match="h0 was silent for too long"),
    ):
        child.hear(time.monotonic() + 0.1)


def test_an_error_that_a_child_reports_is_raised() -> None:
    with (
        EmulatedCluster(hosts=1, rate_bytes_per_s=1e6) as cluster,
        Child(cluster.hosts[0], ["echo", '{"error": "disk full"}']) as child,
        pytest.raises(PeerFailed, match="h0: disk full"),
    ):
        child.hear(soon())


def processes_in(namespace: int) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/pid").st_ino == namespace:
                    found.append(entry)
            except OSError:
                continue  # it has ended
    return found
