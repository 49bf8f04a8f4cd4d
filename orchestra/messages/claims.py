"""What transfers claim, and on what terms shuffles go: in messages of both ways."""

from dataclasses import dataclass

LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
"""Weights are compared by their quotients, which are to stay numbers (guesses: more than anybody means)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a transfer claims beside others; which of it counts is the policy's affair.

    Attributes:
        priority: of its class; the highest goes first.
        weight: of its share.

    Raises:
        ValueError: for a weight below `LEAST_WEIGHT` or above `MOST_WEIGHT`.
    """

    priority: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not LEAST_WEIGHT <= self.weight <= MOST_WEIGHT:
            raise ValueError(f"weight must be from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, got {self.weight}")


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
