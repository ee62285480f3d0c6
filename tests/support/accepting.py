"""A listening socket of a test, each of whose connections is served in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Life = Callable[[], None]  # the whole of a connection's; an OSError ends it
Begin = Callable[[socket.socket], Life]


class Accepting:
    """Listens from the start; accepts from `start` to `stop`, which ends every connection and waits for all threads.

    `begin` is called for one connection after the other, in the order in which they came.
    """

    def __init__(self, begin: Begin, host: str = "127.0.0.1") -> None:
        self._begin = begin
        self._listening = socket.create_server((host, 0))
        self.port: int = self._listening.getsockname()[1]
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._start(self._accept)

    def stop(self) -> None:
        with self._lock:
            self.stopping.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self._listening.getsockname()[:2]).close()  # the one that accepts looks up
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        self._listening.close()

    def adopt(self, sock: socket.socket, begin: Begin) -> None:
        """Serves a connection, also one that was made elsewhere."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:  # or it would begin behind the back of one who stops
            if self.stopping.is_set():
                sock.close()
                return
            self._sockets.append(sock)
            self._start(self._live, sock, begin(sock))

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listening.accept()
            if self.stopping.is_set():
                sock.close()
                return
            self.adopt(sock, self._begin)

    @staticmethod
    def _live(sock: socket.socket, life: Life) -> None:
        with sock, contextlib.suppress(OSError):
            life()


@contextlib.contextmanager
def nobody(host: str = "127.0.0.1") -> Iterator[int]:
    """A port where nobody listens, and nobody else can begin to as long as the block lasts."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as reserved:
        reserved.bind((host, 0))
        yield reserved.getsockname()[1]
