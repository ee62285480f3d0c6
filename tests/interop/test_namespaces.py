"""Clients that take no loopback address from others, on private addresses in a network of the test's own."""

from __future__ import annotations

import json
from pathlib import Path

from drivers.namespace import Namespace
from drivers.transmission import TransmissionAlone
from support.commands import running
from support.torrents import make

FILES = {"a.bin": 1_300_007, "b/c.bin": 1, "empty": 0}


def test_the_tracker_leads_transmission_to_us(tmp_path: Path) -> None:
    with Namespace(3) as network:
        tracks, seeds, fetches = network.addresses
        words = ("tracker", "--bind", tracks, "--port", "0", "--json")
        with running(tmp_path, *words, prefix=network.prefix) as tracker:
            assert tracker.process.stdout is not None
            url = json.loads(tracker.process.stdout.readline())["url"]
            made = make(FILES, name="private", announce=[[url]])
            made.lay_out(tmp_path / "source")
            torrent = made.save(tmp_path)
            serve = ("seed", torrent, "--data", tmp_path / "source", "--bind", seeds, "--port", "0", "--json", "-q")
            with running(tmp_path, *serve, "--memory", "32MiB", "--no-dht", "--no-lsd", prefix=network.prefix):
                peer = TransmissionAlone(tmp_path / "peer", torrent, tmp_path / "out", prefix=network.prefix)
                peer.host = fetches
                with peer:
                    peer.delivers(made)
