"""Sizes, rates and times as people write them, and back.

Owns the only conversions between text and the bytes and seconds that everything inside counts in.
Knows nothing of arguments or files: the caller says what the text is called, so that an error can
name it. Pure. SI prefixes are powers of 1000, IEC prefixes powers of 1024; rates are written in bits
a second, as links are sold, and held in bytes a second.
"""

import math
import re
from fractions import Fraction

SIZE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""Bytes in each unit of size."""

RATE_UNITS = {"bit": 1, "kbit": 10**3, "Kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Tbit": 10**12}
"""Bits in each unit of rate."""

MAX_SIZE_BYTES = 2**63 - 1
"""Largest size taken: what a file offset of Linux can hold."""

MAX_RATE_BYTES_PER_S = 10**15
"""Largest rate taken (a guess): ten thousand times the fastest network card of today."""

BITS_PER_BYTE = 8

# At most 20 digits on each side of the point: more than any size or rate within the limits needs.
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([A-Za-z]*)")


def _quantity(text: str, argument: str, expected: str, ending: str = "") -> tuple[Fraction, str]:
    """Split a number from the unit behind it, which ``ending`` may follow; the number is exact."""
    match = _QUANTITY.fullmatch(text.strip().removesuffix(ending))
    if match is None:
        raise ValueError(f"{argument} must be {expected}, got {text!r}")
    return Fraction(match[1]), match[2]


def parse_size(text: str, argument: str = "size") -> int:
    """Bytes in a size such as ``32MB`` (32·10⁶), ``256KiB`` (256·2¹⁰), ``1.5GB`` or plain ``1234``.

    Args:
        text: the size, with at most one blank between number and unit.
        argument: what the user calls this value; errors name it.

    Raises:
        ValueError: when it is no size, no whole number of bytes, or above `MAX_SIZE_BYTES`.
    """
    expected = "a size such as 32MB, 256KiB or 1234"
    number, unit = _quantity(text, argument, expected)
    if unit not in SIZE_UNITS:
        raise ValueError(f"{argument} must be {expected}, got {text!r} with the unknown unit {unit!r}")
    size_bytes = number * SIZE_UNITS[unit]
    if size_bytes.denominator != 1:
        raise ValueError(f"{argument} must be a whole number of bytes, got {text!r}")
    if size_bytes > MAX_SIZE_BYTES:
        raise ValueError(f"{argument} must be at most {MAX_SIZE_BYTES} bytes, got {text!r}")
    return int(size_bytes)


def parse_rate(text: str, argument: str = "rate") -> float:
    """Bytes a second in a rate such as ``50Mbit`` or ``1.5Gbit``; ``/s`` may stand behind it.

    Args:
        text: the rate, in bits a second: a number without a unit is refused, for it could mean either.
        argument: what the user calls this value; errors name it.

    Raises:
        ValueError: when it is no rate, zero, or above `MAX_RATE_BYTES_PER_S`.
    """
    expected = "a rate such as 50Mbit or 1.5Gbit"
    number, unit = _quantity(text, argument, expected, "/s")
    if unit not in RATE_UNITS:
        raise ValueError(f"{argument} must be {expected}, got {text!r} with the unknown unit {unit!r}")
    rate_bytes_per_s = number * RATE_UNITS[unit] / BITS_PER_BYTE
    if not 0 < rate_bytes_per_s <= MAX_RATE_BYTES_PER_S:
        raise ValueError(
            f"{argument} must be above 0 and at most {format_rate(MAX_RATE_BYTES_PER_S)}, got {text!r}"
        )
    return float(rate_bytes_per_s)


def _prefixed(value: float, step: int, prefixes: tuple[str, ...], unit: str) -> str:
    """One decimal and the largest prefix that leaves at least 1; whole where no prefix is needed."""
    if value < step - 0.5:
        return f"{value:.0f} {unit}"
    power = 1
    # Compared as it will be printed, so that 999,999 becomes 1.0 M and not 1000.0 k.
    while round(value / step**power, 1) >= step and power < len(prefixes):
        power += 1
    return f"{value / step**power:.1f} {prefixes[power - 1]}{unit}"


def format_bytes(size_bytes: float) -> str:
    """A size for people, in powers of 1000: ``512 B``, ``32.0 MB``.

    Raises:
        ValueError: for a size that is negative or not finite.
    """
    _check_shown("size_bytes", size_bytes)
    return _prefixed(size_bytes, 1000, ("k", "M", "G", "T", "P", "E"), "B")


def format_block_size(block_size_bytes: int) -> str:
    """A block size for people, exact: in powers of 1024 where it is a whole number of them.

    ``262144`` gives ``256 KiB``, ``1000`` gives ``1000 B``.

    Raises:
        ValueError: for a negative size.
    """
    _check_shown("block_size_bytes", block_size_bytes)
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if block_size_bytes and block_size_bytes % SIZE_UNITS[unit] == 0:
            return f"{block_size_bytes // SIZE_UNITS[unit]} {unit}"
    return f"{block_size_bytes} B"


def format_rate(rate_bytes_per_s: float) -> str:
    """A rate for people, in bits a second: ``50.0 Mbit/s``.

    Raises:
        ValueError: for a rate that is negative or not finite.
    """
    _check_shown("rate_bytes_per_s", rate_bytes_per_s)
    return _prefixed(rate_bytes_per_s * BITS_PER_BYTE, 1000, ("k", "M", "G", "T", "P"), "bit/s")


def format_seconds(time_s: float) -> str:
    """A time for people: ``0.3 ms``, ``12 ms``, ``5.4 s``, ``3 min 20 s``, ``2 h 05 min``.

    Raises:
        ValueError: for a time that is negative or not finite.
    """
    _check_shown("time_s", time_s)
    if round(time_s * 1000, 1) < 10:
        return f"{time_s * 1000:.1f} ms"
    if round(time_s * 1000) < 1000:
        return f"{time_s * 1000:.0f} ms"
    if round(time_s, 1) < 120:
        return f"{time_s:.1f} s"
    minutes, seconds = divmod(round(time_s), 60)
    if minutes < 120:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(round(time_s / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _check_shown(argument: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{argument} must be finite and not negative, got {value}")
