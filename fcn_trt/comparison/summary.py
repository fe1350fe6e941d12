"""What is told of a comparison, on whichever page: predictors, shares, classes, images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fcn_trt.comparison.measure import Comparison, WorstImage
from fcn_trt.comparison.pictures import Panels
from fcn_trt.comparison.predictor import Predictor
from fcn_trt.comparison.thresholds import Verdict
from fcn_trt.spec import format_size

__all__ = ["Rows", "Summary", "caption", "class_rows", "summary_rows", "worst_rows"]

Rows: TypeAlias = list[list[str]]
"""Cells as text; the first row is the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is told.

    Attributes:
        first: A.
        second: B.
        images: Where the images come from, for people.
        comparison: What was measured.
        verdicts: Of the thresholds that were given.
    """

    first: Predictor
    second: Predictor
    images: str
    comparison: Comparison[Panels]
    verdicts: Sequence[Verdict]

    @property
    def predictors(self) -> Rows:
        """What the two are, one row per property."""
        first, second = _facts(self.first), _facts(self.second)
        return [["", "A", "B"], *([name, first[name], second[name]] for name in first)]

    @property
    def remarks(self) -> list[str]:
        """Sentences on what the two do not have in common besides their engines."""
        a, b = self.first.spec, self.second.spec
        remarks = []
        if a.input_size != b.input_size:
            sizes = f"{format_size(a.input_size)} in A, {format_size(b.input_size)} in B"
            remarks.append(f"The inputs have different sizes: {sizes}.")
        if (a.mean, a.std) != (b.mean, b.std):
            remarks.append(
                f"The inputs are normalised differently: mean {a.mean}, std {a.std} in A, "
                f"mean {b.mean}, std {b.std} in B."
            )
        if a.source_sha256 != b.source_sha256:
            remarks.append("The two come from different checkpoints or files.")
        return remarks

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a machine, without the pictures; shares of 1, drops in points."""
        found = self.comparison
        return {
            "a": _plain(self.first),
            "b": _plain(self.second),
            "images": found.images,
            "pixels": found.pixels,
            "near_boundary": found.near_boundary,
            "elsewhere": found.elsewhere,
            "boundary_share": found.boundary_share,
            "boundary_radius_px": found.radius,
            "per_class": found.per_class,
            "accuracy": found.accuracy and dict(zip("ab", found.accuracy, strict=True)),
            "miou_drop_points": found.miou_drop,
            "worst": [
                {"name": w.name, "pixels": w.pixels, "near_boundary": w.near_boundary}
                for w in found.worst
            ],
            "thresholds": list(self.verdicts),
            "remarks": self.remarks,
        }


def summary_rows(comparison: Comparison[Panels]) -> Rows:
    """All images together, in percent."""
    radius = comparison.radius
    near = f"within {radius} pixels of a boundary ({_percent(comparison.boundary_share)} %)"
    rows = [
        ["pixels with the same label", "%"],
        ["all", _percent(comparison.pixels)],
        [near, _percent(comparison.near_boundary)],
        ["elsewhere", _percent(comparison.elsewhere)],
    ]
    if comparison.accuracy is not None:
        first, second = comparison.accuracy
        rows += [
            ["mean IoU of A against the labels", _percent(first.miou)],
            ["mean IoU of B against the labels", _percent(second.miou)],
            ["difference, B - A", _points(second.miou - first.miou)],
        ]
    return rows


def class_rows(comparison: Comparison[Panels]) -> Rows:
    """Each class, in percent."""
    rows = [["class", "IoU of A and B", "A's pixels kept"]]
    if comparison.accuracy is not None:
        rows[0] += ["IoU of A", "IoU of B", "B - A"]
    for name, found in comparison.per_class.items():
        row = [name, _percent(found.iou), _percent(found.kept)]
        if comparison.accuracy is not None:
            first, second = (scores.per_class[name] for scores in comparison.accuracy)
            row += [_percent(first), _percent(second), _points(second - first)]
        rows.append(row)
    return rows


def worst_rows(comparison: Comparison[Panels]) -> Rows:
    """The images with the least agreement, in percent."""
    rows = [
        [image.name, _percent(image.pixels), _percent(image.near_boundary)]
        for image in comparison.worst
    ]
    return [["image", "the same", "near boundaries"], *rows]


def caption(image: WorstImage[Panels]) -> str:
    """What stands over the pictures of an image."""
    near = _percent(image.near_boundary)
    return f"{image.name}: {_percent(image.pixels)} % the same, {near} % near boundaries"


def _facts(predictor: Predictor) -> dict[str, str]:
    spec = predictor.spec
    kept = f", but {len(spec.exceptions)} nodes in another type" if spec.exceptions else ""
    return {
        "name": predictor.name,
        "kind": predictor.kind,
        "model": f"{spec.model}, weights {spec.weights}",
        "precision": spec.precision + kept,
        "input": format_size(spec.input_size),
        "runs on": predictor.description,
    }


def _percent(share: float) -> str:
    if math.isnan(share):
        return "-"
    text = f"{100 * share:.2f}"
    return ">99.99" if text == "100.00" and share < 1 else text


def _points(share: float) -> str:
    # Plus zero, so that what rounds to nothing has one sign.
    return "-" if math.isnan(share) else f"{round(100 * share, 2) + 0.0:+.2f}"


def _plain(predictor: Predictor) -> dict[str, Any]:
    """What a predictor is, for a machine."""
    own = ("name", "kind", "description")
    of_spec = ("model", "weights", "source_sha256", "precision", "exceptions", "input_size")
    return {name: getattr(predictor, name) for name in own} | {
        name: getattr(predictor.spec, name) for name in of_spec
    }
