"""A node's conversation with its controller: joining, requests, heartbeats, and coming back.

Owns the one connection. When it breaks, the node carries on with the commands it has and tries to come
back for `RECONNECT_LIMIT_S`; it then says what it holds, and the controller plans from there. What cannot be
answered any more fails with `ControllerLost`.
"""

import logging
import math
from collections.abc import Callable
from typing import Protocol

import trio

from orchestra.messages import (
    TO_CONTROLLER,
    TO_NODE,
    Denied,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Leave,
    NotJoined,
    PlaceTaken,
    Planned,
    Status,
    StillHere,
    ToController,
    ToNode,
)
from transfers.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ControllerLost,
    JoinRefused,
    OrchestraError,
    RemoteProtocolError,
    StreamBroken,
    TransferRefused,
    WaitTimeout,
)
from transfers.net.connection import (
    MAX_CONTROL_FRAME_BYTES,
    Connection,
    open_connection,
    receive_message,
)
from transfers.net.network import Network

CONNECT_TIMEOUT_S = 5.0
"""For one attempt (a guess: two lost SYNs and some slack)."""
RECONNECT_LIMIT_S = 30.0
"""How long a node tries to come back (contract: agents retry for 30 s)."""
RETRY_PAUSE_S = 0.2
MAX_RETRY_PAUSE_S = 2.0
"""First and longest pause between attempts (guesses: quick at first, then easy on a busy host)."""
BUSY_HEARTBEAT_S = 0.25
"""Between heartbeats while a transfer is under way: four of them in the second after which silence is
taken for trouble."""
GOODBYE_S = 1.0
"""Longest wait for the word of leaving to leave (a guess)."""
MAX_UNSENT = 100_000
"""Messages that may wait to be sent (a guess: a report for every block of the largest objects)."""

Answer = Planned | Granted | Denied | Status | PlaceTaken

log = logging.getLogger(__name__)


class LinkOwner(Protocol):
    """What the link needs of its node."""

    def make_join(self) -> Join:
        """The opening message, with the inventory of this moment."""
        ...

    def joined(self, message: Joined) -> None:
        """The controller has taken the node in, for the first time or again."""
        ...

    def hear(self, message: ToNode) -> None:
        """A command has come; must not block."""
        ...

    @property
    def busy(self) -> bool:
        """Whether this node takes part in a transfer that is under way."""
        ...

    @property
    def report_interval_s(self) -> float:
        """How long it may gather what it reports; it need not say more often that it is alive."""
        ...


class ControllerLink:
    """The connection to the controller at ``address``.

    Args:
        network: how to reach it.
        address: HOST:PORT.
        secret: the cluster's, empty for none.
        owner: whose link it is.
        reconnect: whether to come back when the connection breaks.
    """

    def __init__(
        self, network: Network, address: str, secret: bytes, owner: LinkOwner, *, reconnect: bool
    ) -> None:
        self.address = address
        self._network = network
        self._secret = secret
        self._owner = owner
        self._reconnect = reconnect
        self._unsent: list[bytes] = []
        self._wake = trio.Event()
        self._connected = False
        self._in_frame = False
        self._numbers = 0
        self._answers: dict[int, Answer | None] = {}
        self._answered: dict[int, trio.Event] = {}
        self._up = trio.Event()
        self._silence_limit_s = math.inf
        self.lost = trio.Event()
        self.lost_because = ""
        self._heartbeat_s = BUSY_HEARTBEAT_S
        self._spoke_at_s = -math.inf

    # -- for the node --------------------------------------------------------------------------

    def send(self, message: ToController) -> None:
        """Queue an event; while the connection is down events are dropped, the inventory replaces them."""
        if self._connected and len(self._unsent) < MAX_UNSENT:
            self._spoke_at_s = trio.current_time()
            self._unsent.append(TO_CONTROLLER.encode(message))
            self._wake.set()

    async def request(self, make: Callable[[int], ToController], timeout_s: float) -> Answer:
        """Ask and wait for the answer; while the link tries to come back, wait for that first.

        Raises:
            TransferRefused: when it is denied.
            ControllerLost: when the connection breaks before the answer.
            WaitTimeout: when none comes in time.
        """
        self._numbers += 1
        number = self._numbers
        self._answered[number] = trio.Event()
        message = make(number)
        try:
            with trio.fail_after(timeout_s):
                await self._up.wait()
                if self.lost.is_set():
                    raise ControllerLost(f"controller {self.address} lost: {self.lost_because}")
                self.send(message)
                await self._answered[number].wait()
            answer = self._answers[number]
        except trio.TooSlowError:
            raise WaitTimeout(
                f"controller {self.address} did not answer {type(message).__name__} within {timeout_s:g} s"
            ) from None
        finally:
            del self._answered[number]
            self._answers.pop(number, None)
        if answer is None:
            raise ControllerLost(f"controller {self.address} lost: {self.lost_because}")
        if isinstance(answer, Denied):
            raise TransferRefused(answer.reason)
        return answer

    # -- running -------------------------------------------------------------------------------

    async def run(
        self, connect_timeout_s: float, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Join, then stay joined until cancelled or lost for good.

        Raises:
            ConnectFailed, AuthenticationFailed, JoinRefused: when the first joining fails within
                ``connect_timeout_s``. Later failures set `lost` instead.
        """
        connection = await self._join_within(connect_timeout_s)
        task_status.started()
        while True:
            why = await self._converse(connection)
            self._break_off(why)
            if not self._reconnect:
                break
            log.warning("controller %s lost (%s); trying to come back", self.address, why)
            try:
                connection = await self._join_within(RECONNECT_LIMIT_S)
            except OrchestraError as failed:
                self.lost_because = f"{why}; no way back within {RECONNECT_LIMIT_S:g} s: {failed}"
                break
        self.lost.set()
        self._up.set()

    async def _join_within(self, limit_s: float) -> Connection:
        give_up_at = trio.current_time() + limit_s
        pause_s = RETRY_PAUSE_S
        while True:
            try:
                return await self._join()
            except (ConnectFailed, StreamBroken) as failed:
                if trio.current_time() + pause_s > give_up_at:
                    if isinstance(failed, ConnectFailed):
                        raise
                    raise ConnectFailed(f"cannot join at {self.address}: {failed}") from failed
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_PAUSE_S)

    async def _join(self) -> Connection:
        stream = await self._network.connect(self.address, CONNECT_TIMEOUT_S)
        try:
            connection = await open_connection(stream, self._secret)
        except RemoteProtocolError as bad:
            raise AuthenticationFailed(f"{self.address} is no Orchestra controller: {bad}") from bad
        try:
            stream.prefer_low_delay()
            await connection.send_frame(TO_CONTROLLER.encode(self._owner.make_join()))
            with trio.fail_after(CONNECT_TIMEOUT_S):
                answer = await receive_message(connection, TO_NODE, MAX_CONTROL_FRAME_BYTES)
        except trio.TooSlowError:
            stream.abort()
            raise StreamBroken(f"controller {self.address} did not answer") from None
        except BaseException:
            stream.abort()
            raise
        match answer:
            case Joined():
                self._heartbeat_s = answer.heartbeat_interval_s
                self._silence_limit_s = answer.silence_limit_s
                self._connected = True
                self._up.set()
                self._owner.joined(answer)
                return connection
            case NotJoined(reason=reason):
                stream.abort()
                raise JoinRefused(f"controller {self.address} refuses this node: {reason}")
            case _:
                stream.abort()
                raise AuthenticationFailed(f"{self.address} answered a join with {type(answer).__name__}")

    async def _converse(self, connection: Connection) -> str:
        """Speak until the connection breaks; why it did."""
        why = ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, connection)
                nursery.start_soon(self._beat)
                try:
                    await self._read(connection)
                    why = "connection closed"
                except (StreamBroken, RemoteProtocolError) as broken:
                    why = str(broken)
                nursery.cancel_scope.cancel()
        finally:
            if not why:  # cancelled, not broken
                await self._take_leave(connection)
            connection.stream.abort()
        return why

    async def _take_leave(self, connection: Connection) -> None:
        """This node goes by its own will: say what is unsaid, and that it does."""
        if self._in_frame:
            return  # broken off inside a frame: nothing more can be said on this connection
        with trio.move_on_after(GOODBYE_S, shield=True):
            try:
                await connection.send_frames([*self._unsent, TO_CONTROLLER.encode(Leave())])
            except StreamBroken as broken:
                log.debug("%s", broken)

    async def _read(self, connection: Connection) -> None:
        while True:
            try:
                with trio.fail_after(self._silence_limit_s):
                    body = await connection.receive_frame(MAX_CONTROL_FRAME_BYTES)
            except trio.TooSlowError:
                raise StreamBroken(f"no word from it for {self._silence_limit_s:g} s") from None
            if body is None:
                return
            message = TO_NODE.decode(body)
            match message:
                case StillHere():
                    pass
                case Planned(request=number) | Granted(request=number):
                    self._answer(number, message)
                case Denied(request=number) | Status(request=number) | PlaceTaken(request=number):
                    self._answer(number, message)
                case _:
                    self._owner.hear(message)

    def _answer(self, number: int, answer: Answer | None) -> None:
        waiting = self._answered.get(number)
        if waiting is not None:
            self._answers[number] = answer
            waiting.set()

    async def _write(self, connection: Connection) -> None:
        try:
            while True:
                if not self._unsent:
                    self._wake = trio.Event()
                    await self._wake.wait()
                await trio.lowlevel.checkpoint_if_cancelled()  # here, while nothing of them has been sent
                bodies, self._unsent = self._unsent, []
                self._in_frame = True
                await connection.send_frames(bodies)
                self._in_frame = False
        except StreamBroken as broken:
            log.debug("%s", broken)
            connection.stream.abort()

    async def _beat(self) -> None:
        """Say something now and then; more often while silence would be taken for trouble."""
        looked_at_s = beat_at_s = trio.current_time()
        while True:
            pause_s = min(max(BUSY_HEARTBEAT_S, self._owner.report_interval_s), self._heartbeat_s)
            await trio.sleep_until(max(looked_at_s, self._spoke_at_s) + pause_s)
            looked_at_s = trio.current_time()
            # Whoever reports need not say besides that it is alive; but only a heartbeat is answered.
            silent = self._owner.busy and looked_at_s - self._spoke_at_s >= pause_s
            if silent or looked_at_s - beat_at_s >= self._heartbeat_s:
                beat_at_s = looked_at_s
                self.send(Heartbeat())

    def _break_off(self, why: str) -> None:
        self._connected = False
        self._up = trio.Event()
        self.lost_because = why
        self._unsent.clear()
        for number in list(self._answered):
            self._answer(number, None)
