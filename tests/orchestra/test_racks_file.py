"""Racks that a file tells."""

from pathlib import Path

import pytest

from orchestra.racks_file import given_racks, racks_by_number, read_racks
from transfers.ids import NodeName


@pytest.mark.parametrize("head", ["", "[racks]\n"])
def test_each_key_is_a_rack(tmp_path: Path, head: str) -> None:
    path = tmp_path / "racks.toml"
    path.write_text(head + 'front = ["a", "b"]\nback = ["c"]\n')
    racks = read_racks(path)
    assert racks.racks == {"front": ("a", "b"), "back": ("c",)}
    assert [racks.rack_of(NodeName(name)) for name in "abcd"] == [0, 0, 1, None]
    assert racks.names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no racks"),
        ("[racks]", "names no racks"),
        ("a = []", "rack 'a' must be a list"),
        ("a = 'n1'", "rack 'a' must be a list"),
        ("a = [1]", "rack 'a' must be a list"),
        ("a = ['n1']\nb = ['n1']", "'n1' is named twice"),
        ("a = ['']", "name"),
        ("a = [", "racks.toml"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "racks.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        read_racks(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.toml: No such file"):
        read_racks(tmp_path / "none.toml")


def test_names_are_checked_wherever_racks_come_from() -> None:
    with pytest.raises(ValueError, match="list of names"):
        given_racks({"a": "n1"})


def test_numbered_racks_stand_in_the_order_of_their_numbers() -> None:
    given = racks_by_number({"c": 10, "a": 2, "b": 10})
    assert {rack: list(names) for rack, names in given.racks.items()} == {
        "rack2": ["a"],
        "rack10": ["c", "b"],
    }
    assert [given.rack_of(NodeName(name)) for name in "abc"] == [0, 1, 1]
