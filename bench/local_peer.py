"""libtorrent and torf as programs that check data on disk or make torrents of it: one process, one job, run by the bench.

python local_peer.py libtorrent-check TORRENT FOLDER        python local_peer.py torf-check TORRENT CONTENT
python local_peer.py libtorrent-create CONTENT OUT VERSION  python local_peer.py torf-create CONTENT OUT
python local_peer.py direct-read CONTENT (what the disk gives: past the page cache, and nothing is hashed)

Each imports only what its job needs, so that a start costs what starting that library costs. Two threads hash, where the
library lets that be said.
"""

from __future__ import annotations

import os
import sys
import warnings

PIECE = 1 << 20
THREADS = 2
DEPTH = 32

warnings.filterwarnings("ignore", category=DeprecationWarning)


def libtorrent_check(torrent: str, folder: str) -> None:
    """Returns when every piece was hashed and found right; else SystemExit."""
    import libtorrent as lt

    quiet = {"enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False}
    quiet |= {"listen_interfaces": "127.0.0.1:0", "hashing_threads": THREADS, "aio_threads": 2 * THREADS}
    session = lt.session({**quiet, "alert_mask": int(lt.alert.category_t.status_notification)})
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(torrent)
    parameters.save_path = folder
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(parameters)
    while not any(isinstance(alert, lt.torrent_checked_alert) for alert in session.pop_alerts()):
        session.wait_for_alert(1000)
    if not handle.status().is_seeding:
        raise SystemExit("libtorrent finds the data wrong")


def libtorrent_create(content: str, out: str, version: str) -> None:
    import libtorrent as lt

    storage = lt.file_storage()
    lt.add_files(storage, content)
    made = lt.create_torrent(storage, PIECE, lt.create_torrent.v1_only if version == "1" else 0)
    lt.set_piece_hashes(made, os.path.dirname(content))
    with open(out, "wb") as file:
        file.write(lt.bencode(made.generate()))


def torf_check(torrent: str, content: str) -> None:
    import torf

    if not torf.Torrent.read(torrent).verify(content, threads=THREADS):
        raise SystemExit("torf finds the data wrong")


def torf_create(content: str, out: str) -> None:
    import torf

    made = torf.Torrent(path=content, piece_size=PIECE)
    made.generate(threads=THREADS)
    made.write(out)


def direct_read(content: str) -> None:
    """All of it, DEPTH requests at a time."""
    import itertools
    import mmap
    import threading

    size, turns = os.path.getsize(content), itertools.count()
    fd = os.open(content, os.O_RDONLY | os.O_DIRECT)
    read: list[int] = []

    def work() -> None:
        room = mmap.mmap(-1, PIECE)
        while (offset := next(turns) * PIECE) < size:
            read.append(os.preadv(fd, [room], offset))

    threads = [threading.Thread(target=work) for _ in range(DEPTH)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sum(read) != size:
        raise SystemExit(f"{sum(read)} bytes were read of {size}")


if __name__ == "__main__":
    jobs = {
        "libtorrent-check": libtorrent_check,
        "libtorrent-create": libtorrent_create,
        "torf-check": torf_check,
        "torf-create": torf_create,
        "direct-read": direct_read,
    }
    jobs[sys.argv[1]](*sys.argv[2:])  # type: ignore[operator]
    os._exit(0)
