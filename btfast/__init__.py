"""btfast: a fast BitTorrent downloader. Importing it loads nothing: each name is loaded when it is first used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btfast.client.blocking import download as download
    from btfast.client.checking import Check as Check
    from btfast.client.checking import CheckedFile as CheckedFile
    from btfast.client.checking import check as check
    from btfast.client.download import Download as Download
    from btfast.client.download import Result as Result
    from btfast.client.session import Session as Session
    from btfast.config import Settings as Settings
    from btfast.errors import DestinationBusyError as DestinationBusyError
    from btfast.errors import Error as Error
    from btfast.errors import IncompleteError as IncompleteError
    from btfast.errors import InputError as InputError
    from btfast.errors import InternalError as InternalError
    from btfast.errors import InterruptedError as InterruptedError
    from btfast.errors import LimitReachedError as LimitReachedError
    from btfast.errors import RemoteError as RemoteError
    from btfast.errors import SourceNotFoundError as SourceNotFoundError
    from btfast.errors import StorageError as StorageError
    from btfast.errors import VerificationError as VerificationError
    from btfast.metainfo.magnet import Magnet as Magnet
    from btfast.metainfo.torrent import Torrent as Torrent

__version__ = "0.1.0"  # pyproject.toml says the same; a test holds them together

_HOMES = {
    "download": "btfast.client.blocking",
    "check": "btfast.client.checking",
    "Check": "btfast.client.checking",
    "CheckedFile": "btfast.client.checking",
    "Download": "btfast.client.download",
    "Result": "btfast.client.download",
    "Session": "btfast.client.session",
    "Settings": "btfast.config",
    "Torrent": "btfast.metainfo.torrent",
    "Magnet": "btfast.metainfo.magnet",
    "Error": "btfast.errors",
    "InputError": "btfast.errors",
    "SourceNotFoundError": "btfast.errors",
    "RemoteError": "btfast.errors",
    "IncompleteError": "btfast.errors",
    "VerificationError": "btfast.errors",
    "StorageError": "btfast.errors",
    "DestinationBusyError": "btfast.errors",
    "InterruptedError": "btfast.errors",
    "LimitReachedError": "btfast.errors",
    "InternalError": "btfast.errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'btfast' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
