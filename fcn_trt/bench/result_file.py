"""The one form of every result that is committed, so that none is without what it was measured on.

Its JSON Schema comes from `schema`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic_core import to_json

from fcn_trt.bench.environment import Environment, Text
from fcn_trt.errors import ResultFileError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import parse_json, printable, read_limited, shortened
from fcn_trt.type_adapter import type_adapter

__all__ = [
    "FORMAT",
    "ResultFile",
    "ResultFileError",
    "read_result",
    "to_result",
    "write_result",
]

FORMAT: Literal[1] = 1

MAX_BYTES = 64 << 20
"""Of a file of results; ours have 200 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """Results, what they were measured on, and how to measure them again.

    Attributes:
        format: Version of this form.
        benchmark: What was measured, such as "precisions".
        command: The one command that makes the file again.
        environment: What it was measured on.
        results: At least one; what is in each is the benchmark's own.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal[1]
    benchmark: Text
    command: Text
    environment: Environment
    results: Annotated[list[dict[str, Any]], Field(min_length=1)]


def to_result(
    *, benchmark: str, command: str, environment: Environment, results: Any
) -> ResultFile:
    """Put results into the form.

    Args:
        command: The one command that makes the file again.
        results: One result or several, each a dict or a dataclass; what is not a number becomes
            null.

    Raises:
        ResultFileError: they are not of the form.
    """
    several = list(results) if isinstance(results, list | tuple) else [results]
    content = {
        "format": FORMAT,
        "benchmark": benchmark,
        "command": printable(command),
        "environment": environment,
        "results": several,
    }
    return _parse(to_json(content, inf_nan_mode="null"), f"the result of {benchmark}")


def write_result(
    path: Path, *, benchmark: str, command: str, environment: Environment, results: Any
) -> None:
    """Write results, as `to_result` takes them; a file that is there is replaced.

    Raises:
        OutputError: the file cannot be written.
        ResultFileError: the results are not of the form.
    """
    found = to_result(
        benchmark=benchmark, command=command, environment=environment, results=results
    )
    write_atomic(path, to_json(found, indent=2) + b"\n")


def read_result(path: Path) -> ResultFile:
    """Read a file of results, strictly.

    Raises:
        ResultFileError: it cannot be read, or is not of this form.
    """
    try:
        data = read_limited(path, MAX_BYTES)
    except OSError as error:
        raise ResultFileError(f"{path} cannot be read: {error.strerror}") from error
    try:
        parse_json(data)  # and numbers that nobody can compute with are refused
    except ValueError as error:
        raise _no_result(str(path), f"the file: {shortened(str(error))}") from error
    return _parse(data, str(path))


def _parse(data: bytes, name: str) -> ResultFile:
    try:
        return type_adapter(ResultFile).validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise _no_result(name, f"{where}: {first['msg'].lower()}") from error


def _no_result(name: str, reason: str) -> ResultFileError:
    return ResultFileError(
        f"{name} is no file of results of format {FORMAT}: {reason}; measure again with the "
        "benchmark that wrote it"
    )
