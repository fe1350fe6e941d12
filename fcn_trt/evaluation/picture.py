"""What all plots share: colours, a canvas without a window, and the PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fcn_trt.errors import MissingExtraError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLACK", "BLUE", "COLOURS", "GREEN", "ORANGE", "canvas", "require_matplotlib", "save"]

# Okabe and Ito, "Color Universal Design" (2008): told apart with any colour vision.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", BLACK)

DOTS_PER_INCH = 150


def canvas(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """Make an empty figure with axes that leave room for all that is written beside them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)  # the figure's own canvas, so that no window is ever asked for
    return figure, figure.add_subplot()


def save(figure: Figure, path: Path, *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Write a PNG; the same figure is the same file.

    Raises:
        OutputError: it cannot be written.
    """
    import matplotlib as mpl

    _write_as_text(figure)
    data = io.BytesIO()
    with mpl.rc_context({"text.parse_math": False}):  # of ticks that are made as it draws
        # Without the library's version in it.
        figure.savefig(data, format="png", dpi=dots_per_inch, metadata={"Software": None})
    write_atomic(path, data.getvalue())


def _write_as_text(figure: Figure) -> None:
    """Have names of others written as they are: no formulas, lines and control characters."""
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), FuncFormatter):  # so its ticks have names
            names = [printable(label.get_text()) for label in axis.get_ticklabels()]
            axis.set_ticks(axis.get_ticklocs(), names)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(printable(text.get_text()))


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
