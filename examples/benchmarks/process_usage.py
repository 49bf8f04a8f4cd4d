"""What a process has used, as Linux tells it, and how many files it may open."""

import os
import resource
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Seconds of CPU of a process so far, of its own and of the kernel for it; to the kernel's 10 ms."""
    # The second field is the command in parentheses and may hold anything: count from behind it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S  # utime and stime, see proc(5)


def resident_bytes(pid: int | str) -> int:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def proportional_bytes(pid: int, kind: str = "Pss") -> int:
    """A process's proportional set size, in which what is mapped twice counts once; 0 once it has ended.

    Args:
        pid: whose it is.
        kind: ``Pss_Shmem`` for shared memory alone, where nodes keep their stores; see proc(5).
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith(f"{kind}:"))


def open_files_bytes(pid: int, folder: Path) -> int:
    """What the files that a process has open in a folder take on the disk, also those without a name."""
    sizes = {}
    try:
        for each in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(each).startswith(f"{folder}/"):
                status = each.stat()
                sizes[status.st_ino] = status.st_blocks * 512
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it, or one of them, is closed
    return sum(sizes.values())


def raise_descriptor_limit() -> int:
    """Let this process, and those it starts, open as many files as they may; how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
