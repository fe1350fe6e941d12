"""The file of a recipe: which keys there are, of which types, and how a wrong one is named."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fcn_trt.calibration.amax import Method
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import HardwareCompatibility, parse_bytes, parse_capability
from fcn_trt.errors import RecipeError
from fcn_trt.foreign import quoted, read_limited, shortened
from fcn_trt.input_format import InputColour, Rgb, Scale, is_number, three_channels
from fcn_trt.spec import NO_LABEL, Precision, Size, parse_size
from fcn_trt.type_adapter import type_adapter

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "DeviceTable",
    "DynamicTable",
    "RecipeTable",
    "invalid",
    "missing",
    "parse_recipe",
    "read_table",
    "read_text",
]

_NO_MORE = ConfigDict(extra="forbid")

MAX_BYTES = 128 << 10
"""Of a recipe; ours have 1 kB."""

MAX_DOTS = 256
"""In a line: a key of 50,000 parts takes 3 GB, as each part is remembered with all before it."""

T = TypeVar("T")


def _parsed(parse: Callable[[str], T], example: str) -> BeforeValidator:
    """A validator that reads text with one of our own parsers."""

    def read(value: object) -> T:
        if not isinstance(value, str):
            # A TypeError would go past pydantic, and lose the key.
            raise ValueError(f"{quoted(value)} is not text, such as {example!r}")  # noqa: TRY004
        return parse(value)

    return BeforeValidator(read)


def _capabilities(value: object) -> tuple[str, ...]:
    """One compute capability or several."""
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise ValueError("[] names no GPU; name one, or leave the key out")
    seen = set()
    for text in listed:
        if not isinstance(text, str):
            raise ValueError(  # noqa: TRY004  # as above
                f"{quoted(text)} is not text, such as '8.7', nor a list of such texts"
            )
        capability = parse_capability(text)
        if capability in seen:
            raise ValueError(f"{text!r} is given twice; name each GPU once")
        seen.add(capability)
    return tuple(listed)


def _whole(value: object) -> object:
    """A whole number, which True and 1.0 are not."""
    if type(value) is not int:
        raise ValueError(f"{quoted(value)} is not a whole number")
    return value


def _channels(value: object) -> Rgb:
    """A number for all channels, or three."""
    listed: list[Any] = value if isinstance(value, list) else [value]
    if not all(map(is_number, listed)):
        raise ValueError(
            f"{quoted(value)} is neither a number nor three, such as [123.7, 116.3, 103.5]"
        )
    return three_channels(listed)


_Text: TypeAlias = Annotated[str, Field(min_length=1)]
_Names: TypeAlias = Annotated[tuple[_Text, ...], Field(min_length=1)]
_Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
_Flag: TypeAlias = Annotated[bool, Field(strict=True)]
_Bytes: TypeAlias = Annotated[int, _parsed(parse_bytes, "512MiB")]
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1, strict=True)]
_Channels: TypeAlias = Annotated[Rgb, BeforeValidator(_channels)]
_Labels: TypeAlias = _Text | dict[_Text, str]
_Pixels: TypeAlias = Annotated[Size, _parsed(parse_size, "512x1024")]
_Capabilities: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_capabilities)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicTable:
    """The table [dynamic]; None is the recipe's own size or batch."""

    __pydantic_config__ = _NO_MORE

    min_size: _Pixels | None = None
    max_size: _Pixels | None = None
    min_batch: _Count | None = None
    max_batch: _Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTable:
    """The table [device]; None is the builder's default."""

    __pydantic_config__ = _NO_MORE

    name: str = ""
    compute_capability: _Capabilities | None = None
    workspace: _Bytes | None = None
    tactic_memory: _Bytes | None = None
    optimization_level: Annotated[int, Field(strict=True)] | None = None
    version_compatible: _Flag | None = None
    hardware_compatibility: HardwareCompatibility | None = None
    strip: _Flag | None = None
    timing_cache: _Flag | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeTable:
    """A recipe as it stands in its file."""

    __pydantic_config__ = _NO_MORE

    model: _Text
    weights: _Text | None = None
    weights_sha256: _Text | None = None
    labels: _Labels | None = None
    onnx_output: _Text | None = None
    size: _Pixels | None = None
    batch: _Count = 1
    precision: Precision | None = None
    target: Target | None = None
    output: _Text | None = None
    calibration: _Text | None = None
    method: Method | None = None
    keep_float: _Names | None = None
    images: _Text | None = None
    mean: _Channels | None = None
    std: _Channels | None = None
    scale: Annotated[Scale, BeforeValidator(_whole)] | None = None
    input_colour: InputColour | None = None
    threshold: _Share | None = None
    ema: _Flag | None = None
    ignore: Annotated[int, Field(ge=0, le=NO_LABEL, strict=True)] | None = None
    check: _Flag = True
    accept: _Share | None = None
    dynamic: DynamicTable | None = None
    device: DeviceTable = field(default_factory=DeviceTable)


_TABLES: dict[str, type[RecipeTable | DynamicTable | DeviceTable]] = {
    "": RecipeTable,
    "dynamic": DynamicTable,
    "device": DeviceTable,
}


def read_table(path: Path) -> RecipeTable:
    """Read a recipe's file.

    Raises:
        RecipeError: it cannot be read, or a key of it is unknown, missing or not valid.
    """
    content = parse_recipe(read_text(path), path)
    try:
        return type_adapter(RecipeTable).validate_python(content)
    except ValidationError as error:
        raise _refusal(path, error) from error


def read_text(path: Path) -> str:
    """A recipe's text, with its ends of line as they are.

    Raises:
        RecipeError: it cannot be read, is longer than `MAX_BYTES`, or is no text.
    """
    try:
        return read_limited(path, MAX_BYTES).decode()
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a TOML file: {error}") from error


def parse_recipe(text: str, path: Path) -> dict[str, Any]:
    """What a recipe's text says as TOML, whose whole numbers have 64 bits.

    Args:
        path: What to call it in messages.

    Raises:
        RecipeError: it is no TOML, is nested too deeply, or has a number that TOML does not have.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if (dots := line.count(".")) > MAX_DOTS:
            raise RecipeError(
                f"{path} has {dots} dots in line {number}; at most {MAX_DOTS} are read, as each "
                "may be a table in a table"
            )
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise RecipeError(f"{path} is not a TOML file: {error}") from error
    except RecursionError as error:
        raise RecipeError(f"{path} is nested too deeply; a recipe has tables of keys") from error
    _require_int64(content, path)
    return content


def _require_int64(content: dict[str, Any], path: Path) -> None:
    """Refuse whole numbers that are none of TOML, and that Python would not even print."""
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise RecipeError(f"{path} has a whole number of {value.bit_length()} bits, not 64")


def _refusal(path: Path, error: ValidationError) -> RecipeError:
    """The first thing that is wrong; an unknown key before the one that it may stand for."""
    unknown = "unexpected_keyword_argument"
    first = min(error.errors(), key=lambda found: found["type"] != unknown)
    *above, last = [shortened(str(part)) for part in first["loc"]]
    if first["type"] == unknown:
        return RecipeError(f"{path} has an unknown key: {_other_keys('.'.join(above), last)}")
    if first["type"] == "missing":
        return missing(path, ".".join([*above, last]))
    return invalid(path, ".".join([*above, last]), _reason(first))


_MEANING = {
    "model": "it names an architecture, published weights, or a checkpoint or .onnx file",
    "size": "it is height x width in pixels, such as 512x1024",
    "precision": f"it is one of {', '.join(get_args(Precision))}",
}
"""What the keys are that every recipe has, but for one that begins with an .onnx file."""


def missing(path: Path, key: str) -> RecipeError:
    """The error of a key that is needed and not there."""
    return RecipeError(f"{path} lacks the key {key!r}; {_MEANING[key]}")


def _other_keys(table: str, key: str) -> str:
    """An unknown key, the one that was probably meant, and all that there are."""
    known = [f.name for f in fields(_TABLES[table])]
    prefix = f"{table}." if table else ""
    near = difflib.get_close_matches(key, known, n=1)
    meant = f" (did you mean {prefix}{near[0]}?)" if near else ""
    where = f"in [{table}]" if table else "there"
    return f"{prefix}{key}{meant}; allowed {where} are {', '.join(known)}"


def _reason(found: ErrorDetails) -> str:
    """Why a value is not valid, in our words where pydantic's are not those of a user."""
    context: dict[str, Any] = found.get("ctx", {})
    value = quoted(found["input"])
    match found["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
            return f"{value} is none of {allowed}"
        case "dataclass_type":
            return f"{value} is not a table"
        case _:
            says = found["msg"].removeprefix("Input ").removeprefix("String ")
            return f"{value} {says}"


def invalid(path: Path, key: str, reason: str) -> RecipeError:
    """The error of a key whose value cannot be; tables stand before their keys, with a point."""
    return RecipeError(f"{path} is not valid at {key}: {reason}")
