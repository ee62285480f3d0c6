"""Print the completion script of a shell."""

from __future__ import annotations

import argparse

from btfast.cli.options import Options

OPTIONS = ()
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or tcsh")


def run(parsed: argparse.Namespace, options: Options) -> int:
    import shtab

    print(shtab.complete(full_parser(), shell=parsed.shell))
    return 0


def full_parser() -> argparse.ArgumentParser:
    """Every verb and option in one parser; only completion needs it."""
    from btfast.cli import VERBS
    from btfast.cli.command import build_parser

    parser = argparse.ArgumentParser(prog="btfast", description="a fast BitTorrent downloader")
    parser.add_argument("--version", action="store_true", help="print the version")
    verbs = parser.add_subparsers(metavar="VERB")
    for verb, what in VERBS.items():
        build_parser(verb, verbs.add_parser(verb, help=what))
    return parser
