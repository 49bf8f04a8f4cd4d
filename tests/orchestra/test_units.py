"""Sizes, rates, times and addresses: what is read, what is refused, and what comes back."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.units import (
    MAX_RATE_BYTES_PER_S,
    MAX_SIZE_BYTES,
    RATE_UNITS,
    SIZE_UNITS,
    format_block_size,
    format_bytes,
    format_rate,
    format_seconds,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1234", 1234),
        ("0", 0),
        ("32MB", 32_000_000),
        ("32 MB", 32_000_000),
        (" 32MB ", 32_000_000),
        ("256KiB", 262_144),
        ("1.5GB", 1_500_000_000),
        ("0.5KiB", 512),
        ("4MiB", 4_194_304),
        ("7B", 7),
        ("9223372036854775807", MAX_SIZE_BYTES),
    ],
)
def test_sizes_are_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


NONSENSE = [
    "",
    " ",
    "MB",
    "-1",
    "-1MB",
    "+1",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "1e9",
    "1_000",
    "0x10",
    "1,5MB",
    ".5MB",
]
NONSENSE += ["1.MB", "1.2.3", "5  MB", "5MB5", "٣MB", "5MB\x00", "9" * 5000]


@pytest.mark.parametrize(
    "text", [*NONSENSE, "32mb", "1Mb", "5XB", "5Mbit", "1.5", "0.1KiB", "8EB", "9223372036854775808"]
)
def test_no_size_is_refused_by_name_and_value(text: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)^--block-size must .*{re.escape(repr(text))}"):
        parse_size(text, "--block-size")


@pytest.mark.parametrize(
    ("text", "rate_bytes_per_s"),
    [
        ("50Mbit", 6_250_000.0),
        ("1.5Gbit", 187_500_000.0),
        ("50.0 Mbit/s", 6_250_000.0),
        ("64Kbit", 8_000.0),
        ("64kbit", 8_000.0),
        ("8bit", 1.0),
    ],
)
def test_rates_are_read(text: str, rate_bytes_per_s: float) -> None:
    assert parse_rate(text) == rate_bytes_per_s


@pytest.mark.parametrize("text", [*NONSENSE, "50", "50MB", "50mbit", "0Mbit", "0.0bit", "9000000Tbit"])
def test_no_rate_is_refused_by_name_and_value(text: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)^--port-rate must .*{re.escape(repr(text))}"):
        parse_rate(text, "--port-rate")


@given(st.integers(0, 10**6), st.sampled_from(sorted(SIZE_UNITS)))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * SIZE_UNITS[unit]


@given(st.integers(0, MAX_SIZE_BYTES))
def test_a_block_size_printed_is_read_back_exactly(size_bytes: int) -> None:
    assert parse_size(format_block_size(size_bytes)) == size_bytes


@given(st.integers(1, 8000), st.sampled_from(sorted(RATE_UNITS)))
def test_a_rate_is_an_eighth_of_its_bits(number: int, unit: str) -> None:
    assert parse_rate(f"{number}{unit}") == pytest.approx(number * RATE_UNITS[unit] / 8, rel=1e-15)


@given(st.floats(1.0, MAX_RATE_BYTES_PER_S))
def test_a_rate_printed_is_read_back_within_its_last_digit(rate_bytes_per_s: float) -> None:
    if rate_bytes_per_s * 8 >= 1000e12:
        return  # printed in Pbit, which nobody types
    assert parse_rate(format_rate(rate_bytes_per_s)) == pytest.approx(rate_bytes_per_s, rel=0.07)


@given(st.integers(0, MAX_SIZE_BYTES))
def test_a_size_for_people_keeps_its_order_of_magnitude(size_bytes: int) -> None:
    number, unit = format_bytes(size_bytes).split(" ")
    power = " kMGTPE".index(unit[0]) if unit != "B" else 0
    assert float(number) < 1000 or unit == "EB"
    assert float(number) * 1000**power == pytest.approx(size_bytes, rel=0.051)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_value_error(text: str) -> None:
    for parse in (parse_size, parse_rate):
        try:
            parse(text)
        except ValueError as error:
            assert repr(text.strip())[1:-1] in str(error)  # noqa: PT017 - most texts are refused, some are not


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (32_000_000, "32.0 MB"),
        (273_280, "273.3 kB"),
        (1.5e21, "1500.0 EB"),
    ],
)
def test_sizes_for_people(size_bytes: float, text: str) -> None:
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("block_size_bytes", "text"),
    [
        (262_144, "256 KiB"),
        (4_194_304, "4 MiB"),
        (1000, "1000 B"),
        (0, "0 B"),
        (1536, "1536 B"),
        (2**40, "1 TiB"),
    ],
)
def test_block_sizes_for_people_are_exact(block_size_bytes: int, text: str) -> None:
    assert format_block_size(block_size_bytes) == text


@pytest.mark.parametrize(
    ("rate_bytes_per_s", "text"),
    [
        (6.25e6, "50.0 Mbit/s"),
        (187.5e6, "1.5 Gbit/s"),
        (0, "0 bit/s"),
        (1, "8 bit/s"),
        (125_000_000, "1.0 Gbit/s"),
    ],
)
def test_rates_for_people(rate_bytes_per_s: float, text: str) -> None:
    assert format_rate(rate_bytes_per_s) == text


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (0, "0.0 ms"),
        (0.0003, "0.3 ms"),
        (0.00996, "10 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (5.44, "5.4 s"),
        (119.94, "119.9 s"),
        (119.96, "2 min 00 s"),
        (200, "3 min 20 s"),
        (7499, "2 h 05 min"),
    ],
)
def test_times_for_people(time_s: float, text: str) -> None:
    assert format_seconds(time_s) == text


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, -math.inf])
def test_what_cannot_be_shown_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=f"size_bytes must .*{value}"):
        format_bytes(value)
    with pytest.raises(ValueError, match=f"rate_bytes_per_s must .*{value}"):
        format_rate(value)
    with pytest.raises(ValueError, match=f"time_s must .*{value}"):
        format_seconds(value)
    with pytest.raises(ValueError, match="block_size_bytes must be finite and not negative, got -1"):
        format_block_size(-1)
