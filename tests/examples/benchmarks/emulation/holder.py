"""Run as a module: hold a cluster with something running in it, until killed.

Prints one line of JSON: the namespaces (device and number), and the processes started in them.
"""

import json
import os
import subprocess
import sys
import time

from examples.benchmarks.emulation import EmulatedCluster

GRANDCHILD = """
import os, subprocess, sys, time
left = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(os.getpid(), left.pid, flush=True)
time.sleep(600)
"""


def main() -> None:
    """Hold it."""
    with EmulatedCluster(hosts=2, rate_bytes_per_s=1e6) as cluster:
        namespaces = [os.stat(host.namespace_path) for host in cluster.hosts]
        started = cluster.hosts[1].popen(
            [sys.executable, "-I", "-S", "-c", GRANDCHILD], stdout=subprocess.PIPE, text=True
        )
        assert started.stdout is not None
        processes = [int(each) for each in started.stdout.readline().split()]
        held = [(namespace.st_dev, namespace.st_ino) for namespace in namespaces]
        print(json.dumps({"namespaces": held, "processes": processes}), flush=True)  # noqa: T201
        time.sleep(600)


if __name__ == "__main__":
    main()
