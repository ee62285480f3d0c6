"""Every real client in both directions: it seeds and `btfast get` fetches; btfast seeds and it fetches."""

from __future__ import annotations

from pathlib import Path

import pytest
from drivers.base import Driver
from drivers.clients import CLIENTS
from real_peers import tracker
from support.commands import get, run
from support.torrents import assert_arrived, make

from btfast.client.session import Session
from btfast.config import Settings

FILES = {"a.bin": 1_300_007, "b/c.bin": 1, "b/d.bin": 900_001, "empty": 0, "f/g/h.bin": 16_384, "z.bin": 123_457}
ODD = 3 * 16_384  # bytes a piece

every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


@every_client
def test_it_seeds_and_we_fetch(tmp_path: Path, client: type[Driver]) -> None:
    made = make(FILES, name="matrix", piece_length=ODD, announce=[["http://127.0.0.1:1/announce"]])
    made.lay_out(tmp_path / "source")
    with client(tmp_path / "peer", made.save(tmp_path), tmp_path / "source") as peer:
        peer.serves()
        outcome = run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,)))
        assert outcome.code == 0, (outcome, peer.last_words())
    assert_arrived(made, tmp_path / "out")


@every_client
async def test_we_seed_and_it_fetches(tmp_path: Path, client: type[Driver]) -> None:
    with tracker(tmp_path) as url:
        made = make(FILES, name="matrix", piece_length=ODD, announce=[[url]])
        made.lay_out(tmp_path / "source")
        settings = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB")
        peer = client(tmp_path / "peer", made.save(tmp_path), tmp_path / "out")
        async with Session(settings) as session:
            peers = [peer.address] if client.must_be_dialed else []
            if not peers:
                await session.add(made.torrent, tmp_path / "source", seed=True)
            with peer:
                if peers:
                    await session.add(made.torrent, tmp_path / "source", seed=True, peers=peers)
                peer.delivers(made)
