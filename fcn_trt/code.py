"""What a part of this package runs, from its imports: a kept result depends on all of that.

A constant that is edited changes what a step makes as much as an argument does, and the version of
the package stays as it is while somebody works on it. So whatever is kept for later is kept under
the hash of the code that made it. Which code that is, the imports say: those inside functions, too,
but not those that only annotations need.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["code_files", "code_sha256", "libraries"]

PACKAGE = Path(__file__).parent


def code_sha256(*modules: str, alone: bool = False) -> str:
    """SHA-256 of the files that modules run, of names and content.

    Args:
        modules: Names in this package, such as "fcn_trt.stages.decode".
        alone: Take their own files only, and not what they import.

    Raises:
        ValueError: there is no such module, as after a file was renamed.
    """
    digest = hashlib.sha256()
    for path in map(_own_file, modules) if alone else code_files(*modules):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def code_files(*modules: str) -> list[Path]:
    """The files that modules run: their own, those of what they import, and the data beside these.

    Data is a JSON file of a module's own name, and a folder without modules, such as the kernels,
    of every module beside it.

    Args:
        modules: Names in this package.

    Raises:
        ValueError: there is no such module.
    """
    return sorted({file for path in _closure(modules) for file in (path, *_data(path))})


def libraries(*modules: str) -> set[str]:
    """Names of the other packages that modules import, the standard library's among them.

    Args:
        modules: Names in this package.

    Raises:
        ValueError: there is no such module.
    """
    names = {name for path in _closure(modules) for name in _imports(path)}
    return {name.partition(".")[0] for name in names} - {PACKAGE.name}


def _closure(modules: tuple[str, ...]) -> frozenset[Path]:
    """The modules' files and those of everything that they import, directly or not."""
    return _reached(tuple(f for m in modules for f in (_own_file(m), *_files(m))))


@cache
def _reached(begin: tuple[Path, ...]) -> frozenset[Path]:
    """Files, and those of everything that they import, directly or not."""
    found: set[Path] = set()
    waiting = list(begin)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported_files(path)
    return frozenset(found)


@cache
def _imported_files(path: Path) -> frozenset[Path]:
    """The files that Python runs for a file's imports."""
    return frozenset(file for name in _imports(path) for file in _files(name))


def _files(name: str) -> Iterator[Path]:
    """What Python runs to import a name: packages from the top down, and the module itself."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = _file(".".join(parts[:length]))
        if path is not None:
            yield path


def _own_file(module: str) -> Path:
    """The file of a module that has to be there."""
    path = _file(module)
    if path is None:
        raise ValueError(f"there is no module {module!r}")
    return path


def _file(name: str) -> Path | None:
    """The file of a module of this package; None for what is none."""
    first, *parts = name.split(".")
    if first != PACKAGE.name:
        return None
    stem = PACKAGE.joinpath(*parts)
    return next((p for p in (stem / "__init__.py", stem.with_suffix(".py")) if p.is_file()), None)


@cache
def _imports(path: Path) -> frozenset[str]:
    """Everything that a file imports: modules, and names out of them that may be modules."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            # No expression holds a statement.
            waiting += (c for c in ast.iter_child_nodes(node) if not isinstance(c, ast.expr))
    return frozenset(found)


def _data(path: Path) -> tuple[Path, ...]:
    """The files beside a module that it reads."""
    table = path.with_suffix(".json")
    return (*([table] if table.is_file() else []), *_data_folders(path.parent))


@cache
def _data_folders(folder: Path) -> tuple[Path, ...]:
    """The files in those of a folder's folders that have no modules."""
    inner = [path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"]
    data = [path for path in inner if not any(path.rglob("*.py"))]
    return tuple(file for each in data for file in each.rglob("*") if file.is_file())
