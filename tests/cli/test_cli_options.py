"""Where a setting's value comes from."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import msgspec
import pytest
from command_line import Command

from btfast.cli import VERBS
from btfast.cli.command import build_parser
from btfast.cli.options import BY_NAME, TABLE, resolve
from btfast.cli.settings import settings_of
from btfast.config import Settings
from btfast.errors import InputError, SourceNotFoundError

NAMES = tuple(BY_NAME)


def settings_file(path: Path, text: str) -> dict[str, object]:
    path.write_text(text)
    return {"config": str(path)}


def test_every_setting_is_an_option() -> None:
    fields = {option.field for option in TABLE if option.field}
    assert fields == {field.name for field in msgspec.structs.fields(Settings)}


def test_every_verb_builds_its_parser_with_a_description() -> None:
    for verb in VERBS:
        assert build_parser(verb).description


def test_option_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    given = settings_file(tmp_path / "b.toml", "port = 1\nmax-peers = 1\nworkers = 1\n")
    environment = {"BTFAST_PORT": "2", "BTFAST_MAX_PEERS": "2"}
    options = resolve(NAMES, {**given, "port": "3"}, environment)
    assert (options["port"], options.origins["port"]) == (3, "option")
    assert (options["max-peers"], options.origins["max-peers"]) == (2, "environment")
    assert (options["workers"], options.origins["workers"]) == (1, f"file {given['config']}")
    assert options.origins["jobs"] == "default"
    assert settings_of(options) == Settings(port=3, max_peers=2, workers=1)


def test_a_flag_in_the_file_can_be_switched_off_on_the_command_line(tmp_path: Path) -> None:
    given = settings_file(tmp_path / "b.toml", "check = true\nno-trackers = true\n")
    assert settings_of(resolve(NAMES, given, {})) == Settings(check=True, trackers=False)
    assert settings_of(resolve(NAMES, {**given, "check": False, "trackers": True}, {})) == Settings()


@pytest.mark.parametrize("spelling", ["max-peers", "max_peers", "MAX-PEERS"])
def test_file_takes_either_spelling(tmp_path: Path, spelling: str) -> None:
    assert resolve(NAMES, settings_file(tmp_path / "b.toml", f"{spelling} = 9"), {})["max-peers"] == 9


def test_lists_come_from_file_and_environment(tmp_path: Path) -> None:
    given = settings_file(tmp_path / "b.toml", 'peer = ["a:1", "b:2"]')
    assert resolve(NAMES, given, {}).texts("peer") == ["a:1", "b:2"]
    assert resolve(NAMES, given, {"BTFAST_PEER": "c:3, d:4"}).texts("peer") == ["c:3", "d:4"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("nonsense = 1", "nonsense: no such option"),
        ("port = [1]", "takes one value"),
        ("port = 'x'", "not a whole number"),
        ("seed-ratio = 'x'", "not a number"),
        ("check = 'maybe'", "not a yes or no"),
        ("io = 'mmap'", "no such choice"),
        ("= 3", "not valid TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, text: str, part: str) -> None:
    given = settings_file(tmp_path / "b.toml", text)
    with pytest.raises(InputError, match=part) as caught:
        resolve(NAMES, given, {})
    assert "b.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_value_in_the_environment_names_the_variable() -> None:
    with pytest.raises(InputError, match="BTFAST_MAX_PEERS: 'lots': not a whole number"):
        resolve(NAMES, {}, {"BTFAST_MAX_PEERS": "lots", "HOME": "/nowhere"})


def test_names_of_others_in_the_environment_are_passed_over() -> None:
    assert resolve(NAMES, {}, {"BTFAST_EXT": "_ring", "HOME": "/nowhere"})["port"] is None


@pytest.mark.parametrize(
    ("given", "part"),
    [({"port": "70000"}, "--port: 70000: expected int <= 65535"), ({"memory": "1KiB"}, "too small")],
)
def test_values_out_of_range_are_refused(given: dict[str, object], part: str) -> None:
    with pytest.raises(InputError, match=part):
        settings_of(resolve(NAMES, given, {"HOME": "/nowhere"}))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such settings file"):
        resolve(NAMES, {"config": str(tmp_path / "none.toml")}, {})


def test_the_file_of_the_working_directory_comes_before_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "btfast"
    home.mkdir(parents=True)
    (home / "btfast.toml").write_text("port = 7")
    monkeypatch.chdir(tmp_path)
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert resolve(NAMES, {}, environment)["port"] == 7
    (tmp_path / "btfast.toml").write_text("port = 8")
    assert resolve(NAMES, {}, environment)["port"] == 8
    assert os.environ.get("XDG_CONFIG_HOME") != environment["XDG_CONFIG_HOME"]


def test_config_prints_what_is_in_force_and_from_where(btfast_command: Command, tmp_path: Path) -> None:
    (tmp_path / "btfast.toml").write_text('memory = "64MiB"\nport = 1000\n')
    done = btfast_command("config", "--jobs", "5", env={"BTFAST_PORT": "2000"})
    assert done.code == 0
    lines = {line.split(" = ")[0]: line for line in done.out.splitlines()}
    assert lines["jobs"].split() == ["jobs", "=", "5", "#", "option"]
    assert lines["port"].split() == ["port", "=", "2000", "#", "environment"]
    assert lines["memory"].split() == ["memory", "=", '"64MiB"', "#", "file", "btfast.toml"]
    assert lines["max-peers"].split() == ["max-peers", "=", "200", "#", "default"]
    assert tomllib.loads(done.out)["jobs"] == 5
