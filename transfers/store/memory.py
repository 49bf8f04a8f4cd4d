"""How much memory this host, or the container that this process is in, has and could still give.

Owns the reading of `/proc` and of control groups. Knows nothing of stores. A number that cannot be
read is None, never a guess: callers then go without the check.
"""

import os
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")

UNLIMITED_BYTES = 1 << 60
"""A control group's limit from here on means none (the kernel writes 2^63 rounded down to a page)."""


def physical_bytes() -> int:
    """Memory that this process may count on: of the machine, or of its control group where less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = _group_limit_and_use()
    return min(total, group[0]) if group else total


def available_bytes() -> int | None:
    """Memory that could be taken now without pushing out what is in use; None where nobody says."""
    host = _host_available_bytes()
    group = _group_limit_and_use()
    if group is None:
        return host
    left = max(0, group[0] - group[1])
    return left if host is None else min(host, left)


def _host_available_bytes(proc: Path = _PROC) -> int | None:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group_limit_and_use(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> tuple[int, int] | None:
    """Limit and use in bytes of the control group, less what the kernel can drop; None if unlimited."""
    for folder, limit_name, use_name in _group_folders(proc, cgroups):
        limit = _read_number(folder / limit_name)
        use = _read_number(folder / use_name)
        if limit is not None and use is not None and limit < UNLIMITED_BYTES:
            return limit, max(0, use - _droppable_bytes(folder))
    return None


def _group_folders(proc: Path, cgroups: Path) -> list[tuple[Path, str, str]]:
    """Where the limits of this process may stand: versions 2 and 1, the group's own folder and the
    root, which is what a container sees of its group.
    """
    found: list[tuple[Path, str, str]] = []
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names, root = ("memory.max", "memory.current"), cgroups
        elif "memory" in controllers.split(","):
            names, root = ("memory.limit_in_bytes", "memory.usage_in_bytes"), cgroups / "memory"
        else:
            continue
        found += [(root / path.lstrip("/"), *names), (root, *names)]
    return found


def _droppable_bytes(folder: Path) -> int:
    """Page cache that the kernel drops before it refuses memory to the group."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    numbers = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(numbers.get("total_inactive_file", numbers.get("inactive_file", "0")))


def _read_number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
