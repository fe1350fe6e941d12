"""Logits become a label map of the frame's own size, without ever being upsampled as a whole.

Upsampling C classes to a 1024x2048 frame in float32 is 8 MB a class. Here the rows of the frame
are cut into bands that stay in the processor's cache; for each class a band is interpolated,
compared with the best so far and forgotten. Bands are independent, so threads share them.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fcn_trt.spec import LabelMap, Logits, Size

__all__ = ["decode", "decode_with_confidence"]

Confidence = npt.NDArray[np.uint8]

BAND_PIXELS = 1 << 16
"""Pixels of a band: three float32 planes of it fit into 1 MB of second-level cache."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Bilinear interpolation along one axis: two source indices and the weight of the second."""

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    weight: npt.NDArray[np.float32]

    def __getitem__(self, part: slice) -> Taps:
        return Taps(self.first[part], self.second[part], self.weight[part])


def decode(logits: Logits, size: Size, *, align_corners: bool = False) -> LabelMap:
    """Upsample logits to the frame and take the best class of each pixel.

    Args:
        logits: (C, h, w) float16 or float32, before softmax; C at most 255.
        size: (height, width) of the frame in pixels.
        align_corners: Whether the corners of both grids coincide, instead of their edges.

    Returns:
        (height, width) uint8 class indices; ties take the lower index, NaN never wins, and a
        pixel whose logits are all NaN is class 0.

    Raises:
        ValueError: logits has another rank or type, or more than 255 classes.

    Source: torch.nn.functional.interpolate(mode="bilinear"), then argmax.
    """
    _check(logits, size)
    return _decode(logits, size, align_corners, None)


def decode_with_confidence(
    logits: Logits, size: Size, *, align_corners: bool = False
) -> tuple[LabelMap, Confidence]:
    """`decode`, and how sure the network is of each pixel.

    Args:
        logits: As for `decode`.
        size: As for `decode`.
        align_corners: As for `decode`.

    Returns:
        The label map, and (height, width) uint8: the softmax of the winning class, 255 is 1.0; it
        is 0 where no softmax is defined, with +inf or nothing but NaN and -inf.

    Raises:
        ValueError: As for `decode`.
    """
    _check(logits, size)
    confidence = np.empty(size, dtype=np.uint8)
    return _decode(logits, size, align_corners, confidence), confidence


def _decode(
    logits: Logits, size: Size, align_corners: bool, confidence: Confidence | None
) -> LabelMap:
    height, width = size
    logits = np.ascontiguousarray(logits, dtype=np.float32)
    rows = _taps(logits.shape[1], height, align_corners)
    columns = _taps(logits.shape[2], width, align_corners)
    label_map = np.zeros(size, dtype=np.uint8)
    band_height = max(1, BAND_PIXELS // width)
    bands = [slice(top, min(top + band_height, height)) for top in range(0, height, band_height)]

    def work(band: slice) -> None:
        into = None if confidence is None else confidence[band]
        with np.errstate(invalid="ignore", over="ignore"):  # infinity times a weight of 0
            _decode_band(logits, rows[band], columns, label_map[band], into)

    if len(bands) == 1:
        work(bands[0])
    else:
        list(_pool().map(work, bands))
    return label_map


def _check(logits: Logits, size: Size) -> None:
    if logits.ndim != 3 or logits.dtype not in (np.float16, np.float32):
        raise ValueError(
            f"logits are (classes, h, w) float16 or float32, not {logits.shape} {logits.dtype}"
        )
    if not 1 <= logits.shape[0] <= 255 or 0 in logits.shape:
        raise ValueError(f"logits have 1 to 255 classes and no empty side, not {logits.shape}")
    if min(size) < 1:
        raise ValueError(f"a frame of {size} has no pixels")


def _taps(source: int, target: int, align_corners: bool) -> Taps:
    """Where each target coordinate falls between the source's."""
    position = np.arange(target, dtype=np.float64)  # float32 is off by 1e-5 at 2048
    if align_corners:
        position *= (source - 1) / (target - 1) if target > 1 else 0
    else:
        position = (position + 0.5) * (source / target) - 0.5
    position = np.clip(position, 0, source - 1)
    first = position.astype(np.intp)
    second = np.minimum(first + 1, source - 1)
    return Taps(first, second, (position - first).astype(np.float32))


def _decode_band(
    logits: npt.NDArray[np.float32],
    rows: Taps,
    columns: Taps,
    label_map: LabelMap,
    confidence: Confidence | None,
) -> None:
    """Decode some rows of the frame, class after class, in buffers that stay in the cache."""
    top, bottom = rows.first[0], rows.second[-1] + 1
    strips = logits[:, top:bottom]
    rows = Taps(rows.first - top, rows.second - top, rows.weight)
    shape = label_map.shape
    best = np.full(shape, -np.inf, dtype=np.float32)
    value, other = np.empty(shape, np.float32), np.empty(shape, np.float32)
    better, label = np.empty(shape, np.bool_), np.empty(shape, np.uint8)
    total = None if confidence is None else np.zeros(shape, np.float32)
    # Written out, because numpy multiplies by a broadcast column at a third of the speed.
    lower = np.repeat(rows.weight[:, None], shape[1], axis=1)
    upper = 1 - lower
    for index in range(len(logits)) if total is not None else _contenders(strips):
        wide = _interpolate_columns(strips[index], columns)
        np.take(wide, rows.first, axis=0, out=value, mode="clip")
        np.take(wide, rows.second, axis=0, out=other, mode="clip")
        value *= upper
        other *= lower
        value += other
        np.greater(value, best, out=better)
        if total is not None:
            _add_exponential(total, best, value)
        np.fmax(best, value, out=best)
        # Indices rise, so the larger of old label and (better ? index : 0) is the new label.
        np.multiply(better.view(np.uint8), np.uint8(index), out=label)
        np.maximum(label_map, label, out=label_map)
    if total is not None and confidence is not None:
        confidence[...] = np.rint(np.where(total >= 1, 255 / np.maximum(total, 1), 0))


def _contenders(strips: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """The classes that can win a pixel between these logits; in most pictures, few.

    A bilinear value lies between the smallest and the largest of its four corners. A class whose
    largest corner is below the smallest corner of another one cannot win in that cell.
    """
    if not np.isfinite(strips).all():
        return np.arange(len(strips))
    low = _of_corners(np.minimum, strips)
    high = _of_corners(np.maximum, strips)
    return np.flatnonzero((high >= low.max(axis=0)).any(axis=(1, 2)))


def _of_corners(reduce: np.ufunc, strips: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    for axis in (1, 2):
        length = strips.shape[axis]
        if length > 1:
            ends = np.take(strips, range(length - 1), axis), np.take(strips, range(1, length), axis)
            strips = reduce(*ends)
    return strips


def _interpolate_columns(strip: npt.NDArray[np.float32], taps: Taps) -> npt.NDArray[np.float32]:
    """(rows, W) float32: some rows of one class's logits at the frame's width."""
    left = np.take(strip, taps.first, axis=1, mode="clip")
    right = np.take(strip, taps.second, axis=1, mode="clip")
    left *= 1 - taps.weight
    right *= taps.weight
    left += right
    return left


def _add_exponential(total: Any, best: Any, value: Any) -> None:
    """Keep total = sum of exp(logit - best) while best rises, so that exp never overflows."""
    rise = np.fmax(best, value)
    total *= np.where(np.isneginf(best), 0, np.exp(best - rise))
    total += np.where(value > -np.inf, np.exp(value - rise), 0)


@cache
def _pool() -> ThreadPoolExecutor:
    """One pool for the process; numpy releases the interpreter's lock in all that it does here."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="decode")
