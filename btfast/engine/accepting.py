"""`--accept-stale`: files that are another version by now are taken from their web server as they are, and not verified.

This begins when nothing else is expected to come. What is taken replaces the unfinished file under its final name, with a
warning; a file that only shares a piece with it cannot be verified either, and is taken if it is asked for as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import zlib
from collections.abc import Callable

from btfast.engine.context import Context
from btfast.engine.http_hosts import joined
from btfast.engine.web_connection import WebConnection
from btfast.engine.web_seeds import WebSeeds, http_date, name_of
from btfast.errors import Error, InputError, RemoteError, StorageError, VerificationError
from btfast.metainfo.torrent import Torrent
from btfast.storage.identity import FINAL, Identity, identity_of
from btfast.storage.layout import PART, Layout
from btfast.storage.messages import TakenFile
from btfast.swarm.web_seed import WebSeed
from btfast.wire.http import UNKNOWN, Head

REDIRECTS = 5
SILENT = 30.0  # seconds without a byte
TURN = 0.2  # seconds between two looks for a place at a host
_REDIRECTING = frozenset((301, 302, 303, 307, 308))


class Accepting:
    """`chosen`: the files to take; `left`: those that stay incomplete for lack of a glob. `took` is called for each that was
    taken, when it is durable.
    """

    def __init__(
        self, context: Context, torrent: Torrent, layout: Layout, web: WebSeeds, chosen: list[int], left: list[int],
        error: Error, took: Callable[[TakenFile, Identity], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._torrent = torrent
        self._layout = layout
        self._web = web
        self._error = error
        self._took = took
        self._chosen = chosen
        self._left = left

    idle = False  # web_hosts.Holder: whenever it has a place

    def give_way(self) -> None: ...

    async def run(self) -> None:
        """Raises btfast.Error when a file cannot be taken, or when others stay incomplete."""
        for file in self._chosen:
            await self._take(file)
        if self._left:
            listed = ", ".join("/".join(self._layout.paths[file]) for file in self._left[:5])
            more = f" and {len(self._left) - 5} more" if len(self._left) > 5 else ""
            raise VerificationError(
                f"{self._torrent.name}: {len(self._left)} of its files stay incomplete: {listed}{more}: get a new torrent, or "
                "take them as they are with --accept-stale",
                **self._error.facts,
            )

    async def _take(self, file: int) -> None:
        failure: Error = self._error
        for seed in self._web.seeds:
            if seed.by_piece or file in seed.lacking:
                continue
            try:
                await self._download(seed, file)
            except RemoteError as error:
                failure = error
                continue
            except OSError as error:
                path = self._layout.path(file)
                why = f"{path}: {error.strerror}: mend this and run it again"
                raise StorageError(why, errno=error.errno, path=path) from None
            return
        raise failure

    async def _download(self, seed: WebSeed, file: int) -> None:
        name = self._layout.paths[file][-1]
        draft = f".{zlib.crc32(os.fsencode(name)):08x}.stale{PART}"  # what is verified of the file stays until all has come
        parent = self._layout.parent(file, create=True)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(draft, flags, 0o666, dir_fd=parent)
            try:
                body = await self._receive(seed, file, fd)
                self._layout.sign(fd)  # a later run may have a web server with the right one
                if body.modified is not None:
                    os.utime(fd, (body.modified, body.modified))
                os.fsync(fd)
                identity = identity_of(os.fstat(fd), FINAL)
            except BaseException:
                os.unlink(draft, dir_fd=parent)
                raise
            finally:
                os.close(fd)
            os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name + PART, dir_fd=parent)
            os.fsync(parent)
        finally:
            os.close(parent)
        self._took(TakenFile(file, name_of(seed), body.version), identity)
        expected = self._layout.lengths[file]
        self._web.warn(
            f"{self._layout.path(file)}: taken as it is at {name_of(seed)}: {body.received} bytes, not verified (the torrent "
            f"means {expected} bytes)"
        )

    async def _receive(self, seed: WebSeed, file: int, fd: int) -> _Body:
        """The whole body behind the file's URL, redirects followed, into `fd`. RemoteError, OSError."""
        hosts, loop = self._context.web_hosts(), self._context.loop
        url, before = self._web.place_of(seed, file)
        what = f"{self._torrent.name}: {name_of(seed)}"
        for _ in range(REDIRECTS + 1):
            try:
                host, target = hosts.locate(url, what)
            except InputError as error:
                raise RemoteError(str(error)) from None
            body = _Body(fd, loop)

            def make(body: _Body = body) -> WebConnection:
                return WebConnection(loop, body, self._web.line)

            while not hosts.enter(host, self):
                await asyncio.sleep(TURN)
            connection: WebConnection | None = None
            try:
                try:
                    connection = await hosts.connect(host, before, make)
                except RemoteError as error:
                    raise RemoteError(f"{what}: {error}") from None
                refused = self._web.may_reach(seed, connection.reach, url)
                if refused:
                    raise RemoteError(f"{what}: {refused}: name it with --web-seed where you trust it")
                connection.send(f"GET {host.origin}{target}{host.head}Accept-Encoding: identity\r\n\r\n".encode("ascii"))
                while not body.done.done():
                    before_wait = body.received
                    await asyncio.wait((body.done,), timeout=SILENT)
                    if not body.done.done() and body.received == before_wait:
                        raise RemoteError(f"{what}: sent nothing for {SILENT:g} s: try again later")
                try:
                    location = body.done.result()
                except RemoteError as error:
                    raise RemoteError(f"{what}: {error}: try again later") from None
            finally:
                if connection is not None:
                    connection.abort()
                hosts.leave(host, self)
            if not location:
                return body
            before = connection.reach if before is None else max(before, connection.reach)
            url = joined(url, location.encode(), what)
        raise RemoteError(f"{what}: redirects more than {REDIRECTS} times: check the address")


class _Body:
    """web_connection.Owner: writes a body down. `done`: where it was redirected to, "" when all of it has come."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = fd
        self._location = ""
        self._taking = False
        self.done: asyncio.Future[str] = loop.create_future()
        self.received = 0
        self.modified: float | None = None
        self.version = ""  # what the server calls it

    def handle_head(self, head: Head) -> None:
        location = head.headers.get(b"location", b"").decode("utf-8", "replace").strip()
        if head.status in _REDIRECTING and location.isprintable() and location:
            self._end(location)
        elif head.status != 200:
            self._fail(RemoteError(f"HTTP {head.status}"))
        elif head.coded or head.length == UNKNOWN:
            self._fail(RemoteError("does not say how long the file is"))
        elif head.length > (free := _free(self._fd)):
            self._fail(OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {head.length} bytes ({free} are free)"))
        else:
            self._taking = True
            self.modified = http_date(head.headers.get(b"last-modified", b""))
            self.version = head.validator.decode("ascii")

    def place(self, most: int) -> memoryview | None:
        return None

    def handle_placed(self, count: int) -> None: ...

    def handle_body(self, data: memoryview) -> None:
        if not self._taking or self.done.done():
            return
        self.received += len(data)
        try:
            while len(data):
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._fail(error)

    def handle_end(self) -> None:
        self._end("")

    def handle_lost(self, why: str) -> None:
        self._fail(RemoteError(why or "closed the connection without an answer"))

    def _end(self, location: str) -> None:
        if not self.done.done():
            self.done.set_result(location)

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def _free(fd: int) -> int:
    """Bytes that may still be written where the file is."""
    space = os.fstatvfs(fd)
    return space.f_bavail * space.f_frsize
