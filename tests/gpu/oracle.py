"""Label maps that may differ where two classes are as good as equal, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fcn_trt.spec import LabelMap, Logits

__all__ = ["assert_same_but_for_ties"]

TIE = 1e-5
"""Of the largest logit, as in tests/cuda: the stage's positions are float32."""


def assert_same_but_for_ties(
    found: LabelMap, expected: LabelMap, logits: Logits, *, align_corners: bool
) -> None:
    """Both label maps are equal, but where their two classes' logits are, in float64.

    Args:
        found: (H, W).
        expected: (H, W).
        logits: (C, h, w) that both were made from, all finite.
        align_corners: As for `decode`.
    """
    assert found.shape == expected.shape
    rows, columns = np.nonzero(found != expected)
    assert len(rows) <= 0.001 * found.size + 1, f"{len(rows)} of {found.size} labels differ"
    if not len(rows):
        return
    down = _positions(rows, logits.shape[1], found.shape[0], align_corners)
    across = _positions(columns, logits.shape[2], found.shape[1], align_corners)
    one, other = (
        _interpolated(logits, labels[rows, columns], down, across) for labels in (found, expected)
    )
    assert np.abs(one - other).max() <= TIE * np.abs(logits.astype(np.float64)).max()


def _positions(
    targets: npt.NDArray[np.intp], source: int, length: int, align_corners: bool
) -> npt.NDArray[np.float64]:
    """Where targets lie among the source's samples."""
    if align_corners:
        return targets.astype(np.float64) * ((source - 1) / max(length - 1, 1))
    exact = (targets.astype(np.float64) + 0.5) * (source / length) - 0.5
    return np.clip(exact, 0.0, source - 1.0)


def _interpolated(
    logits: Logits,
    labels: npt.NDArray[Any],
    down: npt.NDArray[np.float64],
    across: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """The logit of one class at each position."""
    exact = logits.astype(np.float64)
    top, left = down.astype(int), across.astype(int)
    bottom = np.minimum(top + 1, logits.shape[1] - 1)
    right = np.minimum(left + 1, logits.shape[2] - 1)
    y, x = down - top, across - left
    above = exact[labels, top, left] * (1 - x) + exact[labels, top, right] * x
    below = exact[labels, bottom, left] * (1 - x) + exact[labels, bottom, right] * x
    value: npt.NDArray[np.float64] = above * (1 - y) + below * y
    return value
