"""Network namespaces without names: making them, and running something inside one.

Owns the two system calls. Must not know links, hosts or processes.

A namespace lives as long as somebody holds it, and an open file descriptor is enough. So there are no names
under /run/netns that would outlive a killed process, and no processes that only wait either: the kernel
closes the descriptors of a process however it ends.

Both calls change the calling thread alone. They are made in short-lived threads, so that the rest of the
process stays where it is. A socket belongs for ever to the namespace in which it was opened.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNET = 0x40000000
"""From linux/sched.h; Python has it in `os` from 3.12 on."""

ResultT = TypeVar("ResultT")


def new_namespace() -> int:
    """Make a network namespace; a descriptor that holds it, closed on exec.

    Raises:
        OSError: without the right to (CAP_SYS_ADMIN), or without support in the kernel.
    """

    def make() -> int:
        _call("unshare", CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _in_thread(make)


def inside(namespace: int, function: Callable[[], ResultT]) -> ResultT:
    """What ``function`` gives when it runs in a namespace, in a thread of its own.

    Raises:
        OSError: when the namespace cannot be entered; besides, whatever ``function`` raises.
    """

    def enter() -> ResultT:
        _call("setns", namespace, CLONE_NEWNET)
        return function()

    return _in_thread(enter)


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _in_thread(function: Callable[[], ResultT]) -> ResultT:
    results: list[ResultT] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as failed:  # noqa: BLE001 - it is raised again by the caller
            failures.append(failed)

    thread = threading.Thread(target=run, name="network namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
