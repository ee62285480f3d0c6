"""Magnet links on the command line: dead ones end in time and say why, odd ones are refused, the rest become files."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
from support.accepting import nobody
from support.commands import get, run, running
from support.metadata_peers import MetadataPeer, NeverDelivers, WithoutMetadata
from support.scripted_peer import serving
from support.scripted_tracker import ScriptedTracker
from support.torrents import Made, assert_arrived, make, tree

from btfast._bencode import decode
from btfast.metainfo.torrent import Torrent

HASH = "0123456789abcdef0123456789abcdef01234567"


def link(made: Made, *more: str) -> str:
    return "&".join([f"magnet:?xt=urn:btih:{made.info_hash.hex()}", *more])


def parsed(path: Path) -> Torrent:
    return Torrent.parse(path.read_bytes())


def test_a_magnet_without_any_source_is_dead_at_once(tmp_path: Path) -> None:
    outcome = run(tmp_path, *get(f"magnet:?xt=urn:btih:{HASH}&dn=a%20name", "--no-dht", "--no-lsd"))
    line = outcome.error(5)
    assert line == (
        "btfast: error: magnet 'a name': no metadata came: nobody knows a peer; the link names no tracker: check the link, "
        "or name a peer with --peer"
    )
    failed = outcome.one("failed")
    assert (failed["kind"], failed["exit_code"]) == ("SourceNotFoundError", 5)
    assert outcome.one("summary")["exit_code"] == 5
    assert tree(tmp_path / "out") == {}


def test_a_dead_magnet_says_who_was_tried(tmp_path: Path) -> None:
    with nobody() as one, nobody() as other:
        peer, host = f"127.0.0.1:{one}", f"127.0.0.1:{other}"
        uri = f"magnet:?xt=urn:btih:{HASH}&x.pe={peer}&tr=http%3A%2F%2F{host}%2Fannounce"
        words = get(uri, "--no-dht", "--no-lsd", "--peer-timeout", "3", trackers=True)
        line = run(tmp_path, *words).error(5)
    assert f"peers: 1 named ({peer}), 0 connected now" in line
    assert "1 tracker asked, the last error: " in line
    assert host in line


def test_a_peer_without_metadata_is_named_too(tmp_path: Path) -> None:
    made = make(100_000)
    with serving(WithoutMetadata(made), NeverDelivers(made)) as (one, two):
        words = get(link(made), "--no-dht", "--no-lsd", "--peer-timeout", "4", peers=(one.address, two.address))
        line = run(tmp_path, *words).error(5)
    assert "peers: 2 named" in line
    assert "2 connected now" in line


def test_metadata_only_makes_a_torrent_file(tmp_path: Path) -> None:
    made = make({"a": 100_000, "b": 5}, name="some files")
    with MetadataPeer(made) as peer, nobody() as port:
        trackers = [f"http://127.0.0.1:{port}/announce", f"udp://127.0.0.1:{port}/announce"]
        uri = link(made, *(f"tr={url}" for url in trackers), "ws=http://127.0.0.1:1/", "so=0", f"x.pe={peer.address}")
        outcome = run(tmp_path, *get(uri, "--metadata-only"))
        assert outcome.code == 0, outcome
        assert peer.blocks_sent == 0
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "some files.torrent"
    torrent = parsed(path)
    assert torrent.info_hash == made.info_hash
    assert torrent.announce_list == tuple((url,) for url in trackers)
    assert torrent.url_list == ("http://127.0.0.1:1/",)
    assert decode(path.read_bytes())[b"announce"] == trackers[0].encode()
    assert outcome.one("metadata")["name"] == "some files"
    complete = outcome.one("complete")
    assert (complete["files"], complete["bytes"]) == (["some files.torrent"], path.stat().st_size)
    assert complete["downloaded"] == len(torrent.info_raw)


def test_a_second_time_nobody_is_asked(tmp_path: Path) -> None:
    made = make(100_000)
    with MetadataPeer(made) as peer:
        assert run(tmp_path, *get(link(made), "--metadata-only", peers=(peer.address,))).code == 0
    outcome = run(tmp_path, *get(link(made), "--metadata-only"))
    assert outcome.code == 0, outcome
    assert outcome.one("complete")["limited_by"] == "nothing to do"
    assert sorted(tree(tmp_path / "out")) == ["data.bin.torrent"]
    assert Path(os.environ["XDG_STATE_HOME"], "btfast/metadata", made.info_hash.hex()).is_file()


def test_the_state_directory_can_be_chosen_and_need_not_work(tmp_path: Path) -> None:
    made = make(100_000)
    (tmp_path / "file").write_bytes(b"")
    with MetadataPeer(made) as peer:
        words = get(link(made), "--metadata-only", peers=(peer.address,))
        outcome = run(tmp_path, *words, "--state", "file/below")
        assert outcome.code == 0, outcome
        assert any("metadata is not kept for later runs" in warning for warning in outcome.warnings)
        assert run(tmp_path, *words, "--state", "state").code == 0
    assert sorted(tree(tmp_path / "state")) == [f"metadata/{made.info_hash.hex()}"]


def test_damaged_metadata_in_the_state_directory_is_asked_for_again(tmp_path: Path) -> None:
    made = make(100_000)
    cached = tmp_path / "state/metadata" / made.info_hash.hex()
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"d4:name8:data.bine")
    with MetadataPeer(made) as peer:
        outcome = run(tmp_path, *get(link(made), "--state", "state", peers=(peer.address,)))
        assert outcome.code == 0, outcome
        assert peer.asked == [0]
    assert hashlib.sha1(cached.read_bytes()).digest() == made.info_hash
    assert_arrived(made, tmp_path / "out")


def test_files_of_one_name_do_not_replace_one_another(tmp_path: Path) -> None:
    every = [make(50_000, seed=number) for number in range(3)]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/data.bin.torrent").write_bytes(b"mine")
    with serving(*(MetadataPeer(made) for made in every)) as peers:
        uris = [link(made, f"x.pe={peer.address}") for made, peer in zip(every, peers, strict=True)]
        for _ in range(2):
            outcome = run(tmp_path, *get(*uris, "--metadata-only"))
            assert outcome.code == 0, outcome
    found = tree(tmp_path / "out")
    assert found.pop("data.bin.torrent") == b"mine"
    assert {Torrent.parse(data).info_hash for data in found.values()} == {made.info_hash for made in every}
    assert len(found) == 3


def test_torrent_files_and_lists_work_with_metadata_only_too(tmp_path: Path) -> None:
    one, two = make(50_000, name="one"), make(50_000, name="two")
    one.save(tmp_path)
    with MetadataPeer(two) as peer:
        (tmp_path / "list").write_text(f"one.torrent\n# nothing\n{link(two, f'x.pe={peer.address}')}\telsewhere\n")
        outcome = run(tmp_path, *get("-i", "list", "--metadata-only"))
    assert outcome.code == 0, outcome
    assert (tmp_path / "out/one.torrent").read_bytes() == one.torrent
    assert parsed(tmp_path / "elsewhere/two.torrent").info_hash == two.info_hash
    assert outcome.one("summary")["complete"] == 2


def test_a_torrent_file_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    made = make(50_000)
    (tmp_path / "out").write_bytes(b"a file where the directory should be")
    with MetadataPeer(made) as peer:
        line = run(tmp_path, *get(link(made), "--metadata-only", peers=(peer.address,))).error(6)
    assert "choose another directory with -o" in line


def test_a_link_may_select_files_unless_the_user_does(tmp_path: Path) -> None:
    made = make({"a": 70_000, "b": 70_000, "c": 10}, name="some")
    with MetadataPeer(made) as peer:
        words = get(link(made, "so=0,2"), peers=(peer.address,))
        assert run(tmp_path, *words).one("complete")["files"] == ["some/a", "some/c"]
        done = run(tmp_path, *words, "--files", "1", "-o", "other")
        assert (done.one("complete")["files"], done.one("complete")["bytes"]) == (["some/b"], 70_000)
        line = run(tmp_path, *get(link(made, "so=5"), peers=(peer.address,))).error(2)
    assert "some: has no file 5: its files are 0 to 2" in line


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (f"magnet:?xt=urn:btmh:1120{HASH}{'0' * 24}", "its btmh is not 1220 and 64 hexadecimal characters"),
        ("magnet:?dn=x", "has neither xt=urn:btih: nor xt=urn:btmh:"),
        (f"magnet:?xt=urn:btih:{HASH}&xt=urn:btih:{'f' * 40}", "names two different torrents"),
        ("magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", "has neither xt=urn:btih: nor xt=urn:btmh:"),
    ],
)
def test_what_names_no_torrent_is_refused_in_one_line(tmp_path: Path, source: str, part: str) -> None:
    assert part in run(tmp_path, *get(source)).error(2)


def test_two_hashes_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    made = make(50_000)
    with MetadataPeer(made) as peer:
        uri = link(made, f"xt=urn:btmh:1220{'0' * 64}", f"x.pe={peer.address}")
        line = run(tmp_path, *get(uri)).error(2)
    assert "its btih and btmh name two different torrents" in line


def test_the_trackers_of_a_link_are_asked_at_the_same_time(tmp_path: Path) -> None:
    """One that never answers keeps nobody from the others, nor does one that knows nobody."""
    made = make({"a": 100_000}, name="tracked")
    with (
        MetadataPeer(made) as peer,
        ScriptedTracker(lambda exchange: exchange.hang()) as mute,
        ScriptedTracker(lambda exchange: exchange.peers()) as empty,
        ScriptedTracker(lambda exchange: exchange.peers(peer.address)) as good,
    ):
        uri = link(made, f"tr={mute.url}", f"tr={empty.url}", f"tr={good.url}")
        outcome = run(tmp_path, *get(uri, trackers=True))
        assert outcome.code == 0, outcome
        assert len(peer.links) == 1
    assert_arrived(made, tmp_path / "out")
    asked = [(exchange.query.get("event"), exchange.query["left"]) for exchange in good.exchanges]
    assert asked == [("started", "16384"), ("completed", "0"), ("stopped", "0")], "each once, and never as a seed before"
    assert all(exchange.info_hash == made.info_hash for exchange in (*mute.exchanges, *empty.exchanges, *good.exchanges))


def test_trackers_do_not_hear_completed_for_what_was_there_before(tmp_path: Path) -> None:
    made = make({"a": 100_000}, name="tracked")
    made.lay_out(tmp_path / "out")
    with MetadataPeer(made) as peer, ScriptedTracker(lambda exchange: exchange.peers(peer.address)) as asked:
        outcome = run(tmp_path, *get(link(made, f"tr={asked.url}"), "--check", "--seed-time", "0.5", trackers=True))
        assert outcome.code == 0, outcome
    assert [exchange.query.get("event") for exchange in asked.exchanges] == ["started", "stopped"]


def test_a_private_torrent_forgets_who_was_not_named_by_its_tracker(tmp_path: Path) -> None:
    """That its metadata is private shows when it is there: what was connected before is let go, and begins anew."""
    made = make({"a": 100_000}, name="private", private=True)
    with MetadataPeer(made) as peer:
        outcome = run(tmp_path, *get(link(made), peers=(peer.address,)))
        assert outcome.code == 0, outcome
        assert len(peer.links) == 2
    assert_arrived(made, tmp_path / "out")
    assert outcome.one("metadata")["private"] is True


def test_the_same_torrent_twice_is_fetched_once(tmp_path: Path) -> None:
    made = make(100_000)
    with MetadataPeer(made) as peer:
        named = link(made, f"x.pe={peer.address}")
        outcome = run(tmp_path, *get(named, made.info_hash.hex(), made.save(tmp_path)))
        assert outcome.code == 0, outcome
        assert peer.asked == [0]
    assert outcome.one("summary")["complete"] == 3
    assert sum(event["downloaded"] for event in outcome.all("complete")) == 100_000


def test_data_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    made = make(300_000)
    made.lay_out(tmp_path / "out")
    with MetadataPeer(made) as peer:
        outcome = run(tmp_path, *get(link(made), "--check", peers=(peer.address,)))
        assert outcome.code == 0, outcome
        assert peer.blocks_sent == 0
    assert outcome.one("complete")["limited_by"] == "nothing to do"


def test_an_interrupt_while_the_metadata_is_sought_ends_it(tmp_path: Path) -> None:
    made = make(100_000)
    with NeverDelivers(made) as peer, running(tmp_path, *get(link(made), peers=(peer.address,))) as command:
        command.until(lambda: peer.asked, "it has been asked")
        command.signal(signal.SIGINT)
        outcome = command.end()
    assert "stopped: run it again" in outcome.error(7)


def test_a_time_limit_ends_it_as_well(tmp_path: Path) -> None:
    made = make(100_000)
    with NeverDelivers(made) as peer:
        outcome = run(tmp_path, *get(link(made), "--max-time", "1", peers=(peer.address,)))
    assert "--max-time" in outcome.error(8)


def test_a_dry_run_asks_nobody(tmp_path: Path) -> None:
    outcome = run(tmp_path, "get", "--dry-run", f"magnet:?xt=urn:btih:{HASH}", HASH, "-o", "out")
    assert outcome.code == 0
    assert outcome.out.count("would be fetched, its files into") == 2
