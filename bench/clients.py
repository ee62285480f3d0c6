"""The downloaders that are compared: whether each is here, and how it is told to do a job."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from bench.payload import Payload
from bench.tools import ROOT, ToolError, build

PEER_SCRIPT = Path(__file__).with_name("libtorrent_peer.py")
BULK_JOBS = 200  # torrents at once, for aria2; btfast has a default that suits


class Job(NamedTuple):
    """What to download and where from: btfast is given the peers, or where `announce` is set only the tracker."""

    payloads: tuple[Payload, ...]
    peers: tuple[str, ...]
    tracker: str  # its URL; it names the same peers
    announce: bool
    folder: Path
    magnets: bool = False  # only links are given, and .torrent files are wanted
    encrypted: bool = False  # all is to be encrypted
    web: str = ""  # the URL of the only payload at the only source


class Client(Protocol):
    """A downloader. `missing` says why it cannot run here, or None; `version` is for the record."""

    name: str

    def missing(self) -> str | None: ...
    def version(self) -> str: ...
    def command(self, job: Job) -> list[str]: ...


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip().splitlines() or [""])[0] if done.returncode == 0 else None


def _listed(job: Job) -> str:
    """A list of all sources with their tracker, .torrent files or magnet links, a line each."""
    sources = [payload.magnet(job.tracker) for payload in job.payloads] if job.magnets else _announced(job)
    path = job.payloads[0].torrent.with_name("list.txt")
    path.write_text("".join(f"{source}\n" for source in sources))
    return str(path)


def _announced(job: Job) -> list[str]:
    return [str(payload.announced(job.tracker)) for payload in job.payloads]


class Btfast:
    def __init__(self, name: str = "btfast", *options: str) -> None:
        self.name = name
        self.options = options

    def missing(self) -> str | None:
        return None if self.version() else "`python -m btfast --version` fails: build it first"

    def version(self) -> str:
        return _first_line([sys.executable, "-m", "btfast", "--version"]) or ""

    def command(self, job: Job) -> list[str]:
        command = [sys.executable, "-m", "btfast", "get", "-o", str(job.folder), "--no-dht", "-q", *self.options]
        if job.encrypted:
            command += ["--encryption", "require"]
        if job.magnets:
            command += ["--metadata-only", "--state", str(job.folder.with_name("state"))]
            shutil.rmtree(job.folder.with_name("state"), ignore_errors=True)  # it must not know them from before
        if job.announce:
            return [*command, "-i", _listed(job)]
        if job.web:
            command += ["--web-seed", job.web]
        for peer in job.peers:
            command += ["--peer", peer]
        return [*command, "--no-trackers", *(str(payload.torrent) for payload in job.payloads)]


class Libtorrent:
    """Finds its peers through the tracker: an address from connect_peer waits half a second for its next tick."""

    def __init__(self, name: str, *, tuned: bool) -> None:
        self.name = name
        self.tuned = tuned

    def missing(self) -> str | None:
        return None if self.version() else "the libtorrent wheel is not installed (pip install libtorrent)"

    def version(self) -> str:
        asked = "import libtorrent; print('libtorrent', libtorrent.__version__)"
        return _first_line([sys.executable, "-c", asked]) or ""

    def command(self, job: Job) -> list[str]:
        told: dict[str, object] = {"folder": str(job.folder), "tuned": self.tuned, "encrypted": job.encrypted}
        verb = "resolve" if job.magnets else "leech"
        told |= {"links": _listed(job)} if job.magnets else {"torrents": _announced(job)}
        return [sys.executable, str(PEER_SCRIPT), verb, msgspec.json.encode(told).decode()]


class Aria2:
    name = "aria2"

    def missing(self) -> str | None:
        return None if shutil.which("aria2c") else "aria2c is not installed"

    def version(self) -> str:
        return _first_line(["aria2c", "--version"]) or ""

    def command(self, job: Job) -> list[str]:
        quiet = ["--no-conf", "--quiet", "--summary-interval=0", "--download-result=hide"]
        local = ["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6=true"]
        fast = ["--file-allocation=none", "--bt-max-peers=0", "--seed-time=0", f"-j{BULK_JOBS}"]
        # --bt-tracker takes the place of an announce key and leaves the info-hash alone.
        if job.encrypted:
            fast += ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]
        where = [f"--dir={job.folder}", f"--bt-tracker={job.tracker}"]
        if job.magnets:
            only = ["--bt-metadata-only=true", "--bt-save-metadata=true", f"--input-file={_listed(job)}"]
            return ["aria2c", *quiet, *local, *fast, *where, *only]
        return ["aria2c", *quiet, *local, *fast, *where, *(str(payload.torrent) for payload in job.payloads)]


class Curl:
    """Fetches the file over HTTP, and verifies nothing."""

    name = "curl"

    def missing(self) -> str | None:
        return None if shutil.which("curl") else "curl is not installed"

    def version(self) -> str:
        return " ".join((_first_line(["curl", "--version"]) or "").split()[:2])

    def command(self, job: Job) -> list[str]:
        (payload,) = job.payloads
        return ["curl", "--silent", "--fail", "--output", str(job.folder / payload.content.name), job.web]


class Program:
    """One of the bench's own, from its source in c/."""

    name: str

    def missing(self) -> str | None:
        try:
            build(self.name)
        except ToolError as error:
            return str(error).splitlines()[0]
        return None

    def version(self) -> str:
        return ""


class Floor(Program):
    """Not a downloader: what receiving, hashing and writing alone cost (c/floor.c)."""

    name = "floor"

    def command(self, job: Job) -> list[str]:
        (payload,) = job.payloads
        hashes = payload.torrent.with_suffix(".hashes")
        hashes.write_bytes(payload.hashes)
        sizes = ["--piece-length", str(payload.piece_length), "--size", str(payload.size)]
        where = ["--out", str(job.folder / payload.content.name), "--peers", ",".join(job.peers)]
        return [str(build("floor")), "--info-hash", payload.info_hash, "--hashes", str(hashes), *sizes, *where]


class Disk(Program):
    """Not a downloader either: what the disk takes when nothing is received, hashed or kept account of (c/disk.c)."""

    name = "disk"

    def command(self, job: Job) -> list[str]:
        (payload,) = job.payloads
        return [str(build("disk")), "--out", str(job.folder / payload.content.name), "--size", str(payload.size)]


BTFAST = Btfast()
BTFAST_BUFFERED = Btfast("btfast-buffered", "--io", "buffered")
BTFAST_256 = Btfast("btfast-256MiB", "--memory", "256MiB")
BTFAST_512 = Btfast("btfast-512MiB", "--memory", "512MiB")
IDLE_PORT = 17_881
MANY_PEERS = ("--max-peers", "4000", "--bind", "127.0.0.1", "--port")
BTFAST_ALONE = Btfast("btfast", *MANY_PEERS, "0")
BTFAST_IDLE = Btfast("btfast-with-idle", *MANY_PEERS, str(IDLE_PORT))
LIBTORRENT = Libtorrent("libtorrent", tuned=False)
LIBTORRENT_TUNED = Libtorrent("libtorrent-tuned", tuned=True)
ARIA2 = Aria2()
CURL = Curl()
FLOOR = Floor()
DISK = Disk()

ALL: tuple[Client, ...] = (
    BTFAST, BTFAST_BUFFERED, BTFAST_256, BTFAST_IDLE, LIBTORRENT, LIBTORRENT_TUNED, ARIA2, FLOOR, DISK,
)
