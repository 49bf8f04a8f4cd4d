"""What the head tells a worker process when it starts it, and how that one says why it ended. Pure."""

import json
from dataclasses import asdict, dataclass

EXIT_TRANSFER = 3
"""Beyond 1 and 2, which Python itself uses."""
MAX_SETTINGS_BYTES = 64 * 2**10
"""Of the line with the settings (a guess: they take some hundred bytes)."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker must know to begin.

    Attributes:
        address, token, insecure: of the controller.
        run: what names begin with.
        index: which of the workers it is.
        workers: M.
        clusters: K.
        wants_labels: whether labels are asked for.
        share: whether it maps its host's store or is sent every byte.
        timeout_s: limit on each wait.
        priority, weight: of all its transfers.
    """

    address: str
    token: str | None
    insecure: bool
    run: str
    index: int
    workers: int
    clusters: int
    wants_labels: bool
    share: bool
    timeout_s: float
    priority: int
    weight: float

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "WorkerSettings":
        """The reverse of `to_line`."""
        return cls(**json.loads(line))
