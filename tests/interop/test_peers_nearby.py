"""Local service discovery alone, in a network of the test's own, where multicast reaches everybody."""

from __future__ import annotations

import contextlib
import select
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
PATIENCE = 60.0
HERE = Path(__file__).resolve().parent


@pytest.fixture
def made() -> Made:
    return make(FILES, name="local")


@pytest.fixture
def network() -> Iterator[Namespace]:
    with Namespace(2, multicast=True) as network:
        yield network


@contextlib.contextmanager
def inside(network: Namespace, script: str, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """One of our scripts inside the network; it is ready when this returns."""
    command = [*network.prefix, sys.executable, str(HERE / "inside" / script), *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert next_line(process) == "ready"
            yield process
        finally:
            process.communicate(timeout=PATIENCE)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE)[0], f"nothing was said for {PATIENCE} s"
    return process.stdout.readline().rstrip()


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
        inside(network, "libtorrent_alone.py", torrent, tmp_path / "out", other, "fetch") as peer,
        running(tmp_path, *serve, prefix=network.prefix),
    ):
        assert next_line(peer) == "done"
    assert_arrived(made, tmp_path / "out")


def test_we_find_libtorrent(tmp_path: Path, made: Made, network: Namespace) -> None:
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    one, other = network.addresses
    fetch = ("get", torrent, "-o", "out", "--bind", other, *ALONE)
    with (
        inside(network, "libtorrent_alone.py", torrent, tmp_path / "source", one, "seed"),
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


def test_a_private_torrent_is_not_announced(tmp_path: Path, made: Made, network: Namespace) -> None:
    """Served before an open one, which is."""
    private = make(FILES, name="local", private=True)
    made.lay_out(tmp_path / "source")
    serve = [
        ("seed", one.save(tmp_path, name), "--data", tmp_path / "source", "--bind", address, *ALONE)
        for one, name, address in zip((private, made), ("private", "open"), network.addresses, strict=True)
    ]
    with (
        inside(network, "hears_lsd.py") as ears,
        running(tmp_path, *serve[0], prefix=network.prefix) as command,
    ):
        command.until_state("seeding")
        with running(tmp_path, *serve[1], prefix=network.prefix):
            assert next_line(ears) == made.info_hash.hex()
