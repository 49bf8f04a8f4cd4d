"""Partitions that this node is to take in and has no room for yet.

Owns their order. Must not know stores or connections: whoever asks says whether one has room.

Theory of operation. A reducer takes in a partition only when it has room for all of it, and in the order in
which the controller has named them, which is the same for all nodes: so no two nodes keep halves that wait
for each other's memory. One that has no room holds up those behind it; a large one is not passed by for ever.
"""

from collections.abc import Callable

from transfers.ids import NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey


class WaitingRoom:
    """Of one node."""

    def __init__(self) -> None:
        self._waiting: dict[ObjectKey, tuple[Manifest, NodeName | None]] = {}

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, manifest: Manifest) -> None:
        """A partition waits from now on, behind the others."""
        self._waiting.setdefault(manifest.key, (manifest, None))

    def follow(self, key: ObjectKey, source: NodeName | None) -> None:
        """From whom to take one of them when it has room."""
        manifest, _ = self._waiting[key]
        self._waiting[key] = (manifest, source)

    def admit(self, has_room: Callable[[Manifest, NodeName | None], bool]) -> None:
        """Let in who has room, in order, up to the first that has not."""
        while self._waiting:
            key, (manifest, source) = next(iter(self._waiting.items()))
            if not has_room(manifest, source):
                return
            self._waiting.pop(key, None)

    def forget(self, key: ObjectKey) -> bool:
        """It is not to be taken in any more; whether it waited."""
        return self._waiting.pop(key, None) is not None

    def of(self, transfer: TransferName) -> list[ObjectKey]:
        """Those of one transfer."""
        return [key for key in self._waiting if key.transfer == transfer]
