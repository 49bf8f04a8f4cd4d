"""The parser of all commands, and the way from arguments to the command that they name.

Exit status: 0 done; 1 failed, also in part; 2 wrong usage, bad arguments among it, and parts that are not
built yet; 130 and 143 interrupted by Ctrl-C and SIGTERM.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from orchestra.cli import arguments as arg
from orchestra.cli.arguments import Parser, converter
from orchestra.names import node_name
from orchestra.units import parse_rate

PROG = "orchestra"
_HOMES = {
    "controller": "orchestra.cli.serving",
    "agent": "orchestra.cli.serving",
    "broadcast": "orchestra.cli.objects",
    "receive": "orchestra.cli.objects",
    "release": "orchestra.cli.objects",
    "pause": "orchestra.cli.turns",
    "resume": "orchestra.cli.turns",
    "policy": "orchestra.cli.turns",
    "shuffle": "orchestra.cli.shuffling",
    "status": "orchestra.cli.status",
    "topology": "orchestra.cli.topology",
    "simulate": "orchestra.cli.simulating",
    "demo": "orchestra.cli.demo",
}
"""The module of each command; it has a function of the command's name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments behind the program's name; those of this process if None.

    Returns:
        the exit status.

    Raises:
        SystemExit: by argparse, for ``--help`` and wrong usage.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    options = make_parser().parse_args(given)
    command = getattr(import_module(_HOMES[options.command]), options.command)
    status: int = command(options)
    return status


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog=PROG,
        allow_abbrev=False,
        description="Broadcasts and shuffles between the machines of a cluster.",
        epilog="SIZE: 32MB (10⁶), 256KiB (2¹⁰). RATE: 50Mbit, 1.5Gbit. "
        "Exit status: 0 done, 1 failed (also in part), 2 wrong usage.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, text: str) -> Parser:
        added: Parser = commands.add_parser(name, help=text, description=text + ".", allow_abbrev=False)
        return added

    _controller(command("controller", "run a controller, until it is interrupted"))
    _agent(command("agent", "run a node that receives broadcasts, until it is interrupted"))
    _broadcast(command("broadcast", "send a file to all agents, or to some"))
    _receive(command("receive", "receive a broadcast into a file"))
    _release(command("release", "let all nodes forget a transfer"))
    _pausing(command("pause", "let nothing of a transfer move, until it is resumed"))
    _pausing(command("resume", "let a paused transfer go on"))
    _policy(command("policy", "have ports shared by another policy, also among transfers under way"))
    _shuffle(command("shuffle", "have agents move synthetic bytes among each other"))
    _status(command("status", "show nodes and transfers"))
    _topology(command("topology", "show which racks nodes stand in, as told or inferred"))
    _simulate(command("simulate", "broadcast to modelled hosts under virtual time"))
    _demo(command("demo", "K-Means on a photograph, and a comparison of mechanisms, on this machine"))
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        try:
            version = metadata.version("orchestra-transfers")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"{PROG} {version}")
        parser.exit()


def _controller(parser: Parser) -> None:
    parser.add_argument(
        "--listen",
        required=True,
        metavar="HOST:PORT",
        type=converter(arg.listen_address),
        help="where to listen; port 0 is any free one",
    )
    parser.add_argument(
        "--policy",
        choices=arg.POLICIES,
        default="fair",
        help="how transfers share ports (default: fair; docs/scheduling.md says when to pick which)",
    )
    parser.add_argument(
        "--enforcement",
        choices=arg.ENFORCEMENTS,
        default="auto",
        help="how flows of shuffles are kept to their rates: by the kernel's pacing, or by connections in "
        "proportion (default: auto, pacing where nodes can)",
    )
    parser.add_argument(
        "--topology",
        metavar="flat|inferred|FILE",
        type=converter(arg.topology),
        default="flat",
        help="racks: none, found out from block times, or told by a TOML file with a list of nodes for each "
        "rack, racks that have a link between them side by side (default: flat)",
    )
    parser.add_argument(
        "--port-rate", metavar="RATE", type=converter(parse_rate), help="cap on each node's two directions"
    )
    parser.add_argument(
        "--heartbeat-timeout",
        metavar="S",
        type=converter(arg.seconds),
        default=15.0,
        help="silence after which a node is lost (default: 15 seconds)",
    )
    parser.add_argument(
        "--allow-pickle", action="store_true", help="let nodes unpickle: only if all of them are trusted"
    )
    arg.add_trust(parser)
    arg.add_common(parser)


def _agent(parser: Parser) -> None:
    arg.add_controller(parser)
    parser.add_argument(
        "--name", required=True, type=converter(node_name), help="of this node, unique in the cluster"
    )
    arg.add_listen(parser, "HOST[:PORT]")
    parser.add_argument("--save", metavar="DIR", help="folder to write every broadcast into")
    parser.add_argument(
        "--no-share", action="store_true", help="receive every byte, also where a node of this host has it"
    )
    parser.add_argument(
        "--store-limit",
        metavar="SIZE",
        type=converter(arg.size),
        help="memory that objects may take (default: a share of this host's)",
    )
    parser.add_argument(
        "--spill", metavar="DIR", help="folder for files with partitions that have no room in memory"
    )
    parser.add_argument(
        "--spill-limit", metavar="SIZE", type=converter(arg.size), help="what these files may take in all"
    )


def _broadcast(parser: Parser) -> None:
    arg.add_controller(parser)
    parser.add_argument(
        "--file", required=True, metavar="PATH", help="what to send; no such readable file is status 2"
    )
    arg.add_transfer(parser, False, "name of the transfer (default: a unique one, saved under the file's)")
    arg.add_listen(parser, "HOST")
    parser.add_argument(
        "--to", metavar="NAME,…", type=converter(arg.names), help="only to these nodes, all waited for"
    )
    parser.add_argument(
        "--wait-for",
        metavar="N",
        type=converter(arg.count),
        default=0,
        help="wait for N agents first (no effect with --to)",
    )
    parser.add_argument(
        "--mechanism", choices=arg.MECHANISMS, default="auto", help="how (default: auto, by prediction)"
    )
    parser.add_argument(
        "--block-size", metavar="SIZE", type=converter(arg.size), help="default: by prediction"
    )
    arg.add_sharing(parser)
    arg.add_timeout(parser, "to wait for receivers, and for standing still")
    arg.add_json(parser)


def _receive(parser: Parser) -> None:
    arg.add_controller(parser)
    arg.add_transfer(parser, True, "which one; it need not have begun")
    parser.add_argument("--output", required=True, metavar="PATH", help="written whole or not at all")
    arg.add_listen(parser, "HOST")
    arg.add_timeout(parser, "to wait until it is here")


def _release(parser: Parser) -> None:
    arg.add_controller(parser)
    arg.add_transfer(parser, True, "which one")


def _pausing(parser: Parser) -> None:
    arg.add_controller(parser)
    arg.add_transfer(parser, True, "which one")


def _policy(parser: Parser) -> None:
    arg.add_controller(parser)
    parser.add_argument("name", choices=arg.POLICIES, help="which policy")


def _shuffle(parser: Parser) -> None:
    arg.add_controller(parser)
    parser.add_argument(
        "--matrix",
        required=True,
        metavar="FILE.json",
        help='bytes to move: {"mapper": {"reducer": bytes, …}, …}, over agents that have joined',
    )
    parser.add_argument(
        "--scheduling",
        choices=arg.SCHEDULINGS,
        default="weighted",
        help="whether flows get rates by what they have left, and end together, or all the same "
        "(default: weighted)",
    )
    parser.add_argument(
        "--replace-lost",
        action="store_true",
        help="give the places of agents that are lost to others, and go on (default: the shuffle fails)",
    )
    parser.add_argument("--flows", action="store_true", help="print in --json when each flow ended, too")
    arg.add_sharing(parser)
    arg.add_timeout(parser, "for standing still")
    arg.add_json(parser)


def _status(parser: Parser) -> None:
    arg.add_controller(parser)
    arg.add_json(parser)


def _topology(parser: Parser) -> None:
    arg.add_controller(parser)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the projection of nodes to the plane")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="broadcast to all agents until racks are found out: for a cluster that has moved nothing yet",
    )
    parser.add_argument(
        "--probe-size",
        metavar="SIZE",
        type=converter(arg.size),
        default=16_000_000,
        help="of each of these broadcasts (default: 16MB)",
    )
    arg.add_json(parser)


def _simulate(parser: Parser) -> None:
    parser.add_argument(
        "--receivers", required=True, metavar="N", type=converter(arg.count), help="hosts beside the source's"
    )
    parser.add_argument("--size", required=True, type=converter(arg.size), help="of the object")
    parser.add_argument(
        "--rate", required=True, type=converter(parse_rate), help="of each host's network card, each way"
    )
    parser.add_argument(
        "--mechanism", choices=arg.MECHANISMS, default="auto", help="how (default: auto, by prediction)"
    )
    parser.add_argument(
        "--block-size", metavar="SIZE", type=converter(arg.size), help="default: by prediction"
    )
    parser.add_argument(
        "--racks",
        metavar="N,N,…",
        type=converter(arg.counts),
        help="receivers in each of several racks in a line; the source stands in the first",
    )
    parser.add_argument(
        "--uplink", metavar="RATE", type=converter(parse_rate), help="between neighbouring racks, each way"
    )
    parser.add_argument(
        "--topology",
        choices=("flat", "given"),
        default="flat",
        help="whether the controller knows of the racks (default: flat, it does not)",
    )
    parser.add_argument(
        "--seed", metavar="K", type=converter(arg.seed), default=0, help="of all that is drawn (default: 0)"
    )
    parser.add_argument(
        "--control-delay",
        metavar="S",
        type=converter(arg.seconds),
        default=0.02,
        help="mean delay of control messages between busy hosts (default: 0.02 seconds)",
    )
    parser.add_argument(
        "--model",
        choices=("whole", "planner"),
        help="controller and nodes as they are, or the planner alone (default: by size)",
    )
    arg.add_json(parser)
    arg.add_common(parser)


def _demo(parser: Parser) -> None:
    parser.add_argument(
        "--output", metavar="DIR", default="demo-output", help="folder for pictures (default: demo-output)"
    )
    parser.add_argument(
        "--size",
        type=converter(arg.size),
        default=256_000_000,
        metavar="SIZE",
        help="of the object that is sent (default: 256MB)",
    )
    parser.add_argument(
        "--nodes", type=converter(arg.count), default=7, metavar="N", help="that receive it (default: 7)"
    )
    parser.add_argument("--no-kmeans", action="store_true", help="only compare mechanisms")
    arg.add_common(parser)
