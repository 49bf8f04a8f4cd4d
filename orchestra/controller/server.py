"""The controller's port: connections in front of `orchestra.controller.core`.

Owns sessions, their queues and the clock. Everything that is decided, the core decides.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import trio

from orchestra.controller.core import ControllerConfig, ControllerCore
from orchestra.controller.members import SessionId
from orchestra.groups import collapsed
from orchestra.messages import TO_CONTROLLER, TO_NODE
from transfers.errors import OrchestraError, StreamBroken
from transfers.net.connection import (
    HANDSHAKE_TIMEOUT_S,
    MAX_CONTROL_FRAME_BYTES,
    Connection,
    accept_connection,
)
from transfers.net.network import Listener, Network, Stream
from transfers.planners.events import TICK_INTERVAL_S

MAX_SESSIONS = 16_384
"""Connections at one time (a guess: ten times the largest cluster we measure)."""
MAX_QUEUED_BYTES = 64 << 20
"""Unsent commands of one node before it is dropped as not reading (a guess: four of the largest frames)."""
_GOODBYE_S = 1.0
"""Longest wait for the last messages of a session to leave."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Session:
    """One connection and what waits to be sent on it."""

    number: SessionId
    connection: Connection
    queue: list[bytes] = field(default_factory=list)
    queued_bytes: int = 0
    closing: bool = False
    joined: bool = False
    wake: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class ControllerServer:
    """Serves one core. Made by `serve`."""

    def __init__(self, core: ControllerCore, secret: bytes, listener: Listener, threads: bool) -> None:
        self.core = core
        self.address = listener.address
        self._secret = secret
        self._threads = threads
        self._listener = listener
        self._sessions: dict[SessionId, _Session] = {}
        self._numbers = 0
        self._opening = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; no session's fault ends the service."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick, nursery)
            task_status.started()
            try:
                while True:
                    stream = await self._listener.accept()
                    if len(self._sessions) + self._opening >= MAX_SESSIONS:
                        log.warning("%s dropped: %d sessions already", stream.peer, MAX_SESSIONS)
                        stream.abort()
                    else:
                        nursery.start_soon(self._serve, stream)
            finally:
                with trio.CancelScope(shield=True):
                    await self._listener.aclose()

    async def _tick(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(TICK_INTERVAL_S)
            self.core.tick(trio.current_time())
            self._flush()
            job = self.core.topology.take_job()
            if job is not None:
                nursery.start_soon(self._infer, job)

    async def _infer(self, job: Callable[[], Callable[[], None]]) -> None:
        """Have racks inferred, which may take seconds."""
        take = await trio.to_thread.run_sync(job, abandon_on_cancel=True) if self._threads else job()
        take()
        self._flush()

    async def _serve(self, stream: Stream) -> None:
        self._opening += 1
        try:
            connection = await accept_connection(stream, self._secret)
        except OrchestraError as refused:
            log.warning("%s dropped: %s", stream.peer, refused)
            return
        finally:
            self._opening -= 1
        stream.prefer_low_delay()
        self._numbers += 1
        session = _Session(SessionId(self._numbers), connection)
        self._sessions[session.number] = session
        reason = "connection closed"
        try:
            with session.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, session)
                    reason = await self._read(session)
                    session.closing = True
                    session.wake.set()
                    nursery.cancel_scope.deadline = trio.current_time() + _GOODBYE_S
        finally:
            del self._sessions[session.number]
            stream.abort()
            self.core.closed(session.number, reason, trio.current_time())
            self._flush()

    async def _read(self, session: _Session) -> str:
        """Feed the core until the session ends; why it ended."""
        connection = session.connection
        try:
            with trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_TIMEOUT_S) as patience:
                while (body := await connection.receive_frame(MAX_CONTROL_FRAME_BYTES)) is not None:
                    if not session.joined:
                        session.joined, patience.deadline = True, math.inf
                    message = TO_CONTROLLER.decode(body)
                    self.core.receive(session.number, message, trio.current_time())
                    self._flush()
            if patience.cancelled_caught:
                log.warning("%s dropped: did not join", connection.peer)
        except StreamBroken as broken:
            log.debug("%s", broken)
        except OrchestraError as bad:
            log.warning("%s dropped: %s", connection.peer, bad)
            return str(bad)
        return "connection closed"

    async def _write(self, session: _Session) -> None:
        """Send what is queued, until the session closes."""
        try:
            while session.queue or not session.closing:
                if not session.queue:
                    session.wake = trio.Event()
                    await session.wake.wait()
                    continue
                bodies, session.queue, session.queued_bytes = session.queue, [], 0
                await session.connection.send_frames(bodies)
        except StreamBroken as broken:
            log.debug("%s", broken)
        session.scope.cancel()

    def _flush(self) -> None:
        """Queue what the core has to say. What it says to many is encoded once."""
        output = self.core.take_output()
        encoded: dict[int, bytes] = {}
        for number, message in output:
            session = self._sessions.get(number)
            if session is None or session.closing:
                continue
            if message is None:
                session.closing = True
                session.scope.deadline = trio.current_time() + _GOODBYE_S
            else:
                body = encoded.get(id(message))  # they all live until the end of this call
                if body is None:
                    body = encoded[id(message)] = TO_NODE.encode(message)
                self._queue(session, body)
            session.wake.set()
        for line in self.core.take_log():
            log.info("%s", line)

    def _queue(self, session: _Session, body: bytes) -> None:
        session.queue.append(body)
        session.queued_bytes += len(body)
        if session.queued_bytes > MAX_QUEUED_BYTES:
            log.warning("%s dropped: does not read its commands", session.connection.peer)
            session.scope.cancel()


@asynccontextmanager
async def serve(
    network: Network,
    address: str,
    secret: bytes,
    config: ControllerConfig,
    rng: Random,
    *,
    threads: bool = True,
) -> AsyncIterator[ControllerServer]:
    """Run a controller on ``address`` while the block runs.

    Without ``threads`` what takes long is done in between: under virtual time, which does not wait for them.

    Raises:
        ConnectFailed: when the address cannot be had.
    """
    listener = await network.listen(address)
    server = ControllerServer(ControllerCore(config, rng), secret, listener, threads)
    with collapsed():
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            yield server
            nursery.cancel_scope.cancel()
