"""What a network is, apart from its weights: the one record that every artefact carries.

The spec is written into the ONNX metadata when a model is exported and copied into the manifest
of each bundle, so that a frame can be prepared and logits can be read with nothing else at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, ValidationError

from fcn_trt.errors import OnnxError
from fcn_trt.foreign import parse_json, read_limited
from fcn_trt.labels import LabelSet
from fcn_trt.limits import is_whole_number
from fcn_trt.onnx_wire import onnx_metadata
from fcn_trt.type_adapter import type_adapter

__all__ = [
    "LADDER",
    "MAX_BATCH",
    "MAX_SIDE",
    "QUANTISED",
    "Check",
    "CheckedStep",
    "FloatPrecision",
    "Frame",
    "LabelMap",
    "Logits",
    "Precision",
    "Process",
    "QuantisedPrecision",
    "Result",
    "ShapeRange",
    "Size",
    "Spec",
    "format_size",
    "parse_size",
    "parse_spec",
    "read_spec",
]

Frame: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3) uint8 BGR."""
LabelMap: TypeAlias = npt.NDArray[np.uint8]
"""(height, width) uint8 class indices; 255 is "no label"."""
Logits: TypeAlias = npt.NDArray[np.floating[Any]]
"""(N, C, h, w) float16 or float32, before softmax."""
Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
"""Type that convolutions compute in."""
QuantisedPrecision: TypeAlias = Literal["int8", "fp8"]
QUANTISED: tuple[QuantisedPrecision, ...] = get_args(QuantisedPrecision)
FloatPrecision: TypeAlias = Literal["fp16", "fp32"]
"""Types of what is not quantised beside int8 and fp8."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One segmented frame; it unpacks into the frame and its label map.

    Attributes:
        frame: (H, W, 3) uint8 BGR.
        label_map: (H, W) uint8 class indices; 255 is "no label".
        index: 0 for the first frame that was segmented; dropped frames are not counted.
        captured_at: When the source gave the frame, in seconds of `time.perf_counter`; None where
            frames came without their times.
        view: (H, W, 3) uint8 BGR, the frame with its classes painted over it; None unless asked
            for.
        confidence: (H, W) uint8, 255 is 1.0; None unless asked for.
    """

    frame: Frame
    label_map: LabelMap
    index: int
    captured_at: float | None = None
    view: Frame | None = None
    confidence: npt.NDArray[np.uint8] | None = None

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        yield self.frame
        yield self.label_map


CheckedStep: TypeAlias = Literal["export", "type", "build", "load"]
CheckState: TypeAlias = Literal["checked", "off", "pending", "impossible"]
Process: TypeAlias = Callable[[Iterable[Frame]], Iterator[Result]]
"""Segments frames lazily and in order; `Segmenter.stream` is one."""

METADATA_KEY = "fcn_trt.spec"
REFERENCE_KEY = "fcn_trt.reference"
NO_LABEL = 255
INPUT_NAME = "image"
OUTPUT_NAME = "logits"

LADDER: tuple[Size, ...] = ((256, 512), (512, 1024), (1024, 2048))
"""The sizes of published figures, at which models are listed, measured and judged."""

MAX_SIDE = 16384
"""Pixels of a side of an input at most."""
MAX_BATCH = 65536
"""Images per inference at most."""
MAX_PER_PIXEL = 1024
"""Numbers of a tensor per pixel of the input at most; 16 is the most in an FCN of a ResNet."""
SMALL_NUMBERS = 1 << 24
"""What a tensor may have in any case, however few pixels there are."""
MAX_TEXT = 1000
"""Characters of a name at most."""
MAX_NUMBER = 1e9
"""The largest mean or standard deviation, and 1 over it the smallest deviation."""
MAX_JSON = 4 << 20
"""Characters of a spec in an ONNX file at most; 10,000 exceptions with their names take a tenth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRange:
    """The inputs that a network of dynamic shape takes; each limit is itself allowed.

    Attributes:
        min_size: (height, width) in pixels.
        max_size: (height, width) in pixels.
        min_batch: Images per inference.
        max_batch: Images per inference.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    min_size: Size
    max_size: Size
    min_batch: int
    max_batch: int

    def __post_init__(self) -> None:
        for name in ("min_size", "max_size"):
            _check_most(name, getattr(self, name), MAX_SIDE)
        for name in ("min_batch", "max_batch"):
            _check_most(name, (getattr(self, name),), MAX_BATCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How far the result of a step labels as the network's source does.

    Attributes:
        step: Which: export, type, build or load.
        against: What computed the label maps that it is held against, such as "PyTorch".
        kind: What the frames are.
        frames: How many.
        agreement: Share of the pixels with the same label; None where nothing was checked.
        floor: Share below which the step is refused; None where nothing was checked, or what the
            first load has to reach.
        classes: How many classes the source finds in the frames.
        state: Whether it was checked; "off" is by request, "pending" waits for the first load
            where the engine runs, and "impossible" has a reason.
        reason: Why nothing was checked, or "".
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    step: CheckedStep
    against: str = ""
    kind: str = ""
    frames: int = 0
    agreement: float | None = None
    floor: float | None = None
    classes: int = 0
    state: CheckState = "checked"
    reason: str = ""

    def __post_init__(self) -> None:
        _check_text(against=self.against, kind=self.kind, reason=self.reason)
        for name, share in (("agreement", self.agreement), ("floor", self.floor)):
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} {share} is not between 0 and 1")

    def describe(self) -> str:
        """In words: the share, what it is held against, on which frames, and what is needed."""
        if self.agreement is None or self.floor is None:
            return f"{self.step}: not checked, {_UNCHECKED.get(self.state, self.reason)}"
        frames = f"{self.frames} frame{'s' if self.frames > 1 else ''}"
        share = f"{_percent(self.agreement)} % as {self.against} on {frames}"
        found = f"{self.classes} class{'es' if self.classes > 1 else ''}"
        little = ", which proves little: give --images of your own" if self.classes == 1 else ""
        needed = f"at least {_percent(self.floor)} % needed"
        return f"{self.step}: {share} ({self.kind}, {found}{little}; {needed})"


_UNCHECKED = {
    "off": "as --no-check asked",
    "pending": "since it cannot run where it was built; its first load checks it",
}
"""Why nothing was checked, where the state says it."""


def _percent(share: float) -> str:
    """Cut and not rounded, so that 100 % is all of them."""
    return f"{math.floor(share * 1e4 + 1e-6) / 100:.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One network at one input size, or around one where its shape is dynamic.

    Attributes:
        model: Name of the architecture, such as "fcn_r50-d8".
        family: Where it comes from: torchvision, mmsegmentation, pytorch-auto-drive or onnx.
        weights: What the weights are: a file name, a registry name, or "random (seed 0)".
        labels: Name of the label set, or "custom".
        classes: One name per class.
        palette: One ``#rrggbb`` colour per class.
        mean: Per channel R, G, B, subtracted from pixels of 0 to 255.
        std: Per channel R, G, B, divides after the mean.
        input_size: (height, width) of the network's input in pixels.
        batch: Images per inference.
        stride: Input pixels per logit, in both directions.
        align_corners: How the logits are sampled when they are upsampled.
        precision: Type that convolutions compute in.
        logits_type: Type of the output tensor.
        source_sha256: SHA-256 of the checkpoint or ONNX file, or "" for random weights.
        licence: Licence of the weights, or "" where unknown.
        dynamic: Shapes that the network takes, or None if input_size and batch are fixed. An engine
            is optimised for input_size and batch in any case.
        exceptions: Nodes that compute in another type than `precision`, and that type: what was
            kept in float because it does not fit, or because quantising it costs too much.
        float_precision: Type of what is not quantised, in an int8 or fp8 network; None in others.
        calibration_sha256: SHA-256 of the calibration cache that the scales come from, or "".
        ignore: Number in label files that means "no label" besides 255, or None.
        checks: How far each step so far labels as the source does.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    family: str
    weights: str
    labels: str
    classes: tuple[str, ...]
    palette: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: Size
    batch: int
    stride: int
    align_corners: bool
    precision: Precision
    logits_type: Literal["float32", "float16"]
    source_sha256: str
    licence: str
    dynamic: ShapeRange | None = None
    exceptions: dict[str, Precision] = field(default_factory=dict)
    float_precision: Precision | None = None
    calibration_sha256: str = ""
    ignore: int | None = None
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        LabelSet(name=self.labels, classes=self.classes, palette=self.palette)
        texts = ("model", "family", "weights", "labels", "licence", "source_sha256")
        _check_text(**{name: getattr(self, name) for name in texts})
        _check_text(**{f"classes.{i}": name for i, name in enumerate(self.classes)})
        if min(self.input_size) < 1 or self.batch < 1 or self.stride < 1:
            raise ValueError(
                f"input_size {self.input_size}, batch {self.batch} and stride {self.stride} "
                "must all be at least 1"
            )
        _check_most("input_size", self.input_size, MAX_SIDE)
        _check_most("batch", (self.batch,), MAX_BATCH)
        _check_most("stride", (self.stride,), MAX_SIDE)
        if self.ignore is not None and not 0 <= self.ignore <= NO_LABEL:
            raise ValueError(f"ignore {self.ignore} is not between 0 and {NO_LABEL}")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive in each channel")
        if max(map(abs, (*self.mean, *self.std, *(1 / x for x in self.std)))) > MAX_NUMBER:
            raise ValueError(
                f"mean {self.mean} and std {self.std} have a number beyond {MAX_NUMBER:g}, or a "
                f"deviation below {1 / MAX_NUMBER:g}"
            )
        if self.dynamic is not None:
            _check_range(self.dynamic, self.input_size, self.batch)

    @property
    def logits_size(self) -> Size:
        """(height, width) of the logits."""
        return self.logits_size_of(self.input_size)

    def logits_size_of(self, size: Size) -> Size:
        """(height, width) of the logits of an input: ceil(size / stride), as padding gives."""
        height, width = size
        return -(-height // self.stride), -(-width // self.stride)

    def takes(self, size: Size) -> bool:
        """Whether a network that keeps to its own shapes takes an input of this size."""
        if self.dynamic is None:
            return size == self.input_size
        limits = zip(self.dynamic.min_size, size, self.dynamic.max_size, strict=True)
        return all(low <= side <= high for low, side, high in limits)

    def to_json(self) -> str:
        """The spec as JSON, keys in the order of the attributes."""
        return type_adapter(Spec).dump_json(self).decode()

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain Python values."""
        return asdict(self)


def _check_range(allowed: ShapeRange, size: Size, batch: int) -> None:
    """Refuse a range that the size it is optimised for does not lie in."""
    for name, limit, low, value, high in (
        ("height", "size", allowed.min_size[0], size[0], allowed.max_size[0]),
        ("width", "size", allowed.min_size[1], size[1], allowed.max_size[1]),
        ("batch", "batch", allowed.min_batch, batch, allowed.max_batch),
    ):
        if low < 1:
            wrong = f"min_{limit} must be at least 1 and at most {limit}"
        elif low > value:
            wrong = f"min_{limit} must not be more than {limit}"
        elif value > high:
            wrong = f"max_{limit} must not be less than {limit}"
        else:
            continue
        raise ValueError(
            f"{name} {value} is not within its range of {low} to {high}; {wrong}, which a dynamic "
            "network is optimised for"
        )


def _check_text(**texts: str) -> None:
    for name, text in texts.items():
        if len(text) > MAX_TEXT:
            raise ValueError(f"{name} has {len(text)} characters; {MAX_TEXT} are the most")


def _check_most(name: str, values: tuple[int, ...], most: int) -> None:
    """Refuse a size or a batch with more than any network takes."""
    if max(values) > most:
        shown = "x".join(map(str, values))
        raise ValueError(f"{name} {shown} is too large; {most} is the most")


def parse_size(text: str) -> Size:
    """Read a size written height x width, such as "512x1024".

    Returns:
        (height, width) in pixels.

    Raises:
        ValueError: the text has another form, or a side is not 1 to 16384.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(map(is_whole_number, sides)):
        raise ValueError(f"size {text!r} is not HEIGHTxWIDTH in pixels, such as 512x1024")
    height, width = (int(side) for side in sides)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"size {text!r} has a side that is not between 1 and {MAX_SIDE}")
    return height, width


def format_size(size: Size) -> str:
    """A size as it is written, such as "512x1024"."""
    return f"{size[0]}x{size[1]}"


def read_spec(path: Path) -> Spec:
    """Read the spec out of an ONNX file's metadata.

    This walks the protobuf's top level only, so a device needs no onnx package to build an engine.

    Raises:
        OnnxError: the file cannot be read, is no ONNX model, or carries no valid spec.
    """
    try:
        data = read_limited(path)
    except OSError as error:
        raise OnnxError(f"{path} cannot be read: {error.strerror}") from error
    return parse_spec(data, path)


def parse_spec(data: bytes, path: Path) -> Spec:
    """Read the spec out of the bytes of an ONNX file.

    Args:
        data: All of them.
        path: What to call the file in messages.

    Raises:
        OnnxError: they are no ONNX model, or carry no valid spec.
    """
    if not data:
        raise OnnxError(f"{path} is empty; export it again")
    try:
        text = onnx_metadata(data).get(METADATA_KEY)
    except ValueError as error:
        raise OnnxError(f"{path} is not a whole ONNX file; export it again") from error
    if text is None:
        raise OnnxError(
            f"{path} carries no {METADATA_KEY!r} metadata; import it first with "
            f"`fcn-trt export {path} --size HxW --out M.onnx`"
        )
    try:
        if len(text) > MAX_JSON:
            raise ValueError(f"it has {len(text)} characters, and at most {MAX_JSON} are read")
        parse_json(text)  # for keys that are there twice, and numbers that nobody can compute with
        return type_adapter(Spec).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its top level"
        raise OnnxError(
            f"{path} has a spec that is not valid at {where}: {first['msg']}"
        ) from error
    except ValueError as error:
        raise OnnxError(f"{path} has a spec that is not valid at its top level: {error}") from error
