"""The calibration cache: how large each tensor of a network gets, made once and kept in a file.

Format 1 is one JSON object in UTF-8 with exactly the keys of `_Content`, `format` and `sha256`, the
hash of the others. A reader refuses another format number, another hash, a missing or an extra key,
and a histogram that does not fit its maximum.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import onnx
from pydantic import ConfigDict, ValidationError

from fcn_trt.calibration.amax import ZERO_AMAX, Method, find_amax
from fcn_trt.calibration.histogram import MAX_LIMIT, Histogram, pack_histogram, unpack_histogram
from fcn_trt.errors import CalibrationError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import parse_json, quoted, read_limited
from fcn_trt.network.identity import network_sha256
from fcn_trt.spec import QuantisedPrecision, Size, Spec
from fcn_trt.type_adapter import type_adapter

__all__ = [
    "FORMAT",
    "CalibrationCache",
    "TensorRange",
    "calibration_sha256",
    "network_sha256",
    "read_calibration",
    "require_made_for",
    "write_calibration",
]

FORMAT = 1
DIGEST = "sha256"
MAX_BYTES = 8 << 20
"""Of a file; four times what the largest model needs."""

AGAIN = "calibrate again with `fcn-trt calibrate`"

Source: TypeAlias = Method | Literal["imported"]


@dataclass(frozen=True, slots=True)
class TensorRange:
    """How large one tensor gets.

    Attributes:
        maximum: Its largest magnitude.
        amax: The magnitude that becomes the largest code.
        histogram: Of its magnitudes; None where only the largest one is known.
    """

    maximum: float
    amax: float
    histogram: Histogram | None

    def __post_init__(self) -> None:
        if not 0 <= self.maximum < MAX_LIMIT:
            raise ValueError(f"maximum {self.maximum} is not a magnitude")
        if not 0 < self.amax <= (self.maximum or ZERO_AMAX):
            raise ValueError(f"amax {self.amax} is not positive and at most {self.maximum}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provenance:
    """Where ranges come from.

    Attributes:
        model: Name of the architecture.
        weights: What the weights are.
        network_sha256: Of what the network computes, whatever its size and batch.
        mean: Per channel R, G, B, on pixels of 0 to 255, of the frames that were measured.
        std: Per channel R, G, B, on pixels of 0 to 255, of the frames that were measured.
        input_size: (height, width) at which they were measured.
        images: How many; 0 where the ranges were imported.
        images_sha256: Of the images' hashes in their order, or "" where they were imported.
        images_name: What they are, for people.
        method: How amax was chosen.
        created: The day, such as "2026-11-21", in UTC.
        made_by: This package and its version.
        openvino: Version of the library that ran the network, or "" where ranges were imported.
    """

    model: str
    weights: str
    network_sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: Size
    images: int
    images_sha256: str
    images_name: str
    method: Source
    created: str
    made_by: str
    openvino: str

    def provenance(self) -> dict[str, Any]:
        """Its attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(_Provenance)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationCache(_Provenance):
    """The ranges of a network's tensors, and where they come from.

    Attributes:
        tensors: By ONNX name, in the order in which they are computed.
    """

    tensors: dict[str, TensorRange]

    @property
    def maxima(self) -> dict[str, float]:
        """The largest magnitude of each tensor."""
        return {name: tensor.maximum for name, tensor in self.tensors.items()}

    def amaxes(
        self, method: Method | None = None, precision: QuantisedPrecision = "int8"
    ) -> dict[str, float]:
        """The magnitude of each tensor that becomes the largest code.

        Args:
            method: How it is chosen; None takes what the cache has, chosen for INT8.
            precision: What the codes are; only "mse" differs between them.

        Raises:
            CalibrationError: the cache has no histograms to choose from.
        """
        is_kept = method is None and (self.method != "mse" or precision == "int8")
        tensors = self.tensors if is_kept else self.chosen(method or "mse", precision)
        return {name: tensor.amax for name, tensor in tensors.items()}

    def with_method(self, method: Method) -> CalibrationCache:
        """The same cache with amax chosen in another way, for INT8.

        Raises:
            CalibrationError: the cache has no histograms to choose from.
        """
        return replace(self, method=method, tensors=self.chosen(method, "int8"))

    def chosen(self, method: Method, precision: QuantisedPrecision) -> dict[str, TensorRange]:
        """Every tensor with amax chosen anew; the largest magnitude where it is all that is known.

        Raises:
            CalibrationError: the cache has no histograms to choose from.
        """
        if all(tensor.histogram is None for tensor in self.tensors.values()):
            raise CalibrationError(
                f"the calibration of {self.model} has no histograms, as it was imported, so "
                f"{method} cannot be computed from it; calibrate on images with `fcn-trt calibrate`"
            )
        return {
            name: replace(
                tensor,
                amax=find_amax(tensor.histogram, method, precision=precision)
                if tensor.histogram
                else tensor.maximum or ZERO_AMAX,
            )
            for name, tensor in self.tensors.items()
        }

    def to_json(self) -> str:
        """The cache as it stands on disk."""
        tensors = {
            name: _Tensor(
                maximum=tensor.maximum,
                amax=tensor.amax,
                counts=pack_histogram(tensor.histogram) if tensor.histogram else None,
            )
            for name, tensor in self.tensors.items()
        }
        packed = _Content(**self.provenance(), tensors=tensors)
        content = {"format": FORMAT} | type_adapter(_Content).dump_python(packed, mode="json")
        return json.dumps(content | {DIGEST: _digest(content)}, indent=1, ensure_ascii=False) + "\n"


def calibration_sha256(source: Path | bytes) -> str:
    """SHA-256 of a cache's file.

    Raises:
        CalibrationError: it cannot be read.
    """
    data = source if isinstance(source, bytes) else _read(source)
    return hashlib.sha256(data).hexdigest()


def require_made_for(
    cache: CalibrationCache, path: Path, model: onnx.ModelProto, spec: Spec
) -> None:
    """Refuse a cache of another network, or of one that sees other values.

    Args:
        path: What to call it in messages.

    Raises:
        CalibrationError: naming both sides.
    """
    found = network_sha256(model)
    if cache.network_sha256 != found:
        raise CalibrationError(
            f"{path} was made for another network, {cache.model} with {cache.weights} "
            f"({cache.network_sha256[:12]}...), and not for this {spec.model} with {spec.weights} "
            f"({found[:12]}...); {AGAIN}"
        )
    for name, theirs, ours in (("mean", cache.mean, spec.mean), ("std", cache.std, spec.std)):
        if theirs != ours:
            raise CalibrationError(
                f"{path} was made with {name} {list(theirs)}, but this {spec.model} has {name} "
                f"{list(ours)}, so its tensors get another size; {AGAIN}"
            )


def write_calibration(cache: CalibrationCache, path: Path) -> None:
    """Write a cache, whole or not at all; one that differs only in its day is left as it is.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        known = read_calibration(path)
    except CalibrationError:
        known = None
    if known is None or replace(cache, created=known.created).to_json() != known.to_json():
        write_atomic(path, cache.to_json().encode())


def read_calibration(path: Path) -> CalibrationCache:
    """Read a cache.

    Raises:
        CalibrationError: it cannot be read, or is not exactly of this format.
    """
    content = _checked_content(path, _read(path))
    try:
        packed = type_adapter(_Content).validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CalibrationError(
            f"{path} is not valid at {where}: {first['msg']}; {AGAIN}"
        ) from error
    tensors = {name: _unpack(name, tensor, path) for name, tensor in packed.tensors.items()}
    return CalibrationCache(**packed.provenance(), tensors=tensors)


_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """A `TensorRange` as it is written."""

    __pydantic_config__ = _STRICT

    maximum: float
    amax: float
    counts: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content(_Provenance):
    """A `CalibrationCache` as it is written, behind the number of its format."""

    __pydantic_config__ = _STRICT

    tensors: dict[str, _Tensor]


def _unpack(name: str, tensor: _Tensor, path: Path) -> TensorRange:
    try:
        found = TensorRange(tensor.maximum, tensor.amax, None)
        if tensor.counts is None:
            return found
        return replace(found, histogram=unpack_histogram(tensor.counts, tensor.maximum))
    except ValueError as error:
        raise CalibrationError(f"{path} is not valid at {name}: {error}; {AGAIN}") from error


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, MAX_BYTES)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}; {AGAIN}") from error


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of a cache's content, whatever its spacing; the order of tensors is kept."""
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _checked_content(path: Path, data: bytes) -> dict[str, Any]:
    """The cache without its hash, once the format and the hash are right."""
    try:
        content = parse_json(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CalibrationError(f"{path} is damaged or no calibration cache; {AGAIN}")
    if content.get("format") != FORMAT:
        raise CalibrationError(
            f"{path} has format {quoted(content.get('format'))}, but this version reads format "
            f"{FORMAT}; {AGAIN}"
        )
    if content.pop(DIGEST, None) != _digest(content):
        raise CalibrationError(
            f"{path} was altered: its content does not have the SHA-256 that it states; copy it "
            f"again or {AGAIN}"
        )
    del content["format"]
    return content
