"""The scripted peer as it behaves when nobody bends it: what the other tests rest on."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import get, run
from support.scripted_peer import ScriptedPeer
from support.torrents import assert_arrived, make


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("extensions", [True, False])
def test_a_plain_peer_serves_everything(tmp_path: Path, fast: bool, extensions: bool) -> None:
    made = make({"a.bin": 300_000, "sub/b.bin": 70_000, "empty": 0}, name="tree")
    peer = ScriptedPeer(made)
    peer.fast, peer.extensions = fast, extensions
    with peer:
        done = run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert done.one("complete")["downloaded"] == len(made.data)
    assert done.one("complete")["wasted"] == 0
