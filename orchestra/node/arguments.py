"""Checks of what users pass in: every bad argument is a `ValueError` with its name and value."""

from collections.abc import Iterable

from transfers.planners import Mechanism


def parse_mechanism(name: str) -> Mechanism | None:
    """A mechanism by its name; None for ``auto``."""
    if name == "auto":
        return None
    try:
        return Mechanism(name)
    except ValueError:
        known = ", ".join(["auto", *(each.value for each in Mechanism)])
        raise ValueError(f"mechanism must be one of {known}, got {name!r}") from None


def check_broadcast(
    to: Iterable[str] | None,
    wait_for: int,
    block_size: int | None,
    priority: int,
    weight: float,
    timeout: float,
) -> None:
    """The arguments of a broadcast."""
    if isinstance(to, str):
        raise ValueError(f"to must be a sequence of names, got the text {to!r}")
    if wait_for < 0:
        raise ValueError(f"wait_for must not be negative, got {wait_for}")
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    check_sharing(priority, weight, timeout)


def check_sharing(priority: int, weight: float, timeout: float) -> None:
    """The arguments that every transfer has."""
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout must be above 0 and finite, got {timeout}")
    if priority != 0:
        raise ValueError(f"priority must be 0: the policies that heed it are not built yet, got {priority}")
    if weight != 1.0:
        raise ValueError(f"weight must be 1.0: the policies that heed it are not built yet, got {weight}")
