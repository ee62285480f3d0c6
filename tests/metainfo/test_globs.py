"""Globs: what each names, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from btfast.errors import InputError
from btfast.metainfo.globs import MAX_GLOB, matcher

PATHS = ["t/a.iso", "t/docs/a.txt", "t/docs/deep/b.txt", "t/docs/deep/[x].md", "t/tall/a.iso", "t/README"]


@pytest.mark.parametrize(
    ("glob", "named"),
    [
        ("*.iso", ["t/a.iso", "t/tall/a.iso"]),
        ("/*.iso", ["t/a.iso"]),
        ("docs", ["t/docs/a.txt", "t/docs/deep/b.txt", "t/docs/deep/[x].md"]),
        ("docs/", ["t/docs/a.txt", "t/docs/deep/b.txt", "t/docs/deep/[x].md"]),
        ("README/", []),
        ("docs/*.txt", ["t/docs/a.txt"]),
        ("docs/**/*.txt", ["t/docs/a.txt", "t/docs/deep/b.txt"]),
        ("docs/**", ["t/docs/a.txt", "t/docs/deep/b.txt", "t/docs/deep/[x].md"]),
        ("t/docs/deep", ["t/docs/deep/b.txt", "t/docs/deep/[x].md"]),
        ("**/deep/b*", ["t/docs/deep/b.txt"]),
        ("t", []),
        ("t*", ["t/tall/a.iso"]),
        ("readme", []),
        ("READM?", ["t/README"]),
        ("[ab].txt", ["t/docs/a.txt", "t/docs/deep/b.txt"]),
        ("[!a].txt", ["t/docs/deep/b.txt"]),
        ("[a-c].t[x-x]t", ["t/docs/a.txt", "t/docs/deep/b.txt"]),
        ("[c-a].txt", []),
        ("[!c-a].txt", ["t/docs/a.txt", "t/docs/deep/b.txt"]),
        ("[[]x].md", ["t/docs/deep/[x].md"]),
        ("[x.md", []),
        ("docs[/]a.txt", []),
        ("a.is+", []),
    ],
)
def test_what_a_glob_names(glob: str, named: list[str]) -> None:
    names = matcher([glob], "t/")
    assert [path for path in PATHS if names(path)] == named


def test_several_globs_name_what_any_of_them_does() -> None:
    names = matcher(["README", "*.md"], "t/")
    assert [path for path in PATHS if names(path)] == ["t/docs/deep/[x].md", "t/README"]
    assert not any(map(matcher([], "t/"), PATHS))


def test_the_name_of_a_single_file_is_its_path() -> None:
    assert matcher(["*.iso"])("a.iso")
    assert not matcher(["*.iso"])("a.iso.txt")


@pytest.mark.parametrize("glob", ["", "/", "///", "a\0b", "x" * (MAX_GLOB + 1)])
def test_what_is_no_glob_is_refused(glob: str) -> None:
    with pytest.raises(InputError, match="names nothing"):
        matcher([glob])


@given(st.text(alphabet="ab*?[]!-/.^\\&~|", min_size=1, max_size=20))
def test_any_text_is_a_glob_or_is_refused(glob: str) -> None:
    try:
        names = matcher([glob], "t/")
    except InputError:
        return
    for path in PATHS:
        names(path)


@given(st.text(min_size=1, max_size=20).filter(lambda text: not set(text) & set("*?[/\0")))
@example("x")
@example("t")
def test_what_holds_no_sign_names_itself_alone(name: str) -> None:
    names = matcher([name], "t/")
    folder = "a folder of another name"  # longer than any name: one of the same name would be meant itself
    assert names(f"t/{folder}/{name}")
    assert not names(f"t/{folder}/{name}y")
