"""The plainest broadcast there is: the source sends the whole object to every receiver by itself.

What each connection fending for itself comes to, over blocking sockets, one thread and one process a
receiver, into one reused buffer, unchecked. A yardstick for `local_mechanisms`, not a peer.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_RECEIVE = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    size = int(sys.argv[2])
    buffer = memoryview(bytearray(size))
    while True:
        got = 0
        while got < size:
            more = sock.recv_into(buffer[got:])
            if not more:
                sys.exit(0)
            got += more
        sock.sendall(b"!")
"""
TIMEOUT_S = 60.0
"""For any step; a guess far above what one takes."""


class Star:
    """Receivers that are ready for an object of ``size_bytes``."""

    def __init__(self, connections: list[socket.socket], size_bytes: int) -> None:
        self._connections = connections
        self._size_bytes = size_bytes

    def broadcast(self, data: memoryview) -> float:
        """Send to all at once; seconds until the last has all of it."""
        if data.nbytes != self._size_bytes:
            raise ValueError(f"data has {data.nbytes} bytes, the receivers wait for {self._size_bytes}")
        failures: list[OSError] = []

        def send(connection: socket.socket) -> None:
            try:
                connection.sendall(data)
                if connection.recv(1) != b"!":
                    failures.append(OSError("a receiver closed its connection"))
            except OSError as failed:
                failures.append(failed)

        began = time.perf_counter()
        threads = [threading.Thread(target=send, args=(each,)) for each in self._connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        if failures:
            raise failures[0]
        return took


@contextmanager
def star(receivers: int, size_bytes: int) -> Iterator[Star]:
    """Start the receivers, each a process of its own, and end them again."""
    processes: list[subprocess.Popen[bytes]] = []
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_S)
        port = server.getsockname()[1]
        try:
            for _ in range(receivers):
                command = [sys.executable, "-c", _RECEIVE, str(port), str(size_bytes)]
                processes.append(subprocess.Popen(command))
            for _ in range(receivers):
                connection = server.accept()[0]
                connection.settimeout(TIMEOUT_S)
                connections.append(connection)
            yield Star(connections, size_bytes)
        finally:
            for connection in connections:
                connection.close()
            for process in processes:
                process.terminate()
                process.wait(TIMEOUT_S)
