"""Run as a script: wait until a cluster's process is done or dead, then kill whatever runs in its hosts.

    python -I -S guardian.py PARENT_PID NAMESPACE_FD…

A child dies with its parent by itself (`enter.py`), but a grandchild need not: launchers and servers leave
processes behind that have left their session. All of them are still in a namespace of the cluster, and by
that the guardian finds them. It holds the namespaces meanwhile, so their numbers cannot be used again, and
is the one way in which a cluster ends: it is told by the end of its standard input, or by the parent's death.
It imports nothing of the project.
"""

import os
import select
import signal
import sys
import time

KILLING_TIMEOUT_S = 10.0
"""A process in an uninterruptible call dies late; a guess."""
POLL_S = 0.005
"""Between two looks at what is left; a guess: a look takes about 1 ms."""


def wait_for_end(parent: int) -> None:
    """Wait until standard input is closed, or the parent has died."""
    try:
        life = os.pidfd_open(parent)
    except OSError:
        return  # dead already
    if os.getppid() == parent:  # else the number is another's by now
        select.select([0, life], [], [])
    os.close(life)


def processes_in(namespaces: set[tuple[int, int]]) -> list[int]:
    """Living processes whose network namespace is one of these."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                its = os.stat(f"/proc/{entry}/ns/net")
            except OSError:
                continue  # it has ended meanwhile
            if (its.st_dev, its.st_ino) in namespaces:
                found.append(int(entry))
    return found


def main(parent: int, descriptors: list[int]) -> int:
    """Wait, then kill; the exit status: 0 when nothing is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    namespaces = {(held.st_dev, held.st_ino) for held in map(os.fstat, descriptors)}
    wait_for_end(parent)
    give_up_at_s = time.monotonic() + KILLING_TIMEOUT_S
    while left := processes_in(namespaces):
        if time.monotonic() > give_up_at_s:
            return 1
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(POLL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), [int(each) for each in sys.argv[2:]]))
