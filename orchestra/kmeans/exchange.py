"""What head and workers of a K-Means send each other: flat arrays of float64.

Owns their layout. Must not know how they travel. Pure. Sizes are checked on arrival: a sender that is wrong
is a `RemoteProtocolError`, never an array of a wrong shape.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestra.kmeans.maths import FloatArray, LocalPrototypes
from transfers.errors import RemoteProtocolError

_LOCAL_HEADER = 3
"""Inertia, changed, compute_s."""
_SHARED_HEADER = 1
"""Whether it is the last."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedVersion:
    """The prototypes that all workers go by.

    Attributes:
        prototypes: (K, d), centred.
        last: whether only inertia, counts and labels are still asked for.
    """

    prototypes: FloatArray
    last: bool


def pack_shared(shared: SharedVersion) -> FloatArray:
    """One flat array: last, then the prototypes row by row."""
    return np.concatenate([[float(shared.last)], shared.prototypes.ravel()])


def unpack_shared(array: npt.NDArray[np.generic], count: int, dimensions: int) -> SharedVersion:
    """The reverse of `pack_shared` for K = ``count`` and d = ``dimensions``.

    Raises:
        RemoteProtocolError: for an array of another size or type.
    """
    flat = _checked(array, _SHARED_HEADER + count * dimensions, "shared prototypes")
    return SharedVersion(flat[_SHARED_HEADER:].reshape(count, dimensions), bool(flat[0]))


def pack_local(local: LocalPrototypes) -> FloatArray:
    """One flat array: inertia, changed, compute_s, the counts, then the averages row by row."""
    header = [local.inertia, float(local.changed), local.compute_s]
    return np.concatenate([header, local.counts, local.averages.ravel()])


def unpack_local(array: npt.NDArray[np.generic], count: int, dimensions: int) -> LocalPrototypes:
    """The reverse of `pack_local` for K = ``count`` and d = ``dimensions``.

    Raises:
        RemoteProtocolError: for an array of another size or type.
    """
    flat = _checked(array, _LOCAL_HEADER + count + count * dimensions, "local prototypes")
    inertia, changed, compute_s = flat[:_LOCAL_HEADER].tolist()
    counts, averages = np.split(flat[_LOCAL_HEADER:], [count])
    return LocalPrototypes(averages.reshape(count, dimensions), counts, inertia, int(changed), compute_s)


def _checked(array: npt.NDArray[np.generic], size: int, what: str) -> FloatArray:
    if array.dtype != np.float64 or array.shape != (size,):
        raise RemoteProtocolError(
            f"{what} should be {size} numbers of float64, got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.float64, copy=False)
