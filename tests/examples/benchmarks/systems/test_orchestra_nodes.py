"""Orchestra's processes as benchmarks use them: killed, replaced, and told apart."""

from collections.abc import Collection
from contextlib import ExitStack

import pytest

from examples.benchmarks.systems.contained import PeerFailed
from examples.benchmarks.systems.loopback import LoopbackHosts, free_port
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OngoingBroadcast, OrchestraNodes

TIMEOUT_S = 30.0


def started(stack: ExitStack, receivers: int, *, share: bool = False) -> OrchestraNodes:
    """Processes on loopback."""
    return OrchestraNodes(LoopbackHosts(receivers + 1), stack, port=free_port(), contained=False, share=share)


def test_a_receiver_that_was_killed_is_left_out_and_its_successor_receives() -> None:
    with ExitStack() as stack:
        nodes = started(stack, 3)
        nodes.kill("h2")
        timing = nodes.broadcast("two", Orchestra("cornet", 65_536), 500_000, TIMEOUT_S)
        assert set(timing.node_completion_s) == set(timing.received_s) == {"h1", "h3"}
        nodes.restart("h2")
        timing = nodes.broadcast("three", Orchestra("chain", 65_536), 500_000, TIMEOUT_S)
        assert set(timing.node_completion_s) == {"h1", "h2", "h3"}
        assert (timing.mechanism, timing.block_size_bytes) == ("chain", 65_536)
        assert not timing.failed
        assert 0 < max(timing.node_completion_s.values()) <= timing.completion_s


def test_only_those_who_are_named_receive() -> None:
    with ExitStack() as stack:
        nodes = started(stack, 3)
        ongoing = nodes.prepare("early", 100_000, TIMEOUT_S, to=["h1", "h3"])
        ongoing.send(Orchestra("tree"))
        assert set(ongoing.finish().node_completion_s) == {"h1", "h3"}


def test_what_a_verbose_controller_logs_can_be_read() -> None:
    with ExitStack() as stack:
        hosts = LoopbackHosts(2)
        nodes = OrchestraNodes(hosts, stack, ["--verbose"], port=free_port(), contained=False)
        assert [line.split()[:2] for line in nodes.said("h1 ")] == [["h1", "joined"]]
        assert nodes.said("topology: ") == []


def test_processes_of_one_host_share_and_the_source_does_not() -> None:
    with ExitStack() as stack:
        nodes = started(stack, 2, share=True)
        timing = nodes.broadcast("shared", Orchestra("auto"), 500_000, TIMEOUT_S)
        assert set(timing.node_completion_s) == {"h1", "h2"}


def test_links_are_drained_between_preparation_and_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    course: list[str] = []
    prepare, send = OrchestraNodes.prepare, OngoingBroadcast.send

    def prepared(
        self: OrchestraNodes, name: str, size_bytes: int, timeout_s: float, to: Collection[str] | None
    ) -> OngoingBroadcast:
        course.append("prepared")
        return prepare(self, name, size_bytes, timeout_s, to)

    def sent(self: OngoingBroadcast, how: Orchestra) -> None:
        course.append("sent")
        send(self, how)

    monkeypatch.setattr(OrchestraNodes, "prepare", prepared)
    monkeypatch.setattr(OngoingBroadcast, "send", sent)
    monkeypatch.setattr(LoopbackHosts, "drain_all", lambda self: course.append("drained"))
    with ExitStack() as stack:
        started(stack, 1).broadcast("once", Orchestra("auto"), 1000, TIMEOUT_S)
    assert course == ["prepared", "drained", "sent"]


def test_waiting_for_what_never_comes_is_a_failure() -> None:
    with ExitStack() as stack:
        nodes = started(stack, 1)
        ongoing = nodes.prepare("never", 1000, TIMEOUT_S)
        with pytest.raises(PeerFailed, match="did not come"):
            ongoing.wait_until(lambda: False, 0.001)


def test_there_is_no_host_without_a_process() -> None:
    with pytest.raises(ValueError, match="hosts must be at least 1, got 0"):
        LoopbackHosts(0)
