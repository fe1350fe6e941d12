"""Which classes are taken for which, as a PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fcn_trt.errors import MissingExtraError
from fcn_trt.evaluate.evaluation import Evaluation
from fcn_trt.files import write_atomic

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
DOTS_PER_INCH = 120


def write_confusion_picture(found: Evaluation, path: Path, *, title: str) -> None:
    """Write the picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: it cannot be written.
    """
    figure = draw_confusion(found, title=title)
    data = io.BytesIO()
    # Without the library's version in it, the same result is the same file.
    figure.savefig(data, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    write_atomic(path, data.getvalue())


def draw_confusion(found: Evaluation, *, title: str) -> Figure:
    """Draw the confusion matrix, each row as percentages of the truth's pixels.

    "No label" is a column only if it was ever predicted. A row of a class that the truth never has
    stays grey.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    percent, columns = _percentages(found)
    rows = len(percent)
    cell = CELL_INCHES if rows <= NUMBERED_CLASSES else SMALL_CELL_INCHES
    side = max(LEAST_INCHES, cell * rows) + MARGIN_INCHES
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)  # the figure's own canvas, so that no window is ever asked for
    axes = figure.add_subplot()
    axes.set_facecolor("#dddddd")
    axes.imshow(np.ma.masked_invalid(percent), cmap="Blues", vmin=0, vmax=100)
    _name(axes, rows=list(found.per_class), columns=columns)
    if rows <= NUMBERED_CLASSES:
        _number(axes, percent)
    axes.set_title(title, fontsize=11, wrap=True)
    return figure


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib, before any long work.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "drawing a picture needs matplotlib, which is not installed: pip install matplotlib"
        ) from error


def _percentages(found: Evaluation) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Rows of 100 %, NaN where the truth has nothing, and the names of the columns."""
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
