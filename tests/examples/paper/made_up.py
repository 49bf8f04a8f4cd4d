"""Outcomes made up for tables. Not a test."""

from collections.abc import Mapping

from examples.benchmarks.jobs import Done


def done(
    name: str, took_s: float, asked_s: float = 0.0, flows_s: Mapping[str, Mapping[str, float]] | None = None
) -> Done:
    """A shuffle that was accepted as soon as it was asked for."""
    flows_s = {"h1": {"h2": took_s}} if flows_s is None else flows_s
    return Done(name, asked_s, asked_s + took_s, took_s, flows_s, {"h2": took_s}, {}, "")
