"""MSE with real clients, both directions: RC4 only, only the handshake encrypted, and the fallback to the other kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libtorrent
import pytest
from drivers.aria2 import Aria2
from drivers.base import Habits
from leaks import wait_until
from real_peers import tracker
from support.commands import get, run
from support.libtorrent_peer import Libtorrent, finish
from support.torrents import assert_arrived, make

from btfast.client.session import Session
from btfast.config import Settings
from btfast.events import Failed, FileDone, Progress

MADE = make({"a": 700_001, "b/c": 1, "d": 1_300_000}, name="odd")
OFF = {"out_enc_policy": 2, "in_enc_policy": 2}
ONLY_RC4 = {"out_enc_policy": 0, "in_enc_policy": 0, "allowed_enc_level": 2}
ONLY_HANDSHAKE = {"out_enc_policy": 0, "in_enc_policy": 0, "allowed_enc_level": 1}
EITHER = {"out_enc_policy": 1, "in_enc_policy": 1, "allowed_enc_level": 3}
SETTINGS: dict[str, Any] = {"bind": "127.0.0.1", "port": 0, "workers": 1, "memory": "32MiB"}

# What libtorrent is told, what btfast is told, and what they speak then (None: they do not meet).
CELLS = [
    (ONLY_RC4, "allow", "rc4"),
    (ONLY_RC4, "require", "rc4"),
    (ONLY_RC4, "off", None),
    (ONLY_HANDSHAKE, "allow", "handshake"),
    (ONLY_HANDSHAKE, "require", None),
    (EITHER, "require", "rc4"),
    (EITHER, "off", "plain"),
    (OFF, "allow", "plain"),
    (OFF, "require", None),
]


@pytest.fixture
def seeder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Libtorrent]:
    with Libtorrent(**request.param) as peer:
        MADE.lay_out(tmp_path / "source")
        # Slow enough that somebody can look while it lasts.
        peer.add(MADE.torrent, tmp_path / "source", seed=True, rate=2_000_000)
        yield peer


def kind_of(handle: libtorrent.torrent_handle) -> str | None:
    """How the one peer of a torrent is spoken with."""
    for peer in handle.get_peer_info():
        if peer.flags & peer.rc4_encrypted:
            return "rc4"
        if peer.flags & peer.plaintext_encrypted:
            return "handshake"
        if not peer.flags & (peer.connecting | peer.handshake):
            return "plain"
    return None


@pytest.mark.parametrize(("seeder", "ours", "kind"), CELLS, indirect=["seeder"])
async def test_libtorrent_seeds(tmp_path: Path, seeder: Libtorrent, ours: str, kind: str | None) -> None:
    seen: set[str | None] = set()
    handle = seeder.handles()[0]
    patience = 3 if kind is None else 60
    async with Session(Settings(**SETTINGS, trackers=False, encryption=ours, peer_timeout=patience)) as session:
        download = await session.add(MADE.torrent, tmp_path / "out", peers=[seeder.address])
        async for event in download.events():
            if isinstance(event, Progress | FileDone):
                seen.add(kind_of(handle))
            if isinstance(event, Failed):
                assert kind is None, event.error
                assert "no peers: 1 known, 0 connected" in event.error
                assert f"; {seeder.address}: " in event.error
                assert event.exit_code == 3
                return
        await download
    assert kind is not None
    assert seen <= {None, kind}
    assert_arrived(MADE, tmp_path / "out")


@pytest.mark.parametrize(("theirs", "ours", "kind"), CELLS)
async def test_libtorrent_fetches(tmp_path: Path, theirs: dict[str, int], ours: str, kind: str | None) -> None:
    MADE.lay_out(tmp_path / "source")
    (tmp_path / "out").mkdir()
    seen: set[str | None] = set()
    async with Session(Settings(**SETTINGS, trackers=False, encryption=ours)) as session:
        await session.add(MADE.torrent, tmp_path / "source", seed=True)
        address = ("127.0.0.1", await session.port())
        with Libtorrent(**theirs, download_rate_limit=0 if kind is None else 2_000_000) as peer:
            handle = peer.add(MADE.torrent, tmp_path / "out")
            handle.connect_peer(address)
            if kind is None:
                assert wait_until(lambda: not any(True for _ in handle.get_peer_info()), patience=60)
                assert handle.status().total_done == 0
                return
            assert wait_until(lambda: seen.add(kind_of(handle)) or handle.status().is_seeding, patience=60)
            finish(handle)
    assert seen - {None} <= {kind}
    assert_arrived(MADE, tmp_path / "out")


@pytest.mark.parametrize("ours", ["allow", "require"])
def test_aria2_seeds_rc4(tmp_path: Path, ours: str) -> None:
    MADE.lay_out(tmp_path / "source")
    torrent = MADE.save(tmp_path)
    with Aria2(tmp_path / "aria2", torrent, tmp_path / "source", Habits(encrypted=True)) as peer:
        peer.serves()
        outcome = run(tmp_path, *get(torrent, "--encryption", ours, peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")


@pytest.mark.parametrize("ours", ["allow", "require"])
async def test_aria2_fetches_rc4(tmp_path: Path, ours: str) -> None:
    with tracker(tmp_path) as url:
        MADE.lay_out(tmp_path / "source")
        announce = b"8:announce%d:%s" % (len(url), url.encode())
        tracked = MADE._replace(torrent=b"d" + announce + MADE.torrent[1:])
        async with Session(Settings(**SETTINGS, encryption=ours)) as session:
            await session.add(tracked.torrent, tmp_path / "source", seed=True)
            with Aria2(tmp_path / "aria2", tracked.save(tmp_path), tmp_path / "out", Habits(encrypted=True)) as peer:
                peer.delivers(MADE)


async def test_btfast_speaks_rc4_with_btfast_for_many_torrents_behind_one_port(tmp_path: Path) -> None:
    all_made = [make(40_000 + 1000 * n, name=f"item{n}.bin", seed=n, piece_length=16384) for n in range(10)]
    async with Session(Settings(**SETTINGS, trackers=False, encryption="require")) as session:
        for made in all_made:
            made.lay_out(tmp_path / "source")
            await session.add(made.torrent, tmp_path / "source", seed=True)
        address = f"127.0.0.1:{await session.port()}"
        sources = [made.save(tmp_path) for made in all_made]
        outcome = run(tmp_path, *get(*sources, "--encryption", "require", peers=(address,)))
        assert outcome.code == 0, outcome
        refused = run(
            tmp_path, *get(sources[0], "--encryption", "off", "--peer-timeout", "1", "-o", "x", peers=(address,))
        )
    assert len(outcome.all("complete")) == 10
    refused.error(3)
