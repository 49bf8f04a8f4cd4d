"""Where a broadcast's time goes: how busy every port is from its first byte to its last, as a picture.

    python -m examples.benchmarks.port_trace --receivers 16 --size 32MB --rate 50Mbit --plot port-trace.png

The bytes that have passed each host's shapers are read every `--sample` seconds, on the switches' side,
while one broadcast runs on emulated hosts: what a port has carried since the last look, over what it could
have. Each reading is 1.0 where a link is full; packets come in up to 64 KiB, so one may be off by that much.

A receiver has everything when its port has carried S bytes. So all time beyond S/W is time in which ports
towards receivers were not full, and the table splits it up: ramp-up (until receivers' mean first reaches
90 %), plateau (until the first receiver is done), tail (until the last is). Of several broadcasts, the one of
median completion is shown; one before them does not count. Needs root, Linux and pyroute2.
"""

import argparse
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from examples.benchmarks.broadcasts import TIMEOUT_S
from examples.benchmarks.emulation import EmulatedCluster, IdleWhileMoving
from examples.benchmarks.figures import NO_ROOM, Series, cannot_emulate, refuse_wrong, write_json
from examples.benchmarks.systems.orchestra import Orchestra
from examples.benchmarks.systems.orchestra_nodes import OrchestraNodes, Timing
from orchestra.units import format_block_size, format_bytes, format_rate, parse_rate, parse_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REACHED = 0.9
"""Mean share from which on the ramp is over (a guess: most of what the plateau holds)."""
BEFORE_S, AFTER_S = 0.1, 0.15
"""How much of the time before the call and after the last hand-over is kept (for the eye)."""
DONE_COLOUR = "#2389d7"
"""Seen on both ends of the heat maps' scale."""
Shares = npt.NDArray[np.float64]


class PortSampler:
    """Reads all ports of a cluster while a block runs, in a thread of its own.

    Attributes:
        moments_s: CLOCK_MONOTONIC of each reading.
        readings: bytes that each host has been sent, and has sent, at each; in the hosts' order.
    """

    def __init__(self, cluster: EmulatedCluster, sample_s: float) -> None:
        self.moments_s: list[float] = []
        self.readings: list[list[tuple[int, int]]] = []
        self._cluster = cluster
        self._sample_s = sample_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="port sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        due_s, over = time.monotonic(), False
        while not over:
            over = self._over.is_set()  # then this is the last, and nothing moves any more
            self.readings.append(self._cluster.port_bytes())
            self.moments_s.append(time.monotonic())
            due_s = max(due_s + self._sample_s, self.moments_s[-1])
            self._over.wait(due_s - time.monotonic())


@dataclass(frozen=True, slots=True)
class Trace:
    """One broadcast, seen at its ports.

    Attributes:
        edges_s: of the spans that shares are given for, since the call of `broadcast`; one more than spans.
        ingress, egress: share of its link that each host (first axis) has used in each span (second axis);
            the source is the first host.
        ideal_s: S/W.
        timing: what the library and its callers have seen.
    """

    edges_s: Shares
    ingress: Shares
    egress: Shares
    ideal_s: float
    timing: Timing

    @property
    def middles_s(self) -> Shares:
        """Of the spans."""
        middles: Shares = (self.edges_s[:-1] + self.edges_s[1:]) / 2
        return middles

    @property
    def done_s(self) -> Mapping[str, float]:
        """When each receiver held the object, since the call."""
        return {name: at_s - self.timing.began_s for name, at_s in self.timing.received_s.items()}


def as_trace(
    sampler: PortSampler, rates_bytes_per_s: Sequence[float], ideal_s: float, timing: Timing
) -> Trace:
    """Shares out of readings, from shortly before the call to shortly after the end, all of it at least."""
    moments_s = np.array(sampler.moments_s) - timing.began_s
    counted = np.array(sampler.readings, dtype=np.float64)  # reading, host, direction
    soon, late = np.searchsorted(moments_s, (-BEFORE_S, timing.elapsed_s + AFTER_S))
    before = np.searchsorted(moments_s, 0.0, side="right") - 1
    after = np.searchsorted(moments_s, timing.elapsed_s) + 1
    kept = slice(max(0, min(soon, before)), max(late, after))
    moments_s, counted = moments_s[kept], counted[kept]
    could = np.diff(moments_s)[:, None, None] * np.asarray(rates_bytes_per_s)[None, :, None]
    shares = np.diff(counted, axis=0) / could
    return Trace(moments_s, shares[:, :, 0].T, shares[:, :, 1].T, ideal_s, timing)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a broadcast.

    Attributes:
        name: of the part.
        begins_s, ends_s: since the call.
        ingress: mean share of receivers' links that was used towards them.
        egress: mean share of all links, the source's too, that was used the other way.
    """

    name: str
    begins_s: float
    ends_s: float
    ingress: float
    egress: float

    @property
    def lasts_s(self) -> float:
        """How long."""
        return self.ends_s - self.begins_s

    @property
    def lost_s(self) -> float:
        """Time of full links that was not used towards the mean receiver."""
        return self.lasts_s * (1 - self.ingress)


def phases(trace: Trace) -> list[Phase]:
    """Ramp-up, plateau and tail; without a plateau if the mean never reaches 90 % before one is done."""
    first_s, last_s = min(trace.done_s.values()), max(trace.done_s.values())
    mean = trace.ingress[1:].mean(axis=0)
    reached = np.flatnonzero((mean >= REACHED) & (trace.edges_s[:-1] >= 0))
    up_s = float(trace.edges_s[reached[0]]) if len(reached) else first_s
    up_s = min(up_s, first_s)
    return [
        _phase("ramp-up", trace, 0.0, up_s),
        _phase("plateau", trace, up_s, first_s),
        _phase("tail", trace, first_s, last_s),
    ]


def _phase(name: str, trace: Trace, begins_s: float, ends_s: float) -> Phase:
    """A phase, whose ends may lie within spans: of these, the part counts that lies in it."""
    inside_s = np.minimum(trace.edges_s[1:], ends_s) - np.maximum(trace.edges_s[:-1], begins_s)
    weights = np.maximum(inside_s, 0.0)
    if not weights.sum():
        return Phase(name, begins_s, ends_s, 0.0, 0.0)
    ingress = float(np.average(trace.ingress[1:].mean(axis=0), weights=weights))
    egress = float(np.average(trace.egress.mean(axis=0), weights=weights))
    return Phase(name, begins_s, ends_s, ingress, egress)


def table(trace: Trace, idle: Series) -> str:
    """The phases for people."""
    timing = trace.timing
    lines = [
        f"{timing.mechanism} in blocks of {format_block_size(timing.block_size_bytes)}: completion "
        f"{timing.completion_s:.3f} s, elapsed {timing.elapsed_s:.3f} s "
        f"({timing.elapsed_s / trace.ideal_s:.3f} x S/W = {trace.ideal_s:.3f} s); idle CPU {idle.idle}",
        "",
        f"{'phase':8}  {'from s':>7}  {'to s':>7}  {'ingress':>7}  {'egress':>7}  {'lost s':>7}  "
        f"{'of S/W':>6}",
    ]
    for phase in phases(trace):
        lines.append(
            f"{phase.name:8}  {phase.begins_s:7.3f}  {phase.ends_s:7.3f}  {phase.ingress:7.1%}  "
            f"{phase.egress:7.1%}  {phase.lost_s:7.3f}  {phase.lost_s / trace.ideal_s:6.1%}"
        )
    return "\n".join(lines)


def as_json(trace: Trace, idle: Series) -> dict[str, Any]:
    """The trace for programs."""
    return {
        "ideal_s": trace.ideal_s,
        "completion_s": trace.timing.completion_s,
        "elapsed_s": trace.timing.elapsed_s,
        "mechanism": trace.timing.mechanism,
        "block_size_bytes": trace.timing.block_size_bytes,
        "idle": idle.as_json(),
        "phases": {
            phase.name: {
                "begins_s": phase.begins_s,
                "ends_s": phase.ends_s,
                "ingress": phase.ingress,
                "egress": phase.egress,
                "lost_s": phase.lost_s,
            }
            for phase in phases(trace)
        },
        "edges_s": trace.edges_s.tolist(),
        "ingress": trace.ingress.tolist(),
        "egress": trace.egress.tolist(),
        "done_s": dict(trace.done_s),
    }


def plot(trace: Trace, title: str, path: Path) -> None:
    """Heat maps of both directions, hosts by time, and their means as curves below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    hosts = len(trace.ingress)
    figure, panels = pyplot.subplots(
        3,
        1,
        figsize=(11, 3.6 + 0.32 * hosts),
        sharex=True,
        height_ratios=(hosts, hosts, max(5.0, hosts * 0.55)),
        layout="constrained",
    )
    for axes, shares, way in zip(panels, (trace.ingress, trace.egress), ("in", "out"), strict=False):
        image = axes.pcolormesh(
            trace.edges_s, np.arange(hosts + 1) - 0.5, shares, cmap="magma", vmin=0, vmax=1
        )
        axes.set_yticks(range(hosts), ["source", *(f"h{number}" for number in range(1, hosts))], fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_title(f"{way}: share of each host's link that is busy", fontsize=10, loc="left")
        _mark_times(axes, trace, labelled=False)
    done = [trace.done_s[f"h{number}"] for number in range(1, hosts)]
    panels[0].plot(
        *(done, range(1, hosts), "o"),
        color=DONE_COLOUR,
        markeredgecolor="white",
        markeredgewidth=0.6,
        markersize=4.5,
        label="has the whole object",
    )
    panels[0].legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), frameon=False, fontsize=8, borderpad=0.1)
    _draw_means(panels[2], trace)
    bar = figure.colorbar(image, ax=panels[:2], shrink=0.5, pad=0.015, ticks=(0, 0.25, 0.5, 0.75, 1))
    bar.ax.set_yticklabels(["idle", "25 %", "50 %", "75 %", "full"], fontsize=8)
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=12)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _draw_means(axes: "Axes", trace: Trace) -> None:
    ramp, plateau, tail = phases(trace)
    for phase, colour in ((ramp, "#f2e3c6"), (tail, "#e3e7ee")):
        axes.axvspan(phase.begins_s, phase.ends_s, color=colour, linewidth=0)
        middle_s = (phase.begins_s + phase.ends_s) / 2
        axes.text(middle_s, 0.03, phase.name, ha="center", fontsize=8, color="#666666")
    axes.plot(trace.middles_s, trace.ingress[1:].mean(axis=0), color="#b5367a", label="in, mean of receivers")
    axes.plot(
        *(trace.middles_s, trace.egress.mean(axis=0)),
        color="#f0864b",
        linewidth=1,
        linestyle="--",
        label="out, mean of all hosts",
    )
    _mark_times(axes, trace, labelled=True)
    axes.set_ylim(0, 1.14)
    axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ["0", "25 %", "50 %", "75 %", "100 %"], fontsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlim(trace.edges_s[0], trace.edges_s[-1])
    axes.set_xlabel(
        f"seconds since the call   (ramp-up {ramp.lasts_s:.2f} s, plateau {plateau.ingress:.0%} busy, "
        f"tail {tail.lasts_s:.2f} s)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", frameon=True, framealpha=0.9, edgecolor="none", fontsize=8, ncols=2)


def _mark_times(axes: "Axes", trace: Trace, labelled: bool) -> None:
    ratio = trace.timing.elapsed_s / trace.ideal_s
    marks = (
        (trace.ideal_s, "S/W", "--", "right", -3),
        (trace.timing.elapsed_s, f"{ratio:.2f} x S/W", "-", "left", 3),
    )
    for at_s, name, style, side, off in marks:
        axes.axvline(at_s, color=DONE_COLOUR, linewidth=1.3, linestyle=style)
        if labelled:
            axes.annotate(
                *(name, (at_s, 1.13)),
                xytext=(off, 0),
                textcoords="offset points",
                color=DONE_COLOUR,
                ha=side,
                va="top",
                fontsize=9,
            )


def measure(
    receivers: int, size_bytes: int, rate_bytes_per_s: float, how: Orchestra, repeats: int, sample_s: float
) -> tuple[Trace, Series]:
    """The broadcast of median completion, and the idle CPU over all.

    Raises:
        RuntimeError: when a broadcast fails or takes too long.
    """
    traces = []
    with (
        EmulatedCluster(receivers + 1, rate_bytes_per_s) as cluster,
        ExitStack() as stack,
        tqdm(total=repeats + 1, unit="broadcast", file=sys.stderr) as bar,
    ):
        nodes = OrchestraNodes(cluster, stack)
        nodes.broadcast("first", how, size_bytes, TIMEOUT_S)
        bar.update()
        rates = [host.rate_bytes_per_s for host in cluster.hosts]
        with IdleWhileMoving(cluster) as idle:
            for turn in range(repeats):
                ongoing = nodes.prepare(f"turn-{turn}", size_bytes, TIMEOUT_S)
                with PortSampler(cluster, sample_s) as sampler:
                    ongoing.send(how)
                    ongoing.wait_received(list(nodes.receivers))
                    time.sleep(AFTER_S)
                traces.append(as_trace(sampler, rates, size_bytes / rate_bytes_per_s, ongoing.finish()))
                bar.update()
    traces.sort(key=lambda trace: trace.timing.completion_s)
    completions = Series(tuple(trace.timing.completion_s for trace in traces), idle.share)
    return traces[(len(traces) - 1) // 2], completions


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receivers", type=int, default=16)
    parser.add_argument("--size", type=parse_size, default=parse_size("32MB"))
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("50Mbit"), help="of each host's link")
    parser.add_argument("--mechanism", default="cornet")
    parser.add_argument("--block-size", type=parse_size, help="the library's choice by default")
    parser.add_argument("--repeats", type=int, default=7, help="of which the median one is shown")
    parser.add_argument("--sample", type=float, default=0.1, help="seconds between two looks")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the trace")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the trace")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, draw; the exit status: 1 if a broadcast failed, 2 without emulated hosts."""
    parser = arguments()
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "receivers", "size", "repeats", "sample")
    if options.block_size is not None:
        refuse_wrong(parser, options, "block_size")
    if cannot_emulate():
        return NO_ROOM
    how = Orchestra(options.mechanism, options.block_size)
    title = (
        f"{format_bytes(options.size)} by {options.mechanism} to {options.receivers} receivers over links of "
        f"{format_rate(options.rate)}"
    )
    try:
        trace, completions = measure(
            *(options.receivers, options.size, options.rate, how, options.repeats, options.sample)
        )
    except (RuntimeError, OSError) as failed:
        print(f"failed: {' '.join(str(failed).split())}")
        return 1
    print(f"{title}; completions {completions.extent()} s, shown is the median of {options.repeats}")
    print(table(trace, completions))
    write_json(options.json, as_json(trace, completions))
    if options.plot is not None:
        plot(trace, title, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
