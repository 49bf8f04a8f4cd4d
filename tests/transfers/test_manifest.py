"""What a manifest promises."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfers.blocks import BlockLayout
from transfers.ids import TransferName
from transfers.manifest import (
    ContentType,
    ObjectKey,
    PartName,
    RunningChecksum,
    block_checksum,
    make_manifest,
    whole_checksum,
)

KEY = ObjectKey(TransferName("weights/7"))


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_made_manifest_holds_the_checksum_of_every_block(data: bytes, block_size: int) -> None:
    layout = BlockLayout(len(data), block_size)
    manifest = make_manifest(KEY, layout, memoryview(data), ContentType())
    blocks = [data[at : at + block_size] for at in range(0, len(data), block_size)]
    assert manifest.checksums == tuple(block_checksum(block) for block in blocks)
    assert manifest.whole_checksum == whole_checksum(len(data), manifest.checksums)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_checksum_that_runs_along_is_that_of_the_block(parts: list[bytes]) -> None:
    running = RunningChecksum()
    for part in parts:
        running.add(memoryview(part))
    assert running.value() == block_checksum(b"".join(parts))


@given(st.binary(min_size=1, max_size=60), st.integers(1, 50), st.data())
def test_any_flipped_bit_changes_block_and_whole(data: bytes, block_size: int, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    other = bytearray(data)
    other[bit // 8] ^= 1 << bit % 8
    layout = BlockLayout(len(data), block_size)
    one = make_manifest(KEY, layout, memoryview(data), ContentType())
    two = make_manifest(KEY, layout, memoryview(bytes(other)), ContentType())
    assert one.checksums != two.checksums
    assert one.whole_checksum != two.whole_checksum


def test_the_order_of_blocks_and_the_size_count() -> None:
    assert whole_checksum(8, [1, 2]) != whole_checksum(8, [2, 1])
    assert whole_checksum(8, [1, 2]) != whole_checksum(7, [1, 2])


def test_contradictions_are_refused() -> None:
    good = make_manifest(KEY, BlockLayout(10, 4), memoryview(b"0123456789"), ContentType())
    with pytest.raises(ValueError, match="2 given for 3 blocks"):
        dataclasses.replace(good, checksums=good.checksums[:2])
    with pytest.raises(ValueError, match="whole_checksum"):
        dataclasses.replace(good, whole_checksum=good.whole_checksum ^ 1)
    with pytest.raises(ValueError, match="whole_checksum"):
        dataclasses.replace(good, checksums=(0, *good.checksums[1:]))
    with pytest.raises(ValueError, match="data has 9 bytes, the layout 10"):
        make_manifest(KEY, BlockLayout(10, 4), memoryview(b"012345678"), ContentType())


def test_keys_name_their_part() -> None:
    assert str(KEY) == "weights/7"
    assert str(ObjectKey(TransferName("s"), PartName("m/r"))) == "s[m/r]"
