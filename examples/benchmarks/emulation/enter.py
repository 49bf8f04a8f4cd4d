"""Run as a script: enter a network namespace, tie this process's life to its parent's, become a command.

    python -I -S enter.py NAMESPACE_FD PARENT_PID COMMAND…

Done by a small program before `exec`, not between fork and exec of the parent (`preexec_fn`), which is not
safe in a process with threads. It imports nothing of the project, so that it starts in 20 ms.
"""

import ctypes
import os
import signal
import sys

CLONE_NEWNET = 0x40000000
"""From linux/sched.h."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
NOT_STARTED = 126
"""Exit status of a shell that cannot start a command that is there."""


def main(namespace: int, parent: int, command: list[str]) -> int:
    """Become the command; the exit status if that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name, arguments in [
        ("prctl", (PR_SET_PDEATHSIG, signal.SIGKILL)),
        ("setns", (namespace, CLONE_NEWNET)),
    ]:
        if getattr(libc, name)(*arguments):
            print(f"{name}: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
            return NOT_STARTED
    if os.getppid() != parent:  # it died before it could be tied to
        return NOT_STARTED
    os.close(namespace)
    try:
        os.execvp(command[0], command)
    except OSError as failed:
        print(f"{command[0]}: {failed.strerror}", file=sys.stderr)
        return NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
