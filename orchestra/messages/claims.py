"""What transfers claim, and on what terms shuffles go: in messages of both ways."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What a transfer claims beside others; which of it counts is the policy's affair.

    Attributes:
        priority: of its class; the highest goes first.
        weight: of its share.

    Raises:
        ValueError: for a weight that is not above 0 and finite.
    """

    priority: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight must be above 0 and finite, got {self.weight}")


@dataclass(frozen=True, slots=True)
class ShuffleTerms:
    """On what terms a shuffle goes; every participant names the same.

    Attributes:
        claim: what it claims beside others.
        weighted: whether its flows are to end together; else all are equal.
        replaceable: whether the place of a lost mapper or reducer may be taken by another; the shuffle then
            waits for that instead of failing.
    """

    claim: Claim = Claim()
    weighted: bool = True
    replaceable: bool = False
