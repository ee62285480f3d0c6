"""libtorrent as a downloader and as the seeder of many torrents: one process, one job, run by the bench.

python libtorrent_peer.py leech JOB_JSON     JOB: {"torrents": [...], "folder": "...", "tuned": bool, "encrypted": bool}
python libtorrent_peer.py resolve JOB_JSON   JOB: {"links": "list.txt", "folder": "...", "tuned": bool, "encrypted": bool}
python libtorrent_peer.py node JOB_JSON      JOB: {"torrent", "folder", "host", "port", "seed": bool, "rate", "peer"}
python libtorrent_peer.py seed JOB_JSON      JOB: {"torrents": [...], "folder": "...", "host": "127.0.0.2"}
JOB_JSON may be @FILE, where it is too long for a command line.

Neither talks to anything but the peers and trackers of the bench. Imports nothing of the bench, so that a start costs
what starting libtorrent costs.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import warnings
from typing import Any

warnings.filterwarnings("ignore", category=DeprecationWarning)
import libtorrent as lt  # noqa: E402  (its own deprecations would fill the output)

PR_SET_PDEATHSIG = 1

# Left alone, a session would look for peers outside this machine; and it would knock at every seed with encryption
# first, which the cheap seeds do not speak, and lose a second in coming back. (With default settings it also tries uTP
# first and loses about four seconds: that is left as it is, for it is what tuning turns off.)
ISOLATED = {"enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False}
PLAIN_TEXT = {"out_enc_policy": int(lt.enc_policy.pe_disabled)}
RC4_ONLY = {
    "out_enc_policy": int(lt.enc_policy.pe_forced),
    "in_enc_policy": int(lt.enc_policy.pe_forced),
    "allowed_enc_level": int(lt.enc_level.rc4),
}

TUNED = {
    "max_out_request_queue": 1500,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "hashing_threads": 2,
    "aio_threads": 4,
    "recv_socket_buffer_size": 1 << 20,
    "max_queued_disk_bytes": 64 << 20,
    "connection_speed": 500,
    "torrent_connect_boost": 255,
}

# Hundreds of uTP connections over one UDP socket stall one another: over TCP a default libtorrent is done far sooner.
SEEDING = {
    "allow_multiple_connections_per_ip": True,
    "connections_limit": 5000,
    "unchoke_slots_limit": -1,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
}

CATEGORIES = lt.alert.category_t
MASK = CATEGORIES.status_notification | CATEGORIES.storage_notification | CATEGORIES.error_notification


def add_parameters(torrent: str, folder: str) -> Any:
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(torrent)
    parameters.save_path = folder
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    return parameters


def listening(host: str) -> dict[str, Any]:
    return {"listen_interfaces": f"{host}:0", "alert_mask": int(MASK), "alert_queue_size": 100_000}


def downloader(job: dict[str, Any]) -> Any:
    """A session with default settings, or with tuned ones."""
    settings: Any = {**lt.high_performance_seed(), **TUNED} if job["tuned"] else {}
    settings |= {**ISOLATED, **(RC4_ONLY if job["encrypted"] else PLAIN_TEXT), **listening("127.0.0.1")}
    return lt.session(settings)


def resolve(job: dict[str, Any]) -> None:
    """Makes .torrent files of all magnet links; returns once all are written."""
    session = downloader(job)
    with open(job["links"]) as links:
        every = links.read().split()
    for link in every:
        parameters = lt.parse_magnet_uri(link)
        parameters.save_path = job["folder"]
        parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        parameters.flags |= lt.torrent_flags.upload_mode  # it must not fetch the data
        session.async_add_torrent(parameters)
    left = len(every)
    while left:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.metadata_received_alert):
                info = alert.handle.torrent_file()
                torrent = lt.bencode(lt.create_torrent(info).generate())
                with open(os.path.join(job["folder"], f"{info.info_hash()}.torrent"), "wb") as file:
                    file.write(torrent)
                session.remove_torrent(alert.handle)
                left -= 1


def leech(job: dict[str, Any]) -> None:
    """Downloads all torrents from the peers that their trackers name; returns once all are complete and flushed.

    Raises SystemExit on an error.
    """
    session = downloader(job)
    for torrent in job["torrents"]:
        session.async_add_torrent(add_parameters(torrent, job["folder"]))
    unfinished = len(job["torrents"])
    flushing: set[Any] = set()
    while unfinished or flushing:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.torrent_finished_alert):
                alert.handle.flush_cache()
                flushing.add(alert.handle)
                unfinished -= 1
            elif isinstance(alert, lt.cache_flushed_alert):
                flushing.discard(alert.handle)  # more than one may come for a torrent
            elif isinstance(alert, (lt.file_error_alert, lt.torrent_error_alert)):
                raise SystemExit(alert.message())


def seed(job: dict[str, Any]) -> None:
    """Checks all torrents and serves them until it is killed. (In seed mode the first round would pay for the checks.)"""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    settings: Any = {**lt.high_performance_seed(), **SEEDING, **ISOLATED, **listening(job["host"])}
    session = lt.session(settings)
    for torrent in job["torrents"]:
        session.async_add_torrent(add_parameters(torrent, job["folder"]))
    unchecked = len(job["torrents"])
    while unchecked or not session.listen_port():
        session.wait_for_alert(100)
        unchecked -= sum(isinstance(alert, lt.torrent_checked_alert) for alert in session.pop_alerts())
    print(f"listening {job['host']}:{session.listen_port()}", flush=True)
    print("ready", flush=True)
    while True:
        session.wait_for_alert(60_000)
        session.pop_alerts()


def node(job: dict[str, Any]) -> None:
    """One member of a swarm, to the end of its input: serves what it has, at no more than `rate` bytes/s where that is set.

    With `peer` it knows that one and neither asks trackers nor takes part in peer exchange.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    settings: Any = {**lt.high_performance_seed(), **TUNED, **SEEDING, **ISOLATED, **PLAIN_TEXT, **listening(job["host"])}
    settings |= {"listen_interfaces": f"{job['host']}:{job['port']}"}
    session = lt.session(settings, 0 if job["peer"] else 1)  # 1: with the usual extensions
    parameters = add_parameters(job["torrent"], job["folder"])
    if job["seed"]:
        parameters.flags |= lt.torrent_flags.seed_mode
    handle = session.add_torrent(parameters)
    if job["rate"]:
        handle.set_upload_limit(job["rate"])  # a limit of the session leaves out peers on this machine
    while not session.listen_port():
        session.wait_for_alert(10)
        session.pop_alerts()
    print("ready", flush=True)
    if job["peer"]:
        handle.connect_peer((job["peer"][0], job["peer"][1]))
    while not job["seed"]:
        session.wait_for_alert(1000)
        kinds = [type(alert) for alert in session.pop_alerts()]
        if lt.torrent_finished_alert in kinds:
            handle.flush_cache()
        if lt.cache_flushed_alert in kinds and handle.status().is_seeding:
            print("finished", flush=True)
            break
    sys.stdin.read()


if __name__ == "__main__":
    job_of = {"node": node, "leech": leech, "resolve": resolve, "seed": seed}
    told = sys.argv[2]
    if told.startswith("@"):
        with open(told[1:]) as file:
            told = file.read()
    job_of[sys.argv[1]](json.loads(told))
    os._exit(0)  # the data is flushed: the time that a session takes to close is not counted against libtorrent
