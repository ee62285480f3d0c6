"""A hybrid torrent whose v1 and v2 halves describe different data (BEP 52)."""

from __future__ import annotations

from btfast.errors import VerificationError


def halves_differ(name: str, index: int) -> VerificationError:
    """The error for a piece of which data satisfied one half's hash and not the other's."""
    return VerificationError(
        f"{name}: piece {index} is right by one half of this hybrid torrent and wrong by the other, so nothing can be right "
        "by both: get the torrent anew from where it came from",
        index=index,
    )
