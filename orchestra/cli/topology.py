"""``orchestra topology``: which racks the controller believes in."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import trio

from orchestra.cli.arguments import complain
from orchestra.cli.running import Exit, Signals, joined, run
from orchestra.node.node import Node

MOST_PROBES = 10
"""Broadcasts of a probe (the paper's number of training runs)."""
INFERENCE_S = 10.0
"""For racks to be inferred after a broadcast (a guess: several times what 200 nodes take)."""
POLL_S = 0.2


def topology(options: argparse.Namespace) -> int:
    """Show racks, after finding them out where that is asked for."""

    async def body(signals: Signals) -> int:
        async with joined(options, signals) as node:
            if options.probe:
                await _probe(node, options)
            known = await _known(node)
        if options.json:
            print(json.dumps(known, ensure_ascii=False), flush=True)
        else:
            print(topology_text(known), flush=True)
        if options.plot is not None:
            if not known.get("positions"):
                complain("orchestra topology", "there is no projection yet: racks have not been inferred")
                return Exit.FAILED
            plot_projection(known, options.plot)
        return Exit.DONE

    return run(options, body)


def topology_text(known: dict[str, Any]) -> str:
    """Racks for people, a line each, and what is not as it should be."""
    source, racks = known["source"], known["racks"]
    if source == "flat":
        return "no racks: every node is taken to be equally near (controller --topology flat)"
    if source == "inferred" and not known["believed"]:
        seen = known["broadcasts"]
        return f"racks not inferred yet: {seen} broadcast{'' if seen == 1 else 's'} seen (--probe makes some)"
    head = f"{len(racks)} rack{'' if len(racks) == 1 else 's'}, {source}"
    if source == "inferred":
        head += f" from {known['broadcasts']} broadcasts, confidence {known['confidence']:.2f}"
    lines = [head, *(f"rack {number}: {', '.join(names)}" for number, names in enumerate(racks, 1))]
    for key, what in (
        ("unplaced", "not placed yet"),
        ("not_in_file", "joined, but not in the file"),
        ("not_joined", "in the file, but not joined"),
        ("contradicting", "slow with its rack, so perhaps in another"),
    ):
        if known.get(key):
            lines.append(f"{what}: {', '.join(known[key])}")
    return "\n".join(lines)


def plot_projection(known: dict[str, Any], path: Path) -> None:
    """Draw the plane in which nodes that are near each other in the network are near each other.

    Raises:
        ValueError: where matplotlib is not installed.
        OSError: where the picture cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("--plot needs matplotlib: pip install 'orchestra-transfers[examples]'") from None
    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, names in enumerate(known["racks"], 1):
        placed = [known["positions"][name] for name in names if name in known["positions"]]
        across, up = [place[0] for place in placed], [place[1] for place in placed]
        axes.scatter(across, up, label=f"rack {number} ({len(names)} nodes)", s=40, alpha=0.8)
    axes.set_title(f"{len(known['racks'])} racks inferred, confidence {known['confidence']:.2f}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend()
    figure.savefig(path)


async def _known(node: Node) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(await node.status())["topology"]
    return known


async def _probe(node: Node, options: argparse.Namespace) -> None:
    """Broadcast to all agents until racks are believed."""
    before = await _known(node)
    if before["source"] != "inferred":
        raise ValueError(f"--probe needs a controller that infers racks, not --topology {before['source']}")
    data = np.random.default_rng().integers(0, 256, options.probe_size, dtype=np.uint8)
    for number in range(1, MOST_PROBES + 1):
        transfer = await node.broadcast(data, mechanism="cornet")
        await transfer.wait()
        await node.release(transfer.name)
        with trio.move_on_after(INFERENCE_S):
            while True:
                known = await _known(node)
                if known["broadcasts"] > before["broadcasts"] and not known["inferring"]:
                    break
                await trio.sleep(POLL_S)
        before = known
        if not options.quiet:
            racks = len(known["racks"]) if known["believed"] else "no"
            print(f"probe {number}: {racks} racks so far", file=sys.stderr, flush=True)
        if known["believed"]:
            return
