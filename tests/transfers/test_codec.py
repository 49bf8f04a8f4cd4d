"""Messages as bytes: what is written is read, and nothing else gets through."""

import struct
import tracemalloc
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.messages import TO_CONTROLLER, TO_NODE, Denied, Holding, Offer, Outcome, ToController, ToNode
from tests.transfers.net.strategies import any_of, manifests, plain_values
from transfers import handshake
from transfers.blocks import MAX_BLOCKS, BlockLayout, BlockSet
from transfers.codec import MAX_NAME_CHARS, Codec, pack, unpack
from transfers.errors import RemoteProtocolError
from transfers.ids import TransferName
from transfers.manifest import ContentType, Manifest, ObjectKey, make_manifest
from transfers.net import messages as data_messages

FAMILIES: list[tuple[Codec[Any], Any]] = [
    (TO_CONTROLLER, ToController),
    (TO_NODE, ToNode),
    (data_messages.CODEC, data_messages.DataMessage),
    (handshake.CODEC, handshake.HandshakeMessage),
]
FAMILY = pytest.mark.parametrize(
    ("codec", "family"), FAMILIES, ids=["to controller", "to node", "data", "handshake"]
)
MANY = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
SOME = make_manifest(
    ObjectKey(TransferName("t")), BlockLayout(10, 4), memoryview(b"0123456789"), ContentType()
)


@FAMILY
@MANY
@given(draw=st.data())
def test_every_message_is_read_as_it_was_written(codec: Codec[Any], family: Any, draw: st.DataObject) -> None:
    message = draw.draw(any_of(family))
    assert codec.decode(codec.encode(message)) == message


@FAMILY
def test_every_message_of_a_family_has_a_wire_form(codec: Codec[Any], family: Any) -> None:
    assert set(codec._writers) == set(typing.get_args(family))


def read_or_refuse(codec: Codec[Any], data: bytes) -> None:
    """Decode; every exception but `RemoteProtocolError` leaves."""
    try:
        message = codec.decode(data)
    except RemoteProtocolError:
        return
    assert codec.decode(codec.encode(message)) == message


@FAMILY
@MANY
@given(draw=st.data())
def test_mutated_and_cut_messages_are_read_or_refused(
    codec: Codec[Any], family: Any, draw: st.DataObject
) -> None:
    data = bytearray(codec.encode(draw.draw(any_of(family))))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    read_or_refuse(codec, bytes(data))
    read_or_refuse(codec, bytes(data[: draw.draw(st.integers(0, len(data)))]))
    read_or_refuse(codec, bytes(data) + draw.draw(st.binary(min_size=1, max_size=3)))


@FAMILY
@MANY
@given(draw=st.data())
def test_random_bytes_and_random_values_are_refused(
    codec: Codec[Any], family: Any, draw: st.DataObject
) -> None:
    read_or_refuse(codec, draw.draw(st.binary(max_size=64)))
    read_or_refuse(codec, pack(draw.draw(plain_values())))
    kind = draw.draw(st.sampled_from(typing.get_args(family))).__name__
    read_or_refuse(codec, pack((kind, draw.draw(plain_values()))))
    fields = draw.draw(st.lists(plain_values(), max_size=8))
    read_or_refuse(codec, pack((kind, tuple(fields))))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x91" * 3000 + b"\x90", b"\x81\xa1a" * 3000 + b"\xc0", b"\x92\x01", b"\x01\x01"]
    + [b"\xd9\x02\xff\xfe", b"\x81\x01\x02", b"\x81\x90\x02"],
    ids=["empty", "reserved", "deep lists", "deep maps", "cut", "two values"]
    + ["bad text", "number as key", "list as key"],
)
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(data)


@pytest.mark.parametrize("first", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_huge_declared_size_does_not_allocate(first: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            unpack(first + struct.pack(">I", 2**32 - 1) + b"\x00" * 100)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nested_declared_sizes_do_not_multiply() -> None:
    # Each list claims as many items as there are bytes left, which alone looks harmless.
    size = 1 << 20
    data = (b"\xdd" + struct.pack(">I", size)) * 1000 + b"\x00" * size
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 8 * size
    finally:
        tracemalloc.stop()


def manifest_fields(**changes: Any) -> bytes:
    """An `Offer` whose manifest is `SOME` with some wire fields replaced."""
    sums = b"".join(each.to_bytes(8, "little") for each in SOME.checksums)
    fields: dict[str, Any] = {
        "transfer": "t", "part": "", "size": 10, "block_size": 4, "sums": sums,
        "whole": SOME.whole_checksum, "kind": "bytes", "dtype": "", "shape": (), "file_name": "",
    }  # fmt: skip
    return pack(("Offer", (1, tuple((fields | changes).values()))))


def test_the_unchanged_manifest_is_read() -> None:
    assert TO_CONTROLLER.decode(manifest_fields()) == Offer(1, SOME)


@pytest.mark.parametrize(
    "changes",
    [
        {"sums": b""},
        {"sums": b"1234567"},
        {"sums": b"\0" * 24},
        {"sums": "text"},
        {"whole": SOME.whole_checksum ^ 1},
        {"whole": -1},
        {"size": 11},
        {"size": -1},
        {"size": 2**64 - 1, "block_size": 1},
        {"size": True},
        {"block_size": 0},
        {"block_size": -4},
        {"block_size": 4.0},
        {"shape": (1.5,)},
        {"shape": "12"},
        {"shape": None},
        {"kind": b"bytes"},
        {"transfer": "x" * (MAX_NAME_CHARS + 1)},
        {"file_name": 7},
    ],
    ids=repr,
)
def test_a_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        TO_CONTROLLER.decode(manifest_fields(**changes))


def test_an_inventory_must_fit_its_manifest() -> None:
    with pytest.raises(ValueError, match="blocks"):
        Holding(SOME, BlockSet(SOME.layout.count + 1))


@pytest.mark.parametrize(
    "wire",
    [(3, b"\x08"), (3, b""), (3, b"\0\0"), (-1, b""), (MAX_BLOCKS + 1, b""), (3, "a"), (3.0, b"\0"), 3],
)
def test_block_sets_that_contradict_themselves_are_refused(wire: Any) -> None:
    codec: Codec[WithSet] = Codec([WithSet])
    with pytest.raises(RemoteProtocolError):
        codec.decode(pack(("WithSet", (wire,))))


@dataclass(frozen=True, slots=True)
class WithSet:
    blocks: BlockSet


@dataclass(frozen=True, slots=True)
class WithOddField:
    odd: set[int]


@dataclass(frozen=True, slots=True)
class WithNumber:
    number: float
    named: Mapping[str, int]


def test_an_annotation_without_a_wire_form_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="no wire form"):
        Codec([WithOddField])


def test_numbers_may_be_whole_and_never_nan() -> None:
    codec: Codec[WithNumber] = Codec([WithNumber])
    assert codec.decode(pack(("WithNumber", (3, {"a": 1})))) == WithNumber(3.0, {"a": 1})
    for bad in (float("nan"), "3", None, True):
        with pytest.raises(RemoteProtocolError):
            codec.decode(pack(("WithNumber", (bad, {}))))


def test_long_reasons_are_cut_short_rather_than_sent_in_vain() -> None:
    read = TO_NODE.decode(TO_NODE.encode(Denied(1, "because " * 1000)))
    assert isinstance(read, Denied)
    assert read.reason.startswith("because because")
    assert len(read.reason) <= MAX_NAME_CHARS
    outcome = Outcome(TransferName("t"), 1.0, {}, {"a": "b" * 5000}, "")
    assert isinstance(TO_NODE.decode(TO_NODE.encode(outcome)), Outcome)


def test_reasons_that_name_a_file_in_no_encoding_can_be_sent() -> None:
    read = TO_NODE.decode(TO_NODE.encode(Denied(1, "no such file: /tmp/\udc80")))
    assert isinstance(read, Denied)
    assert read.reason == "no such file: /tmp/?"


@given(manifests())
def test_manifests_survive(manifest: Manifest) -> None:
    assert TO_CONTROLLER.decode(TO_CONTROLLER.encode(Offer(0, manifest))) == Offer(0, manifest)
