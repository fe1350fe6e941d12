"""What stands along the street: houses, fences, hedges and trees."""

from __future__ import annotations

import numpy as np

from fcn_trt.scene.drawing import Colour, Mesh, MeshBuilder, Points
from fcn_trt.scene.shapes import Corners, on_ground, on_wall, pick, upright
from fcn_trt.scene.style import Shade

__all__ = ["fence", "hedge", "house", "tree"]


_WALLS = (
    (62, 80, 150), (50, 66, 118), (92, 130, 176), (128, 172, 204), (196, 214, 224), (214, 218, 220),
    (120, 128, 136), (78, 98, 120), (150, 178, 186), (176, 160, 140), (96, 108, 160), (60, 70, 84),
)  # fmt: skip
_ROOFS = ((60, 66, 96), (70, 72, 76), (52, 58, 72), (58, 74, 120))
_FASCIAS = (
    (40, 40, 150), (120, 60, 30), (50, 90, 40), (30, 30, 34), (30, 110, 190), (150, 140, 40),
)  # fmt: skip
_FENCES = (
    (60, 92, 130), (48, 70, 98), (225, 228, 230), (54, 84, 52), (120, 118, 112), (52, 52, 56),
    (90, 130, 160),
)  # fmt: skip
_LEAVES = ((42, 108, 74), (46, 124, 98), (52, 96, 70), (54, 140, 122), (60, 116, 142), (50, 84, 68))


def house(
    rng: np.random.Generator, shade: Shade, *, across: float, start: float, end: float, floors: int
) -> Mesh:
    """A house whose front stands at `across` and faces the street.

    Args:
        rng: Decides colours, windows and roof.
        shade: The day's light.
        across: Where the front is; its sign says on which side of the street.
        start: Where along the street it begins.
        end: Where it ends.
        floors: Storeys, the ground floor included.
    """
    builder = MeshBuilder()
    outward = 1.0 if across > 0 else -1.0
    storey = rng.uniform(2.7, 3.3)
    top = floors * storey + rng.uniform(0.2, 0.9)
    wall = pick(rng, _WALLS)
    back = across + outward * 9.0
    light, front = shade.side(-outward), shade.front
    builder.face(upright(start, across, back, 0.0, top), wall * front, label="building")
    if rng.random() < 0.5:
        _add_end_windows(builder, rng, front, (across, start), (floors, storey))
    if rng.random() < 0.55:
        _add_roof(builder, rng, shade, (across, back, top, start, end), wall)
    brick = "brick" if wall[2] > wall[0] * 1.4 else "plaster"
    builder.face(on_wall(across, 0.0, top, start, end), wall * light, label="building", grain=brick)
    builder.face(on_wall(across, top - 0.3, top, start, end), wall * light * 0.72)
    first = 1 if rng.random() < 0.45 else 0
    if first:
        _add_shop(builder, rng, light, across, start, end)
    _add_windows(builder, rng, light, (across, start, end), (first, floors), storey)
    if not first:
        door = start + (end - start) * rng.uniform(0.2, 0.7)
        builder.face(on_wall(across, 0.1, 2.2, door, door + 1.1), pick(rng, _FASCIAS) * light)
    return builder.build(detail_m=0.25)


def _add_end_windows(
    builder: MeshBuilder,
    rng: np.random.Generator,
    light: float,
    corner: tuple[float, float],
    floors: tuple[int, float],
) -> None:
    """A column or two of windows in the end wall."""
    across, start = corner
    outward = 1.0 if across > 0 else -1.0
    glass = np.array([96.0, 84.0, 70.0]) * rng.uniform(0.4, 1.3) * light
    columns = [outward * place for place in (2.2, 5.6)[: int(rng.integers(1, 3))]]
    for floor in range(floors[0]):
        low = floor * floors[1] + 0.9
        for offset in columns:
            left, right = across + offset - 0.6, across + offset + 0.6
            frame = upright(start, left - 0.1, right + 0.1, low - 0.1, low + 1.6)
            builder.face(frame, np.full(3, 215.0) * light)
            builder.face(upright(start, left, right, low, low + 1.5), glass)


def _add_roof(
    builder: MeshBuilder,
    rng: np.random.Generator,
    shade: Shade,
    box: tuple[float, float, float, float, float],
    wall: Colour,
) -> None:
    """A pitched roof with its gable and perhaps a chimney, behind the front wall."""
    across, back, top, start, end = box
    middle, ridge = (across + back) / 2, top + rng.uniform(1.8, 3.2)
    tiles = pick(rng, _ROOFS)
    gable = [(across, top, start), (back, top, start), (middle, ridge, start)]
    builder.face(gable, wall * shade.front, label="building")
    slope = [(across, top, start), (across, top, end), (middle, ridge, end), (middle, ridge, start)]
    builder.face(slope, tiles * shade.top, label="building")
    if rng.random() < 0.6:
        at = start + rng.uniform(0.3, 0.8) * (end - start)
        stack = upright(at, middle - 0.5, middle + 0.5, ridge - 1.0, ridge + 1.1)
        builder.face(stack, wall * shade.front * 0.9, label="building")


def _add_shop(
    builder: MeshBuilder,
    rng: np.random.Generator,
    light: float,
    across: float,
    start: float,
    end: float,
) -> None:
    """A shop front: coloured fascia over wide glass and a door."""
    colour = pick(rng, _FASCIAS)
    builder.face(on_wall(across, 0.0, 3.0, start + 0.3, end - 0.3), colour * 0.7 * light)
    builder.face(on_wall(across, 2.4, 3.0, start + 0.3, end - 0.3), colour * light)
    panes = max(2, int((end - start) / 2.0))
    step = (end - start - 0.8) / panes
    for pane in range(panes):
        left = start + 0.4 + pane * step
        glass = np.array([86.0, 80.0, 72.0]) * rng.uniform(0.5, 1.7)
        low = 0.1 if pane == panes // 2 else 0.6
        builder.face(on_wall(across, low, 2.3, left + 0.1, left + step - 0.1), glass * light)


def _add_windows(
    builder: MeshBuilder,
    rng: np.random.Generator,
    light: float,
    wall: tuple[float, float, float],
    floors: tuple[int, int],
    storey: float,
) -> None:
    """Rows of windows on the upper floors, in frames of one colour."""
    across, start, end = wall
    pitch = rng.uniform(1.9, 3.2)
    count = max(1, int((end - start) / pitch))
    step = (end - start) / count
    width, height = step * rng.uniform(0.4, 0.6), storey * rng.uniform(0.45, 0.62)
    frame = np.full(3, rng.choice([225.0, 205.0, 60.0])) * light
    glass = np.array([96.0, 84.0, 70.0]) * rng.uniform(0.4, 1.3) * light
    for floor in range(*floors):
        low = floor * storey + 0.85
        for column in range(count):
            middle = start + (column + 0.5) * step
            left, right = middle - width / 2, middle + width / 2
            builder.face(
                on_wall(across, low - 0.12, low + height + 0.1, left - 0.1, right + 0.1), frame
            )
            pane = glass * rng.uniform(0.8, 1.3)
            builder.face(on_wall(across, low, low + height, left, right), pane)


def fence(
    rng: np.random.Generator, shade: Shade, *, across: float, start: float, end: float
) -> Mesh:
    """A fence of upright boards, with dark gaps and a rail."""
    builder = MeshBuilder()
    outward = 1.0 if across > 0 else -1.0
    height = rng.uniform(1.2, 2.0)
    colour = pick(rng, _FENCES) * shade.side(-outward)
    ends = upright(start, across, across + outward * 0.12, 0.1, height)
    builder.face(ends, colour * 0.8, label="fence")
    builder.face(on_wall(across, 0.1, height, start, end), colour * 0.55, label="fence")
    board = rng.uniform(0.28, 0.45)
    lefts = start + board * np.arange(int((end - start) / board))
    corners = np.full((len(lefts), 4, 3), across)
    corners[..., 1] = (0.12, 0.12, height, height)
    corners[..., 2] = lefts[:, None] + board * np.array([0.0, 0.72, 0.72, 0.0])
    builder.details(corners, colour * rng.uniform(0.88, 1.1, (len(lefts), 1)))
    for rail in (0.35, height - 0.3):
        builder.face(on_wall(across, rail, rail + 0.12, start, end), colour * 0.75)
    return builder.build(detail_m=0.3, reach_m=44.0)


def hedge(
    rng: np.random.Generator, shade: Shade, *, across: float, start: float, end: float
) -> Mesh:
    """A hedge along the street, with an uneven top."""
    builder = MeshBuilder()
    outward = 1.0 if across > 0 else -1.0
    height = rng.uniform(1.2, 2.4)
    colour = pick(rng, _LEAVES) * shade.side(-outward) * 0.85
    count = 14
    alongs = np.linspace(start, end, count)
    tops = height + rng.normal(0, 0.12, size=count)
    outline = [(across, 0.1, start)]
    outline += [(across, float(t), float(a)) for t, a in zip(tops, alongs, strict=True)]
    outline.append((across, 0.1, end))
    builder.face(upright(start, across, across + outward * 1.5, 0.1, height), colour, label="tree")
    builder.face(outline, colour, label="tree", convex=False)
    patches = 70
    lows = rng.uniform(0.1, 0.85, patches) * height
    firsts = rng.uniform(start, end - 0.5, patches)
    sizes = rng.uniform(0.15, 0.5, patches)
    corners = np.full((patches, 4, 3), across)
    corners[..., 1] = lows[:, None] + sizes[:, None] * np.array([0.0, 0.1, 0.5, 0.4])
    corners[..., 2] = firsts[:, None] + sizes[:, None] * np.array([0.2, 1.0, 0.8, 0.0])
    builder.details(corners, colour * rng.uniform(0.7, 1.3, (patches, 1)))
    return builder.build(detail_m=0.3)


def tree(rng: np.random.Generator, shade: Shade, *, across: float, along: float) -> Mesh:
    """A tree: trunk, and a crown of leaf clumps lit from above."""
    builder = MeshBuilder()
    radius = rng.uniform(1.7, 3.2)
    middle = rng.uniform(3.4, 4.6) + 0.4 * radius
    half = rng.uniform(0.16, 0.3)
    bark = np.array([52.0, 66.0, 82.0]) * rng.uniform(0.7, 1.3) * shade.front
    builder.face(upright(along, across - half, across + half, 0.0, middle), bark, label="tree")
    builder.face(upright(along, across, across + half, 0.0, middle), bark * 0.75)
    leaf = pick(rng, _LEAVES)
    outline = _lump(rng, (across, middle, along), radius, radius * rng.uniform(0.8, 1.15), 30)
    builder.face(outline, leaf * shade.front * 0.75, label="tree", convex=False)
    _add_clumps(builder, rng, shade, (across, middle, along), radius, leaf)
    shadow = np.array(on_ground(0.02, across - radius, across + radius, along - 1.2, along + 1.2))
    return builder.build(detail_m=0.25, reach_m=110.0, shadow=shadow)


def _add_clumps(
    builder: MeshBuilder,
    rng: np.random.Generator,
    shade: Shade,
    centre: tuple[float, float, float],
    radius: float,
    leaf: Colour,
) -> None:
    """Leaf clumps all over a crown, brighter above and towards the sun."""
    count = 60
    angles, reach = rng.uniform(0, 2 * np.pi, count), radius * np.sqrt(rng.uniform(0, 0.8, count))
    dx, dy = reach * np.cos(angles), reach * np.sin(angles) * 0.9
    order = np.argsort(dy)
    dx, dy = dx[order], dy[order]
    lit = 0.35 * (shade.right - shade.left)
    brightness = shade.front * 0.9 + (0.35 * dy * shade.top + lit * dx) / radius
    brightness = np.clip(brightness * rng.uniform(0.75, 1.3, count), 0.3, 1.9)
    turns = np.arange(7) * (2 * np.pi / 7)
    sizes = radius * rng.uniform(0.08, 0.19, (count, 1)) * rng.uniform(0.75, 1.25, (count, 7))
    corners = np.empty((count, 7, 3))
    corners[..., 0] = centre[0] + dx[:, None] + sizes * np.cos(turns)
    corners[..., 1] = centre[1] + dy[:, None] + 0.8 * sizes * np.sin(turns)
    corners[..., 2] = centre[2]
    builder.details(corners, np.clip(leaf * brightness[:, None], 0, 250))


def _lump(
    rng: np.random.Generator,
    centre: tuple[float, float, float],
    radius_x: float,
    radius_y: float,
    count: int,
) -> Corners:
    """An uneven round outline that faces the camera."""
    angles = np.arange(count) * (2 * np.pi / count)
    radii: Points = np.ones(count)
    for waves in range(2, 2 + count // 3):
        radii += rng.normal(0, 0.07 / np.sqrt(waves)) * np.cos(waves * angles + rng.uniform(0, 6.3))
    xs = centre[0] + radius_x * radii * np.cos(angles)
    ys = centre[1] + radius_y * radii * np.sin(angles)
    return [(float(x), float(y), centre[2]) for x, y in zip(xs, ys, strict=True)]
