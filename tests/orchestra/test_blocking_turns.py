"""The sync twin where transfers are paused, policies change, and places of the lost are taken."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestra.blocking as ob

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
"""Limit on every wait here; only a failure takes that long."""

MORTAL = """
import sys, time
import orchestra.blocking as ob
with ob.join(sys.argv[1], name="mortal", share=False) as node:
    terms = dict(mappers=["mortal", "other"], reducers=["home"], replaceable=True, timeout=60)
    if sys.argv[2] == "reducer":
        terms.update(mappers=["home", "other"], reducers=["mortal"])
    with node.shuffle("s", **terms) as shuffle:
        print("in", flush=True)
        time.sleep(1000)
"""


class Threads:
    """Functions that run side by side, and whose errors come out."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, function: Callable[[], object]) -> None:
        def run() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - it is raised where they are joined
                self._errors.append(error)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        for error in self._errors:
            raise error


@pytest.fixture
def address() -> Iterator[str]:
    with ob.serve_controller(seed=1, port_rate=4e6) as controller:
        yield controller.address


@pytest.fixture
def home(address: str) -> Iterator[ob.Node]:
    with ob.join(address, name="home", share=False) as node:
        yield node


@pytest.fixture
def other(address: str) -> Iterator[ob.Node]:
    with ob.join(address, name="other", share=False) as node:
        yield node


def state(node: ob.Node, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.status())["transfers"][name]
    return found


def test_a_transfer_is_paused_and_resumed_from_another_thread(home: ob.Node, other: ob.Node) -> None:
    data = bytes(range(256)) * 16_000
    transfer = home.broadcast(data, "t", to=["other"], priority=3, weight=2.5, timeout=20)
    other.pause("t")
    told = state(home, "t")
    assert (told["state"], told["priority"], told["weight"]) == ("paused", 3, 2.5)
    threads = Threads()
    threads.start(transfer.wait)
    home.resume("t")
    threads.join()
    assert bytes(other.receive("t", timeout=10).buffer) == data


def test_the_policy_is_changed(home: ob.Node) -> None:
    home.set_policy("dclas")
    assert json.loads(home.status())["policy"] == "dclas"
    with pytest.raises(ValueError, match=r"policy must be one of fair, .* got 'none'"):
        home.set_policy("none")
    assert json.loads(home.status())["policy"] == "dclas"


def test_errors_are_those_of_the_twin(home: ob.Node) -> None:
    for change in (home.pause, home.resume):
        with pytest.raises(ob.UnknownTransfer, match="'t' is under way"):
            change("t")
    with (
        pytest.raises(ValueError, match="enforcement must be one of"),
        ob.serve_controller(enforcement="hope"),
    ):
        pass
    with pytest.raises(ValueError, match="weight must be a number above 0"):
        home.run_shuffle({"home": {"home": 1}}, weight=0)
    with (
        pytest.raises(ValueError, match="spill_limit must be given with spill"),
        ob.join("127.0.0.1:1", spill="x"),
    ):
        pass
    with home.shuffle("s", mappers=["home"], reducers=["home"], timeout=10) as shuffle:
        assert shuffle.due == ("home",)
        assert shuffle.lost == ()
        assert not shuffle.over
        with pytest.raises(ob.LocalProtocolError, match="not replaceable"):
            shuffle.wait_lost()


def test_a_shuffle_is_run_for_who_takes_no_part(home: ob.Node, other: ob.Node) -> None:
    running = home.run_shuffle(
        {"home": {"other": 1000}, "other": {"home": 2000}}, "s", scheduling="fair", priority=-1, weight=3
    )
    assert set(running.wait().node_completion_s) == {"home", "other"}
    told = state(home, "s")
    assert (told["mechanism"], told["priority"], told["weight"]) == ("fair", -1, 3.0)


@pytest.fixture
def mortal(address: str, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """A process that takes part in a shuffle until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", MORTAL, address, request.param],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def give(shuffle: ob.Shuffle) -> None:
    """Put what is due, by place."""
    shuffle.put({to: f"{shuffle.place} to {to}".encode() for to in shuffle.due})
    shuffle.finish()


@pytest.mark.parametrize("mortal", ["mapper"], indirect=True)
def test_the_place_of_a_killed_mapper_is_taken(
    home: ob.Node, other: ob.Node, mortal: "subprocess.Popen[str]"
) -> None:
    terms: dict[str, Any] = {
        "mappers": ["mortal", "other"],
        "reducers": ["home"],
        "replaceable": True,
        "timeout": PATIENCE_S,
    }
    got: list[tuple[str, bytes]] = []
    threads = Threads()

    def take() -> None:
        with home.shuffle("s", **terms) as shuffle:
            got.extend((mapper, bytes(view.buffer)) for mapper, view in shuffle.partitions())
            assert shuffle.wait().replaced == {"mortal": "other"}

    threads.start(take)
    with other.shuffle("s", **terms) as shuffle:
        give(shuffle)
        mortal.send_signal(signal.SIGKILL)
        lost = shuffle.wait_lost()
        assert (lost.place, lost.node, lost.due) == ("mortal", "mortal", ("home",))
        assert shuffle.lost == (lost,)
        with other.shuffle("s", in_place_of=lost.place, **terms) as heir:
            assert (heir.place, heir.node, heir.due) == ("mortal", "other", ("home",))
            give(heir)
    threads.join()
    assert sorted(got) == [(mapper, f"{mapper} to home".encode()) for mapper in ("mortal", "other")]


@pytest.mark.parametrize("mortal", ["reducer"], indirect=True)
def test_the_place_of_a_killed_reducer_is_taken(
    home: ob.Node, other: ob.Node, mortal: "subprocess.Popen[str]"
) -> None:
    terms: dict[str, Any] = {
        "mappers": ["home", "other"],
        "reducers": ["mortal"],
        "replaceable": True,
        "timeout": PATIENCE_S,
    }
    got: list[tuple[str, bytes]] = []
    threads = Threads()

    def map_there() -> None:
        with other.shuffle("s", **terms) as shuffle:
            give(shuffle)

    threads.start(map_there)
    with home.shuffle("s", **terms) as shuffle:
        give(shuffle)
        mortal.send_signal(signal.SIGKILL)
        lost = shuffle.wait_lost()
        assert (lost.place, lost.due) == ("mortal", ())
        with home.shuffle("s", in_place_of="mortal", **terms) as heir:
            got.extend((mapper, bytes(view.buffer)) for mapper, view in heir.partitions())
    threads.join()
    assert sorted(got) == [(mapper, f"{mapper} to mortal".encode()) for mapper in ("home", "other")]


def test_a_node_spills(address: str, tmp_path: Path) -> None:
    size = 3 << 20
    with (
        ob.join(
            address, name="small", share=False, store_limit=1 << 20, spill=tmp_path, spill_limit=8 << 20
        ) as node,
        node.shuffle("s", mappers=["small"], reducers=["small"], timeout=20) as shuffle,
    ):
        shuffle.put({"small": bytes(size)})
        assert [len(view.buffer) for _, view in shuffle.partitions()] == [size]
