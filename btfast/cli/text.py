"""Numbers and names as people read them."""

from __future__ import annotations

_STEPS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """`1.50 GiB`: three digits, powers of 1024."""
    step = 0
    while count >= 1023.5 and step < len(_STEPS) - 1:
        count /= 1024
        step += 1
    if step == 0:
        return f"{count:.0f} B"
    return f"{count:.{2 if count < 9.995 else 1 if count < 99.95 else 0}f} {_STEPS[step]}"


def rate(count: float) -> str:
    return f"{size(count)}/s"


def duration(seconds: float) -> str:
    """`3.2 s`, `4 min 05 s`, `2 h 07 min`, `3 d 04 h`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for big, small, names in ((86400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if whole >= big:
            return f"{whole // big} {names[0]} {whole % big // small:02d} {names[1]}"
    return f"{whole} s"


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def file_line(index: int, length: int, path: str) -> str:
    """A file of a torrent, by the index that `--files` takes."""
    return f"{index:>8}  {size(length):>10}  {printable(path)}"


def printable(text: str) -> str:
    """The text on one line, with what a terminal could take for a command replaced."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
