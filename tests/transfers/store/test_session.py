"""What a client can get and do: leases, listings, and nothing else whatever it sends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfers.errors import LocalProtocolError, RemoteProtocolError
from transfers.ids import TransferName
from transfers.manifest import ObjectKey, PartName
from transfers.store import Store, protocol, session
from transfers.store.protocol import (
    CLIENT_CODEC,
    MAX_LISTED,
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    SERVER_CODEC,
    Absent,
    ClientMessage,
    Drop,
    Found,
    Hello,
    Listing,
    Lookup,
    Names,
    ServerMessage,
)
from transfers.store.session import Session

MIB = 1 << 20


def key(name: str, part: str = "") -> ObjectKey:
    return ObjectKey(TransferName(name), PartName(part))


def ask(asked: Session, message: ClientMessage) -> ServerMessage:
    reply = asked.handle(CLIENT_CODEC.encode(message))
    assert reply is not None
    assert len(reply.data) <= MAX_MESSAGE_BYTES
    return SERVER_CODEC.decode(reply.data)


def greeted(store: Store) -> Session:
    made = Session(store)
    assert ask(made, Hello(PROTOCOL_VERSION)) == Hello(PROTOCOL_VERSION)
    return made


def test_a_lease_keeps_memory_until_it_is_dropped() -> None:
    store = Store(2 * MIB)
    store.put(key("a"), memoryview(bytes(MIB)), MIB)
    client = greeted(store)
    first, second = ask(client, Lookup(1, "a", "")), ask(client, Lookup(2, "a", ""))
    assert isinstance(first, Found)
    assert isinstance(second, Found)
    store.release(key("a"))
    assert isinstance(ask(client, Lookup(3, "a", "")), Absent)
    for found, lingering in ((first, MIB), (second, 0)):
        assert store.statistics().lingering_bytes == MIB
        assert client.handle(CLIENT_CODEC.encode(Drop(found.lease))) is None
        assert store.statistics().lingering_bytes == lingering
    store.close()


def test_the_end_of_a_client_ends_its_leases_alone() -> None:
    store = Store(2 * MIB)
    stored = store.put(key("a"), memoryview(bytes(MIB)), MIB)
    one, other = greeted(store), greeted(store)
    for client in (one, one, other):
        ask(client, Lookup(1, "a", ""))
    assert stored.leases == 3
    one.end()
    one.end()
    assert stored.leases == 1
    with pytest.raises(LocalProtocolError, match="in use"):
        stored.reset()
    store.close()


def test_a_lease_that_is_not_held_cannot_be_dropped() -> None:
    store = Store(MIB)
    with pytest.raises(RemoteProtocolError, match="lease 7"):
        greeted(store).handle(CLIENT_CODEC.encode(Drop(7)))
    store.close()


def test_leases_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_LEASES", 2)
    store = Store(MIB)
    store.put(key("a"), memoryview(b"abc"), MIB)
    client = greeted(store)
    for number in range(2):
        ask(client, Lookup(number, "a", ""))
    with pytest.raises(RemoteProtocolError, match="more than 2 leases"):
        ask(client, Lookup(3, "a", ""))
    store.close()


def test_nothing_is_answered_before_the_greeting_and_no_second_one() -> None:
    store = Store(MIB)
    with pytest.raises(RemoteProtocolError, match="did not greet"):
        ask(Session(store), Lookup(1, "a", ""))
    with pytest.raises(RemoteProtocolError, match="greeted twice"):
        ask(greeted(store), Hello(PROTOCOL_VERSION))
    store.close()


def test_another_version_is_told_ours_and_sent_off() -> None:
    store = Store(MIB)
    reply = Session(store).handle(CLIENT_CODEC.encode(Hello(PROTOCOL_VERSION + 1)))
    assert reply is not None
    assert reply.last
    assert SERVER_CODEC.decode(reply.data) == Hello(PROTOCOL_VERSION)
    store.close()


@pytest.mark.parametrize("letter", ["x", "\N{CJK UNIFIED IDEOGRAPH-4E00}"])
def test_all_names_are_listed_in_order_however_long(letter: str) -> None:
    store = Store(MIB)
    names = [f"{number:03}{letter * 1000}" for number in range(MAX_LISTED + 10)]
    for name in reversed(names):
        store.put(key(name), memoryview(b""), MIB)
    client = greeted(store)
    listed: list[str] = []
    more = True
    while more:
        listing = ask(client, Names(1, listed[-1] if listed else "", ""))
        assert isinstance(listing, Listing)
        assert listing.transfers
        listed += listing.transfers
        more = listing.more
    assert listed == names
    store.close()


requests = st.builds(
    CLIENT_CODEC.encode,
    st.one_of(
        st.builds(Hello, st.integers(-(2**63), 2**64 - 1)),
        st.builds(Lookup, st.integers(0, 9), st.text(max_size=9), st.text(max_size=9)),
        st.builds(Names, st.integers(0, 9), st.text(max_size=9), st.text(max_size=9)),
        st.builds(Drop, st.integers(-9, 9)),
    ),
)
mutated = st.builds(
    lambda data, at, byte: data[: at % len(data)] + bytes([byte]) + data[at % len(data) + 1 :],
    requests,
    st.integers(0, 1000),
    st.integers(0, 255),
)


@given(st.lists(st.one_of(st.binary(max_size=300), requests, mutated), max_size=10), st.booleans())
def test_whatever_comes_only_a_protocol_error_comes_of_it(messages: list[bytes], greet: bool) -> None:
    store = Store(MIB)
    stored = store.put(key("a"), np.arange(10.0).data, MIB)
    client = greeted(store) if greet else Session(store)
    try:
        for message in messages:
            client.handle(message)
    except RemoteProtocolError:
        pass
    client.end()
    assert stored.leases == 0
    assert stored.view().array().nbytes == 80
    store.close()


def test_a_message_over_the_limit_is_refused() -> None:
    store = Store(MIB)
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        Session(store).handle(bytes(protocol.MAX_MESSAGE_BYTES + 1))
    store.close()
