"""What goes first stays about as fast as alone: a broadcast, and K-Means, while a bulk shuffle runs.

    python -m examples.benchmarks.turns --plot turns.png      (as root)

On emulated hosts, all to all. The bulk shuffle has a low priority, the other a high one. Each setting runs
both alone as well, so that its ratios are to what it has measured itself: ports shared by TCP alone, and the
policy ``priority`` with the rate of ports told, and learnt.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from examples.benchmarks.emulation import EmulatedCluster, IdleCpu
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, listed, refuse_wrong, write_json
from examples.benchmarks.jobs import Job, Setting
from examples.benchmarks.systems.orchestra_jobs import JobCluster, KMeansRun
from orchestra.units import format_bytes, format_rate, parse_rate, parse_size

SETTINGS = {
    "tcp": Setting("shared by TCP", "fair", "fair", told=False, color="tab:gray"),
    "told": Setting("priority, rates told", "priority", "weighted", color="tab:blue"),
    "learnt": Setting("priority, rates learnt", "priority", "weighted", told=False, color="tab:cyan"),
}
BROADCAST, KMEANS = "broadcast", "K-Means iteration"
FIRST_S, BETWEEN_S = 4.0, 1.0
"""From the bulk shuffle's beginning to the first broadcast, and from one to the next (guesses: all mappers
have put what they have, and ports are full again)."""
A_BULK = 2
"""Broadcasts during one bulk shuffle: as many as it lasts for where ports are shared."""
LIMIT_S = 600.0
"""For one run (a guess: ten times what any takes)."""

Found = dict[tuple[str, Setting], "Beside"]


@dataclass(frozen=True, slots=True)
class Beside:
    """One thing under one setting.

    Attributes:
        alone, beside: seconds, alone and while the bulk shuffle ran.
        unfinished: whether nothing had ended when the bulk shuffle did: ``beside`` is how long that was, and
            the ratio at least so much.
    """

    alone: Series
    beside: Series
    unfinished: bool = False

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return self.beside.median / self.alone.median


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=6)
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument("--bulk", type=parse_size, default=parse_size("250MB"), help="a mapper")
    parser.add_argument("--broadcast", type=parse_size, default=parse_size("10MB"))
    parser.add_argument("--prototypes", type=int, default=2000, help="of K-Means")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=6, help="broadcasts, and iterations")
    parser.add_argument("--settings", type=listed(str), default=list(SETTINGS), help="of tcp, told, learnt")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there")
    options = parser.parse_args(argv)
    above_0 = ("agents", "rate", "bulk", "broadcast", "prototypes", "dimensions", "points", "repeats")
    refuse_wrong(parser, options, *above_0)
    if options.prototypes > options.points:
        parser.error(f"--prototypes must not be above --points, got {options.prototypes}")
    if unknown := [name for name in options.settings if name not in SETTINGS]:
        parser.error(f"--settings must be of {', '.join(SETTINGS)}, got {unknown[0]}")
    if cannot_emulate():
        return NO_ROOM
    found: Found = {}
    for setting in map(SETTINGS.__getitem__, options.settings):
        print(f"running: {setting.label}", file=sys.stderr)
        with EmulatedCluster(options.agents + 1, options.rate) as hosts, ExitStack() as stack:
            cluster = JobCluster(hosts, stack, setting.options(options.rate), senders=["h1"])
            found[BROADCAST, setting] = _broadcasts(cluster, setting, options)
            found[KMEANS, setting] = _kmeans(cluster, setting, options)
    print(table(found, options))
    write_json(options.json, as_json(found))
    if options.plot is not None:
        draw(found, options.plot)
    return 0


def bulk(setting: Setting, agents: Sequence[str], bytes_a_mapper: int) -> Job:
    """All to all, at the least priority."""
    matrix = {mapper: dict.fromkeys(agents, bytes_a_mapper // len(agents)) for mapper in agents}
    return Job("bulk", matrix=matrix, scheduling=setting.scheduling)


def _broadcasts(cluster: JobCluster, setting: Setting, options: argparse.Namespace) -> Beside:
    """To all but the one whose host they come from."""
    to = cluster.agents[1:]
    low = bulk(setting, cluster.agents, options.bulk)
    alone = [Job("first", size_bytes=options.broadcast, to=to, priority=1)]
    alone += [
        Job(
            f"alone {at}",
            BETWEEN_S,
            "first" if not at else f"alone {at - 1}",
            size_bytes=options.broadcast,
            to=to,
            priority=1,
        )
        for at in range(options.repeats)
    ]
    with IdleCpu() as idle_alone:
        done = cluster.run([], LIMIT_S, by={"h1-sends": alone})
    alone_s = [its.completion_s for name, its in done.items() if name != "first"]
    beside_s: list[float] = []
    idle_share = 1.0
    while len(beside_s) < options.repeats:
        high = [
            Job(
                *(f"beside {at}", BETWEEN_S if at else FIRST_S, f"beside {at - 1}" if at else None),
                size_bytes=options.broadcast,
                to=to,
                priority=1,
            )
            for at in range(A_BULK)
        ]
        with IdleCpu() as idle:
            done = cluster.run([low], LIMIT_S, by={"h1-sends": high})
        within = [
            done[job.name].completion_s for job in high if done[job.name].ended_s <= done["bulk"].ended_s
        ]
        if not within:
            raise RuntimeError("the bulk shuffle ended before a broadcast had: --bulk is too small")
        beside_s += within
        idle_share = min(idle_share, idle.share)
    return Beside(Series(tuple(alone_s), idle_alone.share), Series(tuple(beside_s), idle_share))


def _kmeans(cluster: JobCluster, setting: Setting, options: argparse.Namespace) -> Beside:
    """Iterations, but for the first, in which connections are made, unless no other has ended."""
    run = KMeansRun(options.points, options.dimensions, options.prototypes, options.repeats + 1, priority=1)
    with IdleCpu() as idle_alone:
        alone = cluster.kmeans(run, LIMIT_S)
    under_way = cluster.begin([bulk(setting, cluster.agents, options.bulk)])
    with IdleCpu() as idle:
        beside = cluster.kmeans(run, LIMIT_S)
    ends_s = under_way.begin_s + cluster.wait(under_way, LIMIT_S)["bulk"].ended_s
    steady = Series(tuple(end - begin for begin, end in pairwise(alone))[1:], idle_alone.share)
    took = [end - begin for begin, end in pairwise(beside) if end <= ends_s]
    if took:
        return Beside(steady, Series(tuple(took[1:] or took), idle.share))
    if beside[0] >= ends_s:
        raise RuntimeError("the bulk shuffle ended before the first iteration began: --bulk is too small")
    return Beside(steady, Series((ends_s - beside[0],), idle.share), unfinished=True)


def table(found: Found, options: argparse.Namespace) -> str:
    """A line a thing and setting."""
    model = format_bytes(8 * options.prototypes * options.dimensions)
    lines = [
        f"{options.agents} agents, links of {format_rate(options.rate)}, bulk {format_bytes(options.bulk)} a "
        f"mapper; broadcasts of {format_bytes(options.broadcast)}, prototypes of {model};",
        "seconds: median, least-most, how many",
        f"{'':43} {'alone':>7} {'':>13} {'':>3} {'beside':>7} {'':>13} {'':>3} {'ratio':>6} {'idle':>5}",
    ]
    for (what, setting), its in found.items():
        ratio = f"{'>' if its.unfinished else ''}{its.ratio:.2f}"
        figures = f"{_told(its.alone)} {_told(its.beside)} {ratio:>6} {its.beside.idle:>5}"
        lines.append(f"{what:18} {setting.label:24} {figures}")
    return "\n".join(lines)


def _told(series: Series) -> str:
    return f"{series.median:7.2f} {series.extent():>13} {len(series.values):3}"


def as_json(found: Found) -> dict[str, object]:
    """For programs."""
    return {
        "figures": [
            {
                "what": what,
                "setting": setting.label,
                "alone": its.alone.as_json(),
                "beside": its.beside.as_json(),
                "unfinished": its.unfinished,
            }
            for (what, setting), its in found.items()
        ]
    }


def draw(found: Found, path: Path) -> None:
    """A panel a thing: alone, then each setting, with the spread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9.0, 3.8))
    for panel, what in zip(panels, (BROADCAST, KMEANS), strict=True):
        its_settings = [setting for which, setting in found if which == what]
        alone = found[what, its_settings[-1]].alone
        bars: Mapping[str, tuple[Series, str]] = {
            "alone": (alone, "black"),
            **{setting.label: (found[what, setting].beside, setting.color) for setting in its_settings},
        }
        for at, (series, color) in enumerate(bars.values()):
            low, high = series.median - min(series.values), max(series.values) - series.median
            panel.bar(at, series.median, color=color, yerr=[[low], [high]], capsize=4)
            its = found[what, its_settings[at - 1]] if at else None
            ratio = "" if its is None else f"{'>' if its.unfinished else ''}{its.ratio:.2f}x"
            panel.text(at, max(series.values), ratio, ha="center", va="bottom")
        panel.set_xticks(range(len(bars)), [label.replace(", ", ",\n") for label in bars], fontsize=8)
        panel.set_title(f"{what} beside a bulk shuffle")
        panel.set_ylabel("seconds")
        panel.margins(y=0.15)
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
