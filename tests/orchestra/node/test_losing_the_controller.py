"""When the controller goes away: no wait without a limit, and back again where it comes back."""

import json
import logging
import signal
from contextlib import suppress

import pytest
import trio
import trio.testing

from orchestra.controller.serving import serve_controller
from orchestra.node import link as link_module
from orchestra.node.joining import join
from orchestra.node.node import Node
from tests.orchestra.cli.commands import first_line, start
from tests.orchestra.node.clusters import STORE_BYTES
from transfers.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ControllerLost,
    JoinRefused,
    OrchestraError,
    TransferFailed,
    TransferRefused,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back quickly, and give up soon."""
    monkeypatch.setattr(link_module, "RETRY_PAUSE_S", 0.02)
    monkeypatch.setattr(link_module, "MAX_RETRY_PAUSE_S", 0.05)
    monkeypatch.setattr(link_module, "RECONNECT_LIMIT_S", 0.5)


class Serving:
    """A controller that can be stopped, and started again at its address."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.address = "127.0.0.1:0"

    async def start(self, token: str | None = None, **options: float) -> None:
        """Serve; at the same address as before, if there was one."""
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self.address = await self._nursery.start(self._run, token, options)

    async def _run(
        self, token: str | None, options: dict[str, float], task_status: trio.TaskStatus[str]
    ) -> None:
        with self._scope:
            async with serve_controller(self.address, token=token, seed=2, **options) as controller:  # type: ignore[arg-type]
                task_status.started(controller.address)
                await trio.sleep_forever()
        self._ended.set()

    async def stop(self) -> None:
        """End it without a word."""
        self._scope.cancel()
        await self._ended.wait()


def agent(serving: Serving, name: str, *, reconnect: bool = True, receives: bool = True) -> object:
    return join(
        serving.address,
        name=name,
        share=False,
        store_limit=STORE_BYTES,
        reconnect=reconnect,
        receives=receives,
    )


async def test_every_wait_ends_when_the_controller_is_gone_for_good() -> None:
    ended = list[str]()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            serving = Serving(nursery)
            await serving.start(port_rate=1e6)
            async with (
                join(serving.address, name="a", share=False, store_limit=STORE_BYTES) as a,
                join(serving.address, name="b", share=False, store_limit=STORE_BYTES) as b,
            ):
                transfer = await a.broadcast(bytes(8 << 20), "t")

                async def expect(what: str, wait: object) -> None:
                    with pytest.raises(ControllerLost, match=serving.address):
                        await wait  # type: ignore[misc]
                    ended.append(what)

                async def shuffle() -> None:
                    async with a.shuffle("s", mappers=["a", "b"], reducers=["a"]) as shuffle:
                        async for _ in shuffle.partitions():
                            pass

                async with trio.open_nursery() as waits:
                    waits.start_soon(expect, "transfer", transfer.wait())
                    waits.start_soon(expect, "receive", b.receive("u"))
                    waits.start_soon(expect, "broadcast", b.broadcast(b"x", "v", to=["nobody"]))
                    waits.start_soon(expect, "shuffle", shuffle())
                    await trio.sleep(0.2)
                    await serving.stop()
                    began = trio.current_time()
                    assert "no way back" in await a.wait_lost()
                assert trio.current_time() - began < 3
                for call in (a.broadcast(b"x", "w"), a.release("t"), a.status(), a.receive("w")):
                    await expect("later", call)
                await transfer.cancel()
    assert sorted(set(ended)) == ["broadcast", "later", "receive", "shuffle", "transfer"]


async def test_without_reconnecting_it_is_lost_at_once() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            serving = Serving(nursery)
            await serving.start()
            async with join(serving.address, name="a", store_limit=STORE_BYTES, reconnect=False) as a:
                await serving.stop()
                assert "closed" in await a.wait_lost()


async def test_a_request_waits_for_a_link_that_is_coming_back() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            serving = Serving(nursery)
            await serving.start()
            async with join(serving.address, name="a", store_limit=STORE_BYTES) as a:
                await serving.stop()
                async with trio.open_nursery() as asking:
                    asking.start_soon(a.status)  # raises if it is not answered
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    await serving.start()
            await serving.stop()


async def test_nodes_come_back_with_what_they_hold_and_serve_it() -> None:
    data = bytes(range(250)) * 400
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            serving = Serving(nursery)
            await serving.start()
            async with (
                join(serving.address, name="a", share=False, store_limit=STORE_BYTES) as a,
                join(serving.address, name="b", share=False, store_limit=STORE_BYTES) as b,
            ):
                await (await a.broadcast(data, "t")).wait()
                await serving.stop()
                await trio.sleep(0.1)
                await serving.start()
                await all_back(a, "a", "b")
                assert bytes((await b.receive("t")).buffer) == data
                async with join(serving.address, name="late", share=False, store_limit=STORE_BYTES) as late:
                    assert bytes((await late.receive("t")).buffer) == data
                await (await b.broadcast(b"new", "u", to=["a"])).wait()
                await a.release("t")
                await serving.stop()


async def all_back(node: Node, *names: str) -> None:
    """Wait until these nodes have joined, as the status says."""
    while True:
        try:
            nodes = json.loads(await node.status())["nodes"]
            if all(nodes.get(name, {}).get("state") == "joined" for name in names):
                return
        except ControllerLost:
            pass
        await trio.sleep(0.02)


async def test_a_transfer_cut_off_by_a_new_controller_ends_with_a_reason() -> None:
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            serving = Serving(nursery)
            await serving.start(port_rate=1e6)
            async with (
                join(serving.address, name="a", share=False, store_limit=STORE_BYTES) as a,
                join(serving.address, name="b", share=False, store_limit=STORE_BYTES) as b,
            ):
                transfer = await a.broadcast(bytes(2 << 20), "t")
                await trio.sleep(0.2)
                await serving.stop()
                await serving.start()
                with pytest.raises(TransferFailed, match="started anew"):
                    await transfer.wait()
                assert len((await b.receive("t")).buffer) == 2 << 20, "who wants it can have it"
                await serving.stop()


async def test_early_wants_survive_the_controller() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            serving = Serving(nursery)
            await serving.start()
            async with (
                join(serving.address, name="a", share=False, store_limit=STORE_BYTES) as a,
                join(serving.address, name="b", share=False, store_limit=STORE_BYTES, receives=False) as b,
                trio.open_nursery() as waits,
            ):

                async def receive() -> None:
                    assert bytes((await b.receive("t")).buffer) == b"data"

                waits.start_soon(receive)
                await trio.sleep(0.1)
                await serving.stop()
                await serving.start()
                await all_back(a, "a", "b")
                await a.broadcast(b"data", "t", to=["b"])
            await serving.stop()


async def test_another_secret_at_the_same_address_ends_the_coming_back() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            serving = Serving(nursery)
            await serving.start("the secret of before")
            async with join(
                serving.address, name="a", store_limit=STORE_BYTES, token="the secret of before"
            ) as a:
                await serving.stop()
                await serving.start("another secret")
                assert "secret" in await a.wait_lost()
                await serving.stop()


# -- joining ---------------------------------------------------------------------------------------


async def test_joining_fails_with_the_reason() -> None:
    with trio.fail_after(10):
        async with serve_controller(token="the right secret") as controller:
            for token in ("a wrong secret", None):
                with pytest.raises(AuthenticationFailed, match="secret"):
                    async with join(controller.address, name="a", token=token):
                        pass
            right = {"token": "the right secret", "store_limit": STORE_BYTES}
            async with join(controller.address, name="a", **right):  # type: ignore[arg-type]
                with pytest.raises(JoinRefused, match="'a' has joined already"):
                    async with join(controller.address, name="a", **right):  # type: ignore[arg-type]
                        pass
            for wrong in ({"name": "a b"}, {"listen": "127.0.0.1:x"}, {"token": ""}):
                with pytest.raises(ValueError, match=r"a b|127.0.0.1:x|token"):
                    async with join(controller.address, **(right | wrong)):  # type: ignore[arg-type]
                        pass
        with pytest.raises(ConnectFailed, match="refused"):
            async with join(controller.address, name="a", connect_timeout=0.1):
                pass
        with pytest.raises(ValueError, match="HOST:PORT"):
            async with join("nonsense"):
                pass


@pytest.mark.parametrize("taken", [False, True])
async def test_whoever_goes_has_left_also_when_it_goes_with_an_error(taken: bool) -> None:
    async with serve_controller() as controller, join(controller.address, name="a") as a:
        await (await a.broadcast(b"x", "t", to=["a" * 3], timeout=0.01)).wait_outcome()
        with suppress(TransferRefused, ZeroDivisionError):
            async with join(controller.address, name="b") as b:
                if taken:
                    await b.broadcast(b"x", "t")
                raise ZeroDivisionError
        await until_state(a, "b", "left")


async def until_state(node: Node, name: str, state: str) -> None:
    """Wait until a node has gone, and say how."""
    found = "joined"
    for _ in range(500):
        found = json.loads(await node.status())["nodes"][name]["state"]
        if found != "joined":
            break
        await trio.sleep(0.01)
    assert found == state


async def test_a_port_in_use_is_named() -> None:
    async with serve_controller() as controller:
        with pytest.raises(ConnectFailed, match=f"cannot listen on {controller.address}"):
            async with serve_controller(controller.address):
                pass
        with pytest.raises(ConnectFailed, match=f"cannot listen on {controller.address}"):
            async with join(controller.address, name="a", listen=controller.address):
                pass


async def test_an_open_cluster_stays_on_loopback() -> None:
    with pytest.raises(ValueError, match="shared secret"):
        async with serve_controller("0.0.0.0:0"):
            pass
    async with serve_controller("0.0.0.0:0", insecure=True):
        pass


async def test_an_exception_of_the_body_comes_out_as_it_is() -> None:
    class Mine(Exception):
        pass

    with pytest.raises(Mine):
        async with serve_controller() as controller, join(controller.address, store_limit=STORE_BYTES):
            raise Mine


async def test_a_controller_of_another_kind_is_no_controller(caplog: pytest.LogCaptureFixture) -> None:
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]

    async def speak_http(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with caplog.at_level(logging.CRITICAL), trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, speak_http, listener)
            with pytest.raises(OrchestraError, match="no Orchestra controller"):
                async with join(f"127.0.0.1:{port}", name="a", connect_timeout=1):
                    pass
            nursery.cancel_scope.cancel()


async def test_a_controller_that_falls_silent_is_lost() -> None:
    command = ("controller", "--listen", "127.0.0.1:0", "--heartbeat-timeout", "1")
    controller = await trio.to_thread.run_sync(lambda: start(*command))
    try:
        line = await trio.to_thread.run_sync(first_line, controller)
        address = line.removeprefix("listening on ")
        with trio.fail_after(10):
            async with join(address, name="a", reconnect=False, store_limit=STORE_BYTES) as a:
                controller.send_signal(signal.SIGSTOP)
                assert "no word from it for 1 s" in await a.wait_lost()
    finally:
        controller.kill()
        controller.communicate()
