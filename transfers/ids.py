"""Names of things, as distinct types, so that a node is never taken for a transfer."""

from typing import NewType

NodeName = NewType("NodeName", str)
"""A node's name, unique among the nodes that a controller knows at one time."""

TransferName = NewType("TransferName", str)
"""A transfer's name; `/` in it makes folders where it is saved."""

BlockIndex = NewType("BlockIndex", int)
"""A block's place in its object, from 0."""
