"""Symbolic links of a torrent: which may be made, and what stands in them."""

from __future__ import annotations

from btfast.metainfo.files import File
from btfast.metainfo.links import MAX_STEPS, Leads, lead


def files(*paths: str, **links: str) -> list[File]:
    """Paths, and links by name (`__` stands for a slash) with their targets."""
    found = [File(path=tuple(path.split("/")), length=1) for path in paths]
    for name, target in links.items():
        found.append(File(path=tuple(name.split("__")), length=0, attr="l", symlink=tuple(target.split("/"))))
    return found


def test_links_lead_to_files_and_folders_of_the_torrent() -> None:
    found = lead(files("lib/a.so.1", lib__a="lib/a.so.1", x__y__z="lib", top="lib/a.so.1"))
    assert found == {
        1: Leads("../lib/a.so.1", ("lib", "a.so.1")),
        2: Leads("../../lib", ("lib",)),
        3: Leads("lib/a.so.1", ("lib", "a.so.1")),
    }


def test_links_may_lead_over_others() -> None:
    found = lead(files("lib/a", one="two", two="dir/a", dir="lib"))
    assert {leads.leads_to for leads in found.values() if leads is not None} == {("lib", "a"), ("lib",)}
    assert found[1] == Leads("two", ("lib", "a"))


def test_what_leads_nowhere_or_in_a_circle_is_not_made() -> None:
    found = lead(files("a", gone="b", below="a/b", me="me", ping="pong", pong="ping", deep="deep/x"))
    assert set(found.values()) == {None}


def test_a_chain_may_be_as_long_as_kernels_follow() -> None:
    names = {f"l{n}": f"l{n + 1}" for n in range(MAX_STEPS + 5)} | {f"l{MAX_STEPS + 5}": "a"}
    found = lead(files("a", **names))
    assert found[1] is None
    assert found[1 + 10] is not None


def test_a_pad_file_is_nothing_to_lead_to() -> None:
    assert lead([File(path=(".pad", "5"), length=5, pad=True), *files(x=".pad/5")]) == {1: None}
