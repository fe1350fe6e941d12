"""Logits become a label map of the frame's own size, without ever being upsampled as a whole.

Upsampling C classes to a 1024x2048 frame in float32 is 8 MB a class. Here the frame is cut into
bands of rows that stay in the processor's cache; in each band, a class that can win there is
interpolated, compared with the best so far and forgotten. Bands are independent, so threads share
them.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fcn_trt.arrays import LOGITS
from fcn_trt.spec import NO_LABEL, LabelMap, Logits, Size
from fcn_trt.stages.interpolate import Band, bands

__all__ = ["decode", "decode_with_confidence"]

Confidence = npt.NDArray[np.uint8]

BAND_PIXELS = 1 << 18
"""Pixels of a band: 1 MB a plane, so that the steps of a class stay in the cache, and few enough
bands that Python costs little. Found by measuring 2^16 to 2^19."""


FEW_CLASSES = 12
"""Up to this number, finding out which can win costs more than it saves."""


def decode(logits: Logits, size: Size, *, align_corners: bool = False) -> LabelMap:
    """Upsample logits to the frame and take the best class of each pixel.

    Args:
        logits: (C, h, w) float16 or float32, before softmax; C at most 256. The label of class 255
            is also what means "no label" everywhere else, so that a palette shows it black.
        size: (height, width) of the frame in pixels.
        align_corners: Whether the corners of both grids coincide, instead of their edges.

    Returns:
        (height, width) uint8 class indices; ties take the lower index. A class does not win a
        pixel that is interpolated from a logit of its that is NaN or infinite; where that leaves
        no class, the label is 0.

    Raises:
        ValueError: logits has another rank or type, or more than 256 classes.

    Source: torch.nn.functional.interpolate(mode="bilinear"), then argmax.
    """
    _check(logits, size)
    return _decode(logits, size, align_corners, None)


def decode_with_confidence(
    logits: Logits, size: Size, *, align_corners: bool = False, unknown_below: int = 0
) -> tuple[LabelMap, Confidence]:
    """Decode as `decode` does, and compute how sure the network is of each pixel.

    Args:
        logits: As for `decode`.
        size: As for `decode`.
        align_corners: As for `decode`.
        unknown_below: Pixels whose confidence is less than this become 255, "no label"; 0 to 255.

    Returns:
        The label map, and (height, width) uint8: the softmax of the winning class, 255 is 1.0; it
        is 0 where no softmax is defined, with +inf or nothing but NaN and -inf.

    Raises:
        ValueError: As for `decode`, or unknown_below is not between 0 and 255.
    """
    _check(logits, size)
    if not 0 <= unknown_below <= 255:
        raise ValueError(f"unknown_below {unknown_below} is not between 0 and 255")
    confidence = np.empty(size, dtype=np.uint8)
    label_map = _decode(logits, size, align_corners, confidence)
    label_map[confidence < unknown_below] = NO_LABEL
    return label_map, confidence


def _decode(
    logits: Logits, size: Size, align_corners: bool, confidence: Confidence | None
) -> LabelMap:
    logits = np.ascontiguousarray(logits, dtype=np.float32)
    if not np.isfinite(logits).all():
        logits = np.where(np.isfinite(logits), logits, np.float32("nan"))
    label_map = np.zeros(size, dtype=np.uint8)
    cut = bands(logits.shape[1:], size, align_corners=align_corners, pixels=BAND_PIXELS)

    def work(band: Band) -> None:
        into = None if confidence is None else confidence[band.rows]
        with np.errstate(invalid="ignore", over="ignore"):  # NaN, and logits near float32's end
            _decode_band(band, logits[:, band.source], label_map[band.rows], into)

    if len(cut) == 1:
        work(cut[0])
    else:
        list(_pool().map(work, cut))
    return label_map


def _check(logits: Logits, size: Size) -> None:
    LOGITS.check(logits)
    if logits.shape[0] > 256:
        raise ValueError(f"logits have 1 to 256 classes, not {logits.shape[0]}")
    if min(size) < 1:
        raise ValueError(f"a frame of {size} has no pixels")


def _decode_band(
    band: Band,
    logits: npt.NDArray[np.float32],
    label_map: LabelMap,
    confidence: Confidence | None,
) -> None:
    """Decode some rows of the frame, class after class."""
    shape = label_map.shape
    best = np.full(shape, -np.inf, dtype=np.float32)
    better, label = np.empty(shape, np.bool_), np.empty(shape, np.uint8)
    total = None if confidence is None else np.zeros(shape, np.float32)
    buffers = band.buffers()
    for index in range(len(logits)) if total is not None else _contenders(logits):
        value = band.upsample(logits[index], buffers)
        np.greater(value, best, out=better)
        if total is not None:
            _add_exponential(total, best, value)
        np.fmax(best, value, out=best)
        # Indices rise, so the larger of old label and (better ? index : 0) is the new label.
        np.multiply(better.view(np.uint8), np.uint8(index), out=label)
        np.maximum(label_map, label, out=label_map)
    if total is not None and confidence is not None:
        confidence[...] = np.rint(np.where(total >= 1, 255 / np.maximum(total, 1), 0))


def _contenders(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Find the classes that can win a pixel between these logits; in most pictures, few.

    In each cell of four logits, the winner is at least the mean of the classes that win the four
    corners, and so at least the smallest corner of that mean. A class whose largest corner is below
    that cannot win there.
    """
    if len(logits) <= FEW_CLASSES or np.isnan(logits).any():
        return np.arange(len(logits))
    height, width = logits.shape[1:]
    top, left = np.arange(max(height - 1, 1))[:, None], np.arange(max(width - 1, 1))
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    corners = ((top, left), (top, right), (bottom, left), (bottom, right))
    best = logits.argmax(axis=0)
    winners = [best[corner] for corner in corners]
    means = [sum(logits[winner, y, x] for winner in winners) / 4 for y, x in corners]
    high = logits
    for axis, index in ((1, bottom[:, 0]), (2, right)):
        high = np.maximum(high.take(index, axis), high.take(range(len(index)), axis))
    return np.flatnonzero((high >= np.minimum.reduce(means)).any(axis=(1, 2)))


def _add_exponential(total: Any, best: Any, value: Any) -> None:
    """Keep total = sum of exp(logit - best) while best rises, so that exp never overflows."""
    rise = np.fmax(best, value)
    total *= np.where(np.isneginf(best), 0, np.exp(best - rise))
    total += np.where(value > -np.inf, np.exp(value - rise), 0)


@cache
def _pool() -> ThreadPoolExecutor:
    """Make the process's one pool; numpy releases the interpreter's lock in all it does here."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="decode")


if sys.platform != "win32":  # a forked process has the pool, but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
