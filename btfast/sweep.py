"""All cores over what is on disk: the threads that share a plan's pieces, and its progress.

Threads, not worker processes: no byte of payload passes through Python, so that the GIL is free nearly all the time, and
the start of a worker process costs as much CPU as hashing some hundred MiB.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from btfast._plan import Plan
from btfast._sweep import Sweep

_LANES = 16
_BATCH = 16 << 20  # bytes that a thread takes at a time, and more where sixteen pieces are more
_TRACKS = 16  # runs of files that it takes at a time

_PATIENCE = 4.0  # seconds for threads that read from a disk which does not answer

Problem = tuple[int, int, int]  # file, errno (0: it ended early), offset


class Swept(NamedTuple):
    """What came of a sweep besides what stands in its plan."""

    problems: list[Problem]  # the first of each file, though not of all where many files have one
    bytes_read: int  # from files
    cold: bool  # whether the disk had to be waited for


_Work = Callable[[Sweep], Iterable[Problem]]


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sweep_pieces(
    plan: Plan, pieces: Sequence[range], threads: int = 0, progress: Callable[[int], object] = lambda pieces: None
) -> Swept:
    """Reads and hashes these pieces, `threads` of them (0: one a core) at a time; what came of each is in the plan.

    `progress` is told now and then in the calling thread how many pieces are done. What it raises, KeyboardInterrupt too,
    ends the sweep.
    """
    threads = threads or core_count()
    size = max(_LANES, _BATCH // plan.piece_length // _LANES * _LANES)
    size = min(size, max(1, -(-sum(map(len, pieces)) // threads)))
    batches = [part[start : start + size] for part in pieces for start in range(0, len(part), size)]

    def work_of(number: int) -> _Work:
        def work(sweep: Sweep) -> list[Problem]:
            if sweep.cold and number + threads < len(batches):
                later = batches[number + threads]
                sweep.prefetch(later.start, min(len(later), _LANES))
            return sweep.pieces(batches[number].start, len(batches[number]))

        return work

    return _share(plan, [(work_of(number), len(batch)) for number, batch in enumerate(batches)], threads, progress)


def sweep_tracks(
    plan: Plan, tracks: Sequence[tuple[int, int]], threads: int = 0, progress: Callable[[int], object] = lambda tracks: None
) -> Swept:
    """The same for runs of whole files (first, last + 1), whose SHA-256 is wanted; `progress` is told of runs."""
    threads = threads or core_count()
    size = min(_TRACKS, max(1, -(-len(tracks) // threads)))
    jobs: list[tuple[_Work, int]] = []
    for start in range(0, len(tracks), size):
        part = tracks[start : start + size]
        jobs.append((lambda sweep, part=part: sweep.tracks(part), len(part)))  # type: ignore[misc]
    return _share(plan, jobs, threads, progress)


def _share(
    plan: Plan, jobs: Sequence[tuple[_Work, int]], threads: int, progress: Callable[[int], object]
) -> Swept:
    """Runs the jobs, each of so many units, in threads; `progress` hears of the units that are done."""
    news: SimpleQueue[int | list[Problem] | BaseException | Sweep] = SimpleQueue()
    order = iter(jobs)
    lock = threading.Lock()

    def take() -> Iterator[tuple[_Work, int]]:
        while True:
            with lock:
                job = next(order, None)
            if job is None:
                return
            yield job

    def run() -> None:
        sweep = Sweep(plan)
        try:
            for work, units in take():
                if problems := list(work(sweep)):
                    news.put(problems)
                news.put(units)
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread, which raises it
            news.put(error)
        sweep.close()
        news.put(sweep)

    workers = [threading.Thread(target=run, name="btfast.sweep", daemon=True) for _ in range(min(threads, len(jobs)))]
    found: dict[int, Problem] = {}
    failure: BaseException | None = None
    done = bytes_read = 0
    cold = False
    try:
        for worker in workers:
            worker.start()
        left = len(workers)
        while left:
            item = news.get()
            if isinstance(item, Sweep):
                left -= 1
                bytes_read += item.bytes_read
                cold = cold or item.cold
            elif isinstance(item, int):
                done += item
                progress(done)
            elif isinstance(item, list):
                for problem in item:
                    found.setdefault(problem[0], problem)
            else:
                failure = failure or item
                plan.stop()
    except BaseException:
        plan.stop()
        raise
    finally:
        for worker in workers:
            if worker.ident is not None:
                worker.join(_PATIENCE)
    if failure is not None:
        raise failure
    return Swept(sorted(found.values()), bytes_read, cold)
