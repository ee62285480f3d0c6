"""Hashing pieces beside the writing of others: a thread of the worker that does nothing but that.

It sees bytes and digests only. Files, orders and rings stay with the thread that had them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from btfast.storage.judging import Shape, judge_pieces

if TYPE_CHECKING:
    from queue import SimpleQueue

_Question = tuple[Sequence[memoryview], Sequence[bytes], dict[int, Shape]]


class Ahead:
    """One question at a time: `begin`, then `verdicts`. The thread is there from the first one until `close`."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Question | None] | None = None
        self._answers: SimpleQueue[list[int] | BaseException | None]
        self._waiting = False

    def begin(self, payloads: Sequence[memoryview], expected: Sequence[bytes], shapes: dict[int, Shape]) -> None:
        """As judge_pieces; `shapes` by the places of those that have one. The bytes must stay until `verdicts` returns."""
        if self._asked is None:
            # Here: few workers ever get as much as that.
            import threading
            from queue import SimpleQueue

            self._asked, self._answers = SimpleQueue(), SimpleQueue()
            threading.Thread(target=self._run, args=(self._asked,), name="btfast.ahead", daemon=True).start()
        self._waiting = True
        self._asked.put((payloads, expected, shapes))

    def verdicts(self) -> list[int]:
        """Waits for them. Raises what judging has raised."""
        self._waiting = False
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer

    def close(self) -> None:
        """Nobody reads the payloads any more when it returns."""
        if self._asked is None:
            return
        if self._waiting:
            self.verdicts()
        self._asked.put(None)
        self._answers.get()
        self._asked = None

    def _run(self, asked: SimpleQueue[_Question | None]) -> None:
        while (question := asked.get()) is not None:
            payloads, expected, shapes = question
            try:
                self._answers.put(judge_pieces(payloads, expected, shapes.__getitem__))
            except BaseException as error:  # noqa: BLE001 - carried to the thread that waits, which raises it
                self._answers.put(error)
            del question, payloads
        self._answers.put(None)
