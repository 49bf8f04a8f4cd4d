"""What one decision of a policy costs: 200 transfers over 150 ports; 1,000 shuffles of 100 x 100, new and
worn.

    python -m examples.benchmarks.policy_decisions --repeats 7

Each repeat shows every policy the same transfers, in milliseconds of one core. A decision is all from what a
controller keeps (what each port has to carry for each transfer, and who stands where) to the answer: the
snapshot, and `allocate`. ``rates`` is to work out the rates of ports from it, and those of all flows of
transfers that may move.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random

import numpy as np
from tqdm import tqdm

from examples.benchmarks.coflow_trace import PORT_BYTES_PER_S
from examples.benchmarks.figures import Series, refuse_wrong
from schedulers import POLICIES, Demand, Policy, Shuffle, Snapshot, Standing, TransferId, broadcast

RACKS = 150
"""Each an egress and an ingress port, as in the public trace."""
MANY, SIDE = 1000, 100


def standing(number: int, rng: Random) -> Standing:
    """Of one transfer among many."""
    sent_bytes = 10 ** rng.uniform(5, 11)
    return Standing(TransferId(f"t{number}"), float(number), rng.randrange(3), 1.0, sent_bytes)


def shuffle(number: int, mappers: int, reducers: int, rng: Random, ended: float = 0.0) -> Shuffle:
    """Between some racks, each flow with bytes of its own; a share of the flows have ended."""
    egress = np.array(rng.sample(range(RACKS), mappers), dtype=np.intp)
    ingress = np.array(rng.sample(range(RACKS), reducers), dtype=np.intp) + RACKS
    drawn = np.random.default_rng(rng.getrandbits(32))
    left = drawn.uniform(1e5, 1e7, (mappers, reducers))
    left[drawn.random(left.shape) < ended] = 0.0
    return Shuffle.of(standing(number, rng), egress, ingress, left)


def mixed(rng: Random) -> list[Demand]:
    """200 transfers: shuffles mostly narrow, some wide, and every tenth a broadcast."""
    demands: list[Demand] = []
    for number in range(200):
        mappers, reducers = (min(RACKS, int(rng.paretovariate(0.6))) for _ in range(2))
        if number % 10:
            demands.append(shuffle(number, mappers, reducers, rng))
        else:
            source, *others = rng.sample(range(RACKS), 1 + min(mappers, RACKS - 1))
            into = [RACKS + rack for rack in others]
            demands.append(broadcast(standing(number, rng), source, into, others, 10 ** rng.uniform(6, 9)))
    return demands


def many_wide(rng: Random, ended: float = 0.0) -> list[Demand]:
    """1,000 shuffles of 100 x 100."""
    return [shuffle(number, SIDE, SIDE, rng, ended) for number in range(MANY)]


SCENES: dict[str, Callable[[Random], list[Demand]]] = {
    "200 transfers over 150 ports": mixed,
    f"{MANY:,} shuffles of {SIDE} x {SIDE}": many_wide,
    f"{MANY:,} shuffles of {SIDE} x {SIDE}, of which 30 % of the flows have ended": partial(
        many_wide, ended=0.3
    ),
}


def measure(make: Callable[[Random], list[Demand]], repeats: int) -> dict[str, tuple[Series, Series]]:
    """Seconds of each policy's decision, and of its rates."""
    decisions: dict[str, list[float]] = {name: [] for name in POLICIES}
    rates: dict[str, list[float]] = {name: [] for name in POLICIES}
    for seed in tqdm(range(repeats), unit="repeat"):
        kept = make(Random(seed))
        for name, policy in POLICIES.items():
            decided_s, rated_s = _decide(policy, kept)
            decisions[name].append(decided_s)
            rates[name].append(rated_s)
    return {name: (Series(tuple(decisions[name])), Series(tuple(rates[name]))) for name in POLICIES}


def _decide(policy: Policy, kept: Sequence[Demand]) -> tuple[float, float]:
    begun = time.process_time()
    demands = [replace(demand) for demand in kept]  # made anew of totals: nothing that was worked out is kept
    allocation = policy.allocate(Snapshot(np.full(2 * RACKS, PORT_BYTES_PER_S), demands))
    decided = time.process_time()
    for share in allocation.shares:
        _ = share.port_rates, share.flow_rates
    return decided - begun, time.process_time() - decided


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all scenes and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="of which medians are told (default: 7)")
    options = parser.parse_args(argv)
    refuse_wrong(parser, options, "repeats")
    for title, make in SCENES.items():
        found = measure(make, options.repeats)
        print(f"\n{title}: milliseconds of one core, medians of {options.repeats} (min-max)")
        print(f"{'policy':10}{'decision':>22}{'rates':>22}")
        for name, (decision, rates) in found.items():
            print(f"{name:10}{_told(decision):>22}{_told(rates):>22}")
    return 0


def _told(seconds: Series) -> str:
    values = Series(tuple(value * 1000 for value in seconds.values))
    return f"{values.median:.1f} ({values.extent(1)})"


if __name__ == "__main__":
    sys.exit(main())
