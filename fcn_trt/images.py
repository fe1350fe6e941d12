"""Images that others made: read once, measured by their header, and only then decoded.

A file of 124 kB can say that it is 32000x32000, for which 3 GB are taken. Sizes are read here and
not by Pillow, which unpacks text and makes decoders on its way to them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from fcn_trt.errors import SourceError
from fcn_trt.foreign import read_limited
from fcn_trt.limits import MAX_PIXELS
from fcn_trt.spec import Frame

__all__ = ["IMAGE_SUFFIXES", "decode_image", "read_encoded", "read_image", "require_pixels"]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

_WidthHeight: TypeAlias = tuple[int, int]

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Codes of the segments that state a size, SOF0 to SOF15; those left out are tables."""
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""A JPEG marker other than a restart (FFD0 to FFD7); inside a scan FF00 stands for a byte FF."""

_SPACE = rb"(?:\s|#[^\n]*\n)+"
_NETPBM = re.compile(rb"P[1-6]" + _SPACE + rb"(\d{1,10})" + _SPACE + rb"(\d{1,10})\s")

_TIFF_SIZES = {256: "width", 257: "height", 322: "tile width", 323: "tile height"}
_TIFF_TYPES = {3: "H", 4: "I", 16: "Q"}


def read_image(path: Path, *, as_stored: bool = False) -> Frame:
    """Decode one image, grey or with alpha too, as (H, W, 3) uint8 BGR.

    Args:
        as_stored: Not turned as its EXIF data say, as what labels belong to.

    Raises:
        SourceError: the file cannot be read, is no whole image, or has more than `MAX_PIXELS`.
    """
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if as_stored else 0)
    return decode_image(read_encoded(path), path, flags)


def read_encoded(path: Path) -> bytes:
    """The bytes of an image's file, if its header says that it is one and not too large.

    Raises:
        SourceError: as `read_image` says.
    """
    try:
        data = read_limited(path)
    except OSError as error:
        raise SourceError(f"image {path} cannot be read: {error.strerror}") from error
    try:
        width, height = _size(data)
    except (struct.error, ValueError):
        width = height = 0
    if width <= 0 or height <= 0:
        raise _not_whole(path)
    require_pixels(width, height, f"image {path}")
    return data


def decode_image(data: bytes, path: Path, flags: int) -> Frame:
    """The pixels of what `read_encoded` returned.

    Args:
        path: What to call it in messages.
        flags: OpenCV's, such as cv2.IMREAD_COLOR.

    Raises:
        SourceError: it cannot be decoded.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:  # such as a row that is longer than OpenCV's own limit
        raise _not_whole(path) from error
    if image is None:
        raise _not_whole(path)
    frame: Frame = image
    return frame


def require_pixels(width: int, height: int, what: str) -> None:
    """Refuse an image or a video before it is decoded.

    Raises:
        SourceError: it has more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS.value:
        raise SourceError(f"{what} is {width}x{height}: {MAX_PIXELS.exceeded(width * height)}")


def _not_whole(path: Path) -> SourceError:
    return SourceError(f"{path} is not a whole image; remove it or fetch it again")


def _size(data: bytes) -> _WidthHeight:
    """What an image's header says; only formats of `IMAGE_SUFFIXES` are known.

    Raises:
        ValueError, struct.error: it is none of them, or is cut off.
    """
    for signature, size in _FORMATS:
        if data.startswith(signature):
            return size(data)
    raise ValueError("it is of another format")


def _png(data: bytes) -> _WidthHeight:
    """Source: PNG (Third Edition), 5.2 and 11.2.1; IHDR comes first."""
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _bmp(data: bytes) -> _WidthHeight:
    """Source: Windows GDI, BITMAPCOREHEADER and BITMAPINFOHEADER; negative heights are upside."""
    is_core = struct.unpack_from("<I", data, 14) == (12,)
    width, height = struct.unpack_from("<HH" if is_core else "<ii", data, 18)
    return width, abs(height)


def _netpbm(data: bytes) -> _WidthHeight:
    """Source: netpbm.sourceforge.net, pbm(5), pgm(5), ppm(5)."""
    found = _NETPBM.match(data)
    if found is None:
        raise ValueError("it states no size")
    return int(found[1]), int(found[2])


def _webp(data: bytes) -> _WidthHeight:
    """Source: RFC 9649, 2.5 to 2.7, and RFC 6386, 9.1."""
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        raise ValueError("it is another RIFF")
    if kind == b"VP8X":
        low = [int.from_bytes(data[at : at + 3], "little") for at in (24, 27)]
        return low[0] + 1, low[1] + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff(data: bytes) -> _WidthHeight:
    """The first picture's size, or that of its tiles, for which memory is taken as well.

    Source: TIFF 6.0, sections 2 and 15; BigTIFF, awaresystems.be/imaging/tiff/bigtiff.html.
    """
    order = "<" if data.startswith(b"II") else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2) == (43,)
    at, count, entry = (8, "Q", 20) if is_big else (4, "H", 12)
    (at,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, at)
    (entries,) = struct.unpack_from(order + count, data, at)
    found = dict.fromkeys(_TIFF_SIZES.values(), 0)
    first = at + struct.calcsize(order + count)
    for start in range(first, min(first + entries * entry, len(data)), entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, start)
        if tag in _TIFF_SIZES and kind in _TIFF_TYPES:
            value = start + (12 if is_big else 8)
            (found[_TIFF_SIZES[tag]],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, value)
    whole, tile = ((found[f"{of}width"], found[f"{of}height"]) for of in ("", "tile "))
    return max(whole, tile, key=lambda size: size[0] * size[1]) if all(whole) else whole


def _jpeg(jpeg: bytes) -> _WidthHeight:
    """The size of a JPEG whose scans are followed by its end of image, whatever comes after that.

    OpenCV 4 decodes what there is of one that is cut off and paints the rest grey. Segments are
    skipped by their lengths, so that a thumbnail inside one does not count; phones append a video
    or a second picture, whose markers do not count either.

    Source: ITU-T T.81, B.1.1 (markers, segments) and B.2 (their order).
    """
    sizes: list[_WidthHeight] = []
    has_scan = False
    at = 2
    while marker := _MARKER.search(jpeg, at):
        code, at = marker[0][1], marker.end()
        if code == _END_OF_IMAGE:
            break
        has_scan = has_scan or code == _START_OF_SCAN
        if code in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", jpeg, at + 3)
            sizes.append((width, height))
        at += int.from_bytes(jpeg[at : at + 2], "big")
    if marker is None or not has_scan or not sizes:
        raise ValueError("it is cut off")
    return max(sizes, key=lambda size: size[0] * size[1])


_FORMATS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], _WidthHeight]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"BM", _bmp),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (b"RIFF", _webp),
    (b"P", _netpbm),
)
"""By the first bytes, whatever the file's name says; OpenCV takes more, whose sizes are unknown."""
