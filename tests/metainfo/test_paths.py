"""Names from a torrent stay inside their place and apart from one another, whatever they say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.errors import InputError
from btfast.metainfo import paths as paths_module
from btfast.metainfo.paths import MAX_CLASHES, PART_SUFFIX, printable, safe_element, safe_name, safe_path, unique_paths

calm = settings(deadline=None, derandomize=True, max_examples=300)
nasty = st.sampled_from(
    [
        b"..",
        b".",
        b"",
        b"/",
        b"\\",
        b"\0",
        b"CON",
        b"nul.txt",
        b"c:",
        b"a",
        b"A",
        b"a.part",
        b"a.part.part",
        b"b",
        b"x" * 300,
    ]
)
elements = (
    nasty | st.binary(max_size=12) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
raw_paths = st.lists(elements, min_size=1, max_size=5)


def usable(path: tuple[str, ...]) -> None:
    assert path
    for element in path:
        assert element not in ("", ".", "..")
        assert not set(element) & set("/\\\0")
        assert len(element.encode()) <= 255
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in element)
        assert element.split(".")[0].rstrip(" ").lower() not in ("con", "prn", "aux", "nul", "com1", "lpt9")
    assert len((path[-1] + PART_SUFFIX).encode()) <= 255


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"plain name-1.txt", "plain name-1.txt"),
        (b"", ""),
        (b".", ""),
        (b"..", "_"),
        (b"...", "..."),
        (b"/", "_"),
        (b"\\/", "_"),
        (b"../..", "...."),
        (b"./", "_"),
        (b"/absolute", "absolute"),
        (b"C:", "C_"),
        (b"c:\\windows", "c_windows"),
        (b"title: sub", "title: sub"),
        (b"nul\0byte", "nul_byte"),
        (b"tab\there", "tab_here"),
        (b"del\x7f", "del_"),
        (b"\xc2\x85", "_"),
        (b"\xff\xfe", "__"),
        (b"Con", "_Con"),
        (b"con.tar.gz", "_con.tar.gz"),
        (b"LPT1 .x", "_LPT1 .x"),
        (b"com\xc2\xb9", "_com\u00b9"),
        (b"conduct", "conduct"),
        (b".hidden", ".hidden"),
        (b"trailing. ", "trailing. "),
        ("schön \u4e2d\u6587 \U0001f600".encode(), "schön \u4e2d\u6587 \U0001f600"),
    ],
)
def test_an_element_becomes_what_every_disk_takes(raw: bytes, expected: str) -> None:
    assert safe_element(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"n" * 255, "n" * 255),
        (b"n" * 256, "n" * 255),
        (b"n" * 300 + b".tar.gz", "n" * 252 + ".gz"),
        (b"n" * 300 + b"." + b"e" * 40, "n" * 255),
        (b"." + b"e" * 300, "." + "e" * 254),
        ("ü".encode() * 200, "ü" * 127),
        (b"x" + "\U0001f600".encode() * 100 + b".mkv", "x" + "\U0001f600" * 62 + ".mkv"),
    ],
)
def test_an_overlong_element_is_cut_before_its_extension_and_between_characters(raw: bytes, expected: str) -> None:
    assert safe_element(raw) == expected
    assert len(expected.encode()) <= 255


@pytest.mark.parametrize(
    "raw", [b"..", b".", b"", b"/", b"\\\\", b"\0\0", b" ", b"\xff\xff", b"\x01\x02", b"\xe2\x80\xae"]
)
def test_a_name_without_any_usable_character_becomes_the_fallback(raw: bytes) -> None:
    assert safe_name(raw, "fa11") == "fa11"


def test_a_name_with_a_usable_character_is_cleaned() -> None:
    assert safe_name(b"/a\0", "fa11") == "a_"
    assert safe_name(b"nul", "fa11") == "_nul"


def test_a_path_drops_what_says_nothing_and_is_never_empty() -> None:
    assert safe_path([b"", b".", b"a", b"", b"b"], {}) == ("a", "b")
    assert safe_path([b"a", b"."], {}) == ("a",)
    assert safe_path([b"."], {}) == ("_",)
    assert safe_path([b"..", b"..", b"x"], {}) == ("_", "_", "x")


def test_a_path_leaves_room_for_the_working_name_also_when_its_last_element_is_dropped() -> None:
    assert safe_path([b"d" * 255, b"."], {}) == ("d" * 250,)


def test_a_path_too_deep_or_too_long_keeps_its_last_element() -> None:
    for raw in ([b"d"] * 32 + [b"leaf.txt"], [b"d" * 250] * 9 + [b"leaf.txt"]):
        path = safe_path(raw, {})
        assert len(path) == 2
        assert len(path[0]) == 40
        assert path[1] == "leaf.txt"
    assert len(safe_path([b"d"] * 31 + [b"leaf"], {})) == 32


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([("a",), ("b",)], [("a",), ("b",)]),
        ([("a",), ("a",)], [("a",), ("a.1",)]),
        ([("a.tar",), ("A.TAR",), ("a.1.tar",)], [("a.tar",), ("A.2.TAR",), ("a.1.tar",)]),
        ([(".rc",), (".rc",)], [(".rc",), (".rc.1",)]),
        ([("d", "x"), ("d",)], [("d", "x"), ("d.1",)]),
        ([("d",), ("D", "x")], [("d.1",), ("D", "x")]),
        ([("d", "x"), ("D", "X")], [("d", "x"), ("D", "X.1")]),
        ([("a.part",), ("a",)], [("a.1.part",), ("a",)]),
        ([("a",), ("a.part",), ("a.part.part",)], [("a",), ("a.1.part",), ("a.part.1.part",)]),
        ([("a.part", "x"), ("a",)], [("a.part", "x"), ("a.1",)]),
        ([("stra\u00dfe",), ("STRASSE",)], [("stra\u00dfe",), ("STRASSE.1",)]),
        ([("a",), None, ("a",), None], [("a",), None, ("a.1",), None]),
        ([("x" * 250,), ("x" * 250,)], [("x" * 250,), ("x" * 248 + ".1",)]),
    ],
)
def test_clashing_files_are_renamed_and_the_first_one_stays(
    paths: list[tuple[str, ...] | None], expected: list[tuple[str, ...] | None]
) -> None:
    assert unique_paths(paths) == expected


def test_more_files_of_one_name_than_anyone_means_are_refused() -> None:
    assert len(set(unique_paths([("a",)] * (MAX_CLASHES + 1)))) == MAX_CLASHES + 1
    with pytest.raises(InputError, match="others want its name"):
        unique_paths([("a",)] * (MAX_CLASHES + 2))


def test_more_directories_than_any_torrent_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths_module, "MAX_DIRECTORIES", 100)
    assert unique_paths([(f"{n}", "x") for n in range(100)])
    with pytest.raises(InputError, match="more than 100 directories"):
        unique_paths([(f"{n}", "x") for n in range(101)])


def test_an_element_of_megabytes_is_cut_by_its_ends_alone() -> None:
    raw = b"\xff" * 10_000_000 + b".txt"
    assert safe_element(raw) == "_" * 251 + ".txt"
    assert safe_name(raw, "fa11", limit=250) == "fa11"
    assert len(printable([raw] * 10)) < 20_000


def test_raw_paths_are_shown_without_anything_a_terminal_obeys() -> None:
    assert printable([b"dir", "ü.txt".encode()]) == "dir/ü.txt"
    assert printable([b"\x1b[2J\n", b"\xff"]) == "\\x1b[2J\\n/\\xff"
    assert printable(["\u202e".encode()]).isprintable()


@calm
@given(raw_paths)
def test_every_path_stays_below_its_directory(raw: list[bytes]) -> None:
    path = safe_path(raw, {})
    usable(path)
    inside = os.path.normpath(os.path.join("/dest", *path))
    assert inside.startswith("/dest/")
    assert Path(inside).relative_to("/dest").parts == path
    assert safe_path(raw, {}) == path


@calm
@given(st.binary(max_size=300) | elements)
def test_every_name_is_one_usable_element(raw: bytes) -> None:
    usable((safe_name(raw, "f" * 40, limit=250),))


@calm
@given(st.lists(raw_paths, max_size=12))
def test_no_two_files_share_a_place_while_working_or_when_done(raw: list[list[bytes]]) -> None:
    memo: dict[bytes, str] = {}
    paths = [safe_path(elements, memo) for elements in raw]
    unique = [path for path in unique_paths(paths) if path is not None]
    assert len(unique) == len(paths)
    for path in unique:
        usable(path)
    final = ["/".join(path).lower() for path in unique]
    taken = final + [name + PART_SUFFIX for name in final]
    assert len(set(taken)) == len(taken)
    directories = {"/".join(path[:depth]).lower() for path in unique for depth in range(1, len(path))}
    assert directories.isdisjoint(taken)
    assert unique_paths(paths) == unique
