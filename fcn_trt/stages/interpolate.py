"""Bilinear upsampling in bands of rows, as torch.nn.functional.interpolate defines it.

A band is small enough to stay in the processor's cache, and bands are independent of each other.
OpenCV interpolates where the edges of both grids coincide; where their corners do
(align_corners), which OpenCV does not know, numpy gathers and blends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.spec import Size

__all__ = ["Band", "Taps", "bands", "taps"]

Plane: TypeAlias = npt.NDArray[np.float32]
Buffers: TypeAlias = tuple[Plane, ...]


class Band(Protocol):
    """A band of rows of the target, and how they come from the source."""

    @property
    def rows(self) -> slice:
        """Rows of the target."""

    @property
    def source(self) -> slice:
        """Rows of the source that they are made from."""

    def buffers(self) -> Buffers:
        """Allocate what `upsample` works in; one set serves any number of classes in turn."""

    def upsample(self, plane: Plane, buffers: Buffers) -> Plane:
        """Compute the target's rows from one class's source rows; the result is in the buffers."""


@dataclass(frozen=True, slots=True)
class Taps:
    """The source sample before each target, and the weight of the step to the next.

    Attributes:
        first: (targets,) indices into the source; beyond the last sample stands the last one again.
        weight: (targets,) float32, 0 to 1.
    """

    first: npt.NDArray[np.intp]
    weight: Plane


def taps(source: int, target: int, *, align_corners: bool) -> Taps:
    """Compute where the samples of one direction come from.

    Args:
        source: Samples that there are.
        target: Samples of the result.
        align_corners: Whether the outermost samples of both coincide, instead of their edges.
    """
    # In integers: a position on a sample must not fall short of it by a rounding.
    steps = np.arange(target)
    if align_corners:
        numerator, denominator = steps * (source - 1), max(target - 1, 1)
    else:
        numerator, denominator = np.maximum((2 * steps + 1) * source - target, 0), 2 * target
    first = np.minimum(numerator // denominator, source - 1)
    return Taps(first, ((numerator - first * denominator) / denominator).astype(np.float32))


def bands(source: Size, target: Size, *, align_corners: bool, pixels: int) -> list[Band]:
    """Cut the target into bands of about a number of pixels.

    Args:
        source: (height, width) of what is interpolated.
        target: (height, width) of the result.
        align_corners: Whether the corners of both grids coincide, instead of their edges.
        pixels: Size of a band, as far as the ratio of the heights allows it.
    """
    height = max(1, pixels // target[1])
    if align_corners:
        return _aligned_bands(source, target, height)
    return _half_pixel_bands(source, target, height)


@dataclass(frozen=True, slots=True)
class _HalfPixelBand:
    rows: slice
    source: slice
    size: Size
    skip: int

    def buffers(self) -> Buffers:
        return (np.empty(self.size, dtype=np.float32),)

    def upsample(self, plane: Plane, buffers: Buffers) -> Plane:
        (whole,) = buffers
        cv2.resize(plane, whole.shape[::-1], dst=whole, interpolation=cv2.INTER_LINEAR)
        return whole[self.skip : self.skip + self.rows.stop - self.rows.start]


def _half_pixel_bands(source: Size, target: Size, height: int) -> list[Band]:
    """Cut bands of whole periods: after target / gcd rows, the sampling positions repeat.

    Each band is resized with one period more on both sides, so that it never sees its own edge.
    """
    periods = math.gcd(source[0], target[0])
    source_rows, target_rows = source[0] // periods, target[0] // periods
    each = max(1, height // target_rows)
    made: list[Band] = []
    for first in range(0, periods, each):
        last = min(first + each, periods)
        before, after = max(first - 1, 0), min(last + 1, periods)
        made.append(
            _HalfPixelBand(
                rows=slice(first * target_rows, last * target_rows),
                source=slice(before * source_rows, after * source_rows),
                size=((after - before) * target_rows, target[1]),
                skip=(first - before) * target_rows,
            )
        )
    return made


@dataclass(frozen=True, slots=True)
class _AlignedBand:
    rows: slice
    source: slice
    down: Taps
    across: Taps

    def buffers(self) -> Buffers:
        source_rows, width = self.source.stop - self.source.start, len(self.across.first)
        wide, full = (source_rows, width), self.down.weight.shape
        return tuple(np.empty(shape, dtype=np.float32) for shape in (wide, wide, wide, full, full))

    def upsample(self, plane: Plane, buffers: Buffers) -> Plane:
        wide, wide_step, steps, value, step = buffers
        across = np.zeros_like(plane)  # beyond the last sample stands the last one again
        np.subtract(plane[:, 1:], plane[:, :-1], out=across[:, :-1])
        np.take(plane, self.across.first, axis=1, out=wide, mode="clip")
        np.take(across, self.across.first, axis=1, out=wide_step, mode="clip")
        wide_step *= self.across.weight
        wide += wide_step
        steps[-1] = 0
        np.subtract(wide[1:], wide[:-1], out=steps[:-1])
        np.take(wide, self.down.first, axis=0, out=value, mode="clip")
        np.take(steps, self.down.first, axis=0, out=step, mode="clip")
        step *= self.down.weight
        value += step
        return value


def _aligned_bands(source: Size, target: Size, height: int) -> list[Band]:
    down, across = (taps(*sides, align_corners=True) for sides in zip(source, target, strict=True))
    made: list[Band] = []
    for top in range(0, target[0], height):
        rows = slice(top, min(top + height, target[0]))
        start = int(down.first[rows.start])
        stop = min(int(down.first[rows.stop - 1]) + 2, source[0])
        weight = np.repeat(down.weight[rows][:, None], target[1], axis=1)
        made.append(
            _AlignedBand(rows, slice(start, stop), Taps(down.first[rows] - start, weight), across)
        )
    return made
