"""Accuracy against the share of the work that is quantised, as a PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from fcn_trt.evaluation.picture import BLACK, BLUE, GREEN, ORANGE, canvas, save
from fcn_trt.sensitivity.result import Score, Sensitivity

__all__ = ["draw_picture", "write_picture"]

SIZE_INCHES = (8.0, 5.0)
FONT_POINTS = 12
CLOSE = 0.05
"""Of the points' extent; numbers of points that are closer would be written on each other."""


def write_picture(found: Sensitivity, path: Path) -> None:
    """Write the picture.

    Raises:
        OutputError: it cannot be written.
    """
    save(draw_picture(found), path)


def draw_picture(found: Sensitivity) -> Figure:
    """Draw the points that were measured while the set in float grew, and the bound.

    The upright axis is what the bound is about: mean IoU or agreement with FP32.
    """
    figure, axes = canvas(*SIZE_INCHES)
    value, label, least = _axis(found)
    xs = [point.quantised_share for point in found.points]
    ys = [value(point.score) for point in found.points]
    axes.plot(xs, ys, "-o", color=BLUE, label="the most useful ones in float", zorder=3)
    for number, x, y in _apart(
        [(len(p.kept), x, y) for p, x, y in zip(found.points, xs, ys, strict=True)]
    ):
        axes.annotate(
            str(number),
            (x, y),
            xytext=(5, 6),
            textcoords="offset points",
            fontsize=FONT_POINTS,
        )
    axes.axhline(value(found.reference), color=BLACK, linestyle=":", label="FP32")
    axes.axhline(least, color=ORANGE, linestyle="--", label="bound")
    if found.chosen is not None:
        axes.plot(
            [found.chosen.quantised_share],
            [value(found.chosen.score)],
            "*",
            color=GREEN,
            markersize=20,
            label=f"smallest set: {len(found.chosen.kept)} in float",
            zorder=4,
        )
    kind = found.question.precision.upper()
    axes.set_xlabel(f"share of GMAC in {kind} (%)", fontsize=FONT_POINTS)
    axes.set_ylabel(label, fontsize=FONT_POINTS)
    axes.set_title(
        f"{found.model}: {kind} on {found.images} images; numbers are convolutions in float",
        fontsize=FONT_POINTS,
    )
    axes.tick_params(labelsize=FONT_POINTS)
    axes.ticklabel_format(useOffset=False)
    axes.margins(0.08, 0.15)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=FONT_POINTS - 1)
    return figure


def _axis(found: Sensitivity) -> tuple[Callable[[Score], float], str, float]:
    """What the upright axis shows of a score, what it is called, and where the bound lies."""
    bound = found.question.bound
    if bound.min_agreement is not None:
        return (
            (lambda score: score.agreement),
            "pixels labelled as in FP32 (%)",
            bound.min_agreement,
        )
    drop, reference = bound.max_drop or 0.0, found.reference.miou
    if reference is None:
        raise ValueError("a bound of mean IoU needs labels")
    return _miou, "mean IoU (%)", reference - drop


def _apart(numbered: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Those of some numbered places whose numbers do not lie on each other."""
    width, height = (
        (max(place[i] for place in numbered) - min(place[i] for place in numbered)) or 1.0
        for i in (1, 2)
    )
    kept: list[tuple[int, float, float]] = []
    for number, x, y in numbered:
        if all(
            abs(x - other_x) > CLOSE * width or abs(y - other_y) > CLOSE * height
            for _, other_x, other_y in kept
        ):
            kept.append((number, x, y))
    return kept


def _miou(score: Score) -> float:
    return float("nan") if score.miou is None else score.miou
