"""Run as a script: one end of a plain TCP stream. Imports nothing of the project, so that it starts at once.

    python stream_end.py receive PORT BYTES        prints "listening", then the moment after its last byte
    python stream_end.py send ADDRESS PORT BYTES   prints the moment before its first

Moments are of CLOCK_MONOTONIC, which all hosts share.
"""

import socket
import sys
import time


def receive(port: int, size_bytes: int) -> None:
    """Take a connection, and from it that many bytes."""
    with socket.create_server(("0.0.0.0", port)) as server:
        print("listening", flush=True)  # noqa: T201
        connection = server.accept()[0]
        with connection:
            while size_bytes > 0:
                more = len(connection.recv(1 << 18))
                if not more:
                    raise EOFError(f"{size_bytes} bytes are missing")
                size_bytes -= more
    print(time.monotonic())  # noqa: T201


def send(address: str, port: int, size_bytes: int) -> None:
    """Connect, and send that many bytes."""
    with socket.create_connection((address, port)) as connection:
        print(time.monotonic())  # noqa: T201
        connection.sendall(bytes(size_bytes))


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(int(sys.argv[2]), int(sys.argv[3]))
    else:
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
