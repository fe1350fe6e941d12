"""What stands and walks on the pavements: people, lamp posts, bollards, signs."""

from __future__ import annotations

import numpy as np

from fcn_trt.scene.drawing import Colour, Mesh, MeshBuilder
from fcn_trt.scene.shapes import (
    CLOTHES,
    DARK,
    SKIN,
    WHITE,
    Corners,
    on_ground,
    pick,
    ring,
    slanted,
    upright,
)
from fcn_trt.scene.style import Shade

__all__ = ["bollard", "lamp", "pedestrian", "sign"]


_BOARDS = ((36, 36, 190), (170, 80, 20), (60, 120, 30), (40, 200, 235), (30, 120, 235))
_RED = np.array([40.0, 36.0, 205.0])


def pedestrian(rng: np.random.Generator, shade: Shade, *, across: float, stride: float) -> Mesh:
    """Someone walking, at 0 along the street.

    Args:
        rng: Decides build and clothes.
        shade: The day's light.
        across: Where they walk.
        stride: How far the legs are apart, -1 to 1.
    """
    builder = MeshBuilder()
    tall, half = rng.uniform(1.62, 1.9), rng.uniform(0.25, 0.32)
    coat, trousers = pick(rng, CLOTHES) * shade.front, pick(rng, CLOTHES) * shade.front * 0.7
    skin = pick(rng, SKIN) * shade.front
    hip, shoulder = 0.5 * tall, 0.84 * tall
    for way in (-1.0, 1.0):
        foot = across + way * (0.1 + 0.16 * stride)
        top = across + way * 0.11
        leg = slanted((foot - 0.1, foot + 0.1, 0.0, 0.0), (top - 0.13, top + 0.13, hip + 0.05, 0.0))
        builder.face(leg, trousers * (1.0 + 0.12 * way), label="pedestrian")
        hand = across + way * (half + 0.06 + 0.08 * stride)
        top = across + way * half
        arm = slanted((hand - 0.07, hand + 0.07, hip, 0.0), (top - 0.06, top + 0.06, shoulder, 0.0))
        builder.face(arm, coat * 0.8, label="pedestrian")
    torso = slanted(
        (across - half * 0.85, across + half * 0.85, hip - 0.1, 0.0),
        (across - half, across + half, shoulder, 0.0),
    )
    builder.face(torso, coat, label="pedestrian")
    head = tall - 0.14
    builder.face(ring((across, head, 0.0), (0.13, 0.17), 10), skin, label="pedestrian")
    hair = pick(rng, ((24, 30, 40), (40, 70, 110), (110, 120, 125)))
    builder.face(ring((across, head + 0.07, 0.0), (0.135, 0.1), 8), hair * shade.front)
    shadow = np.array(on_ground(0.0, across - 0.4, across + 0.4, -0.2, 0.35))
    return builder.build(detail_m=0.15, reach_m=21.0, shadow=shadow)


def lamp(rng: np.random.Generator, shade: Shade, *, across: float, along: float) -> Mesh:
    """A lamp post whose arm reaches over the road."""
    builder = MeshBuilder()
    inward = -1.0 if across > 0 else 1.0
    high, half = rng.uniform(6.0, 8.5), rng.uniform(0.16, 0.21)
    metal = pick(rng, ((150, 152, 150), (110, 112, 112), (64, 68, 66), (58, 78, 60)))
    post = slanted(
        (across - half, across + half, 0.0, along),
        (across - half * 0.7, across + half * 0.7, high, along),
    )
    builder.face(post, metal * shade.front, label="pole")
    dark = slanted((across, across + half, 0.0, along), (across, across + half * 0.7, high, along))
    builder.face(dark, metal * shade.front * 0.75)
    end = across + inward * 1.7
    outline = ((across, high - 0.22), (across, high), (end, high + 0.45), (end, high + 0.2))
    arm = [(x, y, along) for x, y in outline]
    builder.face(arm, metal * shade.front, label="pole")
    left, right = sorted((end, end + inward * 0.8))
    head = upright(along, left, right, high + 0.15, high + 0.5)
    builder.face(head, metal * 0.8 + 30, label="pole")
    return builder.build(detail_m=0.15, reach_m=26.0)


def bollard(rng: np.random.Generator, shade: Shade, *, across: float, along: float) -> Mesh:
    """A short post at the kerb."""
    builder = MeshBuilder()
    half, high = rng.uniform(0.15, 0.19), rng.uniform(0.95, 1.3)
    paint = pick(rng, ((34, 34, 36), (60, 62, 60), (150, 152, 150)))
    post = upright(along, across - half, across + half, 0.0, high)
    builder.face(post, paint * shade.front, label="pole")
    builder.face(upright(along, across, across + half, 0.0, high), paint * shade.front * 0.7)
    band = upright(along, across - half, across + half, high - 0.3, high - 0.12)
    builder.face(band, WHITE * shade.front)
    return builder.build(detail_m=0.15, reach_m=22.0)


def sign(rng: np.random.Generator, shade: Shade, *, across: float, along: float) -> Mesh:
    """A traffic sign or a traffic light on its post."""
    builder = MeshBuilder()
    half, metal = rng.uniform(0.13, 0.16), pick(rng, ((140, 142, 140), (80, 82, 82)))
    middle, size = rng.uniform(2.5, 3.1), rng.uniform(0.5, 0.68)
    post = upright(along, across - half, across + half, 0.0, middle)
    builder.face(post, metal * shade.front, label="pole")
    kind = int(rng.integers(5))
    light = 0.35 + 0.65 * shade.front
    colour = pick(rng, _BOARDS) * light
    centre = (across, middle, along)
    if kind == 0:
        _add_disc(builder, centre, size, light)
    elif kind == 1:
        _add_triangle(builder, centre, size, light)
    elif kind == 2:
        _add_plate(builder, centre, (0.8 * size, size), colour, light)
    elif kind == 3:
        _add_plate(builder, centre, (1.3 * size, 0.75 * size), colour, light)
    else:
        _add_traffic_light(builder, rng, across, middle, along)
    return builder.build(detail_m=0.1, reach_m=28.0)


def _add_disc(
    builder: MeshBuilder, centre: tuple[float, float, float], size: float, light: float
) -> None:
    """White in a red ring, with a black bar."""
    across, middle, along = centre
    builder.face(ring(centre, (size, size), 16), _RED * light, label="sign")
    builder.face(ring(centre, (size * 0.7, size * 0.7), 14), WHITE * light)
    builder.face(upright(along, across - 0.08, across + 0.08, middle - 0.2, middle + 0.2), DARK)


def _add_triangle(
    builder: MeshBuilder, centre: tuple[float, float, float], size: float, light: float
) -> None:
    """White in a red triangle."""
    across, middle, along = centre
    for share, paint, label in ((1.0, _RED, "sign"), (0.6, WHITE, "")):
        wide, low, high = size * 1.15 * share, size * 0.8 * share, size * 1.1 * share
        base = [(across - wide, middle - low, along), (across + wide, middle - low, along)]
        builder.face([*base, (across, middle + high, along)], paint * light, label=label)


def _add_plate(
    builder: MeshBuilder,
    centre: tuple[float, float, float],
    half: tuple[float, float],
    colour: Colour,
    light: float,
) -> None:
    """A coloured rectangle with a white border and two lines of writing."""
    across, middle, along = centre

    def band(wide: float, low: float, high: float) -> Corners:
        return upright(along, across - wide, across + wide, middle + low, middle + high)

    wide, tall = half
    builder.face(band(wide, -tall, tall), WHITE * light, label="sign")
    builder.face(band(wide - 0.07, 0.07 - tall, tall - 0.07), colour)
    for low in (-0.45, 0.15):
        builder.face(band(0.6 * wide, low * tall, (low + 0.25) * tall), WHITE * light)


def _add_traffic_light(
    builder: MeshBuilder, rng: np.random.Generator, across: float, middle: float, along: float
) -> None:
    """Three lamps in a black box, one of them on."""
    box = upright(along, across - 0.32, across + 0.32, middle - 0.75, middle + 0.75)
    builder.face(box, DARK * 0.7, label="sign")
    lit = int(rng.integers(3))
    lamps = ((30.0, 30.0, 235.0), (30.0, 170.0, 240.0), (120.0, 220.0, 60.0))
    for index, colour in enumerate(lamps):
        glow = np.array(colour) * (1.0 if index == lit else 0.25)
        builder.face(ring((across, middle + 0.48 - 0.48 * index, along), (0.19, 0.19), 10), glow)
