"""Which names nodes and transfers may have."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.names import MAX_NODE_NAME_BYTES, MAX_TRANSFER_NAME_BYTES, node_name, transfer_name
from transfers.codec import MAX_NAME_CHARS


@pytest.mark.parametrize("name", ["a", "worker-3", "10.0.0.1:80", "größe", "x" * 255, "..", "[a]"])
def test_node_names_are_taken_as_they_are(name: str) -> None:
    assert node_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a,b", "a/b", "a b", "a\tb", "a\n", "a\0", "\u200b", "\u2028", "x" * 256, "é" * 128, "\udc80"],
)
def test_other_node_names_are_refused_with_the_name(name: str) -> None:
    with pytest.raises(ValueError, match="node name must"):
        node_name(name)


@pytest.mark.parametrize(
    "name", ["t", "prototypes/7", "a/b/c", "with space", "...", "a/..b", "x" * 255, "é/ß"]
)
def test_transfer_names_are_relative_paths(name: str) -> None:
    assert transfer_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "./a", "a//b", "a/", "a\0b", "a\nb"]
    + ["x" * 256, "a/" + "é" * 128, "/".join(["y" * 200] * 6), "\udc80"],
)
def test_other_transfer_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="transfer name"):
        transfer_name(name)


@given(st.text(max_size=30) | st.from_regex(r"[./a\0]{1,12}", fullmatch=True))
def test_what_is_accepted_stays_inside_its_folder(text: str) -> None:
    try:
        name = transfer_name(text)
    except ValueError:
        return
    folder = Path("/folder")
    path = folder / name
    assert path.is_relative_to(folder)
    assert ".." not in path.parts
    assert path != folder
    assert "\0" not in name


def test_the_longest_names_fit_into_messages() -> None:
    assert MAX_TRANSFER_NAME_BYTES <= MAX_NAME_CHARS
    assert 2 * MAX_NODE_NAME_BYTES + 1 <= MAX_NAME_CHARS, "the name of a partition is made of two"
