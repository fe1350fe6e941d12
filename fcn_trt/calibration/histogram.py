"""How often each magnitude occurs in a tensor, in constant memory, however many images there are.

The bins divide [0, limit) evenly. `limit` is always a power of two, so that all bins that ever
were have an edge at each edge of the ones that are: when a larger value comes, bins merge in pairs
and `limit` doubles. So the result depends neither on the order of the images nor on how they were
split, and is the histogram that one pass over all values with the last limit would have made.

TensorRT and NVIDIA ModelOpt keep 2048 bins of the first image's width and append more; there the
first image decides how fine the bins are.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "MAX_LIMIT", "MIN_LIMIT", "Histogram", "pack_histogram", "unpack_histogram"]

BINS = 4096

MIN_LIMIT = 2.0**-100
"""What is smaller than a bin of this lies in the first one: dividing by it stays in float32."""

MAX_LIMIT = 2.0**128
"""No float32 reaches it."""

BLOCK = 1 << 16
"""Values that are counted at once: what is made of them on the way stays in the processor's cache.

numpy counts 250 to 500 million values a second so (one busy core); cv2.calcHist on the same
blocks 150 to 290 million, and needs another convention for what lies on an edge.
"""

PARALLEL = 1 << 20
"""Values from which on it pays to start threads; numpy works without the interpreter's lock."""


@dataclass(slots=True)
class Histogram:
    """Counts of magnitudes.

    Attributes:
        counts: (bins,) int64; bin i counts |x| in [i, i + 1) * limit / bins.
        limit: Upper edge of the last bin, a power of two beyond every value.
        maximum: The largest magnitude.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    limit: float = MIN_LIMIT
    maximum: float = 0.0

    @property
    def width(self) -> float:
        """Of one bin."""
        return self.limit / len(self.counts)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the magnitudes of a tensor.

        Args:
            values: float32 of any shape.

        Raises:
            ValueError: a value is infinite or not a number; then none was counted.
        """
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        if not flat.size:
            return
        parts = _parts(flat)
        if len(parts) == 1:
            self._add(parts, map)
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                self._add(parts, pool.map)

    def _add(self, parts: list[npt.NDArray[np.float32]], run: Callable[..., Iterable[Any]]) -> None:
        largest = float(np.max(list(run(_largest, parts))))  # not a number if one of them is none
        if not math.isfinite(largest):
            raise ValueError("a value is infinite or not a number")
        self._reach(largest)
        scale = np.float32(len(self.counts) / self.limit)
        for counts in run(lambda part: _count(part, scale, len(self.counts)), parts):
            self.counts += counts

    def __add__(self, other: Histogram) -> Histogram:
        """The histogram of the values of both, which have equally many bins."""
        total = Histogram(self.counts.copy(), self.limit, self.maximum)
        more = Histogram(other.counts.copy(), other.limit, other.maximum)
        total._reach(other.maximum)
        more._reach(total.maximum)
        total.counts += more.counts
        return total

    def halved(self) -> Histogram:
        """The same with half as many bins."""
        return Histogram(_merged(self.counts, 2), self.limit, self.maximum)

    def _reach(self, value: float) -> None:
        """Make the bins wide enough for a value."""
        self.maximum = max(self.maximum, value)
        limit = self.limit
        while self.maximum >= limit:
            limit *= 2
        if limit > self.limit:
            merged = _merged(self.counts, int(min(limit / self.limit, len(self.counts))))
            self.counts = np.zeros_like(self.counts)
            self.counts[: len(merged)] = merged
            self.limit = limit


def _merged(counts: npt.NDArray[np.int64], together: int) -> npt.NDArray[np.int64]:
    merged: npt.NDArray[np.int64] = counts.reshape(-1, together).sum(axis=1)
    return merged


def _parts(flat: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """One part for each thread; counts add up exactly, whatever the split."""
    threads = min(os.cpu_count() or 1, 8) if flat.size >= PARALLEL else 1
    return np.array_split(flat, threads)


def _blocks(flat: npt.NDArray[np.float32]) -> Iterable[npt.NDArray[np.float32]]:
    return (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))


def _largest(flat: npt.NDArray[np.float32]) -> float:
    """The largest magnitude; not a number if one value is none."""
    ends = [(block.max(), -block.min()) for block in _blocks(flat)]
    return float(np.max(ends))


def _count(flat: npt.NDArray[np.float32], scale: np.float32, bins: int) -> npt.NDArray[np.int64]:
    """Counts of magnitudes, all below bins / scale.

    The scale is a power of two, so that the product is exact and truncating it is the bin.
    """
    counts = np.zeros(bins, np.int64)
    size = min(BLOCK, flat.size)
    magnitudes, places = np.empty(size, np.float32), np.empty(size, np.intp)
    for block in _blocks(flat):
        magnitude, place = magnitudes[: block.size], places[: block.size]
        np.abs(block, out=magnitude)
        np.multiply(magnitude, scale, out=magnitude)
        np.copyto(place, magnitude, casting="unsafe")
        counts += np.bincount(place, minlength=bins)
    return counts


STORED_BINS = BINS // 2
MAX_COUNT = 1 << 50
"""Of a bin: sums over all bins stay exact, in int64 and in float64."""


def pack_histogram(histogram: Histogram) -> str:
    """The counts as text; limit and maximum are not part of it."""
    while len(histogram.counts) > STORED_BINS:
        histogram = histogram.halved()
    used = np.trim_zeros(histogram.counts, "b").astype("<u8")
    planes = used.view(np.uint8).reshape(-1, 8).T.tobytes()
    return base64.b64encode(zlib.compress(planes, 9)).decode()


def unpack_histogram(text: str, maximum: float) -> Histogram:
    """The histogram of a text, whose limit follows from its maximum.

    Args:
        text: From `pack_histogram`, or from anybody.
        maximum: The largest magnitude, finite and not negative.

    Raises:
        ValueError: the text is none, or does not fit the maximum.
    """
    limit = max(MIN_LIMIT, 2.0 ** math.frexp(maximum)[1]) if maximum else MIN_LIMIT
    counts = _unpacked_counts(text)
    last = int(maximum / limit * STORED_BINS)
    if len(counts) != last + 1 or not counts[-1]:
        raise ValueError(f"its histogram has {len(counts)} bins where its maximum needs {last + 1}")
    padded = np.zeros(STORED_BINS, np.int64)
    padded[: len(counts)] = counts
    return Histogram(padded, limit, maximum)


def _unpacked_counts(text: str) -> npt.NDArray[np.int64]:
    """The counts; never more than `STORED_BINS`, whatever a file makes of so many bytes."""
    try:
        inflate = zlib.decompressobj()
        planes = inflate.decompress(base64.b64decode(text, validate=True), 8 * STORED_BINS + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"its histogram cannot be unpacked ({error})") from error
    if not inflate.eof or inflate.unused_data or len(planes) > 8 * STORED_BINS or len(planes) % 8:
        raise ValueError(f"its histogram does not unpack to {STORED_BINS} bins at most")
    counts = np.frombuffer(planes, np.uint8).reshape(8, -1).T.copy().view("<u8").reshape(-1)
    if not counts.size or counts.max() > MAX_COUNT:
        raise ValueError(f"its histogram has no bins, or more than {MAX_COUNT} values in one")
    found: npt.NDArray[np.int64] = counts.astype(np.int64)
    return found
