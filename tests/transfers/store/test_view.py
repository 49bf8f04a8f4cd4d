"""What a user gets: read-only, as it was sent, and no code run unasked."""

import pickle

import numpy as np
import pytest

from transfers.errors import LocalProtocolError, RemoteProtocolError
from transfers.manifest import ContentType
from transfers.store.view import ObjectView


def view_of(data: bytes, content: ContentType, allow_pickle: bool = False) -> ObjectView:
    return ObjectView(memoryview(data), content, allow_pickle)


def test_plain_bytes_are_an_array_of_bytes() -> None:
    view = view_of(b"\x01\x02", ContentType())
    assert view.array().tolist() == [1, 2]
    assert (len(view), view.nbytes, bytes(view.buffer)) == (2, 2, b"\x01\x02")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array(7, "<i2"),
        np.zeros((0, 5), ">f4"),
        np.array(["2020-01-01"], "M8[D]"),
        np.array([True, False]),
    ],
)
def test_an_array_comes_back_with_dtype_and_shape(
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
) -> None:
    back = view_of(array.tobytes(), ContentType("array", array.dtype.str, array.shape)).array()
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array)


def test_nothing_can_be_written() -> None:
    view = ObjectView(memoryview(bytearray(8)), ContentType())
    assert view.buffer.readonly
    assert not view.array().flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        ContentType("array", "<f8", (2,)),
        ContentType("array", "<f8", (-1, -1)),
        ContentType("array", "|O", (1,)),
        ContentType("array", "no dtype", (8,)),
        ContentType("array", "", (8,)),
        ContentType("array", "|V0", (8,)),
        ContentType("array", "|u1", (8,) + (1,) * 1000),
        ContentType("array", "|u1", (0, 1 << 80)),
        ContentType("song", "", ()),
    ],
)
def test_a_description_that_does_not_fit_is_the_senders_mistake(content: ContentType) -> None:
    with pytest.raises(RemoteProtocolError):
        view_of(bytes(8), content).array()


@pytest.mark.parametrize("content", [ContentType("array", "|u1", (0, 1 << 80))])
def test_sides_beyond_numpys_are_the_senders_mistake(content: ContentType) -> None:
    with pytest.raises(RemoteProtocolError):
        view_of(b"", content).array()


def test_a_pickle_is_read_only_where_allowed() -> None:
    data = pickle.dumps({"k": [1, 2]})
    assert view_of(data, ContentType("pickle"), allow_pickle=True).object() == {"k": [1, 2]}
    with pytest.raises(LocalProtocolError, match="--allow-pickle"):
        view_of(data, ContentType("pickle")).object()


def test_what_is_no_pickle_is_not_unpickled() -> None:
    data = pickle.dumps(1)
    with pytest.raises(LocalProtocolError, match=r"\.array\(\)"):
        view_of(data, ContentType("bytes"), allow_pickle=True).object()


def test_a_pickle_is_no_array() -> None:
    with pytest.raises(LocalProtocolError, match=r"\.object\(\)"):
        view_of(b"", ContentType("pickle")).array()
