"""MPI_Bcast over TCP on plain loopback.

Owns how the job is run there; the rank's program and the algorithms are those of
`examples.benchmarks.systems.openmpi`, but the chain's segments are larger (`_SEGMENT_BYTES`). Ranks share no
memory (``btl tcp,self``), are connected beforehand, and give way while they poll: there are fewer cores than
ranks. They look busy as long as a broadcast lasts, so their CPU time says nothing and is not told; between
broadcasts they sleep, and leave the cores to others.
"""

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.benchmarks import systems
from examples.benchmarks.loopback.processes import PeerFailed, Run, Talker
from examples.benchmarks.systems.openmpi import SEGMENT_PARAMETER, SYSTEMS

COMPILING_S = 60.0
"""For the rank's program, one file (a guess)."""
_SEGMENT_BYTES = 128 * 1024
"""Of the chain. No link limits it here, and every segment costs CPU: 100 MB to 4 receivers took 0.97 s by
32 KiB, 0.49 by 128 and 0.50 by 512 (medians of 4 in turn, on a busy machine)."""
VARIANTS = {
    system.name: {
        key: str(_SEGMENT_BYTES) if key == SEGMENT_PARAMETER else value for key, value in system.tuning
    }
    for system in SYSTEMS
}
"""Parameters of each variant beside those that all have."""
_RANK = Path(systems.__file__).parent / "children" / "mpi_broadcast.c"
_SETTINGS = {
    "pml": "ob1",
    "btl": "tcp,self",
    "btl_tcp_if_include": "lo",
    "mpi_yield_when_idle": "1",
    "mpi_preconnect_mpi": "1",
}


def why_no_openmpi() -> str | None:
    """Why it cannot run here; None if it can."""
    for program in ("mpirun", "mpicc"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: openmpi-bin, libopenmpi-dev)"
    return None


def mpirun(ranks: int, tuning: dict[str, str]) -> list[str]:
    """The command up to the rank's program."""
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
    for key, value in {**_SETTINGS, **tuning}.items():
        command += ["--mca", key, value]
    return command


class OpenMPI:
    """A job of one source and ``receivers``, up.

    Args:
        stack: what it ends with.
        size_bytes: of the object.
        receivers: how many.
        tuning: parameters beside those that all variants have.
    """

    def __init__(self, stack: ExitStack, size_bytes: int, receivers: int, tuning: dict[str, str]) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="openmpi-")))
        compiling = ["mpicc", "-O2", "-o", str(folder / "rank"), str(_RANK)]
        compiled = subprocess.run(compiling, capture_output=True, text=True, timeout=COMPILING_S)
        if compiled.returncode:
            raise PeerFailed(f"mpicc failed: {compiled.stderr}")
        command = [*mpirun(receivers + 1, tuning), str(folder / "rank"), str(size_bytes)]
        self._job = stack.enter_context(Talker("mpirun", command))
        self._job.hear()
        self._turns = 0

    def broadcast(self) -> Run:
        """One MPI_Bcast; the ranks compare what came with what was sent."""
        self._turns += 1
        return Run(float(self._job.ask(seed=self._turns)["seconds"]), {}, {})
