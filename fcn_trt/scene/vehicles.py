"""What rolls: cars, vans, and bicycles with their riders."""

from __future__ import annotations

import numpy as np

from fcn_trt.scene.drawing import Colour, Mesh, MeshBuilder
from fcn_trt.scene.shapes import (
    CLOTHES,
    DARK,
    SKIN,
    WHITE,
    on_ground,
    on_wall,
    pick,
    ring,
    slanted,
    upright,
)
from fcn_trt.scene.style import Shade

__all__ = ["car", "cyclist"]


_PAINTS = (
    (30, 30, 34), (70, 66, 62), (150, 150, 150), (196, 198, 198), (230, 232, 232), (36, 32, 160),
    (140, 60, 30), (90, 40, 24), (50, 80, 40), (60, 150, 190), (120, 130, 140),
)  # fmt: skip
_JACKETS = ((60, 230, 225), (40, 130, 240), (60, 60, 200), (70, 220, 130), (190, 110, 40))


def car(
    rng: np.random.Generator, shade: Shade, *, across: float, seen_from: float, is_oncoming: bool
) -> Mesh:
    """A car or van whose near end is at 0 along the street.

    Args:
        rng: Decides body and paint.
        shade: The day's light.
        across: Its middle.
        seen_from: Where across the street the camera drives, which decides the side that shows.
        is_oncoming: The near end is the front.
    """
    builder = MeshBuilder()
    is_van = rng.random() < 0.18
    half, length = (0.98, 5.0) if is_van else (0.88, rng.uniform(3.8, 4.5))
    top = rng.uniform(2.0, 2.4) if is_van else rng.uniform(1.42, 1.6)
    paint = pick(rng, _PAINTS)
    facing = -1.0 if across > seen_from else 1.0
    side, light = across + facing * half, shade.side(facing)
    waist = 1.15 if is_van else 0.92
    for left in (across - half + 0.05, across + half - 0.3):
        builder.face(upright(0.3, left, left + 0.25, 0.0, 0.5), DARK, label="car")
    _add_car_side(builder, paint * light, (side, facing, length), (waist, top))
    slope = 1.1 if is_oncoming and not is_van else 0.25
    _add_car_end(
        builder, paint, shade, (across, half, length), (waist, top, slope), is_oncoming=is_oncoming
    )
    reach = half + 0.15
    shadow = np.array(on_ground(0.0, across - reach, across + reach, -0.25, length + 0.2))
    return builder.build(detail_m=0.15, reach_m=75.0, shadow=shadow)


def _add_car_side(
    builder: MeshBuilder,
    paint: Colour,
    body: tuple[float, float, float],
    heights: tuple[float, float],
) -> None:
    """The flank: lower body, cabin that leans inwards, window, wheels."""
    side, facing, length = body
    waist, top = heights
    inner = side - facing * 0.16
    builder.face(on_wall(side, 0.28, waist, 0.0, length), paint, label="car")
    cabin = [
        (side, waist, 0.1), (side, waist, length * 0.78),
        (inner, top, length * 0.62), (inner, top, length * 0.16),
    ]  # fmt: skip
    builder.face(cabin, paint, label="car")
    between = [
        (side - facing * 0.03, waist + 0.05, length * 0.12),
        (side - facing * 0.03, waist + 0.05, length * 0.7),
        (inner, top - 0.12, length * 0.6), (inner, top - 0.12, length * 0.2),
    ]  # fmt: skip
    builder.face(between, DARK * 1.3)
    builder.face(on_wall(side, waist, top - 0.08, length * 0.39, length * 0.42), paint)
    builder.face(on_wall(side, 0.28, 0.4, 0.0, length), paint * 0.55)
    for along in (0.75, length - 0.8):
        wheel = ring((side, 0.32, along), (0.34, 0.34), 12, sideways=True)
        builder.face(wheel, DARK * 0.8, label="car")
        builder.face(ring((side, 0.32, along), (0.2, 0.2), 10, sideways=True), WHITE * 0.6)


def _add_car_end(
    builder: MeshBuilder,
    paint: Colour,
    shade: Shade,
    body: tuple[float, float, float],
    heights: tuple[float, float, float],
    *,
    is_oncoming: bool,
) -> None:
    """Roof, bonnet, screen, and the near end with its lights and its plate."""
    across, half, length = body
    waist, top, slope = heights
    low, left, right = waist - (0.12 if is_oncoming else 0.0), across - half, across + half
    roof_left, roof_right, back = left + 0.16, right - 0.16, slope + 0.55
    roof = on_ground(top, roof_left, roof_right, back, length * 0.62)
    builder.face(roof, paint * shade.top, label="car")
    bonnet = slanted((left, right, low, 0.0), (left, right, waist, slope))
    builder.face(bonnet, paint * shade.top, label="car")
    screen = slanted((left, right, waist, slope), (roof_left, roof_right, top, back))
    builder.face(screen, paint * shade.front, label="car")
    glass = slanted(
        (left + 0.13, right - 0.13, waist + 0.04, slope + 0.03),
        (roof_left + 0.08, roof_right - 0.08, top - 0.1, back - 0.05),
    )
    builder.face(glass, DARK * 1.7)
    builder.face(upright(0.0, left, right, 0.26, low), paint * shade.front, label="car")
    builder.face(upright(0.0, left, right, 0.26, 0.44), paint * 0.4 + 12)
    lamp_colour = np.array([225.0, 245.0, 250.0]) if is_oncoming else np.array([30.0, 26.0, 205.0])
    lamp_low = low - (0.24 if is_oncoming else 0.32)
    for edge in (left + 0.04, right - 0.34):
        builder.face(upright(0.0, edge, edge + 0.3, lamp_low, low - 0.05), lamp_colour)
    plate = WHITE if is_oncoming else np.array([50.0, 200.0, 235.0])
    builder.face(upright(0.0, across - 0.26, across + 0.26, 0.45, 0.58), plate * shade.front)


def cyclist(
    rng: np.random.Generator, shade: Shade, *, across: float, is_oncoming: bool, phase: float
) -> Mesh:
    """Bicycle and rider, the near wheel at 0 along the street.

    Args:
        rng: Decides clothes and paint.
        shade: The day's light.
        across: Where they ride.
        is_oncoming: They face the camera.
        phase: Of the pedals, in turns.
    """
    builder = MeshBuilder()
    frame = pick(rng, _PAINTS) * shade.front
    jacket, trousers = pick(rng, _JACKETS) * shade.front, pick(rng, CLOTHES) * shade.front * 0.7
    _add_bicycle(builder, frame, across)
    _add_limbs(builder, (jacket, trousers), across, phase)
    torso = slanted(
        (across - 0.22, across + 0.22, 0.88, 0.3), (across - 0.29, across + 0.29, 1.48, 0.45)
    )
    builder.face(torso, jacket, label="bicyclist")
    builder.face(upright(0.29, across - 0.22, across + 0.22, 1.08, 1.2), WHITE * shade.front * 0.9)
    head = pick(rng, SKIN) * shade.front
    builder.face(ring((across, 1.64, 0.5), (0.14, 0.18), 10), head, label="bicyclist")
    helmet = pick(rng, _JACKETS) * shade.front
    up = 1.7 if is_oncoming else 1.66
    builder.face(ring((across, up, 0.5), (0.17, 0.14), 8), helmet, label="bicyclist")
    shadow = np.array(on_ground(0.0, across - 0.4, across + 0.4, -0.3, 1.3))
    return builder.build(detail_m=0.12, reach_m=24.0, shadow=shadow)


def _add_bicycle(builder: MeshBuilder, frame: Colour, across: float) -> None:
    """Two wheels, which stand along the street, the near tyre, frame and handlebars."""
    for along in (1.05, 0.0):
        wheel = ring((across, 0.35, along), (0.36, 0.36), 14, sideways=True)
        builder.face(wheel, DARK, label="bicyclist")
    builder.face(upright(0.0, across - 0.09, across + 0.09, 0.0, 0.72), DARK, label="bicyclist")
    builder.face(on_wall(across, 0.45, 0.62, 0.0, 1.05), frame, label="bicyclist")
    bars = upright(0.85, across - 0.34, across + 0.34, 0.98, 1.08)
    builder.face(bars, DARK * 1.3, label="bicyclist")


def _add_limbs(
    builder: MeshBuilder, clothes: tuple[Colour, Colour], across: float, phase: float
) -> None:
    """Legs on the pedals and arms on the bars, in trousers and jacket."""
    jacket, trousers = clothes
    turn = 0.16 * np.sin(2 * np.pi * phase)
    for way in (-1.0, 1.0):
        foot, hip = across + way * 0.17, across + way * 0.12
        low = 0.3 + way * float(turn)
        leg = slanted((foot - 0.09, foot + 0.09, low, 0.45), (hip - 0.13, hip + 0.13, 1.0, 0.3))
        builder.face(leg, trousers * (1.0 + 0.15 * way), label="bicyclist")
        hand = across + way * 0.32
        arm = slanted(
            (hand - 0.07, hand + 0.07, 1.02, 0.5),
            (hand - way * 0.16, hand - way * 0.02, 1.45, 0.45),
        )
        builder.face(arm, jacket * 0.8, label="bicyclist")
