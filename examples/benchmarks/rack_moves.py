"""How soon a host is found that was moved to another rack, on emulated hosts.

    python -m examples.benchmarks.rack_moves      (as root)

Racks stand in a line, the source in the middle one, and the controller infers them. A receiver that is drawn
is plugged into another rack's switch while nothing moves, and broadcasts are counted until the controller
believes in the true racks again and explores nothing; then it is moved back, which counts as well. So many
broadcasts go before each move that those are all alike, more where racks are not right yet. Times are from
the call of `broadcast` to the last return from `receive`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tqdm import tqdm

from examples.benchmarks.emulation import IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, refuse_wrong
from examples.benchmarks.rack_runs import (
    OF_RACKS,
    TRAINING,
    Knows,
    Layout,
    broadcast,
    is_exact,
    is_learnt,
    parser_for,
    rack_nodes,
    true_racks,
)
from orchestra.controller.racks import CALM
from orchestra.units import format_bytes, format_rate

SOON = 3
"""Broadcasts in which a host that has moved is to be found."""
MOST = 10
"""After which it counts as not found (a guess: what is noticed depends on the order in which hosts join)."""
QUIET = CALM + 1
"""Broadcasts before each move: one more than a belief is new for."""


@dataclass(frozen=True, slots=True)
class Move:
    """One.

    Attributes:
        host: its name.
        racks: from where and where to.
        took_s: each broadcast until it was found, or `MOST`.
        found: whether it was.
        said: what the controller said of racks meanwhile, and in the broadcasts before it.
    """

    host: str
    racks: tuple[int, int]
    took_s: Sequence[float]
    found: bool
    said: Sequence[str] = field(default=())


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print."""
    parser = parser_for(__doc__)
    parser.add_argument("--moves", type=int, default=10, help="there and back, each counts (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of who moves, and of orders of receivers")
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "racks", "size", "rate", "moves")
    if len(options.racks) < 2:
        parser.error(f"--racks must be several, got {options.racks}")
    if cannot_emulate():
        return NO_ROOM
    layout = Layout(tuple(options.racks), len(options.racks) // 2, options.rate, options.rate)
    rng = Random(options.seed)
    quiet_s: list[float] = []
    moves: list[Move] = []
    with rack_nodes(layout, Knows.INFERRED) as (cluster, nodes):
        numbers = {host.name: number for number, host in enumerate(cluster.hosts)}

        def took_s(name: str) -> tuple[float, bool]:
            """One broadcast's seconds, and whether the true racks are believed in after it."""
            its_s = broadcast(nodes, name, options.size, rng)
            return its_s, is_learnt(nodes) and is_exact(nodes.status()["topology"], true_racks(cluster))

        is_right = any(took_s(f"training-{number}")[1] for number in range(TRAINING))
        with IdleWhileMoving(cluster) as idle:
            back: tuple[str, int] | None = None
            for number in tqdm(range(options.moves), desc="moves", unit="move"):
                said = len(nodes.said(OF_RACKS))
                for at in range(QUIET + TRAINING):
                    if at >= QUIET and is_right:
                        break
                    its_s, is_right = took_s(f"quiet-{number}-{at}")
                    quiet_s.append(its_s)
                if not is_right:  # who is not found where it is cannot be found to have moved
                    break
                racks = true_racks(cluster)
                host = rng.choice(list(nodes.receivers)) if back is None else back[0]
                others = sorted(set(range(len(options.racks))) - {racks[host]})
                to = rng.choice(others) if back is None else back[1]
                back = (host, racks[host]) if back is None else None
                cluster.move(numbers[host], to)
                its: list[float] = []
                is_right = False
                while not is_right and len(its) < MOST:
                    its_s, is_right = took_s(f"moved-{number}-{len(its)}")
                    its.append(its_s)
                moves.append(Move(host, (racks[host], to), its, is_right, nodes.said(OF_RACKS)[said:]))
    print(table(options.size, options.rate, Series(tuple(quiet_s), idle.share), moves))
    if len(moves) < options.moves:
        print("then the true racks were not believed in, however often was broadcast", file=sys.stderr)
        return 1
    return 0


def table(size_bytes: int, rate_bytes_per_s: float, quiet: Series, moves: Sequence[Move]) -> str:
    """How many were found soon, what that took, and each."""
    soon = [move for move in moves if move.found and len(move.took_s) <= SOON]
    lines = [
        f"{format_bytes(size_bytes)} over {format_rate(rate_bytes_per_s)}; idle CPU {quiet.idle}",
        f"before a move  {quiet.median:.2f} s [{quiet.extent()}]",
        f"found within {SOON} broadcasts: {len(soon)} of {len(moves)}",
    ]
    for move in moves:
        here, there = move.racks
        times = ", ".join(f"{took_s:.2f}" for took_s in move.took_s)
        found = f"found after {len(move.took_s)}" if move.found else f"not found in {len(move.took_s)}"
        lines.append(f"  {move.host:5} rack {here + 1} to {there + 1}: {found} ({times} s)")
        lines += [f"    {line}" for line in move.said]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
