"""qBittorrent without a window, on Debian's libtorrent. Its DHT starts from a torrent's own nodes alone."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

from drivers.ports import ask
from drivers.program import Program

ALLOW, REQUIRE, DISABLE = 0, 1, 2


class QBittorrent(Program):
    name = "qBittorrent"
    program = "qbittorrent-nox"
    package = "qbittorrent-nox"

    def command(self) -> list[str]:
        session = {
            "Port": self.port, "Interface": "lo", "InterfaceName": "lo", "InterfaceAddress": "127.0.0.1",
            "Encryption": REQUIRE if self.habits.encrypted else DISABLE, "BTProtocol": "TCP",
            "DHTEnabled": bool(self.habits.dht), "LSDEnabled": False, "PeXEnabled": self.habits.pex,
            "MultiConnectionsPerIp": True, "SSRFMitigation": False, "QueueingSystemEnabled": False,
            "GlobalUPSpeedLimit": 0, "GlobalDLSpeedLimit": 0, "MaxUploads": -1, "MaxUploadsPerTorrent": -1,
            "DefaultSavePath": self.folder, "Preallocation": False,
        }  # fmt: skip
        web = {
            "Enabled": True, "Address": "127.0.0.1", "Port": self.control, "LocalHostAuth": False, "UseUPnP": False,
            "CSRFProtection": False, "HostHeaderValidation": False,
        }  # fmt: skip
        lines = ["[LegalNotice]", "Accepted=true", "[BitTorrent]"]
        lines += [f"Session\\{key}={_ini(value)}" for key, value in session.items()]
        lines += ["[Network]", "PortForwardingEnabled=false", "[Preferences]"]
        lines += [f"WebUI\\{key}={_ini(value)}" for key, value in web.items()]
        path = self.home / "qBittorrent" / "config" / "qBittorrent.conf"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines) + "\n")
        return [self.program, f"--profile={self.home}"]

    def add(self) -> bool:
        fields = {"savepath": str(self.folder), "skip_checking": "false", "paused": "false"}
        if isinstance(self.source, Path):
            boundary = "a-line-between"
            parts = [f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}' for key, value in fields.items()]
            head = 'Content-Disposition: form-data; name="torrents"; filename="t.torrent"\r\n'
            parts.append(head + "Content-Type: application/x-bittorrent\r\n\r\n" + self.source.read_bytes().decode("latin-1"))
            body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts).encode("latin-1") + f"--{boundary}--\r\n".encode()
            kind = f"multipart/form-data; boundary={boundary}"
        else:
            body = urllib.parse.urlencode({**fields, "urls": self.source}).encode()
            kind = "application/x-www-form-urlencoded"
        status, answer = ask(self.control, "/api/v2/torrents/add", body, {"Content-Type": kind})
        return status == 200 and answer == b"Ok."

    def complete(self) -> bool:
        _, answer = ask(self.control, "/api/v2/torrents/info")
        torrents = json.loads(answer)
        return bool(torrents) and all(item["progress"] == 1 and item["state"] in UPLOADING for item in torrents)

    def last_words(self) -> str:
        log = self.home / "qBittorrent" / "data" / "logs" / "qbittorrent.log"
        return super().last_words() + (log.read_text(errors="replace")[-1500:] if log.exists() else "")


UPLOADING = ("uploading", "stalledUP", "forcedUP")


def _ini(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
