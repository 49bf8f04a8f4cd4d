"""Frames and the opening handshake, on streams that cut everywhere."""

import pytest
import trio
import trio.testing

from tests.transfers.net.sites import MemoryStream
from transfers import handshake
from transfers.errors import AuthenticationFailed, OrchestraError, RemoteProtocolError, StreamBroken
from transfers.net import connection as connection_module
from transfers.net.connection import (
    MAX_HANDSHAKE_FRAME_BYTES,
    Connection,
    accept_connection,
    open_connection,
)
from transfers.net.tcp import TcpNetwork


def framed(*bodies: bytes) -> bytes:
    """The bodies as frames."""
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


async def body_of(connection: Connection) -> bytes:
    """The next frame's body, which must be there."""
    body = await connection.receive_frame(10_000)
    assert body is not None
    return bytes(body)


BODIES = [b"", b"x", b"y" * 4090, b"z" * 4096, b"w" * 4097, b"v" * 9000, b"last"]


@pytest.mark.parametrize("portion", [1, 2, 3, 5, 4095, 4096, 4099, 10**6])
async def test_frames_come_whole_however_they_are_cut(portion: int) -> None:
    connection = Connection(MemoryStream(framed(*BODIES), portion))
    for body in BODIES:
        assert await body_of(connection) == body
    assert await connection.receive_frame(10_000) is None


@pytest.mark.parametrize("portion", [1, 7, 4096, 10**6])
async def test_raw_bytes_go_round_the_buffer(portion: int) -> None:
    raw = bytes(range(256)) * 50
    connection = Connection(MemoryStream(framed(b"head") + raw + framed(b"tail"), portion))
    assert await body_of(connection) == b"head"
    target, parts = bytearray(len(raw)), list[int]()
    await connection.receive_into(memoryview(target), parts.append)
    assert target == raw
    assert sum(parts) == len(raw)
    assert await body_of(connection) == b"tail"


async def test_every_cut_inside_a_frame_is_a_broken_stream() -> None:
    whole = framed(b"a short one") + framed(b"b" * 5000)
    boundaries = (0, len(framed(b"a short one")), len(whole))
    for cut in [*range(40), 4000, 5000, len(whole) - 1, len(whole)]:
        connection = Connection(MemoryStream(whole[:cut]))
        ended = False
        try:
            while await connection.receive_frame(10_000) is not None:
                pass
            ended = True
        except StreamBroken:
            pass
        assert ended == (cut in boundaries), cut


async def test_a_frame_over_its_limit_is_refused_before_it_is_buffered() -> None:
    stream = MemoryStream((2**32 - 1).to_bytes(4, "big") + b"x" * 100_000)
    with pytest.raises(RemoteProtocolError, match="limit 1000"):
        await Connection(stream).receive_frame(1000)
    assert stream.received <= 4096
    assert max(stream.asked_bytes) <= 4096


async def test_a_block_that_ends_early_is_a_broken_stream() -> None:
    with pytest.raises(StreamBroken, match="inside a block"):
        await Connection(MemoryStream(b"1234")).receive_into(memoryview(bytearray(5)))


async def test_several_frames_leave_together() -> None:
    stream = MemoryStream(b"")
    await Connection(stream).send_frames([b"a", b"", b"bc"])
    assert bytes(stream.sent) == framed(b"a", b"", b"bc")


async def pair(client_secret: bytes, server_secret: bytes) -> tuple[object, object]:
    """What opening a connection gives each side, the exception where one is raised."""
    listener = await TcpNetwork().listen("127.0.0.1:0")
    results: dict[str, object] = {}

    async def serve() -> None:
        try:
            results["server"] = await accept_connection(await listener.accept(), server_secret)
        except OrchestraError as failed:
            results["server"] = failed

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            stream = await TcpNetwork().connect(listener.address, 5)
            try:
                results["client"] = await open_connection(stream, client_secret)
            except OrchestraError as failed:
                results["client"] = failed
    for opened in results.values():
        if isinstance(opened, Connection):
            await opened.aclose()
    await listener.aclose()
    return results["client"], results["server"]


async def test_equal_secrets_open_a_connection() -> None:
    for secret in (b"", b"secret"):
        client, server = await pair(secret, secret)
        assert isinstance(client, Connection)
        assert isinstance(server, Connection)


async def test_different_secrets_do_not_and_both_sides_say_so() -> None:
    for one, two in ((b"a", b"b"), (b"", b"b"), (b"a", b"")):
        client, server = await pair(one, two)
        assert isinstance(client, AuthenticationFailed)
        assert isinstance(server, AuthenticationFailed)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", framed(b"\x00" * (MAX_HANDSHAKE_FRAME_BYTES + 1)), framed(b"\xff")]
)
async def test_strangers_are_dropped_with_little_read(said: bytes) -> None:
    stream = MemoryStream(said + b"\x00" * 100_000)
    with pytest.raises(RemoteProtocolError):
        await accept_connection(stream, b"")
    assert stream.aborted
    assert stream.received <= 4096


async def test_another_version_is_told_so() -> None:
    hello = handshake.CODEC.encode(handshake.Hello(7, b"n" * handshake.NONCE_BYTES))
    stream = MemoryStream(framed(hello))
    with pytest.raises(AuthenticationFailed, match="version 7"):
        await accept_connection(stream, b"")
    assert isinstance(handshake.CODEC.decode(bytes(stream.sent[4:])), handshake.Refusal)
    assert stream.aborted


async def test_a_silent_stranger_is_dropped_in_time(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(MemoryStream):
        async def receive_some_into(self, buffer: memoryview, wanted_bytes: int = 1) -> int:
            await trio.sleep(1000)
            return 0

    for opening in (accept_connection, open_connection):
        stream, began = Silent(b""), trio.current_time()
        with pytest.raises(StreamBroken, match="no handshake"):
            await opening(stream, b"")
        assert trio.current_time() - began == pytest.approx(connection_module.HANDSHAKE_TIMEOUT_S)
        assert stream.aborted


async def test_the_secret_is_in_no_byte_that_is_sent() -> None:
    # One machine's answers are the other's input, byte by byte through real connections.
    secret = b"the secret itself"
    client, server = (
        handshake.ClientHandshake(secret, b"c" * 16),
        handshake.ServerHandshake(secret, b"s" * 16),
    )
    said = handshake.CODEC.encode(client.open())
    challenge = handshake.CODEC.encode(server.receive(handshake.CODEC.decode(said)))
    proof = client.receive(handshake.CODEC.decode(challenge))
    assert proof is not None
    welcome = server.receive(proof)
    sent = said + challenge + handshake.CODEC.encode(proof) + handshake.CODEC.encode(welcome)
    assert all(secret[at : at + 4] not in sent for at in range(len(secret) - 3))
