from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.calibration.amax import METHODS, ZERO_AMAX, find_amax
from fcn_trt.calibration.histogram import Histogram

ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs pip install 'fcn-trt[export]'")


def histogram_of(values, bins=2048):
    """With fewer bins than usual, so that brute force ends."""
    found = Histogram(counts=np.zeros(bins, np.int64))
    found.add(np.asarray(values, np.float32))
    return found


RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(20_000)
DISTRIBUTIONS = {
    "normal": NORMAL,
    "relu": np.maximum(NORMAL, 0),
    "uniform": RNG.uniform(-3, 3, 20_000),
    "one outlier": np.append(NORMAL, 40.0),
    "heavy tail": RNG.standard_t(3, 20_000),
    "few values": [0.1, 0.2, 0.7],
}


@pytest.fixture(params=DISTRIBUTIONS)
def values(request):
    return np.asarray(DISTRIBUTIONS[request.param], np.float32)


def entropy_by_hand(histogram):
    """Bin by bin, as ModelOpt's _compute_amax_entropy does it with its default arguments."""
    used = int(histogram.maximum / histogram.width) + 1
    bins = [float(count) for count in histogram.counts[:used]]
    bins[0] = bins[1]
    best, chosen = np.inf, used
    for keep in range(128, used + 1):
        levels: dict[int, list[int]] = {}
        for b in range(keep):
            levels.setdefault(b * 128 // keep, []).append(b)
        q = np.zeros(keep)
        for level in levels.values():
            filled = [b for b in level if bins[b]]
            for b in filled:
                q[b] = sum(bins[c] for c in filled) / len(filled)
        p = np.array(bins[:keep])
        p[-1] += sum(bins[keep:])
        p, q = p / p.sum(), q / q.sum()
        where = p > 0
        with np.errstate(divide="ignore"):
            divergence = float((p[where] * np.log(p[where] / q[where])).sum())
        if divergence <= best + 1e-12:
            best, chosen = min(best, divergence), keep
    return min(chosen * histogram.width, histogram.maximum)


def test_entropy_is_the_one_of_the_definition(values):
    histogram = histogram_of(values, bins=512)
    assert find_amax(histogram, "entropy") == entropy_by_hand(histogram)


def rounded(values, amax, precision):
    if precision == "int8":
        codes = np.clip(np.rint(values / amax * 127), -127, 127)
        return codes * amax / 127
    codes = np.clip(values / amax * 448, -448, 448).astype(np.float32)
    return codes.astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * amax / 448


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_squared_error_of_mse_is_the_least_of_all_candidates(values, precision):
    histogram = histogram_of(values)
    used = int(histogram.maximum / histogram.width) + 1
    centres = (np.arange(used) + 0.5) * histogram.width

    def error(amax):
        wrong = rounded(centres, amax, precision) - centres
        return float((histogram.counts[:used] * wrong**2).sum())

    candidates = [keep * histogram.width for keep in range(min(128, used), used + 1)]
    found = find_amax(histogram, "mse", precision=precision)
    best = min(error(amax) for amax in candidates)
    at_found = error(min(candidates, key=lambda amax: abs(amax - found)))
    assert at_found == pytest.approx(best, rel=1e-6)


def test_percentile_clips_one_value_of_ten_thousand(values):
    amax = find_amax(histogram := histogram_of(values), "percentile")
    magnitudes = np.abs(values.astype(np.float64))
    assert (magnitudes > amax).mean() <= 1e-4
    assert (magnitudes > amax - histogram.width * 1.001).mean() > 1e-4


def test_minmax_is_exactly_the_largest_magnitude(values):
    assert find_amax(histogram_of(values), "minmax") == float(np.abs(values).max())


@pytest.mark.parametrize("method", METHODS)
def test_no_method_goes_beyond_the_largest_magnitude(values, method):
    histogram = histogram_of(values, bins=4096)
    assert 0 < find_amax(histogram, method) <= histogram.maximum


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
def test_one_outlier_is_clipped(method):
    values = RNG.standard_normal(1_000_000).astype(np.float32)
    assert find_amax(histogram_of([*values, 40.0]), method) < 15


@pytest.mark.parametrize("method", ["entropy", "mse"])
def test_uniform_values_are_hardly_clipped(method):
    assert find_amax(histogram_of(DISTRIBUTIONS["uniform"]), method) > 2.9


def test_fp8_clips_less_than_int8_as_its_steps_grow_with_the_values():
    histogram = histogram_of(DISTRIBUTIONS["heavy tail"])
    int8, fp8 = (find_amax(histogram, "mse", precision=p) for p in ("int8", "fp8"))
    assert int8 < fp8


@pytest.mark.parametrize("method", METHODS)
def test_tensor_of_zeros_has_a_scale_that_fp16_holds(method):
    amax = find_amax(histogram_of(np.zeros(10)), method)
    assert amax == ZERO_AMAX
    for scale in (amax / 127, amax / 448):
        assert np.float16(scale) >= np.finfo(np.float16).tiny


@pytest.mark.parametrize("method", METHODS)
def test_constant_tensor_keeps_its_value(method):
    assert find_amax(histogram_of([2.5] * 10), method) == 2.5
