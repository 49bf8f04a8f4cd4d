"""The same transfers under several settings of the controller, on emulated hosts and in simulation.

Owns the running, and what the scripts of figures that do so have on the command line. What is run, and what
is made of it, is theirs.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from examples.benchmarks.emulation import EmulatedCluster, IdleCpu, why_not
from examples.benchmarks.figures import NO_ROOM, Series, refuse_wrong
from examples.benchmarks.jobs import Done, Job, Sample, Setting
from examples.benchmarks.simulated_jobs import simulated
from examples.benchmarks.systems.orchestra_jobs import JobCluster
from orchestra.units import parse_rate

PAPER_RATE_BYTES_PER_S = 0.75e9 / 8
"""What the paper's own figures of broadcasts fit."""
LIMIT_S = 600.0
"""For one run on emulated hosts (a guess: ten times what any takes)."""
EMULATED, SIMULATED = "emulated", "simulated"


@dataclass(frozen=True, slots=True)
class Links:
    """Agents, each on a host of its own, and whoever asks on one more.

    Attributes:
        agents: how many, ``h1`` and on.
        rate_bytes_per_s: of each host's link, each way.
    """

    agents: int
    rate_bytes_per_s: float


@dataclass(slots=True)
class Runs:
    """What became of jobs under one setting.

    Attributes:
        done: of each repeat, by the name of the part and of the job.
        samples: how far jobs of the last part were, in the first repeat.
        idle_share: of the CPU on emulated hosts, the least of all repeats; NaN in simulation.
    """

    done: list[dict[str, dict[str, Done]]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    idle_share: float = float("nan")

    def series(self, value: Callable[[dict[str, dict[str, Done]]], float]) -> Series:
        """One figure of every repeat."""
        return Series(tuple(map(value, self.done)), self.idle_share)


Parts = Mapping[str, Sequence[Job]]
"""What one repeat runs, one after another: jobs, which have an asker for all, by the name of the part."""


def emulate(
    setting: Setting, links: Links, parts: Parts, repeats: int, *, sample_s: float | None = None
) -> Runs:
    """Run on emulated hosts; one repeat before them, in which connections are made, is not counted."""
    runs = Runs(idle_share=1.0)
    with EmulatedCluster(links.agents + 1, links.rate_bytes_per_s) as hosts, ExitStack() as stack:
        cluster = JobCluster(hosts, stack, setting.options(links.rate_bytes_per_s))
        for repeat in tqdm(range(repeats + 1), desc=f"{EMULATED}: {setting.label}", unit="run"):
            found = {}
            with IdleCpu() as idle:
                for name, jobs in parts.items():
                    under_way = cluster.begin(_scheduled(jobs, setting), sample_s=sample_s)
                    found[name] = cluster.wait(under_way, LIMIT_S)
            if repeat:
                runs.done.append(found)
                runs.samples = runs.samples or under_way.samples
                runs.idle_share = min(runs.idle_share, idle.share)
    return runs


def simulate(
    setting: Setting, links: Links, parts: Parts, seeds: int, *, sample_s: float | None = None
) -> Runs:
    """Run in simulation, each part in a cluster of its own, once a seed; there are no headers."""
    told = links.rate_bytes_per_s if setting.told else None
    runs = Runs()
    for seed in tqdm(range(seeds), desc=f"{SIMULATED}: {setting.label}", unit="run"):
        found = {}
        for name, jobs in parts.items():
            samples: list[Sample] = []
            found[name] = simulated(
                *(links.agents, links.rate_bytes_per_s, _scheduled(jobs, setting)),
                policy=setting.policy,
                port_rate_bytes_per_s=told,
                enforcement=setting.enforcement,
                seed=seed,
                samples=samples if sample_s is not None else None,
                sample_s=sample_s or 1.0,
            )
        runs.done.append(found)
        runs.samples = runs.samples or samples
    return runs


def run(
    place: str,
    setting: Setting,
    links: Links,
    parts: Parts,
    options: argparse.Namespace,
    *,
    sample_s: float | None = None,
) -> Runs:
    """Emulate or simulate, as often as the command line says."""
    if place == EMULATED:
        return emulate(setting, links, parts, options.repeats, sample_s=sample_s)
    return simulate(setting, links, parts, options.seeds, sample_s=sample_s)


def _scheduled(jobs: Iterable[Job], setting: Setting) -> list[Job]:
    return [Job(**{**job.as_dict(), "scheduling": setting.scheduling}) for job in jobs]


def all_to_all(nodes: int, bytes_a_mapper: int) -> dict[str, dict[str, int]]:
    """Bytes by mapper, then by reducer: every node has as much for each, itself as well."""
    names = [f"h{number}" for number in range(1, nodes + 1)]
    return {mapper: dict.fromkeys(names, bytes_a_mapper // nodes) for mapper in names}


# -- the command line ------------------------------------------------------------------------------


def parser_for(doc: str, name: str, *, rate: str, repeats: int, seeds: int) -> argparse.ArgumentParser:
    """What the scripts have in common.

    Args:
        doc: of the script.
        name: of its files.
        rate, repeats, seeds: where nothing else is said.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help=f"folder for {name}.png and {name}.md")
    parser.add_argument("--only", choices=(EMULATED, SIMULATED), help="one of the two (default: both)")
    parser.add_argument(
        "--rate", type=parse_rate, default=parse_rate(rate), help=f"of emulated links (default: {rate})"
    )
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"on emulated hosts (default: {repeats})"
    )
    parser.add_argument("--seeds", type=int, default=seeds, help=f"simulated runs (default: {seeds})")
    return parser


def places(parser: argparse.ArgumentParser, options: argparse.Namespace, *above_0: str) -> tuple[str, ...]:
    """Where to run, of the two places; ends with status 2 for wrong options, or without any place."""
    refuse_wrong(parser, options, "rate", "repeats", "seeds", *above_0)
    wanted: tuple[str, ...] = (EMULATED, SIMULATED) if options.only is None else (options.only,)
    reason = why_not() if EMULATED in wanted else None
    if reason is not None:
        print(f"hosts cannot be emulated here: {reason}", file=sys.stderr)
        wanted = tuple(place for place in wanted if place != EMULATED)
    if not wanted:
        sys.exit(NO_ROOM)
    options.output.mkdir(parents=True, exist_ok=True)
    return wanted


@contextmanager
def picture(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """A figure and its panels, by row and column, written at the end of the block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    yield figure, panels
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
