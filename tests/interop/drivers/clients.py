"""All of them, the slowest first: a run with several processes ends sooner."""

from __future__ import annotations

from drivers.aria2 import Aria2
from drivers.base import Driver
from drivers.libtorrent import LibtorrentDriver
from drivers.qbittorrent import QBittorrent
from drivers.rtorrent import RTorrent
from drivers.transmission import Transmission
from drivers.webtorrent import WebTorrent

CLIENTS: tuple[type[Driver], ...] = (Transmission, Aria2, QBittorrent, WebTorrent, RTorrent, LibtorrentDriver)
