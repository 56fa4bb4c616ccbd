"""Numbers have one form in terminals, logs and pages."""

import pytest

from mama.system.formats import (
    clock,
    counted,
    duration,
    figure,
    gib,
    percent,
    ranges,
    short_size,
    signed,
    size,
)


def test_a_figure_has_fixed_decimals_and_an_unknown_one_is_a_dash() -> None:
    assert (figure(0.12349), figure(2), figure(1234567, 0)) == ("0.123", "2.000", "1,234,567")
    assert (figure(None), figure(None, 1), figure(None, dash="–")) == ("-", "-", "–")
    assert (signed(0.0124), signed(-1), signed(None)) == ("+0.012", "-1.000", "-")


def test_shares_are_whole_per_cents() -> None:
    assert [percent(share) for share in (0, 0.125, 0.126, 1 / 3, 1)] == [
        "0 %",
        "12 %",
        "13 %",
        "33 %",
        "100 %",
    ]


@pytest.mark.parametrize(
    ("count", "long", "short"),
    [
        (0, "0 bytes", "0"),
        (999, "999 bytes", "999"),
        (1500, "1.5 kB", "1.5k"),
        (999_940, "999.9 kB", "1M"),
        (999_960, "1.0 MB", "1M"),
        (2_573_077, "2.6 MB", "2.57M"),
        (3.2e9, "3.2 GB", "3.2G"),
        (4.5e12, "4,500.0 GB", "4T"),
    ],
)
def test_sizes(count: float, long: str, short: str) -> None:
    assert (size(count), short_size(count)) == (long, short)


def test_memory_of_a_gpu_is_in_powers_of_two() -> None:
    assert (gib(2**30), gib(85520809984)) == ("1.0", "79.6")


@pytest.mark.parametrize(
    ("seconds", "text", "digital"),
    [
        (0.4, "0 s", "0:00:00"),
        (119, "119 s", "0:01:59"),
        (120, "2 min", "0:02:00"),
        (3990, "66 min", "1:06:30"),
        (7199, "120 min", "1:59:59"),
        (7200, "2.0 h", "2:00:00"),
        (360_000, "100.0 h", "100:00:00"),
    ],
)
def test_times(seconds: float, text: str, digital: str) -> None:
    assert (duration(seconds), clock(seconds)) == (text, digital)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([3, 1, 2, 7, 9, 10], "1–3, 7, 9–10")],
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_one_thing_and_several() -> None:
    assert (counted(1, "file"), counted(0, "file")) == ("1 file", "0 files")
    assert counted(2, "study", "studies") == "2 studies"
