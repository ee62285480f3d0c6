"""The verbs that need no network process, and what every verb shares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, Command, environment

import btfast
from btfast.cli import VERBS
from btfast.cli.completion import SHELLS
from btfast.cli.get import parse_list

VECTORS = ROOT / ".." / "shared" / "vectors"


def test_version_is_printed_without_loading_much(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "btfast", "--version"],
        capture_output=True, text=True, check=True, env=environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout == f"btfast {btfast.__version__}\n"
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"argparse", "asyncio", "socket", "subprocess", "msgspec", "re", "btfast.cli.command"}


def test_help_names_every_verb(btfast_command: Command) -> None:
    done = btfast_command("--help")
    assert done.code == 0
    assert all(f"  {verb} " in done.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(btfast_command: Command, verb: str) -> None:
    done = btfast_command(verb, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: btfast {verb}")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "no command given"),
        (("fetch",), "fetch: no such command"),
        (("get",), "get: no source"),
        (("get", "--nonsense", "x"), "unrecognized arguments: --nonsense"),
        (("get", "--port", "x", "y"), "--port: 'x': not a whole number"),
        (("get", "--port", "70000", "y"), "--port: 70000: expected int <= 65535"),
        (("get", "--peer", "nowhere", "y"), "nowhere"),
        (("get", "--memory", "much", "y"), "size 'much': not understood"),
        (("get", "--memory", "900TiB", "-o", "x", "magnet:?xt=urn:btih:" + 40 * "a"), "more than this machine has"),
        (("get", "--select", "\udcff*", "magnet:?xt=urn:btih:" + 40 * "a"), "not UTF-8"),
        (("get", ""), "source '': empty"),
        (("tracker", "--port", "80000"), "--port: 80000: not a port"),
        (("completion", "fish"), "invalid choice"),
        (("info", "."), "a directory"),
        (("info", "http://127.0.0.1/x.torrent"), "a URL"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(btfast_command: Command, words: tuple[str, ...], part: str) -> None:
    done = btfast_command(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("btfast: error: ")
    assert done.err.count("\n") == 1
    assert part in done.err


@pytest.mark.parametrize("words", [("info", "no.torrent"), ("magnet", "no.torrent"), ("get", "-i", "no.list")])
def test_what_is_not_there_is_exit_code_5(btfast_command: Command, words: tuple[str, ...]) -> None:
    done = btfast_command(*words)
    assert done.code == 5
    assert done.err.count("\n") == 1


def test_a_traceback_is_shown_only_with_v(btfast_command: Command) -> None:
    assert "Traceback" not in btfast_command("info", "no.torrent").err
    done = btfast_command("info", "no.torrent", "-v")
    assert done.code == 5
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("btfast: error: no.torrent: no such file")


def test_info_prints_what_is_in_a_torrent(btfast_command: Command, torrent_file: Path) -> None:
    done = btfast_command("info", torrent_file)
    assert done.code == 0
    assert "data.bin" in done.out
    assert "40000 bytes" in done.out
    (facts,) = btfast_command("info", "--json", torrent_file).objects
    assert (facts["event"], facts["v"], facts["name"], facts["size"]) == ("info", 1, "data.bin", 40000)
    assert facts["files"] == [{"index": 0, "path": "data.bin", "size": 40000}]


def test_magnet_prints_a_link_that_info_reads(btfast_command: Command, torrent_file: Path) -> None:
    link = btfast_command("magnet", torrent_file).out.strip()
    (of_link,) = btfast_command("info", "--json", link).objects
    (of_file,) = btfast_command("info", "--json", torrent_file).objects
    assert of_link["info_hash"] == of_file["info_hash"]
    assert of_link["name"] == "data.bin"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_verbs_and_options(btfast_command: Command, shell: str) -> None:
    done = btfast_command("completion", shell)
    assert done.code == 0
    assert "seed-ratio" in done.out
    assert "tracker" in done.out


def test_dry_run_says_what_would_be_done_and_writes_nothing(
    btfast_command: Command, torrent_file: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    done = btfast_command("get", "--dry-run", "-o", "out", torrent_file, "http://127.0.0.1:1/a.torrent", "no.torrent")
    assert done.code == 5
    assert done.out.splitlines() == [
        f"data.bin: 39.1 KiB in 1 file, into {tmp_path}/out/data.bin",
        f"http://127.0.0.1:1/a.torrent: would be fetched, its files into {tmp_path}/out",
    ]
    assert done.err == "btfast: error: no.torrent: no such file: check the path\n"
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_in_json_ends_no_item_that_it_did_not_do(btfast_command: Command, torrent_file: Path) -> None:
    done = btfast_command("get", "--dry-run", "--json", torrent_file, "no.torrent")
    assert [(item["event"], item.get("id")) for item in done.objects] == [
        ("added", 0), ("metadata", 0), ("failed", 1), ("summary", None),
    ]  # fmt: skip


def test_a_list_has_comments_and_directories() -> None:
    text = "# a comment\n\na.torrent\n  b.torrent\tto here \r\nhttp://x/#frag\t\n"
    assert parse_list(text) == [("a.torrent", ""), ("b.torrent", "to here"), ("http://x/#frag", "")]


def test_a_closed_stdout_is_no_traceback(torrent_file: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m btfast info {torrent_file} | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize(("end", "code"), [(">&-", 0), ("> /dev/full", 6)])
def test_a_stdout_that_takes_nothing_is_no_bug(torrent_file: Path, tmp_path: Path, end: str, code: int) -> None:
    command = f"{sys.executable} -m btfast info {torrent_file} {end}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path, check=False
    )
    said = "btfast: error: stdout: cannot be written: No space left on device: what follows is not told\n"
    assert (done.returncode, done.stderr) == (code, said if code else "")


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared test vectors are not beside this checkout")
def test_info_answers_every_vector_in_one_line_or_well(capsys: pytest.CaptureFixture[str]) -> None:
    from btfast.cli import main

    seen = 0
    for path in sorted(VECTORS.rglob("*.torrent")):
        code = main(["info", str(path)])
        captured = capsys.readouterr()
        seen += 1
        assert code in (0, 2), path
        assert (code == 0) == bool(captured.out), path
        assert "Traceback" not in captured.err
        assert captured.err.count("\n") == (code != 0), path
        assert all(line.isprintable() for line in captured.out.splitlines()), path
    assert seen
