"""Open MPI: MPI_Bcast as it comes, and its segmented chain.

Owns how an MPI job is launched on emulated hosts. Must not know what else it is compared with.

How it is set, and why that is to its advantage:

- `coll_tuned` once by its own choice and once forced to the chain with one child and segments of 32 KiB
  (`bcast_algorithm` 2 is the chain, by `ompi_info --param coll tuned --level 9`): the algorithm that comes
  nearest to S/W for large objects, at the segment size that did best on such hosts. 32 MB to 16 receivers at
  50 Mbit/s took 1.144, 1.025, 1.047 and 1.092 x S/W by 16, 32, 64 and 128 KiB (medians of 3 or 4); with
  `btl_tcp_eager_limit` at 256 KiB 1.028, 1.024, 1.040 and 1.051, so that limit is left as it comes. See
  https://www.open-mpi.org/faq/?category=tuning and `ompi/mca/coll/tuned` for the parameters.
- `mpi_yield_when_idle`: ranks poll while they wait; many of them share few cores here, so that they have to
  give way (https://www.open-mpi.org/faq/?category=running#oversubscribing). During a broadcast they still
  look busy: idle CPU says nothing here.
- `btl tcp,self` and `pml ob1` on the emulated network only: no memory is shared between ranks.
- `mpi_preconnect_mpi`: all connections are made before the first broadcast.

The launcher wants a remote shell. Every host's first process waits at a named pipe instead, and the "remote
shell" writes the command there. Rank 0 runs below `mpirun` on the first host.
"""

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from examples.benchmarks.emulation.links import INTERFACE
from examples.benchmarks.systems.contained import Child, PeerFailed

if TYPE_CHECKING:
    from examples.benchmarks.emulation import EmulatedCluster

STARTING_S = 60.0
"""For the job to come up: a guess, many times what it takes."""
COMPILING_S = 60.0
"""For the rank's program, one file: a guess."""
LARGEST_BYTES = 2**31 - 1
"""MPI_Bcast counts in a C int."""
_RANK = Path(__file__).parent / "children" / "mpi_broadcast.c"
_REMOTE_SHELL = '#!/bin/sh\nhost=$1\nshift\nprintf "%s\\n" "$*" > "{folder}/$host"\n'
_WAIT_FOR_COMMAND = 'read -r command < "$0" && exec sh -c "$command"'

_SETTINGS = {
    "plm_rsh_no_tree_spawn": "1",  # the first host starts all: pipes are cheap
    "orte_leave_session_attached": "1",  # daemons stay children of the host's first process
    "pml": "ob1",
    "btl": "tcp,self",
    "btl_tcp_if_include": INTERFACE,
    "oob_tcp_if_include": INTERFACE,
    "mpi_yield_when_idle": "1",
    "mpi_preconnect_mpi": "1",
}
SEGMENT_PARAMETER = "coll_tuned_bcast_algorithm_segmentsize"
"""The parameter that says how large the chain's segments are."""
_CHAIN = {
    "coll_tuned_use_dynamic_rules": "1",
    "coll_tuned_bcast_algorithm": "2",
    SEGMENT_PARAMETER: str(32 * 1024),
    "coll_tuned_bcast_algorithm_chain_fanout": "1",
}


@dataclass(frozen=True, slots=True)
class OpenMPI:
    """MPI_Bcast among one rank a host.

    Attributes:
        tuning: MCA parameters beside those that every variant has.
        polls: its ranks spin while they wait for bytes.
    """

    name: str
    how: str
    tuning: tuple[tuple[str, str], ...] = ()
    polls: bool = True

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        for program in ("mpirun", "mpicc", "orted"):
            if shutil.which(program) is None:
                return f"{program} is not installed (Debian: openmpi-bin, libopenmpi-dev)"
        return None

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """As `System.broadcast`; ValueError for a size that MPI cannot count."""
        if not 1 <= size_bytes <= LARGEST_BYTES:
            raise ValueError(f"size_bytes must be from 1 to {LARGEST_BYTES}, got {size_bytes}")
        seeds = random.Random(size_bytes)
        completions_s: list[float] = []
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="openmpi-")))
            job = self._launch(cluster, size_bytes, folder, stack)
            ranks = job.hear(time.monotonic() + STARTING_S)["ready"]
            if ranks != len(cluster.hosts):
                raise PeerFailed(f"{ranks} ranks came up, not {len(cluster.hosts)}")
            for _ in range(1 + repeats):
                cluster.drain_all()
                job.tell(seed=seeds.randrange(1, 1 << 62))
                completions_s.append(float(job.hear(time.monotonic() + timeout_s)["seconds"]))
        return completions_s[1:]

    def _launch(self, cluster: "EmulatedCluster", size_bytes: int, folder: Path, stack: ExitStack) -> Child:
        """Let every host but the first wait for its daemon's command, then run the job from the first."""
        rank, shell = folder / "rank", folder / "remote-shell"
        _compile(rank)
        shell.write_text(_REMOTE_SHELL.format(folder=folder))
        shell.chmod(0o700)
        for host in cluster.hosts[1:]:
            pipe = folder / host.address
            os.mkfifo(pipe, 0o600)
            waiting = ["sh", "-c", _WAIT_FOR_COMMAND, str(pipe)]
            stack.enter_context(Child(host, waiting, _session(folder, host.name)))
        command = _mpirun(
            [host.address for host in cluster.hosts],
            {**_SETTINGS, "plm_rsh_agent": str(shell), **dict(self.tuning)},
        )
        first = cluster.hosts[0]
        command += [str(rank), str(size_bytes)]
        return stack.enter_context(Child(first, command, _session(folder, first.name)))


def _compile(rank: Path) -> None:
    compiled = subprocess.run(
        ["mpicc", "-O2", "-o", str(rank), str(_RANK)], capture_output=True, text=True, timeout=COMPILING_S
    )
    if compiled.returncode:
        raise PeerFailed(f"mpicc failed: {compiled.stderr}")


def _session(folder: Path, host: str) -> dict[str, str]:
    """Where a host's daemon keeps its files: hosts must not share the folder."""
    session = folder / f"session-{host}"
    session.mkdir()
    return {"TMPDIR": str(session)}


def _mpirun(addresses: Sequence[str], settings: dict[str, str]) -> list[str]:
    """The command up to the rank's program: one rank a host, the first on the host of ``mpirun`` itself."""
    command = ["mpirun", "--allow-run-as-root", "--bind-to", "none", "--map-by", "node"]
    command += ["--host", ",".join(f"{address}:1" for address in addresses), "-np", str(len(addresses))]
    for key, value in settings.items():
        command += ["--mca", key, value]
    return command


SYSTEMS = (
    OpenMPI(
        "Open MPI, default", "coll_tuned chooses; ranks are connected beforehand and give way while they poll"
    ),
    OpenMPI(
        "Open MPI, chain",
        "coll_tuned forced to the chain with one child and segments of 32 KiB; otherwise as the default",
        tuple(_CHAIN.items()),
    ),
)
