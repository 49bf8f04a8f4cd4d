"""A process with a store that it serves: a program for the tests, told what to do line by line.

Every line in is a JSON list, command and arguments; every line out is the JSON answer.
"""

import json
import sys
from collections.abc import Callable

import numpy as np
import trio

from transfers.ids import TransferName
from transfers.manifest import ContentType, ObjectKey
from transfers.store import Attachment, ObjectView, Store
from transfers.store.attach import attach
from transfers.store.sharing import adopt, serve


class Program:
    """The commands."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.views: list[ObjectView] = []
        self.attachments: list[Attachment] = []

    def put(self, name: str, size_bytes: int, value: int) -> int:
        data = np.full(size_bytes, value, np.uint8).data
        self.store.put(_key(name), data, 1 << 20, ContentType("array", "|u1", (size_bytes,)))
        return size_bytes

    def release(self, name: str) -> None:
        self.store.release(_key(name))

    def lingering(self) -> int:
        return self.store.statistics().lingering_bytes

    def leases(self) -> int:
        return self.store.statistics().leases

    def read(self, address: str, name: str) -> int:
        """Attach elsewhere, keep a view and sum its bytes, so that every page is touched."""
        self.attachments.append(attach(address))
        self.views.append(self.attachments[-1].get(name))
        return int(self.views[-1].array().astype(np.uint8, copy=False).sum(dtype=np.int64))

    def forget(self) -> None:
        self.views.clear()
        for attachment in self.attachments:
            attachment.close()
        self.attachments.clear()

    def shared_kib(self) -> int:
        """Proportional set size of shared memory alone."""
        with open("/proc/self/smaps_rollup") as rollup:
            return next(int(line.split()[1]) for line in rollup if line.startswith("Pss_Shmem:"))

    async def adopt(self, address: str, name: str, size_bytes: int, value: int) -> bool:
        """Adopt what `put` with the same arguments made in another process."""
        scratch = Store(2 * size_bytes + (1 << 20))
        data = np.full(size_bytes, value, np.uint8).data
        content = ContentType("array", "|u1", (size_bytes,))
        manifest = scratch.put(_key(name), data, 1 << 20, content).manifest
        scratch.close()
        return (await adopt(self.store, manifest, address)).complete


def _key(name: str) -> ObjectKey:
    return ObjectKey(TransferName(name))


def answer_line(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main(limit_bytes: int) -> None:
    store = Store(limit_bytes)
    program = Program(store)
    async with trio.open_nursery() as nursery:
        address: str = await nursery.start(serve, store)
        answer_line(address)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            name, *args = json.loads(line)
            command: Callable[..., object] = getattr(program, name)
            answer = command(*args)
            if hasattr(answer, "__await__"):
                answer = await answer
            answer_line(answer)
        nursery.cancel_scope.cancel()
    store.close()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
