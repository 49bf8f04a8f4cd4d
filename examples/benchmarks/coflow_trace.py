"""A trace of coflows under every policy: how long each takes, from its arrival to the end of its last flow.

    python -m examples.benchmarks.coflow_trace --trace FB2010-1Hr-150-0.txt --policy all --plot coflows.png

The trace is a file of the public coflow benchmark (https://github.com/coflow/coflow-benchmark). Ports carry
128 MiB/s each way, arrivals are exact, and bytes are fluids that follow the policy's rates at once. The
policies are the library's own (`schedulers`). ``alone`` is what each coflow would take with the network for
itself: no policy can be faster. Seconds of CPU are one core's for the whole trace.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from examples.benchmarks.coflow_file import BadTrace, Trace, read_trace
from examples.benchmarks.figures import NO_ROOM
from orchestra.simulation.coflows import MERGE_S, replay
from schedulers import POLICIES, Shuffle, Snapshot, Standing
from schedulers.filling import Floats

PORT_BYTES_PER_S = 128.0 * (1 << 20)
"""1 Gbit/s, as CoflowSim counts it."""
BASELINE = "fair"
SIZES_UNKNOWN = ("fair", "dclas")
"""Policies that look at no size."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The trace under one policy.

    Attributes:
        completions_s: shape (coflows,).
        decisions: how often the policy was asked.
        cpu_s: for all of it.
    """

    completions_s: Floats
    decisions: int
    cpu_s: float

    @property
    def mean_s(self) -> float:
        """Of the completion times."""
        return float(self.completions_s.mean())

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "mean_s": self.mean_s,
            "median_s": float(np.median(self.completions_s)),
            "p95_s": float(np.percentile(self.completions_s, 95)),
            "decisions": self.decisions,
            "cpu_s": self.cpu_s,
            "completions_s": self.completions_s.tolist(),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for, print the table, write the files."""
    options = _parser().parse_args(argv)
    try:
        trace = read_trace(options.trace)
    except (BadTrace, OSError) as wrong:
        print(wrong, file=sys.stderr)
        return NO_ROOM
    alone = alone_s(trace)
    names = list(POLICIES) if "all" in options.policy else list(dict.fromkeys(options.policy))
    run = partial(_run, trace, options.merge)
    if options.workers == 1:
        outcomes = dict(zip(names, map(run, names, range(len(names))), strict=True))
    else:
        with ProcessPoolExecutor(options.workers) as pool:
            outcomes = dict(zip(names, pool.map(run, names, range(len(names))), strict=True))
    print(table(outcomes, alone, options.merge))
    if options.json is not None:
        written = {"trace": options.trace.name, "merge_s": options.merge, "alone_s": alone.tolist()}
        written |= {"policies": {name: outcome.as_json() for name, outcome in outcomes.items()}}
        options.json.write_text(json.dumps(written))
    if options.plot is not None:
        draw(outcomes, alone, options.plot)
    return 0


def alone_s(trace: Trace) -> Floats:
    """Shape (coflows,): what each would take with the network for itself."""
    demands = [
        Shuffle.of(Standing(coflow.name, coflow.arrival_s), coflow.egress, coflow.ingress, coflow.size_bytes)
        for coflow in trace.coflows
    ]
    return Snapshot(_capacities(trace), demands).bottlenecks_s


def table(outcomes: Mapping[str, Outcome], alone: Floats, merge_s: float) -> str:
    """Seconds by policy, and how many times longer the baseline takes on average."""
    lines = [
        f"{len(alone)} coflows; seconds from arrival to the end of the last flow; ends within "
        f"{merge_s * 1000:g} ms of each other merged",
        "",
        f"{'policy':10}{'mean':>9}{'median':>9}{'p95':>9}{'fair / it':>11}{'decisions':>11}{'CPU s':>8}",
        f"{'alone':10}{alone.mean():9.2f}{np.median(alone):9.3f}{np.percentile(alone, 95):9.2f}",
    ]
    baseline = outcomes.get(BASELINE)
    for name, outcome in outcomes.items():
        times = outcome.completions_s
        ratio = "" if baseline is None else f"{baseline.mean_s / outcome.mean_s:.2f}"
        lines.append(
            f"{name:10}{outcome.mean_s:9.2f}{np.median(times):9.3f}{np.percentile(times, 95):9.2f}"
            f"{ratio:>11}{outcome.decisions:11,}{outcome.cpu_s:8.0f}"
        )
    if baseline is not None and len(outcomes) > 1:
        lines.append("")
        for what, among in (("", outcomes), (" of those that look at no size", SIZES_UNKNOWN)):
            best = min((outcomes[name].mean_s, name) for name in among if name in outcomes)
            lines.append(
                f"{BASELINE} takes {baseline.mean_s / best[0]:.2f} x the mean of the best{what}, {best[1]}"
            )
    return "\n".join(lines)


def draw(outcomes: Mapping[str, Outcome], alone: Floats, path: Path) -> None:
    """Shares of coflows that are through, over time; and means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    shares = np.arange(1, len(alone) + 1) / len(alone)
    curves.plot(np.sort(alone), shares, color="black", linewidth=1, linestyle="--", label="alone")
    for name, outcome in outcomes.items():
        curves.plot(np.sort(outcome.completions_s), shares, label=name)
    curves.set(xscale="log", xlabel="seconds from arrival to end", ylabel="share of coflows", ylim=(0, 1))
    curves.legend()
    means = [("alone", float(alone.mean())), *((name, outcome.mean_s) for name, outcome in outcomes.items())]
    drawn = bars.barh(
        [name for name, _ in means], [mean for _, mean in means], color=["0.7", *_colours(outcomes)]
    )
    bars.bar_label(drawn, fmt="%.1f", padding=3)
    bars.invert_yaxis()
    bars.margins(x=0.15)
    bars.set(xlabel="mean seconds")
    figure.savefig(path, dpi=130)


def _colours(outcomes: Mapping[str, Outcome]) -> list[str]:
    return [f"C{at % 10}" for at in range(len(outcomes))]


def _run(trace: Trace, merge_s: float, name: str, place: int) -> Outcome:
    begun_s = time.process_time()
    coflows = trace.coflows
    if name == BASELINE:  # flows by themselves, whatever they have left
        coflows = tuple(replace(coflow, weighted=False) for coflow in coflows)
    with tqdm(total=len(trace.coflows), desc=name, unit="coflow", position=place) as bar:
        done = replay(coflows, _capacities(trace), POLICIES[name], merge_s=merge_s, on_end=bar.update)
    return Outcome(done.completions_s, done.decisions, time.process_time() - begun_s)


def _capacities(trace: Trace) -> Floats:
    return np.full(2 * trace.ports, PORT_BYTES_PER_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, required=True, help="file of the public coflow benchmark")
    parser.add_argument(
        "--policy", nargs="+", default=["all"], choices=["all", *POLICIES], help="which (default: all)"
    )
    parser.add_argument(
        "--merge", type=_seconds, default=MERGE_S, metavar="S",
        help=f"flows that end within so many seconds cost one decision (default: {MERGE_S:g})",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=_positive, default=1, help="policies at a time, each on a core (default: 1)"
    )
    parser.add_argument("--plot", type=Path, help="picture to write")
    parser.add_argument("--json", type=Path, help="file to write, with every coflow's time")
    return parser


def _positive(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"must not be below 0, got {text}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
