"""K-Means in a cluster that is there already, beside what else goes on there."""

import json
import os
import signal
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import trio

from orchestra.controller.serving import serve_controller
from orchestra.kmeans import IterationRecord, KMeansResult, kmeans
from orchestra.kmeans.cluster import RunningCluster
from orchestra.kmeans.plan import Plan
from orchestra.node.joining import join
from orchestra.node.node import Node
from tests.transfers.net.sites import until
from transfers.errors import AuthenticationFailed, NodeLost

Points = npt.NDArray[np.float64]
TOKEN = "a secret of the tests"
COMMAND = ["python", "-m", "worker"]


@pytest.fixture(scope="module")
def blobs() -> Points:
    return np.random.default_rng(3).normal(size=(600, 5))


def workers() -> list[psutil.Process]:
    """This process's children that are K-Means workers."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "orchestra.kmeans.worker" in child.cmdline()]


async def known(node: Node) -> dict[str, Any]:
    """What the controller knows."""
    found: dict[str, Any] = json.loads(await node.status())
    return found


def assert_same(one: KMeansResult, other: KMeansResult) -> None:
    """Equal to the last bit."""
    np.testing.assert_array_equal(one.prototypes, other.prototypes)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.inertia == other.inertia


async def test_it_is_the_same_as_by_itself_and_claims_its_share_for_every_transfer(blobs: Points) -> None:
    alone = await kmeans(blobs, 4, 3, 2, stop_when_settled=False)
    async with (
        serve_controller(token=TOKEN) as controller,
        join(controller.address, name="user", token=TOKEN) as user,
    ):
        to = RunningCluster(controller.address, TOKEN)
        shared = await kmeans(
            blobs, 4, 3, 2, stop_when_settled=False, cluster=to, priority=-3, weight=2.5, mechanism="chain"
        )
        told = await known(user)
    assert_same(shared, alone)
    transfers = told["transfers"]
    kinds = {name.split("-", 2)[2].split("/")[0] for name in transfers}
    assert kinds == {"mean", "points", "prototypes", "local", "merged", "labels"}
    assert {(its["priority"], its["weight"]) for its in transfers.values()} == {(-3, 2.5)}
    assert {its["mechanism"] for its in transfers.values() if its["kind"] == "broadcast"} <= {"chain", "tree"}
    gone = {name: its["state"] for name, its in told["nodes"].items() if name != "user"}
    assert set(gone.values()) == {"left"}
    assert told["nodes"]["user"]["state"] == "joined"
    assert workers() == []


async def test_two_at_once_share_a_cluster_with_a_broadcast(blobs: Points) -> None:
    alone = [await kmeans(blobs, k, 3, 2) for k in (3, 4)]
    results: dict[int, KMeansResult] = {}
    async with (
        serve_controller() as controller,
        join(controller.address, name="user", share=False) as user,
        join(controller.address, name="friend", share=False) as friend,
    ):
        to = RunningCluster(controller.address)

        async def one(k: int, weight: float) -> None:
            results[k] = await kmeans(blobs, k, 3, 2, cluster=to, weight=weight)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 3, 1.0)
            nursery.start_soon(one, 4, 7.0)
            for number in range(5):
                transfer = await user.broadcast(bytes(300_000), f"own/{number}", to=["friend"])
                await transfer.wait()
                assert (await friend.receive(f"own/{number}")).nbytes == 300_000
        runs = {name.split("-")[1] for name in (await known(user))["transfers"] if name.startswith("kmeans-")}
    assert len(runs) == 2
    for k, expected in zip((3, 4), alone, strict=True):
        assert_same(results[k], expected)


async def test_workers_are_none_of_a_users_receivers_by_name(blobs: Points) -> None:
    seen: list[tuple[str, ...]] = []
    async with serve_controller() as controller, join(controller.address, name="user") as user:

        async def look() -> None:
            while True:
                nodes = (await known(user))["nodes"]
                seen.append(tuple(name for name in nodes if name.endswith("worker-1")))
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await kmeans(blobs, 2, 2, 2, cluster=RunningCluster(controller.address))
            await until(lambda: any(seen))
            nursery.cancel_scope.cancel()
    (name,) = {name for names in seen for name in names}
    assert name.startswith("kmeans-")


async def test_it_goes_on_after_a_pause_of_one_of_its_transfers() -> None:
    points = np.random.default_rng(4).normal(size=(50_000, 5))
    alone = await kmeans(points, 3, 1, 2)
    paused: list[str] = []
    results: list[KMeansResult] = []
    async with serve_controller(port_rate=1e6) as controller, join(controller.address, name="user") as user:

        async def run() -> None:
            to = RunningCluster(controller.address)
            results.append(await kmeans(points, 3, 1, 2, cluster=to, share=False))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            while not paused and not results:
                for name, its in (await known(user))["transfers"].items():
                    if its["state"] == "active" and name.endswith("points"):
                        await user.pause(name)
                        paused.append(name)
                await trio.sleep(0.01)
            assert (await known(user))["transfers"][paused[0]]["state"] == "paused"
            await trio.sleep(0.3)
            assert results == []
            await user.resume(paused[0])
    assert_same(results[0], alone)


@pytest.mark.parametrize("victim", [0, 1])
async def test_a_worker_that_dies_is_named_as_the_cluster_knows_it(blobs: Points, victim: int) -> None:
    def kill(record: IterationRecord) -> None:
        if record.iteration == 2:
            os.kill(workers()[victim].pid, signal.SIGKILL)

    async with serve_controller() as controller, join(controller.address, name="user") as user:
        with trio.fail_after(60), pytest.raises(NodeLost) as caught:
            await kmeans(
                *(blobs, 5, 100_000, 2),
                progress=kill,
                stop_when_settled=False,
                cluster=RunningCluster(controller.address),
            )
        assert caught.value.node in (await known(user))["nodes"]
    assert caught.value.node.startswith("kmeans-")
    assert caught.value.node.endswith(f"-worker-{victim}")
    assert workers() == []


async def test_workers_are_begun_by_the_commands_given_in_turn(blobs: Points) -> None:
    marks: list[str] = []

    def look(_: IterationRecord) -> None:
        marks.extend(worker.environ().get("BEGUN_BY", "") for worker in workers())

    async with serve_controller() as controller:
        launch = [("env", "BEGUN_BY=first"), ("env", "BEGUN_BY=second")]
        await kmeans(blobs, 2, 1, 3, progress=look, cluster=RunningCluster(controller.address, launch=launch))
    assert sorted(marks) == ["first", "first", "second"]


async def test_a_machine_on_which_workers_cannot_begin_is_named_with_what_was_said(blobs: Points) -> None:
    fails = (sys.executable, "-c", "import sys; sys.exit('no such host')")
    async with serve_controller() as controller:
        with (
            trio.fail_after(60),
            pytest.raises(NodeLost, match="ended with status 1: no such host") as caught,
        ):
            await kmeans(blobs, 2, 1, 2, cluster=RunningCluster(controller.address, launch=[(), fails]))
    assert caught.value.node.endswith("-worker-1")
    assert workers() == []


async def test_a_wrong_secret_begins_nothing(blobs: Points) -> None:
    async with serve_controller(token=TOKEN) as controller:
        for token in (None, "another secret"):
            with pytest.raises(AuthenticationFailed):
                await kmeans(blobs, 2, 1, 2, cluster=RunningCluster(controller.address, token))
    assert workers() == []


async def test_beyond_loopback_wants_a_secret_here_too(blobs: Points) -> None:
    with pytest.raises(ValueError, match="token"):
        await kmeans(blobs, 2, 1, 2, cluster=RunningCluster("192.0.2.1:7000"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"priority": 1.5}, "priority must be a whole number from .*, got 1.5"),
        ({"weight": 0}, "weight must be a number above 0 and finite, got 0"),
        ({"weight": float("nan")}, "weight must be a number above 0 and finite, got nan"),
    ],
)
async def test_bad_claims_are_refused_before_anything_begins(
    blobs: Points, bad: dict[str, Any], message: str
) -> None:
    nowhere = RunningCluster("127.0.0.1:1")
    with pytest.raises(ValueError, match=message):
        await kmeans(blobs, 2, 1, 1, cluster=nowhere, **bad)


@pytest.mark.parametrize(
    ("launch", "before"),
    [
        ((), [[], [], []]),
        ([("ssh", "m1")], [["ssh", "m1"]] * 3),
        ([("ssh", "m1"), ("ssh", "m2")], [["ssh", "m1"], ["ssh", "m2"], ["ssh", "m1"]]),
        ([(), ("ssh", "m2")], [[], ["ssh", "m2"], []]),
    ],
)
def test_a_workers_command_stands_behind_its_machines(
    launch: list[tuple[str, ...]], before: list[list[str]]
) -> None:
    to = RunningCluster("127.0.0.1:7000", launch=launch)
    assert [to.command(worker, COMMAND) for worker in range(3)] == [[*each, *COMMAND] for each in before]


def test_all_names_of_a_run_begin_with_its_own() -> None:
    plan, other = Plan(5, "kmeans-1-"), Plan(5, "kmeans-2-")

    def names(of: Plan) -> set[str]:
        return {
            *(of.head, *of.names, *of.reducers, of.mean, of.points, of.labels),
            *(of.prototypes(0), of.local(0), of.merged(0)),
        }

    assert all(name.startswith("kmeans-1-") for name in names(plan))
    assert not names(plan) & names(other)
    assert {name.removeprefix("kmeans-1-") for name in names(plan)} == names(Plan(5))
