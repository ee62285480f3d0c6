"""Errors say whose fault it was: the caller's, a remote's, the local disk's, or ours. Each maps to one exit code."""

from __future__ import annotations


class Error(Exception):
    """Anything that btfast raises on purpose. `facts` are also attributes of the instance."""

    exit_code = 1

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args[0], self.facts)


def _rebuild(cls: type[Error], message: str, facts: dict[str, object]) -> Error:
    return cls(message, **facts)


class InputError(Error):
    """The caller gave something that cannot be used: an option, a malformed torrent."""

    exit_code = 2


class SourceNotFoundError(InputError):
    """The source does not exist: no such file, HTTP 404, a dead magnet."""

    exit_code = 5


class RemoteError(Error):
    """A peer, tracker or node broke its protocol or went away; trying again may help."""

    exit_code = 3


class IncompleteError(RemoteError):
    """Not everything could be fetched: no peers, or a timeout."""


class VerificationError(Error):
    """Data does not match its hashes."""

    exit_code = 4


class StorageError(Error):
    """The local disk refused: full, no permission, input/output error."""

    exit_code = 6


class DestinationBusyError(StorageError):
    """Another btfast holds this destination."""

    exit_code = 10


class InterruptedError(Error):
    """Stopped by the user; the state is saved."""

    exit_code = 7


class LimitReachedError(Error):
    """A limit that the caller set was reached, such as --max-time."""

    exit_code = 8


class InternalError(Error):
    """A bug of ours. Please report it."""


def bug(what: str, error: BaseException) -> InternalError:
    """What is told of an exception that nobody foresaw. `what`: the item or the process that it ends."""
    return InternalError(f"{what}: {type(error).__name__}: {error}: please report this")
