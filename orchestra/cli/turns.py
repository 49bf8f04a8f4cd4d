"""``orchestra pause``, ``resume`` and ``policy``: whose turn it is, changed while transfers run."""

import argparse

from orchestra.cli.running import Exit, Signals, joined, run


def pause(options: argparse.Namespace) -> int:
    """Let nothing of a transfer move."""

    async def body(signals: Signals) -> int:
        async with joined(options, signals) as node:
            await node.pause(options.transfer)
        if not options.quiet:
            print(f"paused {options.transfer}", flush=True)
        return Exit.DONE

    return run(options, body)


def resume(options: argparse.Namespace) -> int:
    """Let it go on."""

    async def body(signals: Signals) -> int:
        async with joined(options, signals) as node:
            await node.resume(options.transfer)
        if not options.quiet:
            print(f"resumed {options.transfer}", flush=True)
        return Exit.DONE

    return run(options, body)


def policy(options: argparse.Namespace) -> int:
    """Have ports shared by another policy."""

    async def body(signals: Signals) -> int:
        async with joined(options, signals) as node:
            await node.set_policy(options.name)
        if not options.quiet:
            print(f"policy {options.name}", flush=True)
        return Exit.DONE

    return run(options, body)
