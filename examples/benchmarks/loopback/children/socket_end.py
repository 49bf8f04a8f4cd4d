"""One end of a plain transfer over blocking sockets, a process of its own.

    python -m examples.benchmarks.loopback.children.socket_end send|receive BUFFER_BYTES

Told {"port": P, "size_bytes": S} the sender connects and sends; told {"size_bytes": S} the receiver answers
{"port": P}, takes one connection and all bytes. Both answer {"began_s", "ended_s", "cpu_s"} when the receiver
has all and has said so. One buffer is sent from, or received into, again and again; nothing is checked.
"""

import json
import resource
import socket
import sys
import time
from typing import Any

TIMEOUT_S = 60.0
"""For any step (a guess far above what one takes)."""


def used_s() -> float:
    """CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def send(connection: socket.socket, buffer: memoryview, size_bytes: int) -> None:
    """Send, and wait until the other end has all."""
    left = size_bytes
    while left:
        part = buffer[: min(left, len(buffer))]
        connection.sendall(part)
        left -= len(part)
    if connection.recv(1) != b"!":
        raise ConnectionError("the receiver closed its connection")


def receive(connection: socket.socket, buffer: memoryview, size_bytes: int) -> None:
    """Receive all and say so."""
    left = size_bytes
    while left:
        got = connection.recv_into(buffer, min(left, len(buffer)))
        if not got:
            raise ConnectionError("the sender closed its connection")
        left -= got
    connection.sendall(b"!")


def answer(message: dict[str, Any]) -> None:
    """A line on standard output."""
    print(json.dumps(message), flush=True)


def main(role: str, buffer_bytes: int) -> None:
    """Serve until standard input ends."""
    buffer = memoryview(bytearray(buffer_bytes))
    for line in sys.stdin:
        told = json.loads(line)
        if role == "receive":
            with socket.create_server(("127.0.0.1", 0)) as server:
                server.settimeout(TIMEOUT_S)
                answer({"port": server.getsockname()[1]})
                connection = server.accept()[0]
        else:
            connection = socket.create_connection(("127.0.0.1", told["port"]), TIMEOUT_S)
        # Without a timeout: with one, Python polls before every call, and it is the plainest that is wanted.
        connection.settimeout(None)
        began_s, used_before_s = time.monotonic(), used_s()
        with connection:
            (receive if role == "receive" else send)(connection, buffer, told["size_bytes"])
        answer({"began_s": began_s, "ended_s": time.monotonic(), "cpu_s": used_s() - used_before_s})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
