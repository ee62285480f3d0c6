"""The house rules as functions from source text to complaints. Each complaint says where, what, and what to do.

Imports inside functions and under TYPE_CHECKING count like those at the top: a rule that can be dodged is none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

MAX_LINES = 500
FLOORS = {
    "errors": 0, "config": 0, "events": 0, "frames": 0, "process_name": 0, "progress": 0, "sweep": 0,
    "metainfo": 1,
    "wire": 2, "discovery": 2, "swarm": 2, "storage": 2,
    "engine": 3, "tracker": 3,
    "client": 4,
    "cli": 5,
    "__main__": 6,
}  # fmt: skip
FACADE = 6  # btfast/__init__.py
NETWORKED = {"engine", "tracker", "client", "cli", "__main__"}
NETWORK_MODULES = {"socket", "ssl", "uvloop", "asyncio", "aiohttp"}
IMPURE_MODULES = {"time", "random", "secrets"}
FORKING_MODULES = {"multiprocessing", "concurrent.futures.process"}
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b")
CIMPORT = re.compile(
    r"^\s*(?:from\s+btfast\.(\w+)\s+(?:cimport|import)\b|(?:cimport|import)\s+btfast\.(\w+)|from\s+btfast\s+cimport\s+(\w+)"
    r'|include\s+"(\w+)\.pxi")',
    re.MULTILINE,
)


def room_of(module: str) -> str:
    """The part below btfast that a module belongs to; empty for btfast itself."""
    return module.partition(".")[2].partition(".")[0]


class Import(NamedTuple):
    """`target`: the module, for `from a import b` with b a module of ours a.b; `names`: what is taken from it."""

    target: str
    names: tuple[str, ...]
    line: int


class Source(NamedTuple):
    """One Python file of the package. `name`: its module."""

    name: str
    path: Path
    text: str

    @property
    def room(self) -> str:
        return room_of(self.name)

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))


def package(root: Path) -> dict[str, Source]:
    """All Python files of the package below `root`, by module name."""
    found = {}
    for path in sorted((root / "btfast").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Source(name, path.relative_to(root), path.read_text())
    return found


def imports(source: Source, ours: Iterable[str]) -> Iterator[Import]:
    """Everything that the file imports, wherever in it."""
    known = set(ours)
    here = source.name.split(".") if source.path.name == "__init__.py" else source.name.split(".")[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [base])])
            plain = []
            for alias in node.names:
                if f"{base}.{alias.name}" in known or (base == "btfast" and is_compiled(alias.name)):
                    yield Import(f"{base}.{alias.name}", (), node.lineno)
                else:
                    plain.append(alias.name)
            if plain:
                yield Import(base, tuple(plain), node.lineno)


def is_version_only(found: Import) -> bool:
    """`from btfast import __version__`: a constant of a package that is loaded anyway, no dependency."""
    return found.target == "btfast" and found.names == ("__version__",)


def is_compiled(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def floor(room: str) -> int | None:
    if room == "":
        return FACADE
    if is_compiled(room):
        return 0  # a compiled module: it imports nothing of the package's Python
    return FLOORS.get(room)


def check_floors(sources: Mapping[str, Source]) -> list[str]:
    """Imports run down; rooms of one floor do not import one another."""
    complaints = []
    for source in sources.values():
        mine = floor(source.room)
        if mine is None:
            complaints.append(f"{source.path}: {source.room!r} is on no floor: give it one in tests/house_rules.py")
            continue
        for found in imports(source, sources):
            if found.target.split(".")[0] != "btfast" or is_version_only(found):
                continue
            room = room_of(found.target)
            theirs = floor(room)
            if room == source.room or (theirs is not None and theirs < mine) or (mine == theirs == 0):
                continue
            complaints.append(
                f"{source.path}:{found.line}: imports {found.target} (floor {theirs}) from floor {mine}: imports only "
                "run down: move what both need to a lower floor, or take it as an argument or a small Protocol"
            )
    return complaints


def check_modules(sources: Mapping[str, Source]) -> list[str]:
    """Sockets and loops only where they belong; no clock and no dice on floors 0 to 2; no forking anywhere."""
    complaints = []
    for source in sources.values():
        for found in imports(source, sources):
            top = found.target.split(".")[0]
            where = f"{source.path}:{found.line}: imports {found.target}"
            if top in NETWORK_MODULES and source.room not in NETWORKED:
                rooms = ", ".join(sorted(NETWORKED))
                complaints.append(f"{where}: only {rooms} may: hand the bytes in and out instead")
            mine = floor(source.room)
            if top in IMPURE_MODULES and mine is not None and mine <= 2:
                complaints.append(f"{where}: not on floors 0 to 2: take `now` or the random source as an argument")
            if found.target in FORKING_MODULES or top in FORKING_MODULES:
                complaints.append(f"{where}: start processes with `subprocess` and passed descriptors")
    return complaints


def find_cycle(graph: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Some cycle of the graph as a path that ends where it began, or None."""
    done: set[str] = set()
    path: list[str] = []

    def visit(node: str) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        path.append(node)
        for other in sorted(graph.get(node, ())):
            cycle = visit(other)
            if cycle is not None:
                return cycle
        path.pop()
        done.add(node)
        return None

    for node in sorted(graph):
        cycle = visit(node)
        if cycle is not None:
            return cycle
    return None


def import_graph(sources: Mapping[str, Source]) -> dict[str, set[str]]:
    """Which file imports which, within the package."""
    return {
        source.name: {
            found.target for found in imports(source, sources) if found.target in sources and not is_version_only(found)
        }
        for source in sources.values()
    }


def cimport_graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Which compiled module needs which; `texts` by file name (x.pyx, x.pxd, x.pxi count as one)."""
    graph: dict[str, set[str]] = {Path(name).stem: set() for name in texts}
    for name, text in texts.items():
        stem = Path(name).stem
        graph[stem] |= {"".join(groups) for groups in CIMPORT.findall(text)} - {stem}
    return graph


def check_package_files(sources: Mapping[str, Source]) -> list[str]:
    """The __init__.py of a room on floors 1 to 4 stays empty but for a docstring."""
    complaints = []
    for source in sources.values():
        mine = floor(source.room)
        if source.path.name == "__init__.py" and mine is not None and 1 <= mine <= 4:
            body = source.tree.body
            if len(body) > 1 or (body and ast.get_docstring(source.tree) is None):
                complaints.append(f"{source.path}: holds code that every import of a neighbour would load: move it out")
    return complaints


def check_handlers(path: Path, text: str) -> list[str]:
    """No bare `except:`; no error swallowed whole."""
    complaints = []
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.ExceptHandler):
            where = f"{path}:{node.lineno}"
            if node.type is None:
                complaints.append(f"{where}: bare `except:`: name what is expected")
            elif _is_broad(node.type) and all(_does_nothing(step) for step in node.body):
                complaints.append(f"{where}: swallows every error: name what is expected, or report it")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called == "suppress" and any(_is_broad(argument) for argument in node.args):
                complaints.append(f"{path}:{node.lineno}: suppresses every error: name what is expected")
    return complaints


def _is_broad(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_is_broad(element) for element in node.elts)
    return isinstance(node, ast.Name) and node.id in ("Exception", "BaseException")


def _does_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass | ast.Continue)


def check_text(path: Path, text: str) -> list[str]:
    """Short enough, and finished."""
    complaints = []
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        complaints.append(f"{path}: {len(lines)} lines, above {MAX_LINES}: make it a holder of parts, each a file")
    for number, line in enumerate(lines, 1):
        marker = UNFINISHED.search(line)
        if marker:
            complaints.append(f"{path}:{number}: {marker[0]}: finish it, or write down elsewhere what is left")
    return complaints
