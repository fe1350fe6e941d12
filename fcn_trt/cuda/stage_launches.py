"""What each kernel is given, and how many threads it needs: plain numbers, without any GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fcn_trt.spec import MAX_SIDE, NO_LABEL, Size

__all__ = [
    "SIGNATURES",
    "Channels",
    "FrameView",
    "Launch",
    "decode_launch",
    "overlay_launch",
    "palette_table",
    "preprocess_launch",
]

Layout: TypeAlias = Literal["bgr", "bgrx", "nv12"]
Channels: TypeAlias = tuple[float, float, float]
Extent: TypeAlias = tuple[int, int, int]

LAYOUTS: tuple[Layout, ...] = ("bgr", "bgrx", "nv12")
"""In the order of the numbers in kernels/frame.cuh."""
PIXEL_BYTES: dict[Layout, int] = {"bgr": 3, "bgrx": 4, "nv12": 1}

# What one thread makes, and the threads of a block: see the head of each source.
PREPROCESS_BLOCK = (32, 8, 1)
DECODE_COLUMNS, DECODE_BLOCK = 4, (16, 4, 1)
OVERLAY_COLUMNS, OVERLAY_BLOCK = 4, (32, 8, 1)

SIGNATURES = {
    "preprocess_float32": "PiiiiPiiffffff",
    "preprocess_float16": "PiiiiPiiffffff",
    "decode_float32": "PiiiPiii",
    "decode_float16": "PiiiPiii",
    "decode_confidence_float32": "PiiiPiiiPI",
    "decode_confidence_float16": "PiiiPiiiPI",
    "overlay_bgr": "PiiPPPiiff",
}
"""The arguments of each kernel, as `Kernels.function` takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameView:
    """A frame in device memory, which belongs to someone else.

    Attributes:
        address: Of its first byte; any alignment.
        size: (height, width) in pixels, both even for nv12.
        pitch_bytes: From one row to the next.
        layout: bgr has 3 bytes a pixel, bgrx 4; nv12 is a plane of luma and, `height` rows below
            its start, one of U and V in turn, BT.601 with limited range.
    """

    address: int
    size: Size
    pitch_bytes: int
    layout: Layout = "bgr"

    def __post_init__(self) -> None:
        _check_size(self.size, "frame")
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r} is none of {', '.join(LAYOUTS)}")
        height, width = self.size
        if self.layout == "nv12" and (height % 2 or width % 2):
            raise ValueError(f"an nv12 frame has an even height and width, not {height}x{width}")
        if self.pitch_bytes < width * PIXEL_BYTES[self.layout]:
            raise ValueError(
                f"a {self.layout} row of {width} pixels does not fit into a pitch of "
                f"{self.pitch_bytes} bytes"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: Its name, a key of `SIGNATURES`.
        grid: (x, y, z) blocks.
        block: (x, y, z) threads of a block.
        arguments: In the order of the kernel's parameters.
    """

    kernel: str
    grid: Extent
    block: Extent
    arguments: tuple[int | float, ...]


def preprocess_launch(
    frame: FrameView,
    tensor_address: int,
    size: Size,
    *,
    mean: Channels,
    std: Channels,
    dtype: npt.DTypeLike,
) -> Launch:
    """Resize, reorder and normalise one frame into one image of the network's input.

    Args:
        frame: What to read.
        tensor_address: Of (3, height, width) values that are overwritten.
        size: (height, width) of the network's input.
        mean: Per channel R, G, B, on pixels of 0 to 255.
        std: Per channel R, G, B, on pixels of 0 to 255.
        dtype: float32 or float16.

    Raises:
        ValueError: an argument is not valid.
    """
    _check_size(size, "network input")
    scale = tuple(1.0 / s for s in std)
    offset = tuple(m / s for m, s in zip(mean, std, strict=True))
    place = (frame.address, *frame.size, frame.pitch_bytes, LAYOUTS.index(frame.layout))
    return Launch(
        kernel=f"preprocess_{_float_name(dtype)}",
        grid=_blocks(size[1], size[0], PREPROCESS_BLOCK),
        block=PREPROCESS_BLOCK,
        arguments=(*place, tensor_address, *size, *scale, *offset),
    )


def decode_launch(
    logits_address: int,
    logits_shape: tuple[int, int, int],
    dtype: npt.DTypeLike,
    size: Size,
    label_address: int,
    *,
    align_corners: bool,
    confidence_address: int = 0,
    unknown_below: int = 0,
) -> Launch:
    """Upsample logits to the frame and take the best class of each pixel.

    Args:
        logits_address: Of the logits of one image.
        logits_shape: (C, h, w), C at most 256.
        dtype: float32 or float16.
        size: (height, width) of the frame.
        label_address: Of (height, width) bytes that are overwritten.
        align_corners: Whether the corners of both grids coincide, instead of their edges.
        confidence_address: Of (height, width) bytes for the winner's softmax, or 0 for none.
        unknown_below: Pixels of less confidence become 255; 0 to 255.

    Raises:
        ValueError: an argument is not valid.
    """
    classes, height, width = logits_shape
    _check_size(size, "frame")
    _check_size((height, width), "logits")
    if not 1 <= classes <= 256:
        raise ValueError(f"logits have 1 to 256 classes, not {classes}")
    if not 0 <= unknown_below <= 255:
        raise ValueError(f"unknown_below {unknown_below} is not between 0 and 255")
    arguments = (logits_address, *logits_shape, label_address, *size, int(align_corners))
    is_sure_needed = bool(confidence_address or unknown_below)
    return Launch(
        kernel=f"decode_{'confidence_' * is_sure_needed}{_float_name(dtype)}",
        grid=_blocks(-(-size[1] // DECODE_COLUMNS), height + 1, DECODE_BLOCK),
        block=DECODE_BLOCK,
        arguments=arguments + (confidence_address, unknown_below) * is_sure_needed,
    )


def overlay_launch(
    frame: FrameView | None,
    label_address: int,
    size: Size,
    palette_address: int,
    view_address: int,
    *,
    opacity: float,
) -> Launch:
    """Blend a label map's colours over its frame.

    Args:
        frame: The frame, or None for the colours alone.
        label_address: Of (height, width) labels.
        size: (height, width) of labels and view.
        palette_address: Of what `palette_table` makes; a multiple of 4.
        view_address: Of (height, width, 3) bytes, BGR, that are overwritten.
        opacity: Share of the colour, between 0 and 1.

    Raises:
        ValueError: an argument is not valid.
    """
    _check_size(size, "label map")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity {opacity} is not between 0 and 1")
    if frame is not None and frame.size != size:
        raise ValueError(f"the frame is {frame.size} but the label map is {size}")
    place = (0, 0, 0)
    if frame is not None:
        place = (frame.address, frame.pitch_bytes, LAYOUTS.index(frame.layout))
    addresses = (label_address, palette_address, view_address)
    return Launch(
        kernel="overlay_bgr",
        grid=_blocks(-(-size[1] // OVERLAY_COLUMNS), size[0], OVERLAY_BLOCK),
        block=OVERLAY_BLOCK,
        arguments=(*place, *addresses, *size, 1.0 - opacity, opacity),
    )


def palette_table(palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The palette as the overlay kernel reads it.

    Args:
        palette: (C, 3) uint8 BGR, C at most 256.

    Returns:
        (256, 4) uint8: B, G, R and 0; black for 255 ("no label") and beyond the palette.
    """
    table = np.zeros((256, 4), dtype=np.uint8)
    table[: len(palette), :3] = palette
    table[NO_LABEL] = 0
    return table


def _check_size(size: Size, name: str) -> None:
    """Refuse what the kernels' 32-bit integers do not hold."""
    if not (1 <= size[0] <= MAX_SIDE and 1 <= size[1] <= MAX_SIDE):
        raise ValueError(
            f"a {name} of {size[0]}x{size[1]} has a side that is not 1 to {MAX_SIDE} pixels"
        )


def _float_name(dtype: npt.DTypeLike) -> str:
    name = str(np.dtype(dtype).name)
    if name not in ("float16", "float32"):
        raise ValueError(f"tensors and logits are float16 or float32, not {name}")
    return name


def _blocks(columns: int, rows: int, block: Extent) -> Extent:
    return -(-columns // block[0]), -(-rows // block[1]), 1
