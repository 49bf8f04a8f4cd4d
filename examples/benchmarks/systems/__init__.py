"""The systems that are measured side by side, Orchestra among them.

Each module here exports a tuple ``SYSTEMS``. They are imported when they are asked for, not with this
package, which every child process imports on its way to its own module. None of them imports the package it
measures: that happens in children only, so what is not installed is reported by `System.missing`.
"""

from importlib import import_module

from examples.benchmarks.systems.base import System

MODULES = ("orchestra", "openmpi", "libtorrent_swarm", "dask_scatter", "spark_broadcast", "ray_broadcast")
"""In the order of the table."""


def all_systems() -> tuple[System, ...]:
    """Every system, whether it can run here or not."""
    found: list[System] = []
    for name in MODULES:
        found += import_module(f"{__name__}.{name}").SYSTEMS
    return tuple(found)
