"""Addresses are read as people write them, and nothing else is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfers.net.address import MAX_PORT, format_address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7000", ("127.0.0.1", 7000)),
        ("localhost:0", ("localhost", 0)),
        ("node-1.cluster_a.example:65535", ("node-1.cluster_a.example", 65535)),
        ("[::1]:7000", ("::1", 7000)),
        ("[fe80::1%eth0]:7000", ("fe80::1%eth0", 7000)),
        (" 10.0.0.1:80 ", ("10.0.0.1", 80)),
    ],
)
def test_addresses_are_read_and_printed_back(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert format_address(*address) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":7000",
        "host",
        "host:",
        "host:-1",
        "host:65536",
        "host:7000x",
        "host:٧",
        "a b:1",
        "-x:1",
        "http://h:1",
        "::1:7000",
        "::1",
        "[::1]",
        "[::1]7000",
        "[::1:7000",
        "[]:1",
        "[host]:1",
        "[1.2.3.4]:1",
        "h:1:2",
        "h\x00:1",
    ],
)
def test_no_address_is_refused_by_name_and_value(text: str) -> None:
    with pytest.raises(ValueError, match=f"^--listen must .*{re.escape(repr(text))}"):
        parse_address(text, "--listen")


def test_a_host_alone_takes_the_default_port() -> None:
    assert parse_address("10.0.0.1", default_port=0) == ("10.0.0.1", 0)
    assert parse_address("[::1]", default_port=7) == ("::1", 7)
    assert parse_address("10.0.0.1:5", default_port=0) == ("10.0.0.1", 5)
    with pytest.raises(ValueError, match="port"):
        parse_address("10.0.0.1:", default_port=0)


@given(st.ip_addresses(), st.integers(0, MAX_PORT))
def test_every_address_printed_is_read_back(host: object, port: int) -> None:
    assert parse_address(format_address(str(host), port)) == (str(host), port)
