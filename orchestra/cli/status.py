"""``orchestra status``: what the controller knows."""

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

from orchestra.cli.running import Exit, Signals, joined, run
from orchestra.units import format_rate, format_seconds


def status(options: argparse.Namespace) -> int:
    """Show nodes, links and transfers."""

    async def body(signals: Signals) -> int:
        async with joined(options, signals) as node:
            known = json.loads(await node.status())
        print(json.dumps(known, ensure_ascii=False) if options.json else status_text(known), flush=True)
        return Exit.DONE

    return run(options, body)


def status_text(known: dict[str, Any]) -> str:
    """The status for people: a table of nodes, what is known of links, and a table of transfers."""
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
            f"{transfer['priority']}",
            f"{transfer['weight']:g}",
            _granted(transfer["granted_bytes_per_s"]),
            _seconds(transfer.get("predicted_s")),
            _seconds(transfer.get("completion_s")),
            _share(transfer.get("prediction_error")),
            "; ".join(f"{node}: {why}" for node, why in transfer["failed"].items()) or "-",
        )
        for name, transfer in known["transfers"].items()
    ]
    parts = [f"policy {known['policy']}, {means_text(known)}"]
    parts += table(("node", "state", "address", "host"), nodes) if nodes else ["no nodes"]
    if known.get("links"):
        parts += ["", links_text(known["links"])]
    if transfers:
        heads = (
            *("transfer", "kind", "mechanism", "state", "progress", "priority", "weight", "may send"),
            *("predicted", "took", "off", "failed"),
        )
        parts += ["", *table(heads, transfers)]
    else:
        parts += ["no transfers"]
    return "\n".join(parts)


def means_text(known: dict[str, Any]) -> str:
    """By what means flows are kept to their rates, in words."""
    means, cannot = known["enforcement"]["means"], known["enforcement"]["without_pacing"]
    if means == "connections":
        return "kept by numbers of connections"
    if not cannot:
        return "kept by pacing"
    who = f"{', '.join(cannot)}, whose kernel does not pace"
    if means == "pacing":
        return f"kept by pacing; flows from {who}, are not kept"
    return f"kept by pacing, but by connections in shuffles with {who}"


def links_text(links: dict[str, Any]) -> str:
    """One line on what has been measured of links, and how good predictions were."""
    rate, error = links["rate_bytes_per_s"], links["median_prediction_error"]
    if rate is None:
        said = "links not measured yet"
    else:
        count = links["transfers"]
        said = f"links {format_rate(rate)}, measured over {count} transfer{'' if count == 1 else 's'}"
        if links["spread"]:
            said += f", spread {links['spread']:.0%}"
        if links["slowest_bytes_per_s"] is not None and links["slowest_bytes_per_s"] < rate:
            said += f", the slowest {format_rate(links['slowest_bytes_per_s'])}"
    if error is not None:
        said += f"; predictions off by {error:.0%} (median of {links['predictions']})"
    if links["median_small_prediction_error"] is not None:
        error, count = links["median_small_prediction_error"], links["small_predictions"]
        said += f"; of small objects by {error:.0%} (median of {count})"
    return said


def _granted(rate_bytes_per_s: float | None) -> str:
    """What a transfer may send in all, as its nodes have been told."""
    if rate_bytes_per_s is None:
        return "-"
    return format_rate(rate_bytes_per_s) if rate_bytes_per_s else "nothing"


def _seconds(value: float | None) -> str:
    return "-" if value is None else format_seconds(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0%}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, as wide as its cells."""
    cells = [heads, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
