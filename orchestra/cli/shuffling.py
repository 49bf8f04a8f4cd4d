"""``orchestra shuffle``: synthetic bytes, moved for real between agents, as a matrix says."""

import argparse
import json
from collections.abc import Mapping

from orchestra.cli.arguments import complain
from orchestra.cli.claims import say_unheeded
from orchestra.cli.objects import readable_file
from orchestra.cli.progress import finished
from orchestra.cli.running import Exit, Signals, UsageError, describe, joined, run
from orchestra.messages import Outcome
from orchestra.names import node_name
from orchestra.node.handles import WatchedTransfer
from orchestra.units import MAX_SIZE_BYTES, format_bytes, format_seconds

Matrix = Mapping[str, Mapping[str, int]]
"""Bytes by mapper, then by reducer."""

MAX_MATRIX_FILE_BYTES = 16 << 20
"""Largest matrix file taken (the limit of a control message, in which it goes to the controller)."""


def shuffle(options: argparse.Namespace) -> int:
    """Have agents shuffle, and wait until every reducer has everything."""

    async def body(signals: Signals) -> int:
        matrix = read_matrix(options.matrix)
        async with joined(options, signals) as node:
            await say_unheeded(node, options)
            running = await node.run_shuffle(
                matrix,
                scheduling=options.scheduling,
                priority=options.priority,
                weight=options.weight,
                replaceable=options.replace_lost,
                timeout=options.timeout,
            )
            outcome = await finished(running, options.quiet)
        total_bytes = sum(sum(row.values()) for row in matrix.values())
        if options.json:
            told = shuffle_json(running, options.scheduling, total_bytes, outcome, flows=options.flows)
            print(json.dumps(told, ensure_ascii=False), flush=True)
        else:
            print(_text(running, total_bytes, outcome), flush=True)
        if outcome.failed or outcome.reason:
            told_failed = "; ".join(f"{name}: {why}" for name, why in outcome.failed.items())
            complain("orchestra shuffle", f"shuffle {running.name!r} failed: {outcome.reason or told_failed}")
            return Exit.FAILED
        return Exit.DONE

    return run(options, body)


def shuffle_json(
    running: WatchedTransfer, scheduling: str, total_bytes: int, outcome: Outcome, *, flows: bool = False
) -> dict[str, object]:
    """What ``--json`` prints (contract), and what was asked for besides, or was replaced."""
    told: dict[str, object] = {
        "transfer": running.name,
        "scheduling": scheduling,
        "bytes": total_bytes,
        "completion_s": outcome.completion_s,
        "reducer_completion_s": dict(outcome.node_completion_s),
    }
    if flows:
        told["flow_completion_s"] = {mapper: dict(row) for mapper, row in outcome.flow_completion_s.items()}
    if outcome.replaced:
        told["replaced"] = dict(outcome.replaced)
    return told


def _text(running: WatchedTransfer, total_bytes: int, outcome: Outcome) -> str:
    took_s = outcome.completion_s
    if outcome.failed or outcome.reason:
        lines = [f"{running.name}: failed after {format_seconds(took_s)}"]
    else:
        speed = f", {format_bytes(total_bytes / took_s)}/s in all" if took_s > 0 else ""
        lines = [f"{running.name}: {format_bytes(total_bytes)} shuffled in {format_seconds(took_s)}{speed}"]
    width = max((len(name) for name in outcome.node_completion_s), default=0)
    lines += [
        f"  {name:<{width}}  {format_seconds(time_s)}" for name, time_s in outcome.node_completion_s.items()
    ]
    lines += [f"  {lost} was lost, {taker} took its place" for lost, taker in outcome.replaced.items()]
    return "\n".join(lines)


def read_matrix(text: str) -> Matrix:
    """The matrix in a file.

    Raises:
        UsageError: when there is none, saying where.
    """
    path = readable_file(text, "--matrix")
    try:
        if path.stat().st_size > MAX_MATRIX_FILE_BYTES:
            raise ValueError(f"larger than {format_bytes(MAX_MATRIX_FILE_BYTES)}")
        return checked_matrix(json.loads(path.read_bytes(), object_pairs_hook=_once))
    except OSError as bad:
        raise UsageError(f"--matrix: {describe(bad)}") from bad
    except RecursionError:
        raise UsageError(f"--matrix: {text}: nested too deeply") from None
    except ValueError as bad:  # also of json, and of bytes that are no text
        raise UsageError(f"--matrix: {text}: {bad}") from bad


def checked_matrix(value: object) -> Matrix:
    """Check what JSON has given.

    Raises:
        ValueError: where it is not ``{"mapper": {"reducer": bytes, …}, …}``.
    """
    if not isinstance(value, dict) or not any(value.values()):
        raise ValueError('must be {"mapper": {"reducer": bytes, …}, …} with at least one reducer')
    matrix: dict[str, dict[str, int]] = {}
    for mapper, row in value.items():
        if not isinstance(row, dict):
            raise ValueError(f"row of {mapper!r} must be an object of reducers, got {_short(row)}")
        matrix[node_name(mapper)] = {}
        for reducer, size_bytes in row.items():
            where = f"bytes from {mapper!r} to {reducer!r}"
            if not isinstance(size_bytes, int) or isinstance(size_bytes, bool):
                raise ValueError(f"{where} must be a whole number, got {_short(size_bytes)}")
            if not 0 <= size_bytes <= MAX_SIZE_BYTES:
                raise ValueError(f"{where} must be from 0 to {MAX_SIZE_BYTES}, got {size_bytes}")
            matrix[mapper][node_name(reducer)] = size_bytes
    return matrix


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON lets a key stand twice; here that is surely a mistake."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice")
    return found


def _short(value: object) -> str:
    return json.dumps(value)[:40]
