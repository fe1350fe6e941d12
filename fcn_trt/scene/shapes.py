"""Shapes and colours that the things on a street are made of."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from fcn_trt.scene.drawing import Colour

Corners: TypeAlias = list[tuple[float, float, float]]
"""Street coordinates (across, up, along) of one face."""

CLOTHES = (
    (40, 36, 34), (90, 60, 40), (150, 90, 50), (50, 50, 150), (60, 120, 60), (210, 210, 205),
    (80, 170, 210), (120, 60, 120), (70, 80, 100),
)  # fmt: skip
SKIN = ((140, 170, 215), (110, 145, 190), (60, 85, 125))
WHITE = np.array([238.0, 238.0, 238.0])
DARK = np.array([34.0, 32.0, 30.0])


def pick(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...]) -> Colour:
    """One of the colours, slightly off."""
    colour: Colour = np.array(colours[rng.integers(len(colours))], dtype=np.float64)
    return np.clip(colour * rng.uniform(0.85, 1.15) + rng.normal(0, 5, size=3), 8, 248)


def on_wall(across: float, low: float, high: float, start: float, end: float) -> Corners:
    """A rectangle in a wall that runs along the street."""
    return [(across, low, start), (across, low, end), (across, high, end), (across, high, start)]


def upright(along: float, left: float, right: float, low: float, high: float) -> Corners:
    """A rectangle that faces the camera."""
    return [(left, low, along), (right, low, along), (right, high, along), (left, high, along)]


def on_ground(up: float, left: float, right: float, start: float, end: float) -> Corners:
    """A rectangle that lies flat."""
    return [(left, up, start), (right, up, start), (right, up, end), (left, up, end)]


def slanted(
    low: tuple[float, float, float, float], high: tuple[float, float, float, float]
) -> Corners:
    """A face between two level edges, each (left, right, up, along)."""
    left, right, up, along = low
    high_left, high_right, top, back = high
    return [(left, up, along), (right, up, along), (high_right, top, back), (high_left, top, back)]


def ring(
    centre: tuple[float, float, float],
    radius: tuple[float, float],
    count: int,
    *,
    sideways: bool = False,
) -> Corners:
    """An ellipse that faces the camera, or (sideways) stands along the street."""
    across, up, along = centre
    angles = (np.arange(count) + 0.5) * (2 * np.pi / count)
    wide, high = radius[0] * np.cos(angles), up + radius[1] * np.sin(angles)
    if sideways:
        return [(across, float(y), along + float(x)) for x, y in zip(wide, high, strict=True)]
    return [(across + float(x), float(y), along) for x, y in zip(wide, high, strict=True)]
