"""``orchestra controller`` and ``orchestra agent``: processes that serve until they are interrupted."""

import argparse

import trio

from orchestra.cli.running import Signals, UsageError, read_token, run
from orchestra.controller.serving import serve_controller
from orchestra.node.joining import join
from transfers.errors import ControllerLost


def controller(options: argparse.Namespace) -> int:
    """Run a controller."""

    async def body(_: Signals) -> int:
        async with serve_controller(
            options.listen,
            token=read_token(options),
            insecure=options.insecure,
            policy=options.policy,
            enforcement=options.enforcement,
            topology=options.topology,
            port_rate=options.port_rate,
            heartbeat_timeout=options.heartbeat_timeout,
            allow_pickle=options.allow_pickle,
        ) as running:
            print(f"listening on {running.address}", flush=True)
            await trio.sleep_forever()
        raise AssertionError("sleeping forever has ended")

    return run(options, body, serves=True)


def agent(options: argparse.Namespace) -> int:
    """Run a node; it ends by itself only when the controller is gone for good."""

    async def body(signals: Signals) -> int:
        if (options.spill is None) != (options.spill_limit is None):
            raise UsageError(
                "--spill DIR and --spill-limit SIZE go together: one was given without the other"
            )
        async with join(
            options.controller,
            name=options.name,
            token=read_token(options),
            insecure=options.insecure,
            share=not options.no_share,
            listen=options.listen,
            save=options.save,
            store_limit=options.store_limit,
            spill=options.spill,
            spill_limit=options.spill_limit,
        ) as node:
            with signals.stopping_here():
                print(f"joined as {node.name}", flush=True)
                why = await node.wait_lost()
            raise ControllerLost(f"controller {options.controller} lost: {why}")

    return run(options, body, serves=True)
