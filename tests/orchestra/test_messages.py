"""What nodes and the controller say to each other."""

import dataclasses
import typing

import pytest

from orchestra.messages import TO_CONTROLLER, TO_NODE, Claim, Holding, Join, ToController, ToNode
from tests.orchestra.controller.clusters import manifest_of
from transfers.blocks import MAX_BLOCKS, BlockLayout, BlockSet
from transfers.ids import NodeName, TransferName
from transfers.manifest import Manifest, ObjectKey, whole_checksum
from transfers.net.connection import MAX_CONTROL_FRAME_BYTES


def test_no_message_has_the_name_of_another() -> None:
    names = [kind.__name__ for family in (ToController, ToNode) for kind in typing.get_args(family)]
    assert len(set(names)) == len(names)


def test_all_messages_are_frozen_and_slotted() -> None:
    for kind in (*typing.get_args(ToController), *typing.get_args(ToNode)):
        assert dataclasses.fields(kind) is not None
        assert kind.__dataclass_params__.frozen
        assert "__slots__" in vars(kind)


def test_neither_side_takes_the_others_messages() -> None:
    for ours, theirs in ((ToController, TO_NODE), (ToNode, TO_CONTROLLER)):
        for kind in typing.get_args(ours):
            assert kind.__name__ not in theirs._readers


def test_the_largest_manifest_fits_into_a_frame() -> None:
    sums = (2**64 - 1,) * MAX_BLOCKS
    layout = BlockLayout(MAX_BLOCKS, 1)
    manifest = Manifest(
        ObjectKey(TransferName("x" * 1000)), layout, sums, whole_checksum(layout.size_bytes, sums)
    )
    join = Join(NodeName("a"), "", "", "", "", True, False, (Holding(manifest, BlockSet.full(MAX_BLOCKS)),))
    body = TO_CONTROLLER.encode(join)
    assert len(body) <= MAX_CONTROL_FRAME_BYTES
    assert TO_CONTROLLER.decode(body) == join


def test_an_inventory_speaks_of_the_blocks_of_its_object() -> None:
    with pytest.raises(ValueError, match="blocks"):
        Holding(manifest_of("t"), BlockSet.full(0))


@pytest.mark.parametrize("weight", [0.0, -1.0, 0.9e-6, 1.1e6, 1e308, float("inf"), float("nan")])
def test_a_weight_that_no_quotient_bears_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be from 1e-06 to 1e"):
        Claim(weight=weight)
