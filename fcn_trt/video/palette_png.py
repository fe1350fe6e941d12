"""Label maps as PNG files that carry their own colours, which OpenCV cannot write."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from fcn_trt.spec import NO_LABEL, LabelMap

__all__ = ["encode_palette_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
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

    Source: PNG specification, third edition, sections 5.3 (chunks), 9.2 (filter type 0), 11.2.1
        (colour type 3) and 11.2.2 (PLTE).
    """
    if label_map.ndim != 2 or label_map.dtype != np.uint8 or 0 in label_map.shape:
        raise ValueError(f"label map is {label_map.dtype} {label_map.shape}; expected uint8 (H, W)")
    height, width = label_map.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # column 0: filter type 0 of each row
    rows[:, 1:] = label_map
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _rgb_table(palette)),
            _chunk(b"IDAT", zlib.compress(rows.data, _COMPRESSION)),
            _chunk(b"IEND", b""),
        )
    )


def _rgb_table(palette: npt.NDArray[np.uint8]) -> bytes:
    """256 entries, because readers reject a pixel that its palette lacks."""
    if palette.ndim != 2 or palette.shape[1:] != (3,) or palette.dtype != np.uint8:
        raise ValueError(f"palette is {palette.dtype} {palette.shape}; expected uint8 (C, 3) BGR")
    if len(palette) > NO_LABEL:
        raise ValueError(f"palette has {len(palette)} colours; a label map holds {NO_LABEL}")
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette[:, ::-1]
    return table.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
