"""``orchestra broadcast``, ``receive`` and ``release``: files in and out of the cluster."""

import argparse
import json
import os
import stat
from pathlib import Path

import trio

from orchestra.cli.arguments import complain
from orchestra.cli.claims import say_unheeded
from orchestra.cli.progress import finished, progress_bar
from orchestra.cli.running import Exit, Signals, UsageError, describe, joined, run
from orchestra.messages import Outcome
from orchestra.node.files import save
from orchestra.node.handles import Transfer
from orchestra.node.node import Node
from orchestra.units import format_bytes, format_seconds
from transfers.ids import TransferName
from transfers.manifest import ObjectKey


def broadcast(options: argparse.Namespace) -> int:
    """Send a file, and wait until every receiver has it."""

    async def body(signals: Signals) -> int:
        path = readable_file(options.file, "--file")
        async with joined(options, signals, listen=options.listen) as node:
            await say_unheeded(node, options)
            transfer = await node.broadcast_file(
                path,
                options.transfer,
                to=options.to,
                wait_for=options.wait_for,
                mechanism=options.mechanism,
                block_size=options.block_size,
                priority=options.priority,
                weight=options.weight,
                timeout=options.timeout,
            )
            outcome = await finished(transfer, options.quiet)
            receivers = max(transfer.progress().receivers, len({*outcome.node_completion_s, *outcome.failed}))
        if options.json:
            print(json.dumps(broadcast_json(transfer, outcome, receivers), ensure_ascii=False), flush=True)
        else:
            print(broadcast_text(transfer, outcome, receivers), flush=True)
        if outcome.failed or outcome.reason:
            complain("orchestra broadcast", _failure(transfer, outcome, receivers))
            return Exit.FAILED
        return Exit.DONE

    return run(options, body)


def broadcast_json(transfer: Transfer, outcome: Outcome, receivers: int) -> dict[str, object]:
    """What ``--json`` prints (contract)."""
    return {
        "transfer": transfer.name,
        "mechanism": transfer.mechanism.value,
        "reason": transfer.reason,
        "size_bytes": transfer.size_bytes,
        "block_size_bytes": transfer.block_size_bytes,
        "receivers": receivers,
        "completion_s": outcome.completion_s,
        "node_completion_s": dict(outcome.node_completion_s),
        "failed": dict(outcome.failed),
    }


def broadcast_text(transfer: Transfer, outcome: Outcome, receivers: int) -> str:
    """The same for people."""
    through = [node for node in outcome.node_completion_s if node not in outcome.failed]
    lines = [
        f"{transfer.name}: {format_bytes(transfer.size_bytes)} to {len(through)} of {receivers} receivers by "
        f"{transfer.mechanism.value} in {format_seconds(outcome.completion_s)}",
        f"  {transfer.reason}",
    ]
    if through and transfer.size_bytes and outcome.completion_s > 0:
        each = transfer.size_bytes / outcome.completion_s
        lines.append(f"  {format_bytes(each)}/s to each, {format_bytes(each * len(through))}/s in all")
    width = max((len(node) for node in outcome.node_completion_s), default=0)
    lines += [
        f"  {node:<{width}}  {format_seconds(outcome.node_completion_s[node])}, "
        f"{_speed(transfer.size_bytes, outcome.node_completion_s[node])}"
        for node in through
    ]
    return "\n".join(lines)


def _speed(size_bytes: int, time_s: float) -> str:
    return f"{format_bytes(size_bytes / time_s)}/s" if time_s > 0 else "at once"


def _failure(transfer: Transfer, outcome: Outcome, receivers: int) -> str:
    parts = [outcome.reason] if outcome.reason else []
    if outcome.failed:
        told = "; ".join(
            node if why == outcome.reason else f"{node}: {why}" for node, why in outcome.failed.items()
        )
        parts.append(f"{len(outcome.failed)} of {receivers} receivers failed ({told})")
    return f"transfer {transfer.name!r} failed: " + "; ".join(parts)


def readable_file(text: str, argument: str) -> Path:
    """A file that can be read, by its path.

    Raises:
        UsageError: when it is missing, no regular file, or not ours to read.
    """
    path = Path(text)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{argument}: is a directory: {text}")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{argument}: is no regular file: {text}")
        with path.open("rb"):
            pass
    except OSError as bad:
        raise UsageError(f"{argument}: {describe(bad)}") from bad
    except ValueError as bad:  # NUL in the path
        raise UsageError(f"{argument}: {bad}: {text!r}") from bad
    return path


def receive(options: argparse.Namespace) -> int:
    """Receive a broadcast, and write it to a file."""

    async def body(signals: Signals) -> int:
        output = _output_path(options.output)
        async with joined(options, signals, listen=options.listen, reconnect=True) as node:

            def done_and_total() -> tuple[int, int]:
                return _held_bytes(node, options.transfer)

            async with progress_bar(options.transfer, done_and_total, quiet=options.quiet):
                view = await node.receive(options.transfer, options.timeout)
            in_file = await trio.to_thread.run_sync(_write, view.buffer, output)
            if in_file and not options.quiet:
                print(f"{options.transfer}: {format_bytes(view.nbytes)} in {options.output}", flush=True)
        return Exit.DONE

    return run(options, body)


def _held_bytes(node: Node, transfer: str) -> tuple[int, int]:
    stored = node.objects.store.get(ObjectKey(TransferName(transfer)))
    if stored is None:
        return 0, 0
    layout = stored.manifest.layout
    return min(layout.size_bytes, len(stored.holds) * layout.block_size_bytes), layout.size_bytes


def _output_path(text: str) -> Path:
    path = Path(text)
    if not text or "\0" in text or path.is_dir():
        raise UsageError(f"--output: is no name of a file: {text!r}")
    return path


def _write(data: memoryview, output: Path) -> bool:
    """Write a file whole or not at all, and to what is no file, such as ``/dev/stdout``, as it comes.

    Returns:
        whether it is a file.
    """
    if not output.exists() or output.is_file():
        save(data, Path(os.path.realpath(output)))
        return True
    with output.open("wb", buffering=0) as stream:
        while data:
            data = data[stream.write(data) or 0 :]
    return False


def release(options: argparse.Namespace) -> int:
    """Let all nodes forget a transfer."""

    async def body(signals: Signals) -> int:
        async with joined(options, signals) as node:
            await node.release(options.transfer)
        if not options.quiet:
            print(f"released {options.transfer}", flush=True)
        return Exit.DONE

    return run(options, body)
