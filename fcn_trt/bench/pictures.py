"""Latency against size, and the roofline of this machine, as PNG files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FormatStrFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from fcn_trt.bench.ceiling import COPIES
from fcn_trt.bench.ladder import Achieved, Outcome
from fcn_trt.bench.measurement import Measurement
from fcn_trt.errors import OutputError
from fcn_trt.evaluation.picture import COLOURS, canvas, save

__all__ = ["draw_latency", "draw_roofline", "write_pictures"]

MARKERS = "osD^vPX*"
GREY = "#666666"

WIDTH_INCHES, HEIGHT_INCHES = 9.0, 5.2
LEGEND_COLUMNS = 2
LEGEND_ROW_INCHES = 0.25
FONT_POINTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One model in one precision on one target, at one or several sizes.

    Attributes:
        name: For the legend.
        colour: By precision and target.
        marker: By model.
        points: By size, the smallest first.
    """

    name: str
    colour: str
    marker: str
    points: tuple[tuple[Measurement, Achieved], ...]


def write_pictures(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Draw what was measured.

    Args:
        outcomes: Those without a measurement are left out.
        folder: Where the pictures go; made if it is missing.

    Returns:
        The files: latency.png and roofline.png; none if nothing was measured.

    Raises:
        OutputError: they cannot be written.
    """
    if not _lines(outcomes):
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}; choose another") from error
    figures = {"latency.png": draw_latency(outcomes), "roofline.png": draw_roofline(outcomes)}
    for name, figure in figures.items():
        save(figure, folder / name)
    return [folder / name for name in figures]


def draw_latency(outcomes: Sequence[Outcome]) -> Figure:
    """Milliseconds from frame to label map against pixels of the input, both logarithmic."""
    lines = _lines(outcomes)
    figure, axes = _figure("Frame to label map: median, and p99 above it", len(lines))
    sizes: dict[int, str] = {}
    for line in lines:
        xs = [_pixels(found) for found, _ in line.points]
        ys = [found.label_map.p50_ms for found, _ in line.points]
        above = [found.label_map.p99_ms - found.label_map.p50_ms for found, _ in line.points]
        axes.errorbar(
            xs,
            ys,
            yerr=([0.0] * len(ys), above),
            color=line.colour,
            marker=line.marker,
            markersize=7,
            capsize=4,
            label=line.name,
        )
        sizes |= {_pixels(found): "x".join(map(str, found.input_size)) for found, _ in line.points}
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(list(sizes.values()))
    _plain_numbers(axes.yaxis)
    axes.set_xlabel("input of the network (height x width)", fontsize=FONT_POINTS)
    axes.set_ylabel("latency (ms)", fontsize=FONT_POINTS)
    axes.margins(0.12, 0.12)
    _legend(figure)
    return figure


def draw_roofline(outcomes: Sequence[Outcome]) -> Figure:
    """Rate of each network against its work per byte, below what the machine can do at most."""
    lines = _lines(outcomes)
    title = "Roofline: the networks alone, and what this machine does at most"
    figure, axes = _figure(title, len(lines))
    for line in lines:
        points = [(r.mac_per_byte, r.gmac_per_s) for _, r in line.points if r.mac_per_byte]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=line.colour,
            marker=line.marker,
            markersize=8,
            linestyle=":",
            label=line.name,
            zorder=3,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _draw_ceilings(axes, lines)
    for axis in (axes.xaxis, axes.yaxis):
        _plain_numbers(axis)
    axes.set_xlabel(
        "multiply-accumulates per byte of weights and activations", fontsize=FONT_POINTS
    )
    axes.set_ylabel("rate of the network (GMAC/s)", fontsize=FONT_POINTS)
    _legend(figure)
    return figure


def _draw_ceilings(axes: Any, lines: Sequence[_Line]) -> None:
    """The slope of memory, and for each type a level: the rate of a product of matrices in it.

    One that was disturbed while it was measured, or that a network beats, is no line below which
    all must lie, and is not drawn as one.
    """
    points = [point for line in lines for point in line.points]
    xs = [result.mac_per_byte for _, result in points if result.mac_per_byte]
    if not xs:
        return
    levels: dict[tuple[str, str], float] = {}
    disturbed: set[str] = set()
    for line in lines:
        for found, result in line.points:
            rate = result.ceiling_gmac_per_s or 0.0
            key = (found.precision, line.colour)
            levels[key] = max(levels.get(key, 0.0), rate)
            holds = all(result.ceiling.holds(kind) for kind in found.gmac_by_type)
            if result.beats_ceiling or not holds:
                disturbed.add(found.precision)
            if not result.ceiling.holds(COPIES):
                disturbed.add(COPIES)
    copies = [result.ceiling.copy_gb_per_s for _, result in points]
    slope = max((rate for rate in copies if rate), default=0.0)
    # From where memory is the limit, so far left that its slope is seen, to behind all points.
    left = min([*xs, *(level / slope for level in levels.values() if slope)]) / 3
    right = max(xs) * 2
    for (kind, colour), level in levels.items():
        if level:
            begin = level / slope if slope else left
            held = _held(kind not in disturbed)
            axes.plot([begin, right], [level, level], color=colour, alpha=0.7, **held.style)
            text = f"{kind} product of matrices, {held.least}{level:.0f} GMAC/s{held.why}"
            _write(axes, text, (begin, level), (16, held.rise_points))
    top = max([*levels.values(), *(result.gmac_per_s for _, result in points)])
    if slope:
        end = max(levels.values()) or top
        held = _held(COPIES not in disturbed)
        axes.plot([left, end / slope], [left * slope, end], color=GREY, **held.style)
        text = f"copies of memory, {held.least}{slope:.0f} GB/s{held.why}"
        _write(axes, text, (left, left * slope), (12, 0))
    axes.set_xlim(left / 1.2, right)
    axes.set_ylim(top=top * 1.5)


@dataclass(frozen=True, slots=True)
class _Held:
    """How a ceiling is drawn.

    Attributes:
        style: Of its line.
        least: Before its rate.
        why: Behind it.
        rise_points: Of its text: one that was disturbed may have points above it.
    """

    style: dict[str, Any]
    least: str
    why: str
    rise_points: int


def _held(holds: bool) -> _Held:
    """A solid line for a ceiling that held, and dots for one that is only known to be reached."""
    if holds:
        return _Held({"linewidth": 1.5}, "", "", 4)
    return _Held({"linewidth": 1.0, "linestyle": (0, (1, 4))}, "at least ", ": disturbed", -14)


def _write(axes: Any, text: str, at: tuple[float, float], offset_points: tuple[int, int]) -> None:
    axes.annotate(
        text, at, xytext=offset_points, textcoords="offset points", fontsize=FONT_POINTS - 2
    )


def _lines(outcomes: Iterable[Outcome]) -> list[_Line]:
    """What belongs together, in the order in which it was measured."""
    groups: dict[tuple[str, str], list[tuple[Measurement, Achieved]]] = {}
    for outcome in outcomes:
        found = outcome.measurement
        if found is not None and outcome.achieved is not None:
            key = (found.model, f"{found.precision} {found.target}")
            groups.setdefault(key, []).append((found, outcome.achieved))
    models = list(dict.fromkeys(model for model, _ in groups))
    kinds = list(dict.fromkeys(kind for _, kind in groups))
    return [
        _Line(
            name=f"{model}, {kind}",
            colour=COLOURS[kinds.index(kind) % len(COLOURS)],
            marker=MARKERS[models.index(model) % len(MARKERS)],
            points=tuple(sorted(points, key=lambda point: _pixels(point[0]))),
        )
        for (model, kind), points in groups.items()
    ]


def _pixels(found: Measurement) -> int:
    return found.input_size[0] * found.input_size[1]


def _figure(title: str, lines: int) -> tuple[Figure, Any]:
    """A figure with axes, and room for a legend of so many lines below."""
    height = HEIGHT_INCHES + LEGEND_ROW_INCHES * -(-lines // LEGEND_COLUMNS)
    figure, axes = canvas(WIDTH_INCHES, height)
    axes.set_title(title, fontsize=FONT_POINTS)
    axes.tick_params(labelsize=FONT_POINTS)
    axes.grid(alpha=0.3)
    return figure, axes


def _plain_numbers(axis: Any) -> None:
    """100 and not 10 to the power of 2; and 20 and 50 too, since few powers of ten may be there."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure) -> None:
    """Below the data, so that it hides none."""
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=FONT_POINTS - 1)
