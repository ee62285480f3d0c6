"""Every option: one table for the command line, btfast.toml and the environment, and the precedence among them.

Precedence: option, environment (BTFAST_NAME), file, default. The file is the one of --config or BTFAST_CONFIG, else
./btfast.toml, else btfast/btfast.toml in the XDG configuration directory.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping

from btfast.errors import InputError, SourceNotFoundError

Value = str | int | float | bool | list[str] | None


class Option:
    """One option. `kind`: flag (on or off), switch (only on), whole, number, text, list (may be given again).

    `field` is the name in Settings that it sets. `spelling` is how the command line writes it where that differs.
    """

    __slots__ = ("choices", "default", "field", "help", "kind", "metavar", "name", "short", "spelling")

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        *,
        field: str = "",
        short: str = "",
        metavar: str = "",
        default: Value = None,
        spelling: str = "",
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name, self.kind, self.help, self.field, self.short = name, kind, help, field, short
        self.metavar, self.default, self.spelling, self.choices = metavar, default, spelling or name, choices


_LIST = "a source a line, - for stdin; # comments; after a tab its directory"
_GLOB = "such as '*.iso', 'docs' or 'docs/**/*.txt'"
_MSE = "connections that nobody can read on their way (default allow: where a peer wants them)"
_RATE = "all torrents together, such as 10MiB or 800K a second"
_DISK = "that a full or failing disk is waited for before an item fails"
_STALE = "take files that a web seed has in another version as they are, not verified; again for more"
_TIMEOUT = "without any source of data before an item fails"

TABLE = (
    Option("output", "text", "directory to download into (default .)", short="o", metavar="DIR", default="."),
    Option("input", "list", f"a list: {_LIST}", short="i", metavar="FILE"),
    Option("jobs", "whole", "torrents active at once (default 100)", field="jobs", short="j", metavar="N"),
    Option("peer", "list", "a peer to try besides the trackers'; again for more", metavar="HOST:PORT"),
    Option("web-seed", "list", "a web server that has the files, too (BEP 19); again for more", metavar="URL"),
    Option("accept-stale", "list", _STALE, field="accept_stale", metavar="GLOB"),
    Option("data", "text", "directory that holds the complete data (default .)", metavar="DIR", default="."),
    Option("files", "list", "only these, by index as `btfast info` shows them; again for more", metavar="0,3-7"),
    Option("select", "list", f"only files that it names, {_GLOB}; again for more", metavar="GLOB"),
    Option("exclude", "list", "none of the files that it names; again for more", metavar="GLOB"),
    Option("priority", "list", "high (first), normal or low (last) for files; again for more", metavar="GLOB=LEVEL"),
    Option("sequential", "flag", "fetch pieces in their order"),
    Option("first-last", "flag", "fetch the first and last piece of each file first"),
    Option("port", "whole", "where peers reach us (default 6881, else a free one)", field="port", metavar="N"),
    Option("bind", "text", "local address of all sockets (default: any)", field="bind", metavar="ADDR"),
    Option("trackers", "flag", "ask the torrent's trackers for peers (default: yes)", field="trackers"),
    Option("dht", "flag", "find peers in the DHT (default: yes)", field="dht"),
    Option("dht-bootstrap", "list", "a DHT node to begin with; again for more", field="dht_bootstrap", metavar="HOST:PORT"),
    Option("pex", "flag", "exchange addresses with peers (default: yes)", field="pex"),
    Option("lsd", "flag", "look for peers in the local network (default: yes)", field="lsd"),
    Option("max-peers", "whole", "connected peers a torrent (default 200)", field="max_peers", metavar="N"),
    Option("max-time", "number", "seconds the run may take; then exit code 8", field="max_time", metavar="S"),
    Option("max-up", "text", f"cap on what is sent, {_RATE}", field="max_up", metavar="RATE"),
    Option("max-down", "text", f"cap on what is received, {_RATE}", field="max_down", metavar="RATE"),
    Option("max-up-torrent", "text", "the same for each torrent", field="max_up_torrent", metavar="RATE"),
    Option("max-down-torrent", "text", "the same for each torrent", field="max_down_torrent", metavar="RATE"),
    Option("super-seed", "flag", "seed with a slow line: each piece leaves about once (BEP 16)", field="super_seed"),
    Option("encryption", "text", _MSE, field="encryption", choices=("off", "allow", "require")),
    Option("peer-timeout", "number", f"seconds {_TIMEOUT} (default 120)", field="peer_timeout", metavar="S"),
    Option("disk-timeout", "number", f"seconds {_DISK} (default 60)", field="disk_timeout", metavar="S"),
    Option("seed-ratio", "number", "serve until uploaded / size is R", field="seed_ratio", metavar="R"),
    Option("seed-time", "number", "serve for S seconds", field="seed_time", metavar="S"),
    Option("workers", "whole", "processes that hash and write (default: one a core)", field="workers", metavar="N"),
    Option("memory", "text", "for pieces in flight, such as 512MiB (default 256MiB)", field="memory", metavar="SIZE"),
    Option("io", "text", "how data is written (default auto)", field="io", choices=("auto", "direct", "buffered")),
    Option("state", "text", "what later runs need goes here (default: $XDG_STATE_HOME/btfast)", field="state", metavar="DIR"),
    Option("check", "flag", "hash what is there first", field="check"),
    Option("repair", "flag", "fetch what is bad or missing"),
    Option("sums", "text", "also make a list of the files' sums, from the same read", choices=("sha256",)),
    Option("sums-file", "text", "where the list goes, - for stdout (default DIR/SHA256SUMS)", metavar="FILE"),
    Option("force", "flag", "replace a file that is there"),
    Option("reuse", "list", "copy files from below this directory where they fit; again for more", field="reuse", metavar="DIR"),
    Option("torrent-version", "text", "of the BitTorrent protocol (default 1)", spelling="version", choices=("1", "2", "hybrid")),
    Option("piece-size", "text", "a power of two, such as 1MiB (default: by the size of the data)", metavar="SIZE"),
    Option("tracker", "list", "a tracker's URL; again for a new tier, several with commas for one tier", metavar="URL"),
    Option("http-seed", "list", "an HTTP seed of BEP 17; again for more", metavar="URL"),
    Option("node", "list", "a DHT node to begin with; again for more", metavar="HOST:PORT"),
    Option("private", "flag", "peers come from its trackers alone"),
    Option("source", "text", "who it is from; makes the info-hash another one", metavar="TEXT"),
    Option("comment", "text", "for people to read", metavar="TEXT"),
    Option("name", "text", "instead of that of the file or folder", metavar="NAME"),
    Option("similar", "list", "the info-hash or .torrent of one that shares files with it; again for more", metavar="HASH"),
    Option("collection", "list", "a collection that it belongs to; again for more", metavar="NAME"),
    Option("update-url", "text", "where newer versions are to be found (BEP 39)", metavar="URL"),
    Option("date", "flag", "write down when it was made (default: no, so that the same files give the same bytes)"),
    Option("mtime", "flag", "write down when each file was changed"),
    Option("attributes", "flag", "write down which files are executable or hidden (default: yes)"),
    Option("dot-hidden", "flag", "take files whose names begin with a dot for hidden"),
    Option("align", "flag", "let every file begin with a piece in version 1 too"),
    Option("leave-out", "list", "leave out what has such a name, or path; again for more", metavar="GLOB", spelling="exclude"),
    Option("follow-links", "flag", "take what symbolic links lead to instead of the links"),
    Option("torrent-file", "text", "where the .torrent goes, - for stdout", short="o", metavar="FILE", spelling="output"),
    Option("in-place", "flag", "write under the final names, without .part", field="in_place"),
    Option("metadata-only", "flag", "write no more than NAME.torrent: from a magnet link, an info-hash, a URL"),
    Option("scrape", "flag", "ask the trackers how many seeds and leechers there are"),
    Option("dry-run", "flag", "say what would be downloaded, and where to; write nothing"),
    Option("tracker-port", "whole", "port (default 6969)", metavar="N", default=6969, spelling="port"),
    Option("tracker-bind", "text", "address (default: any)", metavar="ADDR", default="", spelling="bind"),
    Option("interval", "whole", "seconds between a client's announces (default 1800)", metavar="S", default=1800),
    Option("expiry", "whole", "seconds of silence after which a peer is forgotten (default 2 intervals and 300)", metavar="S"),
    Option("whitelist", "text", "serve only these torrents: info-hashes in hexadecimal, one a line", metavar="FILE"),
    Option("keys", "text", "serve only URLs with one of these keys, as in /KEY/announce; one a line", metavar="FILE"),
    Option("size", "text", "how much data (default 256MiB)", metavar="SIZE", default="256MiB"),
    Option("json", "flag", "one JSON object a line on stdout"),
    Option("quiet", "flag", "errors only", short="q"),
    Option("verbose", "flag", "say more; tracebacks with errors", short="v"),
    Option("log", "text", "append what happens to this file, with times", metavar="FILE"),
    Option("config", "text", "settings file (default ./btfast.toml, else the user's)", metavar="FILE"),
)
BY_NAME = {option.name: option for option in TABLE}

OUTPUT = ("json", "quiet", "verbose", "log", "config")
SELECTION = ("files", "select", "exclude", "priority", "sequential", "first-last")
NETWORK = (
    "port", "bind", "trackers", "dht", "dht-bootstrap", "pex", "lsd", "max-peers", "max-time", "peer-timeout", "disk-timeout",
    "max-up", "max-down", "max-up-torrent", "max-down-torrent", "encryption",
    "seed-ratio", "seed-time", "workers", "memory", "io", "state",
)  # fmt: skip

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


class Options:
    """What is in force for one verb: `options["max-peers"]`, and where each value comes from."""

    __slots__ = ("origins", "values")

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.origins: dict[str, str] = {}

    def __getitem__(self, name: str) -> Value:
        return self.values.get(name)

    def text(self, name: str) -> str:
        value = self[name]
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        value = self[name]
        return value if isinstance(value, list) else []

    def fields(self) -> dict[str, Value]:
        """Values for Settings, without those left at their default."""
        named = ((BY_NAME[name].field, value) for name, value in self.values.items() if self.given(name))
        return {field: value for field, value in named if field}

    def spelled(self, name: str) -> str:
        """The option as whoever gave it wrote it, for messages."""
        return _spelled(BY_NAME[name], self.origins[name])

    def given(self, name: str) -> bool:
        return self.origins.get(name, "default") != "default"


def add_options(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Adds the named options; one that is not given is absent from the parsed namespace."""
    for name in names:
        option = BY_NAME[name]
        words = [f"-{option.short}"] if option.short else []
        words.append(f"--{option.spelling}")
        common = {"dest": name, "default": argparse.SUPPRESS, "help": option.help}
        if option.kind == "flag":
            parser.add_argument(*words, action=argparse.BooleanOptionalAction, **common)  # type: ignore[arg-type]
        elif option.kind == "switch":
            parser.add_argument(*words, action="store_true", **common)  # type: ignore[arg-type]
        elif option.kind == "list":
            parser.add_argument(*words, action="append", metavar=option.metavar, **common)  # type: ignore[arg-type]
        else:
            parser.add_argument(*words, metavar=option.metavar or None, choices=option.choices or None, **common)  # type: ignore[arg-type]


def resolve(names: Iterable[str], given: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Options:
    """Values of the named options from `given` (the parsed command line), the environment, the file, the defaults.

    Raises InputError, SourceNotFoundError for a --config file that is not there.
    """
    wanted = list(names)
    on_command_line = {name: value for name, value in given.items() if name in BY_NAME}
    layers = [(on_command_line, "option"), (_from_environment(environment), "environment")]
    path = given.get("config") or environment.get("BTFAST_CONFIG")
    if file := _find_file(path if isinstance(path, str) else "", environment):
        layers.append((_from_file(file), f"file {file}"))
    options = Options()
    for name in wanted:
        options.values[name], options.origins[name] = BY_NAME[name].default, "default"
        for layer, origin in layers:
            if name in layer:
                where = _spelled(BY_NAME[name], origin)
                options.values[name], options.origins[name] = _convert(BY_NAME[name], layer[name], where), origin
                break
    return options


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """BTFAST_MAX_PEERS and the like; a name that is no option belongs to somebody else."""
    found: dict[str, object] = {}
    for key, text in environment.items():
        if key.startswith("BTFAST_"):
            name, value = _normalise(key[7:], text)
            if name in BY_NAME:
                found[name] = text.replace(",", " ").split() if BY_NAME[name].kind == "list" else value
    return found


def _find_file(path: str, environment: Mapping[str, str]) -> str:
    if path:
        if not os.path.exists(path):
            raise SourceNotFoundError(f"{path}: no such settings file: check the path")
        return path
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME", ""), ".config")
    for candidate in ("btfast.toml", os.path.join(home, "btfast", "btfast.toml")):
        if os.path.exists(candidate):
            return candidate
    return ""


def _from_file(path: str) -> dict[str, object]:
    import tomllib

    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}: correct it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}: check its permissions") from error
    found: dict[str, object] = {}
    for key, value in document.items():
        name, value = _normalise(key, value)
        if name not in BY_NAME or name == "config":
            raise InputError(f"{path}: {key}: no such option: see `btfast get --help` for those there are")
        found[name] = value
    return found


def _spelled(option: Option, origin: str) -> str:
    if origin == "option":
        return f"--{option.spelling}"
    return f"BTFAST_{option.name.upper().replace('-', '_')}" if origin == "environment" else f"{option.name} ({origin})"


def _normalise(key: str, value: object) -> tuple[str, object]:
    """The option's name, from either spelling; `no-check = true` is `check = false`."""
    name = key.lower().replace("_", "-")
    positive = BY_NAME.get(name.removeprefix("no-"))
    if name not in BY_NAME and positive is not None and positive.kind == "flag":
        return positive.name, not _flag(value, key)
    return name, value


def _flag(value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InputError(f"{where}: {value!r}: not a yes or no: write true or false")


def _convert(option: Option, value: object, where: str) -> Value:
    if option.kind in ("flag", "switch"):
        return _flag(value, where)
    if option.kind == "list":
        items = value if isinstance(value, list) else [value]
        return [str(item) for item in items]
    if isinstance(value, (list, dict)):
        raise InputError(f"{where}: {value!r}: takes one value: correct it")
    text = str(value).strip()
    try:
        if option.kind == "whole":
            return int(text)
        if option.kind == "number":
            return float(text)
    except ValueError:
        what = "whole number" if option.kind == "whole" else "number"
        raise InputError(f"{where}: {text!r}: not a {what}: correct it") from None
    if option.choices and text not in option.choices:
        raise InputError(f"{where}: {text!r}: no such choice: use {', '.join(option.choices)}")
    return text
