"""Whether what a command claims for its transfer counts with the controller's policy."""

import argparse
import json

from orchestra.cli.arguments import complain
from orchestra.node.node import Node

HEEDED = {"priority": ("priority",), "weight": ("weighted", "bssi")}
"""By which policies each claim is heeded (`schedulers`)."""
UNCLAIMED = {"priority": 0, "weight": 1.0}


async def say_unheeded(node: Node, options: argparse.Namespace) -> None:
    """One line on stderr for each claim that the controller's policy does not look at."""
    claimed = [name for name, usual in UNCLAIMED.items() if getattr(options, name) != usual]
    if not claimed or options.quiet:
        return
    policy = json.loads(await node.status())["policy"]
    for name in claimed:
        if policy not in HEEDED[name]:
            heeded = " or ".join(HEEDED[name])
            complain(
                f"orchestra {options.command}",
                f"--{name} changes nothing now: the controller's policy is {policy}, not {heeded}",
            )
