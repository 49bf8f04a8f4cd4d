"""The table of transfers: which names are taken, who waits for which, and what has become of the gone.

Owns names and memory of transfers; what happens inside one is its own controller's business. Pure.
"""

from collections import deque
from collections.abc import Iterator

from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.transfer import TransferController
from orchestra.names import transfer_name
from transfers.ids import NodeName, TransferName

MAX_REMEMBERED = 200
"""Transfers that are gone and still shown in the status (a guess)."""
MAX_TRANSFERS = 10_000
"""Transfers that may exist at one time (a guess)."""


class TransferTable:
    """All transfers of one controller."""

    def __init__(self) -> None:
        self._transfers: dict[TransferName, TransferController] = {}
        self._remembered: deque[tuple[TransferName, dict[str, object]]] = deque(maxlen=MAX_REMEMBERED)
        self._wanted: dict[TransferName, dict[NodeName, None]] = {}

    def __iter__(self) -> Iterator[TransferController]:
        """All transfers as of now, in the order of their beginning; they may go while one looks."""
        return iter(list(self._transfers.values()))

    def __len__(self) -> int:
        return len(self._transfers)

    def get(self, name: TransferName) -> TransferController | None:
        """The transfer of a name, also if it has ended a moment ago."""
        return self._transfers.get(name)

    def held(self, name: TransferName) -> TransferController | None:
        """The transfer of a name, unless its name is free again."""
        transfer = self._transfers.get(name)
        return None if transfer is None or transfer.gone else transfer

    def why_not(self, name: str) -> str | None:
        """Why a new transfer cannot have a name; None if it can."""
        try:
            transfer_name(name)
        except ValueError as bad:
            return str(bad)
        taken = self.held(TransferName(name))
        if taken is not None:
            return f"a transfer named {name!r} exists ({taken.state.value}); release it first"
        if len(self._transfers) >= MAX_TRANSFERS:
            return f"{MAX_TRANSFERS} transfers exist already; release some"
        return None

    def add(self, transfer: TransferController) -> None:
        """A transfer begins, in place of one that has ended under its name."""
        self._forget(transfer.name)
        self._transfers[transfer.name] = transfer

    def remove(self, name: TransferName) -> None:
        """A transfer was made for nothing."""
        self._forget(name)

    def forget_ended(self) -> None:
        """Keep of the ended no more than is shown."""
        for name, transfer in list(self._transfers.items()):
            if transfer.gone:
                self._forget(name)

    def how_ended(self, name: TransferName) -> str | None:
        """The state in which the last transfer of a name has ended, if that is remembered."""
        last = self._transfers.get(name)
        if last is not None and last.gone:  # it is not yet put away
            return last.state.value
        for each, told in reversed(self._remembered):
            if each == name:
                return str(told["state"])
        return None

    def described(self) -> dict[str, dict[str, object]]:
        """All that are there or remembered, as `orchestra status --json` shows them."""
        told: dict[str, dict[str, object]] = dict(self._remembered)
        told.update({name: _described(transfer) for name, transfer in self._transfers.items()})
        return told

    def blocks_held(self) -> dict[TransferName, int]:
        """Of every broadcast, how many blocks its receivers hold, all together, as their reports say."""
        return {
            name: transfer.blocks_held_count
            for name, transfer in self._transfers.items()
            if isinstance(transfer, BroadcastController)
        }

    # -- who waits for what does not exist yet -----------------------------------------------------

    @property
    def wanted(self) -> tuple[TransferName, ...]:
        """Transfers that nodes wait for and that are not there."""
        return tuple(self._wanted)

    def note_wanted(self, node: NodeName, name: TransferName) -> None:
        """Remember who wants a transfer that is not there; the oldest go first when there are too many."""
        self._wanted.setdefault(name, {})[node] = None
        if len(self._wanted) > MAX_TRANSFERS:
            del self._wanted[next(iter(self._wanted))]

    def take_wanted(self, name: TransferName) -> list[NodeName]:
        """Who has waited for a transfer; it is there now."""
        return list(self._wanted.pop(name, {}))

    def forget_node(self, node: NodeName) -> None:
        """A node is gone and waits for nothing."""
        for name, wanted_by in list(self._wanted.items()):
            wanted_by.pop(node, None)
            if not wanted_by:
                del self._wanted[name]

    def _forget(self, name: TransferName) -> None:
        gone = self._transfers.pop(name, None)
        if gone is not None and gone.over:
            self._remembered.append((name, _described(gone)))
        if isinstance(gone, BroadcastController):
            for node in gone.wanted_in_vain():
                self.note_wanted(node, name)


def _described(transfer: TransferController) -> dict[str, object]:
    tally = transfer.tally
    told: dict[str, object] = {
        "kind": transfer.kind,
        "mechanism": transfer.method,
        "state": "paused" if transfer.paused else transfer.state.value,
        "progress": round(transfer.progress, 4),
        "failed": dict(tally.failed),
        "priority": transfer.claim.priority,
        "weight": transfer.claim.weight,
        "granted_bytes_per_s": None if transfer.over else transfer.granted_bytes_per_s,
    }
    if tally.replaced:
        told["replaced"] = dict(tally.replaced)
    if isinstance(transfer, BroadcastController):
        told["predicted_s"] = tally.predicted_s
        told["completion_s"] = tally.completion_s if transfer.over else None
        told["prediction_error"] = tally.prediction_error
    return told
