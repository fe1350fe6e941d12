"""Four ways to choose amax, the magnitude that becomes the largest code, from a histogram.

What is larger is clipped; what is smaller is rounded more finely, the smaller amax is. Candidates
are the upper edges of the histogram's bins, from the 128th on, and the largest magnitude.

Sources: NVIDIA ModelOpt and pytorch-quantization, calib/histogram.py (`_compute_amax_entropy`,
`_compute_amax_mse`, `_compute_amax_percentile`); H. Wu et al., "Integer Quantization for Deep
Learning Inference" (arXiv 2004.09602), section 5; S. Migacz, "8-bit Inference with TensorRT" (GTC
2017), where the entropy calibration comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from fcn_trt.calibration.histogram import Histogram
from fcn_trt.spec import QuantisedPrecision

__all__ = ["CALIBRATION_IMAGES", "DEFAULT_METHOD", "METHODS", "ZERO_AMAX", "Method", "find_amax"]

Method: TypeAlias = Literal["entropy", "minmax", "percentile", "mse"]
"""How amax is chosen."""

DEFAULT_METHOD: Method = "mse"
"""The one that kept most labels of CamVid, beside percentile; calibration/README.md."""

CALIBRATION_IMAGES = 200
"""Images that `calibrate` takes at most, unless another number is asked for."""

METHODS: tuple[Method, ...] = get_args(Method)

Floats: TypeAlias = npt.NDArray[np.float64]

PERCENTILE = 0.9999
"""The share of values that is not clipped: one of the four, 99.9, 99.99, 99.999 and 99.9999 %, that
Wu et al. compare."""

ZERO_AMAX = 448 * 2.0**-14
"""amax of a tensor that was zero everywhere. Any amax keeps a zero exactly; of this one the scale
is a normal number in FP16 also, whether of INT8 (amax / 127) or of FP8 (amax / 448)."""

LEVELS = 128
"""INT8 magnitudes, zero among them: the fewest bins that an entropy can be taken over."""


def find_amax(
    histogram: Histogram, method: Method, *, precision: QuantisedPrecision = "int8"
) -> float:
    """Choose the magnitude that becomes the largest code.

    Args:
        histogram: Of the tensor's magnitudes.
        method: "entropy" loses the least information, after TensorRT's calibrator; "minmax" clips
            nothing; "percentile" clips one value of 10,000; "mse" has the least squared error.
        precision: What the codes are. Only "mse" differs between them: the other methods look at
            where the values are, as ModelOpt does, which makes FP8's scales of INT8's.

    Returns:
        A positive number, at most the largest magnitude, or `ZERO_AMAX` where that is zero.
    """
    if histogram.maximum <= 0:
        return ZERO_AMAX
    used = int(histogram.maximum / histogram.width) + 1
    counts = histogram.counts[:used].astype(np.float64)
    if method == "minmax" or used == 1:
        return histogram.maximum
    choose: dict[Method, Callable[[], int]] = {
        "entropy": lambda: _least_divergence(counts),
        "percentile": lambda: _percentile(counts),
        "mse": lambda: _least_squares(counts, _grid(precision)),
    }
    return min(choose[method]() * histogram.width, histogram.maximum)


def _percentile(counts: Floats) -> int:
    """The fewest bins that hold `PERCENTILE` of the values."""
    below = np.cumsum(counts)
    return int(np.searchsorted(below, PERCENTILE * below[-1])) + 1


def _least_divergence(counts: Floats) -> int:
    """The number of bins to keep that loses the least information.

    For each candidate the reference P is the bins below it, with all that is beyond added to the
    last of them; Q is the same bins without what is beyond, laid on 128 levels and each level's
    sum spread evenly over those of its bins that are not empty. The candidate with the least
    Kullback-Leibler divergence of P from Q wins, the largest one among equals. The first bin is
    replaced by the second, as ReLU's zeros, which any scale keeps exactly, would outweigh the rest.

    Sums over levels are differences of running sums, so that a candidate costs its 128 levels.
    """
    if len(counts) <= LEVELS:
        return len(counts)
    bins = counts.copy()
    bins[0] = bins[1]
    total = bins.sum()
    if total <= 0:  # everything but the first bin is empty: impossible with more than one bin used
        return len(counts)
    below = _running(bins)
    filled = _running(bins > 0)
    plogp = _running(_xlogx(bins))
    keep = np.arange(LEVELS, len(bins) + 1)
    edges = -(-keep[:, None] * np.arange(LEVELS + 1) // LEVELS)
    mass = np.diff(below[edges], axis=1)
    spread = np.diff(filled[edges], axis=1)
    beyond = total - below[keep]
    last = bins[keep - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.where(mass > 0, np.log(mass / spread), 0.0) - np.log(below[keep])[:, None]
        cross = (mass * log_q).sum(axis=1) + np.where(beyond > 0, beyond * log_q[:, -1], 0.0)
    own = plogp[keep - 1] + _xlogx(last + beyond)
    divergence = (own - cross) / total - np.log(total)
    # Q has nothing where P has everything that is beyond.
    divergence[(last <= 0) & (beyond > 0)] = np.inf
    return int(keep[len(keep) - 1 - np.argmin(divergence[::-1])])


def _least_squares(counts: Floats, grid: Floats) -> int:
    """The number of bins to keep that has the least squared error.

    Each bin stands for its centre. On a level v the error is the sum of c (x - v)^2, which is made
    of running sums of c, c x and c x^2, so that a candidate costs its levels and not its bins.

    Args:
        counts: Of each bin.
        grid: Magnitudes of the codes, rising from 0 to 1.
    """
    centres = np.arange(len(counts)) + 0.5
    sums = [_running(counts * centres**power) for power in range(3)]
    keep = np.arange(min(LEVELS, len(counts)), len(counts) + 1)
    levels = keep[:, None] * grid
    turns = (levels[:, 1:] + levels[:, :-1]) / 2  # from where on the next level is nearer
    ends = np.zeros((len(keep), len(grid) + 1), np.int64)
    ends[:, 1:-1] = np.clip(np.ceil(turns - 0.5), 0, len(counts))
    ends[:, -1] = len(counts)
    zeroth, first, second = (np.diff(s[ends], axis=1) for s in sums)
    error = (second - 2 * levels * first + levels**2 * zeroth).sum(axis=1)
    return int(keep[len(keep) - 1 - np.argmin(error[::-1])])


def _grid(precision: QuantisedPrecision) -> Floats:
    """Magnitudes of the codes, rising from 0 to 1."""
    if precision == "int8":
        return np.arange(LEVELS) / (LEVELS - 1)
    # E4M3: bias 7, three bits of mantissa, subnormals; the last code is not a number (OCP 8-bit
    # Floating Point Specification, section 5).
    exponent, mantissa = np.divmod(np.arange(127), 8)
    normal = (8 + mantissa) * 2.0 ** (exponent - 10)
    subnormal = mantissa * 2.0**-9
    return np.where(exponent > 0, normal, subnormal) / 448


def _running(values: npt.NDArray[np.generic]) -> Floats:
    """Sums of the first 0, 1, ... values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _xlogx(values: Floats) -> Floats:
    return values * np.log(np.where(values > 0, values, 1.0))
