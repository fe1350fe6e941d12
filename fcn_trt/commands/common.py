"""Options that several commands share, and what they all do around their one call."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fcn_trt.errors import MissingExtraError
from fcn_trt.spec import Precision, Size, parse_size

__all__ = [
    "BundleArgument",
    "JsonOption",
    "SizeOption",
    "needing_export",
    "parse_precision",
    "plain",
    "print_json",
]

T = TypeVar("T")


def _size(text: str | Size) -> Size:
    """Parser of size options; typer hands a default through it, too."""
    try:
        return parse_size(text) if isinstance(text, str) else text
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


SizeOption = Annotated[
    Any, typer.Option("--size", parser=_size, metavar="HxW", help="Height x width in pixels.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BundleArgument = Annotated[Path, typer.Argument(help="Folder of the engine bundle.")]


def parse_precision(text: str | None) -> Precision | None:
    """What --precision asks for; checked before any work begins."""
    known: dict[str | None, Precision | None] = {None: None, "fp32": "fp32", "bf16": "bf16"}
    if text not in known:
        raise typer.BadParameter(f"{text!r} is neither fp32 nor bf16", param_hint="'--precision'")
    return known[text]


def needing_export(call: Callable[[], T]) -> T:
    """Import what needs torch and onnx, or say how to install them."""
    try:
        return call()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this command needs the package {error.name}; install the export extra with "
            "`pip install 'fcn-trt[export]'`"
        ) from error


def print_json(value: Any) -> None:
    """Print a result for machines: paths as text, what is not a number as null."""
    typer.echo(json.dumps(plain(value), allow_nan=False))


def plain(value: Any) -> Any:
    """Turn a result into what JSON has; a dataclass becomes its fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
