"""When a comparison passes."""

from __future__ import annotations

import math

import pytest

from fcn_trt.comparison.measure import Accuracy, Comparison
from fcn_trt.comparison.thresholds import Thresholds


def comparison(*, pixels=0.995, near=0.98, mious: tuple[float, float] | None = (0.65, 0.649)):
    def accuracy(miou: float) -> Accuracy:
        return Accuracy(miou=miou, pixel_accuracy=0.9, per_class={})

    return Comparison(
        images=1,
        pixels=pixels,
        near_boundary=near,
        elsewhere=1.0,
        boundary_share=0.1,
        radius=3,
        per_class={},
        accuracy=None if mious is None else (accuracy(mious[0]), accuracy(mious[1])),
        worst=(),
    )


def passed(limits: Thresholds, **measured) -> list[bool]:
    return [verdict.passed for verdict in limits.verdicts(comparison(**measured))]


def test_a_value_on_its_limit_passes_and_one_beyond_fails():
    limits = Thresholds(min_agreement=99.5, min_boundary=98)
    assert passed(limits) == [True, True]
    assert passed(limits, pixels=0.99499, near=0.97999) == [False, False]
    assert passed(Thresholds(max_miou_drop=0.11)) == [True]
    assert passed(Thresholds(max_miou_drop=0.09)) == [False]
    assert passed(Thresholds(max_miou_drop=0), mious=(0.6, 0.7)) == [True]  # B is better


def test_what_is_not_defined_does_not_pass():
    limits = Thresholds(min_boundary=0, max_miou_drop=100)
    assert passed(limits, near=math.nan, mious=(math.nan, 0.5)) == [False, False]
    first, _ = limits.verdicts(comparison(near=math.nan))
    assert first.describe() == "agreement near boundaries not defined, --min-boundary 0"


def test_only_what_is_limited_is_judged():
    assert Thresholds().verdicts(comparison()) == []
    assert passed(Thresholds(max_miou_drop=1), mious=None) == []


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (
            Thresholds(min_agreement=99.5),
            "pixel agreement 99.4999 %, --min-agreement 99.5",
        ),
        (Thresholds(max_miou_drop=0.05), "mIoU drop 0.1000 points, --max-miou-drop 0.05"),
    ],
)
def test_a_verdict_names_value_limit_and_option(limits, sentence):
    (verdict,) = limits.verdicts(comparison(pixels=0.994999))
    assert verdict.describe() == sentence
