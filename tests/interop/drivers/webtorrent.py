"""WebTorrent in Node, over TCP alone: peer.mjs is the program, webtorrent/package.json says what it needs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from drivers.program import Program
from support.commands import ROOT

HERE = Path(__file__).resolve().parents[1] / "webtorrent"


def modules() -> Path:
    """Where .ci/peers has npm install it."""
    return Path(os.environ.get("INTEROP_NODE_MODULES", ROOT / "build" / "interop" / "node_modules"))


class WebTorrent(Program):
    name = "WebTorrent"
    program = "node"
    package = "nodejs npm"

    @classmethod
    def missing(cls) -> str | None:
        if shutil.which(cls.program) and not (modules() / "webtorrent").is_dir():
            return f"missing peer: webtorrent is not installed in {modules()} (.ci/peers does it)"
        return super().missing()

    def command(self) -> list[str]:
        options = {
            "webtorrent": str(modules() / "webtorrent" / "index.js"), "source": str(self.source), "folder": str(self.folder),
            "port": self.port, "encrypted": self.habits.encrypted, "dht": self.habits.dht, "pex": self.habits.pex,
        }  # fmt: skip
        return [self.program, str(HERE / "peer.mjs"), json.dumps(options)]

    def complete(self) -> bool:
        return "\ncomplete\n" in self.log.read_text()
