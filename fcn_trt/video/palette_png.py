"""Label maps as PNG files that carry their own colours, which OpenCV cannot write."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcn_trt.arrays import LABEL_MAP, PALETTE
from fcn_trt.spec import NO_LABEL, LabelMap

__all__ = ["encode_palette_png"]

_COMPRESSION = 3
"""zlib level; label maps are flat areas, and higher levels cost time for a few percent."""


def encode_palette_png(label_map: LabelMap, palette: npt.NDArray[np.uint8]) -> bytes:
    """Encode labels as an indexed PNG: pixel values are classes, colours are its palette.

    Any viewer shows the colours, and PIL opens it in mode "P", whose pixels are the classes. OpenCV
    reads colours only.

    Args:
        label_map: (H, W) uint8 class indices; 255 is "no label".
        palette: (C, 3) uint8 BGR; what it lacks, 255 too, is black.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: an array has another shape or type.
    """
    LABEL_MAP.check(label_map)
    height, width = label_map.shape
    image = Image.frombytes("P", (width, height), label_map.tobytes())
    image.putpalette(_rgb_table(palette))
    data = io.BytesIO()
    image.save(data, format="PNG", compress_level=_COMPRESSION)
    return data.getvalue()


def _rgb_table(palette: npt.NDArray[np.uint8]) -> bytes:
    """Fill up to 256 entries, because readers reject a pixel that its palette lacks."""
    PALETTE.check(palette)
    if len(palette) > NO_LABEL:
        raise ValueError(f"palette has {len(palette)} colours; a label map holds {NO_LABEL}")
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette[:, ::-1]
    return table.tobytes()
