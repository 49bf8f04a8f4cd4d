"""Addresses, who is on the other side, and what a host is."""

import os
import socket
import struct
import subprocess
import sys

import pytest

from transfers.store import host_id
from transfers.store.protocol import (
    MAX_MESSAGE_BYTES,
    check_length,
    is_same_user,
    new_address,
    peer_uid,
    read_peer_uid,
    socket_name,
)


def test_addresses_are_printable_and_never_repeat() -> None:
    made = {new_address() for _ in range(100)}
    assert len(made) == 100
    assert all(address.isprintable() and address.startswith("orchestra-") for address in made)


@pytest.mark.parametrize(
    "address", ["", "orchestra-", "orchestra-12", "other-" + "0" * 32, "orchestra-" + "G" * 32, "0" * 32]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address="):
        socket_name(address)


def test_only_the_same_user_may_attach() -> None:
    assert is_same_user(os.geteuid())
    assert not is_same_user(os.geteuid() + 1)


def test_the_user_is_read_from_the_kernels_credentials() -> None:
    assert peer_uid(struct.pack("=iII", 12, 4_000_000_000, 34)) == 4_000_000_000
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        assert read_peer_uid(left) == os.geteuid()


def test_processes_of_a_host_agree_on_its_id() -> None:
    program = "from transfers.store import host_id; print(host_id())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == host_id() != ""


def test_the_longest_message_is_taken() -> None:
    check_length(bytes(MAX_MESSAGE_BYTES))
