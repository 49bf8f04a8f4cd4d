"""Ten thousand random or mutated frames at both ports: service goes on, and nothing is left behind."""

import gc
import logging
import tracemalloc
from collections.abc import Iterator
from random import Random

import pytest
import trio

from orchestra.controller import server as server_module
from orchestra.controller import serving
from orchestra.controller.server import ControllerServer
from orchestra.messages import (
    TO_CONTROLLER,
    AskStatus,
    BlocksHeld,
    Heartbeat,
    Join,
    Offer,
    Propose,
    Settled,
    Want,
)
from tests.orchestra.controller.clusters import manifest_of
from tests.orchestra.node.clusters import cluster
from tests.transfers.net.sites import until
from transfers import handshake
from transfers.codec import Packable, pack
from transfers.errors import OrchestraError
from transfers.ids import BlockIndex, NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.net.connection import open_connection
from transfers.net.messages import CODEC, Ask, BlockHeader, Unavailable, Withdraw
from transfers.net.tcp import TcpNetwork, TcpStream
from transfers.planners.events import Stored

FRAMES = 5000
"""At each port, before and after the handshake: 10,000 in all."""
CONNECTIONS_AT_ONCE = 8
TOKEN = "the secret of the fuzzed cluster"

T = ObjectKey(TransferName("t"))
BLOCKS = tuple(BlockIndex(block) for block in range(3))
CONTROL = [
    TO_CONTROLLER.encode(message)
    for message in (
        Join(NodeName("fuzz"), "i", "127.0.0.1:1", "host", "", True, False, ()),
        Join(NodeName("a"), "i", "127.0.0.1:1", "host", "", True, False, ()),
        Heartbeat(),
        Propose(1, TransferName("fuzzed"), 40, None, 1, 1.0, None, 10),
        Offer(2, manifest_of("fuzzed")),
        Want(TransferName("t")),
        BlocksHeld(T, (Stored(BlockIndex(0), NodeName("a"), 0.1),)),
        Settled(T, None),
        AskStatus(3),
    )
]
DATA = [
    CODEC.encode(message)
    for message in (
        Ask(T, BLOCKS),
        Ask(ObjectKey(TransferName("unknown")), BLOCKS),
        Withdraw(T, BLOCKS),
        BlockHeader(T, BlockIndex(0), 1000),
        Unavailable(T, BLOCKS),
    )
]
HANDSHAKE = [
    handshake.CODEC.encode(message)
    for message in (
        handshake.Hello(handshake.PROTOCOL_VERSION, b"n" * handshake.NONCE_BYTES),
        handshake.Hello(9, b""),
        handshake.Proof(b"d" * 32),
        handshake.Challenge(1, b"n" * handshake.NONCE_BYTES),
        handshake.Welcome(b"d" * 32),
        handshake.Refusal("no"),
    )
]


def frames(rng: Random, seeds: list[bytes]) -> Iterator[bytes]:
    """Frames without end: random bytes, odd values, and messages, whole or mutated, with lengths that lie."""
    while True:
        dice = rng.random()
        if dice < 0.2:
            body = bytearray(rng.randbytes(rng.randrange(60)))
        elif dice < 0.3:
            body = bytearray(pack((rng.choice(["Join", "Ask", "Hello", "Propose", "x"]), odd_value(rng, 3))))
        else:
            body = bytearray(rng.choice(seeds))
            for _ in range(rng.choice([0, 1, 1, 2, 8])):
                body[rng.randrange(len(body))] = rng.randrange(256)
            if rng.random() < 0.1:
                body = body[: rng.randrange(len(body) + 1)]
        length = len(body)
        if rng.random() < 0.05:
            length = rng.choice([0, 1, length + 1, length + 1000, 1 << 20, 2**32 - 1])
        yield length.to_bytes(4, "big") + bytes(body)


def odd_value(rng: Random, depth: int) -> Packable:
    """A value that msgpack can carry, and no message has."""
    if depth and rng.random() < 0.6:
        return tuple(odd_value(rng, depth - 1) for _ in range(rng.randrange(5)))
    return rng.choice([None, True, -1, 2**63, 1.5, float("nan"), "", "x" * 2000, b"\0", {"a": 1}])


class Attack:
    """Sends frames to one port until as many as wanted have left."""

    def __init__(self, address: str, source: Iterator[bytes], secret: bytes | None, rng: Random) -> None:
        self.address = address
        self.sent = 0
        self.connections = 0
        self._source = source
        self._secret = secret
        self._rng = rng

    async def run(self, count: int) -> None:
        """Send ``count`` frames, over several connections at a time."""
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS_AT_ONCE):
                nursery.start_soon(self._keep_on, count)

    async def _keep_on(self, count: int) -> None:
        while self.sent < count:
            self.connections += 1
            stream = await TcpNetwork().connect(self.address, 5)
            try:
                if self._secret is not None:
                    await open_connection(stream, self._secret)
                await self._speak(stream, count)
            except OrchestraError:
                pass  # dropped, as it should be
            finally:
                stream.abort()

    async def _speak(self, stream: TcpStream, count: int) -> None:
        for _ in range(self._rng.choice([1, 1, 2, 5, 20])):
            if self.sent >= count:
                return
            self.sent += 1
            frame = next(self._source)
            at = self._rng.randrange(len(frame) + 1)
            await stream.send_all(frame[:at])
            await stream.send_all(frame[at:])
        if self._rng.random() < 0.5:  # half of them wait for what is said, the others hang up at once
            with trio.move_on_after(0.002):
                await stream.receive_some_into(memoryview(bytearray(4096)))


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[ControllerServer]:
    """The controllers that are started, from within."""
    made: list[ControllerServer] = []
    serve = server_module.serve

    def note(*args: object) -> object:
        class Noted:
            async def __aenter__(self) -> ControllerServer:
                self.context = serve(*args)  # type: ignore[arg-type]
                made.append(await self.context.__aenter__())
                return made[-1]

            async def __aexit__(self, *how: object) -> bool | None:
                return await self.context.__aexit__(*how)  # type: ignore[arg-type]

        return Noted()

    monkeypatch.setattr(serving, "serve", note)
    return made


@pytest.mark.parametrize("authenticated", [False, True], ids=["before the handshake", "after it"])
@pytest.mark.parametrize("port", ["controller", "data"])
async def test_frames_that_make_no_sense_do_no_harm(
    port: str, authenticated: bool, servers: list[ControllerServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    rng = Random(20240607)
    async with cluster("a", "b", "c", token=TOKEN, limit_s=60) as (a, b, _):
        await (await a.broadcast(bytes(1000), "t", to=["b"])).wait()
        (server,) = servers
        data_server = a.objects.server
        seeds = HANDSHAKE if not authenticated else CONTROL if port == "controller" else DATA
        address = server.address if port == "controller" else a._member._data_address
        secret = TOKEN.encode() if authenticated else None
        kept = len(data_server._clients)  # b keeps its connection
        attack = Attack(address, frames(rng, seeds), secret, rng)

        def quiet() -> bool:
            return (
                len(server._sessions) == 3
                and server._opening == 0
                and len(data_server._clients) == kept
                and data_server._handshakes == 0
            )

        await attack.run(FRAMES // 5)  # caches fill, tables reach their size
        await until(quiet, 15)
        gc.collect()
        tracemalloc.start()
        try:
            await attack.run(FRAMES)
            await until(quiet, 15)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert attack.sent >= FRAMES
        assert attack.connections > 100
        assert grown < 2 << 20, "bytes kept after the attack"

        transfer = await b.broadcast(b"service goes on", "u", to=["a", "c"])
        assert (await transfer.wait()).failed == {}
        assert bytes((await a.receive("u")).buffer) == b"service goes on"
