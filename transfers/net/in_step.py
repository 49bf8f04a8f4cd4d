"""How far a node may ask ahead of those that it serves, when it is told to ask in step with them.

Owns that limit. Knows nothing of connections: the server says what is asked of this node, and the engine
asks for no more than the limit allows.

Theory of operation. A node that passes on what it takes from a port that others need too has no use for more
than it can pass on; TCP would give it more all the same, at the others' expense. What those below have
received is told by their asks: each keeps `LOOK_AHEAD` blocks of a stripe open.
"""

from typing import NamedTuple

from transfers.blocks import BlockLayout
from transfers.ids import BlockIndex
from transfers.planners.events import LOOK_AHEAD

IN_STEP_BYTES = 512 * 1024
"""Of one stripe, what may be asked for beyond what others have received (measured with 16 receivers, blocks
of 256 KiB, 50 Mbit/s and two cores: 1.034 to 1.047 x S/W, where three blocks gave 1.036 to 1.10 and eight
up to 1.17)."""

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


def last_in_step(asked: Asked | None, layout: BlockLayout, stripes: int) -> int | None:
    """The last block of a stripe that may be asked for; None where nothing limits it.

    Args:
        asked: by whoever is furthest of those who take what this node has; None if there is nobody.
        layout: of the object.
        stripes: of the broadcast.
    """
    if asked is None or asked.last + stripes >= layout.count:
        return None
    received = asked.last - LOOK_AHEAD * stripes
    beyond = min(MOST_BLOCKS, max(FEWEST_BLOCKS, IN_STEP_BYTES // layout.block_size_bytes))
    limit = received + beyond * stripes
    # With fewer blocks open it may have received less than that: what it waits for is never held back.
    return limit if asked.waits_for is None else max(limit, asked.waits_for)
