"""The same seed gives the same run, whatever the process; another seed another."""

import os
import subprocess
import sys

from orchestra.simulation.soak import run_seed

# Chosen for what they draw: several broadcasts, shuffles, late joiners, racks, port rates, and faults.
SEEDS = (1, 5, 7, 11, 249, 259, 478)
PROGRAM = "from orchestra.simulation.soak import run_seed; print([run_seed(s).digest for s in {seeds}])"


def digests_in_a_process(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(seeds=SEEDS)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    return done.stdout


def test_two_processes_with_other_hash_seeds_run_alike() -> None:
    one, other = digests_in_a_process("1"), digests_in_a_process("4242")
    assert one == other
    assert one.strip() == str([run_seed(seed).digest for seed in SEEDS])


def test_every_seed_is_another_run() -> None:
    assert len({run_seed(seed).digest for seed in SEEDS}) == len(SEEDS)
