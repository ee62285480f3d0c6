"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from btfast.cli import text


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * 2**20, "10.0 MiB"),
        (256 * 2**20, "256 MiB"),
        (1023 * 2**20, "1023 MiB"),
        (2**30 - 1, "1.00 GiB"),
        (5 * 2**60, "5120 PiB"),
    ],
)
def test_sizes_have_three_digits(count: int, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (7620, "2 h 07 min"),
        (3 * 86400 + 4 * 3600, "3 d 04 h"),
    ],
)
def test_durations_name_two_units(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    assert text.printable("a\x1b[2Jb\nc\u202e\x9b") == "a?[2Jb?c??"
    assert text.printable("naïve 名前") == "naïve 名前"
