"""Whether this host's kernel paces sockets, found out by trying.

Owns the trial. Must not know what pacing is for.

Theory of operation. A socket to this very process, in small segments, is given a rate at which what it sends
would take `TRIAL_S`. A kernel that does not pace hands it over in no time. A host that is busy for that long
is taken for one that paces, as Linux has since 4.13; on one that does not, flows are then not held.
"""

import socket
import sys
import time

import trio

from transfers.errors import StreamBroken
from transfers.net.tcp import TcpStream

TRIAL_BYTES, TRIAL_S = 96 << 10, 0.025
"""What is sent, and how long it should take (a guess: far more than a connection's first window of small
segments, and no time that anybody notices)."""
SEGMENT_BYTES = 1000
"""Largest segment of the trial's connection: loopback's own would put it all into two packets."""
SHARE = 0.5
"""Of the time that it should take: less is no pacing (a guess: the first window goes at once)."""
LIMIT_S = 2.0
"""For the trial (a guess: a hundred times what it takes)."""

_found: bool | None = None


async def kernel_paces() -> bool:
    """Whether ``SO_MAX_PACING_RATE`` has an effect here; tried once in a process."""
    global _found
    if _found is None:
        _found = sys.platform == "linux" and await _try()
    return _found


async def _try() -> bool:
    try:
        with trio.move_on_after(LIMIT_S), socket.socket() as listening, socket.socket() as sending:
            for each in (listening, sending):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            listening.bind(("127.0.0.1", 0))
            listening.listen(1)
            sending.connect(listening.getsockname())  # to this process: it does not wait
            taking, _ = listening.accept()
            with taking:
                return await _is_slow(TcpStream(sending, "self"), TcpStream(taking, "self"))
    except (OSError, StreamBroken):
        return False
    return False


async def _is_slow(sender: TcpStream, taker: TcpStream) -> bool:
    sender.set_pacing_rate(TRIAL_BYTES / TRIAL_S)
    began_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send_all, bytes(TRIAL_BYTES))
        buffer, got = memoryview(bytearray(TRIAL_BYTES)), 0
        while got < TRIAL_BYTES:
            got += await taker.receive_some_into(buffer)
    return time.perf_counter() - began_s >= SHARE * TRIAL_S
