"""The web seeds of one torrent: which there are, how many connections each gets, and what becomes of what they send."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable

from btfast.discovery.announce import printable, tracker_name
from btfast.engine.context import Context
from btfast.engine.fetching import Fetching
from btfast.engine.throttle import Line
from btfast.engine.web_answers import Verdicts
from btfast.engine.web_lane import Lane
from btfast.engine.web_memory import WebMemory
from btfast.errors import Error, IncompleteError, VerificationError
from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.reach import Reach
from btfast.metainfo.torrent import Torrent
from btfast.metainfo.web_files import WebFiles
from btfast.swarm.blocks import BlockRun
from btfast.swarm.pieces import HAVE, MISSING, WANTED
from btfast.swarm.rates import Rate
from btfast.swarm.web_range import Landed, Landing, WebRange, chained
from btfast.swarm.web_seed import LONG_WAY, Place, WebSeed

FIRST_NUMBER = 1 << 32  # above those of all peers
MOST = 50  # web seeds of one torrent
RANGE = 16 << 20  # bytes of one range
SHORTEST = 1 << 20
GUILTY = 2  # bad blocks that could only be told from good ones later
YOUNG = 20.0  # seconds that a fresh start, and a web seed that asked for patience, count as hope


class WebSeeds:
    """`report(seed, change, reason)` and `warn(message)` say what happens. `named`: the URLs of the user, `found`: others'."""

    def __init__(
        self, context: Context, torrent: Torrent, fetching: Fetching, line: Line | None, *, named: Iterable[str],
        found: Iterable[str], report: Callable[[WebSeed, str, str], None], warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        now = context.loop.time()
        self._context = context
        self._torrent = torrent
        self._fetching = fetching
        self.line = line
        self._report = report
        self.warn = warn
        self._hosts = context.web_hosts()
        self._pads = frozenset(number for number, file in enumerate(torrent.files) if file.pad)
        lengths = [file.length for file in torrent.files]
        self._files = WebFiles(torrent)
        self._verdicts = Verdicts(torrent.geometry, fetching.pieces, lengths, self._files, torrent.info_hash)
        self._seeds: dict[int, WebSeed] = {}
        self._lanes: dict[int, list[Lane]] = {}
        self._rates: dict[int, Rate] = {}
        self._guilty: dict[int, int] = {}
        self._told: set[int] = set()  # seeds that were reported as connected
        self._mentioned: Counter[int] = Counter()  # losses of files that were told, by seed
        self._dropped: set[int] = set()  # seeds whose end was told
        self._starving = False
        self.mtimes: dict[int, int] = {}  # of files that have none in the torrent, too: see finishing
        self._closed = False
        self._began = now
        self.last_payload = now
        self.received = 0
        numbers = itertools.count(FIRST_NUMBER)
        self._memory = WebMemory(context.settings, torrent.info_hash)
        known_versions = self._memory.load()
        wanted = [(url, False, True) for url in named]
        wanted += [(url, False, False) for url in (*found, *torrent.url_list)]
        wanted += [(url, True, False) for url in torrent.httpseeds]
        known: set[tuple[str, bool]] = set()
        for url, by_piece, by_user in wanted:
            if (url, by_piece) in known or len(known) >= MOST:
                continue
            known.add((url, by_piece))
            number = next(numbers)
            seed = WebSeed(number, url, torrent.geometry, fetching.picker, by_piece=by_piece, named=by_user)
            seed.validators.update(known_versions.get(url, {}))
            seed.remembered.update(seed.validators)
            self._seeds[number] = seed
            self._lanes[number] = []
            self._rates[number] = Rate(now)
            fetching.picker.peer_joined(number, seed.have, web=True)
        fetching.web = self

    # what others ask

    @property
    def seeds(self) -> list[WebSeed]:
        """All of them, also those that are of no use any more."""
        return list(self._seeds.values())

    @property
    def active(self) -> int:
        """How many have sent something and still may."""
        return sum(seed.received > 0 and not seed.exhausted for seed in self._seeds.values())

    @property
    def exhausted(self) -> bool:
        """Nothing is expected of any of them any more."""
        return all(seed.exhausted for seed in self._seeds.values())

    @property
    def waiting(self) -> bool:
        """One waits for its turn at a server that other torrents are fetched from."""
        return any(lane.waiting for lanes in self._lanes.values() for lane in lanes)

    def hopeful(self, now: float, recent: float) -> bool:
        """Whether something came lately, or may be about to."""
        if self._closed or not self._seeds:
            return False
        if now - self.last_payload < recent or self.waiting:
            return True
        return not self.exhausted and now - self._began < min(YOUNG, self._context.settings.peer_timeout)

    @property
    def trouble(self) -> str:
        """What went wrong last with the one that would be expected to do best."""
        for seed in self._seeds.values():
            if seed.gone or seed.trouble:
                return f"{name_of(seed)}: {seed.gone or seed.trouble}"
        return ""

    def place_of(self, seed: WebSeed, file: int) -> Place:
        """Where a seed has a file."""
        return self._verdicts.place(seed, file)

    def _lost(self, *, stale: bool) -> dict[int, str]:
        """Wanted files that are not complete, and are another version, or lacking, at a web seed; and why."""
        found: dict[int, str] = {}
        pieces, geometry = self._fetching.pieces, self._torrent.geometry
        for seed in self._seeds.values():
            for file, why in (seed.stale if stale else seed.lacking).items():
                if file not in found and any(
                    pieces.state(index) not in (MISSING, HAVE) for index in geometry.file_pieces(file)
                ):
                    found[file] = why
        return found

    def _listed(self, files: dict[int, str]) -> str:
        shown = [f"{self._torrent.file_path(file)} {why}" for file, why in sorted(files.items())[:5]]
        return "; ".join(shown) + (f" and {len(files) - 5} more" if len(files) > 5 else "")

    def verdict(self, name: str, *, peers: int, done: int, total: int) -> Error:
        """Why nothing more comes: files that are other ones by now, or servers and peers that give nothing."""
        stale = self._lost(stale=True)
        lacking = {file: why for file, why in self._lost(stale=False).items() if file not in stale}
        also = f"; incomplete: {self._listed(lacking)}" if lacking else ""
        if stale:
            count = "1 file is" if len(stale) == 1 else f"{len(stale)} files are"
            return VerificationError(
                f"{name}: {count} not what the torrent means at its web seed any more: {self._listed(stale)}{also}: get a "
                "new torrent, or take them as they are with --accept-stale",
                stale=[str(self._torrent.file_path(file)) for file in sorted(stale)], done=done, total=total,
            )  # fmt: skip
        wrong = next((seed for seed in self._seeds.values() if seed.gone and seed.stale), None)
        if wrong is not None:
            return VerificationError(f"{name}: {name_of(wrong)}: {wrong.gone}: get a new torrent", done=done, total=total)
        also += f"; {peers} peers are connected" if peers else "; no peers"
        why = self.trouble or "nothing comes from its web seeds"
        return IncompleteError(f"{name}: {why}{also}: try again later, or name a source with --peer", done=done, total=total)

    def name(self, number: int) -> str | None:
        """How to call a sender, None when it is no web seed."""
        seed = self._seeds.get(number)
        return name_of(seed) if seed is not None else None

    # web_side.WebSide

    def knows(self, number: int) -> bool:
        return number in self._seeds

    def pace(self, number: int, now: float) -> tuple[float, float]:
        seed = self._seeds[number]
        return max(self._rates[number].value(now), 1.0), 0.0 if seed.ready(now) else 60.0

    def take_back(self, number: int, run: BlockRun) -> None:
        for lane in self._lanes.get(number, ()):
            lane.cancel(run)

    # time

    def fill(self, now: float) -> None:
        """Gives every lane that may something to do."""
        if self._closed or self._fetching.pieces.complete:
            return
        for number, seed in self._seeds.items():
            lanes = self._lanes[number]
            if seed.ready(now):
                if not lanes:
                    self._open(seed)
                for lane in list(lanes):
                    lane.fill(now)

    def tick(self, now: float) -> None:
        """Once a second."""
        if self._closed:
            return
        for number, seed in self._seeds.items():
            lanes = self._lanes[number]
            for lane in lanes:
                lane.tick(now)
            if seed.ready(now):
                self._widen(seed, now)
        self.fill(now)

    def _widen(self, seed: WebSeed, now: float) -> None:
        lanes = self._lanes[seed.number]
        busy = sum(not lane.idle for lane in lanes)
        width = seed.width(self._rates[seed.number].value(now), len(lanes))
        if busy < len(lanes) or not self._fetching.pieces.count(WANTED):
            return
        while len(lanes) < width:
            self._open(seed)
        while len(lanes) > max(1, width) and (idle := next((lane for lane in lanes if lane.idle), None)):
            idle.close()
            lanes.remove(idle)

    def _open(self, seed: WebSeed) -> None:
        self._lanes[seed.number].append(
            Lane(self._context, self._hosts, seed, self._verdicts, self, self.line)
        )

    # web_lane.Owner

    def next_block(self, index: int, block: int) -> int:
        return self._fetching.picker.next_block(index, block)

    def next_ranges(self, seed: WebSeed, at: int = -1, block: int = -1) -> list[WebRange]:
        fetching = self._fetching
        geometry = self._torrent.geometry
        if at < 0 and not seed.ranges:
            at = fetching.pieces.next_wanted(0)
        lanes = sum(len(lanes) for lanes in self._lanes.values())
        share = fetching.pieces.bytes_left // (2 * max(1, lanes))
        size = max(min(RANGE, max(SHORTEST, share), self._context.arena.size // 16), BLOCK)
        blocks = max(size, min(geometry.piece_length, RANGE)) // BLOCK or 1
        runs, aside, self._starving = fetching.range_for(seed.number, blocks, at, block)
        return [WebRange(geometry, chain, self._pads, aside=aside) for chain in chained(runs, geometry)]

    def room_for(self, landing: Landing) -> memoryview:
        return self._fetching.room_for(landing.index, landing.begin, landing.length)

    def landed(self, seed: WebSeed, landed: Landed) -> None:
        now = self._context.loop.time()
        index, begin, length, data = landed
        if seed.number not in self._told:
            self._told.add(seed.number)
            self._report(seed, "connected", "")
        seed.handle_progress(length)
        while seed.newly_dated:
            file = seed.newly_dated.pop()
            if file not in self.mtimes and (when := http_date(seed.modified[file])) is not None:
                self.mtimes[file] = int(when)
        self._rates[seed.number].add(now, length)
        self.last_payload = now
        self.received += length
        self._fetching.handle_landed(seed.number, index, begin, length, data, now)
        if seed.latency > LONG_WAY and len(self._lanes[seed.number]) == 1:
            self._widen(seed, now)  # a long way: its window would not fill it

    def wasted(self, count: int) -> None:
        self._fetching.handle_wasted(count)

    def returned(self, seed: WebSeed, runs: list[BlockRun]) -> None:
        self._fetching.handle_returned(seed.number, runs)

    def starving(self, seed: WebSeed) -> bool:
        return self._starving

    def may_reach(self, seed: WebSeed, reach: Reach, url: str) -> str:
        # Systems connect addresses that are nowhere (0.0.0.0, ::) to this machine.
        if reach is Reach.PUBLIC or seed.named or "?" not in url:
            return ""
        return "a torrent may not name it: a query to a server of the local network could do anything there"

    def changed(self, seed: WebSeed) -> None:
        """It has lost files, or is gone: whoever reads the warnings hears of it once."""
        if seed.hopelessly_wrong:
            seed.drop("sends other data than the torrent means")
        for file in seed.changed:
            self.warn(f"web seed {name_of(seed)}: {self._torrent.file_path(file)}: has changed there since an earlier run")
        seed.changed.clear()
        lost, seed.newly_lost = seed.newly_lost, []
        for file in lost:
            self._mentioned[seed.number] += 1
            if self._mentioned[seed.number] <= 5:
                why = seed.lacking.get(file) or seed.stale[file]
                self.warn(f"web seed {name_of(seed)}: {self._torrent.file_path(file)}: {why}")
            elif self._mentioned[seed.number] == 6:
                self.warn(f"web seed {name_of(seed)}: more files are missing or other ones there")
        if seed.gone and seed.number not in self._dropped:
            self._dropped.add(seed.number)
            self.warn(f"web seed {name_of(seed)}: {seed.gone}: not used any more")
            self._end(seed, "disconnected", seed.gone)

    def _end(self, seed: WebSeed, change: str, reason: str) -> None:
        for lane in self._lanes[seed.number]:
            lane.close()
        self._lanes[seed.number].clear()
        if seed.number in self._told or change == "banned":
            self._told.discard(seed.number)
            self._report(seed, change, reason)

    # verification

    def handle_right(self, index: int, senders: set[int]) -> None:
        """A piece has the right hash, and these sent it."""
        if len(senders) == 1:
            seed = self._seeds.get(next(iter(senders)))
            if seed is not None:
                seed.handle_right(index)

    def handle_wrong(self, index: int, senders: list[int]) -> bool:
        """A piece has the wrong hash. Who sent all of it is to blame; its files may be other ones by now.

        False when it was no web seed, or not one alone.
        """
        if len(senders) != 1 or (seed := self._seeds.get(senders[0])) is None:
            return False
        for file in seed.handle_wrong(index, self._newer(seed, index)):
            seed.handle_stale(file, "differs there from what the torrent means")
        if seed.hopelessly_wrong or seed.have.none():
            seed.drop("sends other data than the torrent means")
        self.changed(seed)
        return True

    def handle_guilty(self, number: int) -> bool:
        """A sender of a bad block that became known later; False when it is no web seed."""
        seed = self._seeds.get(number)
        if seed is None:
            return False
        self._guilty[number] = self._guilty.get(number, 0) + 1
        if self._guilty[number] >= GUILTY:
            seed.drop("sends other data than the torrent means")
            self.changed(seed)
        return True

    def _newer(self, seed: WebSeed, index: int) -> set[int]:
        """Of the files of a piece those that the server has changed since the torrent was made."""
        made = self._torrent.creation_date
        if made is None:
            return set()
        files = [file for file, _, _ in self._torrent.geometry.piece_spans(index) if file in seed.modified]
        return {file for file in files if (then := http_date(seed.modified[file])) is not None and then > made}

    # the end

    def close(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        complete = self._fetching.pieces.complete
        versions = {} if complete else {seed.url: seed.validators for seed in self._seeds.values() if seed.validators}
        self._memory.save(versions)
        for seed in self._seeds.values():
            self._end(seed, "disconnected", reason)


def http_date(value: bytes) -> float | None:
    """Seconds since 1970 of a Last-Modified, None where it is none."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def name_of(seed: WebSeed) -> str:
    """For messages: queries and names in a URL may be secrets."""
    path = seed.url.partition("://")[2].partition("?")[0].partition("/")[2]
    return f"{tracker_name(seed.url)}/{printable(path.encode('utf-8', 'replace'))}"[:200]
