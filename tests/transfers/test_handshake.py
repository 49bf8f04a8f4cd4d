"""The handshake's two machines, joined by a fake link that writes down every byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfers.errors import AuthenticationFailed, RemoteProtocolError
from transfers.handshake import (
    CODEC,
    NONCE_BYTES,
    PROTOCOL_VERSION,
    Challenge,
    ClientHandshake,
    HandshakeMessage,
    Hello,
    Proof,
    Refusal,
    ServerHandshake,
    Welcome,
)

C, S = b"c" * NONCE_BYTES, b"s" * NONCE_BYTES


def shake(client: ClientHandshake, server: ServerHandshake) -> list[bytes]:
    """Let the two talk until they are through; every message's bytes."""
    sent: list[bytes] = []
    message: HandshakeMessage | None = client.open()
    while message is not None:
        sent.append(CODEC.encode(message))
        answer = server.receive(message)
        sent.append(CODEC.encode(answer))
        message = client.receive(answer)
    return sent


@given(st.binary(max_size=80), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_equal_secrets_agree_and_never_travel(secret: bytes, one: bytes, two: bytes) -> None:
    client, server = ClientHandshake(secret, one), ServerHandshake(secret, two)
    sent = shake(client, server)
    assert client.done
    assert server.done
    if len(secret) >= 4 and secret not in one + two:
        assert all(secret not in data for data in sent)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(b"one", b"two"), (b"", b"two"), (b"one", b""), (b"a", b"a\0\0\0\1")]
)
def test_other_secrets_are_refused_by_the_server(ours: bytes, theirs: bytes) -> None:
    client, server = ClientHandshake(ours, C), ServerHandshake(theirs, S)
    with pytest.raises(AuthenticationFailed, match="secrets differ"):
        shake(client, server)
    assert not client.done
    assert not server.done


def test_a_server_without_the_secret_cannot_welcome() -> None:
    client = ClientHandshake(b"secret", C)
    client.open()
    client.receive(Challenge(PROTOCOL_VERSION, S))
    with pytest.raises(AuthenticationFailed, match="does not hold"):
        client.receive(Welcome(b"x" * 32))
    assert not client.done


@pytest.mark.parametrize("nonce", [C, S])
def test_a_reflected_proof_is_worthless(nonce: bytes) -> None:
    # The server sends the client's own proof back, with a nonce of its own or the client's.
    client = ClientHandshake(b"secret", C)
    proof = client.receive(Challenge(PROTOCOL_VERSION, nonce))
    assert isinstance(proof, Proof)
    with pytest.raises(AuthenticationFailed):
        client.receive(Welcome(proof.digest))


def test_a_recorded_proof_is_worthless() -> None:
    recorded = ClientHandshake(b"secret", C).receive(Challenge(PROTOCOL_VERSION, S))
    assert recorded is not None
    server = ServerHandshake(b"secret", b"t" * NONCE_BYTES)
    server.receive(Hello(PROTOCOL_VERSION, C))
    assert isinstance(server.receive(recorded), Refusal)
    assert not server.done


def test_a_proof_won_from_another_server_is_worthless() -> None:
    # Someone in the middle hands a real client the nonce of one server and its proof to another.
    one, two = ServerHandshake(b"secret", S), ServerHandshake(b"secret", b"t" * NONCE_BYTES)
    challenge = one.receive(Hello(PROTOCOL_VERSION, C))
    proof = ClientHandshake(b"secret", C).receive(challenge)
    two.receive(Hello(PROTOCOL_VERSION, C))
    assert proof is not None
    assert isinstance(two.receive(proof), Refusal)


def test_another_version_is_named_on_both_sides() -> None:
    refusal = ServerHandshake(b"", S).receive(Hello(PROTOCOL_VERSION + 1, C))
    assert isinstance(refusal, Refusal)
    assert f"version {PROTOCOL_VERSION + 1}" in refusal.reason
    with pytest.raises(AuthenticationFailed, match="version 99"):
        ClientHandshake(b"", C).receive(Challenge(99, S))
    with pytest.raises(AuthenticationFailed, match=r"speaks protocol version"):
        ClientHandshake(b"", C).receive(refusal)


@pytest.mark.parametrize("message", [Proof(b""), Challenge(1, S), Welcome(b""), Refusal("no")])
def test_a_server_refuses_messages_out_of_turn(message: HandshakeMessage) -> None:
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        ServerHandshake(b"", S).receive(message)


@pytest.mark.parametrize("message", [Hello(1, S), Proof(b""), Welcome(b"")])
def test_a_client_refuses_messages_out_of_turn(message: HandshakeMessage) -> None:
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        ClientHandshake(b"", C).receive(message)


def test_nothing_is_said_twice() -> None:
    client, server = ClientHandshake(b"", C), ServerHandshake(b"", S)
    server.receive(client.open())
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        server.receive(client.open())
    client.receive(Challenge(PROTOCOL_VERSION, S))
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        client.receive(Challenge(PROTOCOL_VERSION, b"t" * NONCE_BYTES))
    done_client, done_server = ClientHandshake(b"", C), ServerHandshake(b"", S)
    shake(done_client, done_server)
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        done_server.receive(Proof(b""))
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        done_client.receive(Welcome(b""))


def test_one_wrong_proof_is_the_last() -> None:
    server = ServerHandshake(b"secret", S)
    server.receive(Hello(PROTOCOL_VERSION, C))
    right = ClientHandshake(b"secret", C).receive(Challenge(PROTOCOL_VERSION, S))
    assert isinstance(server.receive(Proof(b"wrong")), Refusal)
    assert right is not None
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        server.receive(right)


@pytest.mark.parametrize("nonce", [b"", b"short", b"x" * (NONCE_BYTES + 1)])
def test_nonces_have_one_length(nonce: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="nonce"):
        ServerHandshake(b"", S).receive(Hello(PROTOCOL_VERSION, nonce))
    with pytest.raises(RemoteProtocolError, match="nonce"):
        ClientHandshake(b"", C).receive(Challenge(PROTOCOL_VERSION, nonce))
