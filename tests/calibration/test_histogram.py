from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.calibration.histogram import BINS, BLOCK, MIN_LIMIT, PARALLEL, Histogram


def one_pass(values):
    """The definition, with numpy's own histogram in float64."""
    largest = float(np.abs(values).max())
    limit = MIN_LIMIT
    while limit <= largest:
        limit *= 2
    counts, _ = np.histogram(np.abs(values.astype(np.float64)), BINS, (0, limit))
    return counts, limit, largest


def parts_of(seed):
    """Tensors whose values grow, as on one image after another."""
    rng = np.random.default_rng(seed)
    return [
        (scale * rng.standard_normal((2, 3, 50))).astype(np.float32)
        for scale in (0.001, 0.7, 0.0, 3, 0.2, 90)
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_any_order_gives_the_histogram_of_one_pass(order):
    parts = parts_of(0)
    found = Histogram()
    for part in parts[::order]:
        found.add(part)
    counts, limit, largest = one_pass(np.stack(parts))
    assert (found.limit, found.maximum) == (limit, largest)
    assert np.array_equal(found.counts, counts)
    assert found.counts.dtype == np.int64


def test_sum_of_histograms_is_the_histogram_of_all():
    parts = parts_of(1)
    total = Histogram()
    for part in parts:
        one = Histogram()
        one.add(part)
        before = one.counts.copy()
        total = total + one
        assert np.array_equal(one.counts, before)
    assert np.array_equal(total.counts, one_pass(np.stack(parts))[0])


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, PARALLEL + 3])
def test_every_value_is_counted_once_however_the_work_is_split(size):
    values = np.random.default_rng(2).standard_normal(size, np.float32)
    found = Histogram()
    found.add(values)
    assert np.array_equal(found.counts, one_pass(values)[0])


def test_value_on_an_edge_belongs_to_the_bin_above_whatever_its_sign():
    found = Histogram()
    found.add(np.array([0, 0.5, -0.5, 1 - 2**-24, -0.25], np.float32))
    assert found.limit == 1
    assert {int(i): int(found.counts[i]) for i in found.counts.nonzero()[0]} == {
        0: 1,
        BINS // 4: 1,
        BINS // 2: 2,
        BINS - 1: 1,
    }


def test_power_of_two_needs_the_next_limit():
    found = Histogram()
    found.add(np.array([4.0], np.float32))
    assert (found.limit, found.counts[BINS // 2]) == (8, 1)


@pytest.mark.parametrize("value", [0.0, 1e-40, 2.0**-126, 3.4e38])
def test_extremes_of_float32_have_a_bin(value):
    found = Histogram()
    found.add(np.array([value, -value], np.float32))
    assert found.counts.sum() == 2
    assert found.counts[int(np.float32(value) / found.width)] == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [10, PARALLEL])
def test_what_is_not_finite_is_refused_and_leaves_the_histogram(value, size):
    found = Histogram()
    found.add(np.ones(3, np.float32))
    values = np.zeros(size, np.float32)
    values[size // 3] = value
    with pytest.raises(ValueError, match="a value is infinite or not a number"):
        found.add(values)
    assert (found.counts.sum(), found.maximum) == (3, 1)


def test_nothing_adds_nothing():
    found = Histogram()
    found.add(np.zeros((0, 3), np.float32))
    assert found.counts.sum() == 0


def test_half_as_many_bins_count_the_same():
    found = Histogram()
    found.add(parts_of(3)[1])
    half = found.halved()
    assert np.array_equal(half.counts, found.counts[::2] + found.counts[1::2])
    assert (half.limit, half.maximum, half.width) == (found.limit, found.maximum, 2 * found.width)
