"""What is packed is unpacked; what does not fit is the sender's fault."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.kmeans.exchange import SharedVersion, pack_local, pack_shared, unpack_local, unpack_shared
from orchestra.kmeans.maths import LocalPrototypes
from transfers.errors import RemoteProtocolError

sides = st.integers(1, 6)


@given(count=sides, dimensions=sides, last=st.booleans())
def test_a_shared_version_comes_back(count: int, dimensions: int, last: bool) -> None:
    prototypes = np.random.default_rng(0).normal(size=(count, dimensions))
    back = unpack_shared(pack_shared(SharedVersion(prototypes, last)), count, dimensions)
    np.testing.assert_array_equal(back.prototypes, prototypes)
    assert back.last is last


@given(count=sides, dimensions=sides, changed=st.integers(0, 2**53))
def test_local_prototypes_come_back(count: int, dimensions: int, changed: int) -> None:
    generator = np.random.default_rng(0)
    local = LocalPrototypes(
        generator.normal(size=(count, dimensions)),
        generator.integers(0, 2**53, count).astype(float),
        *(0.1, changed, 0.25),
    )
    back = unpack_local(pack_local(local), count, dimensions)
    np.testing.assert_array_equal(back.averages, local.averages)
    np.testing.assert_array_equal(back.counts, local.counts)
    assert (back.inertia, back.changed, back.compute_s) == (0.1, changed, 0.25)


@pytest.mark.parametrize("array", [np.zeros(7), np.zeros((1, 7)), np.zeros(10, np.float32), np.zeros(0)])
def test_arrays_of_another_size_or_type_are_the_senders_fault(
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
) -> None:
    with pytest.raises(RemoteProtocolError, match="local prototypes should be 11 numbers"):
        unpack_local(array, 2, 3)
    if array.shape != (7,):
        with pytest.raises(RemoteProtocolError, match="shared prototypes should be 7 numbers"):
            unpack_shared(array, 2, 3)
