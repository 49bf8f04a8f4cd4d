"""One copy a host: an object received by one process and mapped by others, and what that takes in memory.

One node receives the object over TCP; four more processes of its host map it with `orchestra.attach` and
read every byte through numpy. Their proportional set sizes (PSS: shared pages counted once) are sampled
at 10 Hz from start to end and summed; the highest sum is printed.

    python -m examples.benchmarks.one_copy [--size 512MB] [--readers 4]
"""

import argparse
import subprocess
import sys
import threading

import numpy as np
import trio

import orchestra
from examples.benchmarks.process_usage import proportional_bytes
from orchestra.units import format_bytes, parse_size

SAMPLES_PER_S = 10
TIMEOUT_S = 120.0
_RECEIVER = """
import sys, trio, orchestra
async def main():
    async with orchestra.join(sys.argv[1], name="receiver") as node:
        view = await node.receive("object", timeout=120)
        array = view.array()
        print(node.store, flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        assert not array.flags.writeable
trio.run(main)
"""
_READER = """
import sys, orchestra
with orchestra.attach(sys.argv[1]) as attachment:
    array = attachment.get("object").array()
    assert not array.flags.owndata and not array.flags.writeable
    print(int(array.sum(dtype="uint64")), flush=True)
    sys.stdin.readline()
"""


class PssSampler:
    """Sums the PSS of processes until it is stopped."""

    def __init__(self) -> None:
        self.processes: list[int] = []
        self.peak_bytes = 0
        self.samples = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1 / SAMPLES_PER_S):
            now_bytes = sum(map(proportional_bytes, list(self.processes)))
            self.peak_bytes = max(self.peak_bytes, now_bytes)
            self.samples += 1


def start(script: str, argument: str) -> "subprocess.Popen[str]":
    """Start a process that runs ``script``."""
    return subprocess.Popen(
        [sys.executable, "-c", script, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def answer(process: "subprocess.Popen[str]") -> str:
    """Wait for a process's next line."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"a process ended early with status {process.wait(TIMEOUT_S)}")
    return line


async def measure(size_bytes: int, readers: int) -> tuple[int, int]:
    """Peak of the summed PSS in bytes, and how many samples were taken."""
    data = np.random.default_rng(0).integers(0, 256, size_bytes, dtype=np.uint8)
    sampler = PssSampler()
    processes: list[subprocess.Popen[str]] = []
    try:
        async with (
            orchestra.serve_controller() as controller,
            orchestra.join(controller.address, name="source", share=False) as source,
        ):
            processes.append(start(_RECEIVER, controller.address))
            sampler.processes.append(processes[0].pid)
            transfer = await source.broadcast(data, name="object", to=["receiver"])
            await transfer.wait()
            store = await trio.to_thread.run_sync(answer, processes[0])
            for _ in range(readers):
                processes.append(start(_READER, store))
                sampler.processes.append(processes[-1].pid)
            for process in processes[1:]:
                total = await trio.to_thread.run_sync(answer, process)
                if int(total) != int(data.sum(dtype=np.uint64)):
                    raise RuntimeError(f"a reader sees other bytes: their sum is {total}")
            await trio.sleep(3 / SAMPLES_PER_S)  # a few samples while all of them hold it
            for process in reversed(processes):
                await trio.to_thread.run_sync(process.communicate, "\n", TIMEOUT_S)
    finally:
        sampler.stop()
        for process in processes:
            process.kill()
            process.wait()
    return sampler.peak_bytes, sampler.samples


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description="memory of one object in several processes")
    parser.add_argument("--size", type=parse_size, default=parse_size("512MB"))
    parser.add_argument("--readers", type=int, default=4)
    options = parser.parse_args()
    peak, samples = trio.run(measure, options.size, options.readers)
    beside = (peak - options.size) / (options.readers + 1)
    print(
        f"{format_bytes(options.size)} in {options.readers + 1} processes: peak PSS {format_bytes(peak)} "
        f"in all, {format_bytes(round(beside))} a process beside the object ({samples} samples)"
    )


if __name__ == "__main__":
    main()
