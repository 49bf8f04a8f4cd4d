"""One peer of the libtorrent benchmark: told what to do by lines on its standard input.

    libtorrent_peer ADDRESS SETTINGS

ADDRESS is where it listens, SETTINGS a JSON object of libtorrent's settings. It keeps its files in
/dev/shm, which is memory. The talk, one JSON object a line each way:

    {"create": SIZE, "seed": N, "piece_size": P}
                        makes random bytes and a torrent of them -> {"torrent": base64}
    {"add": base64}     gets ready without asking for anything -> {"added": true}
    {"connect": [ADDRESS, ...], "expected": E}
                        calls these up -> {"connected": E} once it is connected to E peers
    {"begin": true}     lets the torrent run -> {"began": CLOCK_MONOTONIC s} and, on receivers, {"ended": s}
    {"check": N}        compares what has arrived with the random bytes -> {"same": bool}; forgets the torrent
"""

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import libtorrent as lt
import numpy as np

FOLDER = Path("/dev/shm")
NAME = "object"
PORT = 6881
POLL_S = 0.05
"""Between looks at the number of connected peers; not in the timed part. A guess."""
FLUSH_S = 30.0
"""For what has arrived to be written to the file, outside of what is timed; a guess."""


def say(**message: object) -> None:
    """Answer the benchmark."""
    print(json.dumps(message), flush=True)


def random_bytes(seed: int, size_bytes: int) -> bytes:
    """The object, the same in every process."""
    return np.random.default_rng(seed).bytes(size_bytes)


class Peer:
    """A libtorrent session with at most one torrent."""

    def __init__(self, address: str, settings: dict[str, Any]) -> None:
        kinds = lt.alert.category_t
        told = kinds.status_notification | kinds.error_notification | kinds.storage_notification
        pack: Any = {**settings, "listen_interfaces": f"{address}:{PORT}", "alert_mask": told}
        self._session = lt.session(pack)
        self._handle: Any = None

    def create(self, size_bytes: int, seed: int, piece_size_bytes: int) -> None:
        """Make the object and a torrent of it."""
        (FOLDER / NAME).write_bytes(random_bytes(seed, size_bytes))
        files = lt.file_storage()
        lt.add_files(files, str(FOLDER / NAME))
        torrent = lt.create_torrent(files, piece_size_bytes, lt.create_torrent.v1_only)
        lt.set_piece_hashes(torrent, str(FOLDER))
        say(torrent=base64.b64encode(lt.bencode(torrent.generate())).decode())

    def add(self, torrent: str) -> None:
        """Get ready: as a seed if the file is there, else asking for nothing yet."""
        holds = (FOLDER / NAME).exists()
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(base64.b64decode(torrent))
        parameters.save_path = str(FOLDER)
        parameters.max_uploads = parameters.max_connections = -1
        flags = lt.torrent_flags
        parameters.flags = flags.disable_dht | flags.disable_lsd | flags.disable_pex
        parameters.flags |= flags.seed_mode if holds else flags.upload_mode
        self._session.pop_alerts()
        self._handle = self._session.add_torrent(parameters)
        say(added=True)

    def connect(self, addresses: list[str], expected: int) -> None:
        """Call peers up; wait until as many as are expected are connected, whoever has called."""
        for address in addresses:
            self._handle.connect_peer((address, PORT))
        while sum(_is_connected(each) for each in self._handle.get_peer_info()) < expected:
            time.sleep(POLL_S)
        say(connected=expected)

    def begin(self) -> None:
        """Let the torrent run; on a receiver, wait until it has all."""
        began_s = time.monotonic()
        say(began=began_s)
        if self._handle.status().is_seeding:
            return
        self._handle.unset_flags(lt.torrent_flags.upload_mode)
        while True:
            self._session.wait_for_alert(1000)
            for alert in self._session.pop_alerts():
                if isinstance(alert, lt.torrent_finished_alert):
                    say(ended=time.monotonic())
                    return
                if isinstance(alert, lt.torrent_error_alert | lt.file_error_alert):
                    say(error=alert.message())

    def check(self, seed: int) -> None:
        """Compare, then forget the torrent and its file."""
        self._flush()
        file = FOLDER / NAME
        got = file.read_bytes()
        say(same=got == random_bytes(seed, len(got)))
        self._session.remove_torrent(self._handle)
        file.unlink()

    def _flush(self) -> None:
        """Wait until what is checked already is in the file as well: libtorrent writes behind."""
        self._handle.flush_cache()
        until_s = time.monotonic() + FLUSH_S
        while time.monotonic() < until_s:
            self._session.wait_for_alert(1000)
            for alert in self._session.pop_alerts():
                if isinstance(alert, lt.cache_flushed_alert):
                    return
        say(error=f"the file was not written within {FLUSH_S:g} s")


def _is_connected(peer: Any) -> bool:
    return not peer.flags & (lt.peer_info.connecting | lt.peer_info.handshake)


def main(address: str, settings: dict[str, Any]) -> None:
    """Do as told until the input ends."""
    peer = Peer(address, settings)
    say(ready=True)
    for line in sys.stdin:
        match json.loads(line):
            case {"create": size_bytes, "seed": seed, "piece_size": piece_size_bytes}:
                peer.create(size_bytes, seed, piece_size_bytes)
            case {"add": torrent}:
                peer.add(torrent)
            case {"connect": addresses, "expected": expected}:
                peer.connect(addresses, expected)
            case {"begin": True}:
                peer.begin()
            case {"check": seed}:
                peer.check(seed)
            case other:
                say(error=f"not understood: {other}")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
