"""Which objects are here or waited for on one node, and how their waiting ends.

Owns the arrivals, by object and by transfer. Must not know what brings an object, or where it lies.
"""

from dataclasses import dataclass, field

import trio

from transfers.ids import TransferName
from transfers.manifest import ObjectKey


@dataclass(slots=True)
class Arrival:
    """What somebody on this node waits for: an object, here and complete, or a reason why not."""

    done: trio.Event = field(default_factory=trio.Event)
    failure: str | None = None

    def end(self, failure: str | None) -> None:
        """It is here, or will not come."""
        self.failure = failure
        self.done.set()


class Arrivals:
    """All arrivals of one node, past ones of objects that are still here included."""

    def __init__(self) -> None:
        self._arrivals: dict[ObjectKey, Arrival] = {}
        self._keys: dict[TransferName, dict[ObjectKey, None]] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    def get(self, key: ObjectKey) -> Arrival | None:
        """The arrival of an object, if it is kept."""
        return self._arrivals.get(key)

    def of(self, transfer: TransferName) -> tuple[ObjectKey, ...]:
        """The objects of a transfer."""
        return tuple(self._keys.get(transfer, ()))

    def expect(self, key: ObjectKey) -> Arrival:
        """The arrival of an object, which is kept from now on if it was not."""
        arrival = self._arrivals.get(key)
        if arrival is None:
            arrival = self._arrivals[key] = Arrival()
            self._keys.setdefault(key.transfer, {})[key] = None
        return arrival

    def forget(self, key: ObjectKey) -> Arrival | None:
        """Keep nothing of an arrival; what was kept."""
        keys = self._keys.get(key.transfer, {})
        keys.pop(key, None)
        if not keys:
            self._keys.pop(key.transfer, None)
        return self._arrivals.pop(key, None)
