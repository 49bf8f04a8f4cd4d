"""Sessions that do not behave, over real TCP: nothing of them stays, and the others do not notice."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from random import Random

import pytest
import trio

from orchestra.controller import server as server_module
from orchestra.controller.core import ControllerConfig
from orchestra.controller.server import ControllerServer, serve
from orchestra.messages import (
    TO_CONTROLLER,
    TO_NODE,
    AskStatus,
    Join,
    Joined,
    NotJoined,
    Status,
    ToController,
)
from tests.transfers.net.sites import SECRET, until
from transfers.errors import StreamBroken
from transfers.ids import NodeName
from transfers.net.connection import MAX_CONTROL_FRAME_BYTES, Connection, open_connection, receive_message
from transfers.net.tcp import TcpNetwork


async def connect(server: ControllerServer) -> Connection:
    """A connection that has shaken hands."""
    return await open_connection(await TcpNetwork().connect(server.address, 5), SECRET)


async def say(connection: Connection, message: ToController) -> None:
    """Send a message to the controller."""
    await connection.send_frame(TO_CONTROLLER.encode(message))


def join_as(name: str) -> Join:
    """The first message of an agent."""
    return Join(NodeName(name), "i", "127.0.0.1:1", "host", "", True, False, ())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short limits."""
    monkeypatch.setattr(server_module, "_GOODBYE_S", 0.1)
    monkeypatch.setattr(server_module, "HANDSHAKE_TIMEOUT_S", 0.2)


def serving(heartbeat_timeout_s: float = 15.0) -> AbstractAsyncContextManager[ControllerServer]:
    """A controller on loopback."""
    config = ControllerConfig(heartbeat_timeout_s=heartbeat_timeout_s)
    return serve(TcpNetwork(), "127.0.0.1:0", SECRET, config, Random(1))


async def test_who_does_not_join_in_time_is_dropped(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        connection = await connect(server)
        with caplog.at_level(logging.WARNING), trio.fail_after(5):
            assert await connection.receive_frame(1000) is None
        assert "did not join" in caplog.text
        assert not server._sessions
        await connection.aclose()


async def test_a_refusal_arrives_before_the_connection_closes() -> None:
    async with serving() as server:
        connection = await connect(server)
        with trio.fail_after(5):
            await say(connection, AskStatus(1))
            answer = await receive_message(connection, TO_NODE, MAX_CONTROL_FRAME_BYTES)
            assert isinstance(answer, NotJoined)
            assert await connection.receive_frame(1000) is None
        await connection.aclose()


async def test_a_silent_node_that_does_not_read_either_is_let_go(quick: None) -> None:
    async with serving(heartbeat_timeout_s=0.5) as server:
        connection = await connect(server)
        await say(connection, join_as("a"))
        (session,) = await one_session(server)
        # More than the kernel holds is waiting for it.
        session.queue.append(bytes(16 << 20))
        session.wake.set()
        await until(lambda: not server._sessions, 5)
        await connection.aclose()


async def one_session(server: ControllerServer) -> list[server_module._Session]:
    """The sessions, as soon as there is one that has joined."""
    await until(lambda: bool(list(server.core.members)))
    return list(server._sessions.values())


async def test_a_node_that_does_not_read_its_commands_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "MAX_QUEUED_BYTES", 1 << 20)
    async with serving() as server:
        connection, other = await connect(server), await connect(server)
        await say(connection, join_as("a" * 200))
        await say(other, join_as("b"))
        await until(lambda: len(list(server.core.members)) == 2)
        with caplog.at_level(logging.WARNING):

            async def flood() -> None:
                for number in range(200_000):
                    await say(connection, AskStatus(number))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood_until_broken, flood)
                await until(lambda: len(server._sessions) == 1, 20)
                nursery.cancel_scope.cancel()
        assert "does not read" in caplog.text
        await say(other, AskStatus(7))
        welcome = await receive_message(other, TO_NODE, MAX_CONTROL_FRAME_BYTES)
        assert isinstance(welcome, Joined)
        answer = await receive_message(other, TO_NODE, MAX_CONTROL_FRAME_BYTES)
        assert isinstance(answer, Status)
        assert answer.request == 7
        await connection.aclose()
        await other.aclose()


async def flood_until_broken(flood: Callable[[], Awaitable[None]]) -> None:
    """Run something until its connection breaks."""
    with pytest.raises(StreamBroken):
        await flood()


async def test_too_many_sessions_are_turned_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "MAX_SESSIONS", 2)
    async with serving() as server:
        connections = [await connect(server), await connect(server)]
        with caplog.at_level(logging.WARNING), trio.fail_after(5):
            stream = await TcpNetwork().connect(server.address, 5)
            assert await stream.receive_some_into(memoryview(bytearray(1))) == 0
        assert "2 sessions already" in caplog.text
        await stream.aclose()
        for each in connections:
            await each.aclose()
