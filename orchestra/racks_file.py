"""Racks as a file tells them.

Owns the format: TOML in which every key is a rack and its value a list of the names of its nodes. Racks stand
in a line in the order of the file: each has a link to the one before it and the one behind it. (Where all
meet at one switch nothing is lost by that but where the source's rack stands inside the line: then its link
carries each block twice.)

    front = ["n1", "n2", "n3"]
    back = ["n4", "n5"]

A table ``[racks]`` around them is taken as well.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestra.names import node_name
from transfers.ids import NodeName


@dataclass(frozen=True, slots=True)
class GivenRacks:
    """What a file tells.

    Attributes:
        racks: names of the nodes of each, in the order of the file.
        of: number of each node's rack.
    """

    racks: Mapping[str, tuple[NodeName, ...]]
    of: Mapping[NodeName, int]

    def rack_of(self, name: NodeName) -> int | None:
        """The rack of a node; None if it is not named."""
        return self.of.get(name)

    @property
    def names(self) -> list[NodeName]:
        """All nodes that are named."""
        return list(self.of)


def given_racks(racks: Mapping[str, object]) -> GivenRacks:
    """Check racks that were told.

    Raises:
        ValueError: for no racks, an empty one, names that are none, or a node in two racks.
    """
    if not racks:
        raise ValueError("names no racks")
    found: dict[str, tuple[NodeName, ...]] = {}
    of: dict[NodeName, int] = {}
    for number, (rack, names) in enumerate(racks.items()):
        if (
            not isinstance(names, list | tuple)
            or not names
            or not all(isinstance(name, str) for name in names)
        ):
            raise ValueError(f"rack {rack!r} must be a list of names of nodes, got {names!r}")
        found[rack] = tuple(node_name(name) for name in names)
        for name in found[rack]:
            if name in of:
                raise ValueError(f"node {name!r} is named twice")
            of[name] = number
    return GivenRacks(found, of)


def racks_by_number(of: Mapping[str, int]) -> GivenRacks:
    """Racks in the order of their numbers, called ``rack0``, ``rack1`` and so on.

    Args:
        of: number of each node's rack, by the node's name.

    Raises:
        ValueError: for names that are none.
    """
    return given_racks(
        {
            f"rack{rack}": [name for name, its in of.items() if its == rack]
            for rack in sorted(set(of.values()))
        }
    )


def read_racks(path: Path) -> GivenRacks:
    """Read such a file.

    Raises:
        ValueError: for one that cannot be read or is none, with its path.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        inner = told.get("racks")
        return given_racks(inner if isinstance(inner, dict) and len(told) == 1 else told)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, and not TOML, are two more
        raise ValueError(f"{path}: {error}") from error
