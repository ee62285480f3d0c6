"""A libtorrent session in a process of its own, to be run inside another network: finds peers by LSD alone.

Usage: libtorrent_alone.py TORRENT FOLDER ADDRESS seed|fetch. Prints `ready` when it listens, `done` when it has everything;
ends with its standard input.
"""

from __future__ import annotations

import select
import sys

import libtorrent


def main(torrent: str, folder: str, address: str, role: str) -> None:
    listen = f"[{address}]:0" if ":" in address else f"{address}:0"
    session = libtorrent.session(
        {
            "listen_interfaces": listen, "enable_lsd": True, "enable_dht": False, "enable_upnp": False, "enable_natpmp": False,
            "enable_incoming_utp": False, "enable_outgoing_utp": False, "out_enc_policy": 2, "in_enc_policy": 2,
            "allow_multiple_connections_per_ip": True, "min_reconnect_time": 1, "alert_mask": 0,
            "local_service_announce_interval": 5,
        }
    )  # fmt: skip
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(torrent)
    parameters.save_path = folder
    if role == "seed":
        parameters.flags |= libtorrent.torrent_flags.seed_mode
    parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    handle = session.add_torrent(parameters)
    print("ready", flush=True)
    told = False
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        if not told and handle.status().is_seeding:
            handle.flush_cache()
            print("done", flush=True)
            told = True


if __name__ == "__main__":
    main(*sys.argv[1:5])
