"""Local service discovery alone, in a network of the test's own, where multicast reaches everybody."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drivers.namespace import Namespace
from support.commands import running
from support.torrents import Made, assert_arrived, make

FILES = {"a.bin": 700_001, "b/c.bin": 1}
ALONE = ("--no-trackers", "--no-pex", "--no-dht", "--port", "0", "--memory", "32MiB", "--json")
HERE = Path(__file__).resolve().parent


@pytest.fixture
def made() -> Made:
    return make(FILES, name="local")


@pytest.fixture
def network() -> Iterator[Namespace]:
    with Namespace(2, multicast=True) as network:
        yield network


@contextlib.contextmanager
def libtorrent(network: Namespace, torrent: Path, folder: Path, address: str, role: str) -> Iterator[subprocess.Popen[str]]:
    """libtorrent inside the network; it is there when this returns."""
    script = str(HERE / "inside" / "libtorrent_alone.py")
    words = [*network.prefix, sys.executable, script, str(torrent), str(folder), address, role]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.communicate(timeout=20)


@pytest.mark.parametrize("v6", [False, True])
def test_two_of_us_find_each_other(tmp_path: Path, made: Made, network: Namespace, v6: bool) -> None:
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    one, other = network.addresses_v6 if v6 else network.addresses
    serve = ("seed", torrent, "--data", tmp_path / "source", "--bind", one, *ALONE)
    fetch = ("get", torrent, "-o", "out", "--bind", other, *ALONE)
    with running(tmp_path, *serve, prefix=network.prefix), running(tmp_path, *fetch, prefix=network.prefix) as command:
        outcome = command.end()
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")


def test_libtorrent_finds_us(tmp_path: Path, made: Made, network: Namespace) -> None:
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    one, other = network.addresses
    serve = ("seed", torrent, "--data", tmp_path / "source", "--bind", one, *ALONE)
    with (
        libtorrent(network, torrent, tmp_path / "out", other, "fetch") as peer,
        running(tmp_path, *serve, prefix=network.prefix),
    ):
        assert peer.stdout is not None
        assert peer.stdout.readline() == "done\n"
    assert_arrived(made, tmp_path / "out")


def test_we_find_libtorrent(tmp_path: Path, made: Made, network: Namespace) -> None:
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    one, other = network.addresses
    fetch = ("get", torrent, "-o", "out", "--bind", other, *ALONE)
    with (
        libtorrent(network, torrent, tmp_path / "source", one, "seed"),
        running(tmp_path, *fetch, prefix=network.prefix) as command,
    ):
        outcome = command.end()
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")


def test_nothing_is_asked_with_no_lsd(tmp_path: Path, made: Made, network: Namespace) -> None:
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    one, other = network.addresses
    serve = ("seed", torrent, "--data", tmp_path / "source", "--bind", one, *ALONE)
    fetch = ("get", torrent, "-o", "out", "--bind", other, "--no-lsd", *ALONE)
    with running(tmp_path, *serve, prefix=network.prefix), running(tmp_path, *fetch, prefix=network.prefix) as command:
        command.end().error(3)
