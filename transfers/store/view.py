"""What a user gets of a complete object: its bytes, read-only and without a copy.

Owns the reading of bytes as arrays and pickles. Must not know where the bytes lie; the memory stays in
place while the view, its buffer or any array made from it lives.
"""

import pickle
from math import prod

import numpy as np
import numpy.typing as npt

from transfers.errors import LocalProtocolError, RemoteProtocolError
from transfers.manifest import ContentType


class ObjectView:
    """A read-only view of one object.

    Args:
        data: all bytes of the object, one-dimensional, format ``B``.
        content: how to read them.
        allow_pickle: whether `object` may unpickle, which can run any code that the sender chose.

    Attributes:
        buffer: the bytes as a read-only memoryview.
        content: kind, dtype and shape as the sender gave them.
    """

    __slots__ = ("_allow_pickle", "buffer", "content")

    def __init__(self, data: memoryview, content: ContentType, allow_pickle: bool = False) -> None:
        self.buffer = data.toreadonly()
        self.content = content
        self._allow_pickle = allow_pickle

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.buffer.nbytes

    def __len__(self) -> int:
        return self.buffer.nbytes

    def __repr__(self) -> str:
        return f"ObjectView({self.nbytes} bytes, {self.content.kind})"

    def array(self) -> npt.NDArray[np.generic]:
        """The object as a read-only array: as it was sent, or ``uint8`` in one dimension for plain bytes.

        Raises:
            LocalProtocolError: when a pickled object was sent.
            RemoteProtocolError: when the sender's dtype and shape do not fit the bytes.
        """
        dtype: np.dtype[np.generic]
        shape: tuple[int, ...]
        match self.content.kind:
            case "bytes":
                dtype, shape = np.dtype(np.uint8), (self.nbytes,)
            case "array":
                dtype, shape = _checked_dtype(self.content.dtype), self.content.shape
            case "pickle":
                raise LocalProtocolError("a pickled object is no array: use .object()")
            case kind:
                raise RemoteProtocolError(f"unknown kind of content {kind!r}: use .buffer")
        if any(side < 0 for side in shape) or prod(shape) * dtype.itemsize != self.nbytes:
            raise RemoteProtocolError(
                f"{self.nbytes} bytes are no array of shape {shape} and dtype {dtype.str}"
            )
        try:
            return np.ndarray(shape, dtype, buffer=self.buffer)
        except ValueError as bad:  # more dimensions than numpy has, or sides beyond its integers
            raise RemoteProtocolError(f"no array of {len(shape)} dimensions: {bad}") from bad

    def object(self) -> object:
        """Unpickle the object. Only for senders that are trusted: it runs what they say.

        Raises:
            LocalProtocolError: when it was not sent as a pickle, or unpickling was not allowed.
        """
        if self.content.kind != "pickle":
            raise LocalProtocolError(
                f"the object was sent as {self.content.kind}, not pickled: use .array() or .buffer"
            )
        if not self._allow_pickle:
            raise LocalProtocolError(
                "unpickling is not allowed here: start the cluster with --allow-pickle "
                "(allow_pickle=True) if every sender is trusted, or use .buffer"
            )
        return pickle.loads(self.buffer)


def _checked_dtype(text: str) -> np.dtype[np.generic]:
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, SyntaxError) as bad:
        raise RemoteProtocolError(f"dtype {text[:60]!r} is not one of numpy's") from bad
    if dtype.hasobject or dtype.itemsize == 0:
        raise RemoteProtocolError(f"dtype {text[:60]!r} cannot be read from plain bytes")
    return dtype
