"""libtorrent: a swarm with one seed and nothing in its way.

Owns how libtorrent is set and what counts as its completion. Must not know what else it is compared with.

How it is set, and why that is to its advantage (https://www.libtorrent.org/reference-Settings.html,
https://www.libtorrent.org/tuning-ref.html):

- no limit on unchoke slots (`unchoke_slots_limit` -1 switches choking off), uploads, connections or rates;
  nobody waits for an optimistic unchoke, and no peer is turned out;
- the tracker's, the DHT's and local discovery's work is done beforehand: every peer is connected to every
  other before the time begins. To hold back until then, receivers join in `upload_mode`, in which nothing
  is asked for;
- TCP alone, plain text, one connection a pair;
- files in memory (/dev/shm);
- a short queue of requests, 32 of 16 KiB a peer, by which fewer receivers ask the seed for the same piece:
  the best of 16, 32, 64 and the default, 500 (measured as `PIECE_SIZE_BYTES` was, once each). Super seeding
  was slower; announcing pieces ahead, the picker's thresholds and the profile for fast seeds
  (`high_performance_seed`) made no difference.
"""

import json
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from examples.benchmarks.systems.base import missing_module
from examples.benchmarks.systems.contained import Child, PeerFailed
from examples.benchmarks.systems.orchestra_nodes import ROOT

if TYPE_CHECKING:
    from examples.benchmarks.emulation import EmulatedCluster

STARTING_S = 60.0
"""For sessions to come up, to make a torrent, to connect everyone: each a guess, many times what it takes."""
PIECE_SIZE_BYTES = 64 * 1024
"""Measured with 16 receivers of 32 MB at 50 Mbit/s, beside 128, 256 and 1024 KiB: the smaller the faster
(11.9 s by 256 KiB, 10.1 to 10.8 by 64 KiB, on a busy machine). Below that little is left: 1.974 x S/W by 16
KiB and 1.972 by 32, where another run had 1.99 by 64."""
SETTINGS: dict[str, Any] = {
    "max_out_request_queue": 32,
    "request_queue_time": 1,
    "unchoke_slots_limit": -1,
    "connections_limit": 8000,
    "connection_speed": 500,
    "allow_multiple_connections_per_ip": True,
    "close_redundant_connections": False,
    "peer_turnover": 0,
    "smooth_connects": False,
    "listen_queue_size": 3000,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "mixed_mode_algorithm": 0,
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    "allowed_fast_set_size": 0,
    "alert_queue_size": 10000,
}


@dataclass(frozen=True, slots=True)
class Libtorrent:
    """A swarm of one peer a host; the first host's holds all.

    Attributes:
        piece_size_bytes: the torrent's, which libtorrent wants to be a power of two of at least 16 KiB.
        settings: of every session.
    """

    name: str
    how: str
    piece_size_bytes: int
    settings: tuple[tuple[str, Any], ...]

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return missing_module("libtorrent", "numpy")

    def broadcast(
        self, cluster: "EmulatedCluster", size_bytes: int, repeats: int, timeout_s: float
    ) -> list[float]:
        """See `System.broadcast`."""
        seeds = random.Random(size_bytes)
        with ExitStack() as stack:
            command = [sys.executable, "-m", "examples.benchmarks.systems.children.libtorrent_peer"]
            peers = [
                stack.enter_context(
                    Child(
                        host,
                        [*command, host.address, json.dumps(dict(self.settings))],
                        {"PYTHONPATH": str(ROOT)},
                    )
                )
                for host in cluster.hosts
            ]
            for peer in peers:
                peer.hear(time.monotonic() + STARTING_S)
            return [
                self._once(cluster, peers, size_bytes, seeds.randrange(1 << 32), timeout_s)
                for _ in range(1 + repeats)
            ][1:]

    def _once(
        self, cluster: "EmulatedCluster", peers: list[Child], size_bytes: int, seed: int, timeout_s: float
    ) -> float:
        source, *receivers = peers
        source.tell(create=size_bytes, seed=seed, piece_size=self.piece_size_bytes)
        torrent = source.hear(time.monotonic() + STARTING_S)["torrent"]
        addresses = [host.address for host in cluster.hosts]
        for peer in peers:
            peer.tell(add=torrent)
        for peer in peers:
            peer.hear(time.monotonic() + STARTING_S)
        for number, peer in enumerate(peers):
            peer.tell(connect=addresses[:number], expected=len(receivers))
        for peer in peers:
            peer.hear(time.monotonic() + STARTING_S)
        cluster.drain_all()
        for peer in peers:
            peer.tell(begin=True)
        deadline_s = time.monotonic() + timeout_s
        began_s = min(float(peer.hear(deadline_s)["began"]) for peer in peers)
        ended_s = max(float(peer.hear(deadline_s)["ended"]) for peer in receivers)
        for peer in peers:
            peer.tell(check=seed)
        arrived = [peer.hear(time.monotonic() + STARTING_S)["same"] for peer in peers]
        if not all(arrived):
            raise PeerFailed("libtorrent delivered other bytes")
        return ended_s - began_s


SYSTEMS = (
    Libtorrent(
        "libtorrent",
        "all connected beforehand, no choking, no limits, pieces of 64 KiB, 32 requests under way a peer",
        PIECE_SIZE_BYTES,
        tuple(SETTINGS.items()),
    ),
)
