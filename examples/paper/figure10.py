"""Figure 10: when each receiver is done, with and without a straggler.

    python -m examples.paper.figure10 --output pictures

Writes figure10.png and figure10.md: the distribution over 100 receivers of 1 GiB by chain, tree and Cornet.
The straggler is one receiver whose network card has a fifth of the others' rate; in chain and tree it has
others below it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from examples.paper.runs import BLOCK_BYTES, SYSTEMS, setup, simulate_all
from orchestra.simulation.broadcast import SimulatedBroadcast
from orchestra.units import format_bytes

STRAGGLER, SHARE = 20, 0.2
"""The host that straggles (a fifth down the chain), and its share of the rate."""
SHOWN = tuple(system for system in SYSTEMS if system.mechanism != "hdfs")

Runs = Mapping[tuple[str, bool], SimulatedBroadcast]


def main() -> None:
    """Simulate, print the table, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=".", help="folder for figure10.png and figure10.md")
    parser.add_argument("--receivers", type=int, default=100)
    parser.add_argument("--size", type=int, default=1 << 30, help="in bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: 2)")
    options = parser.parse_args()
    if options.receivers <= STRAGGLER:
        parser.error(
            f"--receivers must be above {STRAGGLER}, the straggler's number, got {options.receivers}"
        )
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    keys = [(system, slow) for system in SHOWN for slow in (False, True)]
    setups = [
        setup(
            *(system, options.receivers, options.size, BLOCK_BYTES, options.seed),
            host_rates={STRAGGLER: SHARE} if slow else None,
        )
        for system, slow in keys
    ]
    results = simulate_all(setups, options.workers)
    runs = {(system.label, slow): result for (system, slow), result in zip(keys, results, strict=True)}
    table = as_table(runs)
    print(table)
    (folder / "figure10.md").write_text(table)
    draw(runs, folder / "figure10.png")


def as_table(runs: Runs) -> str:
    """When the first, the median, and the last receivers are done; with a straggler, how many it delays."""
    lines = [
        "# Figure 10: seconds until receivers are done",
        "",
        f"One receiver, host {STRAGGLER}, with a fifth of the rate. *Held up* are receivers other than it "
        "that end more than 20 % after the last of the same run without it.",
        "",
        "| system | straggler | first | median | 90 % | last but it | held up |",
        "|---|---|---|---|---|---|---|",
    ]
    for system in SHOWN:
        plain = max(runs[system.label, False].node_completion_s.values())
        for slow in (False, True):
            run = runs[system.label, slow]
            times = sorted(
                at for node, at in run.node_completion_s.items() if not (slow and _is_straggler(node))
            )
            held_up = sum(at > 1.2 * plain for at in times)
            cells = (times[0], times[len(times) // 2], times[int(0.9 * len(times))], times[-1])
            told = " | ".join(f"{at:.1f}" for at in cells)
            lines.append(f"| {system.label} | {'yes' if slow else 'no'} | {told} | {held_up} |")
    return "\n".join(lines) + "\n"


def _is_straggler(node: str) -> bool:
    return node == f"n{STRAGGLER}"


def draw(runs: Runs, path: Path) -> None:
    """Two panels: without and with the straggler."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    for panel, slow in zip(panels, (False, True), strict=True):
        for system in SHOWN:
            run = runs[system.label, slow]
            times = sorted(run.node_completion_s.values())
            shares = [(at + 1) / len(times) for at in range(len(times))]
            panel.step([0, *times], [0, *shares], where="post", color=system.color, label=system.label)
        any_run = runs[SHOWN[0].label, slow]
        panel.axvline(any_run.setup.least_s, color="black", linestyle="--", linewidth=1, label="S/W")
        panel.set_title("one receiver at a fifth of the rate" if slow else "equal links")
        panel.set_xlabel("seconds")
        panel.grid(alpha=0.3)
        panel.set_xlim(left=0)
    panels[0].set_ylabel("share of receivers that are done")
    panels[1].legend(loc="lower right")
    size = format_bytes(any_run.setup.size_bytes)
    figure.suptitle(f"{size} to {any_run.setup.receivers} receivers")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
