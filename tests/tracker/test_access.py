from __future__ import annotations

import pytest

from btfast.errors import InputError
from btfast.tracker.access import parse_keys, parse_whitelist


def test_a_whitelist_has_an_info_hash_a_line() -> None:
    text = f"# ours\n{'ab' * 20}\n\n  {'CD' * 20}  # upper case\n"
    assert parse_whitelist(text, "list.txt") == [b"\xab" * 20, b"\xcd" * 20]
    assert parse_whitelist("", "list.txt") == []


@pytest.mark.parametrize("line", ["ab", "g" * 40, "ab" * 21, "ab" * 32])
def test_what_is_no_info_hash_is_named_by_its_line(line: str) -> None:
    with pytest.raises(InputError, match=r"^list\.txt: line 2: not an info-hash"):
        parse_whitelist(f"{'ab' * 20}\n{line}\n", "list.txt")


def test_keys_are_plain_words() -> None:
    assert parse_keys("one\ntwo-2 # a friend's\n", "keys") == [b"one", b"two-2"]
    for bad in ("a b", "a/b", "announce", "scrape", "x" * 129, "ä"):
        with pytest.raises(InputError, match="line 1: not a key"):
            parse_keys(bad, "keys")
