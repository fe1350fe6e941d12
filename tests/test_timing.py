from __future__ import annotations

import pytest

from fcn_trt.timing import percentiles, rate_fps


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([], 0.0),
        ([5.0], 0.0),
        ([5.0, 5.0], 0.0),
        ([5.0, 5.1], 10.0),
        ([5.0 + index / 10 for index in range(30)], 10.0),
        ([0.0, 0.9, 1.0], 2.0),
    ],
)
def test_n_stamps_are_n_minus_1_intervals(stamps, expected):
    assert rate_fps(stamps) == pytest.approx(expected)


def test_percentiles_lie_between_the_nearest_values():
    assert percentiles([4.0, 1.0, 3.0, 2.0]) == pytest.approx((2.5, 3.7, 3.97))
    assert percentiles([7.0]) == (7.0, 7.0, 7.0)
    assert percentiles(range(101), (0.0, 25.0, 100.0)) == (0.0, 25.0, 100.0)


def test_no_values_have_no_percentiles():
    with pytest.raises(ValueError, match="percentiles of no values"):
        percentiles([])
