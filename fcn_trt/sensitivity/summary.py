"""A result as rows of text."""

from __future__ import annotations

from fcn_trt.sensitivity.result import Point, Score, Sensitivity

__all__ = ["effect_rows", "point_rows", "verdict"]

Rows = list[list[str]]


def effect_rows(found: Sensitivity) -> Rows:
    """A heading, and a row for each convolution; a star marks those to keep in float."""
    kept = found.chosen.kept if found.chosen else ()
    last = "loss alone" if found.question.alone else "gain in float"
    return [
        ["convolution", "GMAC", "share %", *_columns(found), last],
        *(
            [
                f"{'*' if effect.name in kept else ' '} {effect.name}",
                f"{effect.gmac:.3f}",
                f"{effect.share:.1f}",
                *_cells(effect.score),
                f"{effect.gain:+.3f}",
            ]
            for effect in found.effects
        ),
    ]


def point_rows(found: Sensitivity) -> Rows:
    """A heading, FP32, and a row for each number of convolutions in float that was measured."""
    rows = [["in float", "GMAC quantised %", *_columns(found)]]
    rows.append(["FP32", "0.0", *_cells(found.reference)])
    rows += [[str(len(point.kept)), *_place(point)] for point in found.points]
    if found.chosen is not None:
        rows.append([f"* {len(found.chosen.kept)}", *_place(found.chosen)])
    return rows


def verdict(found: Sensitivity) -> str:
    """What to keep in float, in one sentence."""
    bound = found.question.bound.describe()
    if found.chosen is None:
        return (
            f"{found.model} in {found.question.precision} keeps the bound, {bound}, with no set of "
            "convolutions in float but all of them; choose a looser bound, another --method, or "
            "fp16"
        )
    if not found.chosen.kept:
        return f"nothing has to stay in float: all quantised keeps the bound, {bound}"
    return f"keep in float: {', '.join(found.chosen.kept)} (bound: {bound})"


def _columns(found: Sensitivity) -> list[str]:
    return ["as in FP32 %"] if found.reference.miou is None else ["as in FP32 %", "mean IoU %"]


def _cells(score: Score) -> list[str]:
    agreement = f"{score.agreement:.3f}"
    return [agreement] if score.miou is None else [agreement, f"{score.miou:.2f}"]


def _place(point: Point) -> list[str]:
    return [f"{point.quantised_share:.1f}", *_cells(point.score)]
