"""``orchestra simulate``: a broadcast under virtual time, on a network that nobody has to own."""

import argparse
import json
import sys
import time

from orchestra.cli.arguments import complain
from orchestra.cli.progress import finished
from orchestra.cli.running import Exit
from orchestra.simulation.broadcast import (
    BroadcastSetup,
    Model,
    SimulatedBroadcast,
    simulate_planner,
    simulate_whole,
)
from orchestra.simulation.world import Delays
from orchestra.units import format_bytes, format_seconds
from transfers.errors import OrchestraError


def simulate(options: argparse.Namespace) -> int:
    """Simulate one broadcast, and say how long it takes."""
    prog = "orchestra simulate"
    try:
        setup = BroadcastSetup(
            receivers=options.receivers,
            size_bytes=options.size,
            rate_bytes_per_s=options.rate,
            mechanism=options.mechanism,
            block_size_bytes=options.block_size,
            racks=options.racks,
            uplink_bytes_per_s=options.uplink,
            knows_racks=options.topology == "given",
            seed=options.seed,
            delays=Delays(options.control_delay),
        )
    except ValueError as bad:
        complain(prog, str(bad))
        return Exit.USAGE
    model = setup.model() if options.model is None else Model(options.model)
    began_s = time.perf_counter()
    try:
        if model is Model.WHOLE:
            result = simulate_whole(setup, lambda transfer: finished(transfer, options.quiet))
        else:
            result = simulate_planner(setup)
    except OrchestraError as failed:
        complain(prog, str(failed))
        return Exit.FAILED
    real_s = time.perf_counter() - began_s
    if options.json:
        print(json.dumps(as_json(result)), flush=True)
    else:
        print(as_text(result), flush=True)
        if not options.quiet:
            print(f"({model.value} model, {real_s:.1f} s of real time)", file=sys.stderr, flush=True)
    if result.failed:
        complain(prog, f"{len(result.failed)} of {setup.receivers} receivers failed")
        return Exit.FAILED
    return Exit.DONE


def as_json(result: SimulatedBroadcast) -> dict[str, object]:
    """What ``--json`` prints (contract)."""
    return {
        "transfer": "object",
        "mechanism": result.mechanism,
        "reason": result.reason,
        "size_bytes": result.setup.size_bytes,
        "block_size_bytes": result.block_size_bytes,
        "receivers": result.setup.receivers,
        "completion_s": result.completion_s,
        "node_completion_s": dict(result.node_completion_s),
        "failed": dict(result.failed),
        "bound_s": result.bound_s,
        "ratio": result.ratio,
        "trace_digest": result.trace_digest,
        "model": result.model.value,
    }


def as_text(result: SimulatedBroadcast) -> str:
    """The same for people."""
    setup = result.setup
    times = sorted(result.node_completion_s.values())
    lines = [
        f"{format_bytes(setup.size_bytes)} to {len(times)} of {setup.receivers} receivers by "
        f"{result.mechanism} in {format_seconds(result.completion_s)}: {result.ratio:.3f} x S/W "
        f"(S/W {format_seconds(setup.least_s)}, bound {format_seconds(result.bound_s)})",
        f"  {result.reason}",
    ]
    if times:
        middle = times[len(times) // 2]
        lines.append(
            f"  receivers: first {format_seconds(times[0])}, median {format_seconds(middle)}, "
            f"last {format_seconds(times[-1])}"
        )
    lines.append(f"  trace {result.trace_digest}")
    return "\n".join(lines)
