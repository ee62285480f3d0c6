"""What callers of the Python API may hand in as `progress`: a callable or a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Bar(Protocol):
    """A progress bar in tqdm's manner."""

    total: float | None

    def update(self, n: int, /) -> object: ...


ProgressLike = Callable[[int, int], object] | Bar


def shower(progress: ProgressLike | None) -> Callable[[int, int], object]:
    """A callable `(done, total)` that shows progress there; nowhere for None."""
    if progress is None:
        return lambda done, total: None
    if isinstance(progress, Bar):
        bar, shown = progress, 0

        def show(done: int, total: int) -> None:
            nonlocal shown
            bar.total = total
            if done != shown:
                bar.update(done - shown)
                shown = done

        return show
    return progress
