"""Logits of an image's size that never exist whole.

150 classes at 1024x2048 are 1.3 GB in float32, and a multi-scale protocol needs them twelve times
over. So resizing, averaging and flipping are put together first and computed for a few rows at a
time, of which only the labels are kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.spec import LabelMap, Size
from fcn_trt.stages.decode import decode
from fcn_trt.stages.interpolate import Taps, taps

__all__ = [
    "Cropped",
    "Flipped",
    "Known",
    "MeanOfSoftmax",
    "MeanOfWindows",
    "Planes",
    "Resized",
    "best_class",
    "resized",
]

Values: TypeAlias = npt.NDArray[np.float32]

BAND_VALUES = 1 << 22
"""Floats of a band of rows: 16 MB, of which a few exist at a time in each thread."""


class Planes(Protocol):
    """A plane of floats per class, computed where rows are asked for."""

    @property
    def classes(self) -> int:
        """How many planes."""

    @property
    def size(self) -> Size:
        """(height, width) of each."""

    def rows(self, start: int, stop: int) -> Values:
        """Compute some of the rows.

        Args:
            start: First row.
            stop: One behind the last, at least start + 1.

        Returns:
            (classes, stop - start, width) float32, not to be written to.
        """


@dataclass(frozen=True, slots=True)
class Known:
    """The planes of an array that is there: (C, H, W) float32."""

    values: Values

    @property
    def classes(self) -> int:
        """See `Planes`."""
        return len(self.values)

    @property
    def size(self) -> Size:
        """See `Planes`."""
        return self.values.shape[1], self.values.shape[2]

    def rows(self, start: int, stop: int) -> Values:
        """Compute some of the rows; see `Planes`."""
        return self.values[:, start:stop]


@dataclass(frozen=True, slots=True)
class _OfSource:
    """The planes that are made of others, one of each."""

    source: Planes

    @property
    def classes(self) -> int:
        """See `Planes`."""
        return self.source.classes


@dataclass(frozen=True, slots=True)
class Resized(_OfSource):
    """The planes that are interpolated bilinearly from others.

    Source: torch.nn.functional.interpolate(mode="bilinear").
    """

    size: Size
    align_corners: bool

    def rows(self, start: int, stop: int) -> Values:
        """Compute some of the rows; see `Planes`."""
        part = self._down(start, stop)
        return part if self.size[1] == self.source.size[1] else self._across(part)

    def _down(self, start: int, stop: int) -> Values:
        height = self.source.size[0]
        if self.size[0] == height:
            return self.source.rows(start, stop)
        down = taps(height, self.size[0], align_corners=self.align_corners)
        first, weight = down.first[start:stop], down.weight[start:stop, None]
        top, bottom = int(first[0]), min(int(first[-1]) + 2, height)
        return _blend(self.source.rows(top, bottom), Taps(first - top, weight), axis=1)

    def _across(self, part: Values) -> Values:
        classes, height, width = part.shape
        if self.align_corners:
            return _blend(part, taps(width, self.size[1], align_corners=True), axis=2)
        # As one picture of all classes; where the height stays, OpenCV mixes no rows.
        picture = np.ascontiguousarray(part).reshape(classes * height, width)
        wide = cv2.resize(picture, (self.size[1], classes * height), interpolation=cv2.INTER_LINEAR)
        made: Values = wide.reshape(classes, height, self.size[1])
        return made


def resized(source: Planes, size: Size, *, align_corners: bool) -> Planes:
    """Resize; returns `source` itself where it has that size already."""
    return source if source.size == size else Resized(source, size, align_corners)


@dataclass(frozen=True, slots=True)
class Cropped(_OfSource):
    """The upper left part of other planes."""

    size: Size

    def rows(self, start: int, stop: int) -> Values:
        """Compute some of the rows; see `Planes`."""
        return self.source.rows(start, stop)[..., : self.size[1]]


@dataclass(frozen=True, slots=True)
class Flipped(_OfSource):
    """The planes of another, left and right exchanged."""

    @property
    def size(self) -> Size:
        """See `Planes`."""
        return self.source.size

    def rows(self, start: int, stop: int) -> Values:
        """Compute some of the rows; see `Planes`."""
        return self.source.rows(start, stop)[..., ::-1]


@dataclass(frozen=True, slots=True)
class MeanOfWindows:
    """The mean of each pixel over the windows that it lies in; every pixel lies in one.

    Attributes:
        windows: Planes by (top, left).
        size: (height, width) of what they are windows of.
    """

    windows: Sequence[tuple[tuple[int, int], Planes]]
    size: Size

    @property
    def classes(self) -> int:
        """See `Planes`."""
        return self.windows[0][1].classes

    def rows(self, start: int, stop: int) -> Values:
        """Compute some of the rows; see `Planes`."""
        total = np.zeros((self.classes, stop - start, self.size[1]), dtype=np.float32)
        count = np.zeros((stop - start, self.size[1]), dtype=np.float32)
        for (top, left), planes in self.windows:
            height, width = planes.size
            first, last = max(start, top), min(stop, top + height)
            if first < last:
                at = (slice(first - start, last - start), slice(left, left + width))
                total[:, at[0], at[1]] += planes.rows(first - top, last - top)
                count[at] += 1
        total /= count
        return total


@dataclass(frozen=True, slots=True)
class MeanOfSoftmax:
    """The mean, over several logits of the same size, of the softmax over the classes."""

    views: Sequence[Planes]

    @property
    def classes(self) -> int:
        """See `Planes`."""
        return self.views[0].classes

    @property
    def size(self) -> Size:
        """See `Planes`."""
        return self.views[0].size

    def rows(self, start: int, stop: int) -> Values:
        """Compute some of the rows; see `Planes`."""
        total = np.zeros((self.classes, stop - start, self.size[1]), dtype=np.float32)
        for view in self.views:
            logits = view.rows(start, stop)
            share = logits - logits.max(axis=0)
            np.exp(share, out=share)
            share /= share.sum(axis=0)
            total += share
        total /= np.float32(len(self.views))
        return total


def best_class(planes: Planes) -> LabelMap:
    """Find the class with the largest value in each pixel.

    Returns:
        (H, W) uint8; ties take the lower index.
    """
    if isinstance(planes, Resized) and isinstance(planes.source, Known):
        return decode(planes.source.values, planes.size, align_corners=planes.align_corners)
    height, width = planes.size
    label_map = np.empty((height, width), dtype=np.uint8)
    step = max(1, BAND_VALUES // (planes.classes * width))

    def work(start: int) -> None:
        stop = min(start + step, height)
        _argmax(planes.rows(start, stop), label_map[start:stop])

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(work, range(0, height, step)))
    return label_map


def _argmax(values: Values, label_map: LabelMap) -> None:
    """Compute what np.argmax gives over the first axis, where it is slow."""
    best, better = values[0].copy(), np.empty(label_map.shape, np.bool_)
    label_map[...] = 0
    for index in range(1, len(values)):
        np.greater(values[index], best, out=better)
        np.maximum(best, values[index], out=best)
        label_map[better] = index


def _blend(values: Values, along: Taps, axis: int) -> Values:
    """Blend along one axis: each sample and the step to the next, weighted."""
    last = values.shape[axis] - 1
    made = values.take(along.first, axis)
    step = values.take(np.minimum(along.first + 1, last), axis)
    step -= made
    step *= along.weight
    made += step
    return made
