"""What importing btfast costs, and what it exports."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import btfast
from btfast import errors

ROOT = Path(btfast.__file__).resolve().parents[1]


def modules_after(statement: str) -> set[str]:
    """Names of all modules in a fresh interpreter after the statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return set(done.stdout.split())


def test_importing_btfast_loads_nothing_heavy() -> None:
    loaded = modules_after("import btfast")
    assert "btfast" in loaded
    heavy = {"asyncio", "uvloop", "aiohttp", "msgspec", "socket", "ssl", "subprocess", "re", "typing", "argparse"}
    assert not loaded & heavy


def test_the_network_process_is_started_before_anything_heavy_is_loaded() -> None:
    loaded = modules_after("import btfast.cli.command, btfast.cli.get, btfast.client.launch")
    assert "subprocess" in loaded
    assert not loaded & {"asyncio", "uvloop", "aiohttp", "msgspec", "ssl", "rich", "tomllib", "btfast._bencode"}


def test_the_network_process_loads_what_few_torrents_need_only_for_them() -> None:
    loaded = modules_after("import btfast.engine.engine")
    assert "btfast.engine.torrent" in loaded
    seldom = {"engine.hash_exchange", "engine.hash_serving", "engine.suggesting", "engine.revealing", "storage.reuse"}
    seldom |= {"engine.hashless", "engine.layers_on_disk", "engine.magnets", "engine.web_seeds", "engine.resolving"}
    assert not loaded & {f"btfast.{name}" for name in seldom}
    assert not loaded & {f"btfast.swarm.{name}" for name in ("hash_requests", "piece_layers", "bad_leaves", "spreading")}


@pytest.mark.parametrize("name", sorted(set(btfast.__all__)))
def test_every_exported_name_loads(name: str) -> None:
    assert getattr(btfast, name) is not None
    assert name in dir(btfast)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        btfast.nonsense  # noqa: B018


def test_every_error_is_exported() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert tree <= set(btfast.__all__)


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert btfast.__version__ == project["version"]
