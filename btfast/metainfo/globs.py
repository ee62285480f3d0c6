"""Globs over the paths of a torrent's files.

A glob without `/` names an element: a file anywhere, or a folder and all that is in it. One with `/` names a path from
the torrent's folder on, whose name may stand in front of it. `*` and `?` stop at `/`, `**` does not, `[a-z]` and `[!a-z]`
are sets; letters are as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from btfast.errors import InputError

MAX_GLOB = 4096  # characters


def matcher(globs: Sequence[str], root: str = "") -> Callable[[str], object]:
    """A test of paths: true for those that one of `globs` names. Raises InputError.

    `root`: what stands in front of all of them, the torrent's folder and a slash.
    """
    if not globs:
        return lambda path: None
    parts = []
    for glob in globs:
        if not glob.strip("/") or len(glob) > MAX_GLOB or "\0" in glob:
            raise InputError(f"glob {glob[:80]!r}: names nothing: write something like '*.iso' or 'docs/**'", glob=glob)
        inside = "/.+" if glob.endswith("/") else "(?:/.*)?"
        body = _translate(glob.strip("/"))
        front = f"(?:{re.escape(root)})?" if "/" in glob.rstrip("/") else f"{re.escape(root)}(?:.*/)?"
        parts.append(f"{front}{body}{inside}")
    return re.compile("|".join(f"(?:{part})" for part in parts), re.DOTALL).fullmatch


def _translate(glob: str) -> str:
    made: list[str] = []
    at = 0
    while at < len(glob):
        character = glob[at]
        if glob.startswith("**/", at):
            made.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            made.append(".*")
            at += 2
        elif character == "[" and (end := glob.find("]", at + 2 + (glob[at + 1 : at + 2] == "!"))) > 0:
            made.append(_set(glob[at + 1 : end]))
            at = end + 1
        else:
            made.append({"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character))
            at += 1
    return "".join(made)


def _set(inside: str) -> str:
    """One character of a set, never `/`; a range that runs backwards holds nothing."""
    negated = inside[0] == "!"
    members, at = [], int(negated)
    while at < len(inside):
        first, last = inside[at], inside[at]
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            last = inside[at + 2]
            at += 2
        at += 1
        if first <= last:
            members.append(f"{re.escape(first)}-{re.escape(last)}")
    if not members:
        return "[^/]" if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{''.join(members)}]"
