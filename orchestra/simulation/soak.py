"""Many simulated runs, each drawn from a seed, each with faults, each watched by all checkers.

``python -m orchestra.simulation.soak --seeds 200`` runs two hundred and says which seeds complain; a seed
repeats its run exactly. Owns the course of a run; what it is to be is drawn elsewhere
(`orchestra.simulation.scenario`), and what is right the checkers know.
"""

import argparse
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import trio

from orchestra.choice import LinkEstimate
from orchestra.controller.broadcast import BroadcastController
from orchestra.controller.transfer import GONE
from orchestra.messages import Outcome
from orchestra.node.node import Node
from orchestra.node.shuffle import block_size_bytes
from orchestra.node.synthetic import synthetic_bytes
from orchestra.simulation.checkers import (
    Checkers,
    Expected,
    outcome_limit_s,
    settle_limit_s,
    watch,
)
from orchestra.simulation.cluster import SimulatedCluster, simulated_cluster
from orchestra.simulation.fabric import Fabric
from orchestra.simulation.faults import CONTROLLER_HOST, Clog, Cut, SwizzleClog, excused, inject, over_after_s
from orchestra.simulation.pages import random_bytes
from orchestra.simulation.running import StuckSimulation, simulate
from orchestra.simulation.scenario import (
    MOST_FAULTS,
    SOURCE,
    BroadcastPlan,
    Pause,
    Scenario,
    ShufflePlan,
    draw_scenario,
)
from orchestra.simulation.world import World
from transfers.errors import ControllerLost, OrchestraError, UnknownTransfer
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey, partition_name
from transfers.net.limits import STALL_LIMIT_S
from transfers.net.server import UNKNOWN_OBJECT_LIMIT_S
from transfers.planners.events import TICK_INTERVAL_S

MOST_ATTEMPTS = 8
"""At one partition of a replaceable shuffle (a guess: twice the most faults of a run)."""
LOOK_S = 0.25
"""How often is looked whether something has come about that nobody tells of (a guess)."""
FIND_S = TICK_INTERVAL_S / 2
"""The controller forgets what has failed at its next tick."""
RELEASE_SETTLES_S = UNKNOWN_OBJECT_LIMIT_S + STALL_LIMIT_S
"""Time for a release to reach everyone: asks that cross it are refused after the one, answers that cross it
have stalled after the other."""
MAX_VIRTUAL_S = 1000.0
"""Last resort: the sum of all limits of a run is below it."""
OPERATOR = "operator"
"""The node that pauses transfers and changes policies."""
JANITOR = "janitor"
"""The node that releases everything in the end, whoever has died."""


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What came of one run.

    Attributes:
        digest: of everything that arrived anywhere, when; equal for equal runs.
        complaints: of the checkers; empty is good.
        outcomes: the state of each transfer in the end, and how many nodes failed in it.
        virtual_s: how long it took on its own clock.
    """

    seed: int
    digest: str
    complaints: tuple[str, ...]
    outcomes: dict[str, str]
    virtual_s: float


def run_seed(seed: int, *, most_faults: int = MOST_FAULTS) -> SeedReport:
    """Draw a scenario and run it; arguments as for `orchestra.simulation.scenario.draw_scenario`."""
    return run_scenario(draw_scenario(seed, most_faults=most_faults))


def run_scenario(scenario: Scenario) -> SeedReport:
    """Run one scenario to its end under virtual time.

    Without Python's collector of cycles: when it runs depends on what ran before, and memory that only it
    would free is a complaint at every run, not at some.
    """
    run = _Run(scenario)
    collecting = gc.isenabled()
    gc.disable()
    try:
        return simulate(run.main, seed=scenario.seed, limit_s=MAX_VIRTUAL_S)
    except StuckSimulation as stuck:
        complaints = (*run.world.complaints, str(stuck))
        return SeedReport(scenario.seed, run.world.trace_digest, complaints, run.outcomes, MAX_VIRTUAL_S)
    except Exception as broken:
        broken.add_note(f"in the run of seed {scenario.seed}")
        raise
    finally:
        if collecting:
            gc.enable()


class _Run:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World(
            Fabric(scenario.rates, scenario.racks, scenario.uplink_bytes_per_s), Random(scenario.seed)
        )
        self.outcomes: dict[str, str] = {}
        self.excused = excused(scenario.faults, scenario.hosts, scenario.heartbeat_timeout_s)
        self._cluster: SimulatedCluster
        self._checkers: Checkers
        self._started: list[str] = []
        self._seen: dict[str, BroadcastController] = {}

    async def main(self) -> SeedReport:
        """The whole run."""
        scenario = self.scenario
        async with simulated_cluster(
            self.world,
            seed=scenario.seed,
            link=LinkEstimate(rate_bytes_per_s=scenario.rates[0]),
            port_rate_bytes_per_s=scenario.port_rate_bytes_per_s,
            policy=scenario.turns.policy,
            heartbeat_timeout_s=scenario.heartbeat_timeout_s,
        ) as cluster:
            self._cluster = cluster
            self._checkers = watch(cluster, scenario.port_rate_bytes_per_s)
            await cluster.start(SOURCE, CONTROLLER_HOST, receives=False)
            if scenario.turns.pauses or scenario.turns.changes:
                await cluster.start(OPERATOR, CONTROLLER_HOST, receives=False)
            async with trio.open_nursery() as joining:
                for name, host in scenario.receivers.items():
                    joining.start_soon(cluster.start, name, host)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(inject, cluster, scenario.faults)
                for name, host, at_s in scenario.late:
                    nursery.start_soon(self._join_late, name, host, at_s)
                for plan in scenario.broadcasts:
                    nursery.start_soon(self._broadcast, plan)
                if scenario.shuffle is not None:
                    nursery.start_soon(self._shuffle, scenario.shuffle)
                for pause in scenario.turns.pauses:
                    nursery.start_soon(self._pause, pause)
                for at_s, policy in scenario.turns.changes:
                    nursery.start_soon(self._change_policy, at_s, policy)
            await self._settle()
            await self._release()
        for name, outcome in self.outcomes.items():
            self.world.note(name, outcome)
        return SeedReport(
            scenario.seed,
            self.world.trace_digest,
            tuple(self.world.complaints),
            self.outcomes,
            trio.current_time(),
        )

    # -- transfers -------------------------------------------------------------------------------

    async def _join_late(self, name: str, host: int, at_s: float) -> None:
        await trio.sleep(at_s)
        try:
            await self._cluster.start(name, host)
        except OrchestraError as refused:
            self._checkers.complain(f"{name} could not join: {refused}")

    async def _broadcast(self, plan: BroadcastPlan) -> None:
        """One broadcast, from asking for it to a checked outcome."""
        await trio.sleep(plan.at_s)
        source = self._cluster.nodes.get(plan.source)
        if source is None:
            return
        data = random_bytes(plan.size_bytes, plan.seed).data
        self._checkers.expect(
            Expected(
                plan.name,
                plan.source,
                data,
                plan.block_size_bytes,
                plan.to,
                plan.cancel_after_s is not None,
            )
        )
        there = [name for name in self._cluster.nodes if name in self.scenario.receivers]
        there = [name for name in there if name != plan.source]
        patient_s = over_after_s(self.scenario.faults) + self.scenario.turns.paused_s
        limit_s = patient_s + outcome_limit_s(
            *(plan.size_bytes, len(self.scenario.hosts), self.scenario.slowest_bytes_per_s),
            *(plan.timeout_s, self.scenario.heartbeat_timeout_s),
        )
        heard: list[Outcome] = []
        with trio.move_on_after(limit_s) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._find, plan.name)
                await self._while_alive(plan.source, lambda: self._send(source, plan, data, heard))
                await trio.sleep(LOOK_S)  # what it said last may be under way
                nursery.cancel_scope.cancel()
            transfer = self._seen.get(plan.name)
            while transfer is not None and not transfer.over:
                await trio.sleep(LOOK_S)
        if patience.cancelled_caught:
            self._checkers.complain(f"{plan.name}: no outcome within {limit_s:.0f} s")
        transfer = self._seen.get(plan.name)
        if transfer is not None:
            self._checkers.check_stores()
            self._checkers.check_outcome(
                plan.name, transfer, heard[0] if heard else None, there, self.excused
            )
            self.outcomes[plan.name] = f"{transfer.state.value}, {len(transfer.tally.failed)} failed"

    async def _send(
        self,
        source: Node,
        plan: BroadcastPlan,
        data: memoryview,
        heard: list[Outcome],
    ) -> None:
        priority, weight = self.scenario.turns.claim_of(plan.name)
        try:
            transfer = await source.broadcast(
                data,
                plan.name,
                to=plan.to,
                mechanism=plan.mechanism,
                block_size=None if plan.small else plan.block_size_bytes,
                timeout=plan.timeout_s,
                priority=priority,
                weight=weight,
            )
            self._started.append(plan.name)
            if plan.cancel_after_s is not None:
                await trio.sleep(plan.cancel_after_s)
                await transfer.cancel()
            heard.append(await transfer.wait_outcome())
        except OrchestraError as failed:
            self.outcomes[plan.name] = f"not sent: {type(failed).__name__}"
            if plan.source not in self.excused and self._anyone_there(plan):
                self._checkers.complain(f"{plan.name} could not be sent: {failed}")

    def _anyone_there(self, plan: BroadcastPlan) -> bool:
        return any(name not in self.excused for name in self.scenario.receivers if name != plan.source)

    async def _find(self, name: str) -> None:
        """Get hold of a broadcast's controller before the table forgets it, as when it has failed."""
        while name not in self._seen:
            transfer = self._cluster.server.core.table.get(TransferName(name))
            if isinstance(transfer, BroadcastController):
                self._seen[name] = transfer
            await trio.sleep(FIND_S)

    async def _shuffle(self, plan: ShufflePlan) -> None:
        """One shuffle of synthetic bytes."""
        await trio.sleep(plan.at_s)
        source = self._cluster.nodes.get(SOURCE)
        if source is None:
            return
        for mapper, row in plan.sizes.items():
            for reducer, size_bytes in row.items():
                data = synthetic_bytes(mapper, reducer, size_bytes).data
                for attempt in range(MOST_ATTEMPTS if self.scenario.turns.replaceable else 1):
                    name = partition_name(NodeName(mapper), NodeName(reducer), attempt)
                    key = ObjectKey(TransferName(plan.name), name)
                    self._checkers.expect_object(key, data, block_size_bytes(size_bytes))
        await self._while_alive(SOURCE, lambda: self._watch_shuffle(source, plan))

    async def _watch_shuffle(self, source: Node, plan: ShufflePlan) -> None:
        turns = self.scenario.turns
        taking_part = {*plan.sizes, *(reducer for row in plan.sizes.values() for reducer in row)}
        if turns.replaceable:  # others may have to
            taking_part |= set(self.scenario.hosts)
        priority, weight = turns.claim_of(plan.name)
        try:
            shuffle = await source.run_shuffle(
                plan.sizes,
                plan.name,
                timeout=plan.timeout_s,
                scheduling="weighted" if turns.weighted else "fair",
                replaceable=turns.replaceable,
                priority=priority,
                weight=weight,
            )
            outcome = await shuffle.wait_outcome()
        except OrchestraError as failed:
            self.outcomes[plan.name] = f"not run: {type(failed).__name__}"
            reason, failing = str(failed), dict[str, str]()
        else:
            self.outcomes[plan.name] = "failed" if outcome.failed or outcome.reason else "done"
            reason, failing = outcome.reason, dict(outcome.failed)
        ok = self.outcomes[plan.name] == "done"
        if not ok and not reason:
            self._checkers.complain(f"{plan.name} failed without a reason: {failing}")
        if not ok and not taking_part & self._disturbed() and SOURCE not in self.excused:
            self._checkers.complain(f"{plan.name} failed, and no fault touched any of it: {reason}")

    async def _pause(self, pause: Pause) -> None:
        await trio.sleep(pause.at_s)
        operator = self._cluster.nodes[OPERATOR]
        with suppress(UnknownTransfer):  # it has not begun, or is over
            await _until_answered(lambda: operator.pause(pause.transfer))
            await trio.sleep(pause.lasts_s)
            await _until_answered(lambda: operator.resume(pause.transfer))

    async def _change_policy(self, at_s: float, policy: str) -> None:
        await trio.sleep(at_s)
        operator = self._cluster.nodes[OPERATOR]
        await _until_answered(lambda: operator.set_policy(policy))

    def _disturbed(self) -> set[str]:
        """Nodes that any fault cut off from anyone: in a shuffle each partition has but one holder."""
        told = set(self.excused)
        hosts: set[int] = set()
        for fault in self.scenario.faults:
            match fault:
                case Cut(sender=sender, receiver=receiver):
                    hosts |= {sender, receiver}
                case Clog(host=host):
                    hosts.add(host)
                case SwizzleClog(clogs=clogs):
                    hosts |= {host for host, _ in clogs}
                case _:
                    pass
        if CONTROLLER_HOST in hosts:
            return set(self.scenario.hosts)
        return told | {name for name, host in self.scenario.hosts.items() if host in hosts}

    async def _while_alive(self, name: str, do: Callable[[], Awaitable[None]]) -> None:
        """Do something in a node's process: no longer than that lives."""
        gone = self._cluster.gone(name)

        async with trio.open_nursery() as nursery:

            async def end_with_process() -> None:
                await gone.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_with_process)
            await do()
            nursery.cancel_scope.cancel()

    # -- the end ---------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Everyone who lives comes to hold what is done."""
        limit_s = settle_limit_s(self.scenario.heartbeat_timeout_s)
        with trio.move_on_after(limit_s):
            while any(self._checkers.who_lacks(name) for name in self._started):
                await trio.sleep(LOOK_S)
        for name in self._started:
            for node in self._checkers.who_lacks(name):
                self._checkers.complain(f"{name}: {node} lives and lacks it {limit_s:.0f} s later")
        self._checkers.check_stores()

    async def _release(self) -> None:
        """Nothing is left of anything once it is released."""
        janitor = await self._cluster.start(JANITOR, CONTROLLER_HOST, receives=False)
        for transfer in self._cluster.server.core.table:
            try:
                await janitor.release(transfer.name)
            except UnknownTransfer:
                if isinstance(transfer, BroadcastController) and transfer.state not in GONE:
                    self._checkers.complain(f"{transfer.name} cannot be released")
        await trio.sleep(RELEASE_SETTLES_S)
        if self.scenario.shuffle is not None and self.excused:
            # Who was away when its shuffle ended is told by nobody, and waits as long as it may.
            await trio.sleep(2 * self.scenario.shuffle.timeout_s)
        self._checkers.check_released()


async def _until_answered(ask: Callable[[], Awaitable[None]]) -> None:
    """Ask for what may be asked for twice, again whenever the controller is lost before it answers."""
    while True:
        try:
            return await ask()
        except ControllerLost:
            await trio.sleep(LOOK_S)  # the link is coming back: the next request waits for it


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status is 1 where anyone complained."""
    parser = argparse.ArgumentParser(prog="python -m orchestra.simulation.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="how many runs (default: 200)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="of the first run (default: 0)")
    parser.add_argument(
        "--faults",
        type=int,
        default=MOST_FAULTS,
        metavar="N",
        help=f"most faults in a run (default: {MOST_FAULTS})",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="a line for every run, and its scenario on complaint"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    began_s, wrong = time.monotonic(), 0
    for at in range(given.seeds):
        report = run_seed(given.first + at, most_faults=given.faults)
        wrong += bool(report.complaints)
        if given.verbose:
            _say(f"seed {report.seed}: {report.virtual_s:.1f} s, {report.outcomes}")
        for complaint in report.complaints:
            _say(f"seed {report.seed}: {complaint}")
        if given.verbose and report.complaints:
            _say(f"seed {report.seed}: {draw_scenario(report.seed, most_faults=given.faults)}")
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{at + 1} of {given.seeds} seeds")
    _say(f"{given.seeds} seeds, {wrong} with complaints, {time.monotonic() - began_s:.0f} s")
    return int(wrong > 0)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
