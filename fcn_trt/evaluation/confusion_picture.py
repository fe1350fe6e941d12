"""Which classes are taken for which, as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fcn_trt.evaluation.picture import canvas, require_matplotlib, save
from fcn_trt.evaluation.scores import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_confusion", "require_matplotlib", "write_confusion_picture"]

NUMBERED_CLASSES = 30
"""Most classes whose cells have their numbers in them: more would not be readable."""

CELL_INCHES = 0.42
SMALL_CELL_INCHES = 0.14
LEAST_INCHES = 3.5
MARGIN_INCHES = 2.6
SCALE_INCHES = 1.1
DOTS_PER_INCH = 120


def write_confusion_picture(found: Evaluation, path: Path, *, title: str) -> None:
    """Write the picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: it cannot be written.
    """
    save(draw_confusion(found, title=title), path, dots_per_inch=DOTS_PER_INCH)


def draw_confusion(found: Evaluation, *, title: str) -> Figure:
    """Draw the confusion matrix, each row as percentages of the truth's pixels.

    "No label" is a column only if it was ever predicted. A row of a class that the truth never has
    stays grey. A bar of colours stands beside cells that are too many to have numbers in them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    percent, columns = _percentages(found)
    rows = len(percent)
    is_numbered = rows <= NUMBERED_CLASSES
    cell = CELL_INCHES if is_numbered else SMALL_CELL_INCHES
    side = max(LEAST_INCHES, cell * rows) + MARGIN_INCHES
    figure, axes = canvas(side if is_numbered else side + SCALE_INCHES, side)
    axes.set_facecolor("#dddddd")
    image = axes.imshow(np.ma.masked_invalid(percent), cmap="Blues", vmin=0, vmax=100)
    _name(axes, rows=list(found.per_class), columns=columns)
    if is_numbered:
        _number(axes, percent)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=40, pad=0.01)
        bar.set_label("percent of the true class's pixels", fontsize=11)
    axes.set_title(title, fontsize=11, wrap=True)
    return figure


def _percentages(found: Evaluation) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Compute rows of 100 %, NaN where the truth has nothing, and the names of the columns."""
    counts = np.array(found.confusion, dtype=np.int64)
    columns = [*found.per_class, "no label"]
    totals = counts.sum(1, keepdims=True)
    if not counts[:, -1].any():
        counts, columns = counts[:, :-1], columns[:-1]
    with np.errstate(invalid="ignore"):
        return np.where(totals > 0, 100 * counts / totals, np.nan), columns


def _name(axes: Axes, *, rows: list[str], columns: list[str]) -> None:
    """Write the classes beside the rows and under the columns."""
    points = 9 if len(rows) <= NUMBERED_CLASSES else 7
    for names, axis, rotation in ((rows, axes.yaxis, 0), (columns, axes.xaxis, 90)):
        axis.set_ticks(range(len(names)), names)
        axis.set_tick_params(labelsize=points, rotation=rotation)
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true, each row is 100 %", fontsize=11)


def _number(axes: Axes, percent: npt.NDArray[np.float64]) -> None:
    """Write the percentages that round to 1 or more into their cells."""
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:  # which NaN is not
            axes.text(
                column,
                row,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > 55 else "black",
            )
