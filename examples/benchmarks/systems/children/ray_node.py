"""The command that starts Ray on a host. Run as a script, it becomes that command.

ray_node ADDRESS HEAD_ADDRESS STORE_BYTES
"""

import os
import sys

PORT = 6379
FOLDER = "/dev/shm"
"""Memory, and a host's own."""


def start_command(address: str, head: str | None, store_bytes: int) -> list[str]:
    """`ray start` on a host; ``head`` is None for the head itself, which returns, where others stay."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address", address]
    command += ["--object-store-memory", str(store_bytes), "--plasma-directory", FOLDER]
    command += ["--disable-usage-stats", "--include-log-monitor", "false"]
    if head is None:
        command += ["--head", "--port", str(PORT), "--num-cpus", "0", "--include-dashboard", "false"]
        return [*command, "--temp-dir", f"{FOLDER}/ray"]
    return [*command, "--address", f"{head}:{PORT}", "--num-cpus", "1", "--block"]


if __name__ == "__main__":
    begin = start_command(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    os.execv(begin[0], begin)
