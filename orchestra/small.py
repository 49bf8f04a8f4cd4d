"""Small objects: how they travel without a plan.

Owns the limits below which an object counts as small, its cut into blocks, and the ways it is sent down. Must
not know messages or nodes. Pure.

Theory of operation. What costs a small object its time is not bytes but round trips and wakings: a proposal,
an offer, an order to every receiver, a connection, an ask. So a small object is cut by a rule that its source
knows before anyone has chosen anything, and its proposal says all there is to say. While receivers times size
is small the bytes go inside the control messages. Else the source pushes two halves down two trees of degree
2, in each of which other receivers are inner nodes (as `transfers.planners.stripes` does with large objects);
every node passes on what it has of a half while the rest is arriving. So the last has it after about ``S/W``
and a few packets a level, where blocks that are asked for would take a round trip and a block a level.
"""

from collections.abc import Sequence

SMALL_BYTES = 256 << 10
"""Largest object that is pushed (measured on 17 emulated hosts of 50 Mbit/s; see docs/decisions)."""

IN_MESSAGES_BYTES = 64 << 10
"""Receivers times size up to which the bytes travel inside the control messages (the design's bound)."""

USUAL_RECEIVERS = 8
"""For how many receivers a source that does not know them sends the bytes along with its proposal (a guess:
up to 8 KiB go along then; where there are more receivers after all, they were sent in vain)."""

HALVES_FROM_BYTES = 16 << 10
"""Smaller objects are one block (a guess: two packets of 9,000 bytes)."""


def small_block_bytes(size_bytes: int) -> int | None:
    """The size of the blocks of a small object; None for one that is not small."""
    if size_bytes > SMALL_BYTES:
        return None
    return max(1, size_bytes if size_bytes < HALVES_FROM_BYTES else -(-size_bytes // 2))


def fits_in_messages(size_bytes: int, receivers: int) -> bool:
    """Whether control messages carry the bytes themselves."""
    return size_bytes * max(1, receivers) <= IN_MESSAGES_BYTES


def goes_in_messages(content: bytes, size_bytes: int, receivers: int) -> bool:
    """Whether the bytes go on inside control messages: they came along, all of them, and are few."""
    return len(content) == size_bytes and fits_in_messages(size_bytes, receivers)


def routes(addresses: Sequence[str], blocks: int) -> list[tuple[str, ...]]:
    """For each block of a small object a tree over all receivers, as `transfers.net.push` takes it.

    The second tree is the first one backwards: at most half of a binary tree's nodes are inner ones, those
    that stand first, so that nobody is inner in both.
    """
    there = tuple(addresses)
    return [there if block % 2 == 0 else there[::-1] for block in range(blocks)] if there else []
