"""msgpack in and out: the only file that imports it.

Owns the bytes of a message; knows nothing of frames or sockets. `pack` and `unpack` handle plain values.
`Codec` does the same for a closed family of frozen dataclasses, checking every field that comes in
against its annotation, so that a peer's mistake is a `RemoteProtocolError` here and never an odd
value further in.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Generic, TypeVar, cast

import msgpack  # type: ignore[import-untyped]

from transfers.blocks import MAX_BLOCKS, BlockLayout, BlockSet
from transfers.errors import RemoteProtocolError
from transfers.ids import TransferName
from transfers.manifest import ContentType, Manifest, ObjectKey, PartName

Packable = None | bool | int | float | str | bytes | tuple["Packable", ...] | Mapping[str, "Packable"]

MAX_NAME_CHARS = 1024
"""Longest text in any field of a message (a guess: path names are limited to 4,096 bytes). Names are
checked to be shorter before they come here; what people read is cut short."""
_SURELY_SMALL_BYTES = 4096
"""Values below this are read at once: whatever sizes they declare, it comes to little memory."""


def pack(value: Packable) -> bytes:
    """Serialise a plain value."""
    return cast(bytes, msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes | bytearray | memoryview) -> Packable:
    """Read a plain value; sequences come back as tuples.

    Raises:
        RemoteProtocolError: when ``data`` is not exactly one msgpack value.
    """
    try:
        if len(data) > _SURELY_SMALL_BYTES:
            # Lists in lists that each declare as many items as there are bytes would reserve room for all
            # of them. Skipping builds nothing, and fails where the items are not there.
            walker = msgpack.Unpacker(max_buffer_size=len(data))
            walker.feed(data)
            walker.skip()
        return cast(Packable, msgpack.unpackb(data, raw=False, use_list=False, strict_map_key=True))
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as bad:
        raise RemoteProtocolError(f"not a msgpack value: {bad}") from bad


_ToWire = Callable[[Any], Packable]
_FromWire = Callable[[Packable], Any]
_Pair = tuple[_ToWire, _FromWire]


def _same(value: Any) -> Packable:
    return cast(Packable, value)


def _exactly(kind: type) -> _FromWire:
    def check(value: Packable) -> Packable:
        if type(value) is not kind:
            raise RemoteProtocolError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return check


def _text_to_wire(text: str) -> str:
    """Cut text short, and put ``?`` for what has no encoding (bytes of a file name, say)."""
    if len(text) > MAX_NAME_CHARS:
        text = text[: MAX_NAME_CHARS - 1] + "…"
    return text if text.isascii() else text.encode(errors="replace").decode()


def _text(value: Packable) -> str:
    if type(value) is not str or len(value) > MAX_NAME_CHARS:
        raise RemoteProtocolError(f"expected text of at most {MAX_NAME_CHARS} characters")
    return value


def _number(value: Packable) -> float:
    if type(value) is int:
        return float(value)
    if type(value) is not float or value != value:
        raise RemoteProtocolError(f"expected a number, got {type(value).__name__}")
    return value


def _items(value: Packable, length: int | None = None) -> tuple[Packable, ...]:
    if type(value) is not tuple or (length is not None and len(value) != length):
        wanted = "a sequence" if length is None else f"a sequence of {length}"
        raise RemoteProtocolError(f"expected {wanted}, got {type(value).__name__}")
    return value


def _manifest_to_wire(manifest: Manifest) -> Packable:
    sums = b"".join(checksum.to_bytes(8, "little") for checksum in manifest.checksums)
    key, layout, content = manifest.key, manifest.layout, manifest.content
    return (
        (key.transfer, key.part, layout.size_bytes, layout.block_size_bytes)
        + (sums, manifest.whole_checksum)
        + (content.kind, content.dtype, content.shape, content.file_name)
    )


def _manifest_from_wire(value: Packable) -> Manifest:
    transfer, part, size, block_size, sums, whole, kind, dtype, shape, file_name = _items(value, 10)
    if type(sums) is not bytes or len(sums) % 8:
        raise RemoteProtocolError("checksums of a manifest must be bytes, 8 a block")
    integer = _exactly(int)
    return Manifest(
        ObjectKey(TransferName(_text(transfer)), PartName(_text(part))),
        BlockLayout(integer(size), integer(block_size)),
        tuple(int.from_bytes(sums[at : at + 8], "little") for at in range(0, len(sums), 8)),
        integer(whole),
        ContentType(
            _text(kind), _text(dtype), tuple(integer(side) for side in _items(shape)), _text(file_name)
        ),
    )


def _block_set_to_wire(blocks: BlockSet) -> Packable:
    return (blocks.count, blocks.to_bytes())


def _block_set_from_wire(value: Packable) -> BlockSet:
    count, bits = _items(value, 2)
    if type(count) is not int or not 0 <= count <= MAX_BLOCKS or type(bits) is not bytes:
        raise RemoteProtocolError("expected a block set")
    if len(bits) != -(-count // 8):
        raise RemoteProtocolError(f"block set of {count} has {len(bits)} bytes")
    return BlockSet.from_bytes(count, bits)


_LEAVES: dict[Any, _Pair] = {
    int: (_same, _exactly(int)),
    bool: (_same, _exactly(bool)),
    bytes: (_same, _exactly(bytes)),
    str: (_text_to_wire, _text),
    float: (_same, _number),
    Manifest: (_manifest_to_wire, _manifest_from_wire),
    BlockSet: (_block_set_to_wire, _block_set_from_wire),
}


def _pair_for(kind: Any) -> _Pair:
    """Converters for one annotation."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    if isinstance(kind, typing.NewType):
        return _pair_for(kind.__supertype__)
    if isinstance(kind, type) and issubclass(kind, Enum):
        members = {member.value: member for member in kind}
        return (lambda member: cast(Packable, member.value)), _enum_reader(kind.__name__, members)
    if dataclasses.is_dataclass(kind):
        return _record_pair(cast(type, kind))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union) and len(args) == 2 and type(None) in args:
        return _optional_pair(_pair_for(next(arg for arg in args if arg is not type(None))))
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        to_wire, from_wire = _pair_for(args[0])
        return (
            lambda items: tuple([to_wire(item) for item in items]),
            lambda value: tuple([from_wire(item) for item in _items(value)]),
        )
    if origin is Mapping:
        return _mapping_pair(_pair_for(args[1]))
    raise TypeError(f"no wire form for annotation {kind!r}")


def _enum_reader(name: str, members: dict[Any, Any]) -> _FromWire:
    def read(value: Packable) -> Any:
        if type(value) is not str or value not in members:
            raise RemoteProtocolError(f"no such {name}: {repr(value)[:60]}")
        return members[value]

    return read


def _optional_pair(inner: _Pair) -> _Pair:
    to_wire, from_wire = inner
    return (
        lambda item: None if item is None else to_wire(item),
        lambda value: None if value is None else from_wire(value),
    )


def _mapping_pair(inner: _Pair) -> _Pair:
    to_wire, from_wire = inner

    def read(value: Packable) -> Any:
        if not isinstance(value, dict):
            raise RemoteProtocolError(f"expected a mapping, got {type(value).__name__}")
        return {_text(key): from_wire(item) for key, item in value.items()}

    return (lambda items: {_text_to_wire(key): to_wire(item) for key, item in items.items()}), read


def _record_pair(kind: type) -> _Pair:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    pairs = [_pair_for(hints[name]) for name in names]
    fields = [(name, pair[0]) for name, pair in zip(names, pairs, strict=True)]
    readers = [pair[1] for pair in pairs]
    count = len(names)

    # Lists, not generators, which take twice as long: a controller reads many thousand records a second.
    def to_wire(record: Any) -> Packable:
        return tuple([convert(getattr(record, name)) for name, convert in fields])

    def from_wire(value: Packable) -> Any:
        if type(value) is not tuple or len(value) != count:
            _items(value, count)
        return kind(*[read(item) for read, item in zip(readers, cast(tuple[Packable, ...], value))])  # noqa: B905

    return to_wire, from_wire


MessageT = TypeVar("MessageT")


class Codec(Generic[MessageT]):
    """A closed family of messages, each sent as ``[tag, field, field, …]`` with its class name as tag."""

    def __init__(self, kinds: Iterable[type[MessageT]]) -> None:
        self._writers: dict[type, tuple[str, _ToWire]] = {}
        self._readers: dict[str, _FromWire] = {}
        for kind in kinds:
            to_wire, from_wire = _record_pair(kind)
            self._writers[kind] = (kind.__name__, to_wire)
            self._readers[kind.__name__] = from_wire

    def encode(self, message: MessageT) -> bytes:
        """Serialise a message of the family."""
        tag, to_wire = self._writers[type(message)]
        return pack((tag, to_wire(message)))

    def decode(self, data: bytes | bytearray | memoryview) -> MessageT:
        """Read a message of the family.

        Raises:
            RemoteProtocolError: for anything that is not a well-formed message of the family.
        """
        tag, body = _items(unpack(data), 2)
        reader = self._readers.get(tag) if isinstance(tag, str) else None
        if reader is None:
            raise RemoteProtocolError(f"unknown message {repr(tag)[:60]}")
        try:
            return cast(MessageT, reader(body))
        except (ValueError, OverflowError) as bad:
            raise RemoteProtocolError(f"bad {tag!r} message: {bad}") from bad
