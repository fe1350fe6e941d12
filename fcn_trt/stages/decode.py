"""Logits become a label map of the frame's own size, without ever being upsampled as a whole.

Upsampling C classes to a 1024x2048 frame in float32 is 8 MB a class. Here the frame is cut into
tiles that stay in the processor's cache; in each tile, a class that can win there is interpolated,
compared with the best so far and forgotten. Tiles are independent, so threads share them.
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

TILE_SIZE = (128, 512)
"""(height, width) of a tile in pixels: its five float32 planes fit into a second-level cache, and
it is small enough that few classes can win in it."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Linear interpolation along one axis: between `first` and the sample after it.

    The sample after the last one is the last one again; its weight is always 0.
    """

    first: npt.NDArray[np.intp]
    weight: npt.NDArray[np.float32]

    def part(self, part: slice) -> tuple[Taps, slice]:
        """The taps of some targets, counted from the first sample they read, and the samples."""
        first = self.first[part]
        start = int(first[0])
        return Taps(first - start, self.weight[part]), slice(start, int(first[-1]) + 2)


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
    paired = _paired(logits)
    label_map = np.empty(size, dtype=np.uint8)
    tiles = [
        (slice(top, top + TILE_SIZE[0]), slice(left, left + TILE_SIZE[1]))
        for top in range(0, height, TILE_SIZE[0])
        for left in range(0, width, TILE_SIZE[1])
    ]

    def work(tile: tuple[slice, slice]) -> None:
        into = None if confidence is None else confidence[tile]
        with np.errstate(invalid="ignore", over="ignore"):  # infinity times a weight of 0
            _decode_tile(paired, rows.part(tile[0]), columns.part(tile[1]), label_map[tile], into)

    if len(tiles) == 1:
        work(tiles[0])
    else:
        list(_pool().map(work, tiles))
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
    return Taps(first, (position - first).astype(np.float32))


def _paired(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
    """(C, h, w): each logit, and its right neighbour as the imaginary part.

    Side by side in memory, both are gathered at once; gathering is half of this module's work.
    """
    paired = np.empty(logits.shape, dtype=np.complex64)
    paired.real = logits
    paired.imag[:, :, :-1] = logits[:, :, 1:]
    paired.imag[:, :, -1] = logits[:, :, -1]
    return paired


def _decode_tile(
    paired: npt.NDArray[np.complex64],
    rows: tuple[Taps, slice],
    columns: tuple[Taps, slice],
    label_map: LabelMap,
    confidence: Confidence | None,
) -> None:
    """Decode a rectangle of the frame, class after class, in buffers that stay in the cache."""
    corner = paired[:, rows[1], columns[1]]
    down, across = rows[0], columns[0]
    shape = label_map.shape
    best = np.full(shape, -np.inf, dtype=np.float32)
    value, below = np.empty(shape, np.float32), np.empty(shape, np.float32)
    better = np.empty(shape, np.bool_)
    winner, label = np.zeros(shape, np.uint8), np.empty(shape, np.uint8)
    total = None if confidence is None else np.zeros(shape, np.float32)
    # Written out, because numpy multiplies by a broadcast column at a third of the speed.
    lower = np.repeat(down.weight[:, None], shape[1], axis=1)
    upper = 1 - lower
    for index in range(len(corner)) if total is not None else _contenders(corner.real):
        wide = _interpolate_columns(corner[index], across)
        np.take(wide, down.first, axis=0, out=value, mode="clip")
        np.take(wide, down.first + 1, axis=0, out=below, mode="clip")
        value *= upper
        below *= lower
        value += below
        np.greater(value, best, out=better)
        if total is not None:
            _add_exponential(total, best, value)
        np.fmax(best, value, out=best)
        # Indices rise, so the larger of old label and (better ? index : 0) is the new label.
        np.multiply(better.view(np.uint8), np.uint8(index), out=label)
        np.maximum(winner, label, out=winner)
    label_map[...] = winner
    if total is not None and confidence is not None:
        confidence[...] = np.rint(np.where(total >= 1, 255 / np.maximum(total, 1), 0))


def _contenders(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """The classes that can win a pixel between these logits; in most pictures, few.

    A bilinear value lies between the smallest and the largest of its four corners. A class whose
    largest corner is below the smallest corner of another one cannot win in that cell.
    """
    if not np.isfinite(logits).all():
        return np.arange(len(logits))
    low = _of_corners(np.minimum, logits)
    high = _of_corners(np.maximum, logits)
    return np.flatnonzero((high >= low.max(axis=0)).any(axis=(1, 2)))


def _of_corners(reduce: np.ufunc, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    for axis in (1, 2):
        if logits.shape[axis] > 1:
            before, after = np.split(logits, [-1], axis)[0], np.split(logits, [1], axis)[1]
            logits = reduce(before, after)
    return logits


def _interpolate_columns(corner: npt.NDArray[np.complex64], taps: Taps) -> npt.NDArray[np.float32]:
    """(rows, W) float32: some rows of one class's logits at the tile's width."""
    gathered = np.take(corner, taps.first, axis=1, mode="clip")
    wide: npt.NDArray[np.float32] = gathered.imag * taps.weight
    wide += gathered.real * (1 - taps.weight)
    return wide


def _add_exponential(total: Any, best: Any, value: Any) -> None:
    """Keep total = sum of exp(logit - best) while best rises, so that exp never overflows."""
    rise = np.fmax(best, value)
    total *= np.where(np.isneginf(best), 0, np.exp(best - rise))
    total += np.where(value > -np.inf, np.exp(value - rise), 0)


@cache
def _pool() -> ThreadPoolExecutor:
    """One pool for the process; numpy releases the interpreter's lock in all that it does here."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="decode")
