"""What can be broadcast or shuffled, and what its bytes mean.

Anything with the buffer protocol travels as it is, numpy arrays with dtype and shape. Other objects
are pickled only where the cluster was started to allow that. Owns, too, from what size on such bytes are
made or copied in a thread.
"""

import pickle
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import trio

from transfers.errors import LocalProtocolError
from transfers.manifest import ContentType

THREAD_FROM_BYTES = 8 << 20
"""A copy of this size takes 2 to 16 ms (measured at 0.5 GB/s into fresh memory, 5 GB/s into used)."""

ResultT = TypeVar("ResultT")


async def in_thread_if_large(work: Callable[[], ResultT], size_bytes: int) -> ResultT:
    """Do what takes long for many bytes in a thread: this node's other transfers and heartbeats go on.

    Whoever is cancelled meanwhile still gets the result, and sees the cancellation at its next wait. Under
    a virtual clock no thread is used: time would run away from it.
    """
    if size_bytes < THREAD_FROM_BYTES or _time_is_virtual():
        return work()
    return await trio.to_thread.run_sync(work)


def _time_is_virtual() -> bool:
    """Whether the clock is `trio.testing.MockClock`.

    Unless somebody has imported it, it cannot be: where pytest is installed that costs a process 0.2 s.
    """
    testing = sys.modules.get("trio.testing")
    return testing is not None and isinstance(trio.lowlevel.current_clock(), testing.MockClock)


def as_bytes(value: Any, *, allow_pickle: bool) -> tuple[memoryview, ContentType]:
    """The bytes of a value and how to read them; copies only where an array is not C-contiguous.

    Raises:
        ValueError: for arrays of Python objects, with named fields, or masked.
        LocalProtocolError: for values without the buffer protocol where pickling is not allowed.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            "masked arrays cannot travel: the mask would be lost; send data and mask by themselves"
        )
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise ValueError(f"arrays of Python objects cannot travel, got dtype {value.dtype}")
        if value.dtype.fields is not None:
            raise ValueError(f"arrays with named fields cannot travel, got dtype {value.dtype}")
        array = np.ascontiguousarray(value).reshape(value.shape)
        return _flat(array), ContentType("array", array.dtype.str, tuple(array.shape))
    try:
        view = memoryview(value)
    except TypeError:
        return _pickled(value, allow_pickle)
    if not view.c_contiguous:
        view = memoryview(view.tobytes())
    return (view.cast("B") if view.nbytes else memoryview(b"")), ContentType()


def _flat(array: "np.ndarray[Any, Any]") -> memoryview:
    if not array.nbytes:
        return memoryview(b"")
    return array.reshape(-1).view(np.uint8).data


def _pickled(value: Any, allow_pickle: bool) -> tuple[memoryview, ContentType]:
    if not allow_pickle:
        raise LocalProtocolError(
            f"a {type(value).__name__} has no buffer and would have to be pickled; start the cluster with "
            "allow_pickle=True (--allow-pickle) if every node in it is trusted"
        )
    return memoryview(pickle.dumps(value, protocol=5)), ContentType("pickle")
