"""`btfast VERB`: finds the verb's file and runs it. Imports stay lazy: what a command does not need is not loaded."""

from __future__ import annotations

import gc
import os
import signal
import sys

from btfast import __version__

INTERRUPTED = 7  # exit code

VERBS = {
    "get": "download torrents; exits when everything is complete and verified",
    "seed": "serve data that is complete, until stopped or a limit is reached",
    "check": "hash what is on disk and say what is good, bad or missing",
    "create": "make a .torrent of a file or a folder",
    "info": "print what is in a .torrent",
    "magnet": "print the magnet link of a .torrent",
    "tracker": "run a tracker",
    "dht": "run a DHT node, or look up the peers of an info-hash once",
    "demo": "prove this installation: tracker, seeder and download on this machine",
    "config": "print the settings in force and where each comes from",
    "completion": "print the completion script of a shell",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    if arguments is None:
        gc.set_threshold(50_000, 20, 20)  # what is imported stays, and all else is freed by counting: look for cycles seldom
        # Until a loop takes them, nothing is under way that could be saved, and an exception in the middle of an import
        # can crash a C extension: an interrupt leaves at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(INTERRUPTED))
        _fill_streams()
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in ("-V", "--version"):
        print(f"btfast {__version__}")
        return 0
    if words and words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    from btfast.cli.command import complain, run_verb
    from btfast.errors import InputError

    if not words:
        return complain(InputError("btfast: no command given: see `btfast --help`"))
    if words[0] not in VERBS:
        return complain(InputError(f"{words[0]}: no such command: see `btfast --help`"))
    code = run_verb(words[0], words[1:])
    if arguments is None:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """All is saved and said: to take the interpreter apart takes another 15 ms after 500 torrents."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return  # the interpreter's own end deals with a stream that is gone
    os._exit(code)


def _fill_streams() -> None:
    """A standard stream that the caller has closed leads nowhere: the next file or socket would get its descriptor."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<12}{what}" for verb, what in VERBS.items())
    return f"usage: btfast VERB [OPTIONS] ...\n\n{verbs}\n\n`btfast VERB --help` lists a verb's options."
