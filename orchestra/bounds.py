"""What no broadcast can beat, whatever plans it. Pure.

The formulas' sources stand with each; W is one direction of a network card, in bytes/s.
"""

import math
from collections.abc import Sequence

from transfers.planners.events import forward_bytes


def broadcast_s(size_bytes: int, receivers: int, block_size_bytes: int, rate_bytes_per_s: float) -> float:
    """Least time of a broadcast in equal blocks over equal links: ``S/W · (1 + ⌊log2 N⌋ / M)``.

    After Bar-Noy and Kipnis (1994) and Mundinger, Weber and Weiss (2008), for N receivers and M blocks, each
    passed on when all of it is there. It rewards large blocks, so ratios are stated to S/W and this is
    printed beside them. Where blocks are passed on while they arrive, parts take their place (`passed_on_s`).

    Raises:
        ValueError: for less than one receiver or byte in a block, a negative size, or a rate not above 0.
    """
    if receivers < 1 or block_size_bytes < 1 or size_bytes < 0 or not rate_bytes_per_s > 0:
        raise ValueError(
            "receivers and block_size_bytes must be at least 1, size_bytes at least 0 and rate_bytes_per_s "
            f"above 0, got {receivers}, {block_size_bytes}, {size_bytes}, {rate_bytes_per_s}"
        )
    if not size_bytes:
        return 0.0
    blocks = -(-size_bytes // block_size_bytes)
    return size_bytes / rate_bytes_per_s * (1 + math.floor(math.log2(receivers)) / blocks)


def passed_on_s(size_bytes: int, receivers: int, block_size_bytes: int, rate_bytes_per_s: float) -> float:
    """The same where blocks are passed on in parts while they arrive, as Orchestra's nodes do."""
    part_bytes = forward_bytes(max(1, min(block_size_bytes, size_bytes)))
    return broadcast_s(size_bytes, receivers, part_bytes, rate_bytes_per_s)


def uneven_broadcast_s(size_bytes: int, source_rate: float, receiver_rates: Sequence[float]) -> float:
    """The same over unequal links, cut as finely as one likes: ``max(S/u, S/min d, N·S/(u + Σ u_i))``.

    Args:
        size_bytes: of the object.
        source_rate: what the source can send, bytes/s.
        receiver_rates: what each receiver can receive, and send on, bytes/s.
    """
    if not receiver_rates or min(source_rate, *receiver_rates) <= 0:
        raise ValueError(f"all rates must be above 0, got {source_rate} and {list(receiver_rates)}")
    together = len(receiver_rates) / (source_rate + sum(receiver_rates))
    return size_bytes * max(1 / source_rate, 1 / min(receiver_rates), together)
