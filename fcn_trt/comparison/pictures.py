"""What the two did to one image: the frame, both label maps, and where they differ."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from fcn_trt.spec import Frame, LabelMap, Size
from fcn_trt.stages.overlay import overlay

__all__ = ["PANEL_LABELS", "Panels", "draw_panels"]

PANEL_LABELS = {"frame": "frame", "first": "A", "second": "B", "difference": "where they differ"}
"""What stands under each of `Panels`."""

MOST_PIXELS = 640 * 480
"""Of a panel; four of ten images then make a page of a few MB."""
MOST_SIDE = 2048
"""Of a panel, in pixels; JPEG has no more than 65535."""

OPACITY = 0.65
DIFFERENCE = (255, 0, 255)
"""Magenta, RGB: no data set's classes have it, and it is seen on grey."""

_QUALITY = 88


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """Four JPEG files of one size, in the order in which they stand side by side.

    Attributes:
        frame: The image itself.
        first: The classes of A over it.
        second: The classes of B over it.
        difference: The image in dim grey; what is near pixels with different labels is magenta.
    """

    frame: bytes
    first: bytes
    second: bytes
    difference: bytes


def draw_panels(
    frame: Frame, first: LabelMap, second: LabelMap, palette: npt.NDArray[np.uint8]
) -> Panels:
    """Draw the four panels of an image, large ones made smaller.

    A pixel of the last panel is marked if any pixel that it stands for differs, and so are those
    around it: otherwise a line of one pixel would not be seen.

    Args:
        frame: (H, W, 3) uint8 BGR.
        first: (H, W) uint8, label map of A.
        second: (H, W) uint8, label map of B.
        palette: (C, 3) uint8 BGR.
    """
    size = _panel_size((frame.shape[0], frame.shape[1]))
    small = np.asarray(_resized(Image.fromarray(frame), size, Image.Resampling.BOX))

    def view(labels: LabelMap) -> bytes:
        seen = _resized(Image.fromarray(labels), size, Image.Resampling.NEAREST)
        return _jpeg(overlay(small, np.asarray(seen), palette, opacity=OPACITY)[..., ::-1])

    return Panels(
        frame=_jpeg(small[..., ::-1]),
        first=view(first),
        second=view(second),
        difference=_jpeg(_difference(small, first != second)),
    )


def _panel_size(size: Size) -> Size:
    """(height, width) with the shape of the frame, and not more than is said above."""
    height, width = size
    scale = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5, MOST_SIDE / max(size))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _difference(small: Frame, differs: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """RGB: dim grey, with the pixels that differ in `DIFFERENCE`."""
    grey = np.asarray(Image.fromarray(small).convert("L")) // 3 + 48
    panel = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    share = _resized(
        # The mode of 32-bit floats: one different pixel of many is not rounded away.
        Image.fromarray(differs.astype(np.float32)),
        (small.shape[0], small.shape[1]),
        Image.Resampling.BOX,
    )
    marks = Image.fromarray(np.asarray(share) > 0).convert("L").filter(ImageFilter.MaxFilter(3))
    panel[np.asarray(marks) > 0] = DIFFERENCE
    return panel


def _resized(image: Image.Image, size: Size, how: Image.Resampling) -> Image.Image:
    height, width = size
    return image.resize((width, height), how)


def _jpeg(rgb: npt.NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(rgb))
    image.save(data, format="JPEG", quality=_QUALITY, subsampling=0)  # colours are what counts
    return data.getvalue()
