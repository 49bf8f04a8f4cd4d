"""How far a node may ask ahead of those that it serves, when it is told to ask in step with them.

Owns that limit. Knows nothing of connections: the server says what is asked of this node, and the engine
asks for no more than the limit allows.

Theory of operation. A node that passes on what it takes from a port that others need too has no use for more
than it can pass on; TCP would give it more all the same, at the others' expense. What those below have
received is told by their asks: each keeps `LOOK_AHEAD` blocks of a stripe open.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from transfers.ids import BlockIndex
from transfers.manifest import ObjectKey
from transfers.planners.events import LOOK_AHEAD

IN_STEP_BYTES = 512 * 1024
"""Of one stripe, what may be asked for beyond what others have received (measured with 16 receivers, blocks
of 256 KiB, 50 Mbit/s and two cores: 1.034 to 1.047 x S/W, where three blocks gave 1.036 to 1.10 and eight
up to 1.17)."""

IN_STEP_S = 0.02
"""The same in time, where blocks come fast (a guess: several times what two askings in a row take, by
processes that share a busy host)."""

FEWEST_BLOCKS = 2
"""At least so many blocks: one that arrives, and one that is asked for (measured as above)."""

MOST_BLOCKS = 2 * LOOK_AHEAD
"""At most so many, however short they are (a guess)."""


class Asked(NamedTuple):
    """What one receiver asks of a stripe.

    Attributes:
        last: the last block that it has asked for.
        waits_for: the first that it asks for and that is not here; None if it waits for none.
    """

    last: BlockIndex
    waits_for: BlockIndex | None


class Demand(Protocol):
    """What others ask of this node.

    Attributes:
        on_asked: called when `furthest_asked` may have changed.
    """

    on_asked: Callable[[], None] | None

    def furthest_asked(self, key: ObjectKey, stripe: int, stripes: int) -> Asked | None:
        """Of one stripe, by whoever is furthest of those who take what is here; None if nobody asks."""
        ...


def last_in_step(asked: Asked, stripes: int, block_bytes: int, block_s: float) -> int:
    """The last block of a stripe that may be asked for.

    Args:
        asked: by whoever is furthest of those who take what this node has, and will ask for more.
        stripes: of the broadcast.
        block_bytes: of a block.
        block_s: what a block takes to arrive; infinite while that is not known.
    """
    received = asked.last - LOOK_AHEAD * stripes
    fast = math.ceil(IN_STEP_S / block_s) if block_s > 0 else MOST_BLOCKS
    beyond = min(MOST_BLOCKS, max(FEWEST_BLOCKS, IN_STEP_BYTES // block_bytes, fast))
    limit = received + beyond * stripes
    # With fewer blocks open it may have received less than that: what it waits for is never held back.
    return limit if asked.waits_for is None else max(limit, asked.waits_for)
