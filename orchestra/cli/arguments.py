"""What arguments may look like: converters from text, for argparse, and the options that commands share.

Owns the wording of complaints about single arguments. A converter raises `ArgumentTypeError`, and
argparse puts the option's name in front of it. Imports nothing that takes long.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from orchestra.names import node_name, transfer_name
from orchestra.racks_file import GivenRacks, read_racks
from orchestra.units import parse_size
from transfers.net.address import format_address, parse_address

POLICIES = ("fair", "weighted", "fifo", "fifo+", "priority", "sebf", "bssi", "dclas")
"""The contract's. Spelt out, since asking `schedulers` would load numpy."""
MECHANISMS = ("auto", "chain", "tree", "hdfs", "cornet")
"""The contract's. Spelt out, since asking the planners for them would load them for every ``--help``."""
SCHEDULINGS = ("weighted", "fair")
ENFORCEMENTS = ("auto", "pacing", "connections")
DEFAULT_TIMEOUT_S = 60.0
"""For receivers to come, and for standing still (contract)."""

_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_PRIORITY = re.compile(r"-?[0-9]{1,9}")

ValueT = TypeVar("ValueT")


class Parser(argparse.ArgumentParser):
    """argparse, but with complaints of one line."""

    def error(self, message: str) -> NoReturn:
        """Complain, and exit with status 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def converter(convert: Callable[[str], ValueT]) -> Callable[[str], ValueT]:
    """Let argparse show the message of a converter's `ValueError`."""

    def checked(text: str) -> ValueT:
        try:
            return convert(text)
        except ValueError as bad:
            raise argparse.ArgumentTypeError(str(bad)) from None

    return checked


def listen_address(text: str) -> str:
    """HOST:PORT to listen on; port 0 is any free one."""
    return format_address(*parse_address(text))


def listen_host(text: str) -> str:
    """HOST or HOST:PORT to listen on; a host alone means any free port."""
    return format_address(*parse_address(text, default_port=0))


def controller_address(text: str) -> str:
    """HOST:PORT to connect to."""
    host, port = parse_address(text)
    if port == 0:
        raise ValueError(f"address must have a port above 0, got {text!r}")
    return format_address(host, port)


def seconds(text: str) -> float:
    """A time above 0."""
    return _positive(text, "seconds")


def _positive(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{what} must be a number above 0, got {text!r}")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not _COUNT.fullmatch(text):
        raise ValueError(f"must be a whole number from 1 to 999999999, got {text!r}")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """N,N,…, each at least 1."""
    return tuple(count(part) for part in text.split(","))


def seed(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"must be a whole number from 0, got {text!r}")
    return int(text)


def size(text: str) -> int:
    """A SIZE of at least one byte."""
    size_bytes = parse_size(text)
    if size_bytes < 1:
        raise ValueError(f"size must be at least 1 byte, got {text!r}")
    return size_bytes


def names(text: str) -> tuple[str, ...]:
    """NAME,NAME,…, each once."""
    return tuple(dict.fromkeys(node_name(name) for name in text.split(",")))


def topology(text: str) -> str | GivenRacks:
    """``flat``, ``inferred``, or a file that tells racks."""
    return text if text in ("flat", "inferred") else read_racks(Path(text))


def priority(text: str) -> int:
    """A whole number of any sign."""
    if not _PRIORITY.fullmatch(text):
        raise ValueError(f"must be a whole number from -999999999 to 999999999, got {text!r}")
    return int(text)


def weight(text: str) -> float:
    """A number above 0, within what a transfer may claim."""
    from orchestra.messages.claims import Claim  # which most commands do not need

    return Claim(weight=_positive(text, "weight")).weight


# -- options that commands share ---------------------------------------------------------------


def add_common(parser: argparse.ArgumentParser) -> None:
    """How much a command says."""
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="say nothing on stderr but errors")
    loudness.add_argument("--verbose", action="store_true", help="say on stderr what happens")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Who may take part."""
    parser.add_argument("--token-file", metavar="F", help="file with the cluster's shared secret")
    parser.add_argument(
        "--insecure", action="store_true", help="go beyond loopback without a secret: anyone may take part"
    )


def add_controller(parser: argparse.ArgumentParser) -> None:
    """Where the cluster is, and how to be let in."""
    parser.add_argument(
        "--controller",
        required=True,
        metavar="HOST:PORT",
        type=converter(controller_address),
        help="where the controller listens",
    )
    add_trust(parser)
    add_common(parser)


def add_transfer(parser: argparse.ArgumentParser, required: bool, text: str) -> None:
    """Which transfer."""
    parser.add_argument(
        "--transfer", required=required, metavar="NAME", type=converter(transfer_name), help=text
    )


def add_timeout(parser: argparse.ArgumentParser, text: str) -> None:
    """How long to wait."""
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=converter(seconds),
        default=DEFAULT_TIMEOUT_S,
        help=f"{text} (default: {DEFAULT_TIMEOUT_S:g} seconds)",
    )


def add_listen(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Where this node's data port listens."""
    parser.add_argument(
        "--listen",
        metavar=metavar,
        type=converter(listen_host),
        help="where to serve blocks (default: the address by which the controller is reached)",
    )


def add_sharing(parser: argparse.ArgumentParser) -> None:
    """Its share against other transfers."""
    parser.add_argument(
        "--priority",
        metavar="P",
        type=converter(priority),
        default=0,
        help="of its class: the highest goes first, under --policy priority (default: 0)",
    )
    parser.add_argument(
        "--weight",
        metavar="W",
        type=converter(weight),
        default=1.0,
        help="of its share, under --policy weighted and bssi (default: 1)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """JSON instead of text."""
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else on stdout")


def complain(prog: str, message: str) -> None:
    """One line on stderr."""
    print(f"{prog}: {' '.join(message.split())}", file=sys.stderr, flush=True)
