"""Questions under way: an answer counts when its transaction id and its sender are those of a question (BEP 5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from btfast.discovery.dht.endpoints import Endpoint, host_key
from btfast.discovery.dht.krpc import Contact, Reply

SHORT = 1.0  # seconds after which a question does not hold up others any more
LATE = 2.5  # seconds after which a search that has had other answers ends without this one
FINAL = 6.0  # seconds after which no answer is waited for
ID_BYTES = 4  # two would do to tell questions apart; four are harder to guess
MAX_QUESTIONS = 2000  # under way


class Asker(Protocol):
    """Who wants to know."""

    def handle_reply(self, question: Question, contact: Contact, reply: Reply, now: float) -> None: ...

    def handle_slow(self, question: Question, now: float) -> None: ...

    def handle_failure(self, question: Question, now: float) -> None: ...


class Question:
    """One query of ours. `about`: what the asker wants back with the answer."""

    __slots__ = ("about", "asker", "endpoint", "node_id", "open", "sent", "transaction")

    def __init__(self, transaction: bytes, endpoint: Endpoint, node_id: bytes, asker: Asker, about: object) -> None:
        self.transaction = transaction
        self.endpoint = endpoint
        self.node_id = node_id
        self.asker = asker
        self.about = about
        self.sent = 0.0
        self.open = True


class Transactions:
    """`random(n)` gives n random bytes."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._open: dict[bytes, Question] = {}
        self._hosts: dict[bytes, int] = {}
        self._short: deque[Question] = deque()
        self._late: deque[Question] = deque()
        self._final: deque[Question] = deque()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        return len(self._open) >= MAX_QUESTIONS

    def asked(self, endpoint: Endpoint) -> bool:
        """Whether something of this host's is awaited."""
        return host_key(endpoint) in self._hosts

    def begin(self, endpoint: Endpoint, node_id: bytes, asker: Asker, about: object, now: float) -> Question:
        """A new question; its transaction id is free."""
        transaction = self._random(ID_BYTES)
        while transaction in self._open:
            transaction = self._random(ID_BYTES)
        question = Question(transaction, endpoint, node_id, asker, about)
        question.sent = now
        self._open[transaction] = question
        key = host_key(endpoint)
        self._hosts[key] = self._hosts.get(key, 0) + 1
        self._short.append(question)
        self._final.append(question)
        return question

    def take(self, transaction: bytes, endpoint: Endpoint) -> Question | None:
        """The question that this is the answer to; None for what nobody asked, or asked somebody else."""
        question = self._open.get(transaction)
        if question is None or question.endpoint != endpoint:
            return None
        self._close(question)
        return question

    def _close(self, question: Question) -> None:
        question.open = False
        del self._open[question.transaction]
        key = host_key(question.endpoint)
        self._hosts[key] -= 1
        if not self._hosts[key]:
            del self._hosts[key]

    def poll_slow(self, now: float) -> Question | None:
        """One that has had no answer for SHORT seconds, each once; and once again after LATE seconds."""
        for waiting, patience, behind in ((self._short, SHORT, self._late), (self._late, LATE, None)):
            while waiting and (not waiting[0].open or waiting[0].sent + patience <= now):
                question = waiting.popleft()
                if question.open:
                    if behind is not None:
                        behind.append(question)
                    return question
        return None

    def poll_failed(self, now: float) -> Question | None:
        """One that has had no answer for FINAL seconds; it is closed."""
        while self._final and (not self._final[0].open or self._final[0].sent + FINAL <= now):
            question = self._final.popleft()
            if question.open:
                self._close(question)
                return question
        return None

    def deadline(self) -> float | None:
        """When one of the polls has something next."""
        times = []
        for waiting, patience in ((self._short, SHORT), (self._late, LATE), (self._final, FINAL)):
            while waiting and not waiting[0].open:
                waiting.popleft()
            if waiting:
                times.append(waiting[0].sent + patience)
        return min(times, default=None)
