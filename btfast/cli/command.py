"""What every verb shares: its parser, its resolved options, and the one line that an error becomes."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys

from btfast.cli.options import add_options, resolve
from btfast.cli.streams import silence_stdout
from btfast.cli.text import printable
from btfast.errors import Error, InputError, StorageError

INTERRUPTED = 7
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)  # what a full or broken disk says to who writes a result


class Parser(argparse.ArgumentParser):
    """Raises InputError where argparse would print its usage and exit."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{self.prog.removeprefix('btfast ')}: {message}: see `{self.prog} --help`")


def build_parser(verb: str, parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The parser of one verb; into `parser` where there is one."""
    module = importlib.import_module(f"btfast.cli.{verb}")
    if parser is None:
        parser = Parser(prog=f"btfast {verb}", allow_abbrev=False)
    parser.description = (module.__doc__ or "").partition("\n")[0]
    module.add_arguments(parser)
    add_options(parser, module.OPTIONS)
    return parser


def run_verb(verb: str, words: list[str]) -> int:
    """Parses the words after the verb and runs it; errors become one line and an exit code."""
    verbose = "-v" in words or "--verbose" in words
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        parsed = build_parser(verb).parse_intermixed_args(words)
        options = resolve(importlib.import_module(f"btfast.cli.{verb}").OPTIONS, vars(parsed))
        verbose = verbose or bool(options["verbose"])
        code: int = importlib.import_module(f"btfast.cli.{verb}").run(parsed, options)
        sys.stdout.flush()
        return code
    except Error as error:
        return complain(error, verbose=verbose)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError as error:  # whoever read our output has left: nothing more to say
        silence_stdout(error)
        return 1
    except OSError as error:
        if error.errno not in DISK or error.filename is not None:
            return complain(error, verbose=verbose)
        silence_stdout(error)
        return StorageError.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost frame: a bug becomes one line, with -v its traceback
        return complain(error, verbose=verbose)


def complain(error: Exception, *, verbose: bool = False) -> int:
    """Prints the error's one line, with `verbose` its traceback before; returns its exit code."""
    if verbose:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, Error):
        text, code = str(error), error.exit_code
    else:
        text, code = f"internal error: {type(error).__name__}: {error}: run again with -v and please report this", 1
    print(f"btfast: error: {printable(text)}", file=sys.stderr)
    return code
