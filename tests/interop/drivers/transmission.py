"""Transmission's daemon. It takes no 127.0.0.0/8 from a tracker or from PEX, and its own DHT refuses such nodes."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from drivers.ports import ask
from drivers.program import Program


class Transmission(Program):
    name = "Transmission"
    program = "transmission-daemon"
    package = "transmission-daemon"
    must_be_dialed = True
    skips_empty_files = True
    host = "127.0.0.1"
    remote = True
    _session = ""

    def command(self) -> list[str]:
        folder = self.home / "transmission"
        folder.mkdir()
        (folder / "settings.json").write_text(json.dumps(self._settings()))
        if self.habits.dht:
            (folder / "dht.bootstrap").write_text(self.habits.dht.replace(":", " ") + "\n")
        return self._words(str(folder))

    def _words(self, folder: str) -> list[str]:
        return [self.program, "-f", "-g", folder, "--log-info", "-e", str(self.log)]

    def _settings(self) -> dict[str, object]:
        return {
            "bind-address-ipv4": self.host, "bind-address-ipv6": "::1", "peer-port": self.port,
            "peer-port-random-on-start": False, "rpc-enabled": self.remote, "rpc-bind-address": "127.0.0.1",
            "rpc-port": self.control, "rpc-authentication-required": False, "rpc-whitelist-enabled": False,
            "rpc-host-whitelist-enabled": False, "dht-enabled": bool(self.habits.dht), "lpd-enabled": False,
            "pex-enabled": self.habits.pex, "utp-enabled": False, "port-forwarding-enabled": False,
            "encryption": 2 if self.habits.encrypted else 0, "speed-limit-up-enabled": False,
            "speed-limit-down-enabled": False, "alt-speed-enabled": False, "ratio-limit-enabled": False,
            "idle-seeding-limit-enabled": False, "download-dir": str(self.folder), "incomplete-dir-enabled": False,
            "preallocation": 0, "start-added-torrents": True, "download-queue-enabled": False,
            "seed-queue-enabled": False, "peer-limit-global": 500, "peer-limit-per-torrent": 200,
            "upload-slots-per-torrent": 50, "prefetch-enabled": False, "cache-size-mb": 0,
        }  # fmt: skip

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        question = json.dumps({"method": method, "arguments": arguments}).encode()
        for _ in range(2):
            status, answer = ask(self.control, "/transmission/rpc", question, {"X-Transmission-Session-Id": self._session})
            if status != 409:
                break
            self._session = answer.decode().partition("X-Transmission-Session-Id: ")[2].partition("<")[0]
        reply = json.loads(answer)
        assert reply["result"] == "success", reply
        arguments = reply["arguments"]
        return arguments

    def add(self) -> bool:
        if isinstance(self.source, Path):
            self._call("torrent-add", metainfo=base64.b64encode(self.source.read_bytes()).decode())
        else:
            self._call("torrent-add", filename=self.source)
        return True

    def complete(self) -> bool:
        fields = ["percentDone", "status", "metadataPercentComplete"]
        torrents = self._call("torrent-get", fields=fields)["torrents"]
        seeding = 6
        return bool(torrents) and all(item["percentDone"] == 1 and item["status"] == seeding for item in torrents)


class TransmissionAlone(Transmission):
    """The same without remote control, to run in a network of its own at `host`: it finds the torrent in a folder."""

    must_be_dialed = False
    remote = False

    def _words(self, folder: str) -> list[str]:
        watched = self.home / "watched"
        watched.mkdir()
        assert isinstance(self.source, Path)
        shutil.copy(self.source, watched)
        return [*super()._words(folder), "--watch-dir", str(watched)]

    def add(self) -> bool:
        return True

    def complete(self) -> bool:
        return "State changed from \"Incomplete\" to \"Complete\"" in self.log.read_text(errors="replace")
