"""What a shuffle makes of a reducer that stops and of a mapper that dies, on emulated hosts.

    python -m examples.benchmarks.shuffle_faults      (as root)

Every mapper has more to give than its store holds. The same shuffle runs undisturbed; with one reducer
stopped (SIGSTOP) for some seconds; the same where mappers may spill to files; and with a mapper killed
midway, whose partitions another agent then puts again in its place. Receivers check every block; what the
memory of mappers comes to is looked at many times a second.
"""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from tqdm import tqdm

from examples.benchmarks.emulation import EmulatedCluster, IdleCpu
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, refuse_wrong
from examples.benchmarks.jobs import Done, Job
from examples.benchmarks.process_usage import open_files_bytes, proportional_bytes
from examples.benchmarks.systems.contained import Child
from examples.benchmarks.systems.orchestra_jobs import JobCluster
from orchestra.units import format_bytes, format_rate, parse_rate, parse_size

LOOK_S = 0.05
"""Between two looks at memory and files (a guess: a partition takes several times that to make up)."""
LIMIT_S = 300.0
"""For one run (a guess: ten times what any takes)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a shuffle.

    Attributes:
        label: in the table.
        spills: whether agents may put partitions into files.
        stops: whether a reducer is stopped.
        kills: whether a mapper is killed.
    """

    label: str
    spills: bool = False
    stops: bool = False
    kills: bool = False

    @property
    def beside(self) -> "Fault":
        """What it is compared with."""
        return UNDISTURBED[self.spills]


UNDISTURBED = {False: Fault("undisturbed"), True: Fault("undisturbed, spilling", spills=True)}
"""Who spills lets others take places as well: partitions then stay with their mappers to the end."""
FAULTS = (
    UNDISTURBED[False],
    Fault("reducer stopped", stops=True),
    UNDISTURBED[True],
    Fault("reducer stopped, spilling", spills=True, stops=True),
    Fault("mapper killed, spilling", spills=True, kills=True),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One shuffle.

    Attributes:
        took_s: until the last byte.
        idle_share: of the CPU.
        store_bytes: the most that the store of any mapper came to.
        grown_bytes: the most by which the memory of any mapper had grown, of whatever kind.
        spilled_bytes: the most that the files of any mapper came to.
        arrived: how many partitions came.
        replaced: who took whose place.
    """

    took_s: float
    idle_share: float
    store_bytes: int
    grown_bytes: int
    spilled_bytes: int
    arrived: int
    replaced: Mapping[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, print the table; status 1 where something was lost or memory went beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mappers", type=int, default=3)
    parser.add_argument("--reducers", type=int, default=4)
    parser.add_argument("--partition", type=parse_size, default=parse_size("16MB"))
    parser.add_argument("--store-limit", type=parse_size, default=parse_size("40MB"))
    parser.add_argument("--spill-limit", type=parse_size, default=parse_size("200MB"), help="of each agent")
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument("--stopped", type=float, default=5.0, help="seconds (default: 5)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    above_0 = ("mappers", "reducers", "partition", "store_limit", "spill_limit", "rate", "stopped", "repeats")
    refuse_wrong(parser, options, *above_0)
    if options.partition > options.store_limit:
        parser.error(f"--partition must not be above --store-limit, got {options.partition}")
    if cannot_emulate():
        return NO_ROOM
    runs: dict[Fault, list[Run]] = {fault: [] for fault in FAULTS}
    for fault in FAULTS:
        for _ in tqdm(range(options.repeats), desc=fault.label, unit="run"):
            runs[fault].append(_run(fault, options))
    print(table(runs, options))
    return 0 if all(is_whole(fault, run, options) for fault, its in runs.items() for run in its) else 1


def is_whole(fault: Fault, run: Run, options: argparse.Namespace) -> bool:
    """Whether everything came, stores kept their limit, and the dead mapper was named."""
    named = set(run.replaced) == ({"h1"} if fault.kills else set())
    return (
        named and run.arrived == options.mappers * options.reducers and run.store_bytes <= options.store_limit
    )


def _run(fault: Fault, options: argparse.Namespace) -> Run:
    """One shuffle in a cluster of its own."""
    mappers = [f"h{number}" for number in range(1, options.mappers + 1)]
    reducers = [f"h{options.mappers + number}" for number in range(1, options.reducers + 1)]
    matrix = {mapper: dict.fromkeys(reducers, options.partition) for mapper in mappers}
    job = Job("shuffle", matrix=matrix, replaceable=fault.spills)
    half_s = len(mappers) * options.partition / options.rate / 2
    with ExitStack() as stack:
        files = stack.enter_context(tempfile.TemporaryDirectory())
        agent_options = ["--store-limit", str(options.store_limit)]
        if fault.spills:
            agent_options += ["--spill", files, "--spill-limit", str(options.spill_limit)]
        # One agent more than the shuffle needs: it may take a place.
        hosts = stack.enter_context(EmulatedCluster(len(mappers) + len(reducers) + 2, options.rate))
        cluster = JobCluster(hosts, stack, agent_options=agent_options)
        with IdleCpu() as idle, _watched([cluster.children[name] for name in mappers], Path(files)) as seen:
            under_way = cluster.begin([job])
            sleep(max(0.0, under_way.begin_s + half_s - monotonic()))
            if fault.stops:
                cluster.children[reducers[0]].signal(signal.SIGSTOP)
                sleep(options.stopped)
                cluster.children[reducers[0]].signal(signal.SIGCONT)
            if fault.kills:
                cluster.children[mappers[0]].signal(signal.SIGKILL)
            done: Done = cluster.wait(under_way, LIMIT_S)["shuffle"]
        arrived = sum(map(len, done.flow_completion_s.values()))
        return Run(
            *(done.completion_s, idle.share, seen.store_bytes, seen.grown_bytes, seen.spilled_bytes),
            arrived,
            done.replaced,
        )


@dataclass(slots=True)
class _Seen:
    store_bytes: int = 0
    grown_bytes: int = 0
    spilled_bytes: int = 0


@contextmanager
def _watched(children: Sequence[Child], files: Path) -> Iterator[_Seen]:
    """Look at memory and files until the block ends."""
    seen, stop = _Seen(), threading.Event()
    at_first = {child.pid: proportional_bytes(child.pid) for child in children}

    def look() -> None:
        while not stop.wait(LOOK_S):
            for pid, before in at_first.items():
                seen.store_bytes = max(seen.store_bytes, proportional_bytes(pid, "Pss_Shmem"))
                seen.grown_bytes = max(seen.grown_bytes, proportional_bytes(pid) - before)
                seen.spilled_bytes = max(seen.spilled_bytes, open_files_bytes(pid, files))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


def table(runs: Mapping[Fault, Sequence[Run]], options: argparse.Namespace) -> str:
    """A line a fault; times are medians of repeats, memory is the most of all of them."""
    whole = options.mappers * options.reducers
    lines = [
        f"{options.mappers} mappers, {options.reducers} reducers, {format_bytes(options.partition)} from "
        f"each to each, links of {format_rate(options.rate)}, stores of {format_bytes(options.store_limit)};",
        f"{options.repeats} runs of each; memory and files: the most of all",
        f"{'':26} {'took s':>7} {'from-to':>13} {'later':>6} {'partitions':>10} {'store':>9} {'memory +':>9} "
        f"{'files':>9} {'idle':>5}",
    ]
    for fault, its in runs.items():
        base = Series(tuple(run.took_s for run in runs[fault.beside]))
        took = Series(tuple(run.took_s for run in its), min(run.idle_share for run in its))
        arrived = min(run.arrived for run in its)
        lines.append(
            f"{fault.label:26} {took.median:7.2f} {took.extent():>13} {took.median - base.median:+6.1f} "
            f"{f'{arrived}/{whole}':>10} {format_bytes(max(run.store_bytes for run in its)):>9} "
            f"{format_bytes(max(run.grown_bytes for run in its)):>9} "
            f"{format_bytes(max(run.spilled_bytes for run in its)):>9} {took.idle:>5}"
        )
        for run in its:
            lines += [
                f"    {lost} was lost, {taker} put its partitions again"
                for lost, taker in run.replaced.items()
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
