"""Spark: TorrentBroadcast on a standalone cluster, timed inside the Java virtual machines.

Owns how a Spark cluster is laid over emulated hosts. Must not know what else it is compared with.

How it is set, and why that is to its advantage (https://spark.apache.org/docs/latest/configuration.html,
https://spark.apache.org/docs/latest/spark-standalone.html):

- a small Java program is the driver, and its tasks call `Broadcast.value()` and note the time: Python's
  workers would get the value by way of a file;
- `spark.broadcast.compress` and `spark.broadcast.checksum` are off; `spark.broadcast.blockSize` is the
  default, 4 MiB, in one variant and 1 MiB, which was faster, in the other;
- every host but the source's has one worker with one executor of one core, so that a job of as many tasks
  runs one on each. Master and driver run on the source's host. All executors are up and have loaded the
  classes of such a job before the time begins;
- small heaps and plain collectors, since many machines share few cores and one memory; local folders in
  memory.

To be started by hand: two Java virtual machines a host take minutes to come up.
"""

import importlib.util
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from examples.benchmarks.systems.base import missing_module
from examples.benchmarks.systems.contained import Child, PeerFailed

if TYPE_CHECKING:
    from examples.benchmarks.emulation import EmulatedCluster, EmulatedHost

STARTING_S = 600.0
"""For all virtual machines to come up: a guess, several times what 17 hosts took on two cores."""
CHECKING_S = 60.0
"""Beside the broadcast itself: for making the object and the digests of all copies, a guess."""
COMPILING_S = 120.0
"""For the driver's program, one file: a guess."""
MASTER_PORT, DRIVER_PORT, BLOCK_PORT = 7077, 7100, 7101
SPARE_MEMORY_MB = 480
"""Of an executor's heap Spark sets 300 MB aside, and refuses less than 450 MB in all."""
COPIES = 4
"""An object's blocks, its value and one more of each in a garbage collection: a guess."""
_DRIVER = Path(__file__).parent / "children" / "SparkBroadcast.java"
_SMALL = ["-XX:+UseSerialGC", "-XX:-UsePerfData"]
"""Hosts share /tmp and use the same process ids, so that the files of `UsePerfData` would collide."""
_OPENED = ("lang", "lang.invoke", "net", "nio", "util", "util.concurrent")
_SETTINGS = {
    "spark.broadcast.compress": "false",
    "spark.broadcast.checksum": "false",
    "spark.executor.cores": "1",
    "spark.executor.extraJavaOptions": " ".join(_SMALL),
    "spark.locality.wait": "0",
    "spark.network.timeout": "600s",
    "spark.speculation": "false",
    "spark.ui.enabled": "false",
}


@dataclass(frozen=True, slots=True)
class Spark:
    """TorrentBroadcast with the settings given, in Spark's spelling, beside those that every variant has."""

    name: str
    how: str
    settings: tuple[tuple[str, str], ...] = ()
    heavy: bool = True

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        for program in ("java", "javac"):
            if shutil.which(program) is None:
                return f"{program} is not installed (Debian: default-jdk-headless)"
        return missing_module("pyspark")

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """See `System.broadcast`."""
        seeds = random.Random(size_bytes)
        completions_s: list[float] = []
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spark-")))
            driver = self._start(cluster, size_bytes, folder, stack)
            driver.hear(time.monotonic() + STARTING_S)
            for _ in range(1 + repeats):
                cluster.drain_all()
                driver.tell(seed=seeds.randrange(1 << 32))
                answer = driver.hear(time.monotonic() + timeout_s + CHECKING_S)
                if not answer["same"] or answer["executors"] != len(cluster.hosts) - 1:
                    raise PeerFailed(f"not every executor got the bytes: {answer}")
                if answer["seconds"] > timeout_s:
                    raise PeerFailed(f"a broadcast took {answer['seconds']} s")
                completions_s.append(float(answer["seconds"]))
        return completions_s[1:]

    def _start(self, cluster: "EmulatedCluster", size_bytes: int, folder: Path, stack: ExitStack) -> Child:
        """Bring up master, workers and driver; the driver."""
        home = _spark_home()
        compiled = subprocess.run(
            ["javac", "-cp", f"{home}/jars/*", "-d", str(folder), str(_DRIVER)],
            capture_output=True,
            text=True,
            timeout=COMPILING_S,
        )
        if compiled.returncode:
            raise PeerFailed(f"javac failed: {compiled.stderr}")

        def java(host: "EmulatedHost", arguments: Sequence[str], heap_mb: int) -> Child:
            """Start a virtual machine; how it ends is the stack's."""
            env = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": host.address, "SPARK_LOCAL_DIRS": "/dev/shm"}
            env["SPARK_SCALA_VERSION"] = _scala_version(home)
            opened = [f"--add-opens=java.base/java.{each}=ALL-UNNAMED" for each in _OPENED]
            opened += [
                f"--add-opens=java.base/sun.{each}=ALL-UNNAMED"
                for each in ("nio.ch", "nio.cs", "util.calendar")
            ]
            path = f"{folder}:{home}/jars/*"
            command = ["java", *_SMALL, *opened, f"-Xmx{heap_mb}m", "-cp", path, *arguments]
            return stack.enter_context(Child(host, command, env))

        source = cluster.hosts[0]
        url = f"spark://{source.address}:{MASTER_PORT}"
        executor_mb = SPARE_MEMORY_MB + COPIES * size_bytes // 10**6
        where = ["--host", source.address, "--port", str(MASTER_PORT), "--webui-port", "0"]
        java(source, ["org.apache.spark.deploy.master.Master", *where], heap_mb=128)
        for host in cluster.hosts[1:]:
            where = ["--host", host.address, "--webui-port", "0", "--work-dir", "/dev/shm"]
            where += ["--cores", "1", "--memory", f"{executor_mb}m", url]
            java(host, ["org.apache.spark.deploy.worker.Worker", *where], heap_mb=96)
        settings = {
            **_SETTINGS,
            "spark.master": url,
            "spark.app.name": "broadcast",
            "spark.driver.host": source.address,
            "spark.driver.bindAddress": source.address,
            "spark.driver.port": str(DRIVER_PORT),
            "spark.blockManager.port": str(BLOCK_PORT),
            "spark.executor.memory": f"{executor_mb}m",
            "spark.executor.extraClassPath": str(folder),
            **dict(self.settings),
        }
        arguments = [*_properties(settings), "SparkBroadcast", str(size_bytes), str(len(cluster.hosts) - 1)]
        return java(source, arguments, heap_mb=executor_mb)


def _spark_home() -> Path:
    """Where pyspark's distribution of Spark lies, without importing it."""
    found = importlib.util.find_spec("pyspark")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _scala_version(home: Path) -> str:
    """Of Scala, by which Spark's files are named; Spark wants to be told, as its own scripts do."""
    (core,) = (home / "jars").glob("spark-core_*.jar")
    return core.name.removeprefix("spark-core_").partition("-")[0]


def _properties(settings: Mapping[str, str]) -> list[str]:
    return [f"-D{key}={value}" for key, value in settings.items()]


SYSTEMS = (
    Spark("Spark, default", "TorrentBroadcast, blocks of 4 MiB, no compression, no checksum"),
    Spark(
        "Spark, small blocks",
        "TorrentBroadcast, blocks of 1 MiB, no compression, no checksum",
        (("spark.broadcast.blockSize", "1m"),),
    ),
)
