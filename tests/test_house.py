"""The shape of the house (its floors, rooms and manners) on the real sources. What each rule is for: house_rules.py."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
from pathlib import Path

import pytest
from house_rules import (
    Source,
    check_floors,
    check_handlers,
    check_modules,
    check_package_files,
    check_text,
    cimport_graph,
    find_cycle,
    import_graph,
    package,
)

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {
    "pyproject.toml", "setup.py", "btfast", "ext", "bench", "tests", "README.md", "CHANGELOG.md", "LICENSE", "Makefile",
}  # fmt: skip
HEAVY = {"asyncio", "uvloop", "aiohttp", "msgspec", "socket", "ssl", "subprocess", "rich", "psutil", "sqlite3"}
WRITTEN = ("*.py", "*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c", "*.h")

SOURCES = package(ROOT)


def written_files() -> list[Path]:
    """Every source file that people write and read."""
    found = [ROOT / "setup.py", ROOT / "Makefile"]
    for folder in ("btfast", "ext", "bench", "tests"):
        for pattern in WRITTEN:
            found += (ROOT / folder).rglob(pattern)
    return sorted(path for path in found if "build" not in path.relative_to(ROOT).parts)


def agree(complaints: list[str]) -> None:
    assert not complaints, "\n".join(["", *complaints])


def test_imports_only_run_down() -> None:
    agree(check_floors(SOURCES))


def test_sockets_clocks_and_dice_stay_in_their_rooms() -> None:
    agree(check_modules(SOURCES))


def test_no_two_files_import_each_other_in_a_circle() -> None:
    cycle = find_cycle(import_graph(SOURCES))
    assert cycle is None, f"{' -> '.join(cycle)}: let one of them take what it needs as an argument or a small Protocol"


def test_no_two_compiled_modules_cimport_each_other_in_a_circle() -> None:
    texts = {path.name: path.read_text() for path in (ROOT / "ext/btfast").glob("*.p[yx][xdi]")}
    graph = cimport_graph(texts)
    assert set().union(*graph.values()) <= set(graph), "a compiled module may import compiled modules only"
    cycle = find_cycle(graph)
    assert cycle is None, f"{' -> '.join(cycle)}: move what both need into a .pxd below them"


def test_package_files_stay_empty() -> None:
    agree(check_package_files(SOURCES))


def test_files_are_short_and_finished() -> None:
    complaints = []
    for path in written_files():
        complaints += check_text(path.relative_to(ROOT), path.read_text())
    agree(complaints)


def test_no_error_is_swallowed() -> None:
    complaints = []
    for path in written_files():
        if path.suffix == ".py":
            complaints += check_handlers(path.relative_to(ROOT), path.read_text())
    agree(complaints)


def test_every_compiled_module_has_its_stub() -> None:
    modules = {path.stem for path in (ROOT / "ext/btfast").glob("*.pyx")}
    stubs = {path.stem for path in (ROOT / "btfast").glob("*.pyi")}
    assert modules - stubs == set(), "write btfast/NAME.pyi for these: callers are type-checked against it"
    assert stubs - modules == set(), "no module in ext/btfast belongs to these stubs: remove them"
    assert not (ROOT / "ext/btfast/__init__.py").exists(), "ext/btfast has an empty __init__.pxd and no __init__.py"


def test_the_top_level_holds_what_the_design_says() -> None:
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    extra = {name for name in found - TOP_LEVEL if not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)}
    assert not extra, f"{sorted(extra)}: does not belong at the top level: put it into one of {sorted(TOP_LEVEL)}"
    assert TOP_LEVEL - found == set(), "missing from the top level"


def loaded_by(*arguments: str) -> set[str]:
    """Modules that a fresh interpreter loads, but for those that an empty program loads as well."""
    return _modules(*arguments) - _modules("-c", "pass")


def _modules(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_importing_btfast_loads_nothing_else() -> None:
    assert {name for name in loaded_by("-c", "import btfast") if name != "__future__"} == {"btfast"}


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by these alone; two with one name cannot run together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py") if "build" not in path.relative_to(ROOT).parts]
    assert sorted(names) == sorted(set(names))


def test_the_version_is_told_without_loading_anything_heavy() -> None:
    loaded = loaded_by("-m", "btfast", "--version")
    assert loaded & HEAVY == set(), "`btfast --version` answers at once: import these where they are needed"
    assert {name for name in loaded if name.startswith("btfast")} == {"btfast", "btfast.cli"}


def test_a_worker_loads_no_loop_and_no_sockets() -> None:
    loaded = loaded_by("-c", "import btfast.storage.worker")
    assert "btfast.storage.worker" in loaded
    heavy = {"asyncio", "uvloop", "aiohttp", "socket", "ssl", "rich", "psutil"}
    assert loaded & heavy == set(), "a worker is one of many processes: keep what it imports small"
    rooms = {name.split(".")[1] for name in loaded if name.startswith("btfast.")}
    assert rooms.isdisjoint({"engine", "client", "cli", "tracker", "swarm", "wire", "discovery"})


# The rules themselves: each finds what it is there for.


def source(name: str, text: str) -> Source:
    is_package = name.count(".") == 1 and name != "btfast.errors"
    path = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    return Source(name, Path(path), text)


def sources(**texts: str) -> dict[str, Source]:
    """By module name with `__` for its dots, below btfast."""
    named = {f"btfast.{name.replace('__', '.')}": text for name, text in texts.items()}
    return {name: source(name, text) for name, text in named.items()}


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("wire__a", "from btfast.swarm.b import c"),
        ("wire__a", "def f():\n    import btfast.engine.engine"),
        ("metainfo__a", "if TYPE_CHECKING:\n    from btfast.wire import ids"),
        ("tracker__a", "from btfast.engine import engine"),
        ("errors", "from btfast.metainfo import torrent"),
        ("engine__a", "from btfast import Session"),
        ("wire__a", "from ..swarm import b"),
        ("attic__a", ""),
    ],
)
def test_an_import_that_runs_up_or_across_is_found(module: str, text: str) -> None:
    complaints = check_floors(sources(**{module: text}))
    assert len(complaints) == 1
    assert complaints[0].startswith("btfast/")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("wire__a", "from btfast.metainfo.torrent import Torrent\nfrom btfast.errors import Error"),
        ("wire__a", "from btfast import _bencode\nfrom btfast._bitfield import Bitfield"),
        ("wire__a", "from btfast.wire import ids\nfrom . import messages"),
        ("engine__a", "from btfast import __version__"),
    ],
)
def test_an_import_that_runs_down_is_fine(module: str, text: str) -> None:
    assert check_floors(sources(**{module: text})) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("storage__a", "import asyncio.subprocess"),
        ("swarm__a", "def f():\n    from time import monotonic"),
        ("metainfo__a", "import random as r"),
        ("engine__a", "import multiprocessing"),
    ],
)
def test_a_module_in_the_wrong_room_is_found(module: str, text: str) -> None:
    assert len(check_modules(sources(**{module: text}))) == 1


def test_a_module_in_its_room_is_fine() -> None:
    assert check_modules(sources(engine__a="import asyncio, time, random, ssl", wire__a="import struct")) == []


def test_a_circle_through_a_function_is_found() -> None:
    files = sources(swarm__a="from btfast.swarm import b", swarm__b="def f():\n    from btfast.swarm.a import x")
    assert find_cycle(import_graph(files)) == ["btfast.swarm.a", "btfast.swarm.b", "btfast.swarm.a"]
    assert find_cycle(import_graph(sources(swarm__a="from btfast.swarm import b", swarm__b=""))) is None


def test_a_circle_of_cimports_is_found() -> None:
    texts = {"_a.pyx": "from btfast._b cimport X", "_b.pxd": "from btfast cimport _c", "_c.pyx": "import btfast._a"}
    assert find_cycle(cimport_graph(texts)) == ["_a", "_b", "_c", "_a"]


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept:\n    raise",
        "try:\n    f()\nexcept Exception:\n    pass",
        "for x in y:\n    try:\n        f()\n    except (OSError, BaseException):\n        continue",
        "with contextlib.suppress(Exception):\n    f()",
    ],
)
def test_a_swallowed_error_is_found(text: str) -> None:
    assert len(check_handlers(Path("x.py"), text)) == 1


def test_a_handled_error_is_fine() -> None:
    text = "try:\n    f()\nexcept OSError:\n    pass\nexcept Exception as error:\n    report(error)\n"
    assert check_handlers(Path("x.py"), text) == []


def test_a_long_or_unfinished_file_is_found() -> None:
    assert len(check_text(Path("x.py"), "pass\n" * 501)) == 1
    assert len(check_text(Path("x.c"), "int x; /* FIX" + "ME */\n")) == 1
    assert check_text(Path("x.py"), "pass\n" * 500) == []


def test_code_in_a_package_file_is_found() -> None:
    assert len(check_package_files(sources(swarm="x = 1"))) == 1
    assert check_package_files(sources(swarm='"""What it is."""', wire="")) == []
