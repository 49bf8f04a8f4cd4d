"""A photograph in 64 colours, found by Batch K-Means in worker processes.

    python examples/kmeans_colors.py --workers 4 --k 64 --iterations 10 --output demo-output

Every pixel of ``china.jpg``, which scikit-learn brings along, is a point of three coordinates, and the
prototypes are the colours that are kept. Writes before.png, after.png, before_and_after.png and kmeans.png,
which adds a plot of inertia and time, and compares with scikit-learn from the same start.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import matplotlib
import numpy as np
import numpy.typing as npt
import trio
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_image

from orchestra.kmeans import IterationRecord, KMeansResult, kmeans
from transfers.errors import OrchestraError

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # only after the choice of a backend without windows

AGREEMENT = 0.01
"""Integer colours tie, and ties fall this way or that: so near must the two inertias be."""
GAP_PIXELS = 12
LINE, COMPUTE, MOVE = "#1b3a57", "#3d7ea6", "#e0873e"

Picture = npt.NDArray[np.uint8]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; 0 if all is well, 1 if it fails or scikit-learn disagrees, 2 for a bad argument."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    picture: Picture = load_sample_image("china.jpg")
    pixels = picture.reshape(-1, 3)
    print(f"{len(pixels):,} pixels to {options.k} colours with {options.workers} workers")
    progress = _show if sys.stdout.isatty() else None
    started_s = perf_counter()
    try:
        result = trio.run(
            partial(kmeans, seed=options.seed, progress=progress),
            *(pixels, options.k, options.iterations, options.workers),
        )
    except (ValueError, OrchestraError) as failed:
        print(f"kmeans_colors: {failed}", file=sys.stderr)
        return 2 if isinstance(failed, ValueError) else 1
    except KeyboardInterrupt:
        print("kmeans_colors: interrupted; the workers have ended", file=sys.stderr)
        return 130
    took_s = perf_counter() - started_s
    after = result.prototypes.round().astype(np.uint8)[result.labels].reshape(picture.shape)
    save_pictures(picture, after, options.output)
    plot(picture, after, result, options.output / "kmeans.png")
    print_summary(result, took_s)
    agrees = not options.compare or compare(result, pixels, options.iterations)
    print(f"pictures in {options.output.resolve()}")
    return 0 if agrees else 1


def save_pictures(before: Picture, after: Picture, folder: Path) -> None:
    """Write both, and the two side by side."""
    gap = np.full((before.shape[0], GAP_PIXELS, 3), 255, np.uint8)
    for name, pixels in {
        "before": before,
        "after": after,
        "before_and_after": np.concatenate([before, gap, after], axis=1),
    }.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")


def plot(before: Picture, after: Picture, result: KMeansResult, path: Path) -> None:
    """Both pictures; below them inertia, and time computing with time moving stacked on it."""
    figure, axes = plt.subplot_mosaic(
        [["before", "after"], ["inertia", "time"]],
        figsize=(11, 7.2),
        height_ratios=[1.05, 1],
        layout="constrained",
    )
    for name, pixels in {"before": before, "after": after}.items():
        colours = len(np.unique(pixels.reshape(-1, 3), axis=0))
        axes[name].imshow(pixels)
        axes[name].set_axis_off()
        axes[name].set_title(f"{name}: {colours:,} colours")
    _plot_inertia(axes["inertia"], result)
    _plot_time(axes["time"], result)
    for name in ("inertia", "time"):
        axes[name].set_xlabel("iteration")
        axes[name].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[name].grid(axis="y", color="#dddddd", linewidth=0.8)
        axes[name].set_axisbelow(True)
        axes[name].spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _plot_inertia(axes: Axes, result: KMeansResult) -> None:
    """After 0, 1, 2, … iterations: what an iteration began with is what the one before it left."""
    millions = np.array([*(record.inertia for record in result.history), result.inertia]) / 1e6
    axes.plot(range(len(millions)), millions, color=LINE, marker="o", markersize=4)
    axes.set_title("Inertia after each iteration")
    axes.set_ylabel("sum of squared distances, millions")
    axes.set_ylim(0, 1.12 * millions.max())
    for at in sorted({0, len(millions) - 1}):
        axes.annotate(
            f"{millions[at]:.1f}",
            (at, millions[at]),
            (0, 7),
            textcoords="offset points",
            ha="center",
            color=LINE,
        )


def _plot_time(axes: Axes, result: KMeansResult) -> None:
    numbers = [record.iteration for record in result.history]
    compute_ms = [1000 * record.compute_s for record in result.history]
    move_ms = [1000 * record.move_s for record in result.history]
    axes.bar(numbers, compute_ms, color=COMPUTE, label="computing (slowest worker)")
    axes.bar(numbers, move_ms, bottom=compute_ms, color=MOVE, label="moving, and waiting at barriers")
    axes.set_title("Time of each iteration")
    axes.set_ylabel("milliseconds")
    axes.margins(y=0.3)  # room for the legend
    axes.legend(frameon=False, loc="upper right")


def print_summary(result: KMeansResult, took_s: float) -> None:
    """One line an iteration, then the whole."""
    print(f"{'iteration':>9} {'inertia':>15} {'changed':>9} {'computing':>10} {'moving':>9}")
    for record in result.history:
        print(_line(record))
    print(f"{'end':>9} {result.inertia:>15,.0f}")
    compute_s = sum(record.compute_s for record in result.history)
    move_s = sum(record.move_s for record in result.history)
    print(f"all in {took_s:.2f} s: starting workers and moving points {result.distribute_s:.2f} s, "
          f"computing {compute_s:.2f} s, moving {move_s:.2f} s")  # fmt: skip
    for note in result.notes:
        print(f"note: {note}")


def compare(result: KMeansResult, pixels: Picture, iterations: int) -> bool:
    """Whether scikit-learn comes to the same inertia from the same start."""
    if iterations == 0:
        return True
    started_s = perf_counter()
    reference = KMeans(
        len(result.start), init=result.start, n_init=1, algorithm="lloyd", tol=0, max_iter=iterations
    ).fit(pixels.astype(np.float64))
    apart = result.inertia / reference.inertia_ - 1
    print(f"scikit-learn from the same start: inertia {reference.inertia_:,.0f} "
          f"in {perf_counter() - started_s:.2f} s; ours is {apart:+.2e} of it away")  # fmt: skip
    return bool(abs(apart) <= AGREEMENT)


def _line(record: IterationRecord) -> str:
    return (f"{record.iteration:>9} {record.inertia:>15,.0f} {record.changed:>9,} "
            f"{1000 * record.compute_s:>7.0f} ms {1000 * record.move_s:>6.0f} ms")  # fmt: skip


def _show(record: IterationRecord) -> None:
    print(f"iteration {record.iteration}: inertia {record.inertia:,.0f}, {record.changed:,} pixels changed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4, help="processes (default 4)")
    parser.add_argument("--k", type=int, default=64, help="colours (default 64)")
    parser.add_argument("--iterations", type=int, default=10, help="at most (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the pixels to start from (default 0)")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for the pictures")
    parser.add_argument(
        "--compare", action=argparse.BooleanOptionalAction, default=True, help="with scikit-learn"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
