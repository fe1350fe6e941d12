from __future__ import annotations

import math

import pytest

from fcn_trt.sensitivity.result import Bound, Score

FP32 = Score(agreement=100.0, miou=66.4)


@pytest.mark.parametrize(("miou", "holds"), [(66.1, True), (66.09, False), (70.0, True)])
def test_mean_iou_may_drop_by_the_bound_and_may_rise(miou, holds):
    # 66.4 - 66.1 is 0.3000000000000114 in binary.
    assert Bound(max_drop=0.3).holds(Score(agreement=50.0, miou=miou), FP32) is holds


@pytest.mark.parametrize(("agreement", "holds"), [(99.5, True), (99.499, False), (100.0, True)])
def test_agreement_has_to_reach_the_bound(agreement, holds):
    assert Bound(min_agreement=99.5).holds(Score(agreement=agreement, miou=None), FP32) is holds


def test_mean_iou_that_is_not_a_number_holds_nothing():
    assert not Bound(max_drop=100.0).holds(Score(agreement=100.0, miou=math.nan), FP32)


def test_bound_of_mean_iou_needs_labels():
    with pytest.raises(ValueError, match="needs labels"):
        Bound(max_drop=0.3).holds(Score(agreement=99.0, miou=None), FP32)


@pytest.mark.parametrize(
    "values", [{}, {"max_drop": 0.3, "min_agreement": 99.0}, {"max_drop": -0.1}]
)
def test_bound_is_one_number_from_0_to_100(values):
    with pytest.raises(ValueError, match="bound"):
        Bound(**values)
    with pytest.raises(ValueError, match="nan is not a bound"):
        Bound(min_agreement=math.nan)


def test_bound_says_what_it_is():
    assert Bound(max_drop=0.3).describe() == "at most 0.3 points of mean IoU less than FP32"
    says = "at least 99.5 % of the pixels labelled as in FP32"
    assert Bound(min_agreement=99.5).describe() == says
