"""Checks of what users pass in: every bad argument is a `ValueError` with its name and value.

Numbers come out as plain `int` and `float`, whatever they came in as: numpy's own would not go into a
message.
"""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

from orchestra.messages import Claim
from orchestra.names import node_name
from orchestra.units import MAX_SIZE_BYTES
from transfers.ids import NodeName
from transfers.planners import Mechanism

SCHEDULINGS = ("weighted", "fair")
"""Of a shuffle's flows (contract)."""
MOST_PRIORITY = 1 << 31
"""What a message surely holds (a guess far above the number of classes that anybody wants)."""


def parse_mechanism(name: str) -> Mechanism | None:
    """A mechanism by its name; None for ``auto``."""
    if name == "auto":
        return None
    try:
        return Mechanism(name)
    except ValueError:
        known = ", ".join(["auto", *(each.value for each in Mechanism)])
        raise ValueError(f"mechanism must be one of {known}, got {name!r}") from None


def parse_block_size(block_size: object) -> int | None:
    """The size of blocks in bytes; None for a choice."""
    return None if block_size is None else whole_number("block_size", block_size, 1)


def whole_number(argument: str, value: object, least: int = 0) -> int:
    """A whole number of any type of integers, from ``least`` to what a message can hold."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{argument} must be a whole number, got {value!r}")
    number = int(value)
    if not least <= number <= MAX_SIZE_BYTES:
        raise ValueError(f"{argument} must be from {least} to {MAX_SIZE_BYTES}, got {number}")
    return number


def standstill_s(timeout: object) -> float:
    """A limit on standing still, in seconds: above 0 and finite."""
    limit_s = _seconds(timeout)
    if not 0 < limit_s < math.inf:
        raise ValueError(f"timeout must be above 0 and finite, got {timeout}")
    return limit_s


def waiting_s(timeout: object) -> float:
    """A limit on waiting, in seconds: 0 looks without waiting, and infinity waits for ever."""
    limit_s = _seconds(timeout)
    if not limit_s >= 0:  # neither is NaN
        raise ValueError(f"timeout must not be negative, got {timeout}")
    return limit_s


def _seconds(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise ValueError(f"timeout must be a number of seconds, got {timeout!r}")
    try:
        return float(timeout)
    except OverflowError:
        raise ValueError("timeout must be finite, got a number too large to be held") from None


def node_names(argument: str, names: Iterable[str]) -> tuple[NodeName, ...]:
    """Names of nodes, each once."""
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ValueError(f"{argument} must be a sequence of names, got {names!r}")
    given = list(names)
    for name in given:
        if not isinstance(name, str):
            raise ValueError(f"{argument} must be a sequence of names, got {name!r} in it")
    return tuple(dict.fromkeys(node_name(name) for name in given))


def parse_sizes(sizes: Mapping[str, Mapping[str, int]]) -> dict[NodeName, dict[NodeName, int]]:
    """Bytes to shuffle, by mapper, then by reducer."""
    if not isinstance(sizes, Mapping):
        raise ValueError(f"sizes must be a mapping by mapper, got {sizes!r}")
    parsed: dict[NodeName, dict[NodeName, int]] = {}
    for mapper, row in sizes.items():
        if not isinstance(row, Mapping):
            raise ValueError(f"sizes[{mapper!r}] must be a mapping by reducer, got {row!r}")
        reducers = node_names(f"sizes[{mapper!r}]", row)
        parsed[node_names("sizes", [mapper])[0]] = {
            reducer: whole_number(f"sizes[{mapper!r}][{reducer!r}]", row[reducer]) for reducer in reducers
        }
    return parsed


def parse_claim(priority: object, weight: object) -> Claim:
    """The arguments that every transfer has."""
    whole = not isinstance(priority, bool) and isinstance(priority, Integral)
    rank = int(priority) if whole else MOST_PRIORITY + 1  # type: ignore[call-overload]
    if abs(rank) > MOST_PRIORITY:
        raise ValueError(
            f"priority must be a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}, got {priority!r}"
        )
    share = math.nan if isinstance(weight, bool) or not isinstance(weight, Real) else float(weight)
    if not 0 < share < math.inf:
        raise ValueError(f"weight must be a number above 0 and finite, got {weight!r}")
    return Claim(rank, share)


def parse_scheduling(scheduling: object) -> bool:
    """How a shuffle's flows share; whether they are weighted."""
    if scheduling not in SCHEDULINGS:
        raise ValueError(f"scheduling must be one of {', '.join(SCHEDULINGS)}, got {scheduling!r}")
    return scheduling == "weighted"
