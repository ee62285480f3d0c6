"""Where the symbolic links of a torrent lead to (BEP 47): only to its own files and folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from btfast.metainfo.files import File

MAX_STEPS = 40  # links on the way to one thing, as kernels have it

Path = tuple[str, ...]


class Leads(NamedTuple):
    """A link that may be made. `text`: what stands in it; `leads_to`: behind all links, below the torrent's folder."""

    text: str
    leads_to: Path


def lead(files: Sequence[File]) -> dict[int, Leads | None]:
    """The links of a torrent; None for one that must not be made: it leads to nothing of the torrent, or in a circle."""
    links = {file.path: file.symlink for file in files if file.symlink is not None}
    if not links:
        return {}
    there: set[Path] = {()}
    for file in files:
        if not file.pad and file.symlink is None:
            there.update(file.path[:depth] for depth in range(1, len(file.path) + 1))
    found: dict[int, Leads | None] = {}
    for number, file in enumerate(files):
        if file.symlink is None:
            continue
        end = _follow(file.symlink, links)
        found[number] = None
        if end is not None and end in there:
            found[number] = Leads("/".join((*[".."] * (len(file.path) - 1), *file.symlink)), end)
    return found


def _follow(path: Path, links: dict[Path, Path]) -> Path | None:
    """The path with no link on its way; None for a circle."""
    for _ in range(MAX_STEPS):
        for depth in range(1, len(path) + 1):
            target = links.get(path[:depth])
            if target is not None:
                path = (*target, *path[depth:])
                break
        else:
            return path
    return None
