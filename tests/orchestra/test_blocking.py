"""The sync twin: that it cannot drift from the async API, and that it survives what programs do to it.

Forks, signals and the end of an interpreter are tried for real, by scripts in processes of their own,
each under a hard limit. The controller that they join runs here, so that the test sees how they left.
"""

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import trio

import orchestra
import orchestra.blocking
from orchestra.blocking.context import Context
from orchestra.blocking.portal import Branch, root
from orchestra.node.handles import WatchedTransfer

SCRIPT_LIMIT_S = 20.0
"""Hard limit on any script (they take about a second on an idle machine)."""
PROMPT_S = 5.0
"""What counts as prompt (they take milliseconds on an idle machine)."""

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
import faulthandler, json, os, sys, threading, time
faulthandler.enable()
import numpy as np
import orchestra.blocking as ob
address = sys.argv[1] if len(sys.argv) > 1 else ""
def say(text):
    print(text, flush=True)
def refused(function):
    try:
        function()
    except ob.LocalProtocolError as error:
        return str(error)
    return "not refused"
"""


@dataclass
class Ended:
    """How a script went."""

    status: int
    out: str
    err: str
    after_s: float


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        start_new_session=True,  # what it forks can be ended with it
    )


def finish(process: "subprocess.Popen[str]") -> Ended:
    began = time.monotonic()
    try:
        out, err = process.communicate(timeout=SCRIPT_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # on which they say where they were
        out, err = process.communicate(timeout=PROMPT_S)
        pytest.fail(f"the script hung:\n{out}\n{err}")
    return Ended(process.returncode, out, err, time.monotonic() - began)


def run(script: str, *arguments: str) -> Ended:
    return finish(start(script, *arguments))


@dataclass
class Home:
    """A controller in this process, and a node that watches."""

    address: str
    node: orchestra.blocking.Node

    def state(self, name: str) -> str:
        """What the controller says of a node."""
        found = json.loads(self.node.status())["nodes"].get(name)
        return str(found["state"]) if found else "unknown"


@pytest.fixture
def home() -> Iterator[Home]:
    with (
        orchestra.blocking.serve_controller(seed=1) as controller,
        orchestra.blocking.join(controller.address, name="home") as node,
    ):
        yield Home(controller.address, node)


# -- it is a twin --------------------------------------------------------------------------------

PAIRS: list[tuple[type[Any], type[Any]]] = [
    (orchestra.Node, orchestra.blocking.Node),
    (WatchedTransfer, orchestra.blocking.WatchedTransfer),
    (orchestra.Transfer, orchestra.blocking.Transfer),
    (orchestra.Shuffle, orchestra.blocking.Shuffle),
    (orchestra.Controller, orchestra.blocking.Controller),
    (orchestra.LocalCluster, orchestra.blocking.LocalCluster),
]

INSIDE = {
    # What a node's own parts call; no user does.
    "Node": {"objects"},
    "Shuffle": {
        *("hear_outcome", "hear_empty", "hear_arrival", "hear_lost", "hear_filled", "take_place"),
        *("leave", "lose", "local_manifests"),
    },
}


def public_names(names: Iterator[str] | list[str], cls: type[Any]) -> list[str]:
    inside: set[str] = INSIDE.get(cls.__name__, set())
    return [name for name in names if not name.startswith("_") and name not in inside]


def parameters(function: Callable[..., object]) -> list[tuple[object, ...]]:
    return [
        (parameter.name, parameter.kind, parameter.default, parameter.annotation)
        for parameter in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize(("twin", "plain"), PAIRS, ids=lambda cls: str(cls.__name__))
def test_every_public_method_is_there_with_the_same_parameters(twin: type[Any], plain: type[Any]) -> None:
    for name in public_names(dir(twin), twin):
        original, copy = getattr(twin, name), getattr(plain, name, None)
        assert copy is not None, f"orchestra.blocking.{plain.__name__} lacks {name}"
        assert isinstance(original, property) == isinstance(copy, property), name
        if not isinstance(original, property):
            assert parameters(original) == parameters(copy), name
            assert not inspect.iscoroutinefunction(copy), name
    extra = set(public_names(dir(plain), plain)) - set(dir(twin))
    assert extra <= {"allow_pickle"}, "the twin must not have what the original lacks"


@pytest.mark.parametrize("name", ["local_cluster", "serve_controller", "join"])
def test_every_function_has_the_same_parameters(name: str) -> None:
    assert parameters(getattr(orchestra, name)) == parameters(getattr(orchestra.blocking, name))


def test_every_public_name_is_there_and_all_but_the_wrapped_are_the_same_objects() -> None:
    wrapped = {plain.__name__ for _, plain in PAIRS} | {"local_cluster", "serve_controller", "join"}
    for name in orchestra.__all__:
        if name not in {"blocking", *wrapped}:
            assert getattr(orchestra.blocking, name) is getattr(orchestra, name)
        assert name == "blocking" or name in orchestra.blocking.__all__


def assert_same_attributes(plain: Any) -> None:
    for name, value in vars(plain._twin).items():
        if public_names([name], type(plain._twin)):
            copy = getattr(plain, name)
            assert copy == value or type(copy).__module__.startswith("orchestra.blocking"), name


# -- it works ------------------------------------------------------------------------------------


def test_broadcast_receive_release_and_status(home: Home) -> None:
    sent = np.arange(1000.0).reshape(10, 100)
    with orchestra.blocking.join(home.address, name="other", share=False) as other:
        transfer = home.node.broadcast(sent, name="x", mechanism="chain", timeout=10)
        outcome = transfer.wait()
        assert transfer.progress().fraction == 1.0
        assert list(outcome.node_completion_s) == ["other"]
        np.testing.assert_array_equal(other.receive("x", timeout=10).array(), sent)
        home.node.release("x")
        with pytest.raises(orchestra.WaitTimeout, match="'never'"):
            other.receive("never", timeout=0.05)
        for handle in (transfer, home.node, other):
            assert_same_attributes(handle)
    assert home.state("other") == "left"


def test_shuffle_between_threads(home: Home) -> None:
    taken: dict[str, dict[str, int]] = {"home": {}, "other": {}}

    def take_part(node: orchestra.blocking.Node) -> None:
        names = ["home", "other"]
        with node.shuffle("s", mappers=names, reducers=names, timeout=10) as shuffle:
            assert_same_attributes(shuffle)
            shuffle.put({"home": np.full(10, 1), "other": np.full(10, 2)})
            shuffle.finish()
            for mapper, view in shuffle.partitions():
                taken[node.name][mapper] = int(view.array().sum())
            assert shuffle.wait().failed == {}

    with orchestra.blocking.join(home.address, name="other", share=False) as other:
        thread = threading.Thread(target=take_part, args=(other,), daemon=True)
        thread.start()
        take_part(home.node)
        thread.join(PROMPT_S)
    assert taken == {"home": {"home": 10, "other": 10}, "other": {"home": 20, "other": 20}}


def test_iterating_partitions_may_stop_half_way(home: Home) -> None:
    with home.node.shuffle("s", mappers=["home"], reducers=["home"], timeout=10) as shuffle:
        shuffle.put({"home": b"1234"})
        partitions = shuffle.partitions()
        assert next(partitions)[0] == "home"
        del partitions
        home.node.status()  # the loop has come by where it is closed
    assert root().portal.streams == set()


def test_threads_wait_side_by_side(home: Home) -> None:
    names = [f"object {number}" for number in range(8)]
    got: dict[str, bytes] = {}

    def receive(node: orchestra.blocking.Node, name: str) -> None:
        got[name] = bytes(node.receive(name, timeout=10).buffer)

    with orchestra.blocking.join(home.address, name="other") as other:
        threads = [threading.Thread(target=receive, args=(other, name), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        for name in reversed(names):
            home.node.broadcast(name.encode(), name=name, timeout=10)
        for thread in threads:
            thread.join(PROMPT_S)
    assert got == {name: name.encode() for name in names}


def test_local_cluster_is_wrapped_whole() -> None:
    with orchestra.blocking.local_cluster(nodes=1) as cluster:
        assert_same_attributes(cluster)
        assert cluster.names == ["n1"]
        assert cluster.node.broadcast(b"abc", timeout=10).wait().failed == {}
    assert [process.poll() is not None for process in cluster.processes] == [True]


def test_it_works_inside_a_running_asyncio_loop(home: Home) -> None:
    async def main() -> bytes:
        with orchestra.blocking.join(home.address, name="other") as other:
            home.node.broadcast(b"in the loop's own thread", name="x", timeout=10)
            assert bytes(other.receive("x", timeout=10).buffer) == b"in the loop's own thread"
            waiting = asyncio.create_task(asyncio.to_thread(other.receive, "y", 10))
            await asyncio.sleep(0)
            home.node.broadcast(b"in a worker thread", name="y", timeout=10)
            return bytes((await asyncio.wait_for(waiting, PROMPT_S)).buffer)

    assert asyncio.run(main()) == b"in a worker thread"


# -- blocks and what leaves them ---------------------------------------------------------------------


def test_leaving_a_block_ends_calls_of_other_threads(home: Home) -> None:
    ended: list[BaseException] = []
    waiting = threading.Event()

    def wait(node: orchestra.blocking.Node) -> None:
        waiting.set()
        try:
            node.wait_lost()
        except orchestra.LocalProtocolError as error:
            ended.append(error)

    with orchestra.blocking.join(home.address, name="other") as other:
        thread = threading.Thread(target=wait, args=(other,), daemon=True)
        thread.start()
        assert waiting.wait(PROMPT_S)
        other.status()
    thread.join(PROMPT_S)
    assert ["node other" in str(error) for error in ended] == [True]
    with pytest.raises(orchestra.LocalProtocolError, match="node other is not open any more"):
        other.status()


@pytest.mark.parametrize("kind", [KeyError, SystemExit, KeyboardInterrupt])
def test_the_exception_of_a_block_comes_out_untouched(home: Home, kind: type[BaseException]) -> None:
    first, raised = RuntimeError("first"), kind("why")

    def fail() -> NoReturn:
        try:
            raise first
        except RuntimeError:
            raise raised  # noqa: B904 - the context is what is looked at

    with pytest.raises(kind) as caught, orchestra.blocking.join(home.address, name="other"):
        fail()
    assert caught.value is raised
    assert raised.__context__ is first
    assert not raised.__suppress_context__
    assert all("orchestra/blocking" not in str(entry.path) for entry in caught.traceback[1:])
    assert home.state("other") == "left"


def test_a_failed_block_cancels_its_shuffle(home: Home) -> None:
    began = time.monotonic()
    with (
        pytest.raises(ZeroDivisionError),
        home.node.shuffle("s", mappers=["home"], reducers=["home"], timeout=60),
    ):
        raise ZeroDivisionError
    assert time.monotonic() - began < PROMPT_S


def test_errors_show_where_they_were_raised_and_where_they_were_called_for(home: Home) -> None:
    with pytest.raises(orchestra.UnknownTransfer) as caught:
        home.node.release("nothing")
    files = [Path(entry.path).name for entry in caught.traceback]
    assert files[0] == "test_blocking.py"
    assert files[-1] == "node.py"


def test_an_opening_that_fails_raises_in_the_caller(home: Home) -> None:
    with (
        pytest.raises(orchestra.JoinRefused, match="home"),
        orchestra.blocking.join(home.address, name="home", connect_timeout=1),
    ):
        pass
    with pytest.raises(ValueError, match="policy"), orchestra.blocking.serve_controller(policy="none"):
        pass


def assert_ends(branch: Branch) -> None:
    """A call without end is ended with its branch."""
    with pytest.raises(orchestra.LocalProtocolError, match="it "):
        branch.call(trio.sleep_forever)


def test_what_ends_a_context_from_within_is_raised_when_its_block_ends() -> None:
    began, broken = threading.Event(), RuntimeError("broken inside")

    @asynccontextmanager
    async def breaks() -> AsyncIterator[None]:
        async def fail() -> None:
            began.set()
            raise broken

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield

    with (
        pytest.raises(RuntimeError) as caught,
        Context(root, "it", breaks, lambda branch, value: branch) as branch,
    ):
        assert_ends(branch)
    assert began.is_set()
    assert caught.value is broken


def test_a_context_is_for_one_use(home: Home) -> None:
    context = orchestra.blocking.join(home.address, name="other")
    with context:
        pass
    with pytest.raises(orchestra.LocalProtocolError, match="make a new one"):
        context.__enter__()


def test_a_call_from_its_own_thread_is_refused_rather_than_waiting_for_itself(home: Home) -> None:
    with pytest.raises(orchestra.LocalProtocolError, match="own thread"):
        root().call_sync(home.node.status)


# -- fork ----------------------------------------------------------------------------------------

FORK = """
import gc, traceback
with ob.join(address, name="parent") as node, ob.join(address, name="sink", share=False) as sink:
    transfer = node.broadcast(b"before", name="before", timeout=10)
    transfer.wait()
    view = node.receive("before")
    with node.shuffle("s", mappers=["parent"], reducers=["parent"], timeout=30) as shuffle:
        shuffle.put({"parent": b"mine"})
        partitions = shuffle.partitions()
        next(partitions)
        child = os.fork()
        if child == 0:
            says = [refused(node.status), refused(transfer.wait), refused(transfer.progress)]
            says += [refused(lambda: next(partitions)), refused(shuffle.finish)]
            says += [refused(node.shuffle("t", mappers=[], reducers=[]).__enter__)]
            assert all(f"process {os.getppid()}" in text for text in says), says
            assert bytes(view.buffer) == b"before"
            with ob.attach(node.store) as attached:
                assert bytes(attached.get("before").buffer) == b"before"
            with ob.join(address, name="child") as own:
                own.broadcast(b"from the child", name="child's", to=["sink"], timeout=10).wait()
            del partitions, transfer
            gc.collect()
            HOW
        began = time.monotonic()
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            assert time.monotonic() - began < 15
            time.sleep(0.01)
        assert ended == (child, STATUS), ended
    assert bytes(sink.receive("child's", timeout=10).buffer) == b"from the child"
    states = {name: each["state"] for name, each in json.loads(node.status())["nodes"].items()}
    assert states == {"home": "joined", "parent": "joined", "sink": "joined", "child": "left"}, states
    node.broadcast(b"after", name="after", timeout=10).wait()
say("done")
"""


@pytest.mark.parametrize(
    ("how", "status"),
    [("sys.exit(3)", 3 << 8), ("raise SystemExit", 0), ("os._exit(0)", 0)],
    ids=["exit", "raise", "_exit"],
)
def test_a_forked_child_has_its_own_and_leaves_the_parents_alone(home: Home, how: str, status: int) -> None:
    ended = run(FORK.replace("HOW", how).replace("STATUS", str(status)), home.address)
    assert (ended.status, ended.out) == (0, "done\n"), ended.err
    assert ended.err == ""
    assert home.state("parent") == "left"


def test_multiprocessing_by_fork_works_in_the_children(home: Home) -> None:
    ended = run(
        """
import multiprocessing
def work(number):
    with ob.join(address, name=f"worker-{number}") as own:
        return bytes(own.receive("x", timeout=10).buffer).decode()
with ob.join(address, name="parent") as node:
    node.broadcast(b"to all", name="x", timeout=10).wait()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        say(pool.map_async(work, range(3), chunksize=1).get(15))
    node.status()
""",
        home.address,
    )
    assert (ended.status, ended.out) == (0, "['to all', 'to all', 'to all']\n"), ended.err


# -- the end of the interpreter ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 0),
        ("sys.exit(4)", 4),
        ("raise RuntimeError('oops')", 1),
        ("threading.Thread(target=refused, args=(node.wait_lost,), daemon=True).start()", 0),
        ("node.shuffle('s', mappers=['home'], reducers=['guest']).__enter__()", 0),
    ],
    ids=["end", "exit", "error", "daemon waits", "shuffle open"],
)
def test_a_script_ends_with_contexts_open_and_leaves_them(home: Home, body: str, status: int) -> None:
    script = f"context = ob.join(address, name='guest')\nnode = context.__enter__()\nsay('joined')\n{body}\n"
    process = start(script, home.address)
    assert process.stdout is not None
    assert process.stdout.readline() == "joined\n"
    ended = finish(process)
    assert ended.status == status, ended.err
    assert ended.after_s < PROMPT_S
    assert home.state("guest") == "left"
    if body.startswith("raise"):
        assert "oops" in ended.err
    else:
        assert ended.err == ""


@pytest.mark.parametrize(("body", "status"), [("sys.exit(4)", 4), ("raise RuntimeError('oops')", 1)])
def test_a_script_that_ends_inside_a_block_leaves_it(home: Home, body: str, status: int) -> None:
    ended = run(f"with ob.join(address, name='guest') as node:\n    {body}\n", home.address)
    assert ended.status == status, ended.err
    assert ended.err.rstrip().endswith("RuntimeError: oops" if status == 1 else "")
    assert home.state("guest") == "left"


def test_contexts_left_open_end_newest_first() -> None:
    ended = run(
        """
from contextlib import asynccontextmanager
from orchestra.blocking.context import Context
from orchestra.blocking.portal import root
@asynccontextmanager
async def speak(name):
    try:
        yield
    finally:
        say(name)
for name in "abc":
    Context(root, name, lambda name=name: speak(name), lambda branch, value: branch).__enter__()
"""
    )
    assert (ended.status, ended.out, ended.err) == (0, "c\nb\na\n", "")


def test_a_context_that_will_not_end_holds_the_interpreter_no_longer_than_the_limit() -> None:
    ended = run(
        """
import trio
from contextlib import asynccontextmanager
from orchestra.blocking import portal
from orchestra.blocking.context import Context
@asynccontextmanager
async def clings():
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
portal.EXIT_LIMIT_S = 0.3
Context(portal.root, "it", clings, lambda branch, value: branch).__enter__()
say("open")
"""
    )
    assert (ended.status, ended.out, ended.err) == (0, "open\n", "")
    assert ended.after_s < PROMPT_S


# -- Ctrl-C ----------------------------------------------------------------------------------------


def interrupt(script: str, address: str) -> Ended:
    """Start a script, send it SIGINT when it says "waiting", and see how it ends."""
    process = start(script, address)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.1)  # it waits from its next statement on; nothing can be seen of that from outside
    process.send_signal(signal.SIGINT)
    return finish(process)


def test_ctrl_c_interrupts_a_waiting_call_and_the_node_goes_on(home: Home) -> None:
    ended = interrupt(
        """
with ob.join(address, name="guest") as node:
    try:
        say("waiting")
        node.receive("never", timeout=60)
    except KeyboardInterrupt:
        say("interrupted")
        node.status()
        assert not node._twin._member.wants, "the call goes on"
say("left")
""",
        home.address,
    )
    assert (ended.status, ended.out) == (0, "interrupted\nleft\n"), ended.err
    assert ended.after_s < PROMPT_S
    assert home.state("guest") == "left"


@pytest.mark.parametrize(
    "wait",
    [
        "node.receive('never', timeout=60)",
        "node.shuffle('s', mappers=['home'], reducers=['guest'], timeout=60).__enter__().wait()",
        "with node.shuffle('s', mappers=['home'], reducers=['guest'], timeout=60): pass",
        "ob.join('127.0.0.1:1', connect_timeout=60).__enter__()",
    ],
    ids=["call", "shuffle", "leaving", "entering"],
)
def test_ctrl_c_that_nobody_catches_leaves_all_contexts_and_ends_the_script(home: Home, wait: str) -> None:
    ended = interrupt(
        f"with ob.join(address, name='guest') as node:\n    say('waiting')\n    {wait}\n", home.address
    )
    assert ended.status == -signal.SIGINT
    assert ended.err.rstrip().endswith("KeyboardInterrupt")
    assert ended.after_s < PROMPT_S
    assert home.state("guest") == "left"


def test_nothing_of_all_this_has_ended_the_loop_of_this_process(home: Home) -> None:
    assert root().portal.alive
    assert os.getpid() == root().portal._process
