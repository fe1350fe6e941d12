"""Images that others made: read once, measured by their header, and only then decoded.

A file of 124 kB can say that it is 32000x32000, for which 3 GB are taken. Sizes are read here and
not by Pillow, which unpacks text and makes decoders on its way to them. Whatever reads an image for
a network reads it here, so that `run`, `eval`, `calibrate` and `compare` see the same pixels.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.errors import SourceError
from fcn_trt.foreign import read_limited
from fcn_trt.limits import MAX_PIXELS
from fcn_trt.spec import Frame

__all__ = [
    "IMAGE_SUFFIXES",
    "read_encoded",
    "read_image",
    "read_orientation",
    "read_upright",
    "require_pixels",
    "turn",
    "warn_once",
]

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpeg", ".jpg", ".jpe", ".jfif"),
        *(".pbm", ".pgm", ".pnm", ".ppm"),
        *(".bmp", ".png", ".tif", ".tiff", ".webp"),
    }
)

_log = logging.getLogger(__name__)
_warned: set[object] = set()

Pixel = TypeVar("Pixel", bound=np.generic)

_WidthHeight: TypeAlias = tuple[int, int]

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Codes of the segments that state a size, SOF0 to SOF15; those left out are tables."""
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_APP1 = 0xE1
_EXIF_HEAD = b"Exif\0\0"

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""A JPEG marker other than a restart (FFD0 to FFD7); inside a scan FF00 stands for a byte FF."""

_SPACE = rb"(?:\s|#[^\n]*\n)+"
_NETPBM = re.compile(rb"P[1-6]" + _SPACE + rb"(\d{1,10})" + _SPACE + rb"(\d{1,10})\s")
_NETPBM_TOP = re.compile(rb"P[2356](?:" + _SPACE + rb"\d{1,10}){2}" + _SPACE + rb"(\d{1,5})\s")

_ORIENTATION = 274
_WHOLE = (256, 257)
"""Width and height of a TIFF; those of its tiles are `_TILE`."""
_TILE = (322, 323)
_TIFF_TYPES = {3: "H", 4: "I", 16: "Q"}


_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WHITE = 255
_FULL = 65535
_DEPTHS = (8, 10, 12, 14, 16)

_TURNS: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    1: lambda frame: frame,
    2: lambda frame: frame[:, ::-1],
    3: lambda frame: frame[::-1, ::-1],
    4: lambda frame: frame[::-1],
    5: lambda frame: frame.swapaxes(0, 1),
    6: lambda frame: frame[::-1].swapaxes(0, 1),
    7: lambda frame: frame[::-1, ::-1].swapaxes(0, 1),
    8: lambda frame: frame[:, ::-1].swapaxes(0, 1),
}
"""What each orientation asks for. Not OpenCV's own turning, which knows fewer formats in 4.8."""


def read_image(path: Path, *, as_stored: bool = False) -> Frame:
    """Decode one image of any colours as (H, W, 3) uint8 BGR.

    Grey is repeated, alpha is left out, and 16 bits are scaled to 8: from as many as the largest
    value takes, of 8, 10, 12, 14 and 16, since cameras of 12 bits store theirs in 16. That is
    said with a warning.

    Args:
        as_stored: Not turned as its EXIF data say, as what labels of published data sets belong
            to; TIFF is turned anyway.

    Raises:
        SourceError: the file cannot be read, is no whole image, has pixels that are no unsigned
            integers, or more of them than `MAX_PIXELS`.
    """
    data = read_encoded(path)
    frame = _decoded(data, path)
    return frame if as_stored else _upright(frame, data)


def read_upright(path: Path) -> tuple[Frame, int]:
    """Decode one image as `read_image` does, and say how it was turned, as `read_orientation`.

    Raises:
        SourceError: as `read_image` says.
    """
    data = read_encoded(path)
    return _upright(_decoded(data, path), data), read_orientation(data)


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
    except (struct.error, OverflowError, ValueError):
        width = height = 0
    if width <= 0 or height <= 0:
        raise _not_whole(path)
    require_pixels(width, height, f"image {path}")
    return data


def read_orientation(data: bytes) -> int:
    """How an image has to be turned to be seen upright, as EXIF counts: 1 is not at all.

    Args:
        data: What `read_encoded` returned.

    Source: EXIF 2.32 (CIPA DC-008-2019), 4.6.4, "Orientation".
    """
    for signature, exif in _EXIF:
        if data.startswith(signature):
            try:
                found = _tiff_values(exif(data), (_ORIENTATION,)).get(_ORIENTATION, 1)
            except (struct.error, OverflowError):  # none, or damaged, which hurts no pixel
                return 1
            return found if found in _TURNS else 1
    return 1


def turn(image: npt.NDArray[Pixel], orientation: int) -> npt.NDArray[Pixel]:
    """Turn (H, W, ...) pixels upright, of an orientation that `read_orientation` returned."""
    return np.ascontiguousarray(_TURNS[orientation](image))


def warn_once(about: object, text: str) -> None:
    """Log a warning, unless there was one about the same before."""
    if about not in _warned:
        _warned.add(about)
        _log.warning("%s", text)


def require_pixels(width: int, height: int, what: str) -> None:
    """Refuse an image or a video before it is decoded.

    Raises:
        SourceError: it has more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS.value:
        raise SourceError(f"{what} is {width}x{height}: {MAX_PIXELS.exceeded(width * height)}")


def _decoded(data: bytes, path: Path) -> Frame:
    """The pixels, in 8 bits, as they are stored."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        stored = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:  # such as a row that is longer than OpenCV's own limit
        raise _not_whole(path) from error
    if stored is None:
        raise _not_whole(path)
    return _scaled(stored, data, path)


def _upright(frame: Frame, data: bytes) -> Frame:
    """The pixels, turned, but of TIFF, which OpenCV turns whatever it is told."""
    return frame if data.startswith(_TIFF) else turn(frame, read_orientation(data))


def _scaled(stored: npt.NDArray[Any], data: bytes, path: Path) -> Frame:
    """The pixels in 8 bits."""
    if stored.dtype not in (np.uint8, np.uint16):
        raise SourceError(
            f"{path} has pixels of {stored.dtype}, and images have uint8 or uint16 here; convert it"
        )
    found = _NETPBM_TOP.match(data)
    stated = int(found[1]) if found else _FULL
    top = max(stated if stated < _FULL else 0, int(stored.max()))  # many write _FULL into all
    if stored.dtype == np.uint16:
        bits = next(bits for bits in _DEPTHS if top < 1 << bits)
        if (stored >> 8 == stored & _WHITE).all():  # 8 bits that were scaled to 16
            bits = 16
        warn_once(
            (path.parent, bits),
            f"{path.parent} has images of 16 bits, such as {path.name}, whose largest value is "
            f"{top}: taken as {bits} bits and scaled to 8; convert them if that is wrong",
        )
        stored = stored >> (bits - 8)
    elif stated == top < _WHITE:  # which OpenCV leaves as it is
        stored = np.rint(stored * (_WHITE / top))
    frame: Frame = stored.astype(np.uint8, copy=False)
    return frame


def _not_whole(path: Path) -> SourceError:
    return SourceError(f"{path} is not a whole image; remove it or fetch it again")


def _size(data: bytes) -> _WidthHeight:
    """What an image's header says; only formats of `IMAGE_SUFFIXES` are known.

    Raises:
        ValueError, struct.error, OverflowError: it is none of them, or is cut off.
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
    """The first picture's size, or that of its tiles, for which memory is taken as well."""
    found = _tiff_values(data, (*_WHOLE, *_TILE))
    whole, tile = ([found.get(tag, 0) for tag in tags] for tags in (_WHOLE, _TILE))
    width, height = max(whole, tile, key=math.prod) if all(whole) else whole
    return width, height


def _tiff_values(data: bytes, wanted: Iterable[int]) -> dict[int, int]:
    """Whole numbers of the first picture by their tags.

    Source: TIFF 6.0, section 2; BigTIFF, awaresystems.be/imaging/tiff/bigtiff.html.

    Raises:
        struct.error: it is cut off.
    """
    order = "<" if data.startswith(b"II") else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2) == (43,)
    at, count, entry = (8, "Q", 20) if is_big else (4, "H", 12)
    (at,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, at)
    (entries,) = struct.unpack_from(order + count, data, at)
    found: dict[int, int] = {}
    first = at + struct.calcsize(order + count)
    for start in range(first, min(first + entries * entry, len(data)), entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, start)
        if tag in wanted and kind in _TIFF_TYPES:
            value = start + (12 if is_big else 8)
            (found[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, value)
    return found


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


def _jpeg_exif(jpeg: bytes) -> bytes:
    """Source: EXIF 2.32, 4.7.2; of the segments before the first scan one is APP1 "Exif"."""
    at = 2
    while marker := _MARKER.search(jpeg, at):
        code, at = marker[0][1], marker.end()
        if code in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        length = int.from_bytes(jpeg[at : at + 2], "big")
        if code == _APP1 and jpeg.startswith(_EXIF_HEAD, at + 2):
            return jpeg[at + 2 + len(_EXIF_HEAD) : at + length]
        at += length
    return b""


def _png_exif(png: bytes) -> bytes:
    """Source: PNG (Third Edition), 5.3 and 11.3.4.3; each chunk ends in four bytes of a sum."""
    at = 8
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name == b"eXIf":
            return png[at + 8 : at + 8 + length]
        at += 12 + length
    return b""


def _webp_exif(webp: bytes) -> bytes:
    """Source: RFC 9649, 2.3 and 2.7.1.5; odd chunks are filled up by one byte.

    Some writers put JPEG's head before it.
    """
    at = 12
    while at + 8 <= len(webp):
        name, length = struct.unpack_from("<4sI", webp, at)
        if name == b"EXIF":
            return webp[at + 8 : at + 8 + length].removeprefix(_EXIF_HEAD)
        at += 8 + length + length % 2
    return b""


_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_RIFF = b"RIFF"

_FORMATS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], _WidthHeight]], ...] = (
    (_PNG, _png),
    (_JPEG, _jpeg),
    (b"BM", _bmp),
    (_TIFF, _tiff),
    (_RIFF, _webp),
    (b"P", _netpbm),
)
"""By the first bytes, whatever the file's name says; OpenCV takes more, whose sizes are unknown."""

_EXIF: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], bytes]], ...] = (
    (_PNG, _png_exif),
    (_JPEG, _jpeg_exif),
    (_RIFF, _webp_exif),
    (_TIFF, lambda tiff: tiff),
)
"""The EXIF data of the formats that have some: a TIFF file without pictures."""
