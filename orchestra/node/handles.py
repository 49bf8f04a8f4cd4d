"""What `Node.broadcast` gives back: a transfer to watch, wait for, or cancel."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from orchestra.messages import LetGo, Outcome, Progress
from transfers.errors import ControllerLost, TransferFailed
from transfers.ids import TransferName
from transfers.planners import Mechanism


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a transfer is.

    Attributes:
        done_bytes: verified bytes, summed over the receivers.
        total_bytes: size times receivers.
        receivers_done: receivers that are through.
        receivers: how many there are.
    """

    done_bytes: int
    total_bytes: int
    receivers_done: int
    receivers: int

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.done_bytes / self.total_bytes if self.total_bytes else float(self.receivers_done > 0)


class WatchedTransfer:
    """A transfer that this node has asked for.

    Attributes:
        name: of the transfer.
    """

    def __init__(self, name: TransferName, control: "TransferControl") -> None:
        self.name = name
        self._control = control

    def progress(self) -> TransferProgress:
        """How far it is, as the controller said last."""
        return self._control.progress

    async def wait(self) -> Outcome:
        """Wait until every receiver is through.

        Raises:
            TransferFailed: naming the nodes that do not hold the object, also when only some do not.
            ControllerLost: when nobody can tell any more.
        """
        outcome = await self.wait_outcome()
        if outcome.failed or outcome.reason:
            raise TransferFailed(self.name, outcome.failed, outcome.reason)
        return outcome

    async def wait_outcome(self) -> Outcome:
        """Wait until every receiver is through or has failed, and say how it went.

        Raises:
            ControllerLost: when nobody can tell any more.
        """
        await self._control.over.wait()
        if self._control.outcome is None:
            raise ControllerLost(self._control.lost_because)
        return self._control.outcome

    async def cancel(self) -> None:
        """End it: receivers let go of what they have of it. Returns when the controller has said so."""
        if not self._control.over.is_set():
            self._control.cancel()
            await self._control.over.wait()


class Transfer(WatchedTransfer):
    """One broadcast of this node.

    Attributes:
        mechanism: how it is carried out.
        reason: why so, in one sentence with the numbers.
        size_bytes, block_size_bytes: of the object.
    """

    def __init__(
        self,
        name: TransferName,
        mechanism: Mechanism,
        reason: str,
        size_bytes: int,
        block_size_bytes: int,
        control: "TransferControl",
    ) -> None:
        super().__init__(name, control)
        self.mechanism = mechanism
        self.reason = reason
        self.size_bytes = size_bytes
        self.block_size_bytes = block_size_bytes


class TransferControl:
    """The node's side of a `WatchedTransfer`.

    Args:
        cancel: asks the controller to end it.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.progress = TransferProgress(0, 0, 0, 0)
        self.outcome: Outcome | None = None
        self.lost_because = ""
        self.over = trio.Event()
        self.cancel = cancel

    def hear(self, message: Progress | Outcome) -> None:
        """The controller tells of it."""
        match message:
            case Progress():
                self.progress = TransferProgress(
                    message.done_bytes, message.total_bytes, message.receivers_done, message.receivers
                )
            case Outcome():
                self.outcome = message
                self.over.set()

    def let_go(self, message: LetGo) -> None:
        """The controller does not know it any more, or it was released or cancelled."""
        if not self.over.is_set():
            self.hear(Outcome(message.transfer, 0.0, {}, {}, message.reason))

    def lose(self, reason: str) -> None:
        """The controller is gone for good."""
        if not self.over.is_set():
            self.lost_because = reason
            self.over.set()
