"""TensorRT's own INT8 calibration cache, the text file that its releases before 11 read.

    TRT-100300-EntropyCalibration2
    image: 3c8a1f04
    backbone.stem.0 (Relu): 3d021e5b

The first line names the release and the calibrator; TensorRT uses the file only where both are its
own. Each other line is a tensor of the network and its scale, the bits of a float32 as a number in
hexadecimal. The scale is that of symmetric INT8: the magnitude amax that becomes 127, over 127.

Source: ModelOpt's calib_utils.import_scales_from_calib_cache and ONNX Runtime's ReadDynamicRange,
which read such files, and files that TensorRT 7.1 to 10.3 wrote.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import onnx

from fcn_trt.calibration.cache import CalibrationCache, TensorRange, network_sha256
from fcn_trt.calibration.calibrate import tensor_names
from fcn_trt.errors import CalibrationError
from fcn_trt.foreign import quoted, read_limited
from fcn_trt.spec import Spec
from fcn_trt.version import __version__

__all__ = [
    "Algorithm",
    "CalibrationTable",
    "format_table",
    "imported_calibration",
    "known_names",
    "parse_table",
    "read_table",
    "require_names",
    "table_of",
]

logger = logging.getLogger(__name__)

Algorithm: TypeAlias = Literal[
    "EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration", "LegacyCalibration"
]
"""The calibrators of TensorRT: IInt8EntropyCalibrator2 and so on, without the I, Int8 and -or."""

LARGEST_CODE = 127
"""INT8 is used symmetrically: -128 is left out."""

MOST_BYTES = 8 * 1024 * 1024
"""Of a file; that of a ResNet-101 has 20 kB."""

_HEADER = re.compile(r"TRT-([1-9][0-9]{3,5})-(\w+)")
_VERSION = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{1,2})")
_HEX = re.compile(r"[0-9a-fA-F]{1,8}")
_INTERNAL = "(Unnamed Layer* "
"""How TensorRT begins the names of tensors that it added itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTable:
    """Such a file.

    Attributes:
        version: Release of TensorRT that reads it, 5.0.0 to 10.x, such as "10.3.0".
        algorithm: Calibrator that it is for.
        scales: Scale of each tensor, in the order of the file. Each is a float32, positive and
            finite.

    Raises:
        CalibrationError: TensorRT would not read such a file, or not as it is meant.
    """

    version: str
    algorithm: Algorithm
    scales: dict[str, float]

    def __post_init__(self) -> None:
        _version_code(self.version)
        if self.algorithm not in get_args(Algorithm):
            raise CalibrationError(
                f"{self.algorithm!r} is none of {', '.join(get_args(Algorithm))}"
            )
        for name, scale in self.scales.items():
            if not name or "\n" in name or "\r" in name:
                raise CalibrationError(
                    f"tensor {name!r} cannot be written into a calibration cache of TensorRT, "
                    "which has one name a line; rename it in the ONNX file"
                )
            if not (0 < scale < math.inf and float(np.float32(scale)) == scale):
                raise CalibrationError(
                    f"tensor {name!r} has scale {scale}, but a scale is a positive, finite float32"
                )

    @property
    def amaxes(self) -> dict[str, float]:
        """The magnitude of each tensor that becomes 127; exact, because it is no float32."""
        return {name: scale * LARGEST_CODE for name, scale in self.scales.items()}


def table_of(
    amaxes: Mapping[str, float], version: str, algorithm: Algorithm = "EntropyCalibration2"
) -> CalibrationTable:
    """Make a table from magnitudes.

    Args:
        amaxes: Of each tensor the magnitude that becomes 127.
        version: Release of TensorRT that shall read it, such as "10.3.0".
        algorithm: Calibrator that it is for; any will do for TensorRT, which only compares the name
            with that of the calibrator class that the reading program derives from.

    Raises:
        CalibrationError: a magnitude gives no positive, finite scale, or as `CalibrationTable`
            says.
    """
    with np.errstate(over="ignore", under="ignore"):
        scales = {name: float(np.float32(amax / LARGEST_CODE)) for name, amax in amaxes.items()}
    return CalibrationTable(version=version, algorithm=algorithm, scales=scales)


def format_table(table: CalibrationTable) -> str:
    """The text of the file; one line per tensor, eight lower-case digits each."""
    header = f"TRT-{_version_code(table.version)}-{table.algorithm}\n"
    rows = (f"{name}: {struct.pack('>f', scale).hex()}\n" for name, scale in table.scales.items())
    return header + "".join(rows)


def read_table(path: Path) -> CalibrationTable:
    """Read such a file.

    Raises:
        CalibrationError: it cannot be read, or as `parse_table` says.
    """
    try:
        text = read_limited(path, MOST_BYTES).decode()
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _refused(path, "it is no UTF-8 text") from error
    return parse_table(text, path)


def parse_table(text: str, path: Path) -> CalibrationTable:
    """Read the text of such a file.

    A scale of zero is left out, with a warning: some programs write it for tensors that they never
    saw, and no magnitude can be had from it.

    Args:
        text: All of it.
        path: What to call the file in messages.

    Raises:
        CalibrationError: the text is no calibration cache of TensorRT 5 to 10, or a line of it is
            none.
    """
    # Not splitlines: a name may hold what Unicode takes for the end of a line.
    first, *lines = text.split("\n")
    version, algorithm = _parse_header(first.removesuffix("\r"), path)
    scales: dict[str, float] = {}
    for number, line in enumerate(lines, start=2):
        line = line.removesuffix("\r")
        if not line:
            continue
        name, scale = _parse_line(line, path, number)
        if name in scales:
            raise _refused(path, f"line {number} names {quoted(name)} a second time")
        scales[name] = scale
    unseen = [name for name, scale in scales.items() if scale == 0]
    if unseen:
        logger.warning(
            "%s: %d tensors have scale 0 and are left out, the first is %r",
            *(path, len(unseen), unseen[0]),
        )
    used = {name: scale for name, scale in scales.items() if scale > 0}
    if not used:
        raise _refused(path, "it names no tensor with a scale")
    return CalibrationTable(version=version, algorithm=algorithm, scales=used)


def require_names(table: CalibrationTable, names: Iterable[str], path: Path) -> None:
    """Refuse a table that was made for another network.

    Tensors that TensorRT added itself, such as those of constants, are in no ONNX file; they may be
    there.

    Args:
        table: It.
        names: The tensors of the network.
        path: What to call the table's file in messages.

    Raises:
        CalibrationError: the table names tensors that the network does not have.
    """
    known = set(names)
    foreign = [n for n in table.scales if n not in known and not n.startswith(_INTERNAL)]
    if foreign:
        near = difflib.get_close_matches(foreign[0], sorted(known), n=1)
        meant = f" (near it is {near[0]!r})" if near else ""
        raise CalibrationError(
            f"{path} was made for another network: {len(foreign)} of its {len(table.scales)} "
            f"tensors are not in this one, the first is {foreign[0]!r}{meant}; calibrate this "
            "network, or give the ONNX file that the table was made for"
        )


def _version_code(version: str) -> int:
    """The number of a release in the first line: 8502 of 8.5.2, 100300 of 10.3.0.

    From 10 on, the minor version has two digits.
    """
    match = _VERSION.fullmatch(version)
    if match is not None:
        major, minor, patch = map(int, match.groups())
        if 5 <= major <= 9 and minor <= 9:
            return major * 1000 + minor * 100 + patch
        if major == 10:
            return major * 10000 + minor * 100 + patch
    raise CalibrationError(
        f"TensorRT {version!r} reads no calibration cache; releases from 5.0.0 to 10.x do, such as "
        "10.3.0"
    )


def _version_of(code: int) -> str:
    """`_version_code` backwards."""
    major, rest = divmod(code, 10000) if code >= 100000 else divmod(code, 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _parse_header(line: str, path: Path) -> tuple[str, Algorithm]:
    match = _HEADER.fullmatch(line)
    known: dict[str, Algorithm] = {name: name for name in get_args(Algorithm)}
    if match is None or match[2] not in known:
        raise _refused(
            path,
            f"it begins with {quoted(line)} instead of TRT-VERSION-CALIBRATOR, such as "
            "TRT-100300-EntropyCalibration2",
        )
    version = _version_of(int(match[1]))
    try:
        _version_code(version)
    except CalibrationError as error:
        raise _refused(path, str(error)) from error
    return version, known[match[2]]


def _parse_line(line: str, path: Path, number: int) -> tuple[str, float]:
    """Name and scale; a name may hold colons and spaces itself."""
    name, colon, digits = line.rpartition(": ")
    if not colon or not name:
        raise _refused(path, f"line {number} is {quoted(line)} instead of NAME: SCALE")
    # Not bytes.fromhex: some programs leave out the zeros in front.
    if not _HEX.fullmatch(digits):
        raise _refused(path, f"line {number} has {quoted(digits)} instead of 8 hexadecimal digits")
    (scale,) = struct.unpack(">f", int(digits, 16).to_bytes(4, "big"))
    if not 0 <= scale < math.inf:
        raise _refused(path, f"line {number} gives {quoted(name)} the scale {scale}")
    return name, scale


def _refused(path: Path, reason: str) -> CalibrationError:
    return CalibrationError(f"{path} is no calibration cache of TensorRT: {reason}")


def known_names(graph: onnx.GraphProto) -> list[str]:
    """Every tensor of a network, constants included, which a table may name too."""
    constants = [tensor.name for tensor in graph.initializer]
    return [*tensor_names(graph), *constants, *(n for node in graph.node for n in node.output)]


def imported_calibration(
    model: onnx.ModelProto, spec: Spec, amaxes: Mapping[str, float], *, name: str, created: str
) -> CalibrationCache:
    """Make a cache of magnitudes without images.

    Args:
        amaxes: By tensor, the magnitude that becomes the largest code.
        name: Where they come from, for people.
        created: The day that the cache states.
    """
    return CalibrationCache(
        model=spec.model,
        weights=spec.weights,
        network_sha256=network_sha256(model),
        mean=spec.mean,
        std=spec.std,
        input_size=spec.input_size,
        images=0,
        images_sha256="",
        images_name=name,
        method="imported",
        created=created,
        made_by=f"fcn_trt {__version__}",
        openvino="",
        tensors={
            tensor: TensorRange(amaxes[tensor], amaxes[tensor], None)
            for tensor in tensor_names(model.graph)
            if tensor in amaxes
        },
    )
