"""A histogram as a line of text.

A histogram is kept with the bins up to its largest magnitude only and, since the upper half of the
limit is always in use, with two bins merged into one: 1025 to 2048 bins. Its counts are uint64 in
little-endian byte order, laid out plane by plane (first the lowest byte of every bin, ...), because
then the upper bytes are runs of zeros; deflated, in base64. 139
histograms, as many as fcn_resnet101 has, with the counts of 200 images at 1024x2048 are 1.0 MB so;
in decimal digits they would be 2.4 MB.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib

import numpy as np
import numpy.typing as npt

from fcn_trt.calibration.histogram import BINS, MIN_LIMIT, Histogram

__all__ = ["pack_histogram", "unpack_histogram"]

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
