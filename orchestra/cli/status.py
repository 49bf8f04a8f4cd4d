"""``orchestra status``: what the controller knows."""

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

from orchestra.cli.running import Exit, Signals, joined, run


def status(options: argparse.Namespace) -> int:
    """Show nodes and transfers."""

    async def body(signals: Signals) -> int:
        async with joined(options, signals) as node:
            known = json.loads(await node.status())
        print(json.dumps(known, ensure_ascii=False) if options.json else status_text(known), flush=True)
        return Exit.DONE

    return run(options, body)


def status_text(known: dict[str, Any]) -> str:
    """The status for people: a table of nodes and one of transfers."""
    nodes = [
        (name, node["state"], node["address"], node["host"][:12]) for name, node in known["nodes"].items()
    ]
    transfers = [
        (
            name,
            transfer["kind"],
            transfer["mechanism"] or "-",
            transfer["state"],
            f"{transfer['progress']:.0%}",
            "; ".join(f"{node}: {why}" for node, why in transfer["failed"].items()) or "-",
        )
        for name, transfer in known["transfers"].items()
    ]
    parts = [f"policy {known['policy']}"]
    parts += table(("node", "state", "address", "host"), nodes) if nodes else ["no nodes"]
    if transfers:
        parts += ["", *table(("transfer", "kind", "mechanism", "state", "progress", "failed"), transfers)]
    else:
        parts += ["no transfers"]
    return "\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, as wide as its cells."""
    cells = [heads, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
