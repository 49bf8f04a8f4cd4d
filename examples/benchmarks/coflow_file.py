"""Traces of coflows in the format of the public coflow benchmark.

Owns this format. Must not know what is done with a trace. The first line has the number of ports and that of
coflows; then each coflow has a line: its id, its arrival in ms, the number of mappers and their ports, the
number of reducers and of each ``port:megabytes``. What a reducer takes comes from all mappers in equal parts.
A port stands for a rack, with an egress and an ingress side; a flow inside a rack uses both, as any other.
(https://github.com/coflow/coflow-benchmark. Megabytes are read as MiB, as CoflowSim does.)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestra.simulation.coflows import Coflow
from schedulers import TransferId

BYTES_A_MEGABYTE = float(1 << 20)


class BadTrace(ValueError):
    """A file that is no trace; says which line and why."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Attributes:
    ports: racks; egress ports are 0 to ``ports - 1``, ingress ports come after them.
    coflows: as they stand in the file.
    """

    ports: int
    coflows: tuple[Coflow, ...]


def read_trace(path: Path) -> Trace:
    """Read a file.

    Raises:
        BadTrace: for anything that is not as the format says.
        OSError: when it cannot be read.
    """
    try:
        lines = path.read_text().splitlines()
        ports, count = map(int, lines[0].split())
    except (IndexError, ValueError):
        raise BadTrace(f"{path}:1: expected the numbers of ports and of coflows") from None
    if ports < 1 or count < 1:
        raise BadTrace(f"{path}:1: there must be at least one port and one coflow, got {ports} and {count}")
    coflows: dict[TransferId, Coflow] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            try:
                coflow = _coflow(iter(line.split()), ports)
                if coflow.name in coflows:
                    raise ValueError(f"coflow {coflow.name} comes twice")
            except StopIteration:
                raise BadTrace(f"{path}:{number}: the line ends too early") from None
            except ValueError as wrong:
                raise BadTrace(f"{path}:{number}: {wrong}") from None
            coflows[coflow.name] = coflow
    if len(coflows) != count:
        raise BadTrace(f"{path}: {count} coflows announced, got {len(coflows)}")
    return Trace(ports, tuple(coflows.values()))


def _coflow(words: Iterator[str], ports: int) -> Coflow:
    name, arrival_ms = TransferId(next(words)), float(next(words))
    if not 0 <= arrival_ms < math.inf:
        raise ValueError(f"arrival must be finite and not below 0, got {arrival_ms:g} ms")
    mappers = [_port(next(words), ports) for _ in range(_count(next(words)))]
    reducers, megabytes = [], []
    for _ in range(_count(next(words))):
        port, _, size = next(words).partition(":")
        reducers.append(_port(port, ports))
        megabytes.append(float(size))
    if rest := list(words):
        raise ValueError(f"{len(rest)} words too many, from {rest[0]!r} on")
    if not (min(megabytes) >= 0 and 0 < sum(megabytes) < math.inf):
        raise ValueError("reducers must take something, none of them less than nothing, nor without end")
    for what, found in (("mapper", mappers), ("reducer", reducers)):
        if len(set(found)) != len(found):
            raise ValueError(f"a {what}'s port comes twice")
    size_bytes = np.tile(np.array(megabytes) * BYTES_A_MEGABYTE / len(mappers), (len(mappers), 1))
    egress = np.array(mappers, dtype=np.intp)
    ingress = np.array(reducers, dtype=np.intp) + ports
    return Coflow(name, arrival_ms / 1000, egress, ingress, size_bytes)


def _port(word: str, ports: int) -> int:
    port = int(word)
    if not 0 <= port < ports:
        raise ValueError(f"port must be 0 to {ports - 1}, got {port}")
    return port


def _count(word: str) -> int:
    count = int(word)
    if count < 1:
        raise ValueError(f"there must be at least one mapper and one reducer, got {count}")
    return count
