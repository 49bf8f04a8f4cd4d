"""Secrets, and where one may do without."""

from pathlib import Path

import pytest

from orchestra.security import MIN_SECRET_BYTES, as_secret, check_open, is_loopback, read_token_file


def test_secrets_are_bytes_and_none_is_the_open_cluster() -> None:
    assert as_secret(None) == b""
    assert as_secret("grün") == "grün".encode()
    assert as_secret(b"raw") == b"raw"
    for empty in ("", b""):
        with pytest.raises(ValueError, match="token must not be empty"):
            as_secret(empty)


def test_a_token_file_is_read_without_white_space_around_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b" \n" + b"s" * MIN_SECRET_BYTES + b"\r\n")
    assert read_token_file(file) == b"s" * MIN_SECRET_BYTES


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"s" * (MIN_SECRET_BYTES - 1) + b"   "])
def test_a_weak_token_file_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="token file") as refused:
        read_token_file(file)
    assert "short" not in str(refused.value).replace(str(file), "")


def test_an_unreadable_token_file_is_an_os_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(OSError, match=str(path)):
            read_token_file(path)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1:7000", True),
        ("127.9.9.9", True),
        ("localhost:1", True),
        ("[::1]:7000", True),
        ("[::1]", True),
        ("0.0.0.0:7000", False),
        ("[::]:7000", False),
        ("10.0.0.1:7000", False),
        ("example.org:7000", False),
        ("localhost.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, inside: bool) -> None:
    assert is_loopback(address) is inside
    check_open(address, b"a secret", insecure=False)
    check_open(address, b"", insecure=True)
    if inside:
        check_open(address, b"", insecure=False)
    else:
        with pytest.raises(ValueError, match="--token-file"):
            check_open(address, b"", insecure=False)
