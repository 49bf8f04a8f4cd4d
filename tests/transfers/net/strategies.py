"""Hypothesis strategies for messages, made from the annotations of their classes."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from transfers.blocks import BlockLayout, BlockSet
from transfers.ids import TransferName
from transfers.manifest import ContentType, Manifest, ObjectKey, PartName, whole_checksum

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "", "../x", "x/y", "é" * 30])
INTEGERS = st.integers(-3, 12) | st.integers(-(2**63), 2**64 - 1)
NUMBERS = st.floats(allow_nan=False)


@st.composite
def manifests(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> Manifest:
    """Consistent manifests of small objects."""
    layout = BlockLayout(draw(st.integers(0, 40)), draw(st.integers(1, 12)))
    sums = tuple(draw(st.integers(0, 2**64 - 1)) for _ in range(layout.count))
    key = ObjectKey(TransferName(draw(names)), PartName(draw(st.just("") | names)))
    content = ContentType(
        draw(st.sampled_from(["bytes", "array", "pickle", "other"])),
        draw(st.sampled_from(["", "<f8", "|u1", "O", "nonsense"])),
        tuple(draw(st.lists(INTEGERS, max_size=3))),
        draw(st.just("") | names),
    )
    return Manifest(key, layout, sums, whole_checksum(layout.size_bytes, sums), content)


@st.composite
def block_sets(draw: st.DrawFn) -> BlockSet:
    """Sets over at most 40 blocks."""
    count = draw(st.integers(0, 40))
    return BlockSet(count, draw(st.sets(st.integers(0, count - 1))) if count else ())


def values(kind: Any, names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[Any]:
    """Values of one annotation. Raises `TypeError` for one that has no wire form."""
    leaves: dict[Any, st.SearchStrategy[Any]] = {
        int: INTEGERS,
        bool: st.booleans(),
        bytes: st.binary(max_size=24),
        str: WORDS | names,
        float: NUMBERS,
        Manifest: manifests(names),
        BlockSet: block_sets(),
    }
    if kind in leaves:
        return leaves[kind]
    if isinstance(kind, typing.NewType):
        return names if kind.__supertype__ is str else values(kind.__supertype__, names)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if dataclasses.is_dataclass(kind):
        return messages(typing.cast(type, kind), names)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(st.none() if arg is type(None) else values(arg, names) for arg in args))
    if origin is tuple:
        return st.lists(values(args[0], names), max_size=4).map(tuple)
    if origin is Mapping:
        return st.dictionaries(names, values(args[1], names), max_size=4)
    raise TypeError(f"no strategy for {kind!r}")


def messages(kind: type, names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[Any]:
    """Messages of one class; combinations that the class itself refuses are left out."""
    hints = typing.get_type_hints(kind)
    fields = [values(hints[field.name], names) for field in dataclasses.fields(kind)]

    def make(drawn: tuple[Any, ...]) -> Any:
        try:
            return kind(*drawn)
        except ValueError:
            return None

    return st.tuples(*fields).map(make).filter(lambda made: made is not None)


def any_of(family: Any, names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[Any]:
    """Messages of a family, written as a union."""
    return st.one_of(*(messages(kind, names) for kind in typing.get_args(family)))


def plain_values() -> st.SearchStrategy[Any]:
    """Whatever msgpack can carry, nested."""
    leaf = st.none() | st.booleans() | INTEGERS | NUMBERS | WORDS | st.binary(max_size=16)
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=5).map(tuple) | st.dictionaries(WORDS, inner, max_size=4),
        max_leaves=20,
    )
