"""The DHT with libtorrent as bootstrap node, announcer and searcher, on loopback; and downloads by DHT alone."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from leaks import wait_until
from real_peers import needs_ipv6
from support.commands import Running, get, run, running
from support.libtorrent_peer import Libtorrent
from support.torrents import Made, assert_arrived, make

MADE = make(3_000_000, name="by-dht.bin")


def dht_settings(bootstrap: str = "") -> dict[str, object]:
    """A DHT node of libtorrent's that takes the loopback for a network like any other."""
    return {
        "enable_dht": True, "dht_bootstrap_nodes": bootstrap, "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False, "dht_block_ratelimit": 100_000, "dht_ignore_dark_internet": False,
        "dht_upload_rate_limit": 1_000_000,
    }  # fmt: skip


@contextlib.contextmanager
def libtorrent_node(bootstrap: str = "", host: str = "127.0.0.1") -> Iterator[Libtorrent]:
    with Libtorrent(host, **dht_settings(bootstrap)) as peer:
        yield peer


@contextlib.contextmanager
def btfast_node(home: Path, *words: str) -> Iterator[tuple[Running, str]]:
    """`btfast dht` on a free port, and its address."""
    with running(home, "dht", "--bind", "127.0.0.1", "--port", "0", "--json", *words) as command:
        assert command.process.stdout is not None
        yield command, json.loads(command.process.stdout.readline())["addresses"][0]


def look_up(home: Path, info_hash: bytes, bootstrap: str) -> set[str]:
    """What `btfast dht get-peers` prints."""
    outcome = run(home, "dht", "get-peers", info_hash.hex(), "--bind", "127.0.0.1", "--dht-bootstrap", bootstrap, "-q")
    return set(outcome.out.split())


@pytest.fixture
def made() -> Made:
    return MADE


def announced(home: Path, made: Made, peer: Libtorrent, bootstrap: str) -> None:
    """Waits until a look-up finds the libtorrent peer."""
    assert wait_until(lambda: peer.address in look_up(home, made.info_hash, bootstrap), patience=120), "not announced"


def test_libtorrent_announces_to_us_and_we_find_it(tmp_path: Path, made: Made) -> None:
    with btfast_node(tmp_path) as (_, bootstrap), libtorrent_node(bootstrap) as seeder:
        made.lay_out(tmp_path / "source")
        seeder.add(made.torrent, tmp_path / "source", seed=True)
        announced(tmp_path, made, seeder, bootstrap)


def test_a_torrent_without_trackers_arrives_by_a_libtorrent_bootstrap_node_alone(tmp_path: Path, made: Made) -> None:
    with libtorrent_node() as middle, libtorrent_node(middle.address) as seeder:
        made.lay_out(tmp_path / "source")
        seeder.add(made.torrent, tmp_path / "source", seed=True)
        outcome = run(tmp_path, *get(made.save(tmp_path), "--dht-bootstrap", middle.address))
        assert outcome.code == 0, outcome
        assert_arrived(made, tmp_path / "out")
        assert outcome.warnings == []


def test_the_same_over_ipv6(tmp_path: Path, made: Made) -> None:
    needs_ipv6()
    with libtorrent_node(host="::1") as middle, libtorrent_node(middle.address, host="::1") as seeder:
        made.lay_out(tmp_path / "source")
        seeder.add(made.torrent, tmp_path / "source", seed=True)
        outcome = run(tmp_path, *get("--bind", "::1", "--dht-bootstrap", middle.address, made.save(tmp_path)))
        assert outcome.code == 0, outcome
        assert_arrived(made, tmp_path / "out")


def test_a_torrents_own_nodes_are_enough(tmp_path: Path) -> None:
    with btfast_node(tmp_path) as (_, bootstrap), libtorrent_node(bootstrap) as seeder:
        host, port = bootstrap.split(":")
        made = make(500_000, name="nodes.bin", nodes=[(host, int(port))])
        made.lay_out(tmp_path / "source")
        seeder.add(made.torrent, tmp_path / "source", seed=True)
        outcome = run(tmp_path, *get(made.save(tmp_path)))
        assert outcome.code == 0, outcome
        assert_arrived(made, tmp_path / "out")


def test_libtorrent_finds_us_by_the_dht_and_downloads(tmp_path: Path, made: Made) -> None:
    made.lay_out(tmp_path / "source")
    with libtorrent_node() as middle:
        seed = [
            "seed", made.save(tmp_path), "--data", tmp_path / "source", "--bind", "127.0.0.1", "--port", "0",
            "--dht-bootstrap", middle.address, "--no-trackers",
        ]  # fmt: skip
        with running(tmp_path, *seed), libtorrent_node(middle.address) as leecher:
            handle = leecher.add(made.torrent, tmp_path / "fetched")
            assert wait_until(lambda: handle.status().is_seeding, patience=120), handle.status().state
            handle.flush_cache()
            assert wait_until(lambda: _same(made, tmp_path / "fetched"), patience=60)


def _same(made: Made, folder: Path) -> bool:
    try:
        assert_arrived(made, folder)
    except (AssertionError, OSError):
        return False
    return True


def test_two_btfast_find_each_other_through_a_btfast_node(tmp_path: Path, made: Made) -> None:
    made.lay_out(tmp_path / "source")
    with btfast_node(tmp_path) as (_, bootstrap):
        seed = [
            "seed", made.save(tmp_path), "--data", tmp_path / "source", "--bind", "127.0.0.1", "--port", "0",
            "--dht-bootstrap", bootstrap, "--no-trackers",
        ]  # fmt: skip
        with running(tmp_path, *seed):
            outcome = run(tmp_path, *get(made.save(tmp_path), "--dht-bootstrap", bootstrap))
            assert outcome.code == 0, outcome
            assert_arrived(made, tmp_path / "out")


def test_port_messages_alone_make_both_sides_nodes_of_each_other(tmp_path: Path) -> None:
    made = make(2_000_000, name="slow.bin")
    made.lay_out(tmp_path / "source")
    with libtorrent_node() as seeder:
        seeder.add(made.torrent, tmp_path / "source", seed=True, rate=300_000)
        # Slow enough for the DHT to begin although the peer was named; libtorrent's node is only known from its PORT.
        outcome = run(tmp_path, *get(made.save(tmp_path), "--state", "kept", peers=(seeder.address,)))
        assert outcome.code == 0, outcome
        node = seeder.address.split(":")[1]
        saved = (tmp_path / "kept/dht.state").read_bytes()
        assert bytes([127, 0, 0, 1]) + int(node).to_bytes(2, "big") in saved


def test_a_saved_node_is_enough_for_the_next_run(tmp_path: Path, made: Made) -> None:
    with btfast_node(tmp_path) as (_, bootstrap), libtorrent_node(bootstrap) as seeder:
        made.lay_out(tmp_path / "source")
        seeder.add(made.torrent, tmp_path / "source", seed=True)
        first = run(tmp_path, *get(made.save(tmp_path), "--state", "kept", "--dht-bootstrap", bootstrap))
        assert first.code == 0, first
        (tmp_path / "out").rename(tmp_path / "out1")
        second = run(tmp_path, *get(made.save(tmp_path), "--state", "kept"))
        assert second.code == 0, second
        assert_arrived(made, tmp_path / "out")


@pytest.mark.parametrize(("words", "private", "asked"), [((), False, True), (("--no-dht",), False, False), ((), True, False)])
def test_without_the_dht_or_when_private_nobody_is_asked(
    tmp_path: Path, words: tuple[str, ...], private: bool, asked: bool
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        node.bind(("127.0.0.1", 0))
        node.setblocking(False)
        bootstrap = f"127.0.0.1:{node.getsockname()[1]}"
        made = make(100_000, name="quiet.bin", private=private, nodes=[("127.0.0.1", node.getsockname()[1])])
        words = (*words, "--dht-bootstrap", bootstrap, "--peer-timeout", "5")
        outcome = run(tmp_path, *get(made.save(tmp_path), *words))
        assert "no peers" in outcome.error(3)
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(node.recv(2000))
        assert bool(heard) is asked
        assert all(made.info_hash in data or b"find_node" in data for data in heard)


def test_an_info_hash_and_a_bootstrap_node_are_enough(tmp_path: Path, made: Made) -> None:
    with btfast_node(tmp_path) as (_, bootstrap), libtorrent_node(bootstrap) as seeder:
        made.lay_out(tmp_path / "source")
        seeder.add(made.torrent, tmp_path / "source", seed=True)
        outcome = run(tmp_path, *get(f"magnet:?xt=urn:btih:{made.info_hash.hex()}", "--dht-bootstrap", bootstrap))
        assert outcome.code == 0, outcome
        assert_arrived(made, tmp_path / "out")
