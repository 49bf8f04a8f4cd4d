"""Exceptions of context managers that run tasks of their own, as the user expects them.

A nursery wraps whatever leaves it in exception groups. Users of `async with orchestra.join(...)` raise
and catch their own plain exceptions in its body and need not know that there is a nursery.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collapsed() -> Iterator[None]:
    """Raise the one exception inside a group instead of the group; several stay a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        only = _only(group)
        if only is None:
            raise
        raise only from only.__cause__


def first_of(group: BaseExceptionGroup[BaseException], *kinds: type[BaseException]) -> BaseException | None:
    """The first exception in a group of nothing but these kinds; None if there are others in it."""
    if group.split(kinds)[1] is not None:
        return None
    inner = group.exceptions[0]
    return first_of(inner, *kinds) if isinstance(inner, BaseExceptionGroup) else inner


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    if len(group.exceptions) != 1:
        return None
    inner = group.exceptions[0]
    return _only(inner) if isinstance(inner, BaseExceptionGroup) else inner
