"""Check that what the package uses of TensorRT exists in every release it is written for.

    python -m tests.bindings.check

mypy reads the package once for each release, with stubs of that release's real bindings in the
place of `tensorrt_types`. By their types it follows `trt: TensorRt`, and everything that comes from
it, and reports an attribute that the release lacks, a call that it does not take, and a subclass
that overrides what is not there.

It knows two gates for what only some releases have. Each is for the one name that it gives:

    if hasattr(config, "set_compute_capability"):
        config.set_compute_capability(capability, 0)
    creator = getattr(trt, "create_runtime_config", None)

What has the type Any, it does not see.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mypy.build import BuildResult, build
from mypy.errors import CompileError
from mypy.main import process_options
from mypy.nodes import MemberExpr, TypeInfo
from mypy.types import CallableType, Instance, Type, get_proper_type

from tests.bindings.bindings import BindingsError, OtherPlatformError, stubs
from tests.bindings.releases import RELEASES, Release
from tests.bindings.stub_source import CLASSES, LIBRARY, TYPES

__all__ = ["Finding", "Report", "check", "package_files"]

PACKAGE = Path(__file__).parents[2] / "fcn_trt"

_OPTIONS = (
    "--config-file=",
    "--cache-dir=/dev/null",
    "--no-incremental",
    "--python-version=3.10",
    "--no-site-packages",  # other libraries are Any
    "--ignore-missing-imports",
    "--follow-imports=skip",  # no other file touches TensorRT
    "--check-untyped-defs",
    "--explicit-package-bases",
)
_CODES = ("attr-defined", "union-attr", "call-arg", "call-overload", "arg-type")
"""What is wrong wherever it is said; the other messages are for the ordinary run of mypy."""

_ERROR = re.compile(r"(?P<path>.+?):(?P<line>\d+): error: (?P<text>.*)  \[(?P<code>[\w-]+)\]")
_BASE = re.compile(r'Name ".+\.(\w+)" is not defined')
"""What mypy says of `class Log(trt.ILogger)`: a base that is only known when it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a release does not have."""

    path: Path
    line: int
    release: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.release}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found about one release.

    Attributes:
        release: Its name.
        attributes: What the files use of it and it has, such as "IBuilderConfig.set_flag".
        findings: What they use and it has not.
    """

    release: str
    attributes: frozenset[str]
    findings: tuple[Finding, ...]


def package_files() -> list[Path]:
    """The files of the package that can touch TensorRT: all that name it."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "tensorrt" in path.read_text()]


def check(files: Sequence[Path], release: Release) -> Report:
    """Check files against one release.

    Args:
        files: Python sources.
        release: Which.

    Raises:
        UnreachableIndexError: its bindings are not in the cache, and pip reaches no index.
        OtherPlatformError: they are not known for this machine or Python.
        BindingsError: its bindings cannot be had, a file is no Python, or none uses TensorRT, so
            that nothing was checked.
    """
    result = _run_mypy(files, stubs(release))
    attributes = frozenset(_attributes(result))
    if not attributes:
        raise BindingsError(
            f"{release.name}: nothing of it is used in the {len(files)} files checked; give the "
            f"library the type {LIBRARY} of {TYPES}"
        )
    findings = tuple(
        Finding(path=path, line=line, release=release.name, text=text)
        for path, line, text in _problems(result)
        if path.resolve() in {file.resolve() for file in files}
    )
    return Report(release=release.name, attributes=attributes, findings=findings)


def _run_mypy(files: Sequence[Path], folder: Path) -> BuildResult:
    sources, options = process_options([*_OPTIONS, *map(str, files)])
    options.mypy_path = [str(folder), str(PACKAGE.parent)]
    options.export_types = True
    try:
        return build(sources, options)
    except CompileError as error:
        raise BindingsError(f"mypy cannot read the files: {error.messages[0]}") from error


def _attributes(result: BuildResult) -> Iterator[str]:
    """The attributes that exist, by class and name."""
    for expression in result.types:
        if isinstance(expression, MemberExpr):
            owner = _class_of(result.types.get(expression.expr))
            if owner is None or owner.module_name not in (CLASSES, TYPES):
                continue
            if owner.get(expression.name) is not None:
                yield f"{owner.name}.{expression.name}"


def _class_of(kind: Type | None) -> TypeInfo | None:
    """The class of a value, or that a value is."""
    proper = get_proper_type(kind)
    if isinstance(proper, Instance):
        return proper.type
    if isinstance(proper, CallableType) and proper.is_type_obj():
        return proper.type_object()
    return None


def _problems(result: BuildResult) -> Iterator[tuple[Path, int, str]]:
    """Path, line and text of everything that is missing."""
    for message in result.errors:
        error = _ERROR.fullmatch(message)
        if error is None or error["text"].startswith('Item "None"'):
            continue
        path, line = Path(error["path"]), int(error["line"])
        base = _BASE.fullmatch(error["text"])
        if error["code"] in _CODES:
            yield path, line, error["text"]
        elif base is not None:
            yield from ((path, at, text) for at, text in _in_subclass(result, path, line, base[1]))


def _in_subclass(
    result: BuildResult, path: Path, line: int, base: str
) -> Iterator[tuple[int, str]]:
    """Line and text of what a subclass takes for given: its base, and the methods it overrides."""
    known = result.files[CLASSES].names.get(base)
    if known is None or not isinstance(known.node, TypeInfo):
        yield line, f'"{LIBRARY}" has no attribute "{base}"'
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and any(part.lineno == line for part in node.bases):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and known.node.get(method.name) is None:
                    yield method.lineno, f'"{base}" has no method "{method.name}" to override'


def main(files: Sequence[Path], releases: Iterable[Release] = RELEASES) -> int:
    """Print what was checked and what was found.

    Returns:
        The exit status: 1 if anything was found or could not be checked where it should be.
    """
    status = 0
    for release in releases:
        try:
            report = check(files, release)
        except OtherPlatformError as error:
            sys.stdout.write(f"not checked here: {error}\n")
            continue
        except BindingsError as error:
            status = 1
            sys.stdout.write(f"{error}\n")
            continue
        status = 1 if report.findings else status
        sys.stdout.writelines(f"{finding}\n" for finding in report.findings)
        sys.stdout.write(
            f"{report.release}: files {len(files)}, attributes in use {len(report.attributes)}, "
            f"missing {len(report.findings)}\n"
        )
    return status


if __name__ == "__main__":
    sys.exit(main(package_files()))
